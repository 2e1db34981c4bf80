package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
)

// steps bring the schema forward; a database has run as many of them as its user_version
// says. A step that has been released is never changed.
//
// Times are nanoseconds since 1970. A message waits while its turn is null, is being answered
// while its turn has not ended, and is history after that. What is searched for has columns; the rest is
// the JSON beside them.
var steps = []string{`
CREATE TABLE messages (
	seq     INTEGER PRIMARY KEY,
	chat    TEXT NOT NULL,
	sender  TEXT NOT NULL,
	id      TEXT NOT NULL,
	came    INTEGER NOT NULL,
	turn    INTEGER REFERENCES turns (id),
	message TEXT NOT NULL
) STRICT;
CREATE INDEX messages_seen ON messages (chat, id, sender);
CREATE INDEX messages_turn ON messages (turn, came);
CREATE INDEX messages_waiting ON messages (chat, came) WHERE turn IS NULL;

-- A turn is leased while it has a lease, until ready; after a retry, ready is when it may go on.
-- since is its oldest message's time.
CREATE TABLE turns (
	id      INTEGER PRIMARY KEY,
	chat    TEXT NOT NULL,
	lease   TEXT,
	ready   INTEGER NOT NULL,
	since   INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	reply   TEXT,
	ended   INTEGER,
	failure TEXT
) STRICT;
CREATE UNIQUE INDEX turns_lease ON turns (lease) WHERE lease IS NOT NULL;
CREATE INDEX turns_chat ON turns (chat, ended);
CREATE INDEX turns_ended ON turns (ended);

-- The chats with something to answer: since when, and from when on they may be claimed
-- (0: now). It follows from the other two tables and is what makes claiming quick.
CREATE TABLE chats (
	chat  TEXT PRIMARY KEY,
	since INTEGER NOT NULL,
	ready INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX chats_ready ON chats (ready, since);

CREATE TABLE notes (
	key   TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
`, `
-- What was said in a group without the bot, as JSON, until it was told to the model.
CREATE TABLE heard (
	chat     TEXT PRIMARY KEY,
	messages TEXT NOT NULL
) STRICT, WITHOUT ROWID;
`, `
-- What calls of models cost, and daily totals (total = 1) of those that are gone. charge is JSON.
CREATE TABLE charges (
	id     TEXT PRIMARY KEY,
	total  INTEGER NOT NULL,
	at     INTEGER NOT NULL,
	charge TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX charges_at ON charges (total, at);

-- What happened to messages outside of their turns.
CREATE TABLE marks (
	message TEXT NOT NULL,
	fate    TEXT NOT NULL,
	chat    TEXT NOT NULL,
	who     TEXT NOT NULL,
	at      INTEGER NOT NULL,
	why     TEXT NOT NULL,
	PRIMARY KEY (message, fate, chat, who)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_at ON marks (fate, at);

CREATE INDEX messages_id ON messages (id);
-- The attempts at a turn that have ended, JSON.
ALTER TABLE turns ADD COLUMN tries TEXT;
-- When the oldest of what was said was said; 0 where that is not known.
ALTER TABLE heard ADD COLUMN oldest INTEGER NOT NULL DEFAULT 0;
CREATE INDEX heard_oldest ON heard (oldest);

-- sqlstore does not keep when a message secret came: which was the last one at which time. rowids only rise.
CREATE TABLE secrets_seen (
	at   INTEGER PRIMARY KEY,
	last INTEGER NOT NULL
) STRICT;
`}

// migrate runs the steps that the database has not seen yet.
func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("upgrade the schema: %w", err)
	}
	defer tx.Rollback() // after the commit it does nothing
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if version > len(steps) {
		return newer(version)
	}
	if version == len(steps) {
		return nil
	}
	for i, step := range steps[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("bring the schema to version %d: %w", version+i+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(steps))); err != nil {
		return fmt.Errorf("note the schema's version: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("upgrade the schema: %w", err)
	}
	return nil
}

// newer says that a newer program has written the database.
func newer(version int) error {
	return fmt.Errorf("the database has schema %d and this wabot knows %d: it was written by a newer version; start that version again", version, len(steps))
}
