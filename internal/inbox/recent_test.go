package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/storetest"
)

// With histories in memory a store is still one: whatever was done in whatever order, they are as the store has them.
func TestRecentKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Inbox(t, func(*testing.T) (inbox.Store, func() inbox.Store) {
		s := new(storetest.Memory)
		open := func() inbox.Store { return inbox.NewRecent(s, 4) }
		return open(), open
	})
}

// A chat's next turn waits for no read of its history, and has what was said at the turn before.
func TestHistoryIsReadAhead(t *testing.T) {
	bubble(t, inbox.Options{History: 3}, func(t *testing.T, w *world) {
		var answering atomic.Bool
		reads := 0
		w.store.Fault = func(method, _ string, done bool) error {
			if method == "History" && !done && answering.Load() {
				reads++
			}
			return nil
		}
		var said []string
		w.run(func(ctx context.Context, turn chat.Turn) error {
			answering.Store(true)
			defer answering.Store(false)
			past, err := w.box.History(ctx, turn.Chat, 3)
			if err != nil {
				return err
			}
			said = nil
			for _, x := range past {
				said = append(said, x.Messages[0].ID+": "+x.Reply.Parts[0].Text)
			}
			return w.box.SaveReply(ctx, &turn, chat.Reply{Parts: []chat.Part{{Text: "re " + turn.Messages[0].ID}}})
		})
		for i := range 5 {
			w.put(alice, fmt.Sprint(i))
			w.pass(time.Second)
			var want []string
			for n := max(0, i-3); n < i; n++ {
				want = append(want, fmt.Sprintf("%d: re %d", n, n))
			}
			if !reflect.DeepEqual(said, want) {
				t.Errorf("turn %d had the history %q, want %q", i, said, want)
			}
		}
		if reads != 1 {
			t.Errorf("turns waited for %d reads of the history, want the first one's alone", reads)
		}
		if past, err := w.box.History(t.Context(), alice, 5); err != nil || len(past) != 5 {
			t.Errorf("a longer history has %d turns (%v), want 5", len(past), err)
		}
	})
}

// A turn that is claimed before the store has said that it ended the one before has that in its history.
func TestHistoryBesideAnEndingTurn(t *testing.T) {
	bubble(t, inbox.Options{History: 3}, func(t *testing.T, w *world) {
		w.store.Fault = func(method, id string, done bool) error {
			if method == "Finish" && id == "1" && done {
				time.Sleep(10 * time.Second)
			}
			return nil
		}
		turns := 0
		w.run(func(ctx context.Context, turn chat.Turn) error {
			past, err := w.box.History(ctx, turn.Chat, 3)
			if len(past) != turns {
				t.Errorf("turn %d has a history of %d", turns, len(past))
			}
			turns++
			return err
		})
		for id, took := range []time.Duration{time.Second, time.Second, 20 * time.Second} {
			w.put(alice, fmt.Sprint(id))
			w.pass(took)
		}
		if turns != 3 {
			t.Errorf("%d turns", turns)
		}
	})
}

// What is deleted from the store beside an Inbox, for its age, is not told for long, and what was changed or forgotten not at all.
func TestHistoryInMemoryIsOfNow(t *testing.T) {
	bubble(t, inbox.Options{History: 3}, func(t *testing.T, w *world) {
		texts := func() (all []string) {
			past, err := w.box.History(t.Context(), alice, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range past {
				all = append(all, x.Messages[0].Text)
			}
			return all
		}
		want := func(all ...string) {
			t.Helper()
			if got := texts(); !reflect.DeepEqual(got, all) {
				t.Errorf("the history is %q, want %q", got, all)
			}
		}
		w.run(func(context.Context, chat.Turn) error { return nil })
		w.put(alice, "1")
		w.pass(time.Second)
		want("text of 1")
		m := chat.Message{Chat: alice, ID: "1", Sender: alice, Text: "text of it anew", Kind: chat.Text}
		if err := w.box.Amend(t.Context(), []chat.Message{m}, nil); err != nil {
			t.Fatal(err)
		}
		want("text of it anew")
		if err := w.store.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.pass(11 * time.Minute)
		want()
		w.put(alice, "2")
		w.pass(time.Second)
		want("text of 2")
		if err := w.box.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
		want()
	})
}

// A read that a change overtakes is not kept: what was read may be of before.
func TestHistoryChangedDuringItsReadIsNotKept(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, change := range map[string]func(inbox.Store, chat.Turn) error{
		"a turn ends":        func(r inbox.Store, turn chat.Turn) error { return r.Finish(t.Context(), turn, now) },
		"a turn is given up": func(r inbox.Store, turn chat.Turn) error { return r.Fail(t.Context(), turn, now, "why") },
		"a message changes":  func(r inbox.Store, turn chat.Turn) error { return r.Amend(t.Context(), turn.Messages, nil) },
		"all is forgotten":   func(r inbox.Store, _ chat.Turn) error { return r.Forget(t.Context()) },
		"another took over":  func(r inbox.Store, _ chat.Turn) error { return r.Release(t.Context()) },
		"a chat moves to it": func(r inbox.Store, turn chat.Turn) error {
			return r.Put(t.Context(), chat.Message{Chat: turn.Chat, ChatAlt: bob, ID: "2", Sender: turn.Chat}, now)
		},
		"it moves from there": func(r inbox.Store, turn chat.Turn) error {
			return r.Put(t.Context(), chat.Message{Chat: bob, ChatAlt: turn.Chat, ID: "2", Sender: bob}, now)
		},
	} {
		overtaken := func(t *testing.T, known bool) {
			t.Parallel()
			s := new(storetest.Memory)
			r := inbox.NewRecent(s, 4)
			claim := func(id string) chat.Turn {
				turn, err := chat.Turn{}, r.Put(t.Context(), chat.Message{Chat: alice, ID: id, Sender: alice}, now)
				if err == nil {
					turn, err = r.Claim(t.Context(), now, now.Add(time.Minute))
				}
				if err != nil {
					t.Fatal(err)
				}
				return turn
			}
			if known { // but for its last turn
				err := r.Finish(t.Context(), claim("before"), now)
				_, readErr := r.History(t.Context(), alice, 4)
				if err = errors.Join(err, readErr, r.Finish(t.Context(), claim("then"), now)); err != nil {
					t.Fatal(err)
				}
			}
			turn, reads := claim("1"), 0
			s.Fault = func(method, _ string, done bool) error {
				if method != "History" || !done {
					return nil
				}
				if reads++; reads == 1 {
					return change(r, turn)
				}
				return nil
			}
			for range 3 {
				if _, err := r.History(t.Context(), alice, 4); err != nil {
					t.Fatal(err)
				}
			}
			if reads != 2 {
				t.Errorf("three looks read the history %d times, want 2: the first was overtaken", reads)
			}
		}
		t.Run(name, func(t *testing.T) { overtaken(t, false) })
		t.Run(name+", with a history that is known", func(t *testing.T) { overtaken(t, true) })
	}
}

// What counts is all that a history has, not its texts alone.
func TestHistoriesInMemoryAreCountedWhole(t *testing.T) {
	t.Parallel()
	now, long := time.Now(), strings.Repeat("x", 1<<20)
	part := chat.Part{ID: "R", Picture: &chat.Picture{Thumbnail: []byte(long)}}
	for name, x := range map[string]chat.Exchange{
		"mentions": {Messages: []chat.Message{{Mentions: slices.Repeat([]string{"491700000000@s.whatsapp.net"}, 1<<15)}}},
		"a file":   {Messages: []chat.Message{{Media: &chat.Media{Name: long}}}},
		"a quote":  {Messages: []chat.Message{{Quoted: &chat.Quoted{Media: &chat.Media{Path: long}}}}},
		"a name":   {Messages: []chat.Message{{Name: long}}},
		"pictures": {Messages: []chat.Message{{}}, Reply: &chat.Reply{Parts: []chat.Part{part}}},
		"reasons":  {Messages: []chat.Message{{}}, Reply: &chat.Reply{Failure: long}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := inbox.NewRecent(new(storetest.Memory), 1)
			m := x.Messages[0]
			m.Chat, m.ID, m.Sender = alice, "1", alice
			turn, err := chat.Turn{}, r.Put(t.Context(), m, now)
			if err == nil {
				turn, err = r.Claim(t.Context(), now, now.Add(time.Minute))
			}
			turn.Reply = x.Reply
			if err = errors.Join(err, r.Finish(t.Context(), turn, now)); err != nil {
				t.Fatal(err)
			}
			if _, err := r.History(t.Context(), alice, 1); err != nil {
				t.Fatal(err)
			}
			if n := inbox.InMemory(r); n < 1<<19 {
				t.Errorf("a history of about 1 MB counts as %d bytes", n)
			}
		})
	}
}

// A turn that ends after its chat has moved, however often, is in the history of where it is then.
func TestHistoryOfAChatThatMoves(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := inbox.NewRecent(new(storetest.Memory), 4)
	put := func(jid, before string) {
		t.Helper()
		if err := r.Put(t.Context(), chat.Message{Chat: jid, ChatAlt: before, ID: "to " + jid, Sender: jid, SenderAlt: before}, now); err != nil {
			t.Fatal(err)
		}
	}
	look := func(turns int) {
		t.Helper()
		if past, err := r.History(t.Context(), bob, 4); err != nil || len(past) != turns {
			t.Errorf("a history of %d turns (%v), want %d", len(past), err, turns)
		}
	}
	put("1@s.whatsapp.net", "")
	turn, err := r.Claim(t.Context(), now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	put(alice, "1@s.whatsapp.net")
	put(bob, alice)
	look(0)
	if err := r.Finish(t.Context(), turn, now); err != nil {
		t.Fatal(err)
	}
	look(1)
}

// The memory for histories is bounded, whatever people write.
func TestHistoriesInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	s := new(storetest.Memory)
	r := inbox.NewRecent(s, 20)
	reads := 0
	s.Fault = func(method, _ string, done bool) error {
		if method == "History" && done {
			reads++
		}
		return nil
	}
	look := func(jid string) int {
		before := reads
		if _, err := r.History(t.Context(), jid, 20); err != nil {
			t.Fatal(err)
		}
		return reads - before
	}
	now := time.Now()
	for i := range 20 {
		jid := fmt.Sprintf("%d@lid", i)
		m := chat.Message{Chat: jid, ID: "1", Sender: jid, Time: now, Text: strings.Repeat("x", 1<<20), Kind: chat.Text}
		turn, err := chat.Turn{}, r.Put(t.Context(), m, now)
		if err == nil {
			turn, err = r.Claim(t.Context(), now, now.Add(time.Minute))
		}
		if err = errors.Join(err, r.Finish(t.Context(), turn, now)); err != nil {
			t.Fatal(err)
		}
		if look(jid) != 1 || look(jid) != 0 {
			t.Errorf("the history of %s is not in memory once it was read", jid)
		}
		if n := inbox.InMemory(r); n < 1<<20 || n > 4<<20 {
			t.Errorf("after %d histories of 1 MB those in memory have %d bytes, want at least one and at most 4 MB", i+1, n)
		}
	}
}

// What has ended since a history was read is added to it, and where that does not go on from it, as after the clock was set back, it is
// read whole.
func TestHistoryWhereTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	s := new(storetest.Memory)
	r := inbox.NewRecent(s, 10)
	begin := time.Unix(2000, 0)
	for i, ended := range []int{100, 50, 200, 300, 400, 350, 500} {
		id := fmt.Sprint(i)
		turn, err := chat.Turn{}, r.Put(t.Context(), chat.Message{Chat: alice, ID: id, Sender: alice}, begin)
		if err == nil {
			turn, err = r.Claim(t.Context(), begin, begin.Add(time.Minute))
		}
		if err = errors.Join(err, r.Finish(t.Context(), turn, begin.Add(time.Duration(ended)*time.Second))); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			continue // it lacks two the next time
		}
		got, err := r.History(t.Context(), alice, 10)
		want, wantErr := s.History(t.Context(), alice, 10)
		if err != nil || wantErr != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("after %s turns the history is %v (%v), want %v (%v)", id, got, err, want, wantErr)
		}
	}
}
