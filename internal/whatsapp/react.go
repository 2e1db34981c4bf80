package whatsapp

import (
	"context"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"wabot/internal/chat"
	"wabot/internal/mask"
)

// React reacts to a message with an emoji; the empty one takes the reaction back. It is a courtesy: an error is only
// logged.
func (c *Client) React(ctx context.Context, m chat.Message, emoji string) {
	wm, _ := c.client()
	to, err := types.ParseJID(m.Chat)
	if err != nil || wm == nil || !wm.IsLoggedIn() {
		return
	}
	sender, err := types.ParseJID(m.Sender)
	if err != nil {
		return
	}
	err = c.deliver(ctx, wm, to, c.NewID(), func() *waE2E.Message { return wm.BuildReaction(to, sender, m.ID, emoji) })
	if err != nil {
		c.Log.Debug("react to a message", "id", m.ID, "err", mask.Text(err.Error()))
	}
}
