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
	// In one code of a hundred the reader takes something else for a corner, where a camera, which never
	// sees the same picture twice, would look again. So it then looks at the bare modules.
	text, err := decode(picture(code, 2), nil)
	if err != nil {
		text, err = decode(picture(code, 0), map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_PURE_BARCODE: true})
	}
	return text, err
}

func decode(img image.Image, hints map[gozxing.DecodeHintType]any) (string, error) {
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", err
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, hints)
	if err != nil {
		return "", err
	}
	return result.GetText(), nil
}

// finished reports whether the lines are a whole code, which is square.
func finished(code []string) bool {
	return len(code) > 0 && 2*len(code) >= utf8.RuneCountInString(code[0])
}

// picture draws a code, white on black, with so many black modules around it.
func picture(code []string, around int) image.Image {
	size := (utf8.RuneCountInString(code[0]) + 2*around) * module
	img := image.NewGray(image.Rect(0, 0, size, size))
	light := image.NewUniform(color.White)
	for row, line := range code {
		x, y := around*module, (2*row+around)*module
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
