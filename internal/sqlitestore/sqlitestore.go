// Package sqlitestore is the file store: one SQLite database that holds the inbox, a few notes
// and, through whatsmeow's own sqlstore, the device with its Signal state.
//
// Everything that writes goes through one connection. SQLite has one writer at a time anyway;
// queueing for it in database/sql instead of in SQLite means that a caller waits for its
// turn, or for the end of its context, and never sees "database is locked". whatsmeow holds
// the connection for the length of a decryption and asks for nothing else meanwhile, so
// waiting for it cannot deadlock. Reads of the inbox have connections of their own and, in WAL
// mode, wait for nobody.
//
// A transaction is on the disk once it returns: a Signal counter that has been used must never be used again, not even
// after a power cut. Some may wait for the disk together, as device.Defer says, and as Claim, SaveReply and Finish do: what comes
// after them on the way to a chat or to WhatsApp's server waits, and with it all before. Each connection reads
// its settings back before anyone gets it, because a misspelt one is ignored silently.
//
// One process at a time owns the directory: the lock is the kernel's and ends with the
// process, however that ends.
package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow/store/sqlstore"
	waLog "go.mau.fi/whatsmeow/util/log"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// File is the name of the database in its directory. SQLite keeps File-wal and File-shm beside it
// while it is open; the three belong together.
const File = "wabot.db"

// Store is an open file store. It implements inbox.Store.
type Store struct {
	path    string
	lock    *os.File
	db      *sql.DB // one connection: all writes, and all that whatsmeow does
	reader  *sql.DB // the inbox's reads
	journal *journal
	devices *sqlstore.Container
	write   map[string]*sql.Stmt
	read    map[string]*sql.Stmt
}

// Open opens the store in dir, which it makes where it is missing, and brings the schema
// up to date. It fails with a *LockedError while another process has the store open. It
// never replaces a database that it cannot read.
func Open(ctx context.Context, dir string, log *slog.Logger) (_ *Store, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the session directory: %w", err)
	}
	if err := prepareDir(dir, log); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, File)
	s := &Store{path: path, journal: newJournal(path + "-wal")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.lock, err = lock(dir); err != nil {
		return nil, err
	}
	if err := prepareFile(s.path); err != nil {
		return nil, err
	}
	if s.db, err = open(s.path, s.journal, 1); err != nil {
		return nil, err
	}
	// What a crash left in the log is taken in, which no reader may. After a disk has refused it the kernel may give it as if it were
	// kept; from here it is written to the database anew, and waited for. What a tool that looks into the file meanwhile needs of it
	// stays in the log.
	var busy, left, taken int
	if err := s.db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &left, &taken); err != nil {
		return nil, s.explain(fmt.Errorf("open the database: %w", err))
	}
	if s.reader, err = open(s.path, nil, 4); err != nil {
		return nil, err
	}
	if err := s.check(ctx); err != nil {
		return nil, s.explain(err)
	}
	if err := migrate(ctx, s.db); err != nil {
		return nil, s.explain(err)
	}
	s.devices = sqlstore.NewWithDB(s.db, "sqlite", waLog.Noop)
	if err := s.devices.Upgrade(ctx); err != nil {
		if errors.Is(err, dbutil.ErrUnsupportedDatabaseVersion) {
			return nil, fmt.Errorf("%s was written by a newer version of wabot; start that version again (%w)", s.path, err)
		}
		return nil, s.explain(fmt.Errorf("upgrade the device tables: %w", err))
	}
	if s.write, err = prepare(ctx, s.db, writes); err != nil {
		return nil, s.explain(err)
	}
	if s.read, err = prepare(ctx, s.reader, reads); err != nil {
		return nil, s.explain(err)
	}
	return s, nil
}

// Devices is the store of the device, its keys and sessions.
func (s *Store) Devices() *sqlstore.Container { return s.devices }

// PreKeys counts the one-time pre-keys that WhatsApp was given and nobody has used.
func (s *Store) PreKeys(ctx context.Context) (n int, err error) {
	if err := s.reader.QueryRowContext(ctx, `SELECT count(*) FROM whatsmeow_pre_keys WHERE uploaded`).Scan(&n); err != nil {
		return 0, s.failed(ctx, "count the pre-keys", err)
	}
	return n, nil
}

// Close writes everything into the one file and lets the next process in. Nothing may use
// the store any more.
func (s *Store) Close() error {
	if err := s.close(); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}

func (s *Store) close() error {
	var errs []error
	// Readers first: the last connection of all folds the log into the database and
	// removes it, and only the writer may.
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close(), s.journal.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// setting is a pragma and its value, as SQLite reads it back.
type setting struct{ name, want string }

// settings are what each connection must have.
var settings = []setting{
	{"foreign_keys", "1"},
	{"journal_mode", "wal"},
	{"synchronous", "1"},      // NORMAL: SQLite keeps the order, journal waits for the disk
	{"fullfsync", "1"},        // SQLite's own way to wait for it on macOS
	{"busy_timeout", "10000"}, // ms; for tools that look into the file meanwhile
	{"secure_delete", "2"},    // FAST: what is deleted is written over where its page is written anyway; 1 costs a sixth of the speed
	{"temp_store", "2"},       // memory: the container's file system is read-only
}

// open makes a pool of at most n connections to the database at path, which write to j, or only read where j is nil.
func open(path string, j *journal, n int) (*sql.DB, error) {
	query := url.Values{"_txlock": {"immediate"}}
	// First, so that the change to WAL waits as well.
	query.Add("_pragma", "busy_timeout(10000)")
	for _, p := range settings {
		value := p.want
		if p.name == "secure_delete" {
			value = "fast" // the one that is not written as it is read
		}
		query.Add("_pragma", p.name+"("+value+")")
	}
	want := settings
	if j == nil {
		query.Set("_txlock", "deferred")
		query.Add("_pragma", "query_only(1)")
		query.Add("_pragma", "cache_size(-256)") // KiB; each write of the other connection empties it
		want = append(want[:len(want):len(want)], setting{"query_only", "1"})
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	inner, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db := sql.OpenDB(connector{inner, want, j})
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	return db, nil
}

// connector hands out connections whose settings have been read back.
type connector struct {
	driver.Connector
	want    []setting
	journal *journal // of the writing one
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range c.want {
		got, err := pragma(ctx, inner, p.name)
		if err == nil && got != p.want {
			err = fmt.Errorf("SQLite has %s = %s where %s was asked for", p.name, got, p.want)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set up a connection: %w", err), inner.Close())
		}
	}
	if c.journal != nil {
		return &conn{sqliteConn: inner.(sqliteConn), journal: c.journal, known: map[string]*known{}}, nil
	}
	return inner, nil
}

func pragma(ctx context.Context, conn driver.Conn, name string) (string, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "PRAGMA "+name, nil)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	value := make([]driver.Value, 1)
	if err := rows.Next(value); err != nil {
		if errors.Is(err, io.EOF) {
			return "nothing", nil
		}
		return "", err
	}
	return fmt.Sprint(value[0]), nil
}

// check looks for damage before anything relies on the data: a Signal session that is read
// wrong is worse than one that is missing. A reader does it, which keeps little of what it reads in memory.
func (s *Store) check(ctx context.Context) error {
	var found string
	if err := s.reader.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		return fmt.Errorf("check the database: %w", err)
	}
	if found != "ok" {
		return fmt.Errorf("check the database: %w", &damaged{s.path, errors.New(found)})
	}
	return nil
}

// damaged is a database file that SQLite cannot make sense of.
type damaged struct {
	path string
	err  error
}

func (e *damaged) Error() string {
	return fmt.Sprintf("the database %s is damaged and was left as it is; stop wabot, move it away together with its -wal and -shm files,"+
		" and put a backup in its place (wabot session import FILE), or start wabot to pair again: %v", e.path, e.err)
}

func (e *damaged) Unwrap() error { return e.err }

// explain adds the operator's next step to what SQLite says, where there is one.
func (s *Store) explain(err error) error {
	var known *damaged
	var e *sqlite.Error
	if err == nil || errors.As(err, &known) || !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the rest is detail
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &damaged{s.path, err}
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("the disk that holds %s is full; make room: %w", s.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%s, or what is beside it, cannot be opened or written by uid %d; chown it with its directory to that user, or see whether the disk is mounted read-only: %w", s.path, os.Getuid(), err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("the disk that holds %s refuses to read or write; see whether it was taken away, is broken, or has become read-only (dmesg tells): %w", s.path, err)
	}
	return err
}

// prepare prepares each query on db, by its text.
func prepare(ctx context.Context, db *sql.DB, queries []string) (map[string]*sql.Stmt, error) {
	stmts := make(map[string]*sql.Stmt, len(queries))
	for _, q := range queries {
		stmt, err := db.PrepareContext(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", strings.Join(strings.Fields(q), " "), err)
		}
		stmts[q] = stmt
	}
	return stmts, nil
}

// Note returns the value kept under key, or nil.
func (s *Store) Note(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	ctx, err := steady(ctx)
	if err == nil {
		err = s.read[selectNote].QueryRowContext(ctx, key).Scan(&value)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed(ctx, "read a note", err)
	}
	if value == nil {
		value = []byte{} // there, and empty
	}
	return value, nil
}

// SetNote keeps value under key, durably, in place of an earlier one. A nil value deletes it.
func (s *Store) SetNote(ctx context.Context, key string, value []byte) error {
	return s.transaction(ctx, "keep a note", func(tx transaction) error {
		if value == nil {
			return tx.exec(deleteNote, key)
		}
		return tx.exec(putNote, key, value)
	})
}

// steady is ctx for a query that is not cut off once it has begun: it takes less time than the goroutines would
// that watch for the end of ctx, two for each query. Where ctx has ended its error is returned.
func steady(ctx context.Context) (context.Context, error) {
	return context.WithoutCancel(ctx), ctx.Err()
}

// transaction runs f and commits what it did, or does nothing. It waits for the one connection as long as ctx
// lasts, and then is not cut off. What it wrote may wait for the disk where ctx says so, see device.Defer.
func (s *Store) transaction(ctx context.Context, doing string, f func(transaction) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	defer conn.Close()
	ctx, err = steady(ctx)
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	if err := f(transaction{ctx, tx, s.write}); err != nil {
		return s.failed(ctx, doing, errors.Join(err, tx.Rollback()))
	}
	if err := tx.Commit(); err != nil {
		return s.failed(ctx, doing, err)
	}
	return nil
}

// failed wraps err. SQLite only says that it was interrupted; why is what the caller checks for.
func (s *Store) failed(ctx context.Context, doing string, err error) error {
	if cause := ctx.Err(); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fmt.Errorf("%s: %w", doing, s.explain(err))
}

// transaction is a running transaction on the one writing connection.
type transaction struct {
	ctx   context.Context
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
}

func (t transaction) exec(query string, args ...any) error {
	_, err := t.tx.StmtContext(t.ctx, t.stmts[query]).ExecContext(t.ctx, args...)
	return err
}

func (t transaction) row(query string, args ...any) *sql.Row {
	return t.tx.StmtContext(t.ctx, t.stmts[query]).QueryRowContext(t.ctx, args...)
}

func (t transaction) rows(query string, args ...any) (*sql.Rows, error) {
	return t.tx.StmtContext(t.ctx, t.stmts[query]).QueryContext(t.ctx, args...)
}
