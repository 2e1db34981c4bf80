package mongostore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/transfer"
)

// The kinds of documents in "sessions".
const (
	kindDevice        = "device"
	kindIdentity      = "identity"
	kindSession       = "session"
	kindBrokenSession = "broken_session"
	kindSenderKey     = "sender_key"
	kindPreKey        = "pre_key"
	kindEvent         = "event"
	kindSalt          = "nct_salt"
	kindSyncKey       = "app_state_key"
	kindVersion       = "app_state_version"
)

// escape keeps a part of an _id, other than the last, from being taken for two.
var escape = strings.NewReplacer("%", "%25", "/", "%2F").Replace

// value is a document of bytes whose every write is counted.
type value struct {
	ID     string `bson:"_id"`
	Device string `bson:"device"`
	Kind   string `bson:"kind"`
	Key    string `bson:"key"`
	// User is the address's user, by which all of a user's documents are found.
	User string `bson:"user,omitempty"`
	Data []byte `bson:"data"`
	// Rev counts the writes, from the time in milliseconds at which the document was made, so that one that was deleted and made
	// again does not count the same twice; 0 is a document that is not there.
	Rev int64 `bson:"rev"`

	was int64 // the rev of what a write replaces
}

func (v value) there() bool { return v.Rev > 0 }

// over is v as the write that replaces what was there.
func (d *device) over(was, v value) value {
	v.was, v.Rev = was.Rev, was.Rev+1
	if !was.there() {
		v.Rev = d.s.now().UnixMilli()
	}
	return v
}

// bufferedEvent is a decrypted message, kept until the bot has it, and its hash after that.
type bufferedEvent struct {
	ID        string `bson:"_id"`
	Device    string `bson:"device"`
	Kind      string `bson:"kind"`
	Key       string `bson:"key"`
	Plaintext []byte `bson:"plaintext"` // null once the bot has it
	// ServerTime is in seconds, At, when it was put here, in milliseconds.
	ServerTime int64 `bson:"server_time"`
	At         int64 `bson:"at"`
}

// change is what one command writes of a device.
type change struct {
	events []*bufferedEvent
	// replay is set where an earlier try of the same decryption may have stored the events.
	replay bool
	puts   []value  // with the rev they will have
	gone   []string // documents to delete, last
}

// unit collects the writes of one decryption, which sees them in its reads.
type unit struct {
	d    *device
	mu   sync.Mutex
	seen map[string]value // as read, or as the decryption will leave it
	base map[string]value // as in the database
	// events and gone go into the change as they are.
	events []*bufferedEvent
	gone   map[string]bool
}

type unitKey struct{}

// unitOf is the decryption of d that ctx belongs to, or nil.
func (d *device) unitOf(ctx context.Context) *unit {
	if u, _ := ctx.Value(unitKey{}).(*unit); u != nil && u.d == d {
		return u
	}
	return nil
}

func (u *unit) change(replay bool) change {
	c := change{events: u.events, replay: replay}
	for id, v := range u.seen {
		was := u.base[id]
		switch {
		case !v.there() && was.there():
			c.gone = append(c.gone, id)
		case v.there() && !(was.there() && bytes.Equal(v.Data, was.Data)):
			c.puts = append(c.puts, u.d.over(was, v))
		}
	}
	c.gone = append(c.gone, slices.Sorted(maps.Keys(u.gone))...)
	return c
}

// DoDecryptionTxn runs fn, whose writes to d are collected and written with one ordered command at its end;
// none when fn fails. A decryption inside another belongs to it. Where a session changed meanwhile,
// fn is run again: it builds on nothing but what it reads.
func (d *device) DoDecryptionTxn(ctx context.Context, fn func(context.Context) error) error {
	if d.unitOf(ctx) != nil {
		return fn(ctx)
	}
	for try := range 5 {
		u := &unit{d: d, seen: make(map[string]value), base: make(map[string]value), gone: make(map[string]bool)}
		if err := fn(context.WithValue(ctx, unitKey{}, u)); err != nil {
			return err
		}
		err := d.commit(ctx, "write a decryption", u.change(try > 0))
		if !errors.Is(err, errConflict) {
			return err
		}
	}
	return &outageError{errConflict}
}

// read gives the documents of the ids, from the decryption, the cache or the database; one
// that is not there has rev 0.
func (d *device) read(ctx context.Context, refs ...value) (map[string]value, error) {
	u := d.unitOf(ctx)
	out := make(map[string]value, len(refs))
	var missing []value
	for _, ref := range refs {
		if u != nil {
			u.mu.Lock()
			v, ok := u.seen[ref.ID]
			u.mu.Unlock()
			if ok {
				out[ref.ID] = v
				continue
			}
		}
		if v, ok := d.cache.get(ref.ID); ok {
			out[ref.ID] = v
			continue
		}
		missing = append(missing, ref)
		if identity := d.ref(kindIdentity, ref.Key); ref.Kind == kindSession {
			if _, ok := d.cache.get(identity.ID); !ok {
				missing = append(missing, identity) // it is asked for next
			}
		}
	}
	if len(missing) > 0 {
		got, err := d.fetch(ctx, missing)
		if err != nil {
			return nil, err
		}
		for _, ref := range missing {
			out[ref.ID] = got[ref.ID]
		}
	}
	if u != nil {
		u.mu.Lock()
		for id, v := range out {
			if _, ok := u.seen[id]; !ok {
				u.seen[id], u.base[id] = v, v
			}
		}
		u.mu.Unlock()
	}
	return out, nil
}

// fetch reads documents from the database into the cache.
func (d *device) fetch(ctx context.Context, refs []value) (map[string]value, error) {
	var ids []string
	for _, ref := range refs {
		if !slices.Contains(ids, ref.ID) {
			ids = append(ids, ref.ID)
		}
	}
	mark := d.cache.mark()
	rows, err := d.values(ctx, ids)
	if err != nil {
		return nil, err
	}
	got := make(map[string]value, len(refs))
	for _, ref := range refs {
		ref.Data = nil // of a caller that is about to write it
		v, ok := rows[ref.ID]
		if !ok {
			v = ref
		} else if v.Kind == kindSession && transfer.DecodeSession(v.Data) != nil {
			if err := d.setAside(ctx, v); err != nil {
				return nil, err
			}
			v = ref
		}
		got[ref.ID] = v
	}
	d.cache.fill(mark, got)
	return got, nil
}

func (d *device) values(ctx context.Context, ids []string) (map[string]value, error) {
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
	if len(ids) == 1 {
		filter = byID(ids[0])
	}
	list, err := find[value](ctx, d.s, "read keys", d.s.sessions, filter)
	rows := make(map[string]value, len(ids))
	for _, v := range list {
		rows[v.ID] = v
	}
	return rows, err
}

// setAside moves a session that does not decode out of the way, so that the retry protocol can
// make a new one. It keeps the bytes, for whoever looks into it.
func (d *device) setAside(ctx context.Context, v value) error {
	err := d.s.write(ctx, "set a broken session aside", func(ctx context.Context) error {
		kept := d.ref(kindBrokenSession, v.Key)
		kept.Data, kept.Rev = v.Data, v.Rev
		if err := upsert(d.s.sessions.ReplaceOne(ctx, byID(kept.ID), kept, options.Replace().SetUpsert(true))); err != nil {
			return err
		}
		_, err := d.s.sessions.DeleteOne(ctx, bson.D{{Key: "_id", Value: v.ID}, {Key: "rev", Value: v.Rev}})
		return err
	})
	if err == nil {
		d.s.broken.Add(1)
		d.s.log.Warn("a session could not be decoded and was set aside; its next message is asked for again", "bytes", len(v.Data))
	}
	return err
}

// put writes documents, each over what is there now; inside a decryption, with it.
func (d *device) put(ctx context.Context, what string, list ...value) error {
	was, err := d.read(ctx, list...)
	if err != nil {
		return err
	}
	if u := d.unitOf(ctx); u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		for _, v := range list {
			v.Rev = u.base[v.ID].Rev + 1
			u.seen[v.ID] = v
		}
		return nil
	}
	var c change
	for _, v := range list {
		old := was[v.ID]
		if !old.there() || !bytes.Equal(old.Data, v.Data) {
			c.puts = append(c.puts, d.over(old, v))
		}
	}
	return d.commit(ctx, what, c)
}

// remove deletes a document; inside a decryption, with it.
func (d *device) remove(ctx context.Context, what string, ref value) error {
	u := d.unitOf(ctx)
	if u == nil {
		return d.commit(ctx, what, change{gone: []string{ref.ID}})
	}
	if _, err := d.read(ctx, ref); err != nil { // so that base has it
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen[ref.ID] = ref
	return nil
}

// commit writes a change: one update command, and a delete command where something goes. It is
// ordered, so what a crash leaves is a prefix. A conflict writes nothing of the document it is about, nor
// of what comes after it.
func (d *device) commit(ctx context.Context, what string, c change) error {
	order := func(v value) int { return slices.Index([]string{kindIdentity, kindSession, kindSenderKey}, v.Kind) }
	slices.SortFunc(c.puts, func(a, b value) int {
		return cmp.Or(cmp.Compare(order(a), order(b)), strings.Compare(a.ID, b.ID))
	})
	touched := slices.Clone(c.gone)
	for _, v := range c.puts {
		touched = append(touched, v.ID)
	}
	if len(c.events) == 0 && len(touched) == 0 {
		return nil
	}
	d.alive.RLock()
	defer d.alive.RUnlock()
	if !d.saved {
		return fmt.Errorf("%s: %w", what, errNoDevice)
	}
	todo, unsure := c, false
	err := d.s.write(ctx, what, func(ctx context.Context) error {
		if unsure {
			var err error
			if todo, err = d.rest(ctx, todo); err != nil {
				return err
			}
		}
		models := todo.models()
		if len(models) == 0 {
			return nil
		}
		_, err := d.s.sessions.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
		if mongo.IsDuplicateKeyError(err) {
			// Ours from before, or another's: rest tells.
			if todo, err = d.rest(ctx, todo); err == nil {
				err = errAgain
			}
			return err
		}
		unsure = err != nil
		return err
	})
	if err != nil {
		d.cache.drop(touched)
		return err
	}
	d.cache.wrote(c)
	return nil
}

// models are the change's writes in their order.
func (c change) models() []mongo.WriteModel {
	var models []mongo.WriteModel
	absent := bson.D{{Key: "$exists", Value: false}}
	for _, e := range c.events {
		filter := byID(e.ID)
		if !c.replay {
			filter = append(filter, bson.E{Key: "at", Value: absent}) // there already: a duplicate key
		}
		models = append(models, mongo.NewReplaceOneModel().SetFilter(filter).SetReplacement(e).SetUpsert(true))
	}
	for _, v := range c.puts {
		filter := bson.D{{Key: "_id", Value: v.ID}, {Key: "rev", Value: v.was}}
		if v.was == 0 {
			filter[1].Value = absent
		}
		models = append(models, mongo.NewReplaceOneModel().SetFilter(filter).SetReplacement(v).SetUpsert(true))
	}
	switch len(c.gone) {
	case 0:
	case 1:
		models = append(models, mongo.NewDeleteOneModel().SetFilter(byID(c.gone[0])))
	default:
		models = append(models, mongo.NewDeleteManyModel().SetFilter(bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: c.gone}}}}))
	}
	return models
}

// rest is what of a change is not in the database yet, after a try whose outcome is not known.
// It is a conflict, or a duplicate event, where somebody else's write is there.
func (d *device) rest(ctx context.Context, c change) (change, error) {
	left := change{replay: c.replay, gone: c.gone}
	for _, e := range c.events {
		var there bufferedEvent
		err := d.s.sessions.FindOne(ctx, byID(e.ID)).Decode(&there)
		switch {
		case errors.Is(err, mongo.ErrNoDocuments) || err == nil && c.replay:
			left.events = append(left.events, e)
		case err != nil:
			return c, err
		case there.At != e.At || !bytes.Equal(there.Plaintext, e.Plaintext):
			return c, errDuplicate
		}
	}
	if len(c.puts) == 0 {
		return left, nil
	}
	var ids []string
	for _, v := range c.puts {
		ids = append(ids, v.ID)
	}
	rows, err := d.values(ctx, ids)
	if err != nil {
		return c, err
	}
	for _, v := range c.puts {
		switch there := rows[v.ID]; {
		case there.Rev == v.Rev && bytes.Equal(there.Data, v.Data):
		case there.Rev == v.was:
			left.puts = append(left.puts, v)
		default:
			return c, errConflict
		}
	}
	return left, nil
}

// cacheSize is how many documents a half of a cache holds.
const cacheSize = 2000

// cache keeps a device's values as they are in the database. It is right as long as this process alone
// writes, which its lease says: a new lease starts a new generation, with an empty cache. It
// has two halves; when the young one is full, it becomes the old one, whose rest is forgotten.
type cache struct {
	s *Store

	mu         sync.Mutex
	generation int64
	writes     int64 // counts drops and writes, to keep an older read out
	young, old map[string]value
}

// lock locks c, emptied if the generation has changed.
func (c *cache) lock() {
	c.mu.Lock()
	if g := c.s.generation.Load(); c.young == nil || g != c.generation {
		c.generation, c.young, c.old = g, make(map[string]value), nil
		c.writes++
	}
}

func (c *cache) get(id string) (value, bool) {
	c.lock()
	defer c.mu.Unlock()
	v, ok := c.young[id]
	if !ok {
		if v, ok = c.old[id]; ok {
			c.keep(v)
		}
	}
	return v, ok
}

func (c *cache) keep(v value) {
	if len(c.young) >= cacheSize {
		c.young, c.old = make(map[string]value), c.young
	}
	c.young[v.ID] = v
}

// mark is taken before a read of the database, for fill.
func (c *cache) mark() int64 {
	c.lock()
	defer c.mu.Unlock()
	return c.writes
}

// fill keeps what was read, unless something was written since the mark.
func (c *cache) fill(mark int64, values map[string]value) {
	c.lock()
	defer c.mu.Unlock()
	if mark != c.writes {
		return
	}
	for _, v := range values {
		c.keep(v)
	}
}

// wrote keeps what was written.
func (c *cache) wrote(done change) {
	c.lock()
	defer c.mu.Unlock()
	c.writes++
	for _, v := range done.puts {
		c.keep(v)
	}
	for _, id := range done.gone {
		delete(c.young, id)
		delete(c.old, id)
	}
}

// drop forgets documents whose state is not known.
func (c *cache) drop(ids []string) {
	c.wrote(change{gone: ids})
}

// clear forgets all.
func (c *cache) clear() {
	c.lock()
	defer c.mu.Unlock()
	c.writes++
	c.young, c.old = make(map[string]value), nil
}
