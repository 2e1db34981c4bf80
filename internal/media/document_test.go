package media

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// pdfOf is a PDF with a page for each content.
func pdfOf(pages ...string) []byte {
	var b bytes.Buffer
	var at []int
	object := func(format string, args ...any) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n"+format+"\nendobj\n", append([]any{len(at)}, args...)...)
	}
	b.WriteString("%PDF-1.4\n")
	object("<< /Type /Catalog /Pages 2 0 R >>")
	var kids []string
	for i := range pages {
		kids = append(kids, fmt.Sprintf("%d 0 R", 4+2*i))
	}
	object("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), len(pages))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding /FirstChar 32 /LastChar 33 /Widths [278 278] >>")
	for i, content := range pages {
		object("<< /Type /Page /Parent 2 0 R /Contents %d 0 R /Resources << /Font << /F1 3 0 R >> >> >>", 5+2*i)
		object("<< /Length %d >>\nstream\n%s\nendstream", len(content), content)
	}
	begin := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, n := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, begin)
	return b.Bytes()
}

func TestPDF(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		pages []string
		want  string
	}{
		"lines": {[]string{"BT /F1 12 Tf 72 700 Td (Invoice 7) Tj 0 -14 Td (Total: 42 EUR) Tj ET"}, "Invoice 7\nTotal: 42 EUR"},
		"words": {[]string{"BT /F1 10 Tf 1 0 0 1 72 700 Tm [(Hel) 20 (lo) -300 (wor) 10 (ld)] TJ ET"}, "Hello world"},
		"far":   {[]string{"BT /F1 10 Tf 72 700 Td (Name) Tj 200 0 Td (Price) Tj ET"}, "Name Price"},
		"next":  {[]string{"BT /F1 10 Tf 14 TL 72 700 Td (one) Tj T* (two) Tj (three) ' ET"}, "one\ntwo\nthree"},
		"pages": {[]string{"BT /F1 10 Tf (first) Tj ET", "", "BT /F1 10 Tf (third) Tj ET"}, "first\n\nthird"},
		"scan":  {[]string{"q 100 0 0 100 0 0 cm /Im1 Do Q"}, ""},
		"cut":   {[]string{"BT /F1 10 Tf (seen) Tj [(open"}, "seen"},
		"sign":  {[]string{"BT /F1 10 Tf (caf\xe9 \x80 5) Tj ET"}, "café € 5"},
	} {
		got, err := reader(t).Text(t.Context(), pdfOf(row.pages...))
		if err != nil || got != row.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, row.want)
		}
	}
	newer := bytes.Replace(pdfOf("BT /F1 10 Tf (new) Tj ET"), []byte("%PDF-1.4"), []byte("%PDF-2.0"), 1)
	if got, err := reader(t).Text(t.Context(), newer); err != nil || got != "new" {
		t.Errorf("PDF 2.0: %q, %v", got, err)
	}
	long := strings.Repeat("BT /F1 10 Tf 72 700 Td (a long line of text) Tj ET\n", 10_000)
	if got, err := reader(t).Text(t.Context(), pdfOf(long, long)); err != nil || len(got) > MostText || len(got) < MostText/2 {
		t.Errorf("a long one: %d bytes, %v", len(got), err)
	}
}

// What makes the parser take all memory, recurse or panic, or is no PDF, is an error here and ends another process.
func TestBadPDF(t *testing.T) {
	t.Parallel()
	huge := []byte("%PDF-1.5\n1 0 obj\n<< /Type /XRef /Size 2000000000 /W [1 2 1] /Root 1 0 R /Length 0 >>\nstream\n\nendstream\nendobj\nstartxref\n9\n%%EOF\n")
	circle := bytes.Replace(pdfOf("x"), []byte("/Kids [4 0 R]"), []byte("/Kids [2 0 R]"), 1)
	for name, data := range map[string][]byte{
		"no more than a header": []byte("%PDF-1.4\n"), "huge table": huge, "cut": pdfOf("BT (x) Tj ET")[:200],
	} {
		if got, err := reader(t).Text(t.Context(), data); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	soon := reader(t)
	soon.Patience = time.Second
	if got, err := soon.Text(t.Context(), circle); got != "" || err != nil && !errors.Is(err, ErrBroken) {
		t.Errorf("pages in a circle: %q, %v", got, err)
	}
	if _, err := (Reader{}).Text(t.Context(), pdfOf("x")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("without a command: %v", err)
	}
	if _, err := (Reader{Command: []string{"/nowhere/at/all"}}).Text(t.Context(), pdfOf("x")); err == nil || errors.Is(err, ErrBroken) {
		t.Errorf("a command that is not there: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := reader(t).Text(ctx, pdfOf("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no time: %v", err)
	}
}

func TestPlainText(t *testing.T) {
	t.Parallel()
	in := func(e encoding.Encoding, text string) []byte {
		data, err := e.NewEncoder().Bytes([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	const german = "Die Straße führt über den Fluß, und das Mädchen läuft schnell nach Köln."
	russian := "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему."
	japaneseText := "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
	chinese := "道可道，非常道。名可名，非常名。无名天地之始，有名万物之母。"
	for name, row := range map[string]struct {
		data []byte
		want string
	}{
		"UTF-8":             {[]byte("a,b\r\n1,2\r\n"), "a,b\n1,2"},
		"UTF-8 with a mark": {[]byte("\ufeffhello"), "hello"},
		"UTF-16LE":          {in(unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), german), german},
		"UTF-16BE":          {in(unicode.UTF16(unicode.BigEndian, unicode.UseBOM), russian), russian},
		"UTF-16LE bare":     {in(unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), german), german},
		"UTF-16BE bare":     {in(unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), german), german},
		"UTF-32":            {in(utf32.UTF32(utf32.LittleEndian, utf32.UseBOM), german), german},
		"Windows-1252":      {in(charmap.Windows1252, german), german},
		"Windows-1251":      {in(charmap.Windows1251, russian), russian},
		"KOI8-R":            {in(charmap.KOI8R, russian), russian},
		"Shift JIS":         {in(japanese.ShiftJIS, japaneseText), japaneseText},
		"EUC-JP":            {in(japanese.EUCJP, japaneseText), japaneseText},
		"GBK":               {in(simplifiedchinese.GBK, chinese), chinese},
		"empty":             {nil, ""},
	} {
		if got, err := (Reader{}).Text(t.Context(), row.data); err != nil || got != row.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, row.want)
		}
	}
	for name, data := range map[string][]byte{
		"program": append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 500)...), "noise": bytes.Repeat([]byte{1, 2, 0x80, 3, 0xff, 5}, 90), "archive": []byte("PK\x03\x04 and no more"),
	} {
		if got, err := (Reader{}).Text(t.Context(), data); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	long, err := (Reader{}).Text(t.Context(), []byte(strings.Repeat("ä", 10*MostText)))
	if err != nil || len(long) != MostText || !utf8.ValidString(long) {
		t.Errorf("a long text: %d bytes, %v", len(long), err)
	}
}

// wordOf is a Word document with that XML in it.
func wordOf(t testing.TB, body string) []byte {
	return written(t, func(b *bytes.Buffer) error {
		z := zip.NewWriter(b)
		w, err := z.Create("word/document.xml")
		if err != nil {
			return err
		}
		fmt.Fprintf(w, `<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>%s</w:body></w:document>`, body)
		return z.Close()
	})
}

func TestWord(t *testing.T) {
	t.Parallel()
	got, err := reader(t).Text(t.Context(), wordOf(t, "<w:p><w:r><w:t>Dear</w:t></w:r><w:r><w:tab/><w:t xml:space=\"preserve\"> Bob</w:t></w:r></w:p><w:p><w:r><w:instrText>no</w:instrText><w:t>Yours &amp; all</w:t></w:r></w:p>"))
	if want := "Dear\t Bob\nYours & all"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if _, err := reader(t).Text(t.Context(), wordOf(t, "<w:p><w:t>x</w:p>")); !errors.Is(err, ErrBroken) {
		t.Errorf("broken: %v", err)
	}
	if _, err := reader(t).Text(t.Context(), wordOf(t, "<w:p><w:t>x")[:200]); !errors.Is(err, ErrBroken) {
		t.Errorf("cut before its directory: %v", err)
	}
	// Much in little.
	if got, err := reader(t).Text(t.Context(), wordOf(t, "<w:p>"+strings.Repeat("<w:t>aaaaaaaaaaaaaaaa</w:t>", 1<<18)+"</w:p>")); err != nil || len(got) != MostText {
		t.Errorf("a bomb: %d bytes, %v", len(got), err)
	}
}

// Much in little is not unpacked to its end. Not beside others: it measures.
func TestWordBombs(t *testing.T) {
	for name, body := range map[string]string{"depth": strings.Repeat("<a>", mostXML/3), "length": "<a>" + strings.Repeat("a", 64<<20)} {
		data := wordOf(t, body)
		took, err := taken(func() error { _, err := wordText(data); return err })
		if !errors.Is(err, ErrBroken) || took > 80<<20 {
			t.Errorf("%s: %v, and it took %d MiB", name, err, took>>20)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("hello"))
	f.Add([]byte("\xff\xfea\x00"))
	f.Add([]byte("\x00\x00\xfe\xff\x00\x00\x00a"))
	f.Add(wordOf(f, "<w:p><w:t>x</w:t></w:p>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text, err := (Reader{}).Text(t.Context(), data)
		if err != nil && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrBroken) {
			t.Error(err)
		}
		if len(text) > MostText || !utf8.ValidString(text) {
			t.Errorf("%d bytes of text", len(text))
		}
	})
}

// The walk over a page's operators ends, and its panics are its own.
func FuzzPage(f *testing.F) {
	f.Add([]byte("BT /F1 12 Tf 72 700 Td (Invoice 7) Tj 0 -14 Td [(a) -300 (b)] TJ ET"))
	f.Add([]byte("q BT T* ' \" Tm Do Q"))
	f.Fuzz(func(t *testing.T, content []byte) {
		data := pdfOf(string(content))
		doc, err := openPDF(data)
		if err != nil {
			return
		}
		if text := pageText(doc.Page(1), MostText); !utf8.ValidString(text) {
			t.Errorf("text %q", text)
		}
	})
}
