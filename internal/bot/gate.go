package bot

import (
	"context"
	"slices"
	"strings"

	"wabot/internal/access"
	"wabot/internal/chat"
	"wabot/internal/mask"
	"wabot/internal/model"
)

// Rules say who is answered, and when.
type Rules struct {
	// Allow are those who get answers besides the account's own chat, Block those who never do.
	Allow, Block access.List
	// Admins may use every command, and get answers. The account's owner is always one.
	Admins access.List
	// Groups says who is answered in groups; GroupsAllowed if empty.
	Groups access.GroupPolicy
	// Prefix begins the messages meant for the bot, in any case of letters, and so does each of Prefixes.
	Prefix   string
	Prefixes []string
	// Everything makes every message of those allowed one meant for the bot. The account's
	// own messages in other chats still need the prefix.
	Everything bool

	// said is what admins have said in chats, oldest first.
	said []grant
}

// verdict says whether a message is to be answered. The reasons are a fixed set.
type verdict string

const (
	answer       verdict = ""
	aChange      verdict = "an edit or a revoke of a message that was not for the bot"
	noPrefix     verdict = "the account's own message without the prefix"
	notAddressed verdict = "neither prefix, mention nor reply to the bot"
	notYours     verdict = "a command that its author may not use"
	stranger     verdict = "the person is not in ALLOW"
	strangeGroup verdict = "neither the group nor the person is in ALLOW"
)

// judge applies the rules to a message.
func (r Rules) judge(m chat.Message) verdict {
	_, prefixed := r.cut(m.Text)
	c, _, commanded := r.command(m)
	switch {
	case m.Change != nil:
		return aChange
	case commanded && r.may(c, m):
		return answer
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
	case commanded:
		return notYours
	case r.Everything, prefixed, m.Mentioned, m.Quoted != nil && m.Quoted.FromBot:
		return answer
	}
	return notAddressed
}

// standing is what the rules say of a person or a group by itself.
type standing int

const (
	unknown standing = iota
	welcome
	blocked
)

// standing looks someone up by their addresses, of which some may be empty. What an admin said last goes before ALLOW, but
// nothing goes before BLOCK.
func (r Rules) standing(jids ...string) standing {
	if r.Block.Has(jids...) {
		return blocked
	}
	for _, g := range slices.Backward(r.said) {
		if access.Is(g.Who, jids...) {
			if g.Allow {
				return welcome
			}
			return blocked
		}
	}
	if r.Allow.Has(jids...) {
		return welcome
	}
	return unknown
}

// admin reports whether m is an admin's, who may be one in this chat.
func (r Rules) admin(m chat.Message) bool {
	return m.FromMe || r.isAdmin(m.Sender, m.SenderAlt) && !(m.Group && r.Groups == access.GroupsOff)
}

func (r Rules) isAdmin(jids ...string) bool { return r.Admins.Has(jids...) && !r.Block.Has(jids...) }

// allowed reports whether the sender or the group of m is allowed, under either address.
func (r Rules) allowed(m chat.Message) bool {
	if r.admin(m) {
		return true
	}
	person := r.standing(m.Sender, m.SenderAlt)
	if !m.Group {
		return person == welcome
	}
	group := r.standing(m.Chat)
	switch {
	case r.Groups == access.GroupsOff, person == blocked, group == blocked:
		return false
	case r.Groups == access.GroupsAny:
		return true
	}
	return person == welcome || group == welcome
}

// Refusal is why m would not be answered; empty where it would be.
func (b *Bot) Refusal(ctx context.Context, m chat.Message) (string, error) {
	r, err := b.rules(ctx)
	return string(r.judge(m)), err
}

// Admit reports whether m is to be stored and answered. What it does not admit is logged with
// the reason: at debug, but once for each person or group that is not allowed at info. The owner is told too of those who
// asked the bot. An error means: the message is to come again.
func (b *Bot) Admit(ctx context.Context, m chat.Message) (bool, error) {
	r, err := b.rules(ctx)
	if err != nil {
		return false, err
	}
	if err := b.reckon(ctx); err != nil {
		return false, err
	}
	v := r.judge(m)
	if v == answer {
		return true, nil
	}
	b.Log.Debug("message ignored", "id", m.ID, "chat", mask.JID(m.Chat), "why", string(v))
	b.gated(m, string(v))
	if v != stranger && v != strangeGroup {
		return false, nil
	}
	b.refuse(r, m, v)
	return false, b.report(ctx, r, m)
}

// refuse logs, once, that someone is not answered.
func (b *Bot) refuse(r Rules, m chat.Message, v verdict) {
	who := m.Sender
	if v == strangeGroup {
		open := r
		open.Allow, open.Groups = access.List{access.Everyone}, access.GroupsAny
		if open.judge(m) != answer {
			return
		}
		who = m.Chat
	}
	if !b.firstRefusal(who) {
		return
	}
	if v == strangeGroup {
		b.Log.Info("asked in a group that is not in ALLOW; to let it in, add the group's address to ALLOW", "group", groupAddress(m.Chat))
		return
	}
	number := m.SenderAlt
	if number == "" {
		number = m.Sender
	}
	b.Log.Info("a message from someone who is not in ALLOW is ignored; to let them in, add their number to ALLOW", "number", mask.JID(number))
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
