// Package transfer carries all that a store keeps from one store to another: the linked device with its
// Signal state, the inbox and the notes, as rows that belong to no store.
//
// A Signal state must never be used twice. Of two copies the one that is left behind knows nothing of
// what the other has sent, and whoever writes with it destroys sessions without being told. So at every
// moment of a copy at most one of the two stores may be used, which marks among their notes say:
//
//	1 the target is marked as arriving     only the source may be used
//	2 the target is cleared and filled
//	3 the target is read back and compared
//	4 the source is marked as moved        none may be used
//	5 the target's mark is taken away      only the target may be used
//
// A copy that was cut short is made again from the start, also after step 4, as both marks then name the
// same copy. Whoever opens a store to drive its device asks Usable first. During a copy the caller holds both
// stores: nobody else may use either.
package transfer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/util/keys"
)

// Notes keep small values by key. Note gives nil for a key that was never set; setting nil
// removes it.
type Notes interface {
	Note(ctx context.Context, key string) ([]byte, error)
	SetNote(ctx context.Context, key string, value []byte) error
}

// Origin is what a copy is made from.
type Origin interface {
	Notes
	// Rows calls each for every row, but for the marks, until each fails, and then returns
	// that error. The device comes first, the pre-key count after the pre-keys, and a version before its
	// MACs. It fails with ErrSeveral where there is more than one device.
	Rows(ctx context.Context, each func(Row) error) error
}

// Store is a store as a copy sees it. No device or inbox got from it before PutRows or Clear may
// be used after.
type Store interface {
	Origin
	// PutRows adds rows, in the order in which Rows gives them, to what was put since Clear. They are
	// durable once it returns.
	PutRows(ctx context.Context, rows []Row) error
	// Clear deletes every row, the device first, and leaves the marks.
	Clear(ctx context.Context) error
	Ratchets
}

// ErrSeveral says that a store holds more than one device.
var ErrSeveral = Refusal("the store holds more than one device; wabot drives one, and cannot tell which to take")

// Refusal says why a copy is not made, or why a store must not be used, and what to do.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// The names of the stores, as the command line has them.
const (
	File  = "file"
	Mongo = "mongo"
)

// Baileys names the session of a Baileys bot where a store is named. It is only copied from.
const Baileys = "baileys"

// marks begins the keys of the notes that are about the store and not of what it holds.
const marks = "transfer."

// MarkMoved is the key of the mark on a store whose session went on elsewhere.
const MarkMoved = marks + "moved"

const (
	markArriving = marks + "arriving" // a copy into this store has not ended
	markCame     = marks + "came"     // the copy by which this store got what it holds
)

// IsMark tells the notes that are about the store itself.
func IsMark(key string) bool { return strings.HasPrefix(key, marks) }

// mark is what a mark says.
type mark struct {
	Copy string    `json:"copy"` // names the copy
	From string    `json:"from"`
	To   string    `json:"to"`
	At   time.Time `json:"at"`
}

func readMark(ctx context.Context, s Notes, key string) (mark, bool, error) {
	var m mark
	raw, err := s.Note(ctx, key)
	if err != nil || raw == nil {
		return m, false, err
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return m, false, fmt.Errorf("read the mark %s: %w", key, err)
	}
	return m, true, nil
}

func setMark(ctx context.Context, s Notes, key string, m mark) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write the mark %s: %w", key, err)
	}
	return s.SetNote(ctx, key, raw)
}

// command is what makes the copy.
func (m mark) command() string {
	switch m.From {
	case Baileys:
		return "wabot session import-baileys"
	case Backup:
		return "wabot session import"
	}
	return fmt.Sprintf("wabot session copy --from %s --to %s", m.From, m.To)
}

// Usable returns a Refusal where the device in the store must not be driven.
func Usable(ctx context.Context, s Notes) error {
	m, arriving, err := readMark(ctx, s, markArriving)
	if err != nil {
		return err
	}
	if arriving {
		return Refusal(fmt.Sprintf("a copy from the %s store into this %s store was cut short and left it incomplete: run `%s` again, or `wabot session delete --store %s` to empty it",
			m.From, m.To, m.command(), m.To))
	}
	m, moved, err := readMark(ctx, s, MarkMoved)
	if err != nil || !moved {
		return err
	}
	if m.To == Baileys {
		return Refusal(fmt.Sprintf("this session was given back to a bot on Baileys on %s, so it must not be used here; `wabot session delete --store %s` empties the store",
			m.At.Local().Format(time.DateTime), m.From))
	}
	if m.From == Baileys {
		return Refusal(fmt.Sprintf("this Baileys session was taken over into the %s store on %s and goes on there, so it must not be used here; `wabot session import-baileys --undo` gives it back as long as wabot has not used it",
			m.To, m.At.Local().Format(time.DateTime)))
	}
	return Refusal(fmt.Sprintf("this session was moved from the %s store to the %s store on %s and goes on there, so this old copy must not be used: set MONGO_ENABLED=%s, or bring the session back with `wabot session copy --from %s --to %s`; if it is lost there, `wabot session delete --store %s` lets you link anew",
		m.From, m.To, m.At.Local().Format(time.DateTime), enabled(m.To), m.To, m.From, m.From))
}

// enabled is the value of MONGO_ENABLED that chooses a store.
func enabled(name string) string {
	if name == Mongo {
		return "True"
	}
	return "False"
}

// End is one end of a copy.
type End struct {
	Name string // File or Mongo
	Store
}

// origin is the end that a copy is made from.
type origin struct {
	name string
	Origin
}

// Copy moves all that from holds to to, and returns what was copied. It returns a Refusal, and has changed nothing,
// where from holds nothing to move or may not be used, or where to holds a device; with replace that
// one is deleted. A device in to that has itself been moved to from is replaced in any case. The
// caller holds both stores.
func Copy(ctx context.Context, from, to End, replace bool) (Summary, error) {
	return move(ctx, origin{from.Name, from.Store}, to, replace)
}

// Import is Copy from the session of a Baileys bot, which only serves a store without a device.
func Import(ctx context.Context, from Origin, to End) (Summary, error) {
	return move(ctx, origin{Baileys, from}, to, false)
}

// CanImport returns the Refusal that Import would return.
func CanImport(ctx context.Context, from Origin, to End) error {
	_, err := agree(ctx, origin{Baileys, from}, to, false)
	return err
}

func move(ctx context.Context, from origin, to End, replace bool) (Summary, error) {
	m, err := agree(ctx, from, to, replace)
	if err != nil {
		return nil, err
	}
	if err := setMark(ctx, to, markArriving, m); err != nil {
		return nil, fmt.Errorf("mark the %s store as incomplete: %w", to.Name, err)
	}
	for _, old := range []string{MarkMoved, MarkRewound, markCame} {
		if err := to.SetNote(ctx, old, nil); err != nil {
			return nil, fmt.Errorf("take an old mark off the %s store: %w", to.Name, err)
		}
	}
	if err := to.Clear(ctx); err != nil {
		return nil, fmt.Errorf("empty the %s store: %w", to.Name, err)
	}
	written, err := pour(ctx, from, to)
	if err != nil {
		return nil, err
	}
	read, err := summarize(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("read the %s store back: %w", to.Name, err)
	}
	if different := written.differs(read); len(different) > 0 {
		return nil, fmt.Errorf("the %s store reads back otherwise than it was written (%s); it was left marked as incomplete, and the %s store goes on as before",
			to.Name, strings.Join(different, "; "), from.name)
	}
	if err := setMark(ctx, to, markCame, m); err != nil {
		return nil, fmt.Errorf("mark where the %s store's session came from: %w", to.Name, err)
	}
	if from.name == Backup {
		// It stays usable, as a backup does; so what comes out of it is not the device's newest state.
		if err := Rewound(ctx, to); err != nil {
			return nil, fmt.Errorf("mark the %s store's session as an old one: %w", to.Name, err)
		}
	} else if err := setMark(ctx, from, MarkMoved, m); err != nil {
		return nil, fmt.Errorf("mark the %s store as moved: %w", from.name, err)
	}
	if err := to.SetNote(ctx, markArriving, nil); err != nil {
		return nil, fmt.Errorf("mark the %s store as complete (both stores refuse to start until this command is run again): %w", to.Name, err)
	}
	return written, nil
}

// agree decides whether the copy may be made, and gives its mark.
func agree(ctx context.Context, from origin, to End, replace bool) (mark, error) {
	there, arriving, err := readMark(ctx, to, markArriving)
	if err != nil {
		return mark{}, err
	}
	gone, moved, err := readMark(ctx, from, MarkMoved)
	if err != nil {
		return mark{}, err
	}
	next := mark{Copy: rand.Text(), From: from.name, To: to.Name, At: time.Now().UTC().Truncate(time.Second)}
	if moved && arriving && gone.Copy == there.Copy {
		next.Copy = gone.Copy // its last step is missing
	} else if err := Usable(ctx, from); err != nil {
		return mark{}, err
	}
	has, err := HasDevice(ctx, from)
	if err != nil {
		return mark{}, fmt.Errorf("look into the %s store: %w", from.name, err)
	}
	if !has {
		return mark{}, Refusal(fmt.Sprintf("the %s store holds no linked device: there is nothing to copy", from.name))
	}
	if arriving || replace {
		return next, nil
	}
	has, err = HasDevice(ctx, to)
	if err != nil {
		return mark{}, fmt.Errorf("look into the %s store: %w", to.Name, err)
	}
	if !has {
		return next, nil
	}
	stale, moved, err := readMark(ctx, to, MarkMoved)
	if err != nil {
		return mark{}, err
	}
	came, known, err := readMark(ctx, from, markCame)
	if err != nil {
		return mark{}, err
	}
	if moved && known && stale.Copy == came.Copy {
		return next, nil // it is the old copy of what comes back
	}
	if from.name == Baileys || from.name == Backup {
		return mark{}, Refusal(fmt.Sprintf("the %s store holds a linked device already; `wabot session delete --store %s` deletes it with its keys, chats and history", to.Name, to.Name))
	}
	return mark{}, Refusal(fmt.Sprintf("the %s store holds a linked device already; add --replace to delete it with its keys, chats and history, and unlink it on the phone", to.Name))
}

// HasDevice reports whether a linked device is there.
func HasDevice(ctx context.Context, s Origin) (bool, error) {
	err := s.Rows(ctx, func(r Row) error {
		if r.Kind() == KindDevice {
			return errFound
		}
		return errNone
	})
	switch {
	case errors.Is(err, errFound):
		return true, nil
	case errors.Is(err, errNone):
		return false, nil
	}
	return false, err
}

// What ends the look for a device.
var (
	errFound = errors.New("there is a device")
	errNone  = errors.New("there is no device")
)

// batch is how many rows are put at once.
const batch = 500

// pour puts all rows of one store into another.
func pour(ctx context.Context, from origin, to End) (Summary, error) {
	sum := Summary{}
	var rows []Row
	flush := func() error {
		if err := to.PutRows(ctx, rows); err != nil {
			return fmt.Errorf("write to the %s store: %w", to.Name, err)
		}
		rows = rows[:0]
		return nil
	}
	put := func(r Row) error {
		if err := sum.add(r); err != nil {
			return err
		}
		if rows = append(rows, r); len(rows) < batch {
			return nil
		}
		return flush()
	}
	last := int64(0)
	err := from.Rows(ctx, func(r Row) error {
		switch r := r.(type) {
		case PreKey:
			last = max(last, r.ID)
		case PreKeyCount:
			// The file store takes the next ID from the last key it has: a new key carries
			// the count over where the last ones have been used up.
			if r.Next > last+1 {
				if err := put(PreKey{ID: r.Next, Private: keys.NewKeyPair().Priv[:]}); err != nil {
					return err
				}
				r.Next++
			}
			return put(r)
		}
		return put(r)
	})
	if err != nil {
		return nil, fmt.Errorf("copy the %s store: %w", from.name, err)
	}
	return sum, flush()
}

// Summary is how many rows of each kind there are, and a digest of them.
type Summary map[Kind]Tally

// Tally is the rows of one kind.
type Tally struct {
	Count  int
	digest [sha256.Size]byte
}

// summarize reads a whole store.
func summarize(ctx context.Context, s Origin) (Summary, error) {
	sum := Summary{}
	return sum, s.Rows(ctx, sum.add)
}

func (s Summary) add(r Row) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("read a %s: %w", r.Kind(), err)
	}
	t := s[r.Kind()]
	t.Count++
	switch r.(type) {
	case Turn, Waiting: // their order counts
		t.digest = sha256.Sum256(append(t.digest[:], raw...))
	default:
		for i, b := range sha256.Sum256(raw) {
			t.digest[i] ^= b
		}
	}
	s[r.Kind()] = t
	return nil
}

// differs says for which kinds another summary is not the same.
func (s Summary) differs(read Summary) (all []string) {
	for _, k := range Kinds {
		switch {
		case s[k].Count != read[k].Count:
			all = append(all, fmt.Sprintf("%s: %d written, %d read", k, s[k].Count, read[k].Count))
		case s[k] != read[k]:
			all = append(all, fmt.Sprintf("%s: the %d are not the same", k, s[k].Count))
		}
	}
	return slices.Clip(all)
}

// GiveBack undoes an Import, and empties the store. It returns a Refusal, and has changed nothing, where what
// the store holds did not come from that session, or where any of it was used since.
func GiveBack(ctx context.Context, from Origin, to End) error {
	gone, moved, err := readMark(ctx, from, MarkMoved)
	if err != nil {
		return err
	}
	if !moved {
		return Refusal("this Baileys session was not taken over, so there is nothing to give back")
	}
	came, known, err := readMark(ctx, to, markCame)
	if err != nil {
		return err
	}
	if !known || came.Copy != gone.Copy {
		return Refusal(fmt.Sprintf("what the %s store holds did not come from this Baileys session, which was taken over into a %s store on %s", to.Name, gone.To, gone.At.Local().Format(time.DateTime)))
	}
	was, err := summarize(ctx, from)
	if err != nil {
		return fmt.Errorf("read the Baileys session: %w", err)
	}
	is, err := summarize(ctx, to)
	if err != nil {
		return fmt.Errorf("read the %s store: %w", to.Name, err)
	}
	for _, k := range []Kind{KindDevice, KindIdentity, KindSession, KindSenderKey, KindVersion} {
		if was[k] != is[k] {
			return Refusal(fmt.Sprintf("wabot has used the session since it was taken over, so the old one is out of date and would destroy chats: it goes on in the %s store alone", to.Name))
		}
	}
	// The store may not be used any more before the session may be.
	if err := setMark(ctx, to, MarkMoved, mark{Copy: came.Copy, From: to.Name, To: Baileys, At: time.Now().UTC().Truncate(time.Second)}); err != nil {
		return fmt.Errorf("mark the %s store as moved: %w", to.Name, err)
	}
	if err := from.SetNote(ctx, MarkMoved, nil); err != nil {
		return err
	}
	return Forget(ctx, to)
}

// Forget empties a store, marks and all.
func Forget(ctx context.Context, s Store) error {
	if err := s.Clear(ctx); err != nil {
		return err
	}
	for _, key := range []string{markCame, MarkRewound, MarkMoved, markArriving} {
		if err := s.SetNote(ctx, key, nil); err != nil {
			return err
		}
	}
	return nil
}
