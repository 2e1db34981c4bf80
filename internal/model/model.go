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
	// Temperature and MaxTokens are those of llm.Prompt.
	Temperature float32
	MaxTokens   int
	// Timeout bounds one answer; 0 leaves it to Options.Timeout.
	Timeout time.Duration
	// Fallback names the model that answers while this one is out of order; empty for none.
	Fallback string
	// Prices are what its answers cost; zero where the settings do not say.
	Prices Prices
	// Chat asks the model.
	Chat Chat
}

// Prices are in one currency, the operator's own.
type Prices struct {
	// Prompt and Completion are for a million tokens.
	Prompt, Completion float64
}

// Options are what a Catalog needs.
type Options struct {
	// Models are checked already: names and prefixes differ, a fallback is there, and leads back to no
	// model of its own chain.
	Models []Model
	// Default names the model for what begins with no prefix.
	Default string
	// Timeout bounds one answer with all its fallbacks.
	Timeout time.Duration
	Log     *slog.Logger
}

// Catalog is all models. It is safe for concurrent use.
type Catalog struct {
	opts Options

	mu     sync.Mutex
	broken map[string]outage // by name
}

// outage is a model's failures in a row.
type outage struct {
	failures int
	until    time.Time // before it, the model is not asked if another can be
}

// New returns a catalog.
func New(o Options) *Catalog { return &Catalog{opts: o, broken: map[string]outage{}} }

// Models are the catalog's models, in the order of the settings.
func (c *Catalog) Models() []Model { return slices.Clone(c.opts.Models) }

// Named finds a model by its name, in any case of letters; the empty name is the default's.
func (c *Catalog) Named(name string) (Model, bool) {
	name = cmp.Or(name, c.opts.Default)
	i := slices.IndexFunc(c.opts.Models, func(m Model) bool { return strings.EqualFold(m.Name, name) })
	if i < 0 {
		return Model{}, false
	}
	return c.opts.Models[i], true
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
		return c.opts.Models[i], rest, true
	}
	m, _ = c.Named("")
	return m, text, false
}

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
	text = strings.TrimLeftFunc(text, unicode.IsSpace)
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
	return rest, prefix != "" && (rest == "" || len(rest) < len(text))
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

// Complete asks the model that p.Model names, or its fallbacks. Completion.By names the one that
// answered. An error is that of the last one asked.
func (c *Catalog) Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error) {
	first, ok := c.Named(p.Model)
	if !ok {
		return llm.Completion{}, fmt.Errorf("complete: no model is called %q", p.Model)
	}
	inTime, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	chain := c.chain(first)
	for i, m := range chain {
		got, err := c.ask(inTime, m, p, len(chain)-i)
		if err == nil {
			c.healed(m)
			got.By = m.Name
			return got, nil
		}
		kind, out := outageOf(err)
		if ctx.Err() != nil || !out {
			return llm.Completion{}, err
		}
		pause := c.failed(m, err)
		if i+1 == len(chain) {
			return llm.Completion{}, err
		}
		c.opts.Log.Log(ctx, severity(kind), "a model is out of order; its fallback answers", "model", m.Name, "fallback", chain[i+1].Name,
			"not asked for", pause, "err", err)
	}
	panic("unreachable: a chain is never empty")
}

// ask asks one model of a chain of n that are left. Those behind it keep their share of the time.
func (c *Catalog) ask(ctx context.Context, m Model, p llm.Prompt, n int) (llm.Completion, error) {
	end, _ := ctx.Deadline()
	share := time.Until(end) / time.Duration(n)
	if m.Timeout > 0 {
		share = min(share, m.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	p.Temperature, p.MaxTokens = m.Temperature, m.MaxTokens
	return m.Chat.Complete(ctx, p)
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
