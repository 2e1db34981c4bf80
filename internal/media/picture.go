package media

import (
	"bytes"
	"fmt"
	"image"
	_ "image/gif" // a moving one shows its first picture
	"image/jpeg"
	_ "image/png" // the kinds that people send
	"sync"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // stickers, too
)

const (
	// mostPixels bounds a picture to decode: what a phone's camera takes, and no more. It may take 12 bytes and more for each.
	mostPixels = 25 << 20
	// mostSide bounds each side, in pixels, as most kinds do themselves: shrinking takes memory for the longer one.
	mostSide = 1 << 16
	// LongestSide is the longer side of a shrunk picture, in pixels: what the larger models shrink pictures to themselves.
	LongestSide = 1568
	// plain is the size, in bytes, up to which a JPEG that needs no change is left as it is.
	plain   = 1 << 20
	quality = 85
)

// decoding lets one picture be decoded at a time: each may take much memory, and many chats are answered at once.
var decoding sync.Mutex

// Shrink makes a JPEG of a picture (JPEG, PNG, WebP or GIF), upright and with no side longer than LongestSide. Of one
// that moves it is the first picture; what is transparent is white. What a camera has written beside the picture, such as where it was
// taken, does not stay.
func Shrink(data []byte) ([]byte, error) {
	data = still(data)
	// The whole is checked by its header before memory is taken for it.
	cfg, kind, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, ErrUnsupported
	}
	if cfg.Width <= 0 || cfg.Height <= 0 || max(cfg.Width, cfg.Height) > mostSide || cfg.Width > mostPixels/cfg.Height {
		return nil, fmt.Errorf("%w: a picture of %d x %d", ErrBroken, cfg.Width, cfg.Height)
	}
	turn := upright
	if kind == "jpeg" {
		var exif bool
		turn, exif = orientation(data)
		if !exif && len(data) <= plain && max(cfg.Width, cfg.Height) <= LongestSide {
			return data, checkJPEG(data)
		}
	}
	decoding.Lock()
	defer decoding.Unlock()
	img, err := decode(data)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, turned(small(img), turn), &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return b.Bytes(), nil
}

// checkJPEG decodes a JPEG that is passed on as it is: half a picture is an error here, and not at the model's.
func checkJPEG(data []byte) error {
	decoding.Lock()
	defer decoding.Unlock()
	_, err := decode(data)
	return err
}

// decode decodes a picture. A decoder that panics has met something that is no picture.
func decode(data []byte) (img image.Image, err error) {
	defer func() {
		if p := recover(); p != nil {
			img, err = nil, ErrBroken
		}
	}()
	img, _, err = image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, ErrBroken
	}
	return img, nil
}

// small is img on white, shrunk where it is too large.
func small(img image.Image) *image.RGBA {
	from := img.Bounds()
	w, h := from.Dx(), from.Dy()
	if longer := max(w, h); longer > LongestSide {
		w, h = max(1, w*LongestSide/longer), max(1, h*LongestSide/longer)
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(out, out.Bounds(), image.White, image.Point{}, draw.Src)
	if from.Size() == out.Bounds().Size() {
		draw.Draw(out, out.Bounds(), img, from.Min, draw.Over)
	} else {
		draw.CatmullRom.Scale(out, out.Bounds(), img, from, draw.Over, nil)
	}
	return out
}
