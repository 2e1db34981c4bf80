package whatsapptest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// Draft is a message as a person composes it. At most one of the attachments is set; Text is
// then its caption, where the kind has one.
type Draft struct {
	Text string
	// Quote is the message that this one replies to.
	Quote *Received
	// Mentions are the people named in Text, there written as "@" and the user part of
	// their JID, in whichever of their two addresses.
	Mentions []types.JID

	Image, Voice, Audio, Video, Document, Sticker *Media
	Location                                      *Location
	Contact                                       *Contact

	// Ephemeral sends it as in a chat with disappearing messages, ViewOnce as a picture,
	// video or voice note to be looked at once.
	Ephemeral, ViewOnce bool
	// Forwarded marks it as somebody else's words.
	Forwarded bool

	// ID is the message ID to use; a new one is made where it is empty.
	ID types.MessageID
}

// Media is a file that goes with a message.
type Media struct {
	Data []byte
	Mime string
	// Name is a document's file name.
	Name string
	// Seconds is how long a recording lasts.
	Seconds int
	// Claim is the size that the message says it has, where that is not the true one.
	Claim uint64
}

// Location is a place, in degrees.
type Location struct {
	Latitude, Longitude float64
	Name, Address       string
}

// Contact is a contact card.
type Contact struct{ Name, VCard string }

// ephemeralSeconds is the timer of the chats that a Draft with Ephemeral is sent in: a week.
const ephemeralSeconds = 7 * 24 * 60 * 60

// message makes the protobuf of a draft; upload puts its attachment on the media host.
// A quoted or mentioned person is named as address gives it.
func (d Draft) message(address func(types.JID) types.JID) (*waE2E.Message, error) {
	context := &waE2E.ContextInfo{}
	if d.Quote != nil {
		context.StanzaID = proto.String(d.Quote.ID)
		context.Participant = proto.String(address(d.Quote.Sender).String())
		context.QuotedMessage = proto.CloneOf(d.Quote.content)
	}
	for _, person := range d.Mentions {
		context.MentionedJID = append(context.MentionedJID, address(person).String())
	}
	if d.Ephemeral {
		context.Expiration = proto.Uint32(ephemeralSeconds)
	}
	if d.Forwarded {
		context.IsForwarded, context.ForwardingScore = proto.Bool(true), proto.Uint32(1)
	}
	plain := proto.Size(context) == 0
	if plain {
		context = nil
	}

	msg := &waE2E.Message{}
	switch {
	case d.Image != nil:
		msg.ImageMessage = &waE2E.ImageMessage{Mimetype: &d.Image.Mime, Caption: nonEmpty(d.Text), ContextInfo: context}
	case d.Video != nil:
		msg.VideoMessage = &waE2E.VideoMessage{Mimetype: &d.Video.Mime, Caption: nonEmpty(d.Text), Seconds: proto.Uint32(uint32(d.Video.Seconds)), ContextInfo: context}
	case d.Voice != nil:
		msg.AudioMessage = &waE2E.AudioMessage{Mimetype: &d.Voice.Mime, PTT: proto.Bool(true), Seconds: proto.Uint32(uint32(d.Voice.Seconds)), ContextInfo: context}
	case d.Audio != nil:
		msg.AudioMessage = &waE2E.AudioMessage{Mimetype: &d.Audio.Mime, Seconds: proto.Uint32(uint32(d.Audio.Seconds)), ContextInfo: context}
	case d.Document != nil:
		msg.DocumentMessage = &waE2E.DocumentMessage{Mimetype: &d.Document.Mime, FileName: &d.Document.Name, Title: &d.Document.Name, Caption: nonEmpty(d.Text), ContextInfo: context}
	case d.Sticker != nil:
		msg.StickerMessage = &waE2E.StickerMessage{Mimetype: &d.Sticker.Mime, ContextInfo: context}
	case d.Location != nil:
		msg.LocationMessage = &waE2E.LocationMessage{
			DegreesLatitude: &d.Location.Latitude, DegreesLongitude: &d.Location.Longitude,
			Name: nonEmpty(d.Location.Name), Address: nonEmpty(d.Location.Address), ContextInfo: context,
		}
	case d.Contact != nil:
		msg.ContactMessage = &waE2E.ContactMessage{DisplayName: &d.Contact.Name, Vcard: &d.Contact.VCard, ContextInfo: context}
	case d.Text == "":
		return nil, fmt.Errorf("the draft is empty")
	case plain:
		msg.Conversation = &d.Text
	default:
		msg.ExtendedTextMessage = &waE2E.ExtendedTextMessage{Text: &d.Text, ContextInfo: context}
	}
	return msg, nil
}

// attachment is the draft's file and what kind of media it is, or nil.
func (d Draft) attachment() (*Media, mediaKind) {
	switch {
	case d.Image != nil:
		return d.Image, imageMedia
	case d.Sticker != nil:
		return d.Sticker, imageMedia
	case d.Video != nil:
		return d.Video, videoMedia
	case d.Voice != nil:
		return d.Voice, audioMedia
	case d.Audio != nil:
		return d.Audio, audioMedia
	case d.Document != nil:
		return d.Document, documentMedia
	}
	return nil, mediaKind{}
}

// wrap puts the finished message into the envelopes that the draft asks for.
func (d Draft) wrap(msg *waE2E.Message) *waE2E.Message {
	if d.Document != nil && d.Text != "" {
		msg = &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: msg}}
	}
	if d.ViewOnce {
		switch {
		case msg.ImageMessage != nil:
			msg.ImageMessage.ViewOnce = proto.Bool(true)
		case msg.VideoMessage != nil:
			msg.VideoMessage.ViewOnce = proto.Bool(true)
		case msg.AudioMessage != nil:
			msg.AudioMessage.ViewOnce = proto.Bool(true)
		}
		msg = &waE2E.Message{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: msg}}
	}
	if d.Ephemeral {
		msg = &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: msg}}
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	msg.MessageContextInfo = &waE2E.MessageContextInfo{MessageSecret: secret}
	return msg
}

// unwrap takes a message out of its envelopes and says which there were.
func unwrap(msg *waE2E.Message) (inner *waE2E.Message, ephemeral, viewOnce bool) {
	for {
		switch {
		case msg.GetEphemeralMessage().GetMessage() != nil:
			msg, ephemeral = msg.EphemeralMessage.Message, true
		case msg.GetViewOnceMessage().GetMessage() != nil:
			msg, viewOnce = msg.ViewOnceMessage.Message, true
		case msg.GetViewOnceMessageV2().GetMessage() != nil:
			msg, viewOnce = msg.ViewOnceMessageV2.Message, true
		case msg.GetViewOnceMessageV2Extension().GetMessage() != nil:
			msg, viewOnce = msg.ViewOnceMessageV2Extension.Message, true
		case msg.GetDocumentWithCaptionMessage().GetMessage() != nil:
			msg = msg.DocumentWithCaptionMessage.Message
		case msg.GetEditedMessage().GetMessage() != nil:
			msg = msg.EditedMessage.Message
		default:
			return msg, ephemeral, viewOnce
		}
	}
}

// show reads an unwrapped message into what a phone displays. ok is false for a message that
// shows nothing by itself.
func show(msg *waE2E.Message) (r Received, ok bool) {
	var context *waE2E.ContextInfo
	switch {
	case msg.Conversation != nil:
		r.Kind, r.Text = "text", msg.GetConversation()
	case msg.ExtendedTextMessage != nil:
		m := msg.ExtendedTextMessage
		r.Kind, r.Text, context = "text", m.GetText(), m.ContextInfo
	case msg.ImageMessage != nil:
		m := msg.ImageMessage
		r.Kind, r.Text, r.Mime, context = "image", m.GetCaption(), m.GetMimetype(), m.ContextInfo
	case msg.VideoMessage != nil:
		m := msg.VideoMessage
		r.Kind, r.Text, r.Mime, r.Seconds, context = "video", m.GetCaption(), m.GetMimetype(), int(m.GetSeconds()), m.ContextInfo
	case msg.AudioMessage != nil:
		m := msg.AudioMessage
		r.Kind, r.Mime, r.Seconds, r.Voice, r.Waveform, context = "audio", m.GetMimetype(), int(m.GetSeconds()), m.GetPTT(), m.GetWaveform(), m.ContextInfo
		if r.Voice {
			r.Kind = "voice"
		}
	case msg.DocumentMessage != nil:
		m := msg.DocumentMessage
		r.Kind, r.Text, r.Mime, r.FileName, context = "document", m.GetCaption(), m.GetMimetype(), m.GetFileName(), m.ContextInfo
	case msg.StickerMessage != nil:
		m := msg.StickerMessage
		r.Kind, r.Mime, context = "sticker", m.GetMimetype(), m.ContextInfo
	case msg.LocationMessage != nil:
		m := msg.LocationMessage
		r.Kind, context = "location", m.ContextInfo
		r.Location = &Location{Latitude: m.GetDegreesLatitude(), Longitude: m.GetDegreesLongitude(), Name: m.GetName(), Address: m.GetAddress()}
	case msg.ContactMessage != nil:
		m := msg.ContactMessage
		r.Kind, context = "contact", m.ContextInfo
		r.Contact = &Contact{Name: m.GetDisplayName(), VCard: m.GetVcard()}
	default:
		return Received{}, false
	}
	r.content = msg
	r.QuotedID = context.GetStanzaID()
	r.QuotedSender, _ = types.ParseJID(context.GetParticipant())
	if quoted := context.GetQuotedMessage(); quoted != nil {
		inner, _, _ := unwrap(quoted)
		if q, ok := show(inner); ok {
			r.QuotedText = q.Text
		}
	}
	for _, text := range context.GetMentionedJID() {
		if jid, err := types.ParseJID(text); err == nil {
			r.Mentions = append(r.Mentions, jid)
		}
	}
	return r, true
}

// stanzaType is the type attribute of the message stanza that carries msg, and mediaType that
// of its encrypted part, or "".
func stanzaType(msg *waE2E.Message) (stanza, media string) {
	inner, _, _ := unwrap(msg)
	switch {
	case inner.ReactionMessage != nil:
		return "reaction", ""
	case inner.ImageMessage != nil:
		return "media", "image"
	case inner.VideoMessage != nil:
		return "media", "video"
	case inner.AudioMessage.GetPTT():
		return "media", "ptt"
	case inner.AudioMessage != nil:
		return "media", "audio"
	case inner.DocumentMessage != nil:
		return "media", "document"
	case inner.StickerMessage != nil:
		return "media", "sticker"
	case inner.LocationMessage != nil:
		return "media", "location"
	case inner.ContactMessage != nil:
		return "media", "vcard"
	}
	return "text", ""
}

// editMessage makes an edit of the sender's own message to a new text.
func editMessage(key *waCommon.MessageKey, text string) *waE2E.Message {
	return &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{
		ProtocolMessage: &waE2E.ProtocolMessage{
			Key:           key,
			Type:          waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(),
			EditedMessage: &waE2E.Message{Conversation: &text},
			TimestampMS:   proto.Int64(time.Now().UnixMilli()),
		},
	}}}
}

func revokeMessage(key *waCommon.MessageKey) *waE2E.Message {
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Key:  key,
		Type: waE2E.ProtocolMessage_REVOKE.Enum(),
	}}
}

func reactionMessage(key *waCommon.MessageKey, emoji string) *waE2E.Message {
	return &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{
		Key:               key,
		Text:              &emoji,
		SenderTimestampMS: proto.Int64(time.Now().UnixMilli()),
	}}
}

// The edit attributes of a message stanza.
const (
	editText        = "1"
	editRevoke      = "7"
	editAdminRevoke = "8"
)

func newMessageID() types.MessageID {
	var id [9]byte
	rand.Read(id[:])
	return "3A" + strings.ToUpper(hex.EncodeToString(id[:]))
}

func nonEmpty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
