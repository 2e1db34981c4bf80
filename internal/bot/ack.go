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

// acked takes the reaction back, or replaces it where there is no answer.
func (b *Bot) acked(ctx context.Context, t *chat.Turn) {
	if t.Reply == nil || t.Reply.Failure == "" || t.Reply.Failure == tooLate {
		b.ack(ctx, t, "")
	} else {
		b.ack(ctx, t, "⚠️")
	}
}
