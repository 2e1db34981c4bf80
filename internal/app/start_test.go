package app

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A start is given up once the store has been silent for as long as it may be, in one piece.
func TestWatchStart(t *testing.T) {
	for _, test := range []struct {
		name   string
		silent func(at time.Duration) bool
		begun  time.Duration // zero for never
		ends   time.Duration // at least; zero for never
	}{
		{"answers", func(time.Duration) bool { return false }, 0, 0},
		{"falls silent", func(at time.Duration) bool { return at > 5*time.Second }, 0, time.Minute},
		{"is silent now and then", func(at time.Duration) bool { return at.Truncate(50*time.Second)%(100*time.Second) == 0 }, 0, 0},
		{"falls silent when all has begun", func(at time.Duration) bool { return at > 20*time.Second }, 10 * time.Second, 0},
		{"falls silent while this one stands by", func(at time.Duration) bool { return at > 2*time.Minute }, 0, 0},
		{"begins while it is silent", func(at time.Duration) bool { return at > 5*time.Second }, 50 * time.Second, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := time.Now()
				ping := func(ctx context.Context) error {
					if !test.silent(time.Since(at)) {
						return nil
					}
					<-ctx.Done()
					return ctx.Err()
				}
				starting, begun := watchStart(t.Context(), ping, time.Minute, slog.New(slog.DiscardHandler))
				if test.begun > 0 {
					time.AfterFunc(test.begun, begun)
				}
				select {
				case <-starting.Done():
				case <-time.After(10 * time.Minute):
				}
				begun()
				took, err := time.Since(at), context.Cause(starting)
				switch {
				case test.ends == 0 && err != nil:
					t.Errorf("given up after %v: %v", took, err)
				case test.ends > 0 && (took < test.ends || took > test.ends+10*time.Second || ExitCode(err) != 7):
					t.Errorf("ended after %v with %v, want %v and the code of a broken store", took, err, test.ends)
				case test.ends > 0 && !errors.As(err, new(*storeError)):
					t.Errorf("ended with %v", err)
				}
			})
		})
	}
}
