package bot

import (
	"cmp"
	"strings"
	"unicode"

	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/model"
	"wabot/internal/words"
)

// prompt makes the prompt of a turn in a chat with these settings: the instructions, the history, the messages. The history leaves
// room for so many more tokens. whole is set where it has all of it.
func (b *Bot) prompt(t *chat.Turn, s settings, history []chat.Exchange, more int) (p llm.Prompt, whole bool) {
	m := b.pick(s, t.Messages[0].Text)
	p = llm.Prompt{Model: m.Name}
	instructions := cmp.Or(m.Instructions, b.Instructions)
	if t.Last().Group {
		instructions = strings.TrimSpace(instructions + "\n\nThis is a group chat: each message begins with the name its author goes by.")
	}
	if instructions != "" {
		p.Messages = append(p.Messages, llm.Message{Role: llm.System, Text: instructions})
	}
	more += perMessage + llm.Tokens(instructions) + costOfAll(t.Messages)
	past := recent(history, b.room(m, more))
	p = b.talked(p, past)
	for _, m := range t.Messages {
		p.Messages = append(p.Messages, b.ask(m))
	}
	return p, len(past) == len(history)
}

// told reports whether the model is told of a turn. One that ended in an apology teaches it nothing but to apologise.
func told(x chat.Exchange) bool {
	return x.Reply != nil && x.Reply.Failure == "" && !x.Reply.Open() && len(x.Reply.Parts) > 0
}

// talked adds to p what was said in turns.
func (b *Bot) talked(p llm.Prompt, past []chat.Exchange) llm.Prompt {
	for _, e := range past {
		if !told(e) {
			continue
		}
		for _, m := range e.Messages {
			p.Messages = append(p.Messages, b.ask(m))
		}
		var said []string
		for _, part := range e.Reply.Parts {
			text := b.Models.WithoutIcon(part.Text)
			if part.Picture != nil {
				text = "[You sent a picture of:] " + text
			}
			said = append(said, text)
		}
		p.Messages = append(p.Messages, llm.Message{Role: llm.Assistant, Text: strings.Join(said, "\n\n")})
	}
	return p
}

// ask is a message as the model reads it.
func (b *Bot) ask(m chat.Message) llm.Message {
	return llm.Message{Role: llm.User, Text: b.told(m, carried{}, false)}
}

// question is a message's text without the prefix.
func (b *Bot) question(m chat.Message) string {
	if rest, ok := b.Rules.cut(m.Text); ok {
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
		// Marks of direction would turn what follows the name around.
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == ':' || r == '[' || r == ']' {
			return -1
		}
		return r
	}, m.Name)
	if name = strings.TrimFunc(name, model.Blank); name == "" {
		return "someone"
	}
	if r := []rune(name); len(r) > longestName {
		name = string(r[:longestName])
	}
	return name
}

// bare reports whether all messages are the prefix alone.
func (b *Bot) bare(t *chat.Turn) bool {
	for _, m := range t.Messages {
		question := strings.TrimFunc(b.question(m), model.Blank)
		if question != "" || m.Kind != chat.Text || m.Quoted != nil && (m.Quoted.Text != "" || m.Quoted.Media != nil) {
			return false
		}
	}
	return true
}

// help says how to talk to the bot, as the rules have it for this chat, or to the model whose prefix m is.
func (b *Bot) help(m chat.Message) string {
	if to, _, ok := b.Models.Pick(m.Text); ok && to.Prefix != b.Rules.Prefix {
		if to.Draws() {
			return b.Words.Say(words.HowToDraw, "model", to.Name, "prefix", to.Prefix, "example", b.Words.Say(words.ToDraw))
		}
		return b.Words.Say(words.HowToAsk, "model", to.Name, "prefix", to.Prefix, "example", b.Words.Say(words.ToAsk))
	}
	return b.howTo(m) + b.others()
}

// others names the models that have a prefix beside the usual one.
func (b *Bot) others() string {
	var s strings.Builder
	for _, m := range b.Models.Models() {
		switch {
		case m.Prefix == b.Rules.Prefix:
		case m.Draws():
			s.WriteString("\n" + b.Words.Say(words.AlsoDraws, "prefix", m.Prefix, "model", m.Name))
		default:
			s.WriteString("\n" + b.Words.Say(words.AlsoAsks, "prefix", m.Prefix, "model", m.Name))
		}
	}
	return s.String()
}

func (b *Bot) howTo(m chat.Message) string {
	example := b.Words.Say(words.ToAsk)
	switch {
	case m.Own:
		return b.Words.Say(words.HowToOwn, "example", example, "prefix", b.Rules.Prefix)
	case b.Rules.Everything:
		return b.Words.Say(words.HowToAlways, "example", example)
	}
	return b.Words.Say(words.HowToPrefix, "example", example, "prefix", b.Rules.Prefix)
}
