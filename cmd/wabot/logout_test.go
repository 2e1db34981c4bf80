package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"wabot/internal/mongotest"
)

// wabot logout unlinks the device on the phone and keeps the chats; the next start links anew and goes on with them.
func TestLogout(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{
		"file":  nil,
		"mongo": {"MONGO_ENABLED=True", "MONGO_URL=" + mongotest.New(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := withPatience(t)
			w, do := newStory(t)
			w.env = append([]string{"ALLOW=*"}, env...)
			prints := func(code int, words, stdin string, args ...string) {
				t.Helper()
				output, got := w.wabot(ctx, stdin, args...)
				if got != code || !strings.Contains(output, words) {
					t.Fatalf("wabot %q: exit code %d, want %d and %q\n%s", args, got, code, words, output)
				}
			}
			chats := func(text string) {
				t.Helper()
				_, err := w.phone("alice").Say(ctx, w.owner.LID(), "!ai "+text)
				do(err)
				do(w.hear(ctx, "alice", w.owner.LID(), "You said: "+text))
			}
			prints(2, map[string]string{"file": "no session here yet", "mongo": "no linked device"}[name], "", "logout", "--yes")
			do(w.pair(ctx))
			chats("one")
			prints(8, "stop it", "", "logout", "--yes")
			do(w.stop())
			prints(2, "nothing was changed", "", "logout")
			if !w.owner.HasDevice(w.device) {
				t.Fatal("the phone has lost the device before it was logged out")
			}
			prints(0, "Logged out", "yes\n", "logout")
			if w.owner.HasDevice(w.device) {
				t.Error("the phone still lists the device")
			}
			prints(0, "none is linked", "", "session", "list")

			do(w.pair(ctx))
			chats("two")
			w.owner.Unlink(w.device)
			do(w.exits(3))
			prints(2, "no linked device", "", "logout", "--yes")

			// Unlinked on the phone while wabot was down.
			do(w.pair(ctx))
			do(w.stop())
			w.owner.Unlink(w.device)
			prints(0, "was unlinked already", "", "logout", "--yes")
			w.sound(t)
		})
	}
}

// While WhatsApp cannot be reached wabot logout says what it does, and once it is interrupted how to go on.
func TestLogoutIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx := withPatience(t)
	w, do := newStory(t)
	do(w.pair(ctx))
	do(w.stop())
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	do(err)
	t.Cleanup(func() { silent.Close() })
	env, err := w.environment()
	do(err)
	cmd := exec.CommandContext(ctx, w.binary, "logout", "--yes")
	cmd.Dir, cmd.Env = w.dir, append(env, "HTTPS_PROXY=http://"+silent.Addr().String())
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	do(err)
	do(cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "Connecting to WhatsApp") {
		t.Errorf("it says %q: %v", line, err)
	}
	do(cmd.Process.Signal(os.Interrupt))
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(errs.String(), "wabot: interrupted, and the device may be unlinked or not; run wabot logout again") {
		t.Errorf("it ends with %v and says %q", err, &errs)
	}
	if output, code := w.wabot(ctx, "", "logout", "--yes"); code != 0 {
		t.Errorf("exit code %d\n%s", code, output)
	}
}
