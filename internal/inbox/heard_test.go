package inbox

import (
	"fmt"
	"strings"
	"testing"

	"wabot/internal/chat"
)

func TestHear(t *testing.T) {
	t.Parallel()
	says := func(who, id, text string) chat.Message { return chat.Message{ID: id, Sender: who, Text: text} }
	change := func(who, of, text string, revoke bool) chat.Message {
		return chat.Message{ID: "C", Sender: who, Text: text, Change: &chat.Change{ID: of, Revoke: revoke}}
	}
	admin := func(author, alt string) chat.Message {
		m := change("boss", "b", "", true)
		m.Change.Admin, m.Change.Author, m.Change.AuthorAlt = true, author, alt
		return m
	}
	under := func(m chat.Message, alt string) chat.Message {
		m.SenderAlt = alt
		return m
	}
	for name, test := range map[string]struct {
		said []chat.Message
		want string
	}{
		"in order":          {[]chat.Message{says("al", "a", "1"), says("bob", "b", "2")}, "1 2"},
		"came again":        {[]chat.Message{says("al", "a", "1"), says("al", "a", "x")}, "1"},
		"same ID":           {[]chat.Message{says("al", "a", "1"), says("bob", "a", "2")}, "1 2"},
		"edited":            {[]chat.Message{says("al", "a", "1"), change("al", "a", "3", false)}, "3"},
		"edited by another": {[]chat.Message{says("al", "a", "1"), change("bob", "a", "3", false)}, "1"},
		"revoked":           {[]chat.Message{says("al", "a", "1"), says("bob", "b", "2"), change("al", "a", "", true)}, "2"},
		"revoked by admin":  {[]chat.Message{says("al", "a", "1"), says("bob", "b", "2"), admin("bob", "")}, "1"},
		"of another author": {[]chat.Message{says("al", "b", "1"), says("boss", "b", "2"), admin("bob", "49")}, "1 2"},
		"by number":         {[]chat.Message{says("al", "a", "1"), under(says("bob", "b", "2"), "49"), admin("49", "")}, "1"},
		"LID known later":   {[]chat.Message{says("49", "b", "1"), admin("bob", "49")}, ""},
		"own, known later":  {[]chat.Message{says("49", "b", "1"), under(change("bob", "b", "", true), "49")}, ""},
		"change of nothing": {[]chat.Message{change("al", "a", "3", false)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var all []chat.Message
			for _, m := range test.said {
				all = hear(all, m)
			}
			var texts []string
			for _, m := range all {
				texts = append(texts, m.Text)
			}
			if got := strings.Join(texts, " "); got != test.want {
				t.Errorf("heard %q, want %q", got, test.want)
			}
		})
	}
	carries := chat.Message{ID: "a", Media: &chat.Media{}, Quoted: &chat.Quoted{Media: &chat.Media{}}}
	if got := hear(nil, carries)[0]; got.Media != nil || got.Quoted.Media != nil || carries.Quoted.Media == nil {
		t.Errorf("what is heard keeps what it takes to open media: %+v", got)
	}
	var all []chat.Message
	for i := range 2 * mostHeard {
		all = hear(all, says("al", fmt.Sprint(i), strings.Repeat("x", 3*longestHeard)))
	}
	if len(all) != mostHeard || all[0].ID != fmt.Sprint(mostHeard) || len([]rune(all[0].Text)) != longestHeard+1 {
		t.Errorf("%d kept from %s, of %d characters", len(all), all[0].ID, len([]rune(all[0].Text)))
	}
}
