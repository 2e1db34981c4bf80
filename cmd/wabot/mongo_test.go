package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/llmtest"
	"wabot/internal/mongostore"
	"wabot/internal/mongotest"
	"wabot/internal/whatsapptest"
)

// long asks for every step of the sweeps, not just some. CI sets it.
var long = os.Getenv("WABOT_LONG") != ""

// mongoWorld is a world whose bot keeps everything in a MongoDB, unless its settings say otherwise. It ends with the
// test, which fails where a promise was broken.
type mongoWorld struct {
	*world
	t *testing.T
	// takeovers are the logins of a process while a frozen one was still connected.
	takeovers int
	// expected, if set, says which problems are the test's own doing.
	expected func(problem string) bool
	retries  atomic.Int32 // retry receipts of the bot
}

func newMongoWorld(t *testing.T, settings ...string) *mongoWorld {
	t.Helper()
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &mongoWorld{world: plain, t: t}
	w.env = append([]string{"MONGO_ENABLED=True", "ALLOW=*", "LOG_LEVEL=info"}, settings...)
	w.answer = lastQuestions
	w.whatsapp.OnStanza(func(s whatsapptest.Stanza) {
		if !s.ToClient && s.Node.Tag == "receipt" && s.Node.Attrs["type"] == "retry" {
			w.retries.Add(1)
		}
	})
	t.Cleanup(func() {
		problems := w.problems()
		w.close()
		for _, p := range problems {
			if w.takeovers > 0 && strings.Contains(p, "logged in while it was logged in") {
				w.takeovers--
				continue
			}
			if w.expected != nil && w.expected(p) {
				continue
			}
			t.Error(p)
		}
		if t.Failed() {
			for i, b := range w.bots {
				t.Logf("output of process %d:\n%s", i+1, b.output.String())
			}
		}
	})
	return w
}

// do fails the test where a step did.
func (w *mongoWorld) do(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// over is the setting by which a process uses the line.
func over(l *mongotest.Line) string { return "MONGO_URL=" + l.URL }

// ask lets a person ask the bot.
func (w *mongoWorld) ask(ctx context.Context, name, question string) {
	w.t.Helper()
	_, err := w.phone(name).Say(ctx, w.owner.LID(), "!ai "+question)
	w.do(err)
}

// answers waits for the answer to each of the questions of a person, and checks that there is one.
func (w *mongoWorld) answers(ctx context.Context, name string, questions ...string) {
	w.t.Helper()
	for _, q := range questions {
		err := w.phone(name).Wait(ctx, func(p *whatsapptest.Phone) bool { return answered(p, w.owner.LID(), q) > 0 })
		if err != nil {
			w.t.Fatalf("no answer to %q: %v", q, err)
		}
	}
	for _, q := range questions {
		if n := answered(w.phone(name), w.owner.LID(), q); n != 1 {
			w.t.Errorf("%q was answered %d times", q, n)
		}
	}
}

// Two processes share a database: one drives the device, the other stands by, and follows when the
// first ends, in whatever way, but never before it has let go.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	signal := func(s syscall.Signal) func(*instance) {
		return func(i *instance) { i.cmd.Process.Signal(s) }
	}
	for _, row := range []succession{
		{name: "stopped", end: signal(syscall.SIGTERM), within: mongostore.DefaultLease / 2},
		{name: "killed", end: signal(syscall.SIGKILL), within: 15 * time.Second},
		{name: "frozen", end: signal(syscall.SIGSTOP), back: signal(syscall.SIGCONT), within: 15 * time.Second, frozen: true},
		{
			name: "cut from the database", within: 15 * time.Second,
			end:  func(i *instance) { i.line.Break() },
			back: func(i *instance) { i.line.Mend() },
		},
		{
			name: "stalled by the database", within: 15 * time.Second,
			end:  func(i *instance) { i.line.Stall() },
			back: func(i *instance) { i.line.Resume() },
		},
		{
			name: "cut from WhatsApp", within: 15 * time.Second,
			end:  func(i *instance) { i.way.shut(true) },
			back: func(i *instance) { i.way.shut(false) },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			took := row.follows(t)
			if took > row.within {
				took = min(took, row.follows(t)) // the machine may have stood still
			}
			if took > row.within {
				t.Errorf("the second process was online after %v, want %v", took, row.within)
			}
		})
	}
}

// succession is how the process ends that drives the device, and within which time another is to follow.
type succession struct {
	name string
	end  func(first *instance)
	// back brings the first process back, which then stands by; nil where it is gone.
	back   func(first *instance)
	within time.Duration
	frozen bool
}

// follows tells after which time another process has followed.
func (row succession) follows(t *testing.T) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	w := newMongoWorld(t)
	line := mongotest.NewLine(t)
	way := w.way()
	w.do(w.pair(ctx, over(line), way.setting()))
	first := &instance{w.bot, line, way}
	w.do(w.start(over(line.Another())))
	second := w.bot
	w.do(second.says(ctx, fmt.Sprintf(`Standing by: \S+ \(process %d\) drives this device`, first.cmd.Process.Pid)))
	w.ask(ctx, "alice", "one")
	w.answers(ctx, "alice", "one")

	row.end(first)
	ended := time.Now()
	w.ask(ctx, "alice", "two")
	w.do(second.says(ctx, `Online as `))
	took := time.Since(ended)
	t.Logf("the second process was online after %v", took.Round(10*time.Millisecond))
	w.answers(ctx, "alice", "two")
	if row.frozen {
		w.takeovers = 1
	}
	if row.back == nil {
		<-first.exited
		w.do(second.stop())
		return took
	}

	logins := len(w.whatsapp.Logins())
	row.back(first)
	w.do(first.says(ctx, fmt.Sprintf(`Standing by: \S+ \(process %d\) drives this device`, second.cmd.Process.Pid)))
	w.ask(ctx, "alice", "three")
	w.answers(ctx, "alice", "one", "two", "three")
	if n := len(w.whatsapp.Logins()); n != logins {
		t.Errorf("%d logins after the first process came back", n-logins)
	}
	w.do(second.stop())
	w.ask(ctx, "alice", "four")
	w.answers(ctx, "alice", "four")
	w.do(first.stop())
	return took
}

// Whatever the database does in the middle of a conversation, all is answered once, nothing needs
// to be sent again by its sender, and nobody needs to pair again.
func TestOutages(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		begin, end func(*mongotest.Server)
		lasts      time.Duration
	}{
		{"killed", (*mongotest.Server).Kill, (*mongotest.Server).Restart, 2 * time.Second},
		{"stalled", func(s *mongotest.Server) { s.Stall() }, func(s *mongotest.Server) { s.Resume() }, 3 * time.Second},
		{"cut", func(s *mongotest.Server) { s.Cut() }, func(s *mongotest.Server) { s.Cut() }, 300 * time.Millisecond},
		{"slow", func(s *mongotest.Server) { s.Delay(500 * time.Millisecond) }, func(s *mongotest.Server) { s.Delay(0) }, 5 * time.Second},
		{"killed for longer than a lease", (*mongotest.Server).Kill, (*mongotest.Server).Restart, 14 * time.Second},
		{
			"without a primary", func(s *mongotest.Server) { s.OnCommand(func(string) mongotest.Fault { return mongotest.NotPrimary }) },
			func(s *mongotest.Server) { s.OnCommand(nil) }, 14 * time.Second,
		},
		{"stalled for longer than a lease", func(s *mongotest.Server) { s.Stall() }, func(s *mongotest.Server) { s.Resume() }, 14 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			defer cancel()
			server := mongotest.Start(t)
			w := newMongoWorld(t, over(server.Line))
			w.do(w.pair(ctx))
			var asked []string
			say := func(n int) {
				for range n {
					asked = append(asked, fmt.Sprintf("question %d", len(asked)))
					w.ask(ctx, "alice", asked[len(asked)-1])
				}
			}
			say(2)
			w.answers(ctx, "alice", asked...)
			say(2)
			row.begin(server)
			over := time.After(row.lasts)
			say(3)
			<-over
			row.end(server)
			say(2)
			w.answers(ctx, "alice", asked...)
			if n := w.retries.Load(); n != 0 {
				t.Errorf("%d messages had to be sent again", n)
			}
			output := w.bot.output.String()
			if n := strings.Count(output, "Link wabot to"); n != 1 {
				t.Errorf("asked to be paired %d times", n)
			}
			w.do(w.stop())
		})
	}
}

// Who is asked to stop while the database is silent stops, in the time that docker-compose.yml gives; what was asked meanwhile is
// answered after the next start.
func TestStopDuringOutage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	line := mongotest.NewLine(t)
	w := newMongoWorld(t, over(line))
	w.do(w.pair(ctx))
	w.ask(ctx, "alice", "one")
	w.answers(ctx, "alice", "one")
	// The answer is on its way when the database falls silent.
	tell := w.hang(ctx, "alice", "two")
	line.Stall()
	tell()
	w.ask(ctx, "bob", "three")
	begun := time.Now()
	w.do(w.stop())
	t.Logf("stopped in %v", time.Since(begun).Round(time.Millisecond))
	line.Resume()
	w.do(w.start())
	w.answers(ctx, "alice", "one", "two")
	w.answers(ctx, "bob", "three")
	w.do(w.stop())
}

// hang asks a question over which the model thinks until tell is called. What it is asked after that it answers at once.
func (w *mongoWorld) hang(ctx context.Context, name, question string) (tell func()) {
	w.t.Helper()
	asked, told := make(chan struct{}), make(chan struct{})
	model := func(answer func(llmtest.Request) string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.answer = answer
	}
	model(func(r llmtest.Request) string {
		close(asked)
		<-told
		return lastQuestions(r)
	})
	w.ask(ctx, name, question)
	<-asked
	model(lastQuestions)
	return func() { close(told) }
}

// A database that cannot be used at the start is waited for, or told of in the operator's words;
// either way without its password.
func TestStartWithoutDatabase(t *testing.T) {
	t.Parallel()
	const wait = 8 * time.Second
	withPassword := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("bot", "s3cret")
		return "MONGO_URL=" + u.String()
	}
	for _, row := range []struct {
		name    string
		setting func(*mongotest.Line) string
		spoil   func(*testing.T, *mongotest.Line)
		code    int
		says    []string
	}{
		{
			name:    "not there",
			setting: func(l *mongotest.Line) string { return withPassword(l.URL) },
			spoil:   func(_ *testing.T, l *mongotest.Line) { l.Break() },
			code:    7, says: []string{`waiting for the database; it does not answer yet.*giving_up_in`, `wabot: the database cannot be reached`},
		}, {
			name:    "wrong address",
			setting: func(*mongotest.Line) string { return "MONGO_URL=mongodb://bot:s3cret%zz@localhost/x" },
			code:    7, says: []string{`wabot: MONGO_URL is not a MongoDB connection string`},
		}, {
			name:    "not an address",
			setting: func(*mongotest.Line) string { return "MONGO_URL=bot:s3cret@localhost" },
			code:    2, says: []string{`MONGO_URL.*\(redacted\)`},
		}, {
			name:    "newer schema",
			setting: over,
			spoil:   func(t *testing.T, l *mongotest.Line) { setSchema(t, l.URL, 99) },
			code:    7, says: []string{`wabot: the database was written by a newer version of this program; use that version`},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ctx := withPatience(t)
			line := mongotest.NewLine(t)
			if row.spoil != nil {
				row.spoil(t, line)
			}
			w := newMongoWorld(t, row.setting(line), "MONGO_WAIT="+wait.String())
			started := time.Now()
			w.do(w.start())
			w.do(w.exits(row.code))
			if took := time.Since(started); took > 2*wait {
				t.Errorf("exited after %v, MONGO_WAIT was %v", took, wait)
			}
			for _, pattern := range row.says {
				w.do(w.says(ctx, pattern))
			}
			if strings.Contains(w.bot.output.String(), "s3cret") {
				t.Error("the password is in the output")
			}
		})
	}
	// It may be there and fall silent right after it was opened, at each command until a code is shown.
	opened := openedWithin(t)
	step := 1
	if !long {
		step = opened / 3
	}
	for k := 1; k < opened-step/2; k += step {
		for name, settings := range map[string][]string{"for ever": {"MONGO_WAIT=" + wait.String()}, "for a time": nil} {
			t.Run(fmt.Sprintf("silent %s from command %d after opening", name, k), func(t *testing.T) {
				t.Parallel()
				ctx := withPatience(t)
				line := mongotest.NewLine(t)
				afterOpening(line, func(n int) mongotest.Fault {
					if n != k {
						return mongotest.None
					}
					line.Stall()
					return mongotest.Hang
				})
				w := newMongoWorld(t, append(settings, over(line))...)
				w.do(w.start())
				waiting, code := `waiting for the database; it does not answer any more.*giving_up_in`, `Link wabot to`
				w.do(w.says(ctx, waiting+"|"+code))
				if strings.Contains(w.bot.output.String(), code) {
					t.Skip("the code was shown before this command")
				}
				if settings != nil {
					w.do(w.exits(7))
					w.do(w.says(ctx, `wabot: .*the database cannot be reached`))
					return
				}
				line.Resume()
				w.do(w.scan(ctx, "owner"))
				w.do(w.online(ctx))
				w.do(w.stop())
			})
		}
	}
	t.Run("comes in time", func(t *testing.T) {
		t.Parallel()
		ctx := withPatience(t)
		line := mongotest.NewLine(t)
		w := newMongoWorld(t, over(line))
		line.Break()
		w.do(w.start())
		w.do(w.says(ctx, `waiting for the database`))
		line.Mend()
		w.do(w.scan(ctx, "owner"))
		w.do(w.online(ctx))
		w.do(w.stop())
	})
}

// afterOpening asks fault about each command once the database is open, which its indexes end, with its number.
func afterOpening(line *mongotest.Line, fault func(n int) mongotest.Fault) {
	var mu sync.Mutex
	indexes, n := false, 0
	line.OnCommand(func(command string) mongotest.Fault {
		mu.Lock()
		if command == "createIndexes" || command == "dropIndexes" {
			indexes = true
		} else if indexes {
			n++
		}
		n := n
		mu.Unlock()
		if n == 0 {
			return mongotest.None
		}
		return fault(n)
	})
}

// openedWithin is how many commands a start takes from then until a code is shown.
func openedWithin(t *testing.T) int {
	line := mongotest.NewLine(t)
	var n atomic.Int64
	afterOpening(line, func(int) mongotest.Fault {
		n.Add(1)
		return mongotest.None
	})
	w := newMongoWorld(t, over(line))
	w.do(w.start())
	w.do(w.says(withPatience(t), `Link wabot to`))
	w.do(w.stop())
	return int(n.Load())
}

// setSchema marks a database as one of another version.
func setSchema(t *testing.T, address string, number int64) {
	_, err := databaseAt(t, address).Collection("meta").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "schema"}, {Key: "number", Value: number}})
	if err != nil {
		t.Fatal(err)
	}
}

// trap kills the running wabot at its k-th command to the database, before the command is carried out.
type trap struct {
	line   *mongotest.Line
	killed chan struct{} // closed at the kill

	mu       sync.Mutex
	commands int
	off      bool
}

func (w *mongoWorld) trap(line *mongotest.Line, k int) *trap {
	tr := &trap{line: line, killed: make(chan struct{})}
	bot := w.bot
	line.OnCommand(func(string) mongotest.Fault {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		switch tr.commands++; {
		case tr.commands < k || tr.off:
			return mongotest.None
		case tr.commands == k:
			bot.cmd.Process.Kill()
			<-bot.exited
			close(tr.killed)
		}
		return mongotest.CutBefore
	})
	return tr
}

// remove ends the trap. It reports how many commands there were and whether it has killed.
func (tr *trap) remove() (commands int, killed bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.off = true
	tr.line.OnCommand(nil)
	select {
	case <-tr.killed:
		return tr.commands, true
	default:
		return tr.commands, false
	}
}

// never is a command that is never reached.
const never = 1 << 30

// A kill at any command of a conversation to the database costs no message, doubles none, and
// uses no counter twice.
func TestKillAtEachCommand(t *testing.T) {
	t.Parallel()
	for name, conversation := range conversations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newMongoWorld(t, longLease)
			line := mongotest.NewLine(t)
			w.env = append(w.env, over(line))
			w.release = releaseLeases(t, line.Another().URL)
			w.do(w.pair(withPatience(t)))
			all := w.trap(line, never)
			w.do(w.converse(withPatience(t), conversation, 0))
			n, _ := all.remove()
			step := 1
			if !long {
				step = max(1, n/3)
			}
			kills := 0
			for k := 1 + step/2; k <= n; k += step {
				if w.killInConversation(line, conversation, k) {
					kills++
				}
			}
			w.do(w.stop())
			t.Logf("killed %d times in conversations of %d commands", kills, n)
		})
	}
}

// killInConversation has wabot killed at the k-th command of a conversation, and started again, and
// checks the rest of the conversation. It reports whether there were so many commands.
func (w *mongoWorld) killInConversation(line *mongotest.Line, c conversation, k int) (killed bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*patience)
	defer cancel()
	tr := w.trap(line, k)
	talked := make(chan error, 1)
	go func() { talked <- w.converse(ctx, c, k) }()
	select {
	case err := <-talked:
		talked <- err
	case <-tr.killed:
	}
	if _, killed = tr.remove(); killed {
		if err := w.restart(ctx); err != nil {
			w.t.Fatalf("killed at command %d: %v", k, err)
		}
	}
	if err := <-talked; err != nil {
		w.t.Fatalf("killed at command %d: %v", k, err)
	}
	if killed && strings.Contains(w.bot.output.String(), "Link wabot to") {
		w.t.Errorf("killed at command %d: asked to be paired again", k)
	}
	return killed
}

// conversation is what is said in one or more of the ways that the sessions of a chat with the bot differ, by new people.
type conversation []func(ctx context.Context, t talkers) error

// talkers are the people of one conversation. They have a number, as each name is one person.
type talkers struct {
	*mongoWorld
	n int
}

func (t talkers) named(who string) *whatsapptest.Phone {
	return t.phone(fmt.Sprintf("%s %d", who, t.n))
}

// ask has a person ask the bot, in a group where one is given, and waits for the answer on their phone and more of them.
func (t talkers) ask(ctx context.Context, who, what string, group types.JID, more ...*whatsapptest.Phone) error {
	p := t.named(who)
	chat, question := t.owner.LID(), what+" of "+p.Name()
	text := "!ai " + question
	if !group.IsEmpty() {
		chat, question = group, p.Name()+": "+question // the people of a group are told apart
	}
	if _, err := p.Say(ctx, chat, text); err != nil {
		return err
	}
	for i, p := range append(more, p) {
		if err := p.Wait(ctx, func(p *whatsapptest.Phone) bool { return answered(p, chat, question) > 0 }); err != nil {
			return fmt.Errorf("no answer to %q on device %d: %w", question, i, err)
		}
	}
	return nil
}

// parts are the ways: a first message and a second one, a group, an account with three devices, and a session that was lost.
var parts = map[string]conversation{
	"direct": {func(ctx context.Context, t talkers) error {
		return errors.Join(t.ask(ctx, "carol", "first", types.JID{}), t.ask(ctx, "carol", "second", types.JID{}))
	}},
	"group": {func(ctx context.Context, t talkers) error {
		group, err := t.named("grace").Group(ctx, "friends", t.owner.LID(), t.named("dave").LID())
		return errors.Join(err, t.ask(ctx, "dave", "first", group), t.ask(ctx, "dave", "second", group))
	}},
	"devices": {func(ctx context.Context, t talkers) error {
		erin := t.named("erin")
		return t.ask(ctx, "erin", "devices", types.JID{}, erin.AddCompanion(), erin.AddCompanion())
	}},
	"retry": {func(ctx context.Context, t talkers) error {
		if err := t.ask(ctx, "frank", "before", types.JID{}); err != nil {
			return err
		}
		t.named("frank").LoseSession(t.owner.LID())
		return t.ask(ctx, "frank", "after", types.JID{})
	}},
}

// conversations are those of a sweep: the parts, each for itself, or in the short form one that has them all.
func conversations() map[string]conversation {
	if long {
		return parts
	}
	var all conversation
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		all = append(all, parts[name]...)
	}
	return map[string]conversation{"all": all}
}

// converse has the conversation, the n-th of this world, and checks that nobody was told anything twice.
func (w *mongoWorld) converse(ctx context.Context, c conversation, n int) error {
	for _, part := range c {
		if err := part(ctx, talkers{w, n}); err != nil {
			return err
		}
	}
	mine := fmt.Sprintf(" %d", n)
	for _, p := range w.whatsapp.Phones() {
		if !strings.HasSuffix(p.Name(), mine) {
			continue
		}
		seen := map[string]bool{}
		for _, m := range p.AllMessages() {
			if key := m.Chat.String() + m.Text; !m.FromMe {
				if seen[key] {
					return fmt.Errorf("%s shows %q twice", p.Name(), m.Text)
				}
				seen[key] = true
			}
		}
	}
	return nil
}

// restart starts wabot again after a kill, and waits until it is online.
func (w *mongoWorld) restart(ctx context.Context) error {
	return errors.Join(w.startAgain(ctx), w.online(ctx))
}

// longLease is for the sweeps, in which no process waits for a lease's end, and the database is busy.
const longLease = "LEASE=1m"

// startAgain starts wabot after its end, and gives back the lease of the dead process.
func (w *mongoWorld) startAgain(ctx context.Context) error {
	if w.release != nil {
		if err := w.release(ctx); err != nil {
			return err
		}
	}
	return w.start()
}

// releaseLeases gives a function that gives back the leases in the database with the address.
func releaseLeases(t *testing.T, address string) func(context.Context) error {
	leases := databaseAt(t, address).Collection("leases")
	return func(ctx context.Context) error {
		_, err := leases.UpdateMany(ctx, bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "released", Value: true}}}})
		return err
	}
}

// databaseAt opens the database that an address names.
func databaseAt(t *testing.T, address string) *mongo.Database {
	client, err := mongo.Connect(options.Client().ApplyURI(address))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return client.Database(strings.TrimPrefix(u.Path, "/"))
}

// A kill at any command of the first start, of pairing and of the first login costs at most
// a second code, and none once the device has logged in.
func TestKillWhilePairing(t *testing.T) {
	t.Parallel()
	pair := func(t *testing.T, k int) (commands int) {
		ctx := withPatience(t)
		w := newMongoWorld(t, longLease)
		line := mongotest.NewLine(t)
		w.env = append(w.env, over(line))
		w.release = releaseLeases(t, line.Another().URL)
		// The process must not get ahead of its trap.
		line.Stall()
		w.do(w.start())
		tr := w.trap(line, k)
		line.Resume()
		paired := make(chan error, 1)
		go func() {
			err := w.scan(ctx, "owner")
			if err == nil {
				err = w.online(ctx)
			}
			paired <- err
		}()
		err := <-paired
		if err != nil {
			select {
			case <-tr.killed:
			case <-ctx.Done():
			}
		}
		commands, killed := tr.remove()
		if !killed {
			w.do(err)
			w.ask(ctx, "alice", "one")
			w.answers(ctx, "alice", "one")
			w.do(w.stop())
			return commands
		}
		known := len(w.whatsapp.Logins()) > 0
		w.do(w.startAgain(ctx))
		asked, err := w.bot.wait(ctx, "a code or a login", func(output string) (string, bool) {
			return regexpFirst.FindString(output), regexpFirst.MatchString(output)
		})
		w.do(err)
		if asked != "Online as" {
			if known {
				t.Errorf("killed at command %d: asked to be paired again", k)
			}
			w.do(w.scan(ctx, "owner"))
			w.do(w.online(ctx))
		}
		w.ask(ctx, "alice", "one")
		w.answers(ctx, "alice", "one")
		w.do(w.stop())
		return commands
	}
	n := pair(t, never)
	t.Logf("pairing takes %d commands", n)
	step := max(1, n/4)
	if long {
		step = 1
	}
	for k := 1 + step/2; k < n; k += step {
		t.Run(fmt.Sprint(k), func(t *testing.T) {
			t.Parallel()
			pair(t, k)
		})
	}
}

// regexpFirst is what a started wabot shows first: a code to be paired, or that it is.
var regexpFirst = regexp.MustCompile(`Link wabot to|Online as`)
