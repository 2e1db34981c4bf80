package whatsapp_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/whatsapp"
	"wabot/internal/whatsapptest"
)

// An answer may be there at the very moment at which the bot is shown as typing. The connection outlasts that: whatsmeow counts a
// frame before it is written, and one whose context ends meanwhile is overtaken by the next.
func TestTypingThatEndsAsItBegins(t *testing.T) {
	t.Parallel()
	s := whatsapptest.New(t)
	owner, alice := s.NewPhone("owner"), s.NewPhone("alice")
	c := newClient(t, s, owner, func(*whatsapp.Client, chat.Message) error { return nil })
	logins := len(s.Logins())
	for range 5 {
		var answers sync.WaitGroup
		for range 100 {
			answers.Go(func() {
				stop := c.Typing(t.Context(), alice.LID().String())
				// It shows after a quarter of a second.
				time.Sleep(250*time.Millisecond + rand.N(3*time.Millisecond))
				stop()
			})
		}
		answers.Wait()
	}
	if err := c.Send(t.Context(), alice.LID().String(), chat.Part{ID: c.NewID(), Text: "hello"}, nil); err != nil {
		t.Error(err)
	}
	if n := len(s.Logins()) - logins; n > 0 {
		t.Errorf("logged in %d times more", n)
	}
	for _, what := range s.Unknown() {
		t.Error(what)
	}
}
