package mongostore

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// device is the store of one device: all its state but the LID map.
type device struct {
	s  *Store
	id string // the device's JID

	// alive is held while something of the device is written, and alone while the
	// device is saved or deleted: nothing written late brings back a device that was deleted.
	alive sync.RWMutex
	saved bool

	cache cache

	preKeys sync.Mutex

	contactsMu  sync.Mutex
	contacts    map[types.JID]types.ContactInfo
	contactsGen int64

	migratedMu sync.Mutex
	migrated   map[string]bool

	pruneMu   sync.Mutex
	lastPrune time.Time // of sent messages
}

var _ store.AllSessionSpecificStores = (*device)(nil)

// ref names a value of d.
func (d *device) ref(kind, key string) value {
	v := value{ID: d.id + "/" + kind + "/" + key, Device: d.id, Kind: kind, Key: key}
	if user, _, ok := strings.Cut(key, ":"); ok && (kind == kindSession || kind == kindIdentity) {
		v.User = user
	}
	return v
}

func (d *device) senderRef(group, user string) value {
	v := d.ref(kindSenderKey, escape(group)+"/"+user)
	v.User, _, _ = strings.Cut(user, ":")
	return v
}

// one reads one value.
func (d *device) one(ctx context.Context, ref value) (value, error) {
	got, err := d.read(ctx, ref)
	return got[ref.ID], err
}

func (d *device) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	v := d.ref(kindIdentity, address)
	v.Data = key[:]
	return d.put(ctx, "write an identity", v)
}

func (d *device) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	v, err := d.one(ctx, d.ref(kindIdentity, address))
	switch {
	case err != nil:
		return false, err
	case !v.there():
		return true, nil
	case len(v.Data) != 32:
		return false, fmt.Errorf("read an identity: %w", errLength)
	}
	return [32]byte(v.Data) == key, nil
}

func (d *device) DeleteIdentity(ctx context.Context, address string) error {
	return d.remove(ctx, "delete an identity", d.ref(kindIdentity, address))
}

func (d *device) DeleteAllIdentities(ctx context.Context, user string) error {
	return d.removeUser(ctx, kindIdentity, user)
}

// removeUser deletes all documents of a kind and user.
func (d *device) removeUser(ctx context.Context, kind, user string) error {
	defer d.cache.clear()
	return d.write(ctx, "delete a user's keys", func(ctx context.Context) error {
		_, err := d.s.sessions.DeleteMany(ctx, bson.D{{Key: "device", Value: d.id}, {Key: "user", Value: user}, {Key: "kind", Value: kind}})
		return err
	})
}

// write changes something of a device that is saved.
func (d *device) write(ctx context.Context, what string, do func(context.Context) error) error {
	d.alive.RLock()
	defer d.alive.RUnlock()
	if !d.saved {
		return fmt.Errorf("%s: %w", what, errNoDevice)
	}
	return d.s.write(ctx, what, do)
}

func (d *device) GetSession(ctx context.Context, address string) ([]byte, error) {
	v, err := d.one(ctx, d.ref(kindSession, address))
	return slices.Clone(v.Data), err
}

func (d *device) HasSession(ctx context.Context, address string) (bool, error) {
	v, err := d.one(ctx, d.ref(kindSession, address))
	return v.there(), err
}

func (d *device) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	if len(addresses) == 0 {
		return nil, nil
	}
	var refs []value
	for _, address := range addresses {
		refs = append(refs, d.ref(kindSession, address))
	}
	got, err := d.read(ctx, refs...)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte, len(addresses))
	for i, address := range addresses {
		out[address] = slices.Clone(got[refs[i].ID].Data)
	}
	return out, nil
}

func (d *device) PutSession(ctx context.Context, address string, session []byte) error {
	v := d.ref(kindSession, address)
	v.Data = slices.Clone(session)
	return d.put(ctx, "write a session", v)
}

func (d *device) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	var list []value
	for address, session := range sessions {
		v := d.ref(kindSession, address)
		v.Data = slices.Clone(session)
		list = append(list, v)
	}
	if len(list) == 0 {
		return nil
	}
	return d.put(ctx, "write the sessions of a send", list...)
}

func (d *device) DeleteSession(ctx context.Context, address string) error {
	return d.remove(ctx, "delete a session", d.ref(kindSession, address))
}

func (d *device) DeleteAllSessions(ctx context.Context, user string) error {
	return d.removeUser(ctx, kindSession, user)
}

// MigratePNToLID moves a phone number's sessions, identities and sender keys to its LID, once.
// The copies are written before the originals go, so a half-done one is whole when done again.
func (d *device) MigratePNToLID(ctx context.Context, pn, lid types.JID) error {
	from, to := pn.SignalAddressUser(), lid.SignalAddressUser()
	d.migratedMu.Lock()
	defer d.migratedMu.Unlock()
	if d.migrated[from] {
		return nil
	}
	list, err := find[value](ctx, d.s, "read a user's keys", d.s.sessions,
		bson.D{{Key: "device", Value: d.id}, {Key: "user", Value: bson.D{{Key: "$in", Value: bson.A{from, to}}}}})
	if err != nil {
		return err
	}
	there := make(map[string]value, len(list))
	for _, v := range list {
		there[v.ID] = v
	}
	var c change
	for _, v := range list {
		if v.User != from {
			continue
		}
		group, address, isSender := strings.Cut(v.Key, "/")
		if !isSender {
			address = v.Key
		}
		address = to + strings.TrimPrefix(address, from)
		moved := d.ref(v.Kind, address)
		if isSender {
			moved = d.ref(v.Kind, group+"/"+address)
		}
		moved.User, moved.Data = to, v.Data
		c.puts = append(c.puts, d.over(there[moved.ID], moved))
		c.gone = append(c.gone, v.ID)
	}
	if err := d.commit(ctx, "move a user's keys to the LID", c); err != nil {
		return err
	}
	d.migrated[from] = true
	return nil
}

func (d *device) PutSenderKey(ctx context.Context, group, user string, session []byte) error {
	v := d.senderRef(group, user)
	v.Data = slices.Clone(session)
	return d.put(ctx, "write a sender key", v)
}

func (d *device) GetSenderKey(ctx context.Context, group, user string) ([]byte, error) {
	v, err := d.one(ctx, d.senderRef(group, user))
	return slices.Clone(v.Data), err
}

func (d *device) PutNCTSalt(ctx context.Context, salt []byte) error {
	v := d.ref(kindSalt, "")
	v.Data = slices.Clone(salt)
	return d.put(ctx, "write the salt", v)
}

func (d *device) GetNCTSalt(ctx context.Context) ([]byte, error) {
	v, err := d.one(ctx, d.ref(kindSalt, ""))
	return slices.Clone(v.Data), err
}

func (d *device) DeleteNCTSalt(ctx context.Context) error {
	return d.remove(ctx, "delete the salt", d.ref(kindSalt, ""))
}

// preKey is a one-time pre-key.
type preKey struct {
	ID       string `bson:"_id"`
	Device   string `bson:"device"`
	Kind     string `bson:"kind"`
	Key      string `bson:"key"`
	Number   int64  `bson:"number"`
	Private  []byte `bson:"private"`
	Uploaded bool   `bson:"uploaded"`
}

// maxPreKey is the greatest pre-key ID: they have 24 bits.
const maxPreKey = 1<<24 - 1

func (d *device) preKeyID(number uint32) string {
	return fmt.Sprintf("%s/%s/%08d", d.id, kindPreKey, number)
}

func (p preKey) key() (*keys.PreKey, error) {
	if len(p.Private) != 32 || p.Number < 0 || p.Number > maxPreKey {
		return nil, fmt.Errorf("read a pre-key: %w", errLength)
	}
	return &keys.PreKey{KeyPair: *keys.NewKeyPairFromPrivateKey([32]byte(p.Private)), KeyID: uint32(p.Number)}, nil
}

// ofKind finds the documents of a kind, with more conditions.
func (d *device) ofKind(kind string, more ...bson.E) bson.D {
	return append(bson.D{{Key: "_id", Value: within(d.id + "/" + kind + "/")}}, more...)
}

// within is the range of the strings with a prefix that ends in '/'.
func within(prefix string) bson.D {
	return bson.D{{Key: "$gte", Value: prefix}, {Key: "$lt", Value: prefix[:len(prefix)-1] + "0"}}
}

// generate makes n new pre-keys. Their IDs are counted in the device's document, before any is
// used: an ID given to a peer is never given to another key, even if all are gone.
func (d *device) generate(ctx context.Context, n int, uploaded bool) ([]*keys.PreKey, error) {
	var row struct {
		Next int64 `bson:"next_pre_key"`
	}
	err := d.write(ctx, "count the pre-keys", func(ctx context.Context) error {
		return d.s.sessions.FindOneAndUpdate(ctx, byID(d.rowID()), bson.D{{Key: "$inc", Value: bson.D{{Key: "next_pre_key", Value: int64(n)}}}},
			options.FindOneAndUpdate().SetReturnDocument(options.Before)).Decode(&row)
	})
	if err != nil {
		return nil, err
	}
	if row.Next < 1 || row.Next+int64(n)-1 > maxPreKey {
		return nil, fmt.Errorf("count the pre-keys: no ID left after %d", row.Next)
	}
	list, docs := make([]*keys.PreKey, n), make([]preKey, n)
	for i := range list {
		number := uint32(row.Next) + uint32(i)
		list[i] = keys.NewPreKey(number)
		docs[i] = preKey{ID: d.preKeyID(number), Device: d.id, Kind: kindPreKey, Key: fmt.Sprint(number), Number: int64(number), Private: list[i].Priv[:], Uploaded: uploaded}
	}
	for some := range slices.Chunk(docs, preKeysAtOnce) {
		err = d.write(ctx, "write pre-keys", func(ctx context.Context) error {
			_, err := d.s.sessions.InsertMany(ctx, some, options.InsertMany().SetOrdered(false))
			return onlyDuplicates(err) // of an earlier try: the IDs are this call's alone
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// preKeysAtOnce bounds the pre-keys in one command. The first upload makes 812; in one piece they hold
// up everything else on a slow server, the renewal of the lease too.
const preKeysAtOnce = 100

func (d *device) GetOrGenPreKeys(ctx context.Context, count uint32) ([]*keys.PreKey, error) {
	d.preKeys.Lock()
	defer d.preKeys.Unlock()
	if count == 0 {
		return nil, nil
	}
	rows, err := find[preKey](ctx, d.s, "read pre-keys", d.s.sessions, d.ofKind(kindPreKey, bson.E{Key: "uploaded", Value: false}),
		options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(count)))
	if err != nil {
		return nil, err
	}
	var list []*keys.PreKey
	for _, row := range rows {
		k, err := row.key()
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	if missing := int(count) - len(list); missing > 0 {
		made, err := d.generate(ctx, missing, false)
		if err != nil {
			return nil, err
		}
		list = append(list, made...)
	}
	return list, nil
}

func (d *device) GenOnePreKey(ctx context.Context) (*keys.PreKey, error) {
	d.preKeys.Lock()
	defer d.preKeys.Unlock()
	list, err := d.generate(ctx, 1, true)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (d *device) GetPreKey(ctx context.Context, id uint32) (*keys.PreKey, error) {
	if u := d.unitOf(ctx); u != nil {
		u.mu.Lock()
		gone := u.gone[d.preKeyID(id)]
		u.mu.Unlock()
		if gone {
			return nil, nil
		}
	}
	var row preKey
	err := d.s.try(ctx, "read a pre-key", func(ctx context.Context) error {
		return found(d.s.sessions.FindOne(ctx, byID(d.preKeyID(id))).Decode(&row))
	})
	if err != nil || row.ID == "" {
		return nil, err
	}
	return row.key()
}

func (d *device) RemovePreKey(ctx context.Context, id uint32) error {
	if u := d.unitOf(ctx); u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.gone[d.preKeyID(id)] = true
		return nil
	}
	return d.commit(ctx, "remove a pre-key", change{gone: []string{d.preKeyID(id)}})
}

func (d *device) MarkPreKeysAsUploaded(ctx context.Context, upToID uint32) error {
	open := d.ofKind(kindPreKey, bson.E{Key: "uploaded", Value: false}, bson.E{Key: "number", Value: bson.D{{Key: "$lte", Value: int64(upToID)}}})
	all, err := d.s.findIDs(ctx, "read pre-keys", d.s.sessions, open)
	if err != nil {
		return err
	}
	for ids := range slices.Chunk(all, preKeysAtOnce) {
		err := d.write(ctx, "mark pre-keys as uploaded", func(ctx context.Context) error {
			_, err := d.s.sessions.UpdateMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}, set(bson.D{{Key: "uploaded", Value: true}}))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *device) UploadedPreKeyCount(ctx context.Context) (int, error) {
	var n int64
	err := d.s.try(ctx, "count the uploaded pre-keys", func(ctx context.Context) (err error) {
		n, err = d.s.sessions.CountDocuments(ctx, d.ofKind(kindPreKey, bson.E{Key: "uploaded", Value: true}))
		return err
	})
	return int(n), err
}

func (d *device) eventID(hash [32]byte) string {
	return d.id + "/" + kindEvent + "/" + hex.EncodeToString(hash[:])
}

// buffered is the event that the decryption has put in the buffer under the ID, or nil.
func (u *unit) buffered(id string) *bufferedEvent {
	if u == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, e := range u.events {
		if e.ID == id {
			return e
		}
	}
	return nil
}

func (d *device) GetBufferedEvent(ctx context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	row := bufferedEvent{}
	if e := d.unitOf(ctx).buffered(d.eventID(hash)); e != nil {
		row = *e
	} else {
		err := d.s.try(ctx, "read a buffered event", func(ctx context.Context) error {
			return found(d.s.sessions.FindOne(ctx, byID(d.eventID(hash))).Decode(&row))
		})
		if err != nil || row.ID == "" {
			return nil, err
		}
	}
	return &store.BufferedEvent{Plaintext: row.Plaintext, ServerTime: time.Unix(row.ServerTime, 0), InsertTime: time.UnixMilli(row.At)}, nil
}

func (d *device) PutBufferedEvent(ctx context.Context, hash [32]byte, plaintext []byte, serverTime time.Time) error {
	e := &bufferedEvent{
		ID: d.eventID(hash), Device: d.id, Kind: kindEvent, Key: hex.EncodeToString(hash[:]),
		Plaintext: plaintext, ServerTime: serverTime.Unix(), At: d.s.now().UnixMilli(),
	}
	if u := d.unitOf(ctx); u != nil {
		if u.buffered(e.ID) != nil {
			return fmt.Errorf("put an event in the buffer: %w", errDuplicate)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.events = append(u.events, e)
		return nil
	}
	return d.commit(ctx, "put an event in the buffer", change{events: []*bufferedEvent{e}})
}

func (d *device) ClearBufferedEventPlaintext(ctx context.Context, hash [32]byte) error {
	return d.write(ctx, "clear a buffered event", func(ctx context.Context) error {
		_, err := d.s.looseSessions.UpdateOne(ctx, byID(d.eventID(hash)), set(bson.D{{Key: "plaintext", Value: nil}}))
		return err
	})
}

// eventAge is how long WhatsApp's servers keep what was not acknowledged.
const eventAge = 14 * 24 * time.Hour

// DeleteOldBufferedHashes forgets what the server cannot deliver again, for all devices, and message
// secrets that are too old. whatsmeow calls it twice a day.
func (d *device) DeleteOldBufferedHashes(ctx context.Context) error {
	now := d.s.now()
	return d.s.write(ctx, "delete old events and secrets", func(ctx context.Context) error {
		_, err := d.s.sessions.DeleteMany(ctx, bson.D{{Key: "kind", Value: kindEvent}, {Key: "at", Value: before(now.Add(-eventAge))}})
		if err == nil {
			_, err = d.s.secrets.DeleteMany(ctx, bson.D{{Key: "at", Value: before(now.Add(-d.s.secretAge))}})
		}
		return err
	})
}

func before(t time.Time) bson.D { return bson.D{{Key: "$lt", Value: t.UnixMilli()}} }
