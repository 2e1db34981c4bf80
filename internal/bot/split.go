package bot

import (
	"wabot/internal/chat"
	"wabot/internal/model"
)

// split divides a turn by the models that its messages are for, in their order. A message that begins with no prefix
// goes with the one before it, but for a description to draw, which is one message.
func (b *Bot) split(t chat.Turn) []chat.Turn {
	var all []chat.Turn
	var now model.Model
	for i, m := range t.Messages {
		to, _, prefixed := b.Models.Pick(m.Text)
		if i == 0 || now.Draws() || prefixed && to.Name != now.Name {
			all, now = append(all, t), to
			all[len(all)-1].Messages = nil
		}
		part := &all[len(all)-1]
		part.Messages = append(part.Messages, m)
	}
	return all
}
