package app

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wabot/internal/chat"
)

func TestTell(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Date(2026, 3, 1, 12, 0, s, 0, time.Local) }
	const alice, group = "4915112345678@s.whatsapp.net", "120363012345678901@g.us"
	m := chat.Message{Chat: alice, ID: "3EB012345678", Sender: alice, Time: at(0), Text: "one\ntwo\x1b[2J", Kind: chat.Text}
	in := m
	in.Chat, in.Group, in.Kind = group, true, chat.Image
	for _, row := range []struct {
		what string
		of   chat.Trail
		want string
	}{
		{"gated", chat.Trail{Message: chat.Message{Chat: group, ID: "G", Sender: alice, Time: at(0)}, Came: at(0), Gated: "neither the group nor the person is in ALLOW"},
			"G from 49•••78@s.whatsapp.net, in 12•••01@g.us\n  received  2026-03-01 12:00:00\n  gated     neither the group nor the person is in ALLOW\n"},
		{"waiting", chat.Trail{Message: m, Came: at(70)},
			"3EB012345678 from 49•••78@s.whatsapp.net\n  received  2026-03-01 12:01:10, sent at 2026-03-01 12:00:00\n  text      one\n            two�[2J\n  queued    it waits for its turn\n"},
		{"under way", chat.Trail{Message: m, Came: at(1), Begun: true, Attempt: 2, Leased: true, Ready: at(30), Tries: []chat.Try{{Began: at(1), Ended: at(3), Why: "call +49 151 12345678\nnow"}}},
			"3EB012345678 from 49•••78@s.whatsapp.net\n  received  2026-03-01 12:00:01\n  text      one\n            two�[2J\n  queued    by itself\n" +
				"  attempt   2026-03-01 12:00:01, 2.0 s: did not succeed: call +49•••78 now\n  now       attempt 2 is under way, until 2026-03-01 12:00:30 at most\n"},
		{"answered", chat.Trail{Message: in, Came: at(1), Begun: true, Others: 1, Attempt: 1, Tries: []chat.Try{{Began: at(2), Ended: at(4)}}, Ended: at(4),
			Reply: &chat.Reply{
				Parts: []chat.Part{{ID: "R1", Text: "hello", Sent: true}, {ID: "R2", Command: "!help"}},
				Charges: []chat.Charge{
					{Kind: chat.ForText, Model: "openai", Prompt: 12, Completion: 3, Cost: 1200}, {Kind: chat.ForSound, Model: "whisper", Seconds: 4, Cost: 20_000}, {Kind: chat.Notice, ID: "n"},
				},
			},
			Marks: []chat.Mark{{Message: "R1", Fate: chat.Delivered, Who: alice, Time: at(5)}, {Message: "R2", Fate: chat.Read, Who: alice, Time: at(6)}}},
			"3EB012345678 from 49•••78@s.whatsapp.net, in 12•••01@g.us\n  received   2026-03-01 12:00:01, an image\n  text       one\n             two�[2J\n  queued     answered together with 1 other message\n" +
				"  attempt    2026-03-01 12:00:02, 2.0 s: succeeded\n  model      openai, for text: 12 tokens in and 3 out, cost 0.0012\n  model      whisper, for sound: 4 s, cost 0.02\n" +
				"  reply      R1, reply, sent\n  delivered  2026-03-01 12:00:05 by 49•••78@s.whatsapp.net\n  text       hello\n" +
				"  reply      R2, reply to !help, sent\n  read       2026-03-01 12:00:06 by 49•••78@s.whatsapp.net\n  finished   2026-03-01 12:00:04\n"},
		{"apologised, left out", chat.Trail{Message: in, Came: at(1), Begun: true, Attempt: 1, Ended: at(4),
			Reply: &chat.Reply{Failure: "the model is down", Parts: []chat.Part{{ID: "R1"}}, Left: []chat.Left{{ID: in.ID, Sender: "other", Why: "x"}, {ID: in.ID, Sender: alice, Why: "BUDGET_BOT_DAY is used up"}}}},
			"3EB012345678 from 49•••78@s.whatsapp.net, in 12•••01@g.us\n  received    2026-03-01 12:00:01, an image\n  text        one\n              two�[2J\n  queued      by itself\n" +
				"  left out    BUDGET_BOT_DAY is used up\n  apologised  the model is down\n  reply       R1, reply, sent\n  finished    2026-03-01 12:00:04\n"},
		{"apologised, after a failure", chat.Trail{Message: m, Came: at(1), Begun: true, Attempt: 2, Tries: []chat.Try{{Began: at(1), Ended: at(2), Why: "no store"}, {Began: at(3), Ended: at(5)}},
			Reply: &chat.Reply{Failure: "the model is down", Parts: []chat.Part{{ID: "R1"}}}},
			"3EB012345678 from 49•••78@s.whatsapp.net\n  received    2026-03-01 12:00:01\n  text        one\n              two�[2J\n  queued      by itself\n" +
				"  attempt     2026-03-01 12:00:01, 1.0 s: did not succeed: no store\n  attempt     2026-03-01 12:00:03, 2.0 s: ended in an apology\n" +
				"  apologised  the model is down\n  reply       R1, reply, not known to be sent\n  now         it waits for its turn\n"},
		{"given up", chat.Trail{Message: in, Came: at(1), Begun: true, Attempt: 1, Ended: at(4), Failure: "12 attempts ended without a result"},
			"3EB012345678 from 49•••78@s.whatsapp.net, in 12•••01@g.us\n  received  2026-03-01 12:00:01, an image\n  text      one\n            two�[2J\n  queued    by itself\n" +
				"  given up  2026-03-01 12:00:04: 12 attempts ended without a result\n"},
	} {
		var out bytes.Buffer
		if err := tell(&out, row.of, true); err != nil || out.String() != row.want {
			t.Errorf("%s (%v):\n%s\nwant\n%s", row.what, err, out.String(), row.want)
		}
		out.Reset()
		if err := tell(&out, row.of, false); err != nil || strings.Contains(out.String(), "two") || strings.Contains(out.String(), "hello") {
			t.Errorf("%s, without texts (%v):\n%s", row.what, err, out.String())
		}
	}
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "session")
	run := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := Run(context.Background(), Process{Args: append([]string{explainName}, args...), Stdout: &out, Stderr: io.Discard, Getenv: func(name string) string {
			return map[string]string{"SESSION_DIR": dir}[name]
		}})
		return out.String(), err
	}
	for _, row := range []struct {
		args []string
		says string
	}{
		{[]string{"A", "B"}, "one message at a time"},
		{[]string{"A", "--last", "3"}, "not both"},
		{[]string{"--last", "0"}, "from 1 to 10000"},
		{[]string{"--last", "many"}, "write a number from 1 to 10000"},
		{[]string{"--text"}, "not defined: -text; wabot explain --help says how"},
		{[]string{"A", "--texts"}, "there is no session here yet"},
		{nil, "there is no session here yet"},
	} {
		if _, err := run(row.args...); err == nil || !strings.Contains(err.Error(), row.says) || ExitCode(err) != 2 {
			t.Errorf("explain %q: %v (exit code %d)", row.args, err, ExitCode(err))
		}
	}
	if out, err := run("--help"); err != nil || out != explainUsage {
		t.Errorf("help: %q %v", out, err)
	}
}
