package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/llmtest"
	"wabot/internal/qr/qrtest"
	"wabot/internal/whatsapptest"
)

// patience bounds each wait of a story. It is only reached by a story that fails, and so has room for a machine that is busy.
const patience = 2 * time.Minute

// ending bounds the time from a signal to the end. Turns in flight have 5 s of it.
const ending = 20 * time.Second

// world is a simulated WhatsApp with its phones, a model API, and one wabot as a process of
// its own.
type world struct {
	whatsapp whatsapptest.Server
	model    llmtest.Server
	phones   map[string]*whatsapptest.Phone
	groups   map[string]types.JID
	heard    map[string]int // by phone, chat and text
	owner    *whatsapptest.Phone
	device   types.JID // of the bot, once it is paired

	binary string
	zone   string   // in which it was about noon at the beginning; see noon
	env    []string // of wabot, beside what leads it into this world
	dir    string
	disk   string // that forgets, if any; see powerless

	// release gives back the lease of a process that was killed, whose end would have to be waited for: how long that takes is for
	// other tests. It is nil where there is none.
	release func(context.Context) error

	typed time.Time // when somebody last began to type in a script

	mu     sync.Mutex
	answer func(llmtest.Request) string
	goOn   func() // ends the thinking of the model

	bot  *process   // the one started last
	bots []*process // all of them

	ended bool // the story came to its end

	seen    []string // beside the output of bots: what commands printed and pages showed
	secrets []string // of the story: what may not be printed
}

// shows keeps what was printed or shown, for leaks.
func (w *world) shows(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, text)
}

// secret matches the settings whose values are secrets.
var secret = regexp.MustCompile(`(?s)^[A-Z_]*(KEY|TOKEN|PASSWORD|PASSPHRASE)=(.*)$`)

// leaks are the numbers, hidden addresses, texts, keys and codes of this world that were printed or shown anywhere. Short texts
// are words that anybody may use.
func (w *world) leaks() (all []string) {
	type thing struct{ what, text string }
	var things []thing
	keep := func(what, text string) {
		if text != "" {
			things = append(things, thing{what, text})
		}
	}
	for _, p := range w.whatsapp.Phones() {
		keep("the number of "+p.Name(), p.Number())
		keep("the hidden address of "+p.Name(), p.LID().User)
		for _, m := range p.AllMessages() {
			if len(m.Text) >= 15 && strings.Contains(m.Text, " ") {
				keep("a text", m.Text)
				// Not the bot's words around it.
				if _, said, ok := strings.Cut(m.Text, "You said: "); ok && len(said) >= 15 {
					keep("a text", said)
				}
			}
		}
	}
	w.mu.Lock()
	printed := slices.Clone(w.seen)
	for _, text := range w.secrets {
		keep("a secret", text)
	}
	w.mu.Unlock()
	for _, s := range w.env {
		if found := secret.FindStringSubmatch(s); found != nil && found[1] != "ROOT_KEY" {
			keep("the value of "+strings.SplitN(s, "=", 2)[0], found[2])
		}
	}
	for _, b := range w.bots {
		if b.cmd.Path == w.binary { // not a bot of others
			printed = append(printed, b.output.String())
		}
	}
	told := map[thing]bool{}
	for _, text := range printed {
		for _, t := range things {
			if i := strings.Index(text, t.text); i >= 0 && !told[t] {
				told[t] = true
				line := text[strings.LastIndexByte(text[:i], '\n')+1:]
				line, _, _ = strings.Cut(line, "\n")
				all = append(all, fmt.Sprintf("%s was printed: %.300s", t.what, line))
			}
		}
	}
	return all
}

// process is one run of wabot.
type process struct {
	cmd    *exec.Cmd
	output transcript
	exited chan struct{}
}

// transcript is what a process has written, and says when there is more.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (t *transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.more)
	t.more = make(chan struct{})
	return t.text.Write(b)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// wait returns what find makes of the output once it is something.
func (p *process) wait(ctx context.Context, what string, find func(output string) (string, bool)) (string, error) {
	for {
		p.output.mu.Lock()
		output, more := p.output.text.String(), p.output.more
		p.output.mu.Unlock()
		if found, ok := find(output); ok {
			return found, nil
		}
		select {
		case <-more:
		case <-p.exited:
			if found, ok := find(p.output.String()); ok {
				return found, nil
			}
			return "", fmt.Errorf("wabot exited (%v) before %s", p.cmd.ProcessState, what)
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
}

// newWorld starts the servers. close ends them and the bot.
func newWorld(binary, dir string) (*world, error) {
	w := &world{
		phones: map[string]*whatsapptest.Phone{}, groups: map[string]types.JID{}, heard: map[string]int{},
		binary: binary, zone: noon(time.Now()), dir: dir,
	}
	w.model.Answer = func(r llmtest.Request) string {
		w.mu.Lock()
		answer := w.answer
		w.mu.Unlock()
		if answer != nil {
			return answer(r)
		}
		return llmtest.Echo(r)
	}
	return w, errors.Join(w.whatsapp.Start(), w.model.Start())
}

func (w *world) close() {
	for _, b := range w.bots {
		b.cmd.Process.Kill()
		<-b.exited
	}
	if w.goOn != nil {
		w.goOn()
	}
	w.model.Close()
	w.whatsapp.Close()
}

// problems are the promises that were broken in this world, whatever the story was.
func (w *world) problems() (all []string) {
	for _, p := range w.whatsapp.Phones() {
		for _, f := range p.Failures() {
			all = append(all, fmt.Sprintf("phone of %s: %s", p.Name(), f))
		}
	}
	for _, u := range w.whatsapp.Unknown() {
		all = append(all, "the simulated server does not know "+u)
	}
	for _, l := range w.whatsapp.Logins() {
		if l.Overlap {
			all = append(all, fmt.Sprintf("device %s logged in while it was logged in", l.Device))
		}
	}
	return append(all, w.leaks()...)
}

// sound reports those problems.
func (w *world) sound(t *testing.T) {
	t.Helper()
	for _, p := range w.problems() {
		t.Error(p)
	}
}

// environment leads a process into this world.
func (w *world) environment() ([]string, error) {
	ca, err := w.whatsapp.CAFile(w.dir)
	if err != nil {
		return nil, err
	}
	root := whatsapptest.RootKey()
	return []string{
		"TZ=" + w.zone, "PATH=" + os.Getenv("PATH"), "HOME=" + w.dir,
		"HTTPS_PROXY=" + w.whatsapp.ProxyURL(), "SSL_CERT_FILE=" + ca, "SSL_CERT_DIR=" + filepath.Join(w.dir, "none"), "WHATSAPP_NOISE_ROOT_KEY=" + hex.EncodeToString(root[:]),
		"OPENAI_BASE_URL=" + w.model.URL(), "OPENAI_MODEL=test", "SESSION_DIR=" + filepath.Join(w.dir, "session"), "LOG_FORMAT=text",
	}, nil
}

// noon is a time zone in which it is about noon: no day and no month ends within a story that keeps to it, as it would in another one
// from a start of wabot to the next.
func noon(now time.Time) string { return fmt.Sprintf("Etc/GMT%+d", now.UTC().Hour()-12) }

// start runs wabot, with more in its environment.
func (w *world) start(more ...string) error {
	env, err := w.environment()
	if err != nil {
		return err
	}
	cmd := exec.Command(w.binary)
	cmd.Dir = w.dir
	cmd.Env = append(env, append([]string{"HTTP_ADDR=127.0.0.1:0", "LOG_LEVEL=debug", "DEBOUNCE=0s", "RATE_PERSON=off", "RATE_CHAT=off"}, append(w.env, more...)...)...)
	p := &process{cmd: cmd, output: transcript{more: make(chan struct{})}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.Env = append(w.services(), cmd.Env...) // of two with one name the last one counts
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(p.exited)
		cmd.Wait()
	}()
	w.bot, w.bots = p, append(w.bots, p)
	return nil
}

// services are the settings that make the model API every further service that wabot knows, where it is switched on.
func (w *world) services() []string {
	url := w.model.URL()
	bare := strings.TrimSuffix(url, "/v1")
	return []string{"GEMINI_BASE_URL=" + url, "OLLAMA_BASE_URL=" + url, "DALLE_BASE_URL=" + url, "TRANSCRIBE_BASE_URL=" + url, "SPEECH_BASE_URL=" + url, "HF_BASE_URL=" + bare, "STABILITY_BASE_URL=" + bare}
}

// kill kills wabot where it stands and waits until it is gone.
func (w *world) kill() error {
	w.bot.cmd.Process.Kill()
	return w.exits(-1)
}

// stop asks wabot to stop and checks that it does so in order and soon.
func (w *world) stop() error { return w.bot.stop() }

func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	return p.exits(0, ending)
}

// hurry asks wabot to stop again and again, and checks that a signal after the first one that it heard has ended it.
func (w *world) hurry() error {
	for {
		w.bot.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-w.bot.exited:
			return w.exits(-1)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// exits waits for wabot to exit with a code; -1 is the death by a signal.
func (w *world) exits(code int) error {
	err := w.bot.exits(code, patience)
	if err != nil || code != -1 || w.release == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.release(ctx)
}

func (p *process) exits(code int, within time.Duration) error {
	select {
	case <-p.exited:
	case <-time.After(within):
		return fmt.Errorf("wabot does not exit within %v", within)
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		return fmt.Errorf("wabot exited with %d, want %d", got, code)
	}
	return nil
}

// online waits until the running wabot says that it is.
func (w *world) online(ctx context.Context) error {
	return w.says(ctx, `Online as `)
}

// says waits for output of the running wabot that matches a pattern.
func (w *world) says(ctx context.Context, pattern string) error { return w.bot.says(ctx, pattern) }

func (p *process) says(ctx context.Context, pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	_, err = p.wait(ctx, pattern, func(output string) (string, bool) { return "", re.MatchString(output) })
	return err
}

// phone returns the phone of a person, who gets one when first named.
func (w *world) phone(name string) *whatsapptest.Phone {
	p := w.phones[name]
	if p == nil {
		p = w.whatsapp.NewPhone(name)
		w.phones[name] = p
	}
	return p
}

// scan lets a person scan the QR code on wabot's screen, which makes them the owner.
func (w *world) scan(ctx context.Context, name string) error {
	text, err := w.bot.wait(ctx, "a QR code", func(output string) (string, bool) {
		text, err := qrtest.Read(output)
		return text, err == nil
	})
	if err != nil {
		return err
	}
	w.owner = w.phone(name)
	// The parts of the code: a reference and keys.
	for part := range strings.SplitSeq(text, ",") {
		if len(part) >= 16 {
			w.secrets = append(w.secrets, part)
		}
	}
	w.device, err = w.owner.Scan(ctx, text)
	return err
}

var pairingCode = regexp.MustCompile(`\b[1-9A-HJ-NP-TV-Z]{4}-[1-9A-HJ-NP-TV-Z]{4}\b`)

// enterCode lets a person type the pairing code on wabot's screen.
func (w *world) enterCode(ctx context.Context, name string) error {
	code, err := w.bot.wait(ctx, "a pairing code", func(output string) (string, bool) {
		code := pairingCode.FindString(output)
		return code, code != ""
	})
	if err != nil {
		return err
	}
	w.owner = w.phone(name)
	w.device, err = w.owner.EnterCode(ctx, code)
	return err
}

// pair starts wabot for a new owner and waits until it is online.
func (w *world) pair(ctx context.Context, more ...string) error {
	if err := w.start(more...); err != nil {
		return err
	}
	if err := w.scan(ctx, "owner"); err != nil {
		return err
	}
	return w.online(ctx)
}

// with is the chat that a person has with the bot.
func (w *world) with(string) types.JID { return w.owner.LID() }

// exactly matches a text and nothing else.
func exactly(text string) *regexp.Regexp {
	return regexp.MustCompile(`\A` + regexp.QuoteMeta(text) + `\z`)
}

// shown counts the messages with a text that others, or the bot in the owner's own chat, have sent to a phone.
func shown(p *whatsapptest.Phone, chat types.JID, text string) int {
	return shownLike(p, chat, exactly(text))
}

// shownLike counts those that match.
func shownLike(p *whatsapptest.Phone, chat types.JID, re *regexp.Regexp) (n int) {
	for _, m := range p.Messages(chat) {
		if re.MatchString(m.Text) && (!m.FromMe || m.Device != 0) {
			n++
		}
	}
	return n
}

// hear waits until a phone shows a text once more than it was heard before.
func (w *world) hear(ctx context.Context, name string, chat types.JID, text string) error {
	return w.hearLike(ctx, name, chat, exactly(text))
}

// hearLike waits until a phone shows one more message that matches than was heard before.
func (w *world) hearLike(ctx context.Context, name string, chat types.JID, re *regexp.Regexp) error {
	p := w.phone(name)
	key := name + "\x00" + chat.String() + "\x00" + re.String()
	want := w.heard[key] + 1
	err := p.Wait(ctx, func(p *whatsapptest.Phone) bool { return shownLike(p, chat, re) >= want })
	if err != nil {
		var all []string
		for _, m := range p.Messages(chat) {
			all = append(all, fmt.Sprintf("%q", m.Text))
		}
		return fmt.Errorf("%s does not hear %s, only %s: %w", name, re, strings.Join(all, ", "), err)
	}
	w.heard[key] = want
	return nil
}

// withPatience is the context of one step.
func withPatience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestNoon(t *testing.T) {
	for hour := range 24 {
		at := time.Date(2026, 11, 30, hour, 59, 59, 0, time.UTC)
		zone, err := time.LoadLocation(noon(at))
		if err != nil {
			t.Fatal(err)
		}
		if h := at.In(zone).Hour(); h != 12 {
			t.Errorf("at %s UTC it is %d o'clock in %s", at, h, zone)
		}
	}
}
