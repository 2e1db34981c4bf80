package whatsapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Phase is what the link to WhatsApp is doing.
type Phase string

// The phases of the link.
const (
	Starting   Phase = "starting"
	Pairing    Phase = "pairing"
	Connecting Phase = "connecting"
	Online     Phase = "online"
	Waiting    Phase = "waiting"
	Ended      Phase = "ended"
)

// State is how the link is, for people and machines: what, why, and what happens or is to be
// done next.
type State struct {
	Phase  Phase
	Reason string
	Next   string
	Since  time.Time
	// Cut is since when a device that is linked cannot reach WhatsApp, zero while it can. WhatsApp is reached also where it refuses.
	Cut time.Time
	// Account is the linked account's JID as text, empty before pairing.
	Account string
	// QR is the text of the pairing QR code on show, Code the pairing code; both are secrets
	// until Expires.
	QR      string
	Code    string
	Expires time.Time
	// PhoneSeen is when the account's phone last gave a sign, zero if it never did. WhatsApp unlinks
	// companions of a phone that is away for 14 days.
	PhoneSeen time.Time
	// Limited is until when WhatsApp does not let the account start new chats, zero where it did not say so.
	Limited time.Time
	// WebVersion is the version of WhatsApp's web client that we pass for, WebVersionAt when the newest was last
	// looked up, zero if it never was.
	WebVersion   string
	WebVersionAt time.Time

	linked  bool // before this connection, or it has been online
	refused bool // WhatsApp's last word was that it does not let us in
}

// cut reports whether Cut counts.
func (s State) cut() bool {
	return s.linked && !s.refused && (s.Phase == Connecting || s.Phase == Waiting)
}

// refresh is what there is to say of the state at now where it is Online: what WhatsApp forbids the account.
func (s *State) refresh(now time.Time) {
	if s.Phase != Online {
		return
	}
	s.Reason, s.Next = "", ""
	if now.Before(s.Limited) {
		s.Reason = "WhatsApp does not let this account start new chats before " + s.Limited.Local().Format(time.RFC1123)
		s.Next = "answers in known chats go on; let others write first, and send less"
	}
}

// Event is something that happens on the link and is counted.
type Event string

// The events.
const (
	LoggedIn      Event = "logged_in"
	Dropped       Event = "dropped"       // the connection broke
	Undecryptable Event = "undecryptable" // a message; its sender was asked for it again
	Unavailable   Event = "unavailable"   // a message that the phone alone is given, or has to give us
	NotStored     Event = "not_stored"    // a message; it was not acknowledged and comes again
	Panicked      Event = "panicked"      // while taking an event
	SetAside      Event = "set_aside"     // a message that made us panic each time
	Vanished      Event = "vanished"      // a message that did not decrypt and never came again
	Resent        Event = "resent"        // a message of ours, to a device that could not decrypt it
	Undelivered   Event = "undelivered"   // a message of ours that no device confirms, though the account's phone is there, or for a day
	Conflicted    Event = "conflicted"    // a send crossed a message of the same person and was repeated
	LeftOut       Event = "left_out"      // a send that left out a device, as the store failed or WhatsApp did not give its pre-keys; it is repeated
)

// End is a terminal state of the link: it does not come back without somebody's doing.
type End string

// The ends of a link.
const (
	// LoggedOut: the device was unlinked, on the phone or by WhatsApp (401).
	LoggedOut End = "logged out"
	// Locked: WhatsApp has locked or banned the account itself (403, 406).
	Locked End = "locked"
	// Banned: the account may not connect until a time (402).
	Banned End = "banned"
	// Outdated: WhatsApp refuses this version of the client, the newest known one too (405).
	Outdated End = "outdated"
	// Replaced: another process connected with a copy of this device's keys.
	Replaced End = "replaced"
)

// EndError is the end of the link, as an error. It lasts across restarts as far as Until
// says.
type EndError struct {
	End    End       `json:"end"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// Until is when the next connect is allowed.
	Until time.Time `json:"until"`
	// Times counts how often this end came in a row, each within a day of the last.
	Times int `json:"times"`
	// Version is the build that came to this end.
	Version string `json:"version"`
}

func (e *EndError) Error() string {
	return fmt.Sprintf("%s: %s; %s", e.End, e.Reason, e.Next())
}

// Next says what to do about the end, in the operator's words.
func (e *EndError) Next() string {
	switch e.End {
	case LoggedOut:
		return "start wabot again and scan the QR code to link it anew"
	case Locked:
		return "open WhatsApp on the phone to see what it asks for, then start wabot again and link it anew"
	case Banned:
		return fmt.Sprintf("wabot will not connect before %s; start it again then, and send less", e.Until.Local().Format(time.RFC1123))
	case Outdated:
		return fmt.Sprintf("update wabot to a newer release; this one will not connect before %s", e.Until.Local().Format(time.TimeOnly))
	default:
		return "stop the other copy (two processes must never use one session), then start wabot again"
	}
}

// Notes keep small facts across restarts. Note returns nil for a key that was never set;
// setting nil removes it.
type Notes interface {
	Note(ctx context.Context, key string) ([]byte, error)
	SetNote(ctx context.Context, key string, value []byte) error
}

// The keys of our notes.
const (
	noteEnd       = "whatsapp.end"
	noteVersion   = "whatsapp.version"
	noteConnected = "whatsapp.connected"
	notePhone     = "whatsapp.phone-seen"
	noteDead      = "whatsapp.dead-letter."
	noteProbe     = "whatsapp.probe"
	noteAwaited   = "whatsapp.unavailable"
	noteLimited   = "whatsapp.limited"
)

// note reads the note key into v and reports whether there was one.
func (c *Client) note(ctx context.Context, key string, v any) (bool, error) {
	raw, err := c.Notes.Note(ctx, key)
	if err != nil || raw == nil {
		return false, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("read note %s: %w", key, err)
	}
	return true, nil
}

// remember takes into the state what an earlier process has noted.
func (c *Client) remember(ctx context.Context) error {
	var seen, limited time.Time
	if _, err := c.note(ctx, notePhone, &seen); err != nil {
		return err
	}
	if _, err := c.note(ctx, noteLimited, &limited); err != nil {
		return err
	}
	c.set(func(s *State) { s.PhoneSeen, s.Limited = seen, limited })
	return nil
}

// LastOnline is when the device that the notes belong to was last logged in; zero if it never was.
func LastOnline(ctx context.Context, n Notes) (at time.Time, err error) {
	raw, err := n.Note(ctx, noteConnected)
	if err == nil && raw != nil {
		err = json.Unmarshal(raw, &at)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read when the device was last online: %w", err)
	}
	return at, nil
}

// setNote stores v, and only logs an error: a note is a convenience to the next start.
func (c *Client) setNote(ctx context.Context, key string, v any) {
	raw, err := json.Marshal(v)
	if err == nil {
		err = c.Notes.SetNote(context.WithoutCancel(ctx), key, raw)
	}
	if err != nil {
		c.Log.Warn("keep a fact for the next start", "note", key, "err", err)
	}
}

// ended returns the end that forbids connecting at now, or nil. After a replacement the start
// is only delayed: the operator has most likely stopped the other copy.
func (c *Client) ended(ctx context.Context, now time.Time) (end *EndError, wait time.Duration, err error) {
	var e EndError
	ok, err := c.note(ctx, noteEnd, &e)
	if err != nil || !ok || !now.Before(e.Until) {
		return nil, 0, err
	}
	switch {
	case e.End == Replaced:
		return nil, e.Until.Sub(now), nil
	case e.End == Outdated && e.Version != c.Version:
		return nil, 0, nil
	}
	return &e, 0, nil
}

// clearEnd forgets an earlier end after a login. That a replacement came is kept: those of a day count
// together, however often the two copies log in in between.
func (c *Client) clearEnd(ctx context.Context) {
	var last EndError
	ok, err := c.note(ctx, noteEnd, &last)
	if err == nil && ok && last.End != Replaced {
		err = c.Notes.SetNote(ctx, noteEnd, nil)
	}
	if err != nil {
		c.Log.Warn("clear the note of an earlier end", "err", err)
	}
}

// end notes the end of the link for the next start and returns it.
func (c *Client) end(ctx context.Context, e EndError) error {
	var last EndError
	if ok, err := c.note(ctx, noteEnd, &last); err == nil && ok && last.End == e.End && e.At.Sub(last.At) < 24*time.Hour {
		e.Times = last.Times
	}
	e.Times++
	e.Version = c.Version
	switch e.End {
	case Replaced:
		// The first restart is somebody's doing; a row of them is two supervisors fighting.
		if e.Times > 1 {
			e.Until = e.At.Add(min(15*time.Minute, time.Minute<<min(e.Times-2, 5)))
		}
	case Outdated:
		e.Until = e.At.Add(15 * time.Minute)
	}
	c.setNote(ctx, noteEnd, e)
	c.set(func(s *State) { s.Phase, s.Reason, s.Next = Ended, e.Reason, e.Next() })
	return &e
}

// errPairAgain says that a pairing came to nothing and a new one is to be started.
var errPairAgain = errors.New("pairing did not finish")
