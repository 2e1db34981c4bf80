package whatsapp

import (
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/chat"
)

// self is the linked account: its addresses without a device, and the device that we are.
type self struct {
	pn, lid types.JID
	device  uint16
	// sentByUs reports whether a message ID is one that this bot chose.
	sentByUs func(id string) bool
}

func (s self) is(j types.JID) bool {
	return j.User != "" && (j.User == s.pn.User && j.Server == s.pn.Server || j.User == s.lid.User && j.Server == s.lid.Server)
}

// messageFrom turns an event into a message. The reason says why an event is not a message for us:
// it is to be acknowledged and forgotten.
func messageFrom(evt *events.Message, me self) (m chat.Message, reason string) {
	info := evt.Info
	if reason := unconcerning(info, me); reason != "" {
		return m, reason
	}
	switch {
	case evt.SourceWebMsg != nil && evt.UnavailableRequestID == "":
		return m, "history"
	}
	change, c, ok := changeOf(evt)
	if !ok && (evt.IsEdit || info.Edit != types.EditAttributeEmpty) {
		return m, "an edit or a revoke of what is no message"
	}
	if !ok {
		c, ok = contentOf(unwrap(evt.Message))
	}
	if !ok {
		return m, "nothing to read"
	}
	m = chat.Message{
		ID:        info.ID,
		Name:      info.PushName,
		Time:      info.Timestamp,
		Text:      c.text,
		Kind:      c.kind,
		Media:     c.media,
		Change:    change,
		FromMe:    info.IsFromMe,
		Borrowed:  c.borrowed || c.context.GetIsForwarded(),
		Mentioned: c.mentions(me),
		Mentions:  c.mentioned(),
		Quoted:    c.quoted(me),
	}
	addressed(&m, info, me)
	return m, ""
}

// unconcerning says why a message is not for us, whatever is in it; it is empty where it may be.
func unconcerning(info types.MessageInfo, me self) string {
	switch {
	case info.Chat.Server == types.BroadcastServer:
		return "status or broadcast"
	case info.Chat.Server == types.NewsletterServer:
		return "newsletter"
	case info.Chat.Server != types.GroupServer && info.Chat.Server != types.DefaultUserServer && info.Chat.Server != types.HiddenUserServer:
		return "neither a person nor a group"
	case info.Chat.User == "" || info.Sender.User == "" && !info.IsFromMe:
		return "no address"
	case info.Category == "peer":
		return "between the account's own devices"
	case info.IsFromMe && info.Sender.Device == me.device, me.sentByUs != nil && me.sentByUs(info.ID):
		return "the bot's own"
	}
	return ""
}

// addressed puts in m whose it is and where.
func addressed(m *chat.Message, info types.MessageInfo, me self) {
	m.Group = info.Chat.Server == types.GroupServer
	m.Sender, m.SenderAlt = address(info.Sender, info.SenderAlt)
	if info.IsFromMe {
		m.Sender, m.SenderAlt = address(me.lid, me.pn)
	}
	switch {
	case m.Group:
		m.Chat = info.Chat.ToNonAD().String()
	case me.is(info.Chat.ToNonAD()):
		m.Own = true
		m.Chat, m.ChatAlt = address(me.lid, me.pn)
	case info.IsFromMe:
		m.Chat, m.ChatAlt = address(info.Chat, info.RecipientAlt)
	default:
		m.Chat, m.ChatAlt = address(info.Chat, info.SenderAlt)
	}
}

// address returns a person's canonical address, the LID if it is known, and the other one.
func address(a, b types.JID) (canonical, alt string) {
	a, b = a.ToNonAD(), b.ToNonAD()
	if a.Server != types.HiddenUserServer && b.Server == types.HiddenUserServer || a.User == "" {
		a, b = b, a
	}
	if b.User == "" {
		return a.String(), ""
	}
	return a.String(), b.String()
}

// content is what a person would see of a message.
type content struct {
	kind    chat.Kind
	text    string
	context *waE2E.ContextInfo
	media   *chat.Media
	// borrowed is set where the text was chosen from what another has offered.
	borrowed bool
}

func shown(kind chat.Kind, text string, context *waE2E.ContextInfo) content {
	return content{kind: kind, text: text, context: context}
}

// chosen is a text that another has offered, and the author has tapped.
func chosen(text string, context *waE2E.ContextInfo) content {
	return content{kind: chat.Text, text: text, context: context, borrowed: true}
}

// contentOf reads a message that whatsmeow has unwrapped. It reports false for what is no
// message to a person: reactions, protocol messages, poll votes, keys.
func contentOf(msg *waE2E.Message) (content, bool) {
	c, ok := textOf(msg)
	if ok {
		c.media = mediaOf(msg)
	}
	return c, ok
}

// textOf is contentOf without the media.
func textOf(msg *waE2E.Message) (content, bool) {
	switch {
	case msg == nil:
		return content{}, false
	case msg.Conversation != nil:
		return shown(chat.Text, msg.GetConversation(), nil), true
	case msg.ExtendedTextMessage != nil:
		return shown(chat.Text, msg.ExtendedTextMessage.GetText(), msg.ExtendedTextMessage.GetContextInfo()), true
	case msg.ImageMessage != nil:
		return shown(chat.Image, msg.ImageMessage.GetCaption(), msg.ImageMessage.GetContextInfo()), true
	case msg.AudioMessage != nil:
		kind := chat.Audio
		if msg.AudioMessage.GetPTT() {
			kind = chat.Voice
		}
		return shown(kind, "", msg.AudioMessage.GetContextInfo()), true
	case msg.VideoMessage != nil:
		return shown(chat.Video, msg.VideoMessage.GetCaption(), msg.VideoMessage.GetContextInfo()), true
	case msg.PtvMessage != nil:
		return shown(chat.Video, msg.PtvMessage.GetCaption(), msg.PtvMessage.GetContextInfo()), true
	case msg.DocumentMessage != nil:
		return shown(chat.Document, msg.DocumentMessage.GetCaption(), msg.DocumentMessage.GetContextInfo()), true
	case msg.StickerMessage != nil:
		return shown(chat.Sticker, "", msg.StickerMessage.GetContextInfo()), true
	case msg.LocationMessage != nil:
		l := msg.LocationMessage
		return shown(chat.Location, place(l.GetDegreesLatitude(), l.GetDegreesLongitude(), l.GetName(), l.GetAddress(), l.GetComment(), l.GetURL()), l.GetContextInfo()), true
	case msg.LiveLocationMessage != nil:
		l := msg.LiveLocationMessage
		return shown(chat.Location, place(l.GetDegreesLatitude(), l.GetDegreesLongitude(), l.GetCaption()), l.GetContextInfo()), true
	case msg.ContactMessage != nil:
		return shown(chat.Contact, cards(msg.ContactMessage), msg.ContactMessage.GetContextInfo()), true
	case msg.ContactsArrayMessage != nil:
		return shown(chat.Contact, cards(msg.ContactsArrayMessage.GetContacts()...), msg.ContactsArrayMessage.GetContextInfo()), true
	case msg.ButtonsResponseMessage != nil:
		return chosen(msg.ButtonsResponseMessage.GetSelectedDisplayText(), msg.ButtonsResponseMessage.GetContextInfo()), true
	case msg.ListResponseMessage != nil:
		return chosen(msg.ListResponseMessage.GetTitle(), msg.ListResponseMessage.GetContextInfo()), true
	case msg.TemplateButtonReplyMessage != nil:
		return chosen(msg.TemplateButtonReplyMessage.GetSelectedDisplayText(), msg.TemplateButtonReplyMessage.GetContextInfo()), true
	}
	for _, poll := range []*waE2E.PollCreationMessage{msg.PollCreationMessage, msg.PollCreationMessageV2, msg.PollCreationMessageV3} {
		if poll != nil {
			return shown(chat.Other, poll.GetName(), poll.GetContextInfo()), true
		}
	}
	return businessContent(msg)
}

// mentions reports whether the content mentions the account, under either address.
func (c content) mentions(me self) bool {
	for _, raw := range c.context.GetMentionedJID() {
		if j, err := types.ParseJID(raw); err == nil && me.is(j.ToNonAD()) {
			return true
		}
	}
	return false
}

// mentioned are the people whom the content mentions.
func (c content) mentioned() (all []string) {
	for _, raw := range c.context.GetMentionedJID() {
		if j, err := types.ParseJID(raw); err == nil && (j.Server == types.DefaultUserServer || j.Server == types.HiddenUserServer) {
			all = append(all, j.ToNonAD().String())
		}
	}
	return all
}

// quoted returns what the content quotes, or nil.
func (c content) quoted(me self) *chat.Quoted {
	if c.context.GetStanzaID() == "" {
		return nil
	}
	q := &chat.Quoted{ID: c.context.GetStanzaID(), Kind: chat.Other}
	if j, err := types.ParseJID(c.context.GetParticipant()); err == nil {
		q.Sender = j.ToNonAD().String()
		q.FromBot = me.is(j.ToNonAD()) && me.sentByUs != nil && me.sentByUs(q.ID)
	}
	if inner, ok := quotedContent(c.context.GetQuotedMessage()); ok {
		q.Kind, q.Text, q.Media = inner.kind, inner.text, inner.media
	}
	return q
}
