package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

const (
	// maxStream bounds what is read of an answer, in bytes: MaxText in the smallest pieces, each in an
	// event of its own.
	maxStream = 64 << 20
	// maxLine bounds one event: MaxText at once, with every byte escaped, would be more, but no
	// server sends that.
	maxLine = 2 * MaxText
	// maxError bounds what is read of an error's body.
	maxError = 64 << 10
)

var errTooLarge = errors.New("the answer is too large")

// try is the wire of one try, under go-openai: it sees what that hides (headers, the error's whole
// body, the end of the stream) and stops what it would read for ever. It serves one request.
type try struct {
	client *http.Client
	idle   time.Duration
	cancel context.CancelCauseFunc
	redact redactor
	how    manner

	complete bool // the answer came whole

	timer *time.Timer
	body  *body
}

// Do sends the request. What is not a success comes back as an *Error.
func (t *try) Do(req *http.Request) (*http.Response, error) {
	if t.how == streamed {
		t.timer = time.AfterFunc(t.idle, func() { t.cancel(errIdle) })
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return nil, err
	}
	t.body = &body{try: t, r: resp.Body}
	resp.Body = t.body
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer resp.Body.Close()
		// A body that breaks off says less, but the status has said the most already.
		b, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
		return nil, t.statusError(resp.StatusCode, resp.Header, b)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		resp.Body.Close()
		return nil, &Error{Kind: BadAnswer, Status: resp.StatusCode, fixed: true,
			Err: errors.New("a web page came instead of an answer (check the base URL, and any proxy on the way)")}
	}
	if t.how == streamed && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return resp, t.asStream(resp)
	}
	return resp, nil
}

// asStream makes a stream of an answer that came whole, from a server that does not stream. It may be an error, too.
func (t *try) asStream(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("data:")) {
		resp.Body = io.NopCloser(bytes.NewReader(b))
		return nil
	}
	var got openai.ChatCompletionResponse
	if err := json.Unmarshal(b, &got); err != nil {
		return err
	}
	if len(got.Choices) == 0 {
		return t.complain(0, complaintOf(b))
	}
	first := got.Choices[0]
	event, err := json.Marshal(openai.ChatCompletionStreamResponse{
		Model: got.Model, Usage: &got.Usage,
		Choices: []openai.ChatCompletionStreamChoice{{
			FinishReason: first.FinishReason,
			Delta: openai.ChatCompletionStreamChoiceDelta{
				Content: first.Message.Content, Refusal: first.Message.Refusal, ToolCalls: first.Message.ToolCalls,
			},
		}},
	})
	if err != nil {
		return err
	}
	t.complete = true
	resp.Body = io.NopCloser(strings.NewReader("data: " + string(event) + "\n\n"))
	return nil
}

// end stops the clock.
func (t *try) end() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// sawDone tells whether the answer said that it is complete. go-openai reports that as it does a stream
// that just ends.
func (t *try) sawDone() bool {
	return t.complete || t.body != nil &&
		(bytes.Contains(t.body.tail, []byte("data: [DONE]")) || bytes.Contains(t.body.tail, []byte("data:[DONE]")))
}

// body is an answer's body, bounded in silence, length and length of lines.
type body struct {
	try  *try
	r    io.ReadCloser
	n    int    // bytes read
	line int    // bytes of the line being read
	tail []byte // the last bytes read, enough for [DONE] and the empty lines after it
}

const tailSize = 64

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n == 0 {
		return n, err
	}
	if t := b.try.timer; t != nil {
		t.Reset(b.try.idle)
	}
	read := p[:n]
	b.n += n
	if i := bytes.LastIndexByte(read, '\n'); i >= 0 {
		b.line = n - i - 1
	} else {
		b.line += n
	}
	if b.n > maxStream || b.line > maxLine && b.try.how == streamed {
		return 0, &Error{Kind: BadAnswer, Err: errTooLarge}
	}
	b.tail = append(b.tail, read[max(0, n-tailSize):]...)
	b.tail = b.tail[max(0, len(b.tail)-tailSize):]
	return n, err
}

func (b *body) Close() error { return b.r.Close() }

// retryAfter reads how long the server asks to wait; 0 where it does not. The header is in
// seconds or a date (RFC 9110, section 10.2.3), by the server's clock, which is not always this one; OpenAI adds one in
// milliseconds.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseInt(h.Get("Retry-After-Ms"), 10, 32); err == nil && ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseInt(v, 10, 32); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if at, err := http.ParseTime(v); err == nil {
		if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
			now = theirs
		}
		return max(0, at.Sub(now))
	}
	return 0
}
