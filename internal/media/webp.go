package media

import (
	"bytes"
	"encoding/binary"
)

// still is a WebP that shows the first picture of one that moves, as many stickers do: the decoder knows no others. What
// is not such a WebP is returned as it is. (RFC 9649, section 2.7.)
func still(data []byte) []byte {
	const moves, hasAlpha = 1 << 1, 1 << 4
	if len(data) < 12 || !bytes.HasPrefix(data, []byte("RIFF")) || !bytes.HasPrefix(data[8:], []byte("WEBP")) {
		return data
	}
	first := true
	for id, body := range chunks(data[12:]) {
		if first && (id != "VP8X" || len(body) < 10 || body[0]&moves == 0) {
			return data
		}
		first = false
		if id != "ANMF" || len(body) < 16 {
			continue
		}
		// Where the picture is, its size, how long it is shown; then its chunks.
		header := make([]byte, 10)
		copy(header[4:], body[6:12])
		var picture bytes.Buffer
		for id, part := range chunks(body[16:]) {
			switch id {
			case "ALPH":
				header[0] |= hasAlpha
			case "VP8 ", "VP8L":
			default:
				continue
			}
			chunk(&picture, id, part)
		}
		var all bytes.Buffer
		all.WriteString("WEBP")
		chunk(&all, "VP8X", header)
		all.Write(picture.Bytes())
		var out bytes.Buffer
		chunk(&out, "RIFF", all.Bytes())
		return out.Bytes()
	}
	return data
}

// chunks are the whole chunks of a RIFF file, in order.
func chunks(data []byte) func(yield func(id string, body []byte) bool) {
	return func(yield func(string, []byte) bool) {
		for len(data) >= 8 {
			n := uint64(binary.LittleEndian.Uint32(data[4:]))
			if n > uint64(len(data)-8) || !yield(string(data[:4]), data[8:8+n]) {
				return
			}
			data = data[min(uint64(len(data)), 8+n+n%2):]
		}
	}
}

func chunk(out *bytes.Buffer, id string, body []byte) {
	out.WriteString(id)
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(body))))
	out.Write(body)
	if len(body)%2 != 0 {
		out.WriteByte(0)
	}
}
