// Package qr prints a QR code with the characters of a terminal, for a phone to scan. One
// character is two modules high (half blocks), light on dark. Every line stands for itself: it sets its
// colours, resets them, and moves no cursor, so that the code survives a log that puts a
// column before each line and mixes in lines of others above and below.
package qr

import (
	"bytes"
	"fmt"
	"io"

	"github.com/mdp/qrterminal/v3"
	"rsc.io/qr"
)

// Options say how a code is printed. The zero value suits every terminal and log that shows
// colours, `docker logs` among them.
type Options struct {
	// Plain leaves colours out, for what shows escape sequences as they are. The code is then
	// right on a dark background; on a light one it is inverted, which not every phone reads.
	Plain bool
}

const (
	// White on black, from the colour cube, which themes leave alone, unlike the first 16 colours.
	colours = "\x1b[38;5;231;48;5;16m"
	reset   = "\x1b[0m"

	// quietZone is the light border, in modules. The standard asks for 4; readers do with
	// 2, and WhatsApp's codes then fit into 65 columns.
	quietZone = 2
)

// Write prints text as a QR code, in one call of w.Write. The code is as small as can be: it has the
// lowest error correction (a screen has no dirt on it) and a narrow border. A pairing text of WhatsApp
// takes 61 columns and 31 lines, or 65 and 33 from 272 bytes on. It fails for a text of more than 2953 bytes.
func Write(w io.Writer, text string, opts Options) error {
	// qrterminal does not look at this error.
	if _, err := qr.Encode(text, qr.L); err != nil {
		return fmt.Errorf("make QR code: %w", err)
	}
	var code bytes.Buffer
	qrterminal.GenerateWithConfig(text, qrterminal.Config{
		Level:      qrterminal.L,
		Writer:     &code,
		HalfBlocks: true,
		QuietZone:  quietZone,
	})
	out := code.Bytes()
	if !opts.Plain {
		out = nil
		for line := range bytes.Lines(code.Bytes()) {
			out = append(out, colours...)
			out = append(out, bytes.TrimSuffix(line, []byte("\n"))...)
			out = append(out, reset+"\n"...)
		}
	}
	if _, err := w.Write(out); err != nil {
		return fmt.Errorf("print QR code: %w", err)
	}
	return nil
}
