package whatsapp

import (
	"strconv"
	"time"
)

// moment is what WhatsApp's clock showed when this machine's showed at, whose monotonic reading counts.
type moment struct{ at, theirs time.Time }

// Now is the time by WhatsApp's clock, which the times of messages are by: what it was at the last connection, and what has
// gone by since, whatever was done to this machine's clock. Before the first connection it is this machine's.
func (c *Client) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.clock.at.IsZero() {
		return time.Now()
	}
	return c.clock.theirs.Add(time.Since(c.clock.at))
}

// learnTime takes WhatsApp's clock from the login that was just made.
func (l *link) learnTime() {
	now := time.Now()
	//lint:ignore SA1019 whatsmeow tells of it in no other way
	theirs, ok := unifiedTime(l.wm.DangerousInternals().GetUnifiedSessionID(), now)
	if !ok {
		l.Log.Debug("WhatsApp did not say what time it is")
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = moment{now, theirs}
}

// unifiedTime reads WhatsApp's time, which is now by this machine's clock, out of the ID of a unified session: whatsmeow keeps
// what it was told at the login to itself, but for that. It is the millisecond of a week; a clock that is off by half of one or
// more is not made out. It is false where whatsmeow was not told: what it reckons with then is centuries away.
func unifiedTime(id string, now time.Time) (time.Time, bool) {
	const week, begin = 7 * 24 * time.Hour, 3 * 24 * time.Hour
	ms, err := strconv.ParseInt(id, 10, 64)
	if err != nil || ms < 0 {
		return time.Time{}, false
	}
	ours := now.Add(begin).UnixMilli() % week.Milliseconds()
	off := time.Duration(ms-ours) * time.Millisecond
	switch {
	case off > week/2:
		off -= week
	case off < -week/2:
		off += week
	}
	return now.Round(0).Add(off), true
}
