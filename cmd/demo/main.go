// Command demo shows wabot without a phone, an account or an API key: it starts a simulated
// WhatsApp in the process, pairs the real bot with it and lets the user type as the phone's
// owner, in the chat with themselves. Text that is piped in is a conversation, too:
//
//	printf 'hello\n!help\n' | go run ./cmd/demo
//
// The line "/send FILE" sends a picture, a recording or a document from the disk.
//
// With a model in the environment or in .env that one answers, else a small one built in.
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"wabot/internal/app"
	"wabot/internal/config"
	"wabot/internal/llmtest"
	"wabot/internal/whatsapp"
	"wabot/internal/whatsapptest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	switch args := os.Args[1:]; {
	case len(args) == 2 && args[0] == app.Read:
		os.Exit(read(ctx, args))
	case len(args) > 0:
		fmt.Fprintln(os.Stderr, "demo: it takes no arguments; see the top of cmd/demo/main.go")
		os.Exit(2)
	}
	echo := !term.IsTerminal(int(os.Stdin.Fd()))
	if err := run(ctx, self(), os.Getenv, ".env", os.Stdin, echo, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// self is how the bot runs this program again, to read files.
func self() []string {
	path, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{path}
}

// read is what self does when the bot runs it.
func read(ctx context.Context, args []string) (exit int) {
	return app.ExitCode(app.Run(ctx, app.Process{Args: args, Stdin: os.Stdin, Stdout: os.Stdout}))
}

// patience bounds the wait for the bot to be done with a line that was piped in, onTheWay the one for what it then has sent.
const (
	patience = 5 * time.Minute
	onTheWay = 2 * time.Second
)

// run is the demo. self runs this program again; echo repeats each line of in, which no terminal has shown.
func run(ctx context.Context, self []string, getenv func(string) string, dotenv string, in io.Reader, echo bool, screen, errs io.Writer) error {
	out := &app.Output{Writer: screen}
	var server whatsapptest.Server
	if err := server.Start(); err != nil {
		return fmt.Errorf("start the simulated WhatsApp: %w", err)
	}
	defer server.Close()
	dir, err := os.MkdirTemp("", "wabot-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the session: %w", err)
	}
	defer os.RemoveAll(dir)

	settings := map[string]string{"SESSION_DIR": dir, "MONGO_ENABLED": "False", "PAIR_PHONE": "", "HTTP_ADDR": "off"}
	for name, value := range map[string]string{"LOG_LEVEL": "warn", "LOG_FORMAT": "text"} {
		if getenv(name) == "" {
			settings[name] = value
		}
	}
	lookup := func(name string) string {
		if value, ok := settings[name]; ok {
			return value
		}
		return getenv(name)
	}
	model := llmtest.Server{Answer: builtIn}
	if _, _, err := config.Load(lookup, dotenv); err != nil {
		// No model, or something else is wrong, which then shows again below.
		if err := model.Start(); err != nil {
			return fmt.Errorf("start the built-in model: %w", err)
		}
		defer model.Close()
		settings["OPENAI_BASE_URL"], settings["OPENAI_MODEL"] = model.URL(), "built-in"
	}

	d := &demo{out: out, echo: echo, phone: server.NewPhone("You"), said: make(chan struct{}, 1), ended: make(chan struct{}, 1)}
	fmt.Fprintln(out, "This is a simulated WhatsApp; the bot is the real one. It shows the code to link it:")
	g, ctx := errgroup.WithContext(ctx)
	bot, stopBot := context.WithCancel(ctx)
	online := make(chan struct{})
	scan := make(chan string, 1)
	g.Go(func() error {
		defer stopBot()
		return app.Run(bot, app.Process{
			Self: self, Getenv: lookup, Dotenv: dotenv, Stdout: out, Stderr: errs, WhatsApp: server.HTTPClient(),
			Ended: func() { token(d.ended) },
			Watch: func(s whatsapp.State) {
				if s.QR != "" {
					select {
					case scan <- s.QR:
					default:
					}
				}
				if s.Phase == whatsapp.Online {
					select {
					case <-online:
					default:
						close(online)
					}
				}
			},
		})
	})
	g.Go(func() error {
		select {
		case code := <-scan:
			fmt.Fprintln(out, "The simulated phone scans it.")
			if _, err := d.phone.Scan(ctx, code); err != nil {
				return fmt.Errorf("scan the code: %w", err)
			}
		case <-bot.Done():
			return nil
		}
		select {
		case <-online:
		case <-bot.Done():
			return nil
		}
		return d.chat(ctx, in, stopBot)
	})
	return cmp.Or(g.Wait(), out.Err())
}

// thinking is how long the built-in model takes, so that the chat shows what it does with a real one: that the bot types.
const thinking = 600 * time.Millisecond

// builtIn is the model of those who have none.
func builtIn(r llmtest.Request) string {
	time.Sleep(thinking)
	n := 0
	for _, m := range r.Messages {
		if m.Role == "user" {
			n++
		}
	}
	return fmt.Sprintf("I am the demo's built-in model: no intelligence, just an echo. You wrote **%s**, and I remember %d of your messages. For real answers set OPENAI_API_KEY.", r.LastUser(), n)
}

// demo is the user's side: a phone, on a terminal or a pipe.
type demo struct {
	out   io.Writer
	echo  bool
	phone *whatsapptest.Phone
	// said gets a token when a message of the bot was shown, ended when the bot is done with what it was sent.
	said, ended chan struct{}
}

// chat sends each line of in and shows what comes back, until in ends; then it has the bot stop and
// shows what that still had to say.
func (d *demo) chat(ctx context.Context, in io.Reader, stopBot func()) error {
	fmt.Fprintln(d.out, "You write to yourself, where the bot always answers. !help asks for help, /send FILE sends a picture or a document, Ctrl-D ends.")
	watch, stopWatching := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for c := range d.phone.Watch(watch) {
			d.show(c)
		}
	}()
	defer func() { stopWatching(); <-shown }()
	defer stopBot()

	lines, ended := app.Lines(watch, in)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case line := <-lines:
			if strings.TrimSpace(line) == "" {
				continue
			}
			if err := d.say(ctx, line); err != nil {
				return err
			}
		}
	}
}

// say sends a line, and on a pipe waits for the answer before the next.
func (d *demo) say(ctx context.Context, line string) error {
	if d.echo {
		fmt.Fprintln(d.out, "you:", line)
	}
	select {
	case <-d.said: // the end of an answer in several messages
	default:
	}
	draft := whatsapptest.Draft{Text: line}
	if name, ok := strings.CutPrefix(line, "/send "); ok {
		var err error
		if draft, err = attachment(strings.TrimSpace(name)); err != nil {
			fmt.Fprintln(d.out, "not sent:", err)
			return nil
		}
	}
	if _, err := d.phone.Send(ctx, d.phone.LID(), draft); err != nil {
		return fmt.Errorf("send the message: %w", err)
	}
	if !d.echo {
		return nil
	}
	select {
	case <-d.ended:
	case <-time.After(patience):
		return fmt.Errorf("no answer within %v", patience)
	case <-ctx.Done():
		return nil
	}
	select {
	case <-d.said:
	case <-time.After(onTheWay):
		fmt.Fprintln(d.out, "(no answer)")
	case <-ctx.Done():
	}
	return nil
}

// token puts one into c where there is none.
func token(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// attachment is a message with a file: a picture, a voice message, or a document.
func attachment(name string) (whatsapptest.Draft, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return whatsapptest.Draft{}, err
	}
	kind := http.DetectContentType(data)
	file := &whatsapptest.Media{Data: data, Mime: kind, Name: filepath.Base(name)}
	switch {
	case strings.HasPrefix(kind, "image/"):
		return whatsapptest.Draft{Image: file}, nil
	case kind == "application/ogg":
		file.Mime = "audio/ogg; codecs=opus"
		return whatsapptest.Draft{Voice: file}, nil
	}
	return whatsapptest.Draft{Document: file}, nil
}

// byBot tells the bot, another device of the account, from the phone.
func byBot(m whatsapptest.Received) bool { return !m.FromMe || m.Device != 0 }

// show prints what happened on the phone.
func (d *demo) show(c whatsapptest.Change) {
	switch {
	case c.Kind == "typing" && c.Typing:
		fmt.Fprintln(d.out, "(the bot is typing)")
	case !byBot(c.Message):
	case c.Kind == "message":
		fmt.Fprintln(d.out, "bot:", c.Message.Text)
		token(d.said)
	case c.Kind == "edit":
		fmt.Fprintln(d.out, "bot, edited:", c.Message.Text)
	case c.Kind == "revoke":
		fmt.Fprintln(d.out, "(the bot deleted a message)")
	case c.Kind == "reaction":
		fmt.Fprintf(d.out, "(the bot reacted to a message: %s)\n", strings.Join(reactions(c.Message), " "))
	}
}

func reactions(m whatsapptest.Received) (all []string) {
	for _, emoji := range m.Reactions {
		all = append(all, emoji)
	}
	return all
}
