package web

import "time"

// Status is how the bot is, as the page and the endpoints show it. What it holds is shown: an
// Account must be masked and texts be without secrets, but for QR and Code.
type Status struct {
	State State
	// Reason says why the state is what it is, Next what happens or is to be done, both in the
	// operator's words and both perhaps empty. They are shown to everybody (/readyz).
	Reason, Next string
	Since        time.Time

	// QR is the text of the pairing QR code, Code the pairing code to type; both are empty but in Pairing,
	// and work until Expires.
	QR, Code string
	Expires  time.Time

	// Account is the account linked, masked, or empty.
	Account string
	// PhoneSeen is when the account's phone last gave a sign, zero if it never did.
	PhoneSeen time.Time

	// Store says where the state is kept, StoreDown why it cannot be reached, empty while it can.
	Store, StoreDown string
	// Waiting is how many messages are not answered yet, negative where that is not known, and Oldest since when the
	// first of them waits, zero where none does.
	Waiting int
	Oldest  time.Time

	Model Model
	// Spent is what models have cost in the running day and month; empty where that is not known, or nobody counts it.
	Spent []Spent
	// Versions are those of the parts, in the order to show them.
	Versions []Version
	// Started is when the process began.
	Started time.Time
}

// Model is how the language model did. The times are zero if that never happened.
type Model struct {
	Name             string
	Answered, Failed time.Time
	// Failure is why it failed last, in the operator's words.
	Failure string
}

// failing reports whether the model's last answer was none.
func (m Model) failing() bool { return m.Failed.After(m.Answered) }

// Spent is what was spent in a time, in the operator's words.
type Spent struct {
	Name, Text string
	// UsedUp is the setting of the budget that is, empty while it is not; then Until is when the next begins.
	UsedUp string
	Until  time.Time
}

// Message is what became of a message that reached the bot. It is shown: From and In must be masked, and the rest be without
// what was said.
type Message struct {
	// ID is WhatsApp's.
	ID string
	// From is who wrote it, In the group where, if any.
	From, In string
	// Outcome is how it stands, in a word or two; Fate is how good that is.
	Outcome string
	Fate    Fate
	// Steps are what happened to it, in order.
	Steps []Step
}

// Step is one of the things that happened to a message.
type Step struct {
	What string
	// Time is zero where it is not known, Why empty where there is nothing to say.
	Time time.Time
	Why  string
}

// Fate is how good it is what became of a message.
type Fate string

// The fates.
const (
	Unconcerned Fate = "soft" // it was not for the bot, or needed no answer
	Answered    Fate = "good" // by the model or by a command
	Underway    Fate = "wait"
	Unanswered  Fate = "bad" // given up, or answered by an apology
)

// Version is the version of one part.
type Version struct {
	Part, Version string
	// At is when it was looked up, zero for a part that is built in.
	At time.Time
}

// State is what the bot is doing.
type State string

// The states.
const (
	Opening    State = "opening"    // the store
	Standby    State = "standby"    // another process drives the device
	Starting   State = "starting"   // leading, and not connected yet
	Pairing    State = "pairing"    // a person has to link the device
	Connecting State = "connecting" // to WhatsApp
	Online     State = "online"
	Waiting    State = "waiting" // for a time to connect again
	Ended      State = "ended"   // WhatsApp does not let us in; the process ends too
)

// States are all there are.
var States = []State{Opening, Standby, Starting, Pairing, Connecting, Online, Waiting, Ended}

// Code is why the bot is not ready.
type Code string

// The codes.
const (
	NotOpen    Code = "store_not_open"
	StoreDown  Code = "store_unavailable"
	NotPaired  Code = "not_paired"
	NotOnline  Code = "not_connected"
	LinkEnded  Code = "link_ended"
	NotStarted Code = "starting"
	NotRunning Code = "not_running" // said in its place
)

// What is said of a store that does not answer.
const (
	storeReason = "the store does not answer"
	storeNext   = "check the database or the disk; wabot goes on by itself once the store answers, and no message is lost meanwhile"
)

// Reasons are all the codes that Codes gives.
var Reasons = []Code{NotOpen, StoreDown, NotPaired, NotOnline, LinkEnded, NotStarted}

// Codes are why the bot is not ready, none if it is. One that stands by is ready: it does what it is
// there for.
func (s Status) Codes() []Code {
	codes := []Code{}
	switch s.State {
	case Opening:
		codes = append(codes, NotOpen)
	case Starting:
		codes = append(codes, NotStarted)
	case Pairing:
		codes = append(codes, NotPaired)
	case Connecting, Waiting:
		codes = append(codes, NotOnline)
	case Ended:
		codes = append(codes, LinkEnded)
	}
	if s.StoreDown != "" {
		codes = append(codes, StoreDown)
	}
	return codes
}

// settled reports whether the status stays as it is for some time.
func (s Status) settled() bool { return len(s.Codes()) == 0 }
