package bot

import "wabot/internal/chat"

// split divides a turn by the models that its messages are for, in their order. A message that begins with no prefix
// goes with the one before it.
func (b *Bot) split(t chat.Turn) []chat.Turn {
	var all []chat.Turn
	now := ""
	for i, m := range t.Messages {
		to, _, prefixed := b.Models.Pick(m.Text)
		if i == 0 || prefixed && to.Name != now {
			all, now = append(all, t), to.Name
			all[len(all)-1].Messages = nil
		}
		part := &all[len(all)-1]
		part.Messages = append(part.Messages, m)
	}
	return all
}
