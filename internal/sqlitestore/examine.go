package sqlitestore

import (
	"context"
	"errors"
	"path/filepath"
)

// Examination is what Examine has found.
type Examination struct {
	// Exists is false where there is no store yet; then nothing else is set.
	Exists bool
	// Busy names the process that has the store open, empty where none has.
	Busy string
	// Wrong has a sentence for each damage.
	Wrong []string
}

// Examine looks for damage in the file store in dir, and who has it open. It changes nothing, and works beside a process that uses the store.
// An error says what to do.
func Examine(ctx context.Context, dir string) (e Examination, err error) {
	path, err := Find(dir)
	if errors.Is(err, ErrNone) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	e.Exists = true
	if e.Busy, err = holder(filepath.Dir(path)); err != nil {
		return e, err
	}
	s := &Store{path: path}
	if s.reader, err = open(path, nil, 1); err != nil {
		return e, err
	}
	e.Wrong, err = s.Problems(ctx)
	return e, errors.Join(err, s.close())
}
