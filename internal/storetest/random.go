package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// random runs random calls on the store and on the model, and compares what they say.
func random(t *testing.T, b *box) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		p := &pair{T: rt, b: b, model: new(Memory), prefix: fmt.Sprint(run, ".")}
		// Runs follow each other on one store; time goes on.
		p.now = at(float64(run) * 1e6)
		p.empty(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"put":     p.put,
			"again":   p.again,
			"claim":   p.claim,
			"save":    p.save,
			"finish":  p.finish,
			"retry":   p.retry,
			"fail":    p.fail,
			"amend":   p.amend,
			"extend":  p.extend,
			"wait":    func(rt *rapid.T) { p.now = p.now.Add(p.seconds(rt)) },
			"release": func(rt *rapid.T) { p.same(rt, "release", b.Release(t.Context()), p.model.Release(t.Context())) },
			"":        p.compare,
		})
		p.drain(rt)
	})
}

// empty answers what a run that was given up has left in the store.
func (p *pair) empty(t *rapid.T) {
	ctx := p.b.t.Context()
	err := p.b.Release(ctx)
	for err == nil {
		var turn chat.Turn
		if turn, err = p.b.Claim(ctx, p.now, p.now.Add(time.Second)); err == nil {
			err = p.b.Finish(ctx, turn, p.now)
		}
	}
	if !errors.Is(err, inbox.ErrEmpty) {
		t.Fatalf("empty the store: %v", err)
	}
}

// pair is a store and its model, and the turns claimed from both.
type pair struct {
	*rapid.T
	b      *box
	model  *Memory
	prefix string // of this run's chats
	now    time.Time
	n      int
	sent   []chat.Message
	turns  [][2]chat.Turn // the store's and the model's
}

// tick moves time on: no two writes are at one time.
func (p *pair) tick() time.Time {
	p.now = p.now.Add(time.Millisecond)
	return p.now
}

func (p *pair) seconds(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second
}

// same expects that both succeeded or both said the same.
func (p *pair) same(t *rapid.T, doing string, got, want error) {
	for _, known := range []error{inbox.ErrEmpty, inbox.ErrLeaseLost, inbox.ErrUnknown} {
		if errors.Is(want, known) && errors.Is(got, known) {
			return
		}
	}
	if got != nil || want != nil {
		t.Fatalf("%s: %v, want %v", doing, got, want)
	}
}

// address draws one of four chats: two people with two addresses each, or one of two groups.
func (p *pair) message(t *rapid.T) chat.Message {
	who := p.prefix + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "who")
	m := chat.Message{ID: fmt.Sprint(p.n), Time: at(0), Text: fmt.Sprint("text ", p.n), Kind: chat.Text}
	p.n++
	lid, pn := who+"@lid", who+"@s.whatsapp.net"
	switch rapid.SampledFrom([]string{"pn", "lid", "both", "group"}).Draw(t, "address") {
	case "pn":
		m.Chat, m.Sender = pn, pn
	case "lid":
		m.Chat, m.Sender = lid, lid
	case "both":
		m.Chat, m.ChatAlt, m.Sender, m.SenderAlt = lid, pn, lid, pn
	case "group":
		m.Chat, m.Sender, m.Group = who+"@g.us", lid, true
	}
	if !m.Group && rapid.IntRange(0, 4).Draw(t, "from me") == 0 {
		m.Sender, m.SenderAlt, m.FromMe = me, "", true
	}
	return m
}

func (p *pair) store(t *rapid.T, m chat.Message) {
	now := p.tick()
	if rapid.IntRange(0, 2).Draw(t, "hold") == 0 {
		m.Hold = now.Add(p.seconds(t) / 4)
	}
	p.same(t, "put", p.b.Put(p.b.t.Context(), m, now), p.model.Put(p.b.t.Context(), m, now))
}

func (p *pair) put(t *rapid.T) {
	m := p.message(t)
	p.sent = append(p.sent, m)
	p.store(t, m)
}

// again delivers a message again, as it was or with both addresses known by now.
func (p *pair) again(t *rapid.T) {
	if len(p.sent) == 0 {
		t.Skip("nothing was sent")
	}
	m := rapid.SampledFrom(p.sent).Draw(t, "message")
	if pn, ok := cutServer(m.Chat, "@s.whatsapp.net"); ok && rapid.Bool().Draw(t, "both") {
		if m.Sender == m.Chat {
			m.Sender, m.SenderAlt = pn+"@lid", m.Chat
		}
		m.Chat, m.ChatAlt = pn+"@lid", m.Chat
	}
	p.store(t, m)
}

// amend changes a message, and looks whether it is found.
func (p *pair) amend(t *rapid.T) {
	if len(p.sent) == 0 {
		t.Skip("nothing was sent")
	}
	ctx := p.b.t.Context()
	m := rapid.SampledFrom(p.sent).Draw(t, "message")
	got, err := p.b.Find(ctx, m)
	want, wantErr := p.model.Find(ctx, m)
	p.same(t, "find", err, wantErr)
	if wantErr != nil {
		return
	}
	if !slices.Equal(textsOf(got.Messages), textsOf(want.Messages)) || !reflect.DeepEqual(got.Reply, want.Reply) {
		t.Fatalf("found %v, want %v", got, want)
	}
	p.n++
	r := reply(fmt.Sprint(p.n))
	m.Text = fmt.Sprint("changed ", p.n)
	p.same(t, "amend", p.b.Amend(ctx, []chat.Message{m}, &r), p.model.Amend(ctx, []chat.Message{m}, &r))
}

// extend holds a chat longer or less long.
func (p *pair) extend(t *rapid.T) {
	ctx := p.b.t.Context()
	m, until := p.message(t), p.now.Add(p.seconds(t))
	got, err := p.b.Extend(ctx, m.Chat, []string{m.Sender}, until)
	want, wantErr := p.model.Extend(ctx, m.Chat, []string{m.Sender}, until)
	p.same(t, "extend", err, wantErr)
	if got != want {
		t.Fatalf("extended: %v, want %v", got, want)
	}
}

func textsOf(all []chat.Message) []string {
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = m.ID + ": " + m.Text
	}
	return texts
}

func cutServer(jid, server string) (user string, ok bool) {
	if len(jid) <= len(server) || jid[len(jid)-len(server):] != server {
		return "", false
	}
	return jid[:len(jid)-len(server)], true
}

func (p *pair) claim(t *rapid.T) { p.claimFor(t, p.seconds(t)) }

func (p *pair) claimFor(t *rapid.T, lease time.Duration) bool {
	now := p.tick()
	got, err := p.b.Claim(p.b.t.Context(), now, now.Add(lease))
	want, wantErr := p.model.Claim(p.b.t.Context(), now, now.Add(lease))
	p.same(t, "claim", err, wantErr)
	if wantErr != nil {
		return false
	}
	if got.Chat != want.Chat || got.Attempt != want.Attempt || !reflect.DeepEqual(got.Reply, want.Reply) ||
		!slices.Equal(idsOf(got.Messages), idsOf(want.Messages)) {
		t.Fatalf("claimed %s %v attempt %d reply %v, want %s %v attempt %d reply %v",
			got.Chat, idsOf(got.Messages), got.Attempt, got.Reply, want.Chat, idsOf(want.Messages), want.Attempt, want.Reply)
	}
	for _, m := range got.Messages {
		if m.Chat != want.Chat {
			t.Fatalf("message %s of %s has chat %s", m.ID, want.Chat, m.Chat)
		}
	}
	p.turns = append(p.turns, [2]chat.Turn{got, want})
	return true
}

// turn draws one of the turns claimed, ended, lost or live.
func (p *pair) turn(t *rapid.T) *[2]chat.Turn {
	if len(p.turns) == 0 {
		t.Skip("no turn was claimed")
	}
	// The latest is live most often.
	i := len(p.turns) - 1 - rapid.IntRange(0, min(3, len(p.turns)-1)).Draw(t, "turn")
	return &p.turns[i]
}

func (p *pair) save(t *rapid.T) {
	turn := p.turn(t)
	p.n++
	r := reply(fmt.Sprint(p.n))
	err := p.model.SaveReply(p.b.t.Context(), turn[1], r)
	p.same(t, "save", p.b.SaveReply(p.b.t.Context(), turn[0], r), err)
	if err == nil {
		turn[0].Reply, turn[1].Reply = &r, &r
	}
}

func (p *pair) finish(t *rapid.T) {
	turn, now := p.turn(t), p.tick()
	p.same(t, "finish", p.b.Finish(p.b.t.Context(), turn[0], now), p.model.Finish(p.b.t.Context(), turn[1], now))
}

func (p *pair) retry(t *rapid.T) {
	turn, when := *p.turn(t), p.tick().Add(p.seconds(t))
	if rapid.Bool().Draw(t, "uncounted") {
		turn[0].Attempt--
		turn[1].Attempt--
	}
	p.same(t, "retry", p.b.Retry(p.b.t.Context(), turn[0], when), p.model.Retry(p.b.t.Context(), turn[1], when))
}

func (p *pair) fail(t *rapid.T) {
	turn, now := p.turn(t), p.tick()
	p.same(t, "fail", p.b.Fail(p.b.t.Context(), turn[0], now, "why"), p.model.Fail(p.b.t.Context(), turn[1], now, "why"))
}

// compare asks both all that can be asked.
func (p *pair) compare(t *rapid.T) {
	ctx := p.b.t.Context()
	depth, err := p.b.Depth(ctx)
	wantDepth, _ := p.model.Depth(ctx)
	if err != nil || depth != wantDepth {
		t.Fatalf("depth %d (%v), want %d", depth, err, wantDepth)
	}
	oldest, err := p.b.Oldest(ctx)
	wantOldest, _ := p.model.Oldest(ctx)
	if err != nil || !oldest.Truncate(time.Millisecond).Equal(wantOldest.Truncate(time.Millisecond)) {
		t.Fatalf("oldest %v (%v), want %v", oldest, err, wantOldest)
	}
	next, err := p.b.Next(ctx)
	wantNext, _ := p.model.Next(ctx)
	// What can be claimed now may give any time that is not after now.
	due := !wantNext.IsZero() && !wantNext.After(p.now)
	if err != nil || next.IsZero() != wantNext.IsZero() || due && next.After(p.now) || !due && !next.Truncate(time.Millisecond).Equal(wantNext.Truncate(time.Millisecond)) {
		t.Fatalf("next %v (%v), want %v at %v", next, err, wantNext, p.now)
	}
	for _, who := range []string{"1", "2"} {
		for _, server := range []string{"@lid", "@s.whatsapp.net", "@g.us"} {
			jid := p.prefix + who + server
			got, err := p.b.History(ctx, jid, 4)
			want, _ := p.model.History(ctx, jid, 4)
			if err != nil || !slices.EqualFunc(got, want, func(a, b chat.Exchange) bool {
				return slices.Equal(idsOf(a.Messages), idsOf(b.Messages)) && reflect.DeepEqual(a.Reply, b.Reply)
			}) {
				t.Fatalf("history of %s: %v (%v), want %v", jid, got, err, want)
			}
		}
	}
}

// drain answers all that is left, so that the next run starts on a store where nothing waits.
func (p *pair) drain(t *rapid.T) {
	p.now = p.now.Add(time.Hour)
	for p.claimFor(t, time.Minute) {
		now, turn := p.tick(), p.turns[len(p.turns)-1]
		p.same(t, "drain", p.b.Finish(p.b.t.Context(), turn[0], now), p.model.Finish(p.b.t.Context(), turn[1], now))
	}
	p.compare(t)
}
