package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"wabot/internal/mongostore"
	"wabot/internal/mongotest"
)

// takeover is how long it may take until another process leads when the one that led is gone.
const takeover = 15 * time.Second

// instance is one of several processes with one database.
type instance struct {
	*process
	line *mongotest.Line
}

// leads reports whether the process says that it is logged in.
func (i *instance) leads(ctx context.Context) bool {
	found := pageURL.FindStringSubmatch(i.output.String())
	if found == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", strings.TrimSuffix(found[1], "/")+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return false // it is dead, or frozen
	}
	defer res.Body.Close()
	var body struct {
		Ready bool
		State string
	}
	return json.NewDecoder(res.Body).Decode(&body) == nil && body.Ready && body.State == "online"
}

// leader waits until one of the instances, but not the one that is excepted, leads.
func leader(ctx context.Context, all []*instance, but *instance) (*instance, error) {
	for {
		for _, i := range all {
			if i != but && i.leads(ctx) {
				return i, nil
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a leader: %w", ctx.Err())
		}
	}
}

// Whatever happens to the process that leads, another follows within takeover, never beside it; no message is lost or
// answered twice, and no counter used twice.
func TestInstancesCampaign(t *testing.T) {
	sparingly(t)
	t.Parallel()
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprintf("%d instances", n), func(t *testing.T) {
			events := *campaign
			if events == 0 {
				if events = 2; n > 2 {
					t.Skip("two are enough for the short form")
				}
			}
			t.Parallel()
			instances(t, n, events)
		})
	}
}

func instances(t *testing.T, n, events int) {
	w := newMongoWorld(t, "ALLOW=*")
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience+time.Duration(events)*time.Minute)
	defer cancel()
	line := mongotest.NewLine(t)
	w.do(w.pair(ctx, over(line)))
	all := []*instance{{w.bot, line}}
	for range n - 1 {
		l := line.Another()
		w.do(w.start(over(l)))
		w.do(w.bot.says(ctx, "Standing by"))
		all = append(all, &instance{w.bot, l})
	}
	talking, quiet := context.WithCancel(ctx)
	defer quiet()
	people := []*asker{{phone: w.phone("alice"), chat: w.owner.LID()}, {phone: w.phone("bob"), chat: w.owner.LID()}}
	var g errgroup.Group
	for _, p := range people {
		g.Go(func() error {
			for talking.Err() == nil {
				if err := p.ask(ctx); err != nil {
					return err
				}
				if err := p.heard(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	random := rand.New(rand.NewPCG(*campaignSeed, uint64(n)))
	longest := map[string]time.Duration{}
	late := 0
	for i := 0; i < events+late; i++ {
		led, err := leader(ctx, all, nil)
		w.do(err)
		what, undo := w.befall(ctx, led, random)
		begun := time.Now()
		if what == "WhatsApp hangs up" {
			// It connects again itself, or another does.
			led = nil
		}
		wait, cancel := context.WithTimeout(ctx, patience)
		_, err = leader(wait, all, led)
		cancel()
		took := time.Since(begun)
		if took > takeover && late == 0 && err == nil {
			late++ // the machine may have stood still, and there is one event more
		} else if took > takeover || err != nil {
			t.Fatalf("%s (-campaign-seed %d): no other within %v but %v: %v", what, *campaignSeed, takeover, took, err)
		}
		longest[what] = max(longest[what], took)
		undo()
	}
	quiet()
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	asked := 0
	for _, p := range people {
		asked += p.n
		for _, wrong := range p.wrong() {
			t.Error(wrong)
		}
	}
	t.Logf("%d instances, %d events, %d messages, each answered once; the slowest takeovers: %v", n, events, asked, longest)
	for _, i := range all {
		w.do(i.stop())
	}
	for _, f := range w.whatsapp.CounterFaults() {
		t.Error(f)
	}
	for i, b := range w.bots {
		if i > 0 && strings.Contains(b.output.String(), "Link wabot to") {
			t.Errorf("process %d asked to be paired", i+1)
		}
	}
}

// befall lets something happen to the process that leads. undo brings it back, to stand by.
func (w *mongoWorld) befall(ctx context.Context, led *instance, random *rand.Rand) (what string, undo func()) {
	again := func() {
		w.do(w.start(over(led.line)))
		led.process = w.bot
		w.do(led.says(ctx, "Standing by"))
	}
	switch random.IntN(6) {
	case 0:
		led.cmd.Process.Kill()
		<-led.exited
		return "killed", again
	case 1:
		w.do(led.stop())
		return "stopped", again
	case 2:
		w.takeovers++
		led.cmd.Process.Signal(syscall.SIGSTOP)
		// It comes back later than its lease has ended.
		thaw := time.After(mongostore.DefaultLease + time.Second)
		return "frozen", func() { <-thaw; led.cmd.Process.Signal(syscall.SIGCONT) }
	case 3:
		led.line.Break()
		return "cut from the database", led.line.Mend
	case 4:
		led.line.Stall()
		return "stalled by the database", led.line.Resume
	}
	w.whatsapp.Drop(w.device)
	return "WhatsApp hangs up", func() {}
}
