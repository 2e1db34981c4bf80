package storetest

import (
	"errors"
	"testing"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// wantFound expects a turn with just these messages, the last with that text.
func (b *box) wantFound(like chat.Message, text string, r *chat.Reply, ids ...string) {
	b.t.Helper()
	x, err := b.Find(b.t.Context(), like)
	b.check(err)
	if got := idsOf(x.Messages); len(got) != len(ids) || got[len(got)-1] != ids[len(ids)-1] || x.Messages[len(got)-1].Text != text {
		b.t.Errorf("found %+v, want %v with text %q", x.Messages, ids, text)
	}
	b.wantReply(x.Reply, r)
}

func (b *box) wantUnknown(like chat.Message) {
	b.t.Helper()
	if x, err := b.Find(b.t.Context(), like); !errors.Is(err, inbox.ErrUnknown) {
		b.t.Errorf("found %+v (%v), want ErrUnknown", x, err)
	}
}

func find(t *testing.T, b *box) {
	b.wantUnknown(says(alice, "a"))
	b.put(says(alice, "a"), at(1))
	b.put(says(alice, "b"), at(2))
	b.wantFound(says(alice, "a"), "text of a", nil, "a")
	turn := b.claim(at(3), at(9), alice, "a", "b")
	b.wantFound(says(alice, "a"), "text of b", nil, "a", "b")
	one := reply("one")
	b.save(&turn, one)
	b.wantFound(says(alice, "a"), "text of b", &one, "a", "b")
	b.finish(turn, at(4))
	b.put(says(alice, "c"), at(5))
	b.wantFound(says(alice, "b"), "text of b", &one, "a", "b")
	b.Store = b.reopen()
	b.wantFound(says(alice, "b"), "text of b", &one, "a", "b")
	b.wantFound(says(alice, "c"), "text of c", nil, "c")

	b.wantUnknown(says(bob, "a")) // another chat
	other := says(alice, "a")
	other.Sender = bob
	b.wantUnknown(other) // another author
}

func findAddresses(t *testing.T, b *box) {
	b.put(says(alicePN, "a"), at(1))
	b.wantFound(saysToo("a"), "text of a", nil, "a")
	b.put(saysToo("b"), at(2))
	b.wantFound(says(alice, "b"), "text of b", nil, "b")
	b.wantFound(saysToo("a"), "text of a", nil, "a")
	turn := b.claim(at(3), at(9), alice, "a", "b")
	b.finish(turn, at(4))
	b.wantFound(saysToo("a"), "text of b", nil, "a", "b")
	m := says(alice, "g")
	m.Chat, m.Group, m.SenderAlt = group, true, alicePN
	b.put(m, at(5))
	m.Sender, m.SenderAlt = alicePN, alice
	b.wantFound(m, "text of g", nil, "g")
}

func amend(t *testing.T, b *box) {
	change := func(id, text string) {
		t.Helper()
		m := says(alice, id)
		m.Text = text
		b.check(b.Amend(t.Context(), []chat.Message{m}, nil))
	}
	b.put(says(alice, "a"), at(1))
	change("a", "waiting")
	change("nowhere", "x")
	b.wantDepth(1)
	b.wantUnknown(says(alice, "nowhere"))
	turn := b.claim(at(2), at(9), alice, "a")
	if turn.Messages[0].Text != "waiting" {
		t.Errorf("claimed %q", turn.Messages[0].Text)
	}
	change("a", "leased")
	b.put(says(alice, "b"), at(3))
	b.empty(at(4)) // it is leased still
	turn = b.claim(at(9), at(20), alice, "a", "b")
	if turn.Messages[0].Text != "leased" || turn.Messages[1].Text != "text of b" {
		t.Errorf("claimed %+v", turn.Messages)
	}
	b.save(&turn, reply("one"))
	change("a", "saved")
	b.finish(turn, at(10))
	if x := b.wantHistory(alice, 5, []string{"a", "b"}); x[0].Messages[0].Text != "saved" {
		t.Errorf("history %+v", x[0].Messages)
	}
	b.put(says(alice, "a"), at(11)) // it is known still
	b.wantDepth(0)
}

func amendEnded(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	b.put(says(alice, "b"), at(1.5))
	turn := b.claim(at(2), at(9), alice, "a", "b")
	two := reply("two")
	b.check(b.Amend(t.Context(), turn.Messages, &two)) // not while it is being answered
	one := reply("one")
	b.save(&turn, one)
	b.wantFound(says(alice, "a"), "text of b", &one, "a", "b")
	b.check(b.Amend(t.Context(), turn.Messages, &two))
	b.finish(turn, at(3))
	b.wantFound(says(alice, "a"), "text of b", &one, "a", "b")

	changed := says(alice, "b")
	changed.Text, changed.Revoked = "", true
	b.check(b.Amend(t.Context(), []chat.Message{says(alice, "a"), changed}, &two))
	b.check(b.Amend(t.Context(), []chat.Message{says(alice, "a"), changed}, &two))
	b.Store = b.reopen()
	x := b.wantHistory(alice, 5, []string{"a", "b"})[0]
	b.wantReply(x.Reply, &two)
	if x.Messages[0].Text != "text of a" || x.Messages[1].Text != "" || !x.Messages[1].Revoked {
		t.Errorf("history %+v", x.Messages)
	}
	b.put(says(alice, "b"), at(4))
	b.empty(at(5))
}
