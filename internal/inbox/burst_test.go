package inbox_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// Typing holds a burst while it lasts, and no longer than the most.
func TestTypingHolds(t *testing.T) {
	var begin time.Time
	var held, answered []time.Duration
	opts := inbox.Options{Debounce: time.Second, Holds: func(_ string, lasts time.Duration) { held = append(held, time.Since(begin)+lasts) }}
	bubble(t, opts, func(t *testing.T, w *world) {
		begin = time.Now()
		w.run(func(context.Context, chat.Turn) error {
			answered = append(answered, time.Since(begin))
			return nil
		})
		typing := func(jid string, on bool) {
			t.Helper()
			if err := w.box.Typing(t.Context(), jid, on, "other@lid", jid); err != nil {
				t.Fatal(err)
			}
		}
		typing(alice, true) // nothing of hers waits yet
		w.put(alice, "a")
		w.pass(500 * time.Millisecond)
		typing(bob, true)
		typing(alice, true)
		w.pass(1500 * time.Millisecond)
		typing(alice, false)
		w.pass(10 * time.Second)
		w.put(alice, "b")
		typing(alice, true)
		w.pass(time.Minute)

		if want := []time.Duration{3 * time.Second, 12*time.Second + inbox.MostHold}; !slices.Equal(answered, want) {
			t.Errorf("answered at %v, want %v", answered, want)
		}
		want := []time.Duration{time.Second, 5500 * time.Millisecond, 3 * time.Second, 13 * time.Second, 17 * time.Second}
		if !slices.Equal(held, want) {
			t.Errorf("held until %v, want %v", held, want)
		}
	})
}
