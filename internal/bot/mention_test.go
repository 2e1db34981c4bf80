package bot

import (
	"slices"
	"testing"

	"wabot/internal/chat"
)

func TestMention(t *testing.T) {
	t.Parallel()
	someone := func(name, lid, number string) chat.Message {
		return chat.Message{Group: true, Name: name, Sender: lid + "@lid", SenderAlt: number + "@s.whatsapp.net"}
	}
	known := []chat.Message{someone("Alice", "1", "491"), someone("Bob", "2", "492"), someone("Bob", "3", "493"), someone("Ann Lee", "4", "494")}
	for _, test := range []struct {
		text, want string
		mentions   []string
	}{
		{"Hi @Alice, see @ann lee!", "Hi @1, see @4!", []string{"1@lid", "4@lid"}},
		{"@491 and again @alice", "@1 and again @1", []string{"1@lid"}},
		{"@Bob is two people, @all are none", "@Bob is two people, @all are none", nil},
		{"@Alicent, a@alice.org and @everyone", "@Alicent, a@alice.org and @everyone", nil},
	} {
		got, mentions := mention(test.text, known)
		if got != test.want || !slices.Equal(mentions, test.mentions) {
			t.Errorf("%q became %q with %v", test.text, got, mentions)
		}
	}
	private := someone("Alice", "1", "491")
	private.Group = false
	if _, mentions := mention("@Alice", []chat.Message{private}); mentions != nil {
		t.Error("a mention in a direct chat")
	}
}
