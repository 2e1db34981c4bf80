package whatsapptest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/big"
	"slices"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// Phone is a person with WhatsApp on a phone, or on a further device of the same account (see
// AddCompanion). It lives in the process and reaches the server like a client that is logged
// in, with a Signal implementation of its own state: what it shows it has decrypted itself, so
// it is a judge of what the others send. Nothing it does waits for a time.
//
// A phone shows a message that is repeated under its ID once, and counts it. It takes offence
// (see Failures) at a Signal counter that a sender uses twice or goes back to, at a ciphertext
// that does not decrypt, at a companion whose account did not sign it, at media that do not
// open, and at edits and revocations of other people's messages.
//
// A phone is safe for concurrent use. Chats and people are named by either of their addresses.
type Phone struct {
	// ByNumber makes the phone address people by their phone number where others use the
	// LID. It is to be set before the phone is used.
	ByNumber bool
	// Lenient makes the phone only list its Failures, for a test that means to see some. It
	// is to be set before the phone is used.
	Lenient bool

	server *Server
	person *person
	device *device
	name   string

	// wire is held from the first step of an encryption until its stanza is handed in, and
	// during a decryption, so that counters go out in order. It guards the next three.
	wire   sync.Mutex
	signal *signalStore
	ledger ledger
	// keyed is who holds this device's sender key, by group.
	keyed map[types.JID]map[types.JID]bool

	mu       sync.Mutex // guards the rest; may be taken while wire is held, not the other way
	link     *link      // nil while offline
	changed  chan struct{}
	changes  []Change
	messages []*Received
	index    map[messageRef]*Received
	heard    map[*Received]bool
	sent     map[types.MessageID]*outgoing
	acks     map[types.MessageID]chan waBinary.Node
	receipts map[types.MessageID][]Receipt
	typing   map[types.JID]bool
	typed    map[types.JID]int
	present  map[types.JID]bool
	applied  map[messageRef]int
	retries  map[messageRef]int
	failures []string
	// lost are the Signal users whose messages need not decrypt (LoseSession).
	lost map[string]bool
}

// person is what all devices of one account share.
type person struct {
	account *account
	// primary is the identity key of the account's phone, which signs its companions.
	primary *keys.KeyPair
	state   *appState
}

// phonebook is the phones of a server. It belongs to Server.mu.
type phonebook struct{ all []*Phone }

// outgoing is a message as sent, kept for those who could not decrypt it.
type outgoing struct {
	to    types.JID
	chat  types.JID
	msg   *waE2E.Message
	attrs waBinary.Attrs
}

// messageRef names a message: its chat and author as LIDs without device.
type messageRef struct {
	chat, author types.JID
	id           types.MessageID
}

// Received is a message as a phone shows it, own ones included. It is a copy.
type Received struct {
	// Chat is the group, or the LID of the person.
	Chat types.JID
	// Sender is the author's LID; Device tells from which of the author's devices.
	Sender types.JID
	Device uint16
	FromMe bool
	ID     types.MessageID
	// Name is the push name it came with.
	Name string
	// Kind is text, image, video, voice, audio, document, sticker, location or contact.
	Kind string
	// Text is the text or caption, after edits; empty once revoked.
	Text string
	// QuotedID, QuotedSender and QuotedText are of the message that this one replies to.
	QuotedID     types.MessageID
	QuotedSender types.JID
	QuotedText   string
	Mentions     []types.JID
	// Edits are the texts that edits gave it, in order.
	Edits   []string
	Revoked bool
	// Reactions are by the reacting person's LID.
	Reactions map[types.JID]string
	// Media is the attached file, decrypted and checked.
	Media    []byte
	Mime     string
	FileName string
	Voice    bool
	Seconds  int
	// Waveform is what is drawn of a voice message.
	Waveform []byte
	Location *Location
	Contact  *Contact

	Ephemeral, ViewOnce bool
	// Count is how often it came: more than 1 is a repeated message, which a phone shows
	// once. Own messages count 1.
	Count int
	// Retried is set where it could be read only after it had been asked for again.
	Retried bool
	// Order is its place in all that the phone shows, from 1.
	Order int
	// Time is when the server took it, to the second.
	Time time.Time

	// from is the address that the stanza came from or went to, content what it carried.
	from    types.JID
	content *waE2E.Message
}

// String describes the message in a line, for logs.
func (r Received) String() string {
	s := fmt.Sprintf("%s %s of %s in %s: %q", r.Kind, r.ID, r.Sender, r.Chat, r.Text)
	if r.Media != nil {
		s += fmt.Sprintf(" with %d bytes of %s", len(r.Media), r.Mime)
	}
	if r.QuotedID != "" {
		s += fmt.Sprintf(" quoting %q (%s)", r.QuotedText, r.QuotedID)
	}
	if r.Count != 1 {
		s += fmt.Sprintf(" (came %d times)", r.Count)
	}
	return s
}

// Receipt is what a person's device has told about a message of this phone's account.
type Receipt struct {
	// By is the LID of the person, with the device where the receipt named one.
	By types.JID
	// Type is the receipt's type: empty for delivered, inactive, read, played, retry.
	Type string
	// Count is how often it came.
	Count int
}

// Change is one thing that happened on a phone, as its owner sees it.
type Change struct {
	// Kind is message, repeat, edit, revoke, reaction, receipt, typing, presence or group.
	Kind string
	Chat types.JID
	// Message is the message concerned, as it was then, if there is one.
	Message Received
	// By is who did it.
	By types.JID
	// Typing is set while somebody composes.
	Typing bool
}

// NewPhone gives a new person with a random number a phone, which is online at once.
func (s *Server) NewPhone(name string) *Phone {
	for {
		n, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		p, err := s.newPhone(name, fmt.Sprintf("4915%09d", n))
		if err == nil {
			return p
		}
	}
}

// NewPhoneNumber is NewPhone with a given number: digits with the country code, not taken.
func (s *Server) NewPhoneNumber(name, number string) (*Phone, error) {
	return s.newPhone(name, number)
}

// preKeysAtOnce is how many one-time keys a device uploads.
const preKeysAtOnce = 30

func (s *Server) newPhone(name, number string) (*Phone, error) {
	a, err := s.addAccount(number, name)
	if err != nil {
		return nil, err
	}
	who := &person{account: a, primary: a.identity, state: newAppState()}
	p := s.bringUp(who, name, a.identity)
	p.device = s.registerDevice(a, 0, p.publicKeys())
	p.Online()
	return p, nil
}

// AddCompanion links another device to the phone's account, such as WhatsApp Web, implemented
// as phones are. It is online at once and starts without the phone's earlier messages.
func (p *Phone) AddCompanion() *Phone {
	own := keys.NewKeyPair()
	c := p.server.bringUp(p.person, p.name, own)
	c.ByNumber = p.ByNumber
	id := p.server.freeDeviceID(p.person.account)
	public := c.publicKeys()
	public.advIdentity, public.keyIndex = p.person.signCompanion(own, uint32(id)), uint32(id)
	c.device = p.server.registerDevice(p.person.account, id, public)
	c.Online()
	return c
}

// bringUp makes a phone that is not registered yet.
func (s *Server) bringUp(who *person, name string, own *keys.KeyPair) *Phone {
	p := &Phone{
		server: s, person: who, name: name,
		signal:   newSignalStore(own),
		keyed:    map[types.JID]map[types.JID]bool{},
		changed:  make(chan struct{}),
		index:    map[messageRef]*Received{},
		heard:    map[*Received]bool{},
		sent:     map[types.MessageID]*outgoing{},
		acks:     map[types.MessageID]chan waBinary.Node{},
		receipts: map[types.MessageID][]Receipt{},
		typing:   map[types.JID]bool{},
		typed:    map[types.JID]int{},
		present:  map[types.JID]bool{},
		applied:  map[messageRef]int{},
		retries:  map[messageRef]int{},
		lost:     map[string]bool{},
	}
	s.mu.Lock()
	s.phones.all = append(s.phones.all, p)
	s.mu.Unlock()
	return p
}

// publicKeys makes the first one-time keys and gives the public side of all keys.
func (p *Phone) publicKeys() deviceKeys {
	signed := p.signal.signedPreKey()
	k := deviceKeys{
		registrationID: p.signal.registrationID,
		identity:       *p.signal.identity.Pub,
		signedPreKey:   publicPreKey{id: signed.KeyID, public: *signed.Pub, signature: *signed.Signature},
	}
	for _, key := range p.signal.newPreKeys(preKeysAtOnce) {
		k.preKeys = append(k.preKeys, publicPreKey{id: key.KeyID, public: *key.Pub})
	}
	return k
}

// Phones lists all phones of the server and their companions, in the order they were made.
func (s *Server) Phones() []*Phone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.phones.all)
}

// Name is the person's push name.
func (p *Phone) Name() string { return p.name }

// Number is the person's number, in digits.
func (p *Phone) Number() string { return p.person.account.pn.User }

// JID is the person's address by phone number.
func (p *Phone) JID() types.JID { return p.person.account.pn }

// LID is the person's hidden address.
func (p *Phone) LID() types.JID { return p.person.account.lid }

// Online connects the phone, which then gets what was kept for it. It does nothing if the
// phone is connected.
func (p *Phone) Online() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		return
	}
	// deliver looks under p.mu whether it is still the phone's link that brings a stanza, so
	// the first waits until the link is known.
	var l *link
	l = p.server.attach(p.device, func(n waBinary.Node) {
		if p.uses(&l) {
			p.deliver(l, n)
		}
	})
	p.link = l
	p.link.submit(waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{"type": "available", "name": p.name}})
	p.wake()
}

// Offline takes the phone off the network: what comes for it is kept by the server. It does
// nothing if the phone is offline.
func (p *Phone) Offline() {
	p.mu.Lock()
	l := p.link
	p.link = nil
	p.wake()
	p.mu.Unlock()
	if l != nil {
		l.close()
	}
}

// uses tells whether the phone is connected by that link. What comes by another was kept by
// the server and comes again.
func (p *Phone) uses(l **link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link != nil && p.link == *l
}

var errOffline = errors.New("the phone is offline")

func (p *Phone) online() (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == nil {
		return nil, errOffline
	}
	return p.link, nil
}

// submit hands in a stanza; a phone that is offline says nothing.
func (p *Phone) submit(n waBinary.Node) {
	if l, err := p.online(); err == nil {
		l.submit(n)
	}
}

// wake lets Wait and Watch look again. The caller holds p.mu.
func (p *Phone) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// happened notes a change. The caller holds p.mu.
func (p *Phone) happened(c Change) {
	p.changes = append(p.changes, c)
	p.wake()
}

// fail notes a broken promise, and fails the test that the server was made for.
func (p *Phone) fail(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	p.mu.Lock()
	p.failures = append(p.failures, what)
	p.wake()
	p.mu.Unlock()
	if t := p.server.tb; t != nil && !p.Lenient {
		t.Errorf("phone of %s: %s", p.name, what)
	}
}

// Failures lists what was wrong with what came to the phone: see Phone. If the server was made
// with New, its test has failed by then, unless the phone is Lenient.
func (p *Phone) Failures() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.failures)
}

// LoseSession makes the phone forget its Signal sessions with a person and the sender keys it
// has from them, as a restored backup does. What they send next does not decrypt until they
// have answered a retry receipt. From here on that is no failure, whenever it happens with them.
func (p *Phone) LoseSession(with types.JID) {
	user := p.canonical(with).SignalAddressUser()
	p.wire.Lock()
	defer p.wire.Unlock()
	p.signal.forgetUser(user)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost[user] = true
}

// Messages is what the phone shows in a chat, oldest first.
func (p *Phone) Messages(chat types.JID) []Received {
	chat = p.canonical(chat)
	p.mu.Lock()
	defer p.mu.Unlock()
	var shown []Received
	for _, m := range p.messages {
		if m.Chat == chat {
			shown = append(shown, m.copy())
		}
	}
	return shown
}

// AllMessages is what the phone shows in all chats, oldest first.
func (p *Phone) AllMessages() []Received {
	p.mu.Lock()
	defer p.mu.Unlock()
	shown := make([]Received, len(p.messages))
	for i, m := range p.messages {
		shown[i] = m.copy()
	}
	return shown
}

// copy shares nothing with the original that changes.
func (r *Received) copy() Received {
	c := *r
	c.Mentions = slices.Clone(r.Mentions)
	c.Edits = slices.Clone(r.Edits)
	c.Reactions = maps.Clone(r.Reactions)
	return c
}

// Wait returns nil once cond is true. cond is called now and after every change, in this
// goroutine and without a lock: it may look at this phone and at others.
func (p *Phone) Wait(ctx context.Context, cond func(p *Phone) bool) error {
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if cond(p) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("phone of %s waits: %w", p.name, ctx.Err())
		case <-p.server.context.Done():
			return fmt.Errorf("phone of %s waits: the server was closed", p.name)
		}
	}
}

// Hear waits for a message in the chat that this phone did not write itself, whose text is, or was before an edit
// or by an edit, the given one. Each message is heard once. On an end of ctx, the error names
// what the phone shows instead.
func (p *Phone) Hear(ctx context.Context, chat types.JID, text string) (Received, error) {
	return p.HearFunc(ctx, chat, fmt.Sprintf("%q", text), func(r Received) bool {
		return r.Text == text || slices.Contains(r.Edits, text)
	})
}

// HearFunc is Hear with a condition of the caller's; what describes it in the error.
func (p *Phone) HearFunc(ctx context.Context, chat types.JID, what string, match func(Received) bool) (Received, error) {
	chat = p.canonical(chat)
	var found Received
	err := p.Wait(ctx, func(*Phone) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, m := range p.messages {
			if m.Chat != chat || m.FromMe && m.Device == p.device.id || p.heard[m] {
				continue
			}
			if c := m.copy(); match(c) {
				p.heard[m], found = true, c
				return true
			}
		}
		return false
	})
	if err != nil {
		var shown []string
		for _, m := range p.Messages(chat) {
			shown = append(shown, m.String())
		}
		return Received{}, fmt.Errorf("hear %s among %v: %w", what, shown, err)
	}
	return found, nil
}

// Watch gives everything that happens on the phone from now on, until ctx ends or the server
// is closed.
func (p *Phone) Watch(ctx context.Context) iter.Seq[Change] {
	p.mu.Lock()
	next := len(p.changes)
	p.mu.Unlock()
	return func(yield func(Change) bool) {
		for {
			p.mu.Lock()
			fresh, changed := p.changes[next:], p.changed
			next = len(p.changes)
			p.mu.Unlock()
			for _, c := range fresh {
				if !yield(c) {
					return
				}
			}
			if len(fresh) > 0 {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-p.server.context.Done():
				return
			}
		}
	}
}

// Receipts tells whether a message of this account has been delivered, and read or played, to
// or by anybody else. Delivered includes what a device received while its owner was away
// (type inactive), for which official phones show no second tick.
func (p *Phone) Receipts(id types.MessageID) (delivered, read bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.receipts[id] {
		if r.By.User == p.LID().User {
			continue
		}
		switch r.Type {
		case "", "inactive":
			delivered = true
		case "read", "played":
			delivered, read = true, true
		}
	}
	return delivered, read
}

// ReceiptsOf lists all receipts for a message of this account, in the order they first came.
func (p *Phone) ReceiptsOf(id types.MessageID) []Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.receipts[id])
}

// Typing tells whether somebody else composes in the chat right now. A message of theirs ends it.
func (p *Phone) Typing(chat types.JID) bool {
	chat = p.canonical(chat)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.typing[chat]
}

// Typed counts how often somebody else began to compose in the chat.
func (p *Phone) Typed(chat types.JID) int {
	chat = p.canonical(chat)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.typed[chat]
}

// Present tells whether a person is shown as online. It is known only after Subscribe.
func (p *Phone) Present(who types.JID) bool {
	who = p.canonical(who)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.present[who]
}

// canonical is how the phone names a chat or a person: a group as it is, a person by LID,
// without device. An address the server does not know stays as it is.
func (p *Phone) canonical(jid types.JID) types.JID {
	jid = jid.ToNonAD()
	if a := p.server.findAccount(jid); a != nil {
		return a.lid
	}
	return jid
}

// signalJID is the address that sessions with a device are kept under: its LID.
func (p *Phone) signalJID(device types.JID) types.JID {
	lid := p.canonical(device)
	lid.Device = device.Device
	return lid
}

// address is a person's address as this phone writes it into stanzas and messages.
func (p *Phone) address(person types.JID) types.JID {
	a := p.server.findAccount(person)
	switch {
	case a == nil:
		return person.ToNonAD()
	case p.ByNumber:
		return a.pn
	}
	return a.lid
}

// own tells whether an address is of the phone's account.
func (p *Phone) own(jid types.JID) bool {
	return jid.User == p.JID().User && jid.Server == types.DefaultUserServer ||
		jid.User == p.LID().User && jid.Server == types.HiddenUserServer
}
