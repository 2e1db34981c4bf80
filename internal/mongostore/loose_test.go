package mongostore

import (
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// Only what may be undone by a crash of the database is not waited for until it is in its journal, and even that where the URL asks for it.
func TestLooseWrites(t *testing.T) {
	t.Parallel()
	t.Run("by default", func(t *testing.T) { looseWrites(t, "", false) })
	t.Run("with the journal in the URL", func(t *testing.T) { looseWrites(t, "&journal=true", true) })
}

func looseWrites(t *testing.T, query string, always bool) {
	t.Parallel()
	var c counter
	s := open(t, mongotest.New(t)+query, c.monitor)
	k := &talk{t: t, s: s, d: storetest.Pair(t, s.Devices(), "100"), n: 1}
	ctx, now := t.Context(), time.Now()
	k.receive()
	var turn chat.Turn
	for _, row := range []struct {
		what  string
		loose bool
		do    func() error
	}{
		{"a message", false, func() error {
			return s.Put(ctx, chat.Message{Chat: peer.String(), Sender: peer.String(), ID: "N"}, now)
		}},
		{"a secret", false, func() error { return k.d.MsgSecrets.PutMessageSecret(ctx, peer, peer, "N", []byte("secret")) }},
		{"a claim", true, func() (err error) { turn, err = s.Claim(ctx, now, now.Add(time.Minute)); return err }},
		{"a reply", false, func() error { return s.SaveReply(ctx, turn, chat.Reply{Parts: []chat.Part{{ID: "R"}}}) }},
		{"a session", false, func() error { return k.d.Sessions.PutSession(ctx, "9_1:0", storetest.Session(7)) }},
		{"a copy of what is sent", true, func() error { return k.d.EventBuffer.AddOutgoingEvent(ctx, peer, "R", "wa", []byte("text")) }},
		{"a turn's end", true, func() error { return s.Finish(ctx, turn, now) }},
		{"a text that is not needed any more", true, func() error { return k.d.EventBuffer.ClearBufferedEventPlaintext(ctx, k.hash()) }},
	} {
		c.mu.Lock()
		clear(c.concerns)
		c.mu.Unlock()
		k.check(row.do())
		c.mu.Lock()
		var said []string
		for _, concern := range c.concerns {
			if concern != "" {
				said = append(said, concern)
			}
		}
		c.mu.Unlock()
		want, err := bson.Marshal(bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: always || !row.loose}})
		k.check(err)
		if !slices.Equal(said, []string{bson.Raw(want).String()}) {
			t.Errorf("%s was written with %v, want %s", row.what, said, bson.Raw(want))
		}
	}
}

// undone is what is in the inbox before a write, to be put back as by a crash that undoes the write.
func undone(t *testing.T, s *Store) (restore func()) {
	t.Helper()
	var before []bson.D
	cursor, err := s.inboxRows.Find(t.Context(), bson.D{})
	if err == nil {
		err = cursor.All(t.Context(), &before)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		var ids bson.A
		for _, d := range before {
			ids = append(ids, d[0].Value)
			if _, err := s.inboxRows.ReplaceOne(t.Context(), byID(d[0].Value.(string)), d, options.Replace().SetUpsert(true)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.inboxRows.DeleteMany(t.Context(), bson.D{field("_id", bson.D{field("$nin", ids)})}); err != nil {
			t.Fatal(err)
		}
	}
}

// What a crash of the database undoes while the bot goes on, and what is there after the next start of the bot.
func TestWhatACrashUndoesIsDoneAgain(t *testing.T) {
	t.Parallel()
	begin := time.Unix(2000, 0)
	at := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Second) }
	m := chat.Message{ID: "A", Chat: "1@lid", Sender: "1@lid", Text: "hi", Kind: chat.Text}
	r := chat.Reply{Parts: []chat.Part{{ID: "R", Text: "hello"}}}
	claim := func(t *testing.T, s *Store, now int) chat.Turn {
		t.Helper()
		turn, err := s.Claim(t.Context(), at(now), at(now+100))
		if err != nil {
			t.Fatal(err)
		}
		return turn
	}
	for name, test := range map[string]func(t *testing.T, s *Store, again func() *Store){
		"a claim": func(t *testing.T, s *Store, again func() *Store) {
			undo := undone(t, s)
			turn := claim(t, s, 1)
			undo()
			if err := errors.Join(s.SaveReply(t.Context(), turn, r), s.Finish(t.Context(), turn, at(2))); err != nil {
				t.Fatal(err)
			}
			if _, err := again().Claim(t.Context(), at(1000), at(1100)); !errors.Is(err, inbox.ErrEmpty) {
				t.Errorf("after the next start something is to be answered: %v", err)
			}
		},
		"a claim of a turn that was tried before": func(t *testing.T, s *Store, again func() *Store) {
			if err := s.Retry(t.Context(), claim(t, s, 1), at(2)); err != nil {
				t.Fatal(err)
			}
			undo := undone(t, s)
			turn := claim(t, s, 3)
			undo()
			if err := s.SaveReply(t.Context(), turn, r); err == nil {
				t.Error("a reply was saved over what is not as it was")
			}
			turn = claim(t, s, 4)
			if turn.Reply != nil || turn.Attempt != 2 {
				t.Errorf("then the turn has the reply %v and is attempt %d, want none and 2", turn.Reply, turn.Attempt)
			}
			if err := errors.Join(s.SaveReply(t.Context(), turn, r), s.Finish(t.Context(), turn, at(5))); err != nil {
				t.Fatal(err)
			}
		},
		"a turn's end": func(t *testing.T, s *Store, again func() *Store) {
			turn := claim(t, s, 1)
			if err := s.SaveReply(t.Context(), turn, r); err != nil {
				t.Fatal(err)
			}
			undo := undone(t, s)
			turn.Reply = &r
			if err := s.Finish(t.Context(), turn, at(2)); err != nil {
				t.Fatal(err)
			}
			undo()
			if _, err := s.Claim(t.Context(), at(1000), at(1100)); !errors.Is(err, inbox.ErrEmpty) {
				t.Errorf("it is answered again by the same process: %v", err)
			}
			s = again()
			if turn = claim(t, s, 2000); turn.Reply == nil || len(turn.Reply.Parts) != 1 || turn.Reply.Parts[0].ID != "R" {
				t.Errorf("after the next start the reply is %v, want the one that was sent, under its ID", turn.Reply)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := mongotest.New(t)
			s := open(t, url)
			if err := s.Put(t.Context(), m, at(0)); err != nil {
				t.Fatal(err)
			}
			test(t, s, func() *Store {
				s := open(t, url)
				if err := s.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// What a crash undoes is known to the process that goes on: what was said in a turn whose end is undone is still deleted where its
// author asks for it, and a turn whose claim is undone is still answered by who has it.
func TestACrashIsNoticed(t *testing.T) {
	t.Parallel()
	ctx, begin := t.Context(), time.Unix(2000, 0)
	m := chat.Message{ID: "A", Chat: "1@lid", Sender: "1@lid", Text: "a secret", Kind: chat.Text}
	r := chat.Reply{Parts: []chat.Part{{ID: "R", Text: "hello"}}}
	begun := func(t *testing.T) (line *mongotest.Line, s *Store) {
		line = mongotest.NewLine(t)
		s = open(t, line.URL)
		if err := s.Put(ctx, m, begin); err != nil {
			t.Fatal(err)
		}
		return line, s
	}
	t.Run("a turn's end", func(t *testing.T) {
		t.Parallel()
		line, s := begun(t)
		turn, err := s.Claim(ctx, begin, begin.Add(time.Minute))
		if err == nil {
			err = s.SaveReply(ctx, turn, r)
		}
		if err != nil {
			t.Fatal(err)
		}
		undo := undone(t, s)
		turn.Reply = &r
		if err := s.Finish(ctx, turn, begin.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		undo()
		line.Cut()
		if err := s.Amend(ctx, []chat.Message{inbox.Erased(m)}, nil); err != nil {
			t.Fatal(err)
		}
		if x, err := open(t, line.URL).Find(ctx, m); err != nil || len(x.Messages) != 1 || x.Messages[0].Text != "" {
			t.Errorf("after the next start there is %v (%v), want its text deleted", x.Messages, err)
		}
		if past, err := s.History(ctx, m.Chat, 1); err != nil || len(past) != 1 || past[0].Reply == nil {
			t.Errorf("the history is %v (%v), want the turn in it", past, err)
		}
		if _, err := s.Claim(ctx, begin.Add(time.Hour), begin.Add(2*time.Hour)); !errors.Is(err, inbox.ErrEmpty) {
			t.Errorf("the turn is answered a second time: %v", err)
		}
	})
	t.Run("a claim", func(t *testing.T) {
		t.Parallel()
		line, s := begun(t)
		undo := undone(t, s)
		turn, err := s.Claim(ctx, begin, begin.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		undo()
		line.Cut()
		if _, err := s.Find(ctx, chat.Message{ID: "B", Chat: "1@lid", Sender: "1@lid"}); !errors.Is(err, inbox.ErrUnknown) {
			t.Fatal(err)
		}
		if _, err := s.Claim(ctx, begin.Add(time.Second), begin.Add(time.Minute)); !errors.Is(err, inbox.ErrEmpty) {
			t.Errorf("the turn is claimed a second time: %v", err)
		}
		if err := errors.Join(s.SaveReply(ctx, turn, r), s.Finish(ctx, turn, begin.Add(time.Second))); err != nil {
			t.Error(err)
		}
		if _, err := open(t, line.URL).Claim(ctx, begin.Add(time.Hour), begin.Add(2*time.Hour)); !errors.Is(err, inbox.ErrEmpty) {
			t.Errorf("after the next start something is to be answered: %v", err)
		}
	})
}
