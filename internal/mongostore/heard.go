package mongostore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"wabot/internal/chat"
)

// heardRow is what was heard in a group, in "inbox".
type heardRow struct {
	ID   string `bson:"_id"` // "h/" and the group
	Kind string `bson:"kind"`
	Chat string `bson:"chat"`
	Rev  int64  `bson:"rev,omitempty"` // see overwrite
	Open bool   `bson:"open"`          // never: nothing of it waits
	Said string `bson:"said"`          // the messages, JSON
	// Ended is when the oldest of them was said, or all were forgotten, in nanoseconds: what is old is looked for by it, as in turns.
	Ended int64 `bson:"ended"`
}

const (
	kindHeard = "heard"
	// kindUnheard is of what was forgotten. It stays until it is old, so that nothing brings that back.
	kindUnheard = "unheard"
)

func heardID(chatJID string) string { return "h/" + escape(chatJID) }

func rowOfHeard(chatJID string, all []chat.Message) (heardRow, error) {
	text, err := json.Marshal(all)
	if err != nil {
		return heardRow{}, fmt.Errorf("write what was heard: %w", err)
	}
	row := heardRow{ID: heardID(chatJID), Kind: kindHeard, Chat: chatJID, Said: string(text)}
	if len(all) > 0 {
		row.Ended = slices.MinFunc(all, func(a, b chat.Message) int { return a.Time.Compare(b.Time) }).Time.UnixNano()
	}
	return row, nil
}

// Heard implements inbox.Store.
func (s *Store) Heard(ctx context.Context, chatJID string) ([]chat.Message, error) {
	const doing = "read what was heard"
	var row heardRow
	err := s.try(ctx, doing, func(ctx context.Context) error {
		row = heardRow{}
		err := s.inboxRows.FindOne(ctx, byID(heardID(chatJID))).Decode(&row)
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		return err
	})
	if err != nil || row.Said == "" {
		return nil, err
	}
	var all []chat.Message
	if err := json.Unmarshal([]byte(row.Said), &all); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	return all, nil
}

// SetHeard implements inbox.Store.
func (s *Store) SetHeard(ctx context.Context, chatJID string, all []chat.Message) error {
	const doing = "keep what was heard"
	row, err := rowOfHeard(chatJID, all)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if len(all) == 0 {
		row.Kind, row.Ended = kindUnheard, s.now().UnixNano()
	}
	return s.overwrite(ctx, doing, s.inboxRows, row.ID, func(rev int64) any {
		row.Rev = rev
		return row
	})
}
