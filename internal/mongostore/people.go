package mongostore

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// onlyDuplicates is nil where all that failed in an unordered write is that documents were there.
func onlyDuplicates(err error) error {
	bulk := mongo.BulkWriteException{}
	if errors.As(err, &bulk) && bulk.WriteConcernError == nil {
		for _, e := range bulk.WriteErrors {
			if !e.HasErrorCode(11000) {
				return err
			}
		}
		return nil
	}
	if mongo.IsDuplicateKeyError(err) {
		return nil
	}
	return err
}

// contact is a contact's document in "contacts".
type contact struct {
	ID       string `bson:"_id"`
	JID      string `bson:"jid"`
	First    string `bson:"first_name"`
	Full     string `bson:"full_name"`
	Push     string `bson:"push_name"`
	Business string `bson:"business_name"`
	Redacted string `bson:"redacted_phone"`
}

func (c contact) info() types.ContactInfo {
	return types.ContactInfo{Found: true, FirstName: c.First, FullName: c.Full, PushName: c.Push, BusinessName: c.Business, RedactedPhone: c.Redacted}
}

func (d *device) contactID(user types.JID) string { return d.id + "/" + user.String() }

// lockContacts locks the contacts read so far, forgotten if others may have written.
func (d *device) lockContacts() {
	d.contactsMu.Lock()
	if g := d.s.generation.Load(); d.contacts == nil || g != d.contactsGen {
		d.contacts, d.contactsGen = make(map[types.JID]types.ContactInfo), g
	}
}

// contact reads a contact, with contacts locked.
func (d *device) contact(ctx context.Context, user types.JID) (types.ContactInfo, error) {
	if info, ok := d.contacts[user]; ok {
		return info, nil
	}
	var row contact
	err := d.s.try(ctx, "read a contact", func(ctx context.Context) error {
		return found(d.s.contacts.FindOne(ctx, byID(d.contactID(user))).Decode(&row))
	})
	if err != nil {
		return types.ContactInfo{}, err
	}
	info := types.ContactInfo{}
	if row.ID != "" {
		info = row.info()
	}
	d.contacts[user] = info
	return info, nil
}

// contactUpdate writes just the fields given.
func (d *device) contactUpdate(user types.JID, fields bson.D) mongo.WriteModel {
	fields = append(fields, bson.E{Key: "device", Value: d.id}, bson.E{Key: "jid", Value: user.String()})
	return mongo.NewUpdateOneModel().SetFilter(byID(d.contactID(user))).SetUpdate(set(fields)).SetUpsert(true)
}

func (d *device) putContacts(ctx context.Context, models ...mongo.WriteModel) error {
	return d.write(ctx, "write contacts", func(ctx context.Context) error {
		_, err := d.s.contacts.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		if mongo.IsDuplicateKeyError(err) {
			return errAgain
		}
		return err
	})
}

// putName sets one name of a contact. It returns whether that changed it, and from what.
func (d *device) putName(ctx context.Context, user types.JID, field, name string, at func(*types.ContactInfo) *string) (bool, string, error) {
	d.lockContacts()
	defer d.contactsMu.Unlock()
	info, err := d.contact(ctx, user)
	if err != nil {
		return false, "", err
	}
	old := *at(&info)
	if old == name {
		return false, "", nil
	}
	if err := d.putContacts(ctx, d.contactUpdate(user, bson.D{{Key: field, Value: name}})); err != nil {
		return false, "", err
	}
	*at(&info), info.Found = name, true
	d.contacts[user] = info
	return true, old, nil
}

func (d *device) PutPushName(ctx context.Context, user types.JID, pushName string) (bool, string, error) {
	return d.putName(ctx, user, "push_name", pushName, func(c *types.ContactInfo) *string { return &c.PushName })
}

func (d *device) PutBusinessName(ctx context.Context, user types.JID, businessName string) (bool, string, error) {
	return d.putName(ctx, user, "business_name", businessName, func(c *types.ContactInfo) *string { return &c.BusinessName })
}

// PutContactName takes the first name first: the interface names its parameters the other
// way round, but whatsmeow calls it so.
func (d *device) PutContactName(ctx context.Context, user types.JID, firstName, fullName string) error {
	d.lockContacts()
	defer d.contactsMu.Unlock()
	info, err := d.contact(ctx, user)
	if err != nil || info.FirstName == firstName && info.FullName == fullName {
		return err
	}
	if err := d.putContacts(ctx, d.contactUpdate(user, bson.D{{Key: "first_name", Value: firstName}, {Key: "full_name", Value: fullName}})); err != nil {
		return err
	}
	info.FirstName, info.FullName, info.Found = firstName, fullName, true
	d.contacts[user] = info
	return nil
}

// PutAllContactNames writes many names; of two for one contact the first, as sqlstore does.
func (d *device) PutAllContactNames(ctx context.Context, contacts []store.ContactEntry) error {
	seen := make(map[types.JID]bool)
	var models []mongo.WriteModel
	for _, c := range contacts {
		if !seen[c.JID] {
			seen[c.JID] = true
			models = append(models, d.contactUpdate(c.JID, bson.D{{Key: "first_name", Value: c.FirstName}, {Key: "full_name", Value: c.FullName}}))
		}
	}
	return d.putManyContacts(ctx, models)
}

func (d *device) PutManyRedactedPhones(ctx context.Context, entries []store.RedactedPhoneEntry) error {
	seen := make(map[types.JID]bool)
	var models []mongo.WriteModel
	for _, e := range entries {
		if !seen[e.JID] {
			seen[e.JID] = true
			models = append(models, d.contactUpdate(e.JID, bson.D{{Key: "redacted_phone", Value: e.RedactedPhone}}))
		}
	}
	return d.putManyContacts(ctx, models)
}

func (d *device) putManyContacts(ctx context.Context, models []mongo.WriteModel) error {
	d.lockContacts()
	defer d.contactsMu.Unlock()
	for part := range slices.Chunk(models, 300) {
		if err := d.putContacts(ctx, part...); err != nil {
			return err
		}
	}
	clear(d.contacts)
	return nil
}

func (d *device) GetContact(ctx context.Context, user types.JID) (types.ContactInfo, error) {
	d.lockContacts()
	defer d.contactsMu.Unlock()
	return d.contact(ctx, user)
}

func (d *device) GetAllContacts(ctx context.Context) (map[types.JID]types.ContactInfo, error) {
	d.lockContacts()
	defer d.contactsMu.Unlock()
	rows, err := find[contact](ctx, d.s, "read the contacts", d.s.contacts, bson.D{{Key: "_id", Value: within(d.id + "/")}})
	if err != nil {
		return nil, err
	}
	out := make(map[types.JID]types.ContactInfo, len(rows))
	for _, row := range rows {
		jid, err := types.ParseJID(row.JID)
		if err != nil {
			return nil, fmt.Errorf("read the contacts: %w", err)
		}
		out[jid], d.contacts[jid] = row.info(), row.info()
	}
	return out, nil
}

func (d *device) putChatSetting(ctx context.Context, chat types.JID, field string, v any) error {
	return d.write(ctx, "write a chat's settings", func(ctx context.Context) error {
		return upsert(d.s.chats.UpdateOne(ctx, byID(d.contactID(chat)), set(bson.D{{Key: "device", Value: d.id}, {Key: "jid", Value: chat.String()}, {Key: field, Value: v}}),
			options.UpdateOne().SetUpsert(true)))
	})
}

// chatRow is a chat's settings in "chat_settings".
type chatRow struct {
	ID         string `bson:"_id"`
	JID        string `bson:"jid"`
	MutedUntil int64  `bson:"muted_until"`
	Pinned     bool   `bson:"pinned"`
	Archived   bool   `bson:"archived"`
}

// PutMutedUntil stores seconds since 1970, 0 for not muted and -1 for ever.
func (d *device) PutMutedUntil(ctx context.Context, chat types.JID, mutedUntil time.Time) error {
	until := int64(0)
	if mutedUntil == store.MutedForever {
		until = -1
	} else if !mutedUntil.IsZero() {
		until = mutedUntil.Unix()
	}
	return d.putChatSetting(ctx, chat, "muted_until", until)
}

func (d *device) PutPinned(ctx context.Context, chat types.JID, pinned bool) error {
	return d.putChatSetting(ctx, chat, "pinned", pinned)
}

func (d *device) PutArchived(ctx context.Context, chat types.JID, archived bool) error {
	return d.putChatSetting(ctx, chat, "archived", archived)
}

func (d *device) GetChatSettings(ctx context.Context, chat types.JID) (types.LocalChatSettings, error) {
	var row chatRow
	err := d.s.try(ctx, "read a chat's settings", func(ctx context.Context) error {
		return found(d.s.chats.FindOne(ctx, byID(d.contactID(chat))).Decode(&row))
	})
	if err != nil || row.ID == "" {
		return types.LocalChatSettings{}, err
	}
	out := types.LocalChatSettings{Found: true, Pinned: row.Pinned, Archived: row.Archived}
	if row.MutedUntil < 0 {
		out.MutedUntil = store.MutedForever
	} else if row.MutedUntil > 0 {
		out.MutedUntil = time.Unix(row.MutedUntil, 0)
	}
	return out, nil
}

// secret is a message's secret in "message_secrets".
type secret struct {
	ID     string `bson:"_id"`
	Device string `bson:"device"`
	Sender string `bson:"sender"`
	Secret []byte `bson:"secret"`
	At     int64  `bson:"at"` // when it was put here, in milliseconds
}

func (d *device) secretID(chat, sender types.JID, id types.MessageID) string {
	return d.id + "/" + escape(chat.ToNonAD().String()) + "/" + escape(sender.ToNonAD().String()) + "/" + id
}

func (d *device) PutMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID, key []byte) error {
	return d.PutMessageSecrets(ctx, []store.MessageSecretInsert{{Chat: chat, Sender: sender, ID: id, Secret: key}})
}

// PutMessageSecrets stores secrets; one that is there stays as it is.
func (d *device) PutMessageSecrets(ctx context.Context, inserts []store.MessageSecretInsert) error {
	if len(inserts) == 0 {
		return nil
	}
	var models []mongo.WriteModel
	for _, i := range inserts {
		id := d.secretID(i.Chat, i.Sender, i.ID)
		models = append(models, mongo.NewUpdateOneModel().SetFilter(byID(id)).SetUpsert(true).SetUpdate(bson.D{{Key: "$setOnInsert", Value: bson.D{
			{Key: "device", Value: d.id}, {Key: "sender", Value: i.Sender.ToNonAD().String()}, {Key: "secret", Value: d.s.seal.seal(id, "secret", i.Secret)}, {Key: "at", Value: d.s.now().UnixMilli()},
		}}}))
	}
	return d.write(ctx, "write message secrets", func(ctx context.Context) error {
		_, err := d.s.secrets.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		return onlyDuplicates(err)
	})
}

// GetMessageSecret looks for chat and sender under both of their addresses, and returns the
// sender as it was stored.
func (d *device) GetMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	chats, err := d.aliases(ctx, chat)
	if err != nil {
		return nil, types.EmptyJID, err
	}
	senders, err := d.aliases(ctx, sender)
	if err != nil {
		return nil, types.EmptyJID, err
	}
	var ids []string
	for _, c := range chats {
		for _, s := range senders {
			ids = append(ids, d.secretID(c, s, id))
		}
	}
	rows, err := find[secret](ctx, d.s, "read a message secret", d.s.secrets, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	if err != nil || len(rows) == 0 {
		return nil, types.EmptyJID, err
	}
	row := slices.MinFunc(rows, func(a, b secret) int { return slices.Index(ids, a.ID) - slices.Index(ids, b.ID) })
	jid, err := types.ParseJID(row.Sender)
	if err != nil {
		return nil, types.EmptyJID, fmt.Errorf("read a message secret: %w", err)
	}
	return row.Secret, jid, nil
}

// aliases are the address without a device, and the same person's other address if known.
func (d *device) aliases(ctx context.Context, jid types.JID) (out []types.JID, err error) {
	jid = jid.ToNonAD()
	var other types.JID
	switch jid.Server {
	case types.DefaultUserServer:
		other, err = d.s.devices.lids.GetLIDForPN(ctx, jid)
	case types.HiddenUserServer:
		other, err = d.s.devices.lids.GetPNForLID(ctx, jid)
	}
	if out = []types.JID{jid}; !other.IsEmpty() {
		out = append(out, other)
	}
	return out, err
}

// token is a privacy token in "privacy_tokens". Tokens stay when their device is deleted, as they
// do in sqlstore. Times are seconds.
type token struct {
	ID     string `bson:"_id"`
	Token  []byte `bson:"token"`
	At     int64  `bson:"timestamp"`
	SentAt *int64 `bson:"sender_timestamp"`
}

// PutPrivacyTokens stores tokens that are not older than what is there. A token without a
// sender's time keeps the one that is there.
func (d *device) PutPrivacyTokens(ctx context.Context, tokens ...store.PrivacyToken) error {
	for _, t := range tokens {
		user := t.User.ToNonAD()
		fields := bson.D{{Key: "device", Value: d.id}, {Key: "jid", Value: user.String()}, {Key: "token", Value: d.s.seal.seal(d.contactID(user), "token", t.Token)}, {Key: "timestamp", Value: t.Timestamp.Unix()}}
		if !t.SenderTimestamp.IsZero() {
			fields = append(fields, bson.E{Key: "sender_timestamp", Value: t.SenderTimestamp.Unix()})
		}
		filter := append(byID(d.contactID(user)), bson.E{Key: "timestamp", Value: bson.D{{Key: "$lte", Value: t.Timestamp.Unix()}}})
		err := d.s.write(ctx, "write a privacy token", func(ctx context.Context) error {
			_, err := d.s.tokens.UpdateOne(ctx, filter, set(fields), options.UpdateOne().SetUpsert(true))
			return onlyDuplicates(err) // a newer one is there
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *device) GetPrivacyToken(ctx context.Context, user types.JID) (*store.PrivacyToken, error) {
	names, err := d.aliases(ctx, user)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		ids = append(ids, d.contactID(name))
	}
	rows, err := find[token](ctx, d.s, "read a privacy token", d.s.tokens, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	row := slices.MaxFunc(rows, func(a, b token) int { return int(a.At - b.At) })
	out := &store.PrivacyToken{User: user.ToNonAD(), Token: row.Token, Timestamp: time.Unix(row.At, 0)}
	if row.SentAt != nil {
		out.SenderTimestamp = time.Unix(*row.SentAt, 0)
	}
	return out, nil
}

func (d *device) DeleteExpiredPrivacyTokens(ctx context.Context, cutoff time.Time) (deleted int64, err error) {
	err = d.s.write(ctx, "delete expired privacy tokens", func(ctx context.Context) error {
		res, err := d.s.tokens.DeleteMany(ctx, bson.D{{Key: "_id", Value: within(d.id + "/")}, {Key: "timestamp", Value: bson.D{{Key: "$lt", Value: cutoff.Unix()}}}})
		if err == nil {
			deleted += res.DeletedCount
		}
		return err
	})
	return deleted, err
}

// sent is a sent message in "outgoing", for a receiver that asks for it again.
type sent struct {
	ID        string `bson:"_id"`
	Device    string `bson:"device"`
	Format    string `bson:"format"`
	Plaintext []byte `bson:"plaintext"`
	At        int64  `bson:"at"` // milliseconds
}

func (d *device) sentID(chat types.JID, id types.MessageID) string {
	return d.id + "/" + escape(chat.String()) + "/" + id
}

func (d *device) AddOutgoingEvent(ctx context.Context, chat types.JID, id types.MessageID, format string, plaintext []byte) error {
	row := sent{ID: d.sentID(chat, id), Device: d.id, Format: format, Plaintext: plaintext, At: d.s.now().UnixMilli()}
	return d.write(ctx, "keep a sent message", func(ctx context.Context) error {
		return upsert(d.s.looseOutgoing.ReplaceOne(ctx, byID(row.ID), row, options.Replace().SetUpsert(true)))
	})
}

// GetOutgoingEvent gives a sent message, or sql.ErrNoRows as sqlstore does.
func (d *device) GetOutgoingEvent(ctx context.Context, chat, altChat types.JID, id types.MessageID) (string, []byte, error) {
	rows, err := find[sent](ctx, d.s, "read a sent message", d.s.outgoing,
		bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{d.sentID(chat, id), d.sentID(altChat, id)}}}}})
	if err != nil {
		return "", nil, err
	}
	if len(rows) == 0 {
		return "", nil, fmt.Errorf("read a sent message: %w", sql.ErrNoRows)
	}
	return rows[0].Format, rows[0].Plaintext, nil
}

// DeleteOldOutgoingEvents forgets what was sent over seven days ago. whatsmeow calls it with every
// send and fails the send with it, so it works once an hour and just logs what goes wrong.
func (d *device) DeleteOldOutgoingEvents(ctx context.Context) error {
	now := d.s.now()
	d.pruneMu.Lock()
	due := now.Sub(d.lastPrune) >= time.Hour
	if due {
		d.lastPrune = now
	}
	d.pruneMu.Unlock()
	if !due {
		return nil
	}
	err := d.write(ctx, "delete old sent messages", func(ctx context.Context) error {
		_, err := d.s.outgoing.DeleteMany(ctx, bson.D{{Key: "device", Value: d.id}, {Key: "at", Value: before(now.Add(-7 * 24 * time.Hour))}})
		return err
	})
	if err != nil {
		d.s.log.Warn("old sent messages could not be deleted; trying again in an hour", "err", err)
	}
	return nil
}

// ForgetSent implements inbox.Store, for every device.
func (s *Store) ForgetSent(ctx context.Context, chatJIDs ...string) error {
	devices, err := s.Devices().GetAllDevices(ctx)
	if err != nil {
		return err
	}
	return s.write(ctx, "delete sent messages", func(ctx context.Context) error {
		for _, d := range devices {
			for _, jid := range chatJIDs {
				if _, err := s.outgoing.DeleteMany(ctx, bson.D{field("_id", within(d.ID.String()+"/"+escape(jid)+"/"))}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// syncKey is an app state sync key.
type syncKey struct {
	ID          string `bson:"_id"`
	Device      string `bson:"device"`
	Kind        string `bson:"kind"`
	Key         string `bson:"key"` // its ID, in hexadecimal
	Data        []byte `bson:"data"`
	Fingerprint []byte `bson:"fingerprint"`
	Timestamp   int64  `bson:"timestamp"`
}

// PutAppStateSyncKey stores a key unless one as new is there.
func (d *device) PutAppStateSyncKey(ctx context.Context, id []byte, key store.AppStateSyncKey) error {
	ref := d.ref(kindSyncKey, hex.EncodeToString(id))
	row := syncKey{ID: ref.ID, Device: d.id, Kind: kindSyncKey, Key: ref.Key, Data: key.Data, Fingerprint: key.Fingerprint, Timestamp: key.Timestamp}
	filter := append(byID(row.ID), bson.E{Key: "timestamp", Value: bson.D{{Key: "$lt", Value: key.Timestamp}}})
	return d.write(ctx, "write an app state key", func(ctx context.Context) error {
		_, err := d.s.sessions.ReplaceOne(ctx, filter, row, options.Replace().SetUpsert(true))
		return onlyDuplicates(err) // one as new is there
	})
}

func (k syncKey) key() *store.AppStateSyncKey {
	return &store.AppStateSyncKey{Data: k.Data, Fingerprint: k.Fingerprint, Timestamp: k.Timestamp}
}

func (d *device) GetAppStateSyncKey(ctx context.Context, id []byte) (*store.AppStateSyncKey, error) {
	var row syncKey
	err := d.s.try(ctx, "read an app state key", func(ctx context.Context) error {
		return found(d.s.sessions.FindOne(ctx, byID(d.ref(kindSyncKey, hex.EncodeToString(id)).ID)).Decode(&row))
	})
	if err != nil || row.ID == "" {
		return nil, err
	}
	return row.key(), nil
}

// syncKeys are all keys, the newest first.
func (d *device) syncKeys(ctx context.Context) ([]syncKey, error) {
	rows, err := find[syncKey](ctx, d.s, "read the app state keys", d.s.sessions, d.ofKind(kindSyncKey))
	slices.SortStableFunc(rows, func(a, b syncKey) int { return int(b.Timestamp - a.Timestamp) })
	return rows, err
}

func (d *device) GetLatestAppStateSyncKeyID(ctx context.Context) ([]byte, error) {
	rows, err := d.syncKeys(ctx)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	id, err := hex.DecodeString(rows[0].Key)
	if err != nil {
		return nil, fmt.Errorf("read the app state keys: %w", err)
	}
	return id, nil
}

func (d *device) GetAllAppStateSyncKeys(ctx context.Context) ([]*store.AppStateSyncKey, error) {
	rows, err := d.syncKeys(ctx)
	var out []*store.AppStateSyncKey
	for _, row := range rows {
		out = append(out, row.key())
	}
	return out, err
}

// version is the state of an app state collection.
type version struct {
	ID      string `bson:"_id"`
	Device  string `bson:"device"`
	Kind    string `bson:"kind"`
	Key     string `bson:"key"`
	Version int64  `bson:"version"`
	Hash    []byte `bson:"hash"`
}

func (d *device) PutAppStateVersion(ctx context.Context, name string, number uint64, hash [128]byte) error {
	ref := d.ref(kindVersion, name)
	row := version{ID: ref.ID, Device: d.id, Kind: kindVersion, Key: name, Version: int64(number), Hash: hash[:]}
	return d.write(ctx, "write an app state version", func(ctx context.Context) error {
		return upsert(d.s.sessions.ReplaceOne(ctx, byID(row.ID), row, options.Replace().SetUpsert(true)))
	})
}

func (d *device) appStateVersion(ctx context.Context, name string) (row version, err error) {
	err = d.s.try(ctx, "read an app state version", func(ctx context.Context) error {
		return found(d.s.sessions.FindOne(ctx, byID(d.ref(kindVersion, name).ID)).Decode(&row))
	})
	return row, err
}

func (d *device) GetAppStateVersion(ctx context.Context, name string) (number uint64, hash [128]byte, err error) {
	row, err := d.appStateVersion(ctx, name)
	switch {
	case err != nil || row.ID == "":
		return 0, hash, err
	case len(row.Hash) != 128:
		return uint64(row.Version), hash, fmt.Errorf("read an app state version: %w", errLength)
	case row.Version == 0:
		return 0, hash, fmt.Errorf("read an app state version: version 0 is stored for %s", name)
	}
	return uint64(row.Version), [128]byte(row.Hash), nil
}

// DeleteAppStateVersion deletes a version with its MACs: the MACs first, as none may be without it.
func (d *device) DeleteAppStateVersion(ctx context.Context, name string) error {
	return d.write(ctx, "delete an app state version", func(ctx context.Context) error {
		if _, err := d.s.macs.DeleteMany(ctx, bson.D{{Key: "device", Value: d.id}, {Key: "name", Value: name}}); err != nil {
			return err
		}
		_, err := d.s.sessions.DeleteOne(ctx, byID(d.ref(kindVersion, name).ID))
		return err
	})
}

// mac is the MAC of an app state mutation, in "app_state_macs".
type mac struct {
	ID      string `bson:"_id"`
	Device  string `bson:"device"`
	Name    string `bson:"name"`
	Version int64  `bson:"version"`
	Index   []byte `bson:"index"`
	Value   []byte `bson:"value"`
}

func (d *device) macID(name string, number uint64, index []byte) string {
	return strings.Join([]string{d.id, escape(name), fmt.Sprintf("%020d", number), hex.EncodeToString(index)}, "/")
}

// PutAppStateMutationMACs adds MACs of a version. None is added where there is no state of the
// name, or where one is there already.
func (d *device) PutAppStateMutationMACs(ctx context.Context, name string, number uint64, mutations []store.AppStateMutationMAC) error {
	if len(mutations) == 0 {
		return nil
	}
	state, err := d.appStateVersion(ctx, name)
	if err != nil {
		return err
	}
	if state.ID == "" {
		return fmt.Errorf("write app state MACs: no version of %s is stored", name)
	}
	var rows []mac
	var ids []string
	given := make(map[string]bool, len(mutations))
	for _, m := range mutations {
		if len(m.IndexMAC) != 32 || len(m.ValueMAC) != 32 {
			return fmt.Errorf("write app state MACs: %w", errLength)
		}
		id := d.macID(name, number, m.IndexMAC)
		if given[id] {
			return errors.New("write app state MACs: one is given twice")
		}
		given[id], ids = true, append(ids, id)
		rows = append(rows, mac{ID: id, Device: d.id, Name: name, Version: int64(number), Index: m.IndexMAC, Value: m.ValueMAC})
	}
	first := true
	return d.write(ctx, "write app state MACs", func(ctx context.Context) error {
		if first {
			n, err := d.s.macs.CountDocuments(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}})
			if err != nil {
				return err
			}
			if n > 0 {
				return errors.New("one is there already")
			}
		}
		first = false
		_, err := d.s.macs.InsertMany(ctx, rows, options.InsertMany().SetOrdered(false))
		return onlyDuplicates(err) // of an earlier try
	})
}

func (d *device) DeleteAppStateMutationMACs(ctx context.Context, name string, indexMACs [][]byte) error {
	if len(indexMACs) == 0 {
		return nil
	}
	return d.write(ctx, "delete app state MACs", func(ctx context.Context) error {
		_, err := d.s.macs.DeleteMany(ctx, bson.D{{Key: "device", Value: d.id}, {Key: "name", Value: name}, {Key: "index", Value: bson.D{{Key: "$in", Value: indexMACs}}}})
		return err
	})
}

func (d *device) GetAppStateMutationMAC(ctx context.Context, name string, indexMAC []byte) ([]byte, error) {
	var row mac
	err := d.s.try(ctx, "read an app state MAC", func(ctx context.Context) error {
		return found(d.s.macs.FindOne(ctx, bson.D{{Key: "device", Value: d.id}, {Key: "name", Value: name}, {Key: "index", Value: indexMAC}},
			options.FindOne().SetSort(bson.D{{Key: "version", Value: -1}})).Decode(&row))
	})
	if err == nil && row.ID != "" && len(row.Value) != 32 {
		err = fmt.Errorf("read an app state MAC: %w", errLength)
	}
	return row.Value, err
}
