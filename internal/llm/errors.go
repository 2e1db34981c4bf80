package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	openai "github.com/sashabaranov/go-openai"
)

// Kind is what went wrong, as far as it matters to whoever has to say so or to act. The kinds are a
// small fixed set, fit for metrics.
type Kind string

// The kinds of errors.
const (
	Auth         Kind = "auth"          // the key is missing, wrong or not allowed this
	Quota        Kind = "quota"         // the account has no money or allowance left
	RateLimited  Kind = "rate_limited"  // too much at once; later it goes
	Unavailable  Kind = "unavailable"   // the server or the way to it is broken, or the answer broke off
	Timeout      Kind = "timeout"       // no answer in time
	BadAnswer    Kind = "bad_answer"    // the answer is empty, too large, or not one
	Filtered     Kind = "filtered"      // the provider refuses this content
	TooLong      Kind = "too_long"      // the prompt is more than the model takes
	ModelUnknown Kind = "model_unknown" // no such model there
	BadRequest   Kind = "bad_request"   // the server does not take what we send: a mistake in the configuration, or ours
)

// Error is why a call failed. Its text is for operators: it names what happened and what to do, and
// contains no key, prompt or answer.
type Error struct {
	Kind Kind
	// Status is the HTTP status, or 0 where there was none.
	Status int
	// RetryAfter is how long the server asked to wait before the next try; 0 where it did not.
	RetryAfter time.Duration
	// Err is what happened.
	Err error

	op, host, model string
	fixed           bool // another try would fail in the same way
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.op != "" {
		fmt.Fprintf(&b, "%s with model %q at %s: ", e.op, e.model, e.host)
	}
	b.WriteString(string(e.Kind))
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "; the server asks to wait %v", e.RetryAfter.Round(time.Second))
	}
	if next := advice[e.Kind]; next != "" {
		b.WriteString("; " + next)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

var advice = map[Kind]string{
	Auth:         "check the API key of this model and what it may use",
	Quota:        "check the plan and the billing of the provider's account",
	Unavailable:  "check that the base URL is reachable from here, and the provider's status page",
	TooLong:      "lower the length of the history or use a model with a larger context",
	ModelUnknown: "check the model's name, and with Ollama that it was pulled",
	BadRequest:   "check the base URL and the model's settings",
}

// passing tells whether another try may succeed, after n retries. An answer that makes no sense is asked for once
// more only: the server works, and every try costs.
func (e *Error) passing(n int) bool {
	switch e.Kind {
	case RateLimited, Unavailable, Timeout:
		return !e.fixed
	case BadAnswer:
		return !e.fixed && n == 0
	}
	return false
}

// errorOf makes an *Error of whatever a try ended with. It keeps no part of an error's text that it does not
// know: JSON errors, for one, quote what they were given.
func (c *Client) errorOf(ctx context.Context, err error) *Error {
	var e *Error
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	var u *url.Error
	switch {
	case ctx.Err() != nil:
		return &Error{Kind: Timeout, Err: context.Cause(ctx)}
	case errors.As(err, &e):
		return e
	case errors.Is(err, openai.ErrChatCompletionInvalidModel):
		return &Error{Kind: ModelUnknown, Err: errors.New("this model does not chat")}
	case errors.As(err, &syntax), errors.As(err, &typ), errors.Is(err, openai.ErrTooManyEmptyStreamMessages):
		return &Error{Kind: BadAnswer, Err: errors.New("the answer is not what the API promises (broken JSON)")}
	case errors.As(err, &u):
		// Without the URL, which may hold a key.
		return &Error{Kind: Unavailable, Err: u.Err, fixed: strings.Contains(u.Err.Error(), "unsupported protocol scheme")}
	case errors.Is(err, openai.ErrReasoningModelLimitationsOther), errors.Is(err, openai.ErrReasoningModelMaxTokensDeprecated):
		return &Error{Kind: BadRequest, Err: err}
	}
	return &Error{Kind: Unavailable, Err: errors.New("the connection broke within the answer")}
}

// complaint is what a provider says of an error.
type complaint struct {
	code, typ, message string
	retry              time.Duration
}

// complaintOf reads an error's body in the forms that are about: OpenAI's object, Gemini's list of one, Stability's
// name with a list, and a bare text under "error", "message" or "detail".
func complaintOf(b []byte) (c complaint) {
	var list []json.RawMessage
	if json.Unmarshal(b, &list) == nil && len(list) > 0 {
		b = list[0]
	}
	var outer struct {
		Error, Message, Detail json.RawMessage
		Name                   string
		Errors                 []string
	}
	if json.Unmarshal(b, &outer) != nil {
		return c
	}
	if len(outer.Errors) > 0 {
		return complaint{code: outer.Name, message: outer.Errors[0]}
	}
	for _, raw := range []json.RawMessage{outer.Error, outer.Message, outer.Detail} {
		var inner struct {
			Code, Type, Status json.RawMessage
			Message            string
			Details            []struct{ Reason, RetryDelay string }
		}
		if json.Unmarshal(raw, &c.message) == nil && c.message != "" {
			return c
		}
		if json.Unmarshal(raw, &inner) != nil {
			continue
		}
		c = complaint{code: word(inner.Code), typ: word(inner.Type), message: inner.Message}
		if c.typ == "" {
			c.typ = word(inner.Status)
		}
		for _, d := range inner.Details {
			if wait, err := time.ParseDuration(d.RetryDelay); err == nil && wait > 0 {
				c.retry = wait
			}
			if d.Reason != "" {
				c.code = d.Reason
			}
		}
		return c
	}
	return c
}

// word is a JSON string or number as text.
func word(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var n int
	if json.Unmarshal(raw, &n) == nil && n != 0 {
		return strconv.Itoa(n)
	}
	return ""
}

// statusError is the error that an HTTP answer stands for.
func (t *try) statusError(status int, h http.Header, body []byte) *Error {
	c := complaintOf(body)
	e := t.complain(status, c)
	if wait := retryAfter(h, time.Now()); wait > 0 {
		e.RetryAfter = wait
	}
	return e
}

// apiError is the error that an event of a stream stands for. Some servers put the HTTP status into its code.
func (t *try) apiError(a *openai.APIError) *Error {
	c := complaint{typ: a.Type, message: a.Message}
	status := 0
	switch code := a.Code.(type) {
	case string:
		c.code = code
	case int:
		if http.StatusText(code) != "" {
			status = code
		}
	}
	return t.complain(status, c)
}

// complain finds the kind of a complaint, by its code where it has a telling one, else by the
// status, and by the message where providers say it nowhere else.
func (t *try) complain(status int, c complaint) *Error {
	e := &Error{Status: status, RetryAfter: c.retry}
	is := func(words ...string) bool {
		for _, w := range words {
			if strings.EqualFold(c.code, w) || strings.EqualFold(c.typ, w) {
				return true
			}
		}
		return false
	}
	says := func(parts ...string) bool {
		m := strings.ToLower(c.message)
		for _, p := range parts {
			if strings.Contains(m, p) {
				return true
			}
		}
		return false
	}
	rejected := status == 0 || status >= 400 && status < 500
	switch {
	case is("insufficient_quota", "billing_hard_limit_reached", "billing_not_active") || status == http.StatusPaymentRequired:
		e.Kind = Quota
	case is("invalid_api_key", "API_KEY_INVALID", "authentication_error") || rejected && says("api key not valid", "incorrect api key", "missing authentication"):
		e.Kind = Auth
	case is("content_filter", "content_policy_violation", "content_moderation", "moderation_blocked", "ResponsibleAIPolicyViolation"):
		e.Kind = Filtered
	case is("context_length_exceeded", "string_above_max_length") || status == http.StatusRequestEntityTooLarge ||
		rejected && says("maximum context length", "context window", "exceeds the maximum number of tokens", "prompt is too long"):
		e.Kind = TooLong
	case is("model_not_found"):
		e.Kind = ModelUnknown
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Kind = Auth
	case status == http.StatusNotFound:
		e.Kind = BadRequest
		if says("model") {
			e.Kind = ModelUnknown
		}
	case status == http.StatusTooManyRequests || is("rate_limit_exceeded"):
		e.Kind = RateLimited
	case status == http.StatusRequestTimeout || status == http.StatusGatewayTimeout:
		e.Kind = Timeout
	case status == 0, status >= 500, status == http.StatusConflict, status == http.StatusTooEarly:
		e.Kind = Unavailable
	default:
		e.Kind = BadRequest
	}
	what := t.redact.message(c.message)
	if what == "" {
		what = "the provider gave no reason that can be shown"
	} else {
		what = "the provider says: " + what
	}
	e.Err = errors.New(what)
	return e
}

// redactor takes out of a provider's message what must not be logged.
type redactor struct {
	key     string
	private []string
}

// secret finds what looks like a credential (a known prefix, a starred middle, a long run of letters and digits)
// or a phone number.
var secret = regexp.MustCompile(`\b(sk|pk|rk|gsk|xai|hf|key|ghp)[-_][\w*.-]{6,}|AIza[\w-]{8,}|[\w-]*\*{3,}[\w*-]*|[\w-]{32,}|\d{7,}`)

// echo is the least length, in bytes, of what cannot well be the same by chance in a message and in a chat.
const echo = 16

// message is a provider's message, short, in one line and without secrets, or empty where it quotes the chat.
func (r redactor) message(s string) string {
	s = strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) {
			return ' '
		}
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, ""))
	if len(s) > 300 {
		s = strings.TrimRightFunc(s[:300], func(c rune) bool { return c == utf8.RuneError }) + "…"
	}
	if strings.Contains(s, `\u`) || r.quotes(s) {
		return ""
	}
	if len(r.key) >= 4 {
		s = strings.ReplaceAll(s, r.key, "[redacted]")
	}
	return strings.TrimSpace(secret.ReplaceAllString(s, "[redacted]"))
}

// quotes tells whether s has a part of a private text that is not the same by chance.
func (r redactor) quotes(s string) bool {
	for _, text := range r.private {
		if len(text) < echo {
			if len(text) > 3 && strings.Contains(s, text) {
				return true
			}
			continue
		}
		for i := 0; i+echo <= len(s); i++ {
			if strings.Contains(text, s[i:i+echo]) {
				return true
			}
		}
	}
	return false
}
