package baileys

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"wabot/internal/transfer"
)

// Source is a session where Baileys keeps it, as a copy takes it.
type Source struct {
	place
	close func(context.Context) error

	session Session
	digest  [sha256.Size]byte
	loaded  bool
}

var _ transfer.Origin = (*Source)(nil)

// place is where a session is kept.
type place interface {
	name() string
	// read gives the session, also while it is moved. It returns a transfer.Refusal where there is none.
	read(ctx context.Context) (entries, error)
	// mark is what move has left; nil while Baileys can start on the session.
	mark(ctx context.Context) ([]byte, error)
	// move takes the device away from where Baileys looks for it, and leaves a mark. It may be repeated after a failure.
	move(ctx context.Context, mark []byte) error
	// restore undoes move.
	restore(ctx context.Context) error
}

// Name says for people where the session is.
func (s *Source) Name() string { return s.place.name() }

// Close ends the connection to where the session is.
func (s *Source) Close() error {
	if s.close == nil {
		return nil
	}
	return s.close(context.Background())
}

// Load reads and converts the session, once. It returns a transfer.Refusal where it cannot be taken over.
func (s *Source) Load(ctx context.Context) (Session, error) {
	if s.loaded {
		return s.session, nil
	}
	in, err := s.read(ctx)
	if err != nil {
		return Session{}, err
	}
	if s.session, err = convert(in); err != nil {
		return Session{}, err
	}
	s.digest, s.loaded = in.digest(), true
	return s.session, nil
}

// digest tells one state of a session from another.
func (in entries) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(in)) {
		fmt.Fprintf(h, "%q %#v\n", name, in[name])
	}
	h.Sum(sum[:0])
	return sum
}

// Rows implements transfer.Origin.
func (s *Source) Rows(ctx context.Context, each func(transfer.Row) error) error {
	session, err := s.Load(ctx)
	if err != nil {
		return err
	}
	for _, r := range session.Rows {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// Note implements transfer.Origin. A session has no note but that it was moved.
func (s *Source) Note(ctx context.Context, key string) ([]byte, error) {
	if key != transfer.MarkMoved {
		return nil, nil
	}
	mark, err := s.mark(ctx)
	if err != nil {
		return nil, fmt.Errorf("look whether the session was taken over: %w", err)
	}
	return mark, nil
}

// SetNote implements transfer.Origin. It refuses to mark a session that has changed since it was read.
func (s *Source) SetNote(ctx context.Context, key string, value []byte) error {
	if key != transfer.MarkMoved {
		return fmt.Errorf("a Baileys session cannot keep the note %s", key)
	}
	if value == nil {
		if err := s.restore(ctx); err != nil {
			return fmt.Errorf("give the session back: %w", err)
		}
		return nil
	}
	if !json.Valid(value) {
		return errors.New("mark the session: the mark is not JSON")
	}
	in, err := s.read(ctx)
	if err != nil {
		return err
	}
	if in.digest() != s.digest {
		return transfer.Refusal("the session has changed while it was read: a bot on Baileys still runs on it; stop it and try again")
	}
	if err := s.move(ctx, value); err != nil {
		return fmt.Errorf("mark the session as taken over: %w", err)
	}
	return nil
}
