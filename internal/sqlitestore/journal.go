package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// journal is the file that SQLite appends each commit to. It keeps the order of the commits: whatever is left of it after a
// power cut, no commit is there without all before it (https://www.sqlite.org/wal.html). So one wait for the disk does for
// all that was committed until then, and is shared by all who wait meanwhile.
type journal struct {
	path string
	// flush waits until the file is on the disk.
	flush func() error
	// written counts the commits.
	written atomic.Uint64

	mu     sync.Mutex
	file   *os.File // kept open: the kernel tells of what a disk refused to those who had the file open then
	synced uint64   // commits known to be on the disk
	failed error
	// broken is closed with the first failure.
	broken chan struct{}
}

func newJournal(path string) *journal {
	j := &journal{path: path, broken: make(chan struct{})}
	j.flush = j.wait
	return j
}

// sync returns once all that was committed before the call is on the disk. After a failure it fails for good: what
// the disk refused once the kernel may drop, and say nothing at the next try (https://lwn.net/Articles/752063/).
func (j *journal) sync() error {
	before := j.written.Load()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil || j.synced >= before {
		return j.failed
	}
	covered := j.written.Load()
	if err := j.flush(); err != nil {
		j.failed = fmt.Errorf("the disk did not keep what was written to it; look after the disk, then start wabot again: %w", err)
		close(j.broken)
		return j.failed
	}
	j.synced = covered
	return nil
}

// wait waits until the file is on the disk. One that is not there has been taken into the database, which SQLite waits for itself.
func (j *journal) wait() error {
	now, err := os.Stat(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if j.file != nil {
		if kept, err := j.file.Stat(); err != nil || !os.SameFile(kept, now) {
			j.file.Close()
			j.file = nil
		}
	}
	if j.file == nil {
		if j.file, err = os.Open(j.path); err != nil {
			return err
		}
	}
	return flush(j.file)
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// Sync returns once all that was written before is on the disk.
func (s *Store) Sync(context.Context) error {
	if err := s.journal.sync(); err != nil {
		return fmt.Errorf("wait for the disk: %w", err)
	}
	return nil
}

// Broken is closed once the disk has failed to keep what was written. Then nothing can be relied on before the
// store was opened again.
func (s *Store) Broken() <-chan struct{} { return s.journal.broken }
