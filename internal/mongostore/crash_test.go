package mongostore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mongotest"
)

// However often the database crashes, and undoes what it may, and the bot goes on or crashes too: each message is answered once,
// and what was deleted stays deleted.
func TestCrashesAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			crashAtRandom(t, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

// crasher is a bot on a database that crashes.
type crasher struct {
	t      *testing.T
	line   *mongotest.Line
	s      *Store
	beside *Store // by which the database is undone and looked at
	now    time.Time
	// states put the database back to what a crash may leave.
	states []func()
	held   []chat.Turn
	put    int
	said   []string          // what was done
	sent   map[string]string // by message: the reply
	ended  []chat.Message
	erased map[string]bool
}

// done notes a write, after which a crash may leave what was before, too, where it was a loose one.
func (c *crasher) done(loose bool, err error, format string, args ...any) {
	if c.said = append(c.said, fmt.Sprintf(format, args...)); err != nil {
		c.said = append(c.said, "\t"+err.Error())
	}
	if !loose {
		c.states = nil
	}
	c.states = append(c.states, undone(c.t, c.beside))
}

func (c *crasher) message(rnd *rand.Rand) {
	c.put++
	user := fmt.Sprint(rnd.IntN(2))
	pn, lid := user+"@s.whatsapp.net", user+"@lid"
	m := chat.Message{ID: fmt.Sprint(c.put), Text: "text", Kind: chat.Text, Time: c.now}
	switch rnd.IntN(3) {
	case 0:
		m.Chat = pn
	case 1:
		m.Chat = lid
	default:
		m.Chat, m.ChatAlt = lid, pn
	}
	m.Sender, m.SenderAlt = m.Chat, m.ChatAlt
	err := c.s.Put(c.t.Context(), m, c.now)
	if err != nil {
		c.t.Error(err)
	}
	c.done(false, err, "put %s in %s, %s", m.ID, m.Chat, m.ChatAlt)
}

func (c *crasher) claim() bool {
	turn, err := c.s.Claim(c.t.Context(), c.now, c.now.Add(time.Hour))
	if errors.Is(err, inbox.ErrEmpty) {
		return false
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.held = append(c.held, turn)
	c.done(true, nil, "claim %s, attempt %d, %d messages", turn.Chat, turn.Attempt, len(turn.Messages))
	return true
}

// answer saves and sends the reply of the i-th turn that is held, and finishes it.
func (c *crasher) answer(i int, finish bool) {
	turn := c.held[i]
	if turn.Reply == nil {
		r := chat.Reply{Parts: []chat.Part{{ID: fmt.Sprint("R", len(c.said))}}}
		err := c.s.SaveReply(c.t.Context(), turn, r)
		c.done(false, err, "save the reply in %s", turn.Chat)
		if err != nil {
			c.retry(i)
			return
		}
		turn.Reply = &r
		c.held[i] = turn
	}
	for _, m := range turn.Messages {
		if before, id := c.sent[m.ID], turn.Reply.Parts[0].ID; before != "" && before != id {
			c.t.Errorf("message %s is answered a second time", m.ID)
		} else {
			c.sent[m.ID] = id
		}
	}
	if !finish {
		return
	}
	c.held = slices.Delete(c.held, i, i+1)
	err := c.s.Finish(c.t.Context(), turn, c.now)
	c.done(true, err, "finish in %s", turn.Chat)
	if err == nil {
		c.ended = append(c.ended, turn.Messages...)
	}
}

func (c *crasher) retry(i int) {
	err := c.s.Retry(c.t.Context(), c.held[i], c.now)
	c.done(false, err, "retry in %s", c.held[i].Chat)
	c.held = slices.Delete(c.held, i, i+1)
}

func (c *crasher) erase(m chat.Message) {
	user, _, _ := strings.Cut(m.Chat, "@")
	m.Chat, m.ChatAlt = user+"@lid", user+"@s.whatsapp.net"
	m.Sender, m.SenderAlt = m.Chat, m.ChatAlt
	err := c.s.Amend(c.t.Context(), []chat.Message{inbox.Erased(m)}, nil)
	c.erased[m.ID] = c.erased[m.ID] || err == nil
	c.done(false, err, "erase %s", m.ID)
}

// crash crashes the database.
func (c *crasher) crash(rnd *rand.Rand) {
	c.states[rnd.IntN(len(c.states))]()
	c.line.Cut()
	c.done(false, nil, "the database crashes")
}

// restart kills the bot and starts it again.
func (c *crasher) restart() {
	c.s, c.held = open(c.t, c.line.URL), nil
	err := c.s.Release(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	c.done(false, nil, "the bot starts")
}

func crashAtRandom(t *testing.T, rnd *rand.Rand) {
	line := mongotest.NewLine(t)
	c := &crasher{t: t, line: line, s: open(t, line.URL), beside: open(t, line.Another().URL), now: time.Unix(2000, 0), sent: map[string]string{}, erased: map[string]bool{}}
	c.states = []func(){undone(t, c.beside)}
	for range 60 {
		c.now = c.now.Add(time.Second)
		switch what := rnd.IntN(14); {
		case what < 3:
			c.message(rnd)
		case what < 6:
			c.claim()
		case what < 9 && len(c.held) > 0:
			c.answer(rnd.IntN(len(c.held)), what < 8)
		case what == 9 && len(c.held) > 0:
			c.retry(rnd.IntN(len(c.held)))
		case what == 10:
			c.crash(rnd)
		case what == 11 && rnd.IntN(4) == 0:
			c.restart()
		case what > 11 && len(c.ended) > 0:
			c.erase(c.ended[rnd.IntN(len(c.ended))])
		}
	}
	c.crash(rnd)
	// What is left is answered by this process as by the next.
	for range 2 {
		for ok := true; ok; ok = c.claim() {
			for len(c.held) > 0 {
				c.answer(0, true)
			}
			c.now = c.now.Add(2 * time.Hour)
		}
		c.restart()
	}
	var turns []turnRow
	cursor, err := c.beside.inboxRows.Find(t.Context(), bson.D{})
	if err == nil {
		err = cursor.All(t.Context(), &turns)
	}
	if err != nil {
		t.Fatal(err)
	}
	in := map[string]int{}
	for _, row := range turns {
		if row.Kind == kindTurn && row.Open {
			t.Errorf("the turn %s is open", row.ID)
		}
		for _, m := range row.Messages {
			in[m.Name]++
			if c.erased[m.Name] && strings.Contains(m.Message, `"text":"text"`) {
				t.Errorf("message %s is not erased", m.Name)
			}
		}
	}
	for id := 1; id <= c.put; id++ {
		if name := fmt.Sprint(id); in[name] != 1 || c.sent[name] == "" {
			t.Errorf("message %s is in %d turns, its reply is %q", name, in[name], c.sent[name])
		}
	}
	if t.Failed() {
		t.Log(strings.Join(c.said, "\n"))
	}
}
