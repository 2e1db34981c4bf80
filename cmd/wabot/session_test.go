package main

import (
	"context"
	"database/sql"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/mongotest"
	"wabot/internal/sqlitestore"
)

// wabot runs a command of the program to its end, in this world, and returns what it printed and
// its exit code.
func (w *world) wabot(ctx context.Context, stdin string, args ...string) (string, int) {
	env, err := w.environment()
	if err != nil {
		return err.Error(), -1
	}
	cmd := exec.CommandContext(ctx, w.binary, args...)
	cmd.Dir = w.dir
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(env, w.env...)
	output, err := cmd.CombinedOutput()
	w.shows(string(output))
	if cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return string(output), cmd.ProcessState.ExitCode()
}

// A session goes from the file store to MongoDB and back while its owner chats on, and is never
// in use in both.
func TestSessionMovesBetweenStores(t *testing.T) {
	t.Parallel()
	// Five refusals and copies wait for a lease to die.
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	w, do := newStory(t)
	prints := func(code int, words []string, args ...string) {
		t.Helper()
		output, got := w.wabot(ctx, "", args...)
		if got != code {
			t.Fatalf("wabot %q: exit code %d, want %d\n%s", args, got, code, output)
		}
		for _, word := range words {
			if !strings.Contains(output, word) {
				t.Errorf("wabot %q does not say %q:\n%s", args, word, output)
			}
		}
		if user := w.owner.Number(); strings.Contains(output, user) {
			t.Errorf("wabot %q prints the owner's number:\n%s", args, output)
		}
	}
	chats := func(text string) {
		t.Helper()
		for _, name := range []string{"alice", "bob"} {
			_, err := w.phone(name).Say(ctx, w.owner.LID(), "!ai "+text)
			do(err)
			do(w.hear(ctx, name, w.owner.LID(), "You said: "+text))
		}
	}
	const mongoEnabled = "MONGO_ENABLED=True"
	w.env = []string{"ALLOW=*", "LEASE=6s", "MONGO_URL=" + mongotest.New(t)}
	do(w.pair(ctx))
	chats("one")
	// What is set for a chat, and what was said in a group, goes along.
	acts := func(all ...[]string) {
		t.Helper()
		for _, args := range all {
			do(phone(ctx, w, args))
		}
	}
	acts([]string{"owner", "says", "!instructions Rhyme.", "to", "alice"}, []string{"alice", "hears", "Done. From now on I answer by these instructions here."},
		[]string{"owner", "creates", "team", "alice", "bob"}, []string{"bob", "says", "we meet at noon", "in", "team"},
		[]string{"owner", "says", "barrier"}, []string{"owner", "hears", "You said: barrier"})

	prints(8, []string{"another wabot has this session open"}, "session", "copy", "--from", "file", "--to", "mongo")
	do(w.stop())
	// Asked while wabot is down; answered wherever the session goes on.
	_, err := w.phone("alice").Say(ctx, w.owner.LID(), "!ai two")
	do(err)

	// The empty store that is chosen now tells of the other.
	do(w.start(mongoEnabled))
	do(w.says(ctx, `No device is linked in the mongo store, but the file store.*\n +wabot session copy --from file --to mongo`))
	prints(8, []string{"another wabot drives the device in the mongo store"}, "session", "copy", "--from", "file", "--to", "mongo")
	do(w.stop())

	prints(0, []string{"Account", "Linked", "20", "can be used"}, "session", "list")
	prints(0, []string{"sessions", "turns"}, "session", "show", "--store", "file")
	prints(0, []string{"Everything can be read"}, "session", "verify")
	prints(2, []string{"the mongo store holds no linked device"}, "session", "copy", "--from", "mongo", "--to", "file")
	prints(0, []string{"The session is in the mongo store", "MONGO_ENABLED=True"}, "session", "copy", "--from", "file", "--to", "mongo")
	prints(2, []string{"moved from the file store to the mongo store", "session copy --from mongo --to file"}, "session", "copy", "--from", "file", "--to", "mongo")
	prints(0, []string{"must not be used"}, "session", "list", "--store", "file")
	prints(0, []string{"Everything can be read"}, "session", "verify", "--store", "mongo")

	do(w.start())
	do(w.exits(2))
	do(w.says(ctx, `this session was moved from the file store to the mongo store.*set MONGO_ENABLED=True`))

	do(w.start(mongoEnabled))
	do(w.online(ctx))
	do(w.hear(ctx, "alice", w.owner.LID(), "You said: two"))
	do(model(ctx, w, []string{"was-told", "Rhyme."}))
	acts([]string{"alice", "says", "!ai when", "in", "team"}, []string{"alice", "hears", "You said: alice: when", "in", "team"})
	do(model(ctx, w, []string{"was-told", "bob: we meet at noon"}))
	chats("three")
	prints(8, []string{"stop it"}, "session", "delete", "--store", "mongo", "--yes")
	do(w.kill())

	// What a killed process held is free when its lease has died.
	prints(0, []string{"The session is in the file store"}, "session", "copy", "--from", "mongo", "--to", "file")
	do(w.start(mongoEnabled))
	do(w.exits(2))
	do(w.says(ctx, `moved from the mongo store to the file store`))
	do(w.start())
	do(w.online(ctx))
	chats("four")
	do(w.stop())
	w.sound(t)
	for _, name := range []string{"alice", "bob"} {
		for _, text := range []string{"one", "three", "four"} {
			if n := shown(w.phone(name), w.owner.LID(), "You said: "+text); n != 1 {
				t.Errorf("%s was answered %d times to %q", name, n, text)
			}
		}
	}

	prints(2, []string{"Type yes", "nothing was deleted"}, "session", "delete")
	if output, code := w.wabot(ctx, "yes\n", "session", "delete"); code != 0 {
		t.Errorf("delete: exit code %d\n%s", code, output)
	}
	prints(0, []string{"none is linked"}, "session", "list")
	do(w.start())
	do(w.says(ctx, `No device is linked in the file store. The mongo store's was moved to a file store.*SESSION_DIR`))
	do(w.stop())
}

// The file store that is chosen and empty tells of the device in MongoDB.
func TestSessionInTheStoreThatIsNotChosen(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	ctx := withPatience(t)
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.env = []string{"MONGO_URL=" + mongotest.New(t)}
	for _, step := range []func() error{
		func() error { return w.pair(ctx, "MONGO_ENABLED=True") },
		w.stop,
		func() error { return w.start() },
		func() error {
			return w.says(ctx, `No device is linked in the file store, but the mongo store.*\n +wabot session copy --from mongo --to file`)
		},
		w.stop,
	} {
		if err := step(); err != nil {
			t.Fatalf("%v\nwabot's output:\n%s", err, w.bot.output.String())
		}
	}
}

func TestSessionUsage(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	for _, row := range []struct {
		args, says string
		code       int
	}{
		{"session help", "--from file --to mongo", 0},
		{"session", "session needs to know what to do", 2},
		{"session move", "no such command", 2},
		{"session copy", "say between which stores", 2},
		{"session copy --from file --to file", "say between which stores", 2},
		{"session copy --from file --to mongo", "MONGO_URL is not set", 2},
		{"session copy --from file --to paper", "write file or mongo", 2},
		{"session list --store mongo", "MONGO_URL is not set", 2},
		{"session list --all", "wabot session help", 2},
		{"session list more", `unexpected argument "more"`, 2},
	} {
		output, code := w.wabot(t.Context(), "", strings.Fields(row.args)...)
		if code != row.code || !strings.Contains(output, row.says) {
			t.Errorf("wabot %s: exit code %d, want %d and %q\n%s", row.args, code, row.code, row.says, output)
		}
	}
}

// What was damaged in a store is found, and said without quoting it.
func TestSessionVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	inMongo := func(change func(ctx context.Context, db *mongo.Database) error) func(context.Context, string) error {
		return func(ctx context.Context, address string) error {
			client, err := mongo.Connect(options.Client().ApplyURI(address))
			if err != nil {
				return err
			}
			defer client.Disconnect(ctx)
			u, err := url.Parse(address)
			if err != nil {
				return err
			}
			return change(ctx, client.Database(strings.TrimPrefix(u.Path, "/")))
		}
	}
	set := func(kind, field string, value any) func(context.Context, string) error {
		return inMongo(func(ctx context.Context, db *mongo.Database) error {
			_, err := db.Collection("sessions").UpdateOne(ctx, bson.D{{Key: "kind", Value: kind}}, bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: value}}}})
			return err
		})
	}
	inFile := func(statements ...string) func(context.Context, string) error {
		return func(ctx context.Context, dir string) error {
			db, err := sql.Open("sqlite", filepath.Join(dir, "session", sqlitestore.File))
			if err != nil {
				return err
			}
			defer db.Close()
			for _, s := range statements {
				if _, err := db.ExecContext(ctx, s); err != nil {
					return err
				}
			}
			return nil
		}
	}
	type damage struct {
		name string
		do   func(ctx context.Context, place string) error
		says string
	}
	// In this order, as one comes on top of the other, and the later ones hide the earlier.
	for store, damages := range map[string][]damage{
		"mongo": {
			{"an identity of a wrong length", set("identity", "data", make([]byte, 31)), "the key has 31 bytes, not 32"},
			{"a session that does not decode", set("session", "data", []byte("junk")), "the session cannot be read"},
			{"a pre-key above the count", set("device", "next_pre_key", int64(5)), "the next pre-key would be 5"},
			{"a document without its device", set("session", "device", "999:1@s.whatsapp.net"), "a device that is not there"},
			{"an event with a short hash", set("event", "key", "abcd"), "the hash has 2 bytes, not 32"},
			{"a device with a short key", set("device", "noise_key", []byte("short")), "the noise key has 5 bytes, not 32"},
			{"an event with no hash", set("event", "key", "xyz"), "read a buffered event: its hash is not one"},
			{"a document of another kind", set("event", "kind", "strange"), "strange"},
		},
		"files": {
			{"a session that does not decode", inFile(`UPDATE whatsmeow_sessions SET session = x'7b'`), "the session cannot be read"},
			{"rows without their device", inFile(`PRAGMA foreign_keys = 0`, `UPDATE whatsmeow_sessions SET our_jid = '999:1@s.whatsapp.net'`), "device"},
			{"an identity of a wrong length", inFile(`PRAGMA ignore_check_constraints = 1`, `UPDATE whatsmeow_identity_keys SET identity = x'01'`), "is damaged"},
		},
	} {
		t.Run(store, func(t *testing.T) {
			if store == "mongo" {
				sparingly(t)
			}
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			w, err := newWorld(binary, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.close)
			address := mongotest.New(t)
			place, enabled := w.dir, "False"
			if store == "mongo" {
				place, enabled = address, "True"
			}
			w.env = []string{"ALLOW=*", "MONGO_ENABLED=" + enabled, "MONGO_URL=" + address}
			for _, step := range []func() error{
				func() error { return w.pair(ctx) },
				func() error { _, err := w.phone("alice").Say(ctx, w.owner.LID(), "!ai one"); return err },
				func() error { return w.hear(ctx, "alice", w.owner.LID(), "You said: one") },
				w.stop,
			} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			if output, code := w.wabot(ctx, "", "session", "verify"); code != 0 {
				t.Errorf("verify of a whole store: exit code %d\n%s", code, output)
			}
			for _, d := range damages {
				if err := d.do(ctx, place); err != nil {
					t.Fatal(err)
				}
				output, code := w.wabot(ctx, "", "session", "verify")
				if code != 7 || !strings.Contains(output, d.says) || strings.Contains(output, w.owner.Number()) {
					t.Errorf("%s: exit code %d, want 7 and %q\n%s", d.name, code, d.says, output)
				}
			}
		})
	}
}
