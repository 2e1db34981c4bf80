// Package chat holds the words the other packages share: a message that came in, the turn
// that answers it, and the reply. It knows nothing of WhatsApp, of stores or of models;
// addresses are JIDs as text, so that a value can be stored and compared as it is.
package chat

import (
	"errors"
	"slices"
	"time"
)

// Message is one message of a chat, as it came in.
type Message struct {
	// Chat is the chat's canonical JID, without a device: a group's own, a person's LID
	// where it is known, else the phone number's JID.
	Chat string `json:"chat"`
	// ChatAlt is the other address of a direct chat (the phone number's JID where Chat is
	// a LID), or empty. Chat and ChatAlt are one chat.
	ChatAlt string `json:"chat_alt,omitempty"`
	// ID is WhatsApp's message ID: unique for one Sender in one Chat.
	ID string `json:"id"`
	// Sender is the author's canonical JID, without a device, SenderAlt the author's other
	// address or empty.
	Sender    string `json:"sender"`
	SenderAlt string `json:"sender_alt,omitempty"`
	// Name is what the author calls themselves (the push name); never to be trusted.
	Name string `json:"name,omitempty"`
	// Time is when the server took the message, to the second.
	Time time.Time `json:"time"`
	// Text is what a person reads: the text, a medium's caption, or what a location or a contact card says.
	Text string `json:"text"`
	// Kind says what the message carries beside Text, Media where that lies, nil where there is nothing to fetch.
	Kind  Kind   `json:"kind"`
	Media *Media `json:"media,omitempty"`
	// Read is what was read of Media when the message was answered: what is said in a recording, what stands in a
	// document. Whoever has it need not open Media again.
	Read string `json:"read,omitempty"`
	// Quoted is the message that this one answers, if any.
	Quoted *Quoted `json:"quoted,omitempty"`
	// Group is set where the chat is a group.
	Group bool `json:"group,omitempty"`
	// FromMe is set where the linked account itself wrote the message, on another device.
	FromMe bool `json:"from_me,omitempty"`
	// Own is set in the account's chat with itself ("message yourself").
	Own bool `json:"own,omitempty"`
	// Borrowed is set where the words are not the author's own: forwarded, or chosen from what another has offered.
	Borrowed bool `json:"borrowed,omitempty"`
	// Mentioned is set where the message mentions the bot's account.
	Mentioned bool `json:"mentioned,omitempty"`
	// Mentions are the JIDs of the people whom the message mentions, without a device.
	Mentions []string `json:"mentions,omitempty"`
	// Change is set where the message edits or revokes an earlier one; what it has of a message is then
	// what the earlier one gets by it.
	Change *Change `json:"change,omitempty"`
	// Revoked is set where the author has taken the message back: nothing is left of what it said.
	Revoked bool `json:"revoked,omitempty"`
	// Hold is until when more messages are awaited before this one is answered with them; zero: it is
	// answered at once. The inbox sets it.
	Hold time.Time `json:"hold,omitzero"`
}

// Change is what a message does to an earlier one.
type Change struct {
	// ID is the earlier message's, in the same chat.
	ID string `json:"id"`
	// Revoke takes the earlier message back; else it is edited.
	Revoke bool `json:"revoke,omitempty"`
	// Admin is set where a group's admin revokes, who need not be the author; Author and AuthorAlt are then the author's
	// addresses, as Sender and SenderAlt are in a Message.
	Admin     bool   `json:"admin,omitempty"`
	Author    string `json:"author,omitempty"`
	AuthorAlt string `json:"author_alt,omitempty"`
}

// Changed is the message that the change m is of, as far as m names it.
func (m Message) Changed() Message {
	old := Message{Chat: m.Chat, ChatAlt: m.ChatAlt, ID: m.Change.ID, Sender: m.Sender, SenderAlt: m.SenderAlt}
	if m.Change.Admin {
		old.Sender, old.SenderAlt = m.Change.Author, m.Change.AuthorAlt
	}
	return old
}

// Is reports whether m and o, of one chat, are one message: authors have one of their addresses in common.
func (m Message) Is(o Message) bool {
	by := func(jid string) bool { return jid != "" && (jid == o.Sender || jid == o.SenderAlt) }
	return m.ID == o.ID && (by(m.Sender) || by(m.SenderAlt))
}

// Kind is what a message carries.
type Kind string

// The kinds of messages.
const (
	Text     Kind = "text"
	Image    Kind = "image"
	Voice    Kind = "voice"
	Audio    Kind = "audio"
	Video    Kind = "video"
	Document Kind = "document"
	Sticker  Kind = "sticker"
	Location Kind = "location"
	Contact  Kind = "contact"
	Other    Kind = "other"
	// Announcement is a message of the bot's own making to the account's owner, in the chat with themselves: it waits like
	// others, and its text is its answer.
	Announcement Kind = "announcement"
)

// Quoted is the part of a quoted message that travels with the one that quotes it.
type Quoted struct {
	ID     string `json:"id"`
	Sender string `json:"sender"`
	Text   string `json:"text,omitempty"`
	Kind   Kind   `json:"kind"`
	// Media and Read are as in Message.
	Media *Media `json:"media,omitempty"`
	Read  string `json:"read,omitempty"`
	// FromBot is set where the bot's own account wrote the quoted message.
	FromBot bool `json:"from_bot,omitempty"`
}

// Media is what a message carries and does not contain: where it lies, encrypted, on WhatsApp's media server, as the
// message's author says. None of it is to be trusted before it is fetched.
type Media struct {
	MIME string `json:"mime,omitempty"`
	// Name is a document's file name.
	Name string `json:"name,omitempty"`
	// Size is in bytes, Seconds how long a recording lasts; 0 where the author does not say.
	Size    uint64 `json:"size,omitempty"`
	Seconds int    `json:"seconds,omitempty"`
	Path    string `json:"path,omitempty"`
	// Key opens it. SHA256 is of the thing itself, EncSHA256 of what the server has.
	Key       []byte `json:"key,omitempty"`
	SHA256    []byte `json:"sha256,omitempty"`
	EncSHA256 []byte `json:"enc_sha256,omitempty"`
}

// The errors of fetching media that another try does not help.
var (
	// ErrTooLarge says that there is more of it than was asked for.
	ErrTooLarge = errors.New("the medium is too large")
	// ErrGone says that neither the server nor the phone that had it have it any more.
	ErrGone = errors.New("the medium is not there any more")
	// ErrBroken says that it is not what its author has sent, or that its author has not said how to open it.
	ErrBroken = errors.New("the medium is not what was sent")
)

// Turn is the work of answering a chat once: the messages that waited, and their reply as
// soon as there is one. A turn is held under a lease.
type Turn struct {
	// Chat is the canonical JID of the chat answered.
	Chat string
	// Lease names the claim that this turn was handed out under; a store refuses a turn
	// whose lease has been taken by another.
	Lease string
	// Until is when the lease ends.
	Until time.Time
	// Attempt counts the tries at this turn, from 1.
	Attempt int
	// Messages are answered together, in the order they came in. Never empty.
	Messages []Message
	// Reply is what an earlier attempt has saved, or nil. It may still be open.
	Reply *Reply
	// Tries are the attempts that have ended, oldest first.
	Tries []Try
}

// Last is the message that the turn's reply answers: the newest.
func (t Turn) Last() Message { return t.Messages[len(t.Messages)-1] }

// Reply is the answer to a turn, in the parts it is sent in.
type Reply struct {
	Parts []Part `json:"parts"`
	// Failure is why the model did not answer, for the operator, where the parts say
	// sorry instead. Empty for an answer.
	Failure string `json:"failure,omitempty"`
	// Charges are what it cost, in calls of models.
	Charges []Charge `json:"charges,omitempty"`
	// Left are the messages of the turn that it does not answer, such as those of someone whose budget is used up.
	// Where it answers none it may have no parts.
	Left []Left `json:"left,omitempty"`
}

// Open reports whether the answer is not there yet: the parts are what is shown for the time being, and will
// be edited into it.
func (r *Reply) Open() bool {
	return r != nil && slices.ContainsFunc(r.Parts, func(p Part) bool { return !p.Opened.IsZero() })
}

// Part is one outgoing message.
type Part struct {
	// ID is the message ID chosen before the first try to send, so that a resend is the
	// same message.
	ID string `json:"id"`
	// Text is the text, the caption of Picture, or what is said in Voice, which shows no text. At most one of the
	// two is set.
	Text    string     `json:"text"`
	Picture *Picture   `json:"picture,omitempty"`
	Voice   *VoiceNote `json:"voice,omitempty"`
	// Edits and Revokes name an earlier part, of another turn, whose text this one replaces or which it takes
	// back. At most one is set.
	Edits   string `json:"edits,omitempty"`
	Revokes string `json:"revokes,omitempty"`
	// Mentions are the JIDs of those whom Text names with "@" and the user part of their address.
	Mentions []string `json:"mentions,omitempty"`
	// Quote is set where the part quotes the turn's last message.
	Quote bool `json:"quote,omitempty"`
	// Command names the command that the part answers where that is no part of the conversation; empty else.
	Command string `json:"command,omitempty"`
	// Sent is set once WhatsApp's server has taken the part.
	Sent bool `json:"sent,omitempty"`
	// Opened is when the part was first to be sent while the answer that it will hold was not there yet; Text
	// is then what was sent for the time being. Zero in a part of the answer.
	Opened time.Time `json:"opened,omitzero"`
	// Via is the ID of the edit that puts Text in the place of what was sent under ID for the time being. Draft is that,
	// where it is not known to have arrived and goes first.
	Via   string `json:"via,omitempty"`
	Draft string `json:"draft,omitempty"`
}

// Media reports whether the part is more than a text, so that no edit can change it or be changed into it.
func (p Part) Media() bool { return p.Picture != nil || p.Voice != nil }

// Picture is one that waits on WhatsApp's media server: what a message needs to show it.
type Picture struct {
	MIME   string `json:"mime"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	// Thumbnail is a small JPEG that is shown until the picture is there; it may be missing.
	Thumbnail []byte `json:"thumbnail,omitempty"`
	Upload
}

// VoiceNote is a voice message that waits on WhatsApp's media server.
type VoiceNote struct {
	MIME    string `json:"mime"`
	Seconds int    `json:"seconds"`
	// Waveform is how loud it is, from its begin to its end: 64 values from 0 to 100.
	Waveform []byte `json:"waveform,omitempty"`
	Upload
}

// Upload is where something lies, encrypted, on WhatsApp's media server.
type Upload struct {
	URL  string `json:"url"`
	Path string `json:"path"`
	// Key opens it. SHA256 and Size, in bytes, are of the thing itself, EncSHA256 of what the server has.
	Key       []byte `json:"key"`
	SHA256    []byte `json:"sha256"`
	EncSHA256 []byte `json:"enc_sha256"`
	Size      uint64 `json:"size"`
}

// Exchange is a finished turn, as history.
type Exchange struct {
	Messages []Message
	// Reply is nil where the turn was given up without one. One that is open was given up before there was an answer.
	Reply *Reply
}
