package whatsapp_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/chat"
	"wabot/internal/whatsapp"
	"wabot/internal/whatsapptest"
)

// What a message carries comes as it was sent: at most so much of it, from the phone where the server has it no more, and never
// what was not sent.
func TestFetch(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	owner.Lenient, alice.Lenient = true, true // they do not like sizes that are wrong
	got := make(chan chat.Message, 10)
	c := newClient(t, s, owner, func(_ *whatsapp.Client, m chat.Message) error { got <- m; return nil })
	c.TempDir = t.TempDir()
	data := bytes.Repeat([]byte("all of it "), 5000)
	send := func(from *whatsapptest.Phone, to types.JID, d whatsapptest.Draft) chat.Message {
		t.Helper()
		if _, err := from.Send(ctx, to, d); err != nil {
			t.Fatal(err)
		}
		return <-got
	}
	fetch := func(m chat.Message, quoted bool, most int64, want error) {
		t.Helper()
		b, err := c.Fetch(ctx, m, quoted, most)
		if want == nil && (err != nil || !bytes.Equal(b, data)) || !errors.Is(err, want) {
			t.Errorf("got %d bytes and %v, want %v", len(b), err, want)
		}
		if left, _ := os.ReadDir(c.TempDir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	size := int64(len(data))
	document := func(name string) whatsapptest.Draft {
		return whatsapptest.Draft{Document: &whatsapptest.Media{Data: data, Mime: "text/plain", Name: name}}
	}
	m := send(alice, owner.LID(), document("a.txt"))
	if m.Media.Name != "a.txt" || m.Media.Size != uint64(size) {
		t.Errorf("media %+v", m.Media)
	}
	fetch(m, false, size, nil)
	fetch(m, false, size-1, chat.ErrTooLarge)
	voice := send(alice, owner.LID(), whatsapptest.Draft{Voice: &whatsapptest.Media{Data: data, Mime: "audio/ogg; codecs=opus", Seconds: 3}})
	fetch(voice, false, size, nil)

	// One that claims to be small.
	lie := document("lie.txt")
	lie.Document.Claim = 10
	liar := send(alice, owner.LID(), lie)
	fetch(liar, false, size-1000, chat.ErrTooLarge)

	// What another message quotes.
	shown := alice.Messages(owner.LID())[0]
	quoting := send(alice, owner.LID(), whatsapptest.Draft{Text: "see", Quote: &shown})
	fetch(quoting, true, size, nil)

	// What is damaged or not what was sent.
	other := *m.Media
	other.SHA256 = bytes.Repeat([]byte{1}, 32)
	fetch(chat.Message{Chat: m.Chat, ID: m.ID, Sender: m.Sender, Kind: m.Kind, Media: &other}, false, size, chat.ErrBroken)
	other.SHA256 = nil
	fetch(chat.Message{Chat: m.Chat, ID: m.ID, Sender: m.Sender, Kind: m.Kind, Media: &other}, false, size, chat.ErrBroken)
	fetch(chat.Message{Chat: m.Chat, Kind: chat.Text}, false, size, chat.ErrBroken)

	// A server that is out of order is asked again.
	s.FailDownloads(503, 1)
	fetch(m, false, size, nil)

	// The server has deleted it all; the phone has it, in each kind of chat.
	group, err := alice.Group(ctx, "team", owner.LID())
	if err != nil {
		t.Fatal(err)
	}
	inGroup := send(alice, group, document("b.txt"))
	own := send(owner, owner.LID(), document("c.txt"))
	if err := owner.Wait(ctx, func(p *whatsapptest.Phone) bool { return len(p.Messages(group)) > 0 }); err != nil { // with the file
		t.Fatal(err)
	}
	for _, status := range []int{404, 410} {
		s.ForgetMedia(status)
		for _, m := range []chat.Message{m, inGroup, own} {
			fetch(m, false, size, nil)
		}
		fetch(quoting, true, size, nil)
	}
	// Neither has it.
	s.ForgetMedia(410)
	owner.ForgetMedia()
	fetch(m, false, size, chat.ErrGone)
	fetch(quoting, true, size, chat.ErrGone)
}

// What a killed process has left is removed at the start.
func TestLeftoversAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"wabot-media-123", "another"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := whatsapptest.New(t)
	newClientWith(t, s, s.NewPhone("owner"), func(o *whatsapp.Options) { o.TempDir = dir }, func(*whatsapp.Client, chat.Message) error { return nil })
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "another" {
		t.Errorf("left %v, %v", left, err)
	}
}
