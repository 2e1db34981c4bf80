package bot

import (
	"fmt"
	"strings"
	"unicode"

	"wabot/internal/chat"
	"wabot/internal/llm"
)

// prompt makes the prompt of a turn: the instructions, the history, the messages.
func (b *Bot) prompt(t *chat.Turn, history []chat.Exchange) llm.Prompt {
	var p llm.Prompt
	instructions := b.Instructions
	if t.Last().Group {
		instructions = strings.TrimSpace(instructions + "\n\nThis is a group chat: each message begins with the name its author goes by.")
	}
	if instructions != "" {
		p.Messages = append(p.Messages, llm.Message{Role: llm.System, Text: instructions})
	}
	for _, e := range recent(history, b.HistoryTokens) {
		// A turn that ended in an apology teaches the model nothing but to apologise.
		if e.Reply == nil || e.Reply.Failure != "" {
			continue
		}
		for _, m := range e.Messages {
			p.Messages = append(p.Messages, b.ask(m))
		}
		var said []string
		for _, part := range e.Reply.Parts {
			said = append(said, part.Text)
		}
		p.Messages = append(p.Messages, llm.Message{Role: llm.Assistant, Text: strings.Join(said, "\n\n")})
	}
	for _, m := range t.Messages {
		p.Messages = append(p.Messages, b.ask(m))
	}
	return p
}

// ask is a message as the model reads it.
func (b *Bot) ask(m chat.Message) llm.Message {
	var s strings.Builder
	if m.Group {
		fmt.Fprintf(&s, "%s: ", author(m))
	}
	s.WriteString(quoted(m.Quoted))
	if m.Kind != chat.Text {
		fmt.Fprintf(&s, "[sent: %s, which you cannot open; what is known of it follows] ", m.Kind)
	}
	s.WriteString(b.question(m))
	return llm.Message{Role: llm.User, Text: strings.TrimSpace(s.String())}
}

// question is a message's text without the prefix.
func (b *Bot) question(m chat.Message) string {
	if rest, ok := cutPrefix(m.Text, b.Rules.Prefix); ok {
		return rest
	}
	return m.Text
}

// longestName bounds a name, in characters.
const longestName = 40

// author is the name of a message's author, as far as it can be trusted: one line, not long.
func author(m chat.Message) string {
	if m.FromMe {
		return "the account's owner"
	}
	name := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == ':' || r == '[' || r == ']' {
			return -1
		}
		return r
	}, m.Name)
	if name = strings.TrimSpace(name); name == "" {
		return "someone"
	}
	if r := []rune(name); len(r) > longestName {
		name = string(r[:longestName])
	}
	return name
}

// command answers what needs no model: the prefix alone, and a call for help.
func (b *Bot) command(t *chat.Turn) (text string, ok bool) {
	for _, m := range t.Messages {
		question := strings.TrimSpace(b.question(m))
		bare := question == "" && m.Kind == chat.Text && (m.Quoted == nil || m.Quoted.Text == "")
		if !bare && !strings.EqualFold(question, "!help") {
			return "", false
		}
	}
	return b.help(t.Last()), true
}

// help says how to talk to the bot, as the rules have it for this chat.
func (b *Bot) help(m chat.Message) string {
	example := "what is a quasar?"
	switch {
	case m.Own:
		return fmt.Sprintf("I am an AI assistant. Write to me here as you would to a person, for example: _%s_\nIn other chats begin with *%s*.", example, b.Rules.Prefix)
	case b.Rules.Everything:
		return fmt.Sprintf("I am an AI assistant. Write to me as you would to a person, for example: _%s_", example)
	}
	return fmt.Sprintf("I am an AI assistant. Begin your message with *%s*, for example: _%s %s_\nReplying to one of my messages works too, and so does mentioning me.", b.Rules.Prefix, b.Rules.Prefix, example)
}
