package budget

import (
	"sync"
	"time"

	"wabot/internal/chat"
)

// Rate is how many messages are answered in a time.
type Rate struct {
	Count int
	Per   time.Duration
}

// Pace holds messages to rates, per person and per chat. As many as a rate's count may come at once; after that, one
// at a time. Messages above it wait a little, and are answered together with what came meanwhile; those are counted too, so
// that in the long run no more are answered than the rate says. What comes much faster is a flood, which is not even
// stored. Pace is kept in memory alone: after a restart everybody begins anew. It is safe for concurrent use.
type Pace struct {
	person, chat []Rate
	now          func() time.Time

	mu      sync.Mutex
	taken   map[string]time.Time // by rate and whose: when all that was answered would have been answered evenly
	arrived map[string]time.Time // likewise, of what came in
	told    map[string]time.Time // until when whoever sends too much need not be told so again
	flooded map[string]bool      // persons whose messages were dropped since they were told
	counted map[string]bool      // messages that were taken
	stored  map[string]bool      // messages that came in and are counted as arrived
}

// NewPace returns a pace; a nil now is time.Now.
func NewPace(person, chat []Rate, now func() time.Time) *Pace {
	if now == nil {
		now = time.Now
	}
	return &Pace{
		person: person, chat: chat, now: now, taken: map[string]time.Time{}, arrived: map[string]time.Time{},
		told: map[string]time.Time{}, flooded: map[string]bool{}, counted: map[string]bool{}, stored: map[string]bool{},
	}
}

const (
	// flood is how many times as fast as its rate somebody may write.
	flood = 3
	// again is after what time somebody is told again that they write too fast.
	again = time.Hour
	// remembered bounds each memory of people and chats of a Pace, underway each of messages: only those that are delivered, or whose
	// turns are tried, again are asked for twice.
	remembered = 20_000
	underway   = 1_000
)

// limits calls each for the rates that hold for m, with the name of what they are counted under.
func (p *Pace) limits(m chat.Message, each func(name string, r Rate)) {
	if m.Own {
		return // nobody need be kept from writing to themselves
	}
	for _, r := range p.person {
		each("person/"+r.Per.String()+"/"+m.Sender, r)
	}
	for _, r := range p.chat {
		each("chat/"+r.Per.String()+"/"+m.Chat, r)
	}
}

// over is how long it takes until one more may come, where burst times the rate's count may come at once.
func over(all map[string]time.Time, now time.Time, name string, r Rate, burst int) time.Duration {
	at, known := all[name]
	if !known || at.Before(now) {
		return 0
	}
	return max(0, at.Sub(now)+r.Per/time.Duration(r.Count)-time.Duration(burst)*r.Per)
}

// one counts one more.
func one(all map[string]time.Time, now time.Time, name string, r Rate) {
	if len(all) >= remembered {
		for name, at := range all {
			if at.Before(now) {
				delete(all, name)
			}
		}
	}
	at := all[name]
	if at.Before(now) {
		at = now
	}
	all[name] = at.Add(r.Per / time.Duration(r.Count))
}

// Arrive reports whether a message that came in may be stored: not where it is a part of a flood. A message that is stored
// is none, however often it comes.
func (p *Pace) Arrive(m chat.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stored[key(m)] {
		return true
	}
	now, fine := p.now(), true
	p.limits(m, func(name string, r Rate) { fine = fine && over(p.arrived, now, name, r, flood) == 0 })
	if !fine {
		if len(p.flooded) >= remembered {
			clear(p.flooded)
		}
		p.flooded[m.Sender] = true
	}
	return fine
}

// Stored counts a message that came in, once it is stored. Until then it is not counted: WhatsApp delivers it again as often as
// it could not be stored, and it must not become a flood by that.
func (p *Pace) Stored(m chat.Message) {
	p.once(p.stored, m, p.arrived)
}

// Wait is how long it takes until m may be answered, 0 for now.
func (p *Pace) Wait(m chat.Message) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counted[key(m)] {
		return 0
	}
	now := p.now()
	p.limits(m, func(name string, r Rate) { wait = max(wait, over(p.taken, now, name, r, 1)) })
	return wait
}

// Take counts a message that is answered; each once, however often its turn is tried.
func (p *Pace) Take(m chat.Message) {
	p.once(p.counted, m, p.taken)
}

// once counts m in counts, unless it is among those that were counted there.
func (p *Pace) once(counted map[string]bool, m chat.Message, counts map[string]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if counted[key(m)] {
		return
	}
	if len(counted) >= underway {
		clear(counted)
	}
	counted[key(m)] = true
	now := p.now()
	p.limits(m, func(name string, r Rate) { one(counts, now, name, r) })
}

func key(m chat.Message) string { return m.Chat + " " + m.Sender + " " + m.ID }

// Tell reports whether the author of m is to be told now that they write too fast, and notes that they are.
func (p *Pace) Tell(m chat.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Before(p.told[m.Sender]) {
		return false
	}
	if len(p.told) >= remembered {
		clear(p.told)
	}
	p.told[m.Sender] = now.Add(again)
	return true
}

// Flooded reports, once, whether messages of the author of m were dropped since.
func (p *Pace) Flooded(m chat.Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flooded[m.Sender]
	delete(p.flooded, m.Sender)
	return f
}
