package inbox

import (
	"context"
	"errors"
	"time"

	"wabot/internal/chat"
)

// ErrEmpty says that no chat can be claimed now.
var ErrEmpty = errors.New("no chat waits")

// ErrLeaseLost says that the turn is no longer the caller's: its lease ran out and another
// claimed the chat. Whoever gets it stops working on the turn.
var ErrLeaseLost = errors.New("the lease on this chat was lost")

// ErrUnknown says that a message is not stored.
var ErrUnknown = errors.New("no such message")

// ChatNotes begins the keys of the notes that belong to an account's chats.
const ChatNotes = "chat/"

// Store keeps messages from ack to answer. Each method is one atomic write (or one read), safe for concurrent use, and
// outlives the process once it returns. Through a power cut the order of the writes is kept: nothing is there without what was
// written before it, and so all is that comes before a write which has to wait for the disk, as that of a send's session does
// before the send. A store never reads the clock: callers pass the time. Times keep at least a millisecond's precision.
type Store interface {
	// Put adds m, to be answered. A message already there, by chat (under either of its
	// addresses), sender and ID, is left as it is, whatever became of it. What is stored
	// under m.ChatAlt is from then on found under m.Chat. now is when m came in: the order in
	// which messages are answered. Where m.Hold is set more is awaited: Held says until when.
	Put(ctx context.Context, m chat.Message, now time.Time) error

	// Claim leases, until the given time, the chat that has waited longest; never one whose
	// lease is live at now, nor one whose retry time has not come, nor one that is held at now. The turn has all the
	// messages that wait in that chat, or, where an earlier attempt saved a reply, that reply and
	// just the messages it answers: what came later waits for the next turn, and so does what is more than a store can keep in
	// one turn, of which it takes the oldest. Claim counts the attempt. It returns ErrEmpty when no chat can be claimed.
	Claim(ctx context.Context, now, until time.Time) (chat.Turn, error)

	// Next is the earliest time at which a chat that cannot be claimed now may become
	// claimable by the passing of time: its lease runs out, or its retry time or the end of its hold comes. It is zero where
	// nothing waits. A chat that can be claimed at now gives a time not after now.
	Next(ctx context.Context) (time.Time, error)

	// History returns the last n finished turns of a chat, oldest first.
	History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error)

	// Find returns the turn of the message with like's chat, sender and ID (under any of their addresses), with the
	// reply that is saved so far; for a message that waits, just the message. ErrUnknown if it is not stored.
	Find(ctx context.Context, like chat.Message) (chat.Exchange, error)

	// Amend replaces what is stored of messages, wherever they are; it does not change which turn they are in. One
	// that is not stored is passed over. With r, the reply of the turn that the first is in is replaced too, if that turn
	// has ended.
	Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error

	// Extend changes until when a chat is held, by its newest waiting message, and tells whether it did: only where Extended
	// does, for the people with the addresses who. Nothing else changes.
	Extend(ctx context.Context, chatJID string, who []string, until time.Time) (bool, error)

	// Heard returns the list that SetHeard has last set for a chat; it is apart from all other messages.
	Heard(ctx context.Context, chatJID string) ([]chat.Message, error)
	SetHeard(ctx context.Context, chatJID string, all []chat.Message) error

	// ForgetSent removes what a store of devices keeps of the messages that were sent to chats, for receivers who ask for them again.
	ForgetSent(ctx context.Context, chatJIDs ...string) error

	// SaveReply stores the turn's reply, in place of an earlier one. From then on the turn is just
	// the messages in t. The lease goes on. ErrLeaseLost if it is another's. With the reply its charges are kept as
	// budget.Store keeps them: together, or where only a part was written, the charges.
	SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) error

	// Finish makes the turn's messages and the reply in t.Reply history and ends the lease.
	// ErrLeaseLost if it is another's.
	Finish(ctx context.Context, t chat.Turn, now time.Time) error

	// Retry ends the lease and lets the turn be claimed again from the given time on. The next claim counts on from t.Attempt:
	// whoever lowers it takes the attempt back. Retry keeps t.Tries, as do Finish and Fail, and the next claim gives them back.
	// ErrLeaseLost if it is another's.
	Retry(ctx context.Context, t chat.Turn, at time.Time) error

	// Fail gives the turn up: its messages are never claimed again and are kept with the
	// reason; what came later in the chat goes on with a new turn at attempt 1. ErrLeaseLost if the lease is another's.
	Fail(ctx context.Context, t chat.Turn, now time.Time, reason string) error

	// Release ends every lease at once, and keeps the attempts counted. Only the one process that drives
	// the device may call it, before its first Claim: it frees what a killed predecessor held.
	Release(ctx context.Context) error

	// Forget removes every message and turn, also those that are held under a lease, and every charge and mark. A store that
	// keeps notes removes those whose keys begin with ChatNotes too.
	Forget(ctx context.Context) error

	// Depth counts the messages that are not answered yet.
	Depth(ctx context.Context) (int, error)

	// Oldest is when the first of them came in; zero where all are answered.
	Oldest(ctx context.Context) (time.Time, error)
}
