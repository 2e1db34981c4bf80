package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"wabot/internal/mongotest"
	"wabot/internal/whatsapptest"
)

// count counts the commands of a line from now on.
func count(line *mongotest.Line) func() int {
	var n atomic.Int64
	line.OnCommand(func(string) mongotest.Fault {
		n.Add(1)
		return mongotest.None
	})
	return func() int { return int(n.Load()) }
}

// result is what one round measured of a peer.
type result struct {
	login        time.Duration // from the start
	ready        time.Duration // from the start until /readyz says so, zero for a peer that has none
	p50, p99     time.Duration // from a question to its answer, in one chat
	one, many    float64       // messages a second: one chat, many chats
	manyP99      time.Duration
	cpu          time.Duration // for each message, in many chats
	allocs       float64       // for each message, in many chats
	idle, loaded float64       // bytes
	commands     float64       // to MongoDB, for each message in one chat
}

// measure measures each peer in each round.
func (w *world) measure(ctx context.Context, peers []*peer, l load, progress io.Writer) (map[*peer][]result, error) {
	for _, p := range peers {
		fmt.Fprintf(progress, "pairing %s\n", p.name)
		if err := p.pair(ctx, w); err != nil {
			return nil, fmt.Errorf("pair %s: %w", p.name, err)
		}
	}
	all := map[*peer][]result{}
	for round := range l.rounds {
		for i := range peers {
			p := peers[(i+round)%len(peers)]
			fmt.Fprintf(progress, "round %d: %s\n", round+1, p.name)
			r, err := w.round(ctx, p, l)
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", p.name, err)
			}
			all[p] = append(all[p], r)
		}
	}
	return all, nil
}

// round is one run of a peer.
func (w *world) round(ctx context.Context, p *peer, l load) (r result, err error) {
	begin := time.Now()
	run, err := p.start(w)
	if err != nil {
		return r, err
	}
	defer run.kill()
	p.logins++
	if err := w.whatsapp.WaitLogins(ctx, p.device, p.logins); err != nil {
		return r, err
	}
	r.login = time.Since(begin)
	if p.readyz {
		if err := run.ready(ctx); err != nil {
			return r, err
		}
		r.ready = time.Since(begin)
	}
	if err := w.whatsapp.WaitSettled(ctx, p.device); err != nil {
		return r, err
	}
	select {
	case <-time.After(l.idle):
	case <-ctx.Done():
		return r, ctx.Err()
	}
	before, err := run.vitals(ctx)
	if err != nil {
		return r, err
	}
	r.idle = before.memory

	// What is looked up for the first messages only is not the cost of a message.
	t := newTalker(w, "one", p)
	if err := t.exchange(ctx, min(10, l.messages), nil); err != nil {
		return r, err
	}
	var took []time.Duration
	commands := w.commands()
	begin = time.Now()
	if err := t.exchange(ctx, l.messages, &took); err != nil {
		return r, err
	}
	r.one = float64(l.messages) / time.Since(begin).Seconds()
	r.commands = float64(w.commands()-commands) / float64(l.messages)
	r.p50, r.p99 = quantile(took, 0.5), quantile(took, 0.99)

	talkers := make([]*talker, l.chats)
	var g errgroup.Group
	for i := range talkers {
		talkers[i] = newTalker(w, fmt.Sprintf("many%d", i), p)
		g.Go(func() error { return talkers[i].exchange(ctx, 1, nil) })
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	if before, err = run.vitals(ctx); err != nil {
		return r, err
	}
	times := make([][]time.Duration, l.chats)
	begin = time.Now()
	for i, t := range talkers {
		g.Go(func() error { return t.exchange(ctx, l.each, &times[i]) })
	}
	if err := g.Wait(); err != nil {
		return r, err
	}
	n := float64(l.chats * l.each)
	r.many = n / time.Since(begin).Seconds()
	r.manyP99 = quantile(slices.Concat(times...), 0.99)
	after, err := run.vitals(ctx)
	if err != nil {
		return r, err
	}
	r.cpu = time.Duration(float64(after.cpu-before.cpu) / n)
	r.allocs = (after.allocs - before.allocs) / n
	r.loaded = after.memory
	return r, run.stop()
}

// talker is a person who talks with a peer.
type talker struct {
	phone *whatsapptest.Phone
	peer  *peer
	said  int
}

func newTalker(w *world, name string, p *peer) *talker {
	return &talker{phone: w.whatsapp.NewPhone(name), peer: p}
}

// exchange says n things, each after the answer to the one before, and adds to took how long each answer took.
func (t *talker) exchange(ctx context.Context, n int, took *[]time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // the stand-in for MongoDB slows down with what it holds
	defer cancel()
	chat := t.peer.owner.LID()
	for range n {
		t.said++
		text := fmt.Sprintf("thing %d", t.said)
		begin := time.Now()
		if _, err := t.phone.Say(ctx, chat, text); err != nil {
			return err
		}
		if _, err := t.phone.Hear(ctx, chat, "You said: "+text); err != nil {
			return fmt.Errorf("no answer from %s: %w", t.peer.name, err)
		}
		if took != nil {
			*took = append(*took, time.Since(begin))
		}
	}
	return nil
}

// quantile is the value that the share q of all does not exceed.
func quantile[T time.Duration | float64](all []T, q float64) T {
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)-1, int(q*float64(len(all))))]
}
