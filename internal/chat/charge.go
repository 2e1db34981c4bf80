package chat

import "time"

// Charge is what one call of a model cost.
type Charge struct {
	// ID tells charges apart: one that comes again is the same.
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	// Person is the canonical JID of who asked, Chat that of where.
	Person string `json:"person,omitempty"`
	Chat   string `json:"chat,omitempty"`
	// Own is set in the account's chat with itself.
	Own bool `json:"own,omitempty"`
	// Model is the name of the one that answered.
	Model string     `json:"model,omitempty"`
	Kind  ChargeKind `json:"kind"`
	// What was used. Estimated is set where the model's server did not count the tokens.
	Prompt     int     `json:"prompt,omitempty"`     // tokens
	Completion int     `json:"completion,omitempty"` // tokens
	Estimated  bool    `json:"estimated,omitempty"`
	Images     int     `json:"images,omitempty"`
	Seconds    float64 `json:"seconds,omitempty"`    // of sound that was listened to
	Characters int     `json:"characters,omitempty"` // that were spoken
	// Cost is in millionths of the operator's currency.
	Cost int64 `json:"cost,omitempty"`
}

// ChargeKind is what a charge is for.
type ChargeKind string

// The kinds of charges.
const (
	ForText   ChargeKind = "text"
	ForImage  ChargeKind = "image"
	ForSound  ChargeKind = "sound"  // listened to
	ForSpeech ChargeKind = "speech" // spoken
	// Notice costs nothing: it notes, by its ID, that somebody was told of a limit.
	Notice ChargeKind = "notice"
	// Total is the sum of a day's charges of one model, which stays when those are deleted. It names neither
	// person nor chat.
	Total ChargeKind = "total"
)
