package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"

	"wabot/internal/app"
	"wabot/internal/chat"
	"wabot/internal/whatsapp"
)

// verdict is what becomes of a call of the store.
type verdict byte

const (
	pass       verdict = 'p'
	failBefore verdict = 'b' // not done
	failAfter  verdict = 'a' // done, but said it failed
)

// gate asks a test, in another process, about every call of the store.
type gate struct {
	mu     sync.Mutex
	conn   net.Conn
	answer *bufio.Reader
}

// openGate is a gate to the test that listens at the address.
func openGate(address string) (*gate, error) {
	conn, err := net.Dial("tcp", address)
	return &gate{conn: conn, answer: bufio.NewReader(conn)}, err
}

// ask waits for the verdict on a call. When the test is over nobody gives one.
func (g *gate) ask(call string) verdict {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, err := g.conn.Write([]byte(call + "\n")); err != nil {
		return pass
	}
	v, err := g.answer.ReadByte()
	if err != nil {
		return pass
	}
	return verdict(v)
}

// errFault is what a store says that fails.
var errFault = errors.New("no space left on device")

func (g *gate) do(call string, f func() error) error {
	switch g.ask(call) {
	case failBefore:
		return errFault
	case failAfter:
		f()
		return errFault
	}
	return f()
}

// control is the test's side of the gates.
type control struct {
	listener net.Listener

	mu sync.Mutex                // held while a call is decided on
	at func(call string) verdict // nil: all pass
}

// newControl listens for gates until its listener is closed.
func newControl() (*control, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &control{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return c, nil
}

func (c *control) serve(conn net.Conn) {
	defer conn.Close()
	calls := bufio.NewReader(conn)
	for {
		call, err := calls.ReadString('\n')
		if err != nil {
			return
		}
		c.mu.Lock()
		v := pass
		if c.at != nil {
			v = c.at(strings.TrimSpace(call))
		}
		c.mu.Unlock()
		if _, err := conn.Write([]byte{byte(v)}); err != nil {
			return
		}
	}
}

// on sets who decides on each call from now on; nil lets all pass.
func (c *control) on(at func(call string) verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

// calledStore is a store, each call of which passes the gate: of the inbox, the notes and the device.
type calledStore struct {
	app.Store
	*gate
}

func (s calledStore) Put(ctx context.Context, m chat.Message, now time.Time) error {
	return s.do("Put", func() error { return s.Store.Put(ctx, m, now) })
}

func (s calledStore) Claim(ctx context.Context, now, until time.Time) (got chat.Turn, err error) {
	err = s.do("Claim", func() error {
		got, err = s.Store.Claim(ctx, now, until)
		return err
	})
	return got, err
}

func (s calledStore) History(ctx context.Context, chatJID string, n int) (got []chat.Exchange, err error) {
	err = s.do("History", func() error {
		got, err = s.Store.History(ctx, chatJID, n)
		return err
	})
	return got, err
}

func (s calledStore) SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) error {
	return s.do("SaveReply", func() error { return s.Store.SaveReply(ctx, t, r) })
}

func (s calledStore) Finish(ctx context.Context, t chat.Turn, now time.Time) error {
	return s.do("Finish", func() error { return s.Store.Finish(ctx, t, now) })
}

func (s calledStore) Retry(ctx context.Context, t chat.Turn, at time.Time) error {
	return s.do("Retry", func() error { return s.Store.Retry(ctx, t, at) })
}

func (s calledStore) Find(ctx context.Context, like chat.Message) (got chat.Exchange, err error) {
	err = s.do("Find", func() error {
		got, err = s.Store.Find(ctx, like)
		return err
	})
	return got, err
}

func (s calledStore) Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error {
	return s.do("Amend", func() error { return s.Store.Amend(ctx, messages, r) })
}

func (s calledStore) Extend(ctx context.Context, chatJID string, who []string, until time.Time) (done bool, err error) {
	err = s.do("Extend", func() error {
		done, err = s.Store.Extend(ctx, chatJID, who, until)
		return err
	})
	return done, err
}

func (s calledStore) Heard(ctx context.Context, chatJID string) (got []chat.Message, err error) {
	err = s.do("Heard", func() error {
		got, err = s.Store.Heard(ctx, chatJID)
		return err
	})
	return got, err
}

func (s calledStore) SetHeard(ctx context.Context, chatJID string, all []chat.Message) error {
	return s.do("SetHeard", func() error { return s.Store.SetHeard(ctx, chatJID, all) })
}

func (s calledStore) Note(ctx context.Context, key string) (got []byte, err error) {
	err = s.do("Note", func() error {
		got, err = s.Store.Note(ctx, key)
		return err
	})
	return got, err
}

func (s calledStore) SetNote(ctx context.Context, key string, value []byte) error {
	return s.do("SetNote", func() error { return s.Store.SetNote(ctx, key, value) })
}

func (s calledStore) Devices() whatsapp.Devices { return calledDevices{s.Store.Devices(), s.gate} }

// calledDevices puts the gate into the devices of a store.
type calledDevices struct {
	whatsapp.Devices
	*gate
}

func (s calledDevices) NewDevice() *store.Device {
	d := s.Devices.NewDevice()
	d.Container = calledContainer{d.Container, s.gate}
	return d
}

func (s calledDevices) GetAllDevices(ctx context.Context) (all []*store.Device, err error) {
	err = s.do("GetAllDevices", func() error {
		all, err = s.Devices.GetAllDevices(ctx)
		return err
	})
	for _, d := range all {
		d.Container = calledContainer{d.Container, s.gate}
		s.put(d)
	}
	return all, err
}

// put puts the gate into a device with its stores.
func (g *gate) put(d *store.Device) {
	d.SetAllStores(calledDevice{d.Sessions.(store.AllSessionSpecificStores), g})
	d.LIDs = calledLIDs{d.LIDs, g}
}

type calledContainer struct {
	store.DeviceContainer
	*gate
}

func (s calledContainer) PutDevice(ctx context.Context, d *store.Device) error {
	initialized := d.Initialized
	err := s.do("PutDevice", func() error { return s.DeviceContainer.PutDevice(ctx, d) })
	if !initialized && d.Initialized {
		s.put(d)
	}
	return err
}

type calledLIDs struct {
	store.LIDStore
	*gate
}

func (s calledLIDs) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	return s.do("PutManyLIDMappings", func() error { return s.LIDStore.PutManyLIDMappings(ctx, mappings) })
}

func (s calledLIDs) PutLIDMapping(ctx context.Context, lid, jid types.JID) error {
	return s.do("PutLIDMapping", func() error { return s.LIDStore.PutLIDMapping(ctx, lid, jid) })
}

func (s calledLIDs) GetPNForLID(ctx context.Context, lid types.JID) (got types.JID, err error) {
	err = s.do("GetPNForLID", func() error {
		got, err = s.LIDStore.GetPNForLID(ctx, lid)
		return err
	})
	return got, err
}

func (s calledLIDs) GetLIDForPN(ctx context.Context, pn types.JID) (got types.JID, err error) {
	err = s.do("GetLIDForPN", func() error {
		got, err = s.LIDStore.GetLIDForPN(ctx, pn)
		return err
	})
	return got, err
}

func (s calledLIDs) GetManyLIDsForPNs(ctx context.Context, pns []types.JID) (got map[types.JID]types.JID, err error) {
	err = s.do("GetManyLIDsForPNs", func() error {
		got, err = s.LIDStore.GetManyLIDsForPNs(ctx, pns)
		return err
	})
	return got, err
}

// calledDevice is a device's store, each call of which passes the gate.
type calledDevice struct {
	store.AllSessionSpecificStores
	*gate
}

func (s calledDevice) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	return s.do("PutIdentity", func() error { return s.AllSessionSpecificStores.PutIdentity(ctx, address, key) })
}

func (s calledDevice) DeleteAllIdentities(ctx context.Context, phone string) error {
	return s.do("DeleteAllIdentities", func() error { return s.AllSessionSpecificStores.DeleteAllIdentities(ctx, phone) })
}

func (s calledDevice) DeleteIdentity(ctx context.Context, address string) error {
	return s.do("DeleteIdentity", func() error { return s.AllSessionSpecificStores.DeleteIdentity(ctx, address) })
}

func (s calledDevice) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (got bool, err error) {
	err = s.do("IsTrustedIdentity", func() error {
		got, err = s.AllSessionSpecificStores.IsTrustedIdentity(ctx, address, key)
		return err
	})
	return got, err
}

func (s calledDevice) GetSession(ctx context.Context, address string) (got []byte, err error) {
	err = s.do("GetSession", func() error {
		got, err = s.AllSessionSpecificStores.GetSession(ctx, address)
		return err
	})
	return got, err
}

func (s calledDevice) HasSession(ctx context.Context, address string) (got bool, err error) {
	err = s.do("HasSession", func() error {
		got, err = s.AllSessionSpecificStores.HasSession(ctx, address)
		return err
	})
	return got, err
}

func (s calledDevice) GetManySessions(ctx context.Context, addresses []string) (got map[string][]byte, err error) {
	err = s.do("GetManySessions", func() error {
		got, err = s.AllSessionSpecificStores.GetManySessions(ctx, addresses)
		return err
	})
	return got, err
}

func (s calledDevice) PutSession(ctx context.Context, address string, session []byte) error {
	return s.do("PutSession", func() error { return s.AllSessionSpecificStores.PutSession(ctx, address, session) })
}

func (s calledDevice) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	return s.do("PutManySessions", func() error { return s.AllSessionSpecificStores.PutManySessions(ctx, sessions) })
}

func (s calledDevice) DeleteAllSessions(ctx context.Context, phone string) error {
	return s.do("DeleteAllSessions", func() error { return s.AllSessionSpecificStores.DeleteAllSessions(ctx, phone) })
}

func (s calledDevice) DeleteSession(ctx context.Context, address string) error {
	return s.do("DeleteSession", func() error { return s.AllSessionSpecificStores.DeleteSession(ctx, address) })
}

func (s calledDevice) MigratePNToLID(ctx context.Context, pn, lid types.JID) error {
	return s.do("MigratePNToLID", func() error { return s.AllSessionSpecificStores.MigratePNToLID(ctx, pn, lid) })
}

func (s calledDevice) GetOrGenPreKeys(ctx context.Context, count uint32) (got []*keys.PreKey, err error) {
	err = s.do("GetOrGenPreKeys", func() error {
		got, err = s.AllSessionSpecificStores.GetOrGenPreKeys(ctx, count)
		return err
	})
	return got, err
}

func (s calledDevice) GenOnePreKey(ctx context.Context) (got *keys.PreKey, err error) {
	err = s.do("GenOnePreKey", func() error {
		got, err = s.AllSessionSpecificStores.GenOnePreKey(ctx)
		return err
	})
	return got, err
}

func (s calledDevice) GetPreKey(ctx context.Context, id uint32) (got *keys.PreKey, err error) {
	err = s.do("GetPreKey", func() error {
		got, err = s.AllSessionSpecificStores.GetPreKey(ctx, id)
		return err
	})
	return got, err
}

func (s calledDevice) RemovePreKey(ctx context.Context, id uint32) error {
	return s.do("RemovePreKey", func() error { return s.AllSessionSpecificStores.RemovePreKey(ctx, id) })
}

func (s calledDevice) MarkPreKeysAsUploaded(ctx context.Context, upToID uint32) error {
	return s.do("MarkPreKeysAsUploaded", func() error { return s.AllSessionSpecificStores.MarkPreKeysAsUploaded(ctx, upToID) })
}

func (s calledDevice) UploadedPreKeyCount(ctx context.Context) (got int, err error) {
	err = s.do("UploadedPreKeyCount", func() error {
		got, err = s.AllSessionSpecificStores.UploadedPreKeyCount(ctx)
		return err
	})
	return got, err
}

func (s calledDevice) PutSenderKey(ctx context.Context, group, user string, session []byte) error {
	return s.do("PutSenderKey", func() error { return s.AllSessionSpecificStores.PutSenderKey(ctx, group, user, session) })
}

func (s calledDevice) GetSenderKey(ctx context.Context, group, user string) (got []byte, err error) {
	err = s.do("GetSenderKey", func() error {
		got, err = s.AllSessionSpecificStores.GetSenderKey(ctx, group, user)
		return err
	})
	return got, err
}

func (s calledDevice) PutAppStateSyncKey(ctx context.Context, id []byte, key store.AppStateSyncKey) error {
	return s.do("PutAppStateSyncKey", func() error { return s.AllSessionSpecificStores.PutAppStateSyncKey(ctx, id, key) })
}

func (s calledDevice) GetAppStateSyncKey(ctx context.Context, id []byte) (got *store.AppStateSyncKey, err error) {
	err = s.do("GetAppStateSyncKey", func() error {
		got, err = s.AllSessionSpecificStores.GetAppStateSyncKey(ctx, id)
		return err
	})
	return got, err
}

func (s calledDevice) GetLatestAppStateSyncKeyID(ctx context.Context) (got []byte, err error) {
	err = s.do("GetLatestAppStateSyncKeyID", func() error {
		got, err = s.AllSessionSpecificStores.GetLatestAppStateSyncKeyID(ctx)
		return err
	})
	return got, err
}

func (s calledDevice) GetAllAppStateSyncKeys(ctx context.Context) (got []*store.AppStateSyncKey, err error) {
	err = s.do("GetAllAppStateSyncKeys", func() error {
		got, err = s.AllSessionSpecificStores.GetAllAppStateSyncKeys(ctx)
		return err
	})
	return got, err
}

func (s calledDevice) PutAppStateVersion(ctx context.Context, name string, version uint64, hash [128]byte) error {
	return s.do("PutAppStateVersion", func() error { return s.AllSessionSpecificStores.PutAppStateVersion(ctx, name, version, hash) })
}

func (s calledDevice) GetAppStateVersion(ctx context.Context, name string) (got uint64, more [128]byte, err error) {
	err = s.do("GetAppStateVersion", func() error {
		got, more, err = s.AllSessionSpecificStores.GetAppStateVersion(ctx, name)
		return err
	})
	return got, more, err
}

func (s calledDevice) PutAppStateMutationMACs(ctx context.Context, name string, version uint64, mutations []store.AppStateMutationMAC) error {
	return s.do("PutAppStateMutationMACs", func() error { return s.AllSessionSpecificStores.PutAppStateMutationMACs(ctx, name, version, mutations) })
}

func (s calledDevice) DeleteAppStateMutationMACs(ctx context.Context, name string, indexMACs [][]byte) error {
	return s.do("DeleteAppStateMutationMACs", func() error { return s.AllSessionSpecificStores.DeleteAppStateMutationMACs(ctx, name, indexMACs) })
}

func (s calledDevice) GetAppStateMutationMAC(ctx context.Context, name string, indexMAC []byte) (got []byte, err error) {
	err = s.do("GetAppStateMutationMAC", func() error {
		got, err = s.AllSessionSpecificStores.GetAppStateMutationMAC(ctx, name, indexMAC)
		return err
	})
	return got, err
}

func (s calledDevice) PutPushName(ctx context.Context, user types.JID, pushName string) (got bool, more string, err error) {
	err = s.do("PutPushName", func() error {
		got, more, err = s.AllSessionSpecificStores.PutPushName(ctx, user, pushName)
		return err
	})
	return got, more, err
}

func (s calledDevice) PutBusinessName(ctx context.Context, user types.JID, businessName string) (got bool, more string, err error) {
	err = s.do("PutBusinessName", func() error {
		got, more, err = s.AllSessionSpecificStores.PutBusinessName(ctx, user, businessName)
		return err
	})
	return got, more, err
}

func (s calledDevice) GetContact(ctx context.Context, user types.JID) (got types.ContactInfo, err error) {
	err = s.do("GetContact", func() error {
		got, err = s.AllSessionSpecificStores.GetContact(ctx, user)
		return err
	})
	return got, err
}

func (s calledDevice) PutMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID, secret []byte) error {
	return s.do("PutMessageSecret", func() error { return s.AllSessionSpecificStores.PutMessageSecret(ctx, chat, sender, id, secret) })
}

func (s calledDevice) GetMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID) (got []byte, more types.JID, err error) {
	err = s.do("GetMessageSecret", func() error {
		got, more, err = s.AllSessionSpecificStores.GetMessageSecret(ctx, chat, sender, id)
		return err
	})
	return got, more, err
}

func (s calledDevice) PutPrivacyTokens(ctx context.Context, tokens ...store.PrivacyToken) error {
	return s.do("PutPrivacyTokens", func() error { return s.AllSessionSpecificStores.PutPrivacyTokens(ctx, tokens...) })
}

func (s calledDevice) GetPrivacyToken(ctx context.Context, user types.JID) (got *store.PrivacyToken, err error) {
	err = s.do("GetPrivacyToken", func() error {
		got, err = s.AllSessionSpecificStores.GetPrivacyToken(ctx, user)
		return err
	})
	return got, err
}

func (s calledDevice) DeleteExpiredPrivacyTokens(ctx context.Context, cutoff time.Time) (got int64, err error) {
	err = s.do("DeleteExpiredPrivacyTokens", func() error {
		got, err = s.AllSessionSpecificStores.DeleteExpiredPrivacyTokens(ctx, cutoff)
		return err
	})
	return got, err
}

func (s calledDevice) PutNCTSalt(ctx context.Context, salt []byte) error {
	return s.do("PutNCTSalt", func() error { return s.AllSessionSpecificStores.PutNCTSalt(ctx, salt) })
}

func (s calledDevice) GetNCTSalt(ctx context.Context) (got []byte, err error) {
	err = s.do("GetNCTSalt", func() error {
		got, err = s.AllSessionSpecificStores.GetNCTSalt(ctx)
		return err
	})
	return got, err
}

func (s calledDevice) DeleteNCTSalt(ctx context.Context) error {
	return s.do("DeleteNCTSalt", func() error { return s.AllSessionSpecificStores.DeleteNCTSalt(ctx) })
}

func (s calledDevice) GetBufferedEvent(ctx context.Context, ciphertextHash [32]byte) (got *store.BufferedEvent, err error) {
	err = s.do("GetBufferedEvent", func() error {
		got, err = s.AllSessionSpecificStores.GetBufferedEvent(ctx, ciphertextHash)
		return err
	})
	return got, err
}

func (s calledDevice) PutBufferedEvent(ctx context.Context, ciphertextHash [32]byte, plaintext []byte, serverTimestamp time.Time) error {
	return s.do("PutBufferedEvent", func() error {
		return s.AllSessionSpecificStores.PutBufferedEvent(ctx, ciphertextHash, plaintext, serverTimestamp)
	})
}

func (s calledDevice) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	return s.do("DoDecryptionTxn", func() error { return s.AllSessionSpecificStores.DoDecryptionTxn(ctx, fn) })
}

func (s calledDevice) ClearBufferedEventPlaintext(ctx context.Context, ciphertextHash [32]byte) error {
	return s.do("ClearBufferedEventPlaintext", func() error { return s.AllSessionSpecificStores.ClearBufferedEventPlaintext(ctx, ciphertextHash) })
}

func (s calledDevice) DeleteOldBufferedHashes(ctx context.Context) error {
	return s.do("DeleteOldBufferedHashes", func() error { return s.AllSessionSpecificStores.DeleteOldBufferedHashes(ctx) })
}

func (s calledDevice) GetOutgoingEvent(ctx context.Context, chatJID, altChatJID types.JID, id types.MessageID) (got string, more []byte, err error) {
	err = s.do("GetOutgoingEvent", func() error {
		got, more, err = s.AllSessionSpecificStores.GetOutgoingEvent(ctx, chatJID, altChatJID, id)
		return err
	})
	return got, more, err
}

func (s calledDevice) AddOutgoingEvent(ctx context.Context, chatJID types.JID, id types.MessageID, format string, plaintext []byte) error {
	return s.do("AddOutgoingEvent", func() error { return s.AllSessionSpecificStores.AddOutgoingEvent(ctx, chatJID, id, format, plaintext) })
}

func (s calledDevice) DeleteOldOutgoingEvents(ctx context.Context) error {
	return s.do("DeleteOldOutgoingEvents", func() error { return s.AllSessionSpecificStores.DeleteOldOutgoingEvents(ctx) })
}
