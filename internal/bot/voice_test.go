package bot

import (
	"context"
	"errors"
	"strings"
	"testing"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/llmtest"
)

// throat says what a bot says, and keeps what it was given.
type throat struct {
	*world
	said    string
	seconds int
}

func (m *throat) Speak(_ context.Context, text, _ string) (llm.Media, error) {
	m.said = text
	return llm.Media{MIME: "audio/ogg", Data: llmtest.Speech(text)}, m.do("speak")
}

func (m *throat) UploadVoice(_ context.Context, _ []byte, seconds int, waveform []byte) (*chat.VoiceNote, error) {
	m.seconds = seconds
	return &chat.VoiceNote{Seconds: seconds, Waveform: waveform}, m.do("upload voice")
}

func TestVoiceReply(t *testing.T) {
	t.Parallel()
	note := from("", func(m *chat.Message) { m.Kind, m.Read = chat.Voice, "hello" })
	for name, row := range map[string]struct {
		when   VoiceReply
		m      chat.Message
		answer string
		fail   string
		spoken bool
	}{
		"off":             {VoiceOff, note, "hi", "", false},
		"auto":            {VoiceAuto, note, "A **bold** answer", "", true},
		"auto, in text":   {VoiceAuto, from("!ai hi"), "hi", "", false},
		"always":          {VoiceAlways, from("!ai hi"), "hi", "", true},
		"long":            {VoiceAlways, note, strings.Repeat("word ", longestSpoken), "", false},
		"code":            {VoiceAlways, note, "```\nx\n```", "", false},
		"a link":          {VoiceAlways, note, "see https://example.org", "", false},
		"cannot speak":    {VoiceAlways, note, "hi", "speak", false},
		"cannot upload":   {VoiceAlways, note, "hi", "upload voice", false},
		"the prefix only": {VoiceAlways, from("!ai"), "hi", "", false},
	} {
		w, b := newWorld(t)
		m := &throat{world: w}
		b.Mouth, b.VoiceUploader, b.VoiceReply = m, m, row.when
		w.answer.Text = row.answer
		if row.fail != "" {
			w.fail[row.fail] = errors.New("no voice")
		}
		tr := turn(row.m)
		if err := b.reply(t.Context(), &tr); err != nil {
			t.Fatal(err)
		}
		p := tr.Reply.Parts[0]
		if (p.Voice != nil) != row.spoken || p.Text == "" {
			t.Errorf("%s: replied %+v", name, p)
		}
		if row.spoken && (len(p.Voice.Waveform) != 64 || p.Voice.Seconds < 1 || strings.Contains(m.said, "*")) {
			t.Errorf("%s: said %q, %+v", name, m.said, p.Voice)
		}
	}
	// A chat may have a wish of its own.
	w, b := newWorld(t)
	m := &throat{world: w}
	b.Mouth, b.VoiceUploader = m, m
	b.VoiceOf = func(context.Context, chat.Message) (VoiceReply, bool) { return VoiceAlways, true }
	if tr := turn(from("!ai hi")); b.reply(t.Context(), &tr) != nil || tr.Reply.Parts[0].Voice == nil {
		t.Errorf("replied %+v", tr.Reply)
	}
}
