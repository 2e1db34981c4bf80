package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// supplements is how often a send is repeated for devices that it left out, supplement the pause before, and supplementing how
	// long a send may have taken to be repeated: others wait for it.
	supplements   = 2
	supplement    = time.Second
	supplementing = 10 * time.Second
	// typing is how often "typing" is renewed; WhatsApp's apps drop it after about 25 s.
	typing = 8 * time.Second
	// flicker is how long an answer may take without the bot being shown as typing.
	flicker = 250 * time.Millisecond
)

// Send sends one part of a reply to a chat and returns once WhatsApp's server has taken it. With
// quote the part quotes that message. Any error but a *RefusedError leaves the outcome open: send
// the part again, with the same ID, and people see it once.
func (c *Client) Send(ctx context.Context, to string, p chat.Part, quote *chat.Message) (err error) {
	wm, _ := c.client()
	if wm == nil || !wm.IsLoggedIn() {
		return ErrOffline
	}
	jid, err := types.ParseJID(to)
	if err != nil {
		return fmt.Errorf("send to a chat with a bad address: %w", err)
	}
	c.sending(p.ID) // the receipt may be quicker than the return
	defer func() { c.sentAs(p.ID, err) }()
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
// session any more, or a device is left out, it is built and sent again.
func (c *Client) deliver(ctx context.Context, wm *whatsmeow.Client, to types.JID, id string, build func() *waE2E.Message) error {
	supplemented, listed, begun := 0, false, time.Now()
	for try := 1; ; try++ {
		sendCtx, before := device.Send(ctx), c.uneven.Load()
		_, err := wm.SendMessage(sendCtx, to, build(), whatsmeow.SendRequestExtra{ID: id})
		// What fails in the store may have cost a device its copy, and the message what WhatsApp lets it pass by.
		if failed := device.SendErr(sendCtx); failed != nil {
			if err == nil && !errors.Is(failed, device.ErrConflict) {
				c.count(LeftOut)
			}
			err = failed
		}
		if err == nil && c.uneven.Load() != before && c.listable(to) { // by this send or by one beside it
			if !listed {
				listed = true // anew, by whatsmeow
				c.count(LeftOut)
				continue
			}
			c.giveUp([]string{to.String()})
		}
		got, left := device.Reached(sendCtx)
		nobody := len(left) > 0 && c.nobody(to, got)
		if left = c.reachable(left); err == nil && (nobody || len(left) > 0) {
			c.count(LeftOut)
			if supplemented < supplements && time.Since(begun) < supplementing {
				supplemented++
				if err := sleep(ctx, supplement); err != nil {
					return err
				}
				continue
			}
			if nobody {
				return errNobody
			}
			c.Log.Warn("some devices of the receiver do not show the message: WhatsApp does not give their keys", "id", id, "devices", len(left))
			c.giveUp(left)
			return nil
		}
		if !errors.Is(err, device.ErrConflict) || try == conflicts {
			return err
		}
		c.count(Conflicted)
		c.Log.Debug("a message came in during the send; sending again", "id", id, "try", try)
	}
}

// errNobody says that all devices of the receiver were left out.
var errNobody = errors.New("WhatsApp does not give the keys of the receiver's devices")

// nobody reports whether none of the devices that got a message in a direct chat is the receiver's. In a group those who were left out
// ask for it.
func (c *Client) nobody(to types.JID, got []string) bool {
	_, me := c.client()
	if to.Server == types.GroupServer {
		return false
	}
	if me.is(to.ToNonAD()) {
		return len(got) == 0
	}
	return !slices.ContainsFunc(got, func(address string) bool {
		user, _, _ := strings.Cut(address, ":")
		return user != me.lid.SignalAddressUser() && user != me.pn.SignalAddressUser()
	})
}

// listable reports whether to read the devices of a chat's receiver anew may help where WhatsApp's server knows others. With oneself
// whatsmeow lists both addresses of the account, which the server's list need not.
func (c *Client) listable(to types.JID) bool {
	_, me := c.client()
	return !me.is(to.ToNonAD()) && len(c.reachable([]string{to.String()})) > 0
}

// reachable are those of some devices, given by their Signal addresses, and chats, for whose devices WhatsApp has another list, that
// were not given up.
func (c *Client) reachable(left []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(left, func(which string) bool { return c.unreachable[which] })
}

// giveUp notes that no more is to be done to reach some devices, until the next login.
func (c *Client) giveUp(left []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, which := range left {
		if len(c.unreachable) < awaitedMost {
			c.unreachable[which] = true
		}
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
	show := func(s types.ChatPresence) {
		ctx, cancel := wholly(ctx)
		defer cancel()
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
		for show(types.ChatPresenceComposing); sleep(ctx, typing) == nil; {
			show(types.ChatPresenceComposing)
		}
		show(types.ChatPresencePaused)
		c.busier(ctx, -1)
	}()
	return func() {
		cancel()
		<-done
	}
}

// MarkRead shows messages of one chat as read, and returns before: WhatsApp's server takes a message for acknowledged with any
// receipt, so it must be on the disk that they were received, and the answer need not wait for that. It is a courtesy: an error is only
// logged.
func (c *Client) MarkRead(ctx context.Context, messages []chat.Message) {
	wm, _ := c.client()
	if wm == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storing)
	go func() {
		defer cancel()
		if err := c.Sync(ctx); err != nil {
			c.Log.Debug("mark as read", "err", err)
			return
		}
		for _, m := range messages {
			c.markRead(ctx, wm, m)
		}
	}()
}

func (c *Client) markRead(ctx context.Context, wm *whatsmeow.Client, m chat.Message) {
	to, err := types.ParseJID(m.Chat)
	if err != nil || m.FromMe {
		return
	}
	sender, err := types.ParseJID(m.Sender)
	if err != nil {
		return
	}
	if err := wm.MarkRead(ctx, []types.MessageID{m.ID}, time.Now(), to, sender); err != nil {
		c.Log.Debug("mark as read", "id", m.ID, "err", mask.Text(err.Error()))
	}
}
