package bot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"wabot/internal/access"
	"wabot/internal/chat"
	"wabot/internal/llm"
	"wabot/internal/model"
	"wabot/internal/words"
)

const (
	bobLID = "200000000000003@lid"
	bobPN  = "4915100000003@s.whatsapp.net"
)

func byBob(m *chat.Message) { m.Sender, m.SenderAlt, m.Name = bobLID, bobPN, "Bob" }

// says lets the bot answer a message in a turn of its own, as after a restart where again is set, and returns the texts
// of the reply.
func (w *world) says(b *Bot, m chat.Message) string {
	w.t.Helper()
	t := turn(m)
	if err := b.Answer(w.t.Context(), t); err != nil {
		w.t.Fatal(err)
	}
	return w.told()
}

// told are the texts of the reply that was saved last, since the last call.
func (w *world) told() string {
	var texts []string
	if w.saved != nil {
		for _, p := range w.saved.Parts {
			texts = append(texts, p.Text)
		}
	}
	w.saved = nil
	return strings.Join(texts, "\n--\n")
}

// restarted is another bot on the same notes.
func restarted(b *Bot) *Bot { return New(b.Options) }

func TestCommandsAreRecognized(t *testing.T) {
	t.Parallel()
	r := Rules{Prefix: "!ai", Prefixes: []string{"!gemini", "!Status"}}
	for text, want := range map[string]string{
		"!help": "help", " !HELP ": "help", "!ai !help": "help", "!gemini !reset": "reset", "!model": "model gemini", "!reset now": "", "!helpme": "",
		"help": "", "!": "", "!unknown": "", "!status": "", "!ai": "", "say !help": "",
	} {
		m := from(text)
		if text == "!model" {
			m.Text = "!model\n gemini "
		}
		c, args, ok := r.command(m)
		if got := strings.TrimSpace(c.name + " " + args); got != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", m.Text, got, want)
		}
	}
	if _, _, ok := r.command(from("@1234 !help", mentioned)); !ok {
		t.Error("a command after a mention of the bot is none")
	}
	if _, _, ok := r.command(from("!help", func(m *chat.Message) { m.Kind = chat.Image })); ok {
		t.Error("a picture is a command")
	}
	if got := r.Shadowed(); !slices.Equal(got, []string{"!status"}) {
		t.Errorf("shadowed %v", got)
	}
}

// Who may use which command, where; what one may not use is ignored, also where every message is answered.
func TestCommandsAreAuthorised(t *testing.T) {
	t.Parallel()
	const me, member, admin, someone = "the owner", "a member", "an admin", "a stranger"
	r := Rules{Allow: access.List{"4915100000002"}, Admins: access.List{bobLID}, Prefix: "!ai", Everything: true, Groups: access.GroupsAny}
	r.said = []grant{{"666@lid", false}}
	people := map[string]func(*chat.Message){
		me: byOwner, member: func(*chat.Message) {}, admin: byBob, someone: func(m *chat.Message) { m.Sender, m.SenderAlt = "666@lid", "" },
	}
	for _, c := range commands() {
		for name, as := range people {
			for _, where := range []string{"a chat of two", "a group"} {
				group := where == "a group"
				want := name == me || name == admin || name == member && (c.who == anyone || c.who == inCharge && !group)
				m := from("!"+c.name, as)
				if group {
					inGroup(&m)
				} else if c.group {
					continue
				}
				if got := r.judge(m) == answer; got != want {
					t.Errorf("!%s by %s in %s is answered: %v (%s)", c.name, name, where, got, r.judge(m))
				}
			}
		}
	}
	if v := r.judge(from("!ai !status")); v != notYours {
		t.Errorf("a command for admins behind a prefix: %q", v)
	}
}

// Each command has its line in help, which names it, in every language, and only for those who may use it.
func TestHelpListsCommands(t *testing.T) {
	t.Parallel()
	for code, w := range words.Languages() {
		for _, c := range commands() {
			if !strings.HasPrefix(w.Say(c.about), "*!"+c.name+"*") {
				t.Errorf("%s: the line of !%s begins %.20q", code, c.name, w.Say(c.about))
			}
		}
	}
	w, b := newWorld(t)
	if text := w.says(b, from("!help")); !strings.Contains(text, "\n*!reset*") || strings.Contains(text, "!status") || !strings.Contains(text, "*!gemini* asks") {
		t.Errorf("to a member in a chat of two: %s", text)
	}
	if text := w.says(b, from("!help", inGroup)); strings.Contains(text, "!reset") {
		t.Errorf("to a member in a group: %s", text)
	}
	if text := w.says(b, from("!help", own)); !strings.Contains(text, "\n*!status*") {
		t.Errorf("to the owner: %s", text)
	}
}

// A command is answered by itself, whatever waits beside it, and the model never reads of it.
func TestCommandsStandAlone(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	if err := b.Answer(t.Context(), turn(from("!ai one", id("A")), from("!pause", id("B")), from("!ai two", id("C")), from("!resume", id("D")), from("!ai three", id("E")))); err != nil {
		t.Fatal(err)
	}
	if got, want := w.told(), "The *answer*\n--\n"+b.Words.Say(words.Paused)+"\n--\n"+b.Words.Say(words.Resumed)+"\n--\nThe *answer*"; got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
	if last := w.prompt.Messages[len(w.prompt.Messages)-1].Text; len(w.asked) != 2 || last != "three" {
		t.Errorf("asked %d times, last for %q", len(w.asked), last)
	}
	w.history = []chat.Exchange{{
		Messages: []chat.Message{from("!ai one", id("A")), from("!help", id("B"))},
		Reply:    &chat.Reply{Parts: []chat.Part{{Text: "first"}, {Text: "a list", Command: "help"}}},
	}, {
		Messages: []chat.Message{from("!status", id("C"))}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "well", Command: "status"}}},
	}, {
		Messages: []chat.Message{from("a stranger asked", func(m *chat.Message) { m.Kind = chat.Announcement })}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "a stranger asked", Command: noticePart}}},
	}}
	w.says(b, from("!ai hi"))
	if got := texts(w.prompt.Messages); got != "Be kind.|one|first|hi" {
		t.Errorf("asked %s", got)
	}
}

func texts(messages []llm.Message) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.Text)
	}
	return strings.Join(all, "|")
}

// An edit may make a command of a message that its author may not use, or a question of one that was carried out.
func TestEditsAreNoCommands(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	asked := from("!ai hi", id("A"), now)
	w.stored = []chat.Exchange{{Messages: []chat.Message{asked}, Reply: &chat.Reply{Parts: []chat.Part{{ID: "R", Text: "hello", Sent: true}}}}}
	if text := w.says(b, from("!pause", id("B"), edit("A"), now)); text != "" {
		t.Errorf("said %q", text)
	}
	if s, err := b.settings(t.Context(), asked); s.Paused || err != nil {
		t.Errorf("paused by an edit: %v, %v", s.Paused, err)
	}
	w, b = newWorld(t)
	if err := b.Answer(t.Context(), turn(from("!ai hi", id("A"), now), from("!status", id("B"), edit("A"), now))); err != nil {
		t.Fatal(err)
	}
	if text := w.told(); text != "" {
		t.Errorf("said %q", text)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	before := chat.Exchange{Messages: []chat.Message{from("one", id("A"), now)}, Reply: &chat.Reply{Parts: []chat.Part{{Text: "first"}}}}
	reset := from("!reset", id("R"), now)
	w.history = []chat.Exchange{before}
	// In the same turn as a question.
	if err := b.Answer(t.Context(), turn(reset, from("!ai two", id("B"), now))); err != nil {
		t.Fatal(err)
	}
	if got := texts(w.prompt.Messages); got != "Be kind.|two" {
		t.Errorf("asked %s", got)
	}
	w.history = append(w.history, chat.Exchange{
		Messages: []chat.Message{from("!ai zero", id("Z"), now), reset, from("!ai two", id("B"), now)},
		Reply:    &chat.Reply{Parts: []chat.Part{{Text: "nought"}, {Text: "Done.", Command: resetCommand}, {Text: "second"}}},
	})
	w.says(restarted(b), from("!ai three", now))
	if got := texts(w.prompt.Messages); got != "Be kind.|two|second|three" {
		t.Errorf("asked %s", got)
	}
	// Elsewhere nothing is changed.
	w.history = []chat.Exchange{before}
	w.says(b, from("!ai four", inGroup, now))
	if got := texts(w.prompt.Messages); !strings.Contains(got, "first") {
		t.Errorf("asked %s", got)
	}
	// What was said in a group meanwhile goes with it.
	w.heard = []chat.Message{from("between us", inGroup)}
	w.did = nil
	w.says(b, from("!reset", inGroup, byOwner, now))
	if !slices.Contains(w.did, "unhear 1") {
		t.Errorf("did %v", w.did)
	}
}

func TestModelOfAChat(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	if text := w.says(b, from("!model")); !strings.Contains(text, "*openai*") || !strings.Contains(text, "openai, gemini") || strings.Contains(text, "dalle") {
		t.Errorf("shown: %s", text)
	}
	for _, bad := range []string{"nonsense", "dalle"} {
		if text := w.says(b, from("!model "+bad)); !strings.Contains(text, "openai, gemini") {
			t.Errorf("%s: said %s", bad, text)
		}
	}
	w.says(b, from("!model GEMINI"))
	b = restarted(b)
	w.says(b, from("!ai hi"))
	w.says(b, from("!ai hi", byNumberOnly)) // the same person
	w.says(b, from("!ai hi", inGroup))
	w.says(b, from("!model default"))
	w.says(b, from("!ai hi"))
	if want := []string{"gemini", "gemini", "openai", "openai"}; !slices.Equal(w.asked, want) {
		t.Errorf("asked %v, want %v", w.asked, want)
	}
}

func TestInstructionsOfAChat(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	system := func(text string) string {
		t.Helper()
		w.says(b, from(text, byOwner))
		return w.prompt.Messages[0].Text
	}
	if text := w.says(b, from("!instructions", byOwner)); text != b.Words.Say(words.InstructionsNone) {
		t.Errorf("said %q", text)
	}
	if text := w.says(b, from("!instructions "+strings.Repeat("x", 4001), byOwner)); !strings.Contains(text, "4000") {
		t.Errorf("said %q", text)
	}
	w.says(b, from("!instructions Rhyme.\nAlways.", byOwner))
	if text := w.says(b, from("!instructions", byOwner)); !strings.HasSuffix(text, "\nRhyme.\nAlways.") {
		t.Errorf("said %q", text)
	}
	b = restarted(b)
	if got := system("!ai hi"); got != "Rhyme.\nAlways." {
		t.Errorf("asked with %q", got)
	}
	if got := system("!gemini hi"); got != "Be brief." {
		t.Errorf("a model that was asked by its own prefix has %q", got)
	}
	w.says(b, from("!instructions clear", byOwner))
	if got := system("!ai hi"); got != "Be kind." {
		t.Errorf("asked with %q", got)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	w.says(b, from("!pause"))
	b = restarted(b)
	if text := w.says(b, from("!ai hi")); text != "" {
		t.Errorf("said %q", text)
	}
	if text := w.says(b, from("!help")); text == "" {
		t.Error("no command works in a paused chat")
	}
	if text := w.says(b, from("!ai hi", inGroup)); text == "" {
		t.Error("another chat is paused")
	}
	w.says(b, from("!resume"))
	if text := w.says(b, from("!ai hi")); text == "" {
		t.Error("not answered again")
	}
}

// What cannot be kept is tried again as a turn.
func TestSettingsAreKeptOrFail(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"!reset", "!model gemini", "!instructions x", "!pause", "!allow +4915100000003"} {
		w, b := newWorld(t)
		b.Notes = &noteBook{err: errors.New("no space left on device")}
		if err := b.Answer(t.Context(), turn(from(text, own))); err == nil {
			t.Errorf("%s: no error, said %q", text, w.told())
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ language, database, want string }{
		{"en", "MongoDB", "*wabot 1.2*, online since 2026-03-01 12:00 UTC.\nIt keeps its state in: MongoDB. Messages that wait: 3.\n• *!ai* openai (the usual one)\n• *!gemini* gemini"},
		{"es", "", "*wabot 1.2*, en línea desde 2026-03-01 12:00 UTC.\nGuarda su estado en: archivos. Mensajes en espera: 3.\n• *!ai* openai (el habitual)\n• *!gemini* gemini"},
	} {
		w, b := newWorld(t)
		b.Words = words.Languages()[tt.language]
		b.Models = model.New(model.Options{Default: "openai", Models: []model.Model{{Name: "openai", Prefix: "!ai"}, {Name: "gemini", Prefix: "!gemini"}}})
		b.Status = func(_ context.Context) Status {
			return Status{Version: "1.2", Online: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Database: tt.database, Waiting: 3}
		}
		if got := w.says(b, from("!status", own)); got != tt.want {
			t.Errorf("said\n%s\nwant\n%s", got, tt.want)
		}
	}
}
