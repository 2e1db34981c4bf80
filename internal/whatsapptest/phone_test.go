package whatsapptest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// hears fails the test unless the phone hears the text.
func hears(ctx context.Context, t *testing.T, p *Phone, chat types.JID, text string) Received {
	t.Helper()
	got, err := p.Hear(ctx, chat, text)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func says(ctx context.Context, t *testing.T, p *Phone, to types.JID, text string) types.MessageID {
	t.Helper()
	id, err := p.Say(ctx, to, text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func waits(ctx context.Context, t *testing.T, p *Phone, cond func(*Phone) bool) {
	t.Helper()
	if err := p.Wait(ctx, cond); err != nil {
		t.Fatal(err)
	}
}

// last is the newest message that the phone shows in a chat.
func last(p *Phone, chat types.JID) Received {
	all := p.Messages(chat)
	if len(all) == 0 {
		return Received{}
	}
	return all[len(all)-1]
}

func TestPhonesTalk(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")

	for i := range 5 {
		question, answer := fmt.Sprint("question ", i), fmt.Sprint("answer ", i)
		id := says(ctx, t, alice, bob.JID(), question)
		got := hears(ctx, t, bob, alice.LID(), question)
		if got.ID != id || got.Sender != alice.LID() || got.Name != "Alice" || got.Count != 1 || got.FromMe {
			t.Errorf("heard %v", got)
		}
		says(ctx, t, bob, alice.LID(), answer)
		hears(ctx, t, alice, bob.JID(), answer)
		waits(ctx, t, alice, func(p *Phone) bool { delivered, _ := p.Receipts(id); return delivered })
	}
	if n := len(alice.Messages(bob.JID())); n != 10 {
		t.Errorf("Alice's phone shows %d messages, want 10", n)
	}

	id := says(ctx, t, alice, bob.JID(), "helo")
	must(t, alice.Edit(ctx, bob.JID(), id, "hello"))
	got := hears(ctx, t, bob, alice.JID(), "hello")
	if !slices.Equal(got.Edits, []string{"hello"}) || got.ID != id {
		t.Errorf("after the edit: %v", got)
	}
	must(t, bob.React(ctx, alice.JID(), got, "👍"))
	waits(ctx, t, alice, func(p *Phone) bool { return last(p, bob.JID()).Reactions[bob.LID()] == "👍" })
	must(t, bob.React(ctx, alice.JID(), got, ""))
	waits(ctx, t, alice, func(p *Phone) bool { return len(last(p, bob.JID()).Reactions) == 0 })

	must(t, bob.Read(ctx, alice.JID()))
	waits(ctx, t, alice, func(p *Phone) bool { _, read := p.Receipts(id); return read })
	must(t, alice.Revoke(ctx, bob.JID(), id))
	waits(ctx, t, bob, func(p *Phone) bool { r := last(p, alice.JID()); return r.Revoked && r.Text == "" })

	must(t, alice.Type(ctx, bob.JID(), true))
	waits(ctx, t, bob, func(p *Phone) bool { return p.Typing(alice.JID()) && p.Typed(alice.LID()) == 1 })
	must(t, alice.Type(ctx, bob.JID(), false))
	waits(ctx, t, bob, func(p *Phone) bool { return !p.Typing(alice.JID()) })
}

func TestPhoneDrafts(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	says(ctx, t, bob, alice.JID(), "what is that?")
	asked := hears(ctx, t, alice, bob.JID(), "what is that?")

	for _, test := range []struct {
		name  string
		draft Draft
		same  func(Received) bool
	}{
		{"quote", Draft{Text: "a quote", Quote: &asked}, func(r Received) bool {
			return r.Kind == "text" && r.QuotedID == asked.ID && r.QuotedText == asked.Text && r.QuotedSender == bob.LID()
		}},
		{"mention", Draft{Text: "ask @" + bob.LID().User, Mentions: []types.JID{bob.JID()}}, func(r Received) bool {
			return slices.Equal(r.Mentions, []types.JID{bob.LID()})
		}},
		{"image", Draft{Text: "a picture", Image: &Media{Data: []byte("pixels"), Mime: "image/png"}}, func(r Received) bool {
			return r.Kind == "image" && r.Text == "a picture" && r.Mime == "image/png" && string(r.Media) == "pixels"
		}},
		{"voice", Draft{Voice: &Media{Data: []byte("ogg"), Mime: "audio/ogg; codecs=opus", Seconds: 4}}, func(r Received) bool {
			return r.Kind == "voice" && r.Voice && r.Seconds == 4 && string(r.Media) == "ogg"
		}},
		{"audio", Draft{Audio: &Media{Data: []byte("mp3"), Mime: "audio/mpeg"}}, func(r Received) bool {
			return r.Kind == "audio" && !r.Voice && string(r.Media) == "mp3"
		}},
		{"video", Draft{Text: "a film", Video: &Media{Data: bytes.Repeat([]byte("frame"), 5000), Mime: "video/mp4"}}, func(r Received) bool {
			return r.Kind == "video" && len(r.Media) == 25000
		}},
		{"document", Draft{Text: "the bill", Document: &Media{Data: []byte("%PDF"), Mime: "application/pdf", Name: "bill.pdf"}}, func(r Received) bool {
			return r.Kind == "document" && r.Text == "the bill" && r.FileName == "bill.pdf" && string(r.Media) == "%PDF"
		}},
		{"sticker", Draft{Sticker: &Media{Data: []byte("webp"), Mime: "image/webp"}}, func(r Received) bool {
			return r.Kind == "sticker" && string(r.Media) == "webp"
		}},
		{"location", Draft{Location: &Location{Latitude: 52.5, Longitude: 13.4, Name: "Berlin"}}, func(r Received) bool {
			return r.Kind == "location" && *r.Location == Location{Latitude: 52.5, Longitude: 13.4, Name: "Berlin"}
		}},
		{"contact", Draft{Contact: &Contact{Name: "Carol", VCard: "BEGIN:VCARD"}}, func(r Received) bool {
			return r.Kind == "contact" && *r.Contact == Contact{"Carol", "BEGIN:VCARD"}
		}},
		{"ephemeral", Draft{Text: "gone soon", Ephemeral: true}, func(r Received) bool { return r.Ephemeral && r.Text == "gone soon" }},
		{"view once", Draft{Image: &Media{Data: []byte("x"), Mime: "image/png"}, ViewOnce: true}, func(r Received) bool {
			return r.ViewOnce && r.Kind == "image" && string(r.Media) == "x"
		}},
		{"given id", Draft{Text: "mine", ID: "3AFFFF"}, func(r Received) bool { return r.ID == "3AFFFF" }},
	} {
		id, err := alice.Send(ctx, bob.JID(), test.draft)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		got, err := bob.HearFunc(ctx, alice.JID(), test.name, func(r Received) bool { return r.ID == id })
		if err != nil {
			t.Fatal(err)
		}
		if !test.same(got) {
			t.Errorf("%s: got %v", test.name, got)
		}
		if own := last(alice, bob.JID()); !own.FromMe || own.Text != got.Text || own.Kind != got.Kind || !bytes.Equal(own.Media, got.Media) {
			t.Errorf("%s: Alice's own phone shows %v", test.name, own)
		}
	}
}

func TestPhoneCompanion(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	web := alice.AddCompanion()

	says(ctx, t, bob, alice.JID(), "to both")
	hears(ctx, t, alice, bob.JID(), "to both")
	hears(ctx, t, web, bob.JID(), "to both")

	says(ctx, t, web, bob.JID(), "from the web")
	got := hears(ctx, t, bob, alice.JID(), "from the web")
	if got.Sender != alice.LID() || got.Device != 1 {
		t.Errorf("from %s, device %d", got.Sender, got.Device)
	}
	waits(ctx, t, alice, func(p *Phone) bool { r := last(p, bob.JID()); return r.FromMe && r.Text == "from the web" })

	// Own chat.
	says(ctx, t, alice, alice.JID(), "note to self")
	waits(ctx, t, web, func(p *Phone) bool { r := last(p, alice.LID()); return r.FromMe && r.Text == "note to self" })
}

func TestPhoneGroup(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob, carol, dave := s.NewPhone("Alice"), s.NewPhone("Bob"), s.NewPhone("Carol"), s.NewPhone("Dave")
	web := bob.AddCompanion()
	group, err := alice.Group(ctx, "Friends", bob.JID(), carol.LID())
	must(t, err)

	for i := range 3 {
		text := fmt.Sprint("hello all ", i)
		says(ctx, t, alice, group, text)
		for _, p := range []*Phone{bob, web, carol} {
			if got := hears(ctx, t, p, group, text); got.Sender != alice.LID() || got.Chat != group {
				t.Errorf("got %v", got)
			}
		}
	}
	says(ctx, t, web, group, "hello Alice")
	msg := hears(ctx, t, alice, group, "hello Alice")
	hears(ctx, t, carol, group, "hello Alice")
	must(t, carol.React(ctx, group, msg, "❤"))
	waits(ctx, t, bob, func(p *Phone) bool { return last(p, group).Reactions[carol.LID()] == "❤" })
	must(t, carol.Read(ctx, group))
	waits(ctx, t, web, func(p *Phone) bool { _, read := p.Receipts(msg.ID); return read })
	must(t, alice.RevokeAsAdmin(ctx, group, msg))
	waits(ctx, t, carol, func(p *Phone) bool { return last(p, group).Revoked })

	must(t, alice.AddMember(ctx, group, dave.JID()))
	says(ctx, t, alice, group, "welcome")
	hears(ctx, t, dave, group, "welcome")
	must(t, alice.RemoveMember(ctx, group, dave.JID()))
	says(ctx, t, alice, group, "he is gone")
	hears(ctx, t, carol, group, "he is gone")
	says(ctx, t, alice, dave.JID(), "sorry")
	hears(ctx, t, dave, alice.JID(), "sorry")
	if n := len(dave.Messages(group)); n != 1 {
		t.Errorf("Dave's phone shows %d messages of the group, want 1", n)
	}
}

func TestPhoneOffline(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	says(ctx, t, alice, bob.JID(), "before")
	hears(ctx, t, bob, alice.JID(), "before")
	bob.Offline()
	if _, err := bob.Say(ctx, alice.JID(), "nothing"); err == nil {
		t.Error("a phone that is offline has sent")
	}
	id := says(ctx, t, alice, bob.JID(), "meanwhile")
	if delivered, _ := alice.Receipts(id); delivered {
		t.Error("delivered to a phone that is offline")
	}
	bob.Online()
	hears(ctx, t, bob, alice.JID(), "meanwhile")
	waits(ctx, t, alice, func(p *Phone) bool { delivered, _ := p.Receipts(id); return delivered })

	if !s.Duplicate(bob.JID(), id) {
		t.Fatal("nothing to repeat")
	}
	waits(ctx, t, bob, func(p *Phone) bool { return last(p, alice.JID()).Count == 2 })
	if n := len(bob.Messages(alice.JID())); n != 2 {
		t.Errorf("Bob's phone shows %d messages, want 2", n)
	}
}

func TestPhoneRetry(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	group, err := alice.Group(ctx, "Two", bob.JID())
	must(t, err)
	for _, chat := range []types.JID{bob.JID(), group} {
		seen := alice.LID()
		if chat == group {
			seen = group
		}
		says(ctx, t, alice, chat, "one")
		hears(ctx, t, bob, seen, "one")
		if chat != group {
			// Once Bob has answered, Alice's messages do not bring the keys of a new session.
			says(ctx, t, bob, alice.JID(), "two")
			hears(ctx, t, alice, bob.JID(), "two")
		}
		bob.LoseSession(alice.JID())
		id := says(ctx, t, alice, chat, "three")
		if got := hears(ctx, t, bob, seen, "three"); !got.Retried || got.ID != id {
			t.Errorf("got %v, want it to be asked for again", got)
		}
		says(ctx, t, alice, chat, "four")
		hears(ctx, t, bob, seen, "four")
	}
}

func TestPhoneByNumber(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	alice.ByNumber = true
	says(ctx, t, alice, bob.LID(), "by number")
	got := hears(ctx, t, bob, alice.LID(), "by number")
	if got.from.Server != types.DefaultUserServer {
		t.Errorf("came from %s", got.from)
	}
	says(ctx, t, bob, alice.JID(), "by LID")
	if got := hears(ctx, t, alice, bob.JID(), "by LID"); got.from.Server != types.HiddenUserServer {
		t.Errorf("came from %s", got.from)
	}
	must(t, alice.Read(ctx, bob.JID()))
	waits(ctx, t, bob, func(p *Phone) bool { _, read := p.Receipts(last(p, alice.JID()).ID); return read })
}

func TestPhonesAtOnce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	errs := make(chan error)
	const each = 30
	for _, pair := range [][2]*Phone{{alice, bob}, {bob, alice}} {
		for range 2 {
			go func() {
				for i := range each {
					if _, err := pair[0].Say(ctx, pair[1].JID(), fmt.Sprint(i)); err != nil {
						errs <- err
						return
					}
				}
				errs <- nil
			}()
		}
	}
	for range 4 {
		must(t, <-errs)
	}
	for _, p := range []*Phone{alice, bob} {
		waits(ctx, t, p, func(p *Phone) bool { return len(p.AllMessages()) == 4*each })
	}
}

func TestPhoneWatch(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	watching := bob.Watch(ctx)
	must(t, alice.Type(ctx, bob.JID(), true))
	id := says(ctx, t, alice, bob.JID(), "helo")
	must(t, alice.Edit(ctx, bob.JID(), id, "hello"))
	must(t, alice.Revoke(ctx, bob.JID(), id))
	var kinds []string
	for c := range watching {
		kinds = append(kinds, c.Kind)
		if c.Kind == "revoke" {
			break
		}
	}
	if want := []string{"typing", "message", "edit", "revoke"}; !slices.Equal(kinds, want) {
		t.Errorf("watched %q, want %q", kinds, want)
	}
}

func TestPhoneUploadsKeys(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	alice, bob := s.NewPhone("Alice"), s.NewPhone("Bob")
	s.ExhaustPreKeys(bob.JID(), 0)
	must(t, s.wait(ctx, func() bool { return len(bob.device.preKeys) == preKeysAtOnce }))
	says(ctx, t, alice, bob.JID(), "with one of them")
	hears(ctx, t, bob, alice.JID(), "with one of them")
	if n := s.PreKeys(bob.JID()); n != preKeysAtOnce-1 {
		t.Errorf("%d keys left, want %d", n, preKeysAtOnce-1)
	}
}

// Phones judge companions by what their accounts have signed.
func TestPhoneChecksCompanions(t *testing.T) {
	t.Parallel()
	s := New(t)
	alice, bob, eve := s.NewPhone("Alice"), s.NewPhone("Bob"), s.NewPhone("Eve")
	web := alice.AddCompanion()
	companion := web.signal.identity
	own := identity.NewKey(ecc.NewDjbECPublicKey(*companion.Pub))
	signed := func(change func(*waAdv.ADVSignedDeviceIdentity)) waBinary.Node {
		var adv waAdv.ADVSignedDeviceIdentity
		must(t, proto.Unmarshal(web.device.advIdentity, &adv))
		change(&adv)
		return waBinary.Node{Tag: "message", Content: []waBinary.Node{{Tag: "device-identity", Content: encoded(&adv)}}}
	}
	for _, test := range []struct {
		name   string
		change func(*waAdv.ADVSignedDeviceIdentity)
		right  bool
	}{
		{"as it is", func(*waAdv.ADVSignedDeviceIdentity) {}, true},
		{"without the account's key", func(a *waAdv.ADVSignedDeviceIdentity) { a.AccountSignatureKey = nil }, true},
		{"other account's key", func(a *waAdv.ADVSignedDeviceIdentity) { a.AccountSignatureKey = eve.person.primary.Pub[:] }, false},
		{"signed by another account", func(a *waAdv.ADVSignedDeviceIdentity) {
			a.AccountSignature = sign(eve.person.primary, slices.Concat([]byte{6, 0}, a.Details, companion.Pub[:]))
		}, false},
		{"signed by another device", func(a *waAdv.ADVSignedDeviceIdentity) {
			a.DeviceSignature = sign(eve.signal.identity, slices.Concat([]byte{6, 1}, a.Details, companion.Pub[:], alice.person.primary.Pub[:]))
		}, false},
		{"other details", func(a *waAdv.ADVSignedDeviceIdentity) { a.Details = append(a.Details, 0) }, false},
		{"not signed", func(a *waAdv.ADVSignedDeviceIdentity) { a.AccountSignature = nil }, false},
	} {
		err := bob.checkCompanion(web.device.lidJID(), own, signed(test.change))
		if (err == nil) != test.right {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestLedger(t *testing.T) {
	t.Parallel()
	type step struct {
		chain   string
		counter uint32
		body    string
		retry   bool
		wrong   string
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"rising, with gaps", []step{{"a", 0, "x", false, ""}, {"a", 1, "y", false, ""}, {"a", 5, "z", false, ""}}},
		{"the same bytes again", []step{{"a", 0, "x", false, ""}, {"a", 1, "y", false, ""}, {"a", 0, "x", false, ""}}},
		{"another chain", []step{{"a", 3, "x", false, ""}, {"b", 3, "y", false, ""}, {"b", 4, "z", false, ""}}},
		{"used twice", []step{{"a", 0, "x", false, ""}, {"a", 0, "y", false, "twice"}}},
		{"used twice by a retry", []step{{"a", 0, "x", false, ""}, {"a", 0, "y", true, "twice"}}},
		{"gone back", []step{{"a", 4, "x", false, ""}, {"a", 2, "y", false, "went back"}}},
		{"overtaken by a retry", []step{{"a", 4, "x", true, ""}, {"a", 3, "y", false, ""}, {"a", 5, "z", false, ""}}},
	} {
		var l ledger
		for i, s := range test.steps {
			_, wrong := l.note(chainID{"user:1", s.chain}, s.counter, []byte(s.body), s.retry)
			if (s.wrong == "") != (wrong == "") || !strings.Contains(wrong, s.wrong) {
				t.Errorf("%s, step %d: %q, want %q", test.name, i, wrong, s.wrong)
			}
		}
	}
}
