package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/logger"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	_ "modernc.org/sqlite" // the reference's database
)

// libsignal makes its logger at the first use, unguarded, and the tests here make keys at the same time.
func init() { logger.Debug("storetest") }

// Container is a device store: whatsmeow's own sqlstore.Container and whatever does the same.
type Container interface {
	store.DeviceContainer
	NewDevice() *store.Device
	GetDevice(ctx context.Context, jid types.JID) (*store.Device, error)
	GetAllDevices(ctx context.Context) ([]*store.Device, error)
	GetFirstDevice(ctx context.Context) (*store.Device, error)
}

// Reference opens whatsmeow's own store, on SQLite, empty: what it does is right.
func Reference(t testing.TB) Container {
	t.Helper()
	return reference(t, filepath.Join(t.TempDir(), "reference.db"))
}

func reference(t testing.TB, path string) Container {
	t.Helper()
	u := url.URL{Scheme: "file", Opaque: path, RawQuery: "_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_txlock=immediate"}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		t.Fatalf("open the reference: %v", err)
	}
	t.Cleanup(func() { db.Close() })
	c := sqlstore.NewWithDB(db, "sqlite3", nil)
	if err := c.Upgrade(context.Background()); err != nil {
		t.Fatalf("open the reference: %v", err)
	}
	return c
}

// Session gives a session record that decodes, different for each n.
func Session(n byte) []byte {
	point := append([]byte{5}, bytes.Repeat([]byte{n}, 32)...)
	data, err := json.Marshal(record.SessionStructure{SessionState: &record.StateStructure{
		LocalIdentityPublic: point, RemoteIdentityPublic: point, SenderBaseKey: point,
		LocalRegistrationID: uint32(n), RootKey: point[1:], SessionVersion: 3,
		SenderChain: &record.ChainStructure{SenderRatchetKeyPublic: point, ChainKey: &chain.KeyStructure{Key: point[1:]}},
	}})
	if err != nil {
		panic(err)
	}
	return data
}

// Pair gives a device of c that is saved under the number, as pairing leaves it.
func Pair(t testing.TB, c Container, number string) *store.Device {
	t.Helper()
	d := c.NewDevice()
	Save(t, d, number)
	return d
}

// Save saves a new device under the number.
func Save(t testing.TB, d *store.Device, number string) {
	t.Helper()
	jid := types.NewADJID(number, 0, 7)
	d.ID = &jid
	d.LID = types.JID{User: "9" + number, Device: 7, Server: types.HiddenUserServer}
	d.Account = &waAdv.ADVSignedDeviceIdentity{
		Details: []byte("details"), AccountSignature: bytes.Repeat([]byte{1}, 64),
		AccountSignatureKey: bytes.Repeat([]byte{2}, 32), DeviceSignature: bytes.Repeat([]byte{3}, 64),
	}
	if err := d.Save(t.Context()); err != nil {
		t.Fatalf("save the device: %v", err)
	}
}

// Promises are what a device store keeps beyond the reference.
type Promises struct {
	// PreKeyIDs are never given out twice, whatever was removed.
	PreKeyIDs bool
	// BrokenSessions, which do not decode, count as absent.
	BrokenSessions bool
}

// Devices checks that a device store does what the reference does. open gives an empty database, and each
// call of what it returns opens that database anew, as after a restart.
func Devices(t *testing.T, open func(t *testing.T) func() Container, more Promises) {
	for _, row := range []struct {
		name string
		test func(*testing.T, *check)
	}{
		{"Device", testDevice}, {"DeleteDevice", testDeleteDevice},
		{"Identities", testIdentities}, {"Sessions", testSessions}, {"MigratePNToLID", testMigrate},
		{"PreKeys", testPreKeys}, {"SenderKeys", testSenderKeys},
		{"AppStateKeys", testAppStateKeys}, {"AppState", testAppState},
		{"Contacts", testContacts}, {"ChatSettings", testChatSettings},
		{"MessageSecrets", testSecrets}, {"PrivacyTokens", testTokens}, {"NCTSalt", testSalt},
		{"EventBuffer", testEventBuffer}, {"Decryption", testDecryption}, {"OutgoingEvents", testOutgoing}, {"LIDs", testLIDs},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			reopen := open(t)
			c := &check{T: t, ctx: t.Context(), more: more, reopen: reopen, c: reopen()}
			c.d = Pair(t, c.c, "100")
			c.other = Pair(t, c.c, "200")
			row.test(t, c)
		})
	}
}

// check is one test's database with two devices in it.
type check struct {
	*testing.T
	ctx      context.Context
	more     Promises
	reopen   func() Container
	c        Container
	d, other *store.Device
}

func (c *check) ok(err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("error: %v", err)
	}
}

func (c *check) fails(what string, err error) {
	c.Helper()
	if err == nil {
		c.Errorf("%s: no error", what)
	}
}

func (c *check) is(what string, got, want any) {
	c.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		c.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// restart opens the database again and gives the first device of the test from it.
func (c *check) restart() *store.Device {
	c.Helper()
	again := c.reopen()
	d, err := again.GetDevice(c.ctx, *c.d.ID)
	c.ok(err)
	if d == nil {
		c.Fatal("the device is gone after a restart")
	}
	return d
}

func pn(user string) types.JID  { return types.NewJID(user, types.DefaultUserServer) }
func lid(user string) types.JID { return types.NewJID(user, types.HiddenUserServer) }

func key(n byte) (k [32]byte) {
	for i := range k {
		k[i] = n
	}
	return k
}

func testDevice(t *testing.T, c *check) {
	fresh := c.c.NewDevice()
	if fresh.ID != nil || fresh.Initialized || fresh.Sessions != nil || len(fresh.AdvSecretKey) != 32 || fresh.SignedPreKey.KeyID != 1 {
		t.Errorf("a new device is %+v", fresh)
	}
	c.fails("saving a device without an ID", c.c.PutDevice(c.ctx, fresh))
	c.fails("deleting a device without an ID", c.c.DeleteDevice(c.ctx, fresh))
	if got, err := c.c.GetDevice(c.ctx, types.NewADJID("300", 0, 1)); got != nil || err != nil {
		t.Errorf("a device that is not there: %v, %v", got, err)
	}
	if got, err := c.c.GetDevice(c.ctx, c.d.ID.ToNonAD()); got != nil || err != nil {
		t.Errorf("a device by its account: %v, %v", got, err)
	}
	all, err := c.c.GetAllDevices(c.ctx)
	c.ok(err)
	c.is("devices", len(all), 2)
	first, err := c.c.GetFirstDevice(c.ctx)
	c.ok(err)
	c.is("first device", *first.ID, *c.d.ID)

	noise, identity := *c.d.NoiseKey.Priv, *c.d.IdentityKey.Priv
	c.d.PushName, c.d.BusinessName, c.d.Platform, c.d.LIDMigrationTimestamp, c.d.CompanionMetaNonce = "Bot", "Shop", "android", 1234, "nonce"
	c.d.LID = types.JID{User: "777", Device: 7, Server: types.HiddenUserServer}
	c.d.NoiseKey, c.d.RegistrationID = keys.NewKeyPair(), c.d.RegistrationID+1
	c.ok(c.d.Save(c.ctx))
	got := c.restart()
	c.is("noise key", *got.NoiseKey.Priv, noise)
	c.is("noise public key", *got.NoiseKey.Pub, *keys.NewKeyPairFromPrivateKey(noise).Pub)
	c.is("identity", *got.IdentityKey.Priv, identity)
	c.is("registration ID", got.RegistrationID, c.d.RegistrationID-1)
	c.is("signed pre-key", *got.SignedPreKey.Priv, *c.d.SignedPreKey.Priv)
	c.is("signature", *got.SignedPreKey.Signature, *c.d.SignedPreKey.Signature)
	c.is("signed pre-key ID", got.SignedPreKey.KeyID, c.d.SignedPreKey.KeyID)
	c.is("secret", got.AdvSecretKey, c.d.AdvSecretKey)
	c.is("account", got.Account.String(), c.d.Account.String())
	c.is("names", []any{got.PushName, got.BusinessName, got.Platform, got.LIDMigrationTimestamp, got.CompanionMetaNonce},
		[]any{"Bot", "Shop", "android", 1234, "nonce"})
	c.is("LID", got.LID, c.d.LID)
	c.is("initialized", got.Initialized, true)
}

func testDeleteDevice(t *testing.T, c *check) {
	d, stores := c.d, c.d.Sessions.(store.AllSessionSpecificStores)
	fill := func(s store.AllSessionSpecificStores) {
		c.ok(s.PutIdentity(c.ctx, "1:0", key(1)))
		c.ok(s.PutSession(c.ctx, "1:0", Session(1)))
		c.ok(s.PutSenderKey(c.ctx, "g@g.us", "1:0", []byte("sender")))
		_, err := s.GetOrGenPreKeys(c.ctx, 3)
		c.ok(err)
		c.ok(s.PutAppStateSyncKey(c.ctx, []byte("k"), store.AppStateSyncKey{Data: []byte("d"), Fingerprint: []byte("f"), Timestamp: 1}))
		c.ok(s.PutAppStateVersion(c.ctx, "n", 1, [128]byte{1}))
		c.ok(s.PutAppStateMutationMACs(c.ctx, "n", 1, []store.AppStateMutationMAC{{IndexMAC: bytes.Repeat([]byte{1}, 32), ValueMAC: bytes.Repeat([]byte{2}, 32)}}))
		_, _, err = s.PutPushName(c.ctx, pn("1"), "Ann")
		c.ok(err)
		c.ok(s.PutPinned(c.ctx, pn("1"), true))
		c.ok(s.PutMessageSecret(c.ctx, pn("1"), pn("1"), "M", []byte("secret")))
		c.ok(s.PutPrivacyTokens(c.ctx, store.PrivacyToken{User: pn("1"), Token: []byte("t"), Timestamp: time.Unix(5, 0)}))
		c.ok(s.PutNCTSalt(c.ctx, []byte("salt")))
		c.ok(s.PutBufferedEvent(c.ctx, key(1), []byte("text"), time.Unix(5, 0)))
		c.ok(s.AddOutgoingEvent(c.ctx, pn("1"), "M", "wa", []byte("text")))
	}
	fill(stores)
	fill(c.other.Sessions.(store.AllSessionSpecificStores))
	id := *d.ID
	c.ok(d.Delete(c.ctx))
	if got, err := c.c.GetDevice(c.ctx, id); got != nil || err != nil {
		t.Fatalf("deleted device: %v, %v", got, err)
	}
	if err := d.Save(c.ctx); !errors.Is(err, store.ErrDeviceDeleted) {
		t.Errorf("saving a deleted device: %v", err)
	}
	c.fails("a session written late", stores.PutSession(c.ctx, "2:0", Session(2)))
	c.fails("an identity written late", stores.PutIdentity(c.ctx, "2:0", key(2)))
	c.fails("a secret written late", stores.PutMessageSecret(c.ctx, pn("2"), pn("2"), "M", []byte("secret")))
	c.fails("an event written late", stores.PutBufferedEvent(c.ctx, key(2), []byte("text"), time.Unix(5, 0)))
	c.fails("a decryption ended late", stores.DoDecryptionTxn(c.ctx, func(ctx context.Context) error {
		return stores.PutSession(ctx, "2:0", Session(2))
	}))

	// Paired again under the same JID: nothing of the old one shows.
	d = Pair(t, c.c, "100")
	c.d = d
	c.empty(d, "1:0")
	for _, s := range []string{"1:0", "2:0"} {
		c.empty(c.restart(), s)
	}
	c.d = c.other
	got := c.restart()
	has, err := got.Sessions.HasSession(c.ctx, "1:0")
	c.ok(err)
	c.is("the other device's session", has, true)
	mac, err := got.AppState.GetAppStateMutationMAC(c.ctx, "n", bytes.Repeat([]byte{1}, 32))
	c.ok(err)
	c.is("the other device's MAC", len(mac), 32)
}

func (c *check) empty(d *store.Device, address string) {
	c.Helper()
	s, err := d.Sessions.GetSession(c.ctx, address)
	c.ok(err)
	trusted, err := d.Identities.IsTrustedIdentity(c.ctx, address, key(99))
	c.ok(err)
	sender, err := d.SenderKeys.GetSenderKey(c.ctx, "g@g.us", address)
	c.ok(err)
	pre, err := d.PreKeys.GetPreKey(c.ctx, 1)
	c.ok(err)
	sync, err := d.AppStateKeys.GetAllAppStateSyncKeys(c.ctx)
	c.ok(err)
	version, _, err := d.AppState.GetAppStateVersion(c.ctx, "n")
	c.ok(err)
	mac, err := d.AppState.GetAppStateMutationMAC(c.ctx, "n", bytes.Repeat([]byte{1}, 32))
	c.ok(err)
	contacts, err := d.Contacts.GetAllContacts(c.ctx)
	c.ok(err)
	settings, err := d.ChatSettings.GetChatSettings(c.ctx, pn("1"))
	c.ok(err)
	secret, _, err := d.MsgSecrets.GetMessageSecret(c.ctx, pn("1"), pn("1"), "M")
	c.ok(err)
	salt, err := d.NCTSalt.GetNCTSalt(c.ctx)
	c.ok(err)
	event, err := d.EventBuffer.GetBufferedEvent(c.ctx, key(1))
	c.ok(err)
	_, _, err = d.EventBuffer.GetOutgoingEvent(c.ctx, pn("1"), types.EmptyJID, "M")
	c.fails("an outgoing event of before", err)
	c.is("what is left", []any{s, trusted, sender, pre == nil, len(sync), version, mac, len(contacts), settings.Found, secret, salt, event == nil},
		[]any{[]byte(nil), true, []byte(nil), true, 0, 0, []byte(nil), 0, false, []byte(nil), []byte(nil), true})
}

func testIdentities(t *testing.T, c *check) {
	s := c.d.Identities
	trusted := func(d *store.Device, address string, n byte) bool {
		t.Helper()
		ok, err := d.Identities.IsTrustedIdentity(c.ctx, address, key(n))
		c.ok(err)
		return ok
	}
	c.is("unknown", trusted(c.d, "1:0", 1), true)
	c.ok(s.PutIdentity(c.ctx, "1:0", key(1)))
	c.is("same", trusted(c.d, "1:0", 1), true)
	c.is("changed", trusted(c.d, "1:0", 2), false)
	c.is("other device of the account", trusted(c.other, "1:0", 2), true)
	c.ok(s.PutIdentity(c.ctx, "1:0", key(2)))
	c.is("after the change", trusted(c.restart(), "1:0", 2), true)
	c.is("old one after the change", trusted(c.restart(), "1:0", 1), false)
	for _, address := range []string{"1:1", "11:0", "1_1:0"} {
		c.ok(s.PutIdentity(c.ctx, address, key(3)))
	}
	c.ok(s.DeleteIdentity(c.ctx, "1:0"))
	c.is("deleted", trusted(c.d, "1:0", 9), true)
	c.is("its neighbour", trusted(c.d, "1:1", 9), false)
	c.ok(s.DeleteIdentity(c.ctx, "none:0"))
	c.ok(s.DeleteAllIdentities(c.ctx, "1"))
	got := []bool{trusted(c.restart(), "1:1", 9), trusted(c.restart(), "11:0", 9), trusted(c.restart(), "1_1:0", 9)}
	c.is("after deleting a user's", got, []bool{true, false, false})
	c.is("after deleting a user's, seen by the writer", trusted(c.d, "1:1", 9), true)
}

func testSessions(t *testing.T, c *check) {
	s := c.d.Sessions
	got, err := s.GetSession(c.ctx, "1:0")
	c.ok(err)
	has, err := s.HasSession(c.ctx, "1:0")
	c.ok(err)
	many, err := s.GetManySessions(c.ctx, nil)
	c.ok(err)
	c.is("nothing there", []any{got == nil, has, many == nil}, []any{true, false, true})
	c.ok(s.PutSession(c.ctx, "1:0", Session(1)))
	c.ok(s.PutSession(c.ctx, "1:0", Session(2)))
	c.ok(s.PutManySessions(c.ctx, map[string][]byte{"1:1": Session(3), "2:0": Session(4)}))
	c.ok(s.PutManySessions(c.ctx, nil))
	for _, s := range []store.SessionStore{s, c.restart().Sessions} {
		many, err = s.GetManySessions(c.ctx, []string{"1:0", "1:1", "2:0", "3:0"})
		c.ok(err)
		c.is("many", slices.Sorted(maps.Keys(many)), []string{"1:0", "1:1", "2:0", "3:0"})
		c.is("their values", [][]byte{many["1:0"], many["1:1"], many["2:0"]}, [][]byte{Session(2), Session(3), Session(4)})
		c.is("the missing", many["3:0"] == nil, true)
		has, err = s.HasSession(c.ctx, "1:1")
		c.ok(err)
		c.is("has", has, true)
	}
	got, err = c.other.Sessions.GetSession(c.ctx, "1:0")
	c.ok(err)
	c.is("the other device's", got == nil, true)
	c.ok(s.PutManySessions(c.ctx, map[string][]byte{"11:0": Session(5), "1_1:0": Session(6)}))
	c.ok(s.DeleteSession(c.ctx, "1:0"))
	c.ok(s.DeleteSession(c.ctx, "1:0"))
	got, err = s.GetSession(c.ctx, "1:0")
	c.ok(err)
	c.is("deleted", got == nil, true)
	c.ok(s.DeleteAllSessions(c.ctx, "1"))
	for _, s := range []store.SessionStore{s, c.restart().Sessions} {
		many, err = s.GetManySessions(c.ctx, []string{"1:1", "11:0", "1_1:0", "2:0"})
		c.ok(err)
		c.is("after deleting a user's", []bool{many["1:1"] == nil, many["11:0"] == nil, many["1_1:0"] == nil, many["2:0"] == nil}, []bool{true, false, false, false})
	}
	if !c.more.BrokenSessions {
		return
	}
	for i, broken := range [][]byte{[]byte("no session"), []byte("{}"), {}} {
		address := fmt.Sprintf("%d:0", 50+i)
		c.ok(s.PutSession(c.ctx, address, broken))
		d := c.restart()
		many, err = d.Sessions.GetManySessions(c.ctx, []string{address, "2:0"})
		c.ok(err)
		value, listed := many[address]
		c.is("a broken session among many", []any{value == nil, listed, many["2:0"] == nil}, []any{true, true, false})
		has, err = d.Sessions.HasSession(c.ctx, address)
		c.ok(err)
		c.is("has a broken session", has, false)
		c.ok(d.Sessions.PutSession(c.ctx, address, Session(7)))
		got, err = c.restart().Sessions.GetSession(c.ctx, address)
		c.ok(err)
		c.is("healed", got, Session(7))
	}
}

func testMigrate(t *testing.T, c *check) {
	d := c.d
	c.ok(d.Sessions.PutManySessions(c.ctx, map[string][]byte{"1:0": Session(1), "1:5": Session(2), "9_1:0": Session(3), "11:0": Session(4)}))
	c.ok(d.Identities.PutIdentity(c.ctx, "1:0", key(1)))
	c.ok(d.Identities.PutIdentity(c.ctx, "9_1:0", key(2)))
	c.ok(d.SenderKeys.PutSenderKey(c.ctx, "g@g.us", "1:0", []byte("mine")))
	c.ok(d.SenderKeys.PutSenderKey(c.ctx, "g@g.us", "9_1:0", []byte("theirs")))
	c.ok(d.SenderKeys.PutSenderKey(c.ctx, "h@g.us", "1:5", []byte("five")))
	c.ok(d.Sessions.MigratePNToLID(c.ctx, pn("1"), lid("9")))
	for _, d := range []*store.Device{d, c.restart()} {
		many, err := d.Sessions.GetManySessions(c.ctx, []string{"1:0", "1:5", "9_1:0", "9_1:5", "11:0"})
		c.ok(err)
		c.is("phone sessions", []bool{many["1:0"] == nil, many["1:5"] == nil}, []bool{true, true})
		c.is("LID sessions", [][]byte{many["9_1:0"], many["9_1:5"], many["11:0"]}, [][]byte{Session(1), Session(2), Session(4)})
		trusted, err := d.Identities.IsTrustedIdentity(c.ctx, "9_1:0", key(1))
		c.ok(err)
		gone, err := d.Identities.IsTrustedIdentity(c.ctx, "1:0", key(77))
		c.ok(err)
		c.is("identities", []bool{trusted, gone}, []bool{true, true})
		var senders [][]byte
		for _, at := range [][2]string{{"g@g.us", "9_1:0"}, {"h@g.us", "9_1:5"}, {"g@g.us", "1:0"}, {"h@g.us", "1:5"}} {
			k, err := d.SenderKeys.GetSenderKey(c.ctx, at[0], at[1])
			c.ok(err)
			senders = append(senders, k)
		}
		c.is("sender keys", senders, [][]byte{[]byte("mine"), []byte("five"), nil, nil})
	}
	// Asked again, nothing moves, even where there is something new.
	c.ok(d.Sessions.PutSession(c.ctx, "9_1:0", Session(8)))
	c.ok(d.Sessions.MigratePNToLID(c.ctx, pn("1"), lid("9")))
	c.ok(d.Sessions.MigratePNToLID(c.ctx, pn("5"), lid("6")))
	got, err := d.Sessions.GetSession(c.ctx, "9_1:0")
	c.ok(err)
	c.is("after asking again", got, Session(8))
}

func testPreKeys(t *testing.T, c *check) {
	s := c.d.PreKeys
	ids := func(list []*keys.PreKey) (out []uint32) {
		for _, k := range list {
			out = append(out, k.KeyID)
		}
		return out
	}
	first, err := s.GetOrGenPreKeys(c.ctx, 5)
	c.ok(err)
	c.is("first", ids(first), []uint32{1, 2, 3, 4, 5})
	again, err := c.restart().PreKeys.GetOrGenPreKeys(c.ctx, 3)
	c.ok(err)
	c.is("the oldest again", ids(again), []uint32{1, 2, 3})
	c.is("the same keys", *again[1].Priv, *first[1].Priv)
	c.is("with their public part", *again[1].Pub, *first[1].Pub)
	n, err := s.UploadedPreKeyCount(c.ctx)
	c.ok(err)
	c.is("uploaded", n, 0)
	c.ok(s.MarkPreKeysAsUploaded(c.ctx, 2))
	n, err = c.restart().PreKeys.UploadedPreKeyCount(c.ctx)
	c.ok(err)
	c.is("uploaded", n, 2)
	s = c.restart().PreKeys
	more, err := s.GetOrGenPreKeys(c.ctx, 5)
	c.ok(err)
	c.is("old and new", ids(more), []uint32{3, 4, 5, 6, 7})
	one, err := s.GenOnePreKey(c.ctx)
	c.ok(err)
	c.is("one more", one.KeyID, 8)
	n, err = s.UploadedPreKeyCount(c.ctx)
	c.ok(err)
	c.is("counted as uploaded", n, 3)
	got, err := s.GetPreKey(c.ctx, 4)
	c.ok(err)
	c.is("a key that is not uploaded yet", *got.Priv, *first[3].Priv)
	got, err = s.GetPreKey(c.ctx, 99)
	c.ok(err)
	c.is("missing", got == nil, true)
	c.ok(s.RemovePreKey(c.ctx, 4))
	c.ok(s.RemovePreKey(c.ctx, 4))
	got, err = c.restart().PreKeys.GetPreKey(c.ctx, 4)
	c.ok(err)
	c.is("removed", got == nil, true)
	none, err := s.GetOrGenPreKeys(c.ctx, 0)
	c.ok(err)
	c.is("none wanted", len(none), 0)
	lone, err := c.other.PreKeys.GetOrGenPreKeys(c.ctx, 812)
	c.ok(err)
	c.is("of the other device", []int{len(lone), int(lone[0].KeyID), int(lone[811].KeyID)}, []int{812, 1, 812})
	if c.more.PreKeyIDs {
		c.ok(s.RemovePreKey(c.ctx, 8))
		one, err = c.restart().PreKeys.GenOnePreKey(c.ctx)
		c.ok(err)
		c.is("the ID after the newest was removed", one.KeyID, 9)
	}
}

func testSenderKeys(t *testing.T, c *check) {
	s := c.d.SenderKeys
	got, err := s.GetSenderKey(c.ctx, "g@g.us", "1:0")
	c.ok(err)
	c.is("missing", got == nil, true)
	c.ok(s.PutSenderKey(c.ctx, "g@g.us", "1:0", []byte("one")))
	c.ok(s.PutSenderKey(c.ctx, "g@g.us", "1:0", []byte("two")))
	c.ok(s.PutSenderKey(c.ctx, "h@g.us", "1:0", []byte("three")))
	for _, s := range []store.SenderKeyStore{s, c.restart().SenderKeys} {
		got, err = s.GetSenderKey(c.ctx, "g@g.us", "1:0")
		c.ok(err)
		c.is("stored", string(got), "two")
	}
	got, err = c.other.SenderKeys.GetSenderKey(c.ctx, "g@g.us", "1:0")
	c.ok(err)
	c.is("of the other device", got == nil, true)
}

func testAppStateKeys(t *testing.T, c *check) {
	s := c.d.AppStateKeys
	got, err := s.GetAppStateSyncKey(c.ctx, []byte{0, 1})
	c.ok(err)
	latest, err := s.GetLatestAppStateSyncKeyID(c.ctx)
	c.ok(err)
	all, err := s.GetAllAppStateSyncKeys(c.ctx)
	c.ok(err)
	c.is("nothing there", []any{got == nil, latest == nil, len(all)}, []any{true, true, 0})
	put := func(id byte, data string, at int64) {
		t.Helper()
		c.ok(s.PutAppStateSyncKey(c.ctx, []byte{0, id}, store.AppStateSyncKey{Data: []byte(data), Fingerprint: []byte("f" + data), Timestamp: at}))
	}
	put(1, "a", 10)
	put(2, "b", 30)
	put(3, "c", 20)
	put(1, "older", 9)
	put(2, "equal", 30)
	put(3, "newer", 25)
	for _, s := range []store.AppStateSyncKeyStore{s, c.restart().AppStateKeys} {
		var seen []string
		all, err = s.GetAllAppStateSyncKeys(c.ctx)
		c.ok(err)
		for _, k := range all {
			seen = append(seen, fmt.Sprint(string(k.Data), string(k.Fingerprint), k.Timestamp))
		}
		c.is("newest first", seen, []string{"bfb30", "newerfnewer25", "afa10"})
		latest, err = s.GetLatestAppStateSyncKeyID(c.ctx)
		c.ok(err)
		c.is("latest", latest, []byte{0, 2})
		got, err = s.GetAppStateSyncKey(c.ctx, []byte{0, 1})
		c.ok(err)
		c.is("by ID", string(got.Data), "a")
	}
}

func testAppState(t *testing.T, c *check) {
	s := c.d.AppState
	mac := func(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }
	value := func(index byte) []byte {
		t.Helper()
		v, err := s.GetAppStateMutationMAC(c.ctx, "n", mac(index))
		c.ok(err)
		return v
	}
	version, hash, err := s.GetAppStateVersion(c.ctx, "n")
	c.ok(err)
	c.is("missing", []any{version, hash}, []any{0, [128]byte{}})
	one := []store.AppStateMutationMAC{{IndexMAC: mac(1), ValueMAC: mac(11)}}
	c.fails("MACs without a version", s.PutAppStateMutationMACs(c.ctx, "n", 5, one))
	c.ok(s.PutAppStateMutationMACs(c.ctx, "n", 5, nil))
	c.ok(s.DeleteAppStateMutationMACs(c.ctx, "n", nil))
	c.is("missing MAC", value(1) == nil, true)
	c.ok(s.PutAppStateVersion(c.ctx, "n", 5, [128]byte{5}))
	c.ok(s.PutAppStateVersion(c.ctx, "n", 6, [128]byte{6}))
	version, hash, err = c.restart().AppState.GetAppStateVersion(c.ctx, "n")
	c.ok(err)
	c.is("version", []any{version, hash[0]}, []any{6, 6})
	c.ok(s.PutAppStateVersion(c.ctx, "zero", 0, [128]byte{1}))
	_, _, err = s.GetAppStateVersion(c.ctx, "zero")
	c.fails("version 0", err)

	c.ok(s.PutAppStateMutationMACs(c.ctx, "n", 5, one))
	c.ok(s.PutAppStateMutationMACs(c.ctx, "n", 10, []store.AppStateMutationMAC{{IndexMAC: mac(1), ValueMAC: mac(12)}, {IndexMAC: mac(2), ValueMAC: mac(22)}}))
	c.fails("the same MAC twice", s.PutAppStateMutationMACs(c.ctx, "n", 10, []store.AppStateMutationMAC{{IndexMAC: mac(3), ValueMAC: mac(33)}, {IndexMAC: mac(1), ValueMAC: mac(13)}}))
	c.is("nothing of a refused list", value(3) == nil, true)
	c.is("the newest version's", value(1), mac(12))
	c.ok(s.DeleteAppStateMutationMACs(c.ctx, "n", [][]byte{mac(1), mac(9)}))
	c.is("deleted in all versions", value(1) == nil, true)
	c.is("its neighbour", value(2), mac(22))
	lots := make([]store.AppStateMutationMAC, 1000)
	for i := range lots {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		lots[i] = store.AppStateMutationMAC{IndexMAC: sum[:], ValueMAC: sum[:]}
	}
	c.ok(s.PutAppStateMutationMACs(c.ctx, "n", 11, lots))
	got, err := c.restart().AppState.GetAppStateMutationMAC(c.ctx, "n", lots[999].IndexMAC)
	c.ok(err)
	c.is("the last of many", got, lots[999].ValueMAC)
	c.ok(s.DeleteAppStateVersion(c.ctx, "n"))
	c.ok(s.DeleteAppStateVersion(c.ctx, "n"))
	c.is("MACs go with their version", value(2) == nil, true)
	version, _, err = s.GetAppStateVersion(c.ctx, "n")
	c.ok(err)
	c.is("deleted version", version, 0)
	c.ok(s.PutAppStateVersion(c.ctx, "n", 1, [128]byte{1}))
	c.is("MACs stay gone", value(2) == nil, true)
}

func testContacts(t *testing.T, c *check) {
	s := c.d.Contacts
	none, err := s.GetContact(c.ctx, pn("1"))
	c.ok(err)
	c.is("missing", none, types.ContactInfo{})
	name := func(put func(context.Context, types.JID, string) (bool, string, error), user, name string) string {
		t.Helper()
		changed, old, err := put(c.ctx, pn(user), name)
		c.ok(err)
		return fmt.Sprintf("%v %q", changed, old)
	}
	c.is("empty name of nobody", name(s.PutPushName, "1", ""), `false ""`)
	c.is("new name", name(s.PutPushName, "1", "Ann"), `true ""`)
	c.is("same name", name(s.PutPushName, "1", "Ann"), `false ""`)
	c.is("same name after a restart", name(c.restart().Contacts.PutPushName, "1", "Ann"), `false ""`)
	c.is("changed name", name(s.PutPushName, "1", "Anna"), `true "Ann"`)
	c.is("new business name", name(s.PutBusinessName, "1", "Shop"), `true ""`)
	c.is("changed business name", name(s.PutBusinessName, "1", "Shops"), `true "Shop"`)
	c.ok(s.PutContactName(c.ctx, pn("1"), "First", "First Last"))
	c.ok(s.PutContactName(c.ctx, pn("2"), "", ""))
	want := types.ContactInfo{Found: true, FirstName: "First", FullName: "First Last", PushName: "Anna", BusinessName: "Shops"}
	for _, s := range []store.ContactStore{s, c.restart().Contacts} {
		got, err := s.GetContact(c.ctx, pn("1"))
		c.ok(err)
		c.is("contact", got, want)
	}
	var list []store.ContactEntry
	for i := range 700 {
		list = append(list, store.ContactEntry{JID: pn(fmt.Sprint(1000 + i)), FirstName: "F", FullName: "L"})
	}
	list = append(list, store.ContactEntry{JID: pn("1"), FirstName: "A", FullName: "B"}, store.ContactEntry{JID: pn("1"), FirstName: "C", FullName: "D"})
	c.ok(s.PutAllContactNames(c.ctx, list))
	c.ok(s.PutAllContactNames(c.ctx, nil))
	c.ok(s.PutManyRedactedPhones(c.ctx, nil))
	c.ok(s.PutManyRedactedPhones(c.ctx, []store.RedactedPhoneEntry{{JID: pn("1"), RedactedPhone: "+1**"}, {JID: pn("1"), RedactedPhone: "+2**"}, {JID: lid("3"), RedactedPhone: "+3**"}}))
	// Of two entries for one contact, the first is kept.
	want.FirstName, want.FullName, want.RedactedPhone = "A", "B", "+1**"
	for _, s := range []store.ContactStore{s, c.restart().Contacts} {
		got, err := s.GetContact(c.ctx, pn("1"))
		c.ok(err)
		c.is("contact after the lists", got, want)
		all, err := s.GetAllContacts(c.ctx)
		c.ok(err)
		c.is("all", len(all), 702)
		c.is("one of all", all[lid("3")], types.ContactInfo{Found: true, RedactedPhone: "+3**"})
	}
	theirs, err := c.other.Contacts.GetAllContacts(c.ctx)
	c.ok(err)
	c.is("of the other device", len(theirs), 0)
}

func testChatSettings(t *testing.T, c *check) {
	s := c.d.ChatSettings
	got, err := s.GetChatSettings(c.ctx, pn("1"))
	c.ok(err)
	c.is("missing", got, types.LocalChatSettings{})
	read := func() types.LocalChatSettings {
		t.Helper()
		got, err := c.restart().ChatSettings.GetChatSettings(c.ctx, pn("1"))
		c.ok(err)
		got.MutedUntil = got.MutedUntil.UTC()
		return got
	}
	c.ok(s.PutPinned(c.ctx, pn("1"), true))
	c.is("pinned", read(), types.LocalChatSettings{Found: true, Pinned: true})
	c.ok(s.PutArchived(c.ctx, pn("1"), true))
	c.ok(s.PutPinned(c.ctx, pn("1"), false))
	c.ok(s.PutMutedUntil(c.ctx, pn("1"), time.Unix(1234, 567)))
	c.is("archived and muted", read(), types.LocalChatSettings{Found: true, Archived: true, MutedUntil: time.Unix(1234, 0).UTC()})
	c.ok(s.PutMutedUntil(c.ctx, pn("1"), store.MutedForever))
	c.is("muted for ever", read().MutedUntil == store.MutedForever, true)
	c.ok(s.PutMutedUntil(c.ctx, pn("1"), time.Time{}))
	c.is("not muted", read().MutedUntil.IsZero(), true)
}

func testSecrets(t *testing.T, c *check) {
	s := c.d.MsgSecrets
	group := types.NewJID("5", types.GroupServer)
	get := func(chat, sender types.JID, id string) string {
		t.Helper()
		secret, real, err := s.GetMessageSecret(c.ctx, chat, sender, id)
		c.ok(err)
		return string(secret) + " " + real.String()
	}
	c.is("missing", get(group, pn("1"), "M"), " ")
	c.ok(s.PutMessageSecret(c.ctx, group, types.NewADJID("1", 0, 4), "M", []byte("first")))
	c.ok(s.PutMessageSecret(c.ctx, group, pn("1"), "M", []byte("second")))
	c.is("the first stays", get(group, types.NewADJID("1", 0, 9), "M"), "first 1@s.whatsapp.net")
	c.is("by a LID nobody knows", get(group, lid("9"), "M"), " ")
	c.ok(s.PutMessageSecrets(c.ctx, nil))
	c.ok(s.PutMessageSecrets(c.ctx, []store.MessageSecretInsert{
		{Chat: lid("9"), Sender: lid("9"), ID: "D", Secret: []byte("direct")},
		{Chat: lid("9"), Sender: lid("9"), ID: "D", Secret: []byte("twice")},
	}))
	c.ok(c.d.LIDs.PutLIDMapping(c.ctx, lid("9"), pn("1")))
	s = c.restart().MsgSecrets
	c.is("sender by the other name", get(group, lid("9"), "M"), "first 1@s.whatsapp.net")
	c.is("chat and sender by the other name", get(pn("1"), pn("1"), "D"), "direct 9@lid")
	c.is("another message", get(pn("1"), pn("1"), "E"), " ")
}

func testTokens(t *testing.T, c *check) {
	s := c.d.PrivacyTokens
	read := func(user types.JID) string {
		t.Helper()
		got, err := c.restart().PrivacyTokens.GetPrivacyToken(c.ctx, user)
		c.ok(err)
		if got == nil {
			return "none"
		}
		sender := int64(0)
		if !got.SenderTimestamp.IsZero() {
			sender = got.SenderTimestamp.Unix()
		}
		return fmt.Sprint(got.User, " ", string(got.Token), " ", got.Timestamp.Unix(), " ", sender)
	}
	put := func(user types.JID, token string, at, sender int64) {
		t.Helper()
		p := store.PrivacyToken{User: user, Token: []byte(token), Timestamp: time.Unix(at, 0)}
		if sender != 0 {
			p.SenderTimestamp = time.Unix(sender, 0)
		}
		c.ok(s.PutPrivacyTokens(c.ctx, p))
	}
	c.is("missing", read(pn("1")), "none")
	put(types.NewADJID("1", 0, 3), "a", 10, 5)
	c.is("stored", read(types.NewADJID("1", 0, 4)), "1@s.whatsapp.net a 10 5")
	put(pn("1"), "older", 9, 6)
	c.is("older", read(pn("1")), "1@s.whatsapp.net a 10 5")
	put(pn("1"), "equal", 10, 0)
	c.is("equal, without a sender's time", read(pn("1")), "1@s.whatsapp.net equal 10 5")
	put(pn("1"), "newer", 20, 15)
	c.is("newer", read(pn("1")), "1@s.whatsapp.net newer 20 15")
	put(lid("9"), "alias", 30, 0)
	c.is("no alias yet", read(pn("1")), "1@s.whatsapp.net newer 20 15")
	c.ok(c.d.LIDs.PutLIDMapping(c.ctx, lid("9"), pn("1")))
	c.is("the newest of both names", read(pn("1")), "1@s.whatsapp.net alias 30 0")
	n, err := s.DeleteExpiredPrivacyTokens(c.ctx, time.Unix(30, 0))
	c.ok(err)
	c.is("expired", n, 1)
	c.is("left", read(pn("1")), "1@s.whatsapp.net alias 30 0")
}

func testSalt(t *testing.T, c *check) {
	s := c.d.NCTSalt
	read := func() string {
		t.Helper()
		here, err := s.GetNCTSalt(c.ctx)
		c.ok(err)
		after, err := c.restart().NCTSalt.GetNCTSalt(c.ctx)
		c.ok(err)
		return fmt.Sprintf("%q %v %q %v", here, here == nil, after, after == nil)
	}
	c.is("missing", read(), `"" true "" true`)
	c.ok(s.PutNCTSalt(c.ctx, []byte("a")))
	c.ok(s.PutNCTSalt(c.ctx, []byte("b")))
	c.is("stored", read(), `"b" false "b" false`)
	c.ok(s.DeleteNCTSalt(c.ctx))
	c.ok(s.DeleteNCTSalt(c.ctx))
	c.is("deleted", read(), `"" true "" true`)
}

func testEventBuffer(t *testing.T, c *check) {
	s := c.d.EventBuffer
	got, err := s.GetBufferedEvent(c.ctx, key(1))
	c.ok(err)
	c.is("missing", got == nil, true)
	before := time.Now().Truncate(time.Millisecond)
	c.ok(s.PutBufferedEvent(c.ctx, key(1), []byte("text"), time.Unix(1234, 999)))
	c.fails("the same event twice", s.PutBufferedEvent(c.ctx, key(1), []byte("again"), time.Unix(1, 0)))
	c.ok(c.other.EventBuffer.PutBufferedEvent(c.ctx, key(1), []byte("theirs"), time.Unix(1, 0)))
	got, err = c.restart().EventBuffer.GetBufferedEvent(c.ctx, key(1))
	c.ok(err)
	c.is("stored", []any{string(got.Plaintext), got.ServerTime.Unix(), got.ServerTime.Nanosecond()}, []any{"text", 1234, 0})
	if got.InsertTime.Before(before) || got.InsertTime.After(time.Now()) {
		t.Errorf("inserted at %v", got.InsertTime)
	}
	c.ok(s.ClearBufferedEventPlaintext(c.ctx, key(1)))
	c.ok(s.ClearBufferedEventPlaintext(c.ctx, key(9)))
	got, err = c.restart().EventBuffer.GetBufferedEvent(c.ctx, key(1))
	c.ok(err)
	c.is("cleared", got.Plaintext == nil, true)
	got, err = c.other.EventBuffer.GetBufferedEvent(c.ctx, key(1))
	c.ok(err)
	c.is("the other device's", string(got.Plaintext), "theirs")
	c.ok(s.DeleteOldBufferedHashes(c.ctx))
	got, err = s.GetBufferedEvent(c.ctx, key(1))
	c.ok(err)
	c.is("young hashes stay", got != nil, true)
	got, err = s.GetBufferedEvent(c.ctx, key(9))
	c.ok(err)
	c.is("clearing makes none", got == nil, true)
}

func testDecryption(t *testing.T, c *check) {
	d := c.d
	pre, err := d.PreKeys.GetOrGenPreKeys(c.ctx, 2)
	c.ok(err)
	c.ok(d.Sessions.PutSession(c.ctx, "1:0", Session(1)))
	c.ok(d.Identities.PutIdentity(c.ctx, "1:0", key(1)))
	step := func(ctx context.Context, n byte) error {
		if got, err := d.Sessions.GetSession(ctx, "1:0"); err != nil || got == nil {
			return fmt.Errorf("session inside: %v, %w", got, err)
		}
		return errors.Join(
			d.Identities.PutIdentity(ctx, "1:0", key(n)), d.Sessions.PutSession(ctx, "1:0", Session(n)),
			d.SenderKeys.PutSenderKey(ctx, "g@g.us", "1:0", []byte{n}), d.PreKeys.RemovePreKey(ctx, pre[0].KeyID),
			d.EventBuffer.PutBufferedEvent(ctx, key(n), []byte{n}, time.Unix(5, 0)))
	}
	state := func(d *store.Device) string {
		t.Helper()
		s, err := d.Sessions.GetSession(c.ctx, "1:0")
		c.ok(err)
		trusted, err := d.Identities.IsTrustedIdentity(c.ctx, "1:0", key(2))
		c.ok(err)
		sender, err := d.SenderKeys.GetSenderKey(c.ctx, "g@g.us", "1:0")
		c.ok(err)
		k, err := d.PreKeys.GetPreKey(c.ctx, pre[0].KeyID)
		c.ok(err)
		event, err := d.EventBuffer.GetBufferedEvent(c.ctx, key(2))
		c.ok(err)
		return fmt.Sprint(bytes.Equal(s, Session(2)), trusted, sender, k == nil, event != nil)
	}
	broken := errors.New("does not decrypt")
	err = d.EventBuffer.DoDecryptionTxn(c.ctx, func(ctx context.Context) error {
		c.ok(step(ctx, 2))
		return fmt.Errorf("wrapped: %w", broken)
	})
	c.is("its error comes back", errors.Is(err, broken), true)
	c.is("after a failure", state(d), "false false [] false false")
	c.is("after a failure and a restart", state(c.restart()), "false false [] false false")

	c.ok(d.EventBuffer.DoDecryptionTxn(c.ctx, func(ctx context.Context) error {
		c.ok(step(ctx, 2))
		s, err := d.Sessions.GetSession(ctx, "1:0")
		c.ok(err)
		has, err := d.Sessions.HasSession(ctx, "1:0")
		c.ok(err)
		trusted, err := d.Identities.IsTrustedIdentity(ctx, "1:0", key(2))
		c.ok(err)
		sender, err := d.SenderKeys.GetSenderKey(ctx, "g@g.us", "1:0")
		c.ok(err)
		k, err := d.PreKeys.GetPreKey(ctx, pre[0].KeyID)
		c.ok(err)
		event, err := d.EventBuffer.GetBufferedEvent(ctx, key(2))
		c.ok(err)
		c.is("own writes", []any{bytes.Equal(s, Session(2)), has, trusted, sender, k == nil, event != nil && event.Plaintext[0] == 2}, []any{true, true, true, []byte{2}, true, true})
		return nil
	}))
	c.is("after success", state(d), "true true [2] true true")
	c.is("after success and a restart", state(c.restart()), "true true [2] true true")

	err = d.EventBuffer.DoDecryptionTxn(c.ctx, func(ctx context.Context) error {
		c.ok(d.Sessions.PutSession(ctx, "1:0", Session(9)))
		return d.EventBuffer.PutBufferedEvent(ctx, key(2), []byte("again"), time.Unix(5, 0))
	})
	c.fails("an event decrypted twice", err)
	c.is("after the second", state(c.restart()), "true true [2] true true")

	c.ok(d.EventBuffer.DoDecryptionTxn(c.ctx, func(ctx context.Context) error {
		c.ok(d.Identities.DeleteIdentity(ctx, "1:0"))
		c.ok(d.Sessions.DeleteSession(ctx, "1:0"))
		has, err := d.Sessions.HasSession(ctx, "1:0")
		c.ok(err)
		trusted, err := d.Identities.IsTrustedIdentity(ctx, "1:0", key(50))
		c.ok(err)
		c.is("deleted inside", []bool{has, trusted}, []bool{false, true})
		return d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
			return d.Sessions.PutSession(ctx, "1:0", Session(3))
		})
	}))
	got, err := c.restart().Sessions.GetSession(c.ctx, "1:0")
	c.ok(err)
	c.is("deleted and put again, in a nested one", got, Session(3))
	trusted, err := c.restart().Identities.IsTrustedIdentity(c.ctx, "1:0", key(50))
	c.ok(err)
	c.is("deleted identity", trusted, true)
}

func testOutgoing(t *testing.T, c *check) {
	s := c.d.EventBuffer
	_, _, err := s.GetOutgoingEvent(c.ctx, pn("1"), types.EmptyJID, "M")
	c.fails("missing", err)
	c.ok(s.AddOutgoingEvent(c.ctx, pn("1"), "M", "wa", []byte("one")))
	c.ok(s.AddOutgoingEvent(c.ctx, pn("1"), "M", "fb", []byte("two")))
	s = c.restart().EventBuffer
	for _, chats := range [][2]types.JID{{pn("1"), types.EmptyJID}, {lid("9"), pn("1")}} {
		format, text, err := s.GetOutgoingEvent(c.ctx, chats[0], chats[1], "M")
		c.ok(err)
		c.is("stored", format+string(text), "fbtwo")
	}
	c.ok(s.DeleteOldOutgoingEvents(c.ctx))
	_, _, err = s.GetOutgoingEvent(c.ctx, pn("1"), types.EmptyJID, "M")
	c.ok(err)
	_, _, err = s.GetOutgoingEvent(c.ctx, pn("1"), types.EmptyJID, "N")
	c.fails("another message", err)
}

func testLIDs(t *testing.T, c *check) {
	s := c.d.LIDs
	ad := func(j types.JID, device uint16) types.JID { j.Device = device; return j }
	lidOf := func(s store.LIDStore, p types.JID) string {
		t.Helper()
		got, err := s.GetLIDForPN(c.ctx, p)
		c.ok(err)
		return got.String()
	}
	pnOf := func(s store.LIDStore, l types.JID) string {
		t.Helper()
		got, err := s.GetPNForLID(c.ctx, l)
		c.ok(err)
		return got.String()
	}
	_, err := s.GetLIDForPN(c.ctx, lid("9"))
	c.fails("a LID for a LID", err)
	_, err = s.GetPNForLID(c.ctx, pn("1"))
	c.fails("a number for a number", err)
	c.fails("a mapping the wrong way round", s.PutLIDMapping(c.ctx, pn("1"), lid("9")))
	c.is("missing", lidOf(s, pn("1"))+pnOf(s, lid("9")), "")
	c.ok(s.PutLIDMapping(c.ctx, lid("9"), pn("1")))
	for _, s := range []store.LIDStore{s, c.restart().LIDs, c.other.LIDs} {
		c.is("with the device", lidOf(s, ad(pn("1"), 4))+" "+pnOf(s, ad(lid("9"), 5)), "9:4@lid 1:5@s.whatsapp.net")
	}
	// The number gets another LID, then the LID another number.
	c.ok(s.PutLIDMapping(c.ctx, lid("8"), pn("1")))
	for _, s := range []store.LIDStore{s, c.restart().LIDs} {
		c.is("another LID", lidOf(s, pn("1"))+" "+pnOf(s, lid("8"))+" "+pnOf(s, lid("9")), "8@lid 1@s.whatsapp.net ")
	}
	c.ok(s.PutLIDMapping(c.ctx, lid("8"), pn("2")))
	for _, s := range []store.LIDStore{s, c.restart().LIDs} {
		c.is("another number", lidOf(s, pn("2"))+" "+pnOf(s, lid("8"))+" "+lidOf(s, pn("1")), "8@lid 2@s.whatsapp.net ")
	}
	c.ok(s.PutManyLIDMappings(c.ctx, []store.LIDMapping{
		{LID: lid("20"), PN: pn("10")}, {LID: lid("21"), PN: pn("11")}, {LID: lid("20"), PN: pn("10")}, {LID: pn("1"), PN: lid("2")}, {LID: lid("8"), PN: pn("2")},
	}))
	c.ok(s.PutManyLIDMappings(c.ctx, nil))
	for _, s := range []store.LIDStore{c.restart().LIDs, s} {
		many, err := s.GetManyLIDsForPNs(c.ctx, []types.JID{pn("10"), ad(pn("10"), 3), pn("11"), pn("404"), lid("20")})
		c.ok(err)
		c.is("many", many, map[types.JID]types.JID{pn("10"): lid("20"), ad(pn("10"), 3): ad(lid("20"), 3), pn("11"): lid("21")})
		none, err := s.GetManyLIDsForPNs(c.ctx, nil)
		c.ok(err)
		c.is("none", len(none), 0)
	}
}
