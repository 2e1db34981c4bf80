package whatsapp

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
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
	revoke := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: &waCommon.MessageKey{ID: proto.String("OLD")}}}
	adminRevoke := event(types.MessageSource{Chat: group, Sender: aliceLID, SenderAlt: alicePN, IsGroup: true}, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: &waCommon.MessageKey{ID: proto.String("OLD"), Participant: proto.String("5:3@lid")},
	}})
	adminRevoke.Info.Edit = types.EditAttributeAdminRevoke
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
			alice(func(m *chat.Message) { m.Kind, m.Media = chat.Image, &chat.Media{} })},
		"voice note": {event(fromAlice, &waE2E.Message{AudioMessage: &waE2E.AudioMessage{
			PTT: proto.Bool(true), Seconds: proto.Uint32(5), Mimetype: proto.String("audio/ogg; codecs=opus"), FileLength: proto.Uint64(99),
			DirectPath: proto.String("/v/1?x"), MediaKey: []byte("key"), FileSHA256: []byte("hash"), FileEncSHA256: []byte("enc"),
		}}), alice(func(m *chat.Message) {
			m.Kind, m.Text = chat.Voice, ""
			m.Media = &chat.Media{MIME: "audio/ogg; codecs=opus", Size: 99, Seconds: 5, Path: "/v/1?x", Key: []byte("key"), SHA256: []byte("hash"), EncSHA256: []byte("enc")}
		})},
		"document without caption": {event(fromAlice, &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{FileName: proto.String("a.pdf")}}),
			alice(func(m *chat.Message) { m.Kind, m.Text, m.Media = chat.Document, "", &chat.Media{Name: "a.pdf"} })},
		"location": {event(fromAlice, &waE2E.Message{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(52.5), DegreesLongitude: proto.Float64(13.4), Name: proto.String("Berlin")}}),
			alice(func(m *chat.Message) { m.Kind, m.Text = chat.Location, "52.50000, 13.40000, Berlin" })},
		"mention by LID":    {event(fromAlice, context(&waE2E.ContextInfo{MentionedJID: []string{ownLID.String()}})), alice(func(m *chat.Message) { m.Mentioned, m.Mentions = true, []string{ownLID.String()} })},
		"mention by number": {event(fromAlice, context(&waE2E.ContextInfo{MentionedJID: []string{aliceLID.String(), ownPN.String()}})), alice(func(m *chat.Message) { m.Mentioned, m.Mentions = true, []string{aliceLID.String(), ownPN.String()} })},
		"mention of others": {event(fromAlice, context(&waE2E.ContextInfo{MentionedJID: []string{aliceLID.String(), "not a jid@@"}})), alice(func(m *chat.Message) { m.Mentions = []string{aliceLID.String()} })},
		"forwarded":         {event(fromAlice, context(&waE2E.ContextInfo{IsForwarded: proto.Bool(true)})), alice(func(m *chat.Message) { m.Borrowed = true })},
		"tapped": {event(fromAlice, &waE2E.Message{ButtonsResponseMessage: &waE2E.ButtonsResponseMessage{
			Response: &waE2E.ButtonsResponseMessage_SelectedDisplayText{SelectedDisplayText: "hi"},
		}}), alice(func(m *chat.Message) { m.Borrowed = true })},
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
		"edit": {event(fromAlice, &waE2E.Message{EditedMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: &waCommon.MessageKey{ID: proto.String("OLD")}, EditedMessage: text("hi"),
		}}}}), alice(func(m *chat.Message) { m.Change = &chat.Change{ID: "OLD"} })},
		"revoke": {event(fromAlice, revoke), alice(func(m *chat.Message) { m.Text, m.Change = "", &chat.Change{ID: "OLD", Revoke: true} })},
		"revoke by an admin": {adminRevoke, alice(func(m *chat.Message) {
			inGroup(m)
			m.Text, m.Change = "", &chat.Change{ID: "OLD", Revoke: true, Admin: true, Author: "5@lid"}
		})},
		"wrapped against the order": {event(fromAlice, &waE2E.Message{ViewOnceMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{BotInvokeMessage: wrap(text("hi"))})})}), alice(nil)},
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

// addresses knows both of Alice's addresses.
type addresses struct {
	store.LIDStore
	broken error
}

func (a *addresses) GetLIDForPN(_ context.Context, pn types.JID) (lid types.JID, err error) {
	if pn == alicePN {
		lid = aliceLID
	}
	return lid, a.broken
}

func (a *addresses) GetPNForLID(_ context.Context, lid types.JID) (pn types.JID, err error) {
	if lid == aliceLID {
		pn = alicePN
	}
	return pn, a.broken
}

// A group's admin names the author of what they revoke by either address.
func TestAuthorOfWhatIsRevoked(t *testing.T) {
	t.Parallel()
	for named, want := range map[string][2]string{
		alicePN.String():               {aliceLID.String(), alicePN.String()},
		onDevice(aliceLID, 3).String(): {aliceLID.String(), alicePN.String()},
		"4915100000003@s.whatsapp.net": {"4915100000003@s.whatsapp.net"},
		"200000000000003@lid":          {"200000000000003@lid"},
		"not a jid@@":                  {},
	} {
		evt := event(types.MessageSource{Chat: group, Sender: ownLID, SenderAlt: ownPN, IsGroup: true}, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type: waE2E.ProtocolMessage_REVOKE.Enum(), Key: &waCommon.MessageKey{ID: proto.String("OLD"), Participant: &named},
		}})
		evt.Info.Edit = types.EditAttributeAdminRevoke
		var got []chat.Message
		l := newLink("1", &notes{kept: map[string][]byte{}})
		l.Receive = func(_ context.Context, m chat.Message) error { got = append(got, m); return nil }
		l.Sync = func(context.Context) error { return nil }
		known := &addresses{broken: errors.New("down")}
		l.use(t.Context(), &store.Device{LIDs: known})
		if l.handle(t.Context(), evt) != (want[0] == "") || len(got) > 0 && want[0] != "" {
			t.Errorf("%s: taken while the store is down: %+v", named, got)
		}
		known.broken, got = nil, nil
		if !l.handle(t.Context(), evt) || len(got) != 1 || got[0].Change.Author != want[0] || got[0].Change.AuthorAlt != want[1] {
			t.Errorf("%s: got %+v, want the author %v", named, got, want)
		}
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
		"edit":            {edited, "an edit or a revoke of what is no message"},
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

func wrap(m *waE2E.Message) *waE2E.FutureProofMessage { return &waE2E.FutureProofMessage{Message: m} }

// What is quoted is read whatever its kind, and whatever lies around it.
func TestQuotedContent(t *testing.T) {
	t.Parallel()
	hi := proto.String("hi")
	edit := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: &waCommon.MessageKey{ID: hi}, EditedMessage: text("hi")}}
	for name, test := range map[string]struct {
		quoted *waE2E.Message
		kind   chat.Kind
		text   string
	}{
		"text":               {text("hi"), chat.Text, "hi"},
		"extended text":      {&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: hi}}, chat.Text, "hi"},
		"image":              {&waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: hi}}, chat.Image, "hi"},
		"video":              {&waE2E.Message{VideoMessage: &waE2E.VideoMessage{Caption: hi}}, chat.Video, "hi"},
		"document":           {&waE2E.Message{DocumentWithCaptionMessage: wrap(&waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{Caption: hi}})}, chat.Document, "hi"},
		"contact":            {&waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: hi}}, chat.Contact, "hi"},
		"poll":               {&waE2E.Message{PollCreationMessageV4: wrap(&waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{Name: hi}})}, chat.Other, "hi"},
		"buttons":            {&waE2E.Message{ButtonsMessage: &waE2E.ButtonsMessage{ContentText: hi}}, chat.Text, "hi"},
		"list":               {&waE2E.Message{ListMessage: &waE2E.ListMessage{Description: hi}}, chat.Text, "hi"},
		"template":           {&waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{HydratedTemplate: &waE2E.TemplateMessage_HydratedFourRowTemplate{HydratedContentText: hi}}}, chat.Text, "hi"},
		"interactive":        {&waE2E.Message{InteractiveMessage: &waE2E.InteractiveMessage{Body: &waE2E.InteractiveMessage_Body{Text: hi}}}, chat.Text, "hi"},
		"interactive answer": {&waE2E.Message{InteractiveResponseMessage: &waE2E.InteractiveResponseMessage{Body: &waE2E.InteractiveResponseMessage_Body{Text: hi}}}, chat.Text, "hi"},
		"structured":         {&waE2E.Message{HighlyStructuredMessage: &waE2E.HighlyStructuredMessage{}}, chat.Other, ""},
		"group invite":       {&waE2E.Message{GroupInviteMessage: &waE2E.GroupInviteMessage{GroupName: hi}}, chat.Other, "hi"},
		"event":              {&waE2E.Message{EventMessage: &waE2E.EventMessage{Name: hi}}, chat.Other, "hi"},
		"product":            {&waE2E.Message{ProductMessage: &waE2E.ProductMessage{Body: hi}}, chat.Other, "hi"},
		"order":              {&waE2E.Message{OrderMessage: &waE2E.OrderMessage{Message: hi}}, chat.Other, "hi"},
		"disappearing":       {&waE2E.Message{EphemeralMessage: wrap(text("hi"))}, chat.Text, "hi"},
		"view once":          {&waE2E.Message{ViewOnceMessage: wrap(&waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: hi}})}, chat.Image, "hi"},
		"view once, 2":       {&waE2E.Message{ViewOnceMessageV2: wrap(&waE2E.Message{VideoMessage: &waE2E.VideoMessage{Caption: hi}})}, chat.Video, "hi"},
		"view once, 3":       {&waE2E.Message{ViewOnceMessageV2Extension: wrap(&waE2E.Message{AudioMessage: &waE2E.AudioMessage{PTT: proto.Bool(true)}})}, chat.Voice, ""},
		"from a device":      {&waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{Message: text("hi")}}, chat.Text, "hi"},
		"to a bot":           {&waE2E.Message{BotInvokeMessage: wrap(text("hi"))}, chat.Text, "hi"},
		"edited":             {&waE2E.Message{EditedMessage: wrap(edit)}, chat.Text, "hi"},
		"too deep": {&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{
			EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(&waE2E.Message{EphemeralMessage: wrap(text("hi"))})})})})})})})})}, chat.Other, ""},
		"nothing": {nil, chat.Other, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, reason := messageFrom(event(fromAlice, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
				Text: proto.String("see"), ContextInfo: &waE2E.ContextInfo{StanzaID: proto.String("Q"), QuotedMessage: test.quoted},
			}}), me)
			if reason != "" || m.Quoted == nil || m.Quoted.Kind != test.kind || m.Quoted.Text != test.text {
				t.Errorf("reason %q, quoted %+v, want %s %q", reason, m.Quoted, test.kind, test.text)
			}
		})
	}
}

// What strangers send must never make us panic, whatever its bytes.
func FuzzMessageFrom(f *testing.F) {
	for _, m := range []*waE2E.Message{
		text("hi"),
		{EphemeralMessage: &waE2E.FutureProofMessage{Message: text("x")}},
		{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String("Bob"), Vcard: proto.String(bobsCard)}},
		{DocumentMessage: &waE2E.DocumentMessage{FileName: proto.String("a.pdf")}},
		{LocationMessage: &waE2E.LocationMessage{DegreesLatitude: proto.Float64(1)}},
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
