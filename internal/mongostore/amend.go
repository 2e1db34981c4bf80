package mongostore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// place is where a message is: waiting, or in a turn, open or ended.
type place struct {
	row  messageRow
	turn *turnRow // nil while it waits; not to be changed
}

// find looks for a message where it waits and in the open turns, then among those that have ended.
func (s *Store) find(ctx context.Context, b *box, like chat.Message) (place, error) {
	own, others := names(like)
	var ids []string
	for _, prefix := range append(others, own) {
		ids = append(ids, prefix+like.ID)
	}
	marked := like
	for _, jid := range []string{like.Chat, like.ChatAlt} {
		for n := range marks {
			if marked.Chat = jid; jid != "" {
				ids = append(ids, messageID(marked, strings.Repeat("+", n+1)))
			}
		}
	}
	match := func(m messageRow) bool {
		return slices.Contains(ids, m.ID) && (m.Chat == like.Chat || m.Chat == like.ChatAlt)
	}
	if i := slices.IndexFunc(b.waiting, match); i >= 0 {
		return place{row: b.waiting[i]}, nil
	}
	in := func(t *turnRow) (place, bool) {
		i := slices.IndexFunc(t.Messages, func(m messageRow) bool { return slices.Contains(ids, m.ID) })
		if i < 0 || t.Chat != like.Chat && t.Chat != like.ChatAlt {
			return place{}, false
		}
		return place{t.Messages[i], t}, true
	}
	for _, t := range b.turns {
		if p, ok := in(t); ok {
			return p, nil
		}
	}
	turns, err := find[*turnRow](ctx, s, "find a message", s.inboxRows, bson.D{field("messages._id", bson.D{field("$in", ids)}), field("open", false)})
	if err != nil {
		return place{}, err
	}
	for _, t := range turns {
		if p, ok := in(t); ok {
			return p, nil
		}
	}
	return place{}, inbox.ErrUnknown
}

// Find implements inbox.Store.
func (s *Store) Find(ctx context.Context, like chat.Message) (x chat.Exchange, err error) {
	const doing = "find a message"
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return x, err
	}
	defer b.unlock()
	p, err := s.find(ctx, b, like)
	if err != nil {
		return x, err
	}
	rows := []messageRow{p.row}
	if p.turn != nil {
		rows = p.turn.Messages
		if x.Reply, err = reply(p.turn.Reply); err != nil {
			return chat.Exchange{}, fmt.Errorf("%s: %w", doing, err)
		}
	}
	if x.Messages, err = messages(rows, like.Chat); err != nil {
		return chat.Exchange{}, fmt.Errorf("%s: %w", doing, err)
	}
	return x, nil
}

// Amend implements inbox.Store. Turns are written before messages: they are what is read of a message that has one. A
// crash within leaves a part, and the call is to be made again. Each is written over what was read, so that nothing later is
// taken back where the database carries it out late.
func (s *Store) Amend(ctx context.Context, all []chat.Message, r *chat.Reply) error {
	const doing = "change stored messages"
	b, err := s.lockBox(ctx, doing)
	if err != nil {
		return err
	}
	defer b.unlock()
	var texts = map[string]string{} // by the message's _id
	var turns []*turnRow
	for i, m := range all {
		p, err := s.find(ctx, b, m)
		if errors.Is(err, inbox.ErrUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		text, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		texts[p.row.ID] = string(text)
		if p.turn == nil {
			continue
		}
		j := slices.IndexFunc(turns, func(t *turnRow) bool { return t.ID == p.turn.ID })
		if j < 0 {
			next := *p.turn
			next.Messages = slices.Clone(next.Messages)
			turns, j = append(turns, &next), len(turns)
		}
		if i == 0 && r != nil && !p.turn.Open {
			if text, err = json.Marshal(r); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
			turns[j].Reply = string(text)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	retext := func(rows []messageRow) {
		for i, row := range rows {
			if text, ok := texts[row.ID]; ok {
				rows[i].Message = text
			}
		}
	}
	var models []mongo.WriteModel
	for _, t := range turns {
		retext(t.Messages)
		asRead := bson.D{field("_id", t.ID), field("rev", t.Rev)}
		t.Rev++
		models = append(models, mongo.NewUpdateOneModel().SetFilter(asRead).SetUpdate(set(bson.D{field("rev", t.Rev), field("messages", t.Messages), field("reply", t.Reply)})))
	}
	for id, text := range texts {
		filter := byID(id)
		if i := slices.IndexFunc(b.waiting, func(m messageRow) bool { return m.ID == id }); i >= 0 {
			filter = b.waiting[i].asRead()
		}
		models = append(models, mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(set(bson.D{field("message", text)})))
	}
	err = s.write(ctx, doing, func(ctx context.Context) error {
		_, err := s.inboxRows.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(true))
		return err
	})
	if err != nil {
		b.loaded = false
		return err
	}
	retext(b.waiting)
	for i, t := range b.turns {
		if j := slices.IndexFunc(turns, func(next *turnRow) bool { return next.ID == t.ID }); j >= 0 {
			b.turns[i] = turns[j]
		}
	}
	return nil
}
