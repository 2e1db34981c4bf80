package baileys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/libsignal/logger"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"wabot/internal/mongotest"
	"wabot/internal/sqlitestore"
	"wabot/internal/transfer"
)

// libsignal makes its logger at the first use, unguarded, and the tests here check signatures at the same time.
func init() { logger.Debug("baileys") }

// The folders in testdata were written by Baileys 6.7.24 and 7.0.0-rc14, which chatted in a simulated WhatsApp with
// two people, one of them in a group too. All but a few of the pre-keys were taken away.

func readFolder(t *testing.T, dir string) entries {
	t.Helper()
	in, err := folder(dir).read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func convertFolder(t *testing.T, dir string) Session {
	t.Helper()
	s, err := convert(readFolder(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rowsOf are the rows of a type.
func rowsOf[R transfer.Row](s Session) (all []R) {
	for _, r := range s.Rows {
		if r, ok := r.(R); ok {
			all = append(all, r)
		}
	}
	return all
}

func TestConvert(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		dir      string
		jid, lid string
		sessions []string
		keys     []string // of senders in the group
		lids     []transfer.LID
		versions int
		next     int64
	}{{
		dir: "testdata/baileys6", jid: "4915394892470:1@s.whatsapp.net", lid: "200000000007919:1@lid",
		// The phone's session by number and the one by LID are one person's.
		sessions: []string{"200000000007919_1:0", "200000000007919_1:1", "200000000015838_1:0", "200000000023757_1:0"},
		keys:     []string{"200000000007919_1:1", "200000000015838_1:0"},
		lids:     []transfer.LID{{LID: "200000000007919", PN: "4915394892470"}},
		next:     31,
	}, {
		dir: "testdata/baileys7", jid: "4915077620763:1@s.whatsapp.net", lid: "200000000007919:1@lid",
		sessions: []string{"200000000007919_1:0", "200000000007919_1:1", "200000000015838_1:0", "200000000023757_1:0"},
		keys:     []string{"200000000007919_1:1", "200000000015838_1:0"},
		lids: []transfer.LID{
			{LID: "200000000007919", PN: "4915077620763"}, {LID: "200000000023757", PN: "4915242184135"}, {LID: "200000000015838", PN: "4915890936328"},
		},
		versions: 1, next: 813,
	}} {
		t.Run(row.dir, func(t *testing.T) {
			t.Parallel()
			s := convertFolder(t, row.dir)
			d := s.Rows[0].(transfer.Device)
			if d.JID != row.jid || d.LID != row.lid || d.PushName != "owner" || d.Platform != "android" || d.SignedPreKeyID != 1 || d.PairedAt().IsZero() {
				t.Errorf("the device is %+v", d)
			}
			var sessions, keys []string
			for _, r := range rowsOf[transfer.Session](s) {
				sessions = append(sessions, r.Address)
			}
			for _, r := range rowsOf[transfer.SenderKey](s) {
				keys = append(keys, r.Sender)
			}
			slices.Sort(sessions)
			slices.Sort(keys)
			if !slices.Equal(sessions, row.sessions) || !slices.Equal(keys, row.keys) {
				t.Errorf("sessions with %q, sender keys of %q", sessions, keys)
			}
			if got := rowsOf[transfer.LID](s); !slices.EqualFunc(got, row.lids, func(a, b transfer.LID) bool {
				return slices.Contains(got, b) && slices.Contains(row.lids, a)
			}) {
				t.Errorf("LIDs %v", got)
			}
			if n := len(rowsOf[transfer.Version](s)); n != row.versions || len(rowsOf[transfer.MAC](s)) != n || len(rowsOf[transfer.SyncKey](s)) != 1 {
				t.Errorf("%d versions, %d MACs, %d keys", n, len(rowsOf[transfer.MAC](s)), len(rowsOf[transfer.SyncKey](s)))
			}
			var ids []int64
			for _, k := range rowsOf[transfer.PreKey](s) {
				if ids = append(ids, k.ID); !k.Uploaded {
					t.Errorf("the pre-key %d is not uploaded", k.ID)
				}
			}
			if next := rowsOf[transfer.PreKeyCount](s)[0].Next; !slices.Equal(ids, []int64{3, 4, 5, 6}) || next != row.next+preKeyGap {
				t.Errorf("pre-keys %v, next %d", ids, next)
			}
			for _, c := range s.Counts {
				if len(c.Left) > 0 {
					t.Errorf("%s: left out %v", c.What, c.Left)
				}
			}
		})
	}
}

// with is the creds with a value changed; nil takes it away.
func with(o object, path string, value any) object {
	name, rest, deep := strings.Cut(path, ".")
	var result object
	for _, f := range o {
		switch {
		case f.name != name:
			result = append(result, f)
		case deep:
			result = append(result, field{name, with(f.value.(object), rest, value)})
		case value != nil:
			result = append(result, field{name, value})
		}
	}
	return result
}

// A device that is not whole is refused, and what is missing is named.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	in := readFolder(t, "testdata/baileys7")
	creds := in[credsName].(object)
	other := readFolder(t, "testdata/baileys6")[credsName].(object)
	for _, row := range []struct {
		path  string
		value any
		says  string
	}{
		{"noiseKey", nil, "lack noiseKey"},
		{"noiseKey.private", nil, "noiseKey is missing"},
		{"noiseKey.private", "AAAA", "noiseKey has 3 bytes, not 32"},
		{"noiseKey.private", other.object("noiseKey").get("private"), "noiseKey has a public half that is not its own"},
		{"signedIdentityKey", nil, "lack signedIdentityKey"},
		{"signedIdentityKey", other.get("signedIdentityKey"), "the account has not signed this identity key"},
		{"signedPreKey", nil, "signedPreKey.keyPair, signedPreKey.keyId, signedPreKey.signature"},
		{"signedPreKey", other.get("signedPreKey"), "the signed pre-key is not signed by the identity key"},
		{"registrationId", nil, "lack registrationId"},
		{"registrationId", int64(-1), "registrationId is out of range"},
		{"advSecretKey", nil, "lack advSecretKey"},
		{"account", nil, "account (it was never linked to a phone)"},
		{"account.details", nil, "lack account.details"},
		{"account.details", "AAAA", "the account has not signed this identity key"},
		{"account.deviceSignature", other.object("account").get("deviceSignature"), "the identity key has not signed for this account"},
		{"me", nil, "me.id (it was never linked to a phone)"},
		{"me.id", "4915077620763@s.whatsapp.net", "me.id is not a linked device's address"},
	} {
		in[credsName] = with(creds, row.path, row.value)
		if _, err := convert(in); !errors.As(err, new(transfer.Refusal)) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s = %v: %v", row.path, row.value, err)
		}
	}
	in[credsName] = nil
	if _, err := convert(in); !errors.As(err, new(transfer.Refusal)) {
		t.Errorf("torn creds: %v", err)
	}
}

// What is wrong is left out with its reason, and nothing else is.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	whole := convertFolder(t, "testdata/baileys7")
	for _, row := range []struct {
		name, text string
		what, why  string
	}{
		{"session-200000000015838_1.0", `{"_sessions":{},"version":"v1"}`, "session", "no session is open"},
		{"session-200000000015838_1.0", `null`, "session", "no session is open"},
		{"session-200000000015838_7.0", `null`, "session", "its address cannot be read"},
		{"pre-key-3", `{"private":{"type":"Buffer","data":"AA=="}}`, "pre-key", "it has 1 bytes, not 32"},
		{"pre-key-0", `{}`, "pre-key", "its number cannot be read"},
		{"sender-key-120363000000000001@g.us--200000000015838_1--0", `{"type":"Buffer","data":"W10="}`, "sender key", "it is empty"},
		{"sender-key-x", `{}`, "sender key", "its address cannot be read"},
		{"app-state-sync-key-AAAAAAAB", `{"keyData":"AAAA","timestamp":1}`, "app state key", "it has 3 bytes, not 32"},
		{"app-state-sync-version-critical_block", `{"version":2,"hash":{"type":"Buffer","data":"` + strings.Repeat("AAAA", 42) + `AAA="},"indexValueMap":{"` + strings.Repeat("AAAA", 10) + `AAA=":{"valueMac":"` + strings.Repeat("AAAA", 10) + `AAA="}}}`, "app state version", "it does not add up to its hash"},
		{"app-state-sync-version-other", `{"version":2,"hash":{"type":"Buffer","data":"` + strings.Repeat("AAAA", 42) + `AAA="}}`, "app state version", "its name is not known"},
		{"lid-mapping-4915000000000", `"200000000015838"`, "LID", "the LID belongs to two numbers"},
		{"tctoken-x", `{"token":"AAAA"}`, "privacy token", "its address or time cannot be read"},
		{"something", `{}`, "other thing", "Baileys does not write it"},
	} {
		in := readFolder(t, "testdata/baileys7")
		in[row.name] = parsed(t, []byte(row.text))
		s, err := convert(in)
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		left := 0
		for _, c := range s.Counts {
			for why, n := range c.Left {
				if left += n; c.What != row.what || why != row.why {
					t.Errorf("%s: %d of %s left out: %s", row.name, n, c.What, why)
				}
			}
		}
		if lost := len(whole.Rows) - len(s.Rows); left != 1 || lost > 2 {
			t.Errorf("%s: %d left out, %d rows fewer", row.name, left, lost)
		}
	}
}

// An account without a name fetches it, so that it can show itself online.
func TestNamelessAccount(t *testing.T) {
	t.Parallel()
	in := readFolder(t, "testdata/baileys7")
	in[credsName] = with(in[credsName].(object), "me.name", nil)
	s, err := convert(in)
	if err != nil || len(rowsOf[transfer.Version](s)) != 0 {
		t.Errorf("%v, versions %v", err, rowsOf[transfer.Version](s))
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	in := readFolder(t, "testdata/baileys7")
	in["tctoken-200000000015838@lid"] = parsed(t, []byte(`{"token":{"type":"Buffer","data":"AQID"},"timestamp":"1795487890","senderTimestamp":1795487891}`))
	in["tctoken-200000000023757@lid"] = parsed(t, []byte(`{"token":{"type":"Buffer","data":""},"timestamp":"1"}`))
	s, err := convert(in)
	if err != nil {
		t.Fatal(err)
	}
	tokens := rowsOf[transfer.Token](s)
	if len(tokens) != 1 || tokens[0].JID != "200000000015838@lid" || string(tokens[0].Token) != "\x01\x02\x03" || tokens[0].Time != 1795487890 || *tokens[0].Sent != 1795487891 {
		t.Errorf("tokens %+v", tokens)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"type":"Buffer","data":"AQL/"}`, `{"type":"Buffer","data":[1,2,255]}`, `{"buffer":true,"value":[1,2,255]}`, `[1,2,255]`,
		`{"0":1,"1":2,"2":255}`, `{"2":255,"0":1,"1":2}`, `"AQL/"`, `{"$binary":{"base64":"AQL/","subType":"00"}}`,
	} {
		if b, ok := toBytes(parsed(t, []byte(text))); !ok || string(b) != "\x01\x02\xff" {
			t.Errorf("%s: %x, %v", text, b, ok)
		}
	}
	for _, text := range []string{`null`, `{}`, `{"a":1}`, `[256]`, `[-1]`, `[1.5]`, `{"1":1}`, `{"0":1,"0":2}`, `"???"`, `true`, `{"type":"Buffer"}`} {
		if b, ok := toBytes(parsed(t, []byte(text))); ok {
			t.Errorf("%s: %x", text, b)
		}
	}
}

// FuzzConvert feeds what a damaged or foreign folder may hold.
func FuzzConvert(f *testing.F) {
	for _, dir := range []string{"testdata/baileys6", "testdata/baileys7"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(strings.TrimSuffix(filepath.Base(path), ".json"), text)
		}
	}
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		in, err := folder("testdata/baileys7").read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if in[name], err = parse(text); err != nil {
			return
		}
		s, err := convert(in)
		if err != nil {
			return
		}
		for _, r := range rowsOf[transfer.Session](s) {
			if err := transfer.DecodeSession(r.Record); err != nil {
				t.Error(err)
			}
		}
	})
}

// copyFolder is a session that a test may move.
func copyFolder(t *testing.T, from string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func fileStore(t *testing.T) *sqlitestore.Store {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "session"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// failing fails at a call that changes something, before it is done or after.
type failing struct {
	place
	transfer.Store
	calls, at int
	done      bool
}

var errBroken = errors.New("broken")

func (f *failing) change(do func() error) error {
	if f.calls++; f.calls != f.at {
		return do()
	}
	if f.done {
		if err := do(); err != nil {
			return err
		}
	}
	return errBroken
}

func (f *failing) PutRows(ctx context.Context, rows []transfer.Row) error {
	return f.change(func() error { return f.Store.PutRows(ctx, rows) })
}

func (f *failing) Clear(ctx context.Context) error {
	return f.change(func() error { return f.Store.Clear(ctx) })
}

func (f *failing) SetNote(ctx context.Context, key string, value []byte) error {
	return f.change(func() error { return f.Store.SetNote(ctx, key, value) })
}

func (f *failing) move(ctx context.Context, mark []byte) error {
	return f.change(func() error { return f.place.move(ctx, mark) })
}

// Whatever fails, at no time can both be started, and the command can be repeated.
func TestImportCutShort(t *testing.T) {
	t.Parallel()
	done := false
	for at := 1; !done; at++ {
		for _, after := range []bool{false, true} {
			dir, store := copyFolder(t, "testdata/baileys7"), fileStore(t)
			f := &failing{place: folder(dir), Store: store, at: at, done: after}
			_, err := transfer.Import(t.Context(), &Source{place: f}, transfer.End{Name: transfer.File, Store: f})
			if err == nil {
				done = true
			} else if !errors.Is(err, errBroken) {
				t.Fatalf("call %d: %v", at, err)
			}
			bot := folder(dir).has(credsFile)
			if err := transfer.Usable(t.Context(), store); bot && err == nil && hasDevice(t, store) {
				t.Errorf("call %d (done: %v): both can be started", at, after)
			}
			if done {
				break
			}
			_, err = transfer.Import(t.Context(), Folder(dir), transfer.End{Name: transfer.File, Store: store})
			// Where only the last word of it was lost, it has been done.
			if err != nil && (transfer.Usable(t.Context(), store) != nil || !hasDevice(t, store)) {
				t.Errorf("call %d (done: %v), again: %v", at, after, err)
			}
			if folder(dir).has(credsFile) {
				t.Errorf("call %d (done: %v): the bot can still start", at, after)
			}
		}
	}
}

func hasDevice(t *testing.T, s transfer.Store) bool {
	t.Helper()
	r, err := transfer.Check(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r.Device != nil
}

func TestImportAndGiveBack(t *testing.T) {
	t.Parallel()
	dir, store := copyFolder(t, "testdata/baileys6"), fileStore(t)
	to := transfer.End{Name: transfer.File, Store: store}
	ctx := t.Context()
	refused := func(err error, words string) {
		t.Helper()
		if !errors.As(err, new(transfer.Refusal)) || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	refused(transfer.GiveBack(ctx, Folder(dir), to), "was not taken over")
	if _, err := transfer.Import(ctx, Folder(dir), to); err != nil {
		t.Fatal(err)
	}
	if r, err := transfer.Check(ctx, store); err != nil || len(r.Wrong) > 0 {
		t.Errorf("%v, wrong: %v", err, r.Wrong)
	}
	_, err := transfer.Import(ctx, Folder(dir), to)
	refused(err, "--undo")
	_, err = transfer.Import(ctx, Folder(copyFolder(t, "testdata/baileys7")), to)
	refused(err, "holds a linked device already")
	refused(transfer.GiveBack(ctx, Folder(dir), transfer.End{Name: transfer.File, Store: fileStore(t)}), "did not come from")
	if err := transfer.GiveBack(ctx, Folder(dir), to); err != nil {
		t.Fatal(err)
	}
	if hasDevice(t, store) || !folder(dir).has(credsFile) || folder(dir).has(markFile) || transfer.Usable(ctx, store) != nil {
		t.Error("it was not given back as it was")
	}
	if _, err := transfer.Import(ctx, Folder(dir), to); err != nil {
		t.Fatal(err)
	}
	if err := store.PutRows(ctx, []transfer.Row{transfer.Session{Address: "1:0", Record: []byte("new")}}); err != nil {
		t.Fatal(err)
	}
	refused(transfer.GiveBack(ctx, Folder(dir), to), "wabot has used the session")
	if err := os.Remove(filepath.Join(dir, markFile)); err != nil {
		t.Fatal(err)
	}
	_, err = transfer.Import(ctx, Folder(dir), transfer.End{Name: transfer.File, Store: fileStore(t)})
	refused(err, "was taken over before")
}

// A bot that runs while its session is taken over is noticed.
func TestImportWhileTheBotRuns(t *testing.T) {
	t.Parallel()
	dir, store := copyFolder(t, "testdata/baileys7"), fileStore(t)
	source := Folder(dir)
	if _, err := source.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "session-1.0.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := transfer.Import(t.Context(), source, transfer.End{Name: transfer.File, Store: store})
	if !errors.As(err, new(transfer.Refusal)) || !strings.Contains(err.Error(), "stop it and try again") {
		t.Error(err)
	}
	if !folder(dir).has(credsFile) || transfer.Usable(t.Context(), store) == nil {
		t.Error("the bot cannot go on, or wabot could")
	}
}

// toBSON is what a Node program hands to the driver; with binary, byte strings are BSON's.
func toBSON(v any, binary bool) any {
	switch v := v.(type) {
	case object:
		if b, ok := toBytes(v); ok && binary && len(v) == 2 {
			return bson.Binary{Data: b}
		}
		d := bson.D{}
		for _, f := range v {
			d = append(d, bson.E{Key: f.name, Value: toBSON(f.value, binary)})
		}
		return d
	case []any:
		a := bson.A{}
		for _, e := range v {
			a = append(a, toBSON(e, binary))
		}
		return a
	}
	return v
}

// jsonOf is a stored value as JSON text.
func jsonOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/baileys7", name+".json"))
	if err != nil || !json.Valid(text) {
		t.Fatalf("%s: %v", name, err)
	}
	return string(text)
}

// The same session is the same rows however MongoDB holds it, and it can be moved and given back there.
func TestMongo(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	in := readFolder(t, "testdata/baileys7")
	want := fmt.Sprintf("%v", convertFolder(t, "testdata/baileys7").Rows)
	creds := func(name string) string {
		if name == credsName {
			return "auth_creds"
		}
		return name
	}
	wrap := func(name string, v any) any {
		if name == credsName {
			return bson.D{{Key: "creds", Value: v}}
		}
		return v
	}
	for layout, document := range map[string]func(name string, v any) any{
		"mongo-baileys": func(name string, v any) any {
			d, isDocument := wrap(name, toBSON(v, true)).(bson.D)
			if !isDocument {
				return nil
			}
			return append(bson.D{{Key: "_id", Value: creds(name)}}, d...)
		},
		"baileys-auth-mongo": func(name string, v any) any {
			return bson.D{{Key: "_id", Value: creds(name)}, {Key: "value", Value: wrap(name, toBSON(v, true))}}
		},
		"merged": func(name string, v any) any {
			d := bson.D{{Key: "_id", Value: name}}
			switch v := toBSON(v, false).(type) {
			case bson.D:
				d = append(d, v...)
			case bson.A:
				return nil
			case string: // as {...text} spreads it
				for i, c := range v {
					d = append(d, bson.E{Key: fmt.Sprint(i), Value: string(c)})
				}
			}
			return d
		},
		"text": func(name string, v any) any {
			return bson.D{{Key: "_id", Value: "main_" + creds(name)}, {Key: "data", Value: jsonOf(t, name)}}
		},
		"fields": func(name string, v any) any {
			return bson.D{{Key: "sessionId", Value: "main"}, {Key: "key", Value: name}, {Key: "value", Value: toBSON(v, false)}}
		},
	} {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			c := client.Database(databaseOf(t, url)).Collection(layout)
			var docs []any
			for name, v := range in {
				if d := document(name, v); d != nil {
					docs = append(docs, d)
				}
			}
			if _, err := c.InsertMany(ctx, docs); err != nil {
				t.Fatal(err)
			}
			// Only mongo-baileys loses what is no document.
			same := func(s Session) bool { return fmt.Sprintf("%v", s.Rows) == want }
			open := func() *Source {
				s, err := Mongo(ctx, Options{URL: url, Collection: layout})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				return s
			}
			s, err := open().Load(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if layout == "mongo-baileys" {
				if n := len(rowsOf[transfer.Session](s)); n != 4 || len(rowsOf[transfer.PreKey](s)) != 4 || len(rowsOf[transfer.Version](s)) != 1 {
					t.Errorf("%d sessions, counts %v", n, s.Counts)
				}
			} else if !same(s) {
				t.Errorf("other rows than from the folder: %v", s.Counts)
			}
			before, err := c.CountDocuments(ctx, bson.D{})
			if err != nil {
				t.Fatal(err)
			}
			to := transfer.End{Name: transfer.File, Store: fileStore(t)}
			if _, err := transfer.Import(ctx, open(), to); err != nil {
				t.Fatal(err)
			}
			left, err := c.CountDocuments(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: bson.A{"auth_creds", "creds", "main_auth_creds"}}}}})
			if err != nil || left != 0 {
				t.Errorf("the creds are still where Baileys looks for them (%d, %v)", left, err)
			}
			if _, err := transfer.Import(ctx, open(), to); !errors.As(err, new(transfer.Refusal)) || !strings.Contains(err.Error(), "was taken over") {
				t.Error(err)
			}
			if err := transfer.GiveBack(ctx, open(), to); err != nil {
				t.Fatal(err)
			}
			if n, err := c.CountDocuments(ctx, bson.D{}); err != nil || n != before {
				t.Errorf("%d documents, not %d: %v", n, before, err)
			}
			if again, err := open().Load(ctx); err != nil || fmt.Sprint(again.Rows) != fmt.Sprint(s.Rows) {
				t.Errorf("given back otherwise: %v", err)
			}
		})
	}
}

func databaseOf(t *testing.T, url string) string {
	t.Helper()
	_, rest, _ := strings.Cut(strings.TrimPrefix(url, "mongodb://"), "/")
	name, _, _ := strings.Cut(rest, "?")
	return name
}

func TestMongoRefusals(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), mongotest.New(t)
	refused := func(o Options, words string) {
		t.Helper()
		s, err := Mongo(ctx, o)
		if err == nil {
			t.Cleanup(func() { s.Close() })
			_, err = s.Load(ctx)
		}
		if !errors.As(err, new(transfer.Refusal)) || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	refused(Options{URL: "mongodb://user:sec/ret@host"}, "that is not the address of a MongoDB")
	refused(Options{URL: url}, "there is no collection authState")
	client, err := mongo.Connect(options.Client().ApplyURI(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(context.Background()) })
	c := client.Database(databaseOf(t, url)).Collection(DefaultCollection)
	if _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: "pre-key-1"}}); err != nil {
		t.Fatal(err)
	}
	refused(Options{URL: url}, "no document has the creds")
	for _, id := range []string{"one:creds", "two:creds"} {
		if _, err := c.InsertOne(ctx, bson.D{{Key: "_id", Value: id}, {Key: "value", Value: "{}"}}); err != nil {
			t.Fatal(err)
		}
	}
	refused(Options{URL: url}, "holds 2 sessions; say which")
	refused(Options{URL: url, Session: "one"}, "the session is incomplete")
	refused(Options{URL: url, Session: "three"}, "no document has the creds")
}
