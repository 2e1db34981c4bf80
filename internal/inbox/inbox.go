// Package inbox carries messages from their acknowledgement to their answer.
//
// A message is stored before WhatsApp hears that it arrived, and stays until its turn is
// finished or given up: the store is the queue, so a process may be killed at any line. Run
// claims the waiting messages of one chat at a time, under a lease, and hands them to the
// answerer; different chats are answered at once, one chat in order. What becomes of a turn
// is decided here and nowhere else: an answer finishes it, an error puts it off, and a
// permanent error, too many attempts or too much time give it up, which the user is told and the
// log says.
//
// The store keeps only what must outlive the process. In memory are one wake-up, for a message that has just
// come, and the replies of the turns that are running.
package inbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"wabot/internal/chat"
	"wabot/internal/mask"
)

// Options are an Inbox's settings. A zero value stands for the default.
type Options struct {
	// Workers is how many turns are answered at once; 8 by default.
	Workers int
	// Lease is how long a turn may take, 5 minutes by default. Its last tenth is kept for
	// deciding what becomes of the turn: the answer's context ends before.
	Lease time.Duration
	// Debounce is how long more messages of a chat are awaited after each, up to MostHold in all, to be answered
	// together; zero awaits none. Closes, if set, says of a message that nothing is awaited after it.
	Debounce time.Duration
	Closes   func(m chat.Message) bool
	// Holds, if set, is told that more is awaited in a chat for a time, if nothing comes meanwhile. It must not block.
	Holds func(chatJID string, lasts time.Duration)
	// MaxAttempts is how often a turn is tried, that it waits for its time not counted; 12 by default, which with the default
	// pauses takes about twenty minutes.
	MaxAttempts int
	// MaxAge is how old a turn's newest message may be for a failed turn to be tried again; 24
	// hours by default.
	MaxAge time.Duration
	// MinBackoff and MaxBackoff bound the time between two attempts, which doubles from the
	// one to the other and is spread by up to a half; 2 seconds and 5 minutes by default.
	MinBackoff, MaxBackoff time.Duration
	// Ready, if set, waits until turns can be answered: nothing is claimed, and no attempt counted,
	// before it returns nil. It returns an error once ctx ends; another ends Run.
	Ready func(ctx context.Context) error
	// Drain is how long turns in flight may go on once Run was asked to stop; 5 seconds by
	// default. One that is cut off then is tried again after the restart.
	Drain time.Duration
	// GiveUp, if set, tells the user that t will not be answered. It is called before the turn is marked; a
	// crash in between may call it again, with what it saved as the turn's reply. Its error is logged and changes nothing.
	GiveUp func(ctx context.Context, t chat.Turn, cause error) error
	// Ended, if set, is told what became of each try at a turn, and how long ago the first of its
	// messages was sent.
	Ended func(o Outcome, waited time.Duration)
	// History is how many turns of a chat's history the answerer asks for at each turn: so many of the chats that were answered lately
	// are kept in memory. Zero keeps none.
	History int
	// Now is the machine's clock, time.Now if nil.
	Now func() time.Time
	// Said is the time by the clock that messages' times are of, WhatsApp's; Now if nil.
	Said func() time.Time
}

// Outcome is what became of a try at a turn.
type Outcome string

// The outcomes.
const (
	Answered   Outcome = "answered"
	Apologized Outcome = "apologized" // answered with why there is no answer
	PutOff     Outcome = "put_off"    // to be tried again
	GivenUp    Outcome = "given_up"
	Lost       Outcome = "lost"    // to another, who holds the lease now
	CutOff     Outcome = "cut_off" // by the end of the process, to be tried again
)

// Inbox is a queue of messages on a Store. Its methods are safe for concurrent use.
type Inbox struct {
	store *recent
	opts  Options
	log   *slog.Logger
	clock *clock
	// wake holds one token while there may be something to claim; came is set while there most probably is.
	wake chan struct{}
	came atomic.Bool

	hearing sync.Mutex // held from reading what was heard to writing it

	mu sync.Mutex
	// replies are those saved for the running turns, by lease.
	replies map[string]*chat.Reply
}

// New makes an Inbox on store.
func New(store Store, opts Options, log *slog.Logger) *Inbox {
	setDefault(&opts.Workers, 8)
	setDefault(&opts.Lease, 5*time.Minute)
	setDefault(&opts.MaxAttempts, 12)
	setDefault(&opts.MaxAge, 24*time.Hour)
	setDefault(&opts.MinBackoff, 2*time.Second)
	setDefault(&opts.MaxBackoff, 5*time.Minute)
	setDefault(&opts.Drain, 5*time.Second)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Said == nil {
		opts.Said = opts.Now
	}
	return &Inbox{store: newRecent(store, opts.History), opts: opts, log: log, clock: newClock(opts.Now), wake: make(chan struct{}, 1), replies: map[string]*chat.Reply{}}
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// RetryAfter is an error that knows when another attempt makes sense, as from a model
// API that asks to wait. A delay of zero or less leaves it to the inbox.
type RetryAfter interface {
	error
	RetryAfter() time.Duration
}

// waits reports whether err is no failure and its attempt none: a turn that waits for its time, however often.
func waits(err error) bool {
	var w interface{ Waits() bool }
	return errors.As(err, &w) && w.Waits()
}

// Permanent marks err, which must not be nil, as one that no retry helps: the turn is given up.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ err error }

func (e *permanent) Error() string { return e.err.Error() }
func (e *permanent) Unwrap() error { return e.err }

// Put stores m, to be answered. A message that is already stored is left as it is.
func (b *Inbox) Put(ctx context.Context, m chat.Message) error {
	now := b.clock.now()
	m.Hold = b.hold(m, now)
	if err := b.store.Put(ctx, m, now); err != nil {
		return fmt.Errorf("store a message: %w", err)
	}
	b.holds(m.Chat, m.Hold)
	if m.Hold.IsZero() {
		b.came.Store(true)
	}
	b.rouse()
	return nil
}

// SaveReply stores the reply to the turn being answered, in place of an earlier one, and sets it in
// t. The inbox keeps the reply's parts: what the answerer changes in them (that one was sent) is
// history once the turn is finished. The error is ErrLeaseLost if the turn is another's by now.
func (b *Inbox) SaveReply(ctx context.Context, t *chat.Turn, r chat.Reply) error {
	if err := b.store.SaveReply(ctx, *t, r); err != nil {
		return fmt.Errorf("save the reply: %w", err)
	}
	t.Reply = &r
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replies[t.Lease] = &r
	return nil
}

// History returns the last n turns of a chat that are finished or given up, oldest first. Only the slice itself may be changed.
func (b *Inbox) History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error) {
	all, err := b.store.History(ctx, chatJID, n)
	if err != nil {
		return nil, fmt.Errorf("read the chat's history: %w", err)
	}
	return all, nil
}

// Find returns the turn of a message, known by its chat, sender and ID; ErrUnknown if it is not stored.
func (b *Inbox) Find(ctx context.Context, like chat.Message) (chat.Exchange, error) {
	x, err := b.store.Find(ctx, like)
	if err != nil {
		return chat.Exchange{}, fmt.Errorf("find a message: %w", err)
	}
	return x, nil
}

// Amend replaces what is stored of messages and, with r, the reply of the first one's turn if that has ended.
func (b *Inbox) Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error {
	if err := b.store.Amend(ctx, messages, r); err != nil {
		return fmt.Errorf("change stored messages: %w", err)
	}
	return nil
}

// Forget removes all that is stored.
func (b *Inbox) Forget(ctx context.Context) error {
	if err := b.store.Forget(ctx); err != nil {
		return fmt.Errorf("forget all messages: %w", err)
	}
	return nil
}

// Depth counts the messages that are not answered yet.
func (b *Inbox) Depth(ctx context.Context) (int, error) {
	n, err := b.store.Depth(ctx)
	if err != nil {
		return 0, fmt.Errorf("count the waiting messages: %w", err)
	}
	return n, nil
}

// rouse lets Run look into the store.
func (b *Inbox) rouse() {
	select {
	case b.wake <- struct{}{}:
	default: // it has been told
	}
}

// Run claims turns and has them answered until ctx ends. Then it claims no more, lets
// the turns in flight end, for as long as Options.Drain allows, and returns nil. The process that calls it must be the
// only one that drives the device: turns that a killed predecessor held are taken over at once.
//
// An answer finishes its turn by returning nil. After ErrLeaseLost the turn is another's; after
// another error, a panic or the end of its context the turn is tried again later.
func (b *Inbox) Run(ctx context.Context, answer func(ctx context.Context, t chat.Turn) error) error {
	var turns sync.WaitGroup
	defer turns.Wait()
	// What ends at the end of the drain is the answering; the turns are then still settled.
	answering, cut := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(b.opts.Drain, cut) })
	free := make(chan struct{}, b.opts.Workers)
	store := outage{log: b.log}
	for !store.try(ctx, "release the leases", func() error { return b.release(ctx) }) {
		if ctx.Err() != nil {
			return nil
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case free <- struct{}{}:
		}
		if len(free) == 1 {
			b.clock.follow()
		}
		t, err := b.claim(ctx, &store)
		if ctx.Err() != nil && err != nil {
			return nil
		}
		if err != nil {
			return err
		}
		turns.Go(func() {
			b.run(answering, t, answer)
			<-free
			b.rouse() // the chat may have more
			b.store.ahead(answering, t.Chat)
		})
	}
}

// release frees what a predecessor held. Where it has left something from later than now its clock was ahead of this one, or
// this one was set back since: holds and pauses are by its time, which goes on.
func (b *Inbox) release(ctx context.Context) error {
	if err := b.store.Release(ctx); err != nil {
		return err
	}
	oldest, err := b.store.Oldest(ctx)
	if err == nil {
		b.clock.atLeast(oldest)
	}
	return err
}

// claim waits for a turn, or for the end of ctx.
func (b *Inbox) claim(ctx context.Context, store *outage) (t chat.Turn, err error) {
	for ctx.Err() == nil {
		if b.opts.Ready != nil {
			if err := b.opts.Ready(ctx); err != nil {
				return chat.Turn{}, fmt.Errorf("wait until turns can be answered: %w", err)
			}
		}
		var next time.Time
		empty := false
		fine := store.try(ctx, "claim a turn", func() (err error) {
			now := b.clock.now()
			if !b.came.Swap(false) { // a look costs less than a claim
				next, err = b.store.Next(ctx)
				if empty = err == nil && (next.IsZero() || next.After(now)); empty || err != nil {
					return err
				}
			}
			t, err = b.store.Claim(ctx, now, now.Add(b.opts.Lease))
			if empty = errors.Is(err, ErrEmpty); empty {
				next, err = b.store.Next(ctx)
			}
			return err
		})
		switch {
		case fine && empty:
			b.rest(ctx, next)
		case fine:
			return t, nil
		}
	}
	return chat.Turn{}, ctx.Err()
}

// rest waits until something may be claimed: until next, where it is set, or a wake-up.
func (b *Inbox) rest(ctx context.Context, next time.Time) {
	// Looking each minute costs nothing.
	wait := time.Minute
	if !next.IsZero() {
		// At least a moment: the store's clock may be coarser than ours.
		wait = max(min(wait, next.Sub(b.clock.now())), 10*time.Millisecond)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-b.wake:
	case <-timer.C:
	}
}

// run answers one turn, until answering ends, and decides what becomes of it.
func (b *Inbox) run(answering context.Context, t chat.Turn, answer func(context.Context, chat.Turn) error) {
	ctx := context.WithoutCancel(answering)
	log := b.log.With("chat", mask.JID(t.Chat), "attempt", t.Attempt)
	log.Debug("answering", "messages", len(t.Messages))
	defer b.forget(t.Lease)

	var err error
	began := b.clock.now()
	if t.Attempt > b.opts.MaxAttempts {
		// Earlier attempts ended with the process: this turn may be what kills it.
		err = Permanent(fmt.Errorf("%d attempts ended without a result", t.Attempt-1))
	} else {
		err = guarded(answering, log, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, b.left(t)-b.opts.Lease/10)
			defer cancel()
			return answer(ctx, t)
		})
	}
	if r := b.reply(t.Lease); r != nil {
		t.Reply = r
	}
	t.Tries = tried(t.Tries, chat.Try{Began: began, Ended: b.clock.now(), Why: why(err)}, waits(err))

	var outcome Outcome
	defer func() {
		if b.opts.Ended != nil {
			b.opts.Ended(outcome, b.opts.Said().Sub(t.Messages[0].Time))
		}
	}()
	switch {
	case err == nil:
		outcome = Answered
		if t.Reply != nil && t.Reply.Failure != "" {
			outcome = Apologized
		}
		b.settle(ctx, log, t, "finish the turn", func(ctx context.Context) error {
			return b.store.Finish(ctx, t, b.clock.now())
		})
	case errors.Is(err, ErrLeaseLost):
		outcome = Lost
		log.Warn("another took the turn over; its work is theirs now")
	case answering.Err() != nil:
		outcome = CutOff
		log.Info("the turn was cut off by the stop; it is answered after the restart")
		b.settle(ctx, log, t, "put the turn off", func(ctx context.Context) error {
			return b.store.Retry(ctx, t, b.clock.now())
		})
	case b.hopeless(t, err):
		outcome = GivenUp
		b.giveUp(ctx, log, t, err)
	default:
		outcome = PutOff
		at := b.clock.now().Add(b.delay(t.Attempt, err))
		if waits(err) {
			t.Attempt-- // it was none
			log.Debug("the turn waits", "at", at, "why", mask.Text(err.Error()))
		} else {
			log.Warn("the turn did not succeed and is tried again", "at", at, "err", mask.Text(err.Error()))
		}
		b.settle(ctx, log, t, "put the turn off", func(ctx context.Context) error {
			return b.store.Retry(ctx, t, at)
		})
	}
}

// tried is all and what was tried now. A turn that waits on has waited once, however often that was looked at.
func tried(all []chat.Try, now chat.Try, waits bool) []chat.Try {
	if last := len(all) - 1; waits && last >= 0 && all[last].Why == now.Why {
		now.Began, all = all[last].Began, all[:last]
	}
	return append(all, now)
}

// why is what is kept of an attempt's error.
func why(err error) string {
	if err == nil {
		return ""
	}
	return mask.Text(err.Error())
}

// guarded calls f and makes an error of a panic. What the panic says may be a part of a message and is
// not kept, unless the runtime said it.
func guarded(ctx context.Context, log *slog.Logger, f func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic with a value of type %T", p)
			if r, ok := p.(runtime.Error); ok {
				err = fmt.Errorf("panic: %w", r)
			}
			log.Error("the turn panicked; please report this", "err", err, "stack", string(debug.Stack()))
		}
	}()
	return f(ctx)
}

// hopeless says whether no further attempt is made after err.
func (b *Inbox) hopeless(t chat.Turn, err error) bool {
	var p *permanent
	if waits(err) {
		return false
	}
	return errors.As(err, &p) || t.Attempt >= b.opts.MaxAttempts || b.opts.Said().Sub(t.Last().Time) > b.opts.MaxAge
}

// giveUp tells the user and the operator, and marks the turn.
func (b *Inbox) giveUp(ctx context.Context, log *slog.Logger, t chat.Turn, cause error) {
	log.Error("the turn is given up and stays unanswered; see err for what to mend", "messages", len(t.Messages), "err", mask.Text(cause.Error()))
	if b.opts.GiveUp != nil {
		err := guarded(ctx, log, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, b.left(t))
			defer cancel()
			return b.opts.GiveUp(ctx, t, cause)
		})
		if err != nil {
			log.Error("the user could not be told that there is no answer", "err", mask.Text(err.Error()))
		}
	}
	b.settle(ctx, log, t, "give the turn up", func(ctx context.Context) error {
		return b.store.Fail(ctx, t, b.clock.now(), cause.Error())
	})
}

// settle writes what became of t, again and again until it is written or the lease ends. If it
// is not written the turn is claimed again some day, with the reply that was saved.
func (b *Inbox) settle(ctx context.Context, log *slog.Logger, t chat.Turn, doing string, write func(context.Context) error) {
	// Where the answer took too long the turn is still ours unless another took it.
	ctx, cancel := context.WithTimeout(ctx, max(b.left(t), b.opts.Lease/10))
	defer cancel()
	store := outage{log: log}
	for ctx.Err() == nil {
		lost := false
		if store.try(ctx, doing, func() error {
			err := write(ctx)
			if lost = errors.Is(err, ErrLeaseLost); lost {
				return nil
			}
			return err
		}) {
			if lost {
				// Also after a write that was done, but said it was not.
				log.Debug("the lease had ended", "doing", doing)
			}
			return
		}
	}
	log.Error("the store did not come back before the lease ended; the turn will be claimed again", "doing", doing)
}

// left is how long the lease of t lasts.
func (b *Inbox) left(t chat.Turn) time.Duration { return t.Until.Sub(b.clock.now()) }

// delay is how long to wait after the given attempt.
func (b *Inbox) delay(attempt int, err error) time.Duration {
	var own RetryAfter
	if errors.As(err, &own) && own.RetryAfter() > 0 {
		return own.RetryAfter()
	}
	return backoff(b.opts.MinBackoff, b.opts.MaxBackoff, attempt)
}

// backoff doubles from least with each attempt from 1 on, up to most, and takes off up to a half, so
// that what failed together is not tried again together.
func backoff(least, most time.Duration, attempt int) time.Duration {
	d := least
	for i := 1; i < attempt && d < most; i++ {
		d *= 2
	}
	d = min(d, most)
	return d - rand.N(d/2+1)
}

func (b *Inbox) reply(lease string) *chat.Reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.replies[lease]
}

func (b *Inbox) forget(lease string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.replies, lease)
}

// outage follows whether the store can be reached: it says once that it cannot and once that it
// can again, and slows the caller down in between.
type outage struct {
	log    *slog.Logger
	failed int
}

// try calls f, and after an error waits before it returns false, or until ctx ends.
func (o *outage) try(ctx context.Context, doing string, f func() error) bool {
	err := f()
	if err == nil {
		if o.failed > 0 {
			o.log.Info("the store is back", "doing", doing, "failures", o.failed)
			o.failed = 0
		}
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	if o.failed == 0 {
		o.log.Warn("the store does not answer; waiting for it", "doing", doing, "err", err)
	}
	o.failed++
	timer := time.NewTimer(backoff(200*time.Millisecond, 5*time.Second, o.failed))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}
