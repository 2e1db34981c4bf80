package sqlitestore

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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

func TestSent(t *testing.T) {
	t.Parallel()
	s, _ := reopening(t)
	storetest.Sent(t, s, s.(*Store).Devices())
}

// Of what is deleted nothing can be read in the file any more once that is closed, as far as its pages are still in use.
func TestDeletedIsWrittenOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	for _, value := range [][]byte{[]byte("a secret"), nil} {
		for i := range 10 {
			if err := s.SetNote(t.Context(), fmt.Sprint("key ", i), value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, File))
	if n := bytes.Count(raw, []byte("a secret")); err != nil || n > 0 {
		t.Errorf("it is there %d times, %v", n, err)
	}
}
