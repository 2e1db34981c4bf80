package device

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.mau.fi/libsignal/signalerror"
	"go.mau.fi/whatsmeow/store"
)

// buffer is a device store with one buffered event, whose calls fail with broken.
type buffer struct {
	store.NoopStore
	event  *store.BufferedEvent
	broken error
}

func (b *buffer) GetBufferedEvent(context.Context, [32]byte) (*store.BufferedEvent, error) {
	return b.event, b.broken
}

func (b *buffer) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	if err := fn(ctx); err != nil {
		return err
	}
	return b.broken
}

func TestWatch(t *testing.T) {
	t.Parallel()
	var told []string
	below := &buffer{}
	d := &store.Device{Initialized: true, Container: &store.NoopStore{}}
	d.SetAllStores(below)
	d.LIDs = below
	Guard(d, func(context.Context) error { return nil }, Watch{
		Outage:      func(error) { told = append(told, "outage") },
		Again:       func(handled bool) { told = append(told, fmt.Sprint("again ", handled)) },
		Undecrypted: func(c Cause) { told = append(told, string(c)) },
		Call: func(call string, _ time.Duration, err error) {
			if !slices.Contains(Calls, call) {
				t.Errorf("the call %q has no name", call)
			}
			told = append(told, fmt.Sprintf("%s %v", call, err))
		},
	})
	tells := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("%s: told %q, want %q", what, told, want)
		}
		told = nil
	}
	decrypt := func(err error) {
		// What becomes of the error is the guard's own test.
		_ = d.EventBuffer.DoDecryptionTxn(t.Context(), func(context.Context) error { return err })
	}
	look := func() { _, _ = d.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{}) }

	look()
	tells("a new message", "get_buffered <nil>")
	below.event = &store.BufferedEvent{Plaintext: []byte("x")}
	look()
	tells("one that was not acknowledged", "get_buffered <nil>", "again false")
	below.event = &store.BufferedEvent{}
	look()
	tells("one that was handled", "get_buffered <nil>", "again true")

	decrypt(nil)
	tells("a message that decrypts", "decrypt <nil>")
	for err, cause := range map[error]Cause{
		signalerror.ErrOldCounter:            OldCounter,
		signalerror.ErrNoSessionForUser:      NoSession,
		signalerror.ErrNoValidSessions:       WrongSession,
		signalerror.ErrNoSenderKeyForUser:    NoSenderKey,
		signalerror.ErrNoSenderKeyStateForID: NoSenderKey,
		signalerror.ErrNoOneTimeKeyFound:     NoPreKey,
		signalerror.ErrTooFarIntoFuture:      TooFar,
		errors.New("something else"):         OtherCause,
	} {
		decrypt(fmt.Errorf("decrypt: %w", err))
		tells(err.Error(), "decrypt <nil>", string(cause))
		if !slices.Contains(Causes, cause) {
			t.Errorf("%s is not among the causes", cause)
		}
	}
	decrypt(context.Canceled)
	tells("one that was cut off", "decrypt <nil>")

	below.broken = errors.New("no space left on device")
	decrypt(nil)
	tells("a store that does not commit", "decrypt no space left on device", "outage")
}
