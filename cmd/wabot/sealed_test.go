package main

import (
	"context"
	"strings"
	"testing"

	"wabot/internal/mongotest"
)

// Encryption of the device state is turned on, its key is changed, and it is turned off, each with a restart and without a QR
// code; a start without the right key is refused and says why.
func TestSessionKey(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	w, do := newStory(t)
	w.env = []string{"ALLOW=*", "MONGO_ENABLED=True", "MONGO_URL=" + mongotest.New(t), "BACKUP_PASSPHRASE=correct horse battery"}
	one, two := "SESSION_KEY="+strings.Repeat("a1", 32), "SESSION_KEY="+strings.Repeat("b2", 32)
	before := func(key string) string { return strings.Replace(key, "SESSION_KEY=", "SESSION_KEY_OLD=", 1) }
	chats := func(text string) {
		t.Helper()
		_, err := w.phone("alice").Say(ctx, w.owner.LID(), "!ai "+text)
		do(err)
		do(w.hear(ctx, "alice", w.owner.LID(), "You said: "+text))
	}
	runs := func(text string, env ...string) {
		t.Helper()
		do(w.start(env...))
		do(w.online(ctx))
		chats(text)
		do(w.stop())
	}
	refused := func(env ...string) {
		t.Helper()
		do(w.start(env...))
		do(w.exits(2))
		do(w.says(ctx, "device state in the database is encrypted with a key that is not given: set SESSION_KEY"))
	}
	do(w.pair(ctx))
	chats("in the clear")
	do(w.stop())
	runs("turned on", one)
	do(w.says(ctx, "brought to the SESSION_KEY"))
	refused()
	refused(two)
	runs("on", one)
	runs("changed", two, before(one))
	refused(one)
	runs("changed, once more", two)

	// A copy, and a backup, hold what was sealed.
	command := func(want string, env []string, args ...string) {
		t.Helper()
		all := w.env
		w.env = append(all[:len(all):len(all)], env...)
		if output, code := w.wabot(ctx, "", args...); code != 0 || !strings.Contains(output, want) {
			t.Errorf("wabot %q: exit code %d\n%s", args, code, output)
		}
		w.env = all
	}
	command("Everything can be read", []string{two}, "session", "verify")
	command("The session is in the file store", []string{two}, "session", "copy", "--from", "mongo", "--to", "file")
	runs("on files", "MONGO_ENABLED=False")
	command("The session is in the mongo store", []string{two}, "session", "copy", "--from", "file", "--to", "mongo")
	runs("back", two)
	runs("turned off", before(two))
	runs("off")
	w.sound(t)
}
