package llm_test

import (
	"bytes"
	"image/png"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/llm"
	"wabot/internal/llmtest"
)

func TestCompleteWithImages(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	jpeg := llm.Media{MIME: "image/jpeg", Data: []byte{0xff, 0xd8, 0xff}}
	got, err := client(s).Complete(t.Context(), llm.Prompt{Messages: []llm.Message{
		{Role: llm.User, Text: "What is this?", Images: []llm.Media{jpeg, {MIME: "image/png; x=y", Data: []byte("p")}}},
	}})
	if err != nil || got.Text != "You said: What is this? (images: 2)" {
		t.Errorf("%q, %v", got.Text, err)
	}
	// A picture needs no words.
	got, err = client(s).Complete(t.Context(), llm.Prompt{Messages: []llm.Message{{Role: llm.User, Images: []llm.Media{jpeg}}}})
	if err != nil || got.Text != "You said:  (images: 1)" {
		t.Errorf("%q, %v", got.Text, err)
	}
	r := s.Requests()
	if m := r[0].Messages[0]; m.Images[0] != "data:image/jpeg;base64,/9j/" || m.Images[1] != "data:image/png;base64,cA==" {
		t.Errorf("asked %+v", m)
	}
}

// What is spoken is heard again.
func TestSpeakAndTranscribe(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	c := client(s)
	voice, err := c.Speak(t.Context(), "Good morning, Ada.", "")
	if err != nil || voice.MIME != "audio/ogg; codecs=opus" {
		t.Fatalf("%s, %v", voice.MIME, err)
	}
	text, err := c.Transcribe(t.Context(), voice, "en")
	if err != nil || text != "Good morning, Ada." {
		t.Errorf("%q, %v", text, err)
	}
	r := s.Requests()
	if r[0].Voice != "alloy" || r[0].Format != "opus" || r[1].File != "voice.ogg" || r[1].Language != "en" || r[1].Model != "test-model" {
		t.Errorf("asked %+v", r)
	}
	if _, err := c.Transcribe(t.Context(), llm.Media{MIME: "audio/mpeg", Data: []byte("x")}, ""); err != nil || s.Requests()[2].File != "voice.mp3" {
		t.Errorf("%v, asked %+v", err, s.Requests()[2])
	}
	// Silence is no error.
	s.Fail(llmtest.Fault{Kind: llmtest.Empty})
	if text, err := c.Transcribe(t.Context(), voice, ""); err != nil || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	got, err := client(s).Image(t.Context(), "a cat", "1024x1024")
	if err != nil || got.MIME != "image/png" {
		t.Fatalf("%s, %v", got.MIME, err)
	}
	if _, err := png.Decode(bytes.NewReader(got.Data)); err != nil {
		t.Error(err)
	}
	if r := s.Requests()[0]; r.Input != "a cat" || r.Size != "1024x1024" || r.Format != "b64_json" {
		t.Errorf("asked %+v", r)
	}
	if _, err := client(s, func(o *llm.Options) { o.Model = "gpt-image-1" }).Image(t.Context(), "a cat", ""); err != nil || s.Requests()[1].Format != "" {
		t.Errorf("%v, asked %+v", err, s.Requests()[1])
	}
}

// The other calls fail and try again as Complete does.
func TestMediaFaults(t *testing.T) {
	t.Parallel()
	calls := map[string]func(*llm.Client) error{
		"transcribe": func(c *llm.Client) error {
			_, err := c.Transcribe(t.Context(), llm.Media{MIME: "audio/ogg", Data: llmtest.Speech("elephant")}, "")
			return err
		},
		"speak": func(c *llm.Client) error { _, err := c.Speak(t.Context(), "my purple elephant", ""); return err },
		"image": func(c *llm.Client) error { _, err := c.Image(t.Context(), "my purple elephant", ""); return err },
	}
	for name, do := range calls {
		for _, row := range []struct {
			fault llmtest.Kind
			kind  llm.Kind
			tries int
		}{
			{llmtest.BadKey, llm.Auth, 1},
			{llmtest.Overloaded, llm.Unavailable, 3},
			{llmtest.HTML, llm.BadAnswer, 1},
			{llmtest.BrokenJSON, "", 0},
			{llmtest.Empty, llm.BadAnswer, 2},
		} {
			s := llmtest.New(t)
			s.Fail(llmtest.Fault{Kind: row.fault})
			err := do(client(s, func(o *llm.Options) { o.MaxRetries = 2 }))
			if row.fault == llmtest.Empty && name == "transcribe" {
				continue // silence, which has a test of its own
			}
			e := kindOf(t, err)
			if row.fault == llmtest.BrokenJSON {
				// To a sound that is an unknown format, to JSON a body that was cut.
				if e.Kind != llm.BadAnswer && e.Kind != llm.Unavailable {
					t.Errorf("%s: %v", name, e)
				}
			} else if e.Kind != row.kind || len(s.Requests()) != row.tries {
				t.Errorf("%s: %d requests, want %d; want %s: %v", name, len(s.Requests()), row.tries, row.kind, e)
			}
			if !strings.HasPrefix(e.Error(), name+" with") || strings.Contains(e.Error(), "elephant") || strings.Contains(e.Error(), key) {
				t.Errorf("%s: %v", name, e)
			}
		}
	}
}

// Drawing takes its time in silence, up to that of the whole call.
func TestImageIsSlow(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		took time.Duration
		fine bool
	}{{4 * time.Minute, true}, {time.Hour, false}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c := inMemory(func(r *http.Request) (*http.Response, error) {
				select {
				case <-time.After(row.took):
					return response(200, nil, `{"data":[{"b64_json":"iVBORw0KGgo="}]}`), nil
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			})
			got, err := c.Image(t.Context(), "a cat", "")
			if row.fine && (err != nil || got.MIME != "image/png") {
				t.Errorf("%+v, %v", got, err)
			}
			if !row.fine && (kindOf(t, err).Kind != llm.Timeout || time.Since(start) != 5*time.Minute) {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		})
	}
}
