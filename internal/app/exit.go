package app

import (
	"errors"

	"wabot/internal/mongostore"
	"wabot/internal/whatsapp"
)

// exitCodes documents ExitCode; the README has it too.
const exitCodes = `  0  stopped as asked
  1  an error that is none of the below
  2  bad configuration or usage
  3  logged out: the device was unlinked; start again and link anew
  4  banned by WhatsApp for a time; not before the time it says
  5  outdated: WhatsApp refuses this version; update wabot
  6  replaced: a copy of this session is in use elsewhere
  7  the store is broken, or cannot be opened or reached
  8  the store is in use by another process
  9  locked: WhatsApp has locked or banned the account
`

// configError is a problem that the operator mends in the settings or on the command line.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// storeError is a store that cannot be opened or read.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// lockedError is a store that another process uses.
type lockedError struct{ error }

func (e *lockedError) Unwrap() error { return e.error }

// ExitCode is the exit code for what Run returned.
func ExitCode(err error) int {
	var end *whatsapp.EndError
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(*configError)):
		return 2
	case errors.As(err, new(*storeError)), errors.Is(err, mongostore.ErrOutage):
		return 7
	case errors.As(err, new(*lockedError)):
		return 8
	case !errors.As(err, &end):
		return 1
	}
	return map[whatsapp.End]int{
		whatsapp.LoggedOut: 3,
		whatsapp.Banned:    4,
		whatsapp.Outdated:  5,
		whatsapp.Replaced:  6,
		whatsapp.Locked:    9,
	}[end.End]
}
