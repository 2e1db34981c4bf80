package whatsapp

import (
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"wabot/internal/chat"
)

// partMessage builds what is sent for a part: a text, a picture, a voice message, or an edit or a revoke of an earlier one of ours.
func partMessage(wm *whatsmeow.Client, to types.JID, p chat.Part, quote *chat.Message) *waE2E.Message {
	switch {
	case p.Edits != "":
		return wm.BuildEdit(to, p.Edits, textMessage(p.Text, p.Mentions, nil))
	case p.Revokes != "":
		return wm.BuildRevoke(to, types.EmptyJID, p.Revokes)
	case p.Picture != nil:
		return imageMessage(p, quote)
	case p.Voice != nil:
		return voiceMessage(p, quote)
	}
	return textMessage(p.Text, p.Mentions, quote)
}
