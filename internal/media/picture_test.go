package media

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"runtime"
	"testing"
)

var (
	red  = color.RGBA{255, 0, 0, 255}
	blue = color.RGBA{0, 0, 255, 255}
)

// halves is a picture whose left half is red and whose right half is blue.
func halves(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := red
			if x >= w/2 {
				c = blue
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

func written(t testing.TB, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asPNG(t testing.TB, img image.Image) []byte {
	return written(t, func(b *bytes.Buffer) error { return png.Encode(b, img) })
}

func asJPEG(t testing.TB, img image.Image) []byte {
	return written(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) })
}

// withExif puts an orientation into a JPEG, as a camera does.
func withExif(data []byte, order binary.AppendByteOrder, turn int) []byte {
	tiff := []byte("II*\x00")
	if order == binary.BigEndian {
		tiff = []byte("MM\x00*")
	}
	tiff = order.AppendUint32(tiff, 8)
	tiff = order.AppendUint16(tiff, 1)
	tiff = order.AppendUint16(tiff, 0x0112)
	tiff = order.AppendUint16(tiff, 3)
	tiff = order.AppendUint32(tiff, 1)
	tiff = order.AppendUint16(tiff, uint16(turn))
	tiff = append(tiff, 0, 0, 0, 0, 0, 0)
	segment := append([]byte("Exif\x00\x00"), tiff...)
	out := append([]byte{}, data[:2]...)
	out = append(out, 0xff, 0xe1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(segment)+2))
	return append(append(out, segment...), data[2:]...)
}

func shrunk(t *testing.T, data []byte) image.Image {
	t.Helper()
	small, err := reader(t).Shrink(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	img, err := jpeg.Decode(bytes.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func near(a, b color.Color) bool {
	r, g, bl, _ := a.RGBA()
	r2, g2, bl2, _ := b.RGBA()
	d := func(x, y uint32) bool { return max(x, y)-min(x, y) < 0x3000 }
	return d(r, r2) && d(g, g2) && d(bl, bl2)
}

func TestShrink(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		data []byte
		want image.Point
	}{
		"PNG":       {asPNG(t, halves(40, 20)), image.Pt(40, 20)},
		"large":     {asPNG(t, halves(1600, 800)), image.Pt(LongestSide, LongestSide/2)},
		"tall":      {asJPEG(t, halves(20, 3136)), image.Pt(10, LongestSide)},
		"a line":    {asPNG(t, halves(1600, 1)), image.Pt(LongestSide, 1)},
		"GIF":       {written(t, func(b *bytes.Buffer) error { return gif.Encode(b, halves(40, 20), nil) }), image.Pt(40, 20)},
		"with Exif": {withExif(asJPEG(t, halves(40, 20)), binary.LittleEndian, 1), image.Pt(40, 20)},
	} {
		img := shrunk(t, row.data)
		w, h := img.Bounds().Dx(), img.Bounds().Dy()
		if img.Bounds().Size() != row.want || !near(img.At(w/5, h/2), red) || !near(img.At(w-1-w/5, h/2), blue) {
			t.Errorf("%s: %v, want %v, %v %v", name, img.Bounds(), row.want, img.At(w/5, h/2), img.At(w-1-w/5, h/2))
		}
	}
	// A JPEG that needs nothing is left as it is, and what is transparent becomes white.
	plain := asJPEG(t, halves(40, 20))
	if same, err := reader(t).Shrink(t.Context(), plain); err != nil || !bytes.Equal(same, plain) {
		t.Errorf("a JPEG was changed: %v", err)
	}
	if img := shrunk(t, asPNG(t, image.NewNRGBA(image.Rect(0, 0, 9, 9)))); !near(img.At(4, 4), color.White) {
		t.Errorf("what is transparent became %v", img.At(4, 4))
	}
	// Where a picture was taken stays with whoever took it.
	if small, err := reader(t).Shrink(t.Context(), withExif(plain, binary.BigEndian, 1)); err != nil || bytes.Contains(small, []byte("Exif")) {
		t.Errorf("the camera's data are passed on: %v", err)
	}
}

// A red mark in the left upper corner is where the camera's orientation says.
func TestOrientation(t *testing.T) {
	t.Parallel()
	img := image.NewRGBA(image.Rect(0, 0, 80, 48))
	for y := range 48 {
		for x := range 80 {
			img.SetRGBA(x, y, blue)
			if x < 24 && y < 24 {
				img.SetRGBA(x, y, red)
			}
		}
	}
	data := asJPEG(t, img)
	for turn, want := range map[int]image.Point{1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {0, 1}, 5: {0, 0}, 6: {1, 0}, 7: {1, 1}, 8: {0, 1}} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			got := shrunk(t, withExif(data, order, turn))
			size := image.Pt(80, 48)
			if turn >= 5 {
				size = image.Pt(48, 80)
			}
			for corner := range 4 {
				at := image.Pt(corner%2, corner/2)
				c := got.At(8+at.X*(size.X-17), 8+at.Y*(size.Y-17))
				if got.Bounds().Size() != size || near(c, red) != (at == want) {
					t.Errorf("orientation %d: size %v, corner %v is %v", turn, got.Bounds().Size(), at, c)
				}
			}
		}
	}
	if turn, exif := orientation(data); turn != upright || exif {
		t.Errorf("without a camera's data: %d, %v", turn, exif)
	}
	if turn, _ := orientation(withExif(data, binary.BigEndian, 99)); turn != upright {
		t.Errorf("an orientation that there is not: %d", turn)
	}
}

// dot is a WebP of one pixel.
var dot, _ = base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")

// moving is a WebP that shows dot twice.
func moving() []byte { return movingOf(make([]byte, 16), dot[12:]) }

// movingOf is one that shows a picture twice, by the header and the chunk of its frame.
func movingOf(header, picture []byte) []byte {
	var frame, all, out bytes.Buffer
	frame.Write(header)
	frame.Write(picture)
	all.WriteString("WEBP")
	chunk(&all, "VP8X", []byte{1 << 1, 0, 0, 0, 9, 0, 0, 9, 0, 0})
	chunk(&all, "ANIM", make([]byte, 6))
	chunk(&all, "ANMF", frame.Bytes())
	chunk(&all, "ANMF", frame.Bytes())
	chunk(&out, "RIFF", all.Bytes())
	return out.Bytes()
}

func TestStickers(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"still": dot, "moving": moving()} {
		if img := shrunk(t, data); img.Bounds().Size() != image.Pt(1, 1) {
			t.Errorf("%s: %v", name, img.Bounds())
		}
	}
}

func TestNoPicture(t *testing.T) {
	t.Parallel()
	huge := asPNG(t, halves(30, 30))
	copy(huge[16:], []byte{0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff}) // its width and height
	binary.BigEndian.PutUint32(huge[29:], crc32.ChecksumIEEE(huge[12:29]))
	whole := asJPEG(t, halves(300, 300))
	for name, row := range map[string]struct {
		data []byte
		want error
	}{
		"nothing": {nil, ErrUnsupported}, "text": {[]byte("no picture"), ErrUnsupported}, "huge": {huge, ErrBroken},
		"half a PNG": {asPNG(t, halves(30, 30))[:60], ErrBroken}, "half a JPEG": {whole[:len(whole)/2], ErrBroken}, "Lottie": {[]byte("PK\x03\x04"), ErrUnsupported},
	} {
		if _, err := reader(t).Shrink(t.Context(), row.data); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

// grayPNG is a whole picture of one gray, with a bit for a pixel.
func grayPNG(t testing.TB, w, h int) []byte {
	return written(t, func(b *bytes.Buffer) error {
		return png.Encode(b, &image.Paletted{Palette: color.Palette{color.Black, color.White}, Stride: 0, Pix: make([]uint8, w), Rect: image.Rect(0, 0, w, h)})
	})
}

// What says that it is huge, wherever it says so, is refused before memory is taken for it. Not beside others: it measures.
func TestHugePictures(t *testing.T) {
	// A lossless WebP of 16,384 by 16,384 in one colour; a frame of that size in a canvas of 10 by 10.
	lossless := chunked("VP8L", append([]byte{0x2f, 0xff, 0xff, 0xff, 0x0f, 0x88, 0x88, 0x08}, make([]byte, 16)...))
	frame := []byte{0, 0, 0, 0, 0, 0, 0xff, 0x3f, 0, 0xff, 0x3f, 0, 0, 0, 0, 0}
	for name, data := range map[string][]byte{
		"PNG": grayPNG(t, 5200, 5200), "a line": grayPNG(t, 4<<20, 1), "a column": grayPNG(t, 1, 4<<20),
		"WebP": chunked("RIFF", append([]byte("WEBP"), lossless...)), "a WebP that moves": movingOf(frame, lossless),
	} {
		took, err := taken(func() error { _, err := shrink(data); return err })
		if !errors.Is(err, ErrBroken) || took > 4<<20 {
			t.Errorf("%s: %v, and it took %d MiB", name, err, took>>20)
		}
	}
}

// taken is how much memory f takes from first to last, in bytes.
func taken(f func() error) (uint64, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, err
}

// chunked is one chunk of a RIFF file.
func chunked(id string, body []byte) []byte {
	var b bytes.Buffer
	chunk(&b, id, body)
	return b.Bytes()
}

func FuzzShrink(f *testing.F) {
	for _, data := range [][]byte{dot, moving(), asPNG(f, halves(4, 2)), withExif(asJPEG(f, halves(4, 2)), binary.LittleEndian, 6), withExif(asJPEG(f, halves(4, 2)), binary.BigEndian, 3)} {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if cfg, _, err := image.DecodeConfig(bytes.NewReader(data)); err == nil && cfg.Width*cfg.Height > 1<<20 {
			return // it would only take long
		}
		small, err := shrink(data)
		if err != nil {
			return
		}
		cfg, kind, err := image.DecodeConfig(bytes.NewReader(small))
		if err != nil || kind != "jpeg" || max(cfg.Width, cfg.Height) > LongestSide {
			t.Errorf("%s %v: %v", kind, cfg, err)
		}
	})
}
