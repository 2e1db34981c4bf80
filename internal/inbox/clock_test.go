package inbox_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// machine is a clock that can be set.
type machine struct{ off atomic.Int64 } // nanoseconds

func (m *machine) now() time.Time { return time.Now().Add(time.Duration(m.off.Load())) }

// TestClockSteps has the machine's clock set while one turn is being answered, one is put off and one is held: each is answered when it
// would have been, once, and the order stays.
func TestClockSteps(t *testing.T) {
	for name, step := range map[string]time.Duration{"back": -5 * time.Hour, "forward": 5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			clock := new(machine)
			opts := inbox.Options{Debounce: time.Second, Now: clock.now, MinBackoff: 20 * time.Second, MaxBackoff: 20 * time.Second}
			bubble(t, opts, func(t *testing.T, w *world) {
				begin := time.Now()
				var mu sync.Mutex
				var order []string
				var slowly, late atomic.Int64
				answered := func() []string {
					mu.Lock()
					defer mu.Unlock()
					return slices.Clone(order)
				}
				w.run(func(ctx context.Context, turn chat.Turn) error {
					mu.Lock()
					for _, m := range turn.Messages {
						order = append(order, m.ID)
					}
					mu.Unlock()
					switch id := turn.Messages[0].ID; {
					case id == "slow" && slowly.Load() == 0:
						select {
						case <-time.After(time.Minute):
						case <-ctx.Done():
							return ctx.Err()
						}
						slowly.Store(int64(time.Since(begin)))
					case id == "late" && turn.Attempt == 1:
						return errors.New("not yet")
					case id == "late":
						late.Store(int64(time.Since(begin)))
					}
					return nil
				})
				w.put(alice, "slow")
				w.pass(2 * time.Second)
				w.put(bob, "late")
				w.pass(3 * time.Second)
				w.put("group@g.us", "1")
				clock.off.Store(int64(step))
				w.put("group@g.us", "2")
				w.pass(2 * time.Second)
				if want := []string{"slow", "late", "1", "2"}; !slices.Equal(answered(), want) {
					t.Errorf("answered %q, want %q", answered(), want)
				}
				w.pass(30 * time.Second)
				if late.Load() == 0 {
					t.Error("what was put off waits still")
				}
				w.pass(time.Minute)
				if want := []string{"slow", "late", "1", "2", "late"}; !slices.Equal(answered(), want) {
					t.Errorf("answered %q, want %q", answered(), want)
				}
				if took := time.Duration(slowly.Load()); took != time.Minute+time.Second {
					t.Errorf("the turn that was being answered took until %v", took)
				}
				// What comes after goes to the end of the history.
				w.put("group@g.us", "3")
				w.pass(2 * time.Second)
				if all := w.history("group@g.us"); len(all) != 2 || all[1].Messages[0].ID != "3" {
					t.Errorf("history %v", all)
				}
			})
		})
	}
}

// TestClockBehindThePredecessors takes over from a process whose clock was ahead: what it held, and put off, does not wait for that long.
func TestClockBehindThePredecessors(t *testing.T) {
	clock := new(machine)
	opts := inbox.Options{Debounce: time.Second, Now: clock.now, MinBackoff: 20 * time.Second, MaxBackoff: 20 * time.Second}
	bubble(t, opts, func(t *testing.T, w *world) {
		for i, jid := range []string{alice, bob} {
			ahead := time.Now().Add(5*time.Hour + time.Duration(i)*time.Second)
			m := chat.Message{Chat: jid, ID: "a", Sender: jid, Time: time.Now(), Kind: chat.Text, Hold: ahead.Add(time.Second)}
			if err := w.store.Put(t.Context(), m, ahead); err != nil {
				t.Fatal(err)
			}
			if jid == bob {
				break
			}
			turn, err := w.store.Claim(t.Context(), ahead.Add(time.Second), ahead.Add(time.Minute))
			if err == nil {
				err = w.store.Retry(t.Context(), turn, ahead.Add(20*time.Second))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		answered := 0
		w.run(func(context.Context, chat.Turn) error { answered++; return nil })
		w.pass(25 * time.Second)
		if answered != 2 {
			t.Errorf("%d chats answered, want 2", answered)
		}
	})
}
