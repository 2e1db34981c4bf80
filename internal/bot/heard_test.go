package bot

import (
	"slices"
	"strings"
	"testing"

	"wabot/internal/chat"
)

func TestHeardIsContext(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	bob := func(m *chat.Message) { m.Sender, m.Name = "77@lid", "Bob" }
	w.heard = []chat.Message{from("lunch at one?", inGroup, bob), from("fine", inGroup)}
	w.answers(b, from("!ai when is lunch?", inGroup, id("A")))
	all := w.prompt.Messages
	if len(all) != 3 || !strings.HasPrefix(all[1].Text, "[said in the group meanwhile, not to you") ||
		!strings.Contains(all[1].Text, "\nBob: lunch at one?\nAlice: fine\n[end") || all[2].Text != "Alice: when is lunch?" {
		t.Errorf("asked %+v", all)
	}
	if !slices.Contains(w.did, "unhear 2") {
		t.Errorf("did %v", w.did)
	}

	w, b = newWorld(t)
	w.heard = []chat.Message{from("lunch at one?", inGroup, bob)}
	w.answers(b, from("!ai hi", id("A"))) // in a chat of two
	if len(w.prompt.Messages) != 2 {
		t.Errorf("asked %+v", w.prompt.Messages)
	}
}

func TestHears(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t)
	b.Rules.Allow = []string{groupJID}
	elsewhere := func(m *chat.Message) { inGroup(m); m.Chat = "9@g.us" }
	for name, test := range map[string]struct {
		m    chat.Message
		want bool
	}{
		"said in an allowed group":  {from("hi", inGroup), true},
		"a picture":                 {from("", inGroup, func(m *chat.Message) { m.Kind = chat.Image }), true},
		"by the owner":              {from("hi", inGroup, byOwner), true},
		"a revoke":                  {from("", inGroup, revoke("A")), true},
		"a revoke by a stranger":    {from("", elsewhere, revoke("A")), true},
		"an edit by a stranger":     {from("hi", elsewhere, edit("A")), false},
		"a revoke in a chat of two": {from("", revoke("A")), false},
		"in a chat of two":          {from("hi"), false},
		"in another group":          {from("hi", elsewhere), false},
	} {
		if got, err := b.Hears(t.Context(), test.m); got != test.want || err != nil {
			t.Errorf("%s is heard: %v", name, got)
		}
	}
}
