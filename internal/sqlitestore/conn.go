package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"

	"wabot/internal/device"
)

// sqliteConn is a connection of the driver.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
	driver.Pinger
}

// conn is the writing connection. A commit is on the disk when it returns, unless its context says that this may wait. What is
// prepared with it is used in transactions only.
type conn struct {
	sqliteConn
	journal *journal
	within  bool // a transaction
	// known are the statements that were executed before, by their text. SQLite takes longer to understand one than to execute it,
	// and sqlstore prepares none.
	known map[string]*known
}

// known is a statement that is kept.
type known struct {
	driver.Stmt
	busy bool // its rows are being read
}

// mostKnown bounds the statements that are kept. There are fewer of constant text; one about several addresses has another for
// each number of them.
const mostKnown = 200

// statement returns the statement with the text query to execute it once, in a context that does not cut it off, and what to
// call afterwards.
func (c *conn) statement(ctx context.Context, query string) (context.Context, driver.Stmt, func(), error) {
	ctx, err := steady(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	k, ok := c.known[query]
	if ok && !k.busy {
		k.busy = true
		return ctx, k.Stmt, func() { k.busy = false }, nil
	}
	stmt, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, nil, nil, err
	}
	if ok || len(c.known) == mostKnown {
		return ctx, stmt, func() { stmt.Close() }, nil
	}
	k = &known{stmt, true}
	c.known[query] = k
	return ctx, stmt, func() { k.busy = false }, nil
}

// committed is called after a commit.
func (c *conn) committed(deferred bool) error {
	c.journal.written.Add(1)
	if deferred {
		return nil
	}
	return c.journal.sync()
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	ctx, stmt, done, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	result, err := stmt.(driver.StmtExecContext).ExecContext(ctx, args)
	done()
	if err == nil && !c.within {
		err = c.committed(device.Deferred(ctx))
	}
	return result, err
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	ctx, stmt, done, err := c.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
	if err != nil {
		done()
		return nil, err
	}
	return &rows{r, done}, nil
}

// rows are those of a statement of a conn.
type rows struct {
	driver.Rows
	done func()
}

func (r *rows) Close() error {
	err := r.Rows.Close()
	r.done()
	return err
}

func (c *conn) Close() error {
	var errs []error
	for _, k := range c.known {
		errs = append(errs, k.Close())
	}
	return errors.Join(append(errs, c.sqliteConn.Close())...)
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	inner, err := c.sqliteConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.within = true
	return &tx{inner, c, device.Deferred(ctx)}, nil
}

// tx is a transaction on a conn.
type tx struct {
	driver.Tx
	conn     *conn
	deferred bool
}

func (t *tx) Commit() error {
	t.conn.within = false
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.conn.committed(t.deferred)
}

func (t *tx) Rollback() error {
	t.conn.within = false
	return t.Tx.Rollback()
}
