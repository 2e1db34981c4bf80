package mongostore

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mongotest"
)

// slowWay is the way to a database, on which a command can be held up until its sender has given it up.
type slowWay struct {
	t    *testing.T
	s    *Store
	line *mongotest.Line
	last map[string]bson.Raw // the last command, by name
}

func newSlowWay(t *testing.T) *slowWay {
	w := &slowWay{t: t, line: mongotest.NewLine(t), last: make(map[string]bson.Raw)}
	w.s = open(t, w.line.URL, func(o *Options) {
		looked := o.monitor.Started
		o.monitor = &event.CommandMonitor{Started: func(ctx context.Context, e *event.CommandStartedEvent) {
			looked(ctx, e)
			w.last[e.CommandName] = slices.Clone(e.Command)
		}}
	})
	return w
}

// hold holds up the commands with the name while do asks for one. The database carries it out when land is called.
func (w *slowWay) hold(name string, do func() error) (land func()) {
	w.t.Helper()
	patience := w.s.patience
	w.s.patience = time.Millisecond
	w.line.OnCommand(func(command string) mongotest.Fault {
		if command == name {
			return mongotest.CutBefore
		}
		return mongotest.None
	})
	if err := do(); !errors.Is(err, ErrOutage) {
		w.t.Fatalf("while %s is held up: %v", name, err)
	}
	w.line.OnCommand(nil)
	w.s.patience = patience
	var command bson.D
	if err := bson.Unmarshal(w.last[name], &command); err != nil {
		w.t.Fatal(err)
	}
	byDriver := []string{"lsid", "txnNumber", "$db", "$clusterTime", "maxTimeMS"} // which it adds again
	command = slices.DeleteFunc(command, func(e bson.E) bool { return slices.Contains(byDriver, e.Key) })
	return func() {
		w.t.Helper()
		if err := w.s.db.RunCommand(w.t.Context(), command).Err(); err != nil && !mongo.IsDuplicateKeyError(err) {
			w.t.Fatal(err)
		}
	}
}

// A claim, or what became of a turn, that the database carries out when its messages have been answered in another turn, makes
// no turn of them again.
func TestALateWriteMakesNoSecondTurn(t *testing.T) {
	t.Parallel()
	const phone, lid = "49@s.whatsapp.net", "1@lid"
	begin := time.Unix(2000, 0)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	for name, before := range map[string]func(put func(m chat.Message, n int), claim func() chat.Turn, w *slowWay) (land func()){
		"a claim": func(put func(chat.Message, int), _ func() chat.Turn, w *slowWay) func() {
			put(chat.Message{ID: "A", Chat: lid}, 0)
			put(chat.Message{ID: "B", Chat: lid}, 1)
			return w.hold("update", func() error { _, err := w.s.Claim(t.Context(), at(10), at(100)); return err })
		},
		"a claim before the chat got an earlier message": func(put func(chat.Message, int), _ func() chat.Turn, w *slowWay) func() {
			put(chat.Message{ID: "A", Chat: phone, Hold: at(20)}, 0)
			put(chat.Message{ID: "B", Chat: lid}, 1)
			land := w.hold("update", func() error { _, err := w.s.Claim(t.Context(), at(2), at(100)); return err })
			put(chat.Message{ID: "C", Chat: lid, ChatAlt: phone}, 3)
			return land
		},
		"a turn that another has taken in": func(put func(chat.Message, int), claim func() chat.Turn, w *slowWay) func() {
			put(chat.Message{ID: "A", Chat: phone}, 0)
			one := claim()
			put(chat.Message{ID: "B", Chat: lid}, 1)
			two := claim()
			if err := w.s.Retry(t.Context(), one, at(10)); err != nil {
				t.Fatal(err)
			}
			land := w.hold("update", func() error { return w.s.Retry(t.Context(), two, at(10)) })
			if err := w.s.Release(t.Context()); err != nil {
				t.Fatal(err)
			}
			put(chat.Message{ID: "C", Chat: lid, ChatAlt: phone}, 3)
			return land
		},
		"the end of what a turn takes in": func(put func(chat.Message, int), claim func() chat.Turn, w *slowWay) func() {
			put(chat.Message{ID: "A", Chat: phone}, 0)
			one := claim()
			put(chat.Message{ID: "B", Chat: lid}, 1)
			if err := errors.Join(w.s.Retry(t.Context(), claim(), at(10)), w.s.Retry(t.Context(), one, at(10))); err != nil {
				t.Fatal(err)
			}
			put(chat.Message{ID: "C", Chat: lid, ChatAlt: phone}, 3)
			w.hold("delete", func() error { _, err := w.s.Claim(t.Context(), at(11), at(12)); return err })
			return func() {} // the server was killed before that
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			w := newSlowWay(t)
			sent := 0
			put := func(m chat.Message, n int) {
				t.Helper()
				m.Sender = m.Chat
				if err := w.s.Put(ctx, m, at(n)); err != nil {
					t.Fatal(err)
				}
				sent++
			}
			claim := func() chat.Turn {
				t.Helper()
				turn, err := w.s.Claim(ctx, at(200), at(300))
				if err != nil {
					t.Fatal(err)
				}
				return turn
			}
			land := before(put, claim, w)
			turn := claim()
			if len(turn.Messages) != sent {
				t.Errorf("%d messages in the turn, want %d", len(turn.Messages), sent)
			}
			turn.Reply = &chat.Reply{Parts: []chat.Part{{ID: "R", Text: "answer", Sent: true}}}
			if err := w.s.Finish(ctx, turn, at(200)); err != nil {
				t.Fatal(err)
			}
			land()
			if err := w.s.Release(ctx); err != nil { // as a restart does
				t.Fatal(err)
			}
			if again, err := w.s.Claim(ctx, at(400), at(500)); !errors.Is(err, inbox.ErrEmpty) {
				t.Errorf("%d messages that were answered are claimed again: %v", len(again.Messages), err)
			}
			if n, err := w.s.inboxRows.CountDocuments(ctx, bson.D{field("kind", kindTurn), field("open", true)}); err != nil || n != 0 {
				t.Errorf("%d turns are open, %v", n, err)
			}
		})
	}
}

// A claim that the database carries out after the inbox was read anew is found by the next, and its messages stay in one turn.
func TestALateClaimBeforeTheNext(t *testing.T) {
	t.Parallel()
	ctx, now := t.Context(), time.Unix(2000, 0)
	w := newSlowWay(t)
	if err := w.s.Put(ctx, chat.Message{ID: "A", Chat: "1@lid", Sender: "1@lid"}, now); err != nil {
		t.Fatal(err)
	}
	land := w.hold("update", func() error { _, err := w.s.Claim(ctx, now, now.Add(time.Minute)); return err })
	if _, err := w.s.Depth(ctx); err != nil {
		t.Fatal(err)
	}
	land()
	if _, err := w.s.Claim(ctx, now.Add(time.Second), now.Add(time.Minute)); !errors.Is(err, errConflict) {
		t.Errorf("a claim of what another has claimed: %v", err)
	}
	turn, err := w.s.Claim(ctx, now.Add(time.Minute), now.Add(time.Hour))
	if err != nil || turn.Attempt != 2 || len(turn.Messages) != 1 {
		t.Errorf("when the lease has ended: attempt %d at %d messages, %v", turn.Attempt, len(turn.Messages), err)
	}
}

// A message that the database takes after the inbox was read anew, and that comes again, under the same address or the other, is
// answered.
func TestALateMessageIsAnswered(t *testing.T) {
	t.Parallel()
	const phone, lid = "49@s.whatsapp.net", "1@lid"
	for name, again := range map[string]chat.Message{
		"same address":  {ID: "A", Chat: phone, Sender: phone},
		"other address": {ID: "A", Chat: lid, ChatAlt: phone, Sender: lid, SenderAlt: phone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, now := t.Context(), time.Unix(2000, 0)
			w := newSlowWay(t)
			first := chat.Message{ID: "A", Chat: phone, Sender: phone}
			land := w.hold("insert", func() error { return w.s.Put(ctx, first, now) })
			if _, err := w.s.Depth(ctx); err != nil {
				t.Fatal(err)
			}
			land()
			if err := w.s.Put(ctx, again, now.Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			turn, err := w.s.Claim(ctx, now.Add(time.Minute), now.Add(time.Hour))
			if err != nil || len(turn.Messages) != 1 || turn.Chat != again.Chat {
				t.Errorf("claimed: %d messages, %v", len(turn.Messages), err)
			}
		})
	}
}

// A change of messages that the database carries out after a later write takes nothing of that back.
func TestALateChangeIsRefused(t *testing.T) {
	t.Parallel()
	begin := time.Unix(2000, 0)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	message := func(text string) chat.Message {
		return chat.Message{ID: "A", Chat: "1@lid", Sender: "1@lid", Text: text, Hold: at(1)}
	}
	amend := func(w *slowWay, text string) error {
		return w.s.Amend(t.Context(), []chat.Message{message(text)}, nil)
	}
	extend := func(w *slowWay) error {
		_, err := w.s.Extend(t.Context(), "1@lid", []string{"1@lid"}, at(2))
		return err
	}
	edited := func(w *slowWay) error { return amend(w, "third") }
	replied := func(w *slowWay) error {
		turn, err := w.s.Claim(t.Context(), at(20), at(30))
		if err == nil {
			err = w.s.SaveReply(t.Context(), turn, chat.Reply{Parts: []chat.Part{{ID: "R", Text: "answer"}}})
		}
		return err
	}
	for name, row := range map[string]struct {
		claimed    bool
		late, then func(*slowWay) error
		text       string
		reply      bool
	}{
		"an edit of what waits":               {false, func(w *slowWay) error { return amend(w, "second") }, edited, "third", false},
		"a hold":                              {false, extend, edited, "third", false},
		"an edit of what is in a turn":        {true, func(w *slowWay) error { return amend(w, "second") }, edited, "third", false},
		"an edit of what is answered by then": {true, func(w *slowWay) error { return amend(w, "second") }, replied, "first", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			w := newSlowWay(t)
			err := w.s.Put(ctx, message("first"), at(0))
			if err == nil && row.claimed {
				_, err = w.s.Claim(ctx, at(10), at(15))
			}
			if err != nil {
				t.Fatal(err)
			}
			land := w.hold("update", func() error { return row.late(w) })
			if err := row.then(w); err != nil {
				t.Fatal(err)
			}
			land()
			if err := w.s.Release(ctx); err != nil { // as a restart does
				t.Fatal(err)
			}
			turn, err := w.s.Claim(ctx, at(100), at(200))
			if err != nil || len(turn.Messages) != 1 || turn.Messages[0].Text != row.text || (turn.Reply != nil) != row.reply {
				t.Errorf("claimed %+v, %v; want the text %q, and a reply: %t", turn, err, row.text, row.reply)
			}
		})
	}
}

// What was heard and a note are written whole. What the database carries out after a later write, or removal, takes nothing of that
// back; nor where another process leads by then.
func TestALateOverwriteIsRefused(t *testing.T) {
	t.Parallel()
	const group, key = "g@g.us", "access"
	hear := func(texts ...string) func(context.Context, *Store) error {
		var all []chat.Message
		for _, text := range texts {
			all = append(all, chat.Message{ID: text, Chat: group, Sender: "1@lid", Text: text, Time: time.Unix(5, 0)})
		}
		return func(ctx context.Context, s *Store) error { return s.SetHeard(ctx, group, all) }
	}
	note := func(value []byte) func(context.Context, *Store) error {
		return func(ctx context.Context, s *Store) error { return s.SetNote(ctx, key, value) }
	}
	for name, row := range map[string]struct {
		late, then func(context.Context, *Store) error
		heard      int
		note       string
	}{
		"what was heard, forgotten since": {hear("a"), hear(), 0, ""},
		"what was heard, changed since":   {hear("a"), hear("a", "b"), 2, ""},
		"what is forgotten, heard since":  {hear(), hear("a"), 1, ""},
		"a note, changed since":           {note([]byte("allow")), note([]byte("block")), 0, "block"},
		"a note, removed since":           {note([]byte("allow")), note(nil), 0, ""},
		"a removed note, set since":       {note(nil), note([]byte("block")), 0, "block"},
	} {
		for by, led := range map[string]bool{"by the same process": false, "by who led before": true} {
			t.Run(name+", "+by, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				w := newSlowWay(t)
				next := w.s
				if led {
					lead(t, w.s)
					for range 3 { // more than the next has written
						if err := errors.Join(hear("before")(ctx, w.s), note([]byte("before"))(ctx, w.s), hear()(ctx, w.s), note(nil)(ctx, w.s)); err != nil {
							t.Fatal(err)
						}
					}
				}
				land := w.hold("update", func() error { return row.late(ctx, w.s) })
				if led {
					next = open(t, w.line.URL)
					lead(t, next)
				}
				if err := row.then(ctx, next); err != nil {
					t.Fatal(err)
				}
				land()
				if all, err := next.Heard(ctx, group); err != nil || len(all) != row.heard {
					t.Errorf("heard %+v, %v", all, err)
				}
				if value, err := next.Note(ctx, key); err != nil || string(value) != row.note || row.note == "" && value != nil {
					t.Errorf("the note is %q, %v", value, err)
				}
				if led {
					if err := row.late(ctx, w.s); !errors.Is(err, errPassive) {
						t.Errorf("who does not lead any more: %v", err)
					}
				}
			})
		}
	}
}

// lead makes s the leader, as from a process that has given the lease back.
func lead(t *testing.T, s *Store) {
	t.Helper()
	l, err := s.Acquire(t.Context(), "device", "a process", time.Minute, nil)
	if err == nil {
		err = l.Release(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Documents that an earlier version has written, and those of a database whose leases were deleted, are written over like others.
func TestOverwritesOfOlderDocuments(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), mongotest.New(t)
	write := func(s *Store, text string) {
		t.Helper()
		said := []chat.Message{{ID: "A", Chat: "g@g.us", Sender: "1@lid", Text: text, Time: time.Unix(5, 0)}}
		if err := errors.Join(s.SetHeard(ctx, "g@g.us", said), s.SetNote(ctx, "k", []byte(text))); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all, err := s.Heard(ctx, "g@g.us")
		value, noteErr := s.Note(ctx, "k")
		if err := errors.Join(err, noteErr); err != nil || len(all) != 1 || all[0].Text != text || string(value) != text {
			t.Fatalf("%s: heard %+v, the note %q, %v", text, all, value, err)
		}
	}
	s := open(t, url)
	write(s, "without a lease")
	for _, c := range []*mongo.Collection{s.meta, s.inboxRows} {
		if _, err := c.UpdateMany(ctx, bson.D{}, bson.D{field("$unset", bson.D{field("rev", "")})}); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"the first to lead", "the second"} {
		s = open(t, url)
		lead(t, s)
		write(s, text)
	}
	if _, err := s.leases.DeleteMany(ctx, bson.D{}); err != nil {
		t.Fatal(err)
	}
	s = open(t, url)
	lead(t, s)
	write(s, "the first again")
}

// Of what was removed no row is left to copy, and of what was forgotten nothing at all when it is old.
func TestWhatWasRemovedIsGone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, mongotest.New(t))
	said := []chat.Message{{ID: "A", Chat: "g@g.us", Sender: "1@lid", Text: "text", Time: time.Unix(5, 0)}}
	if err := errors.Join(s.SetHeard(ctx, "g@g.us", said), s.SetHeard(ctx, "g@g.us", nil), s.SetNote(ctx, "k", []byte("v")), s.SetNote(ctx, "k", nil)); err != nil {
		t.Fatal(err)
	}
	if all := rowsOf(t, s); len(all) > 0 {
		t.Errorf("rows: %q", all)
	}
	if chats, err := s.OldHeard(ctx, time.Now().Add(time.Hour), 5); err != nil || len(chats) > 0 {
		t.Errorf("old in %q, %v", chats, err)
	}
	for gone, age := range []time.Duration{time.Hour, -time.Hour} {
		if n, err := s.Sweep(ctx, time.Time{}, time.Now().Add(-age), 5); err != nil || n != gone {
			t.Errorf("older than %v: %d deleted, %v", age, n, err)
		}
	}
	if n, err := s.inboxRows.CountDocuments(ctx, bson.D{}); err != nil || n != 0 {
		t.Errorf("%d documents are left, %v", n, err)
	}
}
