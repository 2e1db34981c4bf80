package bot

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"wabot/internal/access"
	"wabot/internal/chat"
)

func id(s string) func(*chat.Message) { return func(m *chat.Message) { m.ID, m.Time = s, time.Now() } }

func edit(of string) func(*chat.Message) {
	return func(m *chat.Message) { m.ID, m.Change, m.Time = "E-"+of, &chat.Change{ID: of}, time.Now() }
}

func revoke(of string) func(*chat.Message) {
	return func(m *chat.Message) { m.ID, m.Change, m.Text = "R-"+of, &chat.Change{ID: of, Revoke: true}, "" }
}

func (w *world) answers(b *Bot, messages ...chat.Message) {
	w.t.Helper()
	if err := b.Answer(w.t.Context(), turn(messages...)); err != nil {
		w.t.Fatal(err)
	}
}

func TestEditOfWhatWaits(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.answers(b, from("!ai teh", id("A")), from("!ai the", edit("A")))
	if got := w.prompt.Messages[len(w.prompt.Messages)-1].Text; got != "the" || len(w.prompt.Messages) != 2 {
		t.Errorf("asked %q of %d messages", got, len(w.prompt.Messages))
	}
	w.check("amend 1", "read 1", "typing", "history of "+aliceLID, "complete", "save 1 parts, 0 sent", "typed", `send OUT1 "The *answer*"`, "amend 1", "save 1 parts, 1 sent")
	if w.amended[0].Text != "!ai the" || w.amended[0].ID != "A" || w.amended[1].Text != "" || w.amended[1].ID != "E-A" {
		t.Errorf("stored %+v", w.amended)
	}
}

func TestRevokeOfWhatWaits(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.answers(b, from("!ai secret", id("A")), from("", revoke("A")))
	w.check("amend 1", "amend 1")
	if m := w.amended[0]; !m.Revoked || m.Text != "" || m.Name != "" {
		t.Errorf("stored %+v", m)
	}
	// Of a burst the rest is answered.
	w, b = newWorld(t)
	w.answers(b, from("!ai secret", id("A")), from("!ai hi", id("B")), from("", revoke("A")))
	if got := w.prompt.Messages[1:]; len(got) != 1 || got[0].Text != "hi" {
		t.Errorf("asked %+v", got)
	}
}

func TestOnlyTheAuthorChangesAMessage(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	bob := func(m *chat.Message) { m.Sender, m.SenderAlt = "77@lid", "" }
	w.answers(b, from("!ai hi", inGroup, id("A")), from("!ai no", inGroup, edit("A"), bob), from("", inGroup, revoke("A"), bob))
	if got := w.prompt.Messages[len(w.prompt.Messages)-1].Text; got != "Alice: hi" {
		t.Errorf("asked %q", got)
	}
	// But an admin may revoke it.
	for _, author := range [][2]string{{aliceLID}, {alicePN}, {"88@lid", alicePN}} {
		admin := func(m *chat.Message) {
			m.Change.Admin, m.Change.Author, m.Change.AuthorAlt = true, author[0], author[1]
		}
		w, b = newWorld(t)
		w.answers(b, from("!ai hi", inGroup, id("A")), from("", inGroup, revoke("A"), bob, admin))
		w.check("amend 1", "amend 1")
		// Also once it was answered.
		w, b = newWorld(t)
		w.stored = []chat.Exchange{{Messages: []chat.Message{from("!ai hi", inGroup, id("A"))}, Reply: &chat.Reply{Parts: []chat.Part{{ID: "P1", Text: "one", Sent: true}}}}}
		w.answers(b, from("", inGroup, revoke("A"), bob, admin))
		if !slices.Contains(w.did, `send OUT1 "" revoking P1`) {
			t.Errorf("revoked as of %q: did %v", author, w.did)
		}
	}
}

func answeredTurn(w *world, parts ...chat.Part) {
	w.stored = []chat.Exchange{{Messages: []chat.Message{from("!ai teh", id("A"))}, Reply: &chat.Reply{Parts: parts}}}
	w.history = w.stored
}

func TestEditOfWhatWasAnswered(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	answeredTurn(w, chat.Part{ID: "P1", Text: "one", Sent: true}, chat.Part{ID: "P2", Text: "two", Sent: true})
	w.answers(b, from("!ai the", edit("A")))
	w.check("find A", "amend 1", "read 0", "typing", "history of "+aliceLID, "complete", "save 2 parts, 0 sent", "typed",
		`send OUT1 "The *answer*" editing P1`, "save 2 parts, 1 sent", `send OUT2 "" revoking P2`,
		"find A", "amend 1", "amend 1", "save 0 parts, 0 sent")
	if got := w.prompt.Messages; len(got) != 2 || got[1].Text != "the" {
		t.Errorf("asked %+v", got)
	}
	if want := []chat.Reply{{Parts: []chat.Part{{ID: "P1", Text: "The *answer*", Sent: true}}}}; !reflect.DeepEqual(w.replies, want) {
		t.Errorf("reply became %+v, want %+v", w.replies, want)
	}
}

// Somebody who gets no answers any more gets none by an edit: what they were answered is taken back.
func TestEditBySomebodyShutOut(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	b.Rules.Block = access.List{aliceLID}
	answeredTurn(w, chat.Part{ID: "P1", Text: "one", Sent: true})
	w.answers(b, from("!ai the", edit("A")))
	if slices.Contains(w.did, "complete") || !slices.Contains(w.did, `send OUT1 "" revoking P1`) || w.amended[0].Text != "!ai the" {
		t.Errorf("did %v, stored %q", w.did, w.amended[0].Text)
	}
}

// What came after a question is told to nobody as what was before it, however much that is.
func TestEditOfWhatWasAnsweredLongAgo(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	answeredTurn(w, chat.Part{ID: "P1", Text: "one", Sent: true})
	w.history = nil
	for i := range b.History {
		w.history = append(w.history, exchange("said later", from("!ai later", id(fmt.Sprint("L", i)))))
	}
	w.answers(b, from("!ai the", edit("A")))
	if got := texts(w.prompt.Messages); got != "Be kind.|the" {
		t.Errorf("asked %s", got)
	}
}

func TestRevokeOfWhatWasAnswered(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	answeredTurn(w, chat.Part{ID: "P1", Text: "one", Sent: true})
	w.answers(b, from("", revoke("A")), from("!ai and you?", id("B")))
	if got := w.prompt.Messages; len(got) != 4 {
		// The fake's history does not change by Amend; what a store has of it is in the stories.
		t.Errorf("asked %+v", got)
	}
	w.check("find A", "amend 1", "read 1", "typing", "history of "+aliceLID, "complete", "save 2 parts, 0 sent", "typed",
		`send OUT1 "" revoking P1`, "save 2 parts, 1 sent", `send OUT2 "The *answer*"`,
		"find A", "amend 1", "amend 1", "save 1 parts, 1 sent")
	if m := w.amended[0]; !m.Revoked || m.Text != "" {
		t.Errorf("stored %+v", m)
	}
}

// After the edit window, the message is changed and the reply stays.
func TestEditTooLate(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	answeredTurn(w, chat.Part{ID: "P1", Text: "one", Sent: true})
	w.stored[0].Messages[0].Time = time.Now().Add(-editWindow - time.Minute)
	w.answers(b, from("!ai the", edit("A")))
	w.check("find A", "amend 1", "read 0", "typing", "save 0 parts, 0 sent", "typed", "find A", "amend 1", "amend 1", "save 0 parts, 0 sent")
}

func TestEditOfWhatIsNotStored(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	m := from("!ai now for you", edit("A"))
	if known, err := b.Known(t.Context(), m); known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
	if got := Edited(m); got.ID != "A" || got.Change != nil {
		t.Errorf("as a message %+v", got)
	}
	if admitted, err := b.Admit(t.Context(), from("", revoke("A"))); admitted || err != nil {
		t.Errorf("a revoke of what is not stored is admitted: %v, %v", admitted, err)
	}
	answeredTurn(w)
	if known, err := b.Known(t.Context(), m); !known || err != nil {
		t.Errorf("known %v, %v", known, err)
	}
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	old := func(m *chat.Message) { m.Time = time.Now().Add(-25 * time.Hour) }
	recent := func(m *chat.Message) { m.Time = time.Now() }
	for name, test := range map[string]struct {
		messages []chat.Message
		said     int // messages sent
		asked    bool
	}{
		"recent":     {[]chat.Message{from("!ai a", recent)}, 1, true},
		"old":        {[]chat.Message{from("!ai a", old), from("!ai b", old)}, 1, false},
		"old, fresh": {[]chat.Message{from("!ai a", old), from("!ai b", recent)}, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, b := newWorld(t)
			b.MaxAge = 24 * time.Hour
			tr := turn(test.messages...)
			if err := b.reply(t.Context(), &tr); err != nil {
				t.Fatal(err)
			}
			if len(tr.Reply.Parts) != test.said || (len(w.prompt.Messages) > 0) != test.asked {
				t.Errorf("says %+v, asked %v", tr.Reply.Parts, w.prompt.Messages)
			}
			if test.asked && w.prompt.Messages[len(w.prompt.Messages)-1].Text == "a" && name != "recent" {
				t.Error("asked the old message")
			}
		})
	}
	// It is said once, however many turns the backlog comes in.
	w, b := newWorld(t)
	b.MaxAge = 24 * time.Hour
	w.history = []chat.Exchange{{Messages: []chat.Message{from("!ai a", old)}, Reply: &chat.Reply{Failure: tooLate}}}
	w.answers(b, from("!ai b", old))
	w.check("read 1", "typing", "history of "+aliceLID, "save 0 parts, 0 sent", "typed")
}
