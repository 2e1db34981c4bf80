package bot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"wabot/internal/access"
	"wabot/internal/chat"
	"wabot/internal/words"
)

// The commands for admins.

// Status is what !status tells.
type Status struct {
	Version string
	// Online is since when the bot is.
	Online time.Time
	// Database names the one that keeps its state, empty where files do.
	Database string
	// Waiting are the messages that are not answered yet, -1 where the store does not say.
	Waiting int
}

func (b *Bot) doStatus(ctx context.Context, _ chat.Message, _ string) (text, failure string, err error) {
	s := b.Status(ctx)
	lines := []string{
		b.Words.Say(words.StatusOnline, "version", s.Version, "since", s.Online.Format("2006-01-02 15:04 MST")),
		b.Words.Say(words.StatusStore, "store", cmp.Or(s.Database, b.Words.Say(words.StatusFiles)), "count", strconv.Itoa(s.Waiting)),
	}
	usual, _ := b.Models.Named("")
	for _, m := range b.Models.Models() {
		line := fmt.Sprintf("• *%s* %s", m.Prefix, m.Name)
		if m.Name == usual.Name {
			line += " (" + b.Words.Say(words.StatusUsual) + ")"
		}
		if until := b.Models.BrokenUntil(m.Name); !until.IsZero() {
			line += " – " + b.Words.Say(words.StatusBroken, "time", until.Format("15:04 MST"))
		}
		lines = append(lines, line)
	}
	b.reporting.Lock()
	defer b.reporting.Unlock()
	strange, err := b.strangersLocked(ctx)
	if err != nil {
		return "", "", err
	}
	if n := strange.Reports + strange.More; strange.Day == today() && n > 0 {
		lines = append(lines, b.Words.Say(words.StatusStrangers, "count", strconv.Itoa(n)))
	}
	return strings.Join(lines, "\n"), "", nil
}

// target finds whom an admin means: who is mentioned, named, quoted, or else the chat itself, a group or the person
// with whom the account's owner talks there. It is empty where nobody is meant. An error is one of the store.
func (b *Bot) target(ctx context.Context, m chat.Message, args string) (entry string, err error) {
	own, alt := b.WA.Own()
	for _, jid := range m.Mentions {
		if jid != own && jid != alt {
			return access.Entry(jid), nil
		}
	}
	q := m.Quoted
	switch {
	case args != "":
		entry, _ = access.Parse(args) // whoever writes no address is told how to
		return entry, nil
	case q != nil && q.FromBot && m.Own:
		if notice, err := b.isNotice(ctx, m.Chat, q.ID); err != nil || !notice {
			return "", err // an answer of a model may name anybody
		}
		// A notice ends with the command; what stands before it may come from the stranger.
		_, named, _ := cutLast(q.Text, commandMark+allowCommand+" ")
		entry, _ = access.Parse(named)
		return entry, nil
	case q != nil && q.Sender != "" && q.Sender != own && q.Sender != alt:
		return access.Entry(q.Sender), nil
	case m.Group, m.FromMe && !m.Own:
		return access.Entry(cmp.Or(m.ChatAlt, m.Chat)), nil
	}
	return "", nil
}

// noticesBack is how far back, in turns, a notice is looked for that its reader replies to.
const noticesBack = 1000

// isNotice reports whether a message of the bot is a notice to the account's owner.
func (b *Bot) isNotice(ctx context.Context, chatJID, id string) (bool, error) {
	history, err := b.Turns.History(ctx, chatJID, noticesBack)
	for _, x := range history {
		if x.Reply != nil && slices.ContainsFunc(x.Reply.Parts, func(p chat.Part) bool { return p.ID == id && p.Command == noticePart }) {
			return true, nil
		}
	}
	return false, err
}

// cutLast cuts s around the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (b *Bot) doAllow(ctx context.Context, m chat.Message, args string) (text, failure string, err error) {
	return b.decide(ctx, m, args, true)
}

func (b *Bot) doBlock(ctx context.Context, m chat.Message, args string) (text, failure string, err error) {
	return b.decide(ctx, m, args, false)
}

// decide lets whoever an admin means in, or shuts them out.
func (b *Bot) decide(ctx context.Context, m chat.Message, args string, allow bool) (text, failure string, err error) {
	r, err := b.rules(ctx)
	if err != nil {
		return "", "", err
	}
	entry, err := b.target(ctx, m, args)
	if err != nil {
		return "", "", err
	}
	own, alt := b.WA.Own()
	switch {
	case entry == "" || entry == access.Everyone:
		return b.whom(r, m, allow), "", nil
	case allow && r.Block.Has(jid(entry)):
		return b.Words.Say(words.StaysBlocked, "who", shown(entry)), "", nil
	case !allow && (r.isAdmin(jid(entry)) || access.Is(entry, own, alt)):
		return b.Words.Say(words.IsAdmin, "who", shown(entry)), "", nil
	}
	if err := b.grant(ctx, grant{Who: entry, Allow: allow}); err != nil {
		return "", "", err
	}
	if allow {
		return b.Words.Say(words.LetIn, "who", shown(entry)), "", nil
	}
	return b.Words.Say(words.ShutOut, "who", shown(entry)), "", nil
}

// jid is an entry for one person or group as an address.
func jid(entry string) string {
	if strings.Contains(entry, "@") {
		return entry
	}
	return entry + "@s.whatsapp.net"
}

// whom says how to name somebody, and in a chat that is the admin's own who has been named so far.
func (b *Bot) whom(r Rules, m chat.Message, allow bool) string {
	name := "block"
	if allow {
		name = allowCommand
	}
	text := b.Words.Say(words.Whom, "command", commandMark+name)
	if m.Group {
		return text
	}
	if all := r.granted(true); len(all) > 0 {
		text += "\n" + b.Words.Say(words.AreLetIn, "people", list(all))
	}
	if all := r.granted(false); len(all) > 0 {
		text += "\n" + b.Words.Say(words.AreShutOut, "people", list(all))
	}
	return text
}

func list(all access.List) string {
	var s []string
	for _, entry := range all {
		s = append(s, shown(entry))
	}
	return strings.Join(s, ", ")
}
