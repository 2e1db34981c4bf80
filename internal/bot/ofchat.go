package bot

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wabot/internal/chat"
	"wabot/internal/model"
	"wabot/internal/words"
)

// The commands that set something for a chat.

// pick finds the model that answers a text in a chat with these settings, with the instructions that hold there. The
// usual prefix asks for whatever answers in the chat, another for its model.
func (b *Bot) pick(s settings, text string) model.Model {
	to, _, prefixed := b.Models.Pick(text)
	if prefixed && to.Prefix != b.Rules.Prefix {
		if to.Instructions == "" {
			to.Instructions = s.Instructions
		}
		return to
	}
	if chosen, ok := b.Models.Named(s.Model); ok {
		to = chosen
	}
	if s.Instructions != "" {
		to.Instructions = s.Instructions
	}
	return to
}

// after is the part of a history that came after the chat's last !reset.
func (s settings) after(history []chat.Exchange) []chat.Exchange {
	if s.Reset == nil {
		return history
	}
	for i, x := range slices.Backward(history) {
		j := slices.IndexFunc(x.Messages, func(m chat.Message) bool { return m.ID == s.Reset.ID && m.Sender == s.Reset.Sender })
		if j < 0 {
			continue
		}
		rest := slices.Clone(history[i:])
		rest[0].Messages = x.Messages[j+1:]
		if x.Reply != nil {
			r := *x.Reply
			for k, p := range x.Reply.Parts {
				if p.Command == resetCommand {
					r.Parts = x.Reply.Parts[k+1:]
				}
			}
			rest[0].Reply = &r
		}
		return rest
	}
	// It is in the turn that is being answered, or so old that nothing before it is here.
	return slices.DeleteFunc(slices.Clone(history), func(x chat.Exchange) bool {
		return !x.Messages[len(x.Messages)-1].Time.After(s.Reset.Time)
	})
}

// conversation is a history without the commands and what they answered, and without the bot's notices.
func (b *Bot) conversation(history []chat.Exchange) (all []chat.Exchange) {
	for _, x := range history {
		x.Messages = slices.DeleteFunc(slices.Clone(x.Messages), func(m chat.Message) bool {
			c, _, ok := b.Rules.command(m)
			return ok && !c.spoken || m.Kind == chat.Announcement
		})
		if x.Reply != nil {
			r := *x.Reply
			r.Parts = slices.DeleteFunc(slices.Clone(r.Parts), func(p chat.Part) bool { return p.Command != "" })
			x.Reply = &r
		}
		if len(x.Messages) > 0 {
			all = append(all, x)
		}
	}
	return all
}

func (b *Bot) doReset(ctx context.Context, m chat.Message, _ string) (text, failure string, err error) {
	if err := b.change(ctx, m, func(s *settings) { s.Reset = &point{m.ID, m.Sender, m.Time} }); err != nil {
		return "", "", err
	}
	if err := b.ForgetSummary(ctx, time.Time{}, m.Chat, m.ChatAlt); err != nil {
		return "", "", err
	}
	if m.Group {
		heard, err := b.Turns.Heard(ctx, m.Chat)
		if err == nil && len(heard) > 0 {
			err = b.Turns.Unhear(ctx, m.Chat, heard)
		}
		if err != nil {
			return "", "", err
		}
	}
	return b.Words.Say(words.ResetDone), "", nil
}

// usual is what people write for the model that answers where none is chosen.
const usual = "default"

func (b *Bot) doModel(ctx context.Context, m chat.Message, name string) (text, failure string, err error) {
	var names []string
	for _, o := range b.Models.Models() {
		if !o.Draws() {
			names = append(names, o.Name)
		}
	}
	choices := b.Words.Say(words.ModelChoices, "models", strings.Join(names, ", "), "usual", usual)
	if name == "" {
		s, err := b.settings(ctx, m)
		if err != nil {
			return "", "", err
		}
		return b.Words.Say(words.ModelIs, "model", b.pick(s, "").Name) + "\n" + choices, "", nil
	}
	chosen, ok := b.Models.Named(name)
	if !ok && strings.EqualFold(name, usual) {
		chosen, ok = b.Models.Named("")
		name = ""
	} else {
		name = chosen.Name
	}
	if !ok || chosen.Draws() {
		return b.Words.Say(words.ModelUnknown) + "\n" + choices, "", nil
	}
	if err := b.change(ctx, m, func(s *settings) { s.Model = name }); err != nil {
		return "", "", err
	}
	return b.Words.Say(words.ModelSet, "model", chosen.Name), "", nil
}

const (
	// clearing is what people write to be without instructions of the chat's own.
	clearing = "clear"
	// longestInstructions bounds a chat's instructions, in characters.
	longestInstructions = 4000
)

func (b *Bot) doInstructions(ctx context.Context, m chat.Message, text string) (said, failure string, err error) {
	done := words.InstructionsSet
	switch {
	case text == "":
		s, err := b.settings(ctx, m)
		if err != nil {
			return "", "", err
		}
		if s.Instructions == "" {
			return b.Words.Say(words.InstructionsNone), "", nil
		}
		return b.Words.Say(words.InstructionsAre) + "\n" + s.Instructions, "", nil
	case utf8.RuneCountInString(text) > longestInstructions:
		return b.Words.Say(words.InstructionsTooLong, "most", strconv.Itoa(longestInstructions)), "", nil
	case strings.EqualFold(text, clearing):
		text, done = "", words.InstructionsCleared
	}
	if err := b.change(ctx, m, func(s *settings) { s.Instructions = text }); err != nil {
		return "", "", err
	}
	return b.Words.Say(done), "", nil
}

func (b *Bot) doPause(ctx context.Context, m chat.Message, _ string) (text, failure string, err error) {
	if err := b.change(ctx, m, func(s *settings) { s.Paused = true }); err != nil {
		return "", "", err
	}
	return b.Words.Say(words.Paused), "", nil
}

func (b *Bot) doResume(ctx context.Context, m chat.Message, _ string) (text, failure string, err error) {
	if err := b.change(ctx, m, func(s *settings) { s.Paused = false }); err != nil {
		return "", "", err
	}
	return b.Words.Say(words.Resumed), "", nil
}
