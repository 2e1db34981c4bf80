package bot

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/words"
)

func exchange(text string, messages ...chat.Message) chat.Exchange {
	return chat.Exchange{Messages: messages, Reply: &chat.Reply{Parts: []chat.Part{{ID: "R", Text: text}}}}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	if text := w.says(b, from("!retry")); text != b.Words.Say(words.NothingToRetry) || len(w.asked) != 0 {
		t.Errorf("said %q", text)
	}
	w.history = []chat.Exchange{
		exchange("first", from("!ai one", id("A"))),
		exchange("second", from("!ai two", id("B")), from("!gemini three", id("C"))),
		{Messages: []chat.Message{from("!help", id("D"))}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "a list", Command: "help"}}}},
	}
	if text := w.says(b, from("!retry", id("E"))); text != "✨ The *answer*" && text != "The *answer*" {
		t.Errorf("said %q", text)
	}
	if got := texts(w.prompt.Messages); got != "Be brief.|one|first|three" || w.prompt.Model != "gemini" {
		t.Errorf("asked %s of %s", got, w.prompt.Model)
	}
	// The new answer is a part of the conversation, and the question can be answered once more.
	w.history = append(w.history, exchange("anew", from("!retry", id("E"))))
	w.says(b, from("!retry", id("F")))
	if got := texts(w.prompt.Messages); got != "Be brief.|one|first|three" {
		t.Errorf("asked %s", got)
	}
	w.says(b, from("!ai four", id("G")))
	if got := texts(w.prompt.Messages); !strings.HasSuffix(got, "|!retry|anew|four") {
		t.Errorf("asked %s", got)
	}
}

func TestSumsUp(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	if text := w.says(b, from("!summary", inGroup)); text != b.Words.Say(words.NothingToSumUp) || len(w.asked) != 0 {
		t.Errorf("said %q", text)
	}
	w.history = []chat.Exchange{exchange("at eight", from("!ai when?", inGroup))}
	w.heard = []chat.Message{from("let us go", inGroup, byBob)}
	if text := w.says(b, from("!summary", inGroup, byBob)); text != "The *answer*" {
		t.Errorf("said %q", text)
	}
	if got := texts(w.prompt.Messages); got != summing+"|Alice: when?\nyou: at eight\nBob: let us go" {
		t.Errorf("asked %s", got)
	}
	if slices.Contains(w.did, "unhear 1") {
		t.Error("what was summed up is forgotten")
	}
	if _, _, ok := b.Rules.command(from("!summary")); ok {
		t.Error("a command in a chat of two")
	}
}

// What the person said in the same turn is not answered, and deleted too; what others said stays.
func TestForget(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	err := b.Answer(t.Context(), turn(from("!ai my secret", id("A"), inGroup), from("!ai my question", id("B"), inGroup, byBob), from("!forget", id("C"), inGroup)))
	if err != nil {
		t.Fatal(err)
	}
	if text := w.told(); text != "The *answer*\n--\n"+b.Words.Say(words.Forgotten) {
		t.Errorf("said %q", text)
	}
	if got := texts(w.prompt.Messages); strings.Contains(got, "secret") {
		t.Errorf("asked %s", got)
	}
	if len(w.amended) != 1 || w.amended[0].ID != "A" || w.amended[0].Text != "" || !w.amended[0].Revoked {
		t.Errorf("amended %+v", w.amended)
	}
	if !slices.Contains(w.did, "erase "+aliceLID+" "+alicePN+" in "+groupJID) {
		t.Errorf("did %v", w.did)
	}
}

// An answer is not given again for an edit that is to be forgotten; for a revoke it is taken back all the same.
func TestForgetAfterAChange(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change    chat.Message
		takesBack bool
	}{
		"an edit": {from("!ai my secret", edit("A")), false}, "a revoke": {from("", revoke("A")), true},
	} {
		w, b := newWorld(t)
		answeredTurn(w, chat.Part{ID: "P1", Text: "one", Sent: true})
		w.answers(b, row.change, from("!forget", id("F")))
		if slices.Contains(w.did, "complete") {
			t.Errorf("%s: the model was told %s", name, texts(w.prompt.Messages))
		}
		if got := slices.Contains(w.did, `send OUT1 "" revoking P1`); got != row.takesBack {
			t.Errorf("%s: did %v", name, w.did)
		}
	}
}

// Nor is anything left of what would not have been answered, nor in what others quote of it. Commands are carried out all the same.
func TestForgetInTheSameTurn(t *testing.T) {
	t.Parallel()
	old := func(m *chat.Message) { m.Time = time.Now().Add(-2 * time.Hour) }
	quoting := func(m *chat.Message) {
		m.Quoted = &chat.Quoted{ID: "A", Sender: aliceLID, Text: "my secret", Kind: chat.Document, Media: &chat.Media{Name: "secret"}, Read: "secret, read"}
	}
	for name, row := range map[string]struct {
		before []chat.Message
		want   []string // of the messages before, those that are amended
	}{
		"paused":                {[]chat.Message{from("!ai my secret", id("A")), from("!pause", id("B")), from("!ai a second secret", id("C"))}, []string{"A", "C"}},
		"too old":               {[]chat.Message{from("!ai my secret", id("A"), old)}, []string{"A"}},
		"a command too old":     {[]chat.Message{from("!model secret", id("A"), old)}, []string{"A"}},
		"not theirs to command": {[]chat.Message{from("!instructions secret", id("A"))}, []string{"A"}},
		"by the other address":  {[]chat.Message{from("!ai my secret", id("A"), func(m *chat.Message) { m.Sender, m.SenderAlt = alicePN, "" })}, []string{"A"}},
		"quoted":                {[]chat.Message{from("!ai what is this", id("B"), inGroup, byBob, quoting)}, []string{"B"}},
		"quoted, too old":       {[]chat.Message{from("!ai what is this", id("B"), inGroup, byBob, quoting, old)}, []string{"B"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, b := newWorld(t)
			b.MaxAge = time.Hour
			command := from("!forget", id("F"))
			if row.before[0].Group {
				inGroup(&command)
			}
			w.answers(b, append(row.before, command)...)
			if !strings.HasSuffix(w.told(), b.Words.Say(words.Forgotten)) {
				t.Errorf("said %q", w.told())
			}
			var amended []string
			for _, m := range w.amended {
				amended = append(amended, m.ID)
				if q := m.Quoted; strings.Contains(m.Text, "secret") || q != nil && (q.Text != "" || q.Read != "" || q.Media != nil) {
					t.Errorf("left is %+v, quoted %+v", m, q)
				}
			}
			if !slices.Equal(amended, row.want) {
				t.Errorf("amended %v, want %v", amended, row.want)
			}
			if got := texts(w.prompt.Messages); strings.Contains(got, "secret") {
				t.Errorf("asked %s", got)
			}
		})
	}
}
