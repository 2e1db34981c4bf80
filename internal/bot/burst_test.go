package bot

import (
	"testing"

	"wabot/internal/chat"
)

func TestCloses(t *testing.T) {
	t.Parallel()
	closes := Rules{Prefix: "!ai"}.Closes
	for text, want := range map[string]bool{"hi": false, "!ai hi": false, "!ai": false, "!help": true, " !AI  !help": true, "so! what": false} {
		if got := closes(chat.Message{Kind: chat.Text, Text: text}); got != want {
			t.Errorf("%q closes a burst: %v, want %v", text, got, want)
		}
	}
	if !closes(chat.Message{Kind: chat.Image, Text: "look"}) {
		t.Error("a picture does not close a burst")
	}
}
