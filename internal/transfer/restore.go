package transfer

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"time"
)

// A Signal state that is older than what its device has sent since must not be used as it is: it
// repeats counters, and what it sends is dropped unseen. Such a state is in a backup, in a copy of the files and in
// a database that was restored. It is made safe by forgetting the sessions and sender keys: identity and
// account stay, so nobody has to be asked, and each contact's session is made anew with the next message. Pre-keys
// go on above all that were given out since; what is encrypted to one that is not here is asked for
// again by the retry protocol.

// MarkRewound is the key of the mark on a store whose Signal state may be an old one. Its device must not
// connect before MakeSafe has taken the mark away.
const MarkRewound = marks + "rewound"

// MarkSeen is the key of the mark by which a store put back to an earlier state is noticed.
const MarkSeen = marks + "seen"

// Backup names an exported session where a store is named. It is only copied from.
const Backup = "backup"

// Ratchets is a Store whose Signal state can be forgotten.
type Ratchets interface {
	Notes
	// ForgetRatchets deletes all Signal sessions and sender keys and lets the next pre-key be numbered at
	// least skip higher than it would have been. A crash within leaves a part of that done.
	ForgetRatchets(ctx context.Context, skip int64) error
}

// Rewound marks a store whose Signal state is an old one.
func Rewound(ctx context.Context, s Notes) error {
	return s.SetNote(ctx, MarkRewound, []byte(time.Now().UTC().Format(time.RFC3339)))
}

// IsRewound reports whether a store is marked as Rewound.
func IsRewound(ctx context.Context, s Notes) (bool, error) {
	m, err := s.Note(ctx, MarkRewound)
	return m != nil, err
}

// MakeSafe makes the old Signal state of a store one that may be used, and leaves the mark: the caller takes it away
// with Safe when it has done the rest. It can be repeated.
func MakeSafe(ctx context.Context, s Ratchets) error {
	// More keys than a device gives out in years. The random part keeps two lives of one backup apart. Numbers end
	// at 2^24, after hundreds of restores.
	skip := 10_000 + rand.Int64N(50_000)
	if err := s.ForgetRatchets(ctx, skip); err != nil {
		return fmt.Errorf("forget the old Signal sessions: %w", err)
	}
	return nil
}

// Safe takes the mark of Rewound away.
func Safe(ctx context.Context, s Notes) error { return s.SetNote(ctx, MarkRewound, nil) }

// Restore puts an exported session into a store without a device, reads it back and leaves it marked as
// Rewound. It returns a Refusal, and has changed nothing, where to holds a device. One that was cut short leaves to
// unusable and is made again from the start.
func Restore(ctx context.Context, from Origin, to End) (Summary, error) {
	return move(ctx, origin{Backup, from}, to, false)
}

// rowTypes are the types of rows, by kind.
var rowTypes = func() map[Kind]reflect.Type {
	types := map[Kind]reflect.Type{}
	for _, r := range []Row{
		Device{}, Identity{}, Session{}, PreKey{}, PreKeyCount{}, SenderKey{}, SyncKey{}, Version{}, MAC{}, Contact{},
		ChatSettings{}, Secret{}, Token{}, Salt{}, Event{}, Sent{}, LID{}, Note{}, Charge{}, Mark{}, Heard{}, Turn{}, Waiting{},
	} {
		types[r.Kind()] = reflect.TypeOf(r)
	}
	return types
}()

// ParseRow reads a row of a kind from its JSON, in which every field must be known.
func ParseRow(kind Kind, text []byte) (Row, error) {
	t, ok := rowTypes[kind]
	if !ok {
		return nil, fmt.Errorf("rows of the kind %q are not known", kind)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	v := reflect.New(t)
	if err := d.Decode(v.Interface()); err != nil {
		return nil, fmt.Errorf("read a %s: %w", kind, err)
	}
	return v.Elem().Interface().(Row), nil
}
