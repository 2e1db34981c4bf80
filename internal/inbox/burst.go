package inbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"wabot/internal/chat"
	"wabot/internal/mask"
)

// MostHold is how long a chat's first waiting message is held at most, however many follow it.
const MostHold = 5 * time.Second

// Held is until when a chat is held whose newest waiting message is newest and whose first came in at first; zero
// where it is not held. The newest decides: a message without a hold closes the burst. Stores compute it from what
// they keep, so that a restart changes nothing.
func Held(newest chat.Message, first time.Time) time.Time {
	if most := first.Add(MostHold); newest.Hold.After(most) {
		return most
	}
	return newest.Hold
}

// Extended is a chat's newest waiting message, held until another time; false where it stays as it is: it is not held, so that
// nothing more is awaited, or by none of the addresses who. Stores use it.
func Extended(newest chat.Message, who []string, until time.Time) (chat.Message, bool) {
	if newest.Hold.IsZero() || !slices.Contains(who, newest.Sender) && (newest.SenderAlt == "" || !slices.Contains(who, newest.SenderAlt)) {
		return newest, false
	}
	newest.Hold = until
	return newest, true
}

// Typing tells that the person with the addresses who is typing in a chat, or has stopped. If they are the author of the newest
// message that waits there, and it is held, it is held for as long as they type, and as long after as for a message; up to
// MostHold in all.
func (b *Inbox) Typing(ctx context.Context, chatJID string, typing bool, who ...string) error {
	if b.opts.Debounce <= 0 {
		return nil
	}
	until := b.clock.now().Add(b.opts.Debounce)
	if typing {
		until = b.clock.now().Add(max(b.opts.Debounce, MostHold))
	}
	extended, err := b.store.Extend(ctx, chatJID, who, until)
	if err != nil {
		return fmt.Errorf("await what someone types: %w", err)
	}
	if extended {
		b.log.Debug("the author of what waits types; the chat is held", "chat", mask.JID(chatJID), "typing", typing)
		b.holds(chatJID, until)
		b.rouse() // it may end earlier now
	}
	return nil
}

// hold is until when the inbox holds m, which comes in at now.
func (b *Inbox) hold(m chat.Message, now time.Time) time.Time {
	if b.opts.Debounce <= 0 || b.opts.Closes != nil && b.opts.Closes(m) {
		return time.Time{}
	}
	return now.Add(b.opts.Debounce)
}

// holds tells that a chat is held.
func (b *Inbox) holds(chatJID string, until time.Time) {
	if b.opts.Holds != nil && !until.IsZero() {
		b.opts.Holds(chatJID, until.Sub(b.clock.now()))
	}
}
