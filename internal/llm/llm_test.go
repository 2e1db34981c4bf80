package llm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/llm"
	"wabot/internal/llmtest"
)

const key = "sk-proj-0123456789abcdefghijklmnop"

// client is a client of s that retries at once.
func client(s *llmtest.Server, change ...func(*llm.Options)) *llm.Client {
	o := llm.Options{BaseURL: s.URL(), Key: key, Model: "test-model", Backoff: time.Nanosecond}
	for _, f := range change {
		f(&o)
	}
	return llm.New(o)
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func ask(text string) llm.Prompt {
	return llm.Prompt{Messages: []llm.Message{
		{Role: llm.System, Text: "You are kind."},
		{Role: llm.User, Name: "Ada L. 🦊", Text: text},
	}}
}

// kindOf is the kind of an *llm.Error.
func kindOf(t *testing.T, err error) *llm.Error {
	t.Helper()
	var e *llm.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want an *llm.Error", err)
	}
	return e
}

func TestComplete(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	p := ask("How are you today?")
	p.MaxTokens, p.Temperature = 100, 0.5
	var shown []string
	p.OnText = func(text string) { shown = append(shown, text) }
	got, err := client(s).Complete(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	want := llm.Completion{Text: "You said: How are you today?", Model: "test-model", PromptTokens: 7, CompletionTokens: 6, Finish: llm.Stop}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(shown) != 6 || shown[0] != "You" || shown[5] != want.Text {
		t.Errorf("OnText got %q", shown)
	}
	r := s.Requests()[0]
	if len(r.Messages) != 2 || r.Messages[0].Text != "You are kind." || r.Messages[0].Role != "system" || r.Messages[1].Name != "Ada_L" {
		t.Errorf("asked %+v", r.Messages)
	}
	if r.MaxTokens != 100 || r.Temperature != 0.5 || !r.Stream || !r.Usage || r.Header.Get("Authorization") != "Bearer "+key {
		t.Errorf("asked %+v", r)
	}
}

// Each way to fail has its kind, and is tried again only where that may help.
func TestCompleteFaults(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		fault llmtest.Fault
		kind  llm.Kind
		tries int
		says  string
	}{
		{"bad key", llmtest.Fault{Kind: llmtest.BadKey}, llm.Auth, 1, "check the API key"},
		{"no quota", llmtest.Fault{Kind: llmtest.NoQuota}, llm.Quota, 1, "billing"},
		{"rate limited", llmtest.Fault{Kind: llmtest.RateLimited}, llm.RateLimited, 3, "Rate limit reached"},
		{"internal", llmtest.Fault{Kind: llmtest.Internal}, llm.Unavailable, 3, "HTTP 500"},
		{"overloaded", llmtest.Fault{Kind: llmtest.Overloaded}, llm.Unavailable, 3, "HTTP 503"},
		{"too long", llmtest.Fault{Kind: llmtest.TooLong}, llm.TooLong, 1, "larger context"},
		{"HTML", llmtest.Fault{Kind: llmtest.HTML}, llm.BadAnswer, 1, "base URL"},
		{"broken JSON", llmtest.Fault{Kind: llmtest.BrokenJSON}, llm.BadAnswer, 2, "broken JSON"},
		{"cut before text", llmtest.Fault{Kind: llmtest.CutStream}, llm.Unavailable, 3, "broke"},
		{"cut in text", llmtest.Fault{Kind: llmtest.CutStream, After: 2}, llm.Unavailable, 3, "broke"},
		{"ends early", llmtest.Fault{Kind: llmtest.EndStream, After: 2}, llm.Unavailable, 3, "broke off"},
		{"error event", llmtest.Fault{Kind: llmtest.StreamError, After: 2}, llm.Unavailable, 3, "had an error"},
		{"empty", llmtest.Fault{Kind: llmtest.Empty}, llm.BadAnswer, 2, "empty"},
		{"filtered", llmtest.Fault{Kind: llmtest.FilterStream, After: 2}, llm.Filtered, 1, "content filter"},
		{"length without text", llmtest.Fault{Kind: llmtest.Length}, llm.BadAnswer, 2, "MaxTokens"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := llmtest.New(t)
			s.Fail(row.fault)
			c := client(s, func(o *llm.Options) { o.MaxRetries = 2 })
			_, err := c.Complete(t.Context(), ask("my secret is a purple elephant"))
			e := kindOf(t, err)
			if e.Kind != row.kind || len(s.Requests()) != row.tries || !strings.Contains(e.Error(), row.says) {
				t.Errorf("%d requests, want %d; kind %s, want %s; want %q in: %v", len(s.Requests()), row.tries, e.Kind, row.kind, row.says, e)
			}
			for _, private := range []string{key, key[:12], "elephant", "You said"} {
				if strings.Contains(e.Error(), private) {
					t.Errorf("%q is in the error: %v", private, e)
				}
			}
			// One failure in passing is not seen by the caller.
			if row.tries > 1 {
				row.fault.Times = 1
				s.Fail(row.fault)
				if got, err := c.Complete(t.Context(), ask("Hi")); err != nil || got.Text != "You said: Hi" {
					t.Errorf("after one failure: %q, %v", got.Text, err)
				}
			}
		})
	}
}

func TestCompleteLength(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Fail(llmtest.Fault{Kind: llmtest.Length, After: 2})
	got, err := client(s).Complete(t.Context(), ask("Hi"))
	if err != nil || got.Text != "You said:" || got.Finish != llm.Length {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCompleteUnknownModel(t *testing.T) {
	t.Parallel()
	s := &llmtest.Server{Models: []string{"other"}}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err := client(s).Complete(t.Context(), ask("Hi"))
	if e := kindOf(t, err); e.Kind != llm.ModelUnknown || !strings.Contains(e.Error(), `"test-model"`) {
		t.Error(e)
	}
}

// A server without a key gets none.
func TestCompleteWithoutKey(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	if _, err := client(s, func(o *llm.Options) { o.Key = "" }).Complete(t.Context(), ask("Hi")); err != nil {
		t.Fatal(err)
	}
	if h := s.Requests()[0].Header.Values("Authorization"); len(h) != 0 {
		t.Errorf("sent %q", h)
	}
}

func TestCompleteDownAndUp(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	c := client(s)
	s.Down()
	_, err := c.Complete(t.Context(), ask("Hi"))
	if e := kindOf(t, err); e.Kind != llm.Unavailable {
		t.Error(e)
	}
	nobody := client(s, func(o *llm.Options) { o.BaseURL = "http://127.0.0.1:1/v1" })
	_, err = nobody.Complete(t.Context(), ask("Hi"))
	if e := kindOf(t, err); e.Kind != llm.Unavailable || !strings.Contains(e.Error(), "refused") {
		t.Error(e)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Complete(t.Context(), ask("Hi")); err != nil {
		t.Error(err)
	}
}

// Silence before and within an answer ends the try, not the call.
func TestCompleteIdle(t *testing.T) {
	t.Parallel()
	for _, kind := range []llmtest.Kind{llmtest.Hang, llmtest.HangStream} {
		s := llmtest.New(t)
		s.Fail(llmtest.Fault{Kind: kind, After: 1, Times: 1})
		c := client(s, func(o *llm.Options) { o.Idle = 250 * time.Millisecond })
		if got, err := c.Complete(t.Context(), ask("Hi")); err != nil || got.Text != "You said: Hi" {
			t.Errorf("%q, %v", got.Text, err)
		}
		s.Fail(llmtest.Fault{Kind: kind, After: 1})
		_, err := client(s, func(o *llm.Options) { o.Idle, o.MaxRetries = 250*time.Millisecond, -1 }).Complete(t.Context(), ask("Hi"))
		if e := kindOf(t, err); e.Kind != llm.Timeout || !strings.Contains(e.Error(), "silent") {
			t.Error(e)
		}
	}
}

func TestCompleteCanceled(t *testing.T) {
	t.Parallel()
	s := llmtest.New(t)
	s.Fail(llmtest.Fault{Kind: llmtest.HangStream, After: 1})
	ctx, cancel := context.WithCancel(t.Context())
	p := ask("Hi")
	p.OnText = func(string) { cancel() }
	_, err := client(s).Complete(ctx, p)
	var e *llm.Error
	if !errors.Is(err, context.Canceled) || errors.As(err, &e) {
		t.Errorf("error is %v", err)
	}
}

// transport answers in memory.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

const hello = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

func inMemory(f transport, change ...func(*llm.Options)) *llm.Client {
	o := llm.Options{BaseURL: "http://model.example/v1", Key: key, Model: "test-model", HTTPClient: &http.Client{Transport: f}}
	for _, c := range change {
		c(&o)
	}
	return llm.New(o)
}

// The pauses grow, are shortened at random by half at most, and last together no longer than the call may.
func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c := inMemory(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return response(500, nil, ""), nil
		}, func(o *llm.Options) { o.MaxRetries = 4 })
		_, err := c.Complete(t.Context(), ask("Hi"))
		if e := kindOf(t, err); e.Kind != llm.Unavailable || e.Status != 500 {
			t.Error(e)
		}
		if len(at) != 5 {
			t.Fatalf("%d tries", len(at))
		}
		for i := 1; i < len(at); i++ {
			full := time.Second << (i - 1)
			if pause := at[i].Sub(at[i-1]); pause < full/2 || pause > full {
				t.Errorf("pause %d is %v, want within %v and %v", i, pause, full/2, full)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	gemini := `[{"error":{"code":429,"message":"Resource has been exhausted","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"41s"}]}}]`
	for _, row := range []struct {
		name   string
		header func() http.Header
		body   string
		want   time.Duration
	}{
		{"seconds", func() http.Header { return http.Header{"Retry-After": {"17"}} }, "", 17 * time.Second},
		{"date", func() http.Header {
			return http.Header{"Retry-After": {time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)}}
		}, "", 20 * time.Second},
		{"a date of a server whose clock is another", func() http.Header {
			theirs := time.Now().Add(5 * time.Hour).UTC()
			return http.Header{"Date": {theirs.Format(http.TimeFormat)}, "Retry-After": {theirs.Add(20 * time.Second).Format(http.TimeFormat)}}
		}, "", 20 * time.Second},
		{"milliseconds", func() http.Header { return http.Header{"Retry-After-Ms": {"1500"}, "Retry-After": {"2"}} }, "", 1500 * time.Millisecond},
		{"in Gemini's body", func() http.Header { return nil }, gemini, 41 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start, tries := time.Now(), 0
				c := inMemory(func(*http.Request) (*http.Response, error) {
					if tries++; tries == 1 {
						return response(429, row.header(), row.body), nil
					}
					return response(200, nil, hello), nil
				})
				got, err := c.Complete(t.Context(), ask("Hi"))
				if err != nil || got.Text != "Hello" || time.Since(start) != row.want {
					t.Errorf("%q, %v after %v, want it after %v", got.Text, err, time.Since(start), row.want)
				}
			})
		})
	}
}

// A pause that would use up the call's time is the caller's to make.
func TestRetryAfterBeyondTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		c := inMemory(func(*http.Request) (*http.Response, error) {
			tries++
			return response(429, http.Header{"Retry-After": {"3600"}}, ""), nil
		})
		_, err := c.Complete(t.Context(), ask("Hi"))
		if e := kindOf(t, err); e.Kind != llm.RateLimited || e.RetryAfter != time.Hour || tries != 1 || time.Since(start) != 0 {
			t.Errorf("%d tries in %v: %v", tries, time.Since(start), e)
		}
	})
}

// A server that sends a little now and then is not silent, and yet bounded by the whole call.
func TestTotal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		c := inMemory(func(r *http.Request) (*http.Response, error) {
			tries++
			in, out := io.Pipe()
			go func() {
				for r.Context().Err() == nil {
					_, _ = io.WriteString(out, ": still here\n\n")
					time.Sleep(50 * time.Second)
				}
				out.CloseWithError(r.Context().Err())
			}()
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: in}, nil
		})
		_, err := c.Complete(t.Context(), ask("Hi"))
		if e := kindOf(t, err); e.Kind != llm.Timeout || tries != 1 || time.Since(start) < 5*time.Minute || time.Since(start) > 6*time.Minute {
			t.Errorf("%d tries, after %v: %v", tries, time.Since(start), e)
		}
	})
}

// What the providers and their proxies really answer.
func TestProviderErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		status int
		body   string
		kind   llm.Kind
		says   string
	}{
		{"Gemini's wrong key", 400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]`, llm.Auth, "API key not valid"},
		{"Gemini's unknown model", 404, `[{"error":{"code":404,"message":"models/x is not found for API version v1main","status":"NOT_FOUND"}}]`, llm.ModelUnknown, "models/x"},
		{"Gemini's too long", 400, `[{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}]`, llm.TooLong, ""},
		{"Ollama's unknown model", 404, `{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error","param":null,"code":null}}`, llm.ModelUnknown, "pulling"},
		{"a bare text", 404, `{"error":"model 'x' not found"}`, llm.ModelUnknown, ""},
		{"FastAPI", 422, `{"detail":"Field required"}`, llm.BadRequest, "Field required"},
		{"a wrong base URL", 404, "404 page not found", llm.BadRequest, "check the base URL"},
		{"OpenAI's policy", 400, `{"error":{"message":"No.","type":"invalid_request_error","code":"content_policy_violation"}}`, llm.Filtered, ""},
		{"no money", 402, `{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}`, llm.Quota, ""},
		{"forbidden country", 403, `{"error":{"message":"Country not supported","code":"unsupported_country_region_territory"}}`, llm.Auth, "Country"},
		{"a redirect", 302, "", llm.BadRequest, "base URL"},
		{"a large prompt", 413, "<html>", llm.TooLong, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			tries := 0
			_, err := inMemory(func(*http.Request) (*http.Response, error) {
				tries++
				return response(row.status, http.Header{"Location": {"http://elsewhere.example"}}, row.body), nil
			}).Complete(t.Context(), ask("Hi"))
			e := kindOf(t, err)
			if e.Kind != row.kind || e.Status != row.status || tries != 1 || !strings.Contains(e.Error(), row.says) {
				t.Errorf("%d tries, kind %s, want %s: %v", tries, e.Kind, row.kind, e)
			}
		})
	}
}

// Neither an error nor a log has what a person wrote, what was answered, or a key.
func TestNothingPrivateIsTold(t *testing.T) {
	t.Parallel()
	const text = "I owe 4000 to my brother Tom since May"
	for _, message := range []string{
		"Incorrect API key provided: " + key + ".",
		"Incorrect API key provided: sk-proj-********************mnop.",
		"Invalid key AIzaSyA1234567890abcdef in project",
		"Invalid value: '" + text + "'",
		"Invalid value: ..." + text[6:30] + "...",
		"Cannot answer +491701234567",
		`Invalid value: "I owe 4000\u0020to my brother"`,
	} {
		var logged bytes.Buffer
		tries := 0
		c := inMemory(func(*http.Request) (*http.Response, error) {
			tries++
			b := `{"error":{"message":` + quote(message) + `}}`
			return response(500, nil, b), nil
		}, func(o *llm.Options) {
			o.Log = slog.New(slog.NewTextHandler(&logged, nil))
			o.Backoff = time.Nanosecond
		})
		_, err := c.Complete(t.Context(), ask(text))
		if tries != 4 || logged.Len() == 0 {
			t.Errorf("%d tries, logged %q", tries, &logged)
		}
		for _, private := range []string{"sk-", "mnop", "AIza", "4000", "brother", "49170"} {
			if told := err.Error() + logged.String(); strings.Contains(told, private) {
				t.Errorf("%q is told: %s", private, told)
			}
		}
	}
}

func TestAnswersWithoutBounds(t *testing.T) {
	t.Parallel()
	word := `data: {"choices":[{"delta":{"content":"` + strings.Repeat("more ", 2000) + `"}}]}` + "\n\n"
	for name, part := range map[string]string{
		"text":     word,
		"one line": "data: " + strings.Repeat("x", 10000),
		"comments": ":" + strings.Repeat(" ", 10000) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := &endless{part: part}
			_, err := inMemory(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body}, nil
			}, func(o *llm.Options) { o.MaxRetries = -1 }).Complete(t.Context(), ask("Hi"))
			if e := kindOf(t, err); e.Kind != llm.BadAnswer || !strings.Contains(e.Error(), "too large") {
				t.Error(e)
			}
			// A line is held in memory as a whole.
			if name == "one line" && body.n > 3*llm.MaxText {
				t.Errorf("read %d bytes", body.n)
			}
		})
	}
}

// endless is a body that repeats part for ever.
type endless struct {
	part string
	at   int
	n    int // bytes read
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.part[e.at:])
	e.at = (e.at + n) % len(e.part)
	e.n += n
	return n, nil
}

func (e *endless) Close() error { return nil }

// Not every server streams, and not every stream is complete in the same way.
func TestFormsOfAnswers(t *testing.T) {
	t.Parallel()
	const (
		json   = "application/json; charset=utf-8"
		events = "text/event-stream"
	)
	for _, row := range []struct {
		name, kind, body string
		want             string
		fails            llm.Kind
	}{
		{"whole", json, `{"model":"m","choices":[{"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}`, "Hello", ""},
		{"whole, without a reason", json, `{"choices":[{"message":{"content":"Hello"}}]}`, "Hello", ""},
		{"an error as success", json, `{"error":{"message":"Key expired","code":"invalid_api_key"}}`, "", llm.Auth},
		{"nothing", json, `{}`, "", llm.Unavailable},
		{"events under a wrong name", json, hello, "Hello", ""},
		{"no reason, but done", events, "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\ndata: [DONE]\n\n", "Hello", ""},
		{"a reason, but not done", events, "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"},\"finish_reason\":\"stop\"}]}\n", "Hello", ""},
		{"neither", events, "data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n", "", llm.Unavailable},
		{"comments, names and no space", events, ": hi\n\nevent: x\ndata:{\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n: hi\n\ndata:[DONE]\n\n", "Hello", ""},
		{"reasoning apart", events, "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Hm\"}}]}\n\n" + hello, "Hello", ""},
		{"reasoning within", events, "data: {\"choices\":[{\"delta\":{\"content\":\"<think>Hm</think>\"}}]}\n\n" + hello, "Hello", ""},
		{"a second choice", events, "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"No\"}}]}\n\n" + hello, "Hello", ""},
		{"a refusal", events, "data: {\"choices\":[{\"delta\":{\"refusal\":\"I cannot.\"},\"finish_reason\":\"stop\"}]}\n\n", "I cannot.", ""},
		{"a tool", events, "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]},\"finish_reason\":\"tool_calls\"}]}\n\n", "", llm.BadAnswer},
		{"an error that is a number", events, "data: {\"error\":{\"message\":\"Slow down\",\"code\":429}}\n\n", "", llm.RateLimited},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			got, err := inMemory(func(*http.Request) (*http.Response, error) {
				return response(200, http.Header{"Content-Type": {row.kind}}, row.body), nil
			}, func(o *llm.Options) { o.MaxRetries = -1 }).Complete(t.Context(), ask("Hi"))
			if row.fails != "" {
				if e := kindOf(t, err); e.Kind != row.fails {
					t.Errorf("want %s: %v", row.fails, e)
				}
			} else if err != nil || got.Text != row.want {
				t.Errorf("%q, %v", got.Text, err)
			}
		})
	}
}

func FuzzComplete(f *testing.F) {
	f.Add([]byte(hello))
	f.Add([]byte("data: {\"error\":{\"message\":[\"a\"],\"code\":7}}\n\n"))
	f.Add([]byte(`{"error":"x"}`))
	f.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"<think>\\n```\"}}]}\ndata:[DONE]\n"))
	f.Add([]byte("data: {\"usage\":null,\"choices\":[{\"index\":-1}]}\n\n: ping\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{"text/event-stream", "application/json", "error"} {
			status := 200
			if kind == "error" {
				status = 400
			}
			got, err := inMemory(func(*http.Request) (*http.Response, error) {
				return response(status, http.Header{"Content-Type": {kind}}, string(body)), nil
			}, func(o *llm.Options) { o.MaxRetries = -1 }).Complete(t.Context(), ask("Hi"))
			var e *llm.Error
			switch {
			case err == nil && (got.Text == "" || got.Finish == "" || status != 200):
				t.Errorf("no error, but %+v", got)
			case err != nil && (!errors.As(err, &e) || e.Kind == "" || got != llm.Completion{}):
				t.Errorf("error %v with %+v", err, got)
			}
		}
	})
}
