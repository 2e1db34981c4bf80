package whatsapp

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"wabot/internal/chat"
)

var (
	ownPN    = types.NewJID("4915100000001", types.DefaultUserServer)
	ownLID   = types.NewJID("200000000000001", types.HiddenUserServer)
	alicePN  = types.NewJID("4915100000002", types.DefaultUserServer)
	aliceLID = types.NewJID("200000000000002", types.HiddenUserServer)
	group    = types.NewJID("120363000000000001", types.GroupServer)
	sentAt   = time.Unix(1_790_000_000, 0)

	me = self{pn: ownPN, lid: ownLID, device: 7, sentByUs: func(id string) bool { return id == "OURS" }}
)

func onDevice(j types.JID, n uint16) types.JID { j.Device = n; return j }

func text(s string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(s)} }

// event builds what whatsmeow dispatches for a message.
func event(source types.MessageSource, msg *waE2E.Message) *events.Message {
	return (&events.Message{
		Info:       types.MessageInfo{MessageSource: source, ID: "ID1", PushName: "Alice", Timestamp: sentAt},
		RawMessage: msg,
	}).UnwrapRaw()
}

var fromAlice = types.MessageSource{Chat: aliceLID, Sender: aliceLID, SenderAlt: alicePN}

func TestMessageFrom(t *testing.T) {
	t.Parallel()
	alice := func(change func(*chat.Message)) chat.Message {
		m := chat.Message{
			Chat: aliceLID.String(), ChatAlt: alicePN.String(), ID: "ID1", Sender: aliceLID.String(), SenderAlt: alicePN.String(),
			Name: "Alice", Time: sentAt, Text: "hi", Kind: chat.Text,
		}
		if change != nil {
			change(&m)
		}
		return m
	}
	own := func(m *chat.Message) {
		m.Sender, m.SenderAlt, m.FromMe = ownLID.String(), ownPN.String(), true
	}
	inGroup := func(m *chat.Message) { m.Chat, m.ChatAlt, m.Group = group.String(), "", true }
	context := func(c *waE2E.ContextInfo) *waE2E.Message {
		return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("hi"), ContextInfo: c}}
	}
	for name, test := range map[string]struct {
		event *events.Message
		want  chat.Message
	}{
		"by LID":          {event(fromAlice, text("hi")), alice(nil)},
		"by phone number": {event(types.MessageSource{Chat: alicePN, Sender: onDevice(alicePN, 3), SenderAlt: onDevice(aliceLID, 3)}, text("hi")), alice(nil)},
		"no LID known yet": {event(types.MessageSource{Chat: alicePN, Sender: alicePN}, text("hi")), alice(func(m *chat.Message) {
			m.Chat, m.ChatAlt, m.Sender, m.SenderAlt = alicePN.String(), "", alicePN.String(), ""
		})},
		"in a group": {event(types.MessageSource{Chat: group, Sender: onDevice(aliceLID, 2), SenderAlt: alicePN, IsGroup: true}, text("hi")), alice(inGroup)},
		"own chat by LID": {event(types.MessageSource{Chat: ownLID, Sender: ownLID, IsFromMe: true}, text("hi")), alice(func(m *chat.Message) {
			own(m)
			m.Own, m.Chat, m.ChatAlt = true, ownLID.String(), ownPN.String()
		})},
		"own chat by number": {event(types.MessageSource{Chat: ownPN, Sender: ownPN, IsFromMe: true}, text("hi")), alice(func(m *chat.Message) {
			own(m)
			m.Own, m.Chat, m.ChatAlt = true, ownLID.String(), ownPN.String()
		})},
		"own message to alice": {event(types.MessageSource{Chat: aliceLID, Sender: ownLID, RecipientAlt: alicePN, IsFromMe: true},
			&waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{DestinationJID: proto.String(aliceLID.String()), Message: text("hi")}}), alice(own)},
		"disappearing": {event(fromAlice, &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: text("hi")}}), alice(nil)},
		"view once": {event(fromAlice, &waE2E.Message{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: proto.String("hi")}}}}),
			alice(func(m *chat.Message) { m.Kind = chat.Image })},
		"voice note": {event(fromAlice, &waE2E.Message{AudioMessage: &waE2E.AudioMessage{PTT: proto.Bool(true)}}), alice(func(m *chat.Message) { m.Kind, m.Text = chat.Voice, "" })},
		"document without caption": {event(fromAlice, &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{FileName: proto.String("a.pdf")}}),
			alice(func(m *chat.Message) { m.Kind, m.Text = chat.Document, "a.pdf" })},
		"location": {event(fromAlice, &waE2E.Message{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(52.5), DegreesLongitude: proto.Float64(13.4), Name: proto.String("Berlin")}}),
			alice(func(m *chat.Message) { m.Kind, m.Text = chat.Location, "52.50000, 13.40000 Berlin" })},
		"mention by LID":    {event(fromAlice, context(&waE2E.ContextInfo{MentionedJID: []string{ownLID.String()}})), alice(func(m *chat.Message) { m.Mentioned = true })},
		"mention by number": {event(fromAlice, context(&waE2E.ContextInfo{MentionedJID: []string{aliceLID.String(), ownPN.String()}})), alice(func(m *chat.Message) { m.Mentioned = true })},
		"mention of others": {event(fromAlice, context(&waE2E.ContextInfo{MentionedJID: []string{aliceLID.String(), "not a jid@@"}})), alice(nil)},
		"reply to the bot": {event(fromAlice, context(&waE2E.ContextInfo{StanzaID: proto.String("OURS"), Participant: proto.String(onDevice(ownLID, 7).String()), QuotedMessage: text("quoted")})),
			alice(func(m *chat.Message) {
				m.Quoted = &chat.Quoted{ID: "OURS", Sender: ownLID.String(), Text: "quoted", Kind: chat.Text, FromBot: true}
			})},
		"reply to what the account's owner wrote": {event(fromAlice, context(&waE2E.ContextInfo{StanzaID: proto.String("THEIRS"), Participant: proto.String(ownLID.String()), QuotedMessage: text("quoted")})),
			alice(func(m *chat.Message) {
				m.Quoted = &chat.Quoted{ID: "THEIRS", Sender: ownLID.String(), Text: "quoted", Kind: chat.Text}
			})},
		"reply with a stolen ID": {event(fromAlice, context(&waE2E.ContextInfo{StanzaID: proto.String("OURS"), Participant: proto.String(aliceLID.String())})),
			alice(func(m *chat.Message) {
				m.Quoted = &chat.Quoted{ID: "OURS", Sender: aliceLID.String(), Kind: chat.Other}
			})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, reason := messageFrom(test.event, me)
			if reason != "" || !reflect.DeepEqual(got, test.want) {
				t.Errorf("reason %q\n got %+v\nwant %+v", reason, got, test.want)
			}
		})
	}
}

func TestMessageFromNotForUs(t *testing.T) {
	t.Parallel()
	edited := event(fromAlice, text("hi"))
	edited.Info.Edit = types.EditAttributeMessageEdit
	peer := event(types.MessageSource{Chat: ownPN, Sender: ownPN, IsFromMe: true}, text("hi"))
	peer.Info.Category = "peer"
	ours := event(types.MessageSource{Chat: ownLID, Sender: onDevice(ownLID, 3), IsFromMe: true}, text("hi"))
	ours.Info.ID = "OURS"
	for name, test := range map[string]struct {
		event *events.Message
		want  string
	}{
		"status":          {event(types.MessageSource{Chat: types.StatusBroadcastJID, Sender: aliceLID, IsGroup: true}, text("hi")), "status or broadcast"},
		"broadcast list":  {event(types.MessageSource{Chat: types.NewJID("1", types.BroadcastServer), Sender: aliceLID, IsGroup: true}, text("hi")), "status or broadcast"},
		"newsletter":      {event(types.MessageSource{Chat: types.NewJID("1", types.NewsletterServer)}, text("hi")), "newsletter"},
		"WhatsApp's bots": {event(types.MessageSource{Chat: types.NewJID("1", types.BotServer)}, text("hi")), "neither a person nor a group"},
		"our own device":  {event(types.MessageSource{Chat: ownLID, Sender: onDevice(ownLID, 7), IsFromMe: true}, text("hi")), "the bot's own"},
		"our own ID":      {ours, "the bot's own"},
		"between devices": {peer, "between the account's own devices"},
		"edit":            {edited, "an edit or a revoke"},
		"reaction":        {event(fromAlice, &waE2E.Message{ReactionMessage: &waE2E.ReactionMessage{Text: proto.String("x")}}), "nothing to read"},
		"protocol":        {event(fromAlice, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{}}), "nothing to read"},
		"empty":           {event(fromAlice, &waE2E.Message{}), "nothing to read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if m, reason := messageFrom(test.event, me); reason != test.want {
				t.Errorf("reason %q, want %q; message %+v", reason, test.want, m)
			}
		})
	}
}

// What strangers send must never make us panic, whatever its bytes.
func FuzzMessageFrom(f *testing.F) {
	for _, m := range []*waE2E.Message{
		text("hi"),
		{EphemeralMessage: &waE2E.FutureProofMessage{Message: text("x")}},
		{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: &waE2E.ContextInfo{StanzaID: proto.String("A"), MentionedJID: []string{"@"}, QuotedMessage: text("q")}}},
	} {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "1@lid", "2@s.whatsapp.net")
	}
	f.Fuzz(func(t *testing.T, raw []byte, chatJID, sender string) {
		var msg waE2E.Message
		if proto.Unmarshal(raw, &msg) != nil {
			return
		}
		var source types.MessageSource
		source.Chat, _ = types.ParseJID(chatJID)
		source.Sender, _ = types.ParseJID(sender)
		m, reason := messageFrom(event(source, &msg), me)
		if reason == "" && (m.Chat == "" || m.ID == "" || m.Kind == "") {
			t.Errorf("incomplete message %+v", m)
		}
	})
}

func TestNewIDIsKnownAgain(t *testing.T) {
	t.Parallel()
	c, other, twin := New(Options{}), New(Options{}), New(Options{})
	for bot, jid := range map[*Client]types.JID{c: onDevice(ownPN, 7), other: onDevice(alicePN, 7), twin: onDevice(ownPN, 8)} {
		bot.Show = func(State) {}
		bot.identify(&store.Device{ID: &jid})
	}
	seen := map[string]bool{}
	for range 1000 {
		id := c.NewID()
		if len(id) != 22 || !strings.HasPrefix(id, "3EB0") || strings.ToUpper(id) != id {
			t.Fatalf("ID %q does not look like one of WhatsApp's web clients", id)
		}
		if seen[id] || !c.sentByUs(id) || other.sentByUs(id) {
			t.Fatalf("ID %q: repeated %v, ours %v, the other bot's %v", id, seen[id], c.sentByUs(id), other.sentByUs(id))
		}
		// Else two bots on one account would answer each other.
		if !twin.sentByUs(id) {
			t.Fatalf("ID %q is not known to another bot on the same account", id)
		}
		seen[id] = true
	}
	for _, id := range []string{"", "3EB0", "3EB0" + strings.Repeat("0", 18), "3EB0ZZ", "ABC", "3EB0" + strings.Repeat("F", 40)} {
		if c.sentByUs(id) {
			t.Errorf("%q passes as ours", id)
		}
	}
}
