package witness

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// memory are notes; a copy of it is a copy of the store.
type memory map[string][]byte

func (m memory) Note(_ context.Context, key string) ([]byte, error) { return m[key], nil }

func (m memory) SetNote(_ context.Context, key string, value []byte) error {
	m[key] = value
	return nil
}

// failing refuses to write.
type failing struct{ memory }

var errFull = errors.New("full")

func (failing) SetNote(context.Context, string, []byte) error { return errFull }

func renew(t *testing.T, w Witness, s Notes) {
	t.Helper()
	if err := w.Renew(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// sees checks that the witness says what begins with want; "" for nothing.
func sees(t *testing.T, what string, w Witness, s Notes, want string) {
	t.Helper()
	got, err := w.Check(t.Context(), s)
	if err != nil || want == "" && got != "" || !strings.Contains(got, want) {
		t.Errorf("%s: %q, %v, want %q", what, got, err, want)
	}
}

// copyFile copies as cp does: into the file that is there, or a new one.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file store and its witness lie in one directory, which is copied whole or in part.
func TestBeside(t *testing.T) {
	t.Parallel()
	dir, saved := t.TempDir(), t.TempDir()
	w := Witness{Path: filepath.Join(dir, "seen"), Key: "k", Beside: true}
	s := memory{}
	sees(t, "a new store", w, s, "")
	renew(t, w, s)
	sees(t, "after the first start", w, s, "")
	backup := maps.Clone(s)
	copyFile(t, w.Path, filepath.Join(saved, "seen"))
	sees(t, "put back before it was used", w, backup, "")
	for range 3 {
		renew(t, w, s)
		sees(t, "used on", w, s, "")
	}
	sees(t, "the database put back", w, backup, "used since")
	copyFile(t, filepath.Join(saved, "seen"), w.Path)
	sees(t, "both put back, into the files that were there", w, backup, "copied or moved")
	elsewhere := Witness{Path: filepath.Join(saved, "seen"), Key: "k", Beside: true}
	sees(t, "the copy, where it lies", elsewhere, backup, "copied or moved")
	sees(t, "the database alone, elsewhere", Witness{Path: filepath.Join(t.TempDir(), "seen"), Key: "k", Beside: true}, backup, "missing")
	sees(t, "a database from before it had a witness", w, memory{}, "before its first start")
	other := memory{}
	renew(t, Witness{Path: filepath.Join(t.TempDir(), "seen"), Key: "k", Beside: true}, other)
	sees(t, "another store's database", w, other, "another")

	// What was made safe is the newest state from then on.
	renew(t, w, backup)
	sees(t, "after it was made safe", w, backup, "")
	sees(t, "what it was before", w, s, "copied or moved")
}

// Killed between the two writes, the store is what it was.
func TestCutShort(t *testing.T) {
	t.Parallel()
	for _, beside := range []bool{false, true} {
		dir := t.TempDir()
		w := Witness{Path: filepath.Join(dir, "seen"), Key: "k", Beside: beside}
		s := memory{}
		renew(t, w, s)
		old := filepath.Join(dir, "old")
		if err := os.Link(w.Path, old); err != nil {
			t.Fatal(err)
		}
		renew(t, w, s)
		// The rename undone: the store counts on, the witness is the one before, the next is left behind.
		copyFile(t, old, w.Path+".123")
		if err := os.Rename(old, w.Path); err != nil {
			t.Fatal(err)
		}
		sees(t, "after a kill", w, s, "")
		renew(t, w, s)
		sees(t, "after the next start", w, s, "")
		if left, err := filepath.Glob(w.Path + ".*"); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}

		if err := w.Renew(t.Context(), failing{s}); !errors.Is(err, errFull) {
			t.Errorf("the store fails: %v", err)
		}
		sees(t, "after the store failed", w, s, "")
		if left, err := filepath.Glob(w.Path + ".*"); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
}

// A database is used from two machines with a witness each.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	a := Witness{Path: filepath.Join(t.TempDir(), "seen"), Key: "k"}
	b := Witness{Path: filepath.Join(t.TempDir(), "seen"), Key: "k"}
	s := memory{}
	renew(t, a, s)
	dump := maps.Clone(s)
	sees(t, "unknown to the other", b, s, "")
	renew(t, b, s)
	sees(t, "back at the first", a, s, "")
	renew(t, a, s)
	sees(t, "the dump, at the first", a, dump, "used since")
	sees(t, "the dump, at the other", b, dump, "used since")
	other := memory{}
	renew(t, Witness{Path: filepath.Join(t.TempDir(), "seen"), Key: "k"}, other)
	sees(t, "another database", a, other, "")
	sees(t, "a new database", a, memory{}, "")
	if err := os.WriteFile(a.Path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	sees(t, "a witness that cannot be understood", a, dump, "")
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := Witness{Path: filepath.Join(t.TempDir(), "no", "seen"), Key: "k"}
	if err := w.Renew(t.Context(), memory{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := w.Check(t.Context(), memory{"k": []byte("{")}); err == nil {
		t.Error("a note that cannot be read passes")
	}
}
