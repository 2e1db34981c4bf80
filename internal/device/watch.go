package device

import (
	"context"
	"errors"
	"time"

	"go.mau.fi/libsignal/signalerror"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// Watch is told of what happens in the stores of a device. Its funcs must not block; all but Outage may be nil.
type Watch struct {
	// Outage is told of each failure of the store that left a message undecrypted and unacknowledged: the
	// server gives it again at the next connection only.
	Outage func(error)
	// Again is told of a message that the server gives again, byte for byte. One that was handled is dropped; the
	// other was decrypted, but not acknowledged.
	Again func(handled bool)
	// Undecrypted is told why a message was not decrypted, outages apart.
	Undecrypted func(Cause)
	// Call is told of each of Calls how long it took in the store below the guard, and of its error.
	Call func(call string, took time.Duration, err error)
}

// Cause is why a message was not decrypted.
type Cause string

// The causes. A message with an old counter was decrypted before and is dropped; for the others a retry receipt goes
// to the sender, who sends them again.
const (
	OldCounter   Cause = "old_counter"
	NoSession    Cause = "no_session"
	WrongSession Cause = "wrong_session" // ours is not the one that it was encrypted in
	NoSenderKey  Cause = "no_sender_key" // of a group's member
	NoPreKey     Cause = "no_pre_key"    // it begins a session with a pre-key that is gone
	TooFar       Cause = "too_far"       // too many messages before it have not come
	OtherCause   Cause = "other"
)

// Causes are all there are.
var Causes = []Cause{OldCounter, NoSession, WrongSession, NoSenderKey, NoPreKey, TooFar, OtherCause}

// causeOf says why a decryption failed with err.
func causeOf(err error) Cause {
	for _, known := range []struct {
		cause  Cause
		errors []error
	}{
		{OldCounter, []error{signalerror.ErrOldCounter}},
		{NoSession, []error{signalerror.ErrNoSessionForUser, signalerror.ErrUninitializedSession}},
		{WrongSession, []error{signalerror.ErrNoValidSessions, signalerror.ErrBadMAC}},
		{NoSenderKey, []error{signalerror.ErrNoSenderKeyForUser, signalerror.ErrNoSenderKeyStatesInRecord, signalerror.ErrNoSenderKeyStateForID}},
		{NoPreKey, []error{signalerror.ErrNoOneTimeKeyFound, signalerror.ErrNoSignedPreKey}},
		{TooFar, []error{signalerror.ErrTooFarIntoFuture}},
	} {
		for _, e := range known.errors {
			if errors.Is(err, e) {
				return known.cause
			}
		}
	}
	return OtherCause
}

// again tells of a message that came before, if buffered is what was kept of it.
func (w Watch) again(buffered *store.BufferedEvent) {
	if buffered != nil && w.Again != nil {
		w.Again(buffered.Plaintext == nil)
	}
}

// undecrypted tells of a decryption that ended with err, which is none of the store's.
func (w Watch) undecrypted(ctx context.Context, err error) {
	if w.Undecrypted != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		w.Undecrypted(causeOf(err))
	}
}

// Calls are the calls of the store that Watch.Call is told of: those that messages wait for.
var Calls = []string{
	"decrypt", "get_buffered", "put_buffered", "clear_buffered", "get_session", "get_sessions", "put_session", "put_sessions",
	"get_sender_key", "put_sender_key", "trusted_identity", "put_identity", "get_pre_key", "remove_pre_key", "put_outgoing",
}

// measured is a store that tells of its calls.
type measured struct {
	store.AllSessionSpecificStores
	call func(call string, took time.Duration, err error)
}

func (m measured) done(call string, begin time.Time, err error) { m.call(call, time.Since(begin), err) }

// DoDecryptionTxn is measured as a whole; that a message does not decrypt is no error of the store's.
func (m measured) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	begin, failed := time.Now(), false
	err := m.AllSessionSpecificStores.DoDecryptionTxn(ctx, func(ctx context.Context) error {
		err := fn(ctx)
		failed = err != nil
		return err
	})
	if failed {
		m.done("decrypt", begin, nil)
	} else {
		m.done("decrypt", begin, err)
	}
	return err
}

func (m measured) GetBufferedEvent(ctx context.Context, hash [32]byte) (e *store.BufferedEvent, err error) {
	defer func(begin time.Time) { m.done("get_buffered", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.GetBufferedEvent(ctx, hash)
}

func (m measured) PutBufferedEvent(ctx context.Context, hash [32]byte, plaintext []byte, at time.Time) (err error) {
	defer func(begin time.Time) { m.done("put_buffered", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.PutBufferedEvent(ctx, hash, plaintext, at)
}

func (m measured) ClearBufferedEventPlaintext(ctx context.Context, hash [32]byte) (err error) {
	defer func(begin time.Time) { m.done("clear_buffered", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.ClearBufferedEventPlaintext(ctx, hash)
}

func (m measured) GetSession(ctx context.Context, address string) (session []byte, err error) {
	defer func(begin time.Time) { m.done("get_session", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.GetSession(ctx, address)
}

func (m measured) GetManySessions(ctx context.Context, addresses []string) (all map[string][]byte, err error) {
	defer func(begin time.Time) { m.done("get_sessions", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.GetManySessions(ctx, addresses)
}

func (m measured) PutSession(ctx context.Context, address string, session []byte) (err error) {
	defer func(begin time.Time) { m.done("put_session", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.PutSession(ctx, address, session)
}

func (m measured) PutManySessions(ctx context.Context, all map[string][]byte) (err error) {
	defer func(begin time.Time) { m.done("put_sessions", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.PutManySessions(ctx, all)
}

func (m measured) GetSenderKey(ctx context.Context, group, user string) (key []byte, err error) {
	defer func(begin time.Time) { m.done("get_sender_key", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.GetSenderKey(ctx, group, user)
}

func (m measured) PutSenderKey(ctx context.Context, group, user string, key []byte) (err error) {
	defer func(begin time.Time) { m.done("put_sender_key", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.PutSenderKey(ctx, group, user, key)
}

func (m measured) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (trusted bool, err error) {
	defer func(begin time.Time) { m.done("trusted_identity", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.IsTrustedIdentity(ctx, address, key)
}

func (m measured) PutIdentity(ctx context.Context, address string, key [32]byte) (err error) {
	defer func(begin time.Time) { m.done("put_identity", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.PutIdentity(ctx, address, key)
}

func (m measured) GetPreKey(ctx context.Context, id uint32) (key *keys.PreKey, err error) {
	defer func(begin time.Time) { m.done("get_pre_key", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.GetPreKey(ctx, id)
}

func (m measured) RemovePreKey(ctx context.Context, id uint32) (err error) {
	defer func(begin time.Time) { m.done("remove_pre_key", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.RemovePreKey(ctx, id)
}

func (m measured) AddOutgoingEvent(ctx context.Context, chat types.JID, id types.MessageID, format string, plaintext []byte) (err error) {
	defer func(begin time.Time) { m.done("put_outgoing", begin, err) }(time.Now())
	return m.AllSessionSpecificStores.AddOutgoingEvent(ctx, chat, id, format, plaintext)
}
