package bot

import (
	"fmt"

	"wabot/internal/chat"
)

// longestQuote bounds what is told of a quoted message, in characters: it may be of any length, and was mostly
// said before.
const longestQuote = 4000

// quoted is what a message replies to, as the model reads it; empty where it replies to nothing or nothing is
// known of it.
func quoted(q *chat.Quoted) string {
	if q == nil {
		return ""
	}
	medium := q.Kind != "" && q.Kind != chat.Text && q.Kind != chat.Other
	if q.Text == "" && !medium {
		return ""
	}
	what := "an earlier message"
	if q.FromBot {
		what = "your earlier message"
	}
	if medium {
		what += fmt.Sprintf(" (%s)", q.Kind)
	}
	if q.Text == "" {
		return fmt.Sprintf("[in reply to %s] ", what)
	}
	text := q.Text
	if r := []rune(text); len(r) > longestQuote {
		text = string(r[:longestQuote]) + "…"
	}
	return fmt.Sprintf("[in reply to %s: %q] ", what, text)
}
