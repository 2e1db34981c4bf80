package format

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// MinLimit is the least limit that Split keeps to.
const MinLimit = 16

const (
	fence     = "```"
	endFence  = "\n" + fence // ends a code block that is cut
	moreFence = fence + "\n" // begins the rest of it
)

// Split cuts a text in WhatsApp's markup into parts of at most limit runes each (of MinLimit, if limit is less): at
// a paragraph's end, else at a line's, a sentence's, a word's, and only at last within a word, but
// never within what a reader sees as one character, unless that alone is too long. A code block that
// is cut ends in one part and begins again in the next. Only white space at the cuts is lost, and no
// part is blank.
//
// The limit is in runes. WhatsApp's own limit, 65,536 characters, is far above what a person reads in one
// message, so that ours is for looks, and needs no closer measure.
func Split(s string, limit int) []string {
	t := splitter{s: s, blocks: codeBlocks(s), limit: max(limit, MinLimit)}
	var parts []string
	for t.pos < len(s) {
		if part := t.next(); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// splitter is at work on a text.
type splitter struct {
	s      string
	blocks []block // those that do not end before pos
	limit  int
	pos    int  // what is before has been cut off
	within bool // pos is within the code of blocks[0], cut before
}

// block is a code block, fences included: WhatsApp takes every second ``` for an end.
type block struct{ start, end int }

// codeBlocks finds the code blocks. A fence that is not closed begins none.
func codeBlocks(s string) (blocks []block) {
	for at := 0; ; {
		start := strings.Index(s[at:], fence)
		if start < 0 {
			return blocks
		}
		start += at
		n := strings.Index(s[start+len(fence):], fence)
		if n < 0 {
			return blocks
		}
		at = start + len(fence) + n + len(fence)
		blocks = append(blocks, block{start, at})
	}
}

// next cuts off one part. It is empty where there is nothing to show in it.
func (t *splitter) next() string {
	prefix := ""
	if t.within {
		prefix = moreFence
	}
	room := t.limit - len(prefix)
	cut, within := len(t.s), false
	if t.ahead(room) < len(t.s) {
		cut, within = t.border(room)
	}
	if within && t.blank(max(t.pos, t.around(cut).start+len(fence)), cut) {
		// No code is left of the cut, only its fence: better before that.
		if start := t.around(cut).start; start > t.pos && !t.blank(t.pos, start) {
			cut, within = start, false
		} else {
			t.move(cut, true)
			return ""
		}
	}
	part := strings.TrimLeft(t.s[t.pos:cut], "\n")
	if t.within {
		part = t.s[t.pos:cut]
	}
	switch {
	case t.blank(t.pos, cut):
		part = ""
	case within:
		part = prefix + part + endFence
	default:
		part = prefix + strings.TrimRightFunc(part, unicode.IsSpace)
	}
	t.move(cut, within)
	return part
}

// move goes on after a cut, over the white space there. In code that is the line's end alone: the rest is
// indentation.
func (t *splitter) move(cut int, within bool) {
	if within {
		if b := t.around(cut); t.blank(cut, b.end-len(fence)) {
			cut, within = b.end, false // the fence that was put there was the last of it
		} else if t.s[cut] == '\n' {
			cut++
		}
	}
	if !within {
		cut = len(t.s) - len(strings.TrimLeft(strings.TrimLeft(t.s[cut:], " "), "\n"))
	}
	t.pos, t.within = cut, within
	for len(t.blocks) > 0 && t.blocks[0].end <= t.pos {
		t.blocks = t.blocks[1:]
	}
}

// around is the block that a position is within.
func (t *splitter) around(at int) block {
	for _, b := range t.blocks {
		if at < b.end {
			return b
		}
	}
	panic("format: no code block around the cut")
}

func (t *splitter) blank(from, to int) bool { return strings.TrimSpace(t.s[from:to]) == "" }

// ahead is the position n runes after pos, or the end.
func (t *splitter) ahead(n int) int {
	at := t.pos
	for ; n > 0 && at < len(t.s); n-- {
		_, size := utf8.DecodeRuneInString(t.s[at:])
		at += size
	}
	return at
}

// The borders that a text is cut at, the best first.
const (
	paragraph = iota
	line
	sentence
	codeLine
	word
	codeWord
	borders
)

// border finds where to cut, at most room runes ahead, and whether that is within code. The best kind of border is taken that is
// not in the first quarter, and of that kind the last.
func (t *splitter) border(room int) (cut int, within bool) {
	end, endCode := t.ahead(room), t.ahead(room-len(endFence))
	var best [borders]int
	places := t.places()
	shown := false // there is something before
	for i := t.pos; i <= end; i++ {
		place := places(i)
		c := t.s[i]
		if c == ' ' || c == '\n' {
			next, _ := utf8.DecodeRuneInString(t.s[i+1:])
			switch {
			case !shown || c == ' ' && unicode.Is(unicode.M, next):
			case place == outside && c == '\n' && next == '\n':
				best[paragraph] = i
			case place == outside && c == '\n':
				best[line] = i
			case place == outside:
				best[word] = i
			case place == inCode && c == '\n' && i <= endCode:
				best[codeLine] = i
			case place == inCode && i <= endCode:
				best[codeWord] = i
			}
		} else if place != inFence {
			shown = true
		}
	}
	least := t.pos + (end-t.pos)/4
	if best[paragraph] < least && best[line] < least {
		best[sentence] = t.sentence(end)
	}
	for _, from := range []int{least, t.pos + 1} {
		for kind, at := range best {
			if at >= from {
				return at, kind == codeLine || kind == codeWord
			}
		}
	}
	return t.character(end, endCode)
}

// place is what is at a position.
type place int

const (
	outside place = iota
	inCode
	inFence // no place to cut
)

// places tells the places of positions, asked for in rising order from pos.
func (t *splitter) places() func(int) place {
	blocks := t.blocks
	return func(at int) place {
		for len(blocks) > 0 && blocks[0].end <= at {
			blocks = blocks[1:]
		}
		switch {
		case len(blocks) == 0 || at <= blocks[0].start:
			return outside
		case at < blocks[0].start+len(fence) || at > blocks[0].end-len(fence):
			return inFence
		}
		return inCode
	}
}

// sentence is the last sentence's end before end and outside of code, or 0.
func (t *splitter) sentence(end int) int {
	last, at, state := 0, t.pos, -1
	places := t.places()
	for rest := t.s[t.pos:end]; ; {
		var s string
		s, rest, state = uniseg.FirstSentenceInString(rest, state)
		at += len(s)
		if rest == "" {
			return last // where we stopped looking is no sentence's end
		}
		if places(at) == outside && !t.blank(t.pos, at) {
			last = at
		}
	}
}

// character is the last border between what a reader sees as characters, else between runes.
func (t *splitter) character(end, endCode int) (cut int, within bool) {
	// With one rune more, so that a character that goes on is seen to.
	_, size := utf8.DecodeRuneInString(t.s[end:])
	places, at, state := t.places(), t.pos, -1
	for rest := t.s[t.pos : end+size]; rest != ""; {
		var c string
		c, rest, _, state = uniseg.FirstGraphemeClusterInString(rest, state)
		at += len(c)
		if rest != "" {
			if p := places(at); p == outside || p == inCode && at <= endCode {
				cut, within = at, p == inCode
			}
		}
	}
	if cut > 0 {
		return cut, within
	}
	places = t.places()
	for i := range t.s[t.pos:endCode] {
		if p := places(t.pos + i); i > 0 && p != inFence {
			cut, within = t.pos+i, p == inCode
		}
	}
	return cut, within
}
