package format

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		text  string
		limit int
		want  []string
	}{
		{"empty", "", 20, nil},
		{"blank", " \n\n ", 20, nil},
		{"short", "Hello", 20, []string{"Hello"}},
		{"just fits", strings.Repeat("ä", 20), 20, []string{strings.Repeat("ä", 20)}},
		{"paragraphs", "One two three.\n\nFour\nfive six. Seven", 25, []string{"One two three.", "Four\nfive six. Seven"}},
		{"lines", "One two three\nfour five six seven", 20, []string{"One two three", "four five six seven"}},
		{"sentences", "One two. Three four five six seven", 20, []string{"One two.", "Three four five six", "seven"}},
		{"words", "onetwo threefour fivesix", 20, []string{"onetwo threefour", "fivesix"}},
		{"a long word", strings.Repeat("x", 45), 20, []string{strings.Repeat("x", 20), strings.Repeat("x", 20), "xxxxx"}},
		{"a long word after a short", "see " + strings.Repeat("x", 18), 20, []string{"see", strings.Repeat("x", 18)}},
		{"families stay together", strings.Repeat("👨‍👩‍👧", 6), 16, []string{"👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧", "👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧"}},
		{"accents on a space", "one two three \u0308four five", 16, []string{"one two", "three \u0308four five"}},
		{"indentation", "- One two three\n  - four five six", 20, []string{"- One two three", "  - four five six"}},
		{"code goes whole", "Look at this:\n```\na b c\nd\n```", 24, []string{"Look at this:", "```\na b c\nd\n```"}},
		{"code is cut", "```\none two\n  three\nfour five\n```\nend", 24,
			[]string{"```\none two\n  three\n```", "```\nfour five\n```\nend"}},
		{"code ends at the cut", "```\n0123456789abcd\n\n\n\n```\nend", 22, []string{"```\n0123456789abcd\n```", "end"}},
		{"a fence that is not closed", "``` one two three four five six", 20, []string{"``` one two three", "four five six"}},
		{"a small limit", strings.Repeat("x", 17), 1, []string{strings.Repeat("x", 16), "x"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := Split(row.text, row.limit); !slices.Equal(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

var emptyBlock = regexp.MustCompile("```\\s*```")

// checkSplit holds Split to its word for any text.
func checkSplit(t *testing.T, s string, limit int) {
	t.Helper()
	parts := Split(s, limit)
	odd := 0
	for _, p := range parts {
		if n := utf8.RuneCountInString(p); n > max(limit, MinLimit) {
			t.Errorf("%d runes, limit %d: %.200q", n, limit, p)
		}
		if emptyBlock.MatchString(p) && !emptyBlock.MatchString(s) && !strings.Contains(s, "````") {
			t.Errorf("an empty code block was made: %.200q", p)
		}
		if strings.TrimSpace(p) == "" {
			t.Errorf("a blank part")
		}
		odd += strings.Count(p, fence) % 2
	}
	if want := strings.Count(s, fence) % 2; odd > want {
		t.Errorf("%d parts with an open fence: %.200q", odd, parts)
	}
	if got, want := essence(strings.Join(parts, "")), essence(s); got != want {
		t.Errorf("lost text: got %.200q, want %.200q", got, want)
	}
}

// longestCharacter is how long what a reader sees as one character may be, in runes, to stay whole at any limit: in code there is no
// more room beside the fences.
const longestCharacter = MinLimit - len(moreFence) - len(endFence)

// checkCharacters holds Split to cutting nothing that a reader sees as one character.
func checkCharacters(t *testing.T, s string, limit int) {
	t.Helper()
	want := characters(s)
	if slices.ContainsFunc(want, func(c string) bool { return utf8.RuneCountInString(c) > longestCharacter }) {
		return
	}
	var got []string
	for _, p := range Split(s, limit) {
		got = append(got, characters(p)...)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%.200q became %.200q", want, got)
	}
}

// characters are what a reader sees as such, without white space and backticks.
func characters(s string) (all []string) {
	for g := uniseg.NewGraphemes(s); g.Next(); {
		if c := essence(g.Str()); c != "" {
			all = append(all, c)
		}
	}
	return all
}

// essence is a text without white space and backticks.
func essence(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) || c == '`' {
			return -1
		}
		return c
	}, s)
}

func FuzzSplit(f *testing.F) {
	f.Add("One two three. Four.\n\n```\ncode  \n\n  more code\n```\n👨‍👩‍👧👨‍👩‍👧 end", 16)
	f.Add("```                                   ```x", 16)
	f.Add("a```b```c``````d````e", 17)
	f.Add(strings.Repeat("e\u0301\u0301\u0301", 40), 16)
	f.Add(strings.Repeat("🇩🇪", 30)+" "+strings.Repeat("👍🏽", 20)+strings.Repeat("क्षि", 20)+"```"+strings.Repeat("👨‍👩‍👧", 20)+"```", 16)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit %= 100
		s = strings.ToValidUTF8(s, "")
		checkSplit(t, s, limit)
		checkCharacters(t, s, limit)
	})
}

// Texts that are large and odd are cut too, in time that grows as their length does.
func TestSplitLargeTexts(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"word ", "x", "```\n", "``` ", "\u0301", " ", "\n", "a. ", "```a```\n", "`"} {
		checkSplit(t, "```x"+strings.Repeat(unit, 1<<18/len(unit))+"y```", 4000)
	}
}
