package bot

import (
	"context"
	"time"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mask"
)

// Notes are what the bot remembers of a chat over restarts; Note returns nothing for a key that was never set.
type Notes interface {
	Note(ctx context.Context, key string) ([]byte, error)
	SetNote(ctx context.Context, key string, value []byte) error
}

// quietChats bounds the memory of which chats are quiet.
const quietChats = 10_000

func takeoverKey(chatJID string) string { return inbox.ChatNotes + "takeover/" + chatJID }

// Notice takes in a message that is not for the bot. One that the account's owner has written by hand in a chat with others
// makes the bot quiet there for Options.Takeover. What the bot sends itself never comes in as a message. An error means: the
// message is to come again.
func (b *Bot) Notice(ctx context.Context, m chat.Message) error {
	if b.Takeover == 0 || m.Change != nil || b.Rules.judge(m) != noPrefix {
		return nil
	}
	until := m.Time.Add(b.Takeover)
	if until.Before(b.Now()) {
		return nil
	}
	for _, jid := range []string{m.Chat, m.ChatAlt} {
		if jid == "" {
			continue
		}
		if err := b.Notes.SetNote(ctx, takeoverKey(jid), []byte(until.UTC().Format(time.RFC3339))); err != nil {
			return err
		}
		b.setQuiet(jid, until)
	}
	b.Log.Info("the account's owner writes in a chat by hand; the bot is quiet there", "chat", mask.JID(m.Chat), "until", until.Round(time.Second))
	return nil
}

func (b *Bot) setQuiet(jid string, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.quiet) >= quietChats {
		clear(b.quiet)
	}
	b.quiet[jid] = until
}

// quietUntil is until when the account's owner has the chat of m to themselves; zero where they have not.
func (b *Bot) quietUntil(ctx context.Context, m chat.Message) (latest time.Time, err error) {
	if b.Takeover == 0 {
		return latest, nil
	}
	for _, jid := range []string{m.Chat, m.ChatAlt} {
		if jid == "" {
			continue
		}
		b.mu.Lock()
		until, known := b.quiet[jid]
		b.mu.Unlock()
		if !known {
			text, err := b.Notes.Note(ctx, takeoverKey(jid))
			if err != nil {
				return latest, err
			}
			until, _ = time.Parse(time.RFC3339, string(text)) // none is none
			b.setQuiet(jid, until)
		}
		if until.After(latest) {
			latest = until
		}
	}
	return latest, nil
}
