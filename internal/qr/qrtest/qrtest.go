// Package qrtest reads QR codes off a terminal, as a phone's camera does.
package qrtest

import (
	"errors"
	"image"
	"image/color"
	"image/draw"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// module is the width of a character cell and half its height, in pixels.
const module = 8

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
		case len(code) > 0 && utf8.RuneCountInString(code[0]) != utf8.RuneCountInString(m[1]), finished(code):
			code = []string{m[1]} // the first line of the next code
		default:
			code = append(code, m[1])
		}
	}
	if !finished(code) {
		return "", ErrNone
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(picture(code))
	if err != nil {
		return "", err
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		return "", err
	}
	return result.GetText(), nil
}

// finished reports whether the lines are a whole code, which is square.
func finished(code []string) bool {
	return len(code) > 0 && 2*len(code) >= utf8.RuneCountInString(code[0])
}

// picture draws a code, white on black.
func picture(code []string) image.Image {
	img := image.NewGray(image.Rect(0, 0, (utf8.RuneCountInString(code[0])+4)*module, (2*len(code)+4)*module))
	light := image.NewUniform(color.White)
	for row, line := range code {
		x, y := 2*module, (2*row+2)*module
		for _, r := range line {
			if r == '▀' || r == '█' {
				draw.Draw(img, image.Rect(x, y, x+module, y+module), light, image.Point{}, draw.Src)
			}
			if r == '▄' || r == '█' {
				draw.Draw(img, image.Rect(x, y+module, x+module, y+2*module), light, image.Point{}, draw.Src)
			}
			x += module
		}
	}
	return img
}
