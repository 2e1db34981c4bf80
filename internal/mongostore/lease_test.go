package mongostore

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mongodb.org/mongo-driver/v2/bson"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// testLife leaves a busy machine time to renew a lease.
const testLife = 5 * time.Second

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
	case <-time.After(testLife + time.Second):
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
	ctx, cancel := context.WithTimeout(t.Context(), testLife+time.Second)
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
	time.AfterFunc(time.Second, cancel)
	for range len(stores) - 1 {
		if err := <-results; err == nil {
			t.Error("another got the lease, too")
		}
	}
}

// A look at the lease that is answered late tells how it was at some time before, and nothing of how it has been since it was
// asked for: the holder, cut off meanwhile, has stopped before the other takes over.
func TestLeaseAfterASlowLook(t *testing.T) {
	t.Parallel()
	const life = 3 * time.Second
	line := mongotest.NewLine(t)
	holder := open(t, line.URL, func(o *Options) { o.Timeout = time.Second })
	other := line.Another()
	standby := open(t, other.URL)
	l, err := holder.Acquire(t.Context(), "device", "one", life, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, lost := keep(t, l)
	stopped := make(chan time.Time, 1)
	go func() { <-lost; stopped <- time.Now() }()
	var slow atomic.Bool
	other.OnCommand(func(c string) mongotest.Fault {
		if c == "find" && slow.CompareAndSwap(false, true) {
			<-time.After(life * 7 / 10)
			line.Break()
		}
		return mongotest.None
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := standby.Acquire(ctx, "device", "two", life, nil); err != nil {
		t.Fatal(err)
	}
	taken := time.Now()
	if end := <-stopped; end.After(taken) {
		t.Errorf("both held the lease for %v", end.Sub(taken))
	}
}

// A lease that was taken, and nobody was told, is known for one's own at the next look.
func TestLeaseTakenUnheard(t *testing.T) {
	t.Parallel()
	line := mongotest.NewLine(t)
	s := open(t, line.URL)
	var cut atomic.Bool
	line.OnCommand(func(c string) mongotest.Fault {
		if c == "update" && cut.CompareAndSwap(false, true) {
			return mongotest.CutAfter
		}
		return mongotest.None
	})
	begin := time.Now()
	l, err := s.Acquire(t.Context(), "device", "one", time.Minute, func(there Leader) { t.Errorf("stands by for %+v", there) })
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); !cut.Load() || took > 20*time.Second || l.Epoch() != 1 {
		t.Errorf("took %v, epoch %d, the answer was lost: %t", took, l.Epoch(), cut.Load())
	}
	stop, _ := keep(t, l)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := l.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A holder is told that another waits, if that one would use the device, and yields to it. For a while it then lets others go first: it
// does not ask for the lease, but takes one that nobody has.
func TestLeaseIsYielded(t *testing.T) {
	t.Parallel()
	const pause = 2 * testLife
	url := mongotest.New(t)
	standby := func(o *Options) { o.Standby = true }
	stores := []*Store{open(t, url, standby), open(t, url, standby)}
	wants := func(s *Store) <-chan *Lease {
		taken := make(chan *Lease, 1)
		go func() { taken <- acquire(t, s, "x", nil) }()
		return taken
	}
	first := acquire(t, stores[0], "x", nil)
	stop, _ := keep(t, first)
	looking, cancel := context.WithCancel(t.Context())
	command := open(t, url)
	go command.Acquire(looking, "device", "x", testLife, nil)
	if first.Awaited(t.Context()) {
		t.Error("awaited by one that would not use the device")
	}
	cancel()
	taken := wants(stores[1])
	for began := time.Now(); !first.Awaited(t.Context()); {
		if time.Since(began) > time.Minute {
			t.Fatal("not awaited")
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := first.Yield(t.Context(), pause); err != nil {
		t.Fatal(err)
	}
	yielded := time.Now()
	if err := stores[0].SetNote(t.Context(), "k", []byte("v")); !errors.Is(err, context.Canceled) {
		t.Errorf("a write without the lease: %v", err)
	}
	again := wants(stores[0])
	second := <-taken
	stop, _ = keep(t, second)
	if second.Epoch() != first.Epoch()+1 {
		t.Errorf("epoch %d after %d", second.Epoch(), first.Epoch())
	}
	for !second.Awaited(t.Context()) {
		if time.Since(yielded) > time.Minute {
			t.Fatal("not awaited after the pause")
		}
	}
	if took := time.Since(yielded); took < pause {
		t.Errorf("awaited %v after it was yielded", took)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := second.Yield(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	third := <-again
	if third.Epoch() != second.Epoch()+1 {
		t.Errorf("epoch %d after %d", third.Epoch(), second.Epoch())
	}
	if err := third.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	released := time.Now()
	<-wants(stores[1])
	if took := time.Since(released); took < testLife {
		t.Errorf("one that lets others go first took the lease after %v", took)
	}
}

// A lease that nobody holds and that cannot be written is told of, until it can.
func TestLeaseUntaken(t *testing.T) {
	t.Parallel()
	line := mongotest.NewLine(t)
	s := open(t, line.URL)
	line.OnCommand(func(string) mongotest.Fault { return mongotest.Full })
	taken := make(chan error, 1)
	go func() {
		_, err := s.Acquire(t.Context(), "device", "one", time.Minute, nil)
		taken <- err
	}()
	for end := time.Now().Add(time.Minute); s.Untaken() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a lease that cannot be taken is not told of")
		}
	}
	if err := s.Untaken(); !errors.Is(err, ErrOutage) {
		t.Errorf("it cannot be taken: %v", err)
	}
	line.OnCommand(nil)
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	if err := s.Untaken(); err != nil {
		t.Errorf("it is taken: %v", err)
	}
}

// A process that starts beside the one that leads deletes nothing of a device that is being paired, at whichever of its commands.
func TestOpenBesideAPairing(t *testing.T) {
	t.Parallel()
	line := mongotest.NewLine(t)
	leader := open(t, line.URL)
	for k := 1; ; k++ {
		other := line.Another()
		var n atomic.Int32
		other.OnCommand(func(string) mongotest.Fault {
			if int(n.Add(1)) == k {
				storetest.Pair(t, leader.Devices(), "100")
			}
			return mongotest.None
		})
		open(t, other.URL)
		other.OnCommand(nil)
		if int(n.Load()) < k {
			if k < 3 {
				t.Errorf("Open had only %d commands", k-1)
			}
			return
		}
		all, err := leader.Devices().GetAllDevices(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("command %d: %d devices, %v", k, len(all), err)
		}
		if err := all[0].Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged value is no outage: waiting does not mend it.
func TestAWrongLengthIsNoOutage(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	s := open(t, url)
	d := storetest.Pair(t, s.Devices(), "100")
	if err := d.Identities.PutIdentity(t.Context(), "1:0", [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sessions.UpdateOne(t.Context(), bson.D{field("kind", "identity")}, set(bson.D{field("data", make([]byte, 31))})); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, url).Devices().GetAllDevices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = again[0].Identities.IsTrustedIdentity(t.Context(), "1:0", [32]byte{1})
	if !errors.Is(err, sqlstore.ErrInvalidLength) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Who has lost the lease while the database is silent does not wait for it to settle a turn: that is another's now.
func TestATurnIsLostWithTheLease(t *testing.T) {
	t.Parallel()
	ctx, now := t.Context(), time.Now()
	line := mongotest.NewLine(t)
	s := open(t, line.URL, func(o *Options) { o.Timeout, o.Patience = time.Second, 100*time.Millisecond })
	l, err := s.Acquire(ctx, "device", "me", 2*time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, chat.Message{ID: "m", Chat: "1@lid", Sender: "1@lid", Text: "hi", Time: now}, now); err != nil {
		t.Fatal(err)
	}
	turn, err := s.Claim(ctx, now.Add(time.Second), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	line.Break()
	// What failed once is read again before the next try.
	if err := s.Retry(ctx, turn, now); !errors.Is(err, ErrOutage) {
		t.Errorf("while the lease was held: %v, want an outage", err)
	}
	if err := l.Run(ctx); !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("the lease: %v, want %v", err, ErrLeaseLost)
	}
	if err := s.Retry(ctx, turn, now); !errors.Is(err, inbox.ErrLeaseLost) {
		t.Errorf("after the lease was lost: %v, want %v", err, inbox.ErrLeaseLost)
	}
}
