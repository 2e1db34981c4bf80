package inbox

import (
	"time"

	"wabot/internal/chat"
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

// hold is until when the inbox holds m, which comes in at now.
func (b *Inbox) hold(m chat.Message, now time.Time) time.Time {
	if b.opts.Debounce <= 0 || b.opts.Closes != nil && b.opts.Closes(m) {
		return time.Time{}
	}
	return now.Add(b.opts.Debounce)
}
