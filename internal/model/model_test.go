package model

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"wabot/internal/llm"
)

// fake is a model that notes when it is asked, and fails with err where that is set.
type fake struct {
	name  string
	asked *[]string
	err   error
	hangs bool // until its time is up
	got   llm.Prompt
}

func (f *fake) Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error) {
	*f.asked = append(*f.asked, f.name)
	f.got = p
	if f.hangs {
		<-ctx.Done()
		return llm.Completion{}, &llm.Error{Kind: llm.Timeout, Err: ctx.Err()}
	}
	if f.err != nil {
		return llm.Completion{}, f.err
	}
	return llm.Completion{Text: "by " + f.name}, nil
}

// three are models a, b and c, each the fallback of the one before.
func three(t *testing.T) (c *Catalog, fakes []*fake, asked *[]string) {
	t.Helper()
	asked = new([]string)
	var models []Model
	names := []string{"a", "b", "c"}
	for i, name := range names {
		f := &fake{name: name, asked: asked}
		m := Model{Name: name, Prefix: "!" + name, Chat: f, Temperature: float32(i) / 2, MaxTokens: i * 100}
		if i+1 < len(names) {
			m.Fallback = names[i+1]
		}
		fakes, models = append(fakes, f), append(models, m)
	}
	return New(Options{Models: models, Default: "a", Timeout: time.Minute, Log: slog.New(slog.DiscardHandler)}), fakes, asked
}

func down() error { return &llm.Error{Kind: llm.Unavailable, Err: errors.New("refused")} }

func TestPick(t *testing.T) {
	t.Parallel()
	c := New(Options{Default: "openai", Models: []Model{
		{Name: "openai", Prefix: "!ai"}, {Name: "gemini", Prefix: "!gemini"}, {Name: "pro", Prefix: "!gemini pro"},
		{Name: "short", Prefix: "!g"}, {Name: "german", Prefix: "frag Änne"},
	}})
	for _, test := range []struct {
		text, model, rest string
		ok                bool
	}{
		{"!ai hello", "openai", "hello", true},
		{"!GEMINI Hello", "gemini", "Hello", true},
		{"!gemini\nhello", "gemini", "hello", true},
		{"  !Gemini Pro hello", "pro", "hello", true},
		{"!gemini prose", "gemini", "prose", true},
		{"!gemini", "gemini", "", true},
		{"!geminis hello", "openai", "!geminis hello", false},
		{"!g hello", "short", "hello", true},
		{"FRAG äNNE wie spät", "german", "wie spät", true},
		{"hello !gemini", "openai", "hello !gemini", false},
		{"", "openai", "", false},
	} {
		m, rest, ok := c.Pick(test.text)
		if m.Name != test.model || rest != test.rest || ok != test.ok {
			t.Errorf("%q: got %s, %q, %v, want %s, %q, %v", test.text, m.Name, rest, ok, test.model, test.rest, test.ok)
		}
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, prefix, rest string
		ok                 bool
	}{
		{"!ai hello", "!ai", "hello", true},
		{" \n!Ai\nhello ", "!ai", "hello ", true},
		{"!ai", "!ai", "", true},
		{"!a", "!ai", "", false},
		{"!aihello", "!ai", "", false},
		{"ÄFFCHEN hallo", "äffchen", "hallo", true},
		{"hello", "", "hello", false},
		{"", "!ai", "", false},
		{"\u200f!ai hello", "!ai", "hello", true},
		{"\ufeff!ai\u200f \u05d0", "!ai", "\u200f \u05d0", true},
		{"!ai\u200b", "!ai", "\u200b", true},
		{"!a\u200bi hello", "!ai", "", false},
		{"\xff\xfe", "!ai", "", false},
	} {
		prefix, rest, ok := Cut(test.text, test.prefix)
		if ok != test.ok || ok && (rest != test.rest || prefix != test.prefix) {
			t.Errorf("Cut(%q, %q) = %q, %q, %v; want %q, %v", test.text, test.prefix, prefix, rest, ok, test.rest, test.ok)
		}
	}
}

// FuzzCut: what is cut is a prefix and space, whatever strangers send.
func FuzzCut(f *testing.F) {
	f.Add("!ai hello", "!ai", "!ai pro")
	f.Add(" ÄFFCHEN\u00a0x", "äffchen", "")
	f.Add("\xff\xfe", "\xff", "\xfe")
	f.Fuzz(func(t *testing.T, text, a, b string) {
		prefix, rest, ok := Cut(text, a, b)
		if !ok {
			if rest != "" || prefix != "" {
				t.Errorf("found none, and returned %q, %q", prefix, rest)
			}
			return
		}
		if prefix == "" || prefix != a && prefix != b || !strings.HasSuffix(text, rest) || strings.TrimLeftFunc(rest, unicode.IsSpace) != rest {
			t.Errorf("Cut(%q, %q, %q) = %q, %q", text, a, b, prefix, rest)
		}
		other := a
		if prefix == a {
			other = b
		}
		if _, _, found := Cut(text, other); found && utf8.RuneCountInString(other) > utf8.RuneCountInString(prefix) {
			t.Errorf("%q is longer than %q", other, prefix)
		}
	})
}

func TestNamed(t *testing.T) {
	t.Parallel()
	c, _, _ := three(t)
	for name, want := range map[string]string{"": "a", "B": "b", "c": "c"} {
		if m, ok := c.Named(name); !ok || m.Name != want {
			t.Errorf("%q: got %q, %v", name, m.Name, ok)
		}
	}
	if _, ok := c.Named("d"); ok {
		t.Error("found a model that is not there")
	}
	if _, err := c.Complete(t.Context(), llm.Prompt{Model: "d"}); err == nil {
		t.Error("a model that is not there answered")
	}
}

func TestIcon(t *testing.T) {
	t.Parallel()
	plain, fancy := Model{Name: "a"}, Model{Name: "b", Icon: "🔮"}
	c := New(Options{Models: []Model{plain, fancy}})
	if got := plain.WithIcon("hi"); got != "hi" {
		t.Errorf("got %q", got)
	}
	if got := fancy.WithIcon("hi"); got != "🔮 hi" || c.WithoutIcon(got) != "hi" {
		t.Errorf("got %q, without icon %q", got, c.WithoutIcon(got))
	}
	if got := c.WithoutIcon("🔮hi"); got != "🔮hi" {
		t.Errorf("cut what is no icon: %q", got)
	}
}

// Each model is asked with its own settings.
func TestCompleteAsksTheNamedModel(t *testing.T) {
	t.Parallel()
	c, fakes, asked := three(t)
	got, err := c.Complete(t.Context(), llm.Prompt{Model: "c", Messages: []llm.Message{{Text: "hi"}}})
	if err != nil || got.Text != "by c" || got.By != "c" || !slices.Equal(*asked, []string{"c"}) {
		t.Fatal(got, err, *asked)
	}
	if p := fakes[2].got; p.Temperature != 1 || p.MaxTokens != 200 || len(p.Messages) != 1 {
		t.Errorf("asked %+v", p)
	}
}

// What another model would do better is left to the fallback; what is wrong with the question is not.
func TestFallbackByKind(t *testing.T) {
	t.Parallel()
	for kind, want := range map[llm.Kind]bool{
		llm.Unavailable: true, llm.Timeout: true, llm.RateLimited: true, llm.Quota: true, llm.Auth: true, llm.ModelUnknown: true,
		llm.BadRequest: false, llm.BadAnswer: false, llm.Filtered: false, llm.TooLong: false,
	} {
		c, fakes, asked := three(t)
		fakes[0].err = &llm.Error{Kind: kind, Err: errors.New("x")}
		got, err := c.Complete(t.Context(), llm.Prompt{})
		if fell := err == nil && got.By == "b"; fell != want {
			t.Errorf("%s: answered by %q, %v, asked %q", kind, got.By, err, *asked)
		}
	}
}

func TestErrorOfTheLastIsReturned(t *testing.T) {
	t.Parallel()
	c, fakes, asked := three(t)
	fakes[0].err, fakes[1].err = down(), down()
	fakes[2].err = &llm.Error{Kind: llm.Quota, Err: errors.New("x")}
	_, err := c.Complete(t.Context(), llm.Prompt{})
	var e *llm.Error
	if !errors.As(err, &e) || e.Kind != llm.Quota || !slices.Equal(*asked, []string{"a", "b", "c"}) {
		t.Error(err, *asked)
	}
	// All are known to be out of order, and are asked all the same.
	fakes[1].err = nil
	if got, err := c.Complete(t.Context(), llm.Prompt{}); err != nil || got.By != "b" {
		t.Error(got, err)
	}
}

// A model that is out of order is not asked for a minute, then for longer; one answer heals it.
func TestCoolDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, fakes, asked := three(t)
		var log bytes.Buffer
		c.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
		fakes[0].err = down()
		complete := func(want ...string) {
			t.Helper()
			*asked = nil
			if _, err := c.Complete(t.Context(), llm.Prompt{}); err != nil || !slices.Equal(*asked, want) {
				t.Fatalf("asked %q, %v, want %q", *asked, err, want)
			}
		}
		for _, pause := range append(slices.Clone(pauses), time.Hour) {
			complete("a", "b")
			time.Sleep(pause - time.Second)
			complete("b")
			time.Sleep(2 * time.Second)
		}
		fakes[0].err = nil
		complete("a")
		fakes[0].err = down()
		complete("a", "b")
		time.Sleep(time.Minute + time.Second)
		complete("a", "b")
		if n := strings.Count(log.String(), "its fallback answers"); n != 7 {
			t.Errorf("%d lines of the log, want 7:\n%s", n, log.String())
		}
	})
}

// A server that asks to be left alone for longer is, within bounds.
func TestCoolDownAsTheServerAsks(t *testing.T) {
	t.Parallel()
	c, fakes, _ := three(t)
	fakes[0].err = &llm.Error{Kind: llm.RateLimited, RetryAfter: 10 * time.Minute, Err: errors.New("x")}
	if got := c.failed(c.opts.Models[0], fakes[0].err); got != 10*time.Minute {
		t.Errorf("pause %v", got)
	}
	fakes[0].err = &llm.Error{Kind: llm.RateLimited, RetryAfter: 240 * time.Hour, Err: errors.New("x")}
	if got := c.failed(c.opts.Models[0], fakes[0].err); got != time.Hour {
		t.Errorf("pause %v", got)
	}
}

// A model that hangs leaves its fallbacks their time, and the chain ends when one model alone would.
func TestFallbackInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, fakes, _ := three(t)
		fakes[0].hangs, fakes[1].hangs, fakes[2].hangs = true, true, true
		begin := time.Now()
		if _, err := c.Complete(t.Context(), llm.Prompt{}); err == nil {
			t.Error("no error")
		}
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("took %v, want a minute", took)
		}
		fakes[2].hangs = false
		begin = time.Now()
		got, err := c.Complete(t.Context(), llm.Prompt{})
		if took := time.Since(begin); err != nil || got.By != "c" || took != 40*time.Second {
			t.Errorf("%v, %v after %v", got, err, took)
		}
	})
}

// A turn that is stopped is not the model's fault.
func TestStopIsNoOutage(t *testing.T) {
	t.Parallel()
	c, fakes, asked := three(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fakes[0].hangs = true
	if _, err := c.Complete(ctx, llm.Prompt{}); err == nil || !slices.Equal(*asked, []string{"a"}) || len(c.broken) > 0 {
		t.Error(err, *asked, c.broken)
	}
}

type painter struct {
	err       error
	got, size string
}

func (p *painter) Image(_ context.Context, description, size string) (llm.Media, error) {
	p.got, p.size = description, size
	return llm.Media{Data: []byte("by painter")}, p.err
}

func TestImage(t *testing.T) {
	t.Parallel()
	broken, whole := &painter{err: down()}, &painter{}
	c := New(Options{Timeout: time.Minute, Log: slog.New(slog.DiscardHandler), Default: "x", Models: []Model{
		{Name: "x", Prefix: "!x", Chat: &fake{}}, {Name: "a", Prefix: "!a", Painter: broken, Fallback: "b"}, {Name: "b", Prefix: "!b", Painter: whole, Size: "64x64"},
	}})
	got, by, err := c.Image(t.Context(), "a", "a cat")
	if err != nil || by != "b" || string(got.Data) != "by painter" || broken.got != "a cat" || whole.got != "a cat" || whole.size != "64x64" {
		t.Error(got, by, err, broken, whole)
	}
	if m, _, _ := c.Pick("!a cat"); !m.Draws() {
		t.Error("a does not draw")
	}
	if m, _, _ := c.Pick("hi"); m.Draws() {
		t.Error("x draws")
	}
}
