package mongostore

import (
	"context"
	"testing"
	"time"

	"wabot/internal/inbox"
	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// open opens a store on a database, closed when t ends.
func open(t testing.TB, url string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{URL: url, Timeout: 20 * time.Second}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
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

func TestKept(t *testing.T) {
	t.Parallel()
	storetest.Kept(t, func(t *testing.T) (inbox.Store, func() inbox.Store) {
		url := mongotest.New(t)
		return open(t, url), func() inbox.Store { return open(t, url) }
	})
}

func TestDevicesLikeTheReference(t *testing.T) {
	t.Parallel()
	storetest.Compare(t, open(t, mongotest.New(t)).Devices())
}
