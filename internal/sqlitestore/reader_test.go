package sqlitestore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wabot/internal/chat"
)

// A reader reads beside the process that writes, what was there and what comes.
func TestReaderBesideWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.Put(t.Context(), says("1@lid", "a"), noon))
	r, err := OpenReader(t.Context(), dir)
	check(err)
	check(s.Put(t.Context(), says("1@lid", "b"), noon.Add(time.Second)))
	check(s.Mark(t.Context(), []chat.Mark{{Message: "g", Fate: chat.Gated, Chat: "2@lid", Who: "2@lid", Time: noon.Add(2 * time.Second), Why: "why"}}))
	for _, id := range []string{"a", "b", "g"} {
		all, err := r.Trails(t.Context(), id)
		if err != nil || len(all) != 1 || all[0].Message.ID != id {
			t.Errorf("the trails of %s are %+v: %v", id, all, err)
		}
	}
	all, err := r.Latest(t.Context(), 2)
	if err != nil || len(all) != 2 || all[0].Message.ID != "b" || all[1].Gated != "why" {
		t.Errorf("the latest are %+v: %v", all, err)
	}
	check(r.Close())
	// The writer goes on, and the log of its writes is still there.
	if _, err := os.Stat(filepath.Join(dir, File+"-wal")); err != nil {
		t.Error(err)
	}
	check(s.Put(t.Context(), says("1@lid", "c"), noon.Add(3*time.Second)))
	closeStore(t, s)
	// Nobody has it open now.
	r, err = OpenReader(t.Context(), dir)
	check(err)
	if all, err := r.Trails(t.Context(), "c"); err != nil || len(all) != 1 {
		t.Errorf("the trails of c are %+v: %v", all, err)
	}
	check(r.Close())
}

// A reader makes nothing and changes nothing.
func TestReaderOfNoStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := OpenReader(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, ErrNone) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := OpenReader(t.Context(), dir); !errors.Is(err, ErrNone) {
		t.Errorf("without a database: %v", err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("it has made %v: %v", names, err)
	}
	closeStore(t, openStore(t, dir))
	for version, says := range map[string]string{"2": "start this version once", "99": "newer version"} {
		db, err := open(filepath.Join(dir, File), newJournal(""), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), "PRAGMA user_version = "+version); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenReader(t.Context(), dir); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("schema %s: %v", version, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, File), []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("damaged: %v", err)
	}
}
