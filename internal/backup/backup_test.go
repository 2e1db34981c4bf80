package backup

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"wabot/internal/transfer"
)

// listed is a store that holds the rows.
type listed []transfer.Row

func (l listed) Rows(_ context.Context, each func(transfer.Row) error) error {
	return (&Session{rows: l}).Rows(context.Background(), each)
}

func (listed) Note(context.Context, string) ([]byte, error) { return nil, nil }

func (listed) SetNote(context.Context, string, []byte) error { return nil }

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// one has a row of each kind.
func one() listed {
	sent := int64(7)
	return listed{
		transfer.Device{JID: "4915112345678:3@s.whatsapp.net", NoiseKey: []byte{1, 2}, PushName: "<Bot> & \u2028"},
		transfer.Identity{Address: "1:0", Key: []byte{3}}, transfer.Session{Address: "1:0", Record: bytes.Repeat([]byte{4}, 200_000)},
		transfer.PreKey{ID: 7, Private: []byte{5}, Uploaded: true}, transfer.PreKeyCount{Next: 8}, transfer.SenderKey{Group: "g", Sender: "1:0", Record: []byte{6}},
		transfer.SyncKey{ID: []byte{7}, Timestamp: 3}, transfer.Version{Name: "regular", Version: 1 << 60, Hash: []byte{8}}, transfer.MAC{Name: "regular", Index: []byte{9}},
		transfer.Contact{JID: "1@lid", Full: "Ännchen"}, transfer.ChatSettings{JID: "1@lid", MutedUntil: -1}, transfer.Secret{ID: "X", Secret: []byte{1}},
		transfer.Token{JID: "1@lid", Sent: &sent}, transfer.Salt{Salt: []byte{2}}, transfer.Event{Hash: []byte{3}, Handled: true},
		transfer.Sent{ID: "Y", Plaintext: []byte{4}}, transfer.LID{LID: "1", PN: "2"}, transfer.Note{Key: "k", Value: []byte("v")},
		transfer.Charge{JSON: `{"id":"a"}`}, transfer.Mark{Message: "A", Fate: "gated"}, transfer.Heard{Chat: "1@g.us", JSON: `[{"text":"hi"}]`}, transfer.Turn{Chat: "1@lid", Ended: 5, Messages: []transfer.Message{{Came: 4, JSON: `{"text":"what is a quasar"}`}}}, transfer.Waiting{Chat: "1@lid", Message: transfer.Message{JSON: "{}"}},
	}
}

func keys(t *testing.T) *age.HybridIdentity {
	t.Helper()
	i, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func sealed(t *testing.T, to age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := Write(t.Context(), &b, one(), "v1", made, to)
	if err != nil || n != len(one()) {
		t.Fatalf("%d rows, %v", n, err)
	}
	return b.Bytes()
}

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	key := keys(t)
	s, err := Read(bytes.NewReader(sealed(t, key.Recipient())), keys(t), key)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Made.Equal(made) || s.By != "v1" || !reflect.DeepEqual(s.rows, []transfer.Row(one())) {
		t.Errorf("got %v %s %.2000v", s.Made, s.By, s.rows)
	}
	var kinds []transfer.Kind
	for _, r := range s.rows {
		kinds = append(kinds, r.Kind())
	}
	if !slices.Equal(slices.Sorted(slices.Values(kinds)), slices.Sorted(slices.Values(transfer.Kinds))) {
		t.Errorf("the test has not a row of each kind: %q", kinds)
	}
}

// Nothing of what is in it can be read without the key.
func TestSealed(t *testing.T) {
	t.Parallel()
	file := sealed(t, keys(t).Recipient())
	for _, text := range []string{"4915112345678", "Ännchen", "quasar", "session", "device"} {
		if bytes.Contains(file, []byte(text)) {
			t.Errorf("%q is in the file", text)
		}
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	r, err := age.NewScryptRecipient("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	r.SetWorkFactor(10)
	file := sealed(t, r)
	for words, want := range map[string]error{"correct horse": nil, "correct house": ErrKey} {
		i, err := age.NewScryptIdentity(words)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(bytes.NewReader(file), i); !errors.Is(err, want) {
			t.Errorf("%s: %v", words, err)
		}
	}
	if _, err := Read(bytes.NewReader(file), keys(t)); !errors.Is(err, ErrKey) {
		t.Errorf("a key in place of the passphrase: %v", err)
	}
}

// A byte changed or missing anywhere is refused.
func TestDamage(t *testing.T) {
	t.Parallel()
	key := keys(t)
	file := sealed(t, key.Recipient())
	step := len(file)/300 + 1
	for i := 0; i < len(file); i += step {
		if _, err := Read(bytes.NewReader(file[:i]), key); err == nil {
			t.Fatalf("cut off after %d bytes of %d: read all the same", i, len(file))
		} else if i > 4000 && !errors.Is(err, ErrDamaged) {
			t.Errorf("cut off after %d bytes of %d: %v", i, len(file), err)
		}
		changed := bytes.Clone(file)
		changed[i] ^= 1
		if _, err := Read(bytes.NewReader(changed), key); err == nil {
			t.Fatalf("byte %d of %d changed: read all the same", i, len(file))
		} else if i > 4000 && !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d of %d changed: %v", i, len(file), err)
		}
	}
	if _, err := Read(bytes.NewReader(append(bytes.Clone(file), 0)), key); err == nil {
		t.Error("a byte more: read all the same")
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	key := keys(t)
	seal := func(text string) []byte {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, key.Recipient())
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	const head = `{"what":"wabot session","format":1}` + "\n"
	for _, row := range []struct {
		what  string
		file  []byte
		is    error
		words string
	}{
		{"empty", nil, ErrForeign, ""},
		{"a database", []byte("SQLite format 3\x00"), ErrForeign, ""},
		{"empty within", seal(""), ErrForeign, ""},
		{"another's text", seal("hello"), ErrForeign, ""},
		{"another's JSON", seal(`{"name":"x"}`), ErrForeign, ""},
		{"another's list", seal(`[1]`), ErrForeign, ""},
		{"a newer one", seal(`{"what":"wabot session","format":99,"by":"v9"}`), nil, "newer wabot (v9)"},
		{"an unknown kind", seal(head + `{"kind":"soul","row":{}}`), ErrDamaged, `"soul"`},
		{"an unknown field", seal(head + `{"kind":"LID","row":{"lod":"1"}}`), ErrDamaged, "lod"},
	} {
		_, err := Read(bytes.NewReader(row.file), key)
		if err == nil || row.is != nil && !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.words) {
			t.Errorf("%s: %v", row.what, err)
		}
	}
}
