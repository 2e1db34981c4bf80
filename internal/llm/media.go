package llm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	openai "github.com/sashabaranov/go-openai"
)

// Media is a picture or a sound, whole.
type Media struct {
	// MIME is its type, such as image/jpeg or audio/ogg; parameters may follow.
	MIME string
	Data []byte
}

// dataURL is the picture as part of a prompt.
func (m Media) dataURL() string {
	return "data:" + m.kind() + ";base64," + base64.StdEncoding.EncodeToString(m.Data)
}

// kind is MIME without its parameters.
func (m Media) kind() string {
	kind, _, _ := strings.Cut(m.MIME, ";")
	return strings.TrimSpace(kind)
}

// Transcribe writes down what is said in a sound; the client's model must be one for that, such as
// whisper-1. language is a hint (ISO 639-1), empty to let the model find out. The text is empty where
// nothing is said. The errors are those of Complete.
func (c *Client) Transcribe(ctx context.Context, sound Media, language string) (string, error) {
	return call(ctx, c, "transcribe", nil, whole, func(ctx context.Context, t *try) (string, error) {
		got, err := c.api(t).CreateTranscription(ctx, openai.AudioRequest{
			Model: c.opts.Model, FilePath: "voice." + extension(sound.kind()),
			Reader: bytes.NewReader(sound.Data), Language: language,
		})
		if err != nil {
			return "", err
		}
		if len(got.Text) > MaxText {
			return "", &Error{Kind: BadAnswer, Err: errTooLarge}
		}
		return strings.TrimSpace(got.Text), nil
	})
}

// extension is the file name's end that servers know a sound's format by.
func extension(kind string) string {
	switch kind {
	case "audio/mpeg", "audio/mp3":
		return "mp3"
	case "audio/mp4", "audio/x-m4a", "audio/aac":
		return "m4a"
	case "audio/wav", "audio/x-wav", "audio/wave":
		return "wav"
	case "audio/webm":
		return "webm"
	case "audio/flac":
		return "flac"
	}
	return "ogg" // WhatsApp's voice messages
}

// Speak says a text; the client's model must be one for that, such as gpt-4o-mini-tts. voice is "alloy"
// if empty. It asks for Opus in Ogg, which WhatsApp's voice messages are, but some servers send their own format: MIME tells. The
// errors are those of Complete; TooLong is for the text (OpenAI takes 4,096 characters).
func (c *Client) Speak(ctx context.Context, text, voice string) (Media, error) {
	return call(ctx, c, "speak", []string{text}, whole, func(ctx context.Context, t *try) (Media, error) {
		raw, err := c.api(t).CreateSpeech(ctx, openai.CreateSpeechRequest{
			Model: openai.SpeechModel(c.opts.Model), Input: text,
			Voice: openai.SpeechVoice(cmp.Or(voice, "alloy")), ResponseFormat: openai.SpeechResponseFormatOpus,
		})
		if err != nil {
			return Media{}, err
		}
		defer raw.Close()
		data, err := io.ReadAll(raw)
		if err != nil {
			return Media{}, err
		}
		kind := soundKind(data)
		if kind == "" {
			return Media{}, &Error{Kind: BadAnswer, Err: errors.New("the answer is no sound of a known format")}
		}
		return Media{MIME: kind, Data: data}, nil
	})
}

// soundKind tells a sound's type by its first bytes, empty for none known.
func soundKind(data []byte) string {
	if bytes.HasPrefix(data, []byte("OggS")) && bytes.Contains(data[:min(len(data), 64)], []byte("OpusHead")) {
		return "audio/ogg; codecs=opus"
	}
	if len(data) > 2 && data[0] == 0xff && data[1]&0xe0 == 0xe0 {
		return "audio/mpeg" // without the tag that DetectContentType looks for
	}
	switch kind := http.DetectContentType(data); kind {
	case "audio/mpeg", "audio/wave":
		return kind
	case "application/ogg":
		return "audio/ogg"
	}
	return ""
}

// openAIImage draws by OpenAI's protocol.
func (c *Client) openAIImage(ctx context.Context, t *try, description, size string) ([]byte, error) {
	req := openai.ImageRequest{Model: c.opts.Model, Prompt: description, Size: size, N: 1}
	// OpenAI's GPT models send no links and refuse to be told, and they refuse the small sizes of the models before them.
	if strings.Contains(c.opts.Model, "gpt-image") || strings.HasPrefix(c.opts.Model, "chatgpt-image") {
		if !slices.Contains([]string{"1024x1024", "1536x1024", "1024x1536", "auto"}, size) {
			req.Size = ""
		}
	} else {
		req.ResponseFormat = openai.CreateImageResponseFormatB64JSON
	}
	got, err := c.api(t).CreateImage(ctx, req)
	if err != nil {
		return nil, err
	}
	if len(got.Data) == 0 || got.Data[0].B64JSON == "" {
		return nil, &Error{Kind: BadAnswer, Err: errors.New("the answer has no picture in it (a link is not followed)")}
	}
	data, err := base64.StdEncoding.DecodeString(got.Data[0].B64JSON)
	if err != nil {
		return nil, &Error{Kind: BadAnswer, Err: errors.New("the answer is no picture of a known format")}
	}
	return data, nil
}
