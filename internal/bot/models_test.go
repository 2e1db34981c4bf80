package bot

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"wabot/internal/chat"
	"wabot/internal/llm"
)

// The prefix says which model is asked, with its own instructions; its icon is in the chat, not in the history.
func TestPrefixChoosesTheModel(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.answer.By = "gemini"
	w.history = []chat.Exchange{{Messages: []chat.Message{from("!gemini one")}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "✨ first"}}}}}
	if err := b.Answer(t.Context(), turn(from("!GEMINI two"), from("three"))); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, m := range w.prompt.Messages {
		texts = append(texts, m.Text)
	}
	if want := []string{"Be brief.", "one", "first", "two", "three"}; w.prompt.Model != "gemini" || !slices.Equal(texts, want) {
		t.Errorf("asked %q %q, want gemini %q", w.prompt.Model, texts, want)
	}
	if last := w.did[len(w.did)-1]; last != `send OUT1 "✨ The *answer*"` {
		t.Errorf("last did %s", last)
	}
}

// Where the fallback answered it is its icon that is shown.
func TestIconIsThatOfWhoAnswered(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.answer.By = "openai"
	if err := b.Answer(t.Context(), turn(from("!gemini hi"))); err != nil {
		t.Fatal(err)
	}
	if last := w.did[len(w.did)-1]; last != `send OUT1 "The *answer*"` {
		t.Errorf("last did %s", last)
	}
}

// Messages that waited together are each answered by the model they are for.
func TestTurnForTwoModels(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	tr := turn(from("hello"), from("!ai again"), from("!gemini hi"), from("and this"), from("!ai!"), from("!ai bye"))
	if err := b.reply(t.Context(), &tr); err != nil {
		t.Fatal(err)
	}
	if want := []string{"openai", "gemini", "openai"}; !slices.Equal(w.asked, want) || len(tr.Reply.Parts) != 3 || len(tr.Messages) != 6 {
		t.Errorf("asked %q, %d parts, %d messages; want %q, 3, 6", w.asked, len(tr.Reply.Parts), len(tr.Messages), want)
	}
	// One that fails does not take the others with it.
	w, b = newWorld(t)
	w.fail["complete"] = &llm.Error{Kind: llm.Quota, Err: errors.New("none left")}
	tr = turn(from("!gemini"), from("!ai hi"))
	if err := b.reply(t.Context(), &tr); err != nil || len(tr.Reply.Parts) != 2 || tr.Reply.Failure == "" {
		t.Errorf("%v, %+v", err, tr.Reply)
	}
}

func TestPrefixAloneExplainsItself(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"!gemini":   "I answer as *gemini* what begins with *!gemini*, for example: _!gemini what is a quasar?_",
		" !Gemini ": "I answer as *gemini* what begins with *!gemini*, for example: _!gemini what is a quasar?_",
		"!ai":       "Begin your message with *!ai*",
		"!ai !help": "\n*!gemini* asks gemini.",
	} {
		w, b := newWorld(t)
		tr := turn(from(text))
		if err := b.reply(t.Context(), &tr); err != nil {
			t.Fatal(err)
		}
		if got := tr.Reply.Parts[0].Text; !strings.Contains(got, want) || len(w.asked) > 0 {
			t.Errorf("%q: said %q, want %q", text, got, want)
		}
	}
}
