package sqlitestore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/device"
)

// disk keeps what a power cut would leave of a store: its files as they were when they were last waited for.
type disk struct {
	t     *testing.T
	dir   string // the store's
	after string // the cut
	waits int
}

// newDisk puts a disk below s, which is in dir.
func newDisk(t *testing.T, s *Store, dir string) *disk {
	t.Helper()
	d := &disk{t: t, dir: dir, after: t.TempDir()}
	s.journal.flush = func() error {
		d.waits++
		d.keep()
		return s.journal.wait()
	}
	d.keep()
	return d
}

func (d *disk) keep() {
	for _, name := range []string{File + "-wal", File} {
		content, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			d.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.after, name), content, 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
}

// waiting is what a power cut leaves of what waits for an answer.
func (d *disk) waiting() int {
	d.t.Helper()
	copied := d.t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(d.after)); err != nil {
		d.t.Fatal(err)
	}
	s := openStore(d.t, copied)
	defer closeStore(d.t, s)
	n, err := s.Depth(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// What is written is there after a power cut when the call returns; what may wait is there, with all before it, once something
// that may not wait has been written, or after Sync.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	defer closeStore(t, s)
	d := newDisk(t, s, dir)
	n := 0
	put := func(ctx context.Context) {
		t.Helper()
		n++
		if err := s.Put(ctx, says("alice@lid", string(rune('a'+n))), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	put(t.Context())
	if got := d.waiting(); got != 1 {
		t.Errorf("%d messages are left of the first, want 1", got)
	}
	put(device.Defer(t.Context()))
	put(device.Defer(t.Context()))
	if got := d.waiting(); got != 1 || d.waits != 1 {
		t.Errorf("%d messages are left after %d waits for the disk, want 1 after 1: this test sees no difference", got, d.waits)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := d.waiting(); got != 3 || d.waits != 2 {
		t.Errorf("%d messages are left after Sync and %d waits, want 3 and 2", got, d.waits)
	}

	now := time.Now()
	turn, err := s.Claim(t.Context(), now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SaveReply(t.Context(), turn, chat.Reply{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(t.Context(), turn, now); err != nil {
		t.Fatal(err)
	}
	if d.waits != 2 {
		t.Errorf("a turn waited for the disk by itself %d times", d.waits-2)
	}
	if err := s.SetNote(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if got := d.waiting(); got != 0 || d.waits != 3 {
		t.Errorf("%d messages wait after a finished turn, a note and %d waits, want 0 and 3", got, d.waits)
	}
	if err := s.Sync(t.Context()); err != nil || d.waits != 3 {
		t.Errorf("Sync with nothing to wait for: %v, %d waits, want 3", err, d.waits)
	}
}

// What a killed process has left in the log is in the database from the next start on.
func TestStartTakesTheLogIn(t *testing.T) {
	t.Parallel()
	dir, killed, alone := t.TempDir(), t.TempDir(), t.TempDir()
	s := openStore(t, dir)
	if err := s.SetNote(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	copyFile := func(from, to, ending string) {
		raw, err := os.ReadFile(filepath.Join(from, File+ending))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, File+ending), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	note := func(dir string) string {
		s := openStore(t, dir)
		defer closeStore(t, s)
		v, err := s.Note(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		return string(v)
	}
	copyFile(dir, killed, "")
	copyFile(dir, killed, "-wal")
	closeStore(t, s)
	copyFile(killed, alone, "")
	if v := note(alone); v != "" {
		t.Fatalf("the note is %q without the log: this test sees no difference", v)
	}
	s = openStore(t, killed)
	defer closeStore(t, s)
	copyFile(killed, alone, "")
	if v := note(alone); v != "v" {
		t.Errorf("after the start the database has the note %q", v)
	}
}

// upstream's writes, which know nothing of the journal, are on the disk when they return.
func TestPowerCutOfTheDevice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	defer closeStore(t, s)
	dev := pairedDevice(t, s)
	d := newDisk(t, s, dir)
	for range 3 {
		if err := dev.Sessions.PutSession(t.Context(), "1:0", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if d.waits != 3 {
		t.Errorf("3 writes waited %d times", d.waits)
	}
	err := dev.EventBuffer.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
		return dev.Sessions.PutSession(ctx, "1:0", []byte("y"))
	})
	if err != nil || d.waits != 4 {
		t.Errorf("a decryption: %v, %d waits, want 4", err, d.waits)
	}
	if err := dev.Sessions.PutSession(device.Defer(t.Context()), "1:0", []byte("z")); err != nil || d.waits != 4 {
		t.Errorf("a deferred write: %v, %d waits, want 4", err, d.waits)
	}
}

// Those who wait at the same time wait for the disk once, and nobody for a wait that began too early.
func TestSharedWait(t *testing.T) {
	t.Parallel()
	var waits, covered atomic.Int64
	begun, goOn := make(chan struct{}, 1), make(chan struct{})
	j := newJournal("")
	j.flush = func() error {
		covered.Store(int64(j.written.Load()))
		if waits.Add(1) == 1 {
			begun <- struct{}{}
			<-goOn
		}
		return nil
	}
	var all sync.WaitGroup
	commit := func() {
		mine := int64(j.written.Add(1))
		all.Go(func() {
			if err := j.sync(); err != nil || covered.Load() < mine {
				t.Errorf("commit %d returned (%v) when %d were on the disk", mine, err, covered.Load())
			}
		})
	}
	commit()
	<-begun
	for range 10 {
		commit()
	}
	close(goOn)
	all.Wait()
	if n := waits.Load(); n != 2 {
		t.Errorf("11 commits waited %d times, want 2", n)
	}
}

// A disk that failed once is not trusted again.
func TestBrokenDisk(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	broken := errors.New("input/output error")
	s.journal.flush = func() error { return broken }
	if err := s.Put(t.Context(), says("alice@lid", "a"), time.Now()); !errors.Is(err, broken) {
		t.Errorf("put: %v, want %v", err, broken)
	}
	s.journal.flush = func() error { return nil }
	if err := s.Sync(t.Context()); !errors.Is(err, broken) {
		t.Errorf("sync: %v, want %v", err, broken)
	}
	select {
	case <-s.Broken():
	default:
		t.Error("the store does not say that it is broken")
	}
}
