package words

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var place = regexp.MustCompile(`\{[a-z_]*\}`)

// places are the names of a sentence's places, each once, in order of the alphabet.
func places(sentence string) []string {
	all := place.FindAllString(sentence, -1)
	for i, p := range all {
		all[i] = strings.Trim(p, "{}")
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// declared are the keys by the names of their constants.
func declared(t *testing.T) map[string]Key {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "keys.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Key{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			key, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all[v.Names[0].Name] = Key(key)
		}
		return true
	})
	return all
}

// Every language has every sentence, with the same places, and markup that WhatsApp shows.
func TestLanguagesAreComplete(t *testing.T) {
	t.Parallel()
	keys := slices.Sorted(maps.Values(declared(t)))
	if codes := slices.Sorted(maps.Keys(Languages())); !slices.Equal(codes, []string{"en", "es", "hi", "id", "pt"}) {
		t.Errorf("languages %v", codes)
	}
	for code, w := range Languages() {
		if got := slices.Sorted(maps.Keys(w)); !slices.Equal(got, keys) {
			for _, k := range append(got, keys...) {
				if slices.Contains(got, k) != slices.Contains(keys, k) {
					t.Errorf("%s: %s is in the file or in keys.go, not in both", code, k)
				}
			}
		}
		for k, s := range w {
			if s == "" || strings.Contains(s, "\n\n\n") {
				t.Errorf("%s: %s is %q", code, k, s)
			}
			if got, want := places(s), places(English()[k]); !slices.Equal(got, want) {
				t.Errorf("%s: %s has places for %v, in English for %v", code, k, got, want)
			}
			if left := place.ReplaceAllString(s, ""); strings.ContainsAny(left, "{}") {
				t.Errorf("%s: %s has a brace that is no place's: %s", code, k, s)
			}
			for line := range strings.Lines(place.ReplaceAllString(s, "")) {
				for _, mark := range "*_~`" {
					if strings.Count(line, string(mark))%2 != 0 {
						t.Errorf("%s: %s opens %q and does not close it on its line: %s", code, k, mark, line)
					}
				}
			}
			if code != "en" && s == English()[k] {
				t.Errorf("%s: %s is the English one", code, k)
			}
		}
	}
}

// Every sentence is said somewhere, and wherever one is, each of its places gets a value.
func TestSentencesAreSaid(t *testing.T) {
	t.Parallel()
	keys := declared(t)
	said := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		// given are the values' names beside the keys that stand in calls of Say or say.
		given := map[*ast.SelectorExpr][]string{}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && strings.EqualFold(f.Sel.Name, "say") {
					for i, arg := range n.Args {
						if key, ok := arg.(*ast.SelectorExpr); ok {
							given[key] = names(n.Args[i+1:])
						}
					}
				}
			case *ast.SelectorExpr:
				key, known := keys[n.Sel.Name]
				if pack, ok := n.X.(*ast.Ident); !ok || pack.Name != "words" || !known {
					return true
				}
				said[n.Sel.Name] = true
				if got, want := given[n], places(English()[key]); !slices.Equal(got, want) {
					t.Errorf("%s: %s is given values for %v and has places for %v", set.Position(n.Pos()), n.Sel.Name, got, want)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range keys {
		if !said[name] {
			t.Errorf("%s is said nowhere", name)
		}
	}
}

// names are the names among pairs of a name and a value, in order of the alphabet.
func names(pairs []ast.Expr) (all []string) {
	for i := 0; i < len(pairs); i += 2 {
		name := "?"
		if lit, ok := pairs[i].(*ast.BasicLit); ok {
			name = strings.Trim(lit.Value, `"`)
		}
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// A value is put into its place as it is, also where it looks like a place.
func TestSay(t *testing.T) {
	t.Parallel()
	w := Words{"k": "{a} and {b}, {a}"}
	if got, want := w.Say("k", "a", "{b}", "b", "*two*"), "{b} and *two*, {b}"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
