package llmtest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind is a way to fail.
type Kind int

// The ways to fail. Those that concern the text of an answer (from HangStream on) apply to chat
// requests alone, but for Empty; the others to every request.
const (
	Healthy     Kind = iota
	BadKey           // 401, with a part of the key in the message as OpenAI does it
	RateLimited      // 429; see RetryAfter
	NoQuota          // 429 with the code insufficient_quota
	Internal         // 500
	Overloaded       // 503; see RetryAfter
	TooLong          // 400 with the code context_length_exceeded
	Hang             // takes the request and says nothing
	HTML             // 200 and a web page
	BrokenJSON       // 200 and JSON that ends too early: one event of a stream, or the whole body

	HangStream   // sends After pieces of the answer and then nothing
	CutStream    // sends After pieces of the answer and cuts the connection
	EndStream    // sends After pieces of the answer and ends the body as if it were whole
	StreamError  // sends After pieces of the answer and then an error event
	Empty        // a whole answer without text
	FilterStream // sends After pieces of the answer and stops with the reason content_filter
	Length       // sends After pieces of the answer and stops with the reason length
	Slow         // waits Delay before each piece
)

// Fault is a failure on command.
type Fault struct {
	Kind Kind
	// Model is whose requests fail; empty means all.
	Model string
	// Times is how many requests fail; 0 means all, until Fail is called again.
	Times int
	// RetryAfter is what the header of that name says, in whole seconds; 0 leaves it out. RetryDate
	// says it as an HTTP date, counted from now.
	RetryAfter time.Duration
	RetryDate  bool
	// Message replaces the message of an error.
	Message string
	// After is the number of pieces (words) of an answer that are sent before it fails.
	After int
	// Delay is the time between pieces of a slow answer.
	Delay time.Duration
}

// reply is one answer on its way out, with the fault that it suffers.
type reply struct {
	w     http.ResponseWriter
	ctx   context.Context // ends with the client or the server
	fault Fault
	whole bool
}

// broken fails the whole request where the fault says so.
func (o *reply) broken(r *http.Request, req Request) bool {
	switch o.fault.Kind {
	case BadKey:
		o.wrongKey(r)
	case RateLimited:
		o.retryAfter()
		o.fail(http.StatusTooManyRequests, "requests", "rate_limit_exceeded", "Rate limit reached for requests.")
	case NoQuota:
		o.fail(http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota",
			"You exceeded your current quota, please check your plan and billing details.")
	case Internal:
		o.fail(http.StatusInternalServerError, "server_error", "", "The server had an error while processing your request.")
	case Overloaded:
		o.retryAfter()
		o.fail(http.StatusServiceUnavailable, "server_error", "", "The engine is currently overloaded, please try again later.")
	case TooLong:
		o.fail(http.StatusBadRequest, "invalid_request_error", "context_length_exceeded",
			"This model's maximum context length is 8192 tokens. However, your messages resulted in more.")
	case Hang:
		<-o.ctx.Done()
		panic(http.ErrAbortHandler)
	case HTML:
		o.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(o.w, "<!DOCTYPE html>\n<html><head><title>Welcome</title></head><body>Sign in</body></html>\n")
	case BrokenJSON:
		if req.Stream {
			o.w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(o.w, "data: {\"choices\":[{\"delta\":{\"con\n\ndata: [DONE]\n\n")
			return true
		}
		o.w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(o.w, `{"choices":[{"mess`)
	default:
		return false
	}
	return true
}

// wrongKey says, as OpenAI does, what the key was that did not fit, most of it starred.
func (o *reply) wrongKey(r *http.Request) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	o.fail(http.StatusUnauthorized, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: "+key+".")
}

func (o *reply) retryAfter() {
	switch {
	case o.fault.RetryAfter == 0:
	case o.fault.RetryDate:
		o.w.Header().Set("Retry-After", time.Now().Add(o.fault.RetryAfter).UTC().Format(http.TimeFormat))
	default:
		o.w.Header().Set("Retry-After", strconv.Itoa(int(o.fault.RetryAfter/time.Second)))
	}
}

// fail sends an error as OpenAI's API words it.
func (o *reply) fail(status int, typ, code, message string) {
	if o.fault.Message != "" {
		message = o.fault.Message
	}
	e := map[string]any{"message": message, "type": typ, "param": nil, "code": nil}
	if code != "" {
		e["code"] = code
	}
	o.json(status, map[string]any{"error": e})
}

func (o *reply) json(status int, v any) {
	o.w.Header().Set("Content-Type", "application/json")
	o.w.WriteHeader(status)
	// The client may have gone, which is its own affair.
	_ = json.NewEncoder(o.w).Encode(v)
}

// wait passes the time between two pieces; false means that nobody waits for the next.
func (o *reply) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-o.ctx.Done():
		return false
	}
}
