package mongostore

import (
	"context"
	"errors"
	"testing"
	"time"

	"wabot/internal/mongotest"
)

const testLife = 1500 * time.Millisecond

func acquire(t *testing.T, s *Store, owner string, standby func(Leader)) *Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := s.Acquire(ctx, "device", owner, testLife, standby)
	if err != nil {
		t.Fatalf("acquire: %v", err)
	}
	return l
}

// keep runs the lease until stop, which gives what Run returned.
func keep(t *testing.T, l *Lease) (stop func() error, done <-chan error) {
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan error, 1)
	go func() { out <- l.Run(ctx) }()
	t.Cleanup(cancel)
	return func() error { cancel(); return <-out }, out
}

func TestLeaseIsTakenOverWhenReleased(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	first := acquire(t, open(t, url), "one", nil)
	stop, _ := keep(t, first)
	seen := make(chan Leader, 10)
	taken := make(chan *Lease)
	second := open(t, url)
	go func() { taken <- acquire(t, second, "two", func(l Leader) { seen <- l }) }()
	if l := <-seen; l.Owner != "one" || l.Epoch != first.Epoch() {
		t.Errorf("the standby sees %+v", l)
	}
	// It stands by for more than a life, as the lease is renewed.
	select {
	case <-taken:
		t.Fatal("a live lease was taken")
	case <-time.After(2 * testLife):
	}
	if err := stop(); err != nil {
		t.Fatalf("run: %v", err)
	}
	if err := first.Release(t.Context()); err != nil {
		t.Fatalf("release: %v", err)
	}
	released := time.Now()
	if l := <-taken; l.Epoch() != first.Epoch()+1 {
		t.Errorf("epoch %d after %d", l.Epoch(), first.Epoch())
	}
	if d := time.Since(released); d > testLife {
		t.Errorf("taken over %v after the release", d)
	}
}

// A holder that dies is followed after one life; one that is cut off stops before that.
func TestLeaseOfADeadHolder(t *testing.T) {
	t.Parallel()
	server := mongotest.Start(t)
	old := open(t, server.URL, func(o *Options) { o.Timeout = time.Second })
	lease := acquire(t, old, "one", nil)
	_, lost := keep(t, lease)
	server.Stall()
	stalled := time.Now()
	if err := <-lost; !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("run: %v, want ErrLeaseLost", err)
	}
	if d := time.Since(stalled); d >= testLife {
		t.Errorf("the holder stopped after %v, its lease's life", d)
	}
	server.Resume()
	if err := old.SetNote(t.Context(), "k", []byte("v")); !errors.Is(err, context.Canceled) {
		t.Errorf("a write without the lease: %v", err)
	}
	next := acquire(t, open(t, server.URL), "two", nil)
	if next.Epoch() <= lease.Epoch() {
		t.Errorf("epoch %d after %d", next.Epoch(), lease.Epoch())
	}
	_, lost = keep(t, next)
	// The old one comes back: it stands by, and the new one is not disturbed.
	ctx, cancel := context.WithTimeout(t.Context(), 2*testLife)
	defer cancel()
	if _, err := old.Acquire(ctx, "device", "one", testLife, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the old holder's second try: %v", err)
	}
	select {
	case err := <-lost:
		t.Errorf("the new holder lost its lease: %v", err)
	default:
	}
}

func TestOneOfManyGetsTheLease(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	var stores []*Store
	for range 5 {
		stores = append(stores, open(t, url))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	results := make(chan error)
	for _, s := range stores {
		go func() {
			_, err := s.Acquire(ctx, "device", "x", time.Minute, nil)
			results <- err
		}()
	}
	if err := <-results; err != nil {
		t.Fatalf("the first: %v", err)
	}
	// The others go on wanting it for a while.
	time.AfterFunc(testLife, cancel)
	for range len(stores) - 1 {
		if err := <-results; err == nil {
			t.Error("another got the lease, too")
		}
	}
}
