package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/whatsmeow/util/keys"

	"wabot/internal/chat"
	"wabot/internal/transfer"
)

var _ transfer.Store = (*Store)(nil)

// The whatsmeow_ tables are sqlstore's. Their names and columns are read and written here as its
// schema of version 15 has them; its upgrades have run by then.

// table is how one kind of row is read.
type table struct {
	query string // of the rows; the device's JID is the parameter where it has one
	scan  func(*sql.Rows) (transfer.Row, error)
}

// reading makes a table's scan of a function that names the columns' places in a row.
func reading[R transfer.Row](columns func(*R) []any) func(*sql.Rows) (transfer.Row, error) {
	return func(rows *sql.Rows) (transfer.Row, error) {
		var r R
		err := rows.Scan(columns(&r)...)
		return r, err
	}
}

const selectDevices = `SELECT jid, coalesce(lid, ''), coalesce(facebook_uuid, ''), registration_id, noise_key, identity_key,
	signed_pre_key, signed_pre_key_id, signed_pre_key_sig, adv_key, adv_details, adv_account_sig, adv_account_sig_key, adv_device_sig,
	platform, business_name, push_name, lid_migration_ts, companion_meta_nonce FROM whatsmeow_device`

func deviceColumns(d *transfer.Device) []any {
	return []any{&d.JID, &d.LID, &d.FacebookUUID, &d.RegistrationID, &d.NoiseKey, &d.IdentityKey,
		&d.SignedPreKey, &d.SignedPreKeyID, &d.SignedPreKeySignature, &d.AdvKey, &d.AdvDetails, &d.AccountSignature, &d.AccountSignatureKey, &d.DeviceSignature,
		&d.Platform, &d.BusinessName, &d.PushName, &d.LIDMigrationTimestamp, &d.CompanionMetaNonce}
}

// deviceTables hold what belongs to a device, a version before its MACs.
var deviceTables = []table{
	{`SELECT their_id, identity FROM whatsmeow_identity_keys WHERE our_jid = ?`,
		reading(func(r *transfer.Identity) []any { return []any{&r.Address, &r.Key} })},
	{`SELECT their_id, session FROM whatsmeow_sessions WHERE our_jid = ?`,
		reading(func(r *transfer.Session) []any { return []any{&r.Address, &r.Record} })},
	{`SELECT key_id, key, uploaded FROM whatsmeow_pre_keys WHERE jid = ?`,
		reading(func(r *transfer.PreKey) []any { return []any{&r.ID, &r.Private, &r.Uploaded} })},
	// What sqlstore would give the next one.
	{`SELECT coalesce(max(key_id), 0) + 1 FROM whatsmeow_pre_keys WHERE jid = ?`,
		reading(func(r *transfer.PreKeyCount) []any { return []any{&r.Next} })},
	{`SELECT chat_id, sender_id, sender_key FROM whatsmeow_sender_keys WHERE our_jid = ?`,
		reading(func(r *transfer.SenderKey) []any { return []any{&r.Group, &r.Sender, &r.Record} })},
	{`SELECT key_id, key_data, fingerprint, timestamp FROM whatsmeow_app_state_sync_keys WHERE jid = ?`,
		reading(func(r *transfer.SyncKey) []any { return []any{&r.ID, &r.Data, &r.Fingerprint, &r.Timestamp} })},
	{`SELECT name, version, hash FROM whatsmeow_app_state_version WHERE jid = ?`,
		reading(func(r *transfer.Version) []any { return []any{&r.Name, &r.Version, &r.Hash} })},
	{`SELECT name, version, index_mac, value_mac FROM whatsmeow_app_state_mutation_macs WHERE jid = ?`,
		reading(func(r *transfer.MAC) []any { return []any{&r.Name, &r.Version, &r.Index, &r.Value} })},
	{`SELECT their_jid, coalesce(first_name, ''), coalesce(full_name, ''), coalesce(push_name, ''), coalesce(business_name, ''), coalesce(redacted_phone, '')
		FROM whatsmeow_contacts WHERE our_jid = ?`,
		reading(func(r *transfer.Contact) []any {
			return []any{&r.JID, &r.First, &r.Full, &r.Push, &r.Business, &r.Redacted}
		})},
	{`SELECT chat_jid, muted_until, pinned, archived FROM whatsmeow_chat_settings WHERE our_jid = ?`,
		reading(func(r *transfer.ChatSettings) []any { return []any{&r.JID, &r.MutedUntil, &r.Pinned, &r.Archived} })},
	{`SELECT chat_jid, sender_jid, message_id, key FROM whatsmeow_message_secrets WHERE our_jid = ?`,
		reading(func(r *transfer.Secret) []any { return []any{&r.Chat, &r.Sender, &r.ID, &r.Secret} })},
	{`SELECT their_jid, token, timestamp, sender_timestamp FROM whatsmeow_privacy_tokens WHERE our_jid = ?`,
		reading(func(r *transfer.Token) []any { return []any{&r.JID, &r.Token, &r.Time, &r.Sent} })},
	{`SELECT salt FROM whatsmeow_nct_salt WHERE our_jid = ?`,
		reading(func(r *transfer.Salt) []any { return []any{&r.Salt} })},
	{`SELECT ciphertext_hash, plaintext, plaintext IS NULL, server_timestamp, insert_timestamp FROM whatsmeow_event_buffer WHERE our_jid = ?`,
		reading(func(r *transfer.Event) []any {
			return []any{&r.Hash, &r.Plaintext, &r.Handled, &r.ServerTime, &r.Came}
		})},
	{`SELECT chat_jid, message_id, format, plaintext, timestamp FROM whatsmeow_retry_buffer WHERE our_jid = ?`,
		reading(func(r *transfer.Sent) []any { return []any{&r.Chat, &r.ID, &r.Format, &r.Plaintext, &r.At} })},
}

// sharedTables hold what belongs to no device.
var sharedTables = []table{
	{`SELECT lid, pn FROM whatsmeow_lid_map`,
		reading(func(r *transfer.LID) []any { return []any{&r.LID, &r.PN} })},
	{`SELECT key, value FROM notes`,
		reading(func(r *transfer.Note) []any { return []any{&r.Key, &r.Value} })},
	{`SELECT charge FROM charges`,
		reading(func(r *transfer.Charge) []any { return []any{&r.JSON} })},
	{`SELECT message, fate, chat, who, at, why FROM marks`,
		reading(func(r *transfer.Mark) []any { return []any{&r.Message, &r.Fate, &r.Chat, &r.Who, &r.At, &r.Why} })},
	{`SELECT chat, messages FROM heard`,
		reading(func(r *transfer.Heard) []any { return []any{&r.Chat, &r.JSON} })},
}

const (
	turnColumns = `SELECT turns.id, turns.chat, coalesce(lease, ''), ready, attempt, coalesce(reply, ''), coalesce(failure, ''), coalesce(ended, 0), coalesce(tries, ''), came, message
		FROM turns JOIN messages ON messages.turn = turns.id `
	selectEnded   = turnColumns + `WHERE ended IS NOT NULL ORDER BY turns.chat, ended, turns.id, came, seq`
	selectOngoing = turnColumns + `WHERE ended IS NULL ORDER BY turns.chat, turns.id, came, seq`
	selectWaiting = `SELECT chat, came, message FROM messages WHERE turn IS NULL ORDER BY came, seq`
)

// Rows implements transfer.Store. All rows are of one moment.
func (s *Store) Rows(ctx context.Context, each func(transfer.Row) error) error {
	const doing = "read the rows"
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	defer tx.Rollback() // it has changed nothing
	var failed error    // what each returned
	tell := func(r transfer.Row) error {
		if n, ok := r.(transfer.Note); ok && transfer.IsMark(n.Key) {
			return nil
		}
		failed = each(r)
		return failed
	}
	if err := readAll(ctx, tx, tell); err != nil {
		if failed != nil || errors.Is(err, transfer.ErrSeveral) {
			return err
		}
		return s.failed(ctx, doing, err)
	}
	return nil
}

func readAll(ctx context.Context, tx *sql.Tx, tell func(transfer.Row) error) error {
	var device transfer.Device
	n := 0
	err := readTable(ctx, tx, table{selectDevices, reading(deviceColumns)}, func(r transfer.Row) error {
		device = r.(transfer.Device)
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n > 1 {
		return transfer.ErrSeveral
	}
	if n == 1 {
		if err := tell(device); err != nil {
			return err
		}
		for _, t := range deviceTables {
			if err := readTable(ctx, tx, t, tell, device.JID); err != nil {
				return err
			}
		}
	}
	for _, t := range sharedTables {
		if err := readTable(ctx, tx, t, tell); err != nil {
			return err
		}
	}
	for _, query := range []string{selectEnded, selectOngoing} {
		if err := readTurns(ctx, tx, query, tell); err != nil {
			return err
		}
	}
	return readTable(ctx, tx, table{selectWaiting, reading(func(r *transfer.Waiting) []any { return []any{&r.Chat, &r.Came, &r.JSON} })}, tell)
}

func readTable(ctx context.Context, tx *sql.Tx, t table, tell func(transfer.Row) error, args ...any) error {
	rows, err := tx.QueryContext(ctx, t.query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := t.scan(rows)
		if err != nil {
			return err
		}
		if err := tell(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// readTurns gathers turns from rows of a message each.
func readTurns(ctx context.Context, tx *sql.Tx, query string, tell func(transfer.Row) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	var turn transfer.Turn
	var id int64
	for rows.Next() {
		var next transfer.Turn
		var nextID int64
		var m transfer.Message
		if err := rows.Scan(&nextID, &next.Chat, &next.Lease, &next.Ready, &next.Attempt, &next.Reply, &next.Failure, &next.Ended, &next.Tries, &m.Came, &m.JSON); err != nil {
			return err
		}
		if nextID != id {
			if id != 0 {
				if err := tell(turn); err != nil {
					return err
				}
			}
			id, turn = nextID, next
		}
		turn.Messages = append(turn.Messages, m)
	}
	if err := rows.Err(); err != nil || id == 0 {
		return err
	}
	return tell(turn)
}

// PutRows implements transfer.Store, in one transaction.
func (s *Store) PutRows(ctx context.Context, rows []transfer.Row) error {
	return s.transaction(ctx, "put rows", func(tx transaction) error {
		var jid sql.Null[string]
		if err := tx.tx.QueryRowContext(ctx, `SELECT max(jid) FROM whatsmeow_device`).Scan(&jid); err != nil {
			return err
		}
		for _, r := range rows {
			if d, ok := r.(transfer.Device); ok {
				jid.V = d.JID
			}
			if err := tx.put(jid.V, r); err != nil {
				return fmt.Errorf("%s: %w", r.Kind(), err)
			}
		}
		return nil
	})
}

// filled is b, never NULL.
func filled(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func orNull(text string) sql.Null[string] { return sql.Null[string]{V: text, Valid: text != ""} }

func (t transaction) put(device string, r transfer.Row) error {
	insert := func(query string, args ...any) error {
		_, err := t.tx.ExecContext(t.ctx, query, args...)
		return err
	}
	switch r := r.(type) {
	case transfer.Device:
		return insert(`INSERT INTO whatsmeow_device (jid, lid, facebook_uuid, registration_id, noise_key, identity_key,
				signed_pre_key, signed_pre_key_id, signed_pre_key_sig, adv_key, adv_details, adv_account_sig, adv_account_sig_key, adv_device_sig,
				platform, business_name, push_name, lid_migration_ts, companion_meta_nonce)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			r.JID, orNull(r.LID), orNull(r.FacebookUUID), r.RegistrationID, r.NoiseKey, r.IdentityKey,
			r.SignedPreKey, r.SignedPreKeyID, r.SignedPreKeySignature, filled(r.AdvKey), filled(r.AdvDetails), r.AccountSignature, r.AccountSignatureKey, r.DeviceSignature,
			r.Platform, r.BusinessName, r.PushName, r.LIDMigrationTimestamp, r.CompanionMetaNonce)
	case transfer.Identity:
		return insert(`INSERT INTO whatsmeow_identity_keys (our_jid, their_id, identity) VALUES (?, ?, ?)`, device, r.Address, r.Key)
	case transfer.Session:
		return insert(`INSERT INTO whatsmeow_sessions (our_jid, their_id, session) VALUES (?, ?, ?)`, device, r.Address, r.Record)
	case transfer.PreKey:
		return insert(`INSERT INTO whatsmeow_pre_keys (jid, key_id, key, uploaded) VALUES (?, ?, ?, ?)`, device, r.ID, r.Private, r.Uploaded)
	case transfer.PreKeyCount:
		return nil // it follows from the pre-keys
	case transfer.SenderKey:
		return insert(`INSERT INTO whatsmeow_sender_keys (our_jid, chat_id, sender_id, sender_key) VALUES (?, ?, ?, ?)`, device, r.Group, r.Sender, filled(r.Record))
	case transfer.SyncKey:
		return insert(`INSERT INTO whatsmeow_app_state_sync_keys (jid, key_id, key_data, fingerprint, timestamp) VALUES (?, ?, ?, ?, ?)`,
			device, r.ID, filled(r.Data), filled(r.Fingerprint), r.Timestamp)
	case transfer.Version:
		return insert(`INSERT INTO whatsmeow_app_state_version (jid, name, version, hash) VALUES (?, ?, ?, ?)`, device, r.Name, r.Version, r.Hash)
	case transfer.MAC:
		return insert(`INSERT INTO whatsmeow_app_state_mutation_macs (jid, name, version, index_mac, value_mac) VALUES (?, ?, ?, ?, ?)`,
			device, r.Name, r.Version, r.Index, r.Value)
	case transfer.Contact:
		return insert(`INSERT INTO whatsmeow_contacts (our_jid, their_jid, first_name, full_name, push_name, business_name, redacted_phone) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			device, r.JID, orNull(r.First), orNull(r.Full), orNull(r.Push), orNull(r.Business), orNull(r.Redacted))
	case transfer.ChatSettings:
		return insert(`INSERT INTO whatsmeow_chat_settings (our_jid, chat_jid, muted_until, pinned, archived) VALUES (?, ?, ?, ?, ?)`,
			device, r.JID, r.MutedUntil, r.Pinned, r.Archived)
	case transfer.Secret:
		return insert(`INSERT INTO whatsmeow_message_secrets (our_jid, chat_jid, sender_jid, message_id, key) VALUES (?, ?, ?, ?, ?)`,
			device, r.Chat, r.Sender, r.ID, filled(r.Secret))
	case transfer.Token:
		return insert(`INSERT INTO whatsmeow_privacy_tokens (our_jid, their_jid, token, timestamp, sender_timestamp) VALUES (?, ?, ?, ?, ?)`,
			device, r.JID, filled(r.Token), r.Time, r.Sent)
	case transfer.Salt:
		return insert(`INSERT INTO whatsmeow_nct_salt (our_jid, salt) VALUES (?, ?)`, device, filled(r.Salt))
	case transfer.Event:
		text := filled(r.Plaintext)
		if r.Handled {
			text = nil
		}
		return insert(`INSERT INTO whatsmeow_event_buffer (our_jid, ciphertext_hash, plaintext, server_timestamp, insert_timestamp) VALUES (?, ?, ?, ?, ?)`,
			device, r.Hash, text, r.ServerTime, r.Came)
	case transfer.Sent:
		return insert(`INSERT INTO whatsmeow_retry_buffer (our_jid, chat_jid, message_id, format, plaintext, timestamp) VALUES (?, ?, ?, ?, ?, ?)`,
			device, r.Chat, r.ID, r.Format, filled(r.Plaintext), r.At)
	case transfer.LID:
		return insert(`INSERT INTO whatsmeow_lid_map (lid, pn) VALUES (?, ?)`, r.LID, r.PN)
	case transfer.Note:
		return insert(`INSERT INTO notes (key, value) VALUES (?, ?)`, r.Key, filled(r.Value))
	case transfer.Charge:
		c, err := r.Read()
		if err != nil {
			return err
		}
		return t.charge([]chat.Charge{c})
	case transfer.Mark:
		return t.exec(putMark, r.Message, r.Fate, r.Chat, r.Who, r.At, r.Why)
	case transfer.Heard:
		all, err := r.Read()
		if err != nil {
			return err
		}
		return t.setHeard(r.Chat, all)
	case transfer.Turn:
		return t.putTurn(r)
	case transfer.Waiting:
		if err := t.putMessage(r.Chat, r.Message, sql.Null[int64]{}); err != nil {
			return err
		}
		return t.settle(r.Chat)
	}
	return errors.New("the file store does not know this kind")
}

func (t transaction) putTurn(r transfer.Turn) error {
	var since int64
	for i, m := range r.Messages {
		if i == 0 || m.Came < since {
			since = m.Came
		}
	}
	var id int64
	err := t.tx.QueryRowContext(t.ctx, `INSERT INTO turns (chat, lease, ready, since, attempt, reply, ended, failure, tries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id`,
		r.Chat, orNull(r.Lease), r.Ready, since, r.Attempt, orNull(r.Reply), sql.Null[int64]{V: r.Ended, Valid: r.Ended != 0}, orNull(r.Failure), orNull(r.Tries)).Scan(&id)
	if err != nil {
		return err
	}
	for _, m := range r.Messages {
		if err := t.putMessage(r.Chat, m, sql.Null[int64]{V: id, Valid: true}); err != nil {
			return err
		}
	}
	if r.Ended != 0 {
		return nil
	}
	return t.settle(r.Chat)
}

// putMessage stores a message of a chat, whose address may be another than when it came: then the
// other person's address has changed with it.
func (t transaction) putMessage(jid string, m transfer.Message, turn sql.Null[int64]) error {
	came, err := m.Read()
	if err != nil {
		return err
	}
	sender := came.Sender
	if sender == came.Chat {
		sender = jid
	}
	_, err = t.tx.ExecContext(t.ctx, `INSERT INTO messages (chat, sender, id, came, turn, message) VALUES (?, ?, ?, ?, ?, ?)`,
		jid, sender, came.ID, m.Came, turn, m.JSON)
	return err
}

// Clear implements transfer.Store, in one transaction.
func (s *Store) Clear(ctx context.Context) error {
	return s.transaction(ctx, "delete everything", func(tx transaction) error {
		for _, query := range []string{
			`DELETE FROM whatsmeow_device`, // and what belongs to it, but for the tokens
			`DELETE FROM whatsmeow_privacy_tokens`, `DELETE FROM whatsmeow_lid_map`,
			`DELETE FROM messages`, `DELETE FROM turns`, `DELETE FROM chats`, `DELETE FROM heard`, `DELETE FROM charges`, `DELETE FROM marks`, `DELETE FROM secrets_seen`,
		} {
			if _, err := tx.tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		rows, err := tx.tx.QueryContext(ctx, `SELECT key FROM notes`)
		if err != nil {
			return err
		}
		defer rows.Close()
		var keys []string
		for rows.Next() {
			var key string
			if err := rows.Scan(&key); err != nil {
				return err
			}
			if !transfer.IsMark(key) {
				keys = append(keys, key)
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, key := range keys {
			if err := tx.exec(deleteNote, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetRatchets implements transfer.Ratchets, in one transaction.
func (s *Store) ForgetRatchets(ctx context.Context, skip int64) error {
	return s.transaction(ctx, "forget the Signal sessions", func(tx transaction) error {
		for _, query := range []string{`DELETE FROM whatsmeow_sessions`, `DELETE FROM whatsmeow_sender_keys`} {
			if _, err := tx.tx.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		// sqlstore numbers pre-keys on from the highest that is there, so there is one more.
		_, err := tx.tx.ExecContext(ctx, `INSERT INTO whatsmeow_pre_keys (jid, key_id, key, uploaded)
			SELECT jid, coalesce((SELECT max(key_id) FROM whatsmeow_pre_keys WHERE jid = d.jid), 0) + ?, ?, false FROM whatsmeow_device AS d`,
			skip, keys.NewKeyPair().Priv[:])
		return err
	})
}

// Problems reads the whole file and returns what is wrong with it, one sentence for each.
func (s *Store) Problems(ctx context.Context) (all []string, err error) {
	for query, sentence := range map[string]string{
		`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`:                   "the database file is damaged: %s",
		`SELECT "table" || ' row ' || coalesce(rowid, '') || ' of ' || parent FROM pragma_foreign_key_check`: "a row has lost what it belongs to: %s",
	} {
		rows, err := s.reader.QueryContext(ctx, query)
		if err != nil {
			return nil, s.failed(ctx, "check the database", err)
		}
		defer rows.Close()
		for rows.Next() {
			var found string
			if err := rows.Scan(&found); err != nil {
				return nil, s.failed(ctx, "check the database", err)
			}
			all = append(all, fmt.Sprintf(sentence, found))
		}
		if err := rows.Err(); err != nil {
			return nil, s.failed(ctx, "check the database", err)
		}
	}
	return all, nil
}

// Peek looks whether the file store in dir holds a device, and what the note under key says; nil where
// there is none. It changes nothing: the store need not be there, and another process may have it open.
func Peek(ctx context.Context, dir, key string) (device bool, note []byte, err error) {
	path, err := Find(dir)
	if errors.Is(err, ErrNone) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	db, err := open(path, nil, 1)
	if err != nil {
		return false, nil, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM whatsmeow_device), (SELECT value FROM notes WHERE key = ?)`, key).Scan(&device, &note)
	if err != nil {
		return false, nil, fmt.Errorf("look into %s: %w", path, err)
	}
	return device, note, nil
}
