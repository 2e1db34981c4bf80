package sqlitestore

import (
	"context"
	"errors"
	"fmt"

	"wabot/internal/chat"
)

// Reader reads the trails in a file store, also beside the process that has it open, which it does not disturb.
type Reader struct{ store *Store }

// OpenReader opens the store in dir for reading. It makes and changes nothing, and fails with ErrNone where there is no store.
func OpenReader(ctx context.Context, dir string) (_ *Reader, err error) {
	path, err := Find(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.reader, err = open(s.path, nil, 1); err != nil {
		return nil, err
	}
	var version int
	if err := s.reader.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return nil, s.failed(ctx, "read the schema's version", err)
	}
	switch {
	case version > len(steps):
		return nil, newer(version)
	case version < len(steps):
		return nil, fmt.Errorf("the database has schema %d and this wabot reads %d: start this version once, which brings it forward", version, len(steps))
	}
	if s.read, err = prepare(ctx, s.reader, trailReads); err != nil {
		return nil, s.explain(err)
	}
	return &Reader{s}, nil
}

// Trails is as trail.Store's.
func (r *Reader) Trails(ctx context.Context, id string) ([]chat.Trail, error) {
	return r.store.Trails(ctx, id)
}

// Latest is as trail.Store's.
func (r *Reader) Latest(ctx context.Context, n int) ([]chat.Trail, error) {
	return r.store.Latest(ctx, n)
}

// Close closes the store.
func (r *Reader) Close() error { return r.store.Close() }
