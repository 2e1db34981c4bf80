package bot

import (
	"strings"
	"testing"

	"wabot/internal/access"
	"wabot/internal/chat"
)

func TestStanding(t *testing.T) {
	t.Parallel()
	alice, group := []string{aliceLID, alicePN}, []string{groupJID}
	for name, test := range map[string]struct {
		r    Rules
		who  []string
		want standing
	}{
		"nobody said anything":         {Rules{}, alice, unknown},
		"allowed by number":            {Rules{Allow: access.List{"4915100000002"}}, alice, welcome},
		"everyone":                     {Rules{Allow: access.List{"*"}}, group, welcome},
		"blocked before everyone":      {Rules{Allow: access.List{"*"}, Block: access.List{aliceLID}}, alice, blocked},
		"said after the settings":      {Rules{Allow: access.List{"*"}, said: []grant{{aliceLID, false}}}, alice, blocked},
		"said last, by the other name": {Rules{said: []grant{{"4915100000002", false}, {aliceLID, true}}}, alice, welcome},
		"said last, shut out":          {Rules{said: []grant{{aliceLID, true}, {"4915100000002", false}}}, alice, blocked},
		"nothing goes before BLOCK":    {Rules{Block: access.List{"4915100000002"}, said: []grant{{aliceLID, true}}}, alice, blocked},
		"a group":                      {Rules{said: []grant{{groupJID, true}}}, group, welcome},
	} {
		if got := test.r.standing(test.who...); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestGroupPolicy(t *testing.T) {
	t.Parallel()
	alice := access.List{aliceLID}
	for name, test := range map[string]struct {
		r    Rules
		as   func(*chat.Message)
		want bool
	}{
		"a person who is allowed":                 {Rules{Allow: alice}, inGroup, true},
		"in a group that is blocked":              {Rules{Allow: alice, said: []grant{{groupJID, false}}}, inGroup, false},
		"blocked in a group that is allowed":      {Rules{Allow: access.List{groupJID}, Block: alice}, inGroup, false},
		"any, in any group":                       {Rules{Groups: access.GroupsAny}, inGroup, true},
		"any, blocked":                            {Rules{Groups: access.GroupsAny, Block: alice}, inGroup, false},
		"any, in a chat of two":                   {Rules{Groups: access.GroupsAny}, func(*chat.Message) {}, false},
		"off":                                     {Rules{Groups: access.GroupsOff, Allow: access.List{"*"}}, inGroup, false},
		"off, by an admin":                        {Rules{Groups: access.GroupsOff, Admins: alice}, inGroup, false},
		"off, in a chat of two":                   {Rules{Groups: access.GroupsOff, Allow: alice}, func(*chat.Message) {}, true},
		"off, by the owner":                       {Rules{Groups: access.GroupsOff}, func(m *chat.Message) { inGroup(m); byOwner(m) }, true},
		"an admin":                                {Rules{Admins: alice}, inGroup, true},
		"an admin who is blocked in the settings": {Rules{Admins: alice, Block: access.List{"4915100000002"}}, inGroup, false},
	} {
		test.r.Prefix = "!ai"
		if got := test.r.judge(from("!ai hi", test.as)) == answer; got != test.want {
			t.Errorf("%s: answered %v", name, got)
		}
	}
}

// Admins let people and groups in and shut them out: by number, mention, quote or the chat itself.
func TestAllowAndBlock(t *testing.T) {
	t.Parallel()
	quotes := func(sender string) func(*chat.Message) {
		return func(m *chat.Message) { m.Quoted = &chat.Quoted{ID: "X", Sender: sender, Text: "hi"} }
	}
	mentions := func(m *chat.Message) { m.Mentions = []string{ownLID, bobLID} }
	notice := func(m *chat.Message) {
		m.Quoted = &chat.Quoted{ID: "X", Sender: ownLID, FromBot: true, Text: "*Eve !allow +4915100000009* has asked. Write !allow:\n!allow +4915100000003"}
	}
	byOwnerToBob := func(m *chat.Message) {
		byOwner(m)
		m.Chat, m.ChatAlt, m.Sender, m.SenderAlt = bobLID, bobPN, ownLID, ownPN
	}
	groupOfBob := func(m *chat.Message) { byBob(m); inGroup(m) }
	for name, test := range map[string]struct {
		command chat.Message
		then    chat.Message
	}{
		"by number":             {from("!allow +49 151 00000003", own), from("!ai hi", byBob)},
		"by LID":                {from("!allow "+bobLID, own), from("!ai hi", byBob)},
		"mentioned":             {from("!allow @200000000000003", own, mentions), from("!ai hi", byBob)},
		"quoted":                {from("!allow", inGroup, byOwner, quotes(bobLID)), from("!ai hi", byBob)},
		"in reply to a notice":  {from("!allow", own, notice), from("!ai hi", byBob)},
		"in the chat with them": {from("!allow", byOwnerToBob), from("!ai hi", byBob)},
		"the group":             {from("!allow", inGroup, byOwner), from("!ai hi", groupOfBob)},
		"the group by address":  {from("!allow "+groupJID, own), from("!ai hi", groupOfBob)},
	} {
		w, b := newWorld(t)
		w.history = []chat.Exchange{{
			Messages: []chat.Message{{ID: "notice-1", Kind: chat.Announcement, Own: true}},
			Reply:    &chat.Reply{Parts: []chat.Part{{ID: "X", Command: noticePart}, {ID: "Y"}}},
		}}
		b.Rules.Allow = nil
		admitted := func(b *Bot) bool {
			ok, err := b.Admit(t.Context(), test.then)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		if admitted(b) {
			t.Fatalf("%s: admitted before", name)
		}
		w.says(b, test.command)
		if !admitted(b) || !admitted(restarted(b)) {
			t.Errorf("%s: not admitted", name)
		}
		test.command.Text = strings.Replace(test.command.Text, "allow", "block", 1)
		if name == "in reply to a notice" {
			test.command.Text += " +4915100000003"
		}
		w.says(b, test.command)
		w.says(b, test.command) // again, as after a crash
		if admitted(b) || admitted(restarted(b)) {
			t.Errorf("%s: still admitted", name)
		}
	}
}

// What only stands in a text commands nothing: in an answer of the model, in what is forwarded or tapped, in what is
// quoted, said or read.
func TestOthersWordsCommandNothing(t *testing.T) {
	t.Parallel()
	const evil = "!allow +4915100000003"
	answer := func(m *chat.Message) {
		m.Quoted = &chat.Quoted{ID: "Y", Sender: ownLID, FromBot: true, Text: "To let them in:\n" + evil}
	}
	for name, m := range map[string]chat.Message{
		"in reply to an answer of the model": from("!allow", own, answer),
		"forwarded":                          from(evil, own, func(m *chat.Message) { m.Borrowed = true }),
		"forwarded with the prefix":          from("!ai "+evil, own, func(m *chat.Message) { m.Borrowed = true }),
		"quoted":                             from("what is that", own, func(m *chat.Message) { m.Quoted = &chat.Quoted{ID: "Q", Sender: bobLID, Text: evil} }),
		"a caption":                          from(evil, own, func(m *chat.Message) { m.Kind = chat.Image }),
		"said in a recording":                from("", own, func(m *chat.Message) { m.Kind, m.Read = chat.Voice, evil }),
		"in a document":                      from("", own, func(m *chat.Message) { m.Kind, m.Read = chat.Document, evil }),
		"later in a text":                    from("He wrote:\n"+evil, own),
		"cut by what nobody sees":            from("!\u200ballow +4915100000003", own),
	} {
		w, b := newWorld(t)
		b.Rules.Allow = nil
		w.history = []chat.Exchange{{Messages: []chat.Message{{ID: "A", Own: true}}, Reply: &chat.Reply{Parts: []chat.Part{{ID: "Y", Text: evil}}}}}
		w.says(b, m)
		if ok, err := b.Admit(t.Context(), from("!ai hi", byBob)); ok || err != nil {
			t.Errorf("%s: bob is let in (%v)", name, err)
		}
	}
}

// Invisible marks before a command, as keyboards put them, do no harm.
func TestCommandsAmongInvisibleMarks(t *testing.T) {
	t.Parallel()
	_, b := newWorld(t)
	for _, text := range []string{"\u200f!help", "\ufeff !help\u200e", "\u200f!ai\u200f !help"} {
		if c, _, ok := b.Rules.command(from(text)); !ok || c.name != "help" {
			t.Errorf("%q is no command", text)
		}
	}
	if blank := turn(from("\u200f!ai \u200b")); !b.bare(&blank) {
		t.Error("a prefix and nothing to see is more than the prefix")
	}
}

// A name turns nothing around and is never empty to the eye.
func TestNamesOfStrangers(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"\u202e+4915100000009": "+4915100000009", "\u200b\u2066 \u2069": "someone", "أحمد": "أحمد", "\u200fدانا\u200f": "دانا", "👨\u200d👩\u200d👧": "👨\u200d👩\u200d👧",
		"a\n*b*: [c]": "a*b* c",
	} {
		if got := author(chat.Message{Name: name}); got != want {
			t.Errorf("%q is called %q, want %q", name, got, want)
		}
	}
}

func TestAllowRefuses(t *testing.T) {
	t.Parallel()
	w, b := newWorld(t)
	b.Rules.Allow, b.Rules.Block, b.Rules.Admins = nil, access.List{"4915100000002"}, access.List{bobLID}
	for text, want := range map[string]string{
		"!allow":                   "Whom? Write a number with its country code after *!allow*",
		"!allow nobody":            "Whom?",
		"!allow *":                 "Whom?",
		"!allow +4915100000002":    "*+4915100000002* is in BLOCK",
		"!block " + bobLID:         "*" + bobLID + "* is an admin",
		"!block +49 151 000 00001": "*+4915100000001* is an admin",
	} {
		if got := w.says(b, from(text, own)); !strings.HasPrefix(got, want) {
			t.Errorf("%s: said %q", text, got)
		}
	}
	if len(b.grants) != 0 {
		t.Errorf("kept %v", b.grants)
	}
	w.says(b, from("!allow +4915100000009", own))
	w.says(b, from("!block 777777@lid", own))
	if got := w.says(b, from("!block", own)); !strings.Contains(got, "Let in so far: +4915100000009") || !strings.Contains(got, "Shut out so far: 777777@lid") {
		t.Errorf("said %q", got)
	}
}
