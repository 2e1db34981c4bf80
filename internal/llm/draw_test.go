package llm_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"wabot/internal/llm"
	"wabot/internal/llmtest"
)

// Each protocol draws, with the key where it belongs.
func TestImageByProtocol(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		api         llm.API
		model, path string
	}{
		{llm.OpenAI, "gpt-image-1", "/v1/images/generations"},
		{llm.Stability, "core", "/v2beta/stable-image/generate/core"},
		{llm.HuggingFace, "black-forest-labs/FLUX.1-schnell", "/models/black-forest-labs/FLUX.1-schnell"},
	} {
		s := llmtest.New(t)
		base := s.URL()
		if row.api != llm.OpenAI {
			base = strings.TrimSuffix(base, "/v1")
		}
		c := llm.New(llm.Options{BaseURL: base, Model: row.model, API: row.api, Key: key, MaxRetries: -1})
		got, err := c.Image(t.Context(), "a cat", "")
		if err != nil || got.MIME != "image/png" || !bytes.Equal(got.Data, llmtest.Picture("a cat")) {
			t.Errorf("%s: %d bytes of %s, %v", row.model, len(got.Data), got.MIME, err)
			continue
		}
		r := s.Requests()[0]
		if r.Path != row.path || r.Model != row.model || r.Input != "a cat" || r.Header.Get("Authorization") != "Bearer "+key {
			t.Errorf("asked %+v", r)
		}
		for fault, kind := range map[llmtest.Kind]llm.Kind{
			llmtest.BadKey: llm.Auth, llmtest.Internal: llm.Unavailable, llmtest.RateLimited: llm.RateLimited, llmtest.HTML: llm.BadAnswer, llmtest.Empty: llm.BadAnswer,
		} {
			s.Fail(llmtest.Fault{Kind: fault})
			_, err := c.Image(t.Context(), "a cat", "")
			if e := kindOf(t, err); e.Kind != kind || strings.Contains(e.Error(), key) {
				t.Errorf("%s, fault %d: %v, want %s", row.model, fault, e, kind)
			}
		}
	}
}

// The services' own words for a refused description.
func TestFilteredPicture(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func() *http.Response{
		"refused": func() *http.Response {
			return response(403, nil, `{"id":"1","name":"content_moderation","errors":["Your request was flagged by our content moderation system, as a result your request was denied."]}`)
		},
		"blurred": func() *http.Response {
			return response(200, http.Header{"Content-Type": {"image/jpeg"}, "Finish-Reason": {"CONTENT_FILTERED"}}, "\xff\xd8\xff")
		},
	} {
		c := inMemory(func(*http.Request) (*http.Response, error) { return answer(), nil }, func(o *llm.Options) { o.API = llm.Stability })
		if _, err := c.Image(t.Context(), "a cat", ""); kindOf(t, err).Kind != llm.Filtered {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The small sizes of the models before them are not sent to OpenAI's GPT models, which refuse them.
func TestImageSize(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ model, size, sent string }{
		{"gpt-image-1", "512x512", ""}, {"gpt-image-1", "1536x1024", "1536x1024"}, {"other", "512x512", "512x512"},
	} {
		s := llmtest.New(t)
		c := llm.New(llm.Options{BaseURL: s.URL(), Model: row.model})
		if _, err := c.Image(t.Context(), "a cat", row.size); err != nil || s.Requests()[0].Size != row.sent {
			t.Errorf("%s with %s: sent %q, %v", row.model, row.size, s.Requests()[0].Size, err)
		}
	}
}
