package bot

import (
	"strings"
	"testing"

	"wabot/internal/chat"
)

func TestRecentIsBoundedByTokens(t *testing.T) {
	t.Parallel()
	exchange := func(ask, answer string) chat.Exchange {
		return chat.Exchange{Messages: []chat.Message{{Text: ask}}, Reply: &chat.Reply{Parts: []chat.Part{{Text: answer}}}}
	}
	quoting := exchange("hello", "hello") // one token each
	quoting.Messages[0].Quoted = &chat.Quoted{Text: strings.Repeat(" hello", 100)}
	history := []chat.Exchange{exchange("hello", "hello"), quoting, exchange("hello", "hello")}
	each := 2 * (perMessage + 1)
	for limit, want := range map[int]int{0: 0, each - 1: 0, each: 1, 2 * each: 1, 2*each + 99: 1, 2*each + 101: 2, 3*each + 101: 3} {
		if got := recent(history, limit); len(got) != want {
			t.Errorf("%d turns within %d tokens, want %d", len(got), limit, want)
		}
	}
}
