package sqlitestore

import (
	"context"
	"time"

	"wabot/internal/retention"
)

var _ retention.Store = (*Store)(nil)

const (
	selectStale  = `SELECT id FROM turns WHERE ended < ? ORDER BY ended LIMIT ?`
	dropMessages = `DELETE FROM messages WHERE turn = ?`
	dropTurn     = `DELETE FROM turns WHERE id = ?`
	dropMarks    = `DELETE FROM marks WHERE (message, fate, chat, who) IN (SELECT message, fate, chat, who FROM marks WHERE fate IN ('gated', 'delivered', 'read', 'undecrypted', 'recovered') AND at < ? LIMIT ?)`

	selectOldHeard = `SELECT chat FROM heard WHERE oldest < ? ORDER BY oldest LIMIT ?`

	lastSecret        = `SELECT coalesce(max(rowid), 0) FROM whatsmeow_message_secrets`
	putSecretsSeen    = `INSERT INTO secrets_seen (at, last) VALUES (?, ?) ON CONFLICT (at) DO NOTHING`
	selectSecretsSeen = `SELECT coalesce(max(last), 0) FROM secrets_seen WHERE at < ?`
	dropSecrets       = `DELETE FROM whatsmeow_message_secrets WHERE rowid IN (SELECT rowid FROM whatsmeow_message_secrets WHERE rowid <= ? AND rowid < (SELECT max(rowid) FROM whatsmeow_message_secrets) ORDER BY rowid LIMIT ?)`
	lastSecretSeen    = `SELECT coalesce(max(last), 0) FROM secrets_seen`
	forgetSecretsSeen = `DELETE FROM secrets_seen`
	dropSecretsSeen   = `DELETE FROM secrets_seen WHERE at < ?`
)

// secretsEvery is how exactly it is known when a message secret came.
const secretsEvery = 12 * time.Hour

// Sweep implements retention.Store.
func (s *Store) Sweep(ctx context.Context, now, before time.Time, most int) (n int, err error) {
	err = s.transaction(ctx, "delete what is old", func(tx transaction) error {
		n = 0
		rows, err := tx.rows(selectStale, before.UnixNano(), most)
		if err != nil {
			return err
		}
		defer rows.Close()
		var turns []int64
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				return err
			}
			turns = append(turns, id)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, id := range turns {
			if err := tx.exec(dropMessages, id); err != nil {
				return err
			}
			if err := tx.exec(dropTurn, id); err != nil {
				return err
			}
		}
		marks, err := tx.deleted(dropMarks, before.UnixNano(), most)
		if err != nil {
			return err
		}
		secrets, err := tx.sweepSecrets(now, before, most)
		n = len(turns) + marks + secrets
		return err
	})
	return n, err
}

// sweepSecrets notes which message secrets there are at now, and deletes those that were there before, but never the
// last of all: rowids would begin anew.
func (t transaction) sweepSecrets(now, before time.Time, most int) (int, error) {
	var last int64
	if err := t.row(lastSecret).Scan(&last); err != nil {
		return 0, err
	}
	var seen int64
	if err := t.row(lastSecretSeen).Scan(&seen); err != nil {
		return 0, err
	}
	if last < seen { // the device was deleted, and its secrets with it
		if err := t.exec(forgetSecretsSeen); err != nil {
			return 0, err
		}
	}
	if err := t.exec(putSecretsSeen, now.Truncate(secretsEvery).Add(secretsEvery).UnixNano(), last); err != nil {
		return 0, err
	}
	var old int64
	if err := t.row(selectSecretsSeen, before.UnixNano()).Scan(&old); err != nil || old == 0 {
		return 0, err
	}
	n, err := t.deleted(dropSecrets, old, most)
	if err == nil && n < most {
		err = t.exec(dropSecretsSeen, before.UnixNano())
	}
	return n, err
}

// OldHeard implements retention.Store.
func (s *Store) OldHeard(ctx context.Context, before time.Time, most int) (chats []string, err error) {
	const doing = "look for what was heard long ago"
	rows, err := s.read[selectOldHeard].QueryContext(ctx, before.UnixNano(), most)
	if err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		var jid string
		if err := rows.Scan(&jid); err != nil {
			return nil, s.failed(ctx, doing, err)
		}
		chats = append(chats, jid)
	}
	if err := rows.Err(); err != nil {
		return nil, s.failed(ctx, doing, err)
	}
	return chats, nil
}
