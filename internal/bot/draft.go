package bot

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"wabot/internal/chat"
	"wabot/internal/format"
	"wabot/internal/inbox"
	"wabot/internal/mask"
	"wabot/internal/words"
)

// Manner is what a chat sees of an answer that is being made.
type Manner string

// The manners. The empty one is Typing.
const (
	Typing      Manner = "typing"      // "typing", and then the answer
	Placeholder Manner = "placeholder" // a message that is edited into the answer
	Stream      Manner = "stream"      // the answer as it grows, by edits
)

const (
	// pace is the time between two signs of a growing answer; an answer that is there within it comes whole.
	pace = 1500 * time.Millisecond
	// closing is how old a message may be to be edited on: WhatsApp's apps take edits for editWindow, and the last one
	// needs its time.
	closing = editWindow - time.Minute
)

// draft is the reply to a turn while it is made: an open reply, whose parts are saved before they are sent, so that
// whoever goes on with the turn edits the same messages into the answer. Its methods are called by one
// goroutine at a time.
type draft struct {
	bot *Bot
	t   *chat.Turn
	// done are the turn's answers that are whole, where several models are asked.
	done []chat.Part
	// shown is what each message shows, by ID, as far as it is known.
	shown  map[string]string
	frozen frozen
	// quiet is set where nothing is shown meanwhile.
	quiet bool
}

func (b *Bot) draft(t *chat.Turn) *draft {
	return &draft{bot: b, t: t, shown: map[string]string{}}
}

// open are the parts that are shown for the time being.
func (d *draft) open() []chat.Part {
	if !d.t.Reply.Open() {
		return nil
	}
	return d.t.Reply.Parts
}

// add saves one more part with the text and sends it.
func (d *draft) add(ctx context.Context, text string, quote bool) error {
	r := chat.Reply{Parts: append(slices.Clone(d.open()), chat.Part{ID: d.bot.WA.NewID(), Text: text, Quote: quote, Opened: time.Now()})}
	if err := d.bot.Turns.SaveReply(ctx, d.t, r); err != nil {
		return err
	}
	return d.deliver(ctx, len(r.Parts)-1)
}

// deliver sends an open part as it was saved.
func (d *draft) deliver(ctx context.Context, i int) error {
	p := &d.t.Reply.Parts[i]
	sent := *p
	sent.Opened = time.Time{}
	if err := d.bot.sendPart(ctx, d.t, sent); err != nil {
		return err
	}
	p.Sent = true
	d.shown[p.ID] = p.Text
	return nil
}

// asking shows, before a model is asked, that it is.
func (d *draft) asking(ctx context.Context) error {
	if d.quiet || d.bot.Manner != Placeholder {
		return nil
	}
	if open := d.open(); len(open) == 0 {
		return d.add(ctx, cmp.Or(d.bot.Processing, d.bot.Words.Say(words.Processing)), true)
	} else if !open[0].Sent {
		return d.deliver(ctx, 0)
	}
	return nil
}

// grows returns what takes a model's text as it grows, and what is called once the model has ended, which returns an
// error where the turn is lost. Where it is lost meanwhile, cancel is called.
func (d *draft) grows(ctx context.Context, icon func(string) string, cancel func()) (onText func(string), end func() error) {
	if d.quiet || d.bot.Manner != Stream {
		return nil, func() error { return nil }
	}
	var mu sync.Mutex
	var latest string
	var worker sync.WaitGroup
	stop := make(chan struct{})
	var lost error
	begin := sync.OnceFunc(func() {
		worker.Go(func() {
			tick := time.NewTicker(cmp.Or(d.bot.Pace, pace))
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				mu.Lock()
				text := latest
				mu.Unlock()
				err := d.step(ctx, text, icon)
				switch {
				case errors.Is(err, inbox.ErrLeaseLost):
					lost = err
					cancel()
					return
				case err != nil && ctx.Err() == nil:
					d.bot.Log.Debug("the growing answer is not shown now", "chat", mask.JID(d.t.Chat), "err", err)
				}
			}
		})
	})
	onText = func(text string) {
		mu.Lock()
		latest = text
		mu.Unlock()
		begin()
	}
	return onText, func() error {
		close(stop)
		worker.Wait()
		return lost
	}
}

// step does one thing for the chat to show the answers so far, the last of which has grown to text: it sends a message or
// edits one.
func (d *draft) step(ctx context.Context, text string, icon func(string) string) error {
	open := d.open()
	if n := len(open); n > len(d.done)+len(d.frozen.parts) && time.Since(open[n-1].Opened) > closing {
		d.freeze(text, icon)
	}
	for i, want := range d.wanted(text, icon) {
		switch {
		case i >= len(open):
			return d.add(ctx, want, i == 0 && d.t.Last().Group)
		case !open[i].Sent:
			return d.deliver(ctx, i)
		case d.shown[open[i].ID] != want && time.Since(open[i].Opened) < editWindow:
			err := d.bot.WA.Send(ctx, d.t.Chat, chat.Part{ID: d.bot.WA.NewID(), Edits: open[i].ID, Text: want}, nil)
			if err == nil {
				d.shown[open[i].ID] = want
			}
			return err
		}
	}
	return nil
}

// wanted is what the messages should show now.
func (d *draft) wanted(text string, icon func(string) string) (all []string) {
	for _, p := range d.done {
		if p.Media() {
			return nil // the messages before it will not be edited into anything
		}
		all = append(all, p.Text)
	}
	return append(all, d.split(text, format.Partial, icon)...)
}

// frozen is the beginning of an answer that stands in messages too old to be edited any more.
type frozen struct {
	source string   // in the model's words
	parts  []string // as the messages have it
	fence  string   // begins the code block that goes on after it; empty for none
}

// split is an answer in messages, converted from Markdown, and with what is frozen as it is. An answer that has begun
// anew is free of it.
func (d *draft) split(text string, convert func(string) string, icon func(string) string) []string {
	if d.frozen.source == "" {
		return d.bot.parts(icon(convert(text)))
	}
	rest, same := strings.CutPrefix(text, d.frozen.source)
	if !same {
		d.frozen = frozen{}
		return d.bot.parts(icon(convert(text)))
	}
	if d.frozen.fence != "" {
		rest = d.frozen.fence + "\n" + rest
	}
	return append(slices.Clone(d.frozen.parts), d.bot.parts(convert(rest))...)
}

// freeze ends the messages that show text: they get no edits but the last, and what follows goes into new ones.
func (d *draft) freeze(text string, icon func(string) string) {
	if !strings.HasPrefix(text, d.frozen.source) {
		d.frozen = frozen{}
	}
	n, fence := format.Border(d.frozen.fence, text[len(d.frozen.source):])
	head := text[:len(d.frozen.source)+n]
	d.frozen = frozen{source: head, parts: d.split(head, format.Markdown, icon), fence: fence}
}

// fit makes the reply of what is said: the open parts are edited into it, as far as that can be done. The others are taken
// back, and what is left to say is said anew. A part that shows what it should stays as it is.
func (d *draft) fit(said []chat.Part) (all []chat.Part) {
	open, i := d.open(), 0
	for ; i < len(open) && i < len(said); i++ {
		p, s := open[i], said[i]
		s.ID, s.Quote = p.ID, p.Quote
		if p.Sent && d.shown[p.ID] == s.Text && len(s.Mentions) == 0 {
			s.Sent = true
		} else if s.Media() || time.Since(p.Opened) > closing {
			break
		} else if s.Via = d.bot.WA.NewID(); !p.Sent {
			s.Draft = p.Text
		}
		all = append(all, s)
	}
	for _, p := range open[i:] {
		all = append(all, chat.Part{ID: d.bot.WA.NewID(), Revokes: p.ID})
	}
	rest := d.bot.named(slices.Clone(said[i:]))
	if len(open) > 0 && i == 0 && len(rest) > 0 {
		rest[0].Quote = open[0].Quote
	}
	return append(all, rest...)
}

// settled takes out of a reply that is sent what only led to it.
func settled(r *chat.Reply) {
	var left []chat.Part
	for _, p := range r.Parts {
		if p.Edits == "" && p.Revokes == "" {
			p.Via, p.Draft = "", ""
			left = append(left, p)
		}
	}
	r.Parts = left
}
