package whatsapp

import (
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/chat"
)

// mostWrappers bounds how many envelopes lie around a message; a stranger could send any number.
const mostWrappers = 8

// unwrap takes a message out of the envelopes around it, in whichever order they lie: whatsmeow knows one
// order, and none of them around what is quoted.
func unwrap(msg *waE2E.Message) *waE2E.Message {
	for range mostWrappers {
		inner := msg.GetDeviceSentMessage().GetMessage()
		for _, w := range []*waE2E.FutureProofMessage{
			msg.GetBotInvokeMessage(), msg.GetBotForwardedMessage(), msg.GetBotTaskMessage(), msg.GetEphemeralMessage(),
			msg.GetViewOnceMessage(), msg.GetViewOnceMessageV2(), msg.GetViewOnceMessageV2Extension(), msg.GetLottieStickerMessage(),
			msg.GetDocumentWithCaptionMessage(), msg.GetGroupMentionedMessage(), msg.GetAssociatedChildMessage(), msg.GetSpoilerMessage(),
			msg.GetQuestionMessage(), msg.GetQuestionReplyMessage(), msg.GetPollCreationMessageV4(), msg.GetEditedMessage(),
		} {
			if inner == nil {
				inner = w.GetMessage()
			}
		}
		if inner == nil {
			break
		}
		msg = inner
	}
	return msg
}

// quotedContent reads a quoted message, also one that was edited before it was quoted.
func quotedContent(msg *waE2E.Message) (content, bool) {
	msg = unwrap(msg)
	if edited := msg.GetProtocolMessage().GetEditedMessage(); edited != nil {
		msg = unwrap(edited)
	}
	return contentOf(msg)
}

// businessContent reads what companies and groups send beside ordinary messages.
func businessContent(msg *waE2E.Message) (content, bool) {
	join := func(parts ...string) string { return strings.TrimSpace(strings.Join(parts, "\n")) }
	switch {
	case msg.ButtonsMessage != nil:
		m := msg.ButtonsMessage
		return shown(chat.Text, join(m.GetText(), m.GetContentText(), m.GetFooterText()), m.GetContextInfo()), true
	case msg.ListMessage != nil:
		m := msg.ListMessage
		return shown(chat.Text, join(m.GetTitle(), m.GetDescription(), m.GetFooterText()), m.GetContextInfo()), true
	case msg.TemplateMessage != nil:
		m := msg.TemplateMessage
		h := m.GetHydratedTemplate()
		if h == nil {
			h = m.GetHydratedFourRowTemplate()
		}
		return shown(chat.Text, join(h.GetHydratedTitleText(), h.GetHydratedContentText(), h.GetHydratedFooterText()), m.GetContextInfo()), true
	case msg.InteractiveMessage != nil:
		m := msg.InteractiveMessage
		return shown(chat.Text, join(m.GetHeader().GetTitle(), m.GetBody().GetText(), m.GetFooter().GetText()), m.GetContextInfo()), true
	case msg.InteractiveResponseMessage != nil:
		m := msg.InteractiveResponseMessage
		return shown(chat.Text, m.GetBody().GetText(), m.GetContextInfo()), true
	case msg.HighlyStructuredMessage != nil:
		return businessContent(&waE2E.Message{TemplateMessage: msg.HighlyStructuredMessage.GetHydratedHsm()})
	case msg.GroupInviteMessage != nil:
		m := msg.GroupInviteMessage
		return shown(chat.Other, join(m.GetGroupName(), m.GetCaption()), m.GetContextInfo()), true
	case msg.EventMessage != nil:
		m := msg.EventMessage
		return shown(chat.Other, join(m.GetName(), m.GetDescription()), m.GetContextInfo()), true
	case msg.ProductMessage != nil:
		m := msg.ProductMessage
		return shown(chat.Other, join(m.GetProduct().GetTitle(), m.GetProduct().GetDescription(), m.GetBody()), m.GetContextInfo()), true
	case msg.OrderMessage != nil:
		m := msg.OrderMessage
		return shown(chat.Other, join(m.GetOrderTitle(), m.GetMessage()), m.GetContextInfo()), true
	}
	return content{}, false
}

// changeOf reads an edit or a revoke: what it changes, and the content that the message gets by an edit.
func changeOf(evt *events.Message) (*chat.Change, content, bool) {
	m := unwrap(evt.Message).GetProtocolMessage()
	change := &chat.Change{ID: m.GetKey().GetID()}
	if change.ID == "" {
		return nil, content{}, false
	}
	switch m.GetType() {
	case waE2E.ProtocolMessage_REVOKE:
		change.Revoke = true
		// The server lets only a group's admin mark a revoke so.
		change.Admin = evt.Info.Edit == types.EditAttributeAdminRevoke && evt.Info.Chat.Server == types.GroupServer
		if author, err := types.ParseJID(m.GetKey().GetParticipant()); err == nil && change.Admin {
			change.Author = author.ToNonAD().String()
		}
		return change, content{kind: chat.Text}, true
	case waE2E.ProtocolMessage_MESSAGE_EDIT:
		c, ok := quotedContent(m.GetEditedMessage())
		return change, c, ok
	}
	return nil, content{}, false
}
