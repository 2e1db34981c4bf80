package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// overlaid builds this test's wabot with other texts in place of source files, by their paths, and returns where it is: in a
// directory of the name, which goes with the wabot that is tested otherwise.
func overlaid(name string, texts map[string]string) (binary string, err error) {
	plain, err := exec.LookPath("wabot")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(plain), name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for source, text := range texts {
		path := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[source] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "wabot")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-overlay", path, "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
}
