package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/pion/opus"
	"github.com/pion/opus/pkg/oggreader"
)

// Voice is what WhatsApp shows of a voice message before it is played.
type Voice struct {
	Duration time.Duration
	// Waveform is how loud it is from its begin to its end: 64 values from 0 to 100.
	Waveform []byte
}

const (
	// bars is how many values a waveform has, loudest the greatest of them.
	bars    = 64
	loudest = 100
	// rate is Opus' own clock, in samples a second, whatever it was recorded with (RFC 7845, section 4).
	rate = 48_000
	// hearing is the rate at which it is decoded to measure it; longestFrame is the most that a packet holds, in samples at that rate.
	hearing      = 8000
	longestFrame = hearing * 120 / 1000
	// mostPackets bounds a recording: three hours of the usual packets.
	mostPackets = 3 * 60 * 60 * 50
)

// Measure reads a recording, Opus in Ogg (RFC 7845). One of another kind is ErrUnsupported.
func Measure(data []byte) (Voice, error) {
	lasts, levels, err := listen(data, true)
	if err != nil {
		return Voice{}, err
	}
	return Voice{Duration: lasts, Waveform: waveform(levels)}, nil
}

// Duration is how long a recording lasts, Opus in Ogg.
func Duration(data []byte) (time.Duration, error) {
	lasts, _, err := listen(data, false)
	return lasts, err
}

// listen goes through the packets of a recording. levels, if asked for, are how loud each packet is.
func listen(data []byte, measure bool) (lasts time.Duration, levels []float64, err error) {
	defer func() {
		if p := recover(); p != nil { // the library met what it does not know
			err = ErrBroken
		}
	}()
	ogg, header, err := oggreader.NewWith(bytes.NewReader(data))
	if err != nil {
		return 0, nil, ErrUnsupported
	}
	decoder, err := opus.NewDecoderWithOutput(hearing, 1)
	if err != nil {
		return 0, nil, fmt.Errorf("make a decoder: %w", err)
	}
	out := make([]float32, longestFrame)
	packets := 0
	var last, counted uint64
	for {
		packet, page, err := ogg.ParseNextPacket()
		if errors.Is(err, io.EOF) || err != nil && packets > 0 {
			break // cut off: what was there counts
		}
		if err != nil || packets == mostPackets {
			return 0, nil, ErrBroken
		}
		if bytes.HasPrefix(packet, []byte("OpusTags")) {
			continue
		}
		packets++
		if page.GranulePosition != math.MaxUint64 { // no packet ends on the page
			last = max(last, page.GranulePosition)
		}
		n := samples(packet)
		counted += uint64(n)
		if measure {
			levels = append(levels, level(&decoder, packet, out[:n*hearing/rate]))
		}
	}
	if packets == 0 {
		return 0, nil, ErrBroken
	}
	// A recording that was cut out of a longer one does not begin at 0, and some writers leave the position out.
	length := min(counted, last)
	if length == 0 {
		length = counted
	}
	length -= min(length, uint64(header.PreSkip))
	return time.Duration(length) * time.Second / rate, levels, nil
}

// samples is how many samples a packet holds, by its first bytes (RFC 6716, section 3).
func samples(packet []byte) int {
	if len(packet) == 0 {
		return 0
	}
	configuration := packet[0] >> 3
	var frame int // in 2.5 milliseconds
	switch {
	case configuration < 12:
		frame = []int{4, 8, 16, 24}[configuration%4]
	case configuration < 16:
		frame = []int{4, 8}[configuration%2]
	default:
		frame = []int{1, 2, 4, 8}[configuration%4]
	}
	frames := 2
	switch packet[0] & 3 {
	case 0:
		frames = 1
	case 3:
		if frames = 0; len(packet) > 1 {
			frames = int(packet[1] & 0x3f)
		}
	}
	return min(frame*frames, 48) * rate / 400
}

// level is how loud a packet is, its mean power. What cannot be decoded is silence.
func level(d *opus.Decoder, packet []byte, out []float32) float64 {
	if len(out) == 0 {
		return 0
	}
	clear(out)
	if _, _, err := d.DecodeFloat32(packet, out); err != nil {
		return 0
	}
	sum := 0.0
	for _, x := range out {
		sum += float64(x) * float64(x)
	}
	return math.Sqrt(sum / float64(len(out)))
}

// waveform makes bars of levels, the loudest of them of full height.
func waveform(levels []float64) []byte {
	out := make([]byte, bars)
	heights, highest := make([]float64, bars), 0.0
	for i := range heights {
		from := i * len(levels) / bars
		to := max(from+1, (i+1)*len(levels)/bars)
		for _, l := range levels[min(from, len(levels)):min(to, len(levels))] {
			heights[i] = max(heights[i], l)
		}
		highest = max(highest, heights[i])
	}
	if highest == 0 || math.IsNaN(highest) || math.IsInf(highest, 0) {
		return out
	}
	for i, h := range heights {
		out[i] = byte(min(loudest, math.Round(loudest*h/highest)))
	}
	return out
}
