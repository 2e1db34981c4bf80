package mongostore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ErrLeaseLost says that this process may no longer drive the device.
var ErrLeaseLost = errors.New("the lease on the device was lost")

// DefaultLease is how long a lease lives without being renewed.
const DefaultLease = 10 * time.Second

// Leader is who holds a lease.
type Leader struct {
	// Owner is the name given to Acquire.
	Owner string `bson:"owner"`
	// Epoch counts the times that the lease has changed hands.
	Epoch int64 `bson:"epoch"`
	// Beat counts the renewals.
	Beat int64 `bson:"beat"`
	// Released is set where the owner has given the lease back.
	Released bool `bson:"released"`
	// Claim is random text, another for each Acquire.
	Claim string `bson:"claim"`
}

// Lease is the right to drive a device, as long as Run renews it.
//
// Its age is judged by the clock of whoever waits for it, and by nothing else: a lease is
// dead when its epoch and beat have not changed for its whole life while a waiting process
// looked on, by that process's monotonic clock. So no clock of the database or of another machine
// needs to be right, or to stay as it is. The price is that a process started after a crash waits one life. The holder
// counts from before it sent a renewal, and stops at five sixths of a life, so it always stops first, unless
// its machine was frozen; then the counted writes of the store refuse what it still sends.
//
// A holder that cannot use the device may yield the lease to who waits. That somebody does is told by a count beside the lease that
// rises, which is no part of what the lease is judged by.
type Lease struct {
	s   *Store
	key string
	// epoch is me's, which never changes; the rest of me is Run's, and before and after it the caller's.
	epoch int64
	me    Leader
	life  time.Duration
	// renewed is when the last successful renewal was sent, as nanoseconds after started.
	started time.Time
	renewed atomic.Int64
}

// Acquire waits until the lease with the key is free or dead, and takes it. While it waits it looks
// once a second, and calls standby with each leader that it finds; standby may be nil. An outage does not
// end the wait, ctx does. life is DefaultLease when zero, and the same for all who want the lease.
func (s *Store) Acquire(ctx context.Context, key, owner string, life time.Duration, standby func(Leader)) (*Lease, error) {
	l := &Lease{s: s, key: key, life: orElse(life, DefaultLease), started: time.Now()}
	claim := rand.Text()
	var tried time.Time // when the last taking was sent whose answer was lost
	var last Leader
	var unchanged time.Time // since when last is all that was seen
	unread, untaken := false, false
	for {
		now := time.Now()
		there, err := s.leader(ctx, key)
		said := unread
		unread = err != nil
		switch {
		case err != nil:
			if ctx.Err() != nil {
				return nil, fmt.Errorf("wait for the lease: %w", ctx.Err())
			}
			if !said {
				s.log.Warn("the lease cannot be read; trying again until it can", "err", err)
			}
			unchanged = time.Time{} // unseen time does not count
		case there.Claim == claim && !tried.IsZero():
			return l.taken(there, tried), nil
		case unchanged.IsZero() || there != last:
			if standby != nil && there.Epoch != 0 && !there.Released && (unchanged.IsZero() || there.Epoch != last.Epoch) {
				standby(there)
			}
			// Counted from the answer: a slow one tells how the lease was at some time since it was asked for.
			last, unchanged = there, time.Now()
			fallthrough
		default:
			others := now.Before(s.yielding)
			if there.Epoch != 0 && (!there.Released || others) && now.Sub(unchanged) < l.life {
				s.untaken.Store(nil)
				if s.standby && !others {
					l.wait(ctx)
				}
				break
			}
			next := Leader{Owner: owner, Epoch: there.Epoch + 1, Beat: 1, Claim: claim}
			switch taken, err := l.swap(ctx, there, next); {
			case err != nil:
				tried = now
				if !untaken && ctx.Err() == nil {
					s.log.Warn("the lease cannot be taken; trying again until it can", "err", err)
				}
				untaken = true
				s.untaken.Store(&err)
			case taken:
				return l.taken(next, now), nil
			}
		}
		if err := sleep(ctx, l.look()); err != nil {
			return nil, fmt.Errorf("wait for the lease: %w", err)
		}
	}
}

// look is how often who waits looks at the lease.
func (l *Lease) look() time.Duration { return min(time.Second, l.life/5) }

// wait tells the holder that somebody waits. Where that fails nobody is told, as who cannot write could not take the lease either.
func (l *Lease) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.life/4)
	defer cancel()
	count := bson.D{{Key: "$inc", Value: bson.D{{Key: "waiting", Value: int64(1)}}}}
	if _, err := l.s.loose(l.s.leases).UpdateOne(ctx, byID(l.key), count); err != nil {
		l.s.log.Debug("the holder of the lease could not be told that somebody waits", "err", err)
	}
}

// Awaited looks for somewhat longer than a second, or until ctx is done, whether another process waits for the lease, of those with
// Options.Standby. It is false where the database does not tell.
func (l *Lease) Awaited(ctx context.Context) bool {
	before, err := l.waiting(ctx)
	if sleep(ctx, l.look()*3/2) != nil || err != nil {
		return false
	}
	after, err := l.waiting(ctx)
	return err == nil && after != before
}

func (l *Lease) waiting(ctx context.Context) (int64, error) {
	var there struct {
		Waiting int64 `bson:"waiting"`
	}
	if err := l.s.leases.FindOne(ctx, byID(l.key)).Decode(&there); err != nil {
		return 0, wrapOutage("read who waits for the lease", err)
	}
	return there.Waiting, nil
}

// taken begins a tenure that was asked for at the given time.
func (l *Lease) taken(me Leader, asked time.Time) *Lease {
	l.me, l.epoch = me, me.Epoch
	l.renewed.Store(int64(asked.Sub(l.started)))
	l.s.untaken.Store(nil)
	l.s.forget()
	l.s.revsAbove(me.Epoch << 32)
	l.s.lease.Store(l)
	l.s.passive.Store(false)
	return l
}

// Untaken is why the lease that Acquire waits for could not be taken, nil where another holds it or it has been taken. A database
// may be read and yet take no writes.
func (s *Store) Untaken() error {
	if err := s.untaken.Load(); err != nil {
		return *err
	}
	return nil
}

// Leader is who holds the lease with the key; its Epoch is 0 where nobody ever did.
func (s *Store) Leader(ctx context.Context, key string) (Leader, error) { return s.leader(ctx, key) }

func (s *Store) leader(ctx context.Context, key string) (there Leader, err error) {
	if err := found(s.leases.FindOne(ctx, byID(key)).Decode(&there)); err != nil {
		return there, wrapOutage("read the lease", err)
	}
	return there, nil
}

// swap replaces the lease if it still is what was seen.
func (l *Lease) swap(ctx context.Context, was, next Leader) (bool, error) {
	filter := bson.D{{Key: "_id", Value: l.key}, {Key: "epoch", Value: was.Epoch}, {Key: "beat", Value: was.Beat}}
	if was.Epoch == 0 {
		filter = bson.D{{Key: "_id", Value: l.key}, {Key: "epoch", Value: bson.D{{Key: "$exists", Value: false}}}}
	}
	res, err := l.s.leases.UpdateOne(ctx, filter, bson.D{{Key: "$set", Value: next}}, options.UpdateOne().SetUpsert(was.Epoch == 0))
	if mongo.IsDuplicateKeyError(err) {
		return false, nil
	}
	if err != nil {
		return false, wrapOutage("write the lease", err)
	}
	return res.MatchedCount+res.UpsertedCount > 0, nil
}

// Epoch is the number of this tenure; each later holder has a greater one.
func (l *Lease) Epoch() int64 { return l.epoch }

// Run renews the lease at a third of its life until ctx is done, and then returns nil: the lease
// is still held, until Release or its end. It returns ErrLeaseLost as soon as another holds the lease, or before one could,
// when it cannot be renewed. From then on the store refuses to write.
func (l *Lease) Run(ctx context.Context) error {
	tick := time.NewTicker(l.life / 3)
	defer tick.Stop()
	end := time.NewTimer(l.left())
	defer end.Stop()
	renewals := make(chan error, 1)
	renewing := false
	for {
		select {
		case <-ctx.Done():
			if renewing {
				<-renewals // Release must know the last beat
			}
			return nil
		case <-end.C:
			l.s.passive.Store(true)
			return fmt.Errorf("%w: it could not be renewed", ErrLeaseLost)
		case <-tick.C:
			if renewing {
				continue
			}
			renewing = true
			go func() { renewals <- l.renew(ctx) }()
		case err := <-renewals:
			renewing = false
			switch {
			case errors.Is(err, ErrLeaseLost):
				l.s.passive.Store(true)
				return err
			case err != nil && ctx.Err() == nil:
				l.s.log.Warn("the lease could not be renewed; trying again", "left", l.left().Round(100*time.Millisecond), "err", err)
				tick.Reset(l.life / 12)
			default:
				tick.Reset(l.life / 3)
				end.Reset(l.left())
			}
		}
	}
}

// left is how long the holder may go on without a renewal.
func (l *Lease) left() time.Duration {
	return l.life*5/6 - (time.Since(l.started) - time.Duration(l.renewed.Load()))
}

// renew writes the next beat. It bounds itself, as a hanging renewal must not keep the next from
// being tried.
func (l *Lease) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.life/4)
	defer cancel()
	sent := time.Since(l.started)
	next := l.me
	next.Beat++
	ok, err := l.swap(ctx, l.me, next)
	if err != nil {
		return err
	}
	if !ok {
		there, err := l.s.leader(ctx, l.key)
		if err != nil {
			return err
		}
		if there.Epoch != l.me.Epoch || there.Released {
			return fmt.Errorf("%w: another process has taken it", ErrLeaseLost)
		}
		next.Beat = there.Beat // an earlier renewal arrived, its answer did not
	}
	l.me = next
	if ok {
		l.renewed.Store(int64(sent))
	}
	return nil
}

// Release gives the lease back, so that who waits takes it at once. Run must have returned.
func (l *Lease) Release(ctx context.Context) error {
	return l.s.try(ctx, "release the lease", func(ctx context.Context) error {
		next := l.me
		next.Beat, next.Released = next.Beat+1, true
		ok, err := l.swap(ctx, l.me, next)
		if err != nil || ok {
			return err
		}
		there, err := l.s.leader(ctx, l.key)
		if err == nil && there.Epoch == l.me.Epoch && !there.Released {
			l.me, err = there, errAgain // a renewal arrived whose answer did not
		}
		return err
	})
}

// Yield gives the lease back as Release does, for another process to take it. From then on the store refuses to write, and for as long
// as pause its next Acquire lets others go first: it does not say that it waits, and takes only what nobody has taken for a whole life.
func (l *Lease) Yield(ctx context.Context, pause time.Duration) error {
	l.s.passive.Store(true)
	l.s.yielding = time.Now().Add(pause)
	return l.Release(ctx)
}
