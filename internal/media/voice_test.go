package media

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"wabot/internal/llmtest"
)

// A word takes 300 milliseconds, 60 of a sound and 40 of silence by turns.
func TestMeasure(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"one": 300, "one two": 600, "a b c d e f g h i j": 3000} {
		v, err := Measure(llmtest.Speech(text))
		if err != nil || v.Duration != want*time.Millisecond {
			t.Errorf("%q: %v, %v", text, v.Duration, err)
		}
		if len(v.Waveform) != 64 || slices.Max(v.Waveform) != 100 || v.Waveform[0] < 50 || slices.Min(v.Waveform) > 30 {
			t.Errorf("%q: waveform %v", text, v.Waveform)
		}
		if d, err := Duration(llmtest.Speech(text)); d != v.Duration || err != nil {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
}

func TestMeasureOthers(t *testing.T) {
	t.Parallel()
	whole := llmtest.Speech("one two three four five six seven eight nine ten")
	// What is cut off counts as far as it goes.
	if d, err := Duration(whole[:len(whole)-100]); err != nil || d <= 0 || d >= 3*time.Second {
		t.Errorf("cut off: %v, %v", d, err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "MP3": []byte("ID3\x03 and so on and on, longer than a page's header"), "no packets": whole[:60]} {
		if _, err := Measure(data); !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSamples(t *testing.T) {
	t.Parallel()
	for want, packet := range map[int][]byte{
		0: nil, 480: {0x00}, 2880: {0x18}, 960: {0xf8}, 1920: {0xf9}, 120: {0x80}, 2400: {0xe3, 20}, 5760: {0x1b, 63},
	} {
		if got := samples(packet); got != want {
			t.Errorf("%x: %d, want %d", packet, got, want)
		}
	}
}

func TestWaveform(t *testing.T) {
	t.Parallel()
	levels := make([]float64, 640)
	for i := range levels {
		levels[i] = float64(i/10) / 63
	}
	got := waveform(levels)
	for i, h := range got {
		if want := byte((i*200 + 63) / 126); h != want {
			t.Fatalf("bar %d is %d, want %d", i, h, want)
		}
	}
	if got := waveform(nil); !bytes.Equal(got, make([]byte, bars)) {
		t.Errorf("nothing: %v", got)
	}
	if got := waveform([]float64{1}); !bytes.Equal(got, bytes.Repeat([]byte{100}, bars)) {
		t.Errorf("one level: %v", got)
	}
}

func FuzzMeasure(f *testing.F) {
	f.Add(llmtest.Speech("one two"))
	f.Add([]byte("OggS"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Measure(data)
		if err == nil && (v.Duration < 0 || len(v.Waveform) != bars || slices.Max(v.Waveform) > loudest) {
			t.Errorf("%+v", v)
		}
	})
}
