package inbox

import (
	"context"
	"fmt"
	"math"
	"slices"

	"wabot/internal/chat"
)

// Erased is what is left of m once the person with these addresses has had deleted what they said. Of what they said themselves
// that is that it was there, so that it is answered no second time; of another's message all but what it quotes of theirs. said
// and quoted tell whether it is such a one.
func Erased(m chat.Message, person ...string) (left chat.Message, said, quoted bool) {
	by := func(jid string) bool { return jid != "" && slices.Contains(person, jid) }
	switch {
	case by(m.Sender) || by(m.SenderAlt):
		return chat.Message{
			Chat: m.Chat, ChatAlt: m.ChatAlt, ID: m.ID, Sender: m.Sender, SenderAlt: m.SenderAlt, Time: m.Time, Kind: chat.Text,
			Group: m.Group, FromMe: m.FromMe, Own: m.Own, Change: m.Change, Revoked: true, Hold: m.Hold,
		}, true, false
	case m.Quoted != nil && by(m.Quoted.Sender):
		q := *m.Quoted
		q.Text, q.Read, q.Media = "", "", nil
		m.Quoted = &q
		return m, false, true
	}
	return m, false, false
}

// Erase deletes what the person with these addresses has said in a chat, in turns that have ended and without the bot, what
// was answered to it, and what others have quoted of it. What is kept of the answers for devices that could not decrypt them goes
// with all that was sent to the chat: as the answers grew they were edits that nobody knows by name. It may be called again after a crash.
func (b *Inbox) Erase(ctx context.Context, chatJID string, person ...string) error {
	all, err := b.History(ctx, chatJID, math.MaxInt32)
	if err != nil {
		return err
	}
	for _, x := range all {
		said, quoted := false, false
		for i, m := range x.Messages {
			left, own, quotes := Erased(m, person...)
			x.Messages[i], said, quoted = left, said || own, quoted || quotes
		}
		var r *chat.Reply
		if said && x.Reply != nil {
			left := *x.Reply
			left.Parts, r = nil, &left
		}
		if said || quoted {
			if err := b.Amend(ctx, x.Messages, r); err != nil {
				return err
			}
		}
	}
	sent := []string{chatJID}
	if slices.Contains(person, chatJID) { // under either of its addresses
		sent = person
	}
	if err := b.store.ForgetSent(ctx, sent...); err != nil {
		return fmt.Errorf("erase what was sent: %w", err)
	}
	return b.rehear(ctx, chatJID, func(all []chat.Message) []chat.Message {
		return slices.DeleteFunc(all, func(m chat.Message) bool {
			_, said, quoted := Erased(m, person...)
			return said || quoted
		})
	})
}
