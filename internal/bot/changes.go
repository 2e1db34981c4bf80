package bot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mask"
	"wabot/internal/words"
)

// Edits and revokes come as messages of their own and wait in the inbox like others, so that none is lost. What they
// change may wait too, in the same turn: then it is changed before it is answered. Or it was answered: then the
// stored message is changed first, and the reply after it, by edits of the messages it was sent in. Each step may be
// done again after a crash.

// editWindow is how old a question may be for its answer to be edited: WhatsApp's apps allow a quarter of an hour.
const editWindow = 15 * time.Minute

// Known reports whether m changes a message that is stored; then it is to be stored too.
func (b *Bot) Known(ctx context.Context, m chat.Message) (bool, error) {
	if m.Change == nil {
		return false, nil
	}
	_, err := b.Turns.Find(ctx, m.Changed())
	if errors.Is(err, inbox.ErrUnknown) {
		return false, nil
	}
	return err == nil, err
}

// Edited is an edit of a message that is not stored, as a message of its own: by the edit it may have become one for
// the bot. Other messages are returned as they are.
func Edited(m chat.Message) chat.Message {
	if m.Change != nil && !m.Change.Revoke {
		m.ID, m.Change = m.Change.ID, nil
	}
	return m
}

// changes reports whether the change m is of the message old.
func changes(m, old chat.Message) bool {
	return m.Change != nil && old.Change == nil && m.Changed().Is(old)
}

// apply changes old as m says. Of a revoked message nothing is left but that it was there.
func apply(m chat.Message, old *chat.Message) {
	if m.Change.Revoke {
		old.Revoked, old.Text, old.Kind, old.Quoted, old.Name, old.Mentioned = true, "", chat.Text, nil, "", false
		old.Media, old.Read = nil, ""
	} else if !old.Revoked {
		old.Text, old.Mentioned = m.Text, m.Mentioned
	}
}

// work is what there is to do in a turn.
type work struct {
	fresh []chat.Message  // to be answered
	old   []chat.Message  // too old to be answered
	past  []chat.Exchange // answered, and changed since

	left    []chat.Left   // not to be answered, and why
	told    []string      // what is said of those
	notices []chat.Charge // that note that it was said
	refusal string        // why, for the operator
}

func (w work) nothing() bool {
	return len(w.fresh) == 0 && len(w.old) == 0 && len(w.past) == 0 && len(w.told) == 0
}

// work carries out the turn's changes on what is stored and says what is left to do.
func (b *Bot) work(ctx context.Context, t *chat.Turn) (w work, err error) {
	messages := slices.Clone(t.Messages)
	var changed []chat.Message
	for _, m := range messages {
		if m.Change == nil {
			continue
		}
		i := slices.IndexFunc(messages, func(old chat.Message) bool { return changes(m, old) })
		if i >= 0 {
			apply(m, &messages[i])
			changed = append(changed, messages[i])
			continue
		}
		if err := b.reopen(ctx, m, &w); err != nil {
			return w, err
		}
	}
	if len(changed) > 0 {
		if err := b.Turns.Amend(ctx, changed, nil); err != nil {
			return w, err
		}
	}
	for _, x := range w.past {
		// What a summary has of it is changed as well, or forgotten.
		if err := b.ForgetSummary(ctx, x.Messages[0].Time, x.Messages[0].Chat, x.Messages[0].ChatAlt); err != nil {
			return w, err
		}
		if err := b.Turns.Amend(ctx, x.Messages, nil); err != nil {
			return w, err
		}
	}
	quiet, err := b.quietUntil(ctx, t.Last())
	if err != nil {
		return w, err
	}
	r, err := b.rules(ctx)
	if err != nil {
		return w, err
	}
	s, err := b.settings(ctx, t.Last())
	if err != nil {
		return w, err
	}
	for i, m := range messages {
		c, _, commanded := r.command(m)
		old := b.MaxAge > 0 && b.Now().Sub(m.Time) > b.MaxAge
		switch {
		case m.Change != nil, m.Revoked:
		case m.Kind == chat.Announcement:
			w.fresh = append(w.fresh, m)
		case commanded && !r.may(c, m):
			b.Log.Debug("message ignored", "id", m.ID, "chat", mask.JID(m.Chat), "why", string(notYours))
			w.leave(m, string(notYours))
		case commanded && !old:
			// What pauses the bot does so for what comes after it.
			s.Paused = (s.Paused || c.name == pauseCommand) && c.name != resumeCommand
			if c.name == forgetCommand {
				if err := b.erase(ctx, m, messages[:i], &w); err != nil {
					return w, err
				}
			}
			w.fresh = append(w.fresh, m)
		case s.Paused:
			b.Log.Debug("not answered: the bot is paused in this chat", "id", m.ID, "chat", mask.JID(m.Chat))
			w.leave(m, "the bot is paused in this chat (!pause)")
		case !m.FromMe && m.Time.Before(quiet):
			b.Log.Debug("not answered: the account's owner writes in this chat by hand", "id", m.ID, "chat", mask.JID(m.Chat))
			w.leave(m, "the account's owner writes in this chat by hand (TAKEOVER)")
		case old:
			w.old = append(w.old, m)
			w.leave(m, tooLate)
		default:
			w.fresh = append(w.fresh, m)
		}
	}
	t.Messages = messages
	return w, b.limit(ctx, t, &w)
}

// reopen applies m to the turn it changes, among those in w.past.
func (b *Bot) reopen(ctx context.Context, m chat.Message, w *work) error {
	x, err := b.Turns.Find(ctx, m.Changed())
	if errors.Is(err, inbox.ErrUnknown) {
		b.Log.Debug("what was to be changed is not there any more", "chat", mask.JID(m.Chat), "id", m.Change.ID)
		return nil
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(w.past, func(o chat.Exchange) bool { return o.Messages[0].ID == x.Messages[0].ID })
	if i < 0 {
		w.past, i = append(w.past, x), len(w.past)
	}
	for j, old := range w.past[i].Messages {
		if changes(m, old) {
			apply(m, &w.past[i].Messages[j])
		}
	}
	return nil
}

// again returns the parts that make the reply of an answered turn fit its changed messages. Who was shut out since is not answered again.
func (b *Bot) again(ctx context.Context, t *chat.Turn, x chat.Exchange) ([]chat.Part, error) {
	if x.Reply == nil || len(x.Reply.Parts) == 0 {
		return nil, nil
	}
	left := spoken(x.Messages)
	if slices.ContainsFunc(left, b.alone) {
		return nil, nil // what a command did stays done
	}
	r, err := b.rules(ctx)
	if err != nil {
		return nil, err
	}
	left = slices.DeleteFunc(left, func(m chat.Message) bool { return !r.allowed(m) })
	var now []chat.Part
	if len(left) > 0 {
		if b.Now().Sub(left[len(left)-1].Time) > editWindow || b.over(left) {
			return nil, nil
		}
		d := b.draft(&chat.Turn{Chat: t.Chat, Messages: left})
		d.quiet = true
		if _, err := b.answers(ctx, *d.t, d); err != nil {
			return nil, err
		}
		now = d.done
	}
	var all []chat.Part
	if slices.ContainsFunc(x.Reply.Parts, chat.Part.Media) || slices.ContainsFunc(now, chat.Part.Media) {
		// An edit changes the text of a message only.
		for _, old := range x.Reply.Parts {
			all = append(all, chat.Part{ID: b.WA.NewID(), Revokes: old.ID})
		}
		return append(all, b.named(now)...), nil
	}
	var texts []string
	for _, p := range now {
		texts = append(texts, p.Text)
	}
	// An edited answer has no more messages than it had: the last takes what is over.
	if n := len(x.Reply.Parts); n > 0 && len(texts) > n {
		texts = append(texts[:n-1:n-1], strings.Join(texts[n-1:], "\n\n"))
	}
	for i, old := range x.Reply.Parts {
		p := chat.Part{ID: b.WA.NewID(), Edits: old.ID}
		if i < len(texts) {
			p.Text = texts[i]
		} else {
			p.Edits, p.Revokes = "", old.ID
		}
		all = append(all, p)
	}
	return all, nil
}

// amended notes, after the sending, what the edits and revokes in t.Reply have made of earlier replies, and removes
// from this turn what it holds of their texts.
func (b *Bot) amended(ctx context.Context, t *chat.Turn) error {
	var markers []chat.Message
	for _, m := range t.Messages {
		if m.Change == nil {
			continue
		}
		x, err := b.Turns.Find(ctx, m.Changed())
		if err == nil && x.Reply != nil && t.Reply != nil {
			r := replaced(*x.Reply, t.Reply.Parts)
			if err := b.Turns.Amend(ctx, x.Messages, &r); err != nil {
				return err
			}
		} else if err != nil && !errors.Is(err, inbox.ErrUnknown) {
			return err
		}
		m.Text, m.Quoted, m.Media = "", nil, nil
		markers = append(markers, m)
	}
	if len(markers) == 0 {
		return nil
	}
	if err := b.Turns.Amend(ctx, markers, nil); err != nil {
		return err
	}
	if t.Reply == nil {
		return nil
	}
	own := *t.Reply
	own.Parts = nil
	for _, p := range t.Reply.Parts {
		if p.Edits == "" && p.Revokes == "" {
			p.Sent = true
			own.Parts = append(own.Parts, p)
		}
	}
	return b.Turns.SaveReply(ctx, t, own)
}

// replaced is r after the edits and revokes among parts.
func replaced(r chat.Reply, changes []chat.Part) chat.Reply {
	all := r.Parts
	r.Parts = nil
	for _, old := range all {
		i := slices.IndexFunc(changes, func(p chat.Part) bool { return p.Edits == old.ID || p.Revokes == old.ID })
		if i >= 0 && changes[i].Revokes != "" {
			continue
		}
		if i >= 0 {
			old.Text, old.Opened, r.Failure = changes[i].Text, time.Time{}, ""
		}
		r.Parts = append(r.Parts, old)
	}
	return r
}

// spoken are the messages in which somebody says something: neither changes nor taken back, nor notices.
func spoken(messages []chat.Message) (all []chat.Message) {
	for _, m := range messages {
		if m.Change == nil && !m.Revoked && m.Kind != chat.Announcement {
			all = append(all, m)
		}
	}
	return all
}

// visible is the history as the model is given it before t: without what was taken back. A turn that is answered
// again, which has no lease of its own, is a part of the history itself: what came after it is left out, and that is all where it is
// not among these any more.
func visible(history []chat.Exchange, t *chat.Turn) (all []chat.Exchange) {
	if t.Lease == "" {
		itself := func(m chat.Message) bool { return m.ID == t.Messages[0].ID && m.Sender == t.Messages[0].Sender }
		i := slices.IndexFunc(history, func(x chat.Exchange) bool { return slices.ContainsFunc(x.Messages, itself) })
		history = history[:max(0, i)]
	}
	for _, x := range history {
		if x.Messages = spoken(x.Messages); len(x.Messages) > 0 {
			all = append(all, x)
		}
	}
	return all
}

// quotable is the message that a turn's reply quotes: the last that says something.
func quotable(t *chat.Turn) chat.Message {
	if all := spoken(t.Messages); len(all) > 0 {
		return all[len(all)-1]
	}
	return t.Last()
}

// tooLate is the failure of a turn whose messages are too old.
const tooLate = "the messages are older than BACKLOG_MAX_AGE"

// lateness is one line that messages were too old to be answered, unless it was the last thing said in the chat.
func (b *Bot) lateness(ctx context.Context, t *chat.Turn) ([]chat.Part, error) {
	before, err := b.Turns.History(ctx, t.Chat, 1)
	if err != nil {
		return nil, err
	}
	if len(before) == 1 && before[0].Reply != nil && before[0].Reply.Failure == tooLate {
		return nil, nil
	}
	return []chat.Part{{Text: b.Words.Say(words.WasAway)}}, nil
}
