package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"wabot/internal/sqlitestore"
)

// ownDisk gives the session of w, which has not run yet, a small disk of its own and tells where it is, or why there is none.
func (w *mongoWorld) ownDisk() (dir, missing string) {
	w.t.Helper()
	dir, image := filepath.Join(w.dir, "session"), filepath.Join(w.dir, "disk")
	w.do(os.Mkdir(dir, 0o700))
	w.do(os.WriteFile(image, nil, 0o600))
	w.do(os.Truncate(image, 24<<20))
	err := errors.Join(system("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", image), system("mount", "-o", "loop", image, dir))
	if err != nil {
		return "", err.Error()
	}
	w.t.Cleanup(func() { w.do(system("umount", "-l", dir)) })
	w.do(os.Chmod(dir, 0o700))
	w.do(os.Remove(filepath.Join(dir, "lost+found")))
	return dir, ""
}

// disks are the troubles of a disk of its own, for the session; none where this process may not mount one.
func disks(t *testing.T, w *mongoWorld) []trouble {
	dir, missing := w.ownDisk()
	if missing != "" {
		t.Logf("NOT TESTED: a disk that is full, and one that takes no writes, as there can be none here: %s", missing)
		return nil
	}
	filler := filepath.Join(dir, "filler")
	fill := func() {
		f, err := os.Create(filler)
		w.do(err)
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the disk is not full but %v", err)
		}
	}
	return []trouble{
		// SQLite's log may have room left from before: then nothing fails, and there is nothing to tell.
		{name: "the disk is full", begin: fill, end: func() { w.do(os.Remove(filler)) }},
		{name: "the disk is read-only", begin: func() { w.do(protect(dir)) }, end: func() { w.do(unprotect(dir)) }, code: "store_unavailable", late: true},
	}
}

// protect lets no file in dir be written, by those who have it open either, and none be made.
func protect(dir string) error { return attribute("+i", dir) }

func unprotect(dir string) error { return attribute("-i", dir) }

func attribute(change, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	return system("chattr", append([]string{change, dir}, files...)...)
}

// system runs a command of the system.
func system(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// A disk on which nothing can be written any more costs no message; wabot says what it is, and goes on by itself when it can be.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	w := newMongoWorld(t, "MONGO_ENABLED=False", "ALLOW=*")
	ctx := withPatience(t)
	dir, missing := w.ownDisk()
	if missing != "" {
		t.Skipf("there is no disk for it: %s", missing)
	}
	w.do(w.pair(ctx))
	w.ask(ctx, "alice", "one")
	w.answers(ctx, "alice", "one")
	w.do(protect(dir))
	w.ask(ctx, "alice", "two")
	w.do(w.tells(ctx, "store_unavailable"))
	w.do(w.says(ctx, "has become read-only"))
	w.do(unprotect(dir))
	w.answers(ctx, "alice", "one", "two")
	w.do(w.tells(ctx, ""))
	w.do(w.stop())
	w.do(system("mount", "-o", "remount,ro", dir))
	w.do(w.start())
	w.do(w.exits(7))
	w.do(system("mount", "-o", "remount,rw", dir))
	if !strings.Contains(w.bot.output.String(), "SESSION_DIR) "+dir+" is on a disk that is mounted read-only") {
		t.Error("it does not say that the disk is read-only")
	}
	w.do(w.start())
	w.ask(ctx, "alice", "three")
	w.answers(ctx, "alice", "one", "two", "three")
	w.do(w.stop())
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
