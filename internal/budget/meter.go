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

// Texts completes prompts as Of does, and charges for them.
type Texts struct {
	Of    func(ctx context.Context, p llm.Prompt) (llm.Completion, error)
	Meter Meter
}

// Complete asks for a text.
func (t Texts) Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error) {
	c, err := t.Of(ctx, p)
	var e *llm.Error
	switch {
	case err == nil:
		charge := chat.Charge{Kind: chat.ForText, Model: c.By, Prompt: c.PromptTokens, Completion: c.CompletionTokens}
		if charge.Prompt <= 0 && charge.Completion <= 0 {
			charge.Prompt, charge.Completion, charge.Estimated = tokensOf(p), llm.Tokens(c.Text), true
		}
		t.Meter.Pay(ctx, charge)
	case errors.As(err, &e) && (e.Kind == llm.BadAnswer || e.Kind == llm.Filtered):
		// The model was at work, and what it has said cannot be told to anybody.
		t.Meter.Pay(ctx, chat.Charge{Kind: chat.ForText, Model: p.Model, Prompt: tokensOf(p), Estimated: true})
	}
	return c, err
}

// Pictures draws as Of does, and charges for each picture.
type Pictures struct {
	Of    func(ctx context.Context, model, description string) (picture llm.Media, by string, err error)
	Meter Meter
}

// Image asks for a picture.
func (p Pictures) Image(ctx context.Context, model, description string) (llm.Media, string, error) {
	picture, by, err := p.Of(ctx, model, description)
	if err == nil {
		p.Meter.Pay(ctx, chat.Charge{Kind: chat.ForImage, Model: by, Images: 1})
	}
	return picture, by, err
}

// Ears write down recordings as Of does, by the named model, and charge for how long they last, which Lasts tells.
type Ears struct {
	Of    func(ctx context.Context, sound llm.Media, language string) (string, error)
	Model string
	Lasts func(recording []byte) (time.Duration, error)
	Meter Meter
}

// bytesOfSecond is how much of a recording is taken for a second where it does not tell how long it lasts: 64 kbit/s, which
// phones record with at most.
const bytesOfSecond = 8000

// Transcribe has a recording written down.
func (e Ears) Transcribe(ctx context.Context, sound llm.Media, language string) (string, error) {
	text, err := e.Of(ctx, sound, language)
	if err == nil || badAnswer(err) {
		c := chat.Charge{Kind: chat.ForSound, Model: e.Model}
		if lasts, err := e.Lasts(sound.Data); err == nil && lasts > 0 {
			c.Seconds = lasts.Seconds()
		} else {
			c.Seconds, c.Estimated = float64(len(sound.Data))/bytesOfSecond, true
		}
		e.Meter.Pay(ctx, c)
	}
	return text, err
}

// Mouth says texts as Of does, by the named model, and charges for their characters.
type Mouth struct {
	Of    func(ctx context.Context, text, voice string) (llm.Media, error)
	Model string
	Meter Meter
}

// Speak has a text spoken.
func (m Mouth) Speak(ctx context.Context, text, voice string) (llm.Media, error) {
	sound, err := m.Of(ctx, text, voice)
	if err == nil || badAnswer(err) {
		m.Meter.Pay(ctx, chat.Charge{Kind: chat.ForSpeech, Model: m.Model, Characters: utf8.RuneCountInString(text)})
	}
	return sound, err
}

// badAnswer tells whether a model was at work, although there is nothing to use.
func badAnswer(err error) bool {
	var e *llm.Error
	return errors.As(err, &e) && e.Kind == llm.BadAnswer
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
