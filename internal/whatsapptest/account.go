package whatsapptest

import (
	"fmt"
	"slices"
	"strconv"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// account is one WhatsApp number. Its pn, lid, name and identity never change and may be read
// without a lock; everything else belongs to Server.mu.
type account struct {
	// pn and lid are the account's two addresses, both without a device.
	pn, lid types.JID
	// name is the push name that its messages carry as notify.
	name string
	// identity is the phone's identity key. It is the Signal identity of device 0 and signs
	// the account's companions, so it belongs to the phone; the server only looks at Pub.
	identity *keys.KeyPair

	devices     map[uint16]*device
	collections map[string]*collection
	privacy     map[string]string
	blocked     []types.JID
	about       string
	// present is set from presence available until unavailable or the end of that connection.
	present *link
	// seen is when present last changed, in unix seconds; 0 if it never did.
	seen int64
}

// device is one registered device of an account: what others need to write to it, the
// stanzas it has not acknowledged, and its connection while it has one. account and id never
// change; everything else belongs to Server.mu.
type device struct {
	account *account
	id      uint16
	deviceKeys

	// noise is the static key that a socket must show to log in as this device; zero for a
	// device that lives in the process and only ever attaches.
	noise [32]byte
	// queue is what was sent to the device and not yet acknowledged, oldest first.
	queue []waBinary.Node
	// sent is the last messages sent to the device, acknowledged or not, oldest first.
	sent []waBinary.Node
	// ledger is the counters of the ciphertexts that were carried to the device.
	ledger ledger
	// link is the device's connection, nil while it has none. A connection is here from its
	// login on; stanzas flow once link.active is set.
	link *link
	// removed is set once the device was unlinked: it never logs in again.
	removed bool
}

// deviceKeys is the public side of a device.
type deviceKeys struct {
	registrationID uint32
	identity       [32]byte
	signedPreKey   publicPreKey
	// preKeys are the one-time keys left; each is handed out once, from the front.
	preKeys []publicPreKey
	// advIdentity is the companion's ADVSignedDeviceIdentity with all four fields,
	// marshalled; nil for device 0.
	advIdentity []byte
	// keyIndex is the key index of advIdentity's details; 0 for device 0.
	keyIndex uint32
}

// publicPreKey is a pre-key as the server sees it. signature is zero for one-time keys.
type publicPreKey struct {
	id        uint32
	public    [32]byte
	signature [64]byte
}

// collection is one app-state collection: patches[i] is the SyncdPatch of version i+1.
type collection struct {
	patches [][]byte
}

// pnJID is the device's address by phone number; without a device part for device 0.
func (d *device) pnJID() types.JID {
	jid := d.account.pn
	jid.Device = d.id
	return jid
}

// lidJID is the device's hidden address; without a device part for device 0.
func (d *device) lidJID() types.JID {
	jid := d.account.lid
	jid.Device = d.id
	return jid
}

// address is the device's address in the addressing of like: its LID where like is one.
func (d *device) address(like types.JID) types.JID {
	if like.Server == types.HiddenUserServer {
		return d.lidJID()
	}
	return d.pnJID()
}

// address is the account's address, without a device, in the addressing of like.
func (a *account) address(like types.JID) types.JID {
	if like.Server == types.HiddenUserServer {
		return a.lid
	}
	return a.pn
}

// others is the account's devices except d, by id.
func (a *account) others(d *device) []*device {
	return slices.DeleteFunc(a.sorted(), func(o *device) bool { return o == d })
}

// sorted is the account's devices by id.
func (a *account) sorted() []*device {
	all := make([]*device, 0, len(a.devices))
	for _, d := range a.devices {
		all = append(all, d)
	}
	slices.SortFunc(all, func(x, y *device) int { return int(x.id) - int(y.id) })
	return all
}

// addAccount opens an account: number is digits, the PN is number@s.whatsapp.net, the LID is
// made up and distinct, identity is new. It has no device yet: the phone registers itself as
// device 0 with registerDevice (identity.Pub as its identity), or nobody can write to it. It
// fails if the number is not digits or taken.
func (s *Server) addAccount(number, name string) (*account, error) {
	if _, err := strconv.ParseUint(number, 10, 64); err != nil || number[0] == '0' {
		return nil, fmt.Errorf("add account: %q is not an international number in digits", number)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pn := types.NewJID(number, types.DefaultUserServer)
	if s.accounts[pn] != nil {
		return nil, fmt.Errorf("add account: %s is taken", number)
	}
	s.lids++
	a := &account{
		pn:          pn,
		lid:         types.NewJID(strconv.FormatUint(200_000_000_000_000+s.lids*7919, 10), types.HiddenUserServer),
		name:        name,
		identity:    keys.NewKeyPair(),
		devices:     map[uint16]*device{},
		collections: map[string]*collection{},
		privacy:     map[string]string{},
	}
	s.accounts[a.pn], s.accounts[a.lid] = a, a
	return a, nil
}

// registerDevice gives the account a device, in place of a removed one with the same id, and
// tells those who may hold a list of the account's devices. Device 0 is the phone.
func (s *Server) registerDevice(a *account, id uint16, k deviceKeys) *device {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.register(a, id, k, [32]byte{})
}

// register is registerDevice for callers that hold s.mu.
func (s *Server) register(a *account, id uint16, k deviceKeys, noise [32]byte) *device {
	d := &device{account: a, id: id, deviceKeys: k, noise: noise}
	a.devices[id] = d
	if id != 0 {
		s.announceDevices(a)
	}
	s.changed()
	return d
}

// freeDeviceID is an id that the account has never given to a companion.
func (s *Server) freeDeviceID(a *account) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.companions[a]++
	return s.companions[a]
}

// unlink removes a companion: its connection gets stream error 401 device_removed, its keys
// and queue are gone, others are told the new device list, and its later logins fail with 401.
// Unlinking a removed device does nothing.
func (s *Server) unlink(d *device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(d)
}

// remove is unlink for callers that hold s.mu.
func (s *Server) remove(d *device) {
	if d.removed {
		return
	}
	d.removed, d.queue = true, nil
	if d.account.devices[d.id] == d {
		delete(d.account.devices, d.id)
	}
	if d.link != nil {
		d.link.end(streamError("401", waBinary.Node{Tag: "conflict", Attrs: waBinary.Attrs{"type": "device_removed"}}))
	}
	s.announceDevices(d.account)
	s.changed()
}

// accountOf finds the account of a user's or device's address, of either kind; nil if there
// is none. The caller holds s.mu.
func (s *Server) accountOf(jid types.JID) *account {
	return s.accounts[types.NewJID(jid.User, jid.Server)]
}

// deviceOf finds the device with that address, of either kind; nil if there is none. The
// caller holds s.mu.
func (s *Server) deviceOf(jid types.JID) *device {
	if a := s.accountOf(jid); a != nil {
		return a.devices[jid.Device]
	}
	return nil
}

// findAccount is accountOf for callers that do not hold s.mu.
func (s *Server) findAccount(jid types.JID) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accountOf(jid)
}

// announceDevices tells everyone that the account's devices have changed: others by an update
// that makes them drop their cached list, the account's own devices by the new list. The
// caller holds s.mu.
func (s *Server) announceDevices(a *account) {
	if s.faults.untold {
		return
	}
	for _, jid := range []types.JID{a.lid, a.pn} {
		attrs := waBinary.Attrs{"from": jid, "type": "devices"}
		if jid == a.pn {
			attrs["lid"] = a.lid
		}
		update := waBinary.Node{Tag: "update", Attrs: waBinary.Attrs{"device_hash": participantHash(a.addresses(jid))}}
		for other := range s.everyone() {
			if other == a {
				continue
			}
			for _, d := range other.sorted() {
				s.notify(d, attrs, update)
			}
		}
	}
	list := waBinary.Node{Tag: "devices", Attrs: waBinary.Attrs{"dhash": participantHash(a.addresses(a.pn))}}
	var jids []waBinary.Node
	for _, d := range a.sorted() {
		n := waBinary.Node{Tag: "device", Attrs: waBinary.Attrs{"jid": d.pnJID()}}
		if d.id != 0 {
			n.Attrs["key-index"] = d.keyIndex
		}
		jids = append(jids, n)
	}
	list.Content = jids
	for _, d := range a.sorted() {
		s.notify(d, waBinary.Attrs{"from": a.pn, "type": "account_sync"}, list)
	}
}

// addresses is the addresses of all devices of the account, in the addressing of like.
func (a *account) addresses(like types.JID) []types.JID {
	var jids []types.JID
	for _, d := range a.sorted() {
		jids = append(jids, d.address(like))
	}
	return jids
}
