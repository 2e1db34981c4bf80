// Package backup puts all that a store keeps into one encrypted file, and reads it again.
//
// The file is in the format of age (age-encryption.org/v1), so that the tool of that name opens it too. Within are
// lines of JSON: a header that tells what it is, and a row each. age authenticates every byte and knows its own end: what is
// cut off or changed anywhere is refused. A file is read to its end before any of it is used.
package backup

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"

	"wabot/internal/transfer"
)

// format is the number of the lines' layout. It rises with each change that an older program cannot read.
const format = 2

// what is the header's mark.
const what = "wabot session"

// header is the first line.
type header struct {
	What   string    `json:"what"`
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
	By     string    `json:"by"` // version of the program
}

// line is a row.
type line struct {
	Kind transfer.Kind   `json:"kind"`
	Row  json.RawMessage `json:"row"`
}

// Write writes all rows of a store, encrypted to the recipients, and returns how many there are. by is the version of
// the program.
func Write(ctx context.Context, w io.Writer, from transfer.Origin, by string, made time.Time, to ...age.Recipient) (rows int, err error) {
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return 0, fmt.Errorf("begin the backup: %w", err)
	}
	buffered := bufio.NewWriterSize(sealed, 1<<16)
	lines := json.NewEncoder(buffered)
	if err := lines.Encode(header{what, format, made.UTC().Truncate(time.Second), by}); err != nil {
		return 0, fmt.Errorf("write the backup: %w", err)
	}
	err = from.Rows(ctx, func(r transfer.Row) error {
		raw, err := json.Marshal(r)
		if err == nil {
			err = lines.Encode(line{r.Kind(), raw})
		}
		if err != nil {
			return fmt.Errorf("write the backup: %w", err)
		}
		rows++
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := buffered.Flush(); err != nil {
		return 0, fmt.Errorf("write the backup: %w", err)
	}
	if err := sealed.Close(); err != nil {
		return 0, fmt.Errorf("end the backup: %w", err)
	}
	return rows, nil
}

// What Read makes of a file that is no backup to use.
var (
	ErrKey     = errors.New("the passphrase or identity given does not open this backup; nothing was changed")
	ErrDamaged = errors.New("the backup is damaged, or was cut off or changed; nothing was changed here: use another copy of it")
	ErrForeign = errors.New("this is not a file of wabot session export; nothing was changed")
)

// Session is what a backup holds. It implements transfer.Origin.
type Session struct {
	Made time.Time
	By   string // version of the program that wrote it
	rows []transfer.Row
}

// Read reads a whole backup. What is wrong with it is ErrKey, ErrDamaged, ErrForeign, or a newer format.
func Read(r io.Reader, with ...age.Identity) (*Session, error) {
	opened, err := age.Decrypt(r, with...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, ErrKey
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrForeign, err)
	}
	lines := json.NewDecoder(bufio.NewReaderSize(opened, 1<<16))
	var h header
	if err := lines.Decode(&h); err != nil {
		return nil, unreadable(err)
	}
	if h.What != what {
		return nil, ErrForeign
	}
	if h.Format > format {
		return nil, fmt.Errorf("the backup was written by a newer wabot (%s), in format %d where this one knows %d: update wabot; nothing was changed", h.By, h.Format, format)
	}
	s := &Session{Made: h.Made, By: h.By}
	for {
		var l line
		err := lines.Decode(&l)
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err != nil {
			return nil, unreadable(err)
		}
		row, err := transfer.ParseRow(l.Kind, l.Row)
		if err != nil {
			return nil, fmt.Errorf("%w (%w)", ErrDamaged, err)
		}
		s.rows = append(s.rows, row)
	}
}

// unreadable tells what was opened and is not text of ours from what age refuses.
func unreadable(err error) error {
	var syntax *json.SyntaxError
	var typed *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &typed) || errors.Is(err, io.EOF) {
		return ErrForeign
	}
	return fmt.Errorf("%w (%w)", ErrDamaged, err)
}

// Rows implements transfer.Origin.
func (s *Session) Rows(_ context.Context, each func(transfer.Row) error) error {
	for _, r := range s.rows {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// Note implements transfer.Origin: a backup has no marks.
func (s *Session) Note(context.Context, string) ([]byte, error) { return nil, nil }

// SetNote implements transfer.Origin.
func (s *Session) SetNote(context.Context, string, []byte) error {
	return errors.New("a backup cannot be marked")
}
