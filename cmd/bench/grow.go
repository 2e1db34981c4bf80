package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver
)

const (
	// few is the history that the growing one is held against.
	few = 1000
	// perChat is how many messages a chat of the history has; so many contacts are known.
	perChat  = 100
	contacts = 10_000
)

// grow measures the file store with few messages and with many.
func grow(ctx context.Context, w *world, l load, many int, bounds bounds, out io.Writer) error {
	with := func(name string, n int) *peer {
		p := w.wabot(name)
		p.prepare = func(dir string) error { return fill(ctx, filepath.Join(dir, "session", "wabot.db"), n) }
		return p
	}
	small, large := with("small", few), with("large", many)
	if err := bounds.fit([]*peer{small, large}); err != nil {
		return err
	}
	results, err := w.measure(ctx, []*peer{small, large}, l, io.Discard)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d rounds; %d messages in one chat, %d in each of %d chats; the file store with %d messages, and with %d and %d contacts\n\n",
		l.rounds, l.messages, l.each, l.chats, few, many, contacts)
	fmt.Fprintln(out, "| | few | many | many to few, in the same round |\n| --- | --- | --- | --- |")
	for _, f := range figures {
		a, b := spreadOf(results[small], f.of), spreadOf(results[large], f.of)
		if a.most == 0 {
			continue
		}
		fmt.Fprintf(out, "| %s | %s (%s to %s) | %s (%s to %s) | %.2f× |\n", f.name,
			f.show(a.median), number(f.show(a.least)), number(f.show(a.most)),
			f.show(b.median), number(f.show(b.least)), number(f.show(b.most)), ratio(results[large], results[small], f.of))
	}
	return bounds.check(results)
}

// fill gives a file store a history of n answered messages, a hundred to a chat, and the contacts, as years of use leave them.
func fill(ctx context.Context, path string, n int) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(0)")
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	// Turns are numbered from the last on, so that a message finds its own.
	var last int64
	if err := tx.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM turns`).Scan(&last); err != nil {
		return err
	}
	begin := time.Now().Add(-80 * 24 * time.Hour).UnixNano()
	const step = int64(time.Second)
	const series = `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1) `
	if _, err := tx.ExecContext(ctx, series+`
		INSERT INTO turns (id, chat, ready, since, attempt, reply, ended)
		SELECT ?2 + 1 + i, printf('%015d@lid', i / ?5), 0, ?3 + i * ?4, 1,
			json_object('parts', json_array(json_object('id', printf('3EB0%018X', i), 'text', 'You said: something of the usual length, as people write it', 'sent', json('true')))),
			?3 + i * ?4 + 1000000
		FROM n`, n, last, begin, step, perChat); err != nil {
		return fmt.Errorf("fill the turns: %w", err)
	}
	if _, err := tx.ExecContext(ctx, series+`
		INSERT INTO messages (chat, sender, id, came, turn, message)
		SELECT printf('%015d@lid', i / ?5), printf('%015d@lid', i / ?5), printf('3A%018X', i), ?3 + i * ?4, ?2 + 1 + i,
			json_object('chat', printf('%015d@lid', i / ?5), 'id', printf('3A%018X', i), 'sender', printf('%015d@lid', i / ?5), 'name', 'Somebody',
				'time', strftime('%Y-%m-%dT%H:%M:%SZ', (?3 + i * ?4) / 1000000000, 'unixepoch'), 'text', 'something of the usual length, as people write it', 'kind', 'text')
		FROM n`, n, last, begin, step, perChat); err != nil {
		return fmt.Errorf("fill the messages: %w", err)
	}
	if n <= few {
		return tx.Commit()
	}
	if _, err := tx.ExecContext(ctx, series+`
		INSERT INTO whatsmeow_contacts (our_jid, their_jid, first_name, full_name, push_name, business_name)
		SELECT (SELECT jid FROM whatsmeow_device), printf('%015d@lid', i), 'Some', 'Some Body', 'Somebody', '' FROM n`, contacts); err != nil {
		return fmt.Errorf("fill the contacts: %w", err)
	}
	return tx.Commit()
}
