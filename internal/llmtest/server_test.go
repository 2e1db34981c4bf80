package llmtest_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wabot/internal/llmtest"
)

// post sends a body and returns the status and the whole answer; err is set where the answer broke off.
func post(t *testing.T, s *llmtest.Server, body string) (int, string, error) {
	t.Helper()
	resp, err := http.Post(s.URL()+"/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

const (
	whole    = `{"model":"m","messages":[{"role":"user","content":"good morning"}]}`
	streamed = `{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}`
)

func TestChat(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	_, body, err := post(t, s, whole)
	if err != nil || !strings.Contains(body, `"content":"You said: good morning"`) || !strings.Contains(body, `"prompt_tokens":2`) {
		t.Errorf("%s, %v", body, err)
	}
	_, body, err = post(t, s, streamed)
	var text strings.Builder
	for event := range strings.SplitSeq(body, "\n\n") {
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if data := strings.TrimPrefix(event, "data: "); data != "[DONE]" && data != "" {
			if err := json.Unmarshal([]byte(data), &chunk); err != nil {
				t.Errorf("event %q: %v", event, err)
			}
		}
		for _, c := range chunk.Choices {
			text.WriteString(c.Delta.Content)
		}
	}
	if err != nil || text.String() != "You said: look (images: 1)" || !strings.HasSuffix(body, "data: [DONE]\n\n") || !strings.Contains(body, `"usage"`) {
		t.Errorf("%s, %v", body, err)
	}
	if r := s.Requests()[1]; !r.Stream || r.Messages[0].Images[0] != "data:image/png;base64,AA==" {
		t.Errorf("kept %+v", r)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := &llmtest.Server{Models: []string{"m"}, Key: "k"}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if status, body, err := post(t, s, whole); status != 401 || !strings.Contains(body, "invalid_api_key") {
		t.Errorf("%d %s, %v", status, body, err)
	}
	s = &llmtest.Server{Models: []string{"other"}}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for body, want := range map[string]int{
		whole:                         404,
		"{":                           400,
		`{"model":"m","messages":[]}`: 400,
		`{"model":"m","messages":[{"role":"king","content":"x"}]}`: 400,
		`{"model":"m","messages":[{"role":"user"}]}`:               400,
		`{"messages":[{"role":"user","content":"x"}]}`:             400,
	} {
		if status, got, err := post(t, s, body); status != want {
			t.Errorf("%s: %d %s, %v; want %d", body, status, got, err, want)
		}
	}
}

func TestFaultTimes(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Fail(llmtest.Fault{Kind: llmtest.RateLimited, Times: 2, RetryAfter: 7 * time.Second})
	for i, want := range []int{429, 429, 200} {
		if status, body, err := post(t, s, whole); status != want {
			t.Errorf("request %d: %d %s, %v", i, status, body, err)
		}
	}
	s.Fail(llmtest.Fault{Kind: llmtest.Internal})
	for range 3 {
		if status, body, err := post(t, s, whole); status != 500 {
			t.Errorf("%d %s, %v", status, body, err)
		}
	}
	s.Fail(llmtest.Fault{Kind: llmtest.CutStream, After: 1})
	if _, body, err := post(t, s, streamed); err == nil || !strings.Contains(body, "You") || strings.Contains(body, "said") {
		t.Errorf("%s, %v", body, err)
	}
}

func TestDownAndUp(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	url := s.URL()
	s.Down()
	if _, _, err := post(t, s, whole); err == nil {
		t.Error("a server that is down answered")
	}
	if l, err := net.Listen("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/v1")); err == nil {
		t.Error("another can take the port of a server that is down")
		l.Close()
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	if status, _, err := post(t, s, whole); status != 200 || s.URL() != url {
		t.Errorf("%d, %v at %s, was %s", status, err, s.URL(), url)
	}
}

// A hanging answer ends with the client that waits for it, and with the server.
func TestHang(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Fail(llmtest.Fault{Kind: llmtest.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		req, err := http.NewRequestWithContext(ctx, "POST", s.URL()+"/chat/completions", strings.NewReader(whole))
		if err == nil {
			_, err = http.DefaultClient.Do(req)
		}
		ended <- err
	}()
	if _, err := s.WaitRequest(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a hanging server answered")
	}
	go func() {
		_, _, err := post(t, s, whole)
		ended <- err
	}()
	if _, err := s.WaitRequest(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := <-ended; err == nil {
		t.Error("a hanging server answered")
	}
}

// The sound that is served is one: here is what a reader of Ogg finds in it.
func TestSpeech(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("one two three ", 30)
	sound := llmtest.Speech(text)
	var granule uint64
	for n, rest := uint32(0), sound; len(rest) > 0; n++ {
		if len(rest) < 27 || string(rest[:4]) != "OggS" || binary.LittleEndian.Uint32(rest[18:]) != n {
			t.Fatalf("page %d begins %q", n, rest[:min(27, len(rest))])
		}
		size := 27 + int(rest[26])
		for _, l := range rest[27:size] {
			size += int(l)
		}
		granule = binary.LittleEndian.Uint64(rest[6:])
		if last := rest[5]&4 != 0; last != (size == len(rest)) {
			t.Errorf("page %d of %d bytes, %d left, says that it is the last: %t", n, size, len(rest), last)
		}
		rest = rest[size:]
	}
	if took := time.Duration(granule-312) * time.Second / 48000; took != 90*300*time.Millisecond {
		t.Errorf("90 words take %v", took)
	}
	if got := llmtest.Hear(llmtest.Request{Audio: sound}); got != text {
		t.Errorf("heard %q", got)
	}
	for _, noise := range []string{"", "TEXT=", "\xff\xff\xff\xffTEXT=abc", "\x09\x00\x00\x00TEXT=abc"} {
		if got := llmtest.Hear(llmtest.Request{Audio: []byte(noise)}); !strings.HasPrefix(got, "I heard") {
			t.Errorf("heard %q in %q", got, noise)
		}
	}
}
