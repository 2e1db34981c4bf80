//go:build !linux

package sqlitestore

import "os"

// flush waits until what was written to f is on the disk.
func flush(f *os.File) error { return f.Sync() }
