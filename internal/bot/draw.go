package bot

import (
	"context"
	"strings"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/mask"
	"wabot/internal/model"
)

// Painter draws what a description says, by the named model or its fallback. Its errors are *llm.Error.
type Painter interface {
	Image(ctx context.Context, model, description string) (picture llm.Media, by string, err error)
}

// Uploader puts pictures where messages can show them.
type Uploader interface {
	Upload(ctx context.Context, picture []byte) (*chat.Picture, error)
}

// longestCaption bounds the caption of a picture, in characters; WhatsApp's apps show a few lines.
const longestCaption = 300

// draw lets the model draw what the turn's one message says, or what it quotes. Where it does not, there is a sentence for
// the chat and the cause for the operator. The picture is uploaded before the reply is saved, so that a turn
// that is repeated sends that picture and draws no other.
func (b *Bot) draw(ctx context.Context, t *chat.Turn, m model.Model) (p *chat.Part, text, failure string, err error) {
	asked := t.Last()
	description := strings.TrimSpace(b.question(asked))
	if description == "" && asked.Quoted != nil {
		description = strings.TrimSpace(asked.Quoted.Text)
	}
	if description == "" {
		return nil, b.help(asked), "", nil
	}
	picture, by, err := b.Painter.Image(ctx, m.Name, description)
	if err != nil {
		text, failure, err = b.apology(ctx, t, err)
		return nil, text, failure, err
	}
	uploaded, err := b.Uploader.Upload(ctx, picture.Data)
	if err != nil {
		return nil, "", "", err
	}
	b.Log.Debug("picture drawn", "chat", mask.JID(t.Chat), "model", by, "bytes", len(picture.Data))
	drew, _ := b.Models.Named(by)
	return &chat.Part{Text: drew.WithIcon(caption(description)), Picture: uploaded}, "", "", nil
}

// caption is a description as a caption.
func caption(description string) string {
	if r := []rune(description); len(r) > longestCaption {
		return string(r[:longestCaption-1]) + "…"
	}
	return description
}
