// Package bot answers one turn: it decides who is answered, asks the model with the chat's
// history, and sends the reply. What it wants sent is saved before it is sent, so that a turn
// that is repeated after a crash sends the same messages again instead of others.
package bot

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/format"
	"wabot/internal/inbox"
	"wabot/internal/llm"
	"wabot/internal/mask"
	"wabot/internal/model"
	"wabot/internal/words"
)

// Model completes a prompt. Its errors are *llm.Error.
type Model interface {
	Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error)
}

// Messenger sends to chats.
type Messenger interface {
	// NewID chooses the ID of an outgoing message.
	NewID() string
	// Send sends a part, quoting a message if that is not nil. Sending a part again is
	// harmless: people see one message for each ID.
	Send(ctx context.Context, chatJID string, p chat.Part, quote *chat.Message) error
	// Typing shows the bot as typing until stop is called.
	Typing(ctx context.Context, chatJID string) (stop func())
	// React reacts to a message with an emoji, or with none any more where it is empty.
	React(ctx context.Context, m chat.Message, emoji string)
	// MarkRead shows messages of one chat as read.
	MarkRead(ctx context.Context, messages []chat.Message)
	// Own is the address of the account's chat with itself, and its other one.
	Own() (jid, alt string)
}

// Turns is the part of the inbox that a turn works with.
type Turns interface {
	History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error)
	SaveReply(ctx context.Context, t *chat.Turn, r chat.Reply) error
	// Find returns the turn of a message, known by its chat, sender and ID; inbox.ErrUnknown if it is not there.
	Find(ctx context.Context, like chat.Message) (chat.Exchange, error)
	// Amend replaces what is stored of messages of one turn, and with r the reply of a turn that has ended.
	Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error
	// Heard is what was said in a group since Unhear, and is not to be answered.
	Heard(ctx context.Context, chatJID string) ([]chat.Message, error)
	Unhear(ctx context.Context, chatJID string, used []chat.Message) error
	// Erase deletes what the person with these addresses has said in a chat, and what was answered to it.
	Erase(ctx context.Context, chatJID string, person ...string) error
	// Put stores a message of the bot's own making, to be answered.
	Put(ctx context.Context, m chat.Message) error
	// Summary is what SetSummary has kept of a chat last; zero where that is nothing.
	Summary(ctx context.Context, chatJID string) (inbox.Summary, error)
	SetSummary(ctx context.Context, chatJID string, s inbox.Summary, now time.Time) error
}

// Options are what a Bot needs. All are required but Instructions and History.
type Options struct {
	Rules Rules
	// Model completes prompts, by Prompt.Model, the name of one of Models.
	Model  Model
	Models *model.Catalog
	// Painter and Uploader make the pictures of the models that draw; nil where none of Models does.
	Painter  Painter
	Uploader Uploader
	// Fetcher and Opener open what messages carry, within Limits; nil open nothing. Ears write down recordings; nil where the
	// bot does not listen.
	Fetcher Fetcher
	Opener  Opener
	Ears    Ears
	Limits  Limits
	// Mouth and VoiceUploader make the answers that are spoken, in Voice (a name, or empty), when VoiceReply says or a chat has
	// chosen; nil where none can be.
	Mouth         Mouth
	VoiceUploader VoiceUploader
	Voice         string
	VoiceReply    VoiceReply
	Turns         Turns
	WA            Messenger
	// Instructions are the system prompt of the models that have none of their own.
	Instructions string
	// History is how many past turns the model is given.
	History int
	// HistoryTokens is how many tokens these may have together.
	HistoryTokens int
	// Summaries has what falls out of the history summarised, by Run.
	Summaries bool
	// MaxAge is the age from which on a message is not answered; zero answers all.
	MaxAge time.Duration
	// Now is the time by the clock that messages' times are of, WhatsApp's; time.Now if nil.
	Now func() time.Time
	// Takeover is how long the bot is quiet in a chat after the account's owner has written there by hand; zero for
	// not at all.
	Takeover time.Duration
	Notes    Notes
	// Manner is what is shown of an answer that is being made, Processing the text of a placeholder; one of Words if empty.
	Manner     Manner
	Processing string
	// Pause is the time between the messages of one reply, Pace that between two signs of a growing one; zero for one
	// that WhatsApp bears.
	Pause, Pace time.Duration
	// Ack is the emoji that a question is reacted to with until it is answered; empty for none.
	Ack string
	// StrangerNotices tell the account's owner of people who asked the bot and may not.
	StrangerNotices bool
	// Status says how the bot is.
	Status func(ctx context.Context) Status
	// Ledger knows what was spent and Rates how fast people write; nil for no limits. Gated, if set, is told of messages that are
	// not to be answered.
	Ledger *budget.Ledger
	Rates  *budget.Pace
	Gated  func(chat.Mark)
	// Words are what the bot says of its own.
	Words words.Words
	Log   *slog.Logger
}

// Bot answers turns. It is safe for concurrent use.
type Bot struct {
	Options
	mu      sync.Mutex
	refused map[string]bool
	drawn   map[string]drawing   // by message
	quiet   map[string]time.Time // by chat: until when the owner has it, as far as it was looked up

	// What people have set, as far as it was looked up; each lock is held from looking to keeping.
	setting   sync.Mutex
	set       map[string]settings // by chat
	granting  sync.Mutex
	granted   bool // grants are looked up
	grants    []grant
	reporting sync.Mutex
	strangers *strangers
	// summaries is what is known of them, by chat; due those that may have to be made.
	summaries map[string]remembered
	due       chan toSummarise
}

// New returns a bot.
func New(o Options) *Bot {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Bot{Options: o, refused: map[string]bool{}, drawn: map[string]drawing{}, quiet: map[string]time.Time{}, set: map[string]settings{},
		summaries: map[string]remembered{}, due: make(chan toSummarise, summaries)}
}

// partLimit is the length, in characters, that a message is split at. WhatsApp takes 65,536, but shows
// "read more" long before.
const partLimit = 4000

// mostParts bounds a reply, in messages.
const mostParts = 5

// parts splits an answer into the messages it is sent as.
func (b *Bot) parts(text string) []string {
	all := format.Split(text, partLimit)
	if len(all) > mostParts {
		all = all[:mostParts]
		all[mostParts-1] += "\n\n" + b.Words.Say(words.GoesOn)
	}
	return all
}

// Answer answers a turn. An error means: try the turn again.
func (b *Bot) Answer(ctx context.Context, t chat.Turn) error {
	if t.Reply == nil || t.Reply.Open() {
		if err := b.reply(ctx, &t); err != nil {
			return err
		}
	}
	if t.Reply != nil {
		if err := b.send(ctx, &t); err != nil {
			return err
		}
		b.acked(ctx, &t)
	}
	if err := b.amended(ctx, &t); err != nil {
		return err
	}
	if t.Reply != nil {
		settled(t.Reply)
	}
	return nil
}

// reply makes the reply to t and saves it. Where nothing is to be said there is none.
func (b *Bot) reply(ctx context.Context, t *chat.Turn) (err error) {
	w, err := b.work(ctx, t)
	if err != nil {
		return err
	}
	d := b.draft(t)
	if w.nothing() && t.Reply == nil {
		if len(w.left) == 0 {
			return nil
		}
		return b.Turns.SaveReply(ctx, t, chat.Reply{Left: w.left, Failure: w.refusal})
	}
	ctx, bill, settle := b.billed(ctx)
	defer func() { settle(err) }()
	b.WA.MarkRead(ctx, spoken(append(w.old, w.fresh...)))
	b.ack(ctx, t, b.Ack)
	defer b.WA.Typing(ctx, t.Chat)()
	begin := time.Now()
	var r chat.Reply
	for _, x := range w.past {
		again, err := b.again(ctx, t, x)
		if err != nil {
			return err
		}
		r.Parts = append(r.Parts, again...)
	}
	if len(w.old) > 0 {
		late, err := b.lateness(ctx, t)
		if err != nil {
			return err
		}
		d.done, r.Failure = late, tooLate
	}
	if len(w.fresh) > 0 {
		fresh := *t
		fresh.Messages = w.fresh
		r.Failure, err = b.answers(ctx, fresh, d)
		if err != nil {
			return err
		}
	}
	for _, text := range w.told {
		d.done = append(d.done, chat.Part{Text: text})
	}
	r.Parts = append(r.Parts, d.fit(d.done)...)
	r.Left, r.Failure = w.left, cmp.Or(r.Failure, w.refusal)
	r.Charges = append(bill.Charges(), w.notices...)
	if err := b.Turns.SaveReply(ctx, t, r); err != nil {
		return err
	}
	if b.Ledger != nil {
		b.Ledger.Note(w.notices...)
	}
	b.forgetDrawings(t.Messages)
	for _, x := range w.past {
		b.forgetDrawings(x.Messages)
	}
	b.Log.Debug("reply saved", "chat", mask.JID(t.Chat), "parts", len(r.Parts), "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// named gives each part an ID.
func (b *Bot) named(parts []chat.Part) []chat.Part {
	for i := range parts {
		parts[i].ID = b.WA.NewID()
	}
	return parts
}

// answers adds to d what to answer to all messages of t, each by the model that it is for, in parts that have no ID yet.
func (b *Bot) answers(ctx context.Context, t chat.Turn, d *draft) (failure string, err error) {
	begin := time.Now()
	for i, part := range b.split(t) {
		// What has been made so far must not be lost with the turn's time.
		if end, ok := ctx.Deadline(); i > 0 && ok && time.Until(end) < time.Since(begin) {
			d.done = append(d.done, chat.Part{Text: b.Words.Say(words.NoTimeForAll)})
			return failure, nil
		}
		budget.Pays(ctx, part.Last())
		said, failed, err := b.answer(ctx, &part, d)
		if err != nil {
			return "", err
		}
		failure = cmp.Or(failure, failed)
		for i, p := range said {
			p.Quote = i == 0 && t.Last().Group
			d.done = append(d.done, p)
		}
		d.frozen = frozen{}
	}
	return failure, nil
}

// answer returns what to answer, in parts that have no ID yet: a picture of a model that draws, or text.
func (b *Bot) answer(ctx context.Context, t *chat.Turn, d *draft) (said []chat.Part, failure string, err error) {
	first := t.Messages[0]
	if first.Kind == chat.Announcement {
		return []chat.Part{{Text: first.Text, Command: noticePart}}, "", nil
	}
	if c, args, ok := b.Rules.command(first); ok {
		return b.obey(ctx, t, c, args, d)
	}
	s, err := b.settings(ctx, first)
	if err != nil {
		return nil, "", err
	}
	if to := b.pick(s, first.Text); to.Draws() && !b.bare(t) {
		return b.draw(ctx, t, to, d)
	}
	return b.text(ctx, t, s, d)
}

// texts are the messages of a text.
func (b *Bot) texts(text string) (said []chat.Part) {
	for _, part := range b.parts(text) {
		said = append(said, chat.Part{Text: part})
	}
	return said
}

// text returns what to answer. A failure of the model is answered too, in a sentence; its
// cause is returned for the operator.
func (b *Bot) text(ctx context.Context, t *chat.Turn, s settings, d *draft) (said []chat.Part, failure string, err error) {
	if b.bare(t) {
		return b.texts(b.help(t.Last())), "", nil
	}
	history, err := b.Turns.History(ctx, t.Chat, b.History)
	if err != nil {
		return nil, "", err
	}
	full := len(history) == b.History
	history = b.conversation(visible(s.after(history), t))
	heard, err := b.heard(ctx, t)
	if err != nil {
		return nil, "", err
	}
	// Nothing is shown meanwhile of an answer that will be heard.
	speaks, quiet := b.speaks(t, s), d.quiet
	d.quiet = quiet || speaks
	defer func() { d.quiet = quiet }()
	if err := d.asking(ctx); err != nil {
		return nil, "", err
	}
	cargo, err := b.open(ctx, t, b.pick(s, t.Messages[0].Text).Sees)
	if e := (*llm.Error)(nil); errors.As(err, &e) {
		return b.apology(ctx, t, err)
	}
	if err != nil {
		return nil, "", err
	}
	if text := b.refusal(t, cargo); text != "" {
		return b.texts(text), "", nil
	}
	p, whole := b.prompt(t, s, history, costOfAll(heard))
	if full || !whole {
		if short := b.past(ctx, t, s, p.Model); short.Text != "" {
			p, _ = b.prompt(t, s, history, costOfAll(heard)+llm.Tokens(short.Text))
			p = withSummary(p, short)
		}
	}
	c, err := b.complete(ctx, b.withMedia(b.withHeard(p, len(t.Messages), heard), t, cargo), d)
	var e *llm.Error
	if errors.As(err, &e) && e.Kind == llm.TooLong && len(history)+len(heard) > 0 {
		b.Log.Warn("the model takes less than the chat's history; asking without it: lower HISTORY_TOKENS", "chat", mask.JID(t.Chat))
		p, _ = b.prompt(t, s, nil, 0)
		c, err = b.complete(ctx, b.withMedia(p, t, cargo), d)
	}
	if err != nil {
		return b.apology(ctx, t, err)
	}
	by, _ := b.Models.Named(c.By)
	if strings.TrimSpace(format.Markdown(c.Text)) == "" {
		return b.texts(b.Words.Say(words.NotUsable)), "the model's answer is empty", nil
	}
	b.unhear(ctx, t, heard)
	if speaks {
		if note := b.voiced(ctx, t, c.Text); note != nil {
			return []chat.Part{*note}, "", nil
		}
	}
	for _, text := range d.split(c.Text, format.Markdown, by.WithIcon) {
		text, mentions := mention(text, slices.Concat(heard, t.Messages))
		said = append(said, chat.Part{Text: text, Mentions: mentions})
	}
	return said, "", nil
}

// complete asks the model, and shows the answer as it grows where the chat is to see that.
func (b *Bot) complete(ctx context.Context, p llm.Prompt, d *draft) (llm.Completion, error) {
	to, _ := b.Models.Named(p.Model)
	inTime, cancel := context.WithCancel(ctx)
	defer cancel()
	onText, end := d.grows(inTime, to.WithIcon, cancel)
	p.OnText = onText
	c, err := b.Model.Complete(inTime, p)
	if lost := end(); lost != nil {
		return llm.Completion{}, lost
	}
	return c, err
}

// apology turns the model's error into a sentence for the chat and a line for the log. When the turn's time
// is up, or the process is on its way out, it is the turn that failed and not the model.
func (b *Bot) apology(ctx context.Context, t *chat.Turn, err error) (said []chat.Part, failure string, _ error) {
	if ctx.Err() != nil || errors.Is(err, inbox.ErrLeaseLost) {
		return nil, "", err
	}
	kind := llm.Unavailable
	var e *llm.Error
	if errors.As(err, &e) {
		kind = e.Kind
	}
	level := slog.LevelWarn
	switch kind {
	case llm.Auth, llm.Quota, llm.ModelUnknown, llm.BadRequest:
		level = slog.LevelError
	}
	b.Log.Log(ctx, level, "the model did not answer; the chat was told so", "chat", mask.JID(t.Chat), "cause", string(kind), "err", err)
	return b.texts(b.Words.Say(sorry[kind])), err.Error(), nil
}

// sorry are the sentences for people in a chat, by what went wrong.
var sorry = map[llm.Kind]words.Key{
	llm.Auth:         words.NotSetUp,
	llm.Quota:        words.UsedUp,
	llm.ModelUnknown: words.NotSetUp,
	llm.BadRequest:   words.NotSetUp,
	llm.RateLimited:  words.TooMany,
	llm.Unavailable:  words.Unavailable,
	llm.Timeout:      words.TookTooLong,
	llm.BadAnswer:    words.NotUsable,
	llm.Filtered:     words.Filtered,
	llm.TooLong:      words.TooLong,
}

// send sends the parts that are not known to be sent.
func (b *Bot) send(ctx context.Context, t *chat.Turn) error {
	for i, p := range t.Reply.Parts {
		if p.Sent {
			continue
		}
		if err := b.sendPart(ctx, t, p); err != nil {
			return err
		}
		if i == len(t.Reply.Parts)-1 {
			break // the turn ends here
		}
		r := *t.Reply
		r.Parts = append([]chat.Part(nil), r.Parts...)
		r.Parts[i].Sent = true
		if err := b.Turns.SaveReply(ctx, t, r); err != nil {
			return err
		}
		if err := rest(ctx, b.Pause); err != nil {
			return err
		}
	}
	return nil
}

// sendPart sends one part, by an edit of what stands in its place where there is something.
func (b *Bot) sendPart(ctx context.Context, t *chat.Turn, p chat.Part) error {
	var quote *chat.Message
	if p.Quote {
		last := quotable(t)
		quote = &last
	}
	all := []chat.Part{p}
	if p.Via != "" {
		all = []chat.Part{{ID: p.ID, Text: p.Draft, Quote: p.Quote}, {ID: p.Via, Edits: p.ID, Text: p.Text, Mentions: p.Mentions}}
		if p.Draft == "" {
			all = all[1:]
		}
	}
	for _, p := range all {
		if p.Edits != "" {
			quote = nil
		}
		if err := b.WA.Send(ctx, t.Chat, p, quote); err != nil {
			if permanent(err) {
				return inbox.Permanent(err)
			}
			return err
		}
	}
	return nil
}

// rest waits, or returns the error of ctx.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func permanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// GiveUp says in the chat that its turn is given up, unless a reply may be there already or
// cannot be sent. The sentence is saved as the turn's reply, so that it is said once whatever is
// killed meanwhile. What is shown of an answer that was being made is edited into it.
func (b *Bot) GiveUp(ctx context.Context, t chat.Turn, cause error) error {
	defer b.acked(ctx, &t)
	if t.Last().Kind == chat.Announcement {
		return nil
	}
	if t.Reply != nil && !t.Reply.Open() {
		if t.Reply.Failure == "" {
			return nil
		}
		return b.send(ctx, &t)
	}
	r := chat.Reply{Failure: cause.Error(), Parts: b.draft(&t).fit([]chat.Part{{Text: b.Words.Say(words.GaveUp), Quote: t.Last().Group}})}
	if err := b.Turns.SaveReply(ctx, &t, r); err != nil {
		return err
	}
	if err := b.send(ctx, &t); err != nil {
		return err
	}
	settled(t.Reply)
	return nil
}
