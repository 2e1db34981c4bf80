package mongostore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// open opens a store on a database. When t ends, it is closed, and what it has asked is looked at.
func open(t testing.TB, url string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{URL: url, Timeout: 20 * time.Second}
	var asked queries
	asked.monitor(&o)
	for _, c := range change {
		c(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		asked.check(t, s)
		s.Close(context.Background())
	})
	return s
}

func TestDevices(t *testing.T) {
	t.Parallel()
	storetest.Devices(t, func(t *testing.T) func() storetest.Container {
		url := mongotest.New(t)
		return func() storetest.Container { return open(t, url).Devices() }
	}, storetest.Promises{PreKeyIDs: true, BrokenSessions: true})
}

func TestInbox(t *testing.T) {
	t.Parallel()
	storetest.Inbox(t, func(t *testing.T) (inbox.Store, func() inbox.Store) {
		url := mongotest.New(t)
		return open(t, url), func() inbox.Store { return open(t, url) }
	})
}

// A turn is one document, which MongoDB keeps below 16 MB. What a chat has waiting beyond that is the next turn's.
func TestMoreThanOneTurnCanHold(t *testing.T) {
	t.Parallel()
	ctx, now := t.Context(), time.Now()
	s := open(t, mongotest.New(t))
	long := strings.Repeat("x", 1<<20)
	const sent = 20
	for n := range sent {
		m := chat.Message{ID: fmt.Sprint("m", n), Chat: "1@lid", Sender: "1@lid", Text: long, Time: now}
		if err := s.Put(ctx, m, now.Add(time.Duration(n))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for len(got) < sent {
		turn, err := s.Claim(ctx, now.Add(time.Minute), now.Add(time.Hour))
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		size := 0
		for _, m := range turn.Messages {
			got, size = append(got, m.ID), size+len(m.Text)
		}
		if size >= 16<<20 {
			t.Errorf("a turn of %d bytes", size)
		}
		if _, err := s.Claim(ctx, now.Add(time.Minute), now.Add(time.Hour)); !errors.Is(err, inbox.ErrEmpty) {
			t.Errorf("a second turn of the chat beside the first: %v", err)
		}
		if err := s.Finish(ctx, turn, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for n, id := range got {
		if id != fmt.Sprint("m", n) {
			t.Errorf("message %d is %s", n, id)
		}
	}
}

func TestKept(t *testing.T) {
	t.Parallel()
	storetest.Kept(t, func(t *testing.T) (inbox.Store, func() inbox.Store) {
		url := mongotest.New(t)
		return open(t, url), func() inbox.Store { return open(t, url) }
	})
}

func TestSent(t *testing.T) {
	t.Parallel()
	s := open(t, mongotest.New(t))
	storetest.Sent(t, s, s.Devices())
}

func TestDevicesLikeTheReference(t *testing.T) {
	t.Parallel()
	storetest.Compare(t, open(t, mongotest.New(t)).Devices())
}
