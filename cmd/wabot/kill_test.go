package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"golang.org/x/sync/errgroup"

	"wabot/internal/app"
	"wabot/internal/chat"
	"wabot/internal/llmtest"
	"wabot/internal/whatsapptest"
)

// wabot is the program as the stories run it: the real one, but that KILL_AT names a call of the store
// at which it kills itself, CALLS where it asks about each call, LEASE the life of its leases, and SCRYPT the work factor of
// its passphrases.
func wabot() {
	ctx, interrupts := app.Signals(os.Args[1:])
	p := app.Process{Args: os.Args[1:], Getenv: os.Getenv, Dotenv: ".env", Self: self(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Interrupts: interrupts}
	if at := os.Getenv("KILL_AT"); at != "" {
		p.Around = func(s app.Store) app.Store { return deadly{s, at, new(atomic.Bool)} }
	}
	if address := os.Getenv("CALLS"); address != "" {
		g, err := openGate(address)
		if err != nil {
			panic(err)
		}
		p.Around = func(s app.Store) app.Store { return calledStore{s, g} }
	}
	if life := os.Getenv("LEASE"); life != "" {
		var err error
		if p.Lease, err = time.ParseDuration(life); err != nil {
			panic(err)
		}
	}
	if factor := os.Getenv("SCRYPT"); factor != "" {
		var err error
		if p.Scrypt, err = strconv.Atoi(factor); err != nil {
			panic(err)
		}
	}
	err := app.Run(ctx, p)
	if err != nil {
		os.Stderr.WriteString("wabot: " + err.Error() + "\n")
	}
	os.Exit(app.ExitCode(err))
}

// deadly is a store that kills the process before or after one of its calls, the second of its kind where at ends with a 2.
type deadly struct {
	app.Store
	at     string
	passed *atomic.Bool // the first of its kind
}

func (d deadly) die(at string) {
	if at+" 2" == d.at && d.passed.Swap(true) || at == d.at {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d deadly) Put(ctx context.Context, m chat.Message, now time.Time) error {
	d.die("before Put")
	err := d.Store.Put(ctx, m, now)
	d.die("after Put")
	return err
}

func (d deadly) Claim(ctx context.Context, now, until time.Time) (chat.Turn, error) {
	t, err := d.Store.Claim(ctx, now, until)
	if err == nil {
		d.die("after Claim")
	}
	return t, err
}

func (d deadly) History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error) {
	h, err := d.Store.History(ctx, chatJID, n)
	d.die("after History")
	return h, err
}

func (d deadly) SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) error {
	d.die("before SaveReply")
	err := d.Store.SaveReply(ctx, t, r)
	d.die("after SaveReply")
	return err
}

func (d deadly) Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error {
	d.die("before Amend")
	err := d.Store.Amend(ctx, messages, r)
	d.die("after Amend")
	return err
}

func (d deadly) Finish(ctx context.Context, t chat.Turn, now time.Time) error {
	d.die("before Finish")
	err := d.Store.Finish(ctx, t, now)
	d.die("after Finish")
	return err
}

// A kill at any step of one message costs neither the message nor a second answer.
func TestKillBetweenSteps(t *testing.T) {
	t.Parallel()
	type step struct{ store, at string }
	var steps []step
	for store := range stores {
		for _, at := range []string{
			"before Put", "after Put", "after Claim", "after History", "before SaveReply", "after SaveReply", "before Finish", "after Finish",
		} {
			steps = append(steps, step{store, at})
		}
	}
	for _, step := range steps {
		t.Run(step.store+", "+step.at, func(t *testing.T) {
			if step.store == "mongo" {
				sparingly(t)
			}
			t.Parallel()
			ctx := withPatience(t)
			w, do := newStory(t)
			w.keepsIn(t, stores[step.store], "ALLOW=*")
			do(w.pair(ctx, "KILL_AT="+step.at))
			alice := w.phone("alice")
			_, err := alice.Say(ctx, w.owner.LID(), "!ai one")
			do(err)
			do(w.exits(-1))
			do(w.start())
			do(w.hear(ctx, "alice", w.owner.LID(), "You said: one"))
			// A second question is answered after the first: what the first had left has come by now.
			_, err = alice.Say(ctx, w.owner.LID(), "!ai two")
			do(err)
			do(w.hear(ctx, "alice", w.owner.LID(), "You said: two"))
			if n := shown(alice, w.owner.LID(), "You said: one"); n != 1 {
				t.Errorf("answered %d times", n)
			}
			do(w.stop())
			w.sound(t)
		})
	}
}

// Nor does a kill at any step leave a placeholder, or an answer beside it.
func TestKillBesidePlaceholder(t *testing.T) {
	t.Parallel()
	for store, settings := range stores {
		steps := []string{"after SaveReply", "after SaveReply 2"}
		if store == "files" {
			steps = append(steps, "before SaveReply", "before SaveReply 2", "before Finish", "after Finish")
		}
		for _, at := range steps {
			t.Run(store+", "+at, func(t *testing.T) {
				if store == "mongo" {
					sparingly(t)
				}
				t.Parallel()
				ctx := withPatience(t)
				w, do := newStory(t)
				w.keepsIn(t, settings, "ALLOW=*", "REPLY=placeholder")
				do(w.pair(ctx, "KILL_AT="+at))
				alice, chat := w.phone("alice"), w.owner.LID()
				_, err := alice.Say(ctx, chat, "!ai one")
				do(err)
				do(w.exits(-1))
				do(w.start())
				do(person(ctx, w, []string{"alice", "sees-edit", "You said: one"}))
				_, err = alice.Say(ctx, chat, "!ai two")
				do(err)
				do(person(ctx, w, []string{"alice", "sees-edit", "You said: two"}))
				if n := len(slices.DeleteFunc(alice.Messages(chat), ownWords)); n != 2 {
					t.Errorf("the bot shows %d messages, want 2", n)
				}
				do(w.stop())
				w.sound(t)
			})
		}
	}
}

// Kills at random moments of a conversation of three people, and messages that come while wabot is
// down: each question is answered once.
func TestRandomKills(t *testing.T) {
	t.Parallel()
	for store, kills := range map[string]int{"files": 12, "mongo": 2} {
		t.Run(store, func(t *testing.T) {
			if store == "mongo" {
				sparingly(t)
			}
			t.Parallel()
			messages := 200
			if store == "mongo" && os.Getenv("WABOT_LONG") == "" {
				messages = 60
			}
			randomKills(t, stores[store](t), messages, kills)
		})
	}
}

func randomKills(t *testing.T, settings []string, messages, kills int) {
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.env = append(settings, "ALLOW=*", "LOG_LEVEL=info")
	if err := w.pair(ctx); err != nil {
		t.Fatal(err)
	}

	w.answer = lastQuestions
	people := []*whatsapptest.Phone{w.phone("alice"), w.phone("bob"), w.phone("carol")}
	var talking errgroup.Group
	for i, p := range people {
		talking.Go(func() error {
			for n := i; n < messages; n += len(people) {
				if _, err := p.Say(ctx, w.owner.LID(), fmt.Sprintf("!ai question %d", n)); err != nil {
					return err
				}
				// Every third question waits for its answer; the others come in bursts.
				if n%3 != 0 {
					continue
				}
				want := fmt.Sprintf("question %d", n)
				if err := p.Wait(ctx, func(p *whatsapptest.Phone) bool { return answered(p, w.owner.LID(), want) > 0 }); err != nil {
					return fmt.Errorf("no answer to %q: %w", want, err)
				}
			}
			return nil
		})
	}
	for range kills {
		select {
		case <-time.After(time.Duration(random.IntN(400)) * time.Millisecond):
		case <-ctx.Done():
		}
		if err := w.kill(); err != nil {
			t.Fatal(err)
		}
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		// Every other kill may come while it starts.
		if random.IntN(2) == 0 {
			if err := w.online(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := talking.Wait(); err != nil {
		t.Fatalf("%v\nwabot's output:\n%s", err, w.bot.output.String())
	}
	for n := range messages {
		p, want := people[n%len(people)], fmt.Sprintf("question %d", n)
		if err := p.Wait(ctx, func(p *whatsapptest.Phone) bool { return answered(p, w.owner.LID(), want) > 0 }); err != nil {
			t.Errorf("%q was lost: %v", want, err)
		}
	}
	// All may have been answered before the last start, of which nothing was heard yet.
	if err := w.online(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	for n := range messages {
		p, want := people[n%len(people)], fmt.Sprintf("question %d", n)
		if got := answered(p, w.owner.LID(), want); got != 1 {
			t.Errorf("%q was answered %d times", want, got)
		}
	}
	w.sound(t)
}

// answered counts the bot's messages that answer a question. Those of a burst are answered
// together: the model here names them all.
func answered(p *whatsapptest.Phone, chatJID types.JID, question string) (n int) {
	for _, m := range p.Messages(chatJID) {
		if !m.FromMe && slices.Contains(strings.Split(strings.TrimPrefix(m.Text, "You said: "), ", "), question) {
			n++
		}
	}
	return n
}

// lastQuestions answers with all that was said since the model spoke last.
func lastQuestions(r llmtest.Request) string {
	var said []string
	for _, m := range slices.Backward(r.Messages) {
		if m.Role != "user" {
			break
		}
		said = append([]string{m.Text}, said...)
	}
	return "You said: " + strings.Join(said, ", ")
}
