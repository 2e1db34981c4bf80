package app

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/mask"
	"wabot/internal/sqlitestore"
)

// explainName is the name of the command.
const explainName = "explain"

const explainUsage = `wabot explain tells what became of messages that reached the bot, and why; also beside a running wabot.

  wabot explain MESSAGE_ID    of the message with this ID, which the page, explain --last and the log at LOG_LEVEL=debug have
  wabot explain --last N      of the newest N messages, oldest first
  wabot explain               of the newest 10

  --texts                     show what was said, too; it is left out otherwise
`

// usualLast is how many messages are told of where nobody says how many, mostLast how many at most.
const (
	usualLast = 10
	mostLast  = 10_000
)

// trails is what explain reads of a store.
type trails interface {
	Trails(ctx context.Context, id string) ([]chat.Trail, error)
	Latest(ctx context.Context, n int) ([]chat.Trail, error)
	Close() error
}

// explain tells what became of messages.
func explain(ctx context.Context, p Process, args []string) (err error) {
	flags := flag.NewFlagSet(explainName, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	last, given := usualLast, false
	flags.Func("last", "how many of the newest messages to tell of", func(n string) (err error) {
		given = true
		if last, err = strconv.Atoi(n); err != nil || last < 1 || last > mostLast {
			return fmt.Errorf("write a number from 1 to %d", mostLast)
		}
		return nil
	})
	texts := flags.Bool("texts", false, "show what was said")
	var ids []string
	for rest := args; ; rest = flags.Args()[1:] { // flags may stand after the ID, too
		if err := flags.Parse(rest); err != nil {
			return explainError("%v", err)
		}
		if flags.NArg() == 0 {
			break
		}
		ids = append(ids, flags.Arg(0))
	}
	switch {
	case len(ids) > 1:
		return explainError("one message at a time: unexpected argument %q", ids[1])
	case len(ids) > 0 && given:
		return explainError("give a message's ID or --last, not both")
	}
	cfg, err := storeSettings(p)
	if err != nil {
		return err
	}
	store, err := openTrails(ctx, cfg.Store, newLogger(p.Stderr, cfg.Log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var all []chat.Trail
	if len(ids) > 0 {
		all, err = store.Trails(ctx, ids[0])
	} else {
		all, err = store.Latest(ctx, last)
	}
	switch {
	case err != nil:
		return &storeError{err}
	case len(all) == 0 && len(ids) > 0:
		return fmt.Errorf("no message with this ID has reached the bot, or it is older than RETENTION (%d days)", cfg.Store.Retention/(24*time.Hour))
	case len(all) == 0:
		fmt.Fprintln(p.Stdout, "No message has reached the bot yet.")
	}
	for i, t := range all {
		if i > 0 {
			fmt.Fprintln(p.Stdout)
		}
		if err := tell(p.Stdout, t, *texts); err != nil {
			return err
		}
	}
	return nil
}

func explainError(format string, args ...any) error {
	return &configError{fmt.Errorf("explain: "+format+"; wabot explain --help says how", args...)}
}

// openTrails opens the store that the settings choose for a look that disturbs nobody.
func openTrails(ctx context.Context, cfg config.Store, log *slog.Logger) (trails, error) {
	if cfg.Mongo {
		return openBare(ctx, cfg, use{look: true}, log)
	}
	r, err := sqlitestore.OpenReader(ctx, cfg.SessionDir)
	if err != nil {
		return nil, missing(err)
	}
	return r, nil
}

// tell writes what became of a message, for the operator: numbers are masked, and what was said is left out, but with texts.
func tell(w io.Writer, t chat.Trail, texts bool) error {
	m := t.Message
	where := ""
	switch {
	case m.Own:
		where = ", in the account's own chat"
	case m.Chat != m.Sender:
		where = ", in " + mask.JID(plain(m.Chat))
	}
	if _, err := fmt.Fprintf(w, "%s from %s%s\n", plain(m.ID), mask.JID(plain(m.Sender)), where); err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(tw, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	said := func(name, text string) {
		if !texts || text == "" {
			return
		}
		for l := range strings.Lines(text) {
			line(name, "%s", plain(strings.TrimRight(l, "\r\n")))
			name = ""
		}
	}
	received := when(t.Came)
	if m.Kind != "" && m.Kind != chat.Text {
		received += ", " + article(string(m.Kind))
	}
	if late := t.Came.Sub(m.Time); late >= time.Minute {
		received += ", sent at " + when(m.Time)
	}
	line("received", "%s", received)
	for _, mark := range t.Own {
		name, rest := string(mark.Fate), ""
		if mark.Fate == chat.Recovered {
			name = "came again"
		}
		if mark.Why != "" {
			rest = ": " + reason(mark.Why)
		}
		line(name, "%s%s", when(mark.Time), rest)
	}
	said("text", m.Text)
	said("read", m.Read)
	switch {
	case t.Gated != "":
		line("gated", "%s", reason(t.Gated))
	case silent(t):
		line("now", "%s", silence(t))
	case !t.Begun:
		line("queued", "it waits for its turn")
	default:
		tellTurn(t, line, said)
	}
	return tw.Flush()
}

// silent reports whether nothing is known of a message but its own marks.
func silent(t chat.Trail) bool {
	return len(t.Own) > 0 && t.Message.Kind == "" && !t.Begun && t.Gated == ""
}

// silence is how a silent message stands.
func silence(t chat.Trail) string {
	if t.Own[len(t.Own)-1].Fate == chat.Recovered {
		return "it was nothing to answer, such as a reaction"
	}
	return "it has not come again"
}

// tellTurn tells of the turn of a message.
func tellTurn(t chat.Trail, line func(name, format string, args ...any), said func(name, text string)) {
	queued := "by itself"
	if t.Others > 0 {
		queued = fmt.Sprintf("answered together with %d other %s", t.Others, plural("message", t.Others))
	}
	line("queued", "%s", queued)
	for i, try := range t.Tries {
		how := "succeeded"
		switch {
		case try.Why != "":
			how = "did not succeed: " + reason(try.Why)
		case i == len(t.Tries)-1 && t.Reply != nil && t.Reply.Failure != "":
			how = "ended in an apology"
		}
		line("attempt", "%s, %.1f s: %s", when(try.Began), try.Ended.Sub(try.Began).Seconds(), how)
	}
	r := t.Reply
	if r == nil {
		r = &chat.Reply{}
	}
	for _, c := range r.Charges {
		if c.Kind != chat.Notice {
			line("model", "%s, for %s: %s", cmp.Or(plain(c.Model), "unknown"), c.Kind, used(c))
		}
	}
	if why := leftWhy(t); why != "" {
		line("left out", "%s", reason(why))
	}
	if r.Failure != "" {
		line("apologised", "%s", reason(r.Failure))
	}
	for _, p := range r.Parts {
		tellPart(t, p, line)
		said("text", p.Text)
	}
	switch {
	case t.Failure != "":
		line("given up", "%s: %s", when(t.Ended), reason(t.Failure))
	case !t.Ended.IsZero():
		line("finished", "%s", when(t.Ended))
	case t.Leased:
		line("now", "attempt %d is under way, until %s at most", t.Attempt, when(t.Ready))
	case t.Ready.IsZero():
		line("now", "it waits for its turn")
	default:
		line("now", "it is put off until %s", when(t.Ready))
	}
}

// tellPart tells of a message that was sent in answer.
func tellPart(t chat.Trail, p chat.Part, line func(name, format string, args ...any)) {
	what := "reply"
	switch {
	case p.Command != "":
		what = "reply to !" + strings.TrimPrefix(plain(p.Command), "!")
	case p.Revokes != "":
		what = "takes " + plain(p.Revokes) + " back"
	case p.Edits != "":
		what = "edits " + plain(p.Edits)
	case p.Picture != nil:
		what = "picture"
	case p.Voice != nil:
		what = "voice message"
	}
	// The last part is not marked as sent: its turn is finished instead.
	finished := !t.Ended.IsZero() && t.Failure == ""
	got := func(m chat.Mark) bool { return m.Message == p.ID }
	sent := "not known to be sent"
	if p.Sent || finished || slices.ContainsFunc(t.Marks, got) {
		sent = "sent"
	}
	if !p.Opened.IsZero() {
		sent += ", until the answer is there"
	}
	line("reply", "%s, %s, %s", plain(p.ID), what, sent)
	for _, m := range t.Marks {
		if m.Message != p.ID {
			continue
		}
		by := ""
		if t.Message.Group {
			by = " by " + mask.JID(plain(m.Who))
		}
		line(string(m.Fate), "%s%s", when(m.Time), by)
	}
}

// leftWhy is why the reply to a message's turn leaves it out; empty where it does not.
func leftWhy(t chat.Trail) string {
	if t.Reply != nil {
		for _, l := range t.Reply.Left {
			if l.ID == t.Message.ID && l.Sender == t.Message.Sender {
				return l.Why
			}
		}
	}
	return ""
}

// used is what a charge is for, and what it costs where that is known.
func used(c chat.Charge) string {
	var all []string
	if c.Prompt > 0 || c.Completion > 0 {
		about := ""
		if c.Estimated {
			about = "about "
		}
		all = append(all, fmt.Sprintf("%s%d tokens in and %d out", about, c.Prompt, c.Completion))
	}
	if c.Images > 0 {
		all = append(all, strconv.Itoa(c.Images)+" "+plural("picture", c.Images))
	}
	if c.Seconds > 0 {
		all = append(all, fmt.Sprintf("%.0f s", c.Seconds))
	}
	if c.Characters > 0 {
		all = append(all, fmt.Sprintf("%d %s", c.Characters, plural("character", c.Characters)))
	}
	if c.Cost > 0 {
		all = append(all, "cost "+budget.Money(c.Cost))
	}
	return cmp.Or(strings.Join(all, ", "), "nothing")
}

func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// reason is a text that was written for the operator, in one line and masked.
func reason(s string) string { return mask.Text(plain(s)) }

// They join letters and emoji, or keep them apart.
const zwnj, zwj = '\u200c', '\u200d'

// plain is a text, which strangers may have chosen, without what a terminal obeys.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) && r != zwj && r != zwnj {
			return '\uFFFD'
		}
		return r
	}, s)
}
