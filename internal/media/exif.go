package media

import (
	"bytes"
	"encoding/binary"
	"image"
)

// upright is Exif's orientation of a picture that is as it is to be seen.
const upright = 1

// orientation reads how the camera was held (Exif 2.32, section 4.6.4, tag 0x0112) from the segments of a JPEG before its
// picture. exif tells whether there are any data of a camera.
func orientation(data []byte) (turn int, exif bool) {
	for pos := 2; pos+4 <= len(data) && data[pos] == 0xff; {
		marker, n := data[pos+1], int(binary.BigEndian.Uint16(data[pos+2:]))
		if marker == 0xda || n < 2 || pos+2+n > len(data) {
			break // the picture begins
		}
		segment := data[pos+4 : pos+2+n]
		if tiff, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00")); ok && marker == 0xe1 {
			return orientationTag(tiff), true
		}
		pos += 2 + n
	}
	return upright, false
}

// orientationTag looks through the first directory of a TIFF structure.
func orientationTag(tiff []byte) int {
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	const entry = 12
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return upright
	}
	directory := tiff[at:]
	for i := range int(order.Uint16(directory)) {
		begin := 2 + i*entry
		if begin+entry > len(directory) {
			break
		}
		e := directory[begin : begin+entry]
		if order.Uint16(e) == 0x0112 {
			if v := int(order.Uint16(e[8:])); v >= 1 && v <= 8 {
				return v
			}
			break
		}
	}
	return upright
}

// turned is img as it is to be seen.
func turned(img *image.RGBA, turn int) *image.RGBA {
	if turn == upright {
		return img
	}
	w, h := img.Rect.Dx(), img.Rect.Dy()
	size := image.Rect(0, 0, w, h)
	if turn >= 5 {
		size = image.Rect(0, 0, h, w)
	}
	out := image.NewRGBA(size)
	for y := range size.Dy() {
		for x := range size.Dx() {
			// Where in img the point is that is seen at x, y.
			fx, fy := x, y
			switch turn {
			case 2:
				fx = w - 1 - x
			case 3:
				fx, fy = w-1-x, h-1-y
			case 4:
				fy = h - 1 - y
			case 5:
				fx, fy = y, x
			case 6:
				fx, fy = y, h-1-x
			case 7:
				fx, fy = w-1-y, h-1-x
			case 8:
				fx, fy = w-1-y, x
			}
			copy(out.Pix[out.PixOffset(x, y):][:4], img.Pix[img.PixOffset(fx, fy):][:4])
		}
	}
	return out
}
