package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
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
	way  *way
}

// way is the way of one process to WhatsApp, which can be shut.
type way struct {
	net.Listener
	mu     sync.Mutex
	closed bool
	conns  []net.Conn
}

func (w *mongoWorld) way() *way {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.do(err)
	w.t.Cleanup(func() { l.Close() })
	to, err := url.Parse(w.whatsapp.ProxyURL())
	w.do(err)
	v := &way{Listener: l}
	go accept(v, to.Host)
	return v
}

// setting is the setting by which a process takes the way.
func (v *way) setting() string { return "HTTPS_PROXY=http://" + v.Addr().String() }

// Accept implements net.Listener. Where the way is shut a connection breaks as soon as it is made.
func (v *way) Accept() (net.Conn, error) {
	c, err := v.Listener.Accept()
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conns = append(v.conns, c)
	if v.closed {
		c.Close()
	}
	return c, nil
}

// shut shuts the way or opens it again.
func (v *way) shut(closed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = closed
	if closed {
		for _, c := range v.conns {
			c.Close()
		}
		v.conns = nil
	}
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
	way := w.way()
	w.do(w.pair(ctx, over(line), way.setting()))
	all := []*instance{{w.bot, line, way}}
	for range n - 1 {
		l, way := line.Another(), w.way()
		w.do(w.start(over(l), way.setting()))
		w.do(w.bot.says(ctx, "Standing by"))
		all = append(all, &instance{w.bot, l, way})
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

// Where all are cut off from WhatsApp they take turns in trying, more and more slowly, and one answers once its way is whole.
func TestAllCutFromWhatsApp(t *testing.T) {
	sparingly(t)
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	w := newMongoWorld(t)
	line, ways := mongotest.NewLine(t), []*way{w.way(), w.way()}
	w.do(w.pair(ctx, over(line), ways[0].setting()))
	first := w.bot
	w.do(w.start(over(line.Another()), ways[1].setting()))
	second := w.bot
	w.do(second.says(ctx, "Standing by"))
	w.ask(ctx, "alice", "one")
	w.answers(ctx, "alice", "one")
	for _, v := range ways {
		v.shut(true)
	}
	w.ask(ctx, "alice", "two")
	w.do(first.says(ctx, `another process may drive the device now.* pause=6s`))
	w.do(second.says(ctx, `another process may drive the device now.* pause=6s`))
	w.do(first.says(ctx, `another process may drive the device now.* pause=12s`))
	ways[0].shut(false)
	w.answers(ctx, "alice", "one", "two")
	w.do(second.stop())
	w.do(first.stop())
}

// A turn that is at work when its process is cut off from WhatsApp holds up the one that follows no longer than a stop would, and is
// answered once.
func TestCutFromWhatsAppWhileAnswering(t *testing.T) {
	sparingly(t)
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	w := newMongoWorld(t)
	line, way := mongotest.NewLine(t), w.way()
	w.do(w.pair(ctx, over(line), way.setting()))
	first := w.bot
	w.do(w.start(over(line.Another())))
	second := w.bot
	w.do(second.says(ctx, "Standing by"))
	tell := w.hang(ctx, "alice", "one")
	way.shut(true)
	begun := time.Now()
	w.do(second.says(ctx, "Online as "))
	t.Logf("the second process was online after %v", time.Since(begun).Round(10*time.Millisecond))
	tell()
	way.shut(false)
	w.answers(ctx, "alice", "one")
	w.do(second.stop())
	w.do(first.stop())
}

// befall lets something happen to the process that leads. undo brings it back, to stand by.
func (w *mongoWorld) befall(ctx context.Context, led *instance, random *rand.Rand) (what string, undo func()) {
	again := func() {
		w.do(w.start(over(led.line), led.way.setting()))
		led.process = w.bot
		w.do(led.says(ctx, "Standing by"))
	}
	switch random.IntN(7) {
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
	case 5:
		led.way.shut(true)
		return "cut from WhatsApp", func() { led.way.shut(false) }
	}
	w.whatsapp.Drop(w.device)
	return "WhatsApp hangs up", func() {}
}
