package bot

import (
	"strings"
	"testing"

	"wabot/internal/chat"
)

func TestQuoted(t *testing.T) {
	t.Parallel()
	for want, q := range map[string]*chat.Quoted{
		"": nil,
		`[in reply to an earlier message: "hi"] `:         {Kind: chat.Text, Text: "hi"},
		`[in reply to your earlier message: "hi"] `:       {Kind: chat.Text, Text: "hi", FromBot: true},
		`[in reply to an earlier message (image): "hi"] `: {Kind: chat.Image, Text: "hi"},
		`[in reply to your earlier message (voice)] `:     {Kind: chat.Voice, FromBot: true},
		`[in reply to an earlier message: "a poll"] `:     {Kind: chat.Other, Text: "a poll"},
	} {
		if got := quoted(q); got != want {
			t.Errorf("quoted %+v: %q, want %q", q, got, want)
		}
	}
	if got := quoted(&chat.Quoted{Kind: chat.Other}); got != "" {
		t.Errorf("a quote of which nothing is known: %q", got)
	}
	if got := quoted(&chat.Quoted{Kind: chat.Text, Text: strings.Repeat("ä", longestQuote+1)}); !strings.Contains(got, strings.Repeat("ä", longestQuote)+"…") {
		t.Errorf("a long quote has %d bytes and does not end in …", len(got))
	}
}
