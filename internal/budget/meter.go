package budget

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	"wabot/internal/chat"
	"wabot/internal/llm"
)

// Bill gathers the charges of the calls that are made for one reply. It travels in their context.
type Bill struct {
	ledger *Ledger

	mu      sync.Mutex
	payer   chat.Message
	charges []chat.Charge
}

type billKey struct{}

// Open begins a bill: the calls that are made with the context go on it. The caller has its charges stored.
func (l *Ledger) Open(ctx context.Context) (context.Context, *Bill) {
	b := &Bill{ledger: l}
	return context.WithValue(ctx, billKey{}, b), b
}

// Pays says for whose message the next calls with ctx are.
func Pays(ctx context.Context, m chat.Message) {
	if b, ok := ctx.Value(billKey{}).(*Bill); ok {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.payer = m
	}
}

// Charges are those on the bill; none where it is nil.
func (b *Bill) Charges() []chat.Charge {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]chat.Charge(nil), b.charges...)
}

// Meter charges for the calls of models.
type Meter struct {
	Ledger *Ledger
	Log    *slog.Logger
}

// Pay charges for a call: c has what it used, its kind and its model. Where ctx carries no bill the charge is
// stored at once, and nobody's but the bot's.
func (m Meter) Pay(ctx context.Context, c chat.Charge) {
	bill, ok := ctx.Value(billKey{}).(*Bill)
	if !ok {
		// The call has been made, however soon its caller ends.
		if err := m.Ledger.Keep(context.WithoutCancel(ctx), m.Ledger.Make(c)); err != nil {
			m.Log.Warn("what a call of a model has cost could not be stored; trying again with the next", "err", err)
		}
		return
	}
	bill.mu.Lock()
	defer bill.mu.Unlock()
	c.Person, c.Chat, c.Own = bill.payer.Sender, bill.payer.Chat, bill.payer.Own
	bill.charges = append(bill.charges, m.Ledger.Make(c))
}

// Texts is what completes prompts.
type Texts interface {
	Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error)
}

// Complete asks for a text, and charges for it.
func (m Meter) Complete(ctx context.Context, of Texts, p llm.Prompt) (llm.Completion, error) {
	c, err := of.Complete(ctx, p)
	var e *llm.Error
	switch {
	case err == nil:
		charge := chat.Charge{Kind: chat.ForText, Model: c.By, Prompt: c.PromptTokens, Completion: c.CompletionTokens}
		if charge.Prompt <= 0 && charge.Completion <= 0 {
			charge.Prompt, charge.Completion, charge.Estimated = tokensOf(p), llm.Tokens(c.Text), true
		}
		m.Pay(ctx, charge)
	case errors.As(err, &e) && (e.Kind == llm.BadAnswer || e.Kind == llm.Filtered):
		// The model was at work, and what it has said cannot be told to anybody.
		m.Pay(ctx, chat.Charge{Kind: chat.ForText, Model: p.Model, Prompt: tokensOf(p), Estimated: true})
	}
	return c, err
}

// Pictures is what draws.
type Pictures interface {
	Image(ctx context.Context, model, description string) (picture llm.Media, by string, err error)
}

// Image asks for a picture, and charges for it.
func (m Meter) Image(ctx context.Context, of Pictures, model, description string) (llm.Media, string, error) {
	picture, by, err := of.Image(ctx, model, description)
	if err == nil {
		m.Pay(ctx, chat.Charge{Kind: chat.ForImage, Model: by, Images: 1})
	}
	return picture, by, err
}

// Ears write down recordings.
type Ears interface {
	Transcribe(ctx context.Context, sound llm.Media, language string) (string, error)
}

// bytesOfSecond is how much of a recording is taken for a second where it does not tell how long it lasts: 64 kbit/s, which
// phones record with at most.
const bytesOfSecond = 8000

// Transcribe has a recording written down by the named model, and charges for its length; it is estimated where lasts is not
// known, which is 0 then.
func (m Meter) Transcribe(ctx context.Context, of Ears, model string, sound llm.Media, language string, lasts time.Duration) (string, error) {
	text, err := of.Transcribe(ctx, sound, language)
	var e *llm.Error
	if err == nil || errors.As(err, &e) && e.Kind == llm.BadAnswer {
		c := chat.Charge{Kind: chat.ForSound, Model: model, Seconds: lasts.Seconds()}
		if lasts <= 0 {
			c.Seconds, c.Estimated = float64(len(sound.Data))/bytesOfSecond, true
		}
		m.Pay(ctx, c)
	}
	return text, err
}

// Mouth says texts.
type Mouth interface {
	Speak(ctx context.Context, text, voice string) (llm.Media, error)
}

// Speak has a text spoken by the named model, and charges for its characters.
func (m Meter) Speak(ctx context.Context, of Mouth, model, text, voice string) (llm.Media, error) {
	sound, err := of.Speak(ctx, text, voice)
	var e *llm.Error
	if err == nil || errors.As(err, &e) && e.Kind == llm.BadAnswer {
		m.Pay(ctx, chat.Charge{Kind: chat.ForSpeech, Model: model, Characters: utf8.RuneCountInString(text)})
	}
	return sound, err
}

// perMessage is what a message costs beside its text, in tokens: its role and its borders.
const perMessage = 4

// tokensOf is about how many tokens a prompt has.
func tokensOf(p llm.Prompt) (n int) {
	for _, m := range p.Messages {
		n += perMessage + llm.Tokens(m.Text) + len(m.Images)*tokensOfImage
	}
	return n
}
