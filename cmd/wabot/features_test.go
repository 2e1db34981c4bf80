package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The README's table of features names stories and tests that are there, and no story is missing in it.
func TestFeaturesAreShown(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "<!-- features:begin -->\n")
	table, _, closed := strings.Cut(table, "<!-- features:end -->")
	if !ok || !closed {
		t.Fatal("the README has no table of features between its marks")
	}
	var stories []string
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		stories = append(stories, strings.TrimSuffix(filepath.Base(f), ".txtar"))
	}
	tests := testsBelow(t, "../..")
	shown := map[string]bool{}
	for _, row := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if heading := strings.HasPrefix(cells[0], "**"); len(cells) != 2 {
			if !heading {
				t.Errorf("nothing shows %q", row)
			}
			continue
		}
		for name := range strings.SplitSeq(cells[1], ", ") {
			shown[name] = true
			if !slices.Contains(stories, name) && !slices.Contains(tests, name) {
				t.Errorf("%q is shown by %q, which is no story and no test", cells[0], name)
			}
		}
	}
	for _, s := range stories {
		if !shown[s] {
			t.Errorf("the story %s shows no feature in the README's table", s)
		}
	}
}

// testsBelow are the names of the tests and fuzz tests in a directory and those below it.
func testsBelow(t *testing.T, dir string) (names []string) {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(\w+ \*testing\.[TF]\)`)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range declared.FindAllSubmatch(text, -1) {
			names = append(names, string(found[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
