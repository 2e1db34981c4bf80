package mongostore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/budget"
	"wabot/internal/chat"
)

var _ budget.Store = (*Store)(nil)

// chargeRow is a charge or a total in "inbox": there, so that a reply and what it cost are one command.
type chargeRow struct {
	ID     string `bson:"_id"` // "c/" and the charge's
	Kind   string `bson:"kind"`
	Open   bool   `bson:"open"`  // never: nothing of it waits
	Ended  int64  `bson:"ended"` // the charge's time, in nanoseconds
	Charge string `bson:"charge"`
}

const (
	kindCharge = "charge"
	kindTotal  = "total"
)

func rowOfCharge(c chat.Charge) (chargeRow, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return chargeRow{}, fmt.Errorf("write a charge: %w", err)
	}
	row := chargeRow{ID: "c/" + c.ID, Kind: kindCharge, Ended: c.Time.UnixNano(), Charge: string(text)}
	if c.Kind == chat.Total {
		row.Kind = kindTotal
	}
	return row, nil
}

// unlessThere inserts a document, or leaves the one that is there.
func unlessThere(id string, document any) mongo.WriteModel {
	return mongo.NewUpdateOneModel().SetFilter(byID(id)).SetUpdate(bson.D{field("$setOnInsert", document)}).SetUpsert(true)
}

func chargeModels(all []chat.Charge) (models []mongo.WriteModel, err error) {
	for _, c := range all {
		row, err := rowOfCharge(c)
		if err != nil {
			return nil, err
		}
		models = append(models, unlessThere(row.ID, row))
	}
	return models, nil
}

// Charge implements budget.Store.
func (s *Store) Charge(ctx context.Context, all []chat.Charge) error {
	const doing = "keep charges"
	models, err := chargeModels(all)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return s.insertAll(ctx, doing, models)
}

// insertAll carries out models of unlessThere.
func (s *Store) insertAll(ctx context.Context, doing string, models []mongo.WriteModel) error {
	if len(models) == 0 {
		return ctx.Err()
	}
	return s.write(ctx, doing, func(ctx context.Context) error {
		_, err := s.inboxRows.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		return onlyDuplicates(err) // of two at once one is first
	})
}

// between are the closed documents of some kinds from since on and before until.
func between(since, until time.Time, kinds ...string) bson.D {
	return bson.D{
		field("open", false), field("kind", bson.D{field("$in", kinds)}),
		field("ended", bson.D{field("$gte", since.UnixNano()), field("$lt", until.UnixNano())}),
	}
}

// Charges implements budget.Store.
func (s *Store) Charges(ctx context.Context, since, until time.Time, each func(chat.Charge) error) error {
	return eachDocument(ctx, s.inboxRows, between(since, until, kindCharge, kindTotal), "open kind ended", func(row chargeRow) error {
		var c chat.Charge
		if err := json.Unmarshal([]byte(row.Charge), &c); err != nil {
			return fmt.Errorf("read a charge: %w", err)
		}
		return each(c)
	})
}

// DropCharges implements budget.Store.
func (s *Store) DropCharges(ctx context.Context, since, until time.Time, most int) (int, error) {
	return s.drop(ctx, "delete old charges", between(since, until, kindCharge), most)
}

// drop deletes at most so many documents that match.
func (s *Store) drop(ctx context.Context, doing string, filter bson.D, most int) (int, error) {
	ids, err := s.findIDs(ctx, doing, s.inboxRows, filter, options.Find().SetLimit(int64(most)))
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return len(ids), s.write(ctx, doing, func(ctx context.Context) error {
		_, err := s.inboxRows.DeleteMany(ctx, bson.D{field("_id", bson.D{field("$in", ids)})})
		return err
	})
}
