package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/retention"
	"wabot/internal/trail"
)

// keeper is all that a store keeps beside the device.
type keeper interface {
	inbox.Store
	budget.Store
	trail.Store
	retention.Store
}

// Kept checks that a store keeps the contracts of budget.Store, trail.Store and retention.Store. What open gives is all of them.
func Kept(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, *box){
		"a charge is kept once":                charges,
		"charges are saved with a reply":       chargesWithReply,
		"totals outlive charges":               dropCharges,
		"attempts and their ends are kept":     tried,
		"a message's trail is told":            trails,
		"the latest messages are told":         latest,
		"what could not be decrypted is told":  undecrypted,
		"marks are kept once":                  marks,
		"the old is deleted, what waits stays": sweep,
		"a deleted message's chat goes on":     sweepAndGoOn,
		"what was heard long ago is found":     oldHeard,
		"what is forgotten is gone":            forgetKept,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, reopen := open(t)
			test(t, &box{t: t, Store: s, reopen: reopen})
		})
	}
}

func (b *box) keeper() keeper { return b.Store.(keeper) }

func charge(id string, n float64) chat.Charge {
	return chat.Charge{ID: id, Time: at(n), Person: alice, Chat: group, Model: "m", Kind: chat.ForText, Prompt: 10, Completion: 5, Cost: 7}
}

// wantCharges compares the charges of a time with those wanted.
func (b *box) wantCharges(since, until float64, want ...chat.Charge) {
	b.t.Helper()
	var got []chat.Charge
	b.check(b.keeper().Charges(b.t.Context(), at(since), at(until), func(c chat.Charge) error {
		got = append(got, c)
		return nil
	}))
	slices.SortFunc(got, func(x, y chat.Charge) int { return x.Time.Compare(y.Time) })
	same := func(x, y chat.Charge) bool {
		equal := x.Time.Equal(y.Time)
		x.Time = y.Time
		return equal && x == y
	}
	if !slices.EqualFunc(got, want, same) {
		b.t.Errorf("charges are\n%+v, want\n%+v", got, want)
	}
}

func charges(t *testing.T, b *box) {
	ctx := t.Context()
	first, second := charge("1", 1), charge("2", 2)
	second.Kind, second.Images, second.Seconds, second.Characters, second.Estimated = chat.ForImage, 1, 2.5, 9, true
	b.check(b.keeper().Charge(ctx, []chat.Charge{first, second}))
	again := charge("1", 1)
	again.Cost = 1000
	b.check(b.keeper().Charge(ctx, []chat.Charge{again, charge("3", 3)}))
	b.check(b.keeper().Charge(ctx, nil))
	b.wantCharges(0, 10, first, second, charge("3", 3))
	b.wantCharges(2, 3, second) // since is in, until is not
	b.Store = b.reopen()
	b.wantCharges(1, 3, first, second)
	// Whoever has enough is asked no more.
	enough := errors.New("enough")
	n := 0
	if err := b.keeper().Charges(ctx, at(0), at(9), func(chat.Charge) error { n++; return enough }); !errors.Is(err, enough) || n != 1 {
		t.Errorf("asked %d times: %v", n, err)
	}
}

func chargesWithReply(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	r := reply("x")
	r.Charges = []chat.Charge{charge("1", 3)}
	b.save(&turn, r)
	b.save(&turn, r)
	r.Charges = append(r.Charges, charge("2", 4))
	b.save(&turn, r)
	b.wantCharges(0, 10, charge("1", 3), charge("2", 4))
	b.finish(turn, at(5))
	b.wantCharges(0, 10, charge("1", 3), charge("2", 4))
	if x := b.wantHistory(alice, 1, []string{"a"}); len(x[0].Reply.Charges) != 2 {
		t.Errorf("the reply in history has %d charges", len(x[0].Reply.Charges))
	}
	if err := b.SaveReply(t.Context(), turn, chat.Reply{Charges: []chat.Charge{charge("3", 4)}}); !errors.Is(err, inbox.ErrLeaseLost) {
		t.Errorf("save the reply of an ended turn: %v", err)
	}
}

func dropCharges(t *testing.T, b *box) {
	total := charge("total", 2)
	total.Kind = chat.Total
	b.check(b.keeper().Charge(t.Context(), []chat.Charge{charge("0", 0.5), charge("1", 1), charge("2", 2), charge("3", 3), charge("4", 4), total}))
	drop := func(since, until float64, most, want int) {
		t.Helper()
		n, err := b.keeper().DropCharges(t.Context(), at(since), at(until), most)
		b.check(err)
		if n != want {
			t.Errorf("deleted %d charges, want %d", n, want)
		}
	}
	drop(1, 4, 2, 2)
	drop(1, 4, 2, 1)
	drop(1, 4, 2, 0)
	b.wantCharges(0, 10, charge("0", 0.5), total, charge("4", 4))
}

func tried(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	turn.Tries = append(turn.Tries, chat.Try{Began: at(2), Ended: at(3), Why: "no model"})
	b.check(b.Retry(t.Context(), turn, at(5)))
	b.Store = b.reopen()
	turn = b.claim(at(6), at(9), alice, "a")
	if len(turn.Tries) != 1 || turn.Tries[0].Why != "no model" || !turn.Tries[0].Ended.Equal(at(3)) {
		t.Fatalf("the attempts are %+v", turn.Tries)
	}
	turn.Tries = append(turn.Tries, chat.Try{Began: at(6), Ended: at(7), Why: "no store"})
	b.check(b.Fail(t.Context(), turn, at(7), "given up"))
	got := b.trail("a")
	if len(got.Tries) != 2 || got.Tries[1].Why != "no store" || got.Failure != "given up" || !got.Ended.Equal(at(7)) || got.Attempt != 2 {
		t.Errorf("the trail is %+v", got)
	}
}

// trail is the one trail of an ID.
func (b *box) trail(id string) chat.Trail {
	b.t.Helper()
	all, err := b.keeper().Trails(b.t.Context(), id)
	b.check(err)
	if len(all) != 1 {
		b.t.Fatalf("%d trails of %s, want 1", len(all), id)
	}
	return all[0]
}

func trails(t *testing.T, b *box) {
	ctx := t.Context()
	if all, err := b.keeper().Trails(ctx, "a"); err != nil || len(all) != 0 {
		t.Errorf("an unknown message has %d trails: %v", len(all), err)
	}
	b.put(says(alice, "a"), at(1))
	got := b.trail("a")
	if got.Message.ID != "a" || got.Message.Chat != alice || !got.Came.Equal(at(1)) || got.Begun || got.Gated != "" {
		t.Errorf("a waiting message: %+v", got)
	}
	b.put(says(alice, "b"), at(1.5))
	turn := b.claim(at(2), at(9), alice, "a", "b")
	if got = b.trail("b"); !got.Begun || !got.Leased || !got.Ready.Equal(at(9)) || got.Others != 1 || got.Attempt != 1 || got.Reply != nil || !got.Ended.IsZero() {
		t.Errorf("a message that is being answered: %+v", got)
	}
	b.check(b.Retry(ctx, turn, at(20)))
	if got = b.trail("b"); got.Leased || !got.Ready.Equal(at(20)) {
		t.Errorf("a message that is put off: %+v", got)
	}
	turn = b.claim(at(20), at(30), alice, "a", "b")
	b.save(&turn, chat.Reply{Parts: []chat.Part{{ID: "R1", Text: "one"}, {ID: "R2", Text: "two"}}})
	b.finish(turn, at(21))
	b.check(b.keeper().Mark(ctx, []chat.Mark{
		{Message: "R2", Fate: chat.Delivered, Chat: alice, Who: alice, Time: at(22)},
		{Message: "R1", Fate: chat.Read, Chat: alice, Who: alice, Time: at(23)},
		{Message: "other", Fate: chat.Read, Chat: alice, Who: alice, Time: at(23)},
	}))
	b.Store = b.reopen()
	got = b.trail("a")
	if got.Reply == nil || len(got.Reply.Parts) != 2 || !got.Ended.Equal(at(21)) || got.Leased || !got.Ready.IsZero() || got.Failure != "" {
		t.Errorf("an answered message: %+v", got)
	}
	if len(got.Marks) != 2 || got.Marks[0].Message != "R1" || got.Marks[0].Fate != chat.Read || !got.Marks[0].Time.Equal(at(23)) || got.Marks[1].Message != "R2" {
		t.Errorf("its receipts: %+v", got.Marks)
	}
	// The same ID by another, and one that was gated.
	b.put(says(bob, "a"), at(24))
	b.check(b.keeper().Mark(ctx, []chat.Mark{{Message: "a", Fate: chat.Gated, Chat: group, Who: bob, Time: at(25), Why: "a stranger"}}))
	all, err := b.keeper().Trails(ctx, "a")
	b.check(err)
	if len(all) != 3 || all[2].Gated != "a stranger" || all[2].Message.Chat != group || all[2].Message.Sender != bob || !all[2].Came.Equal(at(25)) {
		t.Errorf("three of one ID: %+v", all)
	}
}

func undecrypted(t *testing.T, b *box) {
	ctx := t.Context()
	mark := func(id string, fate chat.Fate, n float64) {
		t.Helper()
		b.check(b.keeper().Mark(ctx, []chat.Mark{{Message: id, Fate: fate, Chat: alice, Who: alice, Time: at(n), Why: "why"}}))
	}
	mark("gone", chat.Undecrypted, 1)
	mark("came", chat.Undecrypted, 2)
	mark("came", chat.Recovered, 3)
	b.put(says(alice, "came"), at(3))
	mark("gated", chat.Undecrypted, 4)
	mark("gated", chat.Recovered, 5)
	mark("gated", chat.Gated, 5)
	b.Store = b.reopen()
	want := func(got chat.Trail, came float64, gated string, fates ...chat.Fate) {
		t.Helper()
		var own []chat.Fate
		for _, m := range got.Own {
			own = append(own, m.Fate)
		}
		if !got.Came.Equal(at(came)) || got.Gated != gated || !slices.Equal(own, fates) || got.Message.Sender != alice {
			t.Errorf("the trail is %+v, want %v", got, fates)
		}
	}
	all, err := b.keeper().Latest(ctx, 3)
	b.check(err)
	for _, x := range append(all, b.trail("gone"), b.trail("came"), b.trail("gated")) {
		switch x.Message.ID {
		case "gone":
			want(x, 1, "", chat.Undecrypted)
		case "came":
			want(x, 3, "", chat.Undecrypted, chat.Recovered)
		case "gated":
			want(x, 5, "why", chat.Undecrypted, chat.Recovered)
		}
	}
	if len(all) != 3 || all[0].Message.ID != "gone" || all[2].Message.ID != "gated" {
		t.Errorf("the latest are %+v", all)
	}
	b.sweepAll(at(5000), at(100))
	if all, err := b.keeper().Latest(ctx, 9); err != nil || len(all) != 1 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

func latest(t *testing.T, b *box) {
	want := func(n int, ids ...string) {
		t.Helper()
		all, err := b.keeper().Latest(t.Context(), n)
		b.check(err)
		var got []string
		for _, x := range all {
			got = append(got, x.Message.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("the latest %d are %v, want %v", n, got, ids)
		}
	}
	want(5)
	for i := range 4 {
		id := fmt.Sprint("old", i)
		b.put(says(alice, id), at(float64(i)))
		b.finish(b.claim(at(float64(i)), at(90), alice, id), at(float64(i)+0.5))
	}
	b.put(says(bob, "waits"), at(10))
	b.put(says(alice, "begun"), at(11))
	b.check(b.keeper().Mark(t.Context(), []chat.Mark{
		{Message: "gated", Fate: chat.Gated, Chat: group, Who: bob, Time: at(10.5), Why: "why"},
		{Message: "R", Fate: chat.Read, Chat: group, Who: bob, Time: at(12)},
		{Message: "early", Fate: chat.Gated, Chat: group, Who: bob, Time: at(2.5), Why: "why"},
	}))
	b.finish(b.claim(at(12), at(90), bob, "waits"), at(13))
	b.claim(at(12), at(90), alice, "begun")
	want(3, "waits", "gated", "begun")
	want(100, "old0", "old1", "old2", "early", "old3", "waits", "gated", "begun")
}

func marks(t *testing.T, b *box) {
	ctx := t.Context()
	m := chat.Mark{Message: "a", Fate: chat.Gated, Chat: alice, Who: alice, Time: at(1), Why: "first"}
	b.check(b.keeper().Mark(ctx, []chat.Mark{m}))
	m.Time, m.Why = at(2), "second"
	b.check(b.keeper().Mark(ctx, []chat.Mark{m, m}))
	if got := b.trail("a"); got.Gated != "first" || !got.Came.Equal(at(1)) {
		t.Errorf("the trail is %+v", got)
	}
}

// sweepAll deletes what is older than a time, a few rows at once, and returns how many steps that took.
func (b *box) sweepAll(now, before time.Time) (steps int) {
	b.t.Helper()
	for ; steps < 100; steps++ {
		n, err := b.keeper().Sweep(b.t.Context(), now, before, 2)
		b.check(err)
		if n == 0 {
			return steps
		}
	}
	b.t.Fatal("there is always more to delete")
	return 0
}

func sweep(t *testing.T, b *box) {
	ctx := t.Context()
	for i := range 5 {
		id := fmt.Sprint("old", i)
		b.put(says(alice, id), at(1))
		b.finish(b.claim(at(1), at(90), alice, id), at(2+float64(i)))
	}
	b.put(says(bob, "failed"), at(1))
	b.check(b.Fail(ctx, b.claim(at(1), at(90), bob, "failed"), at(3), "why"))
	b.put(says(bob, "put off"), at(1))
	off := b.claim(at(1.1), at(90), bob, "put off")
	b.check(b.Retry(ctx, off, at(9000)))
	b.put(says(group, "waits"), at(0.5))
	b.check(b.keeper().Mark(ctx, []chat.Mark{
		{Message: "g1", Fate: chat.Gated, Chat: group, Who: bob, Time: at(1), Why: "why"}, {Message: "g2", Fate: chat.Gated, Chat: group, Who: bob, Time: at(2), Why: "why"},
		{Message: "g3", Fate: chat.Gated, Chat: group, Who: bob, Time: at(99), Why: "why"}, {Message: "r", Fate: chat.Read, Chat: group, Who: bob, Time: at(1)},
	}))
	b.check(b.keeper().Charge(ctx, []chat.Charge{charge("1", 1)}))
	if steps := b.sweepAll(at(5000), at(5.5)); steps < 2 {
		t.Errorf("all was deleted in %d steps of 2", steps)
	}
	b.wantHistory(alice, 9, []string{"old4"})
	b.wantHistory(bob, 9)
	b.wantDepth(2)
	for _, gone := range []string{"old0", "old3", "failed", "g1", "g2"} {
		if all, err := b.keeper().Trails(ctx, gone); err != nil || len(all) > 0 {
			t.Errorf("%s is still there: %+v, %v", gone, all, err)
		}
	}
	b.trail("g3")
	b.trail("old4")
	b.wantCharges(0, 9, charge("1", 1))
	b.Store = b.reopen()
	b.wantDepth(2)
	b.finish(b.claim(at(9001), at(9900), group, "waits"), at(9002))
	b.finish(b.claim(at(9001), at(9900), bob, "put off"), at(9003))
	b.sweepAll(at(10000), at(9999))
	b.wantDepth(0)
	if all, err := b.keeper().Latest(ctx, 9); err != nil || len(all) > 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

func sweepAndGoOn(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(1), at(90), alice, "a")
	b.save(&turn, reply("x"))
	b.finish(turn, at(2))
	b.sweepAll(at(100), at(50))
	if _, err := b.Find(t.Context(), says(alice, "a")); !errors.Is(err, inbox.ErrUnknown) {
		t.Errorf("find a deleted message: %v", err)
	}
	// It is not known any more, which is why Least is what it is.
	b.put(says(alice, "a"), at(101))
	b.put(says(alice, "b"), at(102))
	b.finish(b.claim(at(103), at(200), alice, "a", "b"), at(104))
	b.wantHistory(alice, 5, []string{"a", "b"})
}

func oldHeard(t *testing.T, b *box) {
	said := func(id string, n float64) chat.Message {
		m := says(alice, id)
		m.Chat, m.Group, m.Time = group, true, at(n)
		return m
	}
	want := func(before float64, chats ...string) {
		t.Helper()
		got, err := b.keeper().OldHeard(t.Context(), at(before), 5)
		b.check(err)
		if !slices.Equal(got, chats) {
			t.Errorf("heard before %v in %v, want %v", before, got, chats)
		}
	}
	b.check(b.SetHeard(t.Context(), group, []chat.Message{said("b", 5), said("a", 3)}))
	b.check(b.SetHeard(t.Context(), "444@g.us", []chat.Message{said("c", 9)}))
	want(3)
	want(4, group)
	want(10, group, "444@g.us")
	b.check(b.SetHeard(t.Context(), group, []chat.Message{said("b", 5)}))
	want(4)
	b.check(b.SetHeard(t.Context(), group, nil))
	want(8)

	// A summary is as old as its making, and goes like the rest.
	box := inbox.New(b.Store, inbox.Options{}, slog.New(slog.DiscardHandler))
	b.check(box.SetSummary(t.Context(), alice, inbox.Summary{Text: "in short", Through: at(1), Last: "a"}, at(6)))
	want(6)
	old, err := b.keeper().OldHeard(t.Context(), at(7), 5)
	b.check(err)
	if len(old) != 1 {
		t.Fatalf("old are %q", old)
	}
	b.check(box.ForgetHeard(t.Context(), old[0], at(6)))
	if s, err := box.Summary(t.Context(), alice); err != nil || s.Text != "in short" {
		t.Errorf("the summary is %+v, %v", s, err)
	}
	b.check(box.ForgetHeard(t.Context(), old[0], at(7)))
	if s, err := box.Summary(t.Context(), alice); err != nil || s != (inbox.Summary{}) {
		t.Errorf("the summary is %+v, %v", s, err)
	}
	want(8)
}

func forgetKept(t *testing.T, b *box) {
	ctx := context.WithoutCancel(t.Context())
	b.check(b.keeper().Charge(ctx, []chat.Charge{charge("1", 1)}))
	b.check(b.keeper().Mark(ctx, []chat.Mark{{Message: "g", Fate: chat.Gated, Chat: group, Who: bob, Time: at(1), Why: "why"}}))
	b.check(b.Forget(ctx))
	b.wantCharges(0, 9)
	if all, err := b.keeper().Latest(ctx, 9); err != nil || len(all) > 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

// Sent checks what becomes of the messages that were sent, of which the devices of c keep copies, when s, which keeps the chats beside
// them, is told to forget them.
func Sent(t *testing.T, s inbox.Store, c Container) {
	ctx := t.Context()
	d := Pair(t, c, "100")
	chats := []types.JID{types.NewJID("1", types.HiddenUserServer), types.NewJID("49100", types.DefaultUserServer), types.NewJID("11", types.HiddenUserServer)}
	const each = 3
	id := func(n int) types.MessageID { return fmt.Sprint("sent ", n) }
	for _, jid := range chats {
		for n := range each {
			if err := d.EventBuffer.AddOutgoingEvent(ctx, jid, id(n), "wa", []byte("a text")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.ForgetSent(ctx, chats[0].String(), chats[1].String(), ""); err != nil {
		t.Fatal(err)
	}
	for i, jid := range chats {
		for n := range each {
			_, text, err := d.EventBuffer.GetOutgoingEvent(ctx, jid, types.EmptyJID, id(n))
			if kept := i == 2; kept && string(text) != "a text" || !kept && !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("chat %v, message %d: %q, %v", jid, n, text, err)
			}
		}
	}
}
