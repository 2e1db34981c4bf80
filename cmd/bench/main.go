// Command bench measures what wabot costs beside a bare whatsmeow client that echoes, each as a process of its own, in
// turn, against one simulated WhatsApp in one run:
//
//	go run ./cmd/bench
//
// Peers are the bare client with the settings of whatsmeow's example ("example"), the bare client that keeps its session as
// safely as wabot does ("bare"), wabot on files, and wabot on MongoDB: the server that -mongo names, or else the stand-in of
// the tests. Every peer answers in every round, in another order each time; what is printed are medians over the rounds, how
// far these lie apart, and ratios to the bare client in the same run. The times hold the simulated server and its
// phones too, which run beside the peer, and are the same for each.
//
// With -growth it measures instead what an answer costs when the file store holds a thousand messages, and when it holds a
// million and 10,000 contacts.
//
// Flags give bounds to some of the figures (-h lists them): where one is passed bench says so and ends with exit code 1. There are none
// without them, as what a busy machine measures is not to be relied on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/llmtest"
	"wabot/internal/mongotest"
	"wabot/internal/whatsapptest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	}
}

// load is how much is measured.
type load struct {
	rounds   int
	messages int // of one chat, one after the other
	chats    int // at once
	each     int // messages of each of these
	idle     time.Duration
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errs)
	var l load
	flags.IntVar(&l.rounds, "rounds", 3, "how often each peer is measured")
	flags.IntVar(&l.messages, "messages", 300, "messages of one chat, each after the answer to the one before")
	flags.IntVar(&l.chats, "chats", 100, "chats at once")
	flags.IntVar(&l.each, "each", 5, "messages of each of these")
	flags.DurationVar(&l.idle, "idle", 10*time.Second, "how long a peer rests after its start, while the runtime gives memory back, before its idle memory is read")
	names := flags.String("peers", "example,bare,files,mongo", "which peers")
	mongo := flags.String("mongo", "", "URL of an empty database on a MongoDB to use instead of the tests' stand-in")
	growth := flags.Bool("growth", false, "measure the file store with a thousand and with a million messages")
	million := flags.Int("million", 1_000_000, "how many messages that is")
	bounds := newBounds(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || l.rounds < 1 || l.messages < 1 || l.chats < 1 || l.each < 1 {
		return errors.New("it takes flags alone, and counts of at least 1; -h lists them")
	}
	dir, err := os.MkdirTemp("", "wabot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	w, err := newWorld(dir)
	if err != nil {
		return err
	}
	defer w.close()
	for _, name := range []string{"wabot", "bare"} {
		source := map[string]string{"wabot": "wabot/cmd/wabot", "bare": "wabot/cmd/bench/bare"}[name]
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, text)
		}
	}
	if *growth {
		return grow(ctx, w, l, *million, bounds, out)
	}
	peers, done, err := w.peers(strings.Split(*names, ","), *mongo)
	if err != nil {
		return err
	}
	defer done()
	if err := bounds.fit(peers); err != nil {
		return err
	}
	results, err := w.measure(ctx, peers, l, errs)
	if err != nil {
		return err
	}
	report(out, peers, results, l)
	return bounds.check(results)
}

// world is the simulated WhatsApp and the model API that all peers share.
type world struct {
	whatsapp whatsapptest.Server
	model    llmtest.Server
	ca, dir  string
	commands func() int // to MongoDB, so far
}

func newWorld(dir string) (*world, error) {
	w := &world{dir: dir, commands: func() int { return 0 }}
	w.model.Whole = true // a model that answers at once
	w.model.Answer = func(r llmtest.Request) string {
		if strings.HasPrefix(r.Messages[0].Text, "You keep the memory of a chat") {
			return "The person says one thing after the other." // a summary is no longer than what it sums up
		}
		return llmtest.Echo(r)
	}
	if err := w.whatsapp.Start(); err != nil {
		return nil, err
	}
	if err := w.model.Start(); err != nil {
		w.whatsapp.Close()
		return nil, err
	}
	var err error
	if w.ca, err = w.whatsapp.CAFile(dir); err != nil {
		w.close()
	}
	return w, err
}

func (w *world) close() {
	w.model.Close()
	w.whatsapp.Close()
}

func (w *world) loginsOf(device types.JID) (n int) {
	for _, l := range w.whatsapp.Logins() {
		if l.Device.User == device.User {
			n++
		}
	}
	return n
}

// newPeer makes a peer of a name and a binary of w.dir.
func (w *world) newPeer(name, binary string, env ...string) *peer {
	return &peer{name: name, binary: filepath.Join(w.dir, binary), env: env, dir: filepath.Join(w.dir, "peer-"+name), owner: w.whatsapp.NewPhone("owner of " + name)}
}

// wabot makes a peer of wabot, which answers everybody, each message at once.
func (w *world) wabot(name string, env ...string) *peer {
	p := w.newPeer(name, "wabot", append([]string{
		"OPENAI_BASE_URL=" + w.model.URL(), "OPENAI_MODEL=test", "ALLOW=*", "PREFIX_ENABLED=False", "DEBOUNCE=0s", "RATE_PERSON=off", "RATE_CHAT=off",
		"HTTP_ADDR=127.0.0.1:0", "LOG_FORMAT=text",
	}, env...)...)
	p.readyz = true
	return p
}

// peers makes the peers with the names. done ends what they need.
func (w *world) peers(names []string, mongo string) (all []*peer, done func(), err error) {
	var t cleanups
	defer func() {
		if err != nil {
			t.clean()
		}
	}()
	for _, name := range names {
		switch name {
		case "example":
			all = append(all, w.newPeer(name, "bare"))
		case "bare":
			all = append(all, w.newPeer(name, "bare", "DURABLE=True"))
		case "files":
			all = append(all, w.wabot(name))
		case "mongo":
			url := mongo
			if url == "" {
				if url, err = w.standIn(&t); err != nil {
					return nil, nil, err
				}
			}
			all = append(all, w.wabot(name, "MONGO_ENABLED=True", "MONGO_URL="+url))
		default:
			return nil, nil, fmt.Errorf("there is no peer %q: example, bare, files or mongo", name)
		}
	}
	return all, t.clean, nil
}

// cleanups is the part of a test that mongotest needs.
type cleanups struct {
	all []func()
	err error
}

func (c *cleanups) Helper()          {}
func (c *cleanups) Cleanup(f func()) { c.all = append(c.all, f) }
func (c *cleanups) Errorf(format string, args ...any) {
	c.err = errors.Join(c.err, fmt.Errorf(format, args...))
}

// stopped is what Fatalf panics with.
type stopped struct{}

func (c *cleanups) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	panic(stopped{})
}

func (c *cleanups) clean() {
	for _, f := range slices.Backward(c.all) {
		f()
	}
}

// standIn starts the tests' stand-in for MongoDB, which then counts the commands.
func (w *world) standIn(t *cleanups) (url string, err error) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(stopped); !ok {
				panic(p)
			}
			err = t.err
		}
	}()
	line := mongotest.NewLine(t)
	w.commands = count(line)
	return line.URL, nil
}
