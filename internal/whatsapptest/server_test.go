package whatsapptest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/libsignal/ecc"
	"google.golang.org/protobuf/proto"
	_ "modernc.org/sqlite"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// testContext bounds a test, so that what never happens fails it with the place it waits at.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// testLog gives whatsmeow's lines to the test.
type testLog struct {
	t      *testing.T
	module string
	state  *testLogState
}

// testLogState says whether the test still takes lines: a client's goroutines may outlive it.
type testLogState struct {
	mu   sync.Mutex
	done bool
}

func newTestLog(t *testing.T, module string) waLog.Logger {
	l := testLog{t, module, &testLogState{}}
	t.Cleanup(func() {
		l.state.mu.Lock()
		defer l.state.mu.Unlock()
		l.state.done = true
	})
	return l
}

func (l testLog) print(level, msg string, args []any) {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	if !l.state.done {
		l.t.Logf("%s %s %s: %s", time.Now().Format("05.000"), l.module, level, fmt.Sprintf(msg, args...))
	}
}

func (l testLog) Errorf(msg string, args ...any) { l.print("error", msg, args) }
func (l testLog) Warnf(msg string, args ...any)  { l.print("warn", msg, args) }
func (l testLog) Infof(msg string, args ...any)  { l.print("info", msg, args) }
func (l testLog) Debugf(msg string, args ...any) {
	if testing.Verbose() {
		l.print("debug", msg, args)
	}
}
func (l testLog) Sub(module string) waLog.Logger {
	return testLog{l.t, l.module + "/" + module, l.state}
}

// client is an unmodified whatsmeow client and the events it has dispatched.
type client struct {
	*whatsmeow.Client
	t         *testing.T
	server    *Server
	container *sqlstore.Container

	mu     sync.Mutex
	events []any
	news   chan struct{}
}

// newClient makes a client of the server that is not paired yet. Without a server it dials as
// its process does by default.
func newClient(t *testing.T, s *Server) *client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	container := sqlstore.NewWithDB(db, "sqlite3", newTestLog(t, "store"))
	if err := container.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, server: s, container: container, news: make(chan struct{})}
	c.use(container.NewDevice())
	return c
}

// use drives the device with a new whatsmeow client.
func (c *client) use(device *store.Device) {
	c.Client = whatsmeow.NewClient(device, newTestLog(c.t, "client"))
	if c.server != nil {
		c.SetWebsocketHTTPClient(c.server.HTTPClient())
		c.SetPreLoginHTTPClient(c.server.HTTPClient())
		c.SetMediaHTTPClient(c.server.HTTPClient())
	}
	c.AddEventHandler(func(evt any) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.events = append(c.events, evt)
		close(c.news)
		c.news = make(chan struct{})
	})
	c.t.Cleanup(c.Client.Disconnect)
}

// await waits for an event that f accepts, counting from the first, and takes it out.
func await[E any](ctx context.Context, c *client, f func(E) bool) E {
	c.t.Helper()
	for {
		c.mu.Lock()
		for i, evt := range c.events {
			if e, ok := evt.(E); ok && f(e) {
				c.events = slices.Delete(c.events, i, i+1)
				c.mu.Unlock()
				return e
			}
		}
		news := c.news
		c.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			var zero E
			c.t.Fatalf("waited in vain for %T", zero)
		}
	}
}

func anything[E any](E) bool { return true }

// signer is device 0 of an account, as far as a server test needs it: it pairs companions and
// acknowledges what it gets, but reads nothing.
type signer struct {
	s       *Server
	account *account
	device  *device
	link    *link

	mu  sync.Mutex
	got []waBinary.Node
}

func newSigner(t *testing.T, s *Server, number, name string) *signer {
	t.Helper()
	a, err := s.addAccount(number, name)
	if err != nil {
		t.Fatal(err)
	}
	signed := a.identity.CreateSignedPreKey(1)
	p := &signer{s: s, account: a}
	k := deviceKeys{
		registrationID: 7, identity: *a.identity.Pub,
		signedPreKey: publicPreKey{id: 1, public: *signed.Pub, signature: *signed.Signature},
	}
	for id := range uint32(20) {
		k.preKeys = append(k.preKeys, publicPreKey{id: id + 1, public: *keys.NewPreKey(id + 1).Pub})
	}
	p.device = s.registerDevice(a, 0, k)
	p.attach()
	return p
}

func (p *signer) attach() {
	ready := make(chan *link, 1)
	link := p.s.attach(p.device, func(n waBinary.Node) {
		l := <-ready
		ready <- l
		p.mu.Lock()
		p.got = append(p.got, n)
		p.mu.Unlock()
		switch n.Tag {
		case "message", "notification", "receipt":
			attrs := waBinary.Attrs{"class": n.Tag, "id": n.Attrs["id"], "to": n.Attrs["from"]}
			for _, name := range []string{"participant", "type"} {
				if v, ok := n.Attrs[name]; ok && (n.Tag != "message" || name != "type") {
					attrs[name] = v
				}
			}
			l.submit(waBinary.Node{Tag: "ack", Attrs: attrs})
		}
	})
	ready <- link
	p.link = link
}

// messages is the ids of the messages it got, in order.
func (p *signer) messages() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for _, n := range p.got {
		if n.Tag == "message" {
			ids = append(ids, text(n, "id"))
		}
	}
	return ids
}

// box makes the device identity that links a companion.
func (p *signer) box(t *testing.T, identity, secret []byte) []byte {
	t.Helper()
	details := marshal(t, &waAdv.ADVDeviceIdentity{
		RawID: proto.Uint32(1), Timestamp: proto.Uint64(uint64(unixNow())), KeyIndex: proto.Uint32(1),
	})
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*p.account.identity.Priv), slices.Concat([]byte{6, 0}, details, identity))
	signed := marshal(t, &waAdv.ADVSignedDeviceIdentity{
		Details: details, AccountSignatureKey: p.account.identity.Pub[:], AccountSignature: signature[:],
	})
	mac := hmac.New(sha256.New, secret)
	mac.Write(signed)
	return marshal(t, &waAdv.ADVSignedDeviceIdentityHMAC{Details: signed, HMAC: mac.Sum(nil)})
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// scan links the client that shows the QR code.
func (p *signer) scan(ctx context.Context, t *testing.T, qr string) *device {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(qr, "https://wa.me/settings/linked_devices#"), ",")
	pending, ok := p.s.unpaired(parts[0])
	if !ok {
		t.Fatalf("no client shows %q", parts[0])
	}
	identity, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		t.Fatal(err)
	}
	_, d, err := pending.finish(ctx, p.account, p.s.freeDeviceID(p.account), p.box(t, identity, secret))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// paired is a server, a client of it that is linked and logged in, and its phone.
func paired(ctx context.Context, t *testing.T) (*Server, *client, *signer) {
	t.Helper()
	s := New(t)
	c := newClient(t, s)
	p := newSigner(t, s, "4915110000001", "Bot")
	pairUp(ctx, t, s, c, p)
	return s, c, p
}

func pairUp(ctx context.Context, t *testing.T, s *Server, c *client, p *signer) {
	t.Helper()
	if err := c.Connect(); err != nil {
		t.Fatal(err)
	}
	qr := await(ctx, c, anything[*events.QR])
	if len(qr.Codes) != 6 {
		t.Fatalf("got %d QR codes, want 6", len(qr.Codes))
	}
	d := p.scan(ctx, t, qr.Codes[3])
	await(ctx, c, anything[*events.PairSuccess])
	await(ctx, c, anything[*events.Connected])
	if err := s.WaitLogin(ctx, d.pnJID()); err != nil {
		t.Fatal(err)
	}
}

func TestPairAndLogIn(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, p := paired(ctx, t)
	if got, want := c.Store.GetJID(), p.account.devices[1].pnJID(); got != want {
		t.Errorf("client is %s, want %s", got, want)
	}
	if got, want := c.Store.GetLID(), p.account.devices[1].lidJID(); got != want {
		t.Errorf("client's LID is %s, want %s", got, want)
	}
	await(ctx, c, anything[*events.OfflineSyncCompleted])
	if got := s.PreKeys(c.Store.GetJID()); got != 812 {
		t.Errorf("server has %d one-time keys, want 812", got)
	}
	if err := s.WaitSettled(ctx, c.Store.GetJID()); err != nil {
		t.Error(err)
	}
	if unknown := s.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown to the server: %q", unknown)
	}
	if logins := s.Logins(); len(logins) != 1 || logins[0].Overlap {
		t.Errorf("logins: %+v", logins)
	}
}

// conversation is two accounts on one server, each with a linked client that knows the
// other's devices.
type conversation struct {
	server   *Server
	one, two *client
	phones   [2]*signer
}

func newConversation(ctx context.Context, t *testing.T) *conversation {
	t.Helper()
	s, one, p1 := paired(ctx, t)
	two, p2 := newClient(t, s), newSigner(t, s, "4915110000002", "Other")
	pairUp(ctx, t, s, two, p2)
	return &conversation{server: s, one: one, two: two, phones: [2]*signer{p1, p2}}
}

// say sends a text and returns its id.
func (c *client) say(ctx context.Context, to *client, words string, extra ...whatsmeow.SendRequestExtra) (string, error) {
	lid := to.Store.GetLID().ToNonAD()
	resp, err := c.SendMessage(ctx, lid, &waE2E.Message{Conversation: proto.String(words)}, extra...)
	return resp.ID, err
}

func (c *client) mustSay(ctx context.Context, to *client, words string) string {
	c.t.Helper()
	id, err := c.say(ctx, to, words)
	if err != nil {
		c.t.Fatalf("say %q: %v", words, err)
	}
	return id
}

// hear waits for a message with these words.
func (c *client) hear(ctx context.Context, words string) *events.Message {
	c.t.Helper()
	return await(ctx, c, func(m *events.Message) bool { return m.Message.GetConversation() == words })
}

func (c *client) jid() types.JID { return c.Store.GetJID() }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestMessagesBothWays(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two

	id := one.mustSay(ctx, two, "hello")
	got := two.hear(ctx, "hello")
	if got.Info.ID != id || got.Info.PushName != "Bot" || got.Info.Sender != one.Store.GetLID() ||
		got.Info.SenderAlt.ToNonAD() != one.jid().ToNonAD() {
		t.Errorf("message arrived as %+v", got.Info)
	}
	await(ctx, one, func(r *events.Receipt) bool { return slices.Contains(r.MessageIDs, id) })
	must(t, two.MarkRead(ctx, []string{id}, time.Now(), got.Info.Chat, got.Info.Sender))
	await(ctx, one, func(r *events.Receipt) bool {
		return r.Type == types.ReceiptTypeRead && slices.Contains(r.MessageIDs, id)
	})

	for i := range 5 {
		two.mustSay(ctx, one, fmt.Sprint("answer ", i))
		one.hear(ctx, fmt.Sprint("answer ", i))
	}
	for _, c := range []*client{one, two} {
		must(t, s.WaitSettled(ctx, c.jid()))
	}
	for _, p := range talk.phones {
		must(t, s.WaitSettled(ctx, p.device.pnJID()))
		if n := len(p.messages()); n != 6 {
			t.Errorf("phone got %d messages, want 6", n)
		}
	}
	if unknown := s.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown to the server: %q", unknown)
	}
}

func TestTypingAndPresence(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	one, two := talk.one, talk.two
	two.Store.PushName, one.Store.PushName = "Other", "Bot" // otherwise from app state, which a signer has not
	must(t, two.SendPresence(ctx, types.PresenceAvailable))
	must(t, one.SendPresence(ctx, types.PresenceAvailable))
	must(t, one.SubscribePresence(ctx, two.Store.GetLID().ToNonAD()))
	await(ctx, one, func(p *events.Presence) bool { return !p.Unavailable })
	must(t, two.SendChatPresence(ctx, one.Store.GetLID().ToNonAD(), types.ChatPresenceComposing, ""))
	await(ctx, one, func(p *events.ChatPresence) bool { return p.State == types.ChatPresenceComposing })
	two.Disconnect()
	await(ctx, one, func(p *events.Presence) bool { return p.Unavailable && !p.LastSeen.IsZero() })
}

func TestKeptWhileOffline(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	one, two := talk.one, talk.two
	one.mustSay(ctx, two, "first")
	two.hear(ctx, "first")
	must(t, talk.server.WaitSettled(ctx, two.jid()))
	two.Disconnect()
	must(t, talk.server.WaitGone(ctx, two.jid()))

	var want []string
	for i := range 3 {
		want = append(want, one.mustSay(ctx, two, fmt.Sprint("kept ", i)))
	}
	var kept []string
	for _, n := range talk.server.Backlog(two.jid()) {
		if n.Tag == "message" {
			kept = append(kept, text(n, "id"))
		}
	}
	if !slices.Equal(kept, want) {
		t.Fatalf("server keeps %q, want %q", kept, want)
	}
	await(ctx, two, anything[*events.OfflineSyncCompleted]) // that of the first login
	must(t, two.Connect())
	await(ctx, two, func(p *events.OfflineSyncPreview) bool { return p.Messages == 3 })
	await(ctx, two, func(p *events.OfflineSyncCompleted) bool { return p.Count >= 3 })
	for i := range 3 {
		two.hear(ctx, fmt.Sprint("kept ", i))
	}
	must(t, talk.server.WaitSettled(ctx, two.jid()))
}

func TestStallDropRedeliver(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two

	// What lies in a stalled connection is lost with it, and sent again.
	s.Stall(two.jid())
	one.mustSay(ctx, two, "into the void")
	s.Drop(two.jid())
	s.Unstall(two.jid())
	two.hear(ctx, "into the void")
	must(t, s.WaitLogins(ctx, two.jid(), 2))

	// A stalled connection that recovers has lost nothing.
	s.Stall(two.jid())
	one.mustSay(ctx, two, "late")
	s.Unstall(two.jid())
	two.hear(ctx, "late")

	// A repeated message stanza is acknowledged again, and dispatched no second time.
	must(t, s.WaitSettled(ctx, two.jid()))
	id := one.mustSay(ctx, two, "twice")
	two.hear(ctx, "twice")
	must(t, s.WaitSettled(ctx, two.jid()))
	if !s.Duplicate(two.jid(), id) {
		t.Error("the server does not know the message")
	}
	must(t, s.WaitSettled(ctx, two.jid()))
	one.mustSay(ctx, two, "barrier")
	two.hear(ctx, "barrier")
	two.mu.Lock()
	defer two.mu.Unlock()
	for _, evt := range two.events {
		if m, ok := evt.(*events.Message); ok && m.Info.ID == id {
			t.Error("whatsmeow dispatched a repeated ciphertext")
		}
	}
	for _, l := range s.Logins() {
		if l.Overlap {
			t.Errorf("login %+v overlaps", l)
		}
	}
}

func TestFates(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two
	one.mustSay(ctx, two, "opening")
	two.hear(ctx, "opening")

	s.FateOfNext(one.jid(), Reject)
	if _, err := one.say(ctx, two, "rejected"); !errors.Is(err, whatsmeow.ErrServerReturnedError) {
		t.Errorf("rejected message: %v", err)
	}

	s.FateOfNext(one.jid(), LoseAck)
	if _, err := one.say(ctx, two, "unacked", whatsmeow.SendRequestExtra{Timeout: 50 * time.Millisecond}); !errors.Is(err, whatsmeow.ErrMessageTimedOut) {
		t.Errorf("message whose ack is lost: %v", err)
	}
	two.hear(ctx, "unacked")

	s.FateOfNext(one.jid(), HoldAck)
	done := make(chan error, 1)
	go func() { _, err := one.say(ctx, two, "held"); done <- err }()
	two.hear(ctx, "held")
	select {
	case err := <-done:
		t.Errorf("SendMessage returned before the ack: %v", err)
	default:
	}
	must(t, s.wait(ctx, func() bool { return len(s.faults.held) == 1 }))
	if n := s.ReleaseAcks(); n != 1 {
		t.Errorf("released %d acks, want 1", n)
	}
	must(t, <-done)

	// whatsmeow sends the frame again after a reconnect, so both end well; in the first case
	// the receiver's device gets it twice. The test reconnects by itself, because whatsmeow's
	// own reconnecting beside a waiting SendMessage is a data race inside it (both call
	// exsync.Event.GetChan).
	before := len(s.Logins())
	one.Disconnect()
	one.EnableAutoReconnect = false
	one.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Disconnected); ok {
			if err := one.Connect(); err != nil {
				t.Errorf("reconnect: %v", err)
			}
		}
	})
	must(t, one.Connect())
	must(t, s.wait(ctx, func() bool { return len(s.logins) > before }))
	for words, fate := range map[string]Fate{"after": DropAfter, "before": DropBefore} {
		logins := len(s.Logins())
		s.FateOfNext(one.jid(), fate)
		id := one.mustSay(ctx, two, words)
		two.hear(ctx, words)
		if n := len(s.Logins()); n != logins+1 {
			t.Errorf("%s: %d logins, want %d", words, n, logins+1)
		}
		must(t, s.WaitSettled(ctx, talk.phones[1].device.pnJID()))
		copies := 0
		for _, got := range talk.phones[1].messages() {
			if got == id {
				copies++
			}
		}
		if want := map[Fate]int{DropAfter: 2, DropBefore: 1}[fate]; copies != want {
			t.Errorf("%s: %d copies, want %d", words, copies, want)
		}
	}

	s.FateOfAll(types.EmptyJID, LoseAck)
	if _, err := one.say(ctx, two, "all", whatsmeow.SendRequestExtra{Timeout: 50 * time.Millisecond}); !errors.Is(err, whatsmeow.ErrMessageTimedOut) {
		t.Errorf("message while all acks are lost: %v", err)
	}
	s.FateOfAll(types.EmptyJID, Deliver)
	one.mustSay(ctx, two, "well again")
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	logins := 1
	for _, code := range []int{515, 503} {
		s.StreamError(c.jid(), code)
		logins++
		must(t, s.WaitLogins(ctx, c.jid(), logins))
		await(ctx, c, anything[*events.Connected])
		must(t, s.WaitLogin(ctx, c.jid()))
	}
	s.StreamError(c.jid(), 999)
	await(ctx, c, func(e *events.StreamError) bool { return e.Code == "999" })
	must(t, s.WaitLogins(ctx, c.jid(), logins+1))
	must(t, s.WaitLogin(ctx, c.jid()))
	s.HangUp(c.jid())
	must(t, s.WaitLogins(ctx, c.jid(), logins+2))
	must(t, s.WaitLogin(ctx, c.jid()))
	s.Replace(c.jid())
	await(ctx, c, anything[*events.StreamReplaced])
	must(t, s.WaitGone(ctx, c.jid()))
}

func TestSecondLoginReplaces(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	device, err := c.container.GetFirstDevice(ctx)
	must(t, err)
	rival := &client{t: t, server: s, container: c.container, news: make(chan struct{})}
	rival.use(device)
	must(t, rival.Connect())
	await(ctx, rival, anything[*events.Connected])
	await(ctx, c, anything[*events.StreamReplaced])
	logins := s.Logins()
	if last := logins[len(logins)-1]; !last.Overlap {
		t.Errorf("the second login is not seen to overlap: %+v", logins)
	}
}

func TestLoginFailures(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	jid := c.jid()
	c.restart(ctx)
	c.Disconnect()

	s.FailLogins(jid, Failure{Reason: 402, Code: 101, Expire: time.Hour})
	must(t, c.Connect())
	if ban := await(ctx, c, anything[*events.TemporaryBan]); ban.Code != 101 || ban.Expire != time.Hour {
		t.Errorf("ban: %+v", ban)
	}
	c.Disconnect()
	s.FailLogins(jid, Failure{Reason: 405})
	must(t, c.Connect())
	await(ctx, c, anything[*events.ClientOutdated])
	c.Disconnect()
	s.FailLogins(jid, Failure{Reason: 418})
	must(t, c.Connect())
	if f := await(ctx, c, anything[*events.ConnectFailure]); f.Reason != 418 {
		t.Errorf("failure: %+v", f)
	}
	c.Disconnect()
	s.FailLogins(jid, Failure{Reason: 503}, Failure{Reason: 500})
	must(t, c.Connect())
	await(ctx, c, func(*events.Connected) bool { return len(s.Logins()) == 3 })
	c.Disconnect()
	s.FailEveryLogin(jid, Failure{Reason: 401})
	must(t, c.Connect())
	if out := await(ctx, c, anything[*events.LoggedOut]); !out.OnConnect || out.Reason != events.ConnectFailureLoggedOut {
		t.Errorf("logged out: %+v", out)
	}
}

func TestOutdatedByRevision(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	c.Disconnect()
	s.mu.Lock()
	s.MinRevision = s.Revision + 1
	s.mu.Unlock()
	must(t, c.Connect())
	await(ctx, c, anything[*events.ClientOutdated])
}

// restart drives the client's device with a new whatsmeow client, as after a restart of its
// process, and waits until it has nothing left to handle. (whatsmeow deletes its store, when
// it is logged out, without regard to goroutines of its own that still handle what came with
// the pairing: a data race inside it, which tests of logging out must avoid.)
func (c *client) restart(ctx context.Context) {
	c.t.Helper()
	must(c.t, c.server.WaitSettled(ctx, c.jid()))
	c.Disconnect()
	device, err := c.container.GetFirstDevice(ctx)
	must(c.t, err)
	c.use(device)
	c.mu.Lock()
	c.events = nil
	c.mu.Unlock()
	must(c.t, c.Connect())
	await(ctx, c, anything[*events.Connected])
	await(ctx, c, anything[*events.OfflineSyncCompleted])
}

func TestUnlink(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, p := paired(ctx, t)
	jid := c.jid()
	if got := s.Linked(p.account.pn); !slices.Equal(got, []types.JID{jid}) {
		t.Errorf("linked: %v", got)
	}
	c.restart(ctx)
	s.Unlink(jid)
	if out := await(ctx, c, anything[*events.LoggedOut]); out.OnConnect {
		t.Errorf("logged out: %+v", out)
	}
	if got := s.Linked(p.account.pn); len(got) != 0 {
		t.Errorf("still linked: %v", got)
	}
	c.use(c.container.NewDevice())
	pairUp(ctx, t, s, c, p)
	if c.jid() == jid {
		t.Errorf("the new companion has the old one's id")
	}
	c.restart(ctx)
	must(t, c.Logout(ctx))
	if got := s.Linked(p.account.pn); len(got) != 0 {
		t.Errorf("still linked after logout: %v", got)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	c := newClient(t, s)
	c.EnableAutoReconnect = false
	pairUp(ctx, t, s, c, newSigner(t, s, "4915110000006", "Bot"))
	jid := c.jid()
	s.SetDown(true)
	await(ctx, c, anything[*events.Disconnected])
	if err := c.Connect(); err == nil {
		t.Error("connected to a server that is down")
	}
	s.SetDown(false)
	s.RefuseUpgrades(http.StatusServiceUnavailable, 1)
	if err := c.Connect(); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("connect while upgrades are refused: %v", err)
	}
	must(t, c.Connect())
	must(t, s.WaitLogin(ctx, jid))
}

func TestMedia(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	picture := randomBytes(100_000)
	up, err := c.Upload(ctx, picture, whatsmeow.MediaImage)
	must(t, err)
	download := func() ([]byte, error) {
		return c.DownloadMediaWithPath(ctx, up.DirectPath, up.FileEncSHA256, up.FileSHA256, up.MediaKey, whatsmeow.MediaImage, "image", true)
	}
	got, err := download()
	must(t, err)
	if !slices.Equal(got, picture) {
		t.Error("the downloaded file differs")
	}
	s.FailDownloads(http.StatusGone, 1)
	if _, err := download(); !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
		t.Errorf("download of a file that is gone: %v", err)
	}
	s.FailUploads(http.StatusInternalServerError, 1)
	if _, err := c.Upload(ctx, picture, whatsmeow.MediaImage); err == nil {
		t.Error("upload to a failing host succeeded")
	}

	get := func(url string, header ...string) (int, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		must(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := s.HTTPClient().Do(req)
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, body
	}
	whole, err := s.downloadMedia(up.DirectPath)
	must(t, err)
	if status, body := get(up.URL, "Range", "bytes=10-19"); status != http.StatusPartialContent || !slices.Equal(body, whole[10:20]) {
		t.Errorf("range: status %d, %d bytes", status, len(body))
	}
	if status, _ := get(up.URL + "&hash=AAAA"); status != http.StatusForbidden {
		t.Errorf("wrong hash: status %d, want 403", status)
	}
	if status, _ := get("https://mmg.whatsapp.net/v/image/none.enc?ccb=1"); status != http.StatusNotFound {
		t.Errorf("unknown file: status %d, want 404", status)
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two
	info, err := one.CreateGroup(ctx, whatsmeow.ReqCreateGroup{Name: "Friends", Participants: []types.JID{talk.phones[1].account.lid}})
	must(t, err)
	joined := await(ctx, two, anything[*events.JoinedGroup])
	if joined.JID != info.JID || joined.Name != "Friends" || len(joined.Participants) != 2 {
		t.Errorf("joined %+v", joined.GroupInfo)
	}
	_, err = one.SendMessage(ctx, info.JID, &waE2E.Message{Conversation: proto.String("all of you")})
	must(t, err)
	if m := two.hear(ctx, "all of you"); m.Info.Chat != info.JID || m.Info.Sender != one.Store.GetLID() {
		t.Errorf("group message arrived as %+v", m.Info)
	}
	_, err = two.SendMessage(ctx, info.JID, &waE2E.Message{Conversation: proto.String("you too")})
	must(t, err)
	one.hear(ctx, "you too")
	must(t, one.SetGroupName(ctx, info.JID, "Enemies"))
	await(ctx, two, func(g *events.GroupInfo) bool { return g.Name != nil && g.Name.Name == "Enemies" })
	_, err = one.UpdateGroupParticipants(ctx, info.JID, []types.JID{talk.phones[1].account.lid}, whatsmeow.ParticipantChangeRemove)
	must(t, err)
	await(ctx, two, func(g *events.GroupInfo) bool { return len(g.Leave) == 1 })
	if _, err := two.SendMessage(ctx, info.JID, &waE2E.Message{Conversation: proto.String("still here?")}); err == nil {
		t.Error("a removed member's message was accepted")
	}
	if unknown := s.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown to the server: %q", unknown)
	}
}

func TestKeysRunLow(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	s.ExhaustPreKeys(c.jid(), 2)
	must(t, s.wait(ctx, func() bool { return len(s.deviceOf(c.jid()).preKeys) >= 50 }))
}

func TestUnknownIsRecordedAndAnswered(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, _, p := paired(ctx, t)
	answer, err := p.link.request(ctx, waBinary.Node{
		Tag: "iq", Attrs: waBinary.Attrs{"xmlns": "novel", "type": "get", "to": types.ServerJID},
		Content: []waBinary.Node{{Tag: "thing"}},
	})
	must(t, err)
	if text(*answer, "type") != "result" {
		t.Errorf("answered with %s", answer)
	}
	if got, want := s.Unknown(), []string{"iq get novel <thing>"}; !slices.Equal(got, want) {
		t.Errorf("unknown: %q, want %q", got, want)
	}
}

func TestRedeliver(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two
	one.mustSay(ctx, two, "opening")
	two.hear(ctx, "opening")
	must(t, s.WaitSettled(ctx, two.jid()))

	// While the handler blocks, nothing is acknowledged.
	two.SynchronousAck = true
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	two.AddEventHandler(func(evt any) {
		if m, ok := evt.(*events.Message); ok && m.Message.GetConversation() == "slow" {
			entered <- struct{}{}
			<-leave
		}
	})
	var mu sync.Mutex
	copies := map[string]int{}
	s.OnStanza(func(st Stanza) {
		mu.Lock()
		defer mu.Unlock()
		if st.ToClient && st.Device == two.jid() && st.Node.Tag == "message" {
			copies[text(st.Node, "id")]++
		}
	})
	id := one.mustSay(ctx, two, "slow")
	<-entered
	// The sender's privacy token may wait beside it.
	kept := slices.DeleteFunc(s.Backlog(two.jid()), func(n waBinary.Node) bool { return n.Tag != "message" })
	if len(kept) != 1 || text(kept[0], "id") != id {
		t.Errorf("server keeps %v, want the message", kept)
	}
	s.Redeliver(two.jid())
	close(leave)
	one.mustSay(ctx, two, "barrier")
	two.hear(ctx, "barrier")
	must(t, s.WaitSettled(ctx, two.jid()))
	mu.Lock()
	defer mu.Unlock()
	if copies[id] != 2 {
		t.Errorf("the message was sent %d times, want 2", copies[id])
	}
}

func TestFailQueries(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two
	s.FailQueries(one.jid(), "usync", 500, 1)
	if _, err := one.say(ctx, two, "to nobody"); err == nil {
		t.Error("sent a message although the devices could not be looked up")
	}
	one.mustSay(ctx, two, "to somebody")
	s.FailQueries(types.EmptyJID, "w:m", 0, 1)
	short, cancel := context.WithCancel(ctx)
	s.OnStanza(func(st Stanza) {
		if !st.ToClient && text(st.Node, "xmlns") == "w:m" {
			cancel() // it has been asked
		}
	})
	if _, err := one.Upload(short, []byte("x"), whatsmeow.MediaImage); !errors.Is(err, context.Canceled) {
		t.Errorf("upload without an answer from the server: %v", err)
	}
	_, err := one.Upload(ctx, []byte("x"), whatsmeow.MediaImage)
	must(t, err)
}

// TestCounterFaults restores a client's store from a copy, which makes its counters go back.
func TestCounterFaults(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	talk := newConversation(ctx, t)
	s, one, two := talk.server, talk.one, talk.two
	one.mustSay(ctx, two, "opening")
	two.hear(ctx, "opening")
	two.mustSay(ctx, one, "answer")
	one.hear(ctx, "answer")
	phone := talk.phones[1].account.lid.SignalAddress().String()
	before, err := one.Store.Sessions.GetSession(ctx, phone)
	must(t, err)
	one.mustSay(ctx, two, "first use")
	if got := s.CounterFaults(); len(got) != 0 {
		t.Errorf("counter faults of a sound client: %q", got)
	}
	must(t, one.Store.Sessions.PutSession(ctx, phone, before))
	one.mustSay(ctx, two, "second use")
	if got := s.CounterFaults(); len(got) != 1 || !strings.Contains(got[0], "twice") {
		t.Errorf("counter faults: %q, want one reuse", got)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	const latency = 30 * time.Millisecond
	ctx := testContext(t)
	s := New(t)
	s.SetLatency(latency)
	c := newClient(t, s)
	pairUp(ctx, t, s, c, newSigner(t, s, "4915110000004", "Bot"))
	start := time.Now()
	_, err := c.TryFetchPrivacySettings(ctx, true)
	must(t, err)
	if took := time.Since(start); took < latency {
		t.Errorf("an answer took %v, want at least %v", took, latency)
	}
}

func TestExpirePairings(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	c := newClient(t, s)
	c.EnableAutoReconnect = false
	must(t, c.Connect())
	qr := await(ctx, c, anything[*events.QR])
	s.ExpirePairings()
	await(ctx, c, anything[*events.Disconnected])
	ref, _, _ := strings.Cut(strings.TrimPrefix(qr.Codes[0], "https://wa.me/settings/linked_devices#"), ",")
	if _, ok := s.unpaired(ref); ok {
		t.Error("an expired pairing ref is still valid")
	}
}

// TestRefusedPairing pairs with a phone whose QR scan went wrong: the client refuses and
// leaves, and the next try works.
func TestRefusedPairing(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	c, p := newClient(t, s), newSigner(t, s, "4915110000005", "Bot")
	must(t, c.Connect())
	qr := await(ctx, c, anything[*events.QR])
	ref, _, _ := strings.Cut(strings.TrimPrefix(qr.Codes[0], "https://wa.me/settings/linked_devices#"), ",")
	pending, ok := s.unpaired(ref)
	if !ok {
		t.Fatal("no client waits")
	}
	_, _, err := pending.finish(ctx, p.account, 1, p.box(t, pending.keys.identity[:], randomBytes(32)))
	if err == nil || !strings.Contains(err.Error(), "hmac-mismatch") {
		t.Errorf("pairing with the wrong secret: %v", err)
	}
	await(ctx, c, anything[*events.PairError]) // whatsmeow has disconnected
	pairUp(ctx, t, s, c, p)
}

func TestVersionLookup(t *testing.T) {
	t.Parallel()
	s := &Server{Revision: 1234567890}
	must(t, s.Start())
	defer s.Close()
	v, err := whatsmeow.GetLatestVersion(testContext(t), s.HTTPClient())
	must(t, err)
	if got, want := v.String(), "2.3000.1234567890"; got != want {
		t.Errorf("version %s, want %s", got, want)
	}
}

func TestOtherHostsAreRefused(t *testing.T) {
	t.Parallel()
	s := New(t)
	for _, u := range []string{"https://example.com/", "https://whatsapp.net.example.com/", "http://127.0.0.1/"} {
		if resp, err := s.HTTPClient().Get(u); err == nil {
			resp.Body.Close()
			t.Errorf("reached %s", u)
		}
	}
}

func TestThroughProxy(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	file, err := s.CAFile(t.TempDir())
	must(t, err)
	pem, err := os.ReadFile(file)
	must(t, err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the CA file")
	}
	proxy, err := url.Parse(s.ProxyURL())
	must(t, err)
	web := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(web.CloseIdleConnections)

	c := newClient(t, s)
	c.SetWebsocketHTTPClient(web)
	c.SetMediaHTTPClient(web)
	p := newSigner(t, s, "4915110000003", "Bot")
	pairUp(ctx, t, s, c, p)
	_, err = c.Upload(ctx, []byte("through the tunnel"), whatsmeow.MediaDocument)
	must(t, err)
	if resp, err := web.Get("https://example.com/"); err == nil {
		resp.Body.Close()
		t.Error("reached another host")
	}
	s.SetDown(true)
	if resp, err := web.Get("https://web.whatsapp.com/"); err == nil {
		resp.Body.Close()
		t.Error("reached a server that is down")
	}
}

func TestForeignDeviceIsRefused(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, c, _ := paired(ctx, t)
	c.restart(ctx)
	c.Disconnect()
	c.Store.NoiseKey = keys.NewKeyPair()
	must(t, c.Connect())
	await(ctx, c, func(e *events.LoggedOut) bool { return e.OnConnect })
	if n := len(s.Logins()); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := New(t)
	c, p := newClient(t, s), newSigner(t, s, "4915110000007", "Bot")
	c.EnableAutoReconnect = false
	pairUp(ctx, t, s, c, p)
	s.Stall(c.jid())
	s.Close()
	await(ctx, c, anything[*events.Disconnected])
	if _, err := p.link.request(ctx, waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{"xmlns": "w:p", "type": "get"}}); err == nil {
		t.Error("a closed server answered")
	}
	if err := c.Connect(); err == nil {
		t.Error("connected to a closed server")
	}
	if err := s.WaitLogin(ctx, c.jid()); err == nil {
		t.Error("waited for a login at a closed server")
	}
}
