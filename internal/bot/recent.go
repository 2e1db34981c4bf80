package bot

import (
	"cmp"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/model"
)

// perMessage is what a message costs beside its text, in tokens: its role and its borders.
const perMessage = 4

// recent returns the newest turns that together have at most limit tokens, oldest first. Turns differ so much in
// length that their number alone would bound nothing.
func recent(history []chat.Exchange, limit int) []chat.Exchange {
	left := limit
	for i := len(history) - 1; i >= 0; i-- {
		if left -= cost(history[i]); left < 0 {
			return history[i+1:]
		}
	}
	return history
}

// cost is about how many tokens a turn has.
func cost(x chat.Exchange) (n int) {
	n = costOfAll(x.Messages)
	if x.Reply != nil {
		for _, p := range x.Reply.Parts {
			n += perMessage + llm.Tokens(p.Text)
		}
	}
	return n
}

// costOf is about how many tokens a message has.
func costOf(m chat.Message) int {
	n := perMessage + llm.Tokens(m.Text) + llm.Tokens(again(m.Read))
	if m.Quoted != nil {
		n += llm.Tokens(m.Quoted.Text) + llm.Tokens(again(m.Quoted.Read))
	}
	return n
}

// costOfAll is about how many tokens messages have.
func costOfAll(messages []chat.Message) (n int) {
	for _, m := range messages {
		n += costOf(m)
	}
	return n
}

// room is how many tokens the history may have for a model that is told so many others with it.
func (b *Bot) room(m model.Model, others int) int {
	if m.ContextTokens == 0 {
		return b.HistoryTokens
	}
	answer := cmp.Or(m.MaxTokens, m.ContextTokens/4)
	return max(0, min(b.HistoryTokens, m.ContextTokens-answer-others))
}
