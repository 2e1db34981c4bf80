package whatsapptest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// scanned is a client linked to the phone by QR code, logged in and with its push name.
func scanned(ctx context.Context, t *testing.T, s *Server, phone *Phone) *client {
	t.Helper()
	c := newClient(t, s)
	must(t, c.Connect())
	qr := await(ctx, c, anything[*events.QR])
	jid, err := phone.Scan(ctx, qr.Codes[0])
	must(t, err)
	await(ctx, c, anything[*events.PairSuccess])
	settled(ctx, t, s, c, phone, jid)
	return c
}

// settled waits until the client has all that its phone sends after pairing.
func settled(ctx context.Context, t *testing.T, s *Server, c *client, phone *Phone, jid types.JID) {
	t.Helper()
	await(ctx, c, anything[*events.Connected])
	if c.Store.GetJID() != jid {
		t.Fatalf("client is %s, phone says %s", c.Store.GetJID(), jid)
	}
	await(ctx, c, func(e *events.AppStateSyncComplete) bool { return e.Name == appstate.WAPatchCriticalBlock })
	if c.Store.PushName != phone.Name() {
		t.Fatalf("client's push name is %q, want %q", c.Store.PushName, phone.Name())
	}
	for _, kind := range []waHistorySync.HistorySync_HistorySyncType{
		waHistorySync.HistorySync_INITIAL_BOOTSTRAP, waHistorySync.HistorySync_PUSH_NAME, waHistorySync.HistorySync_RECENT,
	} {
		await(ctx, c, func(e *events.HistorySync) bool { return e.Data.GetSyncType() == kind })
	}
	must(t, c.SendPresence(ctx, types.PresenceAvailable))
	must(t, s.WaitSettled(ctx, jid))
}

// lacksNothing fails the test if the server met something unknown.
func lacksNothing(t *testing.T, s *Server) {
	t.Helper()
	if unknown := s.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown to the server: %q", unknown)
	}
}

func (c *client) send(ctx context.Context, to types.JID, msg *waE2E.Message) types.MessageID {
	c.t.Helper()
	resp, err := c.SendMessage(ctx, to, msg)
	must(c.t, err)
	return resp.ID
}

func (c *client) text(ctx context.Context, to types.JID, words string) types.MessageID {
	c.t.Helper()
	return c.send(ctx, to, &waE2E.Message{Conversation: proto.String(words)})
}

// gets waits for the message with this id.
func (c *client) gets(ctx context.Context, id types.MessageID) *events.Message {
	c.t.Helper()
	return await(ctx, c, func(m *events.Message) bool { return m.Info.ID == id })
}

func TestScan(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	says(ctx, t, alice, bot.JID(), "before the pairing")
	hears(ctx, t, bot, alice.JID(), "before the pairing")
	c := scanned(ctx, t, s, bot)

	for i := range 3 {
		question, answer := fmt.Sprint("question ", i), fmt.Sprint("answer ", i)
		id := says(ctx, t, alice, bot.JID(), question)
		got := c.gets(ctx, id)
		if got.Message.GetConversation() != question || got.Info.Sender != alice.LID() || got.Info.SenderAlt != alice.JID() ||
			got.Info.PushName != "Alice" || got.Info.IsFromMe || got.Info.IsGroup {
			t.Errorf("client got %+v", got.Info)
		}
		sent := c.text(ctx, got.Info.Chat, answer)
		heard := hears(ctx, t, alice, bot.JID(), answer)
		if heard.ID != sent || heard.Sender != bot.LID() || heard.Device != 1 || heard.Name != "Robert" {
			t.Errorf("Alice heard %v", heard)
		}
		// The owner's phone shows both sides.
		waits(ctx, t, bot, func(p *Phone) bool { r := last(p, alice.JID()); return r.FromMe && r.Text == answer })
		waits(ctx, t, alice, func(p *Phone) bool { delivered, _ := p.Receipts(id); return delivered })
	}
	// Known by number only.
	carol := s.NewPhone("Carol")
	c.text(ctx, carol.JID(), "hello stranger")
	hears(ctx, t, carol, bot.LID(), "hello stranger")
	// Own chat, both ways.
	id := says(ctx, t, bot, bot.JID(), "note")
	if got := c.gets(ctx, id); !got.Info.IsFromMe || got.Info.Chat != bot.LID() {
		t.Errorf("own chat: %+v", got.Info.MessageSource)
	}
	c.text(ctx, bot.JID(), "noted")
	if got := hears(ctx, t, bot, bot.JID(), "noted"); !got.FromMe || got.Device != 1 {
		t.Errorf("own chat on the phone: %v", got)
	}
	lacksNothing(t, s)
}

func TestEnterCode(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	c := newClient(t, s)
	must(t, c.Connect())
	await(ctx, c, anything[*events.QR])
	code, err := c.PairPhone(ctx, bot.Number(), true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	must(t, err)
	jid, err := bot.EnterCode(ctx, code)
	must(t, err)
	await(ctx, c, anything[*events.PairSuccess])
	settled(ctx, t, s, c, bot, jid)
	id := says(ctx, t, alice, bot.JID(), "hello")
	c.gets(ctx, id)
	c.text(ctx, alice.JID(), "hi")
	hears(ctx, t, alice, bot.JID(), "hi")
	lacksNothing(t, s)
}

func TestWrongPairings(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot := s.NewPhone("Robert")
	c := newClient(t, s)
	must(t, c.Connect())
	codes := await(ctx, c, anything[*events.QR]).Codes
	parts := strings.Split(codes[0], ",")
	for _, wrong := range []struct{ name, qr string }{
		{"too short", parts[0]},
		{"unknown ref", "2@nobody," + strings.Join(parts[1:], ",")},
		{"other identity", strings.Join([]string{parts[0], parts[1], parts[1], parts[3], parts[4]}, ",")},
		{"other secret", strings.Join([]string{parts[0], parts[1], parts[2], parts[1], parts[4]}, ",")},
	} {
		if jid, err := bot.Scan(ctx, wrong.qr); err == nil {
			t.Fatalf("%s: paired as %s", wrong.name, jid)
		}
	}
	await(ctx, c, anything[*events.PairError]) // of the last

	other := newClient(t, s)
	must(t, other.Connect())
	await(ctx, other, anything[*events.QR])
	code, err := other.PairPhone(ctx, bot.Number(), true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	must(t, err)
	typo := "1" + code[1:]
	if typo == code {
		typo = "2" + code[1:]
	}
	if _, err := bot.EnterCode(ctx, typo); err == nil || !strings.Contains(err.Error(), "the code is wrong") {
		t.Errorf("wrong code: %v", err)
	}
}

func TestUnlinkByPhone(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot := s.NewPhone("Robert")
	c := scanned(ctx, t, s, bot)
	c.restart(ctx)
	bot.Unlink(c.jid())
	await(ctx, c, func(e *events.LoggedOut) bool { return !e.OnConnect })
}

func TestDraftsToClient(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	c := scanned(ctx, t, s, bot)
	c.text(ctx, alice.JID(), "what is that?")
	asked := hears(ctx, t, alice, bot.JID(), "what is that?")
	deliver := func(d Draft) *events.Message {
		t.Helper()
		id, err := alice.Send(ctx, bot.JID(), d)
		must(t, err)
		return c.gets(ctx, id)
	}

	quoted := deliver(Draft{Text: "a quote", Quote: &asked}).Message.ExtendedTextMessage
	if quoted.GetText() != "a quote" || quoted.ContextInfo.GetStanzaID() != asked.ID || quoted.ContextInfo.GetParticipant() != bot.LID().String() ||
		quoted.ContextInfo.QuotedMessage.GetConversation() != asked.Text {
		t.Errorf("quote arrived as %v", quoted)
	}
	mention := deliver(Draft{Text: "hey @" + bot.LID().User, Mentions: []types.JID{bot.JID()}}).Message.ExtendedTextMessage
	if !slices.Equal(mention.ContextInfo.GetMentionedJID(), []string{bot.LID().String()}) {
		t.Errorf("mention arrived as %v", mention)
	}
	data := bytes.Repeat([]byte("media"), 2000)
	for _, d := range []Draft{
		{Text: "look", Image: &Media{Data: data, Mime: "image/png"}},
		{Voice: &Media{Data: data, Mime: "audio/ogg; codecs=opus", Seconds: 3}},
		{Audio: &Media{Data: data, Mime: "audio/mpeg"}},
		{Text: "film", Video: &Media{Data: data, Mime: "video/mp4"}},
		{Text: "bill", Document: &Media{Data: data, Mime: "application/pdf", Name: "bill.pdf"}},
		{Sticker: &Media{Data: data, Mime: "image/webp"}},
		{Image: &Media{Data: data, Mime: "image/png"}, ViewOnce: true, Ephemeral: true},
	} {
		got := deliver(d)
		//lint:ignore SA1019 whichever kind it is
		file, err := c.DownloadAny(ctx, got.Message)
		if err != nil || !bytes.Equal(file, data) {
			t.Errorf("download of %v: %d bytes, %v", got.Message, len(file), err)
		}
		if d.ViewOnce != got.IsViewOnce || d.Ephemeral != got.IsEphemeral || d.Voice != nil != got.Message.GetAudioMessage().GetPTT() {
			t.Errorf("arrived as %v", got.Message)
		}
	}
	if got := deliver(Draft{Location: &Location{Latitude: 1, Longitude: 2, Name: "Sea"}}).Message.LocationMessage; got.GetName() != "Sea" {
		t.Errorf("location arrived as %v", got)
	}
	if got := deliver(Draft{Contact: &Contact{Name: "Carol", VCard: "BEGIN:VCARD"}}).Message.ContactMessage; got.GetDisplayName() != "Carol" {
		t.Errorf("contact arrived as %v", got)
	}

	id := says(ctx, t, alice, bot.JID(), "helo")
	c.gets(ctx, id)
	must(t, alice.Edit(ctx, bot.JID(), id, "hello"))
	await(ctx, c, func(m *events.Message) bool {
		return m.IsEdit && m.Message.GetProtocolMessage().GetKey().GetID() == id &&
			m.Message.GetProtocolMessage().GetEditedMessage().GetConversation() == "hello"
	})
	must(t, alice.React(ctx, bot.JID(), asked, "😀"))
	await(ctx, c, func(m *events.Message) bool {
		r := m.Message.GetReactionMessage()
		return r.GetText() == "😀" && r.GetKey().GetID() == asked.ID && !r.GetKey().GetFromMe()
	})
	must(t, alice.Revoke(ctx, bot.JID(), id))
	await(ctx, c, func(m *events.Message) bool {
		return m.Message.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_REVOKE && m.Info.Edit == types.EditAttributeSenderRevoke
	})
	must(t, c.SubscribePresence(ctx, alice.LID()))
	await(ctx, c, anything[*events.Presence])
	must(t, alice.Type(ctx, bot.JID(), true))
	await(ctx, c, func(e *events.ChatPresence) bool {
		return e.State == types.ChatPresenceComposing && e.Sender == alice.LID()
	})
	must(t, alice.Read(ctx, bot.JID(), asked.ID))
	await(ctx, c, func(e *events.Receipt) bool {
		return e.Type == types.ReceiptTypeRead && slices.Contains(e.MessageIDs, asked.ID)
	})
	lacksNothing(t, s)
}

func TestClientToPhone(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	c := scanned(ctx, t, s, bot)
	asked := says(ctx, t, alice, bot.JID(), "draw me a cat")
	got := c.gets(ctx, asked)

	must(t, c.SendChatPresence(ctx, alice.LID(), types.ChatPresenceComposing, types.ChatPresenceMediaText))
	waits(ctx, t, alice, func(p *Phone) bool { return p.Typing(bot.JID()) })
	must(t, c.MarkRead(ctx, []string{asked}, time.Now(), got.Info.Chat, got.Info.Sender))
	waits(ctx, t, alice, func(p *Phone) bool { _, read := p.Receipts(asked); return read })

	data := bytes.Repeat([]byte("cat"), 999)
	up, err := c.Upload(ctx, data, whatsmeow.MediaImage)
	must(t, err)
	id := c.send(ctx, alice.JID(), &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
		Caption: proto.String("a cat"), Mimetype: proto.String("image/png"),
		URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey,
		FileEncSHA256: up.FileEncSHA256, FileSHA256: up.FileSHA256, FileLength: &up.FileLength,
		ContextInfo: &waE2E.ContextInfo{
			StanzaID: &asked, Participant: proto.String(alice.LID().String()), QuotedMessage: got.Message,
		},
	}})
	picture := hears(ctx, t, alice, bot.JID(), "a cat")
	if picture.ID != id || !bytes.Equal(picture.Media, data) || picture.QuotedID != asked || picture.QuotedText != "draw me a cat" {
		t.Errorf("Alice got %v", picture)
	}
	if alice.Typing(bot.JID()) || alice.Typed(bot.JID()) != 1 {
		t.Error("still typing after the message, or typed more than once")
	}

	id = c.text(ctx, alice.JID(), "I think")
	c.send(ctx, alice.JID(), c.BuildEdit(alice.LID(), id, &waE2E.Message{Conversation: proto.String("I think, so I am")}))
	edited := hears(ctx, t, alice, bot.JID(), "I think, so I am")
	if edited.ID != id || len(edited.Edits) != 1 {
		t.Errorf("edited to %v", edited)
	}
	c.send(ctx, alice.JID(), c.BuildReaction(alice.LID(), alice.LID(), asked, "🐈"))
	waits(ctx, t, alice, func(p *Phone) bool { return p.Messages(bot.JID())[0].Reactions[bot.LID()] == "🐈" })
	// The account's own phone may not have got the message yet.
	waits(ctx, t, bot, func(p *Phone) bool {
		return slices.ContainsFunc(p.Messages(alice.JID()), func(m Received) bool { return m.ID == asked && m.Reactions[bot.LID()] == "🐈" })
	})
	c.send(ctx, alice.JID(), c.BuildRevoke(alice.LID(), types.EmptyJID, id))
	waits(ctx, t, alice, func(p *Phone) bool { return last(p, bot.JID()).Revoked })

	// The same message once more, newly encrypted: shown once, counted.
	id = c.text(ctx, alice.JID(), "resent")
	_, err = c.SendMessage(ctx, alice.JID(), &waE2E.Message{Conversation: proto.String("resent")}, whatsmeow.SendRequestExtra{ID: id})
	must(t, err)
	waits(ctx, t, alice, func(p *Phone) bool { return last(p, bot.JID()).Count == 2 })

	alice.Subscribe(bot.JID())
	waits(ctx, t, alice, func(p *Phone) bool { return p.Present(bot.LID()) })
	must(t, c.SendPresence(ctx, types.PresenceUnavailable))
	waits(ctx, t, alice, func(p *Phone) bool { return !p.Present(bot.LID()) })
	lacksNothing(t, s)
}

func TestClientInGroup(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice, carol := s.NewPhone("Robert"), s.NewPhone("Alice"), s.NewPhone("Carol")
	c := scanned(ctx, t, s, bot)
	group, err := alice.Group(ctx, "Friends", bot.JID())
	must(t, err)
	await(ctx, c, anything[*events.JoinedGroup])

	for i := range 3 {
		id := says(ctx, t, alice, group, fmt.Sprint("question ", i))
		got := c.gets(ctx, id)
		if !got.Info.IsGroup || got.Info.Chat != group || got.Info.Sender != alice.LID() || got.Info.SenderAlt != alice.JID() {
			t.Errorf("client got %+v", got.Info.MessageSource)
		}
		c.text(ctx, group, fmt.Sprint("answer ", i))
		hears(ctx, t, alice, group, fmt.Sprint("answer ", i))
		waits(ctx, t, bot, func(p *Phone) bool { return last(p, group).Text == fmt.Sprint("answer ", i) })
	}
	must(t, alice.AddMember(ctx, group, carol.JID()))
	await(ctx, c, func(e *events.GroupInfo) bool { return slices.Contains(e.Join, carol.LID()) })
	c.text(ctx, group, "welcome, Carol")
	hears(ctx, t, carol, group, "welcome, Carol")
	says(ctx, t, carol, group, "thanks")
	c.hear(ctx, "thanks")

	must(t, c.SendChatPresence(ctx, group, types.ChatPresenceComposing, types.ChatPresenceMediaText))
	waits(ctx, t, carol, func(p *Phone) bool { return p.Typing(group) })
	must(t, alice.RemoveMember(ctx, group, bot.JID()))
	await(ctx, c, func(e *events.GroupInfo) bool { return slices.Contains(e.Leave, bot.LID()) })
	says(ctx, t, alice, group, "he is gone")
	hears(ctx, t, carol, group, "he is gone")
	lacksNothing(t, s)
}

func TestRetriesWithClient(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	c := scanned(ctx, t, s, bot)
	group, err := alice.Group(ctx, "Friends", bot.JID())
	must(t, err)
	await(ctx, c, anything[*events.JoinedGroup])

	for _, chat := range []types.JID{alice.LID(), group} {
		ofAlice := chat
		if chat == alice.LID() {
			ofAlice = bot.LID()
		}
		c.text(ctx, chat, "one")
		hears(ctx, t, alice, ofAlice, "one")
		id := says(ctx, t, alice, ofAlice, "two")
		c.gets(ctx, id)

		alice.LoseSession(bot.JID())
		c.text(ctx, chat, "three")
		if got := hears(ctx, t, alice, ofAlice, "three"); !got.Retried {
			t.Errorf("got %v at the first try, want a retry", got)
		}
		c.text(ctx, chat, "four")
		if got := hears(ctx, t, alice, ofAlice, "four"); got.Retried {
			t.Errorf("got %v by a retry, want the session healed", got)
		}

		must(t, c.Store.Sessions.DeleteAllSessions(ctx, alice.LID().SignalAddressUser()))
		must(t, c.Store.SenderKeys.PutSenderKey(ctx, group.String(), alice.LID().SignalAddress().String(), []byte{}))
		id = says(ctx, t, alice, ofAlice, "five")
		await(ctx, c, func(e *events.UndecryptableMessage) bool { return e.Info.ID == id })
		if got := c.gets(ctx, id); got.RetryCount == 0 || got.Message.GetConversation() != "five" {
			t.Errorf("client got %v", got.Message)
		}
		id = says(ctx, t, alice, ofAlice, "six")
		c.gets(ctx, id)
	}
	lacksNothing(t, s)
}

// A client that asks its phone for what it could not read gets it from there.
func TestClientAsksItsPhone(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	c := scanned(ctx, t, s, bot)
	c.SynchronousAck = true
	c.AutomaticMessageRerequestFromPhone = true
	c.text(ctx, alice.JID(), "one")
	hears(ctx, t, alice, bot.JID(), "one")
	id := says(ctx, t, alice, bot.JID(), "two")
	c.gets(ctx, id)
	must(t, c.Store.Sessions.DeleteAllSessions(ctx, alice.LID().SignalAddressUser()))
	id = says(ctx, t, alice, bot.JID(), "three")
	got := await(ctx, c, func(m *events.Message) bool { return m.Info.ID == id && m.UnavailableRequestID != "" })
	if got.Message.GetConversation() != "three" || got.Info.Chat != alice.LID() || got.Info.IsFromMe {
		t.Errorf("the phone gave %v of %+v", got.Message, got.Info.MessageSource)
	}
	lacksNothing(t, s)
}

// A client whose session comes from an old copy uses counters twice, which the phone sees.
func TestPhoneSeesRestoredSession(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	bot, alice := s.NewPhone("Robert"), s.NewPhone("Alice")
	bot.Lenient, alice.Lenient = true, true // both are in the group
	c := scanned(ctx, t, s, bot)
	c.text(ctx, alice.JID(), "one")
	hears(ctx, t, alice, bot.JID(), "one")
	group, err := alice.Group(ctx, "Two", bot.JID())
	must(t, err)
	await(ctx, c, anything[*events.JoinedGroup])
	c.text(ctx, group, "one")
	hears(ctx, t, alice, group, "one")

	address := alice.LID().SignalAddress().String()
	own := c.Store.GetLID().SignalAddress().String()
	session, err := c.Store.Sessions.GetSession(ctx, address)
	must(t, err)
	senderKey, err := c.Store.SenderKeys.GetSenderKey(ctx, group.String(), own)
	must(t, err)
	session, senderKey = bytes.Clone(session), bytes.Clone(senderKey)
	c.text(ctx, alice.JID(), "two")
	hears(ctx, t, alice, bot.JID(), "two")
	c.text(ctx, group, "two")
	hears(ctx, t, alice, group, "two")
	if failures := alice.Failures(); len(failures) != 0 {
		t.Fatalf("before the restore: %q", failures)
	}

	must(t, c.Store.Sessions.PutSession(ctx, address, session))
	c.text(ctx, alice.JID(), "three")
	twice := func(p *Phone) bool {
		return slices.ContainsFunc(p.Failures(), func(f string) bool { return strings.Contains(f, "used counter") && strings.Contains(f, "twice") })
	}
	waits(ctx, t, alice, twice)
	hears(ctx, t, alice, bot.JID(), "three") // once the session is healed by retries

	must(t, c.Store.SenderKeys.PutSenderKey(ctx, group.String(), own, senderKey))
	id := c.text(ctx, group, "three")
	waits(ctx, t, alice, func(p *Phone) bool {
		return slices.ContainsFunc(p.Failures(), func(f string) bool { return strings.Contains(f, "used counter 1 of") && strings.HasSuffix(f, id) })
	})
}
