package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"golang.org/x/sync/errgroup"

	"wabot/internal/llmtest"
	"wabot/internal/mongotest"
	"wabot/internal/whatsapptest"
)

var outageLasts = flag.Duration("outage-lasts", 3*time.Second, "how long each outage of the campaign lasts")

const (
	// recovery is how long after an outage the bot may take to answer again, without a hand.
	recovery = 30 * time.Second
	// growth bounds what the bot's memory may grow by over all outages, in bytes.
	growth = 64 << 20
)

// trouble is something around wabot that goes wrong for a time.
type trouble struct {
	name       string
	begin, end func()
	// code is what /readyz says while it lasts; empty where the bot is ready all the same.
	code string
	// late is set where it shows only when a ping has not been answered, or something was to be written.
	late bool
	// excused is set where a question may get an apology for an answer.
	excused bool
	// leaderless is set where wabot hands in the lease and stands by: it then has no connection whose silence it could tell of.
	leaderless bool
}

// troubles are those of a world. line is the way to its MongoDB, or nil.
func troubles(w *mongoWorld, c *control, line *mongotest.Line) []trouble {
	failing := func(which ...string) func() {
		return func() {
			c.on(func(call string) verdict {
				if len(which) == 0 || slices.ContainsFunc(which, func(p string) bool { return strings.HasPrefix(call, p) }) {
					return failBefore
				}
				return pass
			})
		}
	}
	whole := func() { c.on(nil) }
	model := func(f llmtest.Fault) func() { return func() { w.model.Fail(f) } }
	healthy := func() { w.model.Fail(llmtest.Fault{}) }
	all := []trouble{
		{name: "the store fails", begin: failing(), end: whole, code: "store_unavailable", late: true},
		{name: "the store takes no writes", begin: failing("Put", "SetNote", "SaveReply", "Claim", "Finish", "Retry", "Delete", "Clear"), end: whole, code: "store_unavailable", late: true},
		{name: "WhatsApp is away", begin: func() { w.whatsapp.SetDown(true) }, end: func() { w.whatsapp.SetDown(false) }, code: "not_connected"},
		{name: "WhatsApp is silent", begin: func() { w.whatsapp.Stall(w.device) }, end: func() { w.whatsapp.Unstall(w.device) }, code: "not_connected", late: true},
		{name: "WhatsApp is slow", begin: func() { w.whatsapp.SetLatency(300 * time.Millisecond) }, end: func() { w.whatsapp.SetLatency(0) }},
		{name: "the model is away", begin: w.model.Down, end: func() { w.do(w.model.Up()) }, excused: true},
		{name: "the model hangs", begin: model(llmtest.Fault{Kind: llmtest.Hang}), end: healthy, excused: true},
		{name: "the model is slow", begin: model(llmtest.Fault{Kind: llmtest.Slow, Delay: 400 * time.Millisecond}), end: healthy},
		{name: "the model fails", begin: model(llmtest.Fault{Kind: llmtest.Internal}), end: healthy, excused: true},
		{name: "the model breaks off", begin: model(llmtest.Fault{Kind: llmtest.CutStream, After: 1}), end: healthy, excused: true},
	}
	if line == nil {
		return all
	}
	return append(all,
		trouble{name: "MongoDB is away", begin: line.Break, end: line.Mend, code: "store_unavailable", leaderless: true},
		trouble{name: "MongoDB is silent", begin: line.Stall, end: line.Resume, code: "store_unavailable", leaderless: true},
		trouble{name: "MongoDB's disk is full", begin: func() { line.OnCommand(func(string) mongotest.Fault { return mongotest.Full }) }, end: func() { line.OnCommand(nil) }, code: "store_unavailable", late: true, leaderless: true},
		trouble{name: "MongoDB is slow", begin: func() { line.Delay(500 * time.Millisecond) }, end: func() { line.Delay(0) }},
	)
}

// Whatever fails around wabot, alone or two at a time, costs no message and doubles none; /readyz tells while it lasts; and
// half a minute after its end the bot answers again by itself.
func TestOutageCampaign(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, store string) {
		w, c, line := newControlled(t, store, "LEASE=4s", "DEBOUNCE=0s", "MODEL_TIMEOUT=10s", "MODEL_IDLE_TIMEOUT=2s", "BACKLOG_MAX_AGE=1h")
		all := troubles(w, c, line)
		if long || *campaign > 0 {
			all = append(all, clocks(t, w)...)
		}
		if line == nil {
			all = append(all, disks(t, w)...)
		}
		w.do(w.pair(withPatience(t)))
		outages(t, w, all)
	})
}

// outages lets the troubles come, alone and in pairs: as many of them as -campaign says, a few without, or all in the long form.
func outages(t *testing.T, w *mongoWorld, all []trouble) {
	var days [][]trouble
	for i := range all {
		days = append(days, all[i:i+1])
		for j := range i {
			days = append(days, []trouble{all[j], all[i]})
		}
	}
	seed := *campaignSeed
	random := rand.New(rand.NewPCG(seed, 1))
	random.Shuffle(len(days), func(i, j int) { days[i], days[j] = days[j], days[i] })
	if n := cmp.Or(*campaign, 4); !long {
		days = days[:min(n, len(days))]
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(len(days))*(*outageLasts+4*patience))
	defer cancel()
	people := []*asker{{phone: w.phone("alice"), chat: w.owner.LID()}, {phone: w.phone("bob"), chat: w.owner.LID()}}
	for _, p := range people {
		w.do(p.ask(ctx))
		w.do(p.heard(ctx))
	}
	before := w.memory()
	var longest time.Duration
	for _, day := range days {
		var names []string
		for _, tr := range day {
			names = append(names, tr.name)
		}
		name := strings.Join(names, ", ")
		took, err := w.live(ctx, day, people)
		if took > recovery && err == nil {
			t.Logf("%s: answers again after %v; once more, as the machine may have stood still", name, took.Round(10*time.Millisecond))
			took, err = w.live(ctx, day, people)
		}
		if took > recovery && err == nil {
			err = fmt.Errorf("answers again after %v, want %v", took, recovery)
		}
		if err != nil {
			t.Fatalf("%s (-campaign-seed %d): %v", name, seed, err)
		}
		t.Logf("%s: answers again after %v", name, took.Round(10*time.Millisecond))
		longest = max(longest, took)
	}
	asked := 0
	for _, p := range people {
		asked += p.n
		for _, wrong := range p.wrong() {
			t.Error(wrong)
		}
	}
	grown := w.memory() - before
	t.Logf("%d outages, %d messages, none lost, none answered twice; the slowest recovery took %v; memory grew by %d KiB", len(days), asked, longest.Round(10*time.Millisecond), grown>>10)
	if grown > growth {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	w.do(w.stop())
	for _, f := range w.whatsapp.CounterFaults() {
		t.Error(f)
	}
	if n := strings.Count(w.bot.output.String(), "Link wabot to"); n != 1 {
		t.Errorf("asked to be paired %d times", n)
	}
}

// live lets troubles come and go while people ask, and tells how long after them the bot took to answer everybody.
func (w *mongoWorld) live(ctx context.Context, day []trouble, people []*asker) (time.Duration, error) {
	for _, tr := range day {
		tr.begin()
	}
	begun := time.Now()
	ended := false
	end := func() {
		if ended {
			return
		}
		ended = true
		for _, tr := range slices.Backward(day) {
			tr.end()
		}
	}
	defer end()
	excused := slices.ContainsFunc(day, func(tr trouble) bool { return tr.excused })
	for _, p := range people {
		if err := p.ask(ctx); err != nil {
			return 0, err
		}
		if excused {
			p.excused = append(p.excused, p.n)
		}
	}
	leaderless := slices.ContainsFunc(day, func(tr trouble) bool { return tr.leaderless })
	for _, tr := range day {
		if tr.code == "" || tr.late && (!long && *campaign == 0 || leaderless && tr.code == "not_connected") {
			continue
		}
		if err := w.tells(ctx, tr.code); err != nil {
			return 0, err
		}
	}
	select {
	case <-time.After(max(0, *outageLasts-time.Since(begun))):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	end()
	over := time.Now()
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var g errgroup.Group
	for _, p := range people {
		g.Go(func() error {
			if err := p.heard(wait); err != nil {
				return err
			}
			if err := p.ask(wait); err != nil {
				return err
			}
			return p.heard(wait)
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("%v after its end: %w", time.Since(over).Round(time.Second), err)
	}
	took := time.Since(over)
	return took, w.tells(ctx, "")
}

// tells waits until /readyz gives the code, with a reason and the next step, or none where the code is empty.
func (w *mongoWorld) tells(ctx context.Context, code string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		status, body, err := w.world.ask(ctx, "/readyz", "")
		if err != nil {
			return fmt.Errorf("ask /readyz until it says %q: %w", code, err)
		}
		var r struct {
			Codes        []string
			Reason, Next string
		}
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return fmt.Errorf("read /readyz: %w", err)
		}
		if code == "" && status == 200 || slices.Contains(r.Codes, code) && r.Reason != "" && r.Next != "" {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("/readyz does not say %q, with a reason and the next step, but %s", code, body)
		}
	}
}

// memory is what the running wabot has resident, in bytes.
func (w *mongoWorld) memory() int64 {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.bot.cmd.Process.Pid))
	w.do(err)
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	w.do(err)
	return pages * int64(os.Getpagesize())
}

// asker is a person who asks one thing after the other.
type asker struct {
	phone *whatsapptest.Phone
	chat  types.JID
	n     int
	// excused are the questions that may get an apology, by number.
	excused []int
}

func (p *asker) ask(ctx context.Context) error {
	p.n++
	_, err := p.phone.Say(ctx, p.chat, fmt.Sprintf("!ai question %d", p.n))
	return err
}

// replies are what the bot has said to each question: the answer, or that there is none.
func (p *asker) replies() (all []string) {
	for _, m := range p.phone.Messages(p.chat) {
		if !m.FromMe {
			all = append(all, m.Text)
		}
	}
	return all
}

// heard waits for as many replies as there were questions.
func (p *asker) heard(ctx context.Context) error {
	if err := p.phone.Wait(ctx, func(*whatsapptest.Phone) bool { return len(p.replies()) >= p.n }); err != nil {
		return fmt.Errorf("%d questions of %s have %d replies: %w", p.n, p.phone.Name(), len(p.replies()), err)
	}
	return nil
}

// wrong says which questions have not exactly one reply, their answer, or an apology where that is excused.
func (p *asker) wrong() (all []string) {
	replies := p.replies()
	if len(replies) != p.n {
		all = append(all, fmt.Sprintf("%d questions of %s have %d replies", p.n, p.phone.Name(), len(replies)))
	}
	for i, text := range replies {
		if sorry := strings.HasPrefix(text, "Sorry, "); sorry && slices.Contains(p.excused, i+1) {
			continue
		}
		if text != fmt.Sprintf("You said: question %d", i+1) {
			all = append(all, fmt.Sprintf("reply %d to %s is %q", i+1, p.phone.Name(), text))
		}
	}
	return all
}
