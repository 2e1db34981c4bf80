package mongostore

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/retention"
)

var _ retention.Store = (*Store)(nil)

// Sweep implements retention.Store. Message secrets are deleted by DeleteOldBufferedHashes. Messages go before their turn: what a crash
// leaves is found again by the turn.
func (s *Store) Sweep(ctx context.Context, _, before time.Time, most int) (int, error) {
	const doing = "delete what is old"
	old := func(kinds ...string) bson.D { return between(time.Unix(0, 1), before, kinds...) }
	turns, err := find[turnRow](ctx, s, doing, s.inboxRows, old(kindTurn), options.Find().SetLimit(int64(most)))
	if err != nil {
		return 0, err
	}
	for _, part := range [][]string{messageIDs(turns), turnIDs(turns)} {
		if len(part) == 0 {
			continue
		}
		err := s.write(ctx, doing, func(ctx context.Context) error {
			_, err := s.inboxRows.DeleteMany(ctx, bson.D{field("_id", bson.D{field("$in", part)})})
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	// A message that was dropped is in no turn.
	n, err := s.drop(ctx, doing, old(kindMessage, kindGated, kindReceipt, kindUnheard), most)
	return len(turns) + n, err
}

func messageIDs(turns []turnRow) (ids []string) {
	for _, t := range turns {
		for _, m := range t.Messages {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func turnIDs(turns []turnRow) (ids []string) {
	for _, t := range turns {
		ids = append(ids, t.ID)
	}
	return ids
}

// OldHeard implements retention.Store.
func (s *Store) OldHeard(ctx context.Context, before time.Time, most int) (chats []string, err error) {
	old, err := find[heardRow](ctx, s, "look for what was heard long ago", s.inboxRows, bson.D{
		field("open", false), field("kind", kindHeard), field("ended", bson.D{field("$lt", before.UnixNano())}),
	}, options.Find().SetLimit(int64(most)))
	for _, row := range old {
		chats = append(chats, row.Chat)
	}
	return chats, err
}
