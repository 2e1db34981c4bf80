package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"wabot/internal/budget"
	"wabot/internal/chat"
)

var _ budget.Store = (*Store)(nil)

const (
	putCharge     = `INSERT INTO charges (id, total, at, charge) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`
	selectCharges = `SELECT charge FROM charges WHERE total IN (0, 1) AND at >= ? AND at < ?`
	dropCharges   = `DELETE FROM charges WHERE id IN (SELECT id FROM charges WHERE total = 0 AND at >= ? AND at < ? LIMIT ?)`
)

// Charge implements budget.Store.
func (s *Store) Charge(ctx context.Context, all []chat.Charge) error {
	return s.transaction(ctx, "keep charges", func(tx transaction) error { return tx.charge(all) })
}

func (t transaction) charge(all []chat.Charge) error {
	for _, c := range all {
		text, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("write a charge: %w", err)
		}
		total := 0
		if c.Kind == chat.Total {
			total = 1
		}
		if err := t.exec(putCharge, c.ID, total, c.Time.UnixNano(), string(text)); err != nil {
			return err
		}
	}
	return nil
}

// Charges implements budget.Store.
func (s *Store) Charges(ctx context.Context, since, until time.Time, each func(chat.Charge) error) error {
	const doing = "read charges"
	rows, err := s.read[selectCharges].QueryContext(ctx, since.UnixNano(), until.UnixNano())
	if err != nil {
		return s.failed(ctx, doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		var text []byte
		if err := rows.Scan(&text); err != nil {
			return s.failed(ctx, doing, err)
		}
		var c chat.Charge
		if err := json.Unmarshal(text, &c); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if err := each(c); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return s.failed(ctx, doing, err)
	}
	return nil
}

// DropCharges implements budget.Store.
func (s *Store) DropCharges(ctx context.Context, since, until time.Time, most int) (n int, err error) {
	err = s.transaction(ctx, "delete old charges", func(tx transaction) error {
		n, err = tx.deleted(dropCharges, since.UnixNano(), until.UnixNano(), most)
		return err
	})
	return n, err
}

// deleted runs a query that deletes, and counts the rows.
func (t transaction) deleted(query string, args ...any) (int, error) {
	result, err := t.tx.StmtContext(t.ctx, t.stmts[query]).ExecContext(t.ctx, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}
