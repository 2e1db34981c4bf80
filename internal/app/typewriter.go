package app

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rivo/uniseg"
)

// typewriter shows one text on a terminal and goes on changing it: lines that are as they were stay where they are, the
// others are written anew.
type typewriter struct {
	out io.Writer
	// size is the terminal's, in columns and rows.
	size  func() (width, height int)
	lines []string // that are shown; the cursor is behind the last
}

// show puts text in the place of what was shown.
func (w *typewriter) show(text string) {
	lines := strings.Split(text, "\n")
	same := 0
	for same < min(len(lines), len(w.lines)) && lines[same] == w.lines[same] {
		same++
	}
	if same == len(lines) && same < len(w.lines) {
		same-- // the cursor goes behind it
	}
	width, height := w.size()
	rows := 0
	for _, l := range w.lines[same:] {
		rows += max(1, (uniseg.StringWidth(l)+width-1)/max(width, 1))
	}
	begin := ""
	switch {
	case len(w.lines) == 0:
	case rows == 0:
		begin = "\n"
	case rows >= height:
		same, begin = 0, "\n" // what would be changed is out of sight
	case rows > 1:
		begin = fmt.Sprintf("\r\x1b[%dA\x1b[J", rows-1)
	default:
		begin = "\r\x1b[J"
	}
	if same < len(lines) {
		fmt.Fprint(w.out, begin, strings.Join(lines[same:], "\n"))
	}
	w.lines = slices.Clone(lines)
}

// end leaves what is shown and begins a new line.
func (w *typewriter) end() {
	if len(w.lines) > 0 {
		fmt.Fprintln(w.out)
	}
	w.lines = nil
}
