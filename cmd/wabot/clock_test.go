package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// steppable builds this test's wabot with a time package whose wall clock a file says the error of, while monotonic time
// goes on. All that it imports is compiled anew, which takes minutes the first time.
var steppable = sync.OnceValues(func() (string, error) {
	plain, err := exec.LookPath("wabot")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(plain), "steppable") // goes with it
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", err
	}
	const reading = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	before, after, found := strings.Cut(string(text), reading)
	if !found {
		return "", fmt.Errorf("%s: time.Now is another than this test knows", std)
	}
	more, err := os.ReadFile(filepath.Join("testdata", "clock", "step.go.txt"))
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, text := range map[string]string{"time.go": before + reading + "\tsec += stepped.Load()\n" + after, "step.go": string(more)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(std, name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "wabot")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return "", err
	}
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", path, "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// clocks are the troubles of a clock that is set, and set right again.
func clocks(t *testing.T, w *mongoWorld) (all []trouble) {
	binary, err := steppable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "step")
	set := func(by time.Duration) func() {
		return func() { w.do(os.WriteFile(file, fmt.Append(nil, int64(by.Seconds())), 0o600)) }
	}
	w.binary, w.env = binary, append(w.env, "CLOCK_STEP="+file)
	for _, by := range []time.Duration{10 * time.Minute, -10 * time.Minute, 5 * time.Hour, -5 * time.Hour} {
		all = append(all, trouble{name: fmt.Sprintf("the clock is off by %v", by), begin: set(by), end: set(0)})
	}
	return all
}
