package bot

import (
	"wabot/internal/chat"
	"wabot/internal/llm"
)

// perMessage is what a message costs beside its text, in tokens: its role and its borders.
const perMessage = 4

// recent returns the newest turns that together have at most limit tokens, oldest first. Turns differ so much in
// length that their number alone would bound nothing.
func recent(history []chat.Exchange, limit int) []chat.Exchange {
	left := limit
	for i := len(history) - 1; i >= 0; i-- {
		for _, m := range history[i].Messages {
			left -= perMessage + llm.Tokens(m.Text) + llm.Tokens(again(m.Read))
			if m.Quoted != nil {
				left -= llm.Tokens(m.Quoted.Text) + llm.Tokens(again(m.Quoted.Read))
			}
		}
		if history[i].Reply != nil {
			for _, p := range history[i].Reply.Parts {
				left -= perMessage + llm.Tokens(p.Text)
			}
		}
		if left < 0 {
			return history[i+1:]
		}
	}
	return history
}
