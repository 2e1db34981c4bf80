package bot

import (
	"context"
	"strings"
	"unicode"

	"wabot/internal/chat"
	"wabot/internal/mask"
	"wabot/internal/model"
	"wabot/internal/words"
)

// A command is a message that begins with a mark and a name that the table below has. It waits in the inbox like any other message
// and is carried out in its turn: once, or where a crash comes before its answer is saved, once more. So each
// command does again what it did, or nothing.

// commandMark begins a command.
const commandMark = "!"

// who says who may use a command.
type who int

const (
	anyone   who = iota // who gets answers in the chat
	inCharge            // in a chat of two the same, in a group an admin
	admins
)

// command is one of the chat commands.
type command struct {
	name string
	who  who
	// args says that words may follow the name: else it is no command with them. group says that it is one in groups only.
	args, group bool
	// spoken commands are a part of the conversation, their answers too: the model is told of them later.
	spoken bool
	about  words.Key
	// do carries the command out and says what to answer; a failure is for the operator. m is the turn's one message.
	do func(b *Bot, ctx context.Context, m chat.Message, args string) (text, failure string, err error)
	// ask does it for a command that a model is asked for.
	ask func(b *Bot, ctx context.Context, t *chat.Turn, d *draft) (said []chat.Part, failure string, err error)
}

// The names that others know.
const (
	resetCommand  = "reset"
	allowCommand  = "allow"
	pauseCommand  = "pause"
	resumeCommand = "resume"
	forgetCommand = "forget"
	voiceCommand  = "voice"
)

// commands are all commands, in the order that help lists them.
func commands() []command {
	return []command{
		{name: "help", about: words.AboutHelp, do: (*Bot).doHelp},
		{name: resetCommand, who: inCharge, about: words.AboutReset, do: (*Bot).doReset},
		{name: "model", who: inCharge, args: true, about: words.AboutModel, do: (*Bot).doModel},
		{name: "instructions", who: admins, args: true, about: words.AboutInstructions, do: (*Bot).doInstructions},
		{name: pauseCommand, who: inCharge, about: words.AboutPause, do: (*Bot).doPause},
		{name: resumeCommand, who: inCharge, about: words.AboutResume, do: (*Bot).doResume},
		{name: voiceCommand, who: inCharge, args: true, about: words.AboutVoice, do: (*Bot).doVoice},
		{name: "retry", spoken: true, about: words.AboutRetry, ask: (*Bot).doRetry},
		{name: "summary", group: true, spoken: true, about: words.AboutSummary, ask: (*Bot).doSummary},
		{name: forgetCommand, about: words.AboutForget, do: (*Bot).doForget},
		{name: allowCommand, who: admins, args: true, about: words.AboutAllow, do: (*Bot).doAllow},
		{name: "block", who: admins, args: true, about: words.AboutBlock, do: (*Bot).doBlock},
		{name: "usage", about: words.AboutUsage, do: (*Bot).doUsage},
		{name: "status", who: admins, about: words.AboutStatus, do: (*Bot).doStatus},
	}
}

// shadowed reports whether a model's prefix is the same as the command: then the model is meant.
func (r Rules) shadowed(c command) bool {
	for _, prefix := range append([]string{r.Prefix}, r.Prefixes...) {
		if strings.EqualFold(prefix, commandMark+c.name) {
			return true
		}
	}
	return false
}

// Shadowed are the commands that cannot be used, because models have them as prefixes.
func (r Rules) Shadowed() (all []string) {
	for _, c := range commands() {
		if r.shadowed(c) {
			all = append(all, commandMark+c.name)
		}
	}
	return all
}

// command tells which command m is, and what follows its name. A prefix or a mention of the bot may stand before it. Words that
// are not the author's own command nothing: whoever forwards them may not even have read them.
func (r Rules) command(m chat.Message) (c command, args string, ok bool) {
	if m.Kind != chat.Text || m.Borrowed {
		return c, "", false
	}
	text := strings.TrimFunc(m.Text, model.Blank)
	if rest, cut := r.cut(text); cut {
		text = strings.TrimFunc(rest, model.Blank)
	} else if m.Mentioned && strings.HasPrefix(text, "@") {
		_, text = word(text)
	}
	name, args := word(text)
	for _, c := range commands() {
		if strings.EqualFold(name, commandMark+c.name) && !r.shadowed(c) && (c.args || args == "") && (m.Group || !c.group) {
			return c, args, true
		}
	}
	return c, "", false
}

// word cuts the first word off a text.
func word(text string) (first, rest string) {
	text = strings.TrimSpace(text)
	i := strings.IndexFunc(text, unicode.IsSpace)
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimSpace(text[i:])
}

// may reports whether the author of m may use a command in its chat.
func (r Rules) may(c command, m chat.Message) bool {
	switch {
	case r.admin(m):
		return true
	case c.who == anyone, c.who == inCharge && !m.Group:
		return r.allowed(m)
	}
	return false
}

// obey carries out the command that t's one message is, and says what to answer. Its author may have lost the right to it since
// it came in; then nothing is done.
func (b *Bot) obey(ctx context.Context, t *chat.Turn, c command, args string, d *draft) (said []chat.Part, failure string, err error) {
	if c.ask != nil {
		return c.ask(b, ctx, t, d)
	}
	text, failure, err := c.do(b, ctx, t.Messages[0], args)
	if err != nil || text == "" {
		return nil, "", err
	}
	b.Log.Info("a command was carried out", "command", c.name, "chat", mask.JID(t.Chat), "by", mask.JID(t.Messages[0].Sender))
	for _, part := range b.parts(text) {
		said = append(said, chat.Part{Text: part, Command: c.name})
	}
	return said, failure, nil
}

// doHelp says how to talk to the bot, and which commands the author of m may use.
func (b *Bot) doHelp(ctx context.Context, m chat.Message, _ string) (text, failure string, err error) {
	r, err := b.rules(ctx)
	if err != nil {
		return "", "", err
	}
	lines := []string{b.help(m), ""}
	for _, c := range commands() {
		if r.may(c, m) && !r.shadowed(c) && (m.Group || !c.group) && (b.Mouth != nil || c.name != voiceCommand) {
			lines = append(lines, b.Words.Say(c.about))
		}
	}
	return strings.Join(lines, "\n"), "", nil
}
