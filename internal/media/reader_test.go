package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestMain makes the test's binary a reader of files, as wabot is one.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "read" {
		if Read(os.Args[2], os.Stdin, os.Stdout) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func reader(t testing.TB) Reader {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Reader{Command: []string{self, "read"}}
}

// progressive is a JPEG of a side and so many components (3 are colours, 4 are inks) that comes in one scan for all of it, and so many
// more, each of which says of all blocks that there is no more to say.
func progressive(side, components, scans int) []byte {
	segment := func(marker byte, body ...byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0xff, marker}, uint16(len(body)+2)), body...)
	}
	frame := []byte{8, byte(side >> 8), byte(side), byte(side >> 8), byte(side), byte(components)}
	first := []byte{byte(components)}
	for i := range byte(components) {
		frame = append(frame, i, 0x11, 0) // as many blocks of each
		first = append(first, i, 0)
	}
	// One code, of one bit: no change from block to block, or the end of 1<<14 blocks and of as many more as the next 14 bits say.
	code := append([]byte{1}, make([]byte, 15)...)
	data := []byte{0xff, 0xd8}
	data = append(data, segment(0xee, append([]byte("Adobe"), 0, 100, 0, 0, 0, 0, byte(components-2))...)...)
	data = append(data, segment(0xdb, make([]byte, 65)...)...)
	data = append(data, segment(0xc2, frame...)...)
	data = append(data, segment(0xc4, append(append([]byte{0}, code...), 0)...)...)
	data = append(data, segment(0xc4, append(append([]byte{0x10}, code...), 0xe0)...)...)
	blocks := side / 8 * side / 8
	data = append(data, segment(0xda, append(first, 0, 0, 0)...)...)
	data = append(data, make([]byte, blocks*components/8)...)
	more := append(segment(0xda, 1, 0, 0, 1, 63, 0), make([]byte, 2*(blocks>>14+1))...)
	return append(append(data, bytes.Repeat(more, scans)...), 0xff, 0xd9)
}

// What takes more memory or more time than may be is broken, and ends another process.
func TestHarm(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || raced {
		t.Skip("only Linux limits the memory of a process, and the race detector takes most of it")
	}
	soon := reader(t)
	soon.Patience = time.Second
	slow := progressive(5120, 1, 1500)
	for name, row := range map[string]struct {
		reader Reader
		data   []byte
	}{
		"memory": {reader(t), progressive(5120, 4, 0)}, "time": {soon, slow},
	} {
		if small, err := row.reader.Shrink(t.Context(), row.data); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %d bytes, %v", name, len(small), err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := reader(t).Shrink(ctx, slow); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no time: %v", err)
	}
}

// What a picture may be at most is read within the limits of the process.
func TestLargest(t *testing.T) {
	t.Parallel()
	if raced {
		t.Skip("the race detector takes most of the memory")
	}
	patient := reader(t)
	patient.Patience = time.Minute
	if small, err := patient.Shrink(t.Context(), progressive(5120, 3, 10)); err != nil {
		t.Errorf("%d bytes, %v", len(small), err)
	}
}

// However many files come at once, only so many are read as memory allows.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	slow := Reader{Command: []string{"/bin/sh", "-c", "sleep 0.2"}}
	begun := time.Now()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if _, err := slow.Text(t.Context(), []byte("%PDF-1.4")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(begun); took < 600*time.Millisecond {
		t.Errorf("all were read within %v", took)
	}
}
