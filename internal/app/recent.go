package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/mask"
	"wabot/internal/model"
	"wabot/internal/web"
)

// shown is how many messages the page tells of.
const shown = 10

// messages tells the page what became of the newest messages; false where the store does not say.
func (s *site) messages(ctx context.Context) ([]web.Message, bool) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.store == nil {
		return nil, false
	}
	if time.Since(s.trailsAt) >= fresh {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answering)
		defer cancel()
		all, err := s.store.Latest(ctx, shown)
		if err != nil {
			return nil, false
		}
		slices.Reverse(all)
		s.trails, s.trailsAt = nil, time.Now()
		for _, t := range all {
			s.trails = append(s.trails, messageOf(t))
		}
	}
	return s.trails, true
}

// messageOf is what the page shows of a trail: nothing of what was said, and numbers masked.
func messageOf(t chat.Trail) web.Message {
	m := web.Message{ID: plain(t.Message.ID), From: personOf(t.Message.Sender)}
	switch {
	case t.Message.Own:
		m.From = "You, in your own chat"
	case t.Message.Chat != t.Message.Sender:
		m.In = personOf(t.Message.Chat)
	}
	step := func(what string, at time.Time, why string) {
		m.Steps = append(m.Steps, web.Step{What: what, Time: at, Why: reason(why)})
	}
	step("received", t.Came, "")
	for _, mark := range t.Own {
		if mark.Fate == chat.Undecrypted {
			step("could not be decrypted", mark.Time, mark.Why)
		} else {
			step("came again", mark.Time, mark.Why)
		}
	}
	if silent(t) {
		m.Outcome, m.Fate = "not decrypted", web.Unanswered
		if t.Own[len(t.Own)-1].Fate == chat.Recovered {
			m.Outcome, m.Fate = "nothing to answer", web.Unconcerned
		}
		return m
	}
	if t.Gated != "" {
		m.Outcome, m.Fate = "not answered", web.Unconcerned
		step("gated", time.Time{}, t.Gated)
		return m
	}
	m.Outcome, m.Fate = "waits", web.Underway
	switch {
	case !t.Begun:
		step("queued", time.Time{}, "")
		return m
	case t.Others > 0:
		step(fmt.Sprintf("queued with %d other %s", t.Others, plural("message", t.Others)), time.Time{}, "")
	default:
		step("queued", time.Time{}, "")
	}
	for i, try := range t.Tries {
		if try.Why != "" {
			step(fmt.Sprintf("attempt %d", i+1), try.Began, try.Why)
		}
	}
	switch {
	case t.Ended.IsZero() && t.Leased:
		m.Outcome = "being answered"
		step(fmt.Sprintf("attempt %d is under way", t.Attempt), time.Time{}, "")
	case t.Ended.IsZero() && !t.Ready.IsZero():
		m.Outcome = "put off"
		step("goes on at", t.Ready, "")
	case t.Ended.IsZero():
	case t.Failure != "":
		m.Outcome, m.Fate = "given up", web.Unanswered
		step("given up", t.Ended, t.Failure)
	default:
		concluded(&m, t, step)
	}
	received(t, step)
	return m
}

// concluded tells of a turn that was finished.
func concluded(m *web.Message, t chat.Trail, step func(what string, at time.Time, why string)) {
	switch why := leftWhy(t); {
	case why != "":
		m.Outcome, m.Fate = "not answered", web.Unconcerned
		step("left out", t.Ended, why)
	case t.Reply != nil && t.Reply.Failure != "":
		m.Outcome, m.Fate = "apologised", web.Unanswered
		step("apologised", t.Ended, t.Reply.Failure)
	case t.Reply == nil || len(t.Reply.Parts) == 0:
		m.Outcome, m.Fate = "no answer needed", web.Unconcerned
		step("finished", t.Ended, "")
	default:
		m.Outcome, m.Fate = "answered", web.Answered
		step("answered", t.Ended, "")
	}
}

// received tells when the first to get the reply and the first to read it did.
func received(t chat.Trail, step func(what string, at time.Time, why string)) {
	for _, fate := range []chat.Fate{chat.Delivered, chat.Read} {
		var first time.Time
		for _, m := range t.Marks {
			if m.Fate == fate && (first.IsZero() || m.Time.Before(first)) {
				first = m.Time
			}
		}
		if !first.IsZero() {
			step(string(fate), first, "")
		}
	}
}

// personOf is a masked address, without WhatsApp's own server where that says nothing.
func personOf(jid string) string {
	return strings.TrimSuffix(mask.JID(plain(jid)), "@s.whatsapp.net")
}

// counts tells the page from now on what is spent, until another process leads.
func (s *site) counts(cfg config.Config, l *budget.Ledger) {
	wanted := slices.ContainsFunc(budget.Budgets, func(b budget.Budget) bool { return l.Limits[b].Limited() })
	wanted = wanted || slices.ContainsFunc(cfg.Models, func(m config.Entry) bool { return l.Prices(m.Name) != model.Prices{} })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger = nil
	if wanted {
		s.ledger = l
	}
}

// spent is what the bot has spent in the running day and month; none where that is not counted, or not yet.
func spent(l *budget.Ledger) (all []web.Spent) {
	if l == nil || !l.Loaded() {
		return nil
	}
	for _, p := range []struct {
		period budget.Period
		name   string
	}{{budget.Day, "Spent today"}, {budget.Month, "Spent this month"}} {
		b := budget.Budget{Scope: budget.Bot, Period: p.period}
		s, limit := l.Spent(b, chat.Message{}), l.Limits[b]
		row := web.Spent{Name: p.name, Text: spentText(s, limit)}
		if s.Of(limit) >= 1 {
			row.UsedUp, row.Until = b.Setting(), l.Next(p.period)
		}
		all = append(all, row)
	}
	return all
}

// spentText is what was spent, in money where there is any, and of how much.
func spentText(s budget.Spent, limit budget.Amount) string {
	about := ""
	if s.Estimated {
		about = "about "
	}
	tokens := fmt.Sprintf("%s%d", about, s.Tokens)
	switch {
	case limit.Money > 0:
		return fmt.Sprintf("%s of %s, for %s tokens", budget.Money(s.Cost), budget.Money(limit.Money), tokens)
	case limit.Tokens > 0 && s.Cost > 0:
		return fmt.Sprintf("%s of %d tokens, for %s", tokens, limit.Tokens, budget.Money(s.Cost))
	case limit.Tokens > 0:
		return fmt.Sprintf("%s of %d tokens", tokens, limit.Tokens)
	case s.Cost > 0:
		return fmt.Sprintf("%s, for %s tokens", budget.Money(s.Cost), tokens)
	}
	return tokens + " tokens"
}
