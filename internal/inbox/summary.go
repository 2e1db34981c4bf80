package inbox

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"wabot/internal/chat"
)

// Summary is what was said in a chat before the history that a model is given, in short.
type Summary struct {
	Text string `json:"text"`
	// Through is the time of the last message that is in it, to the second, Last that message's ID.
	Through time.Time `json:"through"`
	Last    string    `json:"last,omitempty"`
}

// summaryOf is where a chat's summary is kept: beside what was heard, so that it goes with all that is said, wherever
// that is copied, forgotten or too old.
func summaryOf(chatJID string) string { return "summary/" + chatJID }

// Summary returns the summary of a chat; the zero one where there is none.
func (b *Inbox) Summary(ctx context.Context, chatJID string) (s Summary, err error) {
	all, err := b.store.Heard(ctx, summaryOf(chatJID))
	if err == nil && len(all) > 0 {
		err = json.Unmarshal([]byte(all[0].Text), &s)
	}
	if err != nil {
		return Summary{}, fmt.Errorf("read the chat's summary: %w", err)
	}
	return s, nil
}

// SetSummary keeps the summary of a chat, made at now, in the place of the one before; the zero one removes it.
func (b *Inbox) SetSummary(ctx context.Context, chatJID string, s Summary, now time.Time) error {
	var all []chat.Message
	if s != (Summary{}) {
		text, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("keep the chat's summary: %w", err)
		}
		all = []chat.Message{{Chat: summaryOf(chatJID), ID: "summary", Time: now, Text: string(text), Kind: chat.Text}}
	}
	if err := b.store.SetHeard(ctx, summaryOf(chatJID), all); err != nil {
		return fmt.Errorf("keep the chat's summary: %w", err)
	}
	return nil
}
