package app

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"wabot/internal/bot"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/sqlitestore"
)

// Signals makes the context of a process with the arguments args: Ctrl-C and SIGTERM end it, a second one kills. The chat in the
// terminal takes Ctrl-C itself; it comes from interrupts.
func Signals(args []string) (ctx context.Context, interrupts <-chan os.Signal) {
	end := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if len(args) > 0 && args[0] == chatName {
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		interrupts, end = c, end[1:]
	}
	ctx, stop := signal.NotifyContext(context.Background(), end...)
	context.AfterFunc(ctx, stop)
	return ctx, interrupts
}

const chatUsage = `wabot chat answers in the terminal what you type, one question a line, as the bot would in a chat. On a pipe only answers go to the
standard output, and the exit code is 1 where a question has none.

  wabot chat                       as in your chat with yourself
  wabot chat --model NAME          another model answers what begins with no prefix
  wabot chat --as +4915112345678   as somebody else, with the prefix, and if ALLOW lets them
  wabot chat --new                 remember nothing of earlier conversations, and keep nothing of this one

Ctrl-C stops an answer, and between two answers ends the program, as Ctrl-D does.
`

// chatName is the name of the command, chatDir of its directory within SESSION_DIR.
const (
	chatName = "chat"
	chatDir  = "wabot.chat"
)

// own is the address of the account's chat with itself, where nobody is asked for.
const own = "you@terminal"

// converse answers in the terminal what is typed, as the bot would in a chat: by the same turns, with a history of its
// own. It needs neither WhatsApp nor the session.
func converse(ctx context.Context, p Process, args []string) (err error) {
	flags := flag.NewFlagSet(chatName, flag.ContinueOnError)
	name := flags.String("model", "", "the model that answers what begins with no prefix")
	as := flags.String("as", own, "who asks")
	fresh := flags.Bool("new", false, "remember and keep nothing")
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil {
		return chatError("%v", err)
	}
	if flags.NArg() > 0 {
		return chatError("unexpected argument %q: questions are typed, or come from a pipe", flags.Arg(0))
	}
	number := ""
	if *as != own {
		if number, err = config.PhoneNumber(*as); err != nil {
			return chatError("--as: %v", err)
		}
	}
	cfg, warnings, err := config.Load(func(setting string) string {
		if setting == "DEFAULT_MODEL" && *name != "" {
			return *name
		}
		return p.Getenv(setting)
	}, p.Dotenv)
	if err != nil && *name != "" {
		err = errors.New(strings.Replace(err.Error(), "DEFAULT_MODEL: ", "--model: ", 1)) // which is where it was read from
	}
	if err != nil {
		return &configError{err}
	}
	if cfg.Log.Level == slog.LevelInfo {
		cfg.Log.Level = slog.LevelWarn // what the bot tells of itself is not what is asked for here
	}
	if cfg.Log.Format == config.LogAuto {
		cfg.Log.Format = config.LogText // a person reads it, whatever it goes to
	}
	log := newLogger(p.Stderr, cfg.Log)
	for _, w := range warnings {
		log.Warn(w)
	}
	dir := filepath.Join(cfg.Store.SessionDir, chatDir)
	if *fresh {
		if dir, err = os.MkdirTemp("", "wabot-chat-"); err != nil {
			return fmt.Errorf("make a directory for the conversation: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	store, err := sqlitestore.Open(ctx, dir, log)
	var locked *sqlitestore.LockedError
	switch {
	case errors.As(err, &locked):
		return &lockedError{fmt.Errorf("another wabot chat is open (%s); end it, or chat with --new", locked.Holder)}
	case err != nil:
		return &storeError{err}
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// All that a conversation before has left, even if the clock was ahead.
	if _, err := giveUp(ctx, store, time.Now().AddDate(100, 0, 0), "the conversation had ended"); err != nil {
		return &storeError{err}
	}

	t := &talk{Process: p, model: cfg.DefaultModel().Name, ended: make(chan inbox.Outcome, 1), like: chat.Message{Chat: own, Sender: own, Own: true, FromMe: true, Kind: chat.Text}}
	if number != "" {
		jid := number + "@s.whatsapp.net"
		t.like = chat.Message{Chat: jid, Sender: jid, Kind: chat.Text}
	}
	t.typed, t.live = isTerminal(p.Stdin), isTerminal(p.Stdout)
	t.writer = typewriter{out: p.Stdout, size: func() (int, int) {
		f, _ := p.Stdout.(*os.File)
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	}}
	models := newCatalog(cfg, log)
	t.box = inbox.New(store, inbox.Options{
		Workers: 1, MaxAttempts: 1, Ready: models.Ready, Lease: turnTime(cfg), Drain: time.Second,
		Ended: func(o inbox.Outcome, _ time.Duration) { t.ended <- o },
	}, log)
	o := botOptions(cfg, models, store, log)
	o.Model, o.Painter, o.Uploader, o.Turns, o.WA = models, models, t, t.box, t
	o.Manner, o.Pause, o.Ack, o.Takeover = bot.Typing, 0, "", 0
	if t.live {
		o.Manner, o.Pace = bot.Stream, 80*time.Millisecond
	}
	begin := time.Now()
	o.Status = func(context.Context) bot.Status {
		return bot.Status{Version: version(), Online: begin}
	}
	t.bot = bot.New(o)

	g, ctx := errgroup.WithContext(ctx)
	ctx, end := context.WithCancel(ctx)
	g.Go(func() error { return models.Run(ctx) })
	g.Go(func() error { return t.bot.Run(ctx) })
	g.Go(func() error { return t.box.Run(ctx, t.answer) })
	g.Go(func() error { defer end(); return t.run(ctx) })
	return g.Wait()
}

func chatError(format string, args ...any) error {
	return &configError{fmt.Errorf("chat: "+format+"; wabot chat --help says how", args...)}
}

// talk is a conversation in the terminal. It is the bot's way to people.
type talk struct {
	Process
	box         *inbox.Inbox
	bot         *bot.Bot
	model       string       // the name of the one that answers what has no prefix
	like        chat.Message // what is common to all messages
	typed, live bool         // whether there is a terminal to read from, and to write to
	ended       chan inbox.Outcome

	mu      sync.Mutex
	parts   []chat.Part // of the answer that is being made
	writer  typewriter
	cancel  func() // stops it
	stopped bool
}

// answer answers a turn until it is stopped.
func (t *talk) answer(ctx context.Context, turn chat.Turn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.cancel = cancel
	stopped := t.stopped
	t.mu.Unlock()
	if stopped {
		return nil
	}
	err := t.bot.Answer(ctx, turn)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return nil // it is over, without an answer
	}
	return err
}

// run asks what is typed until there is no more, or until it is interrupted between two answers.
func (t *talk) run(ctx context.Context) error {
	lines, ended := Lines(ctx, t.Stdin)
	if t.typed && t.live {
		fmt.Fprintf(t.Stdout, "You talk to %s. !help asks for help; Ctrl-C stops an answer, Ctrl-D ends.\n", t.model)
	}
	asked, missed := 0, 0
	finish := func(err error) error {
		if t.typed && t.live {
			fmt.Fprintln(t.Stdout)
		}
		if err == nil && missed > 0 && !t.typed {
			err = fmt.Errorf("%d of %d questions have no answer", missed, asked)
		}
		return err
	}
	for {
		if t.typed && t.live {
			fmt.Fprint(t.Stdout, "> ")
		}
		select {
		case <-ctx.Done():
			return finish(nil)
		case <-t.Interrupts:
			return finish(nil)
		case err := <-ended:
			if err != nil {
				err = fmt.Errorf("read the questions: %w", err)
			}
			return finish(err)
		case line := <-lines:
			if strings.TrimSpace(line) == "" {
				continue
			}
			asked++
			if !t.typed && t.live {
				fmt.Fprintln(t.Stdout, ">", line)
			}
			answered, err := t.ask(ctx, line)
			if err != nil {
				return err
			}
			if !answered {
				missed++
			}
		}
	}
}

// longest is how many bytes a line may have.
const longest = 1 << 20

// Lines gives the lines of r, and on ended what ended them: an error, or nil at the end of r. Once ctx is done no more come.
func Lines(ctx context.Context, r io.Reader) (lines <-chan string, ended <-chan error) {
	to, end := make(chan string), make(chan error, 1)
	go func() {
		s := bufio.NewScanner(r)
		s.Buffer(nil, longest)
		for s.Scan() {
			select {
			case to <- s.Text():
			case <-ctx.Done():
				return
			}
		}
		err := s.Err()
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("a line may have %d MiB at most", longest>>20)
		}
		end <- err
	}()
	return to, end
}

// ask asks one question and shows its answer.
func (t *talk) ask(ctx context.Context, line string) (answered bool, err error) {
	m := t.like
	m.ID, m.Time, m.Text = rand.Text(), time.Now(), line
	why, err := t.bot.Refusal(ctx, m)
	if err != nil {
		return false, err
	}
	if why != "" {
		fmt.Fprintf(t.Stderr, "(not answered: %s)\n", why)
		return false, nil
	}
	t.mu.Lock()
	t.parts, t.stopped, t.cancel = nil, false, func() {}
	t.mu.Unlock()
	if err := t.box.Put(ctx, m); err != nil {
		return false, err
	}
	for {
		select {
		case <-t.Interrupts:
			t.mu.Lock()
			t.stopped = true
			t.cancel()
			t.mu.Unlock()
		case o := <-t.ended:
			return t.show(o)
		}
	}
}

// show shows what has become of a question. An error means that the answer could not be shown.
func (t *talk) show(o inbox.Outcome) (answered bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	answered = o == inbox.Answered && !t.stopped
	to := t.Stdout
	if !answered {
		to = t.Stderr
	}
	if t.live {
		t.writer.end()
	} else if text := t.text(); text != "" {
		if _, err := fmt.Fprintln(to, text); err != nil {
			return false, fmt.Errorf("print the answer: %w", err)
		}
	}
	switch {
	case t.stopped:
		fmt.Fprintln(t.Stderr, "(stopped)")
	case o == inbox.GivenUp && len(t.parts) == 0:
		fmt.Fprintln(t.Stderr, "(not answered; the log above says why)")
	case len(t.parts) == 0:
		fmt.Fprintln(t.Stderr, "(no answer: the bot is quiet in this chat; !resume lets it speak again)")
		answered = false
	}
	return answered, nil
}

// text is the answer as far as it has come.
func (t *talk) text() string {
	var all []string
	for _, p := range t.parts {
		text := p.Text
		if p.Picture != nil {
			text = strings.TrimSpace(fmt.Sprintf("[a picture, saved as %s] %s", p.Picture.Path, text))
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n\n")
}

// NewID implements bot.Messenger, like the methods after it.
func (t *talk) NewID() string { return rand.Text() }

func (t *talk) Send(_ context.Context, _ string, p chat.Part, _ *chat.Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := -1
	for i, old := range t.parts {
		if old.ID == cmp.Or(p.Edits, p.Revokes, p.ID) {
			at = i
		}
	}
	switch {
	case at < 0:
		t.parts = append(t.parts, p)
	case p.Revokes != "":
		t.parts = append(t.parts[:at], t.parts[at+1:]...)
	default:
		t.parts[at].Text = p.Text
	}
	if t.live {
		t.writer.show(t.text())
	}
	return nil
}

func (t *talk) Typing(context.Context, string) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live && len(t.parts) == 0 {
		t.writer.show("…")
	}
	return func() {}
}

func (t *talk) Own() (jid, alt string) { return own, "" }

func (t *talk) React(context.Context, chat.Message, string) {}

func (t *talk) MarkRead(context.Context, []chat.Message) {}

// Upload implements bot.Uploader: it saves a picture where it can be looked at.
func (t *talk) Upload(_ context.Context, picture []byte) (*chat.Picture, error) {
	f, err := os.CreateTemp("", "wabot-picture-")
	if err != nil {
		return nil, fmt.Errorf("save a picture: %w", err)
	}
	_, err = f.Write(picture)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("save a picture: %w", err)
	}
	return &chat.Picture{Upload: chat.Upload{Path: f.Name()}}, nil
}
