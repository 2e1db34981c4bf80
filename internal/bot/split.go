package bot

import (
	"wabot/internal/chat"
	"wabot/internal/model"
)

// alone reports whether m is answered by itself: a command, or a notice of the bot's own.
func (b *Bot) alone(m chat.Message) bool {
	_, _, commanded := b.Rules.command(m)
	return commanded || m.Kind == chat.Announcement
}

// split divides a turn by the models that its messages are for, in their order. A message that begins with no prefix
// goes with the one before it, but for a description to draw, which is one message.
func (b *Bot) split(t chat.Turn) []chat.Turn {
	var all []chat.Turn
	var now model.Model
	alone := false
	for i, m := range t.Messages {
		to, _, prefixed := b.Models.Pick(m.Text)
		own := b.alone(m)
		if i == 0 || own || alone || now.Draws() || prefixed && to.Name != now.Name {
			all, now, alone = append(all, t), to, own
			all[len(all)-1].Messages = nil
		}
		part := &all[len(all)-1]
		part.Messages = append(part.Messages, m)
	}
	return all
}
