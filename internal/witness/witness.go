// Package witness notices that a store was put back to an earlier state behind the program's back: by a restored
// copy of its files, or of its database.
//
// The store keeps a count that rises at each start, now and then while it is used, and at each stop. A small file
// outside the store, the witness, keeps the same. A store whose count is lower than its witness's is older than what was seen of it.
//
// A file store has its witness beside it, so both may be put back together. Therefore the store also notes the witness's
// place: its inode and the time at which that was made, which no copy has. Each rise makes a new file.
//
// What cannot be noticed: a store put back together with the whole file system (a snapshot of a disk or a machine),
// and a database in a place without a witness of it.
package witness

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Notes are a store's, as transfer has them.
type Notes interface {
	Note(ctx context.Context, key string) ([]byte, error)
	SetNote(ctx context.Context, key string, value []byte) error
}

// Witness is the file that remembers a store.
type Witness struct {
	// Path is the file's. It is written anew and renamed.
	Path string
	// Key is the store's note for the count. It must not be carried from store to store.
	Key string
	// Beside is set where the file lies beside the store and goes with it; else the store is used from several machines, each
	// with a witness of its own that need not know all.
	Beside bool
}

// count is what both keep.
type count struct {
	Store string `json:"store"` // names the store
	Count int64  `json:"count"`
	// Places are those where the witness may be, in the store's note alone: the last, and the next while it is made.
	Places []string `json:"places,omitempty"`
}

// Check says in what the store in s differs from what its witness saw, as a clause for the operator; empty if it is
// what it was, or if nothing is known of it.
func (w Witness) Check(ctx context.Context, s Notes) (old string, err error) {
	here, known, err := w.noted(ctx, s)
	if err != nil {
		return "", err
	}
	seen, place, there, err := w.read()
	if err != nil {
		return "", err
	}
	switch {
	case !there && (!known || !w.Beside):
		return "", nil
	case !there:
		return fmt.Sprintf("%s, which is written with each start, is missing", w.Path), nil
	case (!known || here.Store != seen.Store) && !w.Beside:
		return "", nil
	case !known:
		return "it is from before its first start in this place", nil
	case here.Store != seen.Store:
		return "it is another than the one that was used in this place", nil
	case here.Count < seen.Count:
		return "it was used since in a later state", nil
	case w.Beside && !slices.Contains(here.Places, place):
		return "it was copied or moved to where it is", nil
	}
	return "", nil
}

// Renew raises the count of the store in s and of its witness. What is there is taken for the newest state: Check comes
// first.
func (w Witness) Renew(ctx context.Context, s Notes) (err error) {
	next, _, err := w.noted(ctx, s)
	if err != nil {
		return err
	}
	seen, place, there, err := w.read()
	if err != nil {
		return err
	}
	if next.Store == "" {
		next.Store = rand.Text()
	}
	if there && seen.Store == next.Store {
		next.Count = max(next.Count, seen.Count)
	}
	next.Count++
	next.Places = nil
	leftovers, err := filepath.Glob(w.Path + ".*") // of those who were killed here
	if err != nil {
		return fmt.Errorf("look for what was left of %s: %w", w.Path, err)
	}
	for _, path := range leftovers {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what was left of %s: %w", w.Path, err)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(w.Path), filepath.Base(w.Path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", w.Path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	raw, err := json.Marshal(next)
	if err == nil {
		_, err = f.Write(raw)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", w.Path, err)
	}
	if w.Beside {
		if there {
			next.Places = append(next.Places, place)
		}
		made, err := placeOf(f.Name())
		if err != nil {
			return fmt.Errorf("write %s: %w", w.Path, err)
		}
		next.Places = append(next.Places, made)
	}
	if raw, err = json.Marshal(next); err != nil {
		return fmt.Errorf("count the uses of the store: %w", err)
	}
	// The store first: killed in between, it is ahead of its witness, which is right.
	if err := s.SetNote(ctx, w.Key, raw); err != nil {
		return fmt.Errorf("count the uses of the store: %w", err)
	}
	if err := os.Rename(f.Name(), w.Path); err != nil {
		return fmt.Errorf("write %s: %w", w.Path, err)
	}
	// Where a directory cannot be waited for, a power cut now may make the store look like a copy, at worst.
	if d, err := os.Open(filepath.Dir(w.Path)); err == nil {
		d.Sync()
		d.Close()
	}
	return nil
}

func (w Witness) noted(ctx context.Context, s Notes) (c count, known bool, err error) {
	raw, err := s.Note(ctx, w.Key)
	if err == nil && raw != nil {
		known = true
		err = json.Unmarshal(raw, &c)
	}
	if err != nil {
		return c, false, fmt.Errorf("read how often the store was used: %w", err)
	}
	return c, known, nil
}

// read reads the file. One that cannot be understood is as good as none.
func (w Witness) read() (c count, place string, there bool, err error) {
	raw, err := os.ReadFile(w.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, "", false, nil
	}
	if err != nil {
		return c, "", false, fmt.Errorf("read what was seen of the store: %w", err)
	}
	if json.Unmarshal(raw, &c) != nil {
		return count{}, "", false, nil
	}
	if place, err = placeOf(w.Path); err != nil {
		return c, "", false, fmt.Errorf("read what was seen of the store: %w", err)
	}
	return c, place, true, nil
}
