package inbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// Of who has themselves forgotten nothing is left that they said, sent or had quoted; what others said stays.
func TestEraseLeavesNothing(t *testing.T) {
	bubble(t, inbox.Options{}, func(t *testing.T, w *world) {
		ctx := t.Context()
		const group = "1-2@g.us"
		say := func(who, id, text string, change func(*chat.Message)) {
			t.Helper()
			m := chat.Message{Chat: group, Group: true, ID: id, Sender: who, Time: time.Now(), Text: text, Kind: chat.Text}
			if change != nil {
				change(&m)
			}
			if err := w.box.Put(ctx, m); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Second)
		}
		w.run(func(ctx context.Context, turn chat.Turn) error {
			return w.box.SaveReply(ctx, &turn, chat.Reply{Parts: []chat.Part{{ID: "R" + turn.Last().ID, Text: "re: " + turn.Last().Text}}})
		})
		secret := &chat.Media{Name: "hers.pdf"}
		say(alice, "1", "hers", func(m *chat.Message) { m.Kind, m.Media, m.Read = chat.Document, secret, "hers, read" })
		say(bob, "2", "his own", func(m *chat.Message) {
			m.Quoted = &chat.Quoted{ID: "1", Sender: alice, Text: "hers", Kind: chat.Document, Media: secret, Read: "hers, read"}
		})
		for _, m := range []chat.Message{
			{Chat: group, Group: true, ID: "3", Sender: alice, Time: time.Now(), Text: "hers, heard", Kind: chat.Text},
			{Chat: group, Group: true, ID: "4", Sender: bob, Time: time.Now(), Text: "his, heard", Kind: chat.Text},
		} {
			if err := w.box.Hear(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.box.Erase(ctx, group, alice, ""); err != nil {
			t.Fatal(err)
		}
		var left strings.Builder
		for _, x := range w.history(group) {
			for _, m := range x.Messages {
				left.WriteString(m.Text + m.Read + "|")
				if m.Media != nil {
					left.WriteString(m.Media.Name)
				}
				if q := m.Quoted; q != nil {
					left.WriteString(q.Text + q.Read)
					if q.Media != nil {
						left.WriteString(q.Media.Name)
					}
				}
			}
			for _, p := range x.Reply.Parts {
				left.WriteString(p.Text + "|")
			}
		}
		heard, err := w.box.Heard(ctx, group)
		if err != nil || len(heard) != 1 || heard[0].Text != "his, heard" {
			t.Errorf("heard %+v, %v", heard, err)
		}
		if got := left.String(); got != "|his own|re: his own|" {
			t.Errorf("left is %q", got)
		}
	})
}
