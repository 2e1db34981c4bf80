package retention

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"wabot/internal/chat"
)

// store is a Store in memory that can be cut off at any of its calls.
type store struct {
	charges map[string]chat.Charge
	rows    int      // that are old
	heard   []string // chats
	left    int      // calls until it is cut off; below 0 for never
}

var errCut = errors.New("cut off")

func (s *store) call() error {
	if s.left == 0 {
		return errCut
	}
	s.left--
	return nil
}

func (s *store) Charge(_ context.Context, all []chat.Charge) error {
	for _, c := range all {
		if err := s.call(); err != nil { // a crash may leave a part
			return err
		}
		if _, there := s.charges[c.ID]; !there {
			s.charges[c.ID] = c
		}
	}
	return nil
}

func (s *store) Charges(_ context.Context, since, until time.Time, each func(chat.Charge) error) error {
	for _, c := range s.charges {
		if !c.Time.Before(since) && c.Time.Before(until) {
			if err := each(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) DropCharges(_ context.Context, since, until time.Time, most int) (n int, err error) {
	for id, c := range s.charges {
		if c.Kind == chat.Total || c.Time.Before(since) || !c.Time.Before(until) || n == most {
			continue
		}
		if err := s.call(); err != nil {
			return n, err
		}
		delete(s.charges, id)
		n++
	}
	return n, nil
}

func (s *store) Sweep(_ context.Context, _, _ time.Time, most int) (int, error) {
	if err := s.call(); err != nil {
		return 0, err
	}
	n := min(most, s.rows)
	s.rows -= n
	return n, nil
}

func (s *store) OldHeard(context.Context, time.Time, int) ([]string, error) { return s.heard, nil }

// However often it is cut off, a day's total is that of all its charges.
func TestSweep(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("somewhere", 5*3600)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, zone)
	fresh := func() *store {
		s := &store{charges: map[string]chat.Charge{}, rows: 3 * step, heard: []string{"g"}, left: -1}
		add := func(id string, at time.Time, model string, cost int64) {
			s.charges[id] = chat.Charge{ID: id, Time: at, Person: "p", Chat: "c", Model: model, Kind: chat.ForText, Prompt: 3, Cost: cost}
		}
		early := time.Date(2026, 8, 3, 0, 0, 0, 0, zone)
		add("1", early, "a", 10)
		add("2", early.Add(23*time.Hour), "a", 5)
		add("3", early.Add(time.Hour), "b", 1)
		add("4", early.Add(24*time.Hour), "a", 100)
		add("5", now.AddDate(0, 0, -30), "a", 1000)                        // young enough
		add("6", time.Date(2026, 10, 31, 23, 0, 0, 0, zone), "a", 1_0_000) // before the month
		s.charges["n"] = chat.Charge{ID: "n", Time: early, Kind: chat.Notice}
		return s
	}
	sweeper := func(s *store, heard *[]string, age time.Duration) *Sweeper {
		return New(Options{
			Store: s, Age: age, Zone: zone, Log: slog.New(slog.DiscardHandler), Pause: time.Nanosecond,
			Heard: func(_ context.Context, jid string, _ time.Time) error {
				*heard = append(*heard, jid)
				return nil
			},
		})
	}
	costs := func(s *store) map[string]int64 {
		all := map[string]int64{}
		for id, c := range s.charges {
			if c.Kind == chat.Total && (c.Person != "" || c.Chat != "") {
				t.Errorf("a total names somebody: %+v", c)
			}
			all[id] = c.Cost
		}
		return all
	}
	want := map[string]int64{"total/2026-08-03/a": 15, "total/2026-08-03/b": 1, "total/2026-08-04/a": 100, "5": 1000, "6": 10000}
	equal := func(got map[string]int64) bool {
		if len(got) != len(want) {
			return false
		}
		for id, cost := range want {
			if got[id] != cost {
				return false
			}
		}
		return true
	}
	for cut := range 16 {
		s := fresh()
		var heard []string
		sweep := sweeper(s, &heard, 90*24*time.Hour)
		s.left = cut
		_, err := sweep.Sweep(t.Context(), now)
		if err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		s.left = -1
		if _, err := sweep.Sweep(t.Context(), now); err != nil {
			t.Fatal(err)
		}
		if got := costs(s); !equal(got) {
			t.Errorf("cut off after %d calls: charges are %v, want %v", cut, got, want)
		}
		if s.rows > 0 || !slices.Contains(heard, "g") {
			t.Errorf("cut off after %d calls: %d rows are left, heard %v", cut, s.rows, heard)
		}
	}
	// The running month is kept, however short the time.
	s := fresh()
	var heard []string
	s.charges["7"] = chat.Charge{ID: "7", Time: time.Date(2026, 11, 1, 0, 0, 0, 0, zone), Kind: chat.ForText}
	if _, err := sweeper(s, &heard, Least).Sweep(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if _, there := s.charges["7"]; !there {
		t.Error("a charge of the running month was deleted")
	}
	if _, there := s.charges["6"]; there {
		t.Error("a charge of the month before was kept")
	}
}
