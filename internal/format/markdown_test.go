package format

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, in, want string }{
		{"plain", "Hello, *you*.\nAnd   you.\n", "Hello, _you_.\nAnd   you."},
		{"empty", " \n\n", ""},
		{"paragraphs", "One\n\n\n\nTwo", "One\n\nTwo"},
		{"headings", "# One\n## Two **big** words\nThree\n===\n#", "*One*\n\n*Two big words*\n\n*Three*"},
		{"a heading of code", "### The `x` flag", "*The `x` flag*"},
		{"bold", "a **b c** d __e__ __F g__", "a *b c* d __e__ *F g*"},
		{"italic", "a *b c* d _e_", "a _b c_ d _e_"},
		{"both", "***a*** **_b_** *__C D__*", "_*a*_ *_b_* _*C D*_"},
		{"bold in bold", "**a __B c__ d**", "*a B c d*"},
		{"over two lines", "**one\ntwo** three", "*one*\n*two* three"},
		{"strikethrough", "~~old~~ new", "~old~ new"},
		{"strikethrough in bold", "**~~a~~ b**", "*~a~ b*"},
		{"lone tildes", "~5 km or 6~7, 7~8 and ~9", "~5 km or 6~7, 7~8 and ~9"},
		{"three tildes within a line", "a ~~~b~~~ c", "a ~~~b~~~ c"},
		{"products", "2*3*4 = 24 and 2 * 3 * 4 and 2**3**2", "2*3*4 = 24 and 2 * 3 * 4 and 2**3**2"},
		{"within a word", "un*frigging*believable **Bold**ly", "un*frigging*believable Boldly"},
		{"beside letters of other scripts", "这是**重点**内容", "这是重点内容"},
		{"beside punctuation", "(**a**), \"*b*\"!", "(*a*), \"_b_\"!"},
		{"snake case", "my_long_name and _x", "my_long_name and _x"},
		{"dunder names", "Use __init__ or __main__.py, **__all__**.", "Use __init__ or __main__.py, *__all__*."},
		{"arguments", "f(*args, **kwargs)", "f(*args, **kwargs)"},
		{"escapes", `\*not italic\* 1\. \_x\_ C:\dir \\`, `*not italic* 1. _x_ C:\dir \`},
		{"entities", "a &lt; b &amp;&amp; c&nbsp;d &copy; &unknown; &#65;", "a < b && c\u00a0d © &unknown; A"},
		{"an escaped entity", `\&lt; &lt;`, "&lt; <"},
		{"inline code", "run `a *b* \\*` now", "run `a *b* \\*` now"},
		{"inline code with a backtick", "run ``a`b`` now", "run ```a`b``` now"},
		{"code block", "See:\n```python\ndef f(x):\n    return **x**  # __a__\n\n```\nEnd", "See:\n\n```\ndef f(x):\n    return **x**  # __a__\n```\n\nEnd"},
		{"code block that is not closed", "```\na\n b", "```\na\n b\n```"},
		{"tilde fence", "~~~\na\n~~~", "```\na\n```"},
		{"indented code", "So:\n\n    a\n      b\n", "So:\n\n```\na\n  b\n```"},
		{"a fence within code", "~~~~\n```\na\n```\n~~~~", "```\na\n```"},
		{"an empty code block", "a\n```\n```\nb", "a\n\nb"},
		{"list", "- a\n- **b**\n+ c", "- a\n- *b*\n\n- c"},
		{"list of stars", "* a\n* *b*\n* **c**: d", "- a\n- _b_\n- *c*: d"},
		{"list after a line", "These:\n- a\n- b\n\nEnd", "These:\n\n- a\n- b\n\nEnd"},
		{"nested list", "- a\n  - b\n    - c\n- d", "- a\n  - b\n    - c\n- d"},
		{"numbers", "3. a\n4. b\n\n   c\n5. d", "3. a\n\n4. b\n\n   c\n\n5. d"},
		{"numbers with brackets", "1) a\n2) b", "1) a\n2) b"},
		{"nested numbers", "1. a\n   - b\n2. c\n   next", "1. a\n   - b\n2. c\n   next"},
		{"code in a list", "1. Run:\n   ```sh\n   ls\n     x\n   ```\n2. End", "1. Run:\n```\nls\n  x\n```\n2. End"},
		{"a list item of code", "- ```\n  x\n  ```", "-\n```\nx\n```"},
		{"an empty item", "- a\n-\n- b", "- a\n-\n- b"},
		{"tasks", "- [ ] a\n- [x] b", "- [ ] a\n- [x] b"},
		{"quote", "> a **b**\n> c\n\nd", "> a *b*\n> c\n\nd"},
		{"quotes in quotes", "> a\n>> b\n>\n> c", "> a\n> b\n> c"},
		{"list in a quote", "> - a\n>   - b", "> - a\n>   - b"},
		{"quote in a list", "- a\n  > b", "- a\n  > b"},
		{"link", "See [the *docs*](https://go.dev/doc?a=1&b=2).", "See the _docs_ (https://go.dev/doc?a=1&b=2)."},
		{"link to itself", "[https://go.dev](https://go.dev) [go.dev](https://go.dev/) <https://go.dev> [](https://go.dev)", "https://go.dev https://go.dev/ https://go.dev https://go.dev"},
		{"mail", "[me@x.org](mailto:me@x.org)", "me@x.org"},
		{"link within the text", "[Top](#top)", "Top"},
		{"link in bold", "**[a](https://b.c)**", "*a (https://b.c)*"},
		{"bare URL", "https://x.org/a_b_c/__d__/_e_?f=~g", "https://x.org/a_b_c/__d__/_e_?f=~g"},
		{"reference", "See [a][1].\n\n[1]: https://b.c", "See a (https://b.c)."},
		{"sources", "A fact.\n\n[1]: https://b.c\n[2]: https://d.e", "A fact.\n\n[1]: https://b.c\n\n[2]: https://d.e"},
		{"image", "![A cat](https://x.org/cat.png)", "A cat (https://x.org/cat.png)"},
		{"rule", "a\n\n---\n\nb", "a\n\n──────────\n\nb"},
		{"HTML", "a <b>c</b><br>d\n\n<div>\n*e*\n</div>", "a <b>c</b>\nd\n\n<div>\n*e*\n</div>"},
		{"HTML comment", "<!-- x\ny -->\n\nz", "<!-- x\ny -->\n\nz"},
		{"marks around a break", "**a<br> b**", "*a*\n*b*"},
		{"narrow table", "| Name | n |\n|---|--:|\n| Ada | 7 |\n| **日本** | 42 |", "```\nName   n\n----  --\nAda    7\n日本  42\n```"},
		{"wide table", "|Name|What it is good for|Since|\n|--|--|--|\n|`go`|a *simple* language for servers|2009|\n|C||1972|",
			"*`go`*\n- What it is good for: a _simple_ language for servers\n- Since: 2009\n\n*C*\n- Since: 1972"},
		{"wide column", "|Things that are good to have|\n|--|\n|a long rope of forty meters and more|\n|tea|", "Things that are good to have\n- a long rope of forty meters and more\n- tea"},
		{"no table", "a | b\nc | d", "a | b\nc | d"},
		{"Windows lines", "a\r\nb\rc", "a\nb\nc"},
		{"control characters", "a\x00\x1b[31mb\u0085", "a[31mb"},
		{"bytes that are no text", "a\xffb", "ab"},
		{"emoji", "**👍🏽** ok", "*👍🏽* ok"},
		{"stars alone", "** a ** *", "** a ** *"},
		{"too deep", strings.Repeat("> ", 50) + "*a*", strings.Repeat("> ", 50) + "*a*"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := Markdown(row.in); got != row.want {
				t.Errorf("%q\n got %q\nwant %q", row.in, got, row.want)
			}
		})
	}
}

// words are the letters of a text, in order.
func words(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsLetter(c) {
			return c
		}
		return -1
	}, s)
}

func FuzzMarkdown(f *testing.F) {
	for _, s := range []string{
		"# a **b** _c_\n\n* d\n  1. e\n\n> f *g\nh* i", "|a|b|\n|-|-|\n|c|`d`|", "[a](b \"c\") ![d](e)\n\n[f]: g",
		"```x\ny\n```\n~~z~~ __a__ 2*3*4", "&lt;<br>\\*<b>*", "**a<br>*b\nc***d", "- - - a\n\n      b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Markdown(s)
		if !utf8.ValidString(got) {
			t.Errorf("%q is no text", got)
		}
		if i := strings.IndexFunc(got, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }); i >= 0 {
			t.Errorf("a control character in %q", got)
		}
		// These say something other than their own letters: links, tags, entities, a block's language, a table's head.
		// Three tildes, which begin a block, may have control characters between them, which are dropped first.
		read := strings.Map(func(c rune) rune {
			if unicode.IsControl(c) {
				return -1
			}
			return c
		}, s)
		if utf8.ValidString(s) && !strings.ContainsAny(s, "[]<>&`|") && !strings.Contains(read, "~~~") && words(got) != words(s) {
			t.Errorf("%q lost its words: %q", s, got)
		}
		checkSplit(t, got, 20)
	})
}

// Odd texts take the parser long, and are as large as a model can make them: each of these took it
// minutes as a whole. The test's own time limit is the measure.
func TestMarkdownLargeTexts(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"> ", "[a](", "*a* ", "- ", "[", "~~"} {
		checkSplit(t, Markdown(strings.Repeat(unit, 1<<16/len(unit))), 4000)
	}
	long := strings.Repeat("A **b** c.\n\n", 1<<12)
	if got := Markdown(long); got != strings.TrimSpace(strings.ReplaceAll(long, "**", "*")) {
		t.Errorf("a long text became %.200q…", got)
	}
}
