package inbox_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// A model that hangs does not hold up a stop for longer than the drain; its turn is answered
// after the restart, at once.
func TestStopCutsATurnOffAfterTheDrain(t *testing.T) {
	bubble(t, inbox.Options{Drain: 7 * time.Second}, func(t *testing.T, w *world) {
		w.run(func(ctx context.Context, _ chat.Turn) error {
			<-ctx.Done()
			return ctx.Err()
		})
		w.put(alice, "1")
		synctest.Wait()
		begin := time.Now()
		w.end()
		if took := time.Since(begin); took != 7*time.Second {
			t.Errorf("run ended after %v, want the drain of 7s", took)
		}
		answered := make(chan chat.Turn, 1)
		begin = time.Now()
		w.run(func(_ context.Context, turn chat.Turn) error { answered <- turn; return nil })
		if turn := <-answered; turn.Last().ID != "1" || time.Since(begin) > time.Second {
			t.Errorf("answered %s after %v", turn.Last().ID, time.Since(begin))
		}
	})
}

func TestStopLetsATurnEndWithinTheDrain(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		w.run(func(ctx context.Context, _ chat.Turn) error {
			select {
			case <-time.After(4 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		w.put(alice, "1")
		synctest.Wait()
		w.end()
		if n := len(w.history(alice)); n != 1 {
			t.Errorf("%d finished turns, want 1", n)
		}
	})
}
