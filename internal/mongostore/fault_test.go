package mongostore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"

	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// Whatever command a decryption is cut off at, or the primary steps down at, before or after the server has carried it out, it has
// either happened, or can be done again, or its text waits in the buffer.
func TestADecryptionCutAtEachCommand(t *testing.T) {
	t.Parallel()
	for _, fault := range []mongotest.Fault{mongotest.CutBefore, mongotest.CutAfter, mongotest.NotPrimary, mongotest.Unconfirmed} {
		for at := 0; ; at++ {
			line := mongotest.NewLine(t)
			s := open(t, line.URL)
			k := &talk{t: t, s: s, d: storetest.Pair(t, s.Devices(), "100"), n: 1}
			k.receive()
			k.n = 2
			var seen int
			line.OnCommand(func(string) mongotest.Fault {
				if seen++; seen == at+1 {
					return fault
				}
				return mongotest.None
			})
			k.receive() // a blip is not seen
			line.OnCommand(nil)
			if seen <= at {
				break // all commands had their turn
			}
			again := open(t, line.URL)
			d, err := again.Devices().GetDevice(t.Context(), *k.d.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Sessions.GetSession(t.Context(), "9_1:0"); err != nil || !bytes.Equal(got, storetest.Session(2)) {
				t.Errorf("fault %d at command %d: the session is %.20s, %v", fault, at, got, err)
			}
			if n, err := again.Depth(t.Context()); err != nil || n != 2 {
				t.Errorf("fault %d at command %d: %d messages wait, %v; want 2", fault, at, n, err)
			}
		}
	}
}

// An outage that outlasts the store's patience is told from a failed decryption, moves nothing, and
// ends.
func TestOutage(t *testing.T) {
	t.Parallel()
	server := mongotest.Start(t)
	s := open(t, server.URL, func(o *Options) { o.Timeout, o.Patience = 300*time.Millisecond, 500*time.Millisecond })
	k := &talk{t: t, s: s, d: storetest.Pair(t, s.Devices(), "100"), n: 1}
	k.receive()
	every := func(f mongotest.Fault) func() {
		return func() { server.OnCommand(func(string) mongotest.Fault { return f }) }
	}
	for name, fault := range map[string][2]func(){
		"killed": {server.Kill, server.Restart}, "stalled": {server.Stall, server.Resume},
		"without a primary": {every(mongotest.NotPrimary), every(mongotest.None)},
	} {
		fault[0]()
		err := k.d.EventBuffer.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
			if err := k.d.Sessions.PutSession(ctx, "9_1:0", storetest.Session(50)); err != nil {
				return err
			}
			return k.d.EventBuffer.PutBufferedEvent(ctx, [32]byte{50}, []byte("text"), time.Unix(5, 0))
		})
		if !errors.Is(err, ErrOutage) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: a decryption: %v", name, err)
		}
		if _, err := k.d.Identities.IsTrustedIdentity(t.Context(), "404:0", [32]byte{1}); !errors.Is(err, ErrOutage) {
			t.Errorf("%s: an identity: %v", name, err)
		}
		fault[1]()
	}
	s.patience = 20 * time.Second
	k.n = 2
	k.receive()
	got, err := open(t, server.URL).Devices().GetDevice(t.Context(), *k.d.ID)
	if err != nil {
		t.Fatal(err)
	}
	if session, err := got.Sessions.GetSession(t.Context(), "9_1:0"); err != nil || !bytes.Equal(session, storetest.Session(2)) {
		t.Errorf("after the outages: %.20s, %v", session, err)
	}
}

// A command that is never answered is tried again soon, however long its caller would wait: the driver leaves its
// own bound to a deadline of the caller's.
func TestACommandThatHangsIsTriedAgain(t *testing.T) {
	t.Parallel()
	line := mongotest.NewLine(t)
	s := open(t, line.URL, func(o *Options) { o.Timeout = time.Second })
	var hung atomic.Bool
	line.OnCommand(func(string) mongotest.Fault {
		if hung.CompareAndSwap(false, true) {
			return mongotest.Hang
		}
		return mongotest.None
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begun := time.Now()
	if err := s.SetNote(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("the write took %v", took)
	}
}

// While the database is silent to one who works on the inbox, others wait for their turn no longer than they mean to.
func TestASilentDatabaseHoldsNobodyLonger(t *testing.T) {
	t.Parallel()
	line := mongotest.NewLine(t)
	s := open(t, line.URL)
	asked := make(chan struct{})
	ask := sync.OnceFunc(func() { close(asked) })
	line.OnCommand(func(string) mongotest.Fault {
		ask()
		return mongotest.Hang
	})
	working, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error)
	go func() {
		_, err := s.Next(working)
		ended <- err
	}()
	<-asked
	for name, call := range map[string]func(context.Context) error{
		"Depth":   func(ctx context.Context) error { _, err := s.Depth(ctx); return err },
		"Release": s.Release,
	} {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := call(ctx)
		cancel()
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
			t.Errorf("%s, for 50 ms at most, took %v: %v", name, took, err)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the other: %v", err)
	}
}

// A write from a state that has moved on is refused: ratchets never go back.
func TestAStaleWriterIsRefused(t *testing.T) {
	t.Parallel()
	address := mongotest.New(t)
	one := storetest.Pair(t, open(t, address).Devices(), "100")
	ctx := t.Context()
	if err := one.Sessions.PutSession(ctx, "1:0", storetest.Session(1)); err != nil {
		t.Fatal(err)
	}
	two, err := open(t, address).Devices().GetDevice(ctx, types.NewADJID("100", 0, 7))
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Sessions.PutSession(ctx, "1:0", storetest.Session(2)); err != nil {
		t.Fatal(err)
	}
	if err := one.Sessions.PutManySessions(ctx, map[string][]byte{"1:0": storetest.Session(3)}); !errors.Is(err, errConflict) {
		t.Errorf("a send from an old session: %v", err)
	}
	runs := 0
	if err := two.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
		if runs++; runs == 1 { // a send comes between
			if err := two.Sessions.PutSession(t.Context(), "1:0", storetest.Session(4)); err != nil {
				return err
			}
		}
		got, err := two.Sessions.GetSession(ctx, "1:0")
		if err == nil && runs == 1 && !bytes.Equal(got, storetest.Session(4)) {
			t.Error("a decryption does not see what was stored before it read")
		}
		if runs == 1 {
			err = two.Sessions.PutSession(t.Context(), "1:0", storetest.Session(5))
		}
		return errors.Join(err, two.Sessions.PutSession(ctx, "1:0", storetest.Session(6)))
	}); err != nil || runs != 2 {
		t.Errorf("a decryption that a send came between: %v after %d runs", err, runs)
	}
}

// A session that was deleted and begun anew does not count from where it did before: a write made for the old one, and carried
// out late, is refused.
func TestALateWriteForADeletedSessionIsRefused(t *testing.T) {
	t.Parallel()
	address := mongotest.New(t)
	one := storetest.Pair(t, open(t, address).Devices(), "100")
	ctx := t.Context()
	if err := one.Sessions.PutSession(ctx, "1:0", storetest.Session(1)); err != nil {
		t.Fatal(err)
	}
	two, err := open(t, address).Devices().GetDevice(ctx, types.NewADJID("100", 0, 7))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Sessions.GetSession(ctx, "1:0"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.Sessions.DeleteSession(ctx, "1:0"), one.Sessions.PutSession(ctx, "1:0", storetest.Session(2))); err != nil {
		t.Fatal(err)
	}
	if err := two.Sessions.PutManySessions(ctx, map[string][]byte{"1:0": storetest.Session(3)}); !errors.Is(err, errConflict) {
		t.Errorf("a write for the session that was deleted: %v", err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "localhost", "mongodb://bot:s3cret%zz@localhost/x", "mongodb://bot:s3cret@/x"} {
		if _, err := Open(t.Context(), Options{URL: bad}); !errors.Is(err, ErrURL) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, unsafe := range []string{"w=0", "w=0&journal=false", "w=0&retryWrites=true"} {
		_, err := Open(t.Context(), Options{URL: "mongodb://bot:s3cret@localhost/x?" + unsafe})
		if !errors.Is(err, ErrUnacknowledged) {
			t.Errorf("%s: %v", unsafe, err)
		}
	}
	_, err := Open(t.Context(), Options{URL: "mongodb://bot:s3cret@localhost/x?tlsCAFile=/nowhere/ca.pem"})
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrURL) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a certificate that is not there: %v", err)
	}
	server := mongotest.Start(t)
	s := open(t, server.URL, func(o *Options) { o.Timeout = time.Second })
	if _, err := s.meta.UpdateOne(t.Context(), byID("schema"), set(bson.D{{Key: "number", Value: 99}})); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{URL: server.URL}); !errors.Is(err, ErrNewer) {
		t.Errorf("a newer database: %v", err)
	}
	server.Kill()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("bot", "s3cret")
	_, err = Open(t.Context(), Options{URL: u.String(), Timeout: 200 * time.Millisecond, Wait: time.Second})
	if !errors.Is(err, ErrOutage) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("no database: %v", err)
	}
}
