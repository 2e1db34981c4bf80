package mongostore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"

	"wabot/internal/chat"
	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// counter counts the commands that a store sends.
type counter struct {
	mu       sync.Mutex
	commands []string
	concerns map[string]string // by command, that of its last one; "" where it names none
}

func (c *counter) monitor(o *Options) {
	o.monitor = &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.commands = append(c.commands, e.CommandName)
		if c.concerns == nil {
			c.concerns = make(map[string]string)
		}
		c.concerns[e.CommandName] = e.Command.Lookup("writeConcern").String()
	}}
}

func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.commands
	c.commands = nil
	return out
}

// talk makes the calls of whatsmeow and of the bot for one direct text in and its reply out, as
// they are in message.go, send.go and the inbox, for a peer with two devices and one other of the account.
type talk struct {
	t *testing.T
	s *Store
	d *store.Device
	n byte // the round; each moves the sessions on
}

var (
	peer  = types.NewJID("9", types.HiddenUserServer)
	phone = types.NewJID("1", types.DefaultUserServer)
)

func (k *talk) check(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *talk) hash() (h [32]byte) { h[0] = k.n; return h }

func (k *talk) receive() {
	ctx, d := k.t.Context(), k.d
	k.check(d.LIDs.PutLIDMapping(ctx, peer, phone))
	_, _, err := d.Contacts.PutPushName(ctx, peer, "Ann")
	k.check(err)
	_, err = d.EventBuffer.GetBufferedEvent(ctx, k.hash())
	k.check(err)
	k.check(d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
		_, err := d.Sessions.HasSession(ctx, "9_1:0")
		k.check(err)
		_, err = d.Sessions.GetSession(ctx, "9_1:0")
		k.check(err)
		_, err = d.Identities.IsTrustedIdentity(ctx, "9_1:0", [32]byte{1})
		k.check(err)
		k.check(d.Identities.PutIdentity(ctx, "9_1:0", [32]byte{1}))
		k.check(d.Sessions.PutSession(ctx, "9_1:0", storetest.Session(k.n)))
		return d.EventBuffer.PutBufferedEvent(ctx, k.hash(), []byte("text"), time.Unix(5, 0))
	}))
	id := fmt.Sprint("M", k.n)
	k.check(d.MsgSecrets.PutMessageSecret(ctx, peer, peer, id, []byte("secret")))
	k.check(k.s.Put(ctx, chat.Message{Chat: peer.String(), ChatAlt: phone.String(), Sender: peer.String(), SenderAlt: phone.String(), ID: id, Text: "hi", Kind: chat.Text}, time.Now()))
	k.check(d.EventBuffer.ClearBufferedEventPlaintext(ctx, k.hash()))
}

func (k *talk) send() {
	ctx, d := k.t.Context(), k.d
	id := fmt.Sprint("R", k.n)
	_, err := d.LIDs.GetPNForLID(ctx, peer)
	k.check(err)
	k.check(d.EventBuffer.AddOutgoingEvent(ctx, peer, id, "wa", []byte("text")))
	k.check(d.EventBuffer.DeleteOldOutgoingEvents(ctx))
	k.check(d.MsgSecrets.PutMessageSecret(ctx, peer, peer, id, []byte("secret")))
	addresses := []string{"9_1:0", "9_1:3", "100_1:0"}
	_, err = d.LIDs.GetManyLIDsForPNs(ctx, []types.JID{phone})
	k.check(err)
	_, err = d.Sessions.GetManySessions(ctx, addresses)
	k.check(err)
	sessions := make(map[string][]byte)
	for _, a := range addresses {
		_, err = d.Identities.IsTrustedIdentity(ctx, a, [32]byte{1})
		k.check(err)
		k.check(d.Identities.PutIdentity(ctx, a, [32]byte{1}))
		sessions[a] = storetest.Session(k.n + 100)
	}
	k.check(d.Sessions.PutManySessions(ctx, sessions))
	_, err = d.PrivacyTokens.GetPrivacyToken(ctx, peer)
	k.check(err)
	_, err = d.NCTSalt.GetNCTSalt(ctx)
	k.check(err)
}

func (k *talk) answer(send func()) {
	ctx := k.t.Context()
	now := time.Now()
	t, err := k.s.Claim(ctx, now, now.Add(time.Minute))
	k.check(err)
	_, err = k.s.History(ctx, t.Chat, 10)
	k.check(err)
	r := chat.Reply{Parts: []chat.Part{{ID: "R", Text: "hello"}}}
	k.check(k.s.SaveReply(ctx, t, r))
	send()
	t.Reply = &r
	k.check(k.s.Finish(ctx, t, now))
}

func TestRoundTrips(t *testing.T) {
	t.Parallel()
	var c counter
	s := open(t, mongotest.New(t), c.monitor)
	k := &talk{t: t, s: s, d: storetest.Pair(t, s.Devices(), "100")}
	for k.n = 1; k.n <= 2; k.n++ {
		c.take()
		k.receive()
		in := c.take()
		k.answer(func() {})
		box := c.take()
		k.send()
		out := c.take()
		state := map[byte]string{1: "cold", 2: "warm"}[k.n]
		for _, row := range []struct {
			what     string
			commands []string
			want     int // when warm; 5, 5 and 4 are allowed
		}{{"a text in, with its inbox row", in, 5}, {"a reply to three devices, by whatsmeow", out, 4}, {"a reply, by the inbox", box, 4}} {
			t.Logf("%s | %-40s | %2d | %s", state, row.what, len(row.commands), strings.Join(row.commands, " "))
			if state == "warm" && len(row.commands) != row.want {
				t.Errorf("%s costs %d commands, want %d", row.what, len(row.commands), row.want)
			}
		}
	}
}

// Every write waits until a majority has it in its journal, but for what the URL says otherwise: what was answered or sent before a
// failover must be known after it.
func TestWriteConcern(t *testing.T) {
	t.Parallel()
	writes := []string{"insert", "update", "delete", "findAndModify", "createIndexes", "dropIndexes"}
	for _, row := range []struct {
		name, query string
		want        bson.D
	}{
		{"by default", "", bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: true}}},
		{"as the URL says", "&w=1&journal=false", bson.D{{Key: "w", Value: int32(1)}, {Key: "j", Value: false}}},
		{"as the URL says of the majority alone", "&w=majority", bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: true}}},
		{"as the URL says of the journal alone", "&journal=false", bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: false}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var c counter
			s := open(t, mongotest.New(t)+row.query, c.monitor)
			k := &talk{t: t, s: s, d: storetest.Pair(t, s.Devices(), "100"), n: 1}
			k.receive()
			k.answer(k.send)
			_, err := k.d.PreKeys.GetOrGenPreKeys(t.Context(), 2)
			k.check(err)
			k.check(k.d.PreKeys.MarkPreKeysAsUploaded(t.Context(), 2))
			k.check(k.d.Sessions.DeleteAllSessions(t.Context(), "9_1"))
			l, err := s.Acquire(t.Context(), "device", "me", 0, nil)
			k.check(err)
			k.check(l.Release(t.Context()))
			raw, err := bson.Marshal(row.want)
			k.check(err)
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, command := range writes {
				if got, ok := c.concerns[command]; !ok || got != bson.Raw(raw).String() {
					t.Errorf("%s went out (%t) with the write concern %s, want %s", command, ok, got, bson.Raw(raw))
				}
			}
			for command, concern := range c.concerns {
				if concern != "" && !slices.Contains(writes, command) {
					t.Errorf("%s has a write concern, and is not among those that are looked at", command)
				}
			}
		})
	}
}
