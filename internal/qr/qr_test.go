package qr

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"
)

// pairing is a text as WhatsApp has it: a URL, a reference and three keys of 32 bytes.
func pairing(seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	return fmt.Sprintf("https://wa.me/settings/linked_devices#2@%s,%s,%s,%s,1", random(66), random(32), random(32), random(32))
}

// terminal is how a terminal shows text: colours of its own, and cells whose glyphs leave gap
// pixels of the background below them, as line spacing does.
type terminal struct {
	name   string
	fg, bg color.Gray
	gap    int
}

var terminals = []terminal{
	{"dark", color.Gray{0xd0}, color.Gray{0x10}, 0},
	{"light", color.Gray{0x20}, color.Gray{0xff}, 0},
	{"dark with line spacing", color.Gray{0xd0}, color.Gray{0x10}, 1},
	{"light with line spacing", color.Gray{0x20}, color.Gray{0xff}, 1},
}

// module is the width of a cell and half its height, in pixels.
const module = 8

// show draws lines, each cell of them by itself. It fails on any escape sequence but Write's
// colours and reset, and on a line that leaves its colours to the next.
func (term terminal) show(t *testing.T, text string) image.Image {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	height := 2*module + term.gap
	img := image.NewGray(image.Rect(0, 0, 120*module, (len(lines)+4)*height))
	fill := func(x, y, w, h int, c color.Gray) {
		draw.Draw(img, image.Rect(x, y, x+w, y+h), image.NewUniform(c), image.Point{}, draw.Src)
	}
	fill(0, 0, img.Rect.Dx(), img.Rect.Dy(), term.bg)
	for n, line := range lines {
		fg, bg := term.fg, term.bg
		x, y := 2*module, (n+2)*height
		for line != "" {
			if rest, ok := strings.CutPrefix(line, "\x1b[38;5;231;48;5;16m"); ok {
				fg, bg, line = color.Gray{0xff}, color.Gray{0}, rest
				continue
			}
			if rest, ok := strings.CutPrefix(line, "\x1b[0m"); ok {
				fg, bg, line = term.fg, term.bg, rest
				continue
			}
			r, size := utf8.DecodeRuneInString(line)
			line = line[size:]
			fill(x, y, module, height, bg)
			switch {
			case r == ' ':
			case r == '█':
				fill(x, y, module, 2*module, fg)
			case r == '▀':
				fill(x, y, module, module, fg)
			case r == '▄':
				fill(x, y+module, module, module, fg)
			case r > ' ' && r <= '~':
				fill(x+2, y+4, module-4, module, fg) // some letter
			default:
				t.Fatalf("line %d has %q", n, r)
			}
			x += module
		}
		if bg != term.bg {
			t.Fatalf("line %d does not reset its colours", n)
		}
	}
	return img
}

// inverted is what a reader does that tries light on dark, too.
type inverted struct{ image.Image }

func (i inverted) At(x, y int) color.Color {
	return color.Gray{0xff - i.Image.At(x, y).(color.Gray).Y}
}

func scan(img image.Image) (string, error) {
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", err
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		return "", err
	}
	return result.GetText(), nil
}

func printed(t *testing.T, text string, opts Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, text, opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// column puts what docker-compose does before each line, and lines of others around.
func column(lines string) string {
	text := "level=INFO msg=scan\n" + lines + "level=INFO msg=waiting\n"
	return "wabot-1  | " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\nwabot-1  | ") + "\n"
}

func TestScan(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		text := pairing(seed)
		for _, opts := range []Options{{}, {Plain: true}} {
			lines := printed(t, text, opts)
			for _, term := range terminals {
				for where, shown := range map[string]string{"alone": lines, "behind a column": column(lines)} {
					img := term.show(t, shown)
					if opts.Plain && term.fg.Y < term.bg.Y {
						img = inverted{img}
					}
					if got, err := scan(img); err != nil || got != text {
						t.Errorf("%s, %s, %+v, text %d: %q, %v", term.name, where, opts, seed, got, err)
					}
				}
			}
		}
	}
}

// The scan of these tests is no scan that always succeeds.
func TestBrokenCodeDoesNotScan(t *testing.T) {
	t.Parallel()
	text := pairing(1)
	good := strings.SplitAfter(printed(t, text, Options{}), "\n")
	for name, broken := range map[string][]string{
		"a line lost":                    append(append([]string{}, good[:12]...), good[13:]...),
		"a line shifted":                 append(append(append([]string{}, good[:2]...), "    "+good[2]), good[3:]...),
		"the half of it":                 good[:len(good)/2],
		"blocks become letters":          strings.SplitAfter(strings.ReplaceAll(strings.Join(good, ""), "▄", "?"), "\n"),
		"no colours on a light terminal": strings.SplitAfter(printed(t, text, Options{Plain: true}), "\n"),
	} {
		if got, err := scan(terminals[1].show(t, strings.Join(broken, ""))); err == nil && got == text {
			t.Errorf("%s: it scans all the same", name)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	text := pairing(1)
	text += strings.Repeat("x", 321-len(text)) // longer than any that WhatsApp has
	lines := strings.Split(strings.TrimSuffix(printed(t, text, Options{Plain: true}), "\n"), "\n")
	if len(lines) > 33 {
		t.Errorf("%d lines for %d bytes", len(lines), len(text))
	}
	for n, line := range lines {
		if got := utf8.RuneCountInString(line); got != utf8.RuneCountInString(lines[0]) || got > 65 {
			t.Errorf("line %d has %d columns for %d bytes", n, got, len(text))
		}
	}
}

type broken struct{ calls int }

var errBroken = errors.New("broken pipe")

func (b *broken) Write(p []byte) (int, error) {
	b.calls++
	return 0, errBroken
}

func TestErrors(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := Write(&b, strings.Repeat("x", 2953), Options{}); err != nil {
		t.Errorf("the longest text: %v", err)
	}
	b.Reset()
	if err := Write(&b, strings.Repeat("x", 2954), Options{}); err == nil || b.Len() > 0 {
		t.Errorf("too long a text: %v, %d bytes written", err, b.Len())
	}
	w := &broken{}
	if err := Write(w, "x", Options{}); !errors.Is(err, errBroken) || w.calls != 1 {
		t.Errorf("got %v after %d writes", err, w.calls)
	}
}
