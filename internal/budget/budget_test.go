package budget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/model"
)

// store is a Store in memory; it fails while it is down.
type store struct {
	all   map[string]chat.Charge
	down  bool
	reads int
}

func (s *store) Charge(_ context.Context, all []chat.Charge) error {
	if s.down {
		return errors.New("down")
	}
	for _, c := range all {
		if _, there := s.all[c.ID]; !there {
			s.all[c.ID] = c
		}
	}
	return nil
}

func (s *store) Charges(_ context.Context, since, until time.Time, each func(chat.Charge) error) error {
	s.reads++
	if s.down {
		return errors.New("down")
	}
	for _, c := range s.all {
		if !c.Time.Before(since) && c.Time.Before(until) {
			if err := each(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *store) DropCharges(context.Context, time.Time, time.Time, int) (int, error) { return 0, nil }

var zone = time.FixedZone("somewhere", 5*3600)

// book is a ledger with a clock of its own.
type book struct {
	*Ledger
	s   *store
	now time.Time
}

func newBook(s *store, now time.Time, limits map[Budget]Amount) *book {
	b := &book{s: s, now: now}
	b.Ledger = New(Options{
		Store: s, Limits: limits, Zone: zone, Now: func() time.Time { return b.now },
		Prices: func(name string) model.Prices {
			if name == "dear" {
				return model.Prices{Prompt: 3, Completion: 15, Image: 0.04, Minute: 0.006, Characters: 15}
			}
			return model.Prices{}
		},
	})
	return b
}

func (b *book) load(t *testing.T) *book {
	t.Helper()
	if err := b.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// spend makes and stores a charge of so many tokens.
func (b *book) spend(t *testing.T, m chat.Message, tokens int) {
	t.Helper()
	if err := b.Keep(t.Context(), b.Make(chat.Charge{Person: m.Sender, Chat: m.Chat, Own: m.Own, Model: "m", Kind: chat.ForText, Prompt: tokens})); err != nil {
		t.Fatal(err)
	}
}

func from(person, in string) chat.Message { return chat.Message{ID: "x", Sender: person, Chat: in} }

func TestCost(t *testing.T) {
	t.Parallel()
	b := newBook(nil, time.Now(), nil)
	for _, test := range []struct {
		c      chat.Charge
		cost   int64
		tokens int64
	}{
		{chat.Charge{Model: "dear", Prompt: 1000, Completion: 100}, 4500, 1100},
		{chat.Charge{Model: "dear", Prompt: 1}, 3, 1},
		{chat.Charge{Model: "dear", Images: 2}, 80_000, 2000},
		{chat.Charge{Model: "dear", Seconds: 90}, 9000, 900},
		{chat.Charge{Model: "dear", Seconds: 0.01}, 1, 1},
		{chat.Charge{Model: "dear", Characters: 1001}, 15_015, 251},
		{chat.Charge{Model: "free", Prompt: 1e6}, 0, 1e6},
	} {
		c := b.Make(test.c)
		if c.Cost != test.cost || Tokens(c) != test.tokens || c.ID == "" {
			t.Errorf("%+v: costs %d and counts as %d tokens, want %d and %d", test.c, c.Cost, Tokens(c), test.cost, test.tokens)
		}
	}
	for millionths, want := range map[int64]string{0: "0", 1: "0.000001", 4500: "0.0045", 10_000: "0.01", 2_500_000: "2.50", 1_234_567: "1.23"} {
		if got := Money(millionths); got != want {
			t.Errorf("%d is %q, want %q", millionths, got, want)
		}
	}
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	// Half past midnight in its zone, the evening before in UTC.
	start := time.Date(2026, 11, 30, 0, 30, 0, 0, zone)
	limits := map[Budget]Amount{{Person, Day}: {Tokens: 100}, {Chat, Month}: {Tokens: 1000}, {Bot, Day}: {Tokens: 2000}}
	s := &store{all: map[string]chat.Charge{}}
	b := newBook(s, start, limits).load(t)
	over := func(m chat.Message, want string) *Exhausted {
		t.Helper()
		e := b.Over(m)
		got := ""
		if e != nil {
			got = e.Setting()
		}
		if got != want {
			t.Fatalf("over %q, want %q", got, want)
		}
		return e
	}
	alice, bob := from("a@lid", "g@g.us"), from("b@lid", "g@g.us")
	b.spend(t, alice, 99)
	over(alice, "")
	b.spend(t, alice, 1)
	e := over(alice, "BUDGET_PERSON_DAY")
	if e.Told || !e.Until.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, zone)) {
		t.Errorf("%+v", e)
	}
	over(bob, "")
	// Under either address, and in every chat.
	over(chat.Message{Sender: "new@lid", SenderAlt: "a@lid", Chat: "x@lid"}, "BUDGET_PERSON_DAY")
	b.Note(e.Notice)
	if !over(alice, "BUDGET_PERSON_DAY").Told {
		t.Error("that they were told is not known")
	}
	// The owner's chat with itself has the bot's budget alone.
	own := from("o@lid", "o@lid")
	own.Own = true
	b.spend(t, own, 1500)
	over(own, "")
	if got := b.Spent(Budget{Person, Day}, own).Tokens; got != 1500 {
		t.Errorf("the owner has spent %d", got)
	}
	b.spend(t, from("c@lid", "d@lid"), 400)
	e = over(own, "BUDGET_BOT_DAY")
	over(bob, "BUDGET_BOT_DAY")
	if e.Notice.ID == over(bob, "BUDGET_BOT_DAY").Notice.ID {
		t.Error("two chats are told as one")
	}
	// After a restart or a failover all is the same, and the notice is not: it was not stored.
	other := newBook(s, start, limits)
	if err := other.Load(t.Context()); err != nil || s.reads != 2 {
		t.Fatal(err)
	}
	b = other
	if over(alice, "BUDGET_PERSON_DAY").Told {
		t.Error("a notice that was not stored is known")
	}
	over(own, "BUDGET_BOT_DAY")
	// The next day begins a month, too.
	b.now = start.Add(23*time.Hour + 29*time.Minute)
	over(alice, "BUDGET_PERSON_DAY")
	b.now = b.now.Add(time.Minute)
	over(alice, "")
	over(own, "")
	if got := b.Spent(Budget{Chat, Month}, alice).Tokens; got != 0 {
		t.Errorf("%d of the month before", got)
	}
	b.spend(t, bob, 1)
	if got := b.Spent(Budget{Bot, Month}, bob).Tokens; got != 1 {
		t.Errorf("the new month has %d", got)
	}
}

// A clock that goes ahead past midnight, or past the end of the month, and is set back neither forgets what was spent on the
// day that it comes back to, nor lets more be spent on it.
func TestBudgetsOfAClockSetBack(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, zone)
	limits := map[Budget]Amount{{Person, Day}: {Tokens: 100}, {Bot, Month}: {Tokens: 400}}
	s := &store{all: map[string]chat.Charge{}}
	b := newBook(s, noon, limits).load(t)
	m := from("alice", "alice")
	b.spend(t, m, 90)
	b.now = noon.Add(20 * time.Hour)
	b.spend(t, m, 90)
	b.now = noon
	want := func(day, month int64) {
		t.Helper()
		if got := b.Spent(Budget{Person, Day}, m).Tokens; got != day {
			t.Errorf("%d tokens of the day, want %d", got, day)
		}
		if got := b.Spent(Budget{Bot, Month}, m).Tokens; got != month {
			t.Errorf("%d tokens of the month, want %d", got, month)
		}
	}
	want(90, 90)
	b.spend(t, m, 20)
	want(110, 110)
	if b.Over(m) == nil {
		t.Error("the budget of the day is not used up")
	}
	b.now = noon.Add(24 * time.Hour)
	want(90, 90)
	// Months that are past are not kept.
	b.now = noon.AddDate(0, 2, 0)
	b.spend(t, m, 1)
	b.now = noon.AddDate(0, 3, 0)
	b.spend(t, m, 1)
	if n := len(b.sums["person/alice"]); n != 4 || len(b.known) != 2 {
		t.Errorf("%d sums of a person and %d charges are kept", n, len(b.known))
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	s := &store{all: map[string]chat.Charge{}}
	now := time.Date(2026, 11, 10, 12, 0, 0, 0, zone)
	limits := map[Budget]Amount{{Person, Day}: {Tokens: 100}, {Bot, Month}: {Tokens: 200}}
	b := newBook(s, now, limits).load(t)
	want := func(all ...string) (warnings []Warning) {
		t.Helper()
		warnings = b.Warnings()
		var got []string
		for _, w := range warnings {
			got = append(got, fmt.Sprint(w.Setting(), " ", w.Percent, " ", w.Whose))
		}
		if fmt.Sprint(got) != fmt.Sprint(all) {
			t.Fatalf("warnings %q, want %q", got, all)
		}
		return warnings
	}
	a := from("a@lid", "g@g.us")
	b.spend(t, a, 79)
	want()
	b.spend(t, a, 1)
	w := want("BUDGET_PERSON_DAY 80 a@lid")
	if err := b.Keep(t.Context(), w[0].Notice); err != nil {
		t.Fatal(err)
	}
	want()
	b = newBook(s, now, limits).load(t) // as after a restart
	want()
	b.spend(t, a, 85)
	want("BUDGET_PERSON_DAY 100 a@lid", "BUDGET_BOT_MONTH 80 ")
	own := from("o@lid", "o@lid")
	own.Own = true
	b.spend(t, own, 1000)
	want("BUDGET_PERSON_DAY 100 a@lid", "BUDGET_BOT_MONTH 100 ")
	b.now = now.AddDate(0, 0, 1)
	want("BUDGET_BOT_MONTH 100 ")
}

// Two addresses of one person are one in warnings too, as soon as they are known to be, and none is given again for it.
func TestWarningsOfTwoAddresses(t *testing.T) {
	t.Parallel()
	s := &store{all: map[string]chat.Charge{}}
	now := time.Date(2026, 11, 10, 12, 0, 0, 0, zone)
	limits := map[Budget]Amount{{Person, Day}: {Tokens: 100}, {Chat, Month}: {Tokens: 1000}}
	const lid, pn = "1@lid", "49151@s.whatsapp.net"
	both := chat.Message{Sender: lid, SenderAlt: pn, Chat: lid, ChatAlt: pn}
	b := newBook(s, now, limits).load(t)
	b.spend(t, from(pn, pn), 50)
	b.spend(t, from(lid, lid), 40)
	if w := b.Warnings(); len(w) != 0 {
		t.Errorf("warned of %+v before they are known to be one", w)
	}
	if b.Over(both) != nil {
		t.Error("over at 90 of 100")
	}
	w := b.Warnings()
	if len(w) != 1 || w[0].Percent != 80 || w[0].Spent.Tokens != 90 || w[0].Whose != pn {
		t.Fatalf("warnings %+v", w)
	}
	if err := b.Keep(t.Context(), w[0].Notice); err != nil {
		t.Fatal(err)
	}
	b = newBook(s, now, limits).load(t)
	b.Over(both)
	if w := b.Warnings(); len(w) != 0 {
		t.Errorf("warned again: %+v", w)
	}
	b.spend(t, from(lid, lid), 10)
	if w := b.Warnings(); len(w) != 1 || w[0].Percent != 100 {
		t.Errorf("warnings %+v", w)
	}
}

// What is charged to nobody is nobody's budget.
func TestWarningsOfNobody(t *testing.T) {
	t.Parallel()
	b := newBook(&store{all: map[string]chat.Charge{}}, time.Now(), map[Budget]Amount{{Person, Day}: {Tokens: 1}, {Chat, Day}: {Tokens: 1}}).load(t)
	b.spend(t, chat.Message{}, 10)
	if w := b.Warnings(); len(w) != 0 {
		t.Errorf("warned of %+v", w)
	}
}

// What could not be stored is stored with the next, once.
func TestKeepLater(t *testing.T) {
	t.Parallel()
	s := &store{all: map[string]chat.Charge{}}
	b := newBook(s, time.Now(), nil)
	s.down = true
	if err := b.Load(t.Context()); err == nil {
		t.Error("loaded from a store that is down")
	}
	c := b.Make(chat.Charge{Model: "dear", Prompt: 10})
	if err := b.Keep(t.Context(), c); err == nil {
		t.Error("stored in a store that is down")
	}
	s.down = false
	b.load(t)
	b.spend(t, from("a", "b"), 5)
	b.spend(t, from("a", "b"), 5)
	if len(s.all) != 3 || s.all[c.ID].Cost != 30 {
		t.Errorf("stored: %+v", s.all)
	}
	if got := b.Spent(Budget{Bot, Day}, chat.Message{}).Tokens; got != 20 {
		t.Errorf("spent %d tokens, want 20", got)
	}
}

type answers struct {
	c   llm.Completion
	err error
}

func (a answers) Complete(context.Context, llm.Prompt) (llm.Completion, error) { return a.c, a.err }

func (a answers) Image(context.Context, string, string) (llm.Media, string, error) {
	return llm.Media{}, "painter", a.err
}

func (a answers) Transcribe(context.Context, llm.Media, string) (string, error) { return "text", a.err }

func (a answers) Speak(context.Context, string, string) (llm.Media, error) { return llm.Media{}, a.err }

func TestMeterOfSound(t *testing.T) {
	t.Parallel()
	b := newBook(&store{all: map[string]chat.Charge{}}, time.Now(), nil).load(t)
	m := Meter{Ledger: b.Ledger, Log: slog.New(slog.DiscardHandler)}
	ctx, bill := b.Open(t.Context())
	Pays(ctx, from("a", "g"))
	sound := llm.Media{Data: make([]byte, 16000)}
	hear := func(a answers, lasts time.Duration, err error) {
		e := Ears{Of: a.Transcribe, Model: "dear", Lasts: func([]byte) (time.Duration, error) { return lasts, err }, Meter: m}
		e.Transcribe(ctx, sound, "")
	}
	hear(answers{}, 90*time.Second, nil)
	hear(answers{}, time.Minute, errors.New("not Opus in Ogg"))
	hear(answers{}, 0, nil)
	Mouth{answers{}.Speak, "dear", m}.Speak(ctx, "où?", "alloy")
	down := answers{err: &llm.Error{Kind: llm.Unavailable, Err: errors.New("x")}}
	hear(down, time.Second, nil)
	Mouth{down.Speak, "dear", m}.Speak(ctx, "où?", "alloy")
	got := bill.Charges()
	if len(got) != 4 {
		t.Fatalf("charges %+v", got)
	}
	if c := got[0]; c.Kind != chat.ForSound || c.Seconds != 90 || c.Estimated || c.Cost != 9000 || c.Person != "a" {
		t.Errorf("a recording: %+v", c)
	}
	for _, c := range got[1:3] {
		if c.Seconds != 2 || !c.Estimated || c.Cost != 200 {
			t.Errorf("one that does not tell how long it lasts: %+v", c)
		}
	}
	if c := got[3]; c.Kind != chat.ForSpeech || c.Characters != 3 || c.Cost != 45 {
		t.Errorf("a spoken text: %+v", c)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	s := &store{all: map[string]chat.Charge{}}
	b := newBook(s, time.Now(), nil).load(t)
	m := Meter{Ledger: b.Ledger, Log: slog.New(slog.DiscardHandler)}
	ctx, bill := b.Open(t.Context())
	p := llm.Prompt{Model: "asked", Messages: []llm.Message{{Text: "hello there"}}}
	Pays(ctx, from("a", "g"))
	Texts{answers{c: llm.Completion{Text: "hi", By: "dear", PromptTokens: 7, CompletionTokens: 2}}.Complete, m}.Complete(ctx, p)
	Pays(ctx, from("b", "g"))
	Texts{answers{c: llm.Completion{Text: "hi", By: "dear"}}.Complete, m}.Complete(ctx, p)
	Texts{answers{err: &llm.Error{Kind: llm.BadAnswer, Err: errors.New("x")}}.Complete, m}.Complete(ctx, p)
	Texts{answers{err: &llm.Error{Kind: llm.Unavailable, Err: errors.New("x")}}.Complete, m}.Complete(ctx, p)
	Pictures{answers{}.Image, m}.Image(ctx, "asked", "a cat")
	Pictures{answers{err: errors.New("x")}.Image, m}.Image(ctx, "asked", "a cat")
	got := bill.Charges()
	if len(got) != 4 || len(s.all) != 0 {
		t.Fatalf("charges %+v, stored %+v", got, s.all)
	}
	if c := got[0]; c.Person != "a" || c.Model != "dear" || c.Prompt != 7 || c.Completion != 2 || c.Estimated || c.Cost != 51 {
		t.Errorf("counted by the server: %+v", c)
	}
	if c := got[1]; c.Person != "b" || c.Prompt != 6 || c.Completion != 1 || !c.Estimated {
		t.Errorf("estimated: %+v", c)
	}
	if c := got[2]; c.Model != "asked" || c.Prompt != 6 || c.Completion != 0 {
		t.Errorf("no answer to use: %+v", c)
	}
	if c := got[3]; c.Kind != chat.ForImage || c.Images != 1 || c.Model != "painter" {
		t.Errorf("a picture: %+v", c)
	}
	// Without a bill it is stored at once.
	Texts{answers{c: llm.Completion{Text: "hi", By: "m"}}.Complete, m}.Complete(t.Context(), p)
	if len(s.all) != 1 {
		t.Errorf("stored %+v", s.all)
	}
	if (*Bill)(nil).Charges() != nil {
		t.Error("no bill has charges")
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	p := NewPace([]Rate{{3, time.Minute}}, []Rate{{5, time.Minute}}, func() time.Time { return now })
	n := 0
	message := func(person, in string) chat.Message {
		n++
		m := from(person, in)
		m.ID = fmt.Sprint(n)
		return m
	}
	take := func(person, in string, want time.Duration) {
		t.Helper()
		m := message(person, in)
		if got := p.Wait(m); got != want {
			t.Fatalf("message %d of %s waits %v, want %v", n, person, got, want)
		}
		p.Take(m)
		p.Take(m)
		if got := p.Wait(m); got != 0 {
			t.Fatalf("a message that was taken waits %v", got)
		}
	}
	for range 3 {
		take("a", "g", 0)
	}
	if got := p.Wait(message("a", "g")); got != 20*time.Second {
		t.Errorf("the fourth waits %v", got)
	}
	now = now.Add(20 * time.Second)
	take("a", "g", 0)
	take("a", "g", 20*time.Second) // answered with another all the same
	if got := p.Wait(message("a", "h")); got != 40*time.Second {
		t.Errorf("what was answered beyond the rate is not counted: %v", got)
	}
	take("b", "g", 0)
	if got := p.Wait(message("c", "g")); got != 4*time.Second {
		t.Errorf("the chat's rate: %v", got)
	}
	own := message("a", "g")
	own.Own = true
	if got := p.Wait(own); got != 0 {
		t.Errorf("the own chat waits %v", got)
	}
	now = now.Add(time.Hour)
	for range 3 {
		take("a", "g", 0)
	}

	// Three times the rate may come in, and wait; more is a flood.
	var stored []chat.Message
	for i := range 12 {
		m := message("d", fmt.Sprint("to ", i))
		for range 5 { // as it is delivered until it can be stored
			if got := p.Arrive(m); got != (i < 9) {
				t.Errorf("message %d arrives: %v", i, got)
			}
		}
		if i < 9 {
			stored = append(stored, m)
		}
		for _, m := range stored { // and those before it, which were not acknowledged
			if !p.Arrive(m) {
				t.Errorf("message %s is stored, and does not arrive", m.ID)
			}
			p.Stored(m)
		}
	}
	if d := from("d", "x"); !p.Flooded(d) || p.Flooded(d) || !p.Tell(d) || p.Tell(d) {
		t.Error("a flood is not told of once")
	}
	now = now.Add(time.Minute)
	if !p.Arrive(message("d", "x")) {
		t.Error("after a minute nothing comes in")
	}
}

// However many people write however much, no memory of messages grows without end.
func TestPaceIsBounded(t *testing.T) {
	t.Parallel()
	p := NewPace([]Rate{{3, time.Minute}}, nil, nil)
	for i := range 30_000 {
		m := chat.Message{ID: fmt.Sprint(i), Sender: fmt.Sprint(i % 15_000), Chat: "g"}
		if !p.Arrive(m) {
			t.Fatalf("message %d does not arrive", i)
		}
		p.Stored(m)
		p.Take(m)
	}
	if len(p.stored) > underway || len(p.counted) > underway {
		t.Errorf("%d and %d messages are remembered", len(p.stored), len(p.counted))
	}
}
