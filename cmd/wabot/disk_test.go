package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"wabot/internal/sqlitestore"
)

// disks are the troubles of a disk of its own, for the session; none where this process may not mount one.
func disks(t *testing.T, w *mongoWorld) []trouble {
	dir := filepath.Join(w.dir, "session")
	w.do(os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=700"); errors.Is(err, syscall.EPERM) {
		t.Log("NOT TESTED: a full disk, as a file system cannot be mounted here")
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	fill := func() {
		f, err := os.Create(filler)
		w.do(err)
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the disk is not full but %v", err)
		}
	}
	// SQLite's log may have room left from before: then nothing fails, and there is nothing to tell.
	return []trouble{{name: "the disk is full", begin: fill, end: func() { w.do(os.Remove(filler)) }}}
}

// zeros are without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A disk that does not keep what is written ends wabot, which tells the operator so; what came meanwhile is answered after the next
// start, once.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	w := newMongoWorld(t, "MONGO_ENABLED=False", "ALLOW=*")
	ctx := withPatience(t)
	w.do(w.pair(ctx))
	w.ask(ctx, "alice", "one")
	w.answers(ctx, "alice", "one")
	// SQLite goes on with its log, but nobody can wait for it under its name.
	log := filepath.Join(w.dir, "session", sqlitestore.File+"-wal")
	w.do(os.Rename(log, log+"-aside"))
	w.do(os.Symlink(filepath.Base(log), log))
	w.ask(ctx, "alice", "two")
	w.do(w.exits(7))
	w.do(w.says(ctx, "look after the disk, then start wabot again"))
	if err := os.Remove(log); err == nil {
		w.do(os.Rename(log+"-aside", log)) // it was not taken into the database at the end
	}
	w.do(w.start())
	w.answers(ctx, "alice", "one", "two")
	w.do(w.stop())
}
