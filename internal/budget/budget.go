// Package budget knows what calls of models cost, and who may spend how much and how fast.
//
// Each call makes one charge, with an ID of its own. It counts from the moment of the call, in memory, and is stored with
// the reply it was made for, or by itself where there is none; a charge that is stored twice is one charge. The process that
// drives the device alone makes charges: it adds up those of the running month when it begins and then knows all
// sums. A crash between a call and its storing loses the charge of that call, never doubles it.
//
// A budget is looked at before a call, so that the last call may go beyond it. Days and months are those of one time zone.
package budget

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wabot/internal/chat"
	"wabot/internal/model"
)

// Store keeps charges. Its methods are safe for concurrent use.
type Store interface {
	// Charge keeps charges, durably; one whose ID is there already stays as it is. A crash may leave a part of them.
	Charge(ctx context.Context, all []chat.Charge) error
	// Charges calls each for the charges and totals from since on and before until, in any order, until each fails.
	Charges(ctx context.Context, since, until time.Time, each func(chat.Charge) error) error
	// DropCharges deletes at most so many of the charges from since on and before until, but for totals, and returns how many.
	DropCharges(ctx context.Context, since, until time.Time, most int) (int, error)
}

// Amount is what may be spent: a number of tokens, or money in millionths of the operator's currency. The zero value is
// no limit.
type Amount struct{ Tokens, Money int64 }

// Limited reports whether there is a limit.
func (a Amount) Limited() bool { return a != Amount{} }

// Scope is whose a budget is.
type Scope string

// Period is the time after which a budget begins anew.
type Period string

// The scopes and periods.
const (
	Person Scope = "person"
	Chat   Scope = "chat"
	Bot    Scope = "bot"

	Day   Period = "day"
	Month Period = "month"
)

// Budget names one.
type Budget struct {
	Scope  Scope
	Period Period
}

// Setting is the name of the setting that it is made by.
func (b Budget) Setting() string {
	return strings.ToUpper(fmt.Sprintf("BUDGET_%s_%s", b.Scope, b.Period))
}

// Budgets are all budgets, in the order in which they are looked at.
var Budgets = []Budget{{Person, Day}, {Person, Month}, {Chat, Day}, {Chat, Month}, {Bot, Day}, {Bot, Month}}

// Spent is what has been spent.
type Spent struct {
	Calls  int
	Tokens int64
	Cost   int64 // millionths
	// Estimated is set where some of the tokens were not counted by a model's server.
	Estimated bool
}

// A picture and sound have no tokens of their own; in a budget of tokens they count as so many, about what
// makers of such models count.
const (
	tokensOfImage  = 1000
	tokensOfSecond = 10
	// charactersOfToken of speech are one.
	charactersOfToken = 4
)

// Tokens are what a charge counts as in a budget of tokens.
func Tokens(c chat.Charge) int64 {
	return int64(c.Prompt) + int64(c.Completion) + int64(c.Images)*tokensOfImage + int64(math.Ceil(c.Seconds*tokensOfSecond)) +
		int64(c.Characters+charactersOfToken-1)/charactersOfToken
}

// cost is what a charge costs at the prices, in millionths, rounded up.
func cost(c chat.Charge, p model.Prices) int64 {
	// The price of a million tokens is that of one in millionths.
	exact := float64(c.Prompt)*p.Prompt + float64(c.Completion)*p.Completion + float64(c.Images)*p.Image*1e6 +
		c.Seconds/60*p.Minute*1e6 + float64(c.Characters)*p.Characters
	return int64(math.Ceil(exact - 1e-6)) // not for an error of the arithmetic
}

func (s *Spent) add(c chat.Charge) {
	s.Calls++
	s.Tokens += Tokens(c)
	s.Cost += c.Cost
	s.Estimated = s.Estimated || c.Estimated
}

// Add is the sum of two.
func (s Spent) Add(o Spent) Spent {
	return Spent{s.Calls + o.Calls, s.Tokens + o.Tokens, s.Cost + o.Cost, s.Estimated || o.Estimated}
}

// Of is how much of an amount is spent: 1 for all of it; 0 where there is no limit.
func (s Spent) Of(a Amount) float64 {
	switch {
	case a.Money > 0:
		return float64(s.Cost) / float64(a.Money)
	case a.Tokens > 0:
		return float64(s.Tokens) / float64(a.Tokens)
	}
	return 0
}

// Options are what a Ledger needs.
type Options struct {
	Store Store
	// Limits are the budgets that have one.
	Limits map[Budget]Amount
	// Zone is where days and months begin.
	Zone *time.Location
	// Prices are those of a model, by its name.
	Prices func(name string) model.Prices
	// Made, if set, is told of each charge that is made.
	Made func(chat.Charge)
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Ledger adds up charges. It is safe for concurrent use.
type Ledger struct {
	Options
	// due holds one token while there may be a warning to give.
	due chan struct{}

	loaded atomic.Bool
	mu     sync.Mutex // held while Load reads
	// known are the charges, those of notices too, since when the month before began, by the hashes of their IDs under seed: there may
	// be some 10,000 in a day. The values are their months.
	known map[uint64]monthNumber
	seed  maphash.Seed
	// other are the names of sums that are of one person or chat under two addresses, each by the other.
	other map[string]string
	sums  map[string]sum // by scope and whose
	month time.Time      // the beginning of the latest month that something is of
	// unsaved are charges that could not be stored yet.
	unsaved []chat.Charge
}

// sum is what was spent in days and months, since when the month before the latest began. A clock that was ahead and is set back
// finds what was spent on the day before.
type sum map[spell]Spent

// spell is a day or month that began then, in seconds since 1970.
type spell struct {
	of    Period
	begun int64
}

// New returns a ledger.
func New(o Options) *Ledger {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Ledger{Options: o, due: make(chan struct{}, 1), known: map[uint64]monthNumber{}, seed: maphash.MakeSeed(), other: map[string]string{}, sums: map[string]sum{}}
}

// begins is when the day or the month of t began, and when the next begins.
func (l *Ledger) begins(p Period, t time.Time) (begin, next time.Time) {
	y, m, d := t.In(l.Zone).Date()
	if p == Month {
		return time.Date(y, m, 1, 0, 0, 0, 0, l.Zone), time.Date(y, m+1, 1, 0, 0, 0, 0, l.Zone)
	}
	return time.Date(y, m, d, 0, 0, 0, 0, l.Zone), time.Date(y, m, d+1, 0, 0, 0, 0, l.Zone)
}

// Load adds up what is stored of the running month, once. It must have returned nil before anything is charged or asked for.
func (l *Ledger) Load(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loaded.Load() {
		return nil
	}
	begin, end := l.begins(Month, l.Now())
	err := l.Store.Charges(ctx, begin, end, func(c chat.Charge) error {
		l.count(c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("add up what was spent: %w", err)
	}
	l.loaded.Store(true)
	l.Rouse()
	return nil
}

// Forget makes Load add up anew, after what is stored was removed.
func (l *Ledger) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded.Store(false)
	l.known, l.other, l.sums, l.unsaved = map[uint64]monthNumber{}, map[string]string{}, map[string]sum{}, nil
}

// Rouse has Due sent to.
func (l *Ledger) Rouse() {
	select {
	case l.due <- struct{}{}:
	default: // it has been told
	}
}

// Due is sent to after what was spent has changed, so that a warning may be due.
func (l *Ledger) Due() <-chan struct{} { return l.due }

// of names a sum.
func of(s Scope, whose string) string { return string(s) + "/" + whose }

// byModel names the sum of a model.
func byModel(name string) string { return of("model", name) }

// count adds a charge that is not known yet.
func (l *Ledger) count(c chat.Charge) {
	if l.knows(c.ID) || c.Kind == chat.Total {
		return
	}
	month, _ := l.begins(Month, c.Time)
	if month.After(l.month) {
		l.forgetBefore(l.month)
		l.month = month
	}
	l.known[l.hash(c.ID)] = numberOf(month)
	if c.Kind == chat.Notice {
		return
	}
	names := []string{of(Bot, ""), byModel(c.Model), of(Person, c.Person), of(Chat, c.Chat)}
	if c.Own {
		names = append(names[:2], of(own, c.Person))
	}
	for _, name := range names {
		s := l.sums[name]
		if s == nil {
			s = sum{}
			l.sums[name] = s
		}
		for _, p := range []Period{Day, Month} {
			at := l.spell(p, c.Time)
			spent := s[at]
			spent.add(c)
			s[at] = spent
		}
	}
}

func (l *Ledger) knows(id string) bool {
	_, known := l.known[l.hash(id)]
	return known
}

func (l *Ledger) hash(id string) uint64 { return maphash.String(l.seed, id) }

// monthNumber counts months since the year 0.
type monthNumber uint16

func numberOf(t time.Time) monthNumber { return monthNumber(12*t.Year() + int(t.Month())) }

// forgetBefore forgets what is of months before the one that began then.
func (l *Ledger) forgetBefore(month time.Time) {
	clear(l.other)
	maps.DeleteFunc(l.known, func(_ uint64, of monthNumber) bool { return of < numberOf(month) })
	for name, s := range l.sums {
		if maps.DeleteFunc(s, func(at spell, _ Spent) bool { return at.begun < month.Unix() }); len(s) == 0 {
			delete(l.sums, name)
		}
	}
}

// spell is the day or the month of t.
func (l *Ledger) spell(p Period, t time.Time) spell {
	begin, _ := l.begins(p, t)
	return spell{p, begin.Unix()}
}

// spent is the sum of what was spent in the running period under the names.
func (l *Ledger) spent(p Period, names ...string) (all Spent) {
	at := l.spell(p, l.Now())
	for i, name := range names {
		if !slices.Contains(names[:i], name) {
			all = all.Add(l.sums[name][at])
		}
	}
	return all
}

// own is the scope of the account's chat with itself, which has no budget of its own.
const own Scope = "own"

// whose are the names of the sums that a message counts for.
func whose(s Scope, m chat.Message) []string {
	if m.Own && s != Bot {
		s = own
	}
	pair := [2]string{}
	switch s {
	case Person, own:
		pair = [2]string{m.Sender, m.SenderAlt}
	case Chat:
		pair = [2]string{m.Chat, m.ChatAlt}
	}
	names := []string{of(s, pair[0])}
	if pair[1] != "" {
		names = append(names, of(s, pair[1]))
	}
	return names
}

// Loaded reports whether Load has returned nil. It does not wait for a Load that is at work.
func (l *Ledger) Loaded() bool { return l.loaded.Load() }

// Next is when the next day or month begins.
func (l *Ledger) Next(p Period) time.Time {
	_, next := l.begins(p, l.Now())
	return next
}

// meets takes note of the two addresses of a message's author and chat.
func (l *Ledger) meets(m chat.Message) {
	for _, s := range []Scope{Person, Chat} {
		if names := whose(s, m); !m.Own && len(names) == 2 && names[0] != names[1] {
			l.other[names[0]], l.other[names[1]] = names[1], names[0]
		}
	}
}

// Spent is what was spent in the running day or month: by the author of m, in its chat, or by the bot.
func (l *Ledger) Spent(b Budget, m chat.Message) Spent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spent(b.Period, whose(b.Scope, m)...)
}

// OfModel is what a model has cost in the running day or month.
func (l *Ledger) OfModel(name string, p Period) Spent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spent(p, byModel(name))
}

// Exhausted is a budget that is used up.
type Exhausted struct {
	Budget
	// Until is when it begins anew.
	Until time.Time
	// Told is set where those concerned have been told.
	Told bool
	// Notice is the charge that notes that they have.
	Notice chat.Charge
}

// Why says it to the operator.
func (e Exhausted) Why() string { return e.Setting() + " is used up" }

// Over returns the budget that keeps m from being answered, or nil. The account's owner in the own chat is held back
// by the bot's alone.
func (l *Ledger) Over(m chat.Message) *Exhausted {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meets(m)
	for _, b := range Budgets {
		if m.Own && b.Scope != Bot {
			continue
		}
		limit := l.Limits[b]
		names := whose(b.Scope, m)
		if l.spent(b.Period, names...).Of(limit) < 1 {
			continue
		}
		begin, next := l.begins(b.Period, l.Now())
		if b.Scope == Bot {
			names = whose(Chat, m) // each chat is told
		}
		e := &Exhausted{Budget: b, Until: next}
		for _, name := range names {
			id := fmt.Sprintf("notice/%s/%s/%s/%s", b.Scope, b.Period, begin.Format(time.DateOnly), name)
			e.Told = e.Told || l.knows(id)
			e.Notice = chat.Charge{ID: cmp.Or(e.Notice.ID, id), Time: l.Now(), Kind: chat.Notice}
		}
		return e
	}
	return nil
}

// Known reports whether a charge, or a notice, with the ID has been made.
func (l *Ledger) Known(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.knows(id)
}

// Note counts charges that are made elsewhere, such as notices.
func (l *Ledger) Note(all ...chat.Charge) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range all {
		l.count(c)
	}
}

// unsavedMost bounds the charges that wait for the store.
const unsavedMost = 1000

// Keep stores charges that go with no reply. Those that it cannot store it tries again with the next.
func (l *Ledger) Keep(ctx context.Context, all ...chat.Charge) error {
	l.Note(all...)
	l.mu.Lock()
	all = append(l.unsaved, all...)
	l.unsaved = nil
	l.mu.Unlock()
	if len(all) == 0 {
		return nil
	}
	err := l.Store.Charge(ctx, all)
	if err == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved = append(all, l.unsaved...)
	l.unsaved = l.unsaved[max(0, len(l.unsaved)-unsavedMost):]
	return fmt.Errorf("keep what was spent: %w", err)
}

// Make makes a charge of what a call has used, and counts it; the caller has it stored.
func (l *Ledger) Make(c chat.Charge) chat.Charge {
	c.ID, c.Time = rand.Text(), l.Now()
	c.Cost = cost(c, l.Prices(c.Model))
	l.Note(c)
	if l.Made != nil {
		l.Made(c)
	}
	l.Rouse()
	return c
}

// Warning is that much of a budget is used up.
type Warning struct {
	Budget
	// Percent is 80 or 100.
	Percent int
	// Whose is the person's or the chat's JID, empty for the bot.
	Whose string
	Spent Spent
	Limit Amount
	Until time.Time
	// Notice is the charge that notes that it was given.
	Notice chat.Charge
}

// Warnings are those that are due and were not given yet. Where all is used up, that it was nearly so is not
// told any more.
func (l *Ledger) Warnings() (due []Warning) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range Budgets {
		limit := l.Limits[b]
		if !limit.Limited() {
			continue
		}
		begin, next := l.begins(b.Period, l.Now())
		for name := range l.sums {
			whose, ok := strings.CutPrefix(name, string(b.Scope)+"/")
			if !ok || whose == "" && b.Scope != Bot {
				continue // what is nobody's is the bot's alone
			}
			names := []string{name}
			if other := l.other[name]; other != "" {
				if l.sums[other] != nil && other < name {
					continue // looked at under that
				}
				names = append(names, other)
				if _, alt, _ := strings.Cut(other, "/"); strings.HasSuffix(alt, "@s.whatsapp.net") {
					whose = alt // a number tells the owner more
				}
			}
			spent := l.spent(b.Period, names...)
			percent := 0
			switch part := spent.Of(limit); {
			case part >= 1:
				percent = 100
			case part >= 0.8:
				percent = 80
			default:
				continue
			}
			given := false
			for _, name := range names {
				given = given || l.knows(warningID(percent, b.Period, begin, name))
			}
			if !given {
				notice := chat.Charge{ID: warningID(percent, b.Period, begin, name), Time: l.Now(), Kind: chat.Notice}
				due = append(due, Warning{b, percent, whose, spent, limit, next, notice})
			}
		}
	}
	slices.SortFunc(due, func(a, b Warning) int { return cmp.Compare(a.Notice.ID, b.Notice.ID) })
	return due
}

// warningID is the ID of the charge that notes a warning.
func warningID(percent int, p Period, begin time.Time, name string) string {
	return fmt.Sprintf("warning/%d/%s/%s/%s", percent, p, begin.Format(time.DateOnly), name)
}

// Money is an amount of money as people write it: to the hundredth, or where it is less as exactly as it needs.
func Money(millionths int64) string {
	text := fmt.Sprintf("%d.%06d", millionths/1e6, millionths%1e6)
	if millionths >= 10_000 {
		return text[:len(text)-4]
	}
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}
