// Package retention deletes what has been kept long enough: past turns with their messages, what happened to
// messages, what was heard in groups, message secrets, and what calls of models cost, of which the daily totals stay.
//
// The process that drives the device does it, in small steps with pauses, so that nobody waits for it. What still waits
// is never deleted, however old. Each step may be cut off anywhere and is made again.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"wabot/internal/budget"
	"wabot/internal/chat"
)

// Store is what is kept. A store never reads the clock.
type Store interface {
	budget.Store
	// Sweep deletes at most so many, of each kind, of the turns that ended before the time given, with their messages, and
	// of the marks and message secrets from before it, and returns how many it has deleted: 0 where nothing is left to
	// delete. A message that is deleted is not known any more.
	Sweep(ctx context.Context, now, before time.Time, most int) (int, error)
	// OldHeard names at most so many of the groups in which something was heard before the time given.
	OldHeard(ctx context.Context, before time.Time, most int) ([]string, error)
}

// Least is the least time that something can be kept: WhatsApp delivers a message again for up to 14 days, and one that
// is not known any more would be answered again.
const Least = 15 * 24 * time.Hour

// Options are what a Sweeper needs.
type Options struct {
	Store Store
	// Heard forgets what was heard in a chat before a time.
	Heard func(ctx context.Context, chatJID string, before time.Time) error
	// Age is how long things are kept, at least Least.
	Age time.Duration
	// Zone is where days and months begin, as budgets have them.
	Zone *time.Location
	Log  *slog.Logger
	// Every is how often it is looked for what is old, Pause how long between two steps; an hour and half a second
	// when zero.
	Every, Pause time.Duration
}

// Sweeper deletes what is old.
type Sweeper struct{ Options }

// New returns a sweeper.
func New(o Options) *Sweeper {
	if o.Every == 0 {
		o.Every = time.Hour
	}
	if o.Pause == 0 {
		o.Pause = 500 * time.Millisecond
	}
	return &Sweeper{o}
}

// step is how many rows a step deletes.
const step = 200

// Run deletes what is old, now and then, until ctx ends.
func (s *Sweeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := s.Sweep(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.Log.Warn("what is older than RETENTION could not be deleted; trying again later", "err", err)
		case n > 0:
			s.Log.Info("deleted what is older than RETENTION", "rows", n)
		}
		wait(ctx, s.Every)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Sweep deletes all that is too old at now, and returns how many rows that were.
func (s *Sweeper) Sweep(ctx context.Context, now time.Time) (total int, err error) {
	before := now.Add(-s.Age)
	for {
		n, err := s.Store.Sweep(ctx, now, before, step)
		total += n
		if err != nil {
			return total, fmt.Errorf("delete old messages: %w", err)
		}
		if n == 0 {
			break
		}
		if wait(ctx, s.Pause); ctx.Err() != nil {
			return total, ctx.Err()
		}
	}
	if err := s.heard(ctx, before); err != nil {
		return total, err
	}
	n, err := s.charges(ctx, now, before)
	return total + n, err
}

// heard forgets what was heard long ago.
func (s *Sweeper) heard(ctx context.Context, before time.Time) error {
	for ctx.Err() == nil {
		chats, err := s.Store.OldHeard(ctx, before, step)
		if err != nil {
			return fmt.Errorf("look for what was heard long ago: %w", err)
		}
		for _, jid := range chats {
			if err := s.Heard(ctx, jid, before); err != nil {
				return err
			}
		}
		if len(chats) < step {
			return nil
		}
		wait(ctx, s.Pause)
	}
	return ctx.Err()
}

// charges makes totals of the days that lie before, and then deletes their charges. Those of the running month stay, as
// budgets are counted by them.
func (s *Sweeper) charges(ctx context.Context, now, before time.Time) (total int, err error) {
	month := time.Date(now.In(s.Zone).Year(), now.In(s.Zone).Month(), 1, 0, 0, 0, 0, s.Zone)
	if before.After(month) {
		before = month
	}
	// Only whole days.
	before = before.In(s.Zone)
	before = time.Date(before.Year(), before.Month(), before.Day(), 0, 0, 0, 0, s.Zone)
	for ctx.Err() == nil {
		day, err := s.undone(ctx, before)
		if err != nil || day.IsZero() {
			return total, err
		}
		if err := s.fold(ctx, day); err != nil {
			return total, err
		}
		for {
			n, err := s.Store.DropCharges(ctx, day, day.AddDate(0, 0, 1), step)
			total += n
			if err != nil {
				return total, fmt.Errorf("delete old charges: %w", err)
			}
			if n < step {
				break
			}
			if wait(ctx, s.Pause); ctx.Err() != nil {
				return total, ctx.Err()
			}
		}
	}
	return total, ctx.Err()
}

// undone is a day with charges that are to be deleted; zero where there is none.
func (s *Sweeper) undone(ctx context.Context, before time.Time) (day time.Time, err error) {
	enough := errors.New("found")
	err = s.Store.Charges(ctx, time.Unix(0, 0), before, func(c chat.Charge) error {
		if c.Kind == chat.Total {
			return nil
		}
		t := c.Time.In(s.Zone)
		day = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, s.Zone)
		return enough
	})
	if err != nil && !errors.Is(err, enough) {
		return day, fmt.Errorf("look for old charges: %w", err)
	}
	return day, nil
}

// fold keeps the totals of a day's charges. A total that is there stays: it was made when all charges were.
func (s *Sweeper) fold(ctx context.Context, day time.Time) error {
	totals := map[string]*chat.Charge{}
	err := s.Store.Charges(ctx, day, day.AddDate(0, 0, 1), func(c chat.Charge) error {
		if c.Kind == chat.Total || c.Kind == chat.Notice {
			return nil
		}
		t := totals[c.Model]
		if t == nil {
			t = &chat.Charge{ID: "total/" + day.Format(time.DateOnly) + "/" + c.Model, Time: day, Model: c.Model, Kind: chat.Total}
			totals[c.Model] = t
		}
		t.Prompt += c.Prompt
		t.Completion += c.Completion
		t.Estimated = t.Estimated || c.Estimated
		t.Images += c.Images
		t.Seconds += c.Seconds
		t.Characters += c.Characters
		t.Cost += c.Cost
		return nil
	})
	if err != nil {
		return fmt.Errorf("add up a day's charges: %w", err)
	}
	var all []chat.Charge
	for _, t := range totals {
		all = append(all, *t)
	}
	if len(all) == 0 {
		return nil
	}
	if err := s.Store.Charge(ctx, all); err != nil {
		return fmt.Errorf("keep a day's total: %w", err)
	}
	return nil
}
