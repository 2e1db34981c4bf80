package storetest

import (
	"testing"

	"wabot/internal/chat"
)

func heard(t *testing.T, b *box) {
	want := func(jid string, ids ...string) {
		t.Helper()
		all, err := b.Heard(t.Context(), jid)
		b.check(err)
		if got := idsOf(all); len(got) != len(ids) || len(got) > 0 && (got[0] != ids[0] || all[0].Text != "text of "+ids[0]) {
			t.Errorf("heard %+v in %s, want %v", all, jid, ids)
		}
	}
	set := func(jid string, ids ...string) {
		t.Helper()
		var all []chat.Message
		for _, id := range ids {
			m := says(alice, id)
			m.Chat, m.Group = jid, true
			all = append(all, m)
		}
		b.check(b.SetHeard(t.Context(), jid, all))
	}
	want(group)
	set(group)
	set(group, "a", "b")
	set("444@g.us", "x")
	want(group, "a", "b")
	set(group, "b", "c", "d")
	want(group, "b", "c", "d")
	// It is no message that waits, nor history.
	b.wantDepth(0)
	b.empty(at(1))
	b.wantHistory(group, 5)
	b.Store = b.reopen()
	want(group, "b", "c", "d")
	set(group)
	want(group)
	want("444@g.us", "x")
	b.check(b.Forget(t.Context()))
	want("444@g.us")
}
