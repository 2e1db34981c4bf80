package inbox

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"sync"
	"time"

	"wabot/internal/chat"
)

const (
	// freshness is how long a history is taken from memory: what Sweep deletes of it meanwhile is told for so long.
	freshness = 10 * time.Minute
	// mostRecent bounds the histories in memory, in bytes.
	mostRecent = 4 << 20
)

// recent is a Store with the last n turns of the chats that were answered lately in memory: the answerer asks for them at each
// turn. All that changes a history must go through it, but for Sweep. What it returns must not be changed, other than the slice itself.
type recent struct {
	Store
	n int

	mu    sync.Mutex
	chats map[string]*past
	size  int // of all of them
	// reads are those under way of histories that have not changed since they began.
	reads map[string]*int
	// ending counts the turns of a chat that the store may have ended, but has not said so.
	ending map[string]int
	// moved is where what was stored under an address went, again what has got something anew since.
	moved map[string]string
	again map[string]bool
}

// past is a chat's history, as it was read at a time. It does not change.
type past struct {
	all   []chat.Exchange
	sizes []int // of each in memory, in bytes, about
	read  time.Time
	lacks int // so many turns have ended since
}

func (p *past) size() (n int) {
	for _, size := range p.sizes {
		n += size
	}
	return n
}

// plus is p and what came after it, of which the newest are kept.
func (p *past) plus(more []chat.Exchange, most int) *past {
	next := &past{read: p.read, all: slices.Concat(p.all, more), sizes: slices.Clone(p.sizes)}
	for _, x := range more {
		next.sizes = append(next.sizes, sizeOf(x))
	}
	extra := max(0, len(next.all)-most)
	next.all, next.sizes = next.all[extra:], next.sizes[extra:]
	return next
}

func newRecent(store Store, n int) *recent {
	return &recent{Store: store, n: n, chats: make(map[string]*past), reads: make(map[string]*int), ending: make(map[string]int), moved: make(map[string]string), again: make(map[string]bool)}
}

// History implements Store.
func (r *recent) History(ctx context.Context, chatJID string, n int) ([]chat.Exchange, error) {
	if n > r.n || n < 0 || ctx.Err() != nil {
		return r.Store.History(ctx, chatJID, n)
	}
	p, err := r.look(ctx, chatJID)
	if err != nil {
		return nil, err
	}
	return slices.Clone(p.all[max(0, len(p.all)-n):]), nil
}

// look returns a chat's history, for which it reads what that lacks, and keeps it unless it has changed meanwhile.
func (r *recent) look(ctx context.Context, chatJID string) (*past, error) {
	reads := new(int)
	r.mu.Lock()
	p := r.chats[chatJID]
	if p == nil || r.ending[chatJID] > 0 || time.Since(p.read) > freshness {
		p = &past{lacks: r.n, read: time.Now()}
	}
	if p.lacks == 0 {
		r.mu.Unlock()
		return p, nil
	}
	if r.ending[chatJID] == 0 {
		r.reads[chatJID] = reads
	}
	r.mu.Unlock()
	p, err := r.rest(ctx, chatJID, p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reads[chatJID] != reads {
		return p, err
	}
	delete(r.reads, chatJID)
	r.drop(chatJID)
	if err != nil || p.size() > mostRecent {
		return p, err
	}
	for other := range r.chats { // any
		if r.size+p.size() <= mostRecent {
			break
		}
		r.drop(other)
	}
	r.chats[chatJID] = p
	r.size += p.size()
	return p, nil
}

// rest reads what a history lacks: where it is there but for its last turns, these alone.
func (r *recent) rest(ctx context.Context, chatJID string, p *past) (*past, error) {
	if p.lacks+1 < r.n {
		last, err := r.Store.History(ctx, chatJID, p.lacks+1)
		if err != nil {
			return nil, err
		}
		// One that is known tells that nothing is between.
		known := min(1, len(p.all))
		if len(last) == p.lacks+known && (known == 0 || reflect.DeepEqual(last[0], p.all[len(p.all)-1])) {
			return p.plus(last[known:], r.n), nil
		}
	}
	p = &past{read: time.Now()}
	all, err := r.Store.History(ctx, chatJID, r.n)
	if err != nil {
		return nil, err
	}
	return p.plus(all, r.n), nil
}

// sizeOf is about how many bytes of memory x takes.
func sizeOf(x chat.Exchange) (n int) {
	const each = 500
	text, _ := json.Marshal(x) // as every store does
	n = len(text) + each*len(x.Messages)
	if x.Reply != nil {
		n += each * len(x.Reply.Parts)
	}
	return n
}

// drop forgets what is in memory of a chat.
func (r *recent) drop(chatJID string) {
	if p := r.chats[chatJID]; p != nil {
		r.size -= p.size()
		delete(r.chats, chatJID)
	}
}

// changed forgets what is in memory of some chats, of all where none is named.
func (r *recent) changed(chatJIDs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(chatJIDs) == 0 {
		clear(r.chats)
		clear(r.reads)
		r.size = 0
	}
	for _, jid := range chatJIDs {
		r.drop(jid)
		delete(r.reads, jid)
	}
}

// ahead reads the history of a chat whose turn has just ended: the chat's next turn will ask for it, and waits for it then. Where
// that fails it is read then.
func (r *recent) ahead(ctx context.Context, chatJID string) {
	if r.n > 0 {
		_, _ = r.History(ctx, chatJID, r.n)
	}
}

// Put implements Store. What it moves to another address changes two histories.
func (r *recent) Put(ctx context.Context, m chat.Message, now time.Time) error {
	r.mu.Lock()
	moves := m.ChatAlt != "" && (r.moved[m.ChatAlt] != m.Chat || r.again[m.ChatAlt])
	if moves {
		r.moved[m.ChatAlt] = m.Chat
		delete(r.again, m.ChatAlt)
	}
	r.mu.Unlock()
	err := r.Store.Put(ctx, m, now)
	r.mu.Lock()
	if r.moved[m.Chat] != "" {
		r.again[m.Chat] = true
	}
	if moves && err != nil {
		r.again[m.ChatAlt] = true
	}
	r.mu.Unlock()
	if moves {
		r.changed(m.Chat, m.ChatAlt)
	}
	return err
}

// end ends a turn of a chat, which a claim can find ended before this has heard of it.
func (r *recent) end(chatJID string, end func() error) error {
	count := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.ending[chatJID] += n; r.ending[chatJID] == 0 {
			delete(r.ending, chatJID)
		}
	}
	count(1)
	defer count(-1)
	err := end()
	r.ended(chatJID, err)
	return err
}

// ended tells that a turn of a chat has ended, or may have, under whichever address it is found by now.
func (r *recent) ended(chatJID string, err error) {
	all := []string{chatJID}
	r.mu.Lock()
	for at := r.moved[chatJID]; at != "" && !slices.Contains(all, at); at = r.moved[at] {
		all = append(all, at)
	}
	if p := r.chats[chatJID]; p != nil && len(all) == 1 && err == nil {
		lacking := *p
		lacking.lacks++
		r.chats[chatJID] = &lacking
		delete(r.reads, chatJID)
		all = nil
	}
	r.mu.Unlock()
	if all != nil {
		r.changed(all...)
	}
}

// Finish implements Store.
func (r *recent) Finish(ctx context.Context, t chat.Turn, now time.Time) error {
	return r.end(t.Chat, func() error { return r.Store.Finish(ctx, t, now) })
}

// Fail implements Store.
func (r *recent) Fail(ctx context.Context, t chat.Turn, now time.Time, reason string) error {
	return r.end(t.Chat, func() error { return r.Store.Fail(ctx, t, now, reason) })
}

// Amend implements Store.
func (r *recent) Amend(ctx context.Context, messages []chat.Message, reply *chat.Reply) error {
	defer r.changed()
	return r.Store.Amend(ctx, messages, reply)
}

// Release implements Store. Until now another process may have driven the device.
func (r *recent) Release(ctx context.Context) error {
	defer r.changed()
	return r.Store.Release(ctx)
}

// Forget implements Store.
func (r *recent) Forget(ctx context.Context) error {
	defer r.changed()
	return r.Store.Forget(ctx)
}
