package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"wabot/internal/access"
	"wabot/internal/inbox"
)

// grant is what an admin has said in a chat of a person or a group, by an address in the form of access.List.
type grant struct {
	Who   string `json:"who"`
	Allow bool   `json:"allow"`
}

// noteGrants is where the grants are kept.
const noteGrants = inbox.ChatNotes + "access"

// rules are the settings' with what admins have said in chats.
func (b *Bot) rules(ctx context.Context) (Rules, error) {
	b.granting.Lock()
	defer b.granting.Unlock()
	return b.rulesLocked(ctx)
}

func (b *Bot) rulesLocked(ctx context.Context) (Rules, error) {
	r := b.Rules
	if !b.granted {
		text, err := b.Notes.Note(ctx, noteGrants)
		if err != nil {
			return r, fmt.Errorf("read who may talk to the bot: %w", err)
		}
		b.grants = nil
		if text != nil {
			if err := json.Unmarshal(text, &b.grants); err != nil {
				return r, fmt.Errorf("read who may talk to the bot: %w", err)
			}
		}
		b.granted = true
	}
	r.said = b.grants
	return r, nil
}

// grant keeps g, in place of what was said of the same address before.
func (b *Bot) grant(ctx context.Context, g grant) error {
	b.granting.Lock()
	defer b.granting.Unlock()
	r, err := b.rulesLocked(ctx)
	if err != nil {
		return err
	}
	all := slices.DeleteFunc(slices.Clone(r.said), func(o grant) bool { return o.Who == g.Who })
	all = append(all, g)
	text, err := json.Marshal(all)
	if err == nil {
		err = b.Notes.SetNote(ctx, noteGrants, text)
	}
	if err != nil {
		return fmt.Errorf("keep who may talk to the bot: %w", err)
	}
	b.grants = all
	return nil
}

// granted are those of whom admins have said that they are allowed, or blocked.
func (r Rules) granted(allow bool) (all access.List) {
	for _, g := range r.said {
		if g.Allow == allow {
			all = append(all, g.Who)
		}
	}
	return all
}
