package media

import "golang.org/x/sys/unix"

// limitMemory ends the process where it takes more than so many bytes for itself.
func limitMemory(most uint64) {
	// A system that does not let itself be told so is no reason not to read.
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most})
}
