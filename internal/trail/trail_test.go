package trail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/chat"
)

// store is a Store that keeps marks in memory, and fails while it is down.
type store struct {
	Store
	mu     sync.Mutex
	down   bool
	writes int
	ids    []string
}

func (s *store) Mark(ctx context.Context, all []chat.Mark) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.down || ctx.Err() != nil {
		return errors.New("down")
	}
	for _, m := range all {
		s.ids = append(s.ids, m.Message)
	}
	return nil
}

func marks(from, to int) (all []chat.Mark) {
	for i := from; i < to; i++ {
		all = append(all, chat.Mark{Message: fmt.Sprint(i)})
	}
	return all
}

func ids(from, to int) (all []string) {
	for _, m := range marks(from, to) {
		all = append(all, m.Message)
	}
	return all
}

func TestRecorder(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, s *store, r *Recorder, end func()){
		"does not wait for the last of many": func(t *testing.T, s *store, r *Recorder, end func()) {
			for i := range 100 {
				r.Add(marks(i, i+1)...)
				time.Sleep(late / 2)
			}
			end()
			if len(s.ids) != 100 || s.writes < 30 {
				t.Errorf("of 100 marks, one each half a second, %d were written, in %d writes", len(s.ids), s.writes)
			}
		},
		"gathers for a second": func(t *testing.T, s *store, r *Recorder, end func()) {
			for i := range 5 {
				r.Add(marks(i, i+1)...)
			}
			time.Sleep(late + time.Millisecond)
			synctest.Wait()
			if s.writes != 1 || !slices.Equal(s.ids, ids(0, 5)) {
				t.Errorf("%d writes of %v", s.writes, s.ids)
			}
			end()
		},
		"writes what is left at the end": func(t *testing.T, s *store, r *Recorder, end func()) {
			r.Add(marks(0, batch+1)...)
			end()
			if s.writes != 2 || !slices.Equal(s.ids, ids(0, batch+1)) {
				t.Errorf("%d writes of %d", s.writes, len(s.ids))
			}
		},
		"waits for the store, within bounds": func(t *testing.T, s *store, r *Recorder, end func()) {
			s.down = true
			r.Add(marks(0, most)...)
			time.Sleep(10 * late)
			r.Add(marks(most, most+7)...)
			time.Sleep(10 * late)
			s.mu.Lock()
			s.down = false
			s.mu.Unlock()
			time.Sleep(2 * late)
			synctest.Wait()
			if !slices.Equal(s.ids, ids(7, most+7)) {
				t.Errorf("%d marks were written, from %v on", len(s.ids), s.ids[:1])
			}
			end()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &store{}
				r := NewRecorder(s, slog.New(slog.DiscardHandler))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- r.Run(ctx) }()
				test(t, s, r, func() {
					cancel()
					if err := <-done; err != nil {
						t.Error(err)
					}
				})
			})
		})
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	at := func(n int) chat.Trail { return chat.Trail{Came: time.Unix(int64(n), 0)} }
	got := Newest([]chat.Trail{at(3), at(1), at(2)}, 2)
	if len(got) != 2 || got[0].Came.Unix() != 2 || got[1].Came.Unix() != 3 {
		t.Errorf("the newest are %+v", got)
	}
}
