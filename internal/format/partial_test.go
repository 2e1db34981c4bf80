package format

import (
	"testing"
	"unicode/utf8"
)

func TestPartial(t *testing.T) {
	t.Parallel()
	for _, test := range [][2]string{
		{"This is **impor", "This is *impor*"},
		{"This is **", "This is"},
		{"This is ~~go", "This is ~go~"},
		{"Use `fmt.Pri", "Use `fmt.Pri`"},
		{"Use `", "Use"},
		{"See [the page](https://exa", "See the page"},
		{"See [the page](https://example.com)", "See the page (https://example.com)"},
		{"Code:\n\n```go\nfmt.Println(1", "Code:\n\n```\nfmt.Println(1\n```"},
		{"Code:\n\n```go\nfmt.Println(1)\n``", "Code:\n\n```\nfmt.Println(1)\n```"},
		{"Code:\n\n```go\nfmt.Println(1)\n```", "Code:\n\n```\nfmt.Println(1)\n```"},
		{"Code:\n\n``", "Code:"},
		{"Code:\n\n```py", "Code:"},
		{"A title\n-", "A title"},
		{"A title\n==", "A title"},
		{"One\n\n- a\n- ", "One\n\n- a"},
		{"One\n\n1. a\n2", "One\n\n1. a"},
		{"Code:\n```go\na := `x\n```\nand **so", "Code:\n\n```\na := `x\n```\n\nand *so*"},
		{"Done **well**.", "Done *well*."},
		{"", ""},
	} {
		if got := Partial(test[0]); got != test[1] {
			t.Errorf("%q became %q, want %q", test[0], got, test[1])
		}
	}
}

func TestBorder(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fence, text, head, open string
	}{
		{"", "one two three.\n\nfour", "one two three.\n\n", ""},
		{"", "one two thr", "one two ", ""},
		{"", "text\n```go\nline one\nline tw", "text\n```go\nline one\n", "```go"},
		{"```go", "line one\nli", "line one\n", "```go"},
		{"```go", "line one\n```\nand", "line one\n```\n", ""},
		{"", "word", "word", ""},
	} {
		n, open := Border(test.fence, test.text)
		if test.text[:n] != test.head || open != test.open {
			t.Errorf("%q in %q is cut after %q with %q open", test.text, test.fence, test.text[:n], open)
		}
	}
}

// However far an answer has come, what is shown is text, with every code block closed.
func FuzzPartial(f *testing.F) {
	for _, seed := range []string{"# T\n\n**a** `b` ~~c~~\n\n```go\nx\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[l](http://a.b)", "~~~\n```\n~~~", "- a\n  ```\n  b\n  ```"} {
		f.Add(seed, len(seed)/2)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		s = s[:max(0, min(n, len(s)))]
		if len(s) > 4<<10 {
			return
		}
		out := Partial(s)
		if !utf8.ValidString(out) {
			t.Errorf("%q is no text", out)
		}
		if n, _ := Border("", s); n < 0 || n > len(s) || !utf8.ValidString(s[:n]) && utf8.ValidString(s) {
			t.Errorf("%q is cut at %d", s, n)
		}
	})
}
