package main

import (
	"context"
	"fmt"
	"mime"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/llmtest"
	"wabot/internal/whatsapptest"
)

// attaches KIND WHAT [CAPTION] ...: a person sends something that is no text.
//
//	picture | sticker DESCRIPTION: what the model API draws of it
//	voice | audio WORDS: a recording of them
//	document FILE | pdf LINE | large KILOBYTES | video NAME
//	location 'LATITUDE LONGITUDE NAME' | contact 'NAME NUMBER'
func attaches(ctx context.Context, w *world, p *whatsapptest.Phone, chat types.JID, args []string) error {
	kind, what, caption := args[0], args[1], ""
	if len(args) > 2 {
		caption = args[2]
	}
	d := whatsapptest.Draft{Text: caption}
	switch kind {
	case "picture":
		d.Image = &whatsapptest.Media{Data: llmtest.Picture(what), Mime: "image/png"}
	case "sticker":
		d.Sticker = &whatsapptest.Media{Data: llmtest.Picture(what), Mime: "image/png"}
	case "voice":
		d.Voice = &whatsapptest.Media{Data: llmtest.Speech(what), Mime: "audio/ogg; codecs=opus", Seconds: 1}
	case "audio":
		d.Audio = &whatsapptest.Media{Data: llmtest.Speech(what), Mime: "audio/ogg", Seconds: 1}
	case "video":
		d.Video = &whatsapptest.Media{Data: []byte(what), Mime: "video/mp4"}
	case "document":
		data, err := os.ReadFile(filepath.Join(w.dir, what))
		if err != nil {
			return err
		}
		d.Document = &whatsapptest.Media{Data: data, Mime: mime.TypeByExtension(filepath.Ext(what)), Name: what}
	case "pdf":
		d.Document = &whatsapptest.Media{Data: pdfOf(what), Mime: "application/pdf", Name: "a.pdf"}
	case "large":
		n, err := strconv.Atoi(what)
		if err != nil {
			return err
		}
		d.Document = &whatsapptest.Media{Data: []byte(strings.Repeat("x", n<<10)), Mime: "text/plain", Name: "large.txt"}
	case "location":
		var l whatsapptest.Location
		if _, err := fmt.Sscan(what, &l.Latitude, &l.Longitude, &l.Name); err != nil {
			return err
		}
		d.Location = &l
	case "contact":
		name, number, _ := strings.Cut(what, " ")
		d.Contact = &whatsapptest.Contact{Name: name, VCard: "BEGIN:VCARD\nVERSION:3.0\nFN:" + name + "\nTEL;type=CELL:" + number + "\nEND:VCARD"}
	default:
		return fmt.Errorf("a person cannot attach %q", kind)
	}
	_, err := p.Send(ctx, chat, d)
	return err
}

// pdfOf is a PDF of one page with a line of text.
func pdfOf(line string) []byte {
	content := fmt.Sprintf("BT /F1 12 Tf 72 700 Td (%s) Tj ET", line)
	return pdfWith(fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(content), content))
}

// pdfWith is a PDF of one page with a stream.
func pdfWith(stream string) []byte {
	var b strings.Builder
	var at []int
	b.WriteString("%PDF-1.4\n")
	for i, object := range []string{
		"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		stream,
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
	} {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, object)
	}
	begin := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, n := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", n)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, begin)
	return []byte(b.String())
}
