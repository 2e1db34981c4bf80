package bot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/model"
	"wabot/internal/words"
)

// A picture is uploaded before the reply is saved, and sent with its description.
func TestDraw(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	tr := turn(from("!dalle a cat", inGroup))
	if err := b.Answer(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	w.check("read 1", "typing", `draw "a cat" by dalle`, "upload", "save 1 parts, 0 sent", "typed", `send OUT1 "🎨 a cat" quoting ID1`)

	w, b = newWorld(t)
	tr = turn(from("!DALLE", func(m *chat.Message) { m.Quoted = &chat.Quoted{Text: "a dog"} }))
	if err := b.reply(t.Context(), &tr); err != nil || tr.Reply.Parts[0].Picture.Path != "picture" {
		t.Fatal(err, tr.Reply)
	}
	w.check("read 1", "typing", `draw "a dog" by dalle`, "upload", "save 1 parts, 0 sent", "typed")
}

// A question and a picture that were asked for together are both answered.
func TestDrawBesideText(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	dog := from("!dalle a dog")
	dog.ID = "ID2"
	tr := turn(from("!ai hi"), from("!dalle a cat"), dog, from("thanks"))
	if err := b.reply(t.Context(), &tr); err != nil || len(tr.Reply.Parts) != 4 || tr.Reply.Parts[0].Picture != nil || tr.Reply.Parts[1].Picture == nil {
		t.Fatal(err, tr.Reply)
	}
	w.check("read 4", "typing", "history of "+aliceLID, "complete", `draw "a cat" by dalle`, "upload", `draw "a dog" by dalle`, "upload",
		"history of "+aliceLID, "complete", "save 4 parts, 0 sent", "typed")
}

func TestDrawFails(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.fail[`draw "a cat" by dalle`] = &llm.Error{Kind: llm.Filtered, Err: errors.New("detail")}
	tr := turn(from("!dalle a cat"))
	if err := b.reply(t.Context(), &tr); err != nil || len(tr.Reply.Parts) != 1 || tr.Reply.Parts[0].Text != b.Words.Say(sorry[llm.Filtered]) || !strings.Contains(tr.Reply.Failure, "detail") {
		t.Error(err, tr.Reply)
	}
	// What cannot be uploaded is tried again as a turn.
	w, b = newWorld(t)
	boom := errors.New("boom")
	w.fail["upload"] = boom
	if err := b.Answer(t.Context(), turn(from("!dalle a cat"))); !errors.Is(err, boom) {
		t.Error(err)
	}
	w.check("read 1", "typing", `draw "a cat" by dalle`, "upload", "typed")
	// … without drawing it again.
	w.did, w.fail = nil, map[string]error{}
	if err := b.Answer(t.Context(), turn(from("!dalle a cat"))); err != nil {
		t.Error(err)
	}
	w.check("read 1", "typing", "upload", "save 1 parts, 0 sent", "typed", `send OUT1 "🎨 a cat"`)
	if len(b.drawn) > 0 {
		t.Error("a picture that was saved is kept in memory")
	}
	// What nobody can show is said.
	w, b = newWorld(t)
	w.fail["upload"] = forGood{}
	tr = turn(from("!dalle a cat"))
	if err := b.reply(t.Context(), &tr); err != nil || tr.Reply.Parts[0].Text != b.Words.Say(sorry[llm.BadAnswer]) {
		t.Error(err, tr.Reply)
	}
}

type forGood struct{}

func (forGood) Error() string   { return "for good" }
func (forGood) Permanent() bool { return true }

func TestDrawingsAreBounded(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	for i := range 3 * drawings {
		m := from("!dalle a cat", func(m *chat.Message) { m.ID = fmt.Sprint(i) })
		if _, _, err := b.paint(t.Context(), m, model.Model{Name: "dalle"}, "a cat"); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.drawn) > drawings || len(w.did) != 3*drawings {
		t.Errorf("%d kept, %d drawn", len(b.drawn), len(w.did))
	}
}

// When half of the turn's time has gone, what is done is sent.
func TestNoTimeForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, b := newWorld(t)
		b.Painter = slowPainter{w}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		message := func(id string) chat.Message {
			return from("!dalle "+id, func(m *chat.Message) { m.ID = id })
		}
		tr := turn(message("one"), message("two"), message("three"), message("four"), message("five"))
		if err := b.reply(ctx, &tr); err != nil {
			t.Fatal(err)
		}
		if n := len(tr.Reply.Parts); n != 4 || tr.Reply.Parts[3].Text != b.Words.Say(words.NoTimeForAll) || tr.Reply.Parts[2].Picture == nil {
			t.Errorf("%d parts: %+v", n, tr.Reply.Parts)
		}
	})
}

type slowPainter struct{ *world }

func (s slowPainter) Image(ctx context.Context, name, description string) (llm.Media, string, error) {
	time.Sleep(time.Minute)
	return s.world.Image(ctx, name, description)
}

func TestDrawPrefixAlone(t *testing.T) {
	t.Parallel()
	for _, message := range []chat.Message{from("!dalle"), from("!dalle", func(m *chat.Message) { m.Kind = chat.Image })} {
		w, b := newWorld(t)
		tr := turn(message)
		if err := b.reply(t.Context(), &tr); err != nil || !strings.HasPrefix(tr.Reply.Parts[0].Text, "I draw as *dalle* what follows *!dalle*") {
			t.Error(err, tr.Reply)
		}
		w.check("read 1", "typing", "save 1 parts, 0 sent", "typed")
	}
}

// The model is told of its pictures in words.
func TestPictureInHistory(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.history = []chat.Exchange{{Messages: []chat.Message{from("!dalle a cat")}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "🎨 a cat", Picture: &chat.Picture{}}}}}}
	if err := b.Answer(t.Context(), turn(from("!ai what was that?"))); err != nil {
		t.Fatal(err)
	}
	if got := w.prompt.Messages[2].Text; got != "[You sent a picture of:] a cat" {
		t.Errorf("told %q", got)
	}
}

func TestCaption(t *testing.T) {
	t.Parallel()
	if got := []rune(caption(strings.Repeat("ä", 1000))); len(got) != longestCaption || got[longestCaption-1] != '…' {
		t.Errorf("%d characters", len(got))
	}
}
