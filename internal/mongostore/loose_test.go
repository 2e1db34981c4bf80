package mongostore

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"wabot/internal/chat"
	"wabot/internal/mongotest"
	"wabot/internal/storetest"
)

// Only what may be undone by a crash of the database is not waited for until it is in its journal, and even that where the URL asks for it.
func TestLooseWrites(t *testing.T) {
	t.Parallel()
	t.Run("by default", func(t *testing.T) { looseWrites(t, "", false) })
	t.Run("with the journal in the URL", func(t *testing.T) { looseWrites(t, "&journal=true", true) })
}

func looseWrites(t *testing.T, query string, always bool) {
	t.Parallel()
	var c counter
	s := open(t, mongotest.New(t)+query, c.monitor)
	k := &talk{t: t, s: s, d: storetest.Pair(t, s.Devices(), "100"), n: 1}
	ctx, now := t.Context(), time.Now()
	k.receive()
	var turn chat.Turn
	for _, row := range []struct {
		what  string
		loose bool
		do    func() error
	}{
		{"a message", false, func() error {
			return s.Put(ctx, chat.Message{Chat: peer.String(), Sender: peer.String(), ID: "N"}, now)
		}},
		{"a secret", false, func() error { return k.d.MsgSecrets.PutMessageSecret(ctx, peer, peer, "N", []byte("secret")) }},
		{"a claim", false, func() (err error) { turn, err = s.Claim(ctx, now, now.Add(time.Minute)); return err }},
		{"a reply", false, func() error { return s.SaveReply(ctx, turn, chat.Reply{Parts: []chat.Part{{ID: "R"}}}) }},
		{"a session", false, func() error { return k.d.Sessions.PutSession(ctx, "9_1:0", storetest.Session(7)) }},
		{"a copy of what is sent", true, func() error { return k.d.EventBuffer.AddOutgoingEvent(ctx, peer, "R", "wa", []byte("text")) }},
		{"a turn's end", false, func() error { return s.Finish(ctx, turn, now) }},
		{"a text that is not needed any more", true, func() error { return k.d.EventBuffer.ClearBufferedEventPlaintext(ctx, k.hash()) }},
	} {
		c.mu.Lock()
		clear(c.concerns)
		c.mu.Unlock()
		k.check(row.do())
		c.mu.Lock()
		var said []string
		for _, concern := range c.concerns {
			if concern != "" {
				said = append(said, concern)
			}
		}
		c.mu.Unlock()
		want, err := bson.Marshal(bson.D{{Key: "w", Value: "majority"}, {Key: "j", Value: always || !row.loose}})
		k.check(err)
		if !slices.Equal(said, []string{bson.Raw(want).String()}) {
			t.Errorf("%s was written with %v, want %s", row.what, said, bson.Raw(want))
		}
	}
}
