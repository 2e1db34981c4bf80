package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// Find implements inbox.Store.
func (s *Store) Find(ctx context.Context, like chat.Message) (chat.Exchange, error) {
	var x chat.Exchange
	err := s.transaction(ctx, "find a message", func(tx transaction) error {
		seq, _, turn, err := tx.find(like)
		if err != nil {
			return err
		}
		query, key := selectOne, seq
		if turn.Valid {
			query, key = selectOfTurn, turn.V
		}
		rows, err := tx.rows(query, key)
		if err != nil {
			return err
		}
		if x.Messages, err = messages(rows, like.Chat); err != nil || !turn.Valid {
			return err
		}
		var reply sql.Null[string]
		if err := tx.row(selectReply, turn.V).Scan(&reply); err != nil || !reply.Valid {
			return err
		}
		x.Reply = new(chat.Reply)
		return json.Unmarshal([]byte(reply.V), x.Reply)
	})
	if err != nil {
		return chat.Exchange{}, err
	}
	return x, nil
}

// find returns the row of a message, its chat and its turn; inbox.ErrUnknown if it is not there.
func (t transaction) find(like chat.Message) (seq int64, jid string, turn sql.Null[int64], err error) {
	err = t.row(selectTurnOf, like.Chat, like.ChatAlt, like.ID, like.Sender, like.SenderAlt).Scan(&seq, &jid, &turn)
	if errors.Is(err, sql.ErrNoRows) {
		err = inbox.ErrUnknown
	}
	return seq, jid, turn, err
}

// Amend implements inbox.Store.
func (s *Store) Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error {
	return s.transaction(ctx, "change stored messages", func(tx transaction) error {
		for i, m := range messages {
			seq, jid, turn, err := tx.find(m)
			if errors.Is(err, inbox.ErrUnknown) {
				continue
			}
			if err != nil {
				return err
			}
			text, err := json.Marshal(m)
			if err != nil {
				return fmt.Errorf("write a message: %w", err)
			}
			if err := tx.exec(amendMessage, seq, string(text)); err != nil {
				return err
			}
			if !turn.Valid { // its hold may be another now
				if err := tx.settle(jid); err != nil {
					return err
				}
			}
			if i > 0 || r == nil || !turn.Valid {
				continue
			}
			if text, err = json.Marshal(r); err != nil {
				return fmt.Errorf("write a reply: %w", err)
			}
			if err := tx.exec(amendReply, turn.V, string(text)); err != nil {
				return err
			}
		}
		return nil
	})
}
