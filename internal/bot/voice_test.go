package bot

import (
	"context"
	"errors"
	"strings"
	"testing"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/llmtest"
	"wabot/internal/words"
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
}

// What is set for a chat holds before what is set for the bot.
func TestVoiceOfChat(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	m := &throat{world: w}
	ask := func(text string) chat.Part {
		t.Helper()
		tr := turn(from(text))
		if err := b.reply(t.Context(), &tr); err != nil {
			t.Fatal(err)
		}
		return tr.Reply.Parts[0]
	}
	say := b.Words.Say
	if got := ask("!voice on").Text; got != say(words.VoiceNone) {
		t.Errorf("without a voice: %q", got)
	}
	if got := ask("!help").Text; strings.Contains(got, "!voice") {
		t.Errorf("help lists what there is not: %q", got)
	}
	b.Mouth, b.VoiceUploader = m, m
	for _, row := range []struct {
		usual  VoiceReply
		text   string
		key    words.Key
		spoken bool
	}{
		{VoiceOff, "!voice", words.AboutVoice, false},
		{VoiceOff, "!voice loud", words.AboutVoice, false},
		{VoiceOff, "!voice on", words.VoiceIsOn, true},
		{VoiceOff, "!voice default", words.VoiceIsOff, false},
		{VoiceAlways, "!voice OFF", words.VoiceIsOff, false},
		{VoiceAlways, "!voice default", words.VoiceIsOn, true},
		{VoiceAuto, "!voice default", words.VoiceIsAuto, false},
	} {
		b.VoiceReply = row.usual
		if got := ask(row.text); got.Text != say(row.key) || got.Voice != nil {
			t.Errorf("%s: answered %+v", row.text, got)
		}
		if got := ask("!ai hi"); (got.Voice != nil) != row.spoken {
			t.Errorf("after %s: answered %+v", row.text, got)
		}
	}
	if got := ask("!help").Text; !strings.Contains(got, "!voice") {
		t.Errorf("help does not list it: %q", got)
	}
}
