package mongostore

import (
	"context"
	"sync"
)

// sending notes the store's first failure during one send.
type sending struct {
	mu  sync.Mutex
	err error
}

type sendingKey struct{}

// Sending marks ctx as that of one send. whatsmeow just logs a device that it could not encrypt
// for, and sends to the others; so the store then refuses to store the send's sessions, which stops
// it before anything is on the wire. Where every device failed, whatsmeow stores none and sends a message that nobody can
// read: the function returned says so after the send, with the store's error. The message then counts as not
// sent, and is sent again with the same ID.
func Sending(ctx context.Context) (context.Context, func() error) {
	s := &sending{}
	ctx = context.WithValue(ctx, sendingKey{}, s)
	return ctx, func() error { return failure(ctx) }
}

func failure(ctx context.Context) error {
	s, _ := ctx.Value(sendingKey{}).(*sending)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// noteFailure keeps *err for the send that ctx belongs to, if any.
func noteFailure(ctx context.Context, err *error) {
	s, _ := ctx.Value(sendingKey{}).(*sending)
	if s == nil || *err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = *err
	}
}
