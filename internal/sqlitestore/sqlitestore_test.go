package sqlitestore

import (
	"log/slog"
	"testing"

	"wabot/internal/inbox"
	"wabot/internal/storetest"
)

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reopening is a new store, closed when t ends, and how to open it again.
func reopening(t *testing.T) (inbox.Store, func() inbox.Store) {
	dir := t.TempDir()
	s := openStore(t, dir)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, func() inbox.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir)
		return s
	}
}

func TestInbox(t *testing.T) {
	t.Parallel()
	storetest.Inbox(t, reopening)
}

func TestKept(t *testing.T) {
	t.Parallel()
	storetest.Kept(t, reopening)
}
