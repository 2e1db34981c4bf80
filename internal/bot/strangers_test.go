package bot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/chat"
)

func (w *world) admits(b *Bot, all ...chat.Message) {
	w.t.Helper()
	for _, m := range all {
		if ok, err := b.Admit(w.t.Context(), m); ok || err != nil {
			w.t.Fatalf("admitted %v: %v", ok, err)
		}
	}
}

func strangersWorld(t *testing.T) (*world, *Bot) {
	w, b := newWorld(t)
	b.Rules.Allow, b.StrangerNotices = nil, true
	return w, b
}

// The owner is told once a day of each stranger who asks the bot, with the command that lets them in.
func TestStrangersAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := strangersWorld(t)
		w.admits(b, from("hi"), from("hi", replies), from("!help"), from("hi", inGroup, mentioned)) // to the owner, not to the bot
		if len(w.put) != 0 {
			t.Fatalf("told %+v", w.put)
		}
		name := func(m *chat.Message) { m.Name = "*Eve* _the_\nfriend" }
		w.admits(b, from("!ai hi", name), from("!ai hi again", name), from("!ai hi", name, byNumberOnly))
		w.admits(restarted(b), from("!ai hi", name))
		if len(w.put) != 1 {
			t.Fatalf("told %d times", len(w.put))
		}
		m := w.put[0]
		if m.Chat != ownLID || !m.Own || m.Kind != chat.Announcement || !strings.HasPrefix(m.Text, "*Eve thefriend* (+4915100000002) has asked") || !strings.HasSuffix(m.Text, "\n!allow +4915100000002") {
			t.Errorf("told %+v", m)
		}
		w.admits(b, from("!ai hi", byBob, inGroup), from("!gemini hi", inGroup))
		if len(w.put) != 2 || !strings.Contains(w.put[1].Text, "*Bob* has asked me something in a group") || !strings.HasSuffix(w.put[1].Text, "\n!allow "+groupJID) {
			t.Errorf("told %+v", w.put)
		}
		time.Sleep(24 * time.Hour)
		w.admits(b, from("!ai hi"))
		if len(w.put) != 3 || w.put[2].ID == m.ID {
			t.Errorf("told %+v", w.put)
		}
	})
}

func TestStrangersAreNotReported(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Bot){
		"switched off": func(b *Bot) { b.StrangerNotices = false },
		"blocked":      func(b *Bot) { b.Rules.Block = []string{aliceLID} },
	} {
		w, b := strangersWorld(t)
		change(b)
		if w.admits(b, from("!ai hi")); len(w.put) != 0 {
			t.Errorf("%s: told %+v", name, w.put)
		}
	}
	// Of a bot that answers everything every message is for the bot, but in groups.
	w, b := strangersWorld(t)
	b.Rules.Everything = true
	w.admits(b, from("hi", byBob, inGroup), from("hi"))
	if len(w.put) != 1 || !strings.Contains(w.put[0].ID, aliceLID) {
		t.Errorf("told %+v", w.put)
	}
}

// A crash between telling and noting that it was told tells nothing twice: the message comes again, and so does the ID.
func TestStrangersAreReportedOnceOverCrashes(t *testing.T) {
	t.Parallel()
	w, b := strangersWorld(t)
	notes := b.Notes.(*noteBook)
	notes.failSet = errors.New("no space left on device")
	if _, err := b.Admit(t.Context(), from("!ai hi")); err == nil {
		t.Fatal("no error: the message would not come again")
	}
	notes.failSet = nil
	w.admits(restarted(b), from("!ai hi"))
	if len(w.put) != 2 || w.put[0].ID != w.put[1].ID {
		t.Errorf("told %+v", w.put)
	}
}

// A flood of strangers does not flood the owner: of those beyond the tenth there is one line, the day after.
func TestFloodOfStrangers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := strangersWorld(t)
		for i := range 50 {
			m := from("!ai hi", func(m *chat.Message) { m.Sender, m.SenderAlt = fmt.Sprintf("30000000000%04d@lid", i), "" })
			w.admits(b, m, m)
		}
		if len(w.put) != mostReports {
			t.Fatalf("told %d times", len(w.put))
		}
		day := time.Now().Format(time.DateOnly)
		time.Sleep(24 * time.Hour)
		b = restarted(b)
		w.admits(b, from("hi", byBob, inGroup), from("hi"))
		if len(w.put) != mostReports+1 || w.put[mostReports].Text != "On "+day+" others whom I do not know asked me too: 40. I tell you of 10 a day at most." {
			t.Errorf("told %+v", w.put[len(w.put)-1])
		}
	})
}

// A notice is answered with its own text, which the model is not asked for, and nothing is read or reacted to.
func TestNotices(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	b.Ack, b.MaxAge = "👀", time.Hour
	if err := b.Tell(t.Context(), "x", "A stranger asked."); err != nil {
		t.Fatal(err)
	}
	w.put[0].Time = time.Now().Add(-2 * time.Hour)
	w.did = nil
	if err := b.Answer(t.Context(), turn(w.put[0])); err != nil {
		t.Fatal(err)
	}
	w.check("read 0", "typing", "save 1 parts, 0 sent", "typed", `send OUT1 "A stranger asked."`)
	w.did = nil
	if err := b.GiveUp(t.Context(), turn(w.put[0]), errors.New("broken")); err != nil {
		t.Fatal(err)
	}
	w.check()
}
