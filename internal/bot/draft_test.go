package bot

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/llm"
	"wabot/internal/words"
)

func withPlaceholder(t *testing.T) (*world, *Bot) {
	w, b := newWorld(t)
	b.Manner, b.Processing = Placeholder, "Thinking..."
	return w, b
}

// The placeholder is saved before it is sent, and so is the edit that makes the answer of it.
func TestPlaceholder(t *testing.T) {
	t.Parallel()
	w, b := withPlaceholder(t)
	w.answers(b, from("!ai hi"))
	w.check("read 1", "typing", "history of "+aliceLID, "save 1 parts, 0 sent", `send OUT1 "Thinking..." quoting ID1`, "complete",
		"save 1 parts, 0 sent", "typed", `send OUT2 "The *answer*" editing OUT1`)
	if want := []chat.Part{{ID: "OUT1", Text: "The *answer*", Quote: true}}; !reflect.DeepEqual(w.saved.Parts, want) {
		t.Errorf("history has %+v, want %+v", w.saved.Parts, want)
	}

	// What needs no model needs no placeholder.
	w, b = withPlaceholder(t)
	w.answers(b, from("!ai !help"))
	w.check("read 1", "typing", "save 1 parts, 0 sent", "typed", `send OUT1 "long text"`)
}

func TestPlaceholderOfLongAnswer(t *testing.T) {
	t.Parallel()
	w, b := withPlaceholder(t)
	w.answer.Text = strings.Repeat("A sentence of some length. ", 200)
	w.answers(b, from("!ai hi"))
	w.check("read 1", "typing", "history of "+aliceLID, "save 1 parts, 0 sent", `send OUT1 "Thinking..." quoting ID1`, "complete",
		"save 2 parts, 0 sent", "typed", `send OUT2 "long text" editing OUT1`, "save 2 parts, 1 sent", `send OUT3 "long text"`)
}

// A picture takes the placeholder's place and its quote: no edit makes a picture of a text.
func TestPlaceholderOfPicture(t *testing.T) {
	t.Parallel()
	w, b := withPlaceholder(t)
	w.answers(b, from("!dalle a cat"))
	w.check("read 1", "typing", "save 1 parts, 0 sent", `send OUT1 "Thinking..." quoting ID1`, `draw "a cat" by dalle`, "upload",
		"save 2 parts, 0 sent", "typed", `send OUT2 "" revoking OUT1`, "save 2 parts, 1 sent", `send OUT3 "🎨 a cat" quoting ID1`)
	if len(w.saved.Parts) != 1 || w.saved.Parts[0].ID != "OUT3" {
		t.Errorf("history has %+v", w.saved.Parts)
	}
}

func TestPlaceholderOfFailure(t *testing.T) {
	t.Parallel()
	w, b := withPlaceholder(t)
	w.fail["complete"] = &llm.Error{Kind: llm.Unavailable, Err: errors.New("detail")}
	w.answers(b, from("!ai hi"))
	if want := []chat.Part{{ID: "OUT1", Text: b.Words.Say(words.Unavailable), Quote: true}}; !reflect.DeepEqual(w.saved.Parts, want) || w.saved.Failure == "" {
		t.Errorf("saved %+v", w.saved)
	}
}

// opened is a turn that was left after its placeholder was saved.
func opened(age time.Duration, sent bool) chat.Turn {
	t := turn(from("!ai hi"))
	t.Reply = &chat.Reply{Parts: []chat.Part{{ID: "A", Text: "Thinking...", Quote: true, Opened: time.Now().Add(-age), Sent: sent}}}
	return t
}

// A turn that was cut off after its placeholder goes on with the same message.
func TestPlaceholderAfterKill(t *testing.T) {
	t.Parallel()
	w, b := withPlaceholder(t)
	if err := b.Answer(t.Context(), opened(time.Minute, false)); err != nil {
		t.Fatal(err)
	}
	w.check("read 1", "typing", "history of "+aliceLID, `send A "Thinking..." quoting ID1`, "complete",
		"save 1 parts, 0 sent", "typed", `send OUT1 "The *answer*" editing A`)

	// So it does where no placeholders are shown any more.
	w, b = newWorld(t)
	if err := b.Answer(t.Context(), opened(time.Minute, false)); err != nil {
		t.Fatal(err)
	}
	w.check("read 1", "typing", "history of "+aliceLID, "complete",
		"save 1 parts, 0 sent", "typed", `send A "Thinking..." quoting ID1`, `send OUT1 "The *answer*" editing A`)

	// A message that is too old to be edited is taken back.
	w, b = withPlaceholder(t)
	if err := b.Answer(t.Context(), opened(20*time.Minute, true)); err != nil {
		t.Fatal(err)
	}
	w.check("read 1", "typing", "history of "+aliceLID, "complete", "save 2 parts, 0 sent", "typed",
		`send OUT1 "" revoking A`, "save 2 parts, 1 sent", `send OUT2 "The *answer*" quoting ID1`)

	// And so is one in a chat that the owner has taken over meanwhile.
	w, b = withPlaceholder(t)
	b.Takeover = time.Hour
	b.setQuiet(aliceLID, time.Now().Add(time.Hour))
	b.setQuiet(from("").ChatAlt, time.Now().Add(time.Hour))
	if err := b.Answer(t.Context(), opened(time.Minute, true)); err != nil {
		t.Fatal(err)
	}
	w.check("read 0", "typing", "save 1 parts, 0 sent", "typed", `send OUT1 "" revoking A`)
}

func TestPlaceholderIsGivenUp(t *testing.T) {
	t.Parallel()
	w, b := withPlaceholder(t)
	if err := b.GiveUp(t.Context(), opened(time.Minute, false), errors.New("broken")); err != nil {
		t.Fatal(err)
	}
	w.check("save 1 parts, 0 sent", `send A "Thinking..." quoting ID1`, `send OUT1 "long text" editing A`)
	if want := []chat.Part{{ID: "A", Text: b.Words.Say(words.GaveUp), Quote: true}}; !reflect.DeepEqual(w.saved.Parts, want) || w.saved.Failure != "broken" {
		t.Errorf("saved %+v", w.saved)
	}
}

// A turn that was given up while its answer was made teaches the model nothing.
func TestOpenReplyIsNoHistory(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.history = []chat.Exchange{{Messages: []chat.Message{from("!ai lost")}, Reply: opened(time.Hour, true).Reply}}
	w.answers(b, from("!ai hi"))
	if len(w.prompt.Messages) != 2 {
		t.Errorf("prompt %+v", w.prompt.Messages)
	}
}

// growing makes the answer come word by word, one each so often.
func (w *world) growing(every time.Duration) {
	w.grow = func(onText func(string)) {
		for i := range w.answer.Text {
			if i > 0 && w.answer.Text[i] == ' ' {
				onText(w.answer.Text[:i])
				time.Sleep(every)
			}
		}
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Manner = Stream
		w.answer.Text = "One **two three** four"
		w.growing(1100 * time.Millisecond)
		w.answers(b, from("!ai hi", inGroup))
		w.check("read 1", "typing", "history of "+groupJID, "save 1 parts, 0 sent", `send OUT1 "One *two*" quoting ID1`, `send OUT2 "One *two three*" editing OUT1`,
			"complete", "save 1 parts, 0 sent", "typed", `send OUT3 "One *two three* four" editing OUT1`)
	})
}

// An answer that is there at once comes whole, and one that stands already is not edited again.
func TestStreamOfShortAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Manner = Stream
		w.growing(time.Millisecond)
		w.answers(b, from("!ai hi"))
		w.check("read 1", "typing", "history of "+aliceLID, "complete", "save 1 parts, 0 sent", "typed", `send OUT1 "The *answer*"`)

		w, b = newWorld(t)
		b.Manner = Stream
		w.grow = func(onText func(string)) { onText(w.answer.Text); time.Sleep(time.Minute) }
		w.answers(b, from("!ai hi"))
		w.check("read 1", "typing", "history of "+aliceLID, "save 1 parts, 0 sent", `send OUT1 "The *answer*"`, "complete", "save 1 parts, 1 sent", "typed")
	})
}

// Each further message is saved before it is sent, and there is one sign of growth for each pace.
func TestStreamGoesOnInFurtherMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Manner = Stream
		w.answer.Text = strings.Repeat("word ", 2000) + "end"
		w.growing(10 * time.Millisecond)
		begin := time.Now()
		w.answers(b, from("!ai hi"))
		sends := 0
		for _, did := range w.did {
			if strings.HasPrefix(did, "send ") {
				sends++
			}
		}
		if most := int(time.Since(begin)/pace) + 3; sends > most || sends < most-4 {
			t.Errorf("%d messages and edits in %v", sends, time.Since(begin))
		}
		var whole []string
		for _, p := range w.saved.Parts {
			whole = append(whole, p.Text)
		}
		if len(whole) != 3 || strings.Join(whole, " ") != w.answer.Text {
			t.Errorf("in %d messages: %.50q", len(whole), whole)
		}
	})
}

// A message is closed before WhatsApp takes no more edits of it; what follows goes into a new one.
func TestStreamBeyondTheEditWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Manner = Stream
		first := map[string]time.Time{}
		last := map[string]time.Time{}
		b.WA = sendingTo(w, func(p chat.Part) {
			if p.Edits != "" {
				last[p.Edits] = time.Now()
			} else {
				first[p.ID] = time.Now()
			}
		})
		w.answer.Text = "Before.\n\n```go\n" + strings.Repeat("code and \n", 400) + "```\nThat **is** it."
		w.growing(2 * time.Second)
		w.answers(b, from("!ai hi"))
		if len(w.saved.Parts) < 2 {
			t.Fatalf("%d messages", len(w.saved.Parts))
		}
		for id, at := range last {
			if age := at.Sub(first[id]); age >= editWindow {
				t.Errorf("%s is edited after %v", id, age)
			}
		}
		lines := 0
		for _, p := range w.saved.Parts {
			lines += strings.Count(p.Text, "code and")
			if strings.Count(p.Text, "```")%2 == 1 {
				t.Errorf("an open code block: %q", p.Text)
			}
		}
		if end := w.saved.Parts[len(w.saved.Parts)-1].Text; lines != 400 || !strings.HasSuffix(end, "```\n\nThat *is* it.") {
			t.Errorf("%d lines, and the end %.60q", lines, end[max(0, len(end)-60):])
		}
	})
}

// A turn whose lease is lost stops at once.
func TestStreamOfLostTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Manner = Stream
		w.fail["save 1 parts, 0 sent"] = fmt.Errorf("save: %w", inbox.ErrLeaseLost)
		w.growing(time.Second)
		if err := b.Answer(t.Context(), turn(from("!ai hi"))); !errors.Is(err, inbox.ErrLeaseLost) {
			t.Error(err)
		}
	})
}

// While nothing can be sent the answer is made all the same, and sent later to the message that was begun.
func TestStreamWithoutNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Manner = Stream
		w.answer.Text = "one two three"
		offline := errors.New("offline")
		w.fail[`send OUT1 "one two"`] = offline
		w.growing(time.Second)
		if err := b.Answer(t.Context(), turn(from("!ai hi"))); !errors.Is(err, offline) {
			t.Fatal(err)
		}
		w.did, w.fail = nil, nil
		again := turn(from("!ai hi"))
		again.Reply = w.saved
		if err := b.Answer(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		w.check(`send OUT1 "one two"`, `send OUT2 "one two three" editing OUT1`)
	})
}

type observed struct {
	Messenger
	sent func(p chat.Part)
}

func (o observed) Send(ctx context.Context, to string, p chat.Part, quote *chat.Message) error {
	o.sent(p)
	return o.Messenger.Send(ctx, to, p, quote)
}

func sendingTo(m Messenger, sent func(p chat.Part)) Messenger { return observed{m, sent} }
