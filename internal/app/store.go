package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wabot/internal/budget"
	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/mongostore"
	"wabot/internal/retention"
	"wabot/internal/sqlitestore"
	"wabot/internal/trail"
	"wabot/internal/transfer"
	"wabot/internal/whatsapp"
)

// Store is all that the program keeps: the inbox, the device and the notes, and the right to
// drive the device.
type Store interface {
	inbox.Store
	budget.Store
	trail.Store
	retention.Store
	transfer.Store
	Devices() whatsapp.Devices
	// Lead waits until this process alone may drive the device. It calls standby with the
	// name of each other process that it waits for.
	Lead(ctx context.Context, standby func(leader string)) error
	// Untaken is why Lead, which waits, cannot get what nobody has; nil where another has it, or Lead does not wait.
	Untaken() error
	// Settle brings what is stored to the settings. It is called while this process leads, before the device is used.
	Settle(ctx context.Context) error
	// Hold keeps the right that Lead got until ctx is done, and then returns nil; it returns an error
	// that wraps errLost before another process could get it.
	Hold(ctx context.Context) error
	// Awaited looks for a moment, or until ctx is done, whether another process waits for the right, to use the device.
	Awaited(ctx context.Context) bool
	// Yield gives the right back to who waits for it, after Hold. For as long as pause the next Lead lets others go first.
	Yield(ctx context.Context, pause time.Duration)
	// Leading asks whether the right is still this process's.
	Leading(ctx context.Context) bool
	// Sync returns once all that was written before is there to stay, also through a power cut.
	Sync(ctx context.Context) error
	// Ping asks whether the store answers.
	Ping(ctx context.Context) error
	// Problems looks for damage beyond what the rows show, and gives a sentence for each.
	Problems(ctx context.Context) ([]string, error)
	// vitals measures what /metrics tells of the store.
	vitals(ctx context.Context) (vitals, error)
	// Close gives the right back and closes the store. Calls after the first do nothing.
	Close() error
}

// vitals are measures of a store.
type vitals struct {
	preKeys   int   // one-time pre-keys that WhatsApp has been given and nobody has used
	epoch     int64 // of the lease, zero while this process has none
	hasLeases bool
}

// errLost says that this process may not drive the device any more.
var errLost = mongostore.ErrLeaseLost

// use is how a process means to use a store.
type use struct {
	// lease is the life of a lease where processes share the store, zero for the ordinary one.
	lease time.Duration
	// look is set by who only reads, and where the store allows it beside the process that leads.
	look bool
	// there is set by who has nothing to do where there is no store yet, and must not make it.
	there bool
	// standby is set by who uses the device, and so may take it over from one that cannot.
	standby bool
}

// openStore opens the store that the settings choose.
func openStore(ctx context.Context, cfg config.Store, how use, log *slog.Logger) (*witnessed, error) {
	s, err := openBare(ctx, cfg, how, log)
	if err != nil {
		return nil, err
	}
	return newWitnessed(s, cfg, log), nil
}

func openBare(ctx context.Context, cfg config.Store, how use, log *slog.Logger) (Store, error) {
	if cfg.Mongo {
		options := mongoOptions(cfg)
		options.Wait, options.Look, options.Standby, options.Log, options.SecretAge = cfg.MongoWait, how.look, how.standby, log, cfg.Retention
		s, err := mongostore.Open(ctx, options)
		if errors.Is(err, mongostore.ErrKey) {
			return nil, &configError{err}
		}
		if err != nil {
			return nil, &storeError{err}
		}
		return &mongoStore{Store: s, life: how.lease, log: log}, nil
	}
	if how.there {
		if _, err := sqlitestore.Find(cfg.SessionDir); err != nil {
			return nil, missing(err)
		}
	}
	s, err := sqlitestore.Open(ctx, cfg.SessionDir, log)
	var locked *sqlitestore.LockedError
	switch {
	case errors.As(err, &locked):
		return nil, &lockedError{err}
	case err != nil:
		return nil, &storeError{err}
	}
	return fileStore{s}, nil
}

// missing is the error of who cannot read the file store, for the operator.
func missing(err error) error {
	if errors.Is(err, sqlitestore.ErrNone) {
		return &configError{fmt.Errorf("%w; start wabot first, or set SESSION_DIR or MONGO_ENABLED to where it keeps its state", err)}
	}
	return &storeError{err}
}

// mongoOptions are how the settings lead to the database.
func mongoOptions(cfg config.Store) mongostore.Options {
	o := mongostore.Options{URL: cfg.MongoURL.Reveal()}
	// Both were checked to be hexadecimal.
	o.Key, _ = hex.DecodeString(cfg.Key.Reveal())
	if old, _ := hex.DecodeString(cfg.OldKey.Reveal()); len(old) > 0 {
		o.OldKeys = append(o.OldKeys, old)
	}
	return o
}

// fileStore is the file store. Whoever has opened it leads.
type fileStore struct{ *sqlitestore.Store }

func (s fileStore) Devices() whatsapp.Devices { return s.Store.Devices() }

func (s fileStore) Lead(context.Context, func(string)) error { return nil }

func (s fileStore) Untaken() error { return nil }

func (s fileStore) Settle(context.Context) error { return nil }

// Hold implements Store. Whoever has the file open has the right, for as long as the disk keeps what is written.
func (s fileStore) Hold(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.Broken():
		return &storeError{s.Sync(ctx)}
	}
}

// Awaited implements Store. Nobody can wait.
func (s fileStore) Awaited(ctx context.Context) bool { <-ctx.Done(); return false }

func (s fileStore) Yield(context.Context, time.Duration) {}

func (s fileStore) Ping(context.Context) error { return nil }

func (s fileStore) Leading(context.Context) bool { return true }

func (s fileStore) vitals(ctx context.Context) (v vitals, err error) {
	v.preKeys, err = s.PreKeys(ctx)
	return v, err
}

// mongoStore is the store in MongoDB. Of the processes that share it, the one with the lease
// leads.
type mongoStore struct {
	*mongostore.Store
	log   *slog.Logger
	life  time.Duration     // of a lease, zero for the ordinary one
	lease *mongostore.Lease // nil unless this process leads
	// tenure is lease for those who only want to know.
	tenure atomic.Pointer[mongostore.Lease]
	closed sync.Once
}

// leaseKey names the lease: a database has one device, even before it is paired.
const leaseKey = "device"

// Sync implements Store: each write has waited for the database's disk, unless MONGO_URL wants it otherwise.
func (s *mongoStore) Sync(context.Context) error { return nil }

func (s *mongoStore) Devices() whatsapp.Devices { return s.Store.Devices() }

func (s *mongoStore) Lead(ctx context.Context, standby func(string)) error {
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	for {
		s.lease = nil
		s.tenure.Store(nil)
		me := fmt.Sprintf("%s (process %d)", host, os.Getpid())
		lease, err := s.Acquire(ctx, leaseKey, me, s.life, func(l mongostore.Leader) {
			if l.Owner != me { // it was, until the database fell silent
				standby(l.Owner)
			}
		})
		if err != nil {
			return err
		}
		s.lease = lease
		s.tenure.Store(lease)
		// What the store remembers of its inbox is from before another process led.
		if err = s.Release(ctx); !errors.Is(err, mongostore.ErrOutage) {
			return err
		}
		s.log.Warn("the database went away while this process took the lead; trying again", "err", err)
	}
}

func (s *mongoStore) Settle(ctx context.Context) error {
	n, err := s.Reseal(ctx)
	if errors.Is(err, mongostore.ErrKey) {
		return &configError{err}
	}
	if n > 0 {
		s.log.Info("the device state in the database was brought to the SESSION_KEY that is set, or to none", "documents", n)
	}
	if err != nil {
		return err
	}
	return s.DeleteOrphans(ctx)
}

// Depth implements inbox.Store.
func (s *mongoStore) Depth(ctx context.Context) (int, error) {
	if s.tenure.Load() != nil {
		return s.Store.Depth(ctx)
	}
	depth, _, err := s.Elsewhere(ctx)
	return depth, err
}

// Oldest implements inbox.Store.
func (s *mongoStore) Oldest(ctx context.Context) (time.Time, error) {
	if s.tenure.Load() != nil {
		return s.Store.Oldest(ctx)
	}
	_, oldest, err := s.Elsewhere(ctx)
	return oldest, err
}

func (s *mongoStore) Hold(ctx context.Context) error { return s.lease.Run(ctx) }

func (s *mongoStore) Awaited(ctx context.Context) bool { return s.lease.Awaited(ctx) }

func (s *mongoStore) Yield(ctx context.Context, pause time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closing)
	defer cancel()
	lease := s.lease
	s.lease = nil
	s.tenure.Store(nil)
	// A lease that is not given back is dead by itself soon.
	_ = lease.Yield(ctx, pause)
}

func (s *mongoStore) Leading(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	l, err := s.Leader(ctx, leaseKey)
	return err == nil && s.lease != nil && l.Epoch == s.lease.Epoch() && !l.Released
}

func (s *mongoStore) vitals(ctx context.Context) (v vitals, err error) {
	v.preKeys, err = s.PreKeys(ctx)
	v.hasLeases = true
	if l := s.tenure.Load(); l != nil {
		v.epoch = l.Epoch()
	}
	return v, err
}

// closing bounds how long a database that does not answer can hold up the end.
const closing = 3 * time.Second

func (s *mongoStore) Close() (err error) {
	s.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closing)
		defer cancel()
		if s.lease != nil {
			// A lease that is not given back is dead by itself soon.
			_ = s.lease.Release(ctx)
		}
		err = s.Store.Close(ctx)
	})
	return err
}
