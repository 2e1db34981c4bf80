package transfer

import (
	"encoding/json"
	"fmt"

	"wabot/internal/chat"
)

// Kind names what a Row is.
type Kind string

// The kinds of rows.
const (
	KindDevice       Kind = "device"
	KindIdentity     Kind = "identity"
	KindSession      Kind = "session"
	KindPreKey       Kind = "pre-key"
	KindPreKeyCount  Kind = "pre-key count"
	KindSenderKey    Kind = "sender key"
	KindSyncKey      Kind = "app state key"
	KindVersion      Kind = "app state version"
	KindMAC          Kind = "app state MAC"
	KindContact      Kind = "contact"
	KindChatSettings Kind = "chat setting"
	KindSecret       Kind = "message secret"
	KindToken        Kind = "privacy token"
	KindSalt         Kind = "salt"
	KindEvent        Kind = "buffered event"
	KindSent         Kind = "sent message"
	KindLID          Kind = "LID"
	KindNote         Kind = "note"
	KindCharge       Kind = "charge"
	KindMark         Kind = "mark"
	KindHeard        Kind = "chat memory"
	KindTurn         Kind = "turn"
	KindWaiting      Kind = "waiting message"
)

// Kinds are all kinds, in the order in which they are shown.
var Kinds = []Kind{
	KindDevice, KindIdentity, KindSession, KindPreKey, KindPreKeyCount, KindSenderKey, KindSyncKey, KindVersion, KindMAC,
	KindContact, KindChatSettings, KindSecret, KindToken, KindSalt, KindEvent, KindSent, KindLID, KindNote, KindCharge, KindMark, KindHeard, KindTurn, KindWaiting,
}

// Row is one thing that a store keeps: one of the types below, as a value. Addresses are those
// of whatsmeow's sqlstore, a missing text or key is empty, and nil and empty bytes are the same.
type Row interface{ Kind() Kind }

// Device is the linked device itself. All rows but LID, Note and those after it belong to it.
type Device struct {
	JID                   string `json:"jid"`
	LID                   string `json:"lid"`
	FacebookUUID          string `json:"facebook_uuid"`
	RegistrationID        int64  `json:"registration_id"`
	NoiseKey              []byte `json:"noise_key"`
	IdentityKey           []byte `json:"identity_key"`
	SignedPreKey          []byte `json:"signed_pre_key"`
	SignedPreKeyID        int64  `json:"signed_pre_key_id"`
	SignedPreKeySignature []byte `json:"signed_pre_key_signature"`
	AdvKey                []byte `json:"adv_key,omitempty"`
	AdvDetails            []byte `json:"adv_details,omitempty"`
	AccountSignature      []byte `json:"account_signature"`
	AccountSignatureKey   []byte `json:"account_signature_key"`
	DeviceSignature       []byte `json:"device_signature"`
	Platform              string `json:"platform"`
	BusinessName          string `json:"business_name"`
	PushName              string `json:"push_name"`
	LIDMigrationTimestamp int64  `json:"lid_migration_timestamp"`
	CompanionMetaNonce    string `json:"companion_meta_nonce"`
}

// Identity is the identity key of a Signal address.
type Identity struct {
	Address string `json:"address"`
	Key     []byte `json:"key"`
}

// Session is the Signal session with an address.
type Session struct {
	Address string `json:"address"`
	Record  []byte `json:"record,omitempty"`
}

// PreKey is a one-time pre-key that nobody has used yet.
type PreKey struct {
	ID       int64  `json:"id"`
	Private  []byte `json:"private"`
	Uploaded bool   `json:"uploaded"`
}

// PreKeyCount is the ID that the next new pre-key gets, above all that were ever given out. It
// comes once, after the last PreKey.
type PreKeyCount struct {
	Next int64 `json:"next"`
}

// SenderKey is the key by which a sender's messages in a group are read.
type SenderKey struct {
	Group  string `json:"group"`
	Sender string `json:"sender"`
	Record []byte `json:"record,omitempty"`
}

// SyncKey is an app state key.
type SyncKey struct {
	ID          []byte `json:"id"`
	Data        []byte `json:"data,omitempty"`
	Fingerprint []byte `json:"fingerprint,omitempty"`
	Timestamp   int64  `json:"timestamp"`
}

// Version is the state of an app state collection. Its MACs come after it.
type Version struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Hash    []byte `json:"hash"`
}

// MAC is the MAC of an app state mutation.
type MAC struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Index   []byte `json:"index"`
	Value   []byte `json:"value"`
}

// Contact is what is known of a person's names.
type Contact struct {
	JID      string `json:"jid"`
	First    string `json:"first"`
	Full     string `json:"full"`
	Push     string `json:"push"`
	Business string `json:"business"`
	Redacted string `json:"redacted"`
}

// ChatSettings are a chat's. MutedUntil is in seconds since 1970, 0 for not muted, -1 for ever.
type ChatSettings struct {
	JID        string `json:"jid"`
	MutedUntil int64  `json:"muted_until"`
	Pinned     bool   `json:"pinned"`
	Archived   bool   `json:"archived"`
}

// Secret is a message's secret, by which edits, votes and reactions are read. When it came is not
// carried along: one store does not keep it, and it is only used to forget old ones.
type Secret struct {
	Chat   string `json:"chat"`
	Sender string `json:"sender"`
	ID     string `json:"id"`
	Secret []byte `json:"secret,omitempty"`
}

// Token is a privacy token. Times are seconds since 1970; Sent is nil where it is not known.
type Token struct {
	JID   string `json:"jid"`
	Token []byte `json:"token,omitempty"`
	Time  int64  `json:"time"`
	Sent  *int64 `json:"sent"`
}

// Salt is the NCT salt; there is one at most.
type Salt struct {
	Salt []byte `json:"salt,omitempty"`
}

// Event is a message that was decrypted: with its text until the bot has it, and Handled after that.
type Event struct {
	Hash      []byte `json:"hash"`
	Plaintext []byte `json:"plaintext,omitempty"`
	Handled   bool   `json:"handled"`
	// ServerTime is in seconds since 1970, Came, when it was put here, in milliseconds.
	ServerTime int64 `json:"server_time"`
	Came       int64 `json:"came"`
}

// Sent is a message sent, kept for a receiver that asks for it again. At is in milliseconds.
type Sent struct {
	Chat      string `json:"chat"`
	ID        string `json:"id"`
	Format    string `json:"format"`
	Plaintext []byte `json:"plaintext,omitempty"`
	At        int64  `json:"at"`
}

// LID pairs a person's hidden number with their phone number.
type LID struct {
	LID string `json:"lid"`
	PN  string `json:"pn"`
}

// Note is a small fact kept across restarts.
type Note struct {
	Key   string `json:"key"`
	Value []byte `json:"value,omitempty"`
}

// Charge is what a call of a model cost, or a day's total.
type Charge struct {
	JSON string `json:"json"` // a chat.Charge
}

// Read gives the charge.
func (c Charge) Read() (chat.Charge, error) {
	var out chat.Charge
	if err := json.Unmarshal([]byte(c.JSON), &out); err != nil {
		return out, fmt.Errorf("read a charge: %w", err)
	}
	return out, nil
}

// Mark is something that happened to a message outside of its turn, as a chat.Mark. At is in nanoseconds since 1970.
type Mark struct {
	Message string `json:"message"`
	Fate    string `json:"fate"`
	Chat    string `json:"chat"`
	Who     string `json:"who"`
	At      int64  `json:"at"`
	Why     string `json:"why"`
}

// Heard is what the inbox keeps of a chat beside its turns: what was said in a group and is not to be answered, or a summary.
type Heard struct {
	Chat string `json:"chat"`
	JSON string `json:"json"` // a list of chat.Message, not empty
}

// Read gives the messages.
func (h Heard) Read() ([]chat.Message, error) {
	var all []chat.Message
	if err := json.Unmarshal([]byte(h.JSON), &all); err != nil {
		return nil, fmt.Errorf("read what was heard in a chat: %w", err)
	}
	return all, nil
}

// Turn is a turn of the inbox with its messages. The ended ones of all chats come first, those of a chat in
// the order in which they ended, then the open ones in the order in which they were begun.
type Turn struct {
	Chat    string `json:"chat"`
	Lease   string `json:"lease"`
	Ready   int64  `json:"ready"` // until when it is leased or put off, in nanoseconds since 1970
	Attempt int    `json:"attempt"`
	Reply   string `json:"reply"` // a chat.Reply in JSON, or empty
	Failure string `json:"failure"`
	Ended   int64  `json:"ended"`           // nanoseconds since 1970; 0 while it is open
	Tries   string `json:"tries,omitempty"` // a list of chat.Try in JSON, or empty
	// Messages are in the order in which they came.
	Messages []Message `json:"messages"`
}

// Waiting is a message that is in no turn yet, in the order in which they came.
type Waiting struct {
	Chat string `json:"chat"`
	Message
}

// Message is a message as it came. Since then its chat may have got another address.
type Message struct {
	Came int64  `json:"came"` // nanoseconds since 1970
	JSON string `json:"json"` // a chat.Message
}

// Read gives the message, as it came.
func (m Message) Read() (chat.Message, error) {
	var came chat.Message
	if err := json.Unmarshal([]byte(m.JSON), &came); err != nil {
		return came, fmt.Errorf("read a message: %w", err)
	}
	return came, nil
}

// Kind implements Row, as do the others.
func (Device) Kind() Kind       { return KindDevice }
func (Identity) Kind() Kind     { return KindIdentity }
func (Session) Kind() Kind      { return KindSession }
func (PreKey) Kind() Kind       { return KindPreKey }
func (PreKeyCount) Kind() Kind  { return KindPreKeyCount }
func (SenderKey) Kind() Kind    { return KindSenderKey }
func (SyncKey) Kind() Kind      { return KindSyncKey }
func (Version) Kind() Kind      { return KindVersion }
func (MAC) Kind() Kind          { return KindMAC }
func (Contact) Kind() Kind      { return KindContact }
func (ChatSettings) Kind() Kind { return KindChatSettings }
func (Secret) Kind() Kind       { return KindSecret }
func (Token) Kind() Kind        { return KindToken }
func (Salt) Kind() Kind         { return KindSalt }
func (Event) Kind() Kind        { return KindEvent }
func (Sent) Kind() Kind         { return KindSent }
func (LID) Kind() Kind          { return KindLID }
func (Note) Kind() Kind         { return KindNote }
func (Charge) Kind() Kind       { return KindCharge }
func (Mark) Kind() Kind         { return KindMark }
func (Heard) Kind() Kind        { return KindHeard }
func (Turn) Kind() Kind         { return KindTurn }
func (Waiting) Kind() Kind      { return KindWaiting }
