// Package device is what any device store needs around it, whichever database is below.
//
// The guard keeps a send and a decryption on one address from overwriting each other's
// ratchet step. whatsmeow reads a session, encrypts, waits for the network (pre-keys, device
// lists) and writes the session back; a decryption for the same address that commits in
// between would be undone, or would undo the send's. Undoing a send is silent loss: the next
// message repeats a counter, and the receiver drops it without telling anyone.
//
// So every session has a version, counted in memory by the one process that drives the
// device. A decryption holds the guard's lock from read to commit: it only touches the database, never the
// network. A send notes the versions it reads and its write is refused, before anything is
// on the wire, if one has moved on; the caller sends again, with the same message ID. Receiving
// never waits for the network of a send.
//
// A counter that was used must never be used again, not even after a power cut: what a send has written is on the disk
// before the message is on the wire. One wait for the disk does for all that was written before, so the steps to it, and
// those from a message's decryption to its acknowledgement, need not wait one by one: see Defer.
//
// And it keeps an outage of the store from being taken for a message that does not decrypt, which whatsmeow
// would acknowledge: what fails during a decryption because of the store is context.Canceled to
// whatsmeow, which then leaves the message unacknowledged, and is reported, so that the message is fetched again.
// On the way it tells a Watch what the operator's measurements are made of.
package device

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/libsignal/logger"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// libsignal makes its default logger at the first line it logs, in whichever goroutine that is,
// and prints to standard output. What does not decrypt whatsmeow reports by itself.
func init() {
	var quiet logger.Loggable = silence{}
	logger.Setup(&quiet)
}

type silence struct{}

func (silence) Debug(_, _ string)   {}
func (silence) Info(_, _ string)    {}
func (silence) Warning(_, _ string) {}
func (silence) Error(_, _ string)   {}
func (silence) Configure(string)    {}

// ErrConflict says that a session changed between the read and the write of a send. Nothing
// was sent; the same message can be sent again at once.
var ErrConflict = errors.New("session changed during the send")

// ErrNotKept is among the failures told to Watch.Outage: of a key or secret that a message brought, outside its decryption. whatsmeow
// just logs it and would acknowledge the message; who handles the message, which is next, must refuse it.
var ErrNotKept = errors.New("what a message brought could not be stored")

var errAwaited = errors.New("the message that brought the sender key could not be stored and comes again")

// Guard puts the guard around the stores of d, now or, for a device that is not paired yet, as soon as
// pairing has saved it. It must be called before d is given to a client, and once. sync is the store's; who handles a message
// must call it before the message is acknowledged.
func Guard(d *store.Device, sync func(context.Context) error, w Watch) {
	c := &container{DeviceContainer: d.Container, sync: sync, watch: w}
	d.Container = c
	if d.Initialized {
		c.wrap(d)
	}
}

// container puts the guard back each time the inner container has set a device's stores.
type container struct {
	store.DeviceContainer
	sync  func(context.Context) error
	watch Watch
}

func (c *container) PutDevice(ctx context.Context, d *store.Device) error {
	initialized := d.Initialized
	err := c.DeviceContainer.PutDevice(ctx, d)
	if !initialized && d.Initialized {
		c.wrap(d)
	}
	return err
}

func (c *container) wrap(d *store.Device) {
	inner, ok := d.Sessions.(store.AllSessionSpecificStores)
	if !ok {
		panic(fmt.Sprintf("device: %T is not a whole device store", d.Sessions))
	}
	together := inner.DoDecryptionTxn
	if c.watch.Call != nil {
		inner = measured{inner, c.watch.Call}
	}
	g := &guard{AllSessionSpecificStores: inner, sync: c.sync, watch: c.watch, together: together, versions: map[string]uint64{}, loose: map[string]uint64{}, migrated: map[string]string{}, unkept: map[string]int{}, identities: map[string][32]byte{}}
	d.SetAllStores(g)
	d.LIDs = &lids{d.LIDs, g}
	d.Container = c
}

// guard is a device's store with versioned sessions.
type guard struct {
	store.AllSessionSpecificStores
	sync  func(context.Context) error
	watch Watch

	// preKeys is held while pre-keys are made, together writes what is written within it as one.
	preKeys  sync.Mutex
	together func(context.Context, func(context.Context) error) error

	// mu is held while sessions are read or written, and through a whole decryption. It is
	// never held across the network.
	mu sync.Mutex
	// versions counts the writes to each address since the process started.
	versions map[string]uint64
	// loose are the versions last read outside a send and a decryption: by a retry receipt or a message to the account's own phone, one
	// at a time each. Where they cross, spent tells.
	loose map[string]uint64
	// epoch counts the changes that touch addresses not known one by one.
	epoch uint64
	// migrated are the phone users whose sessions have moved to a LID user: whatsmeow asks
	// for it again with each message, and only the first time changes anything.
	migrated map[string]string
	// identities are the keys that were stored since the process started: whatsmeow looks and stores again with each message.
	// Their lock is held for no call.
	identitiesMu sync.Mutex
	identities   map[string][32]byte
	// unkept are the sender keys that could not be stored when a message brought them, and how many more messages wait for
	// that one: it may never come again.
	unkept map[string]int
	// broken is a failure that whatsmeow only logs before it decrypts under what may be the wrong address;
	// the decryption is then not begun.
	broken error
}

// unkeptMost is how many messages wait for a sender key.
const unkeptMost = 20

type contextKey int

const (
	keyDecryption contextKey = iota
	keySend
	keyDeferred
)

// Defer returns a context with which a store may return before what it writes is on the disk. It must keep the order in which
// it writes, also through a power cut; the caller calls the store's Sync before anything of it shows outside.
func Defer(ctx context.Context) context.Context { return context.WithValue(ctx, keyDeferred, true) }

// Deferred reports whether ctx is one of Defer.
func Deferred(ctx context.Context) bool { return ctx.Value(keyDeferred) != nil }

// send is what one send has read, carried by its context.
type send struct {
	mu    sync.Mutex
	epoch uint64
	read  map[string]uint64
	wrote map[string]bool
	// failed is the first store error that whatsmeow only logs: the device it concerns
	// would be left out of the message.
	failed error
}

// Send returns a context for one call of SendMessage: with it the guard tells what the
// send has read from what others have.
func Send(ctx context.Context) context.Context {
	return context.WithValue(ctx, keySend, &send{read: map[string]uint64{}, wrote: map[string]bool{}})
}

// SendErr returns the first failure of the store during the send with this context, if any. whatsmeow skips
// the device concerned and reports success; the caller must take the message for unsent.
func SendErr(ctx context.Context) error {
	s := sendFrom(ctx)
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Reached returns the Signal addresses of the devices that the send with this context has encrypted for, and of those that it left out: of
// these it has read a session and written none. whatsmeow says nothing of it where the server did not give their pre-keys.
func Reached(ctx context.Context) (got, leftOut []string) {
	s := sendFrom(ctx)
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for address := range s.read {
		if s.wrote[address] {
			got = append(got, address)
		} else {
			leftOut = append(leftOut, address)
		}
	}
	return got, leftOut
}

func sendFrom(ctx context.Context) *send {
	s, _ := ctx.Value(keySend).(*send)
	return s
}

// unavailable is a failure of the store, as whatsmeow has to see it: like a context that was canceled.
type unavailable struct{ error }

func (e unavailable) Is(target error) bool { return target == context.Canceled }
func (e unavailable) Unwrap() error        { return e.error }

// fail notes an error of the store for the send of ctx and returns it; outside a send it is an outage.
func (g *guard) fail(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	s := sendFrom(ctx)
	if s == nil {
		return g.unavailable(ctx, err)
	}
	s.mu.Lock()
	if s.failed == nil {
		s.failed = err
	}
	s.mu.Unlock()
	return err
}

// unavailable reports err, which is not nil, and returns it as an outage. A value of a wrong length is none:
// waiting does not mend it, the retry receipt of a failed decryption does.
func (g *guard) unavailable(ctx context.Context, err error) error {
	if errors.Is(err, sqlstore.ErrInvalidLength) {
		return err
	}
	if ctx.Err() == nil {
		g.watch.Outage(err)
	}
	return unavailable{err}
}

func decrypting(ctx context.Context) bool { return ctx.Value(keyDecryption) != nil }

// lock takes the guard's lock unless ctx is that of a decryption, which has it already.
func (g *guard) lock(ctx context.Context) (unlock func()) {
	if decrypting(ctx) {
		return func() {}
	}
	g.mu.Lock()
	return g.mu.Unlock
}

func (g *guard) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	failed := false
	err := g.AllSessionSpecificStores.DoDecryptionTxn(context.WithValue(Defer(ctx), keyDecryption, true), func(ctx context.Context) error {
		err := fn(ctx)
		failed = err != nil
		return err
	})
	if err != nil {
		g.forgetIdentities()
	}
	if err != nil && !failed {
		return g.unavailable(ctx, err) // to begin or to commit
	}
	if err != nil {
		g.watch.undecrypted(ctx, err)
	}
	return err
}

func (g *guard) GetBufferedEvent(ctx context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	g.mu.Lock()
	broken := g.broken
	g.broken = nil
	g.mu.Unlock()
	if broken != nil {
		return nil, unavailable{broken} // which was told of
	}
	buffered, err := g.AllSessionSpecificStores.GetBufferedEvent(ctx, hash)
	g.watch.again(buffered)
	return buffered, g.fail(ctx, err)
}

func (g *guard) PutBufferedEvent(ctx context.Context, hash [32]byte, plaintext []byte, at time.Time) error {
	return g.fail(ctx, g.AllSessionSpecificStores.PutBufferedEvent(ctx, hash, plaintext, at))
}

func (g *guard) GetPreKey(ctx context.Context, id uint32) (*keys.PreKey, error) {
	key, err := g.AllSessionSpecificStores.GetPreKey(ctx, id)
	return key, g.fail(ctx, err)
}

// GetOrGenPreKeys makes all pre-keys in one transaction. sqlstore makes one for each, and waits as often for the disk: 812 times
// before a new device is online.
func (g *guard) GetOrGenPreKeys(ctx context.Context, count uint32) (list []*keys.PreKey, err error) {
	g.preKeys.Lock()
	defer g.preKeys.Unlock()
	err = g.together(ctx, func(ctx context.Context) error {
		list, err = g.AllSessionSpecificStores.GetOrGenPreKeys(ctx, count)
		return err
	})
	return list, err
}

// GenOnePreKey waits for GetOrGenPreKeys: below, one would hold the lock and the other the database, and each wait for the other.
func (g *guard) GenOnePreKey(ctx context.Context) (*keys.PreKey, error) {
	g.preKeys.Lock()
	defer g.preKeys.Unlock()
	return g.AllSessionSpecificStores.GenOnePreKey(ctx)
}

func (g *guard) RemovePreKey(ctx context.Context, id uint32) error {
	return g.fail(ctx, g.AllSessionSpecificStores.RemovePreKey(ctx, id))
}

// kept is fail for what a message brings, which whatsmeow stores once the message is decrypted.
func (g *guard) kept(ctx context.Context, err error) error {
	if err != nil && !decrypting(ctx) && sendFrom(ctx) == nil {
		err = fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return g.fail(ctx, err)
}

// GetSenderKey does not take a key for missing, or for the last one, while a message that brings it waits to come again.
func (g *guard) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	name := group + "/" + user
	if decrypting(ctx) && g.unkept[name] > 0 {
		g.unkept[name]--
		return nil, g.unavailable(ctx, errAwaited)
	}
	key, err := g.AllSessionSpecificStores.GetSenderKey(ctx, group, user)
	return key, g.senderKey(ctx, name, err)
}

func (g *guard) PutSenderKey(ctx context.Context, group, user string, key []byte) error {
	name := group + "/" + user
	err := g.senderKey(ctx, name, g.onDisk(ctx, func(ctx context.Context) error {
		return g.AllSessionSpecificStores.PutSenderKey(ctx, group, user, key)
	}))
	if err == nil {
		defer g.lock(ctx)()
		delete(g.unkept, name)
	}
	return err
}

func (g *guard) senderKey(ctx context.Context, name string, err error) error {
	if err != nil && !decrypting(ctx) && sendFrom(ctx) == nil {
		g.mu.Lock()
		g.unkept[name] = unkeptMost
		g.mu.Unlock()
	}
	return g.kept(ctx, err)
}

func (g *guard) PutMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID, secret []byte) error {
	return g.kept(ctx, g.AllSessionSpecificStores.PutMessageSecret(Defer(ctx), chat, sender, id, secret))
}

// ClearBufferedEventPlaintext is called last for a message, when it is on the disk that it was handled, or when ctx is done: then
// the message may have been refused, and comes again.
func (g *guard) ClearBufferedEventPlaintext(ctx context.Context, hash [32]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return g.AllSessionSpecificStores.ClearBufferedEventPlaintext(Defer(ctx), hash)
}

// AddOutgoingEvent is called before a message is encrypted.
func (g *guard) AddOutgoingEvent(ctx context.Context, chat types.JID, id types.MessageID, format string, plaintext []byte) error {
	return g.AllSessionSpecificStores.AddOutgoingEvent(Defer(ctx), chat, id, format, plaintext)
}

func (g *guard) DeleteOldOutgoingEvents(ctx context.Context) error {
	return g.AllSessionSpecificStores.DeleteOldOutgoingEvents(Defer(ctx))
}

func (g *guard) PutAppStateSyncKey(ctx context.Context, id []byte, key store.AppStateSyncKey) error {
	return g.kept(ctx, g.AllSessionSpecificStores.PutAppStateSyncKey(ctx, id, key))
}

func (g *guard) GetSession(ctx context.Context, address string) ([]byte, error) {
	defer g.lock(ctx)()
	session, err := g.AllSessionSpecificStores.GetSession(ctx, address)
	if err != nil {
		return nil, g.fail(ctx, err)
	}
	g.note(ctx, address)
	return session, nil
}

func (g *guard) HasSession(ctx context.Context, address string) (bool, error) {
	has, err := g.AllSessionSpecificStores.HasSession(ctx, address)
	return has, g.fail(ctx, err)
}

func (g *guard) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	defer g.lock(ctx)()
	sessions, err := g.AllSessionSpecificStores.GetManySessions(ctx, addresses)
	if err != nil {
		return nil, g.fail(ctx, err)
	}
	for _, address := range addresses {
		g.note(ctx, address)
	}
	return sessions, nil
}

// note remembers, for the write that follows, the version of address that was read.
func (g *guard) note(ctx context.Context, address string) {
	switch s := sendFrom(ctx); {
	case decrypting(ctx):
	case s != nil:
		s.mu.Lock()
		if len(s.read) == 0 {
			s.epoch = g.epoch
		}
		s.read[address] = g.versions[address]
		s.mu.Unlock()
	default:
		g.loose[address] = g.versions[address]
	}
}

func (g *guard) PutSession(ctx context.Context, address string, session []byte) error {
	return g.put(ctx, map[string][]byte{address: session}, func(ctx context.Context) error {
		return g.AllSessionSpecificStores.PutSession(ctx, address, session)
	})
}

func (g *guard) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	return g.put(ctx, sessions, func(ctx context.Context) error {
		return g.AllSessionSpecificStores.PutManySessions(ctx, sessions)
	})
}

// put writes sessions if none of them has moved on since it was read.
func (g *guard) put(ctx context.Context, sessions map[string][]byte, write func(context.Context) error) error {
	if err := SendErr(ctx); err != nil {
		return fmt.Errorf("store sessions after a failure of the store: %w", err)
	}
	return g.onDisk(ctx, func(ctx context.Context) error {
		defer g.lock(ctx)()
		if !decrypting(ctx) {
			for address, session := range sessions {
				overtaken, err := g.overtaken(ctx, address, session)
				if err != nil {
					return g.fail(ctx, err)
				}
				if overtaken || g.stale(ctx, address) {
					return g.conflict(ctx)
				}
			}
		}
		for address := range sessions {
			g.versions[address]++
			g.note(ctx, address)
			if s := sendFrom(ctx); s != nil {
				s.mu.Lock()
				s.wrote[address] = true
				s.mu.Unlock()
			}
		}
		return g.fail(ctx, write(ctx))
	})
}

// onDisk calls write, whose result outside a decryption is on the disk when it returns. Others may use the store while it waits.
func (g *guard) onDisk(ctx context.Context, write func(context.Context) error) error {
	if err := write(Defer(ctx)); err != nil || decrypting(ctx) {
		return err
	}
	return g.fail(ctx, g.sync(ctx))
}

// conflict refuses a write, and fails the send that it is of.
func (g *guard) conflict(ctx context.Context) error {
	if sendFrom(ctx) != nil {
		return g.fail(ctx, ErrConflict)
	}
	// In an answer to a retry receipt. As an outage it leaves the receipt unacknowledged: the phone asks only once.
	return g.unavailable(ctx, ErrConflict)
}

// stale reports whether address was written since the caller read it.
func (g *guard) stale(ctx context.Context, address string) bool {
	if s := sendFrom(ctx); s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		read, ok := s.read[address]
		return ok && (read != g.versions[address] || s.epoch != g.epoch)
	}
	read, ok := g.loose[address]
	return ok && read != g.versions[address]
}

// overtaken reports whether another has used the counters that a session uses which is to be written outside a send and a decryption.
func (g *guard) overtaken(ctx context.Context, address string, session []byte) (bool, error) {
	if decrypting(ctx) || sendFrom(ctx) != nil {
		return false, nil
	}
	stored, err := g.AllSessionSpecificStores.GetSession(ctx, address)
	return err == nil && spent(stored, session), err
}

// spent reports whether session sends on the chain on which the stored one does, and is not ahead of it.
func spent(stored, session []byte) bool {
	var states [2]*record.State
	for i, raw := range [][]byte{stored, session} {
		r, err := record.NewSessionFromBytes(raw, store.SignalProtobufSerializer.Session, store.SignalProtobufSerializer.State)
		if err != nil || !r.SessionState().HasSenderChain() {
			return false // there is nothing to be used twice
		}
		states[i] = r.SessionState()
	}
	return states[0].SenderRatchetKey().PublicKey() == states[1].SenderRatchetKey().PublicKey() &&
		states[1].SenderChainKey().Index() <= states[0].SenderChainKey().Index()
}

func (g *guard) DeleteSession(ctx context.Context, address string) error {
	defer g.lock(ctx)()
	g.versions[address]++
	g.note(ctx, address)
	return g.fail(ctx, g.AllSessionSpecificStores.DeleteSession(ctx, address))
}

func (g *guard) DeleteAllSessions(ctx context.Context, phone string) error {
	defer g.lock(ctx)()
	g.changed(phone)
	return g.AllSessionSpecificStores.DeleteAllSessions(ctx, phone)
}

func (g *guard) MigratePNToLID(ctx context.Context, pn, lid types.JID) error {
	defer g.lock(ctx)()
	if g.migrated[pn.SignalAddressUser()] == lid.SignalAddressUser() {
		return nil
	}
	defer g.forgetIdentities()
	if err := g.AllSessionSpecificStores.MigratePNToLID(ctx, pn, lid); err != nil {
		return g.misled(ctx, err)
	}
	g.migrated[pn.SignalAddressUser()] = lid.SignalAddressUser()
	g.changed(pn.SignalAddressUser(), lid.SignalAddressUser())
	return nil
}

// changed notes a change of all sessions of some users. A send is held against any such change, what was read outside of one, which
// is not repeated at once, only against those of its own user.
func (g *guard) changed(users ...string) {
	g.epoch++
	for address := range g.loose {
		if user, _, _ := strings.Cut(address, ":"); slices.Contains(users, user) {
			g.versions[address]++
		}
	}
}

// misled notes a failure outside a send after which whatsmeow would go on with the wrong address. g.mu is held
// unless ctx is that of a send.
func (g *guard) misled(ctx context.Context, err error) error {
	if sendFrom(ctx) == nil {
		g.broken = err
	}
	return g.fail(ctx, err)
}

// lids tells the guard of what fails.
type lids struct {
	store.LIDStore
	g *guard
}

func (l *lids) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	lid, err := l.LIDStore.GetLIDForPN(ctx, pn)
	if err != nil {
		defer l.g.lock(ctx)()
		err = l.g.misled(ctx, err)
	}
	return lid, err
}

func (l *lids) GetPNForLID(ctx context.Context, lid types.JID) (types.JID, error) {
	pn, err := l.LIDStore.GetPNForLID(ctx, lid)
	return pn, l.g.fail(ctx, err)
}

func (l *lids) PutLIDMapping(ctx context.Context, lid, pn types.JID) error {
	return l.g.kept(ctx, l.LIDStore.PutLIDMapping(ctx, lid, pn))
}

func (l *lids) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	return l.g.kept(ctx, l.LIDStore.PutManyLIDMappings(ctx, mappings))
}

func (g *guard) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	if g.stored(address, key) {
		return true, nil
	}
	trusted, err := g.AllSessionSpecificStores.IsTrustedIdentity(ctx, address, key)
	return trusted, g.fail(ctx, err)
}

// stored reports whether key is known to be stored for address.
func (g *guard) stored(address string, key [32]byte) bool {
	g.identitiesMu.Lock()
	defer g.identitiesMu.Unlock()
	known, ok := g.identities[address]
	return ok && known == key
}

func (g *guard) forgetIdentities() {
	g.identitiesMu.Lock()
	defer g.identitiesMu.Unlock()
	clear(g.identities)
}

// PutIdentity does not write again what is stored.
func (g *guard) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	if g.stored(address, key) {
		return nil
	}
	if sendFrom(ctx) != nil {
		ctx = Defer(ctx) // the sessions follow
	}
	if err := g.AllSessionSpecificStores.PutIdentity(ctx, address, key); err != nil {
		return g.fail(ctx, err)
	}
	g.identitiesMu.Lock()
	defer g.identitiesMu.Unlock()
	if len(g.identities) == mostIdentities {
		clear(g.identities)
	}
	g.identities[address] = key
	return nil
}

// mostIdentities bounds the memory for identities to about 2 MB.
const mostIdentities = 10_000

func (g *guard) DeleteIdentity(ctx context.Context, address string) error {
	defer g.forgetIdentities()
	return g.fail(ctx, g.AllSessionSpecificStores.DeleteIdentity(ctx, address))
}

func (g *guard) DeleteAllIdentities(ctx context.Context, phone string) error {
	defer g.forgetIdentities()
	return g.AllSessionSpecificStores.DeleteAllIdentities(ctx, phone)
}

// GetOutgoingEvent is asked for what a phone wants to be sent again, and asks for once.
func (g *guard) GetOutgoingEvent(ctx context.Context, chat, altChat types.JID, id types.MessageID) (string, []byte, error) {
	format, plaintext, err := g.AllSessionSpecificStores.GetOutgoingEvent(ctx, chat, altChat, id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, err
	}
	return format, plaintext, g.fail(ctx, err)
}

// sent notes a failure for a send. Without what was read WhatsApp may refuse the message.
func (g *guard) sent(ctx context.Context, err error) error {
	if sendFrom(ctx) == nil {
		return err
	}
	return g.fail(ctx, err)
}

func (g *guard) GetPrivacyToken(ctx context.Context, user types.JID) (*store.PrivacyToken, error) {
	token, err := g.AllSessionSpecificStores.GetPrivacyToken(ctx, user)
	return token, g.sent(ctx, err)
}

func (g *guard) GetNCTSalt(ctx context.Context) ([]byte, error) {
	salt, err := g.AllSessionSpecificStores.GetNCTSalt(ctx)
	return salt, g.sent(ctx, err)
}
