package media

import (
	"bytes"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/ledongthuc/pdf"
)

// pdfMark is what a PDF begins with.
const pdfMark = "%PDF-"

const (
	// mostPages bounds a PDF that is read, nested the forms within forms of a page.
	mostPages = 100
	nested    = 4
)

// pdfText is the text of a PDF, page by page, as far as MostText goes.
func pdfText(data []byte) ([]byte, error) {
	doc, err := openPDF(data)
	if err != nil {
		return nil, ErrBroken
	}
	var out []byte
	for n := 1; n <= min(doc.NumPage(), mostPages) && len(out) < MostText; n++ {
		if text := pageText(doc.Page(n), MostText-len(out)); text != "" {
			out = append(out, text+"\n\n"...)
		}
	}
	return out, nil
}

func openPDF(data []byte) (*pdf.Reader, error) {
	// The parser does not know the number of the newest version, which changed little.
	if rest, ok := bytes.CutPrefix(data, []byte("%PDF-2.0")); ok {
		data = append([]byte("%PDF-1.7"), rest...)
	}
	return pdf.NewReader(bytes.NewReader(data), int64(len(data)))
}

// pageText is the text of a page, or as much of it as could be read.
func pageText(p pdf.Page, most int) (text string) {
	w := &walk{most: most}
	defer func() {
		if x := recover(); x != nil {
			text = w.text()
		}
	}()
	w.run(p.V.Key("Contents"), p.Resources(), 0)
	return w.text()
}

// walk goes through a page's operators (ISO 32000-1, section 9.4) and writes down what they show: a new line where the
// text goes on at another height, a space where there is a gap.
type walk struct {
	out  strings.Builder
	most int

	fonts     map[string]*face
	font      *face
	size      float64
	lead      float64
	line, now [6]float64 // the matrices of the line's begin and of where the next sign goes
	end       [2]float64 // where the last sign ended
}

// face is a font with what its signs take, in thousandths of its size.
type face struct {
	pdf.Font
	wide   bool // its codes have two bytes
	widths map[int]float64
	other  float64 // the width of those that are not in widths
}

// mostWidths bounds what is kept of a font.
const mostWidths = 1 << 16

var identity = [6]float64{1, 0, 0, 1, 0, 0}

func (w *walk) text() string { return strings.TrimSpace(strings.ToValidUTF8(w.out.String(), "")) }

func (w *walk) run(content, resources pdf.Value, depth int) {
	if content.IsNull() {
		return
	}
	w.fonts = map[string]*face{}
	pdf.Interpret(content, func(stack *pdf.Stack, op string) {
		args := make([]pdf.Value, stack.Len())
		for i := len(args) - 1; i >= 0; i-- {
			args[i] = stack.Pop()
		}
		if w.out.Len() >= w.most {
			panic(ErrBroken) // it is enough, and there is no other way out
		}
		number := func(i int) float64 {
			if i >= len(args) {
				return 0
			}
			return args[i].Float64()
		}
		switch op {
		case "BT":
			w.line, w.now = identity, identity
		case "Tf":
			if len(args) == 2 {
				w.font, w.size = w.face(resources, args[0].Name()), number(1)
			}
		case "TL":
			w.lead = number(0)
		case "Td", "TD":
			if op == "TD" {
				w.lead = -number(1)
			}
			w.move(number(0), number(1))
		case "Tm":
			for i := range w.line {
				w.line[i] = number(i)
			}
			w.now = w.line
		case "T*":
			w.move(0, -w.lead)
		case "Tj", "'", "\"":
			if op != "Tj" {
				w.move(0, -w.lead)
			}
			if n := len(args); n > 0 {
				w.show(args[n-1].RawString())
			}
		case "TJ":
			if len(args) == 0 {
				return
			}
			for i := range args[0].Len() {
				if x := args[0].Index(i); x.Kind() == pdf.String {
					w.show(x.RawString())
				} else {
					w.advance(-x.Float64() / 1000 * w.size)
				}
			}
		case "Do":
			form := pdf.Value{}
			if len(args) == 1 {
				form = resources.Key("XObject").Key(args[0].Name())
			}
			if form.Key("Subtype").Name() != "Form" || depth == nested {
				return
			}
			fonts := w.fonts
			w.run(form, form.Key("Resources"), depth+1)
			w.fonts = fonts
		}
	})
}

func (w *walk) move(x, y float64) {
	w.line[4] += x*w.line[0] + y*w.line[2]
	w.line[5] += x*w.line[1] + y*w.line[3]
	w.now = w.line
}

func (w *walk) advance(x float64) {
	w.now[4] += x * w.now[0]
	w.now[5] += x * w.now[1]
}

// show writes down a string of codes.
func (w *walk) show(codes string) {
	if w.font == nil || codes == "" {
		return
	}
	shown := w.font.Encoder().Decode(codes)
	// How tall a sign is on the page.
	tall := w.size * math.Hypot(w.now[2], w.now[3])
	if w.out.Len() > 0 {
		across, along := w.now[5]-w.end[1], w.now[4]-w.end[0]
		switch {
		case math.Abs(across) > tall/2, along < -2*tall:
			w.out.WriteByte('\n')
		case along > tall/6 && !strings.HasPrefix(shown, " "):
			w.out.WriteByte(' ')
		}
	}
	for _, r := range shown {
		if r != utf8.RuneError && r != 0 {
			w.out.WriteRune(r)
		}
	}
	step := 1
	if w.font.wide {
		step = 2
	}
	for i := 0; i+step <= len(codes); i += step {
		code := int(codes[i])
		if step == 2 {
			code = code<<8 | int(codes[i+1])
		}
		w.advance(w.font.width(code) / 1000 * w.size)
	}
	w.end = [2]float64{w.now[4], w.now[5]}
}

// face is the font of a name.
func (w *walk) face(resources pdf.Value, name string) *face {
	if f := w.fonts[name]; f != nil {
		return f
	}
	f := newFace(resources.Key("Font").Key(name))
	w.fonts[name] = f
	return f
}

func newFace(v pdf.Value) *face {
	f := &face{Font: pdf.Font{V: v}, widths: map[int]float64{}, other: 500}
	if v.Key("Subtype").Name() != "Type0" {
		first := f.FirstChar()
		for i, width := range f.Widths() {
			f.widths[first+i] = width
		}
		return f
	}
	f.wide, f.other = true, 1000
	descendant := v.Key("DescendantFonts").Index(0)
	if dw := descendant.Key("DW"); !dw.IsNull() {
		f.other = dw.Float64()
	}
	// Either a code and a list of widths from there on, or the first and the last code of one width.
	all := descendant.Key("W")
	for i := 0; i+1 < all.Len(); {
		first, next := int(all.Index(i).Int64()), all.Index(i+1)
		if next.Kind() == pdf.Array {
			for j := range min(next.Len(), mostWidths) {
				f.widths[first+j] = next.Index(j).Float64()
			}
			i += 2
			continue
		}
		for code := first; code <= min(int(next.Int64()), first+mostWidths); code++ {
			f.widths[code] = all.Index(i + 2).Float64()
		}
		i += 3
	}
	return f
}

func (f *face) width(code int) float64 {
	if width, ok := f.widths[code]; ok {
		return width
	}
	return f.other
}
