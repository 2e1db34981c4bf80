package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
)

// settings are what people have set for a chat by commands. They are kept in one note for each address of the chat, so
// that they are found when it changes from the number to the LID.
type settings struct {
	// Model names what answers in place of the default; empty for the default.
	Model string `json:"model,omitempty"`
	// Instructions are the system prompt here, in place of the model's; empty for the model's.
	Instructions string `json:"instructions,omitempty"`
	// Paused keeps the bot quiet but for commands.
	Paused bool `json:"paused,omitempty"`
	// Voice is whether answers are spoken here; empty where that is left to VoiceReply.
	Voice VoiceReply `json:"voice,omitempty"`
	// Reset is the last !reset: what came before it is not told to the model.
	Reset *point `json:"reset,omitempty"`
}

// point is a message as a place in a chat's history.
type point struct {
	ID     string    `json:"id"`
	Sender string    `json:"sender"`
	Time   time.Time `json:"time"`
}

const noteSettings = inbox.ChatNotes + "settings/"

// mostSettings bounds the memory of what is set, in chats.
const mostSettings = 10_000

// settings returns what is set for the chat of m.
func (b *Bot) settings(ctx context.Context, m chat.Message) (settings, error) {
	b.setting.Lock()
	defer b.setting.Unlock()
	return b.settingsLocked(ctx, m)
}

func (b *Bot) settingsLocked(ctx context.Context, m chat.Message) (s settings, err error) {
	if s, ok := b.set[m.Chat]; ok {
		return s, nil
	}
	for _, jid := range []string{m.Chat, m.ChatAlt} {
		if jid == "" {
			continue
		}
		text, err := b.Notes.Note(ctx, noteSettings+jid)
		if err == nil && text != nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil {
			return s, fmt.Errorf("read what is set for a chat: %w", err)
		}
		if text != nil {
			break
		}
	}
	b.remember(m.Chat, s)
	return s, nil
}

func (b *Bot) remember(jid string, s settings) {
	if len(b.set) >= mostSettings {
		clear(b.set)
	}
	b.set[jid] = s
}

// change sets something for the chat of m.
func (b *Bot) change(ctx context.Context, m chat.Message, to func(*settings)) error {
	b.setting.Lock()
	defer b.setting.Unlock()
	s, err := b.settingsLocked(ctx, m)
	if err != nil {
		return err
	}
	to(&s)
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write what is set for a chat: %w", err)
	}
	for _, jid := range []string{m.Chat, m.ChatAlt} {
		if jid == "" {
			continue
		}
		if err := b.Notes.SetNote(ctx, noteSettings+jid, text); err != nil {
			return fmt.Errorf("keep what is set for a chat: %w", err)
		}
		b.remember(jid, s)
	}
	return nil
}
