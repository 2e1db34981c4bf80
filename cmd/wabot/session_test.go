package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"wabot/internal/mongotest"
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
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	// Five refusals and copies wait for a lease to die.
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\nwabot's output:\n%s", err, w.bot.output.String())
		}
	}
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
	w.env = []string{"ALLOW=*", "MONGO_URL=" + mongotest.New(t)}
	do(w.pair(ctx))
	chats("one")

	prints(8, []string{"another wabot has this session open"}, "session", "copy", "--from", "file", "--to", "mongo")
	do(w.stop())
	// Asked while wabot is down; answered wherever the session goes on.
	_, err = w.phone("alice").Say(ctx, w.owner.LID(), "!ai two")
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
	for _, p := range w.problems() {
		t.Error(p)
	}
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
		{"session", "no such command", 2},
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
