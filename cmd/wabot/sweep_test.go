package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wabot/internal/mongotest"
)

// silence is how long a call hangs.
const silence = 3 * time.Second

// ways are what may happen to a call of the store.
var ways = []string{"fails", "fails when done", "hangs", "kills"}

// eachWay runs a test for each store and way, and tells it how many of n calls to step over.
func eachWay(t *testing.T, files, mongo int, test func(t *testing.T, store, how string, step func(n int) int)) {
	for store := range stores {
		for _, how := range ways {
			t.Run(store+", "+how, func(t *testing.T) {
				samples := files
				if store == "mongo" {
					sparingly(t)
					samples = mongo
					if (how == "kills" || how == "hangs") && !long {
						t.Skip("its commands are what kills and silence are tried at in the short form")
					}
				}
				if how == "hangs" {
					samples = min(samples, 2) // it takes its time
				}
				t.Parallel()
				test(t, store, how, func(n int) int {
					if long {
						return 1
					}
					return max(1, n/samples)
				})
			})
		}
	}
}

// A call of the store that fails, or hangs for a while, or at which the process is killed, costs no message, doubles none, uses no
// counter twice and asks for no new pairing: for each call of a conversation.
func TestConversationSweep(t *testing.T) {
	t.Parallel()
	eachWay(t, 6, 2, func(t *testing.T, store, how string, steps func(int) int) {
		for name, conversation := range conversations() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w, c := newSweepWorld(t, store)
				w.do(w.pair(withPatience(t)))
				all := w.spring(c, how, never)
				w.do(w.converse(withPatience(t), conversation, 0))
				n, _ := all.remove()
				hits := map[string]int{}
				step := steps(n)
				for k := 1 + step/2; k <= n; k += step {
					if call := w.hitInConversation(c, how, conversation, k); call != "" {
						hits[call]++
					}
				}
				w.do(w.stop())
				t.Logf("of %d calls of a conversation these were hit: %v", n, hits)
			})
		}
	})
}

// newControlled makes a world on the store with the name, whose calls pass the control; line is the way to its MongoDB, or nil.
func newControlled(t *testing.T, store string, settings ...string) (w *mongoWorld, c *control, line *mongotest.Line) {
	t.Helper()
	c, err := newControl()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.listener.Close() })
	w = newMongoWorld(t, append([]string{"CALLS=" + c.listener.Addr().String(), "MONGO_ENABLED=False"}, settings...)...)
	if store == "mongo" {
		line = mongotest.NewLine(t)
		w.env = append(w.env, "MONGO_ENABLED=True", over(line))
	}
	return w, c, line
}

// newSweepWorld is one in which kills do not wait for a lease to end.
func newSweepWorld(t *testing.T, store string) (*mongoWorld, *control) {
	t.Helper()
	w, c, line := newControlled(t, store, longLease)
	if line != nil {
		w.release = releaseLeases(t, line.URL)
	}
	return w, c
}

// ambush is a fault or kill at the k-th call of the store from when it was laid.
type ambush struct {
	c      *control
	sprung chan struct{} // closed when it has happened

	mu    sync.Mutex
	calls int
	call  string // at which it happened
}

// spring lays an ambush for the k-th call of the process that runs when it comes.
func (w *mongoWorld) spring(c *control, how string, k int) *ambush {
	a := &ambush{c: c, sprung: make(chan struct{})}
	c.on(func(call string) verdict {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.calls++; a.calls != k || how == "fails when done" && call == "Claim" {
			// A claim that was made unheard ends with its lease, in minutes.
			return pass
		}
		a.call = call
		defer close(a.sprung)
		switch how {
		case "fails":
			return failBefore
		case "fails when done":
			return failAfter
		case "hangs": // and with it all calls that come after it
			time.Sleep(silence)
			return pass
		}
		w.bot.cmd.Process.Kill()
		<-w.bot.exited
		return pass
	})
	return a
}

// count tells how many calls there were, and at which it happened.
func (a *ambush) count() (calls int, call string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls, a.call
}

// remove ends the ambush, and counts.
func (a *ambush) remove() (calls int, call string) {
	a.c.on(nil)
	return a.count()
}

// hitInConversation has the k-th call of a conversation hit, starts wabot again where that ended it, and checks the
// rest of the conversation. It returns the call, or nothing where there were not so many.
func (w *mongoWorld) hitInConversation(c *control, how string, talk conversation, k int) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	a := w.spring(c, how, k)
	talked := make(chan error, 1)
	go func() { talked <- w.converse(ctx, talk, k) }()
	select {
	case err := <-talked:
		talked <- err // and yet the last calls may go on
	case <-a.sprung:
	}
	_, call := a.remove()
	if call != "" && how == "kills" {
		if err := w.restart(ctx); err != nil {
			w.t.Fatalf("%s at call %d (%s): %v", how, k, call, err)
		}
	}
	if err := <-talked; err != nil {
		w.t.Fatalf("%s at call %d (%s): %v", how, k, call, err)
	}
	pairings := 0
	for _, b := range w.bots {
		pairings += strings.Count(b.output.String(), "Link wabot to")
	}
	if pairings != 1 {
		w.t.Fatalf("%s at call %d (%s): asked to be paired %d times", how, k, call, pairings)
	}
	return call
}

// A call that fails, or at which the process is killed, while it is started first and paired costs at most a second
// code, and none once the device has logged in.
func TestPairingSweep(t *testing.T) {
	t.Parallel()
	eachWay(t, 4, 1, func(t *testing.T, store, how string, steps func(int) int) {
		n := pairWithHit(t, store, how, never)
		t.Logf("pairing takes %d calls", n)
		step := steps(n)
		for k := 1 + step/2; k <= n; k += step {
			t.Run(fmt.Sprint(k), func(t *testing.T) {
				t.Parallel()
				pairWithHit(t, store, how, k)
			})
		}
	})
}

// pairWithHit pairs a new bot, one call of whose store is hit, and has it answer. It returns the number of calls
// until it is online.
func pairWithHit(t *testing.T, store, how string, k int) int {
	t.Helper()
	w, c := newSweepWorld(t, store)
	ctx := withPatience(t)
	a := w.spring(c, how, k)
	c.mu.Lock() // the process waits at its first call until it is known
	err := w.start()
	c.mu.Unlock()
	w.do(err)
	codes, read := 0, 0
	for {
		word, err := w.bot.wait(ctx, "a code or a login", func(output string) (string, bool) {
			word := regexpFirst.FindString(output[read:])
			return word, word != ""
		})
		_, call := a.count()
		switch {
		case err != nil && ctx.Err() != nil:
			t.Fatalf("%s at call %d (%s): %v", how, k, call, err)
		case err != nil: // it has ended, and whoever runs it starts it again
			read = 0
			w.do(w.startAgain(ctx))
			continue
		case word == "Online as":
			calls, _ := a.remove()
			select {
			case <-w.bot.exited: // killed right after
				read = 0
				w.do(w.startAgain(ctx))
				continue
			default:
			}
			w.ask(ctx, "alice", "one")
			w.answers(ctx, "alice", "one")
			w.do(w.stop())
			if codes > 2 {
				t.Errorf("%s at call %d (%s): paired %d times", how, k, call, codes)
			}
			return calls
		}
		if len(w.whatsapp.Logins()) > 0 {
			t.Errorf("%s at call %d (%s): asked to be paired again", how, k, call)
		}
		read += strings.Index(w.bot.output.String()[read:], word) + len(word)
		if w.scan(ctx, "owner") == nil {
			codes++
		}
	}
}

// A command of a conversation to MongoDB that is cut off, before or after it was carried out, never answered, or that a primary
// refuses or does not confirm as it steps down, is not noticed by anyone.
func TestFaultAtEachCommand(t *testing.T) {
	sparingly(t)
	t.Parallel()
	for name, fault := range map[string]mongotest.Fault{
		"cut before": mongotest.CutBefore, "cut after": mongotest.CutAfter, "hangs": mongotest.Hang,
		"not primary": mongotest.NotPrimary, "unconfirmed": mongotest.Unconfirmed,
	} {
		for part, conversation := range conversations() {
			t.Run(name+", "+part, func(t *testing.T) {
				t.Parallel()
				w := newMongoWorld(t, longLease)
				line := mongotest.NewLine(t)
				w.env = append(w.env, over(line))
				w.do(w.pair(withPatience(t)))
				// hit gives the fault to the k-th command and returns how many there were.
				hit := func(k int) (n int64) {
					var seen atomic.Int64
					line.OnCommand(func(string) mongotest.Fault {
						if seen.Add(1) == int64(k) {
							return fault
						}
						return mongotest.None
					})
					defer line.OnCommand(nil)
					ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
					defer cancel()
					if err := w.converse(ctx, conversation, k); err != nil {
						t.Fatalf("%s at command %d: %v", name, k, err)
					}
					return seen.Load()
				}
				n := int(hit(never))
				step := 1
				if !long {
					step = max(1, n/2)
				}
				for k := 1 + step/2; k <= n; k += step {
					hit(k)
				}
				w.do(w.stop())
				if pairings := strings.Count(w.bot.output.String(), "Link wabot to"); pairings != 1 {
					t.Errorf("asked to be paired %d times", pairings)
				}
				t.Logf("of %d commands of a conversation each %d. %s", n, step, name)
			})
		}
	}
}
