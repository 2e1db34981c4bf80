package bot

import (
	"cmp"
	"context"
	"math"
	"strings"

	"wabot/internal/chat"
	"wabot/internal/format"
	"wabot/internal/llm"
	"wabot/internal/mask"
	"wabot/internal/media"
	"wabot/internal/words"
)

// Mouth says a text, as Opus in Ogg. Its errors are *llm.Error.
type Mouth interface {
	Speak(ctx context.Context, text, voice string) (llm.Media, error)
}

// VoiceUploader puts voice messages where messages can play them.
type VoiceUploader interface {
	UploadVoice(ctx context.Context, sound []byte, seconds int, waveform []byte) (*chat.VoiceNote, error)
}

// VoiceReply is when an answer is spoken.
type VoiceReply string

// The times at which an answer is spoken. The empty one is VoiceOff.
const (
	VoiceOff    VoiceReply = "off"
	VoiceAuto   VoiceReply = "auto" // where the question was
	VoiceAlways VoiceReply = "always"
)

// longestSpoken bounds what is said, in characters: about two minutes. More is better read.
const longestSpoken = 1500

// voices are what people write to have answers spoken or not, or as VoiceReply says.
var voices = map[string]VoiceReply{"on": VoiceAlways, "off": VoiceOff, usual: ""}

func (b *Bot) doVoice(ctx context.Context, m chat.Message, word string) (text, failure string, err error) {
	if b.Mouth == nil {
		return b.Words.Say(words.VoiceNone), "", nil
	}
	when, ok := voices[strings.ToLower(word)]
	if !ok {
		return b.Words.Say(words.AboutVoice), "", nil
	}
	if err := b.change(ctx, m, func(s *settings) { s.Voice = when }); err != nil {
		return "", "", err
	}
	switch cmp.Or(when, b.VoiceReply) {
	case VoiceAlways:
		return b.Words.Say(words.VoiceIsOn), "", nil
	case VoiceAuto:
		return b.Words.Say(words.VoiceIsAuto), "", nil
	}
	return b.Words.Say(words.VoiceIsOff), "", nil
}

// speaks reports whether the answer to t is to be a voice message.
func (b *Bot) speaks(t *chat.Turn, s settings) bool {
	if b.Mouth == nil {
		return false
	}
	when := cmp.Or(s.Voice, b.VoiceReply)
	return when == VoiceAlways || when == VoiceAuto && t.Last().Kind == chat.Voice
}

// voiced is an answer as a voice message, uploaded; nil where it is better read, or where it cannot be spoken: then it is sent as
// text.
func (b *Bot) voiced(ctx context.Context, t *chat.Turn, answer string) *chat.Part {
	text := format.Markdown(answer)
	if len([]rune(text)) > longestSpoken || strings.Contains(text, "```") || strings.Contains(text, "://") {
		return nil
	}
	said := strings.Map(func(r rune) rune {
		if strings.ContainsRune("*_~`", r) {
			return -1
		}
		return r
	}, text)
	sound, err := b.Mouth.Speak(ctx, said, b.Voice)
	var shape media.Voice
	if err == nil {
		shape, err = media.Measure(sound.Data)
	}
	var note *chat.VoiceNote
	if err == nil {
		note, err = b.VoiceUploader.UploadVoice(ctx, sound.Data, max(1, int(math.Round(shape.Duration.Seconds()))), shape.Waveform)
	}
	if err != nil {
		b.Log.Warn("an answer could not be spoken; it is sent as text", "chat", mask.JID(t.Chat), "err", err)
		return nil
	}
	return &chat.Part{Text: text, Voice: note}
}
