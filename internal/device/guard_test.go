package device

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/kdf"
	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/root"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
)

// sessions is a device store that keeps sessions only; identities fail with broken.
type sessions struct {
	store.NoopStore
	kept    map[string]string
	broken  error
	outages int // told of by the guard
	// wrote is what was written, and waited for, one after the other; unsynced the error of waiting.
	wrote    []string
	unsynced error
}

func (s *sessions) GetSession(_ context.Context, address string) ([]byte, error) {
	if kept, ok := s.kept[address]; ok {
		return []byte(kept), nil
	}
	return nil, nil
}

func (s *sessions) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	got := map[string][]byte{}
	for _, a := range addresses {
		got[a], _ = s.GetSession(ctx, a)
	}
	return got, nil
}

func (s *sessions) PutSession(ctx context.Context, address string, session []byte) error {
	s.note(ctx, "session")
	s.kept[address] = string(session)
	return nil
}

func (s *sessions) PutManySessions(ctx context.Context, all map[string][]byte) error {
	s.note(ctx, "sessions")
	for a, session := range all {
		s.kept[a] = string(session)
	}
	return nil
}

// note notes a write, which may wait for the disk or has waited.
func (s *sessions) note(ctx context.Context, wrote string) {
	if !Deferred(ctx) {
		wrote += " on the disk"
	}
	s.wrote = append(s.wrote, wrote)
}

func (s *sessions) sync(context.Context) error {
	s.wrote = append(s.wrote, "synced")
	return s.unsynced
}

func (s *sessions) PutIdentity(ctx context.Context, _ string, _ [32]byte) error {
	s.note(ctx, "identity")
	return nil
}

func (s *sessions) AddOutgoingEvent(ctx context.Context, _ types.JID, _ types.MessageID, _ string, _ []byte) error {
	s.note(ctx, "outgoing")
	return nil
}

func (s *sessions) PutMessageSecret(ctx context.Context, _, _ types.JID, _ types.MessageID, _ []byte) error {
	s.note(ctx, "secret")
	return nil
}

func (s *sessions) ClearBufferedEventPlaintext(ctx context.Context, _ [32]byte) error {
	s.note(ctx, "cleared")
	return nil
}

func (s *sessions) DeleteSession(_ context.Context, address string) error {
	delete(s.kept, address)
	return s.broken
}

func (s *sessions) DeleteIdentity(context.Context, string) error { return s.broken }

func (s *sessions) GetOutgoingEvent(context.Context, types.JID, types.JID, types.MessageID) (string, []byte, error) {
	return "", nil, s.broken
}

func (s *sessions) GetBufferedEvent(context.Context, [32]byte) (*store.BufferedEvent, error) {
	return nil, nil
}

func (s *sessions) GetLIDForPN(context.Context, types.JID) (types.JID, error) {
	return types.JID{}, s.broken
}

func (s *sessions) MigratePNToLID(context.Context, types.JID, types.JID) error { return nil }

func (s *sessions) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	return fn(ctx)
}

func (s *sessions) IsTrustedIdentity(context.Context, string, [32]byte) (bool, error) {
	return s.broken == nil, s.broken
}

func (s *sessions) PutSenderKey(ctx context.Context, _, _ string, _ []byte) error {
	s.note(ctx, "sender key")
	return s.broken
}

func (s *sessions) GetSenderKey(context.Context, string, string) ([]byte, error) { return nil, nil }

func (s *sessions) PutDevice(_ context.Context, d *store.Device) error {
	d.SetAllStores(s)
	d.LIDs = s
	d.Initialized = true
	return nil
}

func (s *sessions) DeleteDevice(context.Context, *store.Device) error { return nil }

// newDevice returns a guarded device and the store below.
func newDevice(t *testing.T) (*store.Device, *sessions) {
	t.Helper()
	below := &sessions{kept: map[string]string{}}
	d := &store.Device{Container: below}
	Guard(d, below.sync, Watch{Outage: func(error) { below.outages++ }})
	// A new device gets its stores when pairing saves it.
	if err := d.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d, below
}

const alice = "alice_1:0"

func decrypt(t *testing.T, d *store.Device, put string) {
	t.Helper()
	err := d.EventBuffer.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
		if _, err := d.Sessions.GetSession(ctx, alice); err != nil {
			return err
		}
		return d.Sessions.PutSession(ctx, alice, []byte(put))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSendIsRefusedWhenADecryptionCameBetween(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(d *store.Device) error{
		"decryption": func(d *store.Device) error { decrypt(t, d, "decrypted"); return nil },
		"deletion":   func(d *store.Device) error { return d.Sessions.DeleteSession(t.Context(), alice) },
		"migration": func(d *store.Device) error {
			return d.Sessions.MigratePNToLID(t.Context(), types.NewJID("49", types.DefaultUserServer), types.NewJID("20", types.HiddenUserServer))
		},
		"another send": func(d *store.Device) error {
			return d.Sessions.PutManySessions(Send(t.Context()), map[string][]byte{alice: []byte("sent")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, below := newDevice(t)
			ctx := Send(t.Context())
			if _, err := d.Sessions.GetManySessions(ctx, []string{alice}); err != nil {
				t.Fatal(err)
			}
			if err := between(d); err != nil {
				t.Fatal(err)
			}
			want := maps.Clone(below.kept)
			err := d.Sessions.PutManySessions(ctx, map[string][]byte{alice: []byte("stale")})
			if !errors.Is(err, ErrConflict) || !errors.Is(SendErr(ctx), ErrConflict) {
				t.Errorf("stale write: %v, SendErr %v, want ErrConflict", err, SendErr(ctx))
			}
			if !maps.Equal(below.kept, want) {
				t.Errorf("the stale write reached the store: %v, want %v", below.kept, want)
			}
		})
	}
}

func TestUndisturbedWritesPass(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	decrypt(t, d, "1")
	ctx := Send(t.Context())
	if _, err := d.Sessions.GetManySessions(ctx, []string{alice, "bob_1:0"}); err != nil {
		t.Fatal(err)
	}
	if err := d.Sessions.PutManySessions(ctx, map[string][]byte{alice: []byte("2")}); err != nil {
		t.Fatalf("an undisturbed send: %v", err)
	}
	decrypt(t, d, "3")
	if below.kept[alice] != "3" || SendErr(ctx) != nil {
		t.Errorf("kept %q, SendErr %v", below.kept[alice], SendErr(ctx))
	}
	// Migrating what has moved already changes nothing, so it disturbs nobody.
	pn, lid := types.NewJID("49", types.DefaultUserServer), types.NewJID("20", types.HiddenUserServer)
	d.Sessions.MigratePNToLID(t.Context(), pn, lid)
	ctx = Send(t.Context())
	d.Sessions.GetManySessions(ctx, []string{alice})
	d.Sessions.MigratePNToLID(t.Context(), pn, lid)
	if err := d.Sessions.PutManySessions(ctx, map[string][]byte{alice: []byte("4")}); err != nil {
		t.Errorf("a send during a repeated migration: %v", err)
	}
}

func TestRetryReceiptDoesNotUndoADecryption(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	if _, err := d.Sessions.GetSession(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	decrypt(t, d, "decrypted")
	if err := d.Sessions.PutSession(t.Context(), alice, []byte("stale")); !errors.Is(err, ErrConflict) {
		t.Errorf("stale write: %v, want ErrConflict", err)
	}
	if below.kept[alice] != "decrypted" {
		t.Errorf("kept %q", below.kept[alice])
	}
	d.Sessions.GetSession(t.Context(), alice)
	if err := d.Sessions.PutSession(t.Context(), alice, []byte("fresh")); err != nil {
		t.Errorf("a fresh write: %v", err)
	}
}

// A retry receipt of the account's own phone and a message to it may read the same session: only one of them uses its next counter.
func TestReadsThatCrossDoNotShareACounter(t *testing.T) {
	d, below := newDevice(t)
	pair, err := ecc.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	at := func(counter uint32) []byte {
		s := record.NewSession(store.SignalProtobufSerializer.Session, store.SignalProtobufSerializer.State)
		s.SessionState().SetVersion(3)
		s.SessionState().SetLocalIdentityKey(identity.NewKey(pair.PublicKey()))
		s.SessionState().SetRemoteIdentityKey(identity.NewKey(pair.PublicKey()))
		s.SessionState().SetSenderBaseKey(pair.PublicKey().Serialize())
		s.SessionState().SetRootKey(root.NewKey(kdf.DeriveSecrets, make([]byte, 32)))
		s.SessionState().SetSenderChain(pair, chain.NewKey(kdf.DeriveSecrets, make([]byte, 32), counter))
		return s.Serialize()
	}
	below.kept[alice] = string(at(7))
	for range 2 {
		if _, err := d.Sessions.GetSession(t.Context(), alice); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sessions.PutSession(t.Context(), alice, at(8)); err != nil {
		t.Fatal(err)
	}
	if err := d.Sessions.PutSession(t.Context(), alice, at(8)); !errors.Is(err, ErrConflict) {
		t.Errorf("the second to use the counter: %v", err)
	}
	if err := d.Sessions.PutSession(t.Context(), alice, at(9)); err != nil {
		t.Errorf("the one after it: %v", err)
	}
}

// A retry receipt must not go on with the session under a number that was moved to its LID meanwhile.
func TestRetryReceiptCrossedByAMigration(t *testing.T) {
	d, below := newDevice(t)
	const pn = "4912345:0"
	below.kept[pn] = "n"
	if _, err := d.Sessions.GetSession(t.Context(), pn); err != nil {
		t.Fatal(err)
	}
	if err := d.Sessions.MigratePNToLID(t.Context(), types.NewJID("4912345", types.DefaultUserServer), types.NewJID("777", types.HiddenUserServer)); err != nil {
		t.Fatal(err)
	}
	if err := d.Sessions.PutSession(t.Context(), pn, []byte("n+1")); !errors.Is(err, ErrConflict) {
		t.Errorf("the write under the number: %v", err)
	}
}

// whatsmeow only logs an error of the store about one device of a send, leaves the device out and
// reports success.
func TestStoreFailureDuringASendFailsTheSend(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	ctx := Send(t.Context())
	d.Sessions.GetManySessions(ctx, []string{alice})
	below.broken = errors.New("database gone")
	d.Identities.IsTrustedIdentity(ctx, alice, [32]byte{})
	if err := d.Sessions.PutManySessions(ctx, map[string][]byte{alice: []byte("x")}); !errors.Is(err, below.broken) {
		t.Errorf("write after a failure: %v, want %v", err, below.broken)
	}
	if err := SendErr(ctx); !errors.Is(err, below.broken) {
		t.Errorf("SendErr = %v, want %v", err, below.broken)
	}
	if len(below.kept) != 0 {
		t.Errorf("kept %v, want nothing", below.kept)
	}
}

// What fails because of the store while a message is decrypted is to whatsmeow like a canceled
// context: it does not acknowledge the message. What fails because of the message is not.
func TestStoreFailureDuringADecryptionIsAnOutage(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	below.broken = errors.New("database gone")
	trust := func(ctx context.Context) error {
		_, err := d.Identities.IsTrustedIdentity(ctx, alice, [32]byte{})
		return err
	}
	err := d.EventBuffer.DoDecryptionTxn(t.Context(), trust)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, below.broken) || below.outages != 1 {
		t.Errorf("a failing store: %v, told %d times", err, below.outages)
	}
	bad := errors.New("bad message")
	err = d.EventBuffer.DoDecryptionTxn(t.Context(), func(context.Context) error { return bad })
	if errors.Is(err, context.Canceled) || !errors.Is(err, bad) || below.outages != 1 {
		t.Errorf("a bad message: %v, told %d times", err, below.outages)
	}
	below.broken = fmt.Errorf("read identity: %w", sqlstore.ErrInvalidLength)
	if err := d.EventBuffer.DoDecryptionTxn(t.Context(), trust); errors.Is(err, context.Canceled) || below.outages != 1 {
		t.Errorf("a broken value: %v, told %d times", err, below.outages)
	}
}

// Of a phone that is new a store forgets the keys that the old one had, in the decryption of its first message.
func TestForgettingAnOldPhoneMayFail(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(ctx context.Context, d *store.Device) error{
		"identity": func(ctx context.Context, d *store.Device) error { return d.Identities.DeleteIdentity(ctx, alice) },
		"session":  func(ctx context.Context, d *store.Device) error { return d.Sessions.DeleteSession(ctx, alice) },
	} {
		d, below := newDevice(t)
		below.broken = errors.New("database gone")
		err := d.EventBuffer.DoDecryptionTxn(t.Context(), func(ctx context.Context) error { return call(ctx, d) })
		if !errors.Is(err, context.Canceled) || below.outages != 1 {
			t.Errorf("%s: %v, told %d times", name, err, below.outages)
		}
	}
}

// What a phone asks for again it asks for once: a store that fails leaves that unacknowledged, too. What is not there is no failure.
func TestFailureToReadASentMessageIsAnOutage(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	read := func() error {
		_, _, err := d.EventBuffer.GetOutgoingEvent(t.Context(), types.EmptyJID, types.EmptyJID, "id")
		return err
	}
	below.broken = sql.ErrNoRows
	if err := read(); errors.Is(err, context.Canceled) || !errors.Is(err, sql.ErrNoRows) || below.outages != 0 {
		t.Errorf("a message that is not there: %v, told %d times", err, below.outages)
	}
	below.broken = errors.New("database gone")
	if err := read(); !errors.Is(err, context.Canceled) || below.outages != 1 {
		t.Errorf("a failing store: %v, told %d times", err, below.outages)
	}
}

// After a lookup that failed whatsmeow would decrypt under the other address, with another session.
func TestFailedLookupStopsTheNextDecryption(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	below.broken = errors.New("database gone")
	if _, err := d.LIDs.GetLIDForPN(t.Context(), types.NewJID("49", types.DefaultUserServer)); !errors.Is(err, below.broken) {
		t.Fatalf("lookup: %v", err)
	}
	if _, err := d.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{}); !errors.Is(err, context.Canceled) || below.outages != 1 {
		t.Errorf("decryption after the lookup: %v, told %d times", err, below.outages)
	}
	if _, err := d.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{}); err != nil {
		t.Errorf("the one after it: %v", err)
	}
}

// A sender key that could not be stored when a message brought it is not missing: the message comes again.
func TestASenderKeyThatWasNotStoredIsWaitedFor(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	read := func() (err error) {
		return d.EventBuffer.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
			_, err := d.SenderKeys.GetSenderKey(ctx, "g@g.us", alice)
			return err
		})
	}
	if err := read(); err != nil {
		t.Fatalf("a key that is missing: %v", err)
	}
	below.broken = errors.New("database gone")
	if err := d.SenderKeys.PutSenderKey(t.Context(), "g@g.us", alice, []byte{1}); !errors.Is(err, ErrNotKept) || below.outages != 1 {
		t.Errorf("the key of a message: %v, told %d times", err, below.outages)
	}
	if err := read(); !errors.Is(err, context.Canceled) {
		t.Errorf("a decryption before it came again: %v", err)
	}
	below.broken = nil
	if err := d.SenderKeys.PutSenderKey(t.Context(), "g@g.us", alice, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := read(); err != nil {
		t.Errorf("a decryption after it came again: %v", err)
	}
	below.broken = errors.New("database gone")
	d.SenderKeys.PutSenderKey(t.Context(), "g@g.us", alice, []byte{1})
	for range unkeptMost {
		read()
	}
	if err := read(); err != nil {
		t.Errorf("a message that does not come again was waited for too long: %v", err)
	}
}

// What a send has written is on the disk before it goes on the wire, with one wait for all of it; what a message that came in
// has led to waits for nothing but the Sync of who handles it, and whatever else is written waits by itself.
func TestWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	peer := types.NewJID("4915", types.DefaultUserServer)
	encrypt := func(ctx context.Context, d *store.Device) error {
		return errors.Join(d.Identities.PutIdentity(ctx, "a:0", [32]byte{}), d.Sessions.PutManySessions(ctx, map[string][]byte{"a:0": {1}}))
	}
	for name, row := range map[string]struct {
		do   func(ctx context.Context, d *store.Device) error
		want []string
	}{
		"send": {func(ctx context.Context, d *store.Device) error {
			ctx = Send(ctx)
			return errors.Join(
				d.EventBuffer.AddOutgoingEvent(ctx, peer, "1", "wa", nil),
				d.MsgSecrets.PutMessageSecret(ctx, peer, peer, "1", nil),
				encrypt(ctx, d))
		}, []string{"outgoing", "secret", "identity", "sessions", "synced"}},
		"send to a group": {func(ctx context.Context, d *store.Device) error {
			return d.SenderKeys.PutSenderKey(Send(ctx), "g", "me", nil)
		}, []string{"sender key", "synced"}},
		"answer to a retry receipt": {encrypt, []string{"identity on the disk", "sessions", "synced"}},
		"message": {func(ctx context.Context, d *store.Device) error {
			return errors.Join(
				d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error { return encrypt(ctx, d) }),
				d.MsgSecrets.PutMessageSecret(ctx, peer, peer, "1", nil),
				d.EventBuffer.ClearBufferedEventPlaintext(ctx, [32]byte{}))
		}, []string{"identity", "sessions", "secret", "cleared"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, below := newDevice(t)
			if err := row.do(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(below.wrote, row.want) {
				t.Errorf("written: %q, want %q", below.wrote, row.want)
			}
		})
	}
}

// The text of a message that may have been refused at the end of a link is kept, for when it comes again.
func TestTextIsKeptAtTheEnd(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.EventBuffer.ClearBufferedEventPlaintext(ctx, [32]byte{}); err == nil || len(below.wrote) > 0 {
		t.Errorf("%v, written: %q", err, below.wrote)
	}
}

// A send whose keys may not be on the disk is not made.
func TestSendThatIsNotOnTheDisk(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	below.unsynced = errors.New("no disk")
	ctx := Send(t.Context())
	if err := d.Sessions.PutSession(ctx, "a:0", []byte{1}); !errors.Is(err, below.unsynced) {
		t.Errorf("put a session: %v, want %v", err, below.unsynced)
	}
	if err := SendErr(ctx); !errors.Is(err, below.unsynced) {
		t.Errorf("the send's error is %v, want %v", err, below.unsynced)
	}
}

// An identity that is stored is neither read nor written again, until it may not be stored any more.
func TestIdentityIsStoredOnce(t *testing.T) {
	t.Parallel()
	d, below := newDevice(t)
	key, other := [32]byte{1}, [32]byte{2}
	put := func(k [32]byte, want int) {
		t.Helper()
		if err := d.Identities.PutIdentity(t.Context(), "a:0", k); err != nil {
			t.Fatal(err)
		}
		if got := len(below.wrote); got != want {
			t.Errorf("%d writes, want %d", got, want)
		}
	}
	put(key, 1)
	put(key, 1)
	put(other, 2)
	put(key, 3)
	below.broken = errors.New("broken")
	if trusted, err := d.Identities.IsTrustedIdentity(t.Context(), "a:0", key); !trusted || err != nil {
		t.Errorf("the identity that is stored is trusted: %v, %v", trusted, err)
	}
	if trusted, err := d.Identities.IsTrustedIdentity(t.Context(), "a:0", other); trusted || err == nil {
		t.Errorf("another identity is trusted: %v, %v", trusted, err)
	}
	below.broken = nil
	if err := d.Identities.DeleteIdentity(t.Context(), "a:0"); err != nil {
		t.Fatal(err)
	}
	put(key, 4)
	bad := errors.New("bad message")
	if err := d.EventBuffer.DoDecryptionTxn(t.Context(), func(context.Context) error { return bad }); !errors.Is(err, bad) {
		t.Fatal(err)
	}
	put(key, 5)
}
