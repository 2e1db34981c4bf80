package storetest

import (
	"path/filepath"
	"testing"
)

// The suite holds for whatsmeow's own store: what the suite says is what upstream does.
func TestReference(t *testing.T) {
	t.Parallel()
	Devices(t, func(t *testing.T) func() Container {
		path := filepath.Join(t.TempDir(), "devices.db")
		return func() Container { return reference(t, path) }
	}, Promises{})
}
