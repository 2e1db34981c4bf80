package chat

import "time"

// Try is an attempt at a turn that has ended. One that ended with the process leaves none, and all the
// times that a turn found on end that it has to wait leave one.
type Try struct {
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	// Why is why it did not succeed, for the operator; empty where it did.
	Why string `json:"why,omitempty"`
}

// Left is a message of a turn that its reply does not answer.
type Left struct {
	ID     string `json:"id"`
	Sender string `json:"sender"`
	// Why is for the operator.
	Why string `json:"why"`
}

// Mark is something that happened to a message outside of its turn.
type Mark struct {
	// Message is the ID of the message that it happened to: one that came in, or one that was sent.
	Message string `json:"message"`
	Fate    Fate   `json:"fate"`
	Chat    string `json:"chat"`
	// Who is the author of a message that came in, or who has got the one that was sent.
	Who  string    `json:"who"`
	Time time.Time `json:"time"`
	// Why is for the operator.
	Why string `json:"why,omitempty"`
}

// Fate is what happened to a message.
type Fate string

// The fates.
const (
	Gated     Fate = "gated"     // it came in and is not to be answered
	Delivered Fate = "delivered" // one that was sent
	Read      Fate = "read"      // one that was sent
	// Of one that came in without a text that could be read, and when it came again.
	Undecrypted Fate = "undecrypted"
	Recovered   Fate = "recovered"
)

// Trail is what is known of what became of a message.
type Trail struct {
	// Message is, of one that was gated or could not be decrypted, just its address, time and ID.
	Message Message
	// Came is when it came in.
	Came time.Time
	// Gated is why it was not taken in, empty where it was.
	Gated string
	// Own are the marks of the message itself: that it could not be decrypted, and that it came again. Where nothing else is
	// known of it, Came is the first one's time.
	Own []Mark
	// Begun is set where the message is in a turn; what follows is the turn's. Others are the further messages in it.
	Begun   bool
	Others  int
	Attempt int
	// Leased is set while it is being answered; Ready is until when that may take, or until when the turn is put off.
	Leased bool
	Ready  time.Time
	Tries  []Try
	Reply  *Reply
	// Ended is when the turn was finished or, with a Failure, given up.
	Ended   time.Time
	Failure string
	// Marks are those of the reply's parts.
	Marks []Mark
}
