package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
	"golang.org/x/sync/errgroup"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/llmtest"
	"wabot/internal/mongostore"
	"wabot/internal/sqlitestore"
	"wabot/internal/whatsapptest"
)

// The campaigns kill or hinder the real program for as long as they are told to and count what came of it. All they
// do follows from a seed, but for the moments at which things happen; a campaign that was stopped goes on where
// -campaign-from says.
var (
	campaign     = flag.Int("campaign", 0, "how many kills, outages or events there are on each store; a few without")
	campaignFrom = flag.Int("campaign-from", 0, "the first battle, from 0, to go on with a campaign that was stopped")
	campaignSeed = flag.Uint64("campaign-seed", 1, "what the campaign follows from")
)

const (
	// battle is how many kills there are in one world; the next has a new account and a new store.
	battle = 25
	// brief is how many kills there are without -campaign.
	brief = 6
)

// tally is what a campaign has found.
type tally struct {
	kills, sent, answered, revoked, charged              int
	givenUp, lost, doubled, counters, pairing, recharged int
}

func (s *tally) add(o tally) {
	s.kills, s.sent, s.answered, s.revoked = s.kills+o.kills, s.sent+o.sent, s.answered+o.answered, s.revoked+o.revoked
	s.givenUp, s.lost, s.doubled = s.givenUp+o.givenUp, s.lost+o.lost, s.doubled+o.doubled
	s.counters, s.pairing = s.counters+o.counters, s.pairing+o.pairing
	s.charged, s.recharged = s.charged+o.charged, s.recharged+o.recharged
}

func (s tally) String() string {
	return fmt.Sprintf("kills %d; messages sent %d, answered %d, revoked %d, given up %d, charges %d; lost %d, visible duplicates %d, counters reused %d, QR codes asked for again %d, turns charged twice %d",
		s.kills, s.sent, s.answered, s.revoked, s.givenUp, s.charged, s.lost, s.doubled, s.counters, s.pairing, s.recharged)
}

// While people write in three chats, in bursts, with edits, revokes and pictures, wabot is killed at random moments and at random
// calls of its store: every question is answered once, in its last form.
func TestKillCampaign(t *testing.T) {
	t.Parallel()
	for store := range stores {
		t.Run(store, func(t *testing.T) {
			kills := *campaign
			if kills == 0 {
				kills = brief
				if store == "mongo" {
					sparingly(t)
					kills = brief / 2
				}
			}
			t.Parallel()
			var sum tally
			for n := *campaignFrom; n*battle < kills; n++ {
				sum.add(fight(t, store, *campaignSeed, n, min(battle, kills-n*battle), nil))
				t.Logf("after battle %d: %v", n, sum)
				if t.Failed() {
					t.Fatalf("to see it again: -run 'TestKillCampaign/%s' -campaign %d -campaign-seed %d -campaign-from %d", store, kills, *campaignSeed, n)
				}
			}
		})
	}
}

// fight is one battle of a campaign, in a world that change, if there is one, has made another.
func fight(t *testing.T, store string, seed uint64, n, kills int, change func(*mongoWorld)) (s tally) {
	t.Helper()
	w, c := newSweepWorld(t, store)
	w.env = append(w.env, "ALLOW=*", "DEBOUNCE=200ms", "LOG_LEVEL=info")
	if change != nil {
		change(w)
	}
	w.answer = lastQuestions
	var served calls
	w.model.Tokens = served.serve
	w.do(w.pair(withPatience(t)))
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(kills)*20*time.Second)
	defer cancel()
	team, err := w.phone("alice").Group(ctx, "team", w.phone("bob").LID(), w.owner.LID())
	w.do(err)

	random := rand.New(rand.NewPCG(seed, uint64(n)))
	talking, quiet := context.WithCancel(ctx)
	defer quiet()
	var people []*correspondent
	var g errgroup.Group
	for i, who := range []struct {
		name string
		chat types.JID
	}{{"alice", w.owner.LID()}, {"bob", team}, {"carol", w.owner.LID()}} {
		p := &correspondent{phone: w.phone(who.name), chat: who.chat, mark: string(rune('a' + i)), random: rand.New(rand.NewPCG(seed, uint64(n*10+i+1)))}
		people = append(people, p)
		g.Go(func() error { return p.talk(ctx, talking.Done()) })
	}
	for range kills {
		w.strike(ctx, c, random)
		s.kills++
		if t.Failed() {
			return s
		}
	}
	quiet()
	w.do(w.online(ctx))
	w.do(g.Wait())
	for _, p := range people {
		s.add(p.judge(ctx, t))
	}
	w.do(w.stop())
	charges, err := w.charges(ctx)
	w.do(err)
	s.charged = len(charges)
	for _, twice := range served.twice(charges) {
		s.recharged++
		t.Error(twice)
	}
	for _, f := range w.whatsapp.CounterFaults() {
		s.counters++
		t.Error(f)
	}
	for _, b := range w.bots {
		s.pairing += strings.Count(b.output.String(), "Link wabot to")
	}
	if s.pairing--; s.pairing != 0 { // the first was asked for
		t.Errorf("asked for a QR code %d times more", s.pairing)
	}
	w.sound(t)
	return s
}

// calls are those that the model has served. Each is told apart by the tokens its prompt is said to have.
type calls struct {
	mu     sync.Mutex
	served []string // what each answers; empty for a summary, which is of no turn, and made again where a kill has lost it
}

func (c *calls) serve(r llmtest.Request) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := lastQuestions(r)
	if strings.HasPrefix(r.Messages[0].Text, "You keep the memory of a chat") {
		what = ""
	}
	c.served = append(c.served, what)
	return len(c.served)
}

// twice says which calls are in the ledger more than once, which turns with more than one call, and which charges are for no call.
func (c *calls) twice(charges []chat.Charge) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call, turn := map[int]int{}, map[string]int{}
	for _, x := range charges {
		if x.Kind != chat.ForText {
			continue
		}
		if x.Prompt < 1 || x.Prompt > len(c.served) {
			all = append(all, fmt.Sprintf("a charge is for no call: %+v", x))
			continue
		}
		what := c.served[x.Prompt-1]
		if call[x.Prompt]++; call[x.Prompt] == 2 {
			all = append(all, fmt.Sprintf("the call for %q was charged twice", what))
		} else if turn[what]++; turn[what] == 2 && what != "" {
			all = append(all, fmt.Sprintf("the turn of %q was charged twice", what))
		}
	}
	return all
}

// charges is what the bot, which must not run, has recorded of the calls of models.
func (w *mongoWorld) charges(ctx context.Context) (all []chat.Charge, err error) {
	var store budget.Store
	if w.setting("MONGO_ENABLED") == "True" {
		s, err := mongostore.Open(ctx, mongostore.Options{URL: w.setting("MONGO_URL"), Look: true})
		if err != nil {
			return nil, err
		}
		defer s.Close(ctx)
		store = s
	} else {
		s, err := sqlitestore.Open(ctx, filepath.Join(w.dir, "session"), slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		defer s.Close()
		store = s
	}
	err = store.Charges(ctx, time.Time{}.AddDate(1970, 0, 0), time.Now().Add(time.Hour), func(c chat.Charge) error {
		all = append(all, c)
		return nil
	})
	return all, err
}

// setting is what the bot's environment says of a name.
func (w *mongoWorld) setting(name string) (value string) {
	for _, s := range w.env {
		if v, ok := strings.CutPrefix(s, name+"="); ok {
			value = v
		}
	}
	return value
}

// strike kills wabot at one of its next calls of the store, or in a while whatever it does, and starts it again.
func (w *mongoWorld) strike(ctx context.Context, c *control, random *rand.Rand) {
	w.t.Helper()
	k := 1 + random.IntN(120)
	if random.IntN(2) == 0 {
		k = never
	}
	delay := time.Duration(random.IntN(1500)) * time.Millisecond
	a := w.spring(c, "kills", k)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	late := time.NewTimer(5 * time.Second) // there may be less to do than so many calls
	defer late.Stop()
	after := timer.C
	if k != never {
		after = late.C
	}
	select {
	case <-a.sprung:
	case <-after:
	case <-ctx.Done():
	}
	a.remove()
	w.bot.cmd.Process.Kill()
	<-w.bot.exited
	if w.disk != "" {
		w.do(w.cut())
	}
	w.do(w.startAgain(ctx))
	// Every other kill may come while it starts.
	if random.IntN(2) == 0 {
		w.do(w.online(ctx))
	}
}

// correspondent is a person who writes in one chat, and knows what is to be answered there.
type correspondent struct {
	phone  *whatsapptest.Phone
	chat   types.JID
	mark   string // begins the questions of this person
	random *rand.Rand

	n       int
	open    []string // questions that stand, in their last form
	gone    []string // those that were taken back, or have another form
	revoked int
}

// ask sends a question, and returns its ID.
func (p *correspondent) ask(ctx context.Context, picture bool) (question string, id types.MessageID, err error) {
	p.n++
	question = fmt.Sprintf("%s%d", p.mark, p.n)
	d := whatsapptest.Draft{Text: "!ai " + question}
	if picture {
		d.Image = &whatsapptest.Media{Data: []byte("a picture"), Mime: "image/jpeg"}
	}
	if id, err = p.phone.Send(ctx, p.chat, d); err == nil {
		p.open = append(p.open, question)
	}
	return question, id, err
}

// replace notes that a question has another form, or none.
func (p *correspondent) replace(question, form string) {
	for i, q := range p.open {
		if q != question {
			continue
		}
		p.gone = append(p.gone, question)
		if p.open[i] = form; form == "" {
			p.open = append(p.open[:i], p.open[i+1:]...)
		}
		return
	}
}

// answers counts the visible messages of the bot that answer a question.
func (p *correspondent) answers(question string) (n int) {
	for _, m := range p.phone.Messages(p.chat) {
		if m.FromMe || m.Revoked {
			continue
		}
		for _, q := range questionPattern.FindAllString(m.Text, -1) {
			if q == question {
				n++
			}
		}
	}
	return n
}

var questionPattern = regexp.MustCompile(`\b[a-c][0-9]+x?\b`)

// talk writes until done is closed.
func (p *correspondent) talk(ctx context.Context, done <-chan struct{}) error {
	for {
		select {
		case <-done:
			return nil
		case <-time.After(time.Duration(p.random.IntN(300)) * time.Millisecond):
		}
		question, id, err := p.ask(ctx, p.random.IntN(6) == 0)
		if err != nil {
			return err
		}
		answered := func(*whatsapptest.Phone) bool { return p.answers(question) > 0 }
		switch p.random.IntN(8) {
		case 0: // a burst
			for range 2 {
				if _, _, err := p.ask(ctx, false); err != nil {
					return err
				}
			}
		case 1, 2: // an edit, of what waits or of what was answered
			if p.random.IntN(2) == 0 {
				if err := p.phone.Wait(ctx, answered); err != nil {
					return fmt.Errorf("no answer to %s before its edit: %w", question, err)
				}
			}
			if err := p.phone.Edit(ctx, p.chat, id, "!ai "+question+"x"); err != nil {
				return err
			}
			p.replace(question, question+"x")
		case 3: // a revoke
			if p.random.IntN(2) == 0 {
				if err := p.phone.Wait(ctx, answered); err != nil {
					return fmt.Errorf("no answer to %s before its revoke: %w", question, err)
				}
			}
			if err := p.phone.Revoke(ctx, p.chat, id); err != nil {
				return err
			}
			p.replace(question, "")
			p.revoked++
		case 4, 5: // a person who waits
			if err := p.phone.Wait(ctx, answered); err != nil {
				return fmt.Errorf("no answer to %s: %w", question, err)
			}
		}
	}
}

// judge counts what became of the questions, once that is settled.
func (p *correspondent) judge(ctx context.Context, t *testing.T) (s tally) {
	t.Helper()
	settled := func(*whatsapptest.Phone) bool {
		for _, q := range p.open {
			if p.answers(q) != 1 {
				return false
			}
		}
		for _, q := range p.gone {
			if p.answers(q) != 0 {
				return false
			}
		}
		return true
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := p.phone.Wait(wait, settled)
	s.sent, s.revoked = p.n, p.revoked
	for _, q := range p.open {
		switch n := p.answers(q); {
		case n == 0:
			s.lost++
			t.Errorf("%s was lost (%v)", q, err)
		case n > 1:
			s.doubled++
			t.Errorf("%s was answered %d times", q, n)
		default:
			s.answered++
		}
	}
	for _, q := range p.gone {
		if n := p.answers(q); n != 0 {
			s.doubled++
			t.Errorf("%s, which was taken back, is answered still", q)
		}
	}
	for _, m := range p.phone.Messages(p.chat) {
		if !m.FromMe && strings.HasPrefix(m.Text, "Sorry") {
			s.givenUp++
			t.Errorf("the bot gave up: %q", m.Text)
		}
	}
	return s
}
