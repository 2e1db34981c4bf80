package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"wabot/internal/storetest"
)

// notes are a store without messages, the first calls of which fail.
type notes struct {
	storetest.Memory
	kept  map[string]string
	fails int
}

func (n *notes) fail() error {
	if n.fails--; n.fails >= 0 {
		return errors.New("no space left on device")
	}
	return nil
}

func (n *notes) Note(ctx context.Context, key string) ([]byte, error) {
	if err := cmp.Or(ctx.Err(), n.fail()); err != nil || n.kept[key] == "" {
		return nil, err
	}
	return []byte(n.kept[key]), nil
}

func (n *notes) SetNote(_ context.Context, key string, value []byte) error {
	if err := n.fail(); err != nil {
		return err
	}
	n.kept[key] = string(value)
	return nil
}

// A store that fails just as the bot gets online does not end the process: it is waited for.
func TestStoreFailureAtLoginIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &notes{kept: map[string]string{}, fails: 3}
		tenant := tenant{notes: s, forget: s.Forget, log: slog.New(slog.DiscardHandler)}
		if err := tenant.settle(t.Context(), "1@s.whatsapp.net"); err != nil || s.kept[noteAccount] != "1@s.whatsapp.net" {
			t.Errorf("settled as %q: %v", s.kept[noteAccount], err)
		}
		s.fails = 1 << 30
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- tenant.settle(ctx, "2@s.whatsapp.net") }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("stopped in an outage: %v", err)
		}
	})
}

// Who is stopped while it comes online is told of no outage.
func TestStopAtLoginIsNoOutage(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	tenant := tenant{notes: &notes{}, log: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tenant.settle(ctx, "1@s.whatsapp.net"); !errors.Is(err, context.Canceled) || log.Len() > 0 {
		t.Errorf("stopped with %v, and the log has %q", err, &log)
	}
}
