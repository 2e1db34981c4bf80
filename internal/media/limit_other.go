//go:build !linux

package media

import "runtime/debug"

// limitMemory lets the process give back memory in time; no more is to be had here.
func limitMemory(most uint64) { debug.SetMemoryLimit(int64(most)) }
