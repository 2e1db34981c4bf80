package whatsapp

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	_ "image/png" // what models draw

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // the same
	"google.golang.org/protobuf/proto"

	"wabot/internal/chat"
	"wabot/internal/mask"
)

const (
	// mostPixels bounds a picture to decode, in pixels: beyond what any model draws.
	mostPixels = 64 << 20
	// thumbnail is the longer side of a thumbnail, in pixels, as WhatsApp's own apps have it.
	thumbnail = 72
	// uploads is how often an upload is tried: what is uploaded has cost money already.
	uploads = 3
)

// errPicture is the error of a picture that cannot be shown, however often it is tried.
var errPicture = pictureError{}

type pictureError struct{}

func (pictureError) Error() string   { return "the picture is in no format that WhatsApp shows" }
func (pictureError) Permanent() bool { return true }

// Upload puts a picture (JPEG, PNG or WebP) on WhatsApp's media server, from where Send of a part that has it shows it. An error with
// a method Permanent that is true means that this picture cannot be shown.
// PNG and WebP become JPEG: the apps show those in a chat, and it is a fraction of the size.
func (c *Client) Upload(ctx context.Context, picture []byte) (*chat.Picture, error) {
	wm, _ := c.client()
	if wm == nil || !wm.IsLoggedIn() {
		return nil, ErrOffline
	}
	jpegData, img, err := asJPEG(picture)
	if err != nil {
		return nil, fmt.Errorf("upload picture: %w", err)
	}
	size := img.Bounds().Size()
	out := &chat.Picture{MIME: "image/jpeg", Width: size.X, Height: size.Y, Thumbnail: thumb(img)}
	if out.Upload, err = c.upload(ctx, wm, jpegData, whatsmeow.MediaImage); err != nil {
		return nil, fmt.Errorf("upload picture: %w", err)
	}
	return out, nil
}

// UploadVoice puts a voice message, Opus in Ogg, on WhatsApp's media server, from where Send of a part that has it plays it.
func (c *Client) UploadVoice(ctx context.Context, sound []byte, seconds int, waveform []byte) (*chat.VoiceNote, error) {
	wm, _ := c.client()
	if wm == nil || !wm.IsLoggedIn() {
		return nil, ErrOffline
	}
	got, err := c.upload(ctx, wm, sound, whatsmeow.MediaAudio)
	if err != nil {
		return nil, fmt.Errorf("upload voice message: %w", err)
	}
	return &chat.VoiceNote{MIME: "audio/ogg; codecs=opus", Seconds: seconds, Waveform: waveform, Upload: got}, nil
}

// upload encrypts and uploads, in a few tries.
func (c *Client) upload(ctx context.Context, wm *whatsmeow.Client, data []byte, kind whatsmeow.MediaType) (chat.Upload, error) {
	for try := 1; ; try++ {
		got, err := wm.Upload(ctx, data, kind)
		if err == nil {
			return chat.Upload{URL: got.URL, Path: got.DirectPath, Key: got.MediaKey, SHA256: got.FileSHA256, EncSHA256: got.FileEncSHA256, Size: got.FileLength}, nil
		}
		if try == uploads || ctx.Err() != nil {
			return chat.Upload{}, fmt.Errorf("%s: %w", mask.Text(err.Error()), errSend)
		}
		c.Log.Warn("an upload was not taken by WhatsApp's media server; trying again", "try", try, "err", mask.Text(err.Error()))
	}
}

// asJPEG returns the picture as a JPEG, and decoded.
func asJPEG(data []byte) ([]byte, image.Image, error) {
	cfg, kind, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || cfg.Width <= 0 || cfg.Height <= 0 || cfg.Width > mostPixels/cfg.Height {
		return nil, nil, errPicture
	}
	img, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, nil, errPicture
	}
	if kind == "jpeg" {
		return data, img, nil
	}
	// A JPEG has no transparency: what shows through is white.
	opaque := image.NewRGBA(img.Bounds())
	draw.Draw(opaque, opaque.Bounds(), image.White, image.Point{}, draw.Src)
	draw.Draw(opaque, opaque.Bounds(), img, img.Bounds().Min, draw.Over)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, opaque, &jpeg.Options{Quality: 92}); err != nil {
		return nil, nil, errPicture // more than 65,535 pixels on a side
	}
	return b.Bytes(), opaque, nil
}

// thumb is a thumbnail of a picture.
func thumb(img image.Image) []byte {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	longer := max(w, h)
	small := image.NewRGBA(image.Rect(0, 0, max(1, w*thumbnail/longer), max(1, h*thumbnail/longer)))
	draw.ApproxBiLinear.Scale(small, small.Bounds(), img, img.Bounds(), draw.Src, nil)
	var b bytes.Buffer
	// A buffer takes all, and a side of 72 pixels is not too long.
	_ = jpeg.Encode(&b, small, &jpeg.Options{Quality: 50})
	return b.Bytes()
}

// imageMessage builds a picture with its caption, quoting a message or not.
func imageMessage(p chat.Part, quote *chat.Message) *waE2E.Message {
	i := p.Picture
	m := &waE2E.ImageMessage{
		Mimetype: proto.String(i.MIME), Width: proto.Uint32(uint32(i.Width)), Height: proto.Uint32(uint32(i.Height)), JPEGThumbnail: i.Thumbnail,
		URL: proto.String(i.URL), DirectPath: proto.String(i.Path), MediaKey: i.Key, FileSHA256: i.SHA256, FileEncSHA256: i.EncSHA256, FileLength: proto.Uint64(i.Size),
	}
	if p.Text != "" {
		m.Caption = proto.String(p.Text)
	}
	if quote != nil {
		m.ContextInfo = quoting(quote)
	}
	return &waE2E.Message{ImageMessage: m}
}

// voiceMessage builds a voice message, quoting a message or not.
func voiceMessage(p chat.Part, quote *chat.Message) *waE2E.Message {
	v := p.Voice
	m := &waE2E.AudioMessage{
		Mimetype: proto.String(v.MIME), Seconds: proto.Uint32(uint32(v.Seconds)), Waveform: v.Waveform, PTT: proto.Bool(true),
		URL: proto.String(v.URL), DirectPath: proto.String(v.Path), MediaKey: v.Key, FileSHA256: v.SHA256, FileEncSHA256: v.EncSHA256, FileLength: proto.Uint64(v.Size),
	}
	if quote != nil {
		m.ContextInfo = quoting(quote)
	}
	return &waE2E.Message{AudioMessage: m}
}
