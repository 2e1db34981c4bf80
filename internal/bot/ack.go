package bot

import (
	"context"

	"wabot/internal/chat"
)

// ack reacts with emoji to the message that t's reply answers, or takes the reaction back, where the bot does so at
// all. A turn that is tried again keeps its reaction until it ends.
func (b *Bot) ack(ctx context.Context, t *chat.Turn, emoji string) {
	if b.Ack != "" && len(spoken(t.Messages)) > 0 {
		b.WA.React(ctx, quotable(t), emoji)
	}
}
