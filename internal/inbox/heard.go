package inbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"wabot/internal/chat"
)

const (
	// mostHeard is how many messages of a group are kept as context, longestHeard how much of each, in characters.
	mostHeard    = 50
	longestHeard = 2000
)

// Hear keeps m, which is not to be answered, as context for the group's next turn: the newest mostHeard are kept. A
// change is carried out on what is kept; of a revoked message nothing stays.
func (b *Inbox) Hear(ctx context.Context, m chat.Message) error {
	return b.rehear(ctx, m.Chat, func(all []chat.Message) []chat.Message { return hear(all, m) })
}

// Heard is what was said in a chat since it was last taken for a turn, oldest first.
func (b *Inbox) Heard(ctx context.Context, chatJID string) ([]chat.Message, error) {
	all, err := b.store.Heard(ctx, chatJID)
	if err != nil {
		return nil, fmt.Errorf("read what was said in the group: %w", err)
	}
	return all, nil
}

// Unhear forgets messages that a turn has had as its context.
func (b *Inbox) Unhear(ctx context.Context, chatJID string, used []chat.Message) error {
	return b.rehear(ctx, chatJID, func(all []chat.Message) []chat.Message {
		return slices.DeleteFunc(all, func(m chat.Message) bool {
			return slices.ContainsFunc(used, func(o chat.Message) bool { return o.ID == m.ID && o.Sender == m.Sender })
		})
	})
}

// ForgetHeard forgets what was said in a chat before a time.
func (b *Inbox) ForgetHeard(ctx context.Context, chatJID string, before time.Time) error {
	return b.rehear(ctx, chatJID, func(all []chat.Message) []chat.Message {
		return slices.DeleteFunc(all, func(m chat.Message) bool { return m.Time.Before(before) })
	})
}

// rehear changes what was heard in a chat. One process alone works on the store, so a lock makes it whole.
func (b *Inbox) rehear(ctx context.Context, chatJID string, change func([]chat.Message) []chat.Message) error {
	b.hearing.Lock()
	defer b.hearing.Unlock()
	all, err := b.store.Heard(ctx, chatJID)
	if err == nil {
		before := len(all)
		// What nobody has heard is not written: strangers may revoke without end.
		if all = change(all); before+len(all) > 0 {
			err = b.store.SetHeard(ctx, chatJID, all)
		}
	}
	if err != nil {
		return fmt.Errorf("keep what was said in the group: %w", err)
	}
	return nil
}

// hear is all with m in it, or changed by it.
func hear(all []chat.Message, m chat.Message) []chat.Message {
	like := m
	if m.Change != nil {
		like = m.Changed()
	}
	i := slices.IndexFunc(all, like.Is)
	if r := []rune(m.Text); len(r) > longestHeard {
		m.Text = string(r[:longestHeard]) + "…"
	}
	m.Media = nil // nobody opens it
	if m.Quoted != nil && m.Quoted.Media != nil {
		quoted := *m.Quoted
		quoted.Media, m.Quoted = nil, &quoted
	}
	switch {
	case m.Change == nil && i < 0:
		all = append(all, m)
		return all[max(0, len(all)-mostHeard):]
	case m.Change == nil || i < 0: // it came again, or it changes what is not kept
	case m.Change.Revoke:
		all = slices.Delete(all, i, i+1)
	default:
		all[i].Text = m.Text
	}
	return all
}
