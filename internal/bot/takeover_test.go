package bot

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"time"

	"wabot/internal/chat"
)

// noteBook keeps notes, or fails.
type noteBook struct {
	kept  map[string][]byte
	reads int
	err   error
	// failSet is the error of keeping alone.
	failSet error
}

func (n *noteBook) Note(_ context.Context, key string) ([]byte, error) {
	n.reads++
	return n.kept[key], n.err
}

func (n *noteBook) SetNote(_ context.Context, key string, value []byte) error {
	err := cmp.Or(n.err, n.failSet)
	if err == nil {
		n.kept[key] = value
	}
	return err
}

func now(m *chat.Message) { m.Time = time.Now() }

// What others ask in a chat in which the owner writes by hand is not answered, until some time after; what the owner asks is.
func TestTakeover(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	notes := &noteBook{kept: map[string][]byte{}}
	b.Notes, b.Takeover = notes, time.Hour
	if err := b.Answer(t.Context(), turn(from("!ai hi", now))); err != nil || len(w.asked) != 1 {
		t.Fatalf("asked %v: %v", w.asked, err)
	}
	if err := b.Notice(t.Context(), from("I am there", byOwner, now)); err != nil {
		t.Fatal(err)
	}
	w.did = nil
	if err := b.Answer(t.Context(), turn(from("!ai hi", now))); err != nil {
		t.Fatal(err)
	}
	w.check("save 0 parts, 0 sent") // only why; it is not even shown as read
	if err := b.Answer(t.Context(), turn(from("!ai hi", byOwner, now))); err != nil || len(w.asked) != 2 {
		t.Errorf("the owner's own question: asked %v: %v", w.asked, err)
	}

	// Another process knows it too, and looks it up once.
	_, again := newWorld(t)
	again.Notes, again.Takeover = notes, time.Hour
	notes.reads = 0
	for range 3 {
		if until, err := again.quietUntil(t.Context(), from("!ai hi")); err != nil || time.Until(until) < 59*time.Minute {
			t.Errorf("quiet until %v: %v", until, err)
		}
	}
	if most := 2; notes.reads > most {
		t.Errorf("%d reads", notes.reads)
	}
}

func TestTakeoverIsNoticed(t *testing.T) {
	t.Parallel()
	long := func(m *chat.Message) { m.Time = time.Now().Add(-2 * time.Hour) }
	for name, row := range map[string]struct {
		m    chat.Message
		want bool
	}{
		"by hand":                   {from("I am there", byOwner, now), true},
		"by hand, in a group":       {from("I am there", byOwner, inGroup, now), true},
		"by hand, long ago":         {from("I was there", byOwner, long), false},
		"by the owner, for the bot": {from("!ai hi", byOwner, now), false},
		"by somebody else":          {from("hi", now), false},
		"an edit":                   {from("hi", byOwner, now, func(m *chat.Message) { m.Change = &chat.Change{ID: "x"} }), false},
	} {
		_, b := newWorld(t)
		notes := &noteBook{kept: map[string][]byte{}}
		b.Notes, b.Takeover = notes, time.Hour
		if err := b.Notice(t.Context(), row.m); err != nil || (len(notes.kept) > 0) != row.want {
			t.Errorf("%s: kept %d notes, %v", name, len(notes.kept), err)
		}
		notes.err = errors.New("no space left on device")
		if err := b.Notice(t.Context(), row.m); (err != nil) != row.want {
			t.Errorf("%s: a note that could not be kept: %v", name, err)
		}
		b.Takeover = 0
		if err := b.Notice(t.Context(), row.m); err != nil {
			t.Errorf("%s, switched off: %v", name, err)
		}
	}
}
