package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// disks are the troubles of a disk of its own, for the session; none where this process may not mount one.
func disks(t *testing.T, w *mongoWorld) []trouble {
	dir := filepath.Join(w.dir, "session")
	w.do(os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,mode=700"); errors.Is(err, syscall.EPERM) {
		t.Log("NOT TESTED: a full disk, as a file system cannot be mounted here")
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	fill := func() {
		f, err := os.Create(filler)
		w.do(err)
		defer f.Close()
		if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the disk is not full but %v", err)
		}
	}
	// SQLite's log may have room left from before: then nothing fails, and there is nothing to tell.
	return []trouble{{name: "the disk is full", begin: fill, end: func() { w.do(os.Remove(filler)) }}}
}

// zeros are without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
