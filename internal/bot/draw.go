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
func (b *Bot) draw(ctx context.Context, t *chat.Turn, m model.Model, d *draft) (said []chat.Part, failure string, err error) {
	asked := t.Last()
	description := strings.TrimSpace(b.question(asked))
	if description == "" && asked.Quoted != nil {
		description = strings.TrimSpace(asked.Quoted.Text)
	}
	if description == "" {
		return b.texts(b.help(asked)), "", nil
	}
	if err := d.asking(ctx); err != nil {
		return nil, "", err
	}
	picture, by, err := b.paint(ctx, asked, m, description)
	if err != nil {
		return b.apology(ctx, t, err)
	}
	uploaded, err := b.Uploader.Upload(ctx, picture.Data)
	if permanent(err) {
		return b.apology(ctx, t, &llm.Error{Kind: llm.BadAnswer, Err: err})
	}
	if err != nil {
		return nil, "", err
	}
	b.Log.Debug("picture drawn", "chat", mask.JID(t.Chat), "model", by, "bytes", len(picture.Data))
	drew, _ := b.Models.Named(by)
	return []chat.Part{{Text: drew.WithIcon(caption(description)), Picture: uploaded}}, "", nil
}

// drawing is a picture that is drawn, and may not be sent yet.
type drawing struct {
	llm.Media
	by string
}

// keyOf tells messages apart.
func keyOf(m chat.Message) string { return m.Chat + " " + m.Sender + " " + m.ID }

// drawings bounds the pictures that are kept for another try.
const drawings = 16

// paint draws what asked is for, or finds what an earlier try at the turn has drawn: a picture costs money, also one
// that could not be uploaded. It is kept in memory alone; after a crash it is drawn again.
func (b *Bot) paint(ctx context.Context, asked chat.Message, m model.Model, description string) (llm.Media, string, error) {
	key := keyOf(asked)
	b.mu.Lock()
	d, ok := b.drawn[key]
	b.mu.Unlock()
	if ok {
		return d.Media, d.by, nil
	}
	picture, by, err := b.Painter.Image(ctx, m.Name, description)
	if err != nil {
		return llm.Media{}, "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.drawn) >= drawings {
		clear(b.drawn)
	}
	b.drawn[key] = drawing{picture, by}
	return picture, by, nil
}

// forgetDrawings drops what was drawn for messages.
func (b *Bot) forgetDrawings(messages []chat.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range messages {
		delete(b.drawn, keyOf(m))
	}
}

// caption is a description as a caption.
func caption(description string) string {
	if r := []rune(description); len(r) > longestCaption {
		return string(r[:longestCaption-1]) + "…"
	}
	return description
}
