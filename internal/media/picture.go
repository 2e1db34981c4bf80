package media

import (
	"bytes"
	"fmt"
	"image"
	_ "image/gif" // a moving one shows its first picture
	"image/jpeg"
	_ "image/png" // the kinds that people send
	"runtime"

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

// shrink is what Shrink makes of a picture.
func shrink(data []byte) ([]byte, error) {
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
			_, err := decode(data) // half a picture is an error here, and not at the model's
			return data, err
		}
	}
	img, err := decode(data)
	if err != nil {
		return nil, err
	}
	runtime.GC() // shrinking may take as much as decoding has; both at once are too much
	var b bytes.Buffer
	if err := jpeg.Encode(&b, turned(small(img), turn), &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return b.Bytes(), nil
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
