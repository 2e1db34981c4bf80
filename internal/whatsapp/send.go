package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"wabot/internal/chat"
	"wabot/internal/device"
	"wabot/internal/mask"
)

const (
	// conflicts is how often a send is repeated because a message came in from the same person meanwhile.
	conflicts = 20
	// typing is how often "typing" is renewed; WhatsApp's apps drop it after about 25 s.
	typing = 8 * time.Second
	// flicker is how long an answer may take without the bot being shown as typing.
	flicker = 250 * time.Millisecond
)

// Send sends one part of a reply to a chat and returns once WhatsApp's server has taken it. With
// quote the part quotes that message. Any error but a *RefusedError leaves the outcome open: send
// the part again, with the same ID, and people see it once.
func (c *Client) Send(ctx context.Context, to string, p chat.Part, quote *chat.Message) error {
	wm, _ := c.client()
	if wm == nil || !wm.IsLoggedIn() {
		return ErrOffline
	}
	jid, err := types.ParseJID(to)
	if err != nil {
		return fmt.Errorf("send to a chat with a bad address: %w", err)
	}
	c.sending(p.ID) // the receipt may be quicker than the return
	err = c.deliver(ctx, wm, jid, p.ID, func() *waE2E.Message { return partMessage(wm, jid, p, quote) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, whatsmeow.ErrNotConnected), errors.Is(err, whatsmeow.ErrNotLoggedIn):
		return ErrOffline
	case errors.Is(err, whatsmeow.ErrServerReturnedError):
		var code int
		if _, scanErr := fmt.Sscanf(err.Error(), whatsmeow.ErrServerReturnedError.Error()+" %d", &code); scanErr == nil && (code == 463 || code == 403 || code == 401) {
			return &RefusedError{Code: code}
		}
	}
	return fmt.Errorf("send message: %s: %w", mask.Text(err.Error()), errSend)
}

// deliver sends a message under the ID. Where a message of the same person crosses it, so that its keys are not those of the
// session any more, it is built and sent again.
func (c *Client) deliver(ctx context.Context, wm *whatsmeow.Client, to types.JID, id string, build func() *waE2E.Message) error {
	for try := 1; ; try++ {
		sendCtx := device.Send(ctx)
		_, err := wm.SendMessage(sendCtx, to, build(), whatsmeow.SendRequestExtra{ID: id})
		// What fails in the store may have cost a device its copy, and the message what WhatsApp lets it pass by.
		if failed := device.SendErr(sendCtx); failed != nil {
			if err == nil && !errors.Is(failed, device.ErrConflict) {
				c.count(LeftOut)
			}
			err = failed
		}
		if !errors.Is(err, device.ErrConflict) || try == conflicts {
			return err
		}
		c.count(Conflicted)
		c.Log.Debug("a message came in during the send; sending again", "id", id, "try", try)
	}
}

// errSend stands for whatsmeow's errors, whose texts hold addresses.
var errSend = errors.New("not known to have arrived")

// textMessage builds a text that mentions people, quoting a message or not.
func textMessage(text string, mentions []string, quote *chat.Message) *waE2E.Message {
	if quote == nil && len(mentions) == 0 {
		return &waE2E.Message{Conversation: proto.String(text)}
	}
	about := &waE2E.ContextInfo{}
	if quote != nil {
		about = quoting(quote)
	}
	about.MentionedJID = mentions
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String(text), ContextInfo: about}}
}

// quoting is the part of a message that quotes another.
func quoting(quote *chat.Message) *waE2E.ContextInfo {
	return &waE2E.ContextInfo{
		StanzaID:      proto.String(quote.ID),
		Participant:   proto.String(quote.Sender),
		QuotedMessage: &waE2E.Message{Conversation: proto.String(quote.Text)},
	}
}

// Typing shows the bot as typing in a chat until stop is called, if that takes longer than a flicker. An answer that is there at
// once, as those to commands are, needs no word that it comes.
func (c *Client) Typing(ctx context.Context, to string) (stop func()) {
	wm, _ := c.client()
	jid, err := types.ParseJID(to)
	if err != nil || wm == nil {
		return func() {}
	}
	show := func(ctx context.Context, s types.ChatPresence) {
		if err := wm.SendChatPresence(ctx, jid, s, types.ChatPresenceMediaText); err != nil {
			c.Log.Debug("show typing", "err", mask.Text(err.Error()))
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if sleep(ctx, flicker) != nil {
			return
		}
		c.busier(ctx, 1)
		for show(ctx, types.ChatPresenceComposing); sleep(ctx, typing) == nil; {
			show(ctx, types.ChatPresenceComposing)
		}
		// The last word must go out even when ctx is done by then.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		show(ctx, types.ChatPresencePaused)
		c.busier(ctx, -1)
	}()
	return func() {
		cancel()
		<-done
	}
}

// MarkRead shows messages of one chat as read. It is a courtesy: an error is only logged.
func (c *Client) MarkRead(ctx context.Context, messages []chat.Message) {
	wm, _ := c.client()
	for _, m := range messages {
		if wm == nil || m.FromMe {
			continue
		}
		to, err := types.ParseJID(m.Chat)
		if err != nil {
			continue
		}
		sender, err := types.ParseJID(m.Sender)
		if err != nil {
			continue
		}
		if err := wm.MarkRead(ctx, []types.MessageID{m.ID}, time.Now(), to, sender); err != nil {
			c.Log.Debug("mark as read", "id", m.ID, "err", mask.Text(err.Error()))
		}
	}
}
