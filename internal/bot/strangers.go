package bot

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"wabot/internal/access"
	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/words"
)

// mostReports is how many strangers the owner is told of in a day; of the others, how many they were.
const mostReports = 10

// strangers are those who asked the bot in a day and may not.
type strangers struct {
	Day string `json:"day"`
	// Told are the addresses of those whom the owner was told of, Reports how often that was.
	Told    access.List `json:"told,omitempty"`
	Reports int         `json:"reports,omitempty"`
	// More counts the others.
	More int `json:"more,omitempty"`
}

const noteStrangers = inbox.ChatNotes + "strangers"

// noticePart marks the part of a reply that is a notice.
const noticePart = "notice"

// Tell puts a text of the bot's own into the chat that the account's owner has with themselves, once for each ID: as a message
// that waits in the inbox like others, and is answered with its own text.
func (b *Bot) Tell(ctx context.Context, id, text string) error {
	own, alt := b.WA.Own()
	return b.Turns.Put(ctx, chat.Message{
		Chat: own, ChatAlt: alt, Sender: own, SenderAlt: alt, ID: "notice-" + id, Time: time.Now(), Text: text, Kind: chat.Announcement, Own: true, FromMe: true,
	})
}

// reckon tells, once a day is over, how many strangers there were of whom the owner was not told.
func (b *Bot) reckon(ctx context.Context) error {
	b.reporting.Lock()
	defer b.reporting.Unlock()
	s, err := b.strangersLocked(ctx)
	if err != nil || s.More == 0 || s.Day == today() {
		return err
	}
	text := b.Words.Say(words.MoreStrangers, "day", s.Day, "count", strconv.Itoa(s.More), "most", strconv.Itoa(mostReports))
	if err := b.Tell(ctx, "strangers-"+s.Day, text); err != nil {
		return err
	}
	return b.setStrangers(ctx, strangers{Day: today()})
}

func today() string { return time.Now().Format(time.DateOnly) }

// report tells the owner of a stranger who asked the bot, at most once a day. Only who used a prefix did so for certain, or
// wrote to a bot that answers everything: others write to the account's owner.
func (b *Bot) report(ctx context.Context, r Rules, m chat.Message) error {
	_, prefixed := r.cut(m.Text)
	if !b.StrangerNotices || r.standing(m.Sender, m.SenderAlt) == blocked || m.Group && (r.standing(m.Chat) == blocked || r.Groups == access.GroupsOff) {
		return nil
	}
	if !prefixed && (m.Group || !r.Everything) {
		return nil
	}
	who := access.List{access.Entry(m.Sender)}
	if m.SenderAlt != "" {
		who = append(who, access.Entry(m.SenderAlt))
	}
	if m.Group {
		who = access.List{m.Chat}
	}
	b.reporting.Lock()
	defer b.reporting.Unlock()
	s, err := b.strangersLocked(ctx)
	if err != nil {
		return err
	}
	if s.Day != today() {
		s = strangers{Day: today()}
	}
	if slices.ContainsFunc(who, func(entry string) bool { return slices.Contains(s.Told, entry) }) {
		return nil
	}
	if s.Reports >= mostReports {
		if !b.firstRefusal("not told of on " + s.Day + ": " + who[0]) {
			return nil
		}
		s.More++
		return b.setStrangers(ctx, s)
	}
	command := commandMark + allowCommand + " " + shown(who[len(who)-1])
	text := b.Words.Say(words.Stranger, "name", plainName(m), "who", shown(who[len(who)-1]), "command", command)
	if m.Group {
		text = b.Words.Say(words.StrangeGroup, "name", plainName(m), "command", command)
	}
	// First told, then noted: after a crash in between the message comes again, and the notice is not put twice.
	if err := b.Tell(ctx, "stranger-"+s.Day+"-"+who[0], text); err != nil {
		return err
	}
	s.Told, s.Reports = append(slices.Clone(s.Told), who...), s.Reports+1
	return b.setStrangers(ctx, s)
}

// shown is an entry of a list as people write it.
func shown(entry string) string {
	if strings.Trim(entry, "0123456789") == "" {
		return "+" + entry
	}
	return entry
}

// plainName is what the author of m goes by, without what WhatsApp would show as markup.
func plainName(m chat.Message) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("*_~`", r) {
			return -1
		}
		return r
	}, author(m))
}

// strangersLocked are those that are noted.
func (b *Bot) strangersLocked(ctx context.Context) (strangers, error) {
	if b.strangers != nil {
		return *b.strangers, nil
	}
	var s strangers
	text, err := b.Notes.Note(ctx, noteStrangers)
	if err == nil && text != nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read which strangers the owner was told of: %w", err)
	}
	b.strangers = &s
	return s, nil
}

func (b *Bot) setStrangers(ctx context.Context, s strangers) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = b.Notes.SetNote(ctx, noteStrangers, text)
	}
	if err != nil {
		return fmt.Errorf("note which strangers the owner was told of: %w", err)
	}
	b.strangers = &s
	return nil
}
