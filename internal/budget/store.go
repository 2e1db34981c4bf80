// Package budget knows what calls of models cost, and who may spend how much.
package budget

import (
	"context"
	"time"

	"wabot/internal/chat"
)

// Store keeps charges. Its methods are safe for concurrent use.
type Store interface {
	// Charge keeps charges, durably; one whose ID is there already stays as it is. A crash may leave a part of them.
	Charge(ctx context.Context, all []chat.Charge) error
	// Charges calls each for the charges and totals from since on and before until, in any order, until each fails.
	Charges(ctx context.Context, since, until time.Time, each func(chat.Charge) error) error
	// DropCharges deletes at most so many of the charges from since on and before until, but for totals, and returns how many.
	DropCharges(ctx context.Context, since, until time.Time, most int) (int, error)
}
