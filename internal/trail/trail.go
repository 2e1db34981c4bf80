// Package trail keeps and tells what became of each message that reached the bot, for the operator who asks why it did
// not answer.
//
// Most of it is in the inbox already: a message, its turn, the attempts at it, the reply with what it cost, its end. What
// happens outside of a turn is kept here as marks: a message that is not to be answered, and why; one that could not be decrypted; a receipt for
// one that was sent. Marks must cost nothing where messages wait for them, so they are gathered in memory and written together,
// at most a second late: a crash loses those of its last second.
package trail

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"wabot/internal/chat"
)

// Store keeps trails. Its methods are safe for concurrent use.
type Store interface {
	// Mark keeps marks. One that is there already, by message, fate, chat and who, stays as it is.
	Mark(ctx context.Context, all []chat.Mark) error
	// Trails returns what became of the messages that came in with an ID; of several where chats or people have used
	// the same.
	Trails(ctx context.Context, id string) ([]chat.Trail, error)
	// Latest returns the trails of the newest n messages that came in, oldest first.
	Latest(ctx context.Context, n int) ([]chat.Trail, error)
}

// OfGated is the trail that a mark of a gated message is.
func OfGated(m chat.Mark) chat.Trail {
	return chat.Trail{Message: chat.Message{ID: m.Message, Chat: m.Chat, Sender: m.Who, Time: m.Time}, Came: m.Time, Gated: m.Why}
}

// WithOwn puts the marks of messages themselves to their trails. Those of a message that has none make one.
func WithOwn(all []chat.Trail, marks []chat.Mark) []chat.Trail {
	for _, m := range marks {
		if m.Fate != chat.Undecrypted && m.Fate != chat.Recovered {
			continue
		}
		i := slices.IndexFunc(all, func(t chat.Trail) bool {
			x := t.Message
			return x.ID == m.Message && (m.Who == x.Sender || m.Who == x.SenderAlt || m.Chat == x.Chat || m.Chat == x.ChatAlt)
		})
		if i < 0 {
			all, i = append(all, chat.Trail{Message: chat.Message{ID: m.Message, Chat: m.Chat, Sender: m.Who, Time: m.Time}, Came: m.Time}), len(all)
		}
		all[i].Own = append(all[i].Own, m)
		slices.SortStableFunc(all[i].Own, func(a, b chat.Mark) int { return a.Time.Compare(b.Time) })
	}
	return all
}

// Newest are the newest n of all, oldest first.
func Newest(all []chat.Trail, n int) []chat.Trail {
	slices.SortStableFunc(all, func(a, b chat.Trail) int {
		return cmp.Or(a.Came.Compare(b.Came), cmp.Compare(a.Message.ID, b.Message.ID))
	})
	return all[max(0, len(all)-n):]
}

const (
	// most is how many marks are kept in memory. Above it the oldest are dropped: the store has been away too long, or is too slow.
	most = 4096
	// batch is how many are written at once.
	batch = 256
	// late is how long a mark waits for others, and how long after a failure it is tried again.
	late = time.Second
)

// Recorder gathers marks and writes them together.
type Recorder struct {
	store Store
	log   *slog.Logger
	wake  chan struct{}

	mu      sync.Mutex
	marks   []chat.Mark
	dropped int
}

// NewRecorder returns a recorder.
func NewRecorder(s Store, log *slog.Logger) *Recorder {
	return &Recorder{store: s, log: log, wake: make(chan struct{}, 1)}
}

// Add takes marks to be written. It does not block.
func (r *Recorder) Add(all ...chat.Mark) {
	if len(all) == 0 {
		return
	}
	r.mu.Lock()
	r.marks = append(r.marks, all...)
	if over := len(r.marks) - most; over > 0 {
		r.marks = slices.Delete(r.marks, 0, over)
		r.dropped += over
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it has been told
	}
}

// Run writes marks until ctx ends, and then those that are left.
func (r *Recorder) Run(ctx context.Context) error {
	timer := time.NewTimer(late)
	timer.Stop()
	defer timer.Stop()
	waiting := false
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			r.write(last)
			return nil
		case <-r.wake:
			if !waiting {
				timer.Reset(late)
				waiting = true
			}
		case <-timer.C:
			if waiting = !r.write(ctx); waiting {
				timer.Reset(late)
			}
		}
	}
}

// write writes what has been gathered. False means that some is left.
func (r *Recorder) write(ctx context.Context) bool {
	for {
		r.mu.Lock()
		all := slices.Clone(r.marks[:min(batch, len(r.marks))])
		dropped := r.dropped
		r.mu.Unlock()
		if len(all) == 0 {
			return true
		}
		if err := r.store.Mark(ctx, all); err != nil {
			r.log.Debug("what happened to messages could not be kept; trying again", "err", err)
			return false
		}
		r.mu.Lock()
		// Of those written some may have been dropped meanwhile.
		r.marks = slices.Delete(r.marks, 0, max(0, len(all)-(r.dropped-dropped)))
		r.mu.Unlock()
	}
}
