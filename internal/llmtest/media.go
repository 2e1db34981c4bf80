package llmtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"net/http"
	"strings"
)

// Hear is the text that Speech was made of, or else a sentence that tells the sounds' size.
func Hear(r Request) string {
	if _, text, ok := bytes.Cut(r.Audio, []byte(spoken)); ok {
		before := r.Audio[:len(r.Audio)-len(text)-len(spoken)]
		if len(before) >= 4 {
			// The comment's length stands before it.
			n := int(binary.LittleEndian.Uint32(before[len(before)-4:])) - len(spoken)
			if n >= 0 && n <= len(text) {
				return string(text[:n])
			}
		}
	}
	return fmt.Sprintf("I heard %d bytes.", len(r.Audio))
}

// spoken begins the comment that keeps a text in the sound made of it.
const spoken = "TEXT="

// vendor is who encoded the sound.
const vendor = "llmtest"

// maxSpoken is the longest text to speak, in bytes; OpenAI takes 4,096 characters.
const maxSpoken = 4096

func readInput(r *http.Request) (Request, error) {
	var body struct {
		Model, Input, Prompt, Voice, Size string
		ResponseFormat                    string `json:"response_format"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(&body); err != nil {
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	req := Request{Model: body.Model, Input: body.Input + body.Prompt, Voice: body.Voice, Size: body.Size, Format: body.ResponseFormat}
	if req.Input == "" {
		return Request{}, errors.New("missing required parameter: 'input' or 'prompt'")
	}
	return req, nil
}

// readForm reads Stability's request.
func readForm(r *http.Request) (Request, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, maxBody)
	req := Request{Model: r.PathValue("model"), Input: r.FormValue("prompt"), Format: r.FormValue("output_format")}
	if req.Input == "" {
		return Request{}, errors.New("prompt: is required")
	}
	return req, nil
}

// readInputs reads Hugging Face's request.
func readInputs(r *http.Request) (Request, error) {
	var body struct{ Inputs string }
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody)).Decode(&body); err != nil {
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	if body.Inputs == "" {
		return Request{}, errors.New("inputs: is required")
	}
	return Request{Model: r.PathValue("owner") + "/" + r.PathValue("model"), Input: body.Inputs}, nil
}

func readAudio(r *http.Request) (Request, error) {
	r.Body = http.MaxBytesReader(nil, r.Body, maxBody)
	file, header, err := r.FormFile("file")
	if err != nil {
		return Request{}, fmt.Errorf("read the audio: %w", err)
	}
	defer file.Close()
	audio, err := io.ReadAll(file)
	if err != nil {
		return Request{}, fmt.Errorf("read the audio: %w", err)
	}
	return Request{
		Model: r.FormValue("model"), Language: r.FormValue("language"), Format: r.FormValue("response_format"),
		Audio: audio, File: header.Filename,
	}, nil
}

// transcribe answers with the text that is in the audio.
func (s *Server) transcribe(o *reply, req Request) {
	hear := Hear
	if s.Transcript != nil {
		hear = s.Transcript
	}
	text := hear(req)
	if o.fault.Kind == Empty {
		text = ""
	}
	o.json(http.StatusOK, map[string]any{"text": text})
}

// speak answers with an Ogg Opus file, whatever the format asked for; see Speech.
func (s *Server) speak(o *reply, req Request) {
	if len(req.Input) > maxSpoken {
		o.fail(http.StatusBadRequest, "invalid_request_error", "string_above_max_length", "The input is too long.")
		return
	}
	if o.fault.Kind == Empty {
		o.json(http.StatusOK, map[string]any{})
		return
	}
	o.w.Header().Set("Content-Type", "audio/ogg")
	// The client may have gone, which is its own affair.
	_, _ = o.w.Write(Speech(req.Input))
}

// picture answers with a PNG of one colour, which depends on the description.
func (s *Server) picture(o *reply, req Request) {
	if o.fault.Kind == Empty {
		o.json(http.StatusOK, map[string]any{"created": 1, "data": []any{}})
		return
	}
	o.json(http.StatusOK, map[string]any{"created": 1, "data": []any{
		map[string]any{"b64_json": base64.StdEncoding.EncodeToString(Picture(req.Input))},
	}})
}

// bare answers with the picture itself, as Stability and Hugging Face do.
func (s *Server) bare(o *reply, req Request) {
	o.w.Header().Set("Content-Type", "image/png")
	if o.fault.Kind == Empty {
		return
	}
	// The client may have gone, which is its own affair.
	_, _ = o.w.Write(Picture(req.Input))
}

// Picture is the PNG that is drawn of a description.
func Picture(description string) []byte {
	h := fnv.New32a()
	_, _ = io.WriteString(h, description)
	sum := h.Sum32()
	img := image.NewRGBA(image.Rect(0, 0, 64, 64))
	draw.Draw(img, img.Bounds(), image.NewUniform(color.RGBA{byte(sum), byte(sum >> 8), byte(sum >> 16), 255}), image.Point{}, draw.Src)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err) // a buffer takes all
	}
	return b.Bytes()
}

// framesPerWord is how long a word takes, in 20 milliseconds.
const framesPerWord = 15

// loud is 20 milliseconds of a sound, in Opus: bytes that were tried out.
var loud = []byte{0xf8, 0xa4, 0x2d, 0xac, 0xf4, 0x0e, 0x29, 0xde, 0x3c, 0xa0, 0x53, 0x29, 0x66, 0x38, 0x0f, 0x31, 0x5e, 0xae, 0xa2, 0xec}

// Speech is a voice message without a voice: a playable Ogg Opus file (RFC 7845), 300 milliseconds for each word of
// the text, by turns 60 of a sound and 40 of silence, with the text, or the first 60,000 bytes of it, in a comment, where Hear finds it.
func Speech(text string) []byte {
	text = text[:min(len(text), 60_000)] // a page holds 65,025
	const preSkip, frame = 312, 960      // in samples at 48 kHz; a frame is 20 milliseconds
	head := append([]byte("OpusHead"), 1, 1)
	head = binary.LittleEndian.AppendUint16(head, preSkip)
	head = binary.LittleEndian.AppendUint32(head, 48000)
	head = append(head, 0, 0, 0) // no gain, one channel

	tags := []byte("OpusTags")
	tags = binary.LittleEndian.AppendUint32(tags, uint32(len(vendor)))
	tags = append(tags, vendor...)
	tags = binary.LittleEndian.AppendUint32(tags, 1) // comments
	tags = binary.LittleEndian.AppendUint32(tags, uint32(len(spoken+text)))
	tags = append(tags, spoken+text...)

	out := oggPage(nil, 0, 0x02, 0, [][]byte{head})
	out = oggPage(out, 1, 0, 0, [][]byte{tags})
	words := max(1, len(strings.Fields(text)))
	// A decoder takes a while to begin, so one frame more makes the length right; what is too much of it is said by the last position.
	frames := framesPerWord*words + 1
	end := uint64(preSkip + framesPerWord*words*frame)
	granule := uint64(0)
	for page := uint32(2); frames > 0; page++ {
		n := min(frames, 50)
		frames -= n
		granule = min(granule+uint64(n)*frame, end)
		packets := make([][]byte, n)
		for i := range packets {
			packets[i] = []byte{0xf8, 0xff, 0xfe} // silence, 20 milliseconds, mono
			if (page-2)*50+uint32(i) < uint32(words*framesPerWord) && i%5 < 3 {
				packets[i] = loud
			}
		}
		var flags byte
		if frames == 0 {
			flags = 0x04
		}
		out = oggPage(out, page, flags, granule, packets)
	}
	return out
}

// oggPage appends a page (RFC 3533, section 6) with whole packets, which must take at most 255 segments.
func oggPage(out []byte, number uint32, flags byte, granule uint64, packets [][]byte) []byte {
	var lacing, data []byte
	for _, p := range packets {
		for n := len(p); ; n -= 255 {
			lacing = append(lacing, byte(min(n, 255)))
			if n < 255 {
				break
			}
		}
		data = append(data, p...)
	}
	page := append([]byte("OggS"), 0, flags)
	page = binary.LittleEndian.AppendUint64(page, granule)
	page = binary.LittleEndian.AppendUint32(page, 1) // the stream's number
	page = binary.LittleEndian.AppendUint32(page, number)
	page = append(page, 0, 0, 0, 0, byte(len(lacing)))
	page = append(append(page, lacing...), data...)
	var crc uint32
	for _, b := range page {
		crc ^= uint32(b) << 24
		for range 8 {
			if crc&(1<<31) != 0 {
				crc = crc<<1 ^ 0x04c11db7
			} else {
				crc <<= 1
			}
		}
	}
	binary.LittleEndian.PutUint32(page[22:], crc)
	return append(out, page...)
}
