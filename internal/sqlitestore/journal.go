package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"wabot/internal/device"
)

// journal is the file that SQLite appends each commit to. It keeps the order of the commits: whatever is left of it after a
// power cut, no commit is there without all before it (https://www.sqlite.org/wal.html). So one wait for the disk does for
// all that was committed until then, and is shared by all who wait meanwhile.
type journal struct {
	path string
	// flush waits until a file is on the disk.
	flush func(path string) error
	// written counts the commits.
	written atomic.Uint64

	mu     sync.Mutex
	synced uint64 // commits known to be on the disk
	failed error
	// broken is closed with the first failure.
	broken chan struct{}
}

func newJournal(path string) *journal {
	return &journal{path: path, flush: syncFile, broken: make(chan struct{})}
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
	if err := j.flush(j.path); err != nil {
		j.failed = fmt.Errorf("the disk did not keep what was written to it; it may be failing: %w", err)
		close(j.broken)
		return j.failed
	}
	j.synced = covered
	return nil
}

// syncFile waits until a file is on the disk. One that is not there has been taken into the database, which SQLite waits for itself.
func syncFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(flush(f), f.Close())
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

// sqliteConn is a connection of the driver.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
	driver.Pinger
}

// conn is the writing connection. A commit is on the disk when it returns, unless its context says that this may wait. Prepared
// statements commit on it in transactions only.
type conn struct {
	sqliteConn
	journal *journal
	within  bool // a transaction
}

// committed is called after a commit.
func (c *conn) committed(deferred bool) error {
	c.journal.written.Add(1)
	if deferred {
		return nil
	}
	return c.journal.sync()
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.sqliteConn.ExecContext(ctx, query, args)
	if err == nil && !c.within {
		err = c.committed(device.Deferred(ctx))
	}
	return result, err
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	inner, err := c.sqliteConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.within = true
	return &tx{inner, c, device.Deferred(ctx)}, nil
}

// tx is a transaction on a conn.
type tx struct {
	driver.Tx
	conn     *conn
	deferred bool
}

func (t *tx) Commit() error {
	t.conn.within = false
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.conn.committed(t.deferred)
}

func (t *tx) Rollback() error {
	t.conn.within = false
	return t.Tx.Rollback()
}
