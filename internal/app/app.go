// Package app is the program: it reads the settings, opens the store, wires the parts, runs
// them until it is asked to stop, and closes what it opened. cmd/wabot runs it as the daemon,
// cmd/demo against a simulated WhatsApp in the same process.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"wabot/internal/bot"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/llm"
	"wabot/internal/whatsapp"
)

// Process is the process as Run sees it.
type Process struct {
	Args   []string
	Getenv func(string) string
	// Dotenv is the path of the .env file; it may be missing.
	Dotenv         string
	Stdout, Stderr io.Writer
	// WhatsApp dials WhatsApp, nil for the ordinary ways, HTTPS_PROXY included.
	WhatsApp *http.Client
	// Watch, if set, is told of each change of the link to WhatsApp.
	Watch func(whatsapp.State)
	// Around, if set, is put around the store: tests kill the process between two of its calls.
	Around func(Store) Store
}

const usage = `wabot is a WhatsApp AI bot.

Usage:
  wabot           link to WhatsApp (a QR code the first time) and answer messages
  wabot version   print the version
  wabot help      print this text

Settings come from the environment and from the file .env; .env.example lists them.

Exit codes:
` + exitCodes

// Run runs the command that p.Args name until it is done or ctx is. It returns nil after a
// requested stop; ExitCode tells the others apart.
func Run(ctx context.Context, p Process) error {
	command := "run"
	if len(p.Args) > 0 {
		command = p.Args[0]
	}
	if len(p.Args) > 1 {
		return usageError(fmt.Sprintf("unexpected argument %q", p.Args[1]))
	}
	switch command {
	case "run":
		return run(ctx, p)
	case "version":
		fmt.Fprintln(p.Stdout, "wabot", version())
		return nil
	case "help", "-h", "-help", "--help":
		fmt.Fprint(p.Stdout, usage)
		return nil
	}
	return usageError(fmt.Sprintf("unknown command %q", command))
}

// run is the daemon.
func run(ctx context.Context, p Process) error {
	cfg, warnings, err := config.Load(p.Getenv, p.Dotenv)
	if err != nil {
		return &configError{err}
	}
	log := newLogger(p.Stderr, cfg.Log)
	for _, w := range warnings {
		log.Warn(w)
	}
	whatsapp.Name(cfg.WhatsApp.DeviceName)
	if key := cfg.WhatsApp.NoiseRootKey; key != nil {
		log.Warn("WHATSAPP_NOISE_ROOT_KEY is set: this process trusts a simulated WhatsApp and cannot reach the real one")
		whatsapp.UseNoiseRootKey([32]byte(key))
	}
	store, err := openStore(ctx, cfg.Store, log)
	if err != nil {
		return err
	}
	defer store.Close()
	if p.Around != nil {
		store = p.Around(store)
	}

	screen := newScreen(p.Stdout, log, cfg.Model.Prefix)
	var b *bot.Bot
	var wa *whatsapp.Client
	box := inbox.New(store, inbox.Options{
		Ready:  func(ctx context.Context) error { return wa.WaitOnline(ctx) },
		GiveUp: func(ctx context.Context, t chat.Turn, cause error) error { return b.GiveUp(ctx, t, cause) },
		Lease:  cfg.Model.Timeout + sending,
	}, log)
	wa = whatsapp.New(whatsapp.Options{
		Devices: store.Devices(),
		Notes:   store,
		Receive: func(ctx context.Context, m chat.Message) error {
			if !b.Admit(m) {
				return nil
			}
			return box.Put(ctx, m)
		},
		Show: func(s whatsapp.State) {
			screen.show(s)
			if p.Watch != nil {
				p.Watch(s)
			}
		},
		PairPhone: cfg.WhatsApp.PairPhone,
		HTTP:      p.WhatsApp,
		Log:       log,
	})
	b = bot.New(bot.Options{
		Rules: bot.Rules{Allow: cfg.Access.Allow, Prefix: cfg.Model.Prefix, Everything: !cfg.Model.PrefixEnabled},
		Model: llm.New(llm.Options{
			BaseURL: cfg.Model.BaseURL, Key: cfg.Model.APIKey.Reveal(), Model: cfg.Model.Name,
			Total: cfg.Model.Timeout, Idle: cfg.Model.IdleTimeout, Log: log,
		}),
		Turns:        box,
		WA:           wa,
		Instructions: cfg.Model.Instructions,
		History:      cfg.Model.History,
		Log:          log,
	})

	// Sending outlives answering: whoever is used last stops last.
	g, ctx := errgroup.WithContext(ctx)
	online, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	g.Go(func() error { return wa.Run(online) })
	g.Go(func() error { defer hangUp(); return box.Run(ctx, b.Answer) })
	if err := g.Wait(); err != nil {
		return err
	}
	log.Info("stopped as asked")
	return store.Close()
}

// sending is the part of a turn's lease that is not the model's: to load, save and send.
const sending = 2 * time.Minute

// newLogger returns the logger of the process.
func newLogger(w io.Writer, cfg config.Log) *slog.Logger {
	format := cfg.Format
	if format == config.LogAuto {
		format = config.LogJSON
		if isTerminal(w) {
			format = config.LogText
		}
	}
	options := &slog.HandlerOptions{Level: cfg.Level}
	if format == config.LogText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// version is the version that the build stamped on the binary.
func version() string {
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

var errUsage = errors.New("wabot help lists the commands")

func usageError(what string) error {
	return &configError{fmt.Errorf("%s; %w", what, errUsage)}
}
