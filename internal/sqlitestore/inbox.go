package sqlitestore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"wabot/internal/chat"
	"wabot/internal/device"
	"wabot/internal/inbox"
)

var _ inbox.Store = (*Store)(nil)

// The queries. Each finds its rows by an index, so that a call costs the same however long
// the history is; a test asks SQLite for its plans.
const (
	selectNote = `SELECT value FROM notes WHERE key = ?`
	putNote    = `INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`
	deleteNote = `DELETE FROM notes WHERE key = ?`

	selectSeen    = `SELECT EXISTS (SELECT 1 FROM messages WHERE chat = ?1 AND id = ?2 AND sender IN (?3, ?4)), EXISTS (SELECT 1 FROM messages WHERE chat = ?5)`
	insertMessage = `INSERT INTO messages (chat, sender, id, came, message) VALUES (?, ?, ?, ?, ?)`

	// In a direct chat the other's address is the chat's, and changes with it.
	moveMessages = `UPDATE messages SET chat = ?1, sender = CASE sender WHEN ?2 THEN ?1 ELSE sender END WHERE chat = ?2`
	moveTurns    = `UPDATE turns SET chat = ?1 WHERE chat = ?2`
	// The same message may have come under both addresses before they were known to be one.
	dropRepeated = `DELETE FROM messages INDEXED BY messages_waiting WHERE chat = ?1 AND turn IS NULL AND EXISTS (
		SELECT 1 FROM messages AS other
		WHERE other.chat = messages.chat AND other.id = messages.id AND other.sender = messages.sender
		AND (other.turn IS NOT NULL OR other.seq < messages.seq))`

	endRetries = `UPDATE chats SET ready = 0 WHERE ready > 0 AND ready <= ?`
	selectNext = `SELECT chat FROM chats WHERE ready = 0 ORDER BY since LIMIT 1`
	// One with a reply first: its messages are set.
	selectOpen = `SELECT id, attempt, reply, tries FROM turns WHERE chat = ? AND ended IS NULL ORDER BY reply IS NULL, id`
	insertTurn = `INSERT INTO turns (chat, lease, ready, since, attempt)
		VALUES (?1, ?2, ?3, (SELECT min(came) FROM messages INDEXED BY messages_waiting WHERE chat = ?1 AND turn IS NULL), 1) RETURNING id`
	foldTurn     = `UPDATE messages SET turn = ?1 WHERE turn = ?2`
	deleteTurn   = `DELETE FROM turns WHERE id = ?`
	takeWaiting  = `UPDATE messages INDEXED BY messages_waiting SET turn = ?2 WHERE chat = ?1 AND turn IS NULL`
	leaseTurn    = `UPDATE turns SET lease = ?2, ready = ?3, attempt = ?4, since = (SELECT min(came) FROM messages WHERE turn = ?1) WHERE id = ?1`
	leaseChat    = `UPDATE chats SET ready = ?2 WHERE chat = ?1`
	selectOfTurn = `SELECT message FROM messages WHERE turn = ? ORDER BY came, seq`

	saveReply  = `UPDATE turns SET reply = ?2 WHERE lease = ?1 RETURNING chat`
	finishTurn = `UPDATE turns SET lease = NULL, reply = ?2, ended = ?3, tries = ?4 WHERE lease = ?1 RETURNING chat`
	retryTurn  = `UPDATE turns SET lease = NULL, ready = ?2, attempt = ?3, tries = ?4 WHERE lease = ?1 RETURNING chat`
	failTurn   = `UPDATE turns SET lease = NULL, failure = ?2, ended = ?3, tries = ?4 WHERE lease = ?1 RETURNING chat`

	selectLeased   = `SELECT chat FROM turns WHERE ended IS NULL AND lease IS NOT NULL`
	forgetMessages = `DELETE FROM messages`
	forgetTurns    = `DELETE FROM turns`
	forgetChats    = `DELETE FROM chats`
	forgetHeard    = `DELETE FROM heard`
	forgetCharges  = `DELETE FROM charges`
	forgetMarks    = `DELETE FROM marks`
	// '0' comes after '/'.
	forgetNotes = `DELETE FROM notes WHERE key >= 'chat/' AND key < 'chat0'`

	selectHeard = `SELECT messages FROM heard WHERE chat = ?`
	putHeard    = `INSERT INTO heard (chat, messages, oldest) VALUES (?, ?, ?) ON CONFLICT (chat) DO UPDATE SET messages = excluded.messages, oldest = excluded.oldest`
	deleteHeard = `DELETE FROM heard WHERE chat = ?`
	deleteSent  = `DELETE FROM whatsmeow_retry_buffer WHERE our_jid IN (SELECT jid FROM whatsmeow_device) AND chat_jid = ?`

	releaseLeases = `UPDATE turns SET lease = NULL, ready = 0 WHERE ended IS NULL AND lease IS NOT NULL`

	selectNewest = `SELECT seq, message FROM messages INDEXED BY messages_waiting WHERE chat = ? AND turn IS NULL ORDER BY came DESC, seq DESC LIMIT 1`
	selectSince  = `SELECT (SELECT min(came) FROM messages INDEXED BY messages_waiting WHERE chat = ?1 AND turn IS NULL), min(since), max(ready)
		FROM turns WHERE chat = ?1 AND ended IS NULL`
	putChat = `INSERT INTO chats (chat, since, ready) VALUES (?, ?, ?)
		ON CONFLICT (chat) DO UPDATE SET since = excluded.since, ready = excluded.ready`
	deleteChat = `DELETE FROM chats WHERE chat = ?`

	selectTurnOf = `SELECT seq, chat, turn FROM messages WHERE chat IN (?1, ?2) AND id = ?3 AND sender IN (?4, ?5) LIMIT 1`
	selectOne    = `SELECT message FROM messages WHERE seq = ?`
	selectReply  = `SELECT reply FROM turns WHERE id = ?`
	amendMessage = `UPDATE messages SET message = ?2 WHERE seq = ?1`
	amendReply   = `UPDATE turns SET reply = ?2 WHERE id = ?1 AND ended IS NOT NULL`

	selectReady = `SELECT min(ready) FROM chats`
	// In one query, as each costs more than what it reads. Messages are kept as JSON: so many between commas are an array.
	selectHistory = `SELECT reply, (SELECT '[' || group_concat(message, ',' ORDER BY came, seq) || ']' FROM messages WHERE turn = turns.id)
		FROM turns WHERE chat = ? AND ended IS NOT NULL ORDER BY ended DESC, id DESC LIMIT ?`
	selectDepth = `SELECT (SELECT count(*) FROM messages WHERE turn IS NULL)
		+ (SELECT count(*) FROM turns JOIN messages ON messages.turn = turns.id WHERE turns.ended IS NULL)`
	selectOldest = `SELECT min(since) FROM chats`
)

var (
	writes = []string{
		putNote, deleteNote,
		selectSeen, insertMessage, moveMessages, moveTurns, dropRepeated,
		endRetries, selectNext, selectOpen, insertTurn, foldTurn, deleteTurn, takeWaiting, leaseTurn, leaseChat, selectOfTurn,
		saveReply, finishTurn, retryTurn, failTurn, selectLeased, releaseLeases, forgetMessages, forgetTurns, forgetChats, forgetHeard, forgetNotes, forgetCharges, forgetMarks, putHeard, deleteHeard, deleteSent,
		selectNewest, selectSince, putChat, deleteChat,
		selectTurnOf, selectOne, selectReply, amendMessage, amendReply,
		putCharge, dropCharges, putMark, selectStale, dropMessages, dropTurn, dropMarks, lastSecret, putSecretsSeen, selectSecretsSeen, dropSecrets, dropSecretsSeen, lastSecretSeen, forgetSecretsSeen,
	}
	reads = append([]string{
		selectNote, selectHeard, selectOfTurn, selectReady, selectHistory, selectDepth, selectOldest,
		selectCharges, selectOldHeard,
	}, trailReads...)
	trailReads = []string{selectMarks, selectWithID, selectLatest, selectTrailTurn, selectFate}
)

// Put implements inbox.Store.
func (s *Store) Put(ctx context.Context, m chat.Message, now time.Time) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("put a message: %w", err)
	}
	return s.transaction(ctx, "put a message", func(tx transaction) error {
		var seen, apart bool // apart: something is stored under the other address
		look := func() error {
			return tx.row(selectSeen, m.Chat, m.ID, m.Sender, m.SenderAlt, m.ChatAlt).Scan(&seen, &apart)
		}
		if err := look(); err != nil {
			return err
		}
		if apart && m.ChatAlt != m.Chat {
			if err := tx.merge(m.ChatAlt, m.Chat); err != nil {
				return err
			}
			if err := look(); err != nil {
				return err
			}
		}
		if seen {
			return nil
		}
		if err := tx.exec(insertMessage, m.Chat, m.Sender, m.ID, now.UnixNano(), string(text)); err != nil {
			return err
		}
		return tx.settle(m.Chat)
	})
}

// merge moves all that is stored under the address from to the address to. A turn that is being
// answered moves too, and is found by its lease.
func (t transaction) merge(from, to string) error {
	if err := t.exec(moveMessages, to, from); err != nil {
		return err
	}
	if err := t.exec(moveTurns, to, from); err != nil {
		return err
	}
	if err := t.exec(dropRepeated, to); err != nil {
		return err
	}
	if err := t.exec(deleteChat, from); err != nil {
		return err
	}
	return t.settle(to)
}

// settle makes the chat's row in chats say what its messages and turns say.
func (t transaction) settle(jid string) error {
	var waiting, since, ready sql.Null[int64]
	if err := t.row(selectSince, jid).Scan(&waiting, &since, &ready); err != nil {
		return err
	}
	switch {
	case !waiting.Valid && !since.Valid:
		return t.exec(deleteChat, jid)
	case !since.Valid:
		since = waiting
	case waiting.Valid:
		since.V = min(since.V, waiting.V)
	}
	if waiting.Valid {
		held, err := t.held(jid, time.Unix(0, waiting.V))
		if err != nil {
			return err
		}
		ready.V = max(ready.V, held)
	}
	return t.exec(putChat, jid, since.V, ready.V)
}

// held is until when the chat is held whose first waiting message came in at first, or 0.
func (t transaction) held(jid string, first time.Time) (int64, error) {
	_, newest, err := t.newest(jid)
	if err != nil {
		return 0, err
	}
	if held := inbox.Held(newest, first); !held.IsZero() {
		return held.UnixNano(), nil
	}
	return 0, nil
}

// newest is the message that came last of those that wait in a chat, and its row.
func (t transaction) newest(jid string) (seq int64, m chat.Message, err error) {
	var text []byte
	if err := t.row(selectNewest, jid).Scan(&seq, &text); err != nil {
		return 0, m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return 0, m, fmt.Errorf("read a message: %w", err)
	}
	return seq, m, nil
}

// Extend implements inbox.Store.
func (s *Store) Extend(ctx context.Context, chatJID string, who []string, until time.Time) (done bool, err error) {
	err = s.transaction(ctx, "hold a chat", func(tx transaction) error {
		done = false
		seq, newest, err := tx.newest(chatJID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		m, ok := inbox.Extended(newest, who, until)
		if !ok {
			return nil
		}
		text, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("write a message: %w", err)
		}
		if err := tx.exec(amendMessage, seq, string(text)); err != nil {
			return err
		}
		done = true
		return tx.settle(chatJID)
	})
	return done && err == nil, err
}

// Claim implements inbox.Store.
func (s *Store) Claim(ctx context.Context, now, until time.Time) (chat.Turn, error) {
	var t chat.Turn
	err := s.transaction(device.Defer(ctx), "claim a turn", func(tx transaction) error {
		t = chat.Turn{Lease: rand.Text(), Until: until}
		if err := tx.exec(endRetries, now.UnixNano()); err != nil {
			return err
		}
		if err := tx.row(selectNext).Scan(&t.Chat); err != nil {
			return err
		}
		id, err := tx.open(&t)
		if err != nil {
			return err
		}
		if err := tx.exec(leaseChat, t.Chat, until.UnixNano()); err != nil {
			return err
		}
		rows, err := tx.rows(selectOfTurn, id)
		if err != nil {
			return err
		}
		t.Messages, err = messages(rows, t.Chat)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return chat.Turn{}, inbox.ErrEmpty
	}
	if err != nil {
		return chat.Turn{}, err
	}
	return t, nil
}

// open finds or starts the turn to answer next in turn.Chat, leases it and gathers its messages, and sets the
// attempt and the reply in turn.
func (t transaction) open(turn *chat.Turn) (id int64, err error) {
	type row struct {
		id      int64
		attempt int
		reply   sql.Null[string]
		tries   sql.Null[string]
	}
	var all []row
	rows, err := t.rows(selectOpen, turn.Chat)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.attempt, &r.reply, &r.tries); err != nil {
			return 0, err
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if len(all) == 0 {
		turn.Attempt = 1
		if err := t.row(insertTurn, turn.Chat, turn.Lease, turn.Until.UnixNano()).Scan(&id); err != nil {
			return 0, err
		}
		return id, t.exec(takeWaiting, turn.Chat, id)
	}
	first := all[0]
	turn.Attempt = first.attempt + 1
	if turn.Tries, err = tries(first.tries); err != nil {
		return 0, err
	}
	if first.reply.Valid {
		turn.Reply = new(chat.Reply)
		if err := json.Unmarshal([]byte(first.reply.V), turn.Reply); err != nil {
			return 0, fmt.Errorf("read a reply: %w", err)
		}
		return first.id, t.lease(first.id, turn)
	}
	// More than one is left only where two chats have become one.
	for _, r := range all[1:] {
		turn.Attempt = max(turn.Attempt, r.attempt+1)
		if err := t.exec(foldTurn, first.id, r.id); err != nil {
			return 0, err
		}
		if err := t.exec(deleteTurn, r.id); err != nil {
			return 0, err
		}
	}
	if err := t.exec(takeWaiting, turn.Chat, first.id); err != nil {
		return 0, err
	}
	return first.id, t.lease(first.id, turn)
}

// lease gives a turn that is there, with its messages, to its next attempt.
func (t transaction) lease(id int64, turn *chat.Turn) error {
	return t.exec(leaseTurn, id, turn.Lease, turn.Until.UnixNano(), turn.Attempt)
}

// tries reads the attempts at a turn.
func tries(text sql.Null[string]) (all []chat.Try, err error) {
	if text.Valid {
		if err := json.Unmarshal([]byte(text.V), &all); err != nil {
			return nil, fmt.Errorf("read the attempts: %w", err)
		}
	}
	return all, nil
}

// triesText is what tries reads.
func triesText(all []chat.Try) sql.Null[string] {
	if len(all) == 0 {
		return sql.Null[string]{}
	}
	text, _ := json.Marshal(all) // times and texts always can be written
	return sql.Null[string]{V: string(text), Valid: true}
}

// messages reads the messages of a turn and closes rows.
func messages(rows *sql.Rows, jid string) ([]chat.Message, error) {
	defer rows.Close()
	var all []chat.Message
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		var m chat.Message
		if err := json.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
		all = append(all, m)
	}
	readdress(all, jid)
	return all, rows.Err()
}

// readdress gives messages that came before their chat got the address jid this address.
func readdress(all []chat.Message, jid string) {
	for i := range all {
		if m := &all[i]; m.Chat != jid {
			m.Chat, m.ChatAlt = jid, m.Chat
		}
	}
}

// Next implements inbox.Store.
func (s *Store) Next(ctx context.Context) (time.Time, error) {
	var ready sql.Null[int64]
	ctx, err := steady(ctx)
	if err == nil {
		err = s.read[selectReady].QueryRowContext(ctx).Scan(&ready)
	}
	if err != nil {
		return time.Time{}, s.failed(ctx, "find the next turn", err)
	}
	if !ready.Valid {
		return time.Time{}, nil
	}
	return time.Unix(0, ready.V), nil
}

// History implements inbox.Store.
func (s *Store) History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error) {
	all, err := s.history(ctx, chatJID, n)
	if err != nil {
		return nil, s.failed(ctx, "read the history", err)
	}
	return all, nil
}

func (s *Store) history(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error) {
	ctx, err := steady(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.read[selectHistory].QueryContext(ctx, chatJID, max(n, 0))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []chat.Exchange
	for rows.Next() {
		var reply, messages sql.RawBytes
		if err := rows.Scan(&reply, &messages); err != nil {
			return nil, err
		}
		var x chat.Exchange
		if reply != nil {
			x.Reply = new(chat.Reply)
			if err := json.Unmarshal(reply, x.Reply); err != nil {
				return nil, fmt.Errorf("read a reply: %w", err)
			}
		}
		if messages != nil {
			if err := json.Unmarshal(messages, &x.Messages); err != nil {
				return nil, fmt.Errorf("read the messages of a turn: %w", err)
			}
			readdress(x.Messages, chatJID)
		}
		all = append(all, x)
	}
	slices.Reverse(all)
	return all, rows.Err()
}

// SaveReply implements inbox.Store.
func (s *Store) SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save a reply: %w", err)
	}
	return s.transaction(device.Defer(ctx), "save a reply", func(tx transaction) error {
		if _, err := tx.leased(saveReply, t.Lease, string(text)); err != nil {
			return err
		}
		return tx.charge(r.Charges)
	})
}

// Finish implements inbox.Store.
func (s *Store) Finish(ctx context.Context, t chat.Turn, now time.Time) error {
	var reply sql.Null[string]
	if t.Reply != nil {
		text, err := json.Marshal(t.Reply)
		if err != nil {
			return fmt.Errorf("finish a turn: %w", err)
		}
		reply = sql.Null[string]{V: string(text), Valid: true}
	}
	return s.end(device.Defer(ctx), "finish a turn", finishTurn, t.Lease, reply, now.UnixNano(), triesText(t.Tries))
}

// Retry implements inbox.Store.
func (s *Store) Retry(ctx context.Context, t chat.Turn, at time.Time) error {
	return s.end(ctx, "put a turn off", retryTurn, t.Lease, at.UnixNano(), t.Attempt, triesText(t.Tries))
}

// Fail implements inbox.Store.
func (s *Store) Fail(ctx context.Context, t chat.Turn, now time.Time, reason string) error {
	return s.end(ctx, "give a turn up", failTurn, t.Lease, reason, now.UnixNano(), triesText(t.Tries))
}

// end ends the lease that is the query's first argument.
func (s *Store) end(ctx context.Context, doing, query string, args ...any) error {
	return s.transaction(ctx, doing, func(tx transaction) error {
		jid, err := tx.leased(query, args...)
		if err != nil {
			return err
		}
		return tx.settle(jid)
	})
}

// leased runs a query on the turn of a lease and returns the turn's chat, which since the claim
// may have got another address.
func (t transaction) leased(query string, args ...any) (jid string, err error) {
	err = t.row(query, args...).Scan(&jid)
	if errors.Is(err, sql.ErrNoRows) {
		return "", inbox.ErrLeaseLost
	}
	return jid, err
}

// Release implements inbox.Store.
func (s *Store) Release(ctx context.Context) error {
	return s.transaction(ctx, "release the leases", func(tx transaction) error {
		rows, err := tx.rows(selectLeased)
		if err != nil {
			return err
		}
		defer rows.Close()
		var chats []string
		for rows.Next() {
			var jid string
			if err := rows.Scan(&jid); err != nil {
				return err
			}
			chats = append(chats, jid)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		if err := tx.exec(releaseLeases); err != nil {
			return err
		}
		for _, jid := range chats {
			if err := tx.settle(jid); err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget implements inbox.Store.
func (s *Store) Forget(ctx context.Context) error {
	return s.transaction(ctx, "forget all messages", func(tx transaction) error {
		for _, query := range []string{forgetMessages, forgetTurns, forgetChats, forgetHeard, forgetNotes, forgetCharges, forgetMarks} {
			if err := tx.exec(query); err != nil {
				return err
			}
		}
		return nil
	})
}

// Depth implements inbox.Store.
func (s *Store) Depth(ctx context.Context) (int, error) {
	var n int
	if err := s.read[selectDepth].QueryRowContext(ctx).Scan(&n); err != nil {
		return 0, s.failed(ctx, "count what waits", err)
	}
	return n, nil
}

// Oldest implements inbox.Store.
func (s *Store) Oldest(ctx context.Context) (time.Time, error) {
	var since sql.Null[int64]
	if err := s.read[selectOldest].QueryRowContext(ctx).Scan(&since); err != nil {
		return time.Time{}, s.failed(ctx, "look what waits longest", err)
	}
	if !since.Valid {
		return time.Time{}, nil
	}
	return time.Unix(0, since.V), nil
}
