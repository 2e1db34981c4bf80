package mongotest_test

import (
	"context"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/mongotest"
)

func connect(t *testing.T, address string) *mongo.Collection {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(address).SetTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	return client.Database(strings.TrimPrefix(u.Path, "/")).Collection("c")
}

// soon is the context of a command that is not expected to be answered.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCommandsAreAtomic(t *testing.T) {
	t.Parallel()
	c := connect(t, mongotest.New(t))
	ctx := t.Context()
	if _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: "n"}, {Key: "n", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	for range 40 {
		g.Go(func() {
			if _, err := c.UpdateOne(ctx, bson.D{{Key: "_id", Value: "n"}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	var doc struct{ N int }
	if err := c.FindOne(ctx, bson.D{{Key: "_id", Value: "n"}}).Decode(&doc); err != nil || doc.N != 40 {
		t.Fatalf("counted %d, %v; want 40", doc.N, err)
	}
}

func TestDataOutlivesAKill(t *testing.T) {
	t.Parallel()
	s := mongotest.Start(t)
	c := connect(t, s.URL)
	ctx := t.Context()
	if _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: "n"}}); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := c.FindOne(soon(t), bson.D{}).Err(); err == nil {
		t.Fatal("a killed server answered")
	}
	s.Restart()
	if err := c.FindOne(ctx, bson.D{{Key: "_id", Value: "n"}}).Err(); err != nil {
		t.Fatalf("after the restart: %v", err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	s := mongotest.Start(t)
	c := connect(t, s.URL)
	ctx := t.Context()
	there := func(id string) bool {
		n, err := c.CountDocuments(ctx, bson.D{{Key: "_id", Value: id}})
		if err != nil {
			t.Fatal(err)
		}
		return n == 1
	}
	for _, row := range []struct {
		id    string
		fault mongotest.Fault
		done  bool
	}{
		{"before", mongotest.CutBefore, false},
		{"after", mongotest.CutAfter, true},
		{"hang", mongotest.Hang, false},
		{"not primary", mongotest.NotPrimary, false},
		{"unconfirmed", mongotest.Unconfirmed, true},
		{"full", mongotest.Full, false},
	} {
		s.OnCommand(func(command string) mongotest.Fault {
			if command == "insert" {
				return row.fault
			}
			return mongotest.None
		})
		inserting := ctx
		if row.fault == mongotest.Hang {
			inserting = soon(t)
		}
		if _, err := c.InsertOne(inserting, bson.D{{Key: "_id", Value: row.id}}); err == nil {
			t.Errorf("%s: no error", row.id)
		}
		if there(row.id) != row.done {
			t.Errorf("%s: carried out: %v", row.id, !row.done)
		}
	}
	s.OnCommand(nil)
	s.Stall()
	if err := c.FindOne(soon(t), bson.D{}).Err(); !mongo.IsTimeout(err) {
		t.Errorf("stalled: %v, want a timeout", err)
	}
	s.Resume()
	if !there("after") {
		t.Error("resumed: the document is gone")
	}
}
