package bot

import (
	"slices"
	"strings"

	"wabot/internal/chat"
	"wabot/internal/mask"
	"wabot/internal/model"
)

// Rules say who is answered, and when.
type Rules struct {
	// Allow are those who get answers besides the account's own chat: phone numbers in
	// digits, LIDs (…@lid), groups (…@g.us), or "*" for everyone.
	Allow []string
	// Prefix begins the messages meant for the bot, in any case of letters, and so does each of Prefixes.
	Prefix   string
	Prefixes []string
	// Everything makes every message of those allowed one meant for the bot. The account's
	// own messages in other chats still need the prefix.
	Everything bool
}

// verdict says whether a message is to be answered. The reasons are a fixed set.
type verdict string

const (
	answer       verdict = ""
	aChange      verdict = "an edit or a revoke of a message that was not for the bot"
	noPrefix     verdict = "the account's own message without the prefix"
	notAddressed verdict = "neither prefix, mention nor reply to the bot"
	stranger     verdict = "the person is not in ALLOW"
	strangeGroup verdict = "neither the group nor the person is in ALLOW"
)

// judge applies the rules to a message.
func (r Rules) judge(m chat.Message) verdict {
	_, prefixed := r.cut(m.Text)
	switch {
	case m.Change != nil:
		return aChange
	case m.Own:
		return answer
	case m.FromMe:
		if !prefixed {
			return noPrefix
		}
		return answer
	case !r.allowed(m) && m.Group:
		return strangeGroup
	case !r.allowed(m):
		return stranger
	case r.Everything, prefixed, m.Mentioned, m.Quoted != nil && m.Quoted.FromBot:
		return answer
	}
	return notAddressed
}

// allowed reports whether the sender or the group of m is allowed, under either address.
func (r Rules) allowed(m chat.Message) bool {
	return slices.ContainsFunc(r.Allow, func(entry string) bool {
		switch entry {
		case "*", m.Sender, m.SenderAlt:
			return true
		case m.Chat:
			return m.Group
		}
		number := entry + "@s.whatsapp.net"
		return number == m.Sender || number == m.SenderAlt
	})
}

// Refusal is why m would not be answered; empty where it would be.
func (b *Bot) Refusal(m chat.Message) string { return string(b.Rules.judge(m)) }

// Admit reports whether m is to be stored and answered. What it does not admit is logged with
// the reason: at debug, but once for each person or group that is not allowed at info.
func (b *Bot) Admit(m chat.Message) bool {
	v := b.Rules.judge(m)
	if v == answer {
		return true
	}
	b.Log.Debug("message ignored", "id", m.ID, "chat", mask.JID(m.Chat), "why", string(v))
	who := m.Sender
	switch v {
	case stranger:
	case strangeGroup:
		if r := (Rules{Allow: []string{"*"}, Prefix: b.Rules.Prefix, Prefixes: b.Rules.Prefixes}); r.judge(m) != answer {
			return false
		}
		who = m.Chat
	default:
		return false
	}
	if !b.firstRefusal(who) {
		return false
	}
	if v == strangeGroup {
		b.Log.Info("asked in a group that is not in ALLOW; to let it in, add the group's address to ALLOW", "group", groupAddress(m.Chat))
		return false
	}
	number := m.SenderAlt
	if number == "" {
		number = m.Sender
	}
	b.Log.Info("a message from someone who is not in ALLOW is ignored; to let them in, add their number to ALLOW", "number", mask.JID(number))
	return false
}

// groupAddress returns a group's address for the log. Those of old groups hold the founder's
// phone number, the others can be shown: the operator needs them.
func groupAddress(jid string) string {
	if strings.Contains(jid, "-") {
		return mask.JID(jid)
	}
	return jid
}

// refusals bounds the memory of who was refused.
const refusals = 10_000

func (b *Bot) firstRefusal(who string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused[who] {
		return false
	}
	if len(b.refused) >= refusals {
		clear(b.refused)
	}
	b.refused[who] = true
	return true
}

// cut returns text without the prefix that it begins with, in any case of letters and as a word.
func (r Rules) cut(text string) (rest string, ok bool) {
	_, rest, ok = model.Cut(text, append([]string{r.Prefix}, r.Prefixes...)...)
	return rest, ok
}
