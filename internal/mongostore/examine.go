package mongostore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Examination is what Examine has found.
type Examination struct {
	// Server is the server's version as it gives it, Database the database's name.
	Server, Database string
	// Latency is how long a write, majority and journalled, took.
	Latency time.Duration
	// Leader is who holds the lease with the key; its Epoch is 0 where nobody ever did. It may be dead: its lease tells that
	// only to who looks for longer.
	Leader Leader
	// Missing are the indexes that are not there, as a collection and its keys.
	Missing []string
	// Empty is set where the database has no collections yet.
	Empty bool
}

// Examine tries the database: it connects, writes a document of its own, reads it back and deletes it, and looks at the
// server and the indexes. It touches nothing else, so it works beside a program that uses the database. The error is as Open's.
func Examine(ctx context.Context, o Options, leaseKey string) (e Examination, err error) {
	o.Timeout = orElse(o.Timeout, 5*time.Second)
	s := &Store{log: slog.New(slog.DiscardHandler), now: time.Now, timeout: o.Timeout}
	if s.seal, err = newSealer(o.Key, o.OldKeys); err != nil {
		return e, err
	}
	if err := s.connect(ctx, o); err != nil {
		return e, err
	}
	defer s.client.Disconnect(context.WithoutCancel(ctx))
	e.Database = databaseName(o.URL)
	s.collections(e.Database)
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return s.examineServer(ctx, &e) },
		s.checkSchema,
		s.checkKeys,
		func(ctx context.Context) error { return s.writeAndRead(ctx, &e) },
		func(ctx context.Context) error { return s.examineIndexes(ctx, &e) },
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return e, operatorError(err)
		}
	}
	if e.Leader, err = s.leader(ctx, leaseKey); err != nil {
		return e, operatorError(err)
	}
	return e, nil
}

func (s *Store) examineServer(ctx context.Context, e *Examination) error {
	var info struct {
		Version string `bson:"version"`
	}
	if err := s.db.RunCommand(ctx, bson.D{field("buildInfo", 1)}).Decode(&info); err != nil {
		return fmt.Errorf("ask for the server's version: %w", err)
	}
	e.Server = info.Version
	return nil
}

func (s *Store) writeAndRead(ctx context.Context, e *Examination) error {
	id := byID("doctor/" + rand.Text())
	want := []byte(rand.Text())
	begin := time.Now()
	if _, err := s.meta.InsertOne(ctx, append(id, field("value", want))); err != nil {
		return fmt.Errorf("write a document: %w", err)
	}
	e.Latency = time.Since(begin)
	var got note
	err := s.meta.FindOne(ctx, id).Decode(&got)
	if err == nil && !bytes.Equal(got.Value, want) {
		err = errors.New("it reads back otherwise than it was written")
	}
	if err != nil {
		return fmt.Errorf("read a document back: %w", err)
	}
	if _, err := s.meta.DeleteOne(ctx, id); err != nil {
		return fmt.Errorf("delete a document: %w", err)
	}
	return nil
}

func (s *Store) examineIndexes(ctx context.Context, e *Examination) error {
	names, err := s.db.ListCollectionNames(ctx, bson.D{field("name", s.sessions.Name())})
	if err != nil {
		return fmt.Errorf("list the collections: %w", err)
	}
	if e.Empty = len(names) == 0; e.Empty {
		return nil
	}
	for _, index := range s.indexes() {
		cursor, err := index.collection.Indexes().List(ctx, options.ListIndexes())
		if err != nil {
			return fmt.Errorf("list the indexes of %s: %w", index.collection.Name(), err)
		}
		var there []struct {
			Key    bson.D `bson:"key"`
			Unique bool   `bson:"unique"`
		}
		if err := cursor.All(ctx, &there); err != nil {
			return fmt.Errorf("list the indexes of %s: %w", index.collection.Name(), err)
		}
		has := false
		for _, i := range there {
			var keys []string
			for _, k := range i.Key {
				keys = append(keys, k.Key)
			}
			has = has || slices.Equal(keys, index.keys) && i.Unique == index.unique
		}
		if !has {
			e.Missing = append(e.Missing, index.collection.Name()+" by "+strings.Join(index.keys, ", "))
		}
	}
	return nil
}
