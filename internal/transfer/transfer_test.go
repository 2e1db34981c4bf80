package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"

	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/inbox"
	"wabot/internal/mongostore"
	"wabot/internal/mongotest"
	"wabot/internal/retention"
	"wabot/internal/sqlitestore"
	"wabot/internal/storetest"
	"wabot/internal/trail"
	"wabot/internal/transfer"
)

// whole is a store with all that a bot needs of it.
type whole interface {
	transfer.Store
	inbox.Store
	budget.Store
	trail.Store
	retention.Store
	PreKeys(ctx context.Context) (int, error)
}

// place is where a store lies: open opens it anew, as after a restart.
type place struct {
	name string
	open func() (whole, storetest.Container)
}

// end is the place as an end of a copy.
func (p place) end() transfer.End {
	s, _ := p.open()
	return transfer.End{Name: p.name, Store: s}
}

// file is a new, empty file store.
func file(t *testing.T) place {
	dir := t.TempDir()
	var last *sqlitestore.Store
	closeLast := func() {
		if last != nil {
			if err := last.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(closeLast)
	return place{transfer.File, func() (whole, storetest.Container) {
		closeLast()
		s, err := sqlitestore.Open(t.Context(), dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		last = s
		return s, s.Devices()
	}}
}

// mongo is a new, empty database.
func mongo(t *testing.T) place {
	url := mongotest.New(t)
	return place{transfer.Mongo, func() (whole, storetest.Container) {
		s, err := mongostore.Open(t.Context(), mongostore.Options{URL: url, Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close(context.Background()) })
		return s, s.Devices()
	}}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fill puts a device with something of every kind, and an inbox, into a store.
func fill(t *testing.T, p place, seed uint64, people int) {
	t.Helper()
	ctx := t.Context()
	s, c := p.open()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("fill the store: %v", err)
		}
	}
	random := rand.New(rand.NewPCG(seed, 1))
	some := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	key := func() [32]byte { return [32]byte(some(32)) }
	d := storetest.Pair(t, c, "4915112345678")
	d.PushName, d.BusinessName, d.Platform, d.LIDMigrationTimestamp, d.CompanionMetaNonce = "Bot", "Shop", "android", 1234, "nonce"
	ok(d.Save(ctx))
	keys, err := d.PreKeys.GetOrGenPreKeys(ctx, 40)
	ok(err)
	ok(d.PreKeys.MarkPreKeysAsUploaded(ctx, keys[29].KeyID))
	for _, k := range keys[:10] {
		ok(d.PreKeys.RemovePreKey(ctx, k.KeyID))
	}
	for i := range people {
		user, n := fmt.Sprint(1000+i), byte(i)
		address := fmt.Sprintf("%s_1:%d", user, i%3)
		who, hidden := types.NewJID(user, types.DefaultUserServer), types.NewJID("9"+user, types.HiddenUserServer)
		group := types.NewJID("1"+user+"-5", types.GroupServer)
		ok(d.Identities.PutIdentity(ctx, address, key()))
		ok(d.Sessions.PutSession(ctx, address, storetest.Session(n)))
		ok(d.SenderKeys.PutSenderKey(ctx, group.String(), address, some(50+i)))
		ok(d.AppStateKeys.PutAppStateSyncKey(ctx, some(6), store.AppStateSyncKey{Data: some(32), Fingerprint: some(8), Timestamp: int64(i)}))
		name := fmt.Sprint("regular/", i)
		ok(d.AppState.PutAppStateVersion(ctx, name, uint64(i+1), [128]byte(some(128))))
		index := some(32)
		for v := range uint64(3) {
			ok(d.AppState.PutAppStateMutationMACs(ctx, name, v, []store.AppStateMutationMAC{{IndexMAC: index, ValueMAC: some(32)}, {IndexMAC: some(32), ValueMAC: some(32)}}))
		}
		_, _, err := d.Contacts.PutPushName(ctx, who, "Ann "+user)
		ok(err)
		ok(d.Contacts.PutContactName(ctx, hidden, "First", "Full "+user))
		ok(d.Contacts.PutManyRedactedPhones(ctx, []store.RedactedPhoneEntry{{JID: hidden, RedactedPhone: "+49∙∙∙" + user}}))
		ok(d.ChatSettings.PutMutedUntil(ctx, who, []time.Time{{}, store.MutedForever, noon}[i%3]))
		ok(d.ChatSettings.PutArchived(ctx, group, i%2 == 0))
		ok(d.MsgSecrets.PutMessageSecret(ctx, group, hidden, "ID/%2F"+user, some(32)))
		token := store.PrivacyToken{User: who, Token: some(16), Timestamp: noon}
		if i%2 == 0 {
			token.SenderTimestamp = noon.Add(time.Hour)
		}
		ok(d.PrivacyTokens.PutPrivacyTokens(ctx, token))
		hash := key()
		ok(d.EventBuffer.PutBufferedEvent(ctx, hash, some(100), noon))
		if i%2 == 0 {
			ok(d.EventBuffer.ClearBufferedEventPlaintext(ctx, hash))
		}
		ok(d.EventBuffer.AddOutgoingEvent(ctx, group, "SENT/"+user, "wa", some(200)))
		ok(d.LIDs.PutLIDMapping(ctx, hidden, who))
	}
	ok(s.Charge(ctx, []chat.Charge{{ID: "total", Time: noon, Model: "m", Kind: chat.Total, Cost: 5}}))
	ok(d.NCTSalt.PutNCTSalt(ctx, some(16)))
	ok(s.SetNote(ctx, "whatsapp.connected", []byte(`"2026-03-01T12:00:00Z"`)))
	ok(s.SetNote(ctx, "whatsapp.dead-letter.X", some(70)))
	ok(s.SetNote(ctx, "chat/settings/7@lid", []byte(`{"voice":"always"}`)))
	ok(s.SetNote(ctx, "chat/access", []byte(`[{"who":"491","allow":true}]`)))
	ok(s.SetHeard(ctx, "1-5@g.us", []chat.Message{{Chat: "1-5@g.us", ID: "H", Sender: "7@lid", Time: noon.Add(time.Second), Text: "we meet at noon", Kind: chat.Text}}))
	box := inbox.New(s, inbox.Options{}, slog.New(slog.DiscardHandler))
	ok(box.SetSummary(ctx, "7@lid", inbox.Summary{Text: "Ann likes boats.", Through: noon, Last: "A"}, noon))

	now := noon
	tick := func() time.Time { now = now.Add(time.Second); return now }
	message := func(jid, sender, id string) chat.Message {
		return chat.Message{Chat: jid, Sender: sender, ID: id, Time: noon, Text: "ask " + id, Kind: chat.Text}
	}
	reply := func(text string) chat.Reply {
		return chat.Reply{Parts: []chat.Part{{ID: "R" + text, Text: text, Sent: true}}}
	}
	address := func(i int) (lid, pn string) { return fmt.Sprintf("7%d@lid", i), fmt.Sprintf("49%d@s.whatsapp.net", i) }
	for i := range people {
		// Known by number first, by LID after.
		lid, pn := address(i)
		ok(s.Put(ctx, message(pn, pn, "A"), tick()))
		turn, err := s.Claim(ctx, tick(), now.Add(time.Minute))
		ok(err)
		r := reply(lid)
		r.Charges = []chat.Charge{{ID: fmt.Sprint("charge/", i), Time: now, Person: pn, Chat: pn, Model: "m", Kind: chat.ForText, Prompt: i, Cost: 12}}
		ok(s.Mark(ctx, []chat.Mark{
			{Message: "R" + lid, Fate: chat.Read, Chat: pn, Who: pn, Time: now}, {Message: fmt.Sprint("G/", i), Fate: chat.Gated, Chat: pn, Who: pn, Time: now, Why: "no prefix"},
		}))
		turn.Tries = []chat.Try{{Began: noon, Ended: now, Why: "a reason"}}
		turn.Reply = &r
		ok(s.SaveReply(ctx, turn, r))
		ok(s.Finish(ctx, turn, tick()))
	}
	for i := range people {
		lid, pn := address(i)
		m := message(lid, lid, "B")
		m.ChatAlt, m.SenderAlt = pn, pn
		ok(s.Put(ctx, m, tick()))
		if i%3 == 0 { // a message of the same name, at the old address again
			ok(s.Put(ctx, message(pn, pn, "A"), tick()))
		}
		for j := range i % 3 {
			ok(s.Put(ctx, message(lid, lid, fmt.Sprint("C", j)), tick()))
		}
	}
	for i := range people {
		turn, err := s.Claim(ctx, tick(), now.Add(time.Hour))
		ok(err)
		switch i % 5 {
		case 0:
			ok(s.Fail(ctx, turn, tick(), "the model is gone"))
		case 1:
			ok(s.SaveReply(ctx, turn, reply("saved")))
		case 2:
			ok(s.Retry(ctx, turn, now.Add(time.Minute)))
		}
		if i%2 == 0 {
			ok(s.Put(ctx, message(turn.Chat, turn.Chat, "D"), tick()))
		}
	}
}

// rows are all rows of a store, those without an order sorted.
func rows(t *testing.T, s transfer.Store) (all []string) {
	t.Helper()
	var ordered []string
	err := s.Rows(t.Context(), func(r transfer.Row) error {
		raw, err := json.Marshal(r)
		line := string(r.Kind()) + " " + string(raw)
		switch r.(type) {
		case transfer.Turn, transfer.Waiting:
			ordered = append(ordered, line)
		default:
			all = append(all, line)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return append(all, ordered...)
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%s: %d rows, want %d; the first that differs is\n%.300s\nwant\n%.300s", what, len(got), len(want),
				strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""), strings.Join(want[min(i, len(want)):min(i+1, len(want))], ""))
		}
	}
}

func mustCopy(t *testing.T, from, to place) transfer.Summary {
	t.Helper()
	sum, err := transfer.Copy(t.Context(), from.end(), to.end(), false)
	if err != nil {
		t.Fatalf("copy from %s to %s: %v", from.name, to.name, err)
	}
	return sum
}

// Everything goes to the other store and comes back.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	for _, places := range []func() (place, place){
		func() (place, place) { return file(t), mongo(t) },
		func() (place, place) { return mongo(t), file(t) },
	} {
		a, b := places()
		t.Run("from "+a.name, func(t *testing.T) {
			fill(t, a, 1, 12)
			was := rows(t, a.end())
			s, _ := a.open()
			if n, err := s.PreKeys(t.Context()); n != 20 || err != nil {
				t.Errorf("%d pre-keys are out, %v; 30 were given out and 10 used", n, err)
			}
			sum := mustCopy(t, a, b)
			for _, k := range transfer.Kinds {
				if sum[k].Count == 0 {
					t.Errorf("the test copies no %s", k)
				}
			}
			same(t, "the copy", rows(t, b.end()), was)
			copied, _ := b.open()
			if s, err := inbox.New(copied, inbox.Options{}, slog.New(slog.DiscardHandler)).Summary(t.Context(), "7@lid"); err != nil || s.Text != "Ann likes boats." {
				t.Errorf("the summary is %+v, %v", s, err)
			}
			// What is kept of chats is as old as it was.
			for after, want := range map[time.Duration]int{0: 0, time.Millisecond: 1, time.Minute: 2} {
				if old, err := copied.OldHeard(t.Context(), noon.Add(after), 9); err != nil || len(old) != want {
					t.Errorf("%v after noon %q are old, %v; want %d", after, old, err, want)
				}
			}
			if err := transfer.Usable(t.Context(), a.end()); !errors.As(err, new(transfer.Refusal)) {
				t.Errorf("the source after the copy: %v", err)
			}
			if err := transfer.Usable(t.Context(), b.end()); err != nil {
				t.Errorf("the target after the copy: %v", err)
			}
			for _, p := range []place{a, b} {
				report, err := transfer.Check(t.Context(), p.end())
				// The sender keys of the test are random.
				wrong := slices.DeleteFunc(report.Wrong, func(s string) bool { return strings.HasPrefix(s, "sender key") })
				if err != nil || len(wrong) > 0 {
					t.Errorf("the %s store: %q, %v", p.name, wrong, err)
				}
			}
			mustCopy(t, b, a)
			same(t, "what came back", rows(t, a.end()), was)
			if err := transfer.Usable(t.Context(), a.end()); err != nil {
				t.Errorf("the source after the copy back: %v", err)
			}
			if err := transfer.Usable(t.Context(), b.end()); !errors.As(err, new(transfer.Refusal)) {
				t.Errorf("the target after the copy back: %v", err)
			}
		})
	}
}

// The device, the inbox and the pre-keys go on where they were.
func TestTheCopyGoesOn(t *testing.T) {
	t.Parallel()
	for _, places := range []func() (place, place){
		func() (place, place) { return file(t), mongo(t) },
		func() (place, place) { return mongo(t), file(t) },
	} {
		a, b := places()
		t.Run("from "+a.name, func(t *testing.T) {
			ctx := t.Context()
			fill(t, a, 2, 9)
			_, c := a.open()
			d, err := c.GetFirstDevice(ctx)
			if err != nil {
				t.Fatal(err)
			}
			// The highest keys are used up: the count goes on above them all the same where the store keeps one.
			made, err := d.PreKeys.GenOnePreKey(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if a.name == transfer.Mongo {
				if err := d.PreKeys.RemovePreKey(ctx, made.KeyID); err != nil {
					t.Fatal(err)
				}
			}
			now := noon.Add(24 * time.Hour)
			type answer struct {
				Chat    string
				Attempt int
				Reply   *chat.Reply
				IDs     []string
				History []chat.Exchange
			}
			drain := func(s whole) (all []answer) {
				t.Helper()
				if err := s.Release(ctx); err != nil {
					t.Fatal(err)
				}
				for {
					turn, err := s.Claim(ctx, now, now.Add(time.Hour))
					if errors.Is(err, inbox.ErrEmpty) {
						return all
					}
					if err != nil {
						t.Fatal(err)
					}
					a := answer{Chat: turn.Chat, Attempt: turn.Attempt, Reply: turn.Reply}
					for _, m := range turn.Messages {
						a.IDs = append(a.IDs, m.ID)
					}
					if a.History, err = s.History(ctx, turn.Chat, 5); err != nil {
						t.Fatal(err)
					}
					all = append(all, a)
					now = now.Add(time.Second)
					if err := s.Finish(ctx, turn, now); err != nil {
						t.Fatal(err)
					}
				}
			}
			mustCopy(t, a, b)
			other, c := b.open()
			again, err := c.GetFirstDevice(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if again.ID == nil || *again.ID != *d.ID || *again.NoiseKey.Priv != *d.NoiseKey.Priv {
				t.Fatalf("the device became %v", again.ID)
			}
			next, err := again.PreKeys.GenOnePreKey(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if next.KeyID <= made.KeyID {
				t.Errorf("the next pre-key is %d after %d", next.KeyID, made.KeyID)
			}
			// A message that came before is known, under both of its addresses.
			depth, err := other.Depth(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range []chat.Message{
				{Chat: "71@lid", ChatAlt: "491@s.whatsapp.net", Sender: "71@lid", SenderAlt: "491@s.whatsapp.net", ID: "A", Kind: chat.Text},
				{Chat: "71@lid", Sender: "71@lid", ID: "B", Kind: chat.Text},
			} {
				if err := other.Put(ctx, m, now); err != nil {
					t.Fatal(err)
				}
			}
			if after, err := other.Depth(ctx); err != nil || after != depth {
				t.Errorf("%d messages wait after the redelivery, %d before (%v)", after, depth, err)
			}
			s, _ := a.open()
			want := drain(s)
			now = noon.Add(24 * time.Hour)
			if got := drain(other); !reflect.DeepEqual(got, want) {
				t.Errorf("the copy answers %d turns otherwise than the source answers its %d:\n%.500v\n%.500v", len(got), len(want), got, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := file(t), mongo(t)
	refused := func(what, words string, err error) {
		t.Helper()
		if !errors.As(err, new(transfer.Refusal)) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := transfer.Copy(ctx, a.end(), b.end(), false)
	refused("nothing to copy", "no linked device", err)
	fill(t, a, 3, 3)
	_, c := b.open()
	storetest.Pair(t, c, "200")
	was := rows(t, b.end())
	_, err = transfer.Copy(ctx, a.end(), b.end(), false)
	refused("a device in the way", "--replace", err)
	same(t, "the device in the way", rows(t, b.end()), was)
	if err := errors.Join(transfer.Usable(ctx, a.end()), transfer.Usable(ctx, b.end())); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
	if _, err := transfer.Copy(ctx, a.end(), b.end(), true); err != nil {
		t.Fatalf("replace: %v", err)
	}
	_, err = transfer.Copy(ctx, a.end(), b.end(), true)
	refused("a source that was moved", "MONGO_ENABLED=True", err)

	// Another database knows nothing of where the file store's session went.
	other := mongo(t)
	_, c = other.open()
	storetest.Pair(t, c, "300")
	_, err = transfer.Copy(ctx, other.end(), a.end(), false)
	refused("a moved target that this source did not come from", "--replace", err)

	if err := transfer.Forget(ctx, a.end()); err != nil {
		t.Fatal(err)
	}
	if left := rows(t, a.end()); len(left) > 0 {
		t.Errorf("left after deleting all: %q", left)
	}
	if err := transfer.Usable(ctx, a.end()); err != nil {
		t.Errorf("a store emptied: %v", err)
	}
	_, c = b.open()
	storetest.Pair(t, c, "400")
	_, err = transfer.Copy(ctx, b.end(), a.end(), false)
	refused("two devices", "more than one", err)
}

// dying fails all calls from one on, as a process that is killed makes no more: the call itself is
// done and not answered, or not done.
type dying struct {
	transfer.Store
	calls *int
	done  bool
}

var errDead = errors.New("dead")

func (d dying) call(do func() error) error {
	*d.calls--
	if *d.calls < 0 || *d.calls == 0 && !d.done {
		return errDead
	}
	if err := do(); err != nil {
		return err
	}
	if *d.calls == 0 {
		return errDead
	}
	return nil
}

func (d dying) Note(ctx context.Context, key string) (v []byte, err error) {
	return v, d.call(func() error { v, err = d.Store.Note(ctx, key); return err })
}

func (d dying) SetNote(ctx context.Context, key string, value []byte) error {
	return d.call(func() error { return d.Store.SetNote(ctx, key, value) })
}

func (d dying) Rows(ctx context.Context, each func(transfer.Row) error) error {
	return d.call(func() error { return d.Store.Rows(ctx, each) })
}

func (d dying) PutRows(ctx context.Context, rows []transfer.Row) error {
	if *d.calls == 1 && !d.done {
		rows = rows[:len(rows)/2]
		d.done = true
	}
	return d.call(func() error { return d.Store.PutRows(ctx, rows) })
}

func (d dying) Clear(ctx context.Context) error {
	return d.call(func() error { return d.Store.Clear(ctx) })
}

// However far a copy came before it was killed, the two stores are never both in use, nothing is lost, and the
// same command ends it.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for _, places := range []func(*testing.T) (place, place){
		func(t *testing.T) (place, place) { return file(t), mongo(t) },
		func(t *testing.T) (place, place) { return mongo(t), file(t) },
	} {
		a, b := places(t)
		t.Run("from "+a.name, func(t *testing.T) {
			ctx := t.Context()
			fill(t, a, 4, 2)
			was := rows(t, a.end())
			kills := 0
			for survived, k := false, 1; !survived; k++ {
				for _, done := range []bool{false, true} {
					calls := k
					from, to := a.end(), b.end()
					from.Store, to.Store = dying{from.Store, &calls, done}, dying{to.Store, &calls, done}
					_, err := transfer.Copy(ctx, from, to, false)
					if survived = err == nil; survived {
						break
					}
					if !errors.Is(err, errDead) {
						t.Fatalf("killed at call %d: %v", k, err)
					}
					kills++
					source, target := transfer.Usable(ctx, a.end()) == nil, transfer.Usable(ctx, b.end()) == nil
					switch {
					case source && target && len(rows(t, b.end())) > 0:
						t.Fatalf("killed at call %d: both stores may be used", k)
					case source:
						same(t, fmt.Sprintf("the source after a kill at call %d", k), rows(t, a.end()), was)
						if _, err := transfer.Copy(ctx, b.end(), a.end(), true); !errors.As(err, new(transfer.Refusal)) {
							t.Fatalf("a copy of what came so far, after a kill at call %d: %v", k, err)
						}
						continue
					case !target: // neither may be used: the same command ends it
						if _, err := transfer.Copy(ctx, b.end(), a.end(), true); !errors.As(err, new(transfer.Refusal)) {
							t.Fatalf("a copy of an incomplete store, after a kill at call %d: %v", k, err)
						}
						mustCopy(t, a, b)
					}
					same(t, fmt.Sprintf("the target after a kill at call %d", k), rows(t, b.end()), was)
					if transfer.Usable(ctx, a.end()) == nil || transfer.Usable(ctx, b.end()) != nil {
						t.Errorf("after a kill at call %d the target may not be used, or the source may", k)
					}
					mustCopy(t, b, a)
				}
			}
			same(t, "the target in the end", rows(t, b.end()), was)
			t.Logf("%d kills", kills)
		})
	}
}

// What is read back otherwise than it was written is not taken for a copy.
func TestWhatReadsBackOtherwise(t *testing.T) {
	t.Parallel()
	a, b := file(t), file(t)
	fill(t, a, 5, 6)
	to := b.end()
	to.Store = forgetful{to.Store}
	if _, err := transfer.Copy(t.Context(), a.end(), to, false); err == nil || !strings.Contains(err.Error(), "identity: the 6 are not the same") {
		t.Errorf("copy: %v", err)
	}
	if err := transfer.Usable(t.Context(), a.end()); err != nil {
		t.Errorf("the source: %v", err)
	}
	if err := transfer.Usable(t.Context(), b.end()); err == nil {
		t.Error("the wrong copy may be used")
	}
}

// forgetful writes one bit of a key wrong.
type forgetful struct{ transfer.Store }

func (f forgetful) PutRows(ctx context.Context, rows []transfer.Row) error {
	rows = slices.Clone(rows)
	i := slices.IndexFunc(rows, func(r transfer.Row) bool { return r.Kind() == transfer.KindIdentity })
	if i >= 0 {
		id := rows[i].(transfer.Identity)
		id.Key = bytes.Clone(id.Key)
		id.Key[5] ^= 4
		rows[i] = id
	}
	return f.Store.PutRows(ctx, rows)
}

// Check finds what is wrong.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := file(t).end()
	report, err := transfer.Check(t.Context(), listed{s.Store, []transfer.Row{
		transfer.Device{JID: "1@s.whatsapp.net"},
		transfer.Identity{Address: "1:0", Key: make([]byte, 31)},
		transfer.Session{Address: "1:0", Record: []byte("{")},
		transfer.Session{Address: "1:1", Record: storetest.Session(1)},
		transfer.PreKey{ID: 7, Private: make([]byte, 32)},
		transfer.PreKeyCount{Next: 7},
		transfer.MAC{Name: "n", Index: make([]byte, 32), Value: make([]byte, 32)},
		transfer.Turn{},
		transfer.Waiting{Message: transfer.Message{JSON: "{"}},
	}})
	if err != nil || len(report.Wrong) != 7 {
		t.Errorf("%d found: %q, %v", len(report.Wrong), report.Wrong, err)
	}
}

// listed is a store that holds the rows.
type listed struct {
	transfer.Store
	rows []transfer.Row
}

func (l listed) Rows(_ context.Context, each func(transfer.Row) error) error {
	for _, r := range l.rows {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// What a running bot is about to write is not taken for missing.
func TestCheckBesideAWriter(t *testing.T) {
	t.Parallel()
	s := &growing{Store: file(t).end().Store, version: transfer.Version{Name: "n", Hash: make([]byte, 128)}}
	report, err := transfer.Check(t.Context(), s)
	if err != nil || len(report.Wrong) > 0 {
		t.Errorf("wrong: %q, %v", report.Wrong, err)
	}
	if n := report.Rows[transfer.KindMAC].Count; n != 1 {
		t.Errorf("%d MACs counted", n)
	}
}

// growing is a store in which a MAC is written before its version is.
type growing struct {
	transfer.Store
	version transfer.Row
	reads   int
}

func (g *growing) Rows(ctx context.Context, each func(transfer.Row) error) error {
	rows := []transfer.Row{transfer.MAC{Name: "n", Index: make([]byte, 32), Value: make([]byte, 32)}}
	if g.reads++; g.reads > 1 {
		rows = append([]transfer.Row{g.version}, rows...)
	}
	return listed{g.Store, rows}.Rows(ctx, each)
}

// A restored session is the exported one without its Signal sessions and sender keys, and its pre-keys go on
// far above; it may not connect before that.
func TestRestore(t *testing.T) {
	t.Parallel()
	for _, places := range []func() (place, place){
		func() (place, place) { return file(t), mongo(t) },
		func() (place, place) { return mongo(t), file(t) },
	} {
		a, b := places()
		t.Run("from "+a.name, func(t *testing.T) {
			ctx := t.Context()
			fill(t, a, 6, 9)
			was := rows(t, a.end())
			to := b.end()
			sum, err := transfer.Restore(ctx, a.end(), to)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(transfer.Usable(ctx, a.end()), transfer.Usable(ctx, to)); err != nil {
				t.Errorf("after the restore: %v", err)
			}
			if old, err := transfer.IsRewound(ctx, to); err != nil || !old {
				t.Errorf("the restored session is not marked as an older one: %v", err)
			}
			_, c := a.open()
			d, err := c.GetFirstDevice(ctx)
			if err != nil {
				t.Fatal(err)
			}
			last, err := d.PreKeys.GenOnePreKey(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // it can be repeated
				if err := transfer.MakeSafe(ctx, b.end()); err != nil {
					t.Fatal(err)
				}
			}
			if err := transfer.Safe(ctx, b.end()); err != nil {
				t.Fatal(err)
			}
			if old, err := transfer.IsRewound(ctx, b.end()); err != nil || old {
				t.Errorf("marked after it was made safe: %v", err)
			}
			gone := func(line string) bool {
				return strings.HasPrefix(line, "session ") || strings.HasPrefix(line, "sender key ") || strings.HasPrefix(line, "pre-key")
			}
			keep := func(all []string) []string { return slices.DeleteFunc(slices.Clone(all), gone) }
			now := rows(t, b.end())
			same(t, "what is kept", keep(now), keep(was))
			report, err := transfer.Check(ctx, b.end())
			if err != nil || len(report.Wrong) > 0 {
				t.Errorf("check: %q, %v", report.Wrong, err)
			}
			for kind, want := range map[transfer.Kind]int{transfer.KindSession: 0, transfer.KindSenderKey: 0} {
				if n := report.Rows[kind].Count; n != want || sum[kind].Count == 0 {
					t.Errorf("%s: %d are left of %d", kind, n, sum[kind].Count)
				}
			}
			// The pre-keys themselves are there, for what is on its way.
			for _, line := range was {
				if strings.HasPrefix(line, "pre-key {") && !slices.Contains(now, line) {
					t.Errorf("lost: %.60s", line)
				}
			}
			_, c = b.open()
			if d, err = c.GetFirstDevice(ctx); err != nil {
				t.Fatal(err)
			}
			next, err := d.PreKeys.GenOnePreKey(ctx)
			if err != nil || next.KeyID < last.KeyID+10_000 {
				t.Errorf("the next pre-key is %d after %d: %v", next.KeyID, last.KeyID, err)
			}
			if _, err := transfer.Restore(ctx, a.end(), b.end()); !errors.As(err, new(transfer.Refusal)) {
				t.Errorf("into a store with a device: %v", err)
			}
		})
	}
}

// A restore that was cut short leaves a store that is not used, and is made again.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	a, b := file(t), file(t)
	ctx := t.Context()
	fill(t, a, 7, 2)
	was := rows(t, a.end())
	kills := 0
	for survived, k := false, 1; !survived; k++ {
		for _, done := range []bool{false, true} {
			calls := k
			to := b.end()
			to.Store = dying{to.Store, &calls, done}
			_, err := transfer.Restore(ctx, a.end(), to)
			if survived = err == nil; survived {
				break
			}
			if !errors.Is(err, errDead) {
				t.Fatalf("killed at call %d: %v", k, err)
			}
			kills++
			old, err := transfer.IsRewound(ctx, b.end())
			if err != nil {
				t.Fatal(err)
			}
			if has, err := transfer.HasDevice(ctx, b.end()); err != nil || has && !old && transfer.Usable(ctx, b.end()) == nil {
				t.Fatalf("killed at call %d: the old state may be used as it is: %v", k, err)
			}
			if transfer.Usable(ctx, b.end()) == nil && old { // it was complete
				if err := transfer.Forget(ctx, b.end()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	same(t, "the restored rows", rows(t, b.end()), was)
	if kills < 10 {
		t.Errorf("only %d kills", kills)
	}
}
