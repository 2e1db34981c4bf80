package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"html"
	"image"
	_ "image/jpeg"
	_ "image/png"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.mau.fi/whatsmeow/types"

	"wabot/internal/llmtest"
	"wabot/internal/mongotest"
	"wabot/internal/whatsapptest"
)

func TestMain(m *testing.M) {
	// The stories mostly wait, for each other's processes least of all.
	atOnce := "6"
	if long {
		atOnce = "10"
	}
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	testscript.Main(tests{m}, map[string]func(){"wabot": wabot})
}

// tests are the tests of this package, whose time does not run before there is a server that stands in for MongoDB.
type tests struct{ *testing.M }

func (t tests) Run() int {
	if err := mongotest.Build(); err != nil {
		fmt.Fprintln(os.Stderr, "mongotest:", err)
		return 1
	}
	return t.M.Run()
}

// TestStories runs the scripts in testdata/stories: wabot as a process, against a simulated
// WhatsApp and a model API. The commands of the scripts are described at their functions.
func TestStories(t *testing.T) {
	t.Parallel()
	for store, settings := range stores {
		t.Run(store, func(t *testing.T) {
			if store == "mongo" {
				sparingly(t)
			}
			t.Parallel()
			testscript.Run(t, stories(t, store, settings))
		})
	}
}

// stories are the scripts, on one of the stores.
func stories(t *testing.T, store string, settings func(*testing.T) []string) testscript.Params {
	return testscript.Params{
		Dir: "testdata/stories",
		Condition: func(name string) (bool, error) {
			if _, ok := stores[name]; !ok {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return name == store, nil
		},
		Setup: func(env *testscript.Env) error {
			binary, err := exec.LookPath("wabot")
			if err != nil {
				return err
			}
			w, err := newWorld(binary, env.WorkDir)
			if err != nil {
				return err
			}
			w.keepsIn(t, settings)
			// For what a script runs by itself.
			env.Setenv("MODEL_URL", w.model.URL())
			env.Vars = append(env.Vars, w.services()...)
			env.Values["world"] = w
			env.Defer(func() {
				if w.bot != nil {
					env.T().Log("wabot's output:\n" + w.bot.output.String())
				}
				problems := w.problems()
				if !w.ended {
					problems = append(problems, "the story did not come to its end")
				}
				w.close()
				if len(problems) > 0 {
					env.T().Fatal("broken promises:\n" + strings.Join(problems, "\n"))
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":    command(start),
			"sigkill":  command(func(_ context.Context, w *world, _ []string) error { return w.kill() }),
			"sigterm":  command(func(_ context.Context, w *world, _ []string) error { return w.stop() }),
			"hurry":    command(func(_ context.Context, w *world, _ []string) error { return w.hurry() }),
			"exits":    command(exits),
			"online":   command(func(ctx context.Context, w *world, _ []string) error { return w.online(ctx) }),
			"says":     command(says),
			"phone":    command(phone),
			"measures": command(measures),
			"explain":  command(explain),
			"page":     command(page),
			"runs":     command(runs),
			"person":   command(person),
			"model":    command(model),
			"server":   command(server),
			// A word of testscript's own goes before ours: with it a script may end early, or not do what it says.
			"end": command(func(_ context.Context, w *world, _ []string) error { w.ended = true; return nil }),
		},
	}
}

// sparingly skips a test on MongoDB with -short: the server that stands in for it is slow, and slower still
// beside the race detector, which the same tests on the file store are for.
func sparingly(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("on MongoDB only without -short")
	}
}

// onEachStore runs a test on each of the stores, at the same time.
func onEachStore(t *testing.T, test func(t *testing.T, store string)) {
	for store := range stores {
		t.Run(store, func(t *testing.T) {
			if store == "mongo" {
				sparingly(t)
			}
			t.Parallel()
			test(t, store)
		})
	}
}

// keepsIn gives the bot a store of its own, with the settings of one of the stores.
func (w *world) keepsIn(t *testing.T, settings func(*testing.T) []string, more ...string) {
	w.env = append(settings(t), more...)
	for _, s := range w.env {
		if address, ok := strings.CutPrefix(s, "MONGO_URL="); ok {
			w.release = releaseLeases(t, address)
		}
	}
}

// stores are the settings that choose each of the stores, a new one at every call.
var stores = map[string]func(*testing.T) []string{
	"files": func(*testing.T) []string { return nil },
	"mongo": func(t *testing.T) []string {
		return []string{"MONGO_ENABLED=True", "MONGO_URL=" + mongotest.New(t)}
	},
}

// command makes a script command of a function; a script that fails says why.
func command(f func(ctx context.Context, w *world, args []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := f(ctx, ts.Value("world").(*world), args)
		if neg && err == nil {
			ts.Fatalf("succeeded, but should not")
		}
		if !neg && err != nil {
			ts.Fatalf("%v", err)
		}
	}
}

// start wabot [NAME=VALUE...]: runs wabot, with more settings.
func start(_ context.Context, w *world, args []string) error { return w.start(args...) }

// measures LINE: /metrics comes to have this line.
func measures(ctx context.Context, w *world, args []string) error {
	for {
		_, body, err := w.ask(ctx, "/metrics", "")
		if err != nil {
			return err
		}
		lines := strings.Split(body, "\n")
		if slices.Contains(lines, args[0]) {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			name, _, _ := strings.Cut(args[0], " ")
			name, _, _ = strings.Cut(name, "{")
			like := slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, name) })
			return fmt.Errorf("no %q in the metrics, only\n%s", args[0], strings.Join(like, "\n"))
		}
	}
}

// runs ARG...: wabot, run with the arguments, succeeds.
func runs(ctx context.Context, w *world, args []string) error {
	if output, code := w.wabot(ctx, "", args...); code != 0 {
		return fmt.Errorf("wabot %s: exit code %d\n%s", strings.Join(args, " "), code, output)
	}
	return nil
}

// tags are what the page has around its words.
var tags = regexp.MustCompile(`<style>[^<]*</style>|<[^>]*>`)

// page PATTERN...: the words of the page come to match each pattern.
func page(ctx context.Context, w *world, args []string) error {
	for _, pattern := range args {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return err
		}
		last := ""
		for !re.MatchString(last) {
			if ctx.Err() != nil {
				return fmt.Errorf("the page does not come to say %q:\n%s", pattern, last)
			}
			_, body, err := w.ask(ctx, "/", "")
			if err == nil {
				last = html.UnescapeString(tags.ReplaceAllString(body, ""))
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return nil
}

// explain [ARG...] PATTERN: what wabot explain ARG... says comes to match the pattern. Receipts are stored a moment after they came.
func explain(ctx context.Context, w *world, args []string) error {
	pattern := args[len(args)-1]
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	last := ""
	for ctx.Err() == nil {
		output, _ := w.wabot(ctx, "", append([]string{"explain"}, args[:len(args)-1]...)...)
		if re.MatchString(output) {
			return nil
		}
		last = cmp.Or(output, last) // one that was cut off says nothing
	}
	return fmt.Errorf("wabot explain does not come to say %q:\n%s", pattern, last)
}

// exits CODE [PATTERN]: wabot exits by itself with the code, and its output matches.
func exits(ctx context.Context, w *world, args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := w.exits(code); err != nil {
		return err
	}
	return says(ctx, w, args[1:])
}

// says PATTERN...: wabot's output since its start comes to match each regular expression.
func says(ctx context.Context, w *world, args []string) error {
	for _, pattern := range args {
		if err := w.says(ctx, pattern); err != nil {
			return err
		}
	}
	return nil
}

// phone PERSON ACT ...: a person does or sees something on their phone. "in GROUP" or "to PERSON" after the
// arguments names a chat other than the one with the bot.
//
//	has-number DIGITS | by-number: before all else; names people by their numbers, where others use the LID | scans | types-code | unlinks | goes-offline | comes-online
//	creates GROUP PERSON...
//	says TEXT | mentions TEXT | replies TEXT | says-long N [BEGIN] (BEGIN, and N times "long ")
//	hears TEXT: one more message with that text is shown | hears-begin TEXT: a message that begins so is shown | hears-like PATTERN: one more that matches
//	hears-voice WORDS SECONDS: a voice message of the words that lasts so long, and is drawn so
//	forgets-media: deletes its own copies of all files
//	sees-picture CAPTION [DESCRIPTION]: a picture that the model API has drawn of it
//	shows N TEXT | shows-like N PATTERN: exactly so many are shown now
//	reads TEXT: tells the bot that the message with that text was read | explains TEXT PATTERN: wabot explain says so of an own message
//	sees-typing | sees-typing-end | sees-read TEXT: of an own message | sees-quote TEXT: the message with TEXT quotes one of the person's
func phone(ctx context.Context, w *world, args []string) error {
	name, act, args := args[0], args[1], args[2:]
	switch act {
	case "scans":
		return w.scan(ctx, name)
	case "types-code":
		return w.enterCode(ctx, name)
	case "has-number":
		p, err := w.whatsapp.NewPhoneNumber(name, args[0])
		w.phones[name] = p
		return err
	}
	p := w.phone(name)
	switch act {
	case "by-number":
		p.ByNumber = true
		return nil
	case "unlinks":
		p.Unlink(w.device)
		return nil
	case "goes-offline":
		p.Offline()
		return nil
	case "comes-online":
		p.Online()
		return nil
	case "forgets-media":
		p.ForgetMedia()
		return nil
	case "creates":
		members := []types.JID{}
		for _, m := range args[1:] {
			members = append(members, w.phone(m).LID())
		}
		group, err := p.Group(ctx, args[0], members...)
		w.groups[args[0]] = group
		return err
	}
	chat := w.with(name)
	if n := len(args); n >= 2 {
		switch args[n-2] {
		case "in":
			chat, args = w.groups[args[n-1]], args[:n-2]
		case "to":
			chat, args = w.phone(args[n-1]).LID(), args[:n-2]
		}
	}
	switch act {
	case "says":
		_, err := p.Say(ctx, chat, args[0])
		return err
	case "says-long":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		_, err = p.Say(ctx, chat, strings.TrimSpace(strings.Join(args[1:], "")+" "+strings.Repeat("long ", n)))
		return err
	case "mentions":
		_, err := p.Send(ctx, chat, whatsapptest.Draft{Text: "@" + w.owner.LID().User + " " + args[0], Mentions: []types.JID{w.owner.LID()}})
		return err
	case "replies":
		all := p.Messages(chat)
		i := len(all) - 1
		for ; i >= 0 && all[i].FromMe && all[i].Device == 0; i-- {
		}
		if i < 0 {
			return fmt.Errorf("%s has nothing to reply to", name)
		}
		_, err := p.Send(ctx, chat, whatsapptest.Draft{Text: args[0], Quote: &all[i]})
		return err
	case "hears":
		return w.hear(ctx, name, chat, strings.ReplaceAll(args[0], `\n`, "\n"))
	case "hears-voice":
		spoken := llmtest.Speech(args[0])
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.Messages(chat), func(m whatsapptest.Received) bool {
				return !ownWords(m) && m.Kind == "voice" && bytes.Equal(m.Media, spoken) && fmt.Sprint(m.Seconds) == args[1] && len(m.Waveform) == 64 && slices.Max(m.Waveform) == 100
			})
		})
	case "hears-begin":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.Messages(chat), func(m whatsapptest.Received) bool {
				return !ownWords(m) && strings.HasPrefix(m.Text, args[0])
			})
		})
	case "hears-like":
		re, err := regexp.Compile(args[0])
		if err != nil {
			return err
		}
		return w.hearLike(ctx, name, chat, re)
	case "sees-picture":
		caption, description := args[0], args[len(args)-1]
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.Messages(chat), func(m whatsapptest.Received) bool {
				return m.Kind == "image" && m.Text == caption && samePicture(m.Media, llmtest.Picture(description))
			})
		})
	case "shows", "shows-like":
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		re, err := regexp.Compile(args[1])
		if err != nil || act == "shows" {
			re = exactly(strings.ReplaceAll(args[1], `\n`, "\n"))
		}
		if got := shownLike(p, chat, re); got != want {
			return fmt.Errorf("%s shows %q %d times, want %d", name, args[1], got, want)
		}
		return nil
	case "reads", "explains":
		for _, m := range p.Messages(chat) {
			if m.Text == args[0] && act == "reads" {
				return p.Read(ctx, chat, m.ID)
			}
			if m.Text == args[0] {
				return explain(ctx, w, []string{m.ID, args[1]})
			}
		}
		return fmt.Errorf("%s shows no %q", name, args[0])
	case "sees-typing":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool { return p.Typed(chat) > 0 })
	case "sees-typing-end":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool { return p.Typed(chat) > 0 && !p.Typing(chat) })
	case "sees-read":
		return p.Wait(ctx, func(p *whatsapptest.Phone) bool {
			return slices.ContainsFunc(p.Messages(chat), func(m whatsapptest.Received) bool {
				_, read := p.Receipts(m.ID)
				return m.Text == args[0] && read
			})
		})
	case "sees-quote":
		all := p.Messages(chat)
		for _, m := range all {
			if m.Text == args[0] {
				i := slices.IndexFunc(all, func(q whatsapptest.Received) bool { return q.ID == m.QuotedID && q.FromMe })
				if i < 0 {
					return fmt.Errorf("%q quotes %q, none of %s's messages", m.Text, m.QuotedText, name)
				}
				return nil
			}
		}
		return fmt.Errorf("%s shows no %q", name, args[0])
	}
	return fmt.Errorf("a phone cannot %q", act)
}

// samePicture compares the colours in the middle of two pictures, as far as a JPEG keeps them.
func samePicture(a, b []byte) bool {
	x, kind, err := image.Decode(bytes.NewReader(a))
	y, _, err2 := image.Decode(bytes.NewReader(b))
	if err != nil || err2 != nil || kind != "jpeg" || x.Bounds() != y.Bounds() {
		return false
	}
	near := func(c, d uint32) bool { return max(c, d)-min(c, d) < 0x800 }
	r, g, bl, _ := x.At(32, 32).RGBA()
	r2, g2, bl2, _ := y.At(32, 32).RGBA()
	return near(r, r2) && near(g, g2) && near(bl, bl2)
}

// faults are the ways a model fails, by the names that scripts give them.
var faults = map[string]llmtest.Kind{
	"bad-key": llmtest.BadKey, "rate-limited": llmtest.RateLimited, "no-quota": llmtest.NoQuota, "internal": llmtest.Internal,
	"overloaded": llmtest.Overloaded, "too-long": llmtest.TooLong, "hangs": llmtest.Hang, "html": llmtest.HTML, "broken-json": llmtest.BrokenJSON,
	"hangs-in-stream": llmtest.HangStream, "cuts-stream": llmtest.CutStream, "empty": llmtest.Empty, "filtered": llmtest.FilterStream,
}

// model ACT ...: what the model API does from now on.
//
//	thinks | goes-on: answers nothing until then, and echoes
//	answers TEXT | echoes | down | up | asked N: has had N requests in all
//	was-asked NAME: in the last request, by the model's name | breaks NAME: every request for that model fails | hangs-only NAME
//	was-told TEXT | was-not-told TEXT: in the last request, history included
//	FAULT [TIMES [WORDS]]: fails, for the next so many requests or all of them, in a stream after so many words | works
func model(ctx context.Context, w *world, args []string) error {
	act, args := args[0], args[1:]
	switch act {
	case "answers", "echoes":
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answer = nil
		if act == "answers" {
			w.answer = func(llmtest.Request) string { return args[0] }
		}
		return nil
	case "thinks":
		w.mu.Lock()
		defer w.mu.Unlock()
		thought := make(chan struct{})
		w.goOn = sync.OnceFunc(func() { close(thought) })
		w.answer = func(r llmtest.Request) string {
			<-thought
			return llmtest.Echo(r)
		}
		return nil
	case "goes-on":
		w.goOn()
		return nil
	case "down":
		w.model.Down()
		return nil
	case "up":
		return w.model.Up()
	case "works":
		w.model.Fail(llmtest.Fault{})
		return nil
	case "asked":
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		if _, err := w.model.WaitRequest(ctx, n); err != nil {
			return err
		}
		if got := len(w.model.Requests()); got != n {
			return fmt.Errorf("the model was asked %d times, want %d", got, n)
		}
		return nil
	case "hangs-only":
		w.model.Fail(llmtest.Fault{Kind: llmtest.Hang, Model: args[0]})
		return nil
	case "breaks":
		w.model.Fail(llmtest.Fault{Kind: llmtest.Internal, Model: args[0]})
		return nil
	case "was-asked":
		all := w.model.Requests()
		if len(all) == 0 || all[len(all)-1].Model != args[0] {
			return fmt.Errorf("model %q was not asked last", args[0])
		}
		return nil
	case "was-told", "was-not-told":
		all := w.model.Requests()
		if len(all) == 0 {
			return fmt.Errorf("the model was not asked yet")
		}
		told := slices.ContainsFunc(all[len(all)-1].Messages, func(m llmtest.Message) bool { return strings.Contains(m.Text, strings.ReplaceAll(args[0], `\n`, "\n")) })
		if told != (act == "was-told") {
			return fmt.Errorf("that the model was told %q last is %v", args[0], told)
		}
		return nil
	}
	kind, ok := faults[act]
	if !ok {
		return fmt.Errorf("a model cannot %q", act)
	}
	f := llmtest.Fault{Kind: kind, After: 1}
	for i, to := range []*int{&f.Times, &f.After}[:min(len(args), 2)] {
		n, err := strconv.Atoi(args[i])
		if err != nil {
			return err
		}
		*to = n
	}
	if kind == llmtest.RateLimited {
		f.RetryAfter = time.Hour
	}
	w.model.Fail(f)
	return nil
}

// server ACT ...: what WhatsApp's server does to the bot.
//
//	drops | replaces | stream-error CODE | down | up | stalls | unstalls
//	refuses REASON [CODE SECONDS]: every login from now on | refuses-once REASON | accepts
//	loses-ack | drops-after | drops-before | rejects | limits: the fate of the bot's next message
//	limits-reach SECONDS: the account may not start new chats for so long; 0: it may again
//	refuses-uploads N: so many uploads of media | forgets-media STATUS: deletes all of it
//	repeats PERSON TEXT: delivers a message of the person to the bot again
func server(ctx context.Context, w *world, args []string) error {
	s, act, args := &w.whatsapp, args[0], args[1:]
	numbers := make([]int, 3)
	for i, a := range args[:min(len(args), len(numbers))] {
		numbers[i], _ = strconv.Atoi(a)
	}
	failure := whatsapptest.Failure{Reason: numbers[0], Code: numbers[1], Expire: time.Duration(numbers[2]) * time.Second}
	switch act {
	case "drops":
		s.Drop(w.device)
	case "replaces":
		// What ends the stream is heard after what has come before it: where that takes time, after the next login.
		if err := s.WaitSettled(ctx, w.device); err != nil {
			return err
		}
		s.Replace(w.device)
	case "stream-error":
		s.StreamError(w.device, numbers[0])
	case "down", "up":
		s.SetDown(act == "down")
	case "stalls":
		s.Stall(w.device)
	case "unstalls":
		s.Unstall(w.device)
	case "refuses":
		s.FailEveryLogin(w.device, failure)
	case "refuses-once":
		s.FailLogins(w.device, failure)
	case "accepts":
		s.FailEveryLogin(w.device, whatsapptest.Failure{})
	case "loses-ack":
		s.FateOfNext(w.device, whatsapptest.LoseAck)
	case "drops-after":
		s.FateOfNext(w.device, whatsapptest.DropAfter)
	case "drops-before":
		s.FateOfNext(w.device, whatsapptest.DropBefore)
	case "rejects":
		s.FateOfNext(w.device, whatsapptest.Reject)
	case "limits":
		s.FateOfNext(w.device, whatsapptest.Limit)
	case "limits-reach":
		var until time.Time
		if numbers[0] > 0 {
			until = time.Now().Add(time.Duration(numbers[0]) * time.Second)
		}
		s.LimitReach(w.device, until)
	case "logins":
		if err := s.WaitLogins(ctx, w.device, numbers[0]); err != nil {
			return err
		}
		all := slices.DeleteFunc(s.Logins(), func(l whatsapptest.Login) bool { return l.Device != w.device })
		if len(all) != numbers[0] {
			return fmt.Errorf("%d logins, want %d", len(all), numbers[0])
		}
		return nil
	case "forgets-media":
		s.ForgetMedia(numbers[0])
	case "refuses-uploads":
		s.FailUploads(503, numbers[0])
	case "repeats":
		for _, m := range w.phone(args[0]).AllMessages() {
			if m.Text == args[1] && m.FromMe {
				if !s.Duplicate(w.device, m.ID) {
					return fmt.Errorf("the bot was never sent %q", args[1])
				}
				return nil
			}
		}
		return fmt.Errorf("%s has not said %q", args[0], args[1])
	default:
		return fmt.Errorf("a server cannot %q", act)
	}
	return nil
}
