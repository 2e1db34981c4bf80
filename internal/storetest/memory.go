package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// Memory is an inbox.Store in memory: the model that the stores are compared with, and a fast
// store for tests. Its zero value is empty. It looks through all it has on each call.
type Memory struct {
	// Fault, if set, is called with the name of the method and t.Messages' first ID, where there is one, before (done
	// is false) and after (done is true) each call. An error from it is the call's result, so that a write fails, or
	// happens and says that it failed.
	Fault func(method, id string, done bool) error

	mu       sync.Mutex
	messages []*stored
	turns    []*turn
	said     map[string][]chat.Message // heard, by chat
	charges  map[string]chat.Charge    // by ID
	leases   int
}

type stored struct {
	chat.Message
	senders []string // the sender's addresses
	came    time.Time
	turn    *turn // nil while the message waits
}

type turn struct {
	chat    string
	lease   string
	ready   time.Time // the lease's end, or when a retry may begin
	attempt int
	reply   *chat.Reply
	ended   time.Time
	failure string
	tries   []chat.Try
}

// call runs f as one atomic method.
func (s *Memory) call(ctx context.Context, method, id string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.Fault != nil {
		if err := s.Fault(method, id, false); err != nil {
			return err
		}
	}
	s.mu.Lock()
	err := f()
	s.mu.Unlock()
	if err == nil && s.Fault != nil {
		err = s.Fault(method, id, true)
	}
	return err
}

// Put implements inbox.Store.
func (s *Memory) Put(ctx context.Context, m chat.Message, now time.Time) error {
	return s.call(ctx, "Put", m.ID, func() error {
		if m.ChatAlt != "" {
			s.merge(m.ChatAlt, m.Chat)
		}
		senders := []string{m.Sender}
		if m.SenderAlt != "" {
			senders = append(senders, m.SenderAlt)
		}
		entry := &stored{Message: m, senders: senders, came: now}
		if !slices.ContainsFunc(s.messages, entry.same) {
			s.messages = append(s.messages, entry)
		}
		return nil
	})
}

// same says whether two stored messages are one that was delivered twice.
func (m *stored) same(o *stored) bool {
	return m.Chat == o.Chat && m.ID == o.ID && slices.ContainsFunc(m.senders, func(s string) bool { return slices.Contains(o.senders, s) })
}

func (s *Memory) merge(from, to string) {
	for _, m := range s.messages {
		if m.Chat == from {
			m.Chat, m.ChatAlt = to, from
			if slices.Contains(m.senders, from) {
				m.senders = append(m.senders, to)
			}
		}
	}
	for _, t := range s.turns {
		if t.chat == from {
			t.chat = to
		}
	}
	var kept []*stored
	for i, m := range s.messages {
		again := func(o *stored) bool { return o != m && m.same(o) }
		if m.turn == nil && m.Chat == to && (slices.ContainsFunc(s.messages[:i], again) ||
			slices.ContainsFunc(s.messages[i:], func(o *stored) bool { return again(o) && o.turn != nil })) {
			continue
		}
		kept = append(kept, m)
	}
	s.messages = kept
}

// Claim implements inbox.Store.
func (s *Memory) Claim(ctx context.Context, now, until time.Time) (t chat.Turn, err error) {
	err = s.call(ctx, "Claim", "", func() error {
		var first *stored
		for _, m := range s.messages {
			if m.unanswered() && !s.ready(m.Chat).After(now) && (first == nil || m.came.Before(first.came)) {
				first = m
			}
		}
		if first == nil {
			return inbox.ErrEmpty
		}
		open := s.open(first.Chat)
		if i := slices.IndexFunc(open, func(t *turn) bool { return t.reply != nil }); i >= 0 {
			open = open[i : i+1]
		} else {
			// All that waits becomes one turn.
			all := &turn{chat: first.Chat}
			for _, t := range open {
				all.attempt = max(all.attempt, t.attempt)
				all.tries = append(all.tries, t.tries...)
			}
			for _, m := range s.messages {
				if m.Chat == first.Chat && m.unanswered() {
					m.turn = all
				}
			}
			s.turns = slices.DeleteFunc(s.turns, func(t *turn) bool { return slices.Contains(open, t) })
			s.turns = append(s.turns, all)
			open = []*turn{all}
		}
		s.leases++
		open[0].lease, open[0].ready = fmt.Sprint("lease ", s.leases), until
		open[0].attempt++
		t = chat.Turn{
			Chat: first.Chat, Lease: open[0].lease, Until: until, Attempt: open[0].attempt,
			Messages: s.of(open[0]), Reply: clone(open[0].reply), Tries: slices.Clone(open[0].tries),
		}
		return nil
	})
	if err != nil {
		return chat.Turn{}, err
	}
	return t, nil
}

func (m *stored) unanswered() bool { return m.turn == nil || m.turn.ended.IsZero() }

// ready is when the chat may be claimed, as far as its leases, retries and holds go.
func (s *Memory) ready(jid string) time.Time {
	var when time.Time
	for _, t := range s.open(jid) {
		if t.ready.After(when) {
			when = t.ready
		}
	}
	if held := s.held(jid); held.After(when) {
		when = held
	}
	return when
}

// held is until when more is awaited in the chat.
func (s *Memory) held(jid string) time.Time {
	first, newest := s.waiting(jid)
	if first == nil {
		return time.Time{}
	}
	return inbox.Held(newest.Message, first.came)
}

// waiting are the messages that came first and last of those that wait in the chat; nil where none does.
func (s *Memory) waiting(jid string) (first, newest *stored) {
	for _, m := range s.messages {
		if m.Chat != jid || m.turn != nil {
			continue
		}
		if first == nil || m.came.Before(first.came) {
			first = m
		}
		if newest == nil || !m.came.Before(newest.came) {
			newest = m
		}
	}
	return first, newest
}

// open returns the turns of the chat that have begun and not ended.
func (s *Memory) open(jid string) []*turn {
	var open []*turn
	for _, t := range s.turns {
		if t.chat == jid && t.ended.IsZero() {
			open = append(open, t)
		}
	}
	return open
}

// of returns the messages of t in order.
func (s *Memory) of(t *turn) []chat.Message {
	var all []*stored
	for _, m := range s.messages {
		if m.turn == t {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b *stored) int { return a.came.Compare(b.came) })
	messages := make([]chat.Message, len(all))
	for i, m := range all {
		messages[i] = m.Message
	}
	return messages
}

func clone(r *chat.Reply) *chat.Reply {
	if r == nil {
		return nil
	}
	c := *r
	c.Parts = slices.Clone(r.Parts)
	return &c
}

// Next implements inbox.Store.
func (s *Memory) Next(ctx context.Context) (next time.Time, err error) {
	err = s.call(ctx, "Next", "", func() error {
		for _, m := range s.messages {
			if m.unanswered() {
				when := s.ready(m.Chat)
				if when.IsZero() {
					when = time.Unix(0, 0) // it can be claimed at any time
				}
				if next.IsZero() || when.Before(next) {
					next = when
				}
			}
		}
		return nil
	})
	return next, err
}

// History implements inbox.Store.
func (s *Memory) History(ctx context.Context, chatJID string, n int) (all []chat.Exchange, err error) {
	err = s.call(ctx, "History", "", func() error {
		var ended []*turn
		for _, t := range s.turns {
			if t.chat == chatJID && !t.ended.IsZero() {
				ended = append(ended, t)
			}
		}
		slices.SortStableFunc(ended, func(a, b *turn) int { return a.ended.Compare(b.ended) })
		for _, t := range ended[max(0, len(ended)-n):] {
			all = append(all, chat.Exchange{Messages: s.of(t), Reply: clone(t.reply)})
		}
		return nil
	})
	return all, err
}

// find is the message like, or nil.
func (s *Memory) find(like chat.Message) *stored {
	key := &stored{Message: like, senders: []string{like.Sender}}
	if like.SenderAlt != "" {
		key.senders = append(key.senders, like.SenderAlt)
	}
	for _, m := range s.messages {
		if m.same(key) || m.ID == like.ID && m.Chat == like.ChatAlt && slices.ContainsFunc(m.senders, func(s string) bool { return slices.Contains(key.senders, s) }) {
			return m
		}
	}
	return nil
}

// Find implements inbox.Store.
func (s *Memory) Find(ctx context.Context, like chat.Message) (x chat.Exchange, err error) {
	err = s.call(ctx, "Find", like.ID, func() error {
		m := s.find(like)
		switch {
		case m == nil:
			return inbox.ErrUnknown
		case m.turn == nil:
			x.Messages = []chat.Message{m.Message}
		default:
			x = chat.Exchange{Messages: s.of(m.turn), Reply: clone(m.turn.reply)}
		}
		return nil
	})
	return x, err
}

// Amend implements inbox.Store.
func (s *Memory) Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) error {
	return s.call(ctx, "Amend", messages[0].ID, func() error {
		for i, m := range messages {
			there := s.find(m)
			if there == nil {
				continue
			}
			m.Chat, m.ChatAlt, m.Sender, m.SenderAlt = there.Chat, there.ChatAlt, there.Sender, there.SenderAlt
			there.Message = m
			if i == 0 && r != nil && there.turn != nil && !there.turn.ended.IsZero() {
				there.turn.reply = clone(r)
			}
		}
		return nil
	})
}

// Extend implements inbox.Store.
func (s *Memory) Extend(ctx context.Context, chatJID string, who []string, until time.Time) (done bool, err error) {
	err = s.call(ctx, "Extend", chatJID, func() error {
		if _, newest := s.waiting(chatJID); newest != nil {
			newest.Message, done = inbox.Extended(newest.Message, who, until)
		}
		return nil
	})
	return done, err
}

// Heard implements inbox.Store.
func (s *Memory) Heard(ctx context.Context, chatJID string) (all []chat.Message, err error) {
	err = s.call(ctx, "Heard", "", func() error {
		all = slices.Clone(s.said[chatJID])
		return nil
	})
	return all, err
}

// SetHeard implements inbox.Store.
func (s *Memory) SetHeard(ctx context.Context, chatJID string, all []chat.Message) error {
	return s.call(ctx, "SetHeard", "", func() error {
		if s.said == nil {
			s.said = map[string][]chat.Message{}
		}
		s.said[chatJID] = slices.Clone(all)
		return nil
	})
}

// ForgetSent implements inbox.Store. There is no device whose messages are kept.
func (s *Memory) ForgetSent(ctx context.Context, chatJIDs ...string) error {
	return s.call(ctx, "ForgetSent", "", func() error { return nil })
}

// leased calls f with the turn that t was claimed as.
func (s *Memory) leased(ctx context.Context, method string, t chat.Turn, f func(*turn)) error {
	return s.call(ctx, method, t.Messages[0].ID, func() error {
		i := slices.IndexFunc(s.turns, func(o *turn) bool { return o.lease == t.Lease && o.lease != "" })
		if i < 0 {
			return inbox.ErrLeaseLost
		}
		f(s.turns[i])
		return nil
	})
}

// SaveReply implements inbox.Store.
func (s *Memory) SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) error {
	return s.leased(ctx, "SaveReply", t, func(o *turn) {
		o.reply = clone(&r)
		s.charge(r.Charges)
	})
}

// Finish implements inbox.Store.
func (s *Memory) Finish(ctx context.Context, t chat.Turn, now time.Time) error {
	return s.leased(ctx, "Finish", t, func(o *turn) {
		o.lease, o.reply, o.ended, o.tries = "", clone(t.Reply), now, t.Tries
	})
}

// Retry implements inbox.Store.
func (s *Memory) Retry(ctx context.Context, t chat.Turn, at time.Time) error {
	return s.leased(ctx, "Retry", t, func(o *turn) { o.lease, o.ready, o.attempt, o.tries = "", at, t.Attempt, t.Tries })
}

// Fail implements inbox.Store.
func (s *Memory) Fail(ctx context.Context, t chat.Turn, now time.Time, reason string) error {
	return s.leased(ctx, "Fail", t, func(o *turn) {
		o.lease, o.ended, o.failure, o.tries = "", now, reason, t.Tries
	})
}

// Release implements inbox.Store.
func (s *Memory) Release(ctx context.Context) error {
	return s.call(ctx, "Release", "", func() error {
		for _, t := range s.turns {
			if t.lease != "" {
				t.lease, t.ready = "", time.Time{}
			}
		}
		return nil
	})
}

// Forget implements inbox.Store.
func (s *Memory) Forget(ctx context.Context) error {
	return s.call(ctx, "Forget", "", func() error {
		s.messages, s.turns, s.said, s.charges = nil, nil, nil, nil
		return nil
	})
}

// Depth implements inbox.Store.
func (s *Memory) Depth(ctx context.Context) (n int, err error) {
	err = s.call(ctx, "Depth", "", func() error {
		for _, m := range s.messages {
			if m.unanswered() {
				n++
			}
		}
		return nil
	})
	return n, err
}

// Oldest implements inbox.Store.
func (s *Memory) Oldest(ctx context.Context) (oldest time.Time, err error) {
	err = s.call(ctx, "Oldest", "", func() error {
		for _, m := range s.messages {
			if m.unanswered() && (oldest.IsZero() || m.came.Before(oldest)) {
				oldest = m.came
			}
		}
		return nil
	})
	return oldest, err
}

func (s *Memory) charge(all []chat.Charge) {
	if s.charges == nil {
		s.charges = map[string]chat.Charge{}
	}
	for _, c := range all {
		if _, there := s.charges[c.ID]; !there {
			s.charges[c.ID] = c
		}
	}
}

// Charge implements budget.Store.
func (s *Memory) Charge(ctx context.Context, all []chat.Charge) error {
	return s.call(ctx, "Charge", "", func() error {
		s.charge(all)
		return nil
	})
}

// Charges implements budget.Store.
func (s *Memory) Charges(ctx context.Context, since, until time.Time, each func(chat.Charge) error) error {
	var all []chat.Charge
	err := s.call(ctx, "Charges", "", func() error {
		for _, c := range s.charges {
			if !c.Time.Before(since) && c.Time.Before(until) {
				all = append(all, c)
			}
		}
		return nil
	})
	for _, c := range all {
		if err == nil {
			err = each(c)
		}
	}
	return err
}

// DropCharges implements budget.Store.
func (s *Memory) DropCharges(ctx context.Context, since, until time.Time, most int) (n int, err error) {
	err = s.call(ctx, "DropCharges", "", func() error {
		for id, c := range s.charges {
			if c.Kind != chat.Total && !c.Time.Before(since) && c.Time.Before(until) && n < most {
				delete(s.charges, id)
				n++
			}
		}
		return nil
	})
	return n, err
}

// Failures are the reasons of the turns of a chat that were given up, oldest first.
func (s *Memory) Failures(chatJID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, t := range s.turns {
		if t.chat == chatJID && t.failure != "" {
			all = append(all, t.failure)
		}
	}
	return all
}
