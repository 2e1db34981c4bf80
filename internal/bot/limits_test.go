package bot

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wabot/internal/access"
	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/model"
	"wabot/internal/storetest"
)

// limited gives the bot a ledger with a limit of tokens for each person and day.
func limited(t *testing.T, b *Bot, store budget.Store, tokens int64) {
	t.Helper()
	b.Ledger = budget.New(budget.Options{
		Store: store, Zone: time.UTC, Limits: map[budget.Budget]budget.Amount{{Scope: budget.Person, Period: budget.Day}: {Tokens: tokens}},
		Prices: func(string) model.Prices { return model.Prices{} },
	})
	b.Model = budget.Texts{Of: b.Model.Complete, Meter: budget.Meter{Ledger: b.Ledger, Log: b.Log}}
}

func spent(b *Bot, m chat.Message) int64 {
	return b.Ledger.Spent(budget.Budget{Scope: budget.Person, Period: budget.Day}, m).Tokens
}

func TestBudgetUsedUp(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	store := &storetest.Memory{}
	limited(t, b, store, 50)
	w.answer.PromptTokens, w.answer.CompletionTokens = 40, 10
	answer := func(m chat.Message) chat.Turn {
		t.Helper()
		tr := turn(m)
		w.did = nil
		if err := b.Answer(t.Context(), tr); err != nil {
			t.Fatal(err)
		}
		if w.saved != nil {
			tr.Reply = w.saved
		}
		return tr
	}
	tr := answer(from("!ai hi", now))
	if c := tr.Reply.Charges; len(c) != 1 || c[0].Prompt != 40 || c[0].Person != tr.Last().Sender || c[0].Chat != tr.Chat {
		t.Fatalf("charges %+v", tr.Reply.Charges)
	}
	// Told once, with the reset time; the notice is a charge of the reply.
	tr = answer(from("!ai again", now))
	if r := tr.Reply; len(r.Parts) != 1 || !strings.HasPrefix(r.Parts[0].Text, "Your budget is used up.") || r.Failure != "BUDGET_PERSON_DAY is used up" ||
		len(r.Charges) != 1 || r.Charges[0].Kind != chat.Notice || len(r.Left) != 1 || r.Left[0].ID != tr.Last().ID {
		t.Fatalf("told %+v", r)
	}
	if err := store.Charge(t.Context(), tr.Reply.Charges); err != nil { // as a store does with the reply
		t.Fatal(err)
	}
	tr = answer(from("!ai and again", now))
	if r := tr.Reply; len(r.Parts) != 0 || len(r.Left) != 1 || len(w.asked) != 1 {
		t.Fatalf("said %+v", r)
	}
	w.check("save 0 parts, 0 sent")
	// A call for help costs nothing.
	if tr = answer(from("!ai !help", now)); len(tr.Reply.Parts) != 1 || len(tr.Reply.Charges) != 0 {
		t.Errorf("help: %+v", tr.Reply)
	}
}

// What a try has cost that failed after the call is stored all the same, and a saved reply is not charged again.
func TestChargesOfFailedTries(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	store := &storetest.Memory{}
	limited(t, b, store, 1000)
	w.answer.PromptTokens = 7
	w.fail = map[string]error{"save 1 parts, 0 sent": errors.New("down")}
	m := from("!ai hi", now)
	if err := b.Answer(t.Context(), turn(m)); err == nil {
		t.Fatal("the reply was saved")
	}
	stored := 0
	count := func(chat.Charge) error { stored++; return nil }
	if err := store.Charges(t.Context(), time.Unix(0, 0), time.Now().Add(time.Hour), count); err != nil || stored != 1 || spent(b, m) != 7 {
		t.Fatalf("%d charges are stored, %d tokens: %v", stored, spent(b, m), err)
	}
	w.fail = nil
	tr := turn(m)
	if err := b.Answer(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	tr.Reply = w.saved
	if err := b.Answer(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	if len(w.asked) != 2 || spent(b, m) != 14 {
		t.Errorf("asked %d times for %d tokens", len(w.asked), spent(b, m))
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	clock := time.Unix(1e9, 0)
	b.Rates = budget.NewPace([]budget.Rate{{Count: 2, Per: time.Minute}}, nil, func() time.Time { return clock })
	id := 0
	ask := func(n int) chat.Turn {
		var all []chat.Message
		for range n {
			id++
			all = append(all, from("!ai hi", now, func(m *chat.Message) { m.ID = fmt.Sprint("M", id) }))
		}
		tr := turn(all...)
		tr.Lease = "lease"
		return tr
	}
	answer := func(tr chat.Turn) error {
		w.did = nil
		return b.Answer(t.Context(), tr)
	}
	if err := answer(ask(2)); err != nil {
		t.Fatal(err)
	}
	// One more waits for its time, which is no failure; with what came meanwhile it is answered.
	tr := ask(3)
	var wait *tooFast
	if err := answer(tr); !errors.As(err, &wait) || wait.RetryAfter() != 30*time.Second || !wait.Waits() {
		t.Fatal(err)
	}
	w.check()
	clock = clock.Add(30 * time.Second)
	if err := answer(tr); err != nil || len(w.asked) != 2 {
		t.Fatalf("asked %d times: %v", len(w.asked), err)
	}
	// All three count: what comes now would wait too long in the end, and is told so once.
	tr = ask(6)
	clock = clock.Add(90 * time.Second)
	if err := answer(tr); err != nil {
		t.Fatal(err)
	}
	if err := answer(ask(1)); err != nil || len(w.saved.Parts) != 1 || !strings.HasPrefix(w.saved.Parts[0].Text, "Sorry, I am asked too much") || len(w.saved.Left) != 1 {
		t.Fatalf("said %+v: %v", w.saved, err)
	}
	if err := answer(ask(1)); err != nil || len(w.saved.Parts) != 0 {
		t.Fatalf("said %+v: %v", w.saved, err)
	}
}

func TestFlood(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	b.Rates = budget.NewPace([]budget.Rate{{Count: 1, Per: time.Minute}}, nil, nil)
	var gated []chat.Mark
	b.Gated = func(m chat.Mark) { gated = append(gated, m) }
	welcome := 0
	for i := range 5 {
		if m := from("!ai hi", id(fmt.Sprint(i))); b.Welcome(m) {
			welcome++
			b.Stored(m)
		}
	}
	if welcome != 3 || len(gated) != 2 || gated[0].Fate != chat.Gated || !strings.Contains(gated[0].Why, "RATE_PERSON") {
		t.Fatalf("%d are welcome, gated %+v", welcome, gated)
	}
	if err := b.Answer(t.Context(), turn(from("!ai hi", now))); err != nil {
		t.Fatal(err)
	}
	if p := w.saved.Parts; len(p) != 2 || !strings.HasPrefix(p[1].Text, "That was more at once") {
		t.Errorf("said %+v", p)
	}
}

// account is one that is always online.
type account struct{}

func (account) WaitOnline(context.Context) error { return nil }
func (account) Own() (jid, alt string)           { return "own@lid", "" }
func (account) IDOf(what string) string          { return "ID of " + what }

// A warning that was sent, or may have been, is sent again under the same ID, and is never sent after that was noted.
func TestWarn(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	store := &storetest.Memory{}
	limited(t, b, store, 100)
	b.Rules.Admins = access.List{"4915100000009", bobLID}
	if err := b.Ledger.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := from("!ai hi", now)
	if err := b.Ledger.Keep(t.Context(), b.Ledger.Make(chat.Charge{Person: m.Sender, Chat: m.Chat, Kind: chat.ForText, Prompt: 85})); err != nil {
		t.Fatal(err)
	}
	down := errors.New("down")
	store.Fault = func(method, _ string, _ bool) error {
		if method == "Charge" {
			return down
		}
		return nil
	}
	if err := b.warn(t.Context(), account{}); !errors.Is(err, down) {
		t.Fatal(err)
	}
	store.Fault = nil
	first := w.did
	_, again := newWorld(t) // as after a crash
	limited(t, again, store, 100)
	again.WA, again.Rules.Admins, w.did = w, b.Rules.Admins, nil
	for range 2 {
		if err := again.warn(t.Context(), account{}); err != nil {
			t.Fatal(err)
		}
	}
	w.check(first...)
	if len(first) != 3 || !strings.HasPrefix(first[0], "send ID of warning/80/day/") {
		t.Errorf("did %v", first)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t)
	limited(t, b, &storetest.Memory{}, 100)
	m := from("!usage", now)
	if err := b.Ledger.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Ledger.Make(chat.Charge{Person: m.Sender, Chat: m.Chat, Kind: chat.ForText, Prompt: 25, Estimated: true})
	got, _, err := b.doUsage(t.Context(), m, "")
	want := "*You*: today about 25 tokens of 100 tokens; this month about 25 tokens\n*This chat*: today about 25 tokens; this month about 25 tokens"
	if err != nil || got != want {
		t.Errorf("got\n%s\nwant\n%s (%v)", got, want, err)
	}
}
