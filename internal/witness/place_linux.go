package witness

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// placeOf names the file at a path: its inode, and when that was made where the file system knows. Copying,
// changing or renaming a file in its place leaves both; a copy has others. The device is left out, as its number changes with a restart.
func placeOf(path string) (string, error) {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &s); err != nil {
		return "", err
	}
	place := fmt.Sprint(s.Ino)
	if s.Mask&unix.STATX_BTIME != 0 {
		place += fmt.Sprintf(" %d.%09d", s.Btime.Sec, s.Btime.Nsec)
	}
	return place, nil
}
