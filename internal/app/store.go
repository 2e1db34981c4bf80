package app

import (
	"context"
	"errors"
	"log/slog"

	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/sqlitestore"
	"wabot/internal/whatsapp"
)

// Store is all that the program keeps: the inbox, the device and the notes.
type Store interface {
	inbox.Store
	whatsapp.Notes
	Devices() whatsapp.Devices
	Close() error
}

type fileStore struct{ *sqlitestore.Store }

func (s fileStore) Devices() whatsapp.Devices { return s.Store.Devices() }

// openStore opens the store that the settings choose.
func openStore(ctx context.Context, cfg config.Store, log *slog.Logger) (Store, error) {
	s, err := sqlitestore.Open(ctx, cfg.SessionDir, log)
	var locked *sqlitestore.LockedError
	switch {
	case errors.As(err, &locked):
		return nil, &lockedError{err}
	case err != nil:
		return nil, &storeError{err}
	}
	return fileStore{s}, nil
}
