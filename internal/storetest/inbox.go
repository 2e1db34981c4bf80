// Package storetest is what every store must do, as one suite: each store's tests run it on
// that store. The suite knows only the contract, nothing of the database below, and hands in all times itself.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// Open gives a test an empty store of its own. reopen closes that store and opens the same
// data again, as a restart does. The stores are closed by t.Cleanup.
type Open func(t *testing.T) (s inbox.Store, reopen func() inbox.Store)

// Inbox checks that a store keeps the contract of inbox.Store.
func Inbox(t *testing.T, open Open) {
	for name, test := range map[string]func(*testing.T, *box){
		"a new store is empty":                          newStore,
		"a message comes back whole":                    wholeMessage,
		"a turn has all that waits, in order":           gather,
		"the longest waiting chat is first":             longestFirst,
		"a message is stored once":                      once,
		"a group's message is stored once":              onceInGroup,
		"an answered message stays answered":            onceAnswered,
		"IDs are a sender's own":                        idsBySender,
		"two addresses are one chat":                    merged,
		"two addresses are one chat in history":         mergedHistory,
		"a chat gets its address during a turn":         mergedWhileLeased,
		"two chats become one during their turns":       mergedWhileBothLeased,
		"an own message comes under two addresses":      mergedOwn,
		"a copy is in a turn when two chats become one": mergedWithCopy,
		"a lease keeps the chat to one":                 lease,
		"a lease that ran out can be taken":             leaseTaken,
		"a lease that ran out, not taken, is good":      leaseOverrun,
		"a lost lease is refused":                       leaseLost,
		"an ended turn is nobody's":                     endedTwice,
		"a retry waits for its time":                    retry,
		"a retry keeps the attempt that it is told":     retryUncounted,
		"a retry gathers what came":                     retryGathers,
		"a saved reply sets the turn":                   savedReply,
		"a saved reply survives a crash":                savedReplyAfterCrash,
		"a reply is saved again":                        savedReplyReplaced,
		"what comes during a turn waits":                during,
		"attempts are counted across a release":         release,
		"a release keeps retry times":                   releaseKeepsRetry,
		"a turn given up is kept, the chat goes on":     fail,
		"a turn given up keeps its saved reply":         failWithReply,
		"history is the last turns, oldest first":       history,
		"next is when something can be claimed":         next,
		"depth counts the unanswered":                   depth,
		"what is forgotten is gone":                     forget,
		"a message is found where it is":                find,
		"a message is found under its addresses":        findAddresses,
		"what is stored can be changed":                 amend,
		"what was answered can be changed":              amendEnded,
		"what was heard is kept apart":                  heard,
		"what a person said can be deleted":             erase,
		"a burst is held together":                      held,
		"a held burst survives a restart":               heldRestart,
		"typing extends a hold":                         heldByTyping,
		"a hold does not shorten a lease or a retry":    heldWhileLeased,
		"all survives a restart":                        restart,
		"a cancelled call does nothing":                 cancelled,
		"many at once get each message once":            concurrent,
		"many deliver one message, it is there once":    concurrentDuplicates,
		"random calls do what the model does":           random,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, reopen := open(t)
			test(t, &box{t: t, Store: s, reopen: reopen})
		})
	}
}

const (
	alice   = "111@lid"
	alicePN = "4911@s.whatsapp.net"
	bob     = "222@lid"
	group   = "333@g.us"
	me      = "999@lid"
)

// at is the n-th second of the test's time.
func at(n float64) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(n * float64(time.Second)))
}

// says is a direct message of the person with the address who.
func says(who, id string) chat.Message {
	return chat.Message{Chat: who, ID: id, Sender: who, Time: at(0), Text: "text of " + id, Kind: chat.Text}
}

// saysToo is a direct message of alice, whose two addresses are known.
func saysToo(id string) chat.Message {
	m := says(alice, id)
	m.ChatAlt, m.SenderAlt = alicePN, alicePN
	return m
}

func reply(text string) chat.Reply {
	return chat.Reply{Parts: []chat.Part{{ID: "ID-" + text, Text: text, Quote: true}}}
}

// box is a store whose errors end the test.
type box struct {
	inbox.Store
	t      *testing.T
	reopen func() inbox.Store
}

func (b *box) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) put(m chat.Message, now time.Time) {
	b.t.Helper()
	b.check(b.Put(b.t.Context(), m, now))
}

// claim expects a turn of jid with just the messages ids.
func (b *box) claim(now, until time.Time, jid string, ids ...string) chat.Turn {
	b.t.Helper()
	t, err := b.Claim(b.t.Context(), now, until)
	b.check(err)
	if t.Chat != jid || !slices.Equal(idsOf(t.Messages), ids) {
		b.t.Fatalf("claimed %v of %s, want %v of %s", idsOf(t.Messages), t.Chat, ids, jid)
	}
	for _, m := range t.Messages {
		if m.Chat != jid {
			b.t.Errorf("message %s of the turn has chat %s, want %s", m.ID, m.Chat, jid)
		}
	}
	if t.Lease == "" || !t.Until.Equal(until) {
		b.t.Errorf("turn has lease %q until %v, want one until %v", t.Lease, t.Until, until)
	}
	return t
}

// empty expects that nothing can be claimed.
func (b *box) empty(now time.Time) {
	b.t.Helper()
	t, err := b.Claim(b.t.Context(), now, now.Add(time.Minute))
	if !errors.Is(err, inbox.ErrEmpty) {
		b.t.Fatalf("claimed %v of %s (%v), want ErrEmpty", idsOf(t.Messages), t.Chat, err)
	}
}

func (b *box) save(t *chat.Turn, r chat.Reply) {
	b.t.Helper()
	b.check(b.SaveReply(b.t.Context(), *t, r))
	t.Reply = &r
}

func (b *box) finish(t chat.Turn, now time.Time) {
	b.t.Helper()
	b.check(b.Finish(b.t.Context(), t, now))
}

func (b *box) wantAttempt(t chat.Turn, n int) {
	b.t.Helper()
	if t.Attempt != n {
		b.t.Errorf("attempt %d, want %d", t.Attempt, n)
	}
}

func (b *box) wantReply(got *chat.Reply, want *chat.Reply) {
	b.t.Helper()
	if !reflect.DeepEqual(got, want) {
		b.t.Errorf("reply %+v, want %+v", got, want)
	}
}

func (b *box) wantDepth(n int) {
	b.t.Helper()
	got, err := b.Depth(b.t.Context())
	b.check(err)
	if got != n {
		b.t.Errorf("depth %d, want %d", got, n)
	}
}

// wantOldest expects that what waits longest came in at a time, or that nothing waits.
func (b *box) wantOldest(want time.Time) {
	b.t.Helper()
	got, err := b.Oldest(b.t.Context())
	b.check(err)
	if !got.Equal(want) {
		b.t.Errorf("what waits longest came in at %v, want %v", got, want)
	}
}

// wantHistory expects exchanges with just these messages, each given as its IDs.
func (b *box) wantHistory(jid string, n int, want ...[]string) []chat.Exchange {
	b.t.Helper()
	all, err := b.History(b.t.Context(), jid, n)
	b.check(err)
	var got [][]string
	for _, x := range all {
		got = append(got, idsOf(x.Messages))
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		b.t.Fatalf("history of %s is %v, want %v", jid, got, want)
	}
	return all
}

func idsOf(all []chat.Message) []string {
	ids := make([]string, len(all))
	for i, m := range all {
		ids[i] = m.ID
	}
	return ids
}

func newStore(t *testing.T, b *box) {
	b.empty(at(0))
	b.wantDepth(0)
	b.wantOldest(time.Time{})
	b.wantHistory(alice, 10)
	when, err := b.Next(t.Context())
	b.check(err)
	if !when.IsZero() {
		t.Errorf("next is %v, want zero", when)
	}
}

func wholeMessage(t *testing.T, b *box) {
	want := chat.Message{
		Chat: group, ID: "3EB0", Sender: alice, SenderAlt: alicePN, Name: "Alice \U0001F469\u200d\U0001F680 \"quoted\"\x00",
		Time: at(7), Text: "two\nlines, 中文, \u202e and $where: {\"a\": 1}", Kind: chat.Image,
		Quoted: &chat.Quoted{ID: "3EB1", Sender: me, Text: "before", Kind: chat.Voice, FromBot: true},
		Group:  true, FromMe: true, Own: true, Mentioned: true,
	}
	b.put(want, at(10))
	turn := b.claim(at(11), at(20), group, "3EB0")
	r := chat.Reply{Failure: "no model", Parts: []chat.Part{{ID: "A", Text: "sorry\x00 \U0001F469", Quote: true, Sent: true}, {ID: "B"}}}
	b.save(&turn, r)
	b.finish(turn, at(12))
	past := b.wantHistory(group, 1, []string{"3EB0"})[0]
	b.wantReply(past.Reply, &r)
	for _, got := range []chat.Message{turn.Messages[0], past.Messages[0]} {
		if !got.Time.Equal(want.Time) {
			t.Errorf("time %v, want %v", got.Time, want.Time)
		}
		got.Time = want.Time // their locations may differ
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func gather(t *testing.T, b *box) {
	b.put(says(alice, "c"), at(1))
	b.put(says(alice, "a"), at(2))
	b.put(says(bob, "x"), at(2.5))
	b.put(says(alice, "b"), at(3))
	b.wantAttempt(b.claim(at(4), at(9), alice, "c", "a", "b"), 1)
	b.claim(at(4), at(9), bob, "x")
	b.empty(at(4))
}

func longestFirst(t *testing.T, b *box) {
	b.put(says(bob, "x"), at(1.002))
	b.put(says(alice, "a"), at(1.001))
	b.put(says(group, "g"), at(1.003))
	b.put(says(alice, "b"), at(5))
	b.claim(at(6), at(9), alice, "a", "b")
	b.claim(at(6), at(9), bob, "x")
	b.claim(at(6), at(9), group, "g")
	// A chat that was put off still counts from its first message.
	b.put(says("later@lid", "l"), at(6.5))
	turn := b.claim(at(9), at(20), alice, "a", "b")
	b.check(b.Retry(t.Context(), turn, at(10)))
	b.claim(at(10), at(20), alice, "a", "b")
	b.claim(at(10), at(20), bob, "x")
}

func once(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	again := says(alice, "a")
	again.Text = "changed"
	b.put(again, at(2))
	b.wantDepth(1)
	turn := b.claim(at(3), at(9), alice, "a")
	if turn.Messages[0].Text != "text of a" {
		t.Errorf("text %q is the second message's", turn.Messages[0].Text)
	}
	b.put(again, at(4)) // while it is being answered
	b.finish(turn, at(5))
	b.empty(at(6))
}

func onceInGroup(t *testing.T, b *box) {
	m := says(alicePN, "a")
	m.Chat, m.Group = group, true
	b.put(m, at(1))
	m.Sender, m.SenderAlt = alice, alicePN // the sender's hidden address became known
	b.put(m, at(2))
	b.claim(at(3), at(9), group, "a")
	b.wantDepth(1)
}

func onceAnswered(t *testing.T, b *box) {
	b.put(saysToo("a"), at(1))
	b.finish(b.claim(at(2), at(9), alice, "a"), at(3))
	b.put(saysToo("a"), at(4))
	b.empty(at(5))
	b.put(saysToo("b"), at(6))
	b.check(b.Fail(t.Context(), b.claim(at(7), at(9), alice, "b"), at(8), "why"))
	b.put(saysToo("b"), at(9))
	b.empty(at(10))
	b.wantDepth(0)
}

func idsBySender(t *testing.T, b *box) {
	m := says(alice, "a")
	m.Chat = group
	b.put(m, at(1))
	m.Sender = bob
	b.put(m, at(2))
	m.Chat, m.Sender = bob, alice
	b.put(m, at(3))
	b.claim(at(4), at(9), group, "a", "a")
	b.claim(at(4), at(9), bob, "a")
}

func merged(t *testing.T, b *box) {
	b.put(says(alicePN, "a"), at(1))
	b.put(says(bob, "x"), at(2))
	b.put(says(alice, "b"), at(3))
	b.put(saysToo("a"), at(4)) // the first again, under the other address
	b.put(saysToo("c"), at(5))
	b.wantDepth(4)
	b.claim(at(6), at(9), alice, "a", "b", "c")
	b.claim(at(6), at(9), bob, "x")
	b.empty(at(6))
}

func mergedHistory(t *testing.T, b *box) {
	b.put(says(alicePN, "a"), at(1))
	b.finish(b.claim(at(2), at(9), alicePN, "a"), at(3))
	b.put(says(alice, "b"), at(4))
	b.finish(b.claim(at(5), at(9), alice, "b"), at(6))
	b.put(saysToo("a"), at(7)) // brings nothing new but the address
	b.empty(at(8))
	for _, x := range b.wantHistory(alice, 5, []string{"a"}, []string{"b"}) {
		if x.Messages[0].Chat != alice {
			t.Errorf("a message in the history has chat %s", x.Messages[0].Chat)
		}
	}
	b.wantHistory(alicePN, 5)
}

func mergedWhileLeased(t *testing.T, b *box) {
	b.put(says(alicePN, "a"), at(1))
	turn := b.claim(at(2), at(9), alicePN, "a")
	b.put(saysToo("b"), at(3))
	b.empty(at(4)) // still one chat with one live lease
	b.save(&turn, reply("one"))
	b.finish(turn, at(5))
	b.claim(at(6), at(9), alice, "b")
	b.wantHistory(alice, 5, []string{"a"})

	// The same, and the process dies with the reply saved.
	b.put(says("55@s.whatsapp.net", "c"), at(11))
	turn = b.claim(at(12), at(14), alice, "b")
	b.finish(turn, at(12))
	turn = b.claim(at(12), at(20), "55@s.whatsapp.net", "c")
	b.save(&turn, reply("two"))
	m := says("5@lid", "d")
	m.ChatAlt = "55@s.whatsapp.net"
	b.put(m, at(13))
	turn = b.claim(at(20), at(29), "5@lid", "c")
	b.wantAttempt(turn, 2)
	two := reply("two")
	b.wantReply(turn.Reply, &two)
	b.finish(turn, at(21))
	b.claim(at(22), at(29), "5@lid", "d")
}

func mergedWhileBothLeased(t *testing.T, b *box) {
	b.put(says(alicePN, "a"), at(1))
	b.put(says(alice, "b"), at(2))
	first := b.claim(at(3), at(8), alicePN, "a")
	second := b.claim(at(3), at(9), alice, "b")
	b.put(saysToo("c"), at(4))
	b.wantDepth(3)
	b.finish(first, at(5))
	b.empty(at(6))
	b.finish(second, at(7))
	b.claim(at(7), at(20), alice, "c")
	b.wantHistory(alice, 5, []string{"a"}, []string{"b"})
}

// ownSays is a direct message that the account itself wrote.
func ownSays(chatJID, id string) chat.Message {
	m := says(chatJID, id)
	m.Sender, m.FromMe = me, true
	return m
}

func mergedOwn(t *testing.T, b *box) {
	b.put(ownSays(alicePN, "a"), at(1))
	b.put(saysToo("b"), at(2))
	b.put(ownSays(alicePN, "a"), at(3)) // as if it were another's: the addresses are not told
	b.put(saysToo("c"), at(4))          // now they are
	b.wantDepth(3)
	b.claim(at(5), at(9), alice, "a", "b", "c")
	like := ownSays(alice, "a")
	like.ChatAlt = alicePN
	_, err := b.Find(t.Context(), like)
	b.check(err)
}

func mergedWithCopy(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.put(says(alicePN, "b"), at(3))
	b.put(saysToo("c"), at(4))
	b.put(says(alicePN, "b"), at(5))
	copied := b.claim(at(6), at(20), alicePN, "b")
	b.put(saysToo("d"), at(7))
	b.wantDepth(4)
	b.finish(turn, at(8))
	b.finish(copied, at(9))
	b.claim(at(10), at(20), alice, "c", "d")
	b.empty(at(11))
}

func lease(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	b.put(says(bob, "x"), at(2))
	first := b.claim(at(3), at(9), alice, "a")
	second := b.claim(at(3), at(9), bob, "x")
	if first.Lease == second.Lease {
		t.Errorf("two turns have the lease %q", first.Lease)
	}
	b.put(says(alice, "b"), at(4))
	b.empty(at(8.999))
}

func leaseTaken(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	old := b.claim(at(2), at(9), alice, "a")
	b.put(says(alice, "b"), at(3))
	turn := b.claim(at(9), at(20), alice, "a", "b")
	b.wantAttempt(turn, 2)
	if old.Lease == turn.Lease {
		t.Errorf("two claims have the lease %q", old.Lease)
	}
}

func leaseOverrun(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.save(&turn, reply("late"))
	b.finish(turn, at(30))
	b.empty(at(31))
}

func leaseLost(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	old := b.claim(at(2), at(9), alice, "a")
	turn := b.claim(at(9), at(20), alice, "a")
	for name, err := range map[string]error{
		"SaveReply": b.SaveReply(t.Context(), old, reply("old")),
		"Finish":    b.Finish(t.Context(), old, at(10)),
		"Retry":     b.Retry(t.Context(), old, at(10)),
		"Fail":      b.Fail(t.Context(), old, at(10), "why"),
	} {
		if !errors.Is(err, inbox.ErrLeaseLost) {
			t.Errorf("%s under a lost lease: %v, want ErrLeaseLost", name, err)
		}
	}
	b.empty(at(11)) // the new lease is still live
	b.wantDepth(1)
	b.finish(turn, at(12))
	past := b.wantHistory(alice, 5, []string{"a"})
	b.wantReply(past[0].Reply, nil)
}

func endedTwice(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.finish(turn, at(3))
	for name, err := range map[string]error{
		"SaveReply": b.SaveReply(t.Context(), turn, reply("late")),
		"Finish":    b.Finish(t.Context(), turn, at(4)),
		"Retry":     b.Retry(t.Context(), turn, at(4)),
		"Fail":      b.Fail(t.Context(), turn, at(4), "why"),
	} {
		if !errors.Is(err, inbox.ErrLeaseLost) {
			t.Errorf("%s after the end: %v, want ErrLeaseLost", name, err)
		}
	}
	b.empty(at(5))
	b.wantHistory(alice, 5, []string{"a"})
}

func retry(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	b.check(b.Retry(t.Context(), b.claim(at(2), at(9), alice, "a"), at(5)))
	b.empty(at(4.999))
	turn := b.claim(at(5), at(15), alice, "a")
	b.wantAttempt(turn, 2)
	// A retry may lie beyond the lease's end.
	b.check(b.Retry(t.Context(), turn, at(60)))
	b.empty(at(59.999))
	turn = b.claim(at(60), at(70), alice, "a")
	b.wantAttempt(turn, 3)
	b.finish(turn, at(61))
	b.put(says(alice, "b"), at(62))
	b.wantAttempt(b.claim(at(63), at(70), alice, "b"), 1)
}

// An attempt that was none may be taken back.
func retryUncounted(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	turn.Attempt--
	b.check(b.Retry(t.Context(), turn, at(5)))
	turn = b.claim(at(5), at(9), alice, "a")
	b.wantAttempt(turn, 1)
	b.check(b.Retry(t.Context(), turn, at(10)))
	b.Store = b.reopen()
	turn = b.claim(at(10), at(15), alice, "a")
	b.wantAttempt(turn, 2)
	turn.Attempt--
	b.check(b.Retry(t.Context(), turn, at(20)))
	b.Store = b.reopen()
	b.wantAttempt(b.claim(at(20), at(25), alice, "a"), 2)
}

func retryGathers(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	b.check(b.Retry(t.Context(), b.claim(at(2), at(9), alice, "a"), at(5)))
	b.put(says(alice, "b"), at(3))
	b.empty(at(4)) // what comes does not shorten the wait
	b.wantAttempt(b.claim(at(5), at(9), alice, "a", "b"), 2)
}

func savedReply(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.wantReply(turn.Reply, nil)
	one := reply("one")
	b.save(&turn, one)
	b.empty(at(3)) // the lease goes on
	b.put(says(alice, "b"), at(3))
	b.check(b.Retry(t.Context(), turn, at(4)))
	turn = b.claim(at(4), at(9), alice, "a")
	b.wantReply(turn.Reply, &one)
	b.wantAttempt(turn, 2)
	b.finish(turn, at(5))
	turn = b.claim(at(6), at(9), alice, "b")
	b.wantReply(turn.Reply, nil)
	b.wantAttempt(turn, 1)
	past := b.wantHistory(alice, 5, []string{"a"})
	b.wantReply(past[0].Reply, &one)
}

func savedReplyAfterCrash(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	one := reply("one")
	b.save(&turn, one)
	b.put(says(alice, "b"), at(3))
	b.empty(at(8.999))
	again := b.claim(at(9), at(20), alice, "a")
	b.wantReply(again.Reply, &one)
	b.wantAttempt(again, 2)
	b.wantDepth(2)
	if err := b.Finish(t.Context(), turn, at(10)); !errors.Is(err, inbox.ErrLeaseLost) {
		t.Errorf("finish of the old claim: %v, want ErrLeaseLost", err)
	}
	b.finish(again, at(10))
	b.claim(at(11), at(20), alice, "b")
}

func savedReplyReplaced(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.save(&turn, reply("one"))
	two := reply("two")
	two.Parts[0].Sent = true
	b.save(&turn, two)
	turn = b.claim(at(9), at(19), alice, "a")
	b.wantReply(turn.Reply, &two)
}

func during(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.put(says(alice, "b"), at(3))
	b.wantDepth(2)
	b.finish(turn, at(4))
	b.wantDepth(1)
	b.wantHistory(alice, 5, []string{"a"})
	b.wantAttempt(b.claim(at(5), at(9), alice, "b"), 1)
}

func release(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	b.put(says(bob, "x"), at(2))
	old := b.claim(at(3), at(99), alice, "a")
	b.claim(at(3), at(99), bob, "x")
	b.check(b.Release(t.Context()))
	b.wantAttempt(b.claim(at(4), at(99), alice, "a"), 2)
	b.check(b.Release(t.Context()))
	b.wantAttempt(b.claim(at(5), at(99), alice, "a"), 3)
	b.wantAttempt(b.claim(at(5), at(99), bob, "x"), 2)
	if err := b.Finish(t.Context(), old, at(6)); !errors.Is(err, inbox.ErrLeaseLost) {
		t.Errorf("finish of a released claim: %v, want ErrLeaseLost", err)
	}
}

func releaseKeepsRetry(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	b.check(b.Retry(t.Context(), b.claim(at(2), at(9), alice, "a"), at(50)))
	b.check(b.Release(t.Context()))
	b.empty(at(49))
	b.claim(at(50), at(60), alice, "a")
}

func fail(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.check(b.Retry(t.Context(), turn, at(3)))
	turn = b.claim(at(3), at(9), alice, "a")
	b.put(says(alice, "b"), at(4))
	b.check(b.Fail(t.Context(), turn, at(5), "poison"))
	b.wantDepth(1)
	b.wantAttempt(b.claim(at(6), at(20), alice, "b"), 1)
	b.empty(at(7))
	past := b.wantHistory(alice, 5, []string{"a"})
	b.wantReply(past[0].Reply, nil)
}

func failWithReply(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	one := reply("one")
	b.save(&turn, one)
	b.put(says(alice, "b"), at(3))
	b.check(b.Fail(t.Context(), turn, at(4), "cannot send"))
	next := b.claim(at(5), at(9), alice, "b")
	b.wantAttempt(next, 1)
	b.wantReply(next.Reply, nil)
	past := b.wantHistory(alice, 5, []string{"a"})
	b.wantReply(past[0].Reply, &one)
}

func forget(t *testing.T, b *box) {
	b.put(says(alice, "done"), at(1))
	b.finish(b.claim(at(2), at(9), alice, "done"), at(3))
	b.put(says(alice, "held"), at(4))
	held := b.claim(at(5), at(90), alice, "held")
	b.put(says(bob, "waits"), at(6))
	const others = "settings"
	notes, keepsNotes := b.Store.(interface {
		Note(ctx context.Context, key string) ([]byte, error)
		SetNote(ctx context.Context, key string, value []byte) error
	})
	if keepsNotes {
		for _, key := range []string{inbox.ChatNotes + alice, others} {
			b.check(notes.SetNote(t.Context(), key, []byte("x")))
		}
	}
	b.check(b.Forget(t.Context()))
	if keepsNotes {
		for key, want := range map[string]string{inbox.ChatNotes + alice: "", others: "x"} {
			got, err := notes.Note(t.Context(), key)
			if b.check(err); string(got) != want {
				t.Errorf("the note %s is %q, want %q", key, got, want)
			}
		}
	}
	b.wantDepth(0)
	b.empty(at(7))
	b.wantHistory(alice, 5)
	if err := b.Finish(t.Context(), held, at(8)); !errors.Is(err, inbox.ErrLeaseLost) {
		t.Errorf("finish of a forgotten turn: %v, want ErrLeaseLost", err)
	}
	b.put(says(bob, "waits"), at(9))
	b.finish(b.claim(at(10), at(19), bob, "waits"), at(11))
	b.Store = b.reopen()
	b.wantHistory(bob, 5, []string{"waits"})
	b.empty(at(20))
}

// erase is the inbox's, by what every store does.
func erase(t *testing.T, b *box) {
	in := func(who, id string) chat.Message {
		m := says(who, id)
		m.Chat, m.Group, m.Name = group, true, "a name"
		return m
	}
	quoting := in(bob, "quotes")
	quoting.Quoted = &chat.Quoted{ID: "secret", Sender: alice, Text: "text of secret", Kind: chat.Text}
	for i, messages := range [][]chat.Message{{in(alice, "secret"), in(bob, "mixed")}, {quoting}, {in(bob, "other")}} {
		for _, m := range messages {
			b.put(m, at(float64(10*i)))
		}
		turn := b.claim(at(float64(10*i+1)), at(99), group, idsOf(messages)...)
		b.save(&turn, reply("to "+messages[0].ID))
		b.finish(turn, at(float64(10*i+2)))
	}
	elsewhere := says(alice, "elsewhere")
	b.put(elsewhere, at(40))
	b.finish(b.claim(at(41), at(99), alice, "elsewhere"), at(42))
	b.check(b.SetHeard(t.Context(), group, []chat.Message{in(alice, "heard"), in(bob, "heard too")}))
	box := inbox.New(b.Store, inbox.Options{}, slog.New(slog.DiscardHandler))
	for range 2 { // again, as after a crash
		b.check(box.Erase(t.Context(), group, alice, alicePN))
	}
	b.Store = b.reopen()
	past := b.wantHistory(group, 9, []string{"secret", "mixed"}, []string{"quotes"}, []string{"other"})
	if m := past[0].Messages[0]; m.Text != "" || m.Name != "" || !m.Revoked || past[0].Messages[1].Text == "" || len(past[0].Reply.Parts) != 0 {
		t.Errorf("left %+v of it", past[0])
	}
	if m := past[1].Messages[0]; m.Quoted.Text != "" || m.Text == "" || len(past[1].Reply.Parts) != 1 {
		t.Errorf("left %+v of what quotes it", past[1])
	}
	if past[2].Messages[0].Text == "" || len(past[2].Reply.Parts) != 1 || b.wantHistory(alice, 9, []string{"elsewhere"})[0].Messages[0].Text == "" {
		t.Error("what another said, or what was said elsewhere, is deleted too")
	}
	said, err := b.Heard(t.Context(), group)
	if b.check(err); len(said) != 1 || said[0].ID != "heard too" {
		t.Errorf("heard %+v", said)
	}
	b.put(in(alice, "secret"), at(50)) // it is known that it was answered
	b.empty(at(51))
}

func history(t *testing.T, b *box) {
	for i := range 5 {
		n := float64(10 * i)
		id := fmt.Sprint(i)
		b.put(says(alice, id), at(n))
		b.put(says(alice, id+"+"), at(n+1))
		b.put(says(bob, "x"+id), at(n+2))
		turn := b.claim(at(n+3), at(n+9), alice, id, id+"+")
		b.save(&turn, reply(id))
		b.finish(turn, at(n+4))
		b.finish(b.claim(at(n+5), at(n+9), bob, "x"+id), at(n+6))
	}
	b.put(says(alice, "waits"), at(100))
	all := b.wantHistory(alice, 3, []string{"2", "2+"}, []string{"3", "3+"}, []string{"4", "4+"})
	for i, x := range all {
		want := reply(fmt.Sprint(i + 2))
		b.wantReply(x.Reply, &want)
	}
	b.wantHistory(alice, 1, []string{"4", "4+"})
	b.wantHistory(alice, 0)
	b.wantHistory("stranger@lid", 3)
	if got := len(b.wantHistory(bob, 100, []string{"x0"}, []string{"x1"}, []string{"x2"}, []string{"x3"}, []string{"x4"})); got != 5 {
		t.Errorf("%d exchanges, want 5", got)
	}
}

func next(t *testing.T, b *box) {
	want := func(when time.Time) {
		t.Helper()
		got, err := b.Next(t.Context())
		b.check(err)
		if !got.Truncate(time.Millisecond).Equal(when) {
			t.Errorf("next is %v, want %v", got, when)
		}
	}
	wantNow := func(now time.Time) {
		t.Helper()
		got, err := b.Next(t.Context())
		b.check(err)
		if got.IsZero() || got.After(now) {
			t.Errorf("next is %v, want a time not after %v", got, now)
		}
	}
	b.put(says(alice, "a"), at(1))
	wantNow(at(1))
	turn := b.claim(at(2), at(9.125), alice, "a")
	want(at(9.125))
	b.put(says(alice, "b"), at(3)) // in a chat that is leased
	want(at(9.125))
	b.put(says(bob, "x"), at(4))
	wantNow(at(4))
	other := b.claim(at(5), at(8), bob, "x")
	want(at(8))
	b.check(b.Retry(t.Context(), other, at(60)))
	want(at(9.125))
	b.finish(turn, at(6))
	wantNow(at(6))
	b.finish(b.claim(at(7), at(20), alice, "b"), at(8))
	want(at(60))
	b.finish(b.claim(at(60), at(70), bob, "x"), at(61))
	got, err := b.Next(t.Context())
	b.check(err)
	if !got.IsZero() {
		t.Errorf("next is %v with nothing waiting", got)
	}
}

func depth(t *testing.T, b *box) {
	b.wantOldest(time.Time{})
	b.put(says(alice, "a"), at(1))
	b.put(says(alice, "b"), at(2))
	b.put(says(bob, "x"), at(3))
	b.wantDepth(3)
	turn := b.claim(at(4), at(9), alice, "a", "b")
	b.wantDepth(3)
	b.wantOldest(at(1))
	b.check(b.Retry(t.Context(), turn, at(5)))
	b.wantDepth(3)
	b.wantOldest(at(1))
	b.check(b.Fail(t.Context(), b.claim(at(5), at(9), alice, "a", "b"), at(6), "why"))
	b.wantDepth(1)
	b.wantOldest(at(3))
	b.finish(b.claim(at(6), at(9), bob, "x"), at(7))
	b.wantDepth(0)
	b.wantOldest(time.Time{})
}

func restart(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	one := reply("one")
	b.save(&turn, one)
	b.finish(turn, at(3))
	b.put(says(alice, "b"), at(4))
	turn = b.claim(at(5), at(99), alice, "b")
	two := reply("two")
	b.save(&turn, two)
	b.put(says(bob, "x"), at(6))
	b.check(b.Retry(t.Context(), b.claim(at(7), at(99), bob, "x"), at(50)))
	b.put(says(group, "g"), at(8))

	b.Store = b.reopen()
	b.wantDepth(3)
	b.check(b.Release(t.Context()))
	turn = b.claim(at(10), at(99), alice, "b")
	b.wantAttempt(turn, 2)
	b.wantReply(turn.Reply, &two)
	b.claim(at(10), at(99), group, "g")
	b.empty(at(49))
	b.wantAttempt(b.claim(at(50), at(99), bob, "x"), 2)
	past := b.wantHistory(alice, 5, []string{"a"})
	b.wantReply(past[0].Reply, &one)
	b.put(says(alice, "a"), at(51))
	b.wantDepth(3)
}

func cancelled(t *testing.T, b *box) {
	b.put(says(alice, "a"), at(1))
	turn := b.claim(at(2), at(9), alice, "a")
	b.put(says(bob, "x"), at(3))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, claim := b.Claim(ctx, at(4), at(9))
	_, next := b.Next(ctx)
	_, history := b.History(ctx, alice, 1)
	_, depth := b.Depth(ctx)
	_, oldest := b.Oldest(ctx)
	_, heard := b.Heard(ctx, group)
	_, find := b.Find(ctx, says(alice, "a"))
	_, extend := b.Extend(ctx, alice, []string{alice}, at(9))
	for name, err := range map[string]error{
		"Put":       b.Put(ctx, says(alice, "b"), at(4)),
		"Claim":     claim,
		"Next":      next,
		"History":   history,
		"SaveReply": b.SaveReply(ctx, turn, reply("one")),
		"Finish":    b.Finish(ctx, turn, at(4)),
		"Retry":     b.Retry(ctx, turn, at(4)),
		"Fail":      b.Fail(ctx, turn, at(4), "why"),
		"Release":   b.Release(ctx),
		"Find":      find,
		"Amend":     b.Amend(ctx, turn.Messages, nil),
		"Heard":     heard,
		"Extend":    extend,
		"SetHeard":  b.SetHeard(ctx, group, turn.Messages),
		"Depth":     depth,
		"Oldest":    oldest,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	b.wantDepth(2)
	b.claim(at(5), at(9), bob, "x")
	b.empty(at(6))
	b.finish(turn, at(7))
	b.wantReply(b.wantHistory(alice, 2, []string{"a"})[0].Reply, nil)
}

// concurrent lets many put and many claim, and follows who holds what.
func concurrent(t *testing.T, b *box) {
	const writers, each, chats, workers = 6, 20, 5, 6
	var (
		clock    atomic.Int64
		mu       sync.Mutex
		held     = map[string]bool{}
		answered = map[string]int{}
		left     = writers * each
		done     = make(chan struct{})
		// work has a token whenever there may be something to claim.
		work = make(chan struct{}, 4*writers*each)
		wg   sync.WaitGroup
	)
	now := func() time.Time { return at(float64(clock.Add(1)) / 1000) }
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				m := says(fmt.Sprintf("%d@lid", (w+i)%chats), fmt.Sprintf("%d.%d", w, i))
				if err := b.Put(t.Context(), m, now()); err != nil {
					t.Errorf("put: %v", err)
				}
				work <- struct{}{}
			}
		})
	}
	answer := func() error {
		turn, err := b.Claim(t.Context(), now(), at(3600))
		if errors.Is(err, inbox.ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		if held[turn.Chat] {
			t.Errorf("two hold %s", turn.Chat)
		}
		held[turn.Chat] = true
		mu.Unlock()
		r := reply("r")
		if err := b.SaveReply(t.Context(), turn, r); err != nil {
			return err
		}
		turn.Reply = &r
		mu.Lock()
		held[turn.Chat] = false // before the next can get it
		for _, m := range turn.Messages {
			answered[m.ID]++
		}
		left -= len(turn.Messages)
		last := left == 0
		mu.Unlock()
		if err := b.Finish(t.Context(), turn, now()); err != nil {
			return err
		}
		work <- struct{}{} // for what came meanwhile
		if last {
			close(done)
		}
		return nil
	}
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-work:
					if err := answer(); err != nil {
						t.Errorf("answer: %v", err)
					}
				case <-done:
					return
				case <-t.Context().Done():
					return
				}
			}
		})
	}
	wg.Wait()
	if len(answered) != writers*each {
		t.Errorf("%d messages answered, want %d", len(answered), writers*each)
	}
	for id, n := range answered {
		if n != 1 {
			t.Errorf("message %s answered %d times", id, n)
		}
	}
	b.wantDepth(0)
	b.empty(at(3601))
	total := 0
	for c := range chats {
		all, err := b.History(t.Context(), fmt.Sprintf("%d@lid", c), writers*each)
		b.check(err)
		for _, x := range all {
			total += len(x.Messages)
		}
	}
	if total != writers*each {
		t.Errorf("%d messages in the history, want %d", total, writers*each)
	}
}

func concurrentDuplicates(t *testing.T, b *box) {
	var wg sync.WaitGroup
	for i := range 12 {
		m := says(alicePN, "a")
		if i%2 == 0 {
			m = saysToo("a")
		}
		wg.Go(func() {
			if err := b.Put(t.Context(), m, at(float64(i))); err != nil {
				t.Errorf("put: %v", err)
			}
		})
	}
	wg.Wait()
	b.put(saysToo("a"), at(20)) // whichever was last, now it is one chat
	b.wantDepth(1)
	b.claim(at(21), at(30), alice, "a")
}
