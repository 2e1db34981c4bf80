package inbox

import (
	"sync"
	"time"
)

// clock is the inbox's time: the machine's, but that it goes on evenly while turns are answered and never goes back,
// whatever is done to the machine's clock. Leases, holds, pauses and the order of what is stored are by it.
type clock struct {
	machine func() time.Time
	begun   time.Time // whose monotonic reading counts

	mu sync.Mutex
	at time.Time // when it was begun; later after a step forward
}

func newClock(machine func() time.Time) *clock {
	return &clock{machine: machine, begun: time.Now(), at: machine().Round(0)}
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at.Add(time.Since(c.begun))
}

// follow takes the steps forward that the machine's clock has taken. No turn may be leased: its lease would end too soon.
func (c *clock) follow() { c.atLeast(c.machine()) }

// atLeast makes it t, or later.
func (c *clock) atLeast(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ahead := t.Sub(c.at.Add(time.Since(c.begun))); ahead > 0 {
		c.at = c.at.Add(ahead)
	}
}
