package mongostore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/chat"
	"wabot/internal/transfer"
)

var _ transfer.Store = (*Store)(nil)

// unescape undoes escape.
var unescape = strings.NewReplacer("%25", "%", "%2F", "/").Replace

// parts are the n parts of an _id after the device, or nil.
func parts(id, device string, n int) []string {
	rest, ok := strings.CutPrefix(id, device+"/")
	all := strings.SplitN(rest, "/", n)
	if !ok || len(all) != n {
		return nil
	}
	for i := range all[:n-1] {
		all[i] = unescape(all[i])
	}
	return all
}

// notesOnly finds the notes in "meta".
var notesOnly = bson.D{{Key: "_id", Value: within("note/")}}

// Rows implements transfer.Store. Sessions that did not decode and were set aside are left out. The rows are of one moment only
// if nobody else writes.
func (s *Store) Rows(ctx context.Context, each func(transfer.Row) error) error {
	devices, err := find[deviceRow](ctx, s, "read the devices", s.sessions, bson.D{field("kind", kindDevice)})
	if err != nil {
		return err
	}
	if len(devices) > 1 {
		return transfer.ErrSeveral
	}
	for _, d := range devices {
		if err := s.deviceRows(ctx, d, each); err != nil {
			return err
		}
	}
	err = eachDocument(ctx, s.lidMap, bson.D{}, "_id", func(row lidRow) error {
		return each(transfer.LID{LID: row.LID, PN: row.PN})
	})
	if err != nil {
		return err
	}
	err = eachDocument(ctx, s.meta, notesOnly, "_id", func(n note) error {
		key := strings.TrimPrefix(n.ID, "note/")
		if transfer.IsMark(key) || n.Value == nil {
			return nil
		}
		return each(transfer.Note{Key: key, Value: n.Value})
	})
	if err != nil {
		return err
	}
	return s.inboxAll(ctx, each)
}

// eachDocument calls each for the documents that match, in order of the fields.
func eachDocument[D any](ctx context.Context, c *mongo.Collection, filter bson.D, order string, each func(D) error) error {
	doing := "read " + c.Name()
	var sort bson.D
	for name := range strings.FieldsSeq(order) {
		sort = append(sort, field(name, 1))
	}
	cursor, err := c.Find(ctx, filter, options.Find().SetSort(sort))
	if err != nil {
		return wrapOutage(doing, err)
	}
	defer func() {
		// A server that hangs does not end a cursor either, and the driver would wait for ever.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		cursor.Close(ctx)
	}()
	for cursor.Next(ctx) {
		var d D
		if err := cursor.Decode(&d); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if err := each(d); err != nil {
			return err
		}
	}
	if err := cursor.Err(); err != nil {
		return wrapOutage(doing, err)
	}
	return nil
}

// deviceRows gives a device and what belongs to it.
func (s *Store) deviceRows(ctx context.Context, d deviceRow, each func(transfer.Row) error) error {
	err := each(transfer.Device{
		JID: d.Device, LID: d.Changes.LID, FacebookUUID: d.FacebookUUID, RegistrationID: d.RegistrationID, NoiseKey: d.NoiseKey, IdentityKey: d.IdentityKey,
		SignedPreKey: d.SignedPreKey, SignedPreKeyID: d.SignedPreKeyID, SignedPreKeySignature: d.SignedPreKeySig,
		AdvKey: d.AdvKey, AdvDetails: d.AdvDetails, AccountSignature: d.AccountSig, AccountSignatureKey: d.AccountSigKey, DeviceSignature: d.DeviceSig,
		Platform: d.Changes.Platform, BusinessName: d.Changes.BusinessName, PushName: d.Changes.PushName,
		LIDMigrationTimestamp: d.Changes.LIDMigrationTimestamp, CompanionMetaNonce: d.Changes.CompanionMetaNonce,
	})
	if err != nil {
		return err
	}
	own := bson.D{field("_id", within(d.Device+"/"))}
	err = eachDocument(ctx, s.sessions, own, "_id", func(raw bson.Raw) error {
		r, err := s.sessionsRow(d.Device, raw)
		if err != nil || r == nil {
			return err
		}
		return each(r)
	})
	if err == nil {
		err = each(transfer.PreKeyCount{Next: d.NextPreKey})
	}
	if err == nil {
		err = eachDocument(ctx, s.macs, own, "_id", func(r mac) error {
			return each(transfer.MAC{Name: r.Name, Version: r.Version, Index: r.Index, Value: r.Value})
		})
	}
	if err == nil {
		err = eachDocument(ctx, s.contacts, own, "_id", func(r contact) error {
			return each(transfer.Contact{JID: r.JID, First: r.First, Full: r.Full, Push: r.Push, Business: r.Business, Redacted: r.Redacted})
		})
	}
	if err == nil {
		err = eachDocument(ctx, s.chats, own, "_id", func(r chatRow) error {
			return each(transfer.ChatSettings{JID: r.JID, MutedUntil: r.MutedUntil, Pinned: r.Pinned, Archived: r.Archived})
		})
	}
	if err == nil {
		err = eachDocument(ctx, s.secrets, own, "_id", func(r secret) error {
			name := parts(r.ID, d.Device, 3)
			if name == nil {
				return errors.New("read a message secret: its _id is not of ours")
			}
			return each(transfer.Secret{Chat: name[0], Sender: name[1], ID: name[2], Secret: r.Secret})
		})
	}
	if err == nil {
		err = eachDocument(ctx, s.tokens, own, "_id", func(r token) error {
			return each(transfer.Token{JID: parts(r.ID, d.Device, 1)[0], Token: r.Token, Time: r.At, Sent: r.SentAt})
		})
	}
	if err == nil {
		err = eachDocument(ctx, s.outgoing, own, "_id", func(r sent) error {
			name := parts(r.ID, d.Device, 2)
			if name == nil {
				return errors.New("read a sent message: its _id is not of ours")
			}
			return each(transfer.Sent{Chat: name[0], ID: name[1], Format: r.Format, Plaintext: r.Plaintext, At: r.At})
		})
	}
	return err
}

// sessionsRow makes a row of a document in "sessions", or nil of one that is no row of its own.
func (s *Store) sessionsRow(device string, raw bson.Raw) (transfer.Row, error) {
	kind, _ := raw.Lookup("kind").StringValueOK()
	read := func(v any) error {
		if err := s.seal.unmarshal(raw, v); err != nil {
			return fmt.Errorf("read a document of kind %s: %w", kind, err)
		}
		return nil
	}
	switch kind {
	case kindDevice, kindBrokenSession:
		return nil, nil
	case kindIdentity, kindSession, kindSenderKey, kindSalt:
		var v value
		if err := read(&v); err != nil {
			return nil, err
		}
		switch kind {
		case kindIdentity:
			return transfer.Identity{Address: v.Key, Key: v.Data}, nil
		case kindSession:
			return transfer.Session{Address: v.Key, Record: v.Data}, nil
		case kindSalt:
			return transfer.Salt{Salt: v.Data}, nil
		}
		name := parts(v.ID, device+"/"+kindSenderKey, 2)
		if name == nil {
			return nil, errors.New("read a sender key: its _id is not of ours")
		}
		return transfer.SenderKey{Group: name[0], Sender: name[1], Record: v.Data}, nil
	case kindPreKey:
		var p preKey
		err := read(&p)
		return transfer.PreKey{ID: p.Number, Private: p.Private, Uploaded: p.Uploaded}, err
	case kindEvent:
		var e bufferedEvent
		if err := read(&e); err != nil {
			return nil, err
		}
		hash, err := hex.DecodeString(e.Key)
		if err != nil {
			return nil, errors.New("read a buffered event: its hash is not one")
		}
		return transfer.Event{Hash: hash, Plaintext: e.Plaintext, Handled: e.Plaintext == nil, ServerTime: e.ServerTime, Came: e.At}, nil
	case kindSyncKey:
		var k syncKey
		if err := read(&k); err != nil {
			return nil, err
		}
		id, err := hex.DecodeString(k.Key)
		if err != nil {
			return nil, errors.New("read an app state key: its ID is not one")
		}
		return transfer.SyncKey{ID: id, Data: k.Data, Fingerprint: k.Fingerprint, Timestamp: k.Timestamp}, nil
	case kindVersion:
		var v version
		err := read(&v)
		return transfer.Version{Name: v.Key, Version: v.Version, Hash: v.Hash}, err
	}
	return nil, fmt.Errorf("a document has the unknown kind %q", kind)
}

// inboxAll gives the charges, the marks, the turns and the waiting messages.
func (s *Store) inboxAll(ctx context.Context, each func(transfer.Row) error) error {
	turn := func(t turnRow) error {
		out := transfer.Turn{Chat: t.Chat, Lease: t.Lease, Ready: t.Ready, Attempt: t.Attempt, Reply: t.Reply, Failure: t.Failure, Ended: t.Ended, Tries: t.Tries}
		for _, m := range t.Messages {
			out.Messages = append(out.Messages, transfer.Message{Came: m.Came, JSON: m.Message})
		}
		return each(out)
	}
	named := func(prefix string) bson.D { return bson.D{field("_id", within(prefix))} }
	err := eachDocument(ctx, s.inboxRows, named("c/"), "_id", func(row chargeRow) error {
		return each(transfer.Charge{JSON: row.Charge})
	})
	if err != nil {
		return err
	}
	err = eachDocument(ctx, s.inboxRows, named("e/"), "_id", func(row markRow) error {
		return each(transfer.Mark{Message: row.Name, Fate: string(row.Fate), Chat: row.Chat, Who: row.Who, At: row.Ended, Why: row.Why})
	})
	if err != nil {
		return err
	}
	err = eachDocument(ctx, s.inboxRows, named("h/"), "_id", func(row heardRow) error {
		if row.Kind == kindUnheard {
			return nil
		}
		return each(transfer.Heard{Chat: row.Chat, JSON: row.Said})
	})
	if err != nil {
		return err
	}
	// Of any chat: said so that the index which has the order is the one that is taken, rather than all turns sorted in the server's memory.
	ended := bson.D{field("chat", bson.D{field("$gte", "")}), field("kind", kindTurn), field("open", false)}
	if err := eachDocument(ctx, s.inboxRows, ended, "chat kind open ended seq", turn); err != nil {
		return err
	}
	var b box
	if _, err := s.load(ctx, &b); err != nil {
		return err
	}
	slices.SortFunc(b.turns, func(x, y *turnRow) int { return cmp.Or(cmp.Compare(x.Chat, y.Chat), cmp.Compare(x.Seq, y.Seq)) })
	for _, t := range b.turns {
		if err := turn(*t); err != nil {
			return err
		}
	}
	for _, m := range b.waiting {
		if err := each(transfer.Waiting{Chat: m.Chat, Message: transfer.Message{Came: m.Came, JSON: m.Message}}); err != nil {
			return err
		}
	}
	return nil
}

// PutRows implements transfer.Store.
func (s *Store) PutRows(ctx context.Context, rows []transfer.Row) error {
	defer s.forget()
	w := &writer{s: s, documents: make(map[*mongo.Collection][]any), names: make(map[string]bool)}
	var row deviceRow
	err := s.try(ctx, "look for the device", func(ctx context.Context) error {
		return found(s.sessions.FindOne(ctx, bson.D{field("kind", kindDevice)}).Decode(&row))
	})
	if err != nil {
		return err
	}
	w.d = &device{s: s, id: row.Device}
	err = s.try(ctx, "count the messages", func(ctx context.Context) (err error) {
		// Each row of the inbox has one number, so this is above all of them.
		w.seq, err = s.inboxRows.EstimatedDocumentCount(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.lookAll(ctx, rows); err != nil {
		return err
	}
	for _, r := range rows {
		if err := w.add(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", r.Kind(), err)
		}
	}
	for _, c := range append(s.owned(), s.tokens, s.lidMap, s.meta, s.inboxRows) {
		documents := w.documents[c]
		if len(documents) == 0 {
			continue
		}
		err := s.write(ctx, "write "+c.Name(), func(ctx context.Context) error {
			_, err := c.InsertMany(ctx, documents, options.InsertMany().SetOrdered(false))
			return onlyDuplicates(err) // of an earlier try; a copy reads all back
		})
		if err != nil {
			return err
		}
	}
	if w.next == 0 {
		return nil
	}
	return s.write(ctx, "count the pre-keys", func(ctx context.Context) error {
		_, err := s.sessions.UpdateOne(ctx, byID(w.d.rowID()), set(bson.D{field("next_pre_key", w.next)}))
		return err
	})
}

// writer makes documents of rows.
type writer struct {
	s         *Store
	d         *device
	seq       int64 // of the next row of the inbox
	next      int64 // pre-key, 0 where no row said
	documents map[*mongo.Collection][]any
	names     map[string]bool // _ids of messages in documents
}

func (w *writer) put(c *mongo.Collection, document any) {
	w.documents[c] = append(w.documents[c], document)
}

// value puts a counted document. It begins above all counts that an earlier device with this JID can have
// reached, so that a write made for that one and carried out late is refused.
func (w *writer) value(v value, data []byte) {
	v.Data, v.Rev = data, w.s.now().UnixMilli()
	w.put(w.s.sessions, v)
}

func (w *writer) number() int64 {
	w.seq++
	return w.seq - 1
}

func (w *writer) add(ctx context.Context, r transfer.Row) error {
	s, d := w.s, w.d
	own := func(jid string) bson.D {
		return bson.D{field("_id", d.id+"/"+jid), field("device", d.id), field("jid", jid)}
	}
	switch r := r.(type) {
	case transfer.Device:
		w.d = &device{s: s, id: r.JID}
		row := deviceRow{
			ID: w.d.rowID(), Device: r.JID, Kind: kindDevice, RegistrationID: r.RegistrationID, NoiseKey: r.NoiseKey, IdentityKey: r.IdentityKey,
			SignedPreKey: r.SignedPreKey, SignedPreKeyID: r.SignedPreKeyID, SignedPreKeySig: r.SignedPreKeySignature,
			AdvKey: r.AdvKey, AdvDetails: r.AdvDetails, AccountSig: r.AccountSignature, AccountSigKey: r.AccountSignatureKey, DeviceSig: r.DeviceSignature,
			FacebookUUID: r.FacebookUUID, PairedAt: s.now().UnixMilli(), NextPreKey: 1,
			Changes: deviceChanges{
				LID: r.LID, Platform: r.Platform, BusinessName: r.BusinessName, PushName: r.PushName,
				LIDMigrationTimestamp: r.LIDMigrationTimestamp, CompanionMetaNonce: r.CompanionMetaNonce,
			},
		}
		if at := r.PairedAt(); !at.IsZero() {
			row.PairedAt = at.UnixMilli()
		}
		w.put(s.sessions, row)
		return checkLengths(row)
	case transfer.Identity:
		w.value(d.ref(kindIdentity, r.Address), r.Key)
	case transfer.Session:
		w.value(d.ref(kindSession, r.Address), r.Record)
	case transfer.PreKey:
		id := d.preKeyID(uint32(r.ID))
		w.put(s.sessions, preKey{ID: id, Device: d.id, Kind: kindPreKey, Key: fmt.Sprint(r.ID), Number: r.ID, Private: r.Private, Uploaded: r.Uploaded})
	case transfer.PreKeyCount:
		w.next = r.Next
	case transfer.SenderKey:
		w.value(d.senderRef(r.Group, r.Sender), r.Record)
	case transfer.SyncKey:
		ref := d.ref(kindSyncKey, hex.EncodeToString(r.ID))
		w.put(s.sessions, syncKey{ID: ref.ID, Device: d.id, Kind: kindSyncKey, Key: ref.Key, Data: r.Data, Fingerprint: r.Fingerprint, Timestamp: r.Timestamp})
	case transfer.Version:
		w.put(s.sessions, version{ID: d.ref(kindVersion, r.Name).ID, Device: d.id, Kind: kindVersion, Key: r.Name, Version: r.Version, Hash: r.Hash})
	case transfer.MAC:
		w.put(s.macs, mac{ID: d.macID(r.Name, uint64(r.Version), r.Index), Device: d.id, Name: r.Name, Version: r.Version, Index: r.Index, Value: r.Value})
	case transfer.Contact:
		w.put(s.contacts, append(own(r.JID), field("first_name", r.First), field("full_name", r.Full), field("push_name", r.Push),
			field("business_name", r.Business), field("redacted_phone", r.Redacted)))
	case transfer.ChatSettings:
		w.put(s.chats, append(own(r.JID), field("muted_until", r.MutedUntil), field("pinned", r.Pinned), field("archived", r.Archived)))
	case transfer.Secret:
		id := d.id + "/" + escape(r.Chat) + "/" + escape(r.Sender) + "/" + r.ID
		w.put(s.secrets, secret{ID: id, Device: d.id, Sender: r.Sender, Secret: r.Secret, At: s.now().UnixMilli()})
	case transfer.Token:
		row := append(own(r.JID), field("token", s.seal.seal(d.id+"/"+r.JID, "token", r.Token)), field("timestamp", r.Time))
		if r.Sent != nil {
			row = append(row, field("sender_timestamp", *r.Sent))
		}
		w.put(s.tokens, row)
	case transfer.Salt:
		w.value(d.ref(kindSalt, ""), r.Salt)
	case transfer.Event:
		if len(r.Hash) != 32 {
			return errLength
		}
		e := bufferedEvent{ID: d.eventID([32]byte(r.Hash)), Device: d.id, Kind: kindEvent, Key: hex.EncodeToString(r.Hash), Plaintext: r.Plaintext, ServerTime: r.ServerTime, At: r.Came}
		if e.Plaintext == nil && !r.Handled {
			e.Plaintext = []byte{}
		}
		w.put(s.sessions, e)
	case transfer.Sent:
		w.put(s.outgoing, sent{ID: d.id + "/" + escape(r.Chat) + "/" + r.ID, Device: d.id, Format: r.Format, Plaintext: r.Plaintext, At: r.At})
	case transfer.LID:
		w.put(s.lidMap, lidRow{LID: r.LID, PN: r.PN})
	case transfer.Note:
		w.put(s.meta, note{ID: "note/" + r.Key, Value: append([]byte{}, r.Value...)}) // never null, which is no note
	case transfer.Charge:
		c, err := r.Read()
		if err != nil {
			return err
		}
		row, err := rowOfCharge(c)
		if err != nil {
			return err
		}
		w.put(s.inboxRows, row)
	case transfer.Mark:
		w.put(s.inboxRows, rowOfMark(chat.Mark{
			Message: r.Message, Fate: chat.Fate(r.Fate), Chat: r.Chat, Who: r.Who, Time: time.Unix(0, r.At), Why: r.Why,
		}))
	case transfer.Heard:
		all, err := r.Read()
		if err != nil {
			return err
		}
		row, err := rowOfHeard(r.Chat, all)
		if err != nil {
			return err
		}
		w.put(s.inboxRows, row)
	case transfer.Turn:
		return w.turn(ctx, r)
	case transfer.Waiting:
		_, err := w.message(ctx, r.Chat, true, r.Message)
		return err
	default:
		return errors.New("the MongoDB store does not know this kind")
	}
	return nil
}

func (w *writer) turn(ctx context.Context, r transfer.Turn) error {
	t := turnRow{
		ID: "t/" + rand.Text(), Kind: kindTurn, Chat: r.Chat, Rev: 1, Seq: w.number(), Open: r.Ended == 0, Lease: r.Lease, Ready: r.Ready,
		Attempt: r.Attempt, Reply: r.Reply, Failure: r.Failure, Ended: r.Ended, Tries: r.Tries,
	}
	for _, m := range r.Messages {
		row, err := w.message(ctx, r.Chat, t.Open, m)
		if err != nil {
			return err
		}
		t.Messages = append(t.Messages, row)
	}
	w.put(w.s.inboxRows, t)
	return nil
}

// message puts a message under the name that it would have got when it came. A message of the
// name that is there already is another one, as insert explains.
func (w *writer) message(ctx context.Context, jid string, open bool, m transfer.Message) (messageRow, error) {
	came, err := m.Read()
	if err != nil {
		return messageRow{}, err
	}
	row := messageRow{ID: messageID(came, ""), Kind: kindMessage, Chat: jid, Came: m.Came, Seq: w.number(), Open: open, Message: m.JSON, Name: came.ID}
	if open {
		row.Newest = m.Came
	}
	for mark := "+"; w.names[row.ID]; mark += "+" {
		row.ID = messageID(came, mark)
		if err := w.look(ctx, row.ID); err != nil {
			return messageRow{}, err
		}
	}
	w.names[row.ID] = true
	w.put(w.s.inboxRows, row)
	return row, nil
}

// look notes which of the names of messages are in the database.
func (w *writer) look(ctx context.Context, ids ...string) error {
	there, err := w.s.findIDs(ctx, "look for messages", w.s.inboxRows, bson.D{field("_id", bson.D{field("$in", ids)})})
	for _, id := range there {
		w.names[id] = true
	}
	return err
}

// lookAll does so for the messages of the rows, before any is added.
func (w *writer) lookAll(ctx context.Context, rows []transfer.Row) error {
	var ids []string
	for _, r := range rows {
		var messages []transfer.Message
		switch r := r.(type) {
		case transfer.Turn:
			messages = r.Messages
		case transfer.Waiting:
			messages = []transfer.Message{r.Message}
		}
		for _, m := range messages {
			came, err := m.Read()
			if err != nil {
				return err
			}
			ids = append(ids, messageID(came, ""))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return w.look(ctx, ids...)
}

// Clear implements transfer.Store: the device first, so that what a crash leaves has no owner.
func (s *Store) Clear(ctx context.Context) error {
	defer s.forget()
	type step struct {
		c      *mongo.Collection
		filter bson.D
	}
	steps := []step{{s.sessions, bson.D{field("kind", kindDevice)}}}
	for _, c := range append(s.owned(), s.tokens, s.lidMap, s.inboxRows) {
		steps = append(steps, step{c, bson.D{}})
	}
	err := eachDocument(ctx, s.meta, notesOnly, "_id", func(n note) error {
		if !transfer.IsMark(strings.TrimPrefix(n.ID, "note/")) {
			steps = append(steps, step{s.meta, byID(n.ID)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, step := range steps {
		err := s.write(ctx, "empty "+step.c.Name(), func(ctx context.Context) error {
			_, err := step.c.DeleteMany(ctx, step.filter)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// ForgetRatchets implements transfer.Ratchets. The count is raised first.
func (s *Store) ForgetRatchets(ctx context.Context, skip int64) error {
	defer s.forget()
	err := s.write(ctx, "raise the count of pre-keys", func(ctx context.Context) error {
		_, err := s.sessions.UpdateMany(ctx, bson.D{field("kind", kindDevice)}, bson.D{field("$inc", bson.D{field("next_pre_key", skip)})})
		return err
	})
	if err != nil {
		return err
	}
	return s.write(ctx, "forget the Signal sessions", func(ctx context.Context) error {
		ratchets := bson.A{kindSession, kindBrokenSession, kindSenderKey}
		_, err := s.sessions.DeleteMany(ctx, bson.D{field("kind", bson.D{field("$in", ratchets)})})
		return err
	})
}

// Problems looks for what must not be in the database and returns a sentence for each kind of it.
func (s *Store) Problems(ctx context.Context) (all []string, err error) {
	devices, broken, orphans := map[string]bool{}, 0, 0
	err = eachDocument(ctx, s.sessions, bson.D{field("kind", kindDevice)}, "kind at", func(d deviceRow) error {
		devices[d.Device] = true
		return nil
	})
	for _, c := range s.owned() {
		if err != nil {
			return nil, err
		}
		err = eachDocument(ctx, c, bson.D{}, "_id", func(d struct {
			Device string `bson:"device"`
			Kind   string `bson:"kind"`
		}) error {
			if d.Kind == kindBrokenSession {
				broken++
			}
			if !devices[d.Device] {
				orphans++
			}
			return nil
		})
	}
	if broken > 0 {
		all = append(all, fmt.Sprintf("sessions that could not be read and were set aside: %d; their people's next messages were asked for again", broken))
	}
	if orphans > 0 {
		all = append(all, fmt.Sprintf("documents of a device that is not there: %d; they are deleted at the next start", orphans))
	}
	return all, err
}

// Peek looks whether the database holds a device, and what the note under key says; nil where there is none. It
// changes nothing, and takes no longer than the timeout in o for each of its commands.
func Peek(ctx context.Context, o Options, key string) (has bool, value []byte, err error) {
	s := &Store{}
	if err := s.connect(ctx, o); err != nil {
		return false, nil, err
	}
	defer s.client.Disconnect(context.WithoutCancel(ctx))
	db := s.client.Database(databaseName(o.URL))
	devices, err := db.Collection("sessions").CountDocuments(ctx, bson.D{field("kind", kindDevice)}, options.Count().SetLimit(1))
	var n note
	if err == nil {
		err = found(db.Collection("meta").FindOne(ctx, byID("note/"+key)).Decode(&n))
	}
	if err != nil {
		return false, nil, wrapOutage("look into the database", err)
	}
	return devices > 0, n.Value, nil
}
