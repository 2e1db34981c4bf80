package mongostore

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"

	"wabot/internal/chat"
	"wabot/internal/mongotest"
)

// The page asks for the newest messages again and again: however many wait and have been answered, few are read for it.
func TestLatestReadsFew(t *testing.T) {
	t.Parallel()
	var read atomic.Int64
	s := open(t, mongotest.New(t), func(o *Options) {
		o.monitor = &event.CommandMonitor{Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if batch, ok := e.Reply.Lookup("cursor", "firstBatch").ArrayOK(); ok {
				values, _ := batch.Values()
				read.Add(int64(len(values)))
			}
		}}
	})
	ctx, begin := t.Context(), time.Unix(1_700_000_000, 0)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(jid string, n int) {
		do(s.Put(ctx, chat.Message{Chat: jid, Sender: jid, ID: fmt.Sprint(n), Kind: chat.Text}, at(n)))
	}
	const answered, waiting, n = 20, 30, 3
	for i := range answered {
		put("1@s.whatsapp.net", i)
		turn, err := s.Claim(ctx, at(i), at(1000))
		do(err)
		turn.Reply = &chat.Reply{}
		do(s.Finish(ctx, turn, at(i)))
		do(s.Mark(ctx, []chat.Mark{{Message: fmt.Sprint("gated", i), Fate: chat.Gated, Chat: "2@s.whatsapp.net", Who: "2@s.whatsapp.net", Time: at(i), Why: "why"}}))
	}
	for i := range waiting {
		put(fmt.Sprintf("9%d@s.whatsapp.net", i), answered+i)
	}
	read.Store(0)
	all, err := s.Latest(ctx, n)
	do(err)
	if len(all) != n || all[n-1].Message.ID != fmt.Sprint(answered+waiting-1) {
		t.Errorf("the latest %d are %+v", n, all)
	}
	// Of those that wait and have ended n each, and their turns; of marks three for each.
	if got := read.Load(); got > 7*n {
		t.Errorf("%d documents were read for %d messages", got, n)
	}
}

// One that stands by knows what waits, though another writes it.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	leader, other := open(t, url), open(t, url)
	ctx, begin := t.Context(), time.Unix(1_700_000_000, 0)
	want := func(n int, since time.Time) {
		t.Helper()
		depth, oldest, err := other.Elsewhere(ctx)
		if err != nil || depth != n || !oldest.Equal(since) {
			t.Errorf("%d wait since %v, want %d since %v (%v)", depth, oldest, n, since, err)
		}
	}
	want(0, time.Time{})
	for i := range 3 {
		m := chat.Message{Chat: fmt.Sprint(i, "@s.whatsapp.net"), Sender: fmt.Sprint(i, "@s.whatsapp.net"), ID: "a", Kind: chat.Text}
		if err := leader.Put(ctx, m, begin.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	want(3, begin)
	turn, err := leader.Claim(ctx, begin.Add(time.Minute), begin.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want(3, begin)
	if err := leader.Finish(ctx, turn, begin.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	want(2, begin.Add(time.Second))
}
