// Package qrtest reads QR codes off a terminal, as a phone's camera does.
package qrtest

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/makiuchi-d/gozxing/qrcode/decoder"
)

// blocks finds the part of a line that is of a code: half blocks within colours.
var blocks = regexp.MustCompile(`\x1b\[38;5;231;48;5;16m([ ▀▄█]{20,})\x1b\[0m`)

// ErrNone says that there is no whole code on the screen.
var ErrNone = errors.New("no QR code on the screen")

// Read returns the text of the last QR code, as package qr prints it in colours, in a
// terminal's output; lines and columns of others around it do not matter. It returns ErrNone if there is
// none, or just the beginning of one.
func Read(output string) (string, error) {
	var code []string
	for line := range strings.Lines(output) {
		switch m := blocks.FindStringSubmatch(line); {
		case m == nil:
		case strings.Trim(m[1], "█") == "", len(code) > 0 && utf8.RuneCountInString(code[0]) != utf8.RuneCountInString(m[1]), finished(code):
			code = []string{m[1]} // the first line of the next code: no other is light throughout
		default:
			code = append(code, m[1])
		}
	}
	if !finished(code) {
		return "", ErrNone
	}
	return decode(modules(code))
}

// decode reads the modules of a code. There is no picture to find it in: a reader of pictures takes, in one
// code of a hundred, something else for a corner, where a camera would look again.
func decode(modules [][]bool) (string, error) {
	result, err := decoder.NewDecoder().DecodeBoolMapWithoutHint(modules)
	if err != nil {
		return "", err
	}
	return result.GetText(), nil
}

// finished reports whether the lines are a whole code, which is square.
func finished(code []string) bool {
	return len(code) > 0 && 2*len(code) >= utf8.RuneCountInString(code[0])
}

// modules returns the modules of a code without the light ones around it, true for dark.
func modules(code []string) [][]bool {
	width := utf8.RuneCountInString(code[0])
	all := make([][]bool, 2*len(code))
	for row, line := range code {
		for _, r := range line {
			all[2*row] = append(all[2*row], r != '▀' && r != '█')
			all[2*row+1] = append(all[2*row+1], r != '▄' && r != '█')
		}
	}
	all = all[:min(width, len(all))] // a code is square: of an odd number of rows the last line shows half
	// Three corners of a code are dark.
	first := slices.IndexFunc(all, func(row []bool) bool { return slices.Contains(row, true) })
	if first < 0 {
		return nil
	}
	left := slices.Index(all[first], true)
	size := width - 2*left
	if first+size > len(all) || size <= 0 {
		return nil
	}
	square := all[first : first+size]
	for i := range square {
		square[i] = square[i][left : left+size]
	}
	return square
}
