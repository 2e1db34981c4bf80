package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/mongotest"
)

// An old state of the session comes back, by wabot's own command, and behind its back by a copy of the files or
// of the database. The bot goes on without a QR code, and no counter is used twice, which the phones watch.
func TestOldStateComesBack(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		w, ctx := backupWorld(t, binary)
		dir := filepath.Join(w.dir, "session")
		saved := filepath.Join(w.dir, "saved")
		w.comesBack(t, ctx, func() error {
			return os.CopyFS(saved, os.DirFS(dir))
		}, func() error {
			// Into the files that are there, as cp does.
			return filepath.WalkDir(saved, func(path string, e os.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				raw, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				return os.WriteFile(filepath.Join(dir, filepath.Base(path)), raw, 0o600)
			})
		})
	})
	t.Run("mongo", func(t *testing.T) {
		t.Parallel()
		w, ctx := backupWorld(t, binary)
		url := mongotest.New(t)
		w.env = append(w.env, "MONGO_ENABLED=True", "MONGO_URL="+url)
		var dump map[string][]bson.Raw
		w.comesBack(t, ctx, func() (err error) {
			dump, err = mongodump(ctx, url)
			return err
		}, func() error { return mongorestore(ctx, url, dump) })
	})
}

func backupWorld(t *testing.T, binary string) (*world, context.Context) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.env = []string{"ALLOW=*", "BACKUP_PASSPHRASE=correct horse battery", "SCRYPT=10", "LEASE=6s"}
	return w, ctx
}

// comesBack tells the story; copied and putBack are what is done behind wabot's back.
func (w *world) comesBack(t *testing.T, ctx context.Context, copied, putBack func() error) {
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\nwabot's output:\n%s", err, w.bot.output.String())
		}
	}
	prints := func(code int, words string, args ...string) {
		t.Helper()
		output, got := w.wabot(ctx, "", args...)
		if got != code || !strings.Contains(output, words) {
			t.Fatalf("wabot %q: exit code %d, want %d and %q\n%s", args, got, code, words, output)
		}
	}
	var group types.JID
	chats := func(text string) {
		t.Helper()
		for _, name := range []string{"alice", "bob"} {
			_, err := w.phone(name).Say(ctx, w.owner.LID(), "!ai "+text)
			do(err)
			do(w.hear(ctx, name, w.owner.LID(), "You said: "+text))
		}
		_, err := w.phone("alice").Say(ctx, group, "!ai all "+text)
		do(err)
		do(w.hear(ctx, "bob", group, "You said: alice: all "+text))
	}
	backup := filepath.Join(w.dir, "backup.age")
	do(w.pair(ctx))
	group, err := w.owner.Group(ctx, "friends", w.phone("alice").LID(), w.phone("bob").LID())
	do(err)
	chats("one")
	prints(8, "stop it", "session", "export", backup)
	do(w.stop())
	prints(0, "Exported", "session", "export", backup)
	prints(2, "is there already", "session", "export", backup)
	do(copied())

	// Life goes on, so the backup is old.
	do(w.start())
	do(w.online(ctx))
	chats("two")
	chats("two again")
	prints(8, "stop it", "session", "import", backup)
	do(w.stop())

	prints(2, "wabot session delete", "session", "import", backup)
	prints(0, "Deleted", "session", "delete", "--yes")
	whole, err := os.ReadFile(backup)
	do(err)
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's mode is %v: %v", info.Mode(), err)
	}
	cut := filepath.Join(w.dir, "cut.age")
	do(os.WriteFile(cut, whole[:len(whole)/2], 0o600))
	prints(2, "damaged", "session", "import", cut)
	prints(2, "no such file", "session", "import", filepath.Join(w.dir, "none.age"))
	prints(2, "not a file of wabot", "session", "import", binaryOf(t))
	passphrase := w.env
	w.env = append(w.env[:len(w.env):len(w.env)], "BACKUP_PASSPHRASE=wrong horse battery")
	prints(2, "does not open this backup", "session", "import", backup)
	w.env = passphrase
	prints(0, "none is linked", "session", "list")
	prints(0, "Restored into", "session", "import", backup)
	prints(0, "Everything can be read", "session", "verify")
	_, err = w.phone("bob").Say(ctx, w.owner.LID(), "!ai meanwhile") // in the session that was forgotten
	do(err)
	do(w.start())
	do(w.online(ctx))
	do(w.hear(ctx, "bob", w.owner.LID(), "You said: meanwhile"))
	chats("three")
	do(w.stop())

	do(putBack())
	prints(0, "an older state of itself", "session", "list")
	do(w.start())
	do(w.says(ctx, "this session may be an older state of itself"))
	do(w.online(ctx))
	chats("four")
	do(w.stop())
	prints(0, "can be used", "session", "list")
	prints(0, "can be used", "session", "make-safe")
	do(w.start())
	do(w.online(ctx))
	chats("five")
	if strings.Contains(w.bot.output.String(), "older state") {
		t.Error("a session made safe is made safe again")
	}
	do(w.stop())
	w.sound(t)
}

func binaryOf(t *testing.T) string {
	path, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// mongodump reads a whole database, mongorestore puts it back in place of what is there (mongorestore --drop).
func mongodump(ctx context.Context, url string) (map[string][]bson.Raw, error) {
	all := map[string][]bson.Raw{}
	err := withDatabase(ctx, url, func(db *mongo.Database) error {
		names, err := db.ListCollectionNames(ctx, bson.D{})
		if err != nil {
			return err
		}
		for _, name := range names {
			cursor, err := db.Collection(name).Find(ctx, bson.D{})
			if err != nil {
				return err
			}
			var rows []bson.Raw
			if err := cursor.All(ctx, &rows); err != nil {
				return err
			}
			all[name] = rows
		}
		return nil
	})
	return all, err
}

func mongorestore(ctx context.Context, url string, dump map[string][]bson.Raw) error {
	return withDatabase(ctx, url, func(db *mongo.Database) error {
		for name, rows := range dump {
			if _, err := db.Collection(name).DeleteMany(ctx, bson.D{}); err != nil {
				return err
			}
			if len(rows) == 0 {
				continue
			}
			if _, err := db.Collection(name).InsertMany(ctx, rows); err != nil {
				return err
			}
		}
		return nil
	})
}

func withDatabase(ctx context.Context, url string, do func(*mongo.Database) error) error {
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		return err
	}
	defer client.Disconnect(context.WithoutCancel(ctx))
	name := url[strings.LastIndexByte(url, '/')+1:]
	name, _, _ = strings.Cut(name, "?")
	return do(client.Database(name))
}
