// Package mongostore keeps everything in MongoDB: the inbox, the leases by which one process drives
// a device, and the device state that whatsmeow needs (store.AllStores and store.DeviceContainer).
//
// What whatsmeow's sqlstore does is right; storetest holds this package to it. All keys of a device lie in the
// collection "sessions", a document each, whose _id is device, kind and key. So the writes of one
// decryption fit in one ordered command, and what a transaction would give comes from their order:
// the decrypted text first, then identity, session and sender key, and the used pre-key goes last. A prefix of
// that, which is all a crash can leave, loses nothing: the text is there for the redelivery.
//
// Every identity, session and sender key counts its writes (rev). A write names the rev it was
// made from and is refused where the document has moved on: a command that a frozen
// machine carries out late, or one of a process that lost its lease, can never turn a ratchet back.
// What has no such count to be written from, as a note, is written under a higher rev each time, in which the lease's epoch comes first.
// One process drives a device, by its lease, so what was read or written is kept in memory, and forgotten when a
// write's outcome is unknown or a lease changes hands.
//
// A database that cannot be reached is not a failed decryption. Each call tries again for
// Options.Patience, after looking what became of a write whose answer was lost. Then it gives an
// error that is both ErrOutage and context.Canceled: whatsmeow leaves such a message unacknowledged.
package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// DefaultDatabase is used where the URL names no database.
const DefaultDatabase = "whatsapp_sessions"

// schema is the number of the collections' layout. It rises by one with each step that changes it.
const schema = 1

// Options say which database, and how patient to be with it.
type Options struct {
	// URL is MongoDB's connection string.
	URL string
	// Wait is how long Open waits for a database that cannot be reached; zero tries once.
	Wait time.Duration
	// Timeout bounds one command; 5 seconds when zero.
	Timeout time.Duration
	// Patience is how long a call is tried again through an outage; 10 seconds when zero.
	Patience time.Duration
	// SecretAge is after what time message secrets are forgotten, and with them the means to
	// read edits, votes and reactions to older messages; 90 days when zero.
	SecretAge time.Duration
	// Key seals the secrets of the device state, KeySize bytes; nothing is sealed when empty. OldKeys open what was sealed before.
	Key     []byte
	OldKeys [][]byte
	// Look is set to look at a database beside a program that uses it: Open prepares and cleans up nothing, and nothing may be written.
	Look bool
	// Standby is set by who stands by to drive the device: whoever holds the lease that Acquire waits for is told that somebody waits.
	Standby bool
	// Log gets the store's lines; discarded when nil.
	Log *slog.Logger

	monitor *event.CommandMonitor
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	client *mongo.Client
	db     *mongo.Database
	log    *slog.Logger
	now    func() time.Time

	timeout time.Duration
	seal    *sealer

	patience  time.Duration
	secretAge time.Duration
	// opening is set within Open: a right that is missing then was not taken away for a time.
	opening bool

	sessions, macs, contacts, chats, secrets, outgoing, tokens, lidMap *mongo.Collection
	meta, leases, inboxRows                                            *mongo.Collection

	// What is written through these is not waited for until it is in the journal: see loose.
	looseSessions, looseOutgoing *mongo.Collection
	looseConcern                 *writeconcern.WriteConcern

	// generation counts the times that everything read so far had to be forgotten.
	generation atomic.Int64
	// passive is set from the loss of a lease until one is acquired: nothing may be written.
	passive atomic.Bool
	// untaken is why the lease that nobody holds could not be taken at the last try.
	untaken atomic.Pointer[error]
	standby bool
	// yielding is until when others go first, after Yield.
	yielding time.Time
	broken   atomic.Int64
	// lease is the last that was acquired, nil where none was; revs is the highest rev that overwrite has used or seen.
	lease atomic.Pointer[Lease]
	revs  atomic.Int64

	devices *Devices
	box     box
}

// Open waits for the database, checks that this program may use it, and prepares it, all within Options.Wait. The
// error is one of ErrURL, ErrUnacknowledged, ErrLogin, ErrRights, ErrServer, ErrNewer or ErrOutage, or says what else failed; none
// has credentials in its text.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timeout = orElse(o.Timeout, 5*time.Second)
	s := &Store{log: o.Log, now: time.Now, timeout: o.Timeout, patience: orElse(o.Patience, 10*time.Second), secretAge: orElse(o.SecretAge, 90*24*time.Hour), opening: true, standby: o.Standby, box: box{busy: make(chan struct{}, 1)}}
	var err error
	if s.seal, err = newSealer(o.Key, o.OldKeys); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(o.Wait)
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := s.begin(ctx, o, deadline)
		if err == nil {
			s.opening = false
			return s, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("wait for the database: %w", ctx.Err())
		}
		left := time.Until(deadline)
		if !errors.Is(err, ErrOutage) || left <= 0 {
			return nil, err
		}
		s.log.Warn("waiting for the database; it does not answer yet", "giving_up_in", left.Round(time.Second).String(), "err", err)
		if err := sleep(ctx, min(pause, left)); err != nil {
			return nil, fmt.Errorf("wait for the database: %w", err)
		}
	}
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// begin tries once to reach the database and to prepare it. Where little or nothing is left of the wait, each of the
// two still gets Options.Timeout.
func (s *Store) begin(ctx context.Context, o Options, deadline time.Time) error {
	try, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := s.connect(try, o); err != nil {
		return err
	}
	if o.Wait > 0 {
		if least := time.Now().Add(o.Timeout); deadline.Before(least) {
			deadline = least
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	s.collections(databaseName(o.URL))
	s.devices = &Devices{s: s, known: make(map[string]*device)}
	s.devices.lids = newLIDs(s)
	steps := []func(context.Context) error{s.checkSchema, s.checkKeys, s.markSchema, s.makeIndexes, s.dropIndexes}
	if o.Look {
		s.passive.Store(true)
		steps = steps[:2]
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			s.Close(context.WithoutCancel(ctx))
			return operatorError(err)
		}
	}
	return nil
}

// collections names the collections of the database.
func (s *Store) collections(database string) {
	s.db = s.client.Database(database)
	for name, c := range map[string]**mongo.Collection{
		"sessions": &s.sessions, "app_state_macs": &s.macs, "contacts": &s.contacts, "chat_settings": &s.chats,
		"message_secrets": &s.secrets, "outgoing": &s.outgoing, "privacy_tokens": &s.tokens, "lids": &s.lidMap,
		"meta": &s.meta, "leases": &s.leases, "inbox": &s.inboxRows,
	} {
		*c = s.db.Collection(name)
	}
	s.looseSessions, s.looseOutgoing = s.loose(s.sessions), s.loose(s.outgoing)
}

// loose is c for writes that a crash of a standalone server may undo: a copy of what is sent, which whatsmeow has in memory too, and
// that the text of what was stored is not needed any more, and that somebody waits for a lease. The server writes its journal ten times a second, and whenever another write
// of ours waits for it (MongoDB's manual, "Journaling"); a replica set's majority has it in the journal all the same.
func (s *Store) loose(c *mongo.Collection) *mongo.Collection {
	return c.Clone(options.Collection().SetWriteConcern(s.looseConcern))
}

func (s *Store) connect(ctx context.Context, o Options) error {
	opts := options.Client().ApplyURI(o.URL)
	if err := opts.Validate(); err != nil {
		if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
			return &outageError{fmt.Errorf("look up the database's address: %s", dns.Err)}
		}
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			return fmt.Errorf("read a file that MONGO_URL names: %w", file)
		}
		return ErrURL // without the driver's text, which may quote a password
	}
	opts.SetTimeout(o.Timeout).SetServerSelectionTimeout(o.Timeout).SetConnectTimeout(o.Timeout)
	opts.SetReadPreference(readpref.Primary()).SetHeartbeatInterval(2 * time.Second)
	concern := orElse(opts.WriteConcern, new(writeconcern.WriteConcern))
	if !concern.Acknowledged() {
		return ErrUnacknowledged
	}
	journalled := func(otherwise bool) *writeconcern.WriteConcern {
		return &writeconcern.WriteConcern{W: cmp.Or[any](concern.W, "majority"), Journal: orElse(concern.Journal, &otherwise)}
	}
	opts.SetWriteConcern(journalled(true))
	s.looseConcern = journalled(false)
	if opts.AppName == nil {
		opts.SetAppName("wabot")
	}
	if s.seal != nil {
		opts.SetRegistry(s.seal.registry())
	}
	if o.monitor != nil {
		opts.SetMonitor(o.monitor)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		return ErrURL
	}
	if err := client.Ping(ctx, nil); err != nil {
		client.Disconnect(context.WithoutCancel(ctx))
		return operatorError(err)
	}
	s.client = client
	return nil
}

// databaseName is the database that a connection string names, or the default. The string is not
// a URL that net/url reads: it may name several hosts.
func databaseName(connection string) string {
	_, rest, _ := strings.Cut(connection, "://")
	_, path, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(path, "?")
	if plain, err := url.PathUnescape(name); err == nil && plain != "" {
		return plain
	}
	return DefaultDatabase
}

// Close ends the connections. The store must not be used any more.
func (s *Store) Close(ctx context.Context) error {
	if err := s.client.Disconnect(ctx); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return nil
}

// Ping asks whether the database answers, once.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.client.Ping(ctx, nil); err != nil {
		return wrapOutage("ping the database", err)
	}
	return nil
}

// Devices are the devices kept in the database.
func (s *Store) Devices() *Devices { return s.devices }

// PreKeys counts the one-time pre-keys that WhatsApp was given and nobody has used.
func (s *Store) PreKeys(ctx context.Context) (int, error) {
	n, err := s.sessions.CountDocuments(ctx, bson.D{{Key: "kind", Value: kindPreKey}, {Key: "uploaded", Value: true}})
	if err != nil {
		return 0, wrapOutage("count the pre-keys", err)
	}
	return int(n), nil
}

// BrokenSessions counts the sessions that did not decode and were set aside since Open.
func (s *Store) BrokenSessions() int64 { return s.broken.Load() }

// forget drops all that was read: another process may have written since.
func (s *Store) forget() { s.generation.Add(1) }

type note struct {
	ID    string `bson:"_id"`
	Rev   int64  `bson:"rev,omitempty"` // see overwrite
	Value []byte `bson:"value"`         // null where the note was removed
}

// Note is the value kept under the key by SetNote, nil when there is none.
func (s *Store) Note(ctx context.Context, key string) ([]byte, error) {
	var n note
	err := s.try(ctx, "read a note", func(ctx context.Context) error {
		return found(s.meta.FindOne(ctx, byID("note/"+key)).Decode(&n))
	})
	return n.Value, err
}

// SetNote keeps a value under a key; a nil value removes it.
func (s *Store) SetNote(ctx context.Context, key string, value []byte) error {
	n := note{ID: "note/" + key, Value: value}
	return s.overwrite(ctx, "write a note", s.meta, n.ID, func(rev int64) any {
		n.Rev = rev
		return n
	})
}

// overwrite puts a whole document in the place of what is there, unless that was written later. So a command that the database
// carries out late takes nothing back; what is removed is therefore written over, too, and not deleted. Each try has a rev above those
// before it, and above those of all who have led before; a document of an earlier version has none.
func (s *Store) overwrite(ctx context.Context, doing string, c *mongo.Collection, id string, document func(rev int64) any) error {
	return s.write(ctx, doing, func(ctx context.Context) error {
		rev := s.revs.Add(1)
		notLater := bson.D{field("_id", id), field("rev", bson.D{field("$not", bson.D{field("$gt", rev)})})}
		_, err := c.ReplaceOne(ctx, notLater, document(rev), options.Replace().SetUpsert(true))
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		var there struct {
			Rev int64 `bson:"rev"`
		}
		if err := found(c.FindOne(ctx, byID(id)).Decode(&there)); err != nil {
			return err
		}
		// Another leads, unless another call came between, or somebody has deleted the leases, with which the epochs begin anew.
		if l := s.lease.Load(); l != nil {
			leader, err := s.leader(ctx, l.key)
			if err != nil {
				return err
			}
			if leader.Epoch != l.epoch {
				return errPassive
			}
		}
		s.revsAbove(there.Rev)
		return errAgain
	})
}

// revsAbove makes the next revs be above the one given.
func (s *Store) revsAbove(rev int64) {
	for last := s.revs.Load(); last < rev && !s.revs.CompareAndSwap(last, rev); last = s.revs.Load() {
	}
}

// checkSchema refuses a database of a newer program.
func (s *Store) checkSchema(ctx context.Context) error {
	var mark struct {
		Number int64 `bson:"number"`
	}
	err := s.try(ctx, "read the schema number", func(ctx context.Context) error {
		return found(s.meta.FindOne(ctx, byID("schema")).Decode(&mark))
	})
	if err != nil {
		return err
	}
	if mark.Number > schemaSealed {
		return fmt.Errorf("%w: its schema is %d, this program knows %d", ErrNewer, mark.Number, schemaSealed)
	}
	return nil
}

func (s *Store) markSchema(ctx context.Context) error {
	return s.try(ctx, "write the schema number", func(ctx context.Context) error {
		return upsert(s.meta.UpdateOne(ctx, byID("schema"), bson.D{{Key: "$max", Value: bson.D{{Key: "number", Value: int64(schema)}}}}, options.UpdateOne().SetUpsert(true)))
	})
}

// index is one of the indexes that the store needs.
type index struct {
	collection *mongo.Collection
	keys       []string
	unique     bool
}

func (s *Store) indexes() []index {
	return []index{
		{s.sessions, []string{"kind", "at"}, false},
		{s.sessions, []string{"device", "user"}, false},
		{s.macs, []string{"device", "name", "index", "version"}, true},
		{s.secrets, []string{"at"}, false},
		{s.outgoing, []string{"device", "at"}, false},
		{s.lidMap, []string{"pn"}, true},
		{s.inboxRows, []string{"open", "kind", "ended"}, false},
		{s.inboxRows, []string{"name"}, false},
		{s.inboxRows, []string{"chat", "kind", "open", "ended", "seq"}, false},
		{s.inboxRows, []string{"messages._id"}, false},
	}
}

// makeIndexes makes the indexes that are not there yet. Keys are in order: a document of ours
// is found by them, and two of them forbid what must not be.
func (s *Store) makeIndexes(ctx context.Context) error {
	for _, index := range s.indexes() {
		var keys bson.D
		for _, k := range index.keys {
			keys = append(keys, bson.E{Key: k, Value: int32(1)})
		}
		what := fmt.Sprintf("make the index of %s by %s", index.collection.Name(), strings.Join(index.keys, ", "))
		err := s.try(ctx, what, func(ctx context.Context) error {
			_, err := index.collection.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: keys, Options: options.Index().SetUnique(index.unique)})
			return err
		})
		if mongo.IsDuplicateKeyError(err) {
			// The server's text has the value, which may be a phone number.
			return fmt.Errorf("%s: documents there have the same, which this program never writes; compare them and delete the wrong ones", what)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropIndexes drops those that versions before have made and this one does not need: each costs with every write. It is no
// step of the schema, because a version before, which makes its index again, may come back any time.
func (s *Store) dropIndexes(ctx context.Context) error {
	return s.try(ctx, "drop an index of inbox that is not needed any more", func(ctx context.Context) error {
		err := s.inboxRows.Indexes().DropOne(ctx, "open_1_kind_1")
		var refused mongo.CommandError
		if errors.As(err, &refused) && refused.Code == indexNotFound {
			return nil
		}
		return err
	})
}

// indexNotFound is MongoDB's code for an index that is not there.
const indexNotFound = 27

func byID(id string) bson.D { return bson.D{{Key: "_id", Value: id}} }

func set(fields bson.D) bson.D { return bson.D{{Key: "$set", Value: fields}} }

// found makes "no document" no error, as missing rows are not errors here.
func found(err error) error {
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil
	}
	return err
}

// upsert is the error of an upsert by a unique key: when two insert at once, one is refused and
// must be made again, as the document is there now; try does so.
func upsert(_ *mongo.UpdateResult, err error) error {
	if mongo.IsDuplicateKeyError(err) {
		return errAgain
	}
	return err
}
