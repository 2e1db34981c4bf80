package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/web"
)

func TestMessageOf(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Date(2026, 3, 1, 12, 0, s, 0, time.UTC) }
	const alice, group = "4915112345678@s.whatsapp.net", "120363012345678901@g.us"
	m := chat.Message{Chat: alice, ID: "3EB012345678", Sender: alice, Time: at(0), Text: "a secret", Kind: chat.Text}
	in, own := m, m
	in.Chat, in.Group, own.Own = group, true, true
	done := chat.Trail{Message: m, Came: at(1), Begun: true, Attempt: 1, Ended: at(4), Tries: []chat.Try{{Began: at(2), Ended: at(4)}}}
	with := func(change func(*chat.Trail)) chat.Trail { t := done; change(&t); return t }
	for _, row := range []struct {
		of   chat.Trail
		want string
	}{
		{chat.Trail{Message: in, Came: at(1), Gated: "call +49 151 12345678"}, "49•••78 in 12•••01@g.us soft not answered; received 1; gated: call +49•••78"},
		{chat.Trail{Message: own, Came: at(1)}, "You, in your own chat wait waits; received 1; queued"},
		{chat.Trail{Message: m, Came: at(1), Begun: true, Others: 2, Attempt: 2, Leased: true, Tries: []chat.Try{{Began: at(2), Why: "no\nmodel"}}},
			"49•••78 wait being answered; received 1; queued with 2 other messages; attempt 1 2: no model; attempt 2 is under way"},
		{chat.Trail{Message: m, Came: at(1), Begun: true, Ready: at(9)}, "49•••78 wait put off; received 1; queued; goes on at 9"},
		{chat.Trail{Message: m, Came: at(1), Begun: true}, "49•••78 wait waits; received 1; queued"},
		{with(func(t *chat.Trail) {
			t.Reply = &chat.Reply{Parts: []chat.Part{{ID: "R", Text: "a secret"}}}
			t.Marks = []chat.Mark{{Message: "R", Fate: chat.Read, Time: at(8)}, {Message: "R", Fate: chat.Delivered, Time: at(7)}, {Message: "R", Fate: chat.Delivered, Time: at(6)}}
		}), "49•••78 good answered; received 1; queued; answered 4; delivered 6; read 8"},
		{with(func(t *chat.Trail) { t.Reply = &chat.Reply{} }), "49•••78 soft no answer needed; received 1; queued; finished 4"},
		{with(func(t *chat.Trail) {
			t.Reply = &chat.Reply{Parts: []chat.Part{{ID: "R"}}, Left: []chat.Left{{ID: m.ID, Sender: alice, Why: "BUDGET_BOT_DAY is used up"}}}
		}), "49•••78 soft not answered; received 1; queued; left out 4: BUDGET_BOT_DAY is used up"},
		{with(func(t *chat.Trail) { t.Reply = &chat.Reply{Failure: "down", Parts: []chat.Part{{ID: "R"}}} }), "49•••78 bad apologised; received 1; queued; apologised 4: down"},
		{with(func(t *chat.Trail) { t.Failure = "refused" }), "49•••78 bad given up; received 1; queued; given up 4: refused"},
	} {
		v := messageOf(row.of)
		got := v.From
		if v.In != "" {
			got += " in " + v.In
		}
		got += fmt.Sprintf(" %s %s", v.Fate, v.Outcome)
		for _, s := range v.Steps {
			got += "; " + s.What
			if !s.Time.IsZero() {
				got += fmt.Sprint(" ", s.Time.Second())
			}
			if s.Why != "" {
				got += ": " + s.Why
			}
		}
		if got != row.want || v.ID != m.ID {
			t.Errorf("%s\nwant\n%s", got, row.want)
		}
	}
}

// latestStore counts how often it was asked for trails.
type latestStore struct {
	Store
	asked int
	err   error
}

func (l *latestStore) Latest(_ context.Context, n int) ([]chat.Trail, error) {
	l.asked++
	return []chat.Trail{{Message: chat.Message{ID: "older"}}, {Message: chat.Message{ID: "newer"}}}, l.err
}

func TestMessagesOfThePage(t *testing.T) {
	t.Parallel()
	s := newSite(config.Config{}, slog.New(slog.DiscardHandler))
	if all, known := s.messages(t.Context()); known || all != nil {
		t.Errorf("without a store: %v %v", all, known)
	}
	store := &latestStore{err: errors.New("away")}
	s.opened(store)
	if all, known := s.messages(t.Context()); known || all != nil {
		t.Errorf("while the store is away: %v %v", all, known)
	}
	store.err = nil
	for range 3 {
		if all, known := s.messages(t.Context()); !known || len(all) != 2 || all[0].ID != "newer" {
			t.Errorf("got %v %v", all, known)
		}
	}
	if store.asked != 2 {
		t.Errorf("the store was asked %d times, want 2", store.asked)
	}
}

func TestSpentText(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		of    budget.Spent
		limit budget.Amount
		want  string
	}{
		{budget.Spent{}, budget.Amount{}, "0 tokens"},
		{budget.Spent{Tokens: 9, Estimated: true}, budget.Amount{}, "about 9 tokens"},
		{budget.Spent{Tokens: 9, Cost: 420_000}, budget.Amount{}, "0.42, for 9 tokens"},
		{budget.Spent{Tokens: 9, Cost: 420_000}, budget.Amount{Money: 20e6}, "0.42 of 20.00, for 9 tokens"},
		{budget.Spent{Tokens: 9, Cost: 420_000, Estimated: true}, budget.Amount{Tokens: 50}, "about 9 of 50 tokens, for 0.42"},
		{budget.Spent{Tokens: 9}, budget.Amount{Tokens: 50}, "9 of 50 tokens"},
	} {
		if got := spentText(row.of, row.limit); got != row.want {
			t.Errorf("%+v of %+v: %q, want %q", row.of, row.limit, got, row.want)
		}
	}
}

// What is spent is known to the process that leads, once it has added it up.
func TestSpentOfThePage(t *testing.T) {
	t.Parallel()
	s := newSite(config.Config{}, slog.New(slog.DiscardHandler))
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l := budget.New(budget.Options{Store: noCharges{}, Zone: time.UTC, Now: func() time.Time { return noon }, Limits: map[budget.Budget]budget.Amount{{Scope: budget.Bot, Period: budget.Day}: {Tokens: 5}}})
	shows := func(want int) {
		t.Helper()
		if all := s.status(t.Context()).Spent; len(all) != want {
			t.Errorf("the page shows %v, want %d", all, want)
		}
	}
	s.become(web.Starting)
	s.counts(config.Config{}, l)
	shows(0)
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Note(chat.Charge{ID: "1", Time: noon, Prompt: 7})
	shows(2)
	all := s.status(t.Context()).Spent
	if all[0].UsedUp != "BUDGET_BOT_DAY" || !all[0].Until.Equal(noon.Add(12*time.Hour)) || all[1].UsedUp != "" || !strings.HasPrefix(all[0].Text, "7 of 5") {
		t.Errorf("used up: %+v", all)
	}
	s.standby("another")
	shows(0)
}

// noCharges is a store without charges.
type noCharges struct{ budget.Store }

func (noCharges) Charges(context.Context, time.Time, time.Time, func(chat.Charge) error) error {
	return nil
}
