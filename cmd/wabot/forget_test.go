package main

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/mongotest"
)

// Of what somebody has had forgotten, and of what was answered to it, nothing is left in the store: not for the devices that
// could not decrypt the answer either, and not as bytes in a file that is deleted as far as SQLite knows.
func TestForgottenIsGone(t *testing.T) {
	t.Parallel()
	const secret = "quaggazebra"
	holds := func(what string, raw []byte) {
		t.Helper()
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s still has it", what)
		}
	}
	lives := func(t *testing.T, settings ...string) *mongoWorld {
		w := newMongoWorld(t, append(settings, "ALLOW=*", "REPLY=stream")...)
		ctx := withPatience(t)
		w.do(w.pair(ctx))
		w.ask(ctx, "alice", secret)
		w.answers(ctx, "alice", secret)
		_, err := w.phone("alice").Say(ctx, w.owner.LID(), "!forget")
		w.do(err)
		w.do(w.hearLike(ctx, "alice", w.owner.LID(), regexp.MustCompile(`^Done\. `)))
		w.do(w.stop())
		return w
	}
	t.Run("files", func(t *testing.T) {
		t.Parallel()
		w := lives(t, "MONGO_ENABLED=False")
		files, err := filepath.Glob(filepath.Join(w.dir, "session", "*"))
		w.do(err)
		for _, f := range files {
			raw, err := os.ReadFile(f)
			w.do(err)
			holds(filepath.Base(f), raw)
		}
	})
	t.Run("mongo", func(t *testing.T) {
		t.Parallel()
		at := mongotest.New(t)
		lives(t, "MONGO_URL="+at)
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		client, err := mongo.Connect(options.Client().ApplyURI(at))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Disconnect(context.Background())
		db := client.Database(strings.TrimPrefix(u.Path, "/"))
		names, err := db.ListCollectionNames(t.Context(), bson.D{})
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			all, err := db.Collection(name).Find(t.Context(), bson.D{})
			if err != nil {
				t.Fatal(err)
			}
			for all.Next(t.Context()) {
				holds(name, all.Current)
			}
			if err := all.Err(); err != nil {
				t.Error(err)
			}
		}
	})
}
