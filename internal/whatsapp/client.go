// Package whatsapp is whatsmeow at the edge: it pairs a device, keeps it connected, hands
// incoming messages to be stored before they are acknowledged, and sends.
//
// A message is acknowledged only after Options.Receive has returned nil, that is, when it is
// durable; if it fails the message stays with WhatsApp's server and comes again with the next
// connection, which the client then asks for. Permanent disconnects are states: they are kept
// across restarts and never answered with a loop of connects.
package whatsapp

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/chat"
	"wabot/internal/device"
	"wabot/internal/mask"
)

// Devices is the container of device states, as sqlstore.Container has it.
type Devices interface {
	NewDevice() *store.Device
	GetAllDevices(ctx context.Context) ([]*store.Device, error)
}

// Options are what a Client needs. All but Marks, Composes, PairPhone, HTTP, TempDir, Count, Delivered, Watch and Version are required.
type Options struct {
	Devices Devices
	Notes   Notes
	// Receive stores a message; the message is acknowledged when it and then Sync have returned nil. It must not
	// use the network beyond its database.
	Receive func(ctx context.Context, m chat.Message) error
	// Sync returns once all that was written to the store of Devices and Notes, and by Receive, is there to stay.
	Sync func(ctx context.Context) error
	// Marks, if set, is told that messages of the bot were delivered or read, and that one that came in could not be
	// decrypted or has come again. It must not block.
	Marks func([]chat.Mark)
	// Composes, if set, is told that the person with the addresses who is typing in a chat, or has stopped; see Expect.
	Composes func(ctx context.Context, chatJID string, typing bool, who ...string) error
	// Show is told of each change of the state: pairing codes, connected, ended. It must not
	// block for long.
	Show func(State)
	// PairPhone is the account's phone number in digits, to pair by code instead of by QR.
	PairPhone string
	// HTTP dials WhatsApp, nil for whatsmeow's own clients, which follow HTTPS_PROXY.
	HTTP *http.Client
	// TempDir is where media lie while they are fetched, the system's own place if empty.
	TempDir string
	// Count, if set, is told of each event. It must not block.
	Count func(Event)
	// Delivered, if set, is told how long after we first sent a message the first device of its receivers had it.
	Delivered func(after time.Duration)
	// Watch is told of what happens in the device's stores; its Outage is not used.
	Watch device.Watch
	// Version names this build: another one may connect again where WhatsApp refused this as outdated.
	Version string
	Log     *slog.Logger
}

// Client is the link of one device to WhatsApp.
type Client struct {
	Options

	showing sync.Mutex // held from a change of state until it was shown: they are shown in their order

	mu      sync.Mutex
	state   State
	changed chan struct{}     // closed at the next change of state
	clock   moment            // zero before the first connection
	wm      *whatsmeow.Client // of the device in use, nil before Run
	me      self
	idKey   []byte
	// busy counts the turns in work, and that more is expected: while there is any the account shows as available.
	busy int
	// expected are the chats in which more is expected.
	expected chan expectation

	// refused tells that a message was not taken, stored that one was.
	refused, stored chan struct{}
	// replaced tells that another connection has replaced ours.
	replaced chan struct{}
	strikes  map[string]int // failures of a message that are its own, by message ID
	// awaited are the messages that did not decrypt and were asked for again, by ID, since when.
	awaited map[string]time.Time
	// unavailable are those of them that came without their text, which only the account's phone can give; noting is held while that
	// is noted for the next start.
	unavailable map[string]unavailable
	noting      sync.Mutex
	// reuploads are those who wait for the phone to upload media again, by message ID.
	reuploads map[string][]chan *events.MediaRetry
	// undelivered are the messages of ours that no device has confirmed, by ID.
	undelivered map[string]*sent
	// unreachable are the devices, by Signal address, whose pre-keys WhatsApp does not give, and the chats for which it always says
	// that it knows other devices.
	unreachable map[string]bool
	// uneven counts the sends after which WhatsApp's server knew other devices of the receiver or of the account than whatsmeow.
	uneven atomic.Uint64
	// unkept is set where a key that a message brought could not be stored, until that message is refused.
	unkept atomic.Bool
}

// New returns a client that does nothing until Run.
func New(o Options) *Client {
	return &Client{
		Options:  o,
		state:    State{Phase: Starting, Since: time.Now()},
		changed:  make(chan struct{}),
		refused:  make(chan struct{}, 1),
		stored:   make(chan struct{}, 1),
		replaced: make(chan struct{}, 1),
		expected: make(chan expectation, 16),
		strikes:  map[string]int{},
		awaited:  map[string]time.Time{},

		unavailable: map[string]unavailable{},
		reuploads:   map[string][]chan *events.MediaRetry{},
		undelivered: map[string]*sent{},
		unreachable: map[string]bool{},
	}
}

// Name sets the name under which a device paired from now on shows in the phone's list of
// linked devices. It concerns the whole process and must be called before any Run.
func Name(name string) {
	store.SetOSInfo(name, [3]uint32{1, 0, 0})
	store.DeviceProps.PlatformType = waCompanionReg.DeviceProps_DESKTOP.Enum()
}

// UseNoiseRootKey makes the whole process trust another root of WhatsApp's transport
// certificates, for tests against a simulated server. It must be called before any Run.
func UseNoiseRootKey(key [32]byte) { whatsmeow.WACertPubKey = key }

// State returns how the link is now.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Own returns the address of the account's chat with itself, and its other address; both are empty before pairing.
func (c *Client) Own() (jid, alt string) {
	_, me := c.client()
	return address(me.lid, me.pn)
}

func (c *Client) count(e Event) {
	if c.Count != nil {
		c.Count(e)
	}
}

// set changes the state and shows it if that changed anything.
func (c *Client) set(change func(*State)) {
	c.showing.Lock()
	defer c.showing.Unlock()
	c.mu.Lock()
	before := c.state
	change(&c.state)
	if c.state.Phase != before.Phase {
		c.state.Since = time.Now()
	}
	if cut := c.state.cut(); !cut {
		c.state.Cut = time.Time{}
	} else if c.state.Cut.IsZero() {
		c.state.Cut = time.Now()
	}
	after := c.state
	if after != before {
		close(c.changed)
		c.changed = make(chan struct{})
	}
	c.mu.Unlock()
	if after != before {
		c.Show(after)
	}
}

// WaitOnline returns once the client is logged in, or with the error of ctx.
func (c *Client) WaitOnline(ctx context.Context) error {
	for {
		c.mu.Lock()
		online, changed := c.state.Phase == Online, c.changed
		c.mu.Unlock()
		if online {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitCut returns once WhatsApp could not be reached for as long as lasts, see State.Cut, or with the error of ctx.
func (c *Client) WaitCut(ctx context.Context, lasts time.Duration) error {
	for {
		c.mu.Lock()
		cut, changed := c.state.Cut, c.changed
		c.mu.Unlock()
		var due <-chan time.Time
		if !cut.IsZero() {
			due = time.After(time.Until(cut.Add(lasts)))
		}
		select {
		case <-changed:
		case <-due:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// use makes d the device of this client and builds the whatsmeow client for it.
func (c *Client) use(ctx context.Context, d *store.Device) *whatsmeow.Client {
	watch := c.Watch
	watch.Outage = func(err error) {
		if errors.Is(err, device.ErrConflict) {
			c.count(Conflicted)
			c.Log.Debug("a message came in while one was encrypted again for its sender; WhatsApp will ask for that once more", "err", err)
		} else {
			c.count(NotStored)
			c.Log.Warn("the store failed while a message was decrypted; it is not acknowledged and WhatsApp will deliver it again", "err", err)
		}
		if errors.Is(err, device.ErrNotKept) {
			c.unkept.Store(true)
		}
		tell(c.refused)
	}
	device.Guard(d, c.Sync, watch)
	wm := whatsmeow.NewClient(d, logger{c.Log, func() { tell(c.replaced) }, func() { c.uneven.Add(1) }})
	if c.HTTP != nil {
		wm.SetWebsocketHTTPClient(c.HTTP)
		wm.SetPreLoginHTTPClient(c.HTTP)
		wm.SetMediaHTTPClient(c.HTTP)
	}
	wm.BackgroundEventCtx = ctx
	wm.SynchronousAck = true
	wm.EnableDecryptedEventBuffer = true
	wm.AutomaticMessageRerequestFromPhone = true
	wm.UseRetryMessageStore = true
	wm.EnableAutoReconnect = true
	wm.InitialAutoReconnect = true
	wm.DisableLoginAutoReconnect = true
	wm.ManualHistorySyncDownload = true
	wm.SendReportingTokens = true
	wm.AutoTrustIdentity = true
	wm.AutoReconnectHook = func(err error) bool { return c.backoff(ctx, wm, err) }
	wm.PreRetryCallback = func(*events.Receipt, types.MessageID, int, *waE2E.Message) bool {
		c.count(Resent)
		return true
	}
	// One retry receipt at a time: the guard can then tell their reads apart.
	wm.SetMaxParallelRetryReceiptHandling(1)
	// The sender sees two ticks once the bot has a message, whether or not it shows as online.
	wm.SetForceActiveDeliveryReceipts(true)

	c.mu.Lock()
	c.wm = wm
	c.mu.Unlock()
	c.identify(d)
	return wm
}

// tell leaves a word in a channel that has room for one.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has been told
	}
}

// identify takes over who we are from the device.
func (c *Client) identify(d *store.Device) {
	id, lid := d.GetJID(), d.GetLID()
	c.mu.Lock()
	// All bots on one account know each other's messages, or they would answer one another. There is no
	// secret in it: whoever makes such an ID is not answered.
	c.idKey = []byte("wabot message IDs of " + id.User)
	c.me = self{pn: id.ToNonAD(), lid: lid.ToNonAD(), device: id.Device, sentByUs: c.sentByUs}
	c.mu.Unlock()
	if !id.IsEmpty() {
		c.set(func(s *State) { s.Account = id.ToNonAD().String() })
	}
}

func (c *Client) client() (*whatsmeow.Client, self) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wm, c.me
}

// The parts of a message ID of ours: the prefix of WhatsApp's web clients, random bytes, and a
// check by which the bot knows its own messages again without keeping a list of them.
const (
	idPrefix = "3EB0"
	idRandom = 6
	idCheck  = 3
)

// NewID chooses the ID of an outgoing message.
func (c *Client) NewID() string {
	raw := make([]byte, idRandom, idRandom+idCheck)
	rand.Read(raw)
	return idPrefix + strings.ToUpper(hex.EncodeToString(append(raw, c.idMAC(raw)...)))
}

// IDOf is the ID of a message that says what, and is sent at most once to a chat: the same at each call.
func (c *Client) IDOf(what string) string {
	sum := sha256.Sum256([]byte(what))
	raw := sum[:idRandom:idRandom]
	return idPrefix + strings.ToUpper(hex.EncodeToString(append(raw, c.idMAC(raw)...)))
}

func (c *Client) idMAC(random []byte) []byte {
	c.mu.Lock()
	mac := hmac.New(sha256.New, c.idKey)
	c.mu.Unlock()
	mac.Write(random)
	return mac.Sum(nil)[:idCheck]
}

// sentByUs reports whether id is one that NewID or IDOf made for this account.
func (c *Client) sentByUs(id string) bool {
	digits, ok := strings.CutPrefix(id, idPrefix)
	raw, err := hex.DecodeString(digits)
	return ok && err == nil && len(raw) == idRandom+idCheck && hmac.Equal(raw[idRandom:], c.idMAC(raw[:idRandom]))
}

// backoff caps and spreads whatsmeow's waits between reconnects: it waits two seconds times
// AutoReconnectErrors, without a limit of its own.
func (c *Client) backoff(ctx context.Context, wm *whatsmeow.Client, err error) bool {
	c.set(func(s *State) {
		s.Phase, s.Reason, s.Next = Connecting, "WhatsApp cannot be reached", "wabot keeps trying; check the network if this lasts"
	})
	c.Log.Warn("connect to WhatsApp", "err", mask.Text(err.Error()), "tries", wm.AutoReconnectErrors)
	const most = 30 * time.Second
	wm.AutoReconnectErrors = min(wm.AutoReconnectErrors, int(most/(2*time.Second)))
	return sleep(ctx, mathrand.N(time.Second)) == nil
}

// device returns the device of the store, a new one if it has none.
func (c *Client) device(ctx context.Context) (*store.Device, error) {
	all, err := c.Devices.GetAllDevices(ctx)
	if err != nil {
		return nil, fmt.Errorf("load the device: %w", err)
	}
	switch len(all) {
	case 0:
		return c.Devices.NewDevice(), nil
	case 1:
		return all[0], nil
	}
	return nil, fmt.Errorf("the store holds %d devices, wabot drives one: start with a store of its own for each account", len(all))
}

// forget deletes every device from the store. whatsmeow does so too, at the same time, but only logs it
// if it fails.
func (c *Client) forget(ctx context.Context) error {
	all, err := c.Devices.GetAllDevices(ctx)
	if err != nil {
		return fmt.Errorf("load the device to delete: %w", err)
	}
	for _, d := range all {
		if err := d.Delete(ctx); err != nil {
			return fmt.Errorf("delete the unlinked device: %w", err)
		}
	}
	return nil
}

// version is WhatsApp's web version, as cached.
type version struct {
	Version store.WAVersionContainer `json:"version"`
	At      time.Time                `json:"at"`
}

// refreshVersion sets the version that the client reports to WhatsApp: the cached one while it
// is younger than age, else the newest. A failure is logged: the built-in version mostly still does.
func (c *Client) refreshVersion(ctx context.Context, age time.Duration) {
	var v version
	ok, err := c.note(ctx, noteVersion, &v)
	if err != nil {
		c.Log.Warn("read WhatsApp's cached version", "err", err)
	}
	if !ok || time.Since(v.At) > age || time.Until(v.At) > age {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		latest, err := whatsmeow.GetLatestVersion(ctx, c.HTTP)
		cancel()
		switch {
		case err == nil:
			v = version{*latest, time.Now()}
			c.setNote(ctx, noteVersion, v)
		case !ok:
			c.Log.Warn("look up WhatsApp's web version; going on with the built-in one", "err", err)
		}
	}
	if store.GetWAVersion().LessThan(v.Version) {
		store.SetWAVersion(v.Version)
	}
	c.set(func(s *State) { s.WebVersion, s.WebVersionAt = store.GetWAVersion().String(), v.At })
	c.Log.Debug("WhatsApp web version", "version", store.GetWAVersion().String())
}

// phoneSeen takes note of a sign of life of the account's phone, which the store and the state are told at most once an hour.
func (c *Client) phoneSeen(ctx context.Context, at time.Time) {
	c.mu.Lock()
	for _, m := range c.undelivered {
		if m.taken && m.seen.IsZero() && !at.Before(m.since.Add(-time.Second)) { // which WhatsApp gives in whole seconds
			m.seen = time.Now()
		}
	}
	c.mu.Unlock()
	last := c.State().PhoneSeen
	if at.Sub(last) < time.Hour {
		return
	}
	c.set(func(s *State) { s.PhoneSeen = at })
	c.setNote(ctx, notePhone, at)
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ErrOffline says that the client is not connected: try again later.
var ErrOffline = errors.New("not connected to WhatsApp")

// RefusedError says that WhatsApp's server refused a message for good.
type RefusedError struct{ Code int }

func (e *RefusedError) Error() string {
	why := "refused"
	switch e.Code {
	case 463:
		why = "the account may not start new chats now (reach-out limit)"
	}
	return fmt.Sprintf("WhatsApp refused the message with error %d: %s", e.Code, why)
}

// Permanent reports that sending again does not help.
func (e *RefusedError) Permanent() bool { return true }
