package storetest

import (
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// from is m, written by someone else in its chat.
func from(m chat.Message, who string) chat.Message {
	m.Sender = who
	return m
}

// holding is a message that is held until a time.
func holding(m chat.Message, until time.Time) chat.Message {
	m.Hold = until
	return m
}

func held(t *testing.T, b *box) {
	b.put(holding(says(alice, "a"), at(2)), at(1))
	b.empty(at(1.999))
	b.wantNext(at(2))
	b.put(says(bob, "x"), at(1.5)) // nobody waits for another's burst
	b.claim(at(1.6), at(90), bob, "x")
	b.put(holding(says(alice, "b"), at(2.9)), at(1.9)) // the newest decides
	b.wantNext(at(2.9))
	b.empty(at(2.899))
	b.claim(at(2.9), at(90), alice, "a", "b")

	// Its first message is not held longer than the most.
	first := at(100)
	b.put(holding(says(group, "1"), first.Add(time.Second)), first)
	b.put(holding(says(group, "2"), first.Add(inbox.MostHold+time.Minute)), first.Add(500*time.Millisecond))
	b.wantNext(at(90)) // the leases
	b.empty(at(89))
	b.check(b.Release(t.Context()))
	b.claim(at(91), at(900), alice, "a", "b")
	b.claim(at(91), at(900), bob, "x")
	b.empty(first.Add(inbox.MostHold - time.Millisecond))
	b.wantNext(first.Add(inbox.MostHold))
	b.finish(b.claim(first.Add(inbox.MostHold), at(900), group, "1", "2"), at(110))

	// One without a hold closes it.
	b.put(holding(says(group, "3"), at(121)), at(120))
	b.put(says(group, "4"), at(120.1))
	b.claim(at(120.2), at(900), group, "3", "4")
}

func (b *box) wantNext(want time.Time) {
	b.t.Helper()
	got, err := b.Next(b.t.Context())
	b.check(err)
	if !got.Truncate(time.Millisecond).Equal(want) {
		b.t.Errorf("next is %v, want %v", got, want)
	}
}

func heldRestart(t *testing.T, b *box) {
	b.put(holding(says(alice, "a"), at(2)), at(1))
	b.put(holding(says(alice, "b"), at(3)), at(2))
	b.Store = b.reopen()
	b.check(b.Release(t.Context()))
	b.empty(at(2.999))
	b.wantNext(at(3))
	b.put(holding(says(alice, "c"), at(5)), at(2.999))
	b.empty(at(4.999))
	b.claim(at(5), at(90), alice, "a", "b", "c")
}

func heldWhileLeased(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.put(holding(says(alice, "b"), at(4)), at(3))
	b.empty(at(8.999))
	b.check(b.Retry(t.Context(), turn, at(20)))
	b.empty(at(19.999))
	turn = b.claim(at(20), at(90), alice, "a", "b")
	b.put(holding(says(alice, "c"), at(24)), at(23))
	b.finish(turn, at(23.5))
	b.empty(at(23.999))
	b.claim(at(24), at(90), alice, "c")

	// Two addresses of one person: what waits is one burst.
	b.put(holding(says("55@s.whatsapp.net", "x"), at(101)), at(100))
	m := holding(says("5@lid", "y"), at(101.5))
	m.ChatAlt = "55@s.whatsapp.net"
	b.put(m, at(100.5))
	b.check(b.Release(t.Context()))
	b.finish(b.claim(at(101), at(200), alice, "c"), at(101))
	b.empty(at(101.499))
	b.claim(at(101.5), at(200), "5@lid", "x", "y")
}

func heldByTyping(t *testing.T, b *box) {
	extend := func(jid, who string, until time.Time, want bool) {
		t.Helper()
		done, err := b.Extend(t.Context(), jid, []string{"nobody@lid", who}, until)
		b.check(err)
		if done != want {
			t.Errorf("extended: %v, want %v", done, want)
		}
	}
	extend(alice, alice, at(9), false)
	b.put(holding(says(alice, "a"), at(2)), at(1))
	extend(alice, bob, at(9), false)
	extend(bob, alice, at(9), false)
	b.wantNext(at(2))
	extend(alice, alice, at(3), true)
	b.empty(at(2.999))
	b.Store = b.reopen()
	b.check(b.Release(t.Context()))
	b.empty(at(2.999))
	b.wantNext(at(3))
	extend(alice, alice, at(60), true) // not longer than the most
	b.wantNext(at(1).Add(inbox.MostHold))
	extend(alice, alice, at(2.5), true)
	turn := b.claim(at(2.5), at(90), alice, "a")
	extend(alice, alice, at(9), false) // it does not wait any more

	// One that closes the burst is not held again, and typing in a group is that of the newest message's author.
	b.put(says(alice, "b"), at(3))
	extend(alice, alice, at(9), false)
	b.finish(turn, at(4))
	b.finish(b.claim(at(4), at(90), alice, "b"), at(5))
	b.put(holding(from(says(group, "1"), alice), at(101)), at(100))
	b.put(holding(from(says(group, "2"), bob), at(101.5)), at(100.5))
	extend(group, alice, at(104), false)
	extend(group, bob, at(104), true)
	b.empty(at(103.999))
	b.claim(at(104), at(900), group, "1", "2")
}
