package mongostore

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"sync"

	"github.com/google/uuid"
	"go.mau.fi/util/random"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Devices is what sqlstore.Container is, in MongoDB.
type Devices struct {
	s    *Store
	lids *lids

	mu    sync.Mutex
	known map[string]*device
}

var _ store.DeviceContainer = (*Devices)(nil)

// deviceRow is a device's own document.
type deviceRow struct {
	ID              string `bson:"_id"`
	Device          string `bson:"device"`
	Kind            string `bson:"kind"`
	RegistrationID  int64  `bson:"registration_id"`
	NoiseKey        []byte `bson:"noise_key"`
	IdentityKey     []byte `bson:"identity_key"`
	SignedPreKey    []byte `bson:"signed_pre_key"`
	SignedPreKeyID  int64  `bson:"signed_pre_key_id"`
	SignedPreKeySig []byte `bson:"signed_pre_key_sig"`
	AdvKey          []byte `bson:"adv_key"`
	AdvDetails      []byte `bson:"adv_details"`
	AccountSig      []byte `bson:"adv_account_sig"`
	AccountSigKey   []byte `bson:"adv_account_sig_key"`
	DeviceSig       []byte `bson:"adv_device_sig"`
	FacebookUUID    string `bson:"facebook_uuid,omitempty"`
	// PairedAt is in milliseconds.
	PairedAt int64 `bson:"paired_at"`
	// NextPreKey is the ID of the next pre-key. It only rises.
	NextPreKey int64 `bson:"next_pre_key"`

	Changes deviceChanges `bson:",inline"`
}

// deviceChanges are the fields that change while a device lives.
type deviceChanges struct {
	LID                   string `bson:"lid"`
	Platform              string `bson:"platform"`
	BusinessName          string `bson:"business_name"`
	PushName              string `bson:"push_name"`
	LIDMigrationTimestamp int64  `bson:"lid_migration_ts"`
	CompanionMetaNonce    string `bson:"companion_meta_nonce"`
}

func (d *device) rowID() string { return d.id + "/" + kindDevice }

// of is the one store of the device with the JID: two would not see each other's writes.
func (c *Devices) of(jid types.JID) *device {
	id := jid.String()
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.known[id]
	if d == nil {
		d = &device{s: c.s, id: id, cache: cache{s: c.s}, migrated: make(map[string]bool)}
		c.known[id] = d
	}
	return d
}

// NewDevice makes a device's keys. It gets its stores when it is first saved, by pairing.
func (c *Devices) NewDevice() *store.Device {
	d := &store.Device{
		Log: waLog.Noop, Container: c,
		NoiseKey: keys.NewKeyPair(), IdentityKey: keys.NewKeyPair(),
		RegistrationID: mathrand.Uint32(), AdvSecretKey: random.Bytes(32),
	}
	d.SignedPreKey = d.IdentityKey.CreateSignedPreKey(1)
	return d
}

// GetDevice gives the device with the JID, device number included; nil when there is none.
func (c *Devices) GetDevice(ctx context.Context, jid types.JID) (*store.Device, error) {
	var row deviceRow
	err := c.s.try(ctx, "read a device", func(ctx context.Context) error {
		return found(c.s.sessions.FindOne(ctx, byID(c.of(jid).rowID())).Decode(&row))
	})
	if err != nil || row.ID == "" {
		return nil, err
	}
	return c.device(row)
}

// GetAllDevices gives all devices, the first paired first.
func (c *Devices) GetAllDevices(ctx context.Context) ([]*store.Device, error) {
	rows, err := find[deviceRow](ctx, c.s, "read the devices", c.s.sessions, bson.D{{Key: "kind", Value: kindDevice}})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(rows, func(a, b deviceRow) int { return int(a.PairedAt - b.PairedAt) })
	var list []*store.Device
	for _, row := range rows {
		d, err := c.device(row)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// GetFirstDevice gives the device that was paired first, or a new one.
func (c *Devices) GetFirstDevice(ctx context.Context) (*store.Device, error) {
	list, err := c.GetAllDevices(ctx)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return c.NewDevice(), nil
	}
	return list[0], nil
}

// device makes the device of a row, checked.
func (c *Devices) device(row deviceRow) (*store.Device, error) {
	jid, err := types.ParseJID(row.Device)
	if err != nil {
		return nil, fmt.Errorf("read a device: %w", err)
	}
	d := &store.Device{
		Log: waLog.Noop, ID: &jid, RegistrationID: uint32(row.RegistrationID), AdvSecretKey: row.AdvKey,
		Account: &waAdv.ADVSignedDeviceIdentity{
			Details: row.AdvDetails, AccountSignature: row.AccountSig, AccountSignatureKey: row.AccountSigKey, DeviceSignature: row.DeviceSig,
		},
		Platform: row.Changes.Platform, BusinessName: row.Changes.BusinessName, PushName: row.Changes.PushName,
		LIDMigrationTimestamp: row.Changes.LIDMigrationTimestamp, CompanionMetaNonce: row.Changes.CompanionMetaNonce,
	}
	if err := checkLengths(row); err != nil {
		return nil, fmt.Errorf("read a device: %w", err)
	}
	if row.Changes.LID != "" {
		if d.LID, err = types.ParseJID(row.Changes.LID); err != nil {
			return nil, fmt.Errorf("read a device's LID: %w", err)
		}
	}
	if row.FacebookUUID != "" {
		if d.FacebookUUID, err = uuid.Parse(row.FacebookUUID); err != nil {
			return nil, fmt.Errorf("read a device: %w", err)
		}
	}
	d.NoiseKey = keys.NewKeyPairFromPrivateKey([32]byte(row.NoiseKey))
	d.IdentityKey = keys.NewKeyPairFromPrivateKey([32]byte(row.IdentityKey))
	d.SignedPreKey = &keys.PreKey{
		KeyPair: *keys.NewKeyPairFromPrivateKey([32]byte(row.SignedPreKey)),
		KeyID:   uint32(row.SignedPreKeyID), Signature: (*[64]byte)(row.SignedPreKeySig),
	}
	own := c.of(jid)
	own.alive.Lock()
	own.saved = true
	own.alive.Unlock()
	c.initialize(d, own)
	return d, nil
}

func checkLengths(row deviceRow) error {
	for _, f := range []struct {
		data   []byte
		length int
	}{
		{row.NoiseKey, 32}, {row.IdentityKey, 32}, {row.SignedPreKey, 32}, {row.SignedPreKeySig, 64},
		{row.AccountSig, 64}, {row.AccountSigKey, 32}, {row.DeviceSig, 64},
	} {
		if len(f.data) != f.length {
			return errLength
		}
	}
	return nil
}

func (c *Devices) initialize(d *store.Device, own *device) {
	d.SetAllStores(own)
	d.LIDs = c.lids
	d.Container = c
	d.Initialized = true
}

// PutDevice saves a device. Of one that is there, just names, platform, LID and the migration's
// fields change; its keys never do.
func (c *Devices) PutDevice(ctx context.Context, d *store.Device) error {
	switch {
	case d.ID == nil:
		return errors.New("save the device: it has no JID yet")
	case d.Account == nil:
		return errors.New("save the device: it is not signed by its account yet")
	}
	own := c.of(*d.ID)
	own.alive.Lock()
	defer own.alive.Unlock()
	row := deviceRow{
		RegistrationID: int64(d.RegistrationID), NoiseKey: d.NoiseKey.Priv[:], IdentityKey: d.IdentityKey.Priv[:],
		SignedPreKey: d.SignedPreKey.Priv[:], SignedPreKeyID: int64(d.SignedPreKey.KeyID), SignedPreKeySig: d.SignedPreKey.Signature[:],
		AdvKey: d.AdvSecretKey, AdvDetails: d.Account.Details,
		AccountSig: d.Account.AccountSignature, AccountSigKey: d.Account.AccountSignatureKey, DeviceSig: d.Account.DeviceSignature,
	}
	err := checkLengths(row)
	if err == nil && !own.saved {
		err = c.clean(ctx, own)
	}
	if err == nil {
		err = c.put(ctx, own, d, row)
	}
	if err == nil {
		own.saved = true
	}
	if !d.Initialized {
		c.initialize(d, own) // as sqlstore does, whether the write succeeded or not
	}
	if err != nil {
		return fmt.Errorf("save the device: %w", err)
	}
	return nil
}

func (c *Devices) put(ctx context.Context, own *device, d *store.Device, row deviceRow) error {
	sealed := func(name string, data []byte) any { return c.s.seal.seal(own.rowID(), name, data) }
	once := bson.D{
		{Key: "device", Value: own.id}, {Key: "kind", Value: kindDevice}, {Key: "registration_id", Value: row.RegistrationID},
		{Key: "noise_key", Value: sealed("noise_key", row.NoiseKey)}, {Key: "identity_key", Value: sealed("identity_key", row.IdentityKey)},
		{Key: "signed_pre_key", Value: sealed("signed_pre_key", row.SignedPreKey)}, {Key: "signed_pre_key_id", Value: row.SignedPreKeyID}, {Key: "signed_pre_key_sig", Value: row.SignedPreKeySig},
		{Key: "adv_key", Value: sealed("adv_key", row.AdvKey)}, {Key: "adv_details", Value: row.AdvDetails}, {Key: "adv_account_sig", Value: row.AccountSig},
		{Key: "adv_account_sig_key", Value: row.AccountSigKey}, {Key: "adv_device_sig", Value: row.DeviceSig},
		{Key: "paired_at", Value: c.s.now().UnixMilli()}, {Key: "next_pre_key", Value: int64(1)},
	}
	if d.FacebookUUID != uuid.Nil {
		once = append(once, bson.E{Key: "facebook_uuid", Value: d.FacebookUUID.String()})
	}
	changes := deviceChanges{
		LID: d.LID.String(), Platform: d.Platform, BusinessName: d.BusinessName, PushName: d.PushName,
		LIDMigrationTimestamp: d.LIDMigrationTimestamp, CompanionMetaNonce: d.CompanionMetaNonce,
	}
	return c.s.write(ctx, "write the device", func(ctx context.Context) error {
		return upsert(c.s.sessions.UpdateOne(ctx, byID(own.rowID()),
			bson.D{{Key: "$set", Value: changes}, {Key: "$setOnInsert", Value: once}}, options.UpdateOne().SetUpsert(true)))
	})
}

// clean makes sure that a device to be saved for the first time finds nothing of an earlier one
// with its JID.
func (c *Devices) clean(ctx context.Context, own *device) error {
	var n int64
	err := c.s.try(ctx, "look for the device", func(ctx context.Context) (err error) {
		n, err = c.s.sessions.CountDocuments(ctx, byID(own.rowID()))
		return err
	})
	if err != nil || n > 0 {
		return err
	}
	return c.sweep(ctx, own)
}

// DeleteDevice deletes a device and all that belongs to it, its own document first, so that
// what a crash leaves is found to have no owner by the next Open.
func (c *Devices) DeleteDevice(ctx context.Context, d *store.Device) error {
	if d.ID == nil {
		return errors.New("delete the device: it has no JID")
	}
	own := c.of(*d.ID)
	own.alive.Lock()
	defer own.alive.Unlock()
	own.saved = false
	err := c.s.write(ctx, "delete the device", func(ctx context.Context) error {
		_, err := c.s.sessions.DeleteOne(ctx, byID(own.rowID()))
		return err
	})
	if err != nil {
		return err
	}
	return c.sweep(ctx, own)
}

// owned are the collections whose documents go with their device.
func (s *Store) owned() []*mongo.Collection {
	return []*mongo.Collection{s.sessions, s.macs, s.contacts, s.chats, s.secrets, s.outgoing}
}

// sweep deletes what belongs to a device that is not there.
func (c *Devices) sweep(ctx context.Context, own *device) error {
	own.cache.clear()
	own.contactsMu.Lock()
	own.contacts = nil
	own.contactsMu.Unlock()
	own.migratedMu.Lock()
	clear(own.migrated)
	own.migratedMu.Unlock()
	return c.s.sweep(ctx, own.id)
}

func (s *Store) sweep(ctx context.Context, deviceID string) error {
	for _, collection := range s.owned() {
		err := s.write(ctx, "delete what belonged to a device", func(ctx context.Context) error {
			_, err := collection.DeleteMany(ctx, bson.D{{Key: "_id", Value: within(deviceID + "/")}})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteOrphans deletes what belongs to devices that are gone, of a deletion that was cut short. It
// jumps from device to device by the _ids, without reading what lies between.
func (s *Store) DeleteOrphans(ctx context.Context) error {
	alive := make(map[string]bool)
	devices, err := s.devices.GetAllDevices(ctx)
	if err != nil {
		return err
	}
	for _, d := range devices {
		alive[d.ID.String()] = true
	}
	for _, collection := range s.owned() {
		for from := ""; ; {
			var row struct {
				Device string `bson:"device"`
			}
			err := s.try(ctx, "look for orphans", func(ctx context.Context) error {
				row.Device = ""
				return found(collection.FindOne(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: from}}}},
					options.FindOne().SetSort(bson.D{{Key: "_id", Value: 1}}).SetProjection(bson.D{{Key: "device", Value: 1}})).Decode(&row))
			})
			if err != nil {
				return err
			}
			if row.Device == "" {
				break
			}
			from = row.Device + "0" // after all that begins with the device and '/'
			if alive[row.Device] {
				continue
			}
			s.log.Info("deleting what a deleted device has left behind", "collection", collection.Name())
			if err := s.sweep(ctx, row.Device); err != nil {
				return err
			}
		}
	}
	return nil
}
