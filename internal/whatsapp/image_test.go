package whatsapp

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"

	"wabot/internal/chat"
)

func filled(w, h int, c color.Color) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, c)
		}
	}
	return img
}

func encoded(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A PNG becomes a JPEG, white where it was transparent; a JPEG stays as it is.
func TestAsJPEG(t *testing.T) {
	t.Parallel()
	data, img, err := asJPEG(encoded(t, filled(40, 20, color.NRGBA{})))
	if err != nil || img.Bounds().Size() != image.Pt(40, 20) {
		t.Fatal(err)
	}
	shown, kind, err := image.Decode(bytes.NewReader(data))
	if err != nil || kind != "jpeg" {
		t.Fatal(kind, err)
	}
	if r, g, b, _ := shown.At(5, 5).RGBA(); r>>8 < 250 || g>>8 < 250 || b>>8 < 250 {
		t.Errorf("what is transparent became %d %d %d", r>>8, g>>8, b>>8)
	}
	if again, _, err := asJPEG(data); err != nil || !bytes.Equal(again, data) {
		t.Errorf("a JPEG was changed: %v", err)
	}
}

func TestBadPictures(t *testing.T) {
	t.Parallel()
	whole := encoded(t, filled(30, 30, color.White))
	huge := bytes.Clone(whole)
	copy(huge[16:], []byte{0, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff}) // its width and height
	for name, data := range map[string][]byte{"nothing": nil, "text": []byte("no picture"), "cut": whole[:60], "huge": huge} {
		if _, _, err := asJPEG(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestThumbnail(t *testing.T) {
	t.Parallel()
	for _, size := range []image.Point{{1024, 512}, {1, 1000}, {10, 10}} {
		small, err := jpeg.Decode(bytes.NewReader(thumb(filled(size.X, size.Y, color.White))))
		if err != nil {
			t.Fatal(err)
		}
		if got := small.Bounds().Size(); max(got.X, got.Y) != thumbnail || min(got.X, got.Y) < 1 {
			t.Errorf("%v became %v", size, got)
		}
	}
}

func TestImageMessage(t *testing.T) {
	t.Parallel()
	p := chat.Part{Text: "a cat", Picture: &chat.Picture{MIME: "image/jpeg", Width: 3, Height: 4, Upload: chat.Upload{Size: 5, Path: "/p", Key: []byte("k")}}}
	m := imageMessage(p, &chat.Message{ID: "Q", Sender: "1@lid", Text: "!dalle a cat"}).GetImageMessage()
	if m.GetCaption() != "a cat" || m.GetWidth() != 3 || m.GetHeight() != 4 || m.GetFileLength() != 5 || m.GetDirectPath() != "/p" || m.GetContextInfo().GetStanzaID() != "Q" {
		t.Errorf("got %v", m)
	}
	if m := imageMessage(chat.Part{Picture: p.Picture}, nil).GetImageMessage(); m.Caption != nil || m.ContextInfo != nil {
		t.Errorf("got %v", m)
	}
}

func TestVoiceMessage(t *testing.T) {
	t.Parallel()
	p := chat.Part{Text: "hello", Voice: &chat.VoiceNote{MIME: "audio/ogg; codecs=opus", Seconds: 7, Waveform: []byte{1, 2}, Upload: chat.Upload{Size: 5, Path: "/p", Key: []byte("k")}}}
	m := voiceMessage(p, &chat.Message{ID: "Q", Sender: "1@lid"}).GetAudioMessage()
	if !m.GetPTT() || m.GetSeconds() != 7 || len(m.GetWaveform()) != 2 || m.GetFileLength() != 5 || m.GetDirectPath() != "/p" || m.GetContextInfo().GetStanzaID() != "Q" {
		t.Errorf("got %v", m)
	}
	if m := voiceMessage(p, nil).GetAudioMessage(); m.ContextInfo != nil {
		t.Errorf("got %v", m)
	}
}
