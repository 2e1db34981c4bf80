package bot

import (
	"strings"

	"wabot/internal/chat"
)

// Closes reports, for bots with a prefix, whether nothing more is to be awaited after a message before it is
// answered: a command is complete, and so is what came with a picture, a recording or a file.
func (r Rules) Closes(m chat.Message) bool {
	text := m.Text
	if rest, ok := r.cut(text); ok {
		text = rest
	}
	return m.Kind != chat.Text || strings.HasPrefix(strings.TrimSpace(text), "!")
}
