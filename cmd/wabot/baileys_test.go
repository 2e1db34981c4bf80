package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/llmtest"
	"wabot/internal/mongotest"
	"wabot/internal/whatsapptest"
)

// baileysPeer is the folder with the bot on Baileys and all that it needs, which comes from the npm registry once
// per content of it. The error says why it cannot be had.
var baileysPeer = sync.OnceValues(func() (string, error) {
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("there is no %s", program)
		}
	}
	// The package mongo-baileys is loaded by require, and loads Baileys so.
	if err := exec.Command("node", "-e", "process.exit(process.features.require_module ? 0 : 1)").Run(); err != nil {
		return "", errors.New("node is older than 20.19")
	}
	source, err := filepath.Abs(filepath.Join("testdata", "baileys"))
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	files := map[string][]byte{}
	for _, name := range []string{"bot.mjs", "package.json", "package-lock.json"} {
		if files[name], err = os.ReadFile(filepath.Join(source, name)); err != nil {
			return "", err
		}
		sum.Write(files[name])
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "wabot-baileys", hex.EncodeToString(sum.Sum(nil)[:12]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	installed := filepath.Join(dir, "installed")
	if _, err := os.Stat(installed); err == nil {
		return dir, nil
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund")
	install.Dir = dir
	if output, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, output)
	}
	return dir, os.WriteFile(installed, nil, 0o600)
})

// nodeBot is a bot on Baileys as a process.
type nodeBot struct {
	*process
	stdin  io.Closer
	errors bytes.Buffer // to be read once it has exited
}

// startNode runs the bot on Baileys in this world.
func (w *world) startNode(peer string, env ...string) (*nodeBot, error) {
	ca, err := w.whatsapp.CAFile(w.dir)
	if err != nil {
		return nil, err
	}
	root := whatsapptest.RootKey()
	cmd := exec.Command("node", "bot.mjs")
	cmd.Dir = peer
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir,
		"PROXY=" + w.whatsapp.ProxyURL(), "NODE_EXTRA_CA_CERTS=" + ca, "ROOT_KEY=" + hex.EncodeToString(root[:]),
	}, env...)
	p := &process{cmd: cmd, output: transcript{more: make(chan struct{})}, exited: make(chan struct{})}
	b := &nodeBot{process: p}
	cmd.Stdout, cmd.Stderr = &p.output, &b.errors
	if b.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		cmd.Wait()
	}()
	w.bots = append(w.bots, p)
	return b, nil
}

// event waits for the event of a kind with that number, from 1, and returns its field.
func (b *nodeBot) event(ctx context.Context, kind string, number int, name string) (string, error) {
	text, err := b.wait(ctx, "the event "+kind, func(output string) (string, bool) {
		n := 0
		for line := range bytes.Lines([]byte(output)) {
			var event map[string]any
			if json.Unmarshal(line, &event) != nil || event["event"] != kind {
				continue
			}
			if n++; n == number {
				text, _ := event[name].(string)
				return text, true
			}
		}
		return "", false
	})
	if err != nil {
		select {
		case <-b.exited:
			err = fmt.Errorf("%w\n%s", err, b.errors.String())
		default:
		}
	}
	return text, err
}

// stop ends the bot as people do: it has saved all by then.
func (b *nodeBot) stop() error {
	b.stdin.Close()
	return b.exits(0, patience)
}

// The session of a bot on Baileys goes on in wabot: with everybody it has chatted with, without a QR code, and with
// what was said while neither ran.
func TestTakeOverFromBaileys(t *testing.T) {
	t.Parallel()
	peer, err := baileysPeer()
	if err != nil {
		t.Skipf("NOT TESTED: taking over sessions of real Baileys, because %v", err)
	}
	const baileys6, baileys7 = "@whiskeysockets/baileys", "baileys"
	for _, row := range []struct {
		name, baileys, auth string
		mongo               bool // is where wabot keeps it
		// forgetful is set where the bot's store loses sender keys, which people are then asked for again.
		forgetful bool
	}{
		{name: "6 in a folder", baileys: baileys6, auth: "folder"},
		{name: "7 in a folder", baileys: baileys7, auth: "folder"},
		{name: "7 in a folder, to MongoDB", baileys: baileys7, auth: "folder", mongo: true},
		{name: "6 by mongo-baileys", baileys: baileys6, auth: "mongo-baileys", forgetful: true},
		{name: "7 by baileys-auth-mongo", baileys: baileys7, auth: "baileys-auth-mongo", mongo: true},
		{name: "7 in JSON in MongoDB", baileys: baileys7, auth: "json"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && (row.mongo || row.auth != "folder") {
				t.Skip("on MongoDB only without -short")
			}
			takeOver(t, peer, row.baileys, row.auth, row.mongo, row.forgetful)
		})
	}
}

func takeOver(t *testing.T, peer, baileys, auth string, toMongo, forgetful bool) {
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	var node *nodeBot
	do := func(err error) {
		t.Helper()
		if err == nil {
			return
		}
		output := "(not started)"
		if w.bot != nil {
			output = w.bot.output.String()
		}
		t.Fatalf("%v\nthe Node bot's events:\n%s\nwabot's output:\n%s", err, node.output.String(), output)
	}
	wabot := func(code int, words []string, args ...string) {
		t.Helper()
		output, got := w.wabot(ctx, "", args...)
		t.Logf("$ wabot %s\n%s", strings.Join(args, " "), output)
		if got != code {
			t.Fatalf("exit code %d, want %d", got, code)
		}
		for _, word := range words {
			if !strings.Contains(output, word) {
				t.Errorf("wabot does not say %q", word)
			}
		}
		if strings.Contains(output, w.owner.Number()) {
			t.Error("wabot prints the owner's number")
		}
	}

	folder := filepath.Join(w.dir, "auth")
	env := []string{"BAILEYS=" + baileys, "AUTH=" + auth, "FOLDER=" + folder}
	where := []string{"--folder", folder}
	if auth != "folder" {
		url := mongotest.New(t)
		env = append(env, "MONGO_URL="+url, "COLLECTION=authState")
		where = []string{"--mongo-url", url}
	}
	w.env = []string{"ALLOW=*"}
	w.answer = func(r llmtest.Request) string {
		text := r.LastUser()
		if _, said, group := strings.Cut(text, ": "); group {
			text = said
		}
		return "You said: " + text
	}
	store := "file"
	if toMongo {
		store = "mongo"
		w.env = append(w.env, "MONGO_ENABLED=True", "MONGO_URL="+mongotest.New(t))
	}
	// A session that was not taken over shows in a retry receipt, of ours or of somebody else.
	var retries atomic.Int32
	w.whatsapp.OnStanza(func(s whatsapptest.Stanza) {
		if !s.ToClient && s.Node.Tag == "receipt" && s.Node.Attrs["type"] == "retry" {
			retries.Add(1)
		}
	})

	node, err = w.startNode(peer, env...)
	do(err)
	code, err := node.event(ctx, "qr", 1, "qr")
	do(err)
	w.owner = w.phone("owner")
	w.device, err = w.owner.Scan(ctx, code)
	do(err)
	_, err = node.event(ctx, "open", 1, "")
	do(err)
	friends, err := w.phone("alice").Group(ctx, "Friends", w.phone("bob").LID(), w.owner.LID())
	do(err)
	chat := func(chat types.JID, text, answer string, names ...string) {
		t.Helper()
		for _, name := range names {
			_, err := w.phone(name).Say(ctx, chat, "!ai "+text+" "+name)
			do(err)
			do(w.hear(ctx, name, chat, answer+text+" "+name))
		}
	}
	answers := 0
	withNode := func(to types.JID, text string, names ...string) {
		t.Helper()
		for _, name := range names {
			chat(to, text, "Node heard: ", name)
			answers++
			_, err := node.event(ctx, "answered", answers, "")
			do(err)
			do(w.whatsapp.WaitSettled(ctx, w.device))
		}
	}
	withNode(w.owner.LID(), "one", "alice", "bob", "carol")
	withNode(friends, "one", "alice", "bob")
	withNode(w.owner.LID(), "two", "alice", "bob", "alice")
	do(node.stop())
	before := retries.Load()

	// While neither runs, people they know and a stranger go on.
	talk := func(chat types.JID, text string, names ...string) {
		t.Helper()
		for _, name := range names {
			_, err := w.phone(name).Say(ctx, chat, "!ai "+text+" "+name)
			do(err)
		}
	}
	talk(w.owner.LID(), "anyone?", "alice", "bob", "carol", "dora")
	talk(friends, "anyone?", "alice") // of several in one chat the answer would be one

	command := append([]string{"session", "import-baileys", "--store", store}, where...)
	wabot(0, []string{"Nothing was changed", "pre-keys", "sessions"}, append(command, "--dry-run")...)
	wabot(0, []string{"Taken over", "--undo"}, command...)
	wabot(2, []string{"was taken over"}, command...)
	wabot(0, []string{"Given back"}, append(command, "--undo")...)
	wabot(2, []string{"was not taken over"}, append(command, "--undo")...)
	wabot(0, []string{"Taken over"}, command...)
	wabot(0, []string{"Everything can be read"}, "session", "verify", "--store", store)

	do(w.start())
	do(w.online(ctx))
	for _, name := range []string{"alice", "bob", "carol", "dora"} {
		do(w.hear(ctx, name, w.owner.LID(), "You said: anyone? "+name))
	}
	do(w.hear(ctx, "alice", friends, "You said: anyone? alice"))
	chat(w.owner.LID(), "three", "You said: ", "alice", "bob", "carol", "dora")
	chat(friends, "three", "You said: ", "alice", "bob")
	chat(w.owner.LID(), "four", "You said: ", "bob", "alice")
	do(w.whatsapp.WaitSettled(ctx, w.device))
	do(w.stop())
	do(w.start())
	do(w.online(ctx))
	chat(w.owner.LID(), "five", "You said: ", "alice", "carol")
	do(w.stop())
	wabot(2, []string{"wabot has used the session"}, append(command, "--undo")...)

	for _, b := range w.bots[1:] {
		if strings.Contains(b.output.String(), "Linked devices") {
			t.Error("wabot shows a QR code")
		}
	}
	if n := retries.Load() - before; n != 0 && !forgetful {
		t.Errorf("%d messages had to be asked for again", n)
	}
	for _, text := range []string{"anyone?", "three"} {
		for _, name := range []string{"alice", "bob", "carol", "dora"} {
			if n := shown(w.phone(name), w.owner.LID(), "You said: "+text+" "+name); n != 1 {
				t.Errorf("%s was answered %d times to %q", name, n, text)
			}
		}
	}
	problems := slices.DeleteFunc(w.problems(), func(p string) bool {
		return strings.HasSuffix(p, "does not know iq get w <props>") // Baileys 6 asks
	})
	for _, p := range append(problems, w.whatsapp.CounterFaults()...) {
		t.Error(p)
	}
}
