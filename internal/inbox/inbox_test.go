package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/storetest"
)

const alice, bob = "4911111111@lid", "4922222222@lid"

// world is an inbox on a store in memory, within a synctest bubble.
type world struct {
	t     *testing.T
	store *storetest.Memory
	box   *inbox.Inbox
	logs  *lines
	stop  context.CancelFunc
	ended chan error
}

// lines are the log of a test.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// bubble runs test with a world whose clock moves when all wait.
func bubble(t *testing.T, opts inbox.Options, test func(*testing.T, *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, store: new(storetest.Memory), logs: new(lines)}
		log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		w.box = inbox.New(w.store, opts, log)
		test(t, w)
		if w.stop != nil {
			w.end()
		}
		for _, secret := range []string{alice, bob, "text of"} {
			if strings.Contains(w.logs.String(), secret) {
				t.Errorf("%q is in the log:\n%s", secret, w.logs)
			}
		}
	})
}

// run starts Run with the given answerer.
func (w *world) run(answer func(context.Context, chat.Turn) error) {
	ctx, stop := context.WithCancel(w.t.Context())
	w.stop, w.ended = stop, make(chan error, 1)
	go func() { w.ended <- w.box.Run(ctx, answer) }()
}

// pass lets time go by, and what happens in it end.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// end stops Run and waits for its return.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	w.stop = nil
	if err := <-w.ended; err != nil {
		w.t.Errorf("run: %v", err)
	}
}

func (w *world) put(jid, id string) {
	w.t.Helper()
	m := chat.Message{Chat: jid, ID: id, Sender: jid, Time: time.Now(), Text: "text of " + id, Kind: chat.Text}
	if err := w.box.Put(w.t.Context(), m); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) history(jid string) []chat.Exchange {
	w.t.Helper()
	all, err := w.box.History(w.t.Context(), jid, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) wantDepth(n int) {
	w.t.Helper()
	got, err := w.box.Depth(w.t.Context())
	if err != nil || got != n {
		w.t.Errorf("depth %d (%v), want %d", got, err, n)
	}
}

// wantLogged expects exactly n lines with the text.
func (w *world) wantLogged(text string, n int) {
	w.t.Helper()
	if got := strings.Count(w.logs.String(), text); got != n {
		w.t.Errorf("%d lines with %q in the log, want %d:\n%s", got, text, n, w.logs)
	}
}

// faults counts the calls of a store and answers them with errors.
type faults struct {
	mu    sync.Mutex
	calls map[string]int
	err   func(method string, done bool) error
}

func (f *faults) fault(method, _ string, done bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	if !done {
		f.calls[method]++
	}
	if f.err == nil {
		return nil
	}
	return f.err(method, done)
}

func (f *faults) set(err func(method string, done bool) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *faults) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

var errDown = errors.New("database is down")

func TestAnswersAtOnceAndThenRests(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		var f faults
		w.store.Fault = f.fault
		heard := make(chan chat.Turn, 1)
		w.run(func(_ context.Context, turn chat.Turn) error { heard <- turn; return nil })
		synctest.Wait()
		begin := time.Now()
		w.put(alice, "a")
		if turn := <-heard; turn.Chat != alice || turn.Last().ID != "a" || turn.Attempt != 1 {
			t.Errorf("heard %+v", turn)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("the answer began after %v", took)
		}
		synctest.Wait()
		w.wantDepth(0)
		before := f.count("Claim")
		w.pass(10*time.Minute + time.Second)
		if n := f.count("Claim") - before; n > 10 {
			t.Errorf("%d claims in 10 idle minutes", n)
		}
	})
}

func TestFreesWhatItsPredecessorHeld(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		w.put(alice, "a")
		if _, err := w.store.Claim(t.Context(), time.Now(), time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		heard := make(chan chat.Turn, 1)
		w.run(func(_ context.Context, turn chat.Turn) error { heard <- turn; return nil })
		if turn := <-heard; turn.Attempt != 2 || time.Since(begin) != 0 {
			t.Errorf("attempt %d after %v, want 2 at once", turn.Attempt, time.Since(begin))
		}
	})
}

func TestOneChatInOrderDifferentChatsAtOnce(t *testing.T) {
	bubble(t, inbox.Options{Workers: 3}, func(t *testing.T, w *world) {
		var mu sync.Mutex
		running, most := map[string]int{}, 0
		order := map[string][]string{}
		w.run(func(_ context.Context, turn chat.Turn) error {
			mu.Lock()
			running[turn.Chat]++
			if running[turn.Chat] > 1 {
				t.Errorf("two turns of one chat at once")
			}
			now := 0
			for _, n := range running {
				now += n
			}
			most = max(most, now)
			for _, m := range turn.Messages {
				order[turn.Chat] = append(order[turn.Chat], m.ID)
			}
			mu.Unlock()
			time.Sleep(time.Second) // as a model would
			mu.Lock()
			running[turn.Chat]--
			mu.Unlock()
			return nil
		})
		want := []string{"0", "1", "2", "3", "4", "5"}
		for _, id := range want {
			for c := range 5 {
				w.put(fmt.Sprintf("%d@lid", c), id)
			}
			w.pass(300 * time.Millisecond)
		}
		w.pass(20 * time.Second)
		w.wantDepth(0)
		for c := range 5 {
			if got := order[fmt.Sprintf("%d@lid", c)]; !slices.Equal(got, want) {
				t.Errorf("chat %d was answered in the order %v", c, got)
			}
		}
		if most != 3 {
			t.Errorf("up to %d turns at once, want 3", most)
		}
	})
}

func TestBacksOffAndGivesUp(t *testing.T) {
	var told []string
	cause := errors.New("no route to model of 4911111111@lid")
	opts := inbox.Options{GiveUp: func(_ context.Context, turn chat.Turn, err error) error {
		told = append(told, turn.Last().ID)
		if !errors.Is(err, cause) {
			return fmt.Errorf("cause %w", err)
		}
		return nil
	}}
	bubble(t, opts, func(t *testing.T, w *world) {
		var tries []time.Time
		w.run(func(_ context.Context, turn chat.Turn) error {
			if turn.Last().ID == "b" {
				if turn.Attempt != 1 || len(turn.Messages) != 1 {
					t.Errorf("after a failed turn came %d messages at attempt %d", len(turn.Messages), turn.Attempt)
				}
				return nil
			}
			tries = append(tries, time.Now())
			if turn.Attempt != len(tries) {
				t.Errorf("attempt %d at try %d", turn.Attempt, len(tries))
			}
			return cause
		})
		w.put(alice, "a")
		w.pass(time.Hour)
		if len(tries) != 12 {
			t.Fatalf("%d tries, want 12", len(tries))
		}
		for i, most := 1, 2*time.Second; i < len(tries); i, most = i+1, min(most*2, 5*time.Minute) {
			if d := tries[i].Sub(tries[i-1]); d < most/2 || d > most+10*time.Millisecond {
				t.Errorf("%v between try %d and the next, want %v to %v", d, i, most/2, most)
			}
		}
		if !slices.Equal(told, []string{"a"}) {
			t.Errorf("the user was told about %v", told)
		}
		if got := w.store.Failures(alice); !slices.Equal(got, []string{cause.Error()}) {
			t.Errorf("failures %q", got)
		}
		w.wantDepth(0)
		w.wantLogged("level=ERROR", 1)
		// What comes next is a turn of its own.
		w.put(alice, "b")
		synctest.Wait()
		if past := w.history(alice); len(past) != 2 {
			t.Errorf("%d turns in the history, want 2", len(past))
		}
	})
}

type busy struct{ wait time.Duration }

func (busy) Error() string               { return "busy" }
func (b busy) RetryAfter() time.Duration { return b.wait }

func TestErrorNamesItsDelay(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		var tries []time.Time
		w.run(func(context.Context, chat.Turn) error {
			tries = append(tries, time.Now())
			if len(tries) == 1 {
				return fmt.Errorf("complete: %w", busy{17 * time.Minute})
			}
			return nil
		})
		w.put(alice, "a")
		w.pass(time.Hour)
		if len(tries) != 2 || tries[1].Sub(tries[0]) != 17*time.Minute {
			t.Errorf("tries at %v", tries)
		}
	})
}

func TestPermanentErrorIsNotTriedAgain(t *testing.T) {
	told := 0
	opts := inbox.Options{GiveUp: func(context.Context, chat.Turn, error) error { told++; return nil }}
	bubble(t, opts, func(t *testing.T, w *world) {
		tries := 0
		w.run(func(context.Context, chat.Turn) error {
			tries++
			return fmt.Errorf("send: %w", inbox.Permanent(errors.New("no such chat")))
		})
		w.put(alice, "a")
		w.pass(time.Hour)
		if tries != 1 || told != 1 || len(w.store.Failures(alice)) != 1 {
			t.Errorf("%d tries, told %d times, failures %v", tries, told, w.store.Failures(alice))
		}
	})
}

func TestOldTurnIsTriedOnceMore(t *testing.T) {
	bubble(t, inbox.Options{MaxAge: time.Hour}, func(t *testing.T, w *world) {
		w.put(alice, "a")
		w.pass(2 * time.Hour)
		tries := 0
		w.run(func(context.Context, chat.Turn) error { tries++; return errDown })
		w.pass(time.Hour)
		if tries != 1 || len(w.store.Failures(alice)) != 1 {
			t.Errorf("%d tries, failures %v", tries, w.store.Failures(alice))
		}
	})
}

func TestPanicIsAnError(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		tries := 0
		w.run(func(_ context.Context, turn chat.Turn) error {
			tries++
			switch tries {
			case 1:
				panic(turn.Last().Text)
			case 2:
				_ = turn.Messages[tries] // there is one
			}
			return nil
		})
		w.put(alice, "a")
		w.pass(time.Minute)
		if tries != 3 || len(w.history(alice)) != 1 {
			t.Errorf("%d tries, %d in the history", tries, len(w.history(alice)))
		}
		w.wantLogged("panic with a value of type string", 2) // what happened, and what follows
		w.wantLogged("index out of range [2] with length 1", 2)
		w.wantLogged("inbox_test.go", 2)
	})
}

func TestTurnThatKillsTheProcessIsGivenUp(t *testing.T) {
	told := 0
	opts := inbox.Options{MaxAttempts: 3, GiveUp: func(context.Context, chat.Turn, error) error { told++; return nil }}
	bubble(t, opts, func(t *testing.T, w *world) {
		w.put(alice, "a")
		for range 3 { // three lives, each killed in the middle of the turn
			if _, err := w.store.Claim(t.Context(), time.Now(), time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
			if err := w.store.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.run(func(context.Context, chat.Turn) error { t.Error("tried once more"); return nil })
		w.pass(time.Minute)
		if told != 1 || len(w.store.Failures(alice)) != 1 {
			t.Errorf("told %d times, failures %v", told, w.store.Failures(alice))
		}
	})
}

func TestReplyIsHistory(t *testing.T) {
	told := 0
	opts := inbox.Options{GiveUp: func(context.Context, chat.Turn, error) error { told++; return nil }}
	bubble(t, opts, func(t *testing.T, w *world) {
		w.run(func(ctx context.Context, turn chat.Turn) error {
			if turn.Reply == nil {
				r := chat.Reply{Parts: []chat.Part{{ID: "1", Text: "hello"}}}
				if err := w.box.SaveReply(ctx, &turn, r); err != nil {
					return err
				}
				if turn.Chat == alice {
					return errDown // the message was not sent
				}
			}
			if turn.Chat == bob {
				return inbox.Permanent(errors.New("they have left"))
			}
			turn.Reply.Parts[0].Sent = true
			return nil
		})
		w.put(alice, "a")
		w.put(bob, "x")
		w.pass(time.Minute)
		want := chat.Part{ID: "1", Text: "hello", Sent: true}
		if past := w.history(alice); len(past) != 1 || past[0].Reply == nil || !reflect.DeepEqual(past[0].Reply.Parts[0], want) {
			t.Errorf("history %+v", past)
		}
		if past := w.history(bob); len(past) != 1 || past[0].Reply == nil || told != 1 {
			t.Errorf("history %+v, told %d times", past, told)
		}
	})
}

func TestGiveUpThatFailsChangesNothing(t *testing.T) {
	var told atomic.Int32
	opts := inbox.Options{GiveUp: func(context.Context, chat.Turn, error) error {
		if told.Add(1) == 1 {
			panic("text of an apology")
		}
		return errDown
	}}
	bubble(t, opts, func(t *testing.T, w *world) {
		w.run(func(context.Context, chat.Turn) error { return inbox.Permanent(errDown) })
		w.put(alice, "a")
		w.put(bob, "x")
		w.pass(time.Minute)
		if told.Load() != 2 || len(w.store.Failures(alice)) != 1 || len(w.store.Failures(bob)) != 1 {
			t.Errorf("told %d times, failures %v and %v", told.Load(), w.store.Failures(alice), w.store.Failures(bob))
		}
	})
}

func TestStopLetsTurnsEnd(t *testing.T) {
	bubble(t, inbox.Options{Workers: 1, Drain: 2 * time.Minute}, func(t *testing.T, w *world) {
		begun := make(chan struct{})
		w.run(func(ctx context.Context, turn chat.Turn) error {
			close(begun)
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
				t.Errorf("the turn was cancelled: %v", ctx.Err())
			}
			return nil
		})
		w.put(alice, "a")
		<-begun
		w.put(bob, "x")
		begin := time.Now()
		w.end()
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("run ended after %v, want a minute", took)
		}
		if len(w.history(alice)) != 1 {
			t.Error("the turn in flight was not finished")
		}
		w.wantDepth(1) // the other waits for the next start
	})
}

func TestTurnEndsBeforeItsLease(t *testing.T) {
	bubble(t, inbox.Options{Lease: 100 * time.Second}, func(t *testing.T, w *world) {
		tries := 0
		w.run(func(ctx context.Context, turn chat.Turn) error {
			tries++
			if tries > 1 {
				return nil
			}
			begin := time.Now()
			<-ctx.Done()
			if took := time.Since(begin); took != 90*time.Second {
				t.Errorf("the turn's time was %v, want 90s", took)
			}
			return fmt.Errorf("complete: %w", ctx.Err())
		})
		w.put(alice, "a")
		w.pass(5 * time.Minute)
		if tries != 2 || len(w.history(alice)) != 1 {
			t.Errorf("%d tries, %d in the history", tries, len(w.history(alice)))
		}
	})
}

func TestLostTurnIsDropped(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		tries := 0
		w.run(func(ctx context.Context, turn chat.Turn) error {
			tries++
			if tries > 1 {
				return nil
			}
			// Another process takes over and claims the turn.
			if err := w.store.Release(ctx); err != nil {
				return err
			}
			if _, err := w.store.Claim(ctx, time.Now(), time.Now().Add(time.Hour)); err != nil {
				return err
			}
			return w.box.SaveReply(ctx, &turn, chat.Reply{})
		})
		w.put(alice, "a")
		w.pass(time.Minute)
		if tries != 1 {
			t.Errorf("%d tries, want 1", tries)
		}
		w.wantDepth(1)
		w.wantLogged("another took the turn over", 1)
	})
}

// TestWriteThatFails lets each write that ends a turn fail in both ways, some times or until the lease's end.
func TestWriteThatFails(t *testing.T) {
	for _, c := range []struct {
		method string
		done   bool
		err    error
	}{
		{"Finish", false, nil}, {"Finish", true, nil},
		{"Retry", false, errDown}, {"Retry", true, errDown},
		{"Fail", false, inbox.Permanent(errDown)}, {"Fail", true, inbox.Permanent(errDown)},
	} {
		t.Run(fmt.Sprintf("%s done %v", c.method, c.done), func(t *testing.T) {
			bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
				var f faults
				left := 5
				f.set(func(method string, done bool) error {
					if method != c.method || done != c.done || left == 0 {
						return nil
					}
					left--
					return errDown
				})
				w.store.Fault = f.fault
				tries := 0
				w.run(func(context.Context, chat.Turn) error {
					tries++
					if tries > 1 {
						return nil
					}
					return c.err
				})
				w.put(alice, "a")
				w.pass(time.Hour)
				want := 1
				if c.method == "Retry" {
					want = 2
				}
				if tries != want || len(w.history(alice)) != 1 {
					t.Errorf("%d tries, %d in the history, want %d and 1", tries, len(w.history(alice)), want)
				}
				w.wantDepth(0)
				w.wantLogged("the store does not answer", 1)
			})
		})
	}
}

func TestTurnThatCannotBeFinishedIsResentAsItWas(t *testing.T) {
	bubble(t, inbox.Options{Lease: time.Minute}, func(t *testing.T, w *world) {
		var f faults
		w.store.Fault = f.fault
		var replies []string
		w.run(func(ctx context.Context, turn chat.Turn) error {
			if turn.Reply == nil {
				if err := w.box.SaveReply(ctx, &turn, chat.Reply{Parts: []chat.Part{{ID: "chosen"}}}); err != nil {
					return err
				}
			}
			replies = append(replies, turn.Reply.Parts[0].ID)
			if len(replies) == 1 {
				f.set(func(string, bool) error { return errDown })
			}
			return nil
		})
		w.put(alice, "a")
		w.pass(2 * time.Minute)
		f.set(nil)
		w.pass(2 * time.Minute)
		if !slices.Equal(replies, []string{"chosen", "chosen"}) {
			t.Errorf("sent %v", replies)
		}
		w.wantDepth(0)
	})
}

func TestOutageIsSaidOnceAndWaitedFor(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		var f faults
		down := func(method string, done bool) error { return errDown }
		f.set(down) // also at the start
		w.store.Fault = f.fault
		heard := make(chan string, 1)
		w.run(func(_ context.Context, turn chat.Turn) error { heard <- turn.Last().ID; return nil })
		w.pass(10 * time.Minute)
		f.set(nil)
		w.pass(time.Minute)
		w.put(alice, "a")
		<-heard
		w.wantLogged("the store does not answer", 1)
		w.wantLogged("the store is back", 1)
		synctest.Wait()

		f.set(func(method string, done bool) error {
			if method == "Claim" && done {
				return errDown // leased, but the claim says it failed
			}
			return nil
		})
		w.put(bob, "x")
		w.pass(3 * time.Minute)
		f.set(nil)
		if id := <-heard; id != "x" {
			t.Errorf("heard %s", id)
		}
		w.wantLogged("the store does not answer", 2)
		w.wantLogged("the store is back", 2)
		if n := f.count("Claim"); n > 400 {
			t.Errorf("%d claims: the outage was not waited for", n)
		}
	})
}

func TestStopsDuringAnOutage(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		var f faults
		f.set(func(string, bool) error { return errDown })
		w.store.Fault = f.fault
		w.run(func(context.Context, chat.Turn) error { return nil })
		w.pass(time.Minute)
		begin := time.Now()
		w.end()
		if took := time.Since(begin); took != 0 {
			t.Errorf("run ended after %v", took)
		}
	})
}

func TestClaimsNothingUntilReady(t *testing.T) {
	var gate chan struct{} // made in the bubble
	opts := inbox.Options{Ready: func(ctx context.Context) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	bubble(t, opts, func(t *testing.T, w *world) {
		gate = make(chan struct{})
		heard := make(chan chat.Turn, 1)
		hear := func(_ context.Context, turn chat.Turn) error { heard <- turn; return nil }
		w.run(hear)
		w.put(alice, "a")
		w.pass(time.Hour)
		w.end() // stopping does not wait for it
		w.run(hear)
		synctest.Wait()
		if len(heard) != 0 {
			t.Fatal("claimed before it was ready")
		}
		close(gate)
		if turn := <-heard; turn.Attempt != 1 {
			t.Errorf("attempt %d: the waiting counted", turn.Attempt)
		}
	})
}

// notYet is an error of a turn that waits for its time.
type notYet struct{}

func (notYet) Error() string             { return "not yet" }
func (notYet) Waits() bool               { return true }
func (notYet) RetryAfter() time.Duration { return 30 * time.Second }

// Waiting for its time costs a turn nothing of the attempts that it has for what fails.
func TestWaitingIsNoAttempt(t *testing.T) {
	bubble(t, inbox.Options{MaxAttempts: 3}, func(t *testing.T, w *world) {
		results := []error{errDown, notYet{}, notYet{}, notYet{}, notYet{}, errDown, notYet{}, nil}
		attempts := []int{1, 2, 2, 2, 2, 2, 3, 3}
		var got []int
		var tries [][]string
		w.run(func(_ context.Context, turn chat.Turn) error {
			got = append(got, turn.Attempt)
			var whys []string
			for _, try := range turn.Tries {
				whys = append(whys, try.Why)
			}
			tries = append(tries, whys)
			return results[len(got)-1]
		})
		w.put(alice, "a")
		w.pass(30 * time.Minute)
		if !slices.Equal(got, attempts) {
			t.Errorf("attempts %v, want %v", got, attempts)
		}
		// However often it waited, it is told once.
		if last, want := tries[len(tries)-1], []string{errDown.Error(), "not yet", errDown.Error(), "not yet"}; !slices.Equal(last, want) {
			t.Errorf("tries %q, want %q", last, want)
		}
		w.wantDepth(0)
	})
}

func TestRunEndsWhenItCannotBeReady(t *testing.T) {
	t.Parallel()
	never := errors.New("logged out")
	opts := inbox.Options{Ready: func(context.Context) error { return never }}
	box := inbox.New(new(storetest.Memory), opts, slog.New(slog.DiscardHandler))
	if err := box.Run(t.Context(), func(context.Context, chat.Turn) error { return nil }); !errors.Is(err, never) {
		t.Errorf("run: %v, want %v", err, never)
	}
}

// What strangers revoke is looked for, and costs no write.
func TestRevokeOfWhatIsNotHeard(t *testing.T) {
	t.Parallel()
	writes := 0
	box := inbox.New(&storetest.Memory{Fault: func(method, _ string, done bool) error {
		if method == "SetHeard" && done {
			writes++
		}
		return nil
	}}, inbox.Options{}, slog.New(slog.DiscardHandler))
	m := chat.Message{Chat: "1-2@g.us", Group: true, ID: "a", Sender: "al", Text: "1"}
	revoke := chat.Message{Chat: m.Chat, Group: true, ID: "b", Sender: "al", Change: &chat.Change{ID: "a", Revoke: true}}
	for i, said := range []chat.Message{revoke, m, revoke, revoke} {
		if err := box.Hear(t.Context(), said); err != nil {
			t.Fatal(err)
		}
		if want := []int{0, 1, 2, 2}[i]; writes != want {
			t.Errorf("%d writes after message %d, want %d", writes, i, want)
		}
	}
}
