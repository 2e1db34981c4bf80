package storetest

import (
	"testing"

	"wabot/internal/inbox"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	Inbox(t, func(*testing.T) (inbox.Store, func() inbox.Store) {
		s := new(Memory)
		return s, func() inbox.Store { return s }
	})
}
