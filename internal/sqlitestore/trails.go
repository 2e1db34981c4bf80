package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"wabot/internal/chat"
	"wabot/internal/trail"
)

var _ trail.Store = (*Store)(nil)

const (
	putMark     = `INSERT INTO marks (message, fate, chat, who, at, why) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (message, fate, chat, who) DO NOTHING`
	selectMarks = `SELECT message, fate, chat, who, at, why FROM marks WHERE message = ? ORDER BY fate, chat, who`
	selectFate  = `SELECT message, fate, chat, who, at, why FROM marks WHERE fate = ? ORDER BY at DESC LIMIT ?`

	selectWithID    = `SELECT chat, came, message, turn FROM messages WHERE id = ? ORDER BY seq`
	selectLatest    = `SELECT chat, came, message, turn FROM messages WHERE seq > 0 ORDER BY seq DESC LIMIT ?`
	selectTrailTurn = `SELECT lease, ready, attempt, reply, ended, failure, tries, (SELECT count(*) FROM messages WHERE turn = turns.id) FROM turns WHERE id = ?`
)

// Mark implements trail.Store.
func (s *Store) Mark(ctx context.Context, all []chat.Mark) error {
	return s.transaction(ctx, "keep what happened to messages", func(tx transaction) error {
		for _, m := range all {
			if err := tx.exec(putMark, m.Message, string(m.Fate), m.Chat, m.Who, m.Time.UnixNano(), m.Why); err != nil {
				return err
			}
		}
		return nil
	})
}

// Trails implements trail.Store.
func (s *Store) Trails(ctx context.Context, id string) ([]chat.Trail, error) {
	const doing = "look for what became of a message"
	all, err := s.trails(ctx, selectWithID, id)
	if err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	marks, err := s.marks(ctx, selectMarks, id)
	if err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	for _, m := range marks {
		if m.Fate == chat.Gated {
			all = append(all, trail.OfGated(m))
		}
	}
	return trail.WithOwn(all, marks), nil
}

// Latest implements trail.Store.
func (s *Store) Latest(ctx context.Context, n int) ([]chat.Trail, error) {
	const doing = "read what became of the latest messages"
	all, err := s.trails(ctx, selectLatest, n)
	if err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	for _, fate := range []chat.Fate{chat.Gated, chat.Undecrypted, chat.Recovered} {
		marks, err := s.marks(ctx, selectFate, string(fate), n)
		if err != nil {
			return nil, s.failed(ctx, doing, err)
		}
		if fate != chat.Gated {
			all = trail.WithOwn(all, marks)
			continue
		}
		for _, m := range marks {
			all = append(all, trail.OfGated(m))
		}
	}
	return trail.Newest(all, n), nil
}

// trails reads messages by a query and what became of them.
func (s *Store) trails(ctx context.Context, query string, arg any) (all []chat.Trail, err error) {
	rows, err := s.read[query].QueryContext(ctx, arg)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var turns []sql.Null[int64]
	for rows.Next() {
		var jid, text string
		var came int64
		var turn sql.Null[int64]
		if err := rows.Scan(&jid, &came, &text, &turn); err != nil {
			return nil, err
		}
		t := chat.Trail{Came: time.Unix(0, came)}
		if err := json.Unmarshal([]byte(text), &t.Message); err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
		if t.Message.Chat != jid {
			t.Message.Chat, t.Message.ChatAlt = jid, t.Message.Chat
		}
		all, turns = append(all, t), append(turns, turn)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for i, turn := range turns {
		if turn.Valid {
			if err := s.trailTurn(ctx, turn.V, &all[i]); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// trailTurn puts into t what is known of a turn.
func (s *Store) trailTurn(ctx context.Context, id int64, t *chat.Trail) error {
	var lease, text, failure, tried sql.Null[string]
	var ready int64
	var ended sql.Null[int64]
	var messages int
	err := s.read[selectTrailTurn].QueryRowContext(ctx, id).Scan(&lease, &ready, &t.Attempt, &text, &ended, &failure, &tried, &messages)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // deleted since, or folded into another
	}
	if err != nil {
		return err
	}
	t.Begun, t.Others, t.Leased, t.Failure = true, messages-1, lease.Valid, failure.V
	if !ended.Valid && ready != 0 {
		t.Ready = time.Unix(0, ready)
	}
	if ended.Valid {
		t.Ended = time.Unix(0, ended.V)
	}
	if t.Tries, err = tries(tried); err != nil {
		return err
	}
	if !text.Valid {
		return nil
	}
	t.Reply = new(chat.Reply)
	if err := json.Unmarshal([]byte(text.V), t.Reply); err != nil {
		return fmt.Errorf("read a reply: %w", err)
	}
	for _, p := range t.Reply.Parts {
		marks, err := s.marks(ctx, selectMarks, p.ID)
		if err != nil {
			return err
		}
		t.Marks = append(t.Marks, marks...)
	}
	return nil
}

func (s *Store) marks(ctx context.Context, query string, args ...any) (all []chat.Mark, err error) {
	rows, err := s.read[query].QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m chat.Mark
		var at int64
		if err := rows.Scan(&m.Message, &m.Fate, &m.Chat, &m.Who, &at, &m.Why); err != nil {
			return nil, err
		}
		m.Time = time.Unix(0, at)
		all = append(all, m)
	}
	return all, rows.Err()
}
