package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"wabot/internal/chat"
)

// Heard implements inbox.Store.
func (s *Store) Heard(ctx context.Context, chatJID string) ([]chat.Message, error) {
	const doing = "read what was heard"
	var text []byte
	ctx, err := steady(ctx)
	if err == nil {
		err = s.read[selectHeard].QueryRowContext(ctx, chatJID).Scan(&text)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	var all []chat.Message
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return all, nil
}

// SetHeard implements inbox.Store.
func (s *Store) SetHeard(ctx context.Context, chatJID string, all []chat.Message) error {
	return s.transaction(ctx, "keep what was heard", func(tx transaction) error { return tx.setHeard(chatJID, all) })
}

// ForgetSent implements inbox.Store, for the one device that there is.
func (s *Store) ForgetSent(ctx context.Context, chatJIDs ...string) error {
	return s.transaction(ctx, "delete sent messages", func(tx transaction) error {
		for _, jid := range chatJIDs {
			if err := tx.exec(deleteSent, jid); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t transaction) setHeard(chatJID string, all []chat.Message) error {
	if len(all) == 0 {
		return t.exec(deleteHeard, chatJID)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("write what was heard: %w", err)
	}
	oldest := slices.MinFunc(all, func(a, b chat.Message) int { return a.Time.Compare(b.Time) })
	return t.exec(putHeard, chatJID, string(text), nanoseconds(oldest.Time))
}

// nanoseconds is a time as the store keeps it, 0 where it is not known.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
