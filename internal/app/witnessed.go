package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/mongostore"
	"wabot/internal/sqlitestore"
	"wabot/internal/transfer"
	"wabot/internal/witness"
)

// witnessed is a store that is looked at before it is used: one that was put back to an older state is made safe
// before its device connects.
type witnessed struct {
	Store
	witness witness.Witness
	log     *slog.Logger
	// refuse, if set, says why this store's device must not be used.
	refuse func(context.Context) error
}

const (
	// noteSeen is among the marks: it is about the store and not of what it holds.
	noteSeen = transfer.MarkSeen
	// witnessing is how often the witness is renewed while the store is used. What is copied and put back within
	// that time goes unnoticed.
	witnessing = 10 * time.Minute
	// stale is how old a message may be that waits in an older state: one that waited longer has probably been
	// answered since.
	stale = time.Hour
)

// newWitnessed puts a witness to a store: in SESSION_DIR, which the file store is in itself.
func newWitnessed(s Store, cfg config.Store, log *slog.Logger) *witnessed {
	w := witness.Witness{Path: filepath.Join(cfg.SessionDir, "wabot.seen"), Key: noteSeen, Beside: true}
	if cfg.Mongo {
		w.Path, w.Beside = w.Path+"-mongo", false
	}
	return &witnessed{Store: s, witness: w, log: log}
}

// Lead implements Store. The device may be used when it returns.
func (s *witnessed) Lead(ctx context.Context, standby func(leader string)) error {
	for {
		if err := s.Store.Lead(ctx, standby); err != nil {
			return err
		}
		err := s.whileHeld(ctx, func(ctx context.Context) error {
			err := s.missing(ctx)
			if err == nil {
				err = s.settle(ctx)
			}
			if err == nil && s.refuse != nil {
				err = s.refuse(ctx)
			}
			return err
		})
		if !errors.Is(err, mongostore.ErrOutage) && !errors.Is(err, errLost) || ctx.Err() != nil {
			return err
		}
		s.log.Warn("the database went away before the session could be looked at; trying again", "err", err)
	}
}

// whileHeld keeps the right to drive the device while do runs.
func (s *witnessed) whileHeld(ctx context.Context, do func(context.Context) error) error {
	held, lose := context.WithCancelCause(ctx)
	done := make(chan error, 1)
	go func() {
		err := s.Store.Hold(held)
		lose(err)
		done <- err
	}()
	err := do(held)
	lose(nil)
	return errors.Join(<-done, err)
}

// settle makes an older state safe, and takes note of this start.
func (s *witnessed) settle(ctx context.Context) error {
	if err := s.Store.Settle(ctx); err != nil {
		return err
	}
	old, err := s.older(ctx)
	if err != nil {
		return err
	}
	if old != "" {
		if _, err := s.makeSafe(ctx, old); err != nil {
			return err
		}
	}
	return s.renew(ctx)
}

// missing tells of a database that was never used in a place where another was.
func (s *witnessed) missing(ctx context.Context) error {
	known, err := s.Note(ctx, noteSeen)
	if err != nil || known != nil || !s.witness.Beside {
		return err
	}
	if _, err := os.Stat(s.witness.Path); err == nil {
		s.log.Warn("SESSION_DIR had a database before, which is gone or empty; to go on with its session, stop wabot and put that database or a backup (wabot session import FILE) in the place of this one; else link anew",
			"database", filepath.Join(filepath.Dir(s.witness.Path), sqlitestore.File))
	}
	return nil
}

// older says why the store must be made safe before it is used, or "".
func (s *witnessed) older(ctx context.Context) (string, error) {
	rewound, err := transfer.IsRewound(ctx, s)
	if err != nil {
		return "", err
	}
	if rewound {
		return "it was restored from a backup, or marked by hand", nil
	}
	if has, err := transfer.HasDevice(ctx, s); err != nil || !has {
		return "", err
	}
	old, err := s.witness.Check(ctx, s)
	if err != nil && !errors.Is(err, mongostore.ErrOutage) && !s.witness.Beside {
		s.log.Warn("a restored copy of the database cannot be noticed, as SESSION_DIR cannot be read", "err", err)
		return "", nil
	}
	return old, err
}

// renew raises the count in the store and its witness.
func (s *witnessed) renew(ctx context.Context) error {
	err := os.MkdirAll(filepath.Dir(s.witness.Path), 0o700)
	if err == nil {
		err = s.witness.Renew(ctx, s)
	}
	if err != nil && !errors.Is(err, mongostore.ErrOutage) && !s.witness.Beside && ctx.Err() == nil {
		s.log.Warn("a restored copy of the database cannot be noticed, as SESSION_DIR cannot be written", "err", err)
		return nil
	}
	return err
}

// Hold implements Store.
func (s *witnessed) Hold(ctx context.Context) error {
	done := make(chan struct{})
	held, end := context.WithCancel(ctx)
	go func() {
		defer close(done)
		tick := time.NewTicker(witnessing)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
				if err := s.renew(held); err != nil && held.Err() == nil {
					s.log.Warn("the use of the store could not be noted; trying again", "err", err)
				}
			}
		}
	}()
	err := s.Store.Hold(ctx)
	end()
	<-done
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	if err := s.renew(ctx); err != nil {
		s.log.Warn("the end of the use of the store could not be noted", "err", err)
	}
	return nil
}

// makeSafe makes what may be an older state of the device one that can be used, and returns how many chats wait no more.
func (s *witnessed) makeSafe(ctx context.Context, why string) (int, error) {
	// From here on it is repeated at each start until it is done.
	if err := transfer.Rewound(ctx, s); err != nil {
		return 0, fmt.Errorf("mark the session as an older one: %w", err)
	}
	if err := transfer.MakeSafe(ctx, s); err != nil {
		return 0, err
	}
	n, err := giveUp(ctx, s, time.Now().Add(-stale), "restored from an older state, in which it waited too long: it may have been answered since")
	if err != nil {
		return 0, err
	}
	if err := s.renew(ctx); err != nil {
		return 0, err
	}
	if err := transfer.Safe(ctx, s); err != nil {
		return 0, fmt.Errorf("mark the session as safe: %w", err)
	}
	s.log.Warn("this session may be an older state of itself, so its Signal sessions were forgotten; they are made anew with each contact's next message. Its account and chats are kept; what waited for too long is not answered. No other copy of it may be used any more",
		"why", why, "unanswered", n)
	return n, nil
}

// giveUp gives up what has waited in the store since then or longer, and returns how many turns that were.
func giveUp(ctx context.Context, store inbox.Store, then time.Time, reason string) (n int, err error) {
	// Leases and pauses are of the process that wrote them.
	if err := store.Release(ctx); err != nil {
		return 0, err
	}
	for now := time.Now(); ; n++ {
		t, err := store.Claim(ctx, now.AddDate(100, 0, 0), now)
		if errors.Is(err, inbox.ErrEmpty) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("look at what waits: %w", err)
		}
		// The chat that waits longest comes first.
		if len(t.Messages) > 0 && t.Messages[0].Time.After(then) {
			return n, store.Retry(ctx, t, now)
		}
		if err := store.Fail(ctx, t, now, reason); err != nil {
			return n, fmt.Errorf("give up what waits: %w", err)
		}
	}
}
