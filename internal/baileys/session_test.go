package baileys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/libsignal/groups"
	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/whatsmeow/store"
)

// signalFile is signal.json: see make.mjs.
type signalFile struct {
	Conversation struct {
		Bot, Friend side
		Late        []sent
		Next        sent
	}
	Unanswered struct {
		Bot, Friend side
		Once        uint32
		Next        sent
	}
	Group struct {
		Member, Own, OwnAtFriend string
		Late                     []sent
		Next                     sent
	}
}

// side is what one side of a conversation has stored.
type side struct {
	Identity     string
	Registration uint32
	Record       json.RawMessage
}

type sent struct{ Type, Body, Text string }

func readSignal(t *testing.T) (f signalFile) {
	t.Helper()
	text, err := os.ReadFile("testdata/signal.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t *testing.T, text []byte) any {
	t.Helper()
	v, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// peer is one side of a conversation, in libsignal. It is its own store: what it does not implement is never asked for.
type peer struct {
	store.Device // the identity and pre-key stores' methods
	t            *testing.T
	record       []byte
	group        map[string][]byte
}

var serializer = store.SignalProtobufSerializer

func (p *peer) LoadSession(context.Context, *protocol.SignalAddress) (*record.Session, error) {
	return record.NewSessionFromBytes(p.record, serializer.Session, serializer.State)
}

func (p *peer) StoreSession(_ context.Context, _ *protocol.SignalAddress, r *record.Session) error {
	p.record = r.Serialize()
	return nil
}

func (p *peer) ContainsSession(context.Context, *protocol.SignalAddress) (bool, error) {
	return true, nil
}

func (p *peer) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

func (p *peer) SaveIdentity(context.Context, *protocol.SignalAddress, *identity.Key) error {
	return nil
}

func (p *peer) LoadSenderKey(_ context.Context, name *protocol.SenderKeyName) (*grouprecord.SenderKey, error) {
	return grouprecord.NewSenderKeyFromBytes(p.group[name.Sender().String()], serializer.SenderKeyRecord, serializer.SenderKeyState)
}

func (p *peer) StoreSenderKey(_ context.Context, name *protocol.SenderKeyName, k *grouprecord.SenderKey) error {
	p.group[name.Sender().String()] = k.Serialize()
	return nil
}

var other = protocol.NewSignalAddress("other", 0)

func (p *peer) cipher() *session.Cipher {
	return session.NewCipher(session.NewBuilder(p, p, p, p, other, serializer), other)
}

// take converts a side.
func take(t *testing.T, s side) *peer {
	t.Helper()
	l := local{identity: unbase64(t, s.Identity), registration: s.Registration}
	c, err := l.convertSession(parsed(t, s.Record))
	if err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, record: c.record}
}

func (p *peer) reads(m sent) {
	p.t.Helper()
	var plain []byte
	body := unbase64(p.t, m.Body)
	if m.Type == "pkmsg" {
		msg, err := protocol.NewPreKeySignalMessageFromBytes(body, serializer.PreKeySignalMessage, serializer.SignalMessage)
		if err != nil {
			p.t.Fatal(err)
		}
		if plain, err = p.cipher().DecryptMessage(p.t.Context(), msg); err != nil {
			p.t.Fatalf("%s: %v", m.Text, err)
		}
	} else {
		msg, err := protocol.NewSignalMessageFromBytes(body, serializer.SignalMessage)
		if err != nil {
			p.t.Fatal(err)
		}
		if plain, err = p.cipher().Decrypt(p.t.Context(), msg); err != nil {
			p.t.Fatalf("%s: %v", m.Text, err)
		}
	}
	if string(plain) != m.Text {
		p.t.Errorf("%q was decrypted as %q", m.Text, plain)
	}
}

func (p *peer) writes(text string) sent {
	p.t.Helper()
	msg, err := p.cipher().Encrypt(p.t.Context(), []byte(text))
	if err != nil {
		p.t.Fatal(err)
	}
	kind := "msg"
	if msg.Type() == protocol.PREKEY_TYPE {
		kind = "pkmsg"
	}
	return sent{kind, base64.StdEncoding.EncodeToString(msg.Serialize()), text}
}

// A converted session reads what is late, on chains and in sessions long past, and what is new, and is read.
func TestSessionGoesOn(t *testing.T) {
	t.Parallel()
	f := readSignal(t).Conversation
	bot, friend := take(t, f.Bot), take(t, f.Friend)
	// libsignal spoils the present session where it reads from an older one, so that is tried on a copy.
	archive := take(t, f.Bot)
	for _, m := range slices.Backward(f.Late) {
		if strings.HasPrefix(m.Text, "round 3") || strings.HasPrefix(m.Text, "round 4") {
			bot.reads(m)
		} else {
			archive.reads(m)
		}
	}
	bot.reads(f.Next)
	for _, text := range []string{"from Go", "again"} {
		m := bot.writes(text)
		if m.Type != "msg" {
			t.Errorf("a session that was answered writes a %s", m.Type)
		}
		friend.reads(m)
	}
	bot.reads(friend.writes("back"))
	friend.reads(bot.writes("and forth"))
}

// No counter is used again: the first message has the counter that the other library used next.
func TestSessionCounter(t *testing.T) {
	t.Parallel()
	f := readSignal(t).Conversation
	counter := func(m sent) uint32 {
		msg, err := protocol.NewSignalMessageFromBytes(unbase64(t, m.Body), serializer.SignalMessage)
		if err != nil {
			t.Fatal(err)
		}
		return msg.Counter()
	}
	friend := take(t, f.Friend)
	if ours, theirs := counter(friend.writes("x")), counter(f.Next); ours != theirs {
		t.Errorf("the counter is %d; the other library used %d next", ours, theirs)
	}
}

// A session that the other side has not answered keeps telling it how it began.
func TestUnansweredSession(t *testing.T) {
	t.Parallel()
	f := readSignal(t).Unanswered
	bot, friend := take(t, f.Bot), take(t, f.Friend)
	m := bot.writes("are you there?")
	msg, err := protocol.NewPreKeySignalMessageFromBytes(unbase64(t, m.Body), serializer.PreKeySignalMessage, serializer.SignalMessage)
	if err != nil {
		t.Fatalf("it writes a %s: %v", m.Type, err)
	}
	if msg.PreKeyID() == nil || msg.PreKeyID().Value != f.Once || msg.RegistrationID() != f.Bot.Registration {
		t.Errorf("its message names the pre-key %v of the registration %d", msg.PreKeyID(), msg.RegistrationID())
	}
	friend.reads(m)
	bot.reads(f.Next)
	if m := bot.writes("good"); m.Type != "msg" {
		t.Errorf("after the answer it writes a %s", m.Type)
	}
}

// A member's key reads what is late, under the older key too, and our own goes on.
func TestSenderKeysGoOn(t *testing.T) {
	t.Parallel()
	f := readSignal(t).Group
	member, err := convertSenderKey(unbase64(t, f.Member), false)
	if err != nil {
		t.Fatal(err)
	}
	own, err := convertSenderKey(unbase64(t, f.Own), true)
	if err != nil {
		t.Fatal(err)
	}
	atFriend, err := convertSenderKey(unbase64(t, f.OwnAtFriend), false)
	if err != nil {
		t.Fatal(err)
	}
	name := func(who string) *protocol.SenderKeyName {
		return protocol.NewSenderKeyName("g", protocol.NewSignalAddress(who, 0))
	}
	bot := &peer{t: t, group: map[string][]byte{"friend:0": member, "bot:0": own}}
	friend := &peer{t: t, group: map[string][]byte{"bot:0": atFriend}}
	cipher := func(p *peer, of string) *groups.GroupCipher {
		return groups.NewGroupCipher(groups.NewGroupSessionBuilder(p, serializer), name(of), p)
	}
	for _, m := range append(f.Late, f.Next) {
		msg, err := protocol.NewSenderKeyMessageFromBytes(unbase64(t, m.Body), serializer.SenderKeyMessage)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := cipher(bot, "friend").Decrypt(t.Context(), msg)
		if err != nil || string(plain) != m.Text {
			t.Errorf("%q was decrypted as %q, %v", m.Text, plain, err)
		}
	}
	msg, err := cipher(bot, "bot").Encrypt(t.Context(), []byte("from Go"))
	if err != nil {
		t.Fatal(err)
	}
	read, err := protocol.NewSenderKeyMessageFromBytes(msg.SignedSerialize(), serializer.SenderKeyMessage)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := cipher(friend, "bot").Decrypt(t.Context(), read); err != nil || string(plain) != "from Go" {
		t.Errorf("our own message was decrypted as %q, %v", plain, err)
	}
}

// A session with anything wrong is left out.
func TestWrongSessions(t *testing.T) {
	t.Parallel()
	f := readSignal(t).Conversation
	good := string(f.Bot.Record)
	open := strings.LastIndex(good, `"closed": -1`)
	if open < 0 {
		t.Fatal("no session of the file is open")
	}
	// The open session is the one that must be right.
	start := strings.LastIndex(good[:open], `"registrationId"`)
	change := func(old, new string) string {
		i := strings.Index(good[start:], old)
		if i < 0 {
			t.Fatalf("the file has no %s", old)
		}
		return good[:start+i] + new + good[start+i+len(old):]
	}
	l := local{identity: unbase64(t, f.Bot.Identity), registration: 1}
	if _, err := l.convertSession(parsed(t, []byte(good))); err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"no session is open":                             strings.ReplaceAll(good, `"closed": -1`, `"closed": 5`),
		"the ratchet key is missing":                     change(`"privKey"`, `"other"`),
		"the ratchet key has a public half":              swapKey(t, good, start),
		"the root key is missing":                        change(`"rootKey"`, `"other"`),
		"the base key is missing":                        change(`"baseKey"`, `"other"`),
		"the other side's identity is missing":           change(`"remoteIdentityKey"`, `"other"`),
		"the other side's ratchet key is missing":        change(`"lastRemoteEphemeralKey"`, `"other"`),
		"the other side's registration is missing":       change(`"registrationId"`, `"other"`),
		"the previous chain's counter is not":            change(`"previousCounter": `, `"previousCounter": -7`),
		"the chain for sending is missing":               change(`"_chains"`, `"other"`),
		"a chain's counter is not a counter":             change(`"counter": `, `"counter": -9`),
		"a chain for sending has a key that is not in u": change(`"chainType": 1`, `"chainType": 3`),
	} {
		if _, err := l.convertSession(parsed(t, []byte(text))); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, v := range []any{nil, "x", int64(1), object{}, object{{"_sessions", object{{"x", nil}}}}} {
		if _, err := l.convertSession(v); err == nil {
			t.Errorf("%v was converted", v)
		}
	}
}

// swapKey puts another public key into the open session.
func swapKey(t *testing.T, good string, start int) string {
	t.Helper()
	i := start + strings.Index(good[start:], `"pubKey": "`) + len(`"pubKey": "`)
	key := unbase64(t, good[i:i+44])
	key[5]++
	return good[:i] + base64.StdEncoding.EncodeToString(key) + good[i+44:]
}
