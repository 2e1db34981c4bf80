//go:build !linux

package witness

import (
	"fmt"
	"os"
	"syscall"
)

// placeOf names the file at a path by its inode.
func placeOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino), nil
}
