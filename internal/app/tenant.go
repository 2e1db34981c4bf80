package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"wabot/internal/mask"
	"wabot/internal/whatsapp"
)

// tenant is the account whose messages the inbox holds. Linking another one must not have it answer what was
// asked of the first, nor read what was said to that.
type tenant struct {
	notes whatsapp.Notes
	// forget removes all messages and what came of them.
	forget func(ctx context.Context) error
	log    *slog.Logger

	mu      sync.Mutex
	account string // that is known to live here
}

// noteAccount is where the store keeps the account's address.
const noteAccount = "app.account"

// moveIn makes the inbox that of account: what it holds of another is removed first. It must have returned
// nil before a message is stored or a turn is claimed.
func (t *tenant) moveIn(ctx context.Context, account string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if account == t.account || account == "" {
		return nil
	}
	before, err := t.notes.Note(ctx, noteAccount)
	if err != nil {
		return fmt.Errorf("read whose messages are stored: %w", err)
	}
	if before != nil && string(before) != account {
		t.log.Warn("another account was linked; the messages and the history of the one before are removed", "before", mask.JID(string(before)), "now", mask.JID(account))
		if err := t.forget(ctx); err != nil {
			return fmt.Errorf("remove another account's messages: %w", err)
		}
	}
	if string(before) != account {
		if err := t.notes.SetNote(ctx, noteAccount, []byte(account)); err != nil {
			return fmt.Errorf("note whose messages are stored: %w", err)
		}
	}
	t.account = account
	return nil
}

// settle is moveIn, tried again until it is done or ctx ends.
func (t *tenant) settle(ctx context.Context, account string) error {
	for said := false; ; said = true {
		err := t.moveIn(ctx, account)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err() // asked to stop, which is no outage
		}
		if !said {
			t.log.Warn("the store does not answer; nothing is answered until it does", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
