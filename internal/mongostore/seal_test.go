package mongostore

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"

	"wabot/internal/mongotest"
	"wabot/internal/storetest"
	"wabot/internal/transfer"
)

func testKey(n byte) []byte { return bytes.Repeat([]byte{n}, KeySize) }

// withKeys are the options with a key, and those before it; nil for none.
func withKeys(key []byte, old ...[]byte) func(*Options) {
	return func(o *Options) { o.Key, o.OldKeys = key, old }
}

// sealedStore is a store that seals, as after a start.
func sealedStore(t testing.TB, url string, change func(*Options)) *Store {
	t.Helper()
	s := open(t, url, change)
	if _, err := s.Reseal(t.Context()); err != nil {
		t.Fatalf("reseal: %v", err)
	}
	return s
}

func TestDevicesSealed(t *testing.T) {
	t.Parallel()
	storetest.Devices(t, func(t *testing.T) func() storetest.Container {
		url := mongotest.New(t)
		return func() storetest.Container { return sealedStore(t, url, withKeys(testKey(1))).Devices() }
	}, storetest.Promises{PreKeyIDs: true, BrokenSessions: true})
}

func TestDevicesLikeTheReferenceSealed(t *testing.T) {
	t.Parallel()
	storetest.Compare(t, sealedStore(t, mongotest.New(t), withKeys(testKey(1))).Devices())
}

// secretBytes are the secrets that furnish puts into a store, but for the device's own keys.
var secretBytes = []byte("not for the eyes of whoever reads it")

// furnish links a device and gives it something of each kind with a secret.
func furnish(t *testing.T, s *Store) *store.Device {
	t.Helper()
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	d := storetest.Pair(t, s.Devices(), "4915112345678")
	ann, group := types.NewJID("100", types.DefaultUserServer), types.NewJID("1-5", types.GroupServer)
	_, err := d.PreKeys.GetOrGenPreKeys(ctx, 3*page+5)
	ok(err)
	ok(d.Identities.PutIdentity(ctx, "100_1:0", [32]byte(secretBytes)))
	ok(d.Sessions.PutSession(ctx, "100_1:0", storetest.Session(7)))
	ok(d.SenderKeys.PutSenderKey(ctx, group.String(), "100_1:0", secretBytes))
	ok(d.AppStateKeys.PutAppStateSyncKey(ctx, []byte("id"), store.AppStateSyncKey{Data: secretBytes, Fingerprint: []byte("f"), Timestamp: 1}))
	ok(d.NCTSalt.PutNCTSalt(ctx, secretBytes))
	ok(d.MsgSecrets.PutMessageSecret(ctx, group, ann, "ID", secretBytes))
	ok(d.PrivacyTokens.PutPrivacyTokens(ctx, store.PrivacyToken{User: ann, Token: secretBytes, Timestamp: time.Unix(1000, 0)}))
	ok(d.EventBuffer.PutBufferedEvent(ctx, [32]byte{1}, secretBytes, time.Unix(1000, 0)))
	ok(d.EventBuffer.PutBufferedEvent(ctx, [32]byte{2}, secretBytes, time.Unix(1000, 0)))
	ok(d.EventBuffer.ClearBufferedEventPlaintext(ctx, [32]byte{2}))
	ok(d.EventBuffer.AddOutgoingEvent(ctx, group, "SENT", "wa", secretBytes))
	return d
}

// rowsOf are all rows of a store as text.
func rowsOf(t *testing.T, s *Store) (all []string) {
	t.Helper()
	err := s.Rows(t.Context(), func(r transfer.Row) error {
		raw, err := json.Marshal(r)
		all = append(all, string(r.Kind())+" "+string(raw))
		return err
	})
	if err != nil {
		t.Fatalf("read the rows: %v", err)
	}
	slices.Sort(all)
	return all
}

// readable counts the secrets that whoever reads the database can see.
func readable(t *testing.T, s *Store, d *store.Device) (n int) {
	t.Helper()
	known := [][]byte{secretBytes, secretBytes[:32], storetest.Session(7), d.NoiseKey.Priv[:], d.IdentityKey.Priv[:], d.SignedPreKey.Priv[:], d.AdvSecretKey}
	plain := open(t, mongotest.New(t)) // knows how to read everything as it is
	names, err := s.db.ListCollectionNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		cursor, err := s.db.Collection(name).Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		var all []bson.Raw
		if err := cursor.All(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		for _, raw := range all {
			for _, secret := range known {
				if len(secret) > 0 && bytes.Contains(raw, secret) {
					n++
				}
			}
			if kind, _ := raw.Lookup("kind").StringValueOK(); kind == kindPreKey {
				var p preKey
				if plain.seal.unmarshal(raw, &p) == nil && len(p.Private) == 32 {
					n++
				}
			}
		}
	}
	return n
}

// Encryption is turned on, its key is changed, and it is turned off: each start brings everything over, nothing is lost, and a
// start without the right key changes nothing and says why.
func TestSealing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := mongotest.New(t)
	s := open(t, url)
	d := furnish(t, s)
	secrets := readable(t, s, d)
	if secrets < 4+3*page+5+9 { // of the device, the pre-keys, and what furnish puts
		t.Fatalf("only %d secrets can be read before", secrets)
	}
	was := rowsOf(t, s)
	refused := func(what string, change func(*Options)) {
		t.Helper()
		o := Options{URL: url, Timeout: 20 * time.Second}
		change(&o)
		s, err := Open(ctx, o)
		if err == nil {
			s.Close(ctx)
		}
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "SESSION_KEY") {
			t.Errorf("%s: %v", what, err)
		}
	}
	one, two := testKey(1), testKey(2)
	for _, step := range []struct {
		what     string
		with     func(*Options)
		readable int
		refused  map[string]func(*Options)
	}{
		{"on", withKeys(one), 0, map[string]func(*Options){"without the key": withKeys(nil), "with another": withKeys(two)}},
		{"changed", withKeys(two, one), 0, map[string]func(*Options){"without the key": withKeys(nil), "with the old one": withKeys(one)}},
		{"the same again", withKeys(two, one), 0, nil},
		{"off", withKeys(nil, two), secrets, nil},
		{"off, for good", withKeys(nil), secrets, nil},
	} {
		s := open(t, url, step.with)
		n, err := s.Reseal(ctx)
		if err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if again, err := s.Reseal(ctx); err != nil || again != 0 {
			t.Errorf("%s: %d written again, %v", step.what, again, err)
		}
		if got := rowsOf(t, s); !slices.Equal(got, was) {
			t.Errorf("%s: %d rows written, and they read otherwise:\n%.500q\n%.500q", step.what, n, got, was)
		}
		if n := readable(t, s, d); n != step.readable {
			t.Errorf("%s: %d secrets can be read, want %d", step.what, n, step.readable)
		}
		for what, with := range step.refused {
			refused(step.what+": "+what, with)
		}
	}
}

// Cut short at any command, a change of keys leaves everything readable with both keys, and the next start ends it.
func TestSealingCutShort(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	line := mongotest.NewLine(t)
	s := open(t, line.URL)
	furnish(t, s)
	was := rowsOf(t, s)
	key := func(n int) []byte {
		if n == 0 {
			return nil
		}
		return testKey(byte(n))
	}
	for n, cut := 1, 0; n <= 2; n++ {
		for done := false; !done; {
			s := open(t, line.URL, withKeys(key(n), slices.DeleteFunc([][]byte{key(n - 1)}, func(k []byte) bool { return k == nil })...), func(o *Options) { o.Patience = time.Nanosecond })
			dying, cancel := context.WithCancel(ctx)
			left := cut
			s.seal.first.aead = counting{s.seal.first.aead, func() {
				if left--; left < 0 {
					cancel()
				}
			}}
			_, err := s.Reseal(dying)
			done = err == nil
			cancel()
			if got := rowsOf(t, s); !slices.Equal(got, was) {
				t.Fatalf("cut short after %d values: the rows read otherwise", cut)
			}
			cut += 45
		}
		cut = 0
	}
}

// counting tells of each value that is sealed.
type counting struct {
	cipher.AEAD
	tell func()
}

func (c counting) Seal(dst, nonce, plain, more []byte) []byte {
	c.tell()
	return c.AEAD.Seal(dst, nonce, plain, more)
}

// A sealed value works in its own place alone, and unchanged.
func TestSealedValuesStayInPlace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := sealedStore(t, mongotest.New(t), withKeys(testKey(1)))
	d := storetest.Pair(t, s.Devices(), "100")
	for i := range 2 {
		if err := d.Sessions.PutSession(ctx, fmt.Sprint(i, ":0"), storetest.Session(byte(i))); err != nil {
			t.Fatal(err)
		}
	}
	own := s.devices.of(*d.ID)
	var raws [2]bson.Raw
	for i := range raws {
		raw, err := s.sessions.FindOne(ctx, byID(own.ref(kindSession, fmt.Sprint(i, ":0")).ID)).Raw()
		if err != nil {
			t.Fatal(err)
		}
		raws[i] = raw
	}
	subtype, moved := raws[0].Lookup("data").Binary()
	if subtype != sealedType {
		t.Fatalf("the session is stored with subtype %x", subtype)
	}
	changed := bytes.Clone(moved)
	changed[len(changed)-1] ^= 1
	for what, data := range map[string][]byte{"another's": moved, "changed": changed, "short": moved[:6]} {
		id := own.ref(kindSession, "1:0").ID
		if _, err := s.sessions.UpdateOne(ctx, byID(id), set(bson.D{field("data", bson.Binary{Subtype: sealedType, Data: data})})); err != nil {
			t.Fatal(err)
		}
		s.forget()
		s.patience = time.Millisecond
		if got, err := d.Sessions.GetSession(ctx, "1:0"); !errors.Is(err, errSealed) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %x, %v; it must neither be read nor be taken for a failed decryption", what, got, err)
		}
	}
}
