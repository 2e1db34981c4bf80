// Package model keeps the models that answer, by name and by what messages begin with.
//
// A Catalog is made once, from the settings, and does not change. It tells which model a text is
// for: the one with the longest prefix that the text begins with, in any case of letters, or the
// default. It asks that model, and where it is out of order the one that the settings name as its
// fallback; for a time that grows with each failure the broken one is then not asked at all. A
// chain of models takes no longer than one model alone may.
package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"wabot/internal/llm"
)

// Chat completes prompts. Its errors are those of llm.Client.
type Chat interface {
	Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error)
}

// Painter draws pictures. Its errors are those of llm.Client.
type Painter interface {
	Image(ctx context.Context, description, size string) (llm.Media, error)
}

// Model is one entry of a catalog.
type Model struct {
	// Name is what people and settings call the model: lower case, unlike any other's.
	Name string
	// Prefix begins the messages that are for this model, unlike any other's in any case of letters.
	Prefix string
	// Icon stands before its answers; empty for none.
	Icon string
	// Instructions are its system prompt; empty for the one that all models share.
	Instructions string
	// Page, if set, is where Instructions come from; what stands in Instructions is not used.
	Page *Page
	// Temperature and MaxTokens are those of llm.Prompt.
	Temperature float32
	MaxTokens   int
	// ContextTokens is how many tokens prompt and answer may have together; 0 where that is not known.
	ContextTokens int
	// Timeout bounds one answer; 0 leaves it to Options.Timeout.
	Timeout time.Duration
	// Fallback names the model, of the same kind, that answers while this one is out of order; empty for none.
	Fallback string
	// Prices are what its answers cost; zero where the settings do not say.
	Prices Prices
	// Sees tells that the model takes pictures with a question.
	Sees bool
	// Chat asks a model that answers with text, Painter one that answers with pictures: one of the two is set.
	Chat    Chat
	Painter Painter
	// Size is how large pictures are, as llm.Client.Image has it.
	Size string
}

// Draws reports whether the model answers with pictures.
func (m Model) Draws() bool { return m.Painter != nil }

// Prices are in one currency, the operator's own.
type Prices struct {
	// Prompt and Completion are for a million tokens, Image for one picture.
	Prompt, Completion, Image float64
	// Minute is for a minute of sound that is listened to, Characters for a million characters that are spoken.
	Minute, Characters float64
}

// Options are what a Catalog needs.
type Options struct {
	// Models are checked already: names and prefixes differ, a fallback is there, and leads back to no
	// model of its own chain.
	Models []Model
	// Default names the model for what begins with no prefix, one that answers with text.
	Default string
	// Timeout bounds one answer with all its fallbacks.
	Timeout time.Duration
	Log     *slog.Logger
}

// Catalog is all models. It is safe for concurrent use.
type Catalog struct {
	opts  Options
	tried []chan struct{} // by place in Models: closed once its page was tried

	mu     sync.Mutex
	broken map[string]outage // by name
}

// outage is a model's failures in a row.
type outage struct {
	failures int
	until    time.Time // before it, the model is not asked if another can be
}

// New returns a catalog.
func New(o Options) *Catalog {
	c := &Catalog{opts: o, broken: map[string]outage{}}
	for range o.Models {
		c.tried = append(c.tried, make(chan struct{}))
	}
	return c
}

// Models are the catalog's models, in the order of the settings.
func (c *Catalog) Models() []Model { return slices.Clone(c.opts.Models) }

// Named finds a model by its name, in any case of letters; the empty name is the default's.
func (c *Catalog) Named(name string) (Model, bool) {
	name = cmp.Or(name, c.opts.Default)
	i := slices.IndexFunc(c.opts.Models, func(m Model) bool { return strings.EqualFold(m.Name, name) })
	if i < 0 {
		return Model{}, false
	}
	return c.opts.Models[i].now(), true
}

// now is the model with the instructions that its page has now.
func (m Model) now() Model {
	if m.Page != nil {
		m.Instructions = m.Page.Text()
	}
	return m
}

// Prefixes are what messages for a model begin with.
func (c *Catalog) Prefixes() (all []string) {
	for _, m := range c.opts.Models {
		all = append(all, m.Prefix)
	}
	return all
}

// Pick finds the model that a text is for by its prefix, and the text without it. Not ok means that
// the text begins with none; then the model is the default.
func (c *Catalog) Pick(text string) (m Model, rest string, ok bool) {
	prefix, rest, ok := Cut(text, c.Prefixes()...)
	if ok {
		i := slices.IndexFunc(c.opts.Models, func(m Model) bool { return m.Prefix == prefix })
		return c.opts.Models[i].now(), rest, true
	}
	m, _ = c.Named("")
	return m, text, false
}

// Blank reports whether a reader sees nothing of r: space, and what only tells the direction of writing and the like.
func Blank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// Cut finds the longest of the prefixes that text begins with, as a word and in any case of letters, and the
// text without it and the space around it.
func Cut(text string, prefixes ...string) (prefix, rest string, ok bool) {
	for _, p := range prefixes {
		if r, found := cut(text, p); found && (!ok || utf8.RuneCountInString(p) > utf8.RuneCountInString(prefix)) {
			prefix, rest, ok = p, r, true
		}
	}
	return prefix, rest, ok
}

func cut(text, prefix string) (rest string, ok bool) {
	text = strings.TrimLeftFunc(text, Blank)
	want := prefix
	for want != "" {
		a, n := utf8.DecodeRuneInString(text)
		p, k := utf8.DecodeRuneInString(want)
		if n == 0 || unicode.ToLower(a) != unicode.ToLower(p) {
			return "", false
		}
		text, want = text[n:], want[k:]
	}
	rest = strings.TrimLeftFunc(text, unicode.IsSpace)
	next, _ := utf8.DecodeRuneInString(text)
	return rest, prefix != "" && (text == "" || Blank(next))
}

// WithIcon is an answer as the model gives it.
func (m Model) WithIcon(text string) string {
	if m.Icon == "" {
		return text
	}
	return m.Icon + " " + text
}

// WithoutIcon is an answer without the icon that any of the models put before it.
func (c *Catalog) WithoutIcon(text string) string {
	for _, m := range c.opts.Models {
		if m.Icon == "" {
			continue
		}
		if rest, ok := strings.CutPrefix(text, m.Icon+" "); ok {
			return rest
		}
	}
	return text
}

// Complete asks the model that p.Model names, which is one that answers with text, or its fallbacks.
// Completion.By names the one that answered. An error is that of the last one asked.
func (c *Catalog) Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error) {
	got, by, err := ask(ctx, c, p.Model, func(ctx context.Context, m Model) (llm.Completion, error) {
		q := p
		q.Temperature, q.MaxTokens = m.Temperature, m.MaxTokens
		if !m.Sees {
			q.Messages = blind(p.Messages)
		}
		return m.Chat.Complete(ctx, q)
	})
	if err != nil {
		return llm.Completion{}, err
	}
	got.By = by
	return got, nil
}

// blind are messages without their pictures, for a model that stands in for one that sees.
func blind(messages []llm.Message) []llm.Message {
	if !slices.ContainsFunc(messages, func(m llm.Message) bool { return len(m.Images) > 0 }) {
		return messages
	}
	all := slices.Clone(messages)
	for i, m := range all {
		if len(m.Images) > 0 {
			all[i].Images, all[i].Text = nil, "[You cannot see the pictures that came with this; say so if it matters.] "+m.Text
		}
	}
	return all
}

// Image lets the named model, which is one that answers with pictures, draw what the description says, or its
// fallbacks. by names the one that drew. An error is that of the last one asked.
func (c *Catalog) Image(ctx context.Context, name, description string) (picture llm.Media, by string, err error) {
	return ask(ctx, c, name, func(ctx context.Context, m Model) (llm.Media, error) {
		return m.Painter.Image(ctx, description, m.Size)
	})
}

// ask asks a model and its fallbacks, one after the other, until one answers. Those behind the one that is asked keep
// their share of the time.
func ask[T any](ctx context.Context, c *Catalog, name string, once func(context.Context, Model) (T, error)) (got T, by string, err error) {
	first, ok := c.Named(name)
	if !ok {
		return got, "", fmt.Errorf("no model is called %q", name)
	}
	inTime, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	chain := c.chain(first)
	for i, m := range chain {
		end, _ := inTime.Deadline()
		share := time.Until(end) / time.Duration(len(chain)-i)
		if m.Timeout > 0 {
			share = min(share, m.Timeout)
		}
		got, err = inShare(inTime, share, m, once)
		if err == nil {
			c.healed(m)
			return got, m.Name, nil
		}
		kind, out := outageOf(err)
		if ctx.Err() != nil || !out {
			break
		}
		pause := c.failed(m, err)
		if i+1 < len(chain) {
			c.opts.Log.Log(ctx, severity(kind), "a model is out of order; its fallback answers", "model", m.Name, "fallback", chain[i+1].Name,
				"not asked for", pause, "err", err)
		}
	}
	return got, "", err
}

func inShare[T any](ctx context.Context, share time.Duration, m Model, once func(context.Context, Model) (T, error)) (T, error) {
	if m.Page != nil && m.Page.Text() == "" {
		var none T
		return none, &llm.Error{Kind: llm.Unavailable, Err: errors.New("the model's instructions could not be fetched yet")}
	}
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	return once(ctx, m)
}

// chain is m with the fallbacks after it, without those that are known to be out of order, unless
// all are.
func (c *Catalog) chain(m Model) []Model {
	all := []Model{m}
	for m.Fallback != "" {
		m, _ = c.Named(m.Fallback)
		all = append(all, m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	up := slices.DeleteFunc(slices.Clone(all), func(m Model) bool { return now.Before(c.broken[m.Name].until) })
	if len(up) == 0 {
		return all
	}
	return up
}

// BrokenUntil is until when the named model is out of order and not asked if another can be; zero where it is in order.
func (c *Catalog) BrokenUntil(name string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := c.broken[name].until; time.Now().Before(until) {
		return until
	}
	return time.Time{}
}

func (c *Catalog) healed(m Model) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.broken, m.Name)
}

// pauses are how long a model is not asked after so many failures in a row, for the last one and all further ones the same.
var pauses = []time.Duration{time.Minute, 5 * time.Minute, 25 * time.Minute, time.Hour}

// failed notes a failure of m and returns for how long it will not be asked if there is another.
func (c *Catalog) failed(m Model, err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.broken[m.Name]
	longest := pauses[len(pauses)-1]
	pause := pauses[min(o.failures, len(pauses)-1)]
	if e := (*llm.Error)(nil); errors.As(err, &e) {
		pause = min(max(pause, e.RetryAfter), longest)
	}
	c.broken[m.Name] = outage{o.failures + 1, time.Now().Add(pause)}
	return pause
}

// outageOf tells whether err means that the model is out of order, so that another may do better: not
// what is wrong with the question.
func outageOf(err error) (llm.Kind, bool) {
	var e *llm.Error
	if !errors.As(err, &e) {
		return "", false
	}
	switch e.Kind {
	case llm.Unavailable, llm.Timeout, llm.RateLimited, llm.Quota, llm.Auth, llm.ModelUnknown:
		return e.Kind, true
	}
	return e.Kind, false
}

// severity is an error's for what somebody must mend.
func severity(k llm.Kind) slog.Level {
	switch k {
	case llm.Quota, llm.Auth, llm.ModelUnknown:
		return slog.LevelError
	}
	return slog.LevelWarn
}
