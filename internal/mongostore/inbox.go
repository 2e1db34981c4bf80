package mongostore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

var _ inbox.Store = (*Store)(nil)

// messageRow is a message in "inbox". It stays for good, so that one that comes again is known.
type messageRow struct {
	ID      string `bson:"_id"` // "m/", the chat and the sender as they came, and the message's ID
	Kind    string `bson:"kind"`
	Chat    string `bson:"chat"`
	Came    int64  `bson:"came"` // nanoseconds
	Seq     int64  `bson:"seq"`  // the order of the puts
	Open    bool   `bson:"open"` // waits, or is in an open turn
	Message string `bson:"message"`
	// Newest is Came while it is open: the index by which what has ended is found in order finds what is open so, too.
	Newest int64 `bson:"ended,omitempty"`
	// Name is WhatsApp's message ID, by which an operator asks.
	Name string `bson:"name"`
	// Dropped is set where the message came under two addresses and this is the later.
	Dropped bool `bson:"dropped,omitempty"`
}

// turnRow is a turn in "inbox", with its messages: each of its changes is a write of one document.
type turnRow struct {
	ID       string       `bson:"_id"` // see turnID
	Kind     string       `bson:"kind"`
	Chat     string       `bson:"chat"`
	Rev      int64        `bson:"rev"`
	Seq      int64        `bson:"seq"`
	Open     bool         `bson:"open"`
	Lease    string       `bson:"lease"`
	Ready    int64        `bson:"ready"` // until when it is leased or put off, in nanoseconds
	Attempt  int          `bson:"attempt"`
	Messages []messageRow `bson:"messages"`
	Reply    string       `bson:"reply"` // JSON, or empty
	Failure  string       `bson:"failure"`
	Ended    int64        `bson:"ended"`           // nanoseconds
	Tries    string       `bson:"tries,omitempty"` // JSON
}

const (
	kindMessage = "message"
	kindTurn    = "turn"
)

// turnID is the _id of a new turn with the messages: there cannot be two that begin with the same one, so a claim that the
// database carries out late is refused when another has taken its messages. Versions before took random text.
func turnID(messages []messageRow) string { return "t/" + messages[0].ID }

// box is what is open in the inbox, in memory as in the database. One process alone works on it, the one that drives
// the device, so it need not ask before each write. It is read anew after a write that failed.
type box struct {
	busy       chan struct{} // has an element while somebody works on the box
	loaded     bool
	generation int64
	seq        int64
	waiting    []messageRow // in no turn, in the order they came
	turns      []*turnRow   // open
	// moved are the addresses whose documents have moved to another, used the beginnings of
	// _ids written by this process, and aliased those looked for in the database: whether there were any.
	moved   map[string]string
	used    map[string]bool
	aliased map[string]bool
}

// lock waits until nobody else works on the box, which takes as long as a database that is silent, or until ctx is done.
func (b *box) lock(ctx context.Context) error {
	if ctx.Err() == nil {
		select {
		case b.busy <- struct{}{}:
			return nil
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (b *box) unlock() { <-b.busy }

// lockBox locks the box, loaded.
func (s *Store) lockBox(ctx context.Context, doing string) (*box, error) {
	b := &s.box
	if err := b.lock(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	if g := s.generation.Load(); b.loaded && b.generation == g {
		return b, nil
	}
	extra, err := s.load(ctx, b)
	if err == nil {
		err = s.deleteTurns(ctx, extra)
	}
	if err != nil {
		b.loaded = false
		b.unlock()
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return b, nil
}

// load reads what is open. A message has one turn: extra are those open turns that have messages of another's, which a crash
// while turns were made one has left, or a write that the database carried out late. They are not in the box.
func (s *Store) load(ctx context.Context, b *box) (extra []*turnRow, err error) {
	generation := s.generation.Load()
	var turns []*turnRow
	var open []messageRow
	err = s.try(ctx, "read the inbox", func(ctx context.Context) error {
		turns, open = nil, nil
		cursor, err := s.inboxRows.Find(ctx, bson.D{field("open", true), field("kind", kindTurn)})
		if err == nil {
			err = cursor.All(ctx, &turns)
		}
		if err == nil {
			cursor, err = s.inboxRows.Find(ctx, bson.D{field("open", true), field("kind", kindMessage)})
		}
		if err == nil {
			err = cursor.All(ctx, &open)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	// A turn that ended may have waiting messages: a crash came before they were closed.
	turnOf, err := s.ended(ctx, slices.Concat(open, allMessages(turns)))
	if err != nil {
		return nil, err
	}
	// One with a reply may have been sent; one that took others in has more messages than they.
	slices.SortStableFunc(turns, func(x, y *turnRow) int {
		return cmp.Or(-cmp.Compare(min(len(x.Reply), 1), min(len(y.Reply), 1)), -cmp.Compare(len(x.Messages), len(y.Messages)))
	})
	turns = slices.DeleteFunc(turns, func(t *turnRow) bool {
		for _, m := range t.Messages {
			if other, ok := turnOf[m.ID]; ok && other != t.ID {
				extra = append(extra, t)
				return true
			}
		}
		for _, m := range t.Messages {
			turnOf[m.ID] = t.ID
		}
		return false
	})
	waiting := slices.DeleteFunc(open, func(m messageRow) bool { return turnOf[m.ID] != "" })
	slices.SortFunc(waiting, byCame)
	b.seq = 0
	for _, m := range waiting {
		b.seq = max(b.seq, m.Seq+1)
	}
	for _, t := range turns {
		b.seq = max(b.seq, t.Seq+1)
		for _, m := range t.Messages {
			b.seq = max(b.seq, m.Seq+1)
		}
	}
	b.loaded, b.generation, b.waiting, b.turns = true, generation, waiting, turns
	b.moved, b.used, b.aliased = make(map[string]string), make(map[string]bool), make(map[string]bool)
	return extra, nil
}

// deleteTurns deletes turns, unless they have changed.
func (s *Store) deleteTurns(ctx context.Context, turns []*turnRow) error {
	if len(turns) == 0 {
		return nil
	}
	var models []mongo.WriteModel
	for _, t := range turns {
		models = append(models, mongo.NewDeleteOneModel().SetFilter(bson.D{field("_id", t.ID), field("rev", t.Rev), field("lease", t.Lease), field("ready", t.Ready)}))
	}
	return s.write(ctx, "delete turns of messages that another has", func(ctx context.Context) error {
		_, err := s.inboxRows.BulkWrite(ctx, models)
		return err
	})
}

func allMessages(turns []*turnRow) (all []messageRow) {
	for _, t := range turns {
		all = append(all, t.Messages...)
	}
	return all
}

// ended gives the turns that have ended, by their messages, as far as these are among the given.
func (s *Store) ended(ctx context.Context, messages []messageRow) (turnOf map[string]string, err error) {
	turnOf = make(map[string]string)
	if len(messages) == 0 {
		return turnOf, nil
	}
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.ID)
	}
	turns, err := find[*turnRow](ctx, s, "read the inbox", s.inboxRows, bson.D{field("messages._id", bson.D{field("$in", ids)}), field("open", false)})
	for _, t := range turns {
		for _, m := range t.Messages {
			turnOf[m.ID] = t.ID
		}
	}
	return turnOf, err
}

// messages gives a turn's or an exchange's messages, under the chat's present address.
func messages(rows []messageRow, jid string) ([]chat.Message, error) {
	var all []chat.Message
	for _, row := range rows {
		var m chat.Message
		if err := json.Unmarshal([]byte(row.Message), &m); err != nil {
			return nil, fmt.Errorf("read a message: %w", err)
		}
		if m.Chat != jid {
			m.Chat, m.ChatAlt = jid, m.Chat
		}
		all = append(all, m)
	}
	return all, nil
}

func reply(text string) (*chat.Reply, error) {
	if text == "" {
		return nil, nil
	}
	r := new(chat.Reply)
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fmt.Errorf("read a reply: %w", err)
	}
	return r, nil
}

// tries reads the attempts at a turn.
func tries(text string) (all []chat.Try, err error) {
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("read the attempts: %w", err)
	}
	return all, nil
}

// triesText is what tries reads.
func triesText(all []chat.Try) string {
	if len(all) == 0 {
		return ""
	}
	text, _ := json.Marshal(all) // times and texts always can be written
	return string(text)
}

func byCame(a, b messageRow) int {
	return cmp.Or(cmp.Compare(a.Came, b.Came), cmp.Compare(a.Seq, b.Seq))
}

func field(name string, v any) bson.E { return bson.E{Key: name, Value: v} }

// messageID is the _id of a message as it came, with the mark that tells it from others of the name.
func messageID(m chat.Message, mark string) string {
	return "m/" + escape(m.Chat) + mark + "/" + escape(m.Sender) + "/" + m.ID
}

// names are the _ids that m may be stored under: its own, then those of its other addresses.
func names(m chat.Message) (own string, others []string) {
	prefix := func(c, sender string) string { return "m/" + escape(c) + "/" + escape(sender) + "/" }
	own = prefix(m.Chat, m.Sender)
	for _, c := range []string{m.Chat, m.ChatAlt} {
		for _, sender := range []string{m.Sender, m.SenderAlt} {
			if p := prefix(c, sender); c != "" && sender != "" && p != own && !slices.Contains(others, p) {
				others = append(others, p)
			}
		}
	}
	return own, others
}

// Put implements inbox.Store. Once a chat's addresses are known it is one command.
func (s *Store) Put(ctx context.Context, m chat.Message, now time.Time) error {
	const doing = "put a message"
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return err
	}
	defer b.unlock()
	if m.ChatAlt != "" && m.ChatAlt != m.Chat && b.moved[m.ChatAlt] != m.Chat {
		if err := s.move(ctx, b, m.ChatAlt, m.Chat); err != nil {
			return err
		}
	}
	own, others := names(m)
	there, err := s.seen(ctx, b, m.ID, others)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		b.expect(there...)
		return nil
	}
	row := messageRow{ID: own + m.ID, Kind: kindMessage, Chat: m.Chat, Came: now.UnixNano(), Seq: b.seq, Open: true, Newest: now.UnixNano(), Message: string(text), Name: m.ID}
	repeated, err := s.insert(ctx, m, &row)
	if err != nil {
		b.loaded = false
		return err
	}
	b.used[own] = true
	if repeated != nil {
		b.expect(*repeated)
		return nil
	}
	delete(b.moved, m.Chat)
	b.seq++
	b.waiting = append(b.waiting, row)
	slices.SortFunc(b.waiting, byCame)
	return nil
}

// expect has the box read anew where it lacks a message that is stored and open: it was given up when it was put, and the
// database took it after the box was read.
func (b *box) expect(stored ...messageRow) {
	for _, row := range stored {
		same := func(m messageRow) bool { return m.ID == row.ID }
		if row.Open && !slices.ContainsFunc(b.waiting, same) && !slices.ContainsFunc(allMessages(b.turns), same) {
			b.loaded = false
		}
	}
}

// insert stores a new message, or gives the one that was there. What lies under its name but has moved to
// another address, while the message came again without that address, is another message: the
// name then gets a mark.
func (s *Store) insert(ctx context.Context, m chat.Message, row *messageRow) (repeated *messageRow, err error) {
	for mark := ""; ; mark += "+" {
		row.ID = messageID(m, mark)
		var there messageRow
		err := s.write(ctx, "put a message", func(ctx context.Context) error {
			_, err := s.inboxRows.InsertOne(ctx, row)
			if mongo.IsDuplicateKeyError(err) {
				err = s.inboxRows.FindOne(ctx, byID(row.ID)).Decode(&there)
			}
			return err
		})
		switch {
		case err != nil || there.ID == "":
			return nil, err
		case there.Chat != m.Chat:
			continue
		case there.Came == row.Came && there.Seq == row.Seq && there.Open:
			return nil, nil // ours of an earlier try
		}
		return &there, nil
	}
}

// seen gives what is there of a message under its other names.
func (s *Store) seen(ctx context.Context, b *box, id string, others []string) ([]messageRow, error) {
	var ids []string
	for _, prefix := range others {
		any, known := b.aliased[prefix]
		if !known {
			var n int64
			err := s.try(ctx, "look for a chat's other address", func(ctx context.Context) (err error) {
				n, err = s.inboxRows.CountDocuments(ctx, bson.D{field("_id", within(prefix))}, options.Count().SetLimit(1))
				return err
			})
			if err != nil {
				return nil, err
			}
			any = n > 0
			b.aliased[prefix] = any
		}
		if any || b.used[prefix] {
			ids = append(ids, prefix+id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return find[messageRow](ctx, s, "look for a message", s.inboxRows, bson.D{field("_id", bson.D{field("$in", ids)})})
}

// move makes what is stored under the address from be found under the address to.
func (s *Store) move(ctx context.Context, b *box, from, to string) error {
	err := s.write(ctx, "move a chat to its new address", func(ctx context.Context) error {
		_, err := s.inboxRows.UpdateMany(ctx, bson.D{field("chat", from)}, set(bson.D{field("chat", to)}))
		return err
	})
	if err != nil {
		b.loaded = false
		return err
	}
	b.moved[from] = to
	for i := range b.waiting {
		if b.waiting[i].Chat == from {
			b.waiting[i].Chat = to
		}
	}
	for _, t := range b.turns {
		if t.Chat == from {
			t.Chat = to
		}
	}
	return s.dropRepeated(ctx, b, from, to)
}

// marks are how many marks a message's name is looked for with. Each takes another delivery under one address alone
// after the chat has got its two.
const marks = 4

// twins are the other _ids that the message may have in a chat with two addresses; none in a group.
func twins(id, from, to string) (all []string) {
	parts := strings.SplitN(id, "/", 4)
	name := strings.TrimRight(parts[1], "+")
	own := name != parts[2] // written by the account itself, whose address is not the chat's
	for _, address := range []string{escape(from), escape(to)} {
		sender := address
		if own {
			sender = parts[2]
		}
		for n := range marks + 1 {
			if twin := strings.Join([]string{"m", address + strings.Repeat("+", n), sender, parts[3]}, "/"); twin != id {
				all = append(all, twin)
			}
		}
	}
	return all
}

// dropRepeated ends the wait of messages that came under both addresses before they were known
// to be one: the first stays.
func (s *Store) dropRepeated(ctx context.Context, b *box, from, to string) error {
	var repeated []string
	for _, row := range b.waiting {
		if row.Chat != to {
			continue
		}
		earlier := false
		var elsewhere []string
		for _, twin := range twins(row.ID, from, to) {
			if i := slices.IndexFunc(b.waiting, func(o messageRow) bool { return o.ID == twin }); i >= 0 {
				earlier = earlier || b.waiting[i].Seq < row.Seq
			} else {
				elsewhere = append(elsewhere, twin)
			}
		}
		// What is there and does not wait is being answered, or was.
		err := s.try(ctx, "look for a message", func(ctx context.Context) error {
			n, err := s.inboxRows.CountDocuments(ctx, bson.D{field("_id", bson.D{field("$in", elsewhere)}), field("dropped", bson.D{field("$ne", true)})}, options.Count().SetLimit(1))
			earlier = earlier || n > 0
			return err
		})
		if err != nil {
			return err
		}
		if earlier {
			repeated = append(repeated, row.ID)
		}
	}
	if len(repeated) == 0 {
		return nil
	}
	err := s.write(ctx, "drop a message that came twice", func(ctx context.Context) error {
		_, err := s.inboxRows.UpdateMany(ctx, bson.D{field("_id", bson.D{field("$in", repeated)})}, set(bson.D{field("open", false), field("dropped", true), field("ended", s.now().UnixNano())}))
		return err
	})
	if err != nil {
		b.loaded = false
		return err
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(row messageRow) bool { return slices.Contains(repeated, row.ID) })
	return nil
}

// held is until when the chat is held whose newest waiting message this is and whose first came in at first, or 0.
func (m messageRow) held(first int64) int64 {
	var newest chat.Message
	if json.Unmarshal([]byte(m.Message), &newest) != nil {
		return 0 // whoever claims the chat says so
	}
	if held := inbox.Held(newest, time.Unix(0, first)); !held.IsZero() {
		return held.UnixNano()
	}
	return 0
}

// asRead finds the message while it is as it was read.
func (m messageRow) asRead() bson.D { return bson.D{field("_id", m.ID), field("message", m.Message)} }

// Extend implements inbox.Store.
func (s *Store) Extend(ctx context.Context, chatJID string, who []string, until time.Time) (bool, error) {
	const doing = "hold a chat"
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return false, err
	}
	defer b.unlock()
	for i, row := range slices.Backward(b.waiting) {
		if row.Chat != chatJID {
			continue
		}
		var newest chat.Message
		if err := json.Unmarshal([]byte(row.Message), &newest); err != nil {
			return false, fmt.Errorf("%s: read a message: %w", doing, err)
		}
		m, ok := inbox.Extended(newest, who, until)
		if !ok {
			return false, nil
		}
		text, err := json.Marshal(m)
		if err != nil {
			return false, fmt.Errorf("%s: %w", doing, err)
		}
		err = s.write(ctx, doing, func(ctx context.Context) error {
			_, err := s.inboxRows.UpdateOne(ctx, row.asRead(), set(bson.D{field("message", string(text))}))
			return err
		})
		if err != nil {
			b.loaded = false
			return false, err
		}
		b.waiting[i].Message = string(text)
		return true, nil
	}
	return false, nil
}

// chatState is since when a chat waits, and from when on it may be claimed.
type chatState struct{ since, ready int64 }

func (b *box) chats() map[string]chatState {
	out := make(map[string]chatState)
	add := func(jid string, since, ready int64) {
		if c, ok := out[jid]; ok {
			since, ready = min(since, c.since), max(ready, c.ready)
		}
		out[jid] = chatState{since, ready}
	}
	newest := make(map[string]messageRow)
	for _, m := range b.waiting {
		add(m.Chat, m.Came, 0)
		newest[m.Chat] = m
	}
	for jid, m := range newest {
		first := slices.IndexFunc(b.waiting, func(o messageRow) bool { return o.Chat == jid })
		add(jid, m.Came, m.held(b.waiting[first].Came))
	}
	for _, t := range b.turns {
		add(t.Chat, t.Messages[0].Came, t.Ready)
	}
	return out
}

// longestTurn bounds the messages of a turn, in bytes: it is one document, which must have less than 16 MB.
const longestTurn = 8 << 20

func length(rows []messageRow) (n int) {
	for _, m := range rows {
		n += len(m.Message)
	}
	return n
}

// Claim implements inbox.Store.
func (s *Store) Claim(ctx context.Context, now, until time.Time) (chat.Turn, error) {
	const doing = "claim a turn"
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return chat.Turn{}, err
	}
	defer b.unlock()
	jid, since := "", int64(0)
	for candidate, c := range b.chats() {
		if c.ready <= now.UnixNano() && (jid == "" || c.since < since || c.since == since && candidate < jid) {
			jid, since = candidate, c.since
		}
	}
	if jid == "" {
		return chat.Turn{}, inbox.ErrEmpty
	}
	var open []*turnRow
	for _, t := range b.turns {
		if t.Chat == jid {
			open = append(open, t)
		}
	}
	// One with a reply first: its messages are set. More than one is there only where two chats became one.
	slices.SortFunc(open, func(x, y *turnRow) int {
		return cmp.Or(-cmp.Compare(min(len(x.Reply), 1), min(len(y.Reply), 1)), cmp.Compare(x.Seq, y.Seq))
	})
	next := turnRow{Kind: kindTurn, Chat: jid, Seq: b.seq, Open: true}
	if len(open) > 0 {
		next = *open[0]
	}
	next.Messages = slices.Clone(next.Messages)
	var folded, taken []string
	if next.Reply == "" {
		size := length(next.Messages)
		fits := func(more ...messageRow) bool {
			size += length(more)
			return size <= longestTurn || len(next.Messages) == 0
		}
		for _, t := range open[min(1, len(open)):] {
			if !fits(t.Messages...) {
				break
			}
			next.Attempt = max(next.Attempt, t.Attempt)
			next.Messages = append(next.Messages, t.Messages...)
			next.Tries = cmp.Or(next.Tries, t.Tries)
			folded = append(folded, t.ID)
		}
		for _, m := range b.waiting {
			if m.Chat != jid {
				continue
			}
			if !fits(m) {
				break
			}
			next.Messages, taken = append(next.Messages, m), append(taken, m.ID)
		}
		slices.SortFunc(next.Messages, byCame)
	}
	next.ID = cmp.Or(next.ID, turnID(next.Messages))
	next.Attempt++
	next.Lease, next.Ready = rand.Text(), until.UnixNano()
	turn := chat.Turn{Chat: jid, Lease: next.Lease, Until: until, Attempt: next.Attempt}
	if turn.Reply, err = reply(next.Reply); err != nil {
		return chat.Turn{}, fmt.Errorf("%s: %w", doing, err)
	}
	if turn.Messages, err = messages(next.Messages, jid); err != nil {
		return chat.Turn{}, fmt.Errorf("%s: %w", doing, err)
	}
	if turn.Tries, err = tries(next.Tries); err != nil {
		return chat.Turn{}, fmt.Errorf("%s: %w", doing, err)
	}
	if err := s.save(ctx, b, doing, &next, folded, nil); err != nil {
		return chat.Turn{}, err
	}
	b.seq++
	b.turns = slices.DeleteFunc(b.turns, func(t *turnRow) bool { return t.ID == next.ID || slices.Contains(folded, t.ID) })
	b.turns = append(b.turns, &next)
	b.waiting = slices.DeleteFunc(b.waiting, func(m messageRow) bool { return slices.Contains(taken, m.ID) })
	return turn, nil
}

// save writes a turn over what was there before. Where it has ended, its messages are then closed, in
// the same command; folded turns are deleted after it. What is to be written before it is in first.
func (s *Store) save(ctx context.Context, b *box, doing string, t *turnRow, folded []string, first []mongo.WriteModel) error {
	t.Rev++
	filter := bson.D{field("_id", t.ID), field("rev", t.Rev-1)}
	if t.Rev == 1 {
		filter[1].Value = bson.D{field("$exists", false)}
	}
	turn := mongo.NewReplaceOneModel().SetFilter(filter).SetReplacement(t).SetUpsert(true)
	var rest []mongo.WriteModel
	closed := append(set(bson.D{field("open", false)}), field("$unset", bson.D{field("ended", "")}))
	if !t.Open {
		for _, m := range t.Messages {
			rest = append(rest, mongo.NewUpdateOneModel().SetFilter(byID(m.ID)).SetUpdate(closed))
		}
	}
	for _, id := range folded {
		rest = append(rest, mongo.NewDeleteOneModel().SetFilter(byID(id)))
	}
	models := slices.Concat(first, []mongo.WriteModel{turn}, rest)
	err := s.write(ctx, doing, func(ctx context.Context) error {
		if len(models) == 0 {
			return nil
		}
		_, err := s.inboxRows.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
		if !mongo.IsDuplicateKeyError(err) {
			return err
		}
		var there turnRow
		if err := s.inboxRows.FindOne(ctx, byID(t.ID)).Decode(&there); err != nil {
			return err
		}
		if there.Rev != t.Rev || there.Lease != t.Lease || there.Ready != t.Ready {
			return errConflict
		}
		models = rest // an earlier try of ours
		return errAgain
	})
	if err != nil {
		b.loaded = false
	}
	return err
}

// Next implements inbox.Store.
func (s *Store) Next(ctx context.Context) (time.Time, error) {
	b, err := s.lockBox(ctx, "find the next turn")
	if err != nil {
		return time.Time{}, err
	}
	defer b.unlock()
	next := time.Time{}
	for _, c := range b.chats() {
		if at := time.Unix(0, c.ready); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next, nil
}

// History implements inbox.Store.
func (s *Store) History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error) {
	if n <= 0 {
		return nil, ctx.Err()
	}
	rows, err := find[turnRow](ctx, s, "read the history", s.inboxRows, bson.D{field("chat", chatJID), field("kind", kindTurn), field("open", false)},
		options.Find().SetSort(bson.D{field("ended", -1), field("seq", -1)}).SetLimit(int64(n)))
	if err != nil {
		return nil, err
	}
	var all []chat.Exchange
	for _, row := range slices.Backward(rows) {
		var x chat.Exchange
		if x.Messages, err = messages(row.Messages, chatJID); err == nil {
			x.Reply, err = reply(row.Reply)
		}
		if err != nil {
			return nil, fmt.Errorf("read the history: %w", err)
		}
		all = append(all, x)
	}
	return all, nil
}

// change writes a turn that the caller holds, as edit makes it.
func (s *Store) change(ctx context.Context, doing string, t chat.Turn, edit func(*turnRow), first ...mongo.WriteModel) error {
	if s.passive.Load() {
		// Also where the database is silent, and cannot even be read: nobody waits for it with a turn that is not theirs.
		return fmt.Errorf("%s: %w", doing, errPassive)
	}
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return err
	}
	defer b.unlock()
	i := slices.IndexFunc(b.turns, func(row *turnRow) bool { return row.Lease == t.Lease })
	if i < 0 || t.Lease == "" {
		return inbox.ErrLeaseLost
	}
	next := *b.turns[i]
	edit(&next)
	if err := s.save(ctx, b, doing, &next, nil, first); err != nil {
		return err
	}
	b.turns[i] = &next
	if !next.Open {
		b.turns = slices.Delete(b.turns, i, i+1)
	}
	return nil
}

// SaveReply implements inbox.Store.
func (s *Store) SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("save a reply: %w", err)
	}
	charges, err := chargeModels(r.Charges)
	if err != nil {
		return fmt.Errorf("save a reply: %w", err)
	}
	return s.change(ctx, "save a reply", t, func(row *turnRow) { row.Reply = string(text) }, charges...)
}

// Finish implements inbox.Store.
func (s *Store) Finish(ctx context.Context, t chat.Turn, now time.Time) error {
	var text []byte
	if t.Reply != nil {
		var err error
		if text, err = json.Marshal(t.Reply); err != nil {
			return fmt.Errorf("finish a turn: %w", err)
		}
	}
	return s.change(ctx, "finish a turn", t, func(row *turnRow) {
		row.Reply, row.Lease, row.Open, row.Ended, row.Tries = string(text), "", false, now.UnixNano(), triesText(t.Tries)
	})
}

// Retry implements inbox.Store.
func (s *Store) Retry(ctx context.Context, t chat.Turn, at time.Time) error {
	return s.change(ctx, "put a turn off", t, func(row *turnRow) {
		row.Lease, row.Ready, row.Attempt, row.Tries = "", at.UnixNano(), t.Attempt, triesText(t.Tries)
	})
}

// Fail implements inbox.Store.
func (s *Store) Fail(ctx context.Context, t chat.Turn, now time.Time, reason string) error {
	return s.change(ctx, "give a turn up", t, func(row *turnRow) {
		row.Failure, row.Lease, row.Open, row.Ended, row.Tries = reason, "", false, now.UnixNano(), triesText(t.Tries)
	})
}

// Release implements inbox.Store.
func (s *Store) Release(ctx context.Context) error {
	const doing = "release the leases"
	if err := s.box.lock(ctx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	s.box.loaded = false // a predecessor may have written
	s.box.unlock()
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return err
	}
	defer b.unlock()
	for i, t := range b.turns {
		if t.Lease == "" {
			continue
		}
		next := *t
		next.Lease, next.Ready = "", 0
		if err := s.save(ctx, b, doing, &next, nil, nil); err != nil {
			return err
		}
		b.turns[i] = &next
	}
	return nil
}

// Forget implements inbox.Store. A crash within leaves a part.
func (s *Store) Forget(ctx context.Context) error {
	const doing = "forget all messages"
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return err
	}
	defer b.unlock()
	b.loaded = false
	return s.write(ctx, doing, func(ctx context.Context) error {
		_, err := s.inboxRows.DeleteMany(ctx, bson.D{})
		if err == nil {
			_, err = s.meta.DeleteMany(ctx, bson.D{field("_id", within("note/"+inbox.ChatNotes))})
		}
		return err
	})
}

// Depth implements inbox.Store.
func (s *Store) Depth(ctx context.Context) (int, error) {
	b, err := s.lockBox(ctx, "count what waits")
	if err != nil {
		return 0, err
	}
	defer b.unlock()
	n := len(b.waiting)
	for _, t := range b.turns {
		n += len(t.Messages)
	}
	return n, nil
}

// Oldest implements inbox.Store.
func (s *Store) Oldest(ctx context.Context) (oldest time.Time, err error) {
	b, err := s.lockBox(ctx, "look what waits longest")
	if err != nil {
		return time.Time{}, err
	}
	defer b.unlock()
	see := func(all []messageRow) {
		for _, m := range all {
			if came := time.Unix(0, m.Came); oldest.IsZero() || came.Before(oldest) {
				oldest = came
			}
		}
	}
	see(b.waiting)
	for _, t := range b.turns {
		see(t.Messages)
	}
	return oldest, nil
}
