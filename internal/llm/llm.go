// Package llm talks to model APIs that speak OpenAI's protocol: OpenAI itself, Gemini's
// compatible endpoint, Ollama and their like, through go-openai.
//
// One call is one answer or one *Error. In between, a Client tries again: what a try may have
// failed of in passing (a limit, a server error, a network, an answer that broke off) is tried from
// the start after a growing, random pause, or after the pause that the server asks for. A call ends
// in bounded time (Total, and Idle for a stream that falls silent) and bounded memory, whatever the
// server sends. Half an answer is never passed off as a whole one. Nothing that a person wrote, that
// a model answered, or that opens an account gets into an error or a log.
package llm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// Options say how to reach a model. Only BaseURL and Model have no default.
type Options struct {
	// BaseURL is the API's address up to its version, such as https://api.openai.com/v1,
	// https://generativelanguage.googleapis.com/v1beta/openai or http://localhost:11434/v1.
	BaseURL string
	// Key is the API key; empty where the server needs none.
	Key   string
	Model string
	// API is how Image asks; OpenAI's if empty.
	API API

	// HTTPClient is how to reach the server, http.DefaultClient if nil. Its redirects are not
	// followed, and its Timeout should be zero: it would count the reading of a stream.
	HTTPClient *http.Client
	// Total bounds one call with all its tries and pauses; 5 minutes if zero.
	Total time.Duration
	// Idle bounds the silence of a server in one try of Complete, before and within the answer; 60 seconds
	// if zero.
	Idle time.Duration
	// MaxRetries is how often a call is tried again; 3 if zero, none if negative.
	MaxRetries int
	// Backoff is the pause before the first retry, doubled for each one after, up to 30 seconds, and
	// shortened by up to a half at random; 1 second if zero.
	Backoff time.Duration
	// Log gets a warning for each retry; nothing is logged if nil.
	Log *slog.Logger
}

// Client asks one model. It is safe for concurrent use.
type Client struct {
	opts Options
	host string // of BaseURL, for messages
}

// New makes a client. It does not touch the network.
func New(o Options) *Client {
	o.Total = cmp.Or(o.Total, 5*time.Minute)
	o.Idle = cmp.Or(o.Idle, time.Minute)
	o.MaxRetries = cmp.Or(o.MaxRetries, 3)
	o.Backoff = cmp.Or(o.Backoff, time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HTTPClient == nil {
		o.HTTPClient = http.DefaultClient
	}
	// A redirect would turn a POST into a GET, or send the chat to a server nobody named.
	h := *o.HTTPClient
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTPClient = &h

	c := &Client{opts: o, host: "the server"}
	if u, err := url.Parse(o.BaseURL); err == nil && u.Host != "" {
		c.host = u.Host
	}
	return c
}

// Role is who speaks in a prompt.
type Role string

// The roles.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
)

// Message is one message of a prompt.
type Message struct {
	Role Role
	// Name tells the users of a group chat apart. Most servers take only ASCII letters, digits,
	// "_" and "-", at most 64 of them: the rest of a name is left out. Many models do not look at it.
	Name string
	Text string
	// Images are what the message shows, for models that see; most take JPEG, PNG, WebP and GIF.
	Images []Media
}

// Prompt is what a model is asked. Messages with neither text nor images are left out.
type Prompt struct {
	Messages []Message
	// Model names the one to ask where there are several; a Client has one and does not look at it.
	Model string
	// MaxTokens bounds the answer, a model's hidden reasoning included; 0 leaves it to the server.
	MaxTokens int
	// Temperature is from 0 to 2; 0 leaves it to the server. It is not sent to models that refuse it.
	Temperature float32
	// OnText, if set, is called with all the visible text so far as it grows: for every piece at first,
	// less often as it gets long. It is all the text and not the latest piece, because an answer that
	// broke off begins anew. It must not block for long: the answer is not read meanwhile.
	OnText func(text string)
}

// Completion is a model's answer.
type Completion struct {
	// Text is what a person may read, never empty: without reasoning and tool markup, and without space around it.
	Text string
	// Model is the name that the server gives itself, or the one asked for.
	Model string
	// By is the name of the one that answered where there are several; empty from a Client.
	By string
	// PromptTokens and CompletionTokens are what the server counted; both 0 where it did not say.
	PromptTokens, CompletionTokens int
	Finish                         Finish
}

// Finish is why an answer ended.
type Finish string

// The ends of an answer. An answer that was filtered is an Error.
const (
	Stop   Finish = "stop"
	Length Finish = "length" // MaxTokens, or the model's own limit; the text stops in mid-sentence
)

// Complete asks the model and reads its answer as a stream. It returns an *Error, or an error that wraps
// context.Canceled where ctx was canceled.
func (c *Client) Complete(ctx context.Context, p Prompt) (Completion, error) {
	req := c.chatRequest(p)
	var private []string
	for _, m := range p.Messages {
		private = append(private, m.Text, m.Name)
	}
	return call(ctx, c, "complete", private, streamed, func(ctx context.Context, t *try) (Completion, error) {
		return c.stream(ctx, t, req, p.OnText)
	})
}

func (c *Client) chatRequest(p Prompt) openai.ChatCompletionRequest {
	req := openai.ChatCompletionRequest{
		Model:         c.opts.Model,
		Temperature:   p.Temperature,
		StreamOptions: &openai.StreamOptions{IncludeUsage: true},
	}
	for _, m := range p.Messages {
		out := openai.ChatCompletionMessage{Role: string(m.Role), Name: wireName(m.Name)}
		shows := strings.TrimSpace(m.Text) != ""
		switch {
		case len(m.Images) > 0:
			if shows {
				out.MultiContent = append(out.MultiContent, openai.ChatMessagePart{Type: openai.ChatMessagePartTypeText, Text: m.Text})
			}
			for _, image := range m.Images {
				out.MultiContent = append(out.MultiContent, openai.ChatMessagePart{
					Type: openai.ChatMessagePartTypeImageURL, ImageURL: &openai.ChatMessageImageURL{URL: image.dataURL()},
				})
			}
		case shows:
			out.Content = m.Text
		default:
			continue
		}
		req.Messages = append(req.Messages, out)
	}
	// OpenAI's own models have renamed max_tokens and the newer refuse the old name; other
	// servers may not know the new one.
	reasoning := reasons(c.opts.Model)
	if reasoning || c.host == "api.openai.com" {
		req.MaxCompletionTokens = p.MaxTokens
	} else {
		//lint:ignore SA1019 the name that servers other than OpenAI's know
		req.MaxTokens = p.MaxTokens
	}
	if reasoning {
		req.Temperature = 0
	}
	return req
}

// reasons tells OpenAI's reasoning models, which take no temperature, by their names. A server such as
// OpenRouter puts the maker's name before.
func reasons(model string) bool {
	name := strings.TrimPrefix(model, "openai/")
	for _, prefix := range []string{"o1", "o3", "o4", "gpt-5", "gpt-6"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// wireName is the part of a name that servers accept.
func wireName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '-':
			return r
		case r == ' ':
			return '_'
		}
		return -1
	}, strings.TrimSpace(name))
	return strings.Trim(name[:min(len(name), 64)], "_")
}

// MaxText is the most text that an answer may have, in bytes. More is a BadAnswer: a model that
// repeats itself without end.
const MaxText = 1 << 20

// stream makes one try at a completion.
func (c *Client) stream(ctx context.Context, t *try, req openai.ChatCompletionRequest, onText func(string)) (Completion, error) {
	s, err := c.api(t).CreateChatCompletionStream(ctx, req)
	if err != nil {
		return Completion{}, err
	}
	defer s.Close()

	done := Completion{Model: c.opts.Model}
	var text, refusal strings.Builder
	var finish openai.FinishReason
	var tools bool
	told := 0 // the length of text when onText was called last
	for {
		chunk, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.redact.private = append(t.redact.private, text.String())
			return Completion{}, err
		}
		done.Model = cmp.Or(chunk.Model, done.Model)
		if u := chunk.Usage; u != nil {
			done.PromptTokens, done.CompletionTokens = u.PromptTokens, u.CompletionTokens
		}
		for _, choice := range chunk.Choices {
			if choice.Index != 0 {
				continue
			}
			text.WriteString(choice.Delta.Content)
			refusal.WriteString(choice.Delta.Refusal)
			tools = tools || len(choice.Delta.ToolCalls) > 0
			finish = cmp.Or(choice.FinishReason, finish)
		}
		if text.Len()+refusal.Len() > MaxText {
			return Completion{}, &Error{Kind: BadAnswer, Err: errTooLarge}
		}
		// What is shown costs a pass over all the text; steps that grow with it keep the sum small.
		if onText != nil && text.Len() > told+told/64 {
			told = text.Len()
			if shown := visible(withoutHalfTag(text.String())); shown != "" {
				onText(shown)
			}
		}
	}
	if finish == "" && !t.sawDone() {
		return Completion{}, &Error{Kind: Unavailable, Err: errors.New("the answer broke off")}
	}
	if finish == openai.FinishReasonContentFilter {
		return Completion{}, &Error{Kind: Filtered, Err: errors.New("the provider's content filter stopped the answer")}
	}
	done.Finish = Stop
	if finish == openai.FinishReasonLength {
		done.Finish = Length
	}
	done.Text = visible(cmp.Or(text.String(), refusal.String()))
	if done.Text == "" {
		why := "the answer is empty"
		switch {
		case done.Finish == Length:
			why = "the token limit was used up before any answer (raise MaxTokens: a reasoning model spends them on thoughts)"
		case tools:
			why = "the model asked for a tool and there is none"
		case text.Len() > 0:
			why = "the answer has reasoning or tool markup only"
		}
		return Completion{}, &Error{Kind: BadAnswer, Err: errors.New(why)}
	}
	return done, nil
}

// api is go-openai's client for one try.
func (c *Client) api(t *try) *openai.Client {
	cfg := openai.DefaultConfig(c.opts.Key)
	cfg.BaseURL = c.opts.BaseURL
	cfg.HTTPClient = t
	// Lines that are no data (comments that keep a connection alive) are bounded by bytes instead.
	cfg.EmptyMessagesLimit = maxStream
	return openai.NewClientWithConfig(cfg)
}

var (
	errTotal = errors.New("the time for the whole call ran out")
	errIdle  = errors.New("the server fell silent")
)

// manner is how an answer comes.
type manner bool

const (
	streamed manner = false // bit by bit, in lines: silence means that something is wrong
	whole    manner = true  // at once, after any time
)

// call makes tries until one succeeds, fails for good, or the time is used up. private are texts
// that must not get into an error.
func call[T any](ctx context.Context, c *Client, what string, private []string, how manner, once func(context.Context, *try) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Total, errTotal)
	defer cancel()
	var zero T
	for n := 0; ; n++ {
		out, err := attempt(ctx, c, private, how, once)
		if err == nil {
			return out, nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return zero, fmt.Errorf("%s: %w", what, context.Canceled)
		}
		e := c.errorOf(ctx, err)
		e.op, e.host, e.model = what, c.host, c.opts.Model
		if ctx.Err() != nil || n >= c.opts.MaxRetries || !e.passing(n) {
			return zero, e
		}
		pause := e.RetryAfter
		if pause == 0 {
			pause = min(c.opts.Backoff<<min(n, 10), 30*time.Second)
			pause -= rand.N(pause/2 + 1)
		}
		if end, _ := ctx.Deadline(); time.Until(end) <= pause {
			// Waiting here would end without another try: the caller may come back later instead.
			return zero, e
		}
		c.opts.Log.Warn("the model did not answer; trying again", "op", what, "model", c.opts.Model,
			"try", n+1, "in", pause.Round(time.Millisecond), "err", e)
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

// attempt makes one try under its own context, so that silence ends this try alone.
func attempt[T any](ctx context.Context, c *Client, private []string, how manner, once func(context.Context, *try) (T, error)) (T, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := &try{client: c.opts.HTTPClient, idle: c.opts.Idle, cancel: cancel, how: how, redact: redactor{key: c.opts.Key, private: private}}
	out, err := once(ctx, t)
	if err != nil && errors.Is(context.Cause(ctx), errIdle) {
		err = &Error{Kind: Timeout, Err: errIdle}
	}
	t.end()
	var api *openai.APIError
	if errors.As(err, &api) {
		err = t.apiError(api)
	}
	return out, err
}
