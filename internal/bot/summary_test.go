package bot

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/llm"
	"wabot/internal/storetest"
)

// longChat is a world whose chat has so many turns, a minute each.
func longChat(t *testing.T, turns int) (*world, *Bot) {
	w, b := newWorld(t)
	b.Summaries = true
	begin := time.Now().Add(-time.Hour)
	for i := range turns {
		m := from(fmt.Sprintf("!ai question %d", i))
		m.ID, m.Time = fmt.Sprint(i), begin.Add(time.Duration(i)*time.Minute)
		w.history = append(w.history, chat.Exchange{Messages: []chat.Message{m}, Reply: &chat.Reply{Parts: []chat.Part{{Text: fmt.Sprintf("answer %d", i)}}}})
	}
	return w, b
}

func (w *world) wasTold(text string) bool {
	return slices.ContainsFunc(w.prompt.Messages, func(m llm.Message) bool { return strings.Contains(m.Text, text) })
}

// A short chat costs nothing: no look for a summary, and none is made.
func TestShortChatHasNoSummary(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 3)
	w.answers(b, from("!ai hi"))
	w.check("read 1", "typing", "history of "+aliceLID, "complete", "save 1 parts, 0 sent", "typed", `send OUT1 "The *answer*"`)
	if len(b.due) > 0 {
		t.Error("a summary is due")
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 8)
	w.answer.Text = "Alice asked things."
	if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err != nil {
		t.Fatal(err)
	}
	for text, told := range map[string]bool{"the person: question 0": true, "the assistant: answer 0": true, "question 3": true, "question 5": false} {
		if w.wasTold(text) != told {
			t.Errorf("for the summary the model was told %q: %v", text, !told)
		}
	}
	got := w.summaries[aliceLID]
	if got.Text != "Alice asked things." || !got.Through.Equal(w.history[3].Messages[0].Time) {
		t.Errorf("summary %+v", got)
	}
	// It stands before the history, after the instructions.
	all := w.history
	w.history = all[3:]
	w.answers(b, from("!ai hi"))
	if m := w.prompt.Messages[1]; m.Role != llm.User || !strings.Contains(m.Text, "Alice asked things.") || w.prompt.Messages[2].Text != "question 3" {
		t.Errorf("prompt %+v", w.prompt.Messages)
	}
	if len(b.due) != 1 {
		t.Errorf("%d summaries are due", len(b.due))
	}
	// The next one is made of it, and of what came after it alone.
	later := from("!ai question 8")
	later.Time = time.Now()
	w.history = append(all, chat.Exchange{Messages: []chat.Message{later}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "answer 8"}}}})
	if err := b.summarise(t.Context(), <-b.due); err != nil {
		t.Fatal(err)
	}
	if !w.wasTold("Alice asked things.") || w.wasTold("question 3") || !w.wasTold("question 4") {
		t.Errorf("the second summary is made of %+v", w.prompt.Messages)
	}
	// Not again without more to tell.
	w.did = nil
	if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err != nil || slices.Contains(w.did, "complete") {
		t.Error(w.did, err)
	}
}

// What was said in recordings and stood in documents is summarised too; of pictures, that there were some.
func TestSummaryHasMedia(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 8)
	carries := func(i int, kind chat.Kind, read string) {
		m := &w.history[i].Messages[0]
		m.Kind, m.Media, m.Read = kind, &chat.Media{Name: "x"}, read
	}
	carries(0, chat.Voice, "my boat is called Anna")
	carries(1, chat.Document, "the lease ends in May "+strings.Repeat("and so on ", 1000)+"its end")
	carries(2, chat.Image, "")
	w.history[3].Messages[0].Quoted = &chat.Quoted{ID: "q", Kind: chat.Voice, Media: &chat.Media{}, Read: "quoted talk"}
	if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err != nil {
		t.Fatal(err)
	}
	for text, told := range map[string]bool{
		"my boat is called Anna": true, "the lease ends in May": true, "its end": false, "quoted talk": true, "image \"x\", which is not shown again": true,
	} {
		if w.wasTold(text) != told {
			t.Errorf("for the summary the model was told %q: %v", text, !told)
		}
	}
}

// One that was deleted for its age is not told for long.
func TestSummaryIsReadAgain(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.summaries[aliceLID] = inbox.Summary{Text: "of old"}
	read := func() string {
		t.Helper()
		s, err := b.summary(t.Context(), aliceLID)
		if err != nil {
			t.Fatal(err)
		}
		return s.Text
	}
	read()
	delete(w.summaries, aliceLID)
	if got := read(); got != "of old" {
		t.Errorf("read %q each time", got)
	}
	b.recall(aliceLID, func(r *remembered) { r.known = r.known.Add(-rereading) })
	if got := read(); got != "" {
		t.Errorf("still %q", got)
	}
}

// A summary is counted for whom it is made, and none is made for those whose budget is used up.
func TestSummaryIsCharged(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 8)
	limited(t, b, &storetest.Memory{}, 1000)
	s := toSummarise{chat: aliceLID, model: "openai", payer: from("!ai hi")}
	if err := b.summarise(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if n := spent(b, s.payer); n == 0 || n >= 1000 {
		t.Errorf("spent %d tokens", n)
	}
	b.Ledger.Note(chat.Charge{ID: "x", Kind: chat.ForText, Time: time.Now(), Person: aliceLID, Prompt: 2000})
	w.did, w.summaries = nil, nil
	b.recall(aliceLID, func(r *remembered) { *r = remembered{} })
	if err := b.summarise(t.Context(), s); err != nil || slices.Contains(w.did, "complete") {
		t.Errorf("did %q (%v)", w.did, err)
	}
}

// A chat whose summary fails is answered as before, and so is one whose summary cannot be read.
func TestSummaryFails(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 8)
	w.fail["complete"] = &llm.Error{Kind: llm.Unavailable, Err: errors.New("down")}
	if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err == nil || len(w.summaries) > 0 {
		t.Errorf("%v, %v", err, w.summaries)
	}
	w, b = longChat(t, 5)
	w.fail["summary of "+aliceLID] = errors.New("broken")
	w.answers(b, from("!ai hi"))
	if last := w.did[len(w.did)-1]; last != `send OUT1 "The *answer*"` {
		t.Error(last)
	}
}

// What is revoked takes the summary with it that holds it, also one that is being made.
func TestRevokedIsInNoSummary(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 8)
	w.stored = w.history
	w.summaries[aliceLID] = inbox.Summary{Text: "secret", Through: w.history[4].Messages[0].Time}
	w.answers(b, from("", revoke("6")))
	if w.summaries[aliceLID].Text == "" {
		t.Error("a summary is forgotten for what is not in it")
	}
	w.answers(b, from("", revoke("2")))
	if w.summaries[aliceLID].Text != "" {
		t.Error("the summary is still there")
	}
	w.grow = func(func(string)) {
		if err := b.ForgetSummary(t.Context(), time.Time{}, aliceLID); err != nil {
			t.Error(err)
		}
	}
	if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err != nil || w.summaries[aliceLID].Text != "" {
		t.Errorf("%v, %+v", err, w.summaries)
	}
}

// So does !reset.
func TestResetForgetsTheSummary(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 8)
	w.summaries[aliceLID] = inbox.Summary{Text: "secret", Through: w.history[3].Messages[0].Time}
	own := func(m *chat.Message) { m.ID, m.Time = "R", time.Now() }
	w.answers(b, from("!reset", own))
	if w.summaries[aliceLID].Text != "" {
		t.Error("the summary is still there")
	}
	if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err != nil || w.summaries[aliceLID].Text != "" {
		t.Errorf("%v, %+v", err, w.summaries)
	}
}

// The history leaves room in the model's window.
func TestRoom(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t)
	m, _ := b.Models.Named("")
	if got := b.room(m, 100); got != 8000 {
		t.Errorf("without a window %d", got)
	}
	for _, test := range []struct{ window, answer, others, want int }{
		{128_000, 0, 100, 8000}, {8000, 0, 1000, 5000}, {8000, 500, 1000, 6500}, {2000, 0, 1600, 0},
	} {
		m.ContextTokens, m.MaxTokens = test.window, test.answer
		if got := b.room(m, test.others); got != test.want {
			t.Errorf("%+v: room for %d", test, got)
		}
	}
}

// Turns that came within one second, as times are kept, are all summarised.
func TestSummaryWithinASecond(t *testing.T) {
	t.Parallel()
	w, b := longChat(t, 12)
	at := time.Now()
	for i := range w.history {
		w.history[i].Messages[0].ID, w.history[i].Messages[0].Time = fmt.Sprint("M", i), at
	}
	all := w.history
	w.answer.Text = "Alice asked things."
	w.history = all[:8]
	for range 2 {
		if err := b.summarise(t.Context(), toSummarise{chat: aliceLID, model: "openai"}); err != nil {
			t.Fatal(err)
		}
		w.history = all
	}
	if !w.wasTold("question 7") || w.wasTold("question 3") {
		t.Errorf("the second summary was made of %+v", w.prompt.Messages)
	}
}
