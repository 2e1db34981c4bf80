package whatsapp

import (
	"context"
	"errors"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/mask"
)

const (
	// linger is how long the account shows as available after nothing is expected any more, so that it does not go and come
	// back before the answer that follows.
	linger = time.Second
	// telling bounds the words about who is available, which are a courtesy.
	telling = 5 * time.Second
)

// expectation says that more is expected in a chat until a time.
type expectation struct {
	chat  string
	until time.Time
}

// Expect tells that more is expected in a chat for a time, so that Options.Composes is told of who types there. WhatsApp tells that
// only to accounts that show as available, and so this one does, as long. It does not block; while there is much to expect,
// some of it is left out.
func (c *Client) Expect(chatJID string, lasts time.Duration) {
	select {
	case c.expected <- expectation{chatJID, time.Now().Add(lasts)}:
	default:
	}
}

// expect shows the account as available, and has WhatsApp tell of typing in a chat.
func (l *link) expect(ctx context.Context, e expectation) {
	_, me := l.client()
	jid, err := types.ParseJID(e.chat)
	if err != nil || me.is(jid) || !l.wm.IsLoggedIn() { // one's own typing is not told
		return
	}
	ctx, cancel := context.WithTimeout(ctx, telling)
	defer cancel()
	if l.expects == nil {
		l.expects = map[types.JID]bool{}
		l.busier(ctx, 1)
	}
	if !l.expects[jid] {
		l.expects[jid] = true
		if err := l.wm.SubscribePresence(ctx, jid); err != nil {
			l.Log.Debug("ask for typing", "err", mask.Text(err.Error()))
		}
	}
	if e.until.After(l.quietAt) {
		l.quietAt = e.until
	}
	l.quiet.Reset(time.Until(l.quietAt) + linger)
}

// expectNothing ends what expect began.
func (l *link) expectNothing(ctx context.Context) {
	if l.expects == nil {
		return
	}
	l.expects = nil
	ctx, cancel := context.WithTimeout(ctx, telling)
	defer cancel()
	l.busier(ctx, -1)
}

// composes hands on that someone types, or has stopped.
func (l *link) composes(ctx context.Context, evt *events.ChatPresence) {
	if l.Composes == nil || evt.IsFromMe {
		return
	}
	wm, _ := l.client()
	ctx, cancel := context.WithTimeout(ctx, telling)
	defer cancel()
	err := fill(ctx, wm.Store.LIDs, evt.Sender, &evt.SenderAlt)
	if err == nil {
		sender, alt := address(evt.Sender, evt.SenderAlt)
		in := sender
		if evt.IsGroup {
			in = evt.Chat.ToNonAD().String()
		}
		err = l.Composes(ctx, in, evt.State == types.ChatPresenceComposing, sender, alt)
	}
	if err != nil {
		l.Log.Warn("someone types and is not waited for", "err", mask.Text(err.Error()))
	}
}

// busier notes that there is more to do, or less: while there is anything the account shows as available.
func (c *Client) busier(ctx context.Context, n int) {
	c.mu.Lock()
	before := c.busy > 0
	c.busy += n
	after := c.busy > 0
	c.mu.Unlock()
	if before != after {
		c.present(ctx, after)
	}
}

// wholly is the context of a word that is said to its end, also where ctx has ended or ends meanwhile: whatsmeow counts a frame before it is
// written, and one that is given up in between is overtaken by the next, at which the connection breaks.
func wholly(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), telling)
}

// present tells WhatsApp whether the bot shows as online. It does while it answers, as only then
// do people see it type, and while it awaits more of what they write, as only then it sees them type: seconds after their message. Otherwise it does not, so that the phone goes on ringing for its owner.
func (c *Client) present(ctx context.Context, available bool) {
	wm, _ := c.client()
	presence := types.PresenceUnavailable
	if available {
		presence = types.PresenceAvailable
	}
	ctx, cancel := wholly(ctx)
	defer cancel()
	// Without a push name, which a new device learns from the phone, there is no presence yet.
	if err := wm.SendPresence(ctx, presence); err != nil && !errors.Is(err, whatsmeow.ErrNoPushName) {
		c.Log.Debug("send presence", "err", mask.Text(err.Error()))
	}
}
