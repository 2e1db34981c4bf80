package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// steppable builds a wabot with a time package whose wall clock a file says the error of, while monotonic time
// goes on. All that it imports is compiled anew, which takes minutes the first time.
var steppable = sync.OnceValues(func() (string, error) {
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
	return overlaid("steppable", map[string]string{
		filepath.Join(std, "time.go"): before + reading + "\tsec += stepped.Load()\n" + after,
		filepath.Join(std, "step.go"): string(more),
	})
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
