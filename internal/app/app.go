// Package app is the program: it reads the settings, opens the store, wires the parts, runs
// them until it is asked to stop, and closes what it opened. cmd/wabot runs it as the daemon,
// cmd/demo against a simulated WhatsApp in the same process.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"wabot/internal/bot"
	"wabot/internal/config"
	"wabot/internal/media"
	"wabot/internal/model"
	"wabot/internal/web"
	"wabot/internal/whatsapp"
)

// Process is the process as Run sees it.
type Process struct {
	Args   []string
	Getenv func(string) string
	// Dotenv is the path of the .env file; it may be missing.
	Dotenv         string
	Stdout, Stderr io.Writer
	// Self is how to run this program again with other arguments, for what must not harm this process: reading pictures and documents. Empty reads none but plain texts.
	Self []string
	// Stdin answers what a command asks; nil answers nothing.
	Stdin io.Reader
	// Interrupts has each Ctrl-C for the command that takes them itself; it may be nil.
	Interrupts <-chan os.Signal
	// WhatsApp dials WhatsApp, nil for the ordinary ways, HTTPS_PROXY included.
	WhatsApp *http.Client
	// Watch, if set, is told of each change of the link to WhatsApp.
	Watch func(whatsapp.State)
	// Ended, if set, is told that what was sent is answered, or will not be.
	Ended func()
	// Around, if set, is put around the store: tests kill the process between two of its calls.
	Around func(Store) Store
	// Lease is the life of the lease by which one process of several drives the device, zero for
	// mongostore's own; tests that kill the process often shorten it.
	Lease time.Duration
	// Scrypt is the work factor of a passphrase, as a power of two, zero for age's own; tests that export often lessen it.
	Scrypt int
}

// command is one of the program's commands. Each has a file of its own where it is more than
// a few lines.
type command struct {
	name  string
	about string
	usage string // in full, empty where about says it all
	run   func(ctx context.Context, p Process, args []string) error
}

// daemon is the command that goes on for years, also where nobody reads any more what it prints.
const daemon = "run"

// commands are the program's commands, in the order that help lists them.
func commands() []command {
	return []command{
		{daemon, "link to WhatsApp (a QR code the first time) and answer messages; the default", "", run},
		{chatName, "try models and instructions in the terminal, without WhatsApp; wabot chat -h says how", chatUsage, converse},
		{"init", "write .env with random passwords, and ask for the model's key", "", initialize},
		{"doctor", "look at everything the bot needs, and say what to do; also beside a running wabot", "", examine},
		{explainName, "tell why a message was not answered, or how: explain MESSAGE_ID, or explain --last N; also beside a running wabot", explainUsage, explain},
		{"healthcheck", "ask the running wabot whether it lives, at HTTP_ADDR", "", healthcheck},
		{"relay", "serve at HTTP_ADDR the page of whichever wabot leads behind HOST:PORT; docker-compose.yml does", "", relay},
		{"session", "copy, back up, restore, show, verify or delete what a store keeps; wabot session help says how", sessionUsage, session},
		{"logout", "unlink the device from WhatsApp and delete its keys; asks first", logoutUsage, logout},
		{"version", "print the version", "", printVersion},
		{"help", "print this text, or help COMMAND: more of one", "", help},
	}
}

// Run runs the command that p.Args name until it is done or ctx is. It returns nil after a
// requested stop; ExitCode tells the others apart.
func Run(ctx context.Context, p Process) error {
	name, args := daemon, p.Args
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch {
	case asksHelp(name):
		name = "help"
	case name == "-v" || name == "-version" || name == "--version":
		name = "version"
	}
	if name == Read && len(args) == 1 {
		return media.Read(args[0], p.Stdin, p.Stdout)
	}
	for _, c := range commands() {
		if c.name != name {
			continue
		}
		if slices.ContainsFunc(args, asksHelp) {
			c.run = c.help
		}
		if name == daemon || isTerminal(p.Stdout) {
			return c.run(ctx, p, args)
		}
		out := &Output{Writer: p.Stdout}
		p.Stdout = out
		return cmp.Or(c.run(ctx, p, args), out.Err())
	}
	return usageError("unknown command %q", name)
}

// Read is the command that Self is run with to read a file, and what it is; help does not list it.
const Read = "read"

// running is this program on Linux, also after an update was put in its place.
const running = "/proc/self/exe"

// reader reads documents and pictures.
func (p Process) reader() media.Reader {
	if len(p.Self) == 0 {
		return media.Reader{}
	}
	r := media.Reader{Command: append(slices.Clone(p.Self), Read)}
	if _, err := os.Stat(running); err == nil {
		r.Path = running
	}
	return r
}

// asksHelp reports whether an argument asks how a command is used.
func asksHelp(arg string) bool { return arg == "-h" || arg == "-help" || arg == "--help" }

// help prints how the command is used.
func (c command) help(_ context.Context, p Process, _ []string) error {
	fmt.Fprint(p.Stdout, cmp.Or(c.usage, fmt.Sprintf("wabot %s: %s\n\nwabot help lists all commands.\n", c.name, c.about)))
	return nil
}

// noArguments is the error of a command that takes none and was given some.
func noArguments(args []string) error {
	if len(args) > 0 {
		return usageError("unexpected argument %q", args[0])
	}
	return nil
}

func printVersion(_ context.Context, p Process, args []string) error {
	fmt.Fprintln(p.Stdout, "wabot", version())
	return noArguments(args)
}

func help(ctx context.Context, p Process, args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.help(ctx, p, nil)
			}
		}
		return usageError("unknown command %q", args[0])
	}
	fmt.Fprint(p.Stdout, "wabot is a WhatsApp AI bot.\n\nUsage: wabot [command]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(p.Stdout, "  wabot %-12s %s\n", c.name, c.about)
	}
	fmt.Fprintf(p.Stdout, "\nSettings come from the environment and from the file .env; .env.example lists them.\n\nExit codes:\n%s", exitCodes)
	return nil
}

// run is the daemon.
func run(ctx context.Context, p Process, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	cfg, warnings, err := settings(p)
	if err != nil {
		return err
	}
	var codes sync.Mutex // held while a code is printed
	log := newLoggerTo(held{p.Stderr, &codes}, isTerminal(p.Stderr), cfg.Log)
	for _, w := range warnings {
		log.Warn(w)
	}
	whatsapp.Name(cfg.WhatsApp.DeviceName)
	if key := cfg.WhatsApp.NoiseRootKey; key != nil {
		log.Warn("WHATSAPP_NOISE_ROOT_KEY is set: this process trusts a simulated WhatsApp and cannot reach the real one")
		whatsapp.UseNoiseRootKey([32]byte(key))
	}
	if !cfg.Store.Mongo && cfg.Store.Key.Reveal() != "" {
		log.Warn("SESSION_KEY encrypts what is in MongoDB and does nothing for the file store: keep SESSION_DIR on an encrypted disk instead")
	}
	site := newSite(cfg, log)
	defer site.start(ctx)()
	opened, err := openStore(ctx, cfg.Store, use{lease: p.Lease, standby: true}, log)
	if err != nil && ctx.Err() != nil {
		log.Info("stopped as asked", "opening", err)
		return nil
	}
	if err != nil {
		return err
	}
	var store Store = opened
	defer store.Close()
	if p.Around != nil {
		store = p.Around(store)
	}
	site.opened(store)
	page, _ := reachable(cfg.HTTP.Addr) // an error says that nobody knows its address
	if cfg.HTTP.Container && page != "" {
		page = "127.0.0.1:" + cfg.HTTP.Published
	}
	screen := newScreen(p.Stdout, &codes, log, cfg.DefaultModel().Prefix, page)
	opened.refuse = func(ctx context.Context) error { return ownSession(ctx, p, cfg.Store, store, log) }
	starting, begun := watchStart(ctx, store.Ping, cfg.Store.MongoWait, log)
	defer begun()
	var pause time.Duration
	for {
		// One process drives the device: this one waits for its turn, and again when it lost it.
		err := store.Lead(starting, func(leader string) {
			site.standby(leader)
			screen.standby(leader)
		})
		switch {
		case ctx.Err() != nil:
			log.Info("stopped as asked", "starting", err)
			return store.Close()
		case starting.Err() != nil:
			return context.Cause(starting)
		case err != nil:
			return &storeError{err}
		}
		site.become(web.Starting)
		d := &driver{Process: p, cfg: cfg, store: store, screen: screen, site: site, begun: begun, log: log}
		err = d.run(ctx)
		if errors.Is(err, errCut) {
			pause = nextPause(pause, d.online.Load())
			log.Warn("another process may drive the device now; standing by, and letting others go first for a while", "err", err, "pause", pause)
			site.standby("")
			store.Yield(ctx, pause)
			continue
		}
		var end *whatsapp.EndError
		replaced := errors.As(err, &end) && end.End == whatsapp.Replaced
		if errors.Is(err, errLost) || replaced && !store.Leading(ctx) {
			log.Warn("another process may drive the device now; disconnected and standing by", "err", err)
			site.standby("")
			continue
		}
		if err != nil {
			return err
		}
		log.Info("stopped as asked")
		return store.Close()
	}
}

// settings reads the settings. Where they are wrong, what the file sets in vain is said with it: a name that is misspelt
// may be why another is not set.
func settings(p Process) (config.Config, []string, error) {
	cfg, warnings, err := config.Load(p.Getenv, p.Dotenv)
	if err == nil {
		return cfg, warnings, nil
	}
	for _, w := range warnings {
		err = errors.Join(err, errors.New(w))
	}
	return config.Config{}, nil, &configError{err}
}

// storeSettings reads the settings of the store, for the commands that need no others.
func storeSettings(p Process) (config.Config, error) {
	cfg, err := config.LoadStore(p.Getenv, p.Dotenv)
	if err != nil {
		return config.Config{}, &configError{err}
	}
	return cfg, nil
}

// tempDir is where media lie while they are fetched: the system's place for such, or where there is none, as in an image from
// scratch without one, the directory of the session.
func tempDir(sessionDir string) string {
	if info, err := os.Stat(os.TempDir()); err == nil && info.IsDir() {
		return os.TempDir()
	}
	return sessionDir
}

func megabytes(n int) int64 { return int64(n) << 20 }

// botOptions are what the settings say of the bot. What it asks, and where it sends, is left to the caller.
func botOptions(cfg config.Config, models *model.Catalog, notes bot.Notes, log *slog.Logger) bot.Options {
	return bot.Options{
		Rules: bot.Rules{
			Allow: cfg.Access.Allow, Block: cfg.Access.Block, Admins: cfg.Access.Admins, Groups: cfg.Access.Groups,
			Prefix: cfg.DefaultModel().Prefix, Prefixes: models.Prefixes(), Everything: !cfg.Model.PrefixEnabled,
		},
		Models:        models,
		Instructions:  cfg.Model.Instructions,
		History:       cfg.Model.History,
		HistoryTokens: cfg.Chat.HistoryTokens,
		Summaries:     cfg.Chat.Summaries && cfg.Model.History > 0,
		MaxAge:        cfg.Chat.BacklogMaxAge,
		Limits:        bot.Limits{Picture: megabytes(cfg.Media.ImageMB), Sound: megabytes(cfg.Media.AudioMB), Document: megabytes(cfg.Media.DocumentMB)},
		Manner:        bot.Manner(cfg.Chat.Reply),
		Processing:    cfg.Chat.Processing,
		Pause:         betweenParts,
		Ack:           cfg.Chat.Ack,
		Takeover:      cfg.Chat.Takeover,
		Notes:         notes,
		Words:         cfg.Chat.Words,
		Log:           log,

		StrangerNotices: cfg.Access.StrangerNotices,
	}
}

// turnTime is how long a turn may take. The inbox keeps the last tenth of it to itself.
func turnTime(cfg config.Config) time.Duration {
	return (cfg.Model.Timeout + opening + sending) * 10 / 9
}

// opening is the part of a turn's lease for what messages carry: to fetch it and have it read.
const opening = 3 * time.Minute

// sending is the part of a turn's lease that is not the model's: to load, save and send.
const sending = 2 * time.Minute

// betweenParts is the time between the messages of one reply.
const betweenParts = 300 * time.Millisecond

// newLogger returns the logger of the process.
func newLogger(w io.Writer, cfg config.Log) *slog.Logger { return newLoggerTo(w, isTerminal(w), cfg) }

func newLoggerTo(w io.Writer, terminal bool, cfg config.Log) *slog.Logger {
	format := cfg.Format
	if format == config.LogAuto {
		format = config.LogJSON
		if terminal {
			format = config.LogText
		}
	}
	options := &slog.HandlerOptions{Level: cfg.Level}
	if format == config.LogText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// stamp is the version where the linker is told one, as for the container image, in which there is no
// repository to take it from.
var stamp string

// version is the version that the build stamped on the binary.
func version() string {
	if stamp != "" {
		return stamp
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(v, s.Value[:min(12, len(s.Value))]) {
			v += " (" + s.Value + ")"
		}
	}
	return v
}

func usageError(format string, args ...any) error {
	return &configError{fmt.Errorf(format+"; wabot help lists the commands", args...)}
}
