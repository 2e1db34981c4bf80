package mongostore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/chat"
	"wabot/internal/trail"
)

var _ trail.Store = (*Store)(nil)

// markRow is a mark in "inbox".
type markRow struct {
	ID    string    `bson:"_id"` // "e/", fate, message, chat and who
	Kind  string    `bson:"kind"`
	Open  bool      `bson:"open"` // never: nothing of it waits
	Name  string    `bson:"name"` // the message's ID
	Fate  chat.Fate `bson:"fate"`
	Chat  string    `bson:"in"` // not "chat": a mark does not move with its chat
	Who   string    `bson:"who"`
	Why   string    `bson:"why"`
	Ended int64     `bson:"ended"` // when, in nanoseconds
}

const (
	kindGated   = "gated"   // of a message that came in, whatever its fate
	kindReceipt = "receipt" // of one that was sent
)

func rowOfMark(m chat.Mark) markRow {
	row := markRow{
		ID: "e/" + string(m.Fate) + "/" + escape(m.Message) + "/" + escape(m.Chat) + "/" + escape(m.Who), Kind: kindReceipt,
		Name: m.Message, Fate: m.Fate, Chat: m.Chat, Who: m.Who, Why: m.Why, Ended: m.Time.UnixNano(),
	}
	if m.Fate == chat.Gated || m.Fate == chat.Undecrypted || m.Fate == chat.Recovered {
		row.Kind = kindGated
	}
	return row
}

// withMarks adds to trails what marks of messages that came in tell.
func withMarks(all []chat.Trail, rows []markRow) []chat.Trail {
	var own []chat.Mark
	for _, row := range rows {
		if m := row.mark(); m.Fate == chat.Gated {
			all = append(all, trail.OfGated(m))
		} else {
			own = append(own, m)
		}
	}
	return trail.WithOwn(all, own)
}

func (r markRow) mark() chat.Mark {
	return chat.Mark{Message: r.Name, Fate: r.Fate, Chat: r.Chat, Who: r.Who, Time: time.Unix(0, r.Ended), Why: r.Why}
}

// Mark implements trail.Store.
func (s *Store) Mark(ctx context.Context, all []chat.Mark) error {
	var models []mongo.WriteModel
	for _, m := range all {
		row := rowOfMark(m)
		models = append(models, unlessThere(row.ID, row))
	}
	return s.insertAll(ctx, "keep what happened to messages", models)
}

// Trails implements trail.Store.
func (s *Store) Trails(ctx context.Context, id string) ([]chat.Trail, error) {
	const doing = "look for what became of a message"
	found, err := find[messageRow](ctx, s, doing, s.inboxRows, bson.D{field("name", id), field("kind", kindMessage)})
	if err != nil {
		return nil, err
	}
	all, err := s.trailsOf(ctx, doing, found)
	if err != nil {
		return nil, err
	}
	gated, err := find[markRow](ctx, s, doing, s.inboxRows, bson.D{field("name", id), field("kind", kindGated)})
	return withMarks(all, gated), err
}

// trailsOf tells what became of messages.
func (s *Store) trailsOf(ctx context.Context, doing string, messages []messageRow) ([]chat.Trail, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	var ids []string
	for _, m := range messages {
		ids = append(ids, m.ID)
	}
	turns, err := find[*turnRow](ctx, s, doing, s.inboxRows, bson.D{field("messages._id", bson.D{field("$in", ids)})})
	if err != nil {
		return nil, err
	}
	in := map[string]*turnRow{}
	for _, t := range turns {
		for _, m := range t.Messages {
			// Of a turn that was folded into another both are there for a moment.
			if before := in[m.ID]; before == nil || before.Open && !t.Open {
				in[m.ID] = t
			}
		}
	}
	var all []chat.Trail
	var parts []string
	for _, m := range messages {
		if m.Dropped {
			continue
		}
		t, err := trailOf(m, in[m.ID])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		if t.Reply != nil {
			for _, p := range t.Reply.Parts {
				parts = append(parts, p.ID)
			}
		}
		all = append(all, t)
	}
	if len(parts) == 0 {
		return all, nil
	}
	receipts, err := find[markRow](ctx, s, doing, s.inboxRows, bson.D{field("name", bson.D{field("$in", parts)}), field("kind", kindReceipt)})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(receipts, func(a, b markRow) int { return strings.Compare(a.ID, b.ID) })
	of := map[string][]chat.Mark{}
	for _, r := range receipts {
		of[r.Name] = append(of[r.Name], r.mark())
	}
	for i, t := range all {
		if t.Reply != nil {
			for _, p := range t.Reply.Parts {
				all[i].Marks = append(all[i].Marks, of[p.ID]...)
			}
		}
	}
	return all, nil
}

// trailOf is a message's trail without receipts; row is its turn, or nil.
func trailOf(m messageRow, row *turnRow) (t chat.Trail, err error) {
	t.Came = time.Unix(0, m.Came)
	text, jid := m.Message, m.Chat
	if row != nil {
		// What a turn has of its messages is what was changed last.
		for _, own := range row.Messages {
			if own.ID == m.ID {
				text, jid = own.Message, row.Chat
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &t.Message); err != nil {
		return t, fmt.Errorf("read a message: %w", err)
	}
	if t.Message.Chat != jid {
		t.Message.Chat, t.Message.ChatAlt = jid, t.Message.Chat
	}
	if row == nil {
		return t, nil
	}
	t.Begun, t.Others, t.Attempt, t.Leased, t.Failure = true, len(row.Messages)-1, row.Attempt, row.Lease != "", row.Failure
	if row.Open && row.Ready != 0 {
		t.Ready = time.Unix(0, row.Ready)
	}
	if !row.Open {
		t.Ended = time.Unix(0, row.Ended)
	}
	if t.Tries, err = tries(row.Tries); err == nil {
		t.Reply, err = reply(row.Reply)
	}
	return t, err
}

// Elsewhere counts the messages that wait, and tells since when the first does, for a process that does not lead: what that has in
// memory of the inbox is not what is there.
func (s *Store) Elsewhere(ctx context.Context) (depth int, oldest time.Time, err error) {
	open := bson.D{field("open", true), field("kind", kindMessage)}
	err = s.try(ctx, "count what waits", func(ctx context.Context) error {
		n, err := s.inboxRows.CountDocuments(ctx, open)
		depth = int(n)
		return err
	})
	if err != nil || depth == 0 {
		return 0, time.Time{}, err
	}
	first, err := find[messageRow](ctx, s, "look what waits longest", s.inboxRows, open, options.Find().SetSort(bson.D{field("ended", 1)}).SetLimit(1))
	if err == nil && len(first) > 0 {
		oldest = time.Unix(0, first[0].Came)
	}
	return depth, oldest, err
}

// Latest implements trail.Store.
func (s *Store) Latest(ctx context.Context, n int) ([]chat.Trail, error) {
	const doing = "read what became of the latest messages"
	newest := options.Find().SetSort(bson.D{field("ended", -1)}).SetLimit(int64(n))
	of := func(kind string, open bool) bson.D { return bson.D{field("open", open), field("kind", kind)} }
	turns, err := find[turnRow](ctx, s, doing, s.inboxRows, of(kindTurn, false), newest)
	if err != nil {
		return nil, err
	}
	// Messages are open until their turn has ended.
	messages, err := find[messageRow](ctx, s, doing, s.inboxRows, of(kindMessage, true), newest)
	if err != nil {
		return nil, err
	}
	// A message has up to three.
	marks, err := find[markRow](ctx, s, doing, s.inboxRows, of(kindGated, false), options.Find().SetSort(bson.D{field("ended", -1)}).SetLimit(3*int64(n)))
	if err != nil {
		return nil, err
	}
	for _, t := range turns {
		messages = append(messages, t.Messages...)
	}
	seen := map[string]bool{}
	var once []messageRow
	for _, m := range messages {
		if !seen[m.ID] {
			once = append(once, m)
		}
		seen[m.ID] = true
	}
	all, err := s.trailsOf(ctx, doing, once)
	return trail.Newest(withMarks(all, marks), n), err
}
