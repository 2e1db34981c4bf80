package format

import (
	"regexp"
	"strings"
)

// Partial is Markdown for a text that is still being written. What it ends with and may yet become a mark is left out, and what
// is open at its end is closed, so that nobody reads bare marks meanwhile.
func Partial(s string) string { return Markdown(closed(clean(s))) }

// marksOnly is a line that is the beginning of something: a fence, a list item, a heading, a row, a rule.
var marksOnly = regexp.MustCompile("^[ \t]*([-=*#`~|>+_: ]+|[0-9]{1,9}[.)]?)[ \t]*$")

// closed is s with all closed that is open at its end. goldmark itself closes a code block.
func closed(s string) string {
	if fence := openFence("", s); fence != "" {
		cut := strings.LastIndexByte(s, '\n') + 1
		if last := strings.TrimSpace(s[cut:]); last != "" && strings.Trim(last, fence[:1]) == "" {
			return s[:cut] // the end of the block, or nearly
		}
		return s
	}
	if cut := strings.LastIndexByte(s, '\n') + 1; marksOnly.MatchString(s[cut:]) {
		s = s[:cut]
	}
	s = strings.TrimRight(s, " \t\n")
	at := strings.LastIndex(s, "\n\n") + 1
	if i := strings.LastIndex(s, "\n"+fence); i >= at {
		at = i + 1 + len(fence) // what is within a code block opens nothing
	} else if i := strings.LastIndex(s, "\n~~~"); i >= at {
		at = i + 1 + len(fence)
	}
	before, last := s[:at], s[at:]
	if strings.Count(last, "`")%2 == 1 {
		return before + shut(last, "`")
	}
	if i := strings.LastIndex(last, "]("); i >= 0 && !strings.Contains(last[i:], ")") {
		// The address of a link, as far as it has come.
		if j := strings.LastIndexByte(last[:i], '['); j >= 0 {
			last = last[:j] + last[j+1:i]
		}
	}
	for _, mark := range []string{"**", "~~"} {
		if strings.Count(last, mark)%2 == 1 {
			last = shut(last, mark)
		}
	}
	return before + last
}

// shut closes the mark that is open in s, or leaves it out where nothing follows it yet.
func shut(s, mark string) string {
	if cut, ok := strings.CutSuffix(s, mark); ok {
		return strings.TrimRight(cut, " ")
	}
	return s + mark
}

// openFence is the line that begins the code block which is open at the end of Markdown, itself begun within the
// block of the given fence; empty where none is.
func openFence(fence, s string) string {
	for line := range strings.SplitSeq(s, "\n") {
		bare := strings.TrimLeft(line, " ")
		if len(line)-len(bare) > 3 {
			continue
		}
		n := fenceLen(bare)
		switch {
		case n < 3:
		case fence == "":
			if bare[0] == '~' || !strings.Contains(bare[n:], "`") {
				fence = strings.TrimSpace(bare)
			}
		case bare[0] == fence[0] && n >= fenceLen(fence) && strings.TrimSpace(bare[n:]) == "":
			fence = ""
		}
	}
	return fence
}

// fenceLen is how many backticks or tildes a line begins with.
func fenceLen(line string) int {
	if line == "" || line[0] != '`' && line[0] != '~' {
		return 0
	}
	return len(line) - len(strings.TrimLeft(line, line[:1]))
}

// Border is where a text in Markdown, begun within the code block of the given fence or outside of any, is best cut near its
// end: after a paragraph, a line or a word. open is the fence of the code block that goes on after the cut; empty for none.
func Border(fence, s string) (n int, open string) {
	n = len(s)
	for _, border := range []string{"\n\n", "\n", " "} {
		if i := strings.LastIndex(s, border); i > len(s)/2 {
			n = i + len(border)
			break
		}
	}
	return n, openFence(fence, s[:n])
}
