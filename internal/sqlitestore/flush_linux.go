package sqlitestore

import (
	"errors"
	"os"
	"syscall"
)

// flush waits until what was written to f is on the disk. Of what is known about the file it waits only for what is needed to
// read it, as SQLite does.
func flush(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
