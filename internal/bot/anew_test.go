package bot

import (
	"slices"
	"strings"
	"testing"

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
