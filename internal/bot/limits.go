package bot

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/mask"
	"wabot/internal/words"
)

// patience is how long messages that come too fast wait to be answered; where it would take longer they are refused.
const patience = 2 * time.Minute

// tooFast puts a turn off whose messages come faster than RATE_PERSON and RATE_CHAT allow: it is answered with what comes
// meanwhile.
type tooFast struct{ wait time.Duration }

func (e *tooFast) Error() string {
	return "more messages than RATE_PERSON or RATE_CHAT allows; they are answered together a little later"
}

func (e *tooFast) RetryAfter() time.Duration { return e.wait }

// Waits marks the error as no failure.
func (e *tooFast) Waits() bool { return true }

// limit leaves out of w.fresh what is not to be answered because of a budget or a rate, with what is to be said of it. An
// error puts the turn off.
func (b *Bot) limit(ctx context.Context, t *chat.Turn, w *work) error {
	if err := b.withinBudget(ctx, w); err != nil {
		return err
	}
	return b.withinRate(t, w)
}

// withinBudget leaves out the messages of those whose budget is used up. A command costs nothing.
func (b *Bot) withinBudget(ctx context.Context, w *work) error {
	if b.Ledger == nil {
		return nil
	}
	if err := b.Ledger.Load(ctx); err != nil {
		return err
	}
	all := w.fresh
	w.fresh = nil
	for _, m := range all {
		e := b.Ledger.Over(m)
		if e == nil || b.free(m) {
			w.fresh = append(w.fresh, m)
			continue
		}
		w.leave(m, e.Why())
		w.refusal = cmp.Or(w.refusal, e.Why())
		b.Log.Debug("not answered: a budget is used up", "id", m.ID, "chat", mask.JID(m.Chat), "budget", e.Setting())
		if e.Told || w.noticed(e.Notice.ID) {
			continue
		}
		w.told = append(w.told, b.usedUp(e))
		w.notices = append(w.notices, e.Notice)
	}
	return nil
}

// free reports whether the answer to m asks no model.
func (b *Bot) free(m chat.Message) bool {
	return m.Kind == chat.Announcement || b.alone(m) || b.bare(&chat.Turn{Messages: []chat.Message{m}})
}

// usedUp says that a budget is used up, and until when.
func (b *Bot) usedUp(e *budget.Exhausted) string {
	until := e.Until.Format(untilForm)
	switch e.Scope {
	case budget.Person:
		return b.Words.Say(words.BudgetPerson, "until", until)
	case budget.Chat:
		return b.Words.Say(words.BudgetChat, "until", until)
	}
	return b.Words.Say(words.BudgetBot, "until", until)
}

// untilForm is how people are told a time.
const untilForm = "2006-01-02 15:04 MST"

// withinRate puts the turn off, or leaves out what would have to wait too long. Where anything in the turn may be answered
// now the rest is answered with it, and counts.
func (b *Bot) withinRate(t *chat.Turn, w *work) error {
	if b.Rates == nil || len(w.fresh) == 0 {
		return nil
	}
	var now, later, never []chat.Message
	soonest := patience
	for _, m := range w.fresh {
		switch wait := b.Rates.Wait(m); {
		case wait == 0, m.Kind == chat.Announcement:
			now = append(now, m)
		case wait <= patience:
			later, soonest = append(later, m), min(soonest, wait)
		default:
			never = append(never, m)
		}
	}
	// A turn that answers again what was edited has no lease of its own to put off.
	if len(now) == 0 && len(later) > 0 && len(w.past) == 0 && t.Lease != "" {
		return &tooFast{soonest}
	}
	w.fresh = nil
	for _, m := range append(now, later...) {
		if m.Kind != chat.Announcement {
			b.Rates.Take(m)
		}
	}
	for _, m := range t.Messages {
		if has(now, m) || has(later, m) {
			w.fresh = append(w.fresh, m)
		}
	}
	tell := map[words.Key]bool{}
	for _, m := range never {
		const why = "more messages than RATE_PERSON or RATE_CHAT allows"
		w.leave(m, why)
		w.refusal = cmp.Or(w.refusal, why)
		tell[words.TooMany] = b.Rates.Tell(m) || tell[words.TooMany]
	}
	for _, m := range w.fresh {
		if b.Rates.Flooded(m) && b.Rates.Tell(m) {
			tell[words.Flooded] = true
		}
	}
	for _, key := range []words.Key{words.TooMany, words.Flooded} {
		if tell[key] {
			w.told = append(w.told, b.Words.Say(key))
		}
	}
	return nil
}

func has(all []chat.Message, m chat.Message) bool {
	for _, o := range all {
		if keyOf(o) == keyOf(m) {
			return true
		}
	}
	return false
}

// leave notes that a message is not answered.
func (w *work) leave(m chat.Message, why string) {
	w.left = append(w.left, chat.Left{ID: m.ID, Sender: m.Sender, Why: why})
}

func (w *work) noticed(id string) bool {
	for _, c := range w.notices {
		if c.ID == id {
			return true
		}
	}
	return false
}

// Welcome reports whether a message that is admitted is stored: not as a part of a flood.
func (b *Bot) Welcome(m chat.Message) bool {
	if b.Rates == nil || m.Change != nil || b.Rates.Arrive(m) {
		return true
	}
	b.Log.Debug("message dropped: it is a part of a flood", "id", m.ID, "chat", mask.JID(m.Chat))
	b.gated(m, "a flood: far more messages than RATE_PERSON or RATE_CHAT allows")
	return false
}

// Stored counts a message that was Welcome, once it is stored.
func (b *Bot) Stored(m chat.Message) {
	if b.Rates != nil && m.Change == nil {
		b.Rates.Stored(m)
	}
}

// gated notes that a message that came in is not to be answered.
func (b *Bot) gated(m chat.Message, why string) {
	if b.Gated != nil {
		b.Gated(chat.Mark{Message: m.ID, Fate: chat.Gated, Chat: m.Chat, Who: m.Sender, Time: m.Time, Why: why})
	}
}

// billed opens a bill for what a turn's reply will cost. Where the turn fails, settle stores what was spent on it all
// the same.
func (b *Bot) billed(ctx context.Context) (_ context.Context, bill *budget.Bill, settle func(error)) {
	if b.Ledger == nil {
		return ctx, nil, func(error) {}
	}
	ctx, bill = b.Ledger.Open(ctx)
	return ctx, bill, func(err error) {
		if err != nil {
			b.keep(ctx, bill)
		}
	}
}

// keep stores what calls have cost that go with no reply.
func (b *Bot) keep(ctx context.Context, bill *budget.Bill) {
	all := bill.Charges()
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := b.Ledger.Keep(ctx, all...); err != nil {
		b.Log.Warn("what calls of models have cost could not be stored; trying again with the next", "err", err)
	}
}

// over reports whether a budget keeps the newest of messages from being answered again.
func (b *Bot) over(messages []chat.Message) bool {
	return b.Ledger != nil && b.Ledger.Over(messages[len(messages)-1]) != nil
}

// Account is the linked account.
type Account interface {
	// WaitOnline waits until messages can be sent.
	WaitOnline(ctx context.Context) error
	// Own is the account's chat with itself, under both of its addresses.
	Own() (jid, alt string)
	// IDOf is the ID of the message that says what; the same at each call.
	IDOf(what string) string
}

// Warn tells the account's owner, in the chat with themselves, and the other admins of budgets that are nearly or wholly used up, each once in its
// time, until ctx ends. A warning that is sent again after a crash has the same message ID, so that it is seen once.
func (b *Bot) Warn(ctx context.Context, a Account) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.Ledger.Due():
		}
		if err := a.WaitOnline(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := b.warn(ctx, a); err != nil && ctx.Err() == nil {
			b.Log.Warn("a warning of a budget could not be sent; trying again", "err", mask.Text(err.Error()))
			if rest(ctx, 10*time.Second) != nil {
				return nil
			}
			b.Ledger.Rouse()
		}
	}
}

// warn gives the warnings that are due.
func (b *Bot) warn(ctx context.Context, a Account) error {
	if err := b.Ledger.Load(ctx); err != nil {
		return err
	}
	own, _ := a.Own()
	for _, w := range b.Ledger.Warnings() {
		part := chat.Part{ID: a.IDOf(w.Notice.ID), Text: b.warning(w)}
		if err := b.WA.Send(ctx, own, part, nil); err != nil {
			return err
		}
		for _, admin := range b.Rules.Admins {
			// One who cannot be reached must not keep the others from being told, again and again.
			if err := b.WA.Send(ctx, jid(admin), part, nil); err != nil {
				b.Log.Warn("an admin could not be told of a budget", "admin", mask.JID(admin), "err", mask.Text(err.Error()))
			}
		}
		if err := b.Ledger.Keep(ctx, w.Notice); err != nil {
			return err
		}
		b.Log.Info("a budget is used up or nearly so; the admins were told", "budget", w.Setting(), "percent", w.Percent, "whose", mask.JID(w.Whose))
	}
	return nil
}

// warning is what the owner is told.
func (b *Bot) warning(w budget.Warning) string {
	percent, used, limit, until := fmt.Sprint(w.Percent), b.amount(w.Spent, w.Limit), b.limitOf(w.Limit), w.Until.Format(untilForm)
	if w.Scope == budget.Bot {
		return b.Words.Say(words.BudgetWarning, "percent", percent, "setting", w.Setting(), "used", used, "limit", limit, "until", until)
	}
	return b.Words.Say(words.BudgetWarningWhose, "percent", percent, "setting", w.Setting(), "whose", nameOf(w.Whose), "used", used, "limit", limit, "until", until)
}

// nameOf is an address as the owner knows it: a phone number, or what WhatsApp has in its place.
func nameOf(jid string) string {
	if number, ok := cutServer(jid, "@s.whatsapp.net"); ok {
		return "+" + number
	}
	return jid
}

func cutServer(jid, server string) (string, bool) {
	if n := len(jid) - len(server); n > 0 && jid[n:] == server {
		return jid[:n], true
	}
	return jid, false
}

// amount is what was spent, in the unit of a limit.
func (b *Bot) amount(s budget.Spent, limit budget.Amount) string {
	if limit.Money > 0 {
		return budget.Money(s.Cost)
	}
	return b.Words.Say(words.TokensOf, "tokens", fmt.Sprint(s.Tokens))
}

func (b *Bot) limitOf(limit budget.Amount) string {
	return b.amount(budget.Spent{Tokens: limit.Tokens, Cost: limit.Money}, limit)
}

// doUsage says what the author of m and its chat have used up today and this month and, to an admin, what the bot has.
func (b *Bot) doUsage(ctx context.Context, m chat.Message, _ string) (text, failure string, err error) {
	if b.Ledger == nil {
		return b.Words.Say(words.NoUsage), "", nil
	}
	if err := b.Ledger.Load(ctx); err != nil {
		return "", "", err
	}
	r, err := b.rules(ctx)
	if err != nil {
		return "", "", err
	}
	lines := []string{b.Words.Say(words.UsageYou, "day", b.usage(budget.Person, budget.Day, m), "month", b.usage(budget.Person, budget.Month, m))}
	if !m.Own {
		lines = append(lines, b.Words.Say(words.UsageChat, "day", b.usage(budget.Chat, budget.Day, m), "month", b.usage(budget.Chat, budget.Month, m)))
	}
	if r.admin(m) {
		lines = append(lines, b.Words.Say(words.UsageBot, "day", b.usage(budget.Bot, budget.Day, m), "month", b.usage(budget.Bot, budget.Month, m)))
	}
	return strings.Join(lines, "\n"), "", nil
}

// usage is what was spent of a budget, and of how much.
func (b *Bot) usage(scope budget.Scope, period budget.Period, m chat.Message) string {
	of := budget.Budget{Scope: scope, Period: period}
	s := b.Ledger.Spent(of, m)
	text := b.Words.Say(words.TokensOf, "tokens", fmt.Sprint(s.Tokens))
	if s.Estimated {
		text = b.Words.Say(words.AboutTokens, "tokens", fmt.Sprint(s.Tokens))
	}
	if s.Cost > 0 {
		text += ", " + budget.Money(s.Cost)
	}
	limit := b.Ledger.Limits[of]
	if !limit.Limited() || m.Own && of.Scope != budget.Bot {
		return text
	}
	return b.Words.Say(words.UsedOf, "used", text, "limit", b.limitOf(limit))
}
