package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	"pgregory.net/rapid"
)

// Compare makes random calls of every method on the reference and on another device store, and compares what they
// answer: values, zero values, order, and whether there is an error.
func Compare(t *testing.T, other Container) {
	everyMethodIsDrawn(t)
	ref := Reference(t)
	names, signal := slices.Sorted(maps.Keys(methods)), slices.Sorted(maps.Keys(signalMethods))
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		number := fmt.Sprint(1000 + run) // each run has a device of its own
		p := &twins{T: rt, ctx: t.Context(), run: run}
		for i, c := range []Container{ref, other} {
			p.both[i] = &twin{c: c, d: Pair(t, c, number)}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"call": func(rt *rapid.T) {
				name := rapid.SampledFrom(names).Draw(rt, "method")
				p.same(rt, name, methods[name](p, rt))
			},
			"decryption": func(rt *rapid.T) {
				fails := rapid.Bool().Draw(rt, "fails")
				calls := make([]call, rapid.IntRange(1, 5).Draw(rt, "calls"))
				for i := range calls {
					calls[i] = signalMethods[rapid.SampledFrom(signal).Draw(rt, "method")](p, rt)
				}
				p.same(rt, "DoDecryptionTxn", func(ctx context.Context, t *twin) string {
					var inside string
					err := t.d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
						for _, c := range calls {
							inside += c(ctx, t) + "; "
						}
						if fails {
							return errors.New("does not decrypt")
						}
						return nil
					})
					return outcome(inside, err)
				})
			},
			"delete and pair again": func(rt *rapid.T) {
				if rapid.IntRange(0, 9).Draw(rt, "really") > 0 {
					rt.Skip("that would leave the other calls with empty devices")
				}
				p.same(rt, "DeleteDevice", func(ctx context.Context, tw *twin) string {
					err := tw.c.DeleteDevice(ctx, tw.d)
					there, err2 := tw.c.GetDevice(ctx, *tw.d.ID)
					tw.d = Pair(t, tw.c, number)
					return outcome(there == nil, errors.Join(err, err2))
				})
			},
		})
	})
}

// everyMethodIsDrawn checks that no method of whatsmeow's stores is left out.
func everyMethodIsDrawn(t *testing.T) {
	drawn := map[string]bool{"DoDecryptionTxn": true, "DeleteDevice": true}
	for _, some := range []map[string]draw{methods, signalMethods} {
		for name := range some {
			drawn[name] = true
		}
	}
	for _, stores := range []reflect.Type{reflect.TypeFor[store.AllStores](), reflect.TypeFor[store.DeviceContainer](), reflect.TypeFor[Container]()} {
		for i := range stores.NumMethod() {
			if name := stores.Method(i).Name; !drawn[name] && name != "NewDevice" { // of which each run makes two
				t.Errorf("%s is not compared", name)
			}
		}
	}
}

// twins are devices of the same number in the two stores.
type twins struct {
	*rapid.T
	ctx  context.Context
	run  int
	both [2]*twin
}

type twin struct {
	c Container
	d *store.Device
	// made are the pre-keys in the order they were made. Their IDs may differ between the twins, as the reference gives one
	// out again.
	made []*keys.PreKey
}

// call is a call on a device, with what came of it as text.
type call func(ctx context.Context, t *twin) string

// draw draws the arguments of a call.
type draw func(p *twins, rt *rapid.T) call

func (p *twins) same(rt *rapid.T, name string, c call) {
	if want, got := c(p.ctx, p.both[0]), c(p.ctx, p.both[1]); got != want {
		rt.Fatalf("%s: got %s, want %s", name, got, want)
	}
}

func outcome(value any, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%+v", value)
}

func drawAddress(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"1:0", "1:1", "11:0", "9_1:0", "9_1:1"}).Draw(rt, "address")
}

func drawUser(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"1", "11", "9_1", "404"}).Draw(rt, "user")
}

func drawByte(rt *rapid.T) byte { return rapid.ByteRange(1, 4).Draw(rt, "value") }

func drawText(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"", "Ann", "Bob"}).Draw(rt, "text")
}

func drawTime(rt *rapid.T) time.Time {
	return time.Unix(rapid.Int64Range(1, 5).Draw(rt, "time"), 0)
}

// pn and lid are one of the people of this run, as the LID map is shared by all devices.
func (p *twins) pn(rt *rapid.T) types.JID {
	return pn(fmt.Sprint(p.run, rapid.IntRange(1, 3).Draw(rt, "who")))
}

func (p *twins) lid(rt *rapid.T) types.JID {
	return lid(fmt.Sprint(p.run, rapid.IntRange(1, 3).Draw(rt, "hidden")))
}

func (p *twins) person(rt *rapid.T) types.JID {
	if rapid.Bool().Draw(rt, "by LID") {
		return p.lid(rt)
	}
	return p.pn(rt)
}

// index is the place of a pre-key among those made, to which it is added where it is new.
func (t *twin) index(k *keys.PreKey) int {
	if k == nil {
		return -1
	}
	i := slices.IndexFunc(t.made, func(o *keys.PreKey) bool { return *o.Priv == *k.Priv })
	if i < 0 {
		i = len(t.made)
		t.made = append(t.made, k)
	}
	return i
}

// preKey calls f with a pre-key that was made and is still there.
func (p *twins) preKey(rt *rapid.T, f func(ctx context.Context, t *twin, id uint32) string) call {
	n := rapid.IntRange(0, 9).Draw(rt, "pre-key")
	return func(ctx context.Context, t *twin) string {
		if n >= len(t.made) {
			return "not made"
		}
		id := t.made[n].KeyID
		k, err := t.d.PreKeys.GetPreKey(ctx, id)
		if err != nil || k == nil || *k.Priv != *t.made[n].Priv {
			return outcome("gone", err)
		}
		return f(ctx, t, id)
	}
}

// signalMethods are what a decryption may call; methods has them too.
var signalMethods = map[string]draw{
	"PutIdentity": func(_ *twins, rt *rapid.T) call {
		address, k := drawAddress(rt), key(drawByte(rt))
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Identities.PutIdentity(ctx, address, k))
		}
	},
	"IsTrustedIdentity": func(_ *twins, rt *rapid.T) call {
		address, k := drawAddress(rt), key(drawByte(rt))
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.Identities.IsTrustedIdentity(ctx, address, k)
			return outcome(v, err)
		}
	},
	"DeleteIdentity": func(_ *twins, rt *rapid.T) call {
		address := drawAddress(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Identities.DeleteIdentity(ctx, address))
		}
	},
	"GetSession": func(_ *twins, rt *rapid.T) call {
		address := drawAddress(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.Sessions.GetSession(ctx, address)
			return outcome([]any{string(v), v == nil}, err)
		}
	},
	"HasSession": func(_ *twins, rt *rapid.T) call {
		address := drawAddress(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.Sessions.HasSession(ctx, address)
			return outcome(v, err)
		}
	},
	"PutSession": func(_ *twins, rt *rapid.T) call {
		address, n := drawAddress(rt), drawByte(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Sessions.PutSession(ctx, address, Session(n)))
		}
	},
	"DeleteSession": func(_ *twins, rt *rapid.T) call {
		address := drawAddress(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Sessions.DeleteSession(ctx, address))
		}
	},
	"GetManySessions": func(_ *twins, rt *rapid.T) call {
		addresses := rapid.SampledFrom([][]string{nil, {drawAddress(rt), "1:0", "404:0"}, {"1:0", "1:0"}}).Draw(rt, "addresses")
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.Sessions.GetManySessions(ctx, addresses)
			return outcome([]any{v, v == nil}, err)
		}
	},
	"PutSenderKey": func(_ *twins, rt *rapid.T) call {
		address, n := drawAddress(rt), drawByte(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.SenderKeys.PutSenderKey(ctx, "g@g.us", address, []byte{n}))
		}
	},
	"GetSenderKey": func(_ *twins, rt *rapid.T) call {
		group, address := rapid.SampledFrom([]string{"g@g.us", "g@g.us", "404@g.us"}).Draw(rt, "group"), drawAddress(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.SenderKeys.GetSenderKey(ctx, group, address)
			return outcome([]any{v, v == nil}, err)
		}
	},
	"GetPreKey": func(p *twins, rt *rapid.T) call {
		if rapid.Bool().Draw(rt, "missing") {
			return func(ctx context.Context, t *twin) string {
				k, err := t.d.PreKeys.GetPreKey(ctx, 1<<24-1)
				return outcome(k == nil, err)
			}
		}
		return p.preKey(rt, func(ctx context.Context, t *twin, id uint32) string {
			k, err := t.d.PreKeys.GetPreKey(ctx, id)
			return outcome(t.index(k), err)
		})
	},
	"RemovePreKey": func(p *twins, rt *rapid.T) call {
		if rapid.IntRange(0, 4).Draw(rt, "missing") == 0 {
			return func(ctx context.Context, t *twin) string {
				return outcome(nil, t.d.PreKeys.RemovePreKey(ctx, 1<<24-1))
			}
		}
		return p.preKey(rt, func(ctx context.Context, t *twin, id uint32) string {
			return outcome(nil, t.d.PreKeys.RemovePreKey(ctx, id))
		})
	},
	"GetBufferedEvent": func(_ *twins, rt *rapid.T) call {
		n := drawByte(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.EventBuffer.GetBufferedEvent(ctx, key(n))
			if v == nil {
				return outcome(nil, err)
			}
			return outcome([]any{v.Plaintext, v.Plaintext == nil, v.ServerTime.Unix()}, err)
		}
	},
	"PutBufferedEvent": func(_ *twins, rt *rapid.T) call {
		n, text := drawByte(rt), "text "+drawText(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.EventBuffer.GetBufferedEvent(ctx, key(n))
			if err != nil || v != nil { // a second one ends the reference's transaction
				return outcome("there", err)
			}
			return outcome(nil, t.d.EventBuffer.PutBufferedEvent(ctx, key(n), []byte(text), time.Unix(int64(n), 0)))
		}
	},
}

func init() { maps.Copy(methods, signalMethods) }

// methods are all others.
var methods = map[string]draw{
	"DeleteAllIdentities": func(_ *twins, rt *rapid.T) call {
		user := drawUser(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Identities.DeleteAllIdentities(ctx, user))
		}
	},
	"DeleteAllSessions": func(_ *twins, rt *rapid.T) call {
		user := drawUser(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Sessions.DeleteAllSessions(ctx, user))
		}
	},
	"PutManySessions": func(_ *twins, rt *rapid.T) call {
		sessions := rapid.MapOfN(rapid.SampledFrom([]string{"1:0", "1:1", "9_1:0"}), rapid.ByteRange(1, 4), 0, 3).Draw(rt, "sessions")
		return func(ctx context.Context, t *twin) string {
			all := make(map[string][]byte)
			for address, n := range sessions {
				all[address] = Session(n)
			}
			return outcome(nil, t.d.Sessions.PutManySessions(ctx, all))
		}
	},
	"MigratePNToLID": func(_ *twins, rt *rapid.T) call {
		from, to := pn(rapid.SampledFrom([]string{"1", "11"}).Draw(rt, "from")), lid(rapid.SampledFrom([]string{"9", "8"}).Draw(rt, "to"))
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Sessions.MigratePNToLID(ctx, from, to))
		}
	},
	"GetOrGenPreKeys": func(_ *twins, rt *rapid.T) call {
		n := rapid.Uint32Range(1, 4).Draw(rt, "count")
		return func(ctx context.Context, t *twin) string {
			list, err := t.d.PreKeys.GetOrGenPreKeys(ctx, n)
			if !slices.IsSortedFunc(list, func(a, b *keys.PreKey) int { return int(a.KeyID) - int(b.KeyID) }) {
				return "not in order"
			}
			var all []int
			for _, k := range list {
				all = append(all, t.index(k))
			}
			return outcome(all, err)
		}
	},
	"GenOnePreKey": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			k, err := t.d.PreKeys.GenOnePreKey(ctx)
			return outcome(t.index(k), err)
		}
	},
	"MarkPreKeysAsUploaded": func(p *twins, rt *rapid.T) call {
		return p.preKey(rt, func(ctx context.Context, t *twin, id uint32) string {
			return outcome(nil, t.d.PreKeys.MarkPreKeysAsUploaded(ctx, id))
		})
	},
	"UploadedPreKeyCount": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			n, err := t.d.PreKeys.UploadedPreKeyCount(ctx)
			return outcome(n, err)
		}
	},
	"PutAppStateSyncKey": func(_ *twins, rt *rapid.T) call {
		id, data := drawByte(rt), drawByte(rt)
		at := 10*drawTime(rt).Unix() + int64(id) // never two keys of one time, whose order is open
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.AppStateKeys.PutAppStateSyncKey(ctx, []byte{id}, store.AppStateSyncKey{Data: []byte{data}, Fingerprint: []byte{data, 1}, Timestamp: at}))
		}
	},
	"GetAppStateSyncKey": func(_ *twins, rt *rapid.T) call {
		id := drawByte(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.AppStateKeys.GetAppStateSyncKey(ctx, []byte{id})
			if v == nil {
				return outcome(nil, err)
			}
			return outcome(*v, err)
		}
	},
	"GetLatestAppStateSyncKeyID": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.AppStateKeys.GetLatestAppStateSyncKeyID(ctx)
			return outcome([]any{v, v == nil}, err)
		}
	},
	"GetAllAppStateSyncKeys": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			list, err := t.d.AppStateKeys.GetAllAppStateSyncKeys(ctx)
			var all []store.AppStateSyncKey
			for _, k := range list {
				all = append(all, *k)
			}
			return outcome(all, err)
		}
	},
	"PutAppStateVersion": func(_ *twins, rt *rapid.T) call {
		version := uint64(drawByte(rt))
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.AppState.PutAppStateVersion(ctx, "n", version, [128]byte{byte(version)}))
		}
	},
	"GetAppStateVersion": func(_ *twins, rt *rapid.T) call {
		name := rapid.SampledFrom([]string{"n", "n", "missing"}).Draw(rt, "name")
		return func(ctx context.Context, t *twin) string {
			v, hash, err := t.d.AppState.GetAppStateVersion(ctx, name)
			return outcome([]any{v, hash}, err)
		}
	},
	"DeleteAppStateVersion": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.AppState.DeleteAppStateVersion(ctx, "n"))
		}
	},
	"PutAppStateMutationMACs": func(_ *twins, rt *rapid.T) call {
		version, indexes := uint64(drawByte(rt)), rapid.SliceOfN(rapid.ByteRange(1, 4), 0, 3).Draw(rt, "indexes")
		return func(ctx context.Context, t *twin) string {
			var macs []store.AppStateMutationMAC
			for _, n := range indexes {
				index, value := key(n), key(byte(version))
				macs = append(macs, store.AppStateMutationMAC{IndexMAC: index[:], ValueMAC: value[:]})
			}
			return outcome(nil, t.d.AppState.PutAppStateMutationMACs(ctx, "n", version, macs))
		}
	},
	"DeleteAppStateMutationMACs": func(_ *twins, rt *rapid.T) call {
		indexes := rapid.SliceOfN(rapid.ByteRange(1, 4), 0, 3).Draw(rt, "indexes")
		return func(ctx context.Context, t *twin) string {
			var all [][]byte
			for _, n := range indexes {
				index := key(n)
				all = append(all, index[:])
			}
			return outcome(nil, t.d.AppState.DeleteAppStateMutationMACs(ctx, "n", all))
		}
	},
	"GetAppStateMutationMAC": func(_ *twins, rt *rapid.T) call {
		index := key(drawByte(rt))
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.AppState.GetAppStateMutationMAC(ctx, "n", index[:])
			return outcome([]any{v, v == nil}, err)
		}
	},
	"PutPushName": func(p *twins, rt *rapid.T) call {
		who, name := p.person(rt), drawText(rt)
		return func(ctx context.Context, t *twin) string {
			changed, old, err := t.d.Contacts.PutPushName(ctx, who, name)
			return outcome([]any{changed, old}, err)
		}
	},
	"PutBusinessName": func(p *twins, rt *rapid.T) call {
		who, name := p.person(rt), drawText(rt)
		return func(ctx context.Context, t *twin) string {
			changed, old, err := t.d.Contacts.PutBusinessName(ctx, who, name)
			return outcome([]any{changed, old}, err)
		}
	},
	"PutContactName": func(p *twins, rt *rapid.T) call {
		who, name := p.person(rt), drawText(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Contacts.PutContactName(ctx, who, name, name+"!"))
		}
	},
	"PutAllContactNames": func(p *twins, rt *rapid.T) call {
		who, name, second := p.person(rt), drawText(rt), p.person(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Contacts.PutAllContactNames(ctx, []store.ContactEntry{{JID: who, FirstName: name}, {JID: who, FullName: "x"}, {JID: second, FullName: "y"}}))
		}
	},
	"PutManyRedactedPhones": func(p *twins, rt *rapid.T) call {
		who, number := p.person(rt), drawText(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.Contacts.PutManyRedactedPhones(ctx, []store.RedactedPhoneEntry{{JID: who, RedactedPhone: number}}))
		}
	},
	"GetContact": func(p *twins, rt *rapid.T) call {
		who := p.person(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.Contacts.GetContact(ctx, who)
			return outcome(v, err)
		}
	},
	"GetAllContacts": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.Contacts.GetAllContacts(ctx)
			return outcome(v, err)
		}
	},
	"PutMutedUntil": func(p *twins, rt *rapid.T) call {
		who, at := p.person(rt), rapid.SampledFrom([]time.Time{{}, store.MutedForever, time.Unix(5, 0)}).Draw(rt, "until")
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.ChatSettings.PutMutedUntil(ctx, who, at))
		}
	},
	"PutPinned": func(p *twins, rt *rapid.T) call {
		who, on := p.person(rt), rapid.Bool().Draw(rt, "on")
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.ChatSettings.PutPinned(ctx, who, on))
		}
	},
	"PutArchived": func(p *twins, rt *rapid.T) call {
		who, on := p.person(rt), rapid.Bool().Draw(rt, "on")
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.ChatSettings.PutArchived(ctx, who, on))
		}
	},
	"GetChatSettings": func(p *twins, rt *rapid.T) call {
		who := p.person(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.ChatSettings.GetChatSettings(ctx, who)
			return outcome([]any{v.Found, v.Pinned, v.Archived, v.MutedUntil.IsZero(), v.MutedUntil.Equal(store.MutedForever), v.MutedUntil.Unix()}, err)
		}
	},
	"PutMessageSecret": func(p *twins, rt *rapid.T) call {
		who, m := p.drawSecret(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.MsgSecrets.PutMessageSecret(ctx, m.Chat, who, m.ID, m.Secret))
		}
	},
	"PutMessageSecrets": func(p *twins, rt *rapid.T) call {
		var all []store.MessageSecretInsert
		for range rapid.IntRange(0, 2).Draw(rt, "secrets") {
			_, m := p.drawSecret(rt)
			all = append(all, m)
		}
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.MsgSecrets.PutMessageSecrets(ctx, slices.Clone(all)))
		}
	},
	"GetMessageSecret": func(p *twins, rt *rapid.T) call {
		who, m := p.drawSecret(rt)
		if strings.HasPrefix(m.ID, "alias") {
			who, m.Chat = p.person(rt), p.person(rt)
		}
		return func(ctx context.Context, t *twin) string {
			secret, sender, err := t.d.MsgSecrets.GetMessageSecret(ctx, m.Chat, who, m.ID)
			if strings.HasPrefix(m.ID, "alias") {
				sender = types.JID{Server: fmt.Sprint(sender.IsEmpty())} // of the names that match any may be given
			}
			return outcome([]any{string(secret), secret == nil, sender}, err)
		}
	},
	"PutPrivacyTokens": func(p *twins, rt *rapid.T) call {
		token := store.PrivacyToken{User: p.person(rt), Token: []byte(drawText(rt) + "t"), Timestamp: p.tokenTime(rt)}
		if token.User.Server == types.HiddenUserServer {
			token.Timestamp = token.Timestamp.Add(time.Second) // never as new as that of the other name
		}
		if rapid.Bool().Draw(rt, "sent") {
			token.SenderTimestamp = drawTime(rt)
		}
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.PrivacyTokens.PutPrivacyTokens(ctx, token))
		}
	},
	"GetPrivacyToken": func(p *twins, rt *rapid.T) call {
		who := p.person(rt)
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.PrivacyTokens.GetPrivacyToken(ctx, who)
			if v == nil {
				return outcome(nil, err)
			}
			return outcome([]any{v.User, string(v.Token), v.Timestamp.Unix(), v.SenderTimestamp.Unix()}, err)
		}
	},
	"DeleteExpiredPrivacyTokens": func(p *twins, rt *rapid.T) call {
		cutoff := p.tokenTime(rt)
		return func(ctx context.Context, t *twin) string {
			n, err := t.d.PrivacyTokens.DeleteExpiredPrivacyTokens(ctx, cutoff)
			return outcome(n, err)
		}
	},
	"PutNCTSalt": func(_ *twins, rt *rapid.T) call {
		n := drawByte(rt)
		return func(ctx context.Context, t *twin) string { return outcome(nil, t.d.NCTSalt.PutNCTSalt(ctx, []byte{n})) }
	},
	"GetNCTSalt": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.NCTSalt.GetNCTSalt(ctx)
			return outcome([]any{v, v == nil}, err)
		}
	},
	"DeleteNCTSalt": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string { return outcome(nil, t.d.NCTSalt.DeleteNCTSalt(ctx)) }
	},
	"ClearBufferedEventPlaintext": func(_ *twins, rt *rapid.T) call {
		n := drawByte(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.EventBuffer.ClearBufferedEventPlaintext(ctx, key(n)))
		}
	},
	"DeleteOldBufferedHashes": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.EventBuffer.DeleteOldBufferedHashes(ctx))
		}
	},
	"AddOutgoingEvent": func(p *twins, rt *rapid.T) call {
		chat, id, n := p.pn(rt), drawText(rt), drawByte(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.EventBuffer.AddOutgoingEvent(ctx, chat, "M"+id, fmt.Sprint("format ", n), []byte{n}))
		}
	},
	"GetOutgoingEvent": func(p *twins, rt *rapid.T) call {
		chat, alt, id := p.pn(rt), types.JID{}, drawText(rt)
		if rapid.Bool().Draw(rt, "by the other name") {
			chat, alt = lid("404"), chat
		}
		return func(ctx context.Context, t *twin) string {
			format, data, err := t.d.EventBuffer.GetOutgoingEvent(ctx, chat, alt, "M"+id)
			return outcome([]any{format, data}, err)
		}
	},
	"DeleteOldOutgoingEvents": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.EventBuffer.DeleteOldOutgoingEvents(ctx))
		}
	},
	"PutLIDMapping": func(p *twins, rt *rapid.T) call {
		hidden, number := p.lid(rt), p.pn(rt)
		if rapid.IntRange(0, 9).Draw(rt, "wrong") == 0 {
			hidden = number
		}
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.LIDs.PutLIDMapping(ctx, hidden, number))
		}
	},
	"PutManyLIDMappings": func(p *twins, rt *rapid.T) call {
		hidden, number := p.lid(rt), p.pn(rt)
		return func(ctx context.Context, t *twin) string {
			return outcome(nil, t.d.LIDs.PutManyLIDMappings(ctx, []store.LIDMapping{{LID: number, PN: hidden}, {LID: hidden, PN: number}, {LID: hidden, PN: number}}))
		}
	},
	"GetLIDForPN": func(p *twins, rt *rapid.T) call {
		who := p.person(rt) // at times by LID, which is an error
		who.Device = uint16(drawByte(rt))
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.LIDs.GetLIDForPN(ctx, who)
			return outcome(v, err)
		}
	},
	"GetPNForLID": func(p *twins, rt *rapid.T) call {
		who := p.person(rt)
		who.Device = uint16(drawByte(rt))
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.LIDs.GetPNForLID(ctx, who)
			return outcome(v, err)
		}
	},
	"GetManyLIDsForPNs": func(p *twins, rt *rapid.T) call {
		all := []types.JID{p.pn(rt), p.pn(rt), p.pn(rt), pn("404")}
		all[1].Device = 3
		all = all[:rapid.IntRange(0, 4).Draw(rt, "number")]
		return func(ctx context.Context, t *twin) string {
			v, err := t.d.LIDs.GetManyLIDsForPNs(ctx, slices.Clone(all))
			return outcome(v, err)
		}
	},
	"PutDevice": func(_ *twins, rt *rapid.T) call {
		name, business, unsaved := drawText(rt), drawText(rt), rapid.IntRange(0, 4).Draw(rt, "without a JID") == 0
		moved := drawTime(rt).Unix()
		return func(ctx context.Context, t *twin) string {
			if unsaved {
				return outcome(nil, t.c.PutDevice(ctx, t.c.NewDevice()))
			}
			t.d.PushName, t.d.BusinessName, t.d.LIDMigrationTimestamp, t.d.Platform, t.d.CompanionMetaNonce = name, business, moved, name+"p", business+"n"
			// Of a device that is there only the names change.
			changed := *t.d
			changed.RegistrationID, changed.NoiseKey, changed.AdvSecretKey = 7, keys.NewKeyPair(), []byte("another")
			return outcome(nil, t.c.PutDevice(ctx, &changed))
		}
	},
	"GetDevice": func(_ *twins, rt *rapid.T) call {
		missing := rapid.IntRange(0, 4).Draw(rt, "missing") == 0
		return func(ctx context.Context, t *twin) string {
			jid := *t.d.ID
			if missing {
				jid.Device++
			}
			d, err := t.c.GetDevice(ctx, jid)
			if d == nil {
				return outcome(nil, err)
			}
			return outcome(t.describe(d), err)
		}
	},
	"GetAllDevices": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			list, err := t.c.GetAllDevices(ctx)
			i := slices.IndexFunc(list, func(d *store.Device) bool { return *d.ID == *t.d.ID })
			if i < 0 {
				return outcome(nil, err)
			}
			return outcome([]any{len(list), t.describe(list[i])}, err)
		}
	},
	"GetFirstDevice": func(_ *twins, _ *rapid.T) call {
		return func(ctx context.Context, t *twin) string {
			d, err := t.c.GetFirstDevice(ctx)
			return outcome(d != nil && d.ID != nil, err)
		}
	},
}

// describe says what there is of a device, and whether it has the keys it was paired with.
func (t *twin) describe(d *store.Device) string {
	same := *d.NoiseKey.Priv == *t.d.NoiseKey.Priv && *d.IdentityKey.Priv == *t.d.IdentityKey.Priv && d.RegistrationID == t.d.RegistrationID &&
		string(d.AdvSecretKey) == string(t.d.AdvSecretKey) && *d.SignedPreKey.Priv == *t.d.SignedPreKey.Priv && *d.SignedPreKey.Signature == *t.d.SignedPreKey.Signature
	return fmt.Sprint(d.ID, d.LID, d.PushName, d.BusinessName, d.Platform, d.LIDMigrationTimestamp, d.CompanionMetaNonce, d.Account.String(), d.Initialized, same)
}

// drawSecret draws a message secret and its sender. That of an "own" message is always looked for by the names that it was stored
// with; the secrets of an "alias" are all the same, as of several that match any may be given.
func (p *twins) drawSecret(rt *rapid.T) (types.JID, store.MessageSecretInsert) {
	if rapid.Bool().Draw(rt, "own") {
		who := pn(fmt.Sprint(p.run, "9"))
		who.Device = uint16(drawByte(rt))
		return who, store.MessageSecretInsert{Chat: types.NewJID("5", types.GroupServer), Sender: who, ID: "own", Secret: []byte{drawByte(rt)}}
	}
	who := p.person(rt)
	return who, store.MessageSecretInsert{Chat: who, Sender: who, ID: "alias", Secret: []byte("same")}
}

// tokenTime is an odd second of this run: the tokens of a device outlive it.
func (p *twins) tokenTime(rt *rapid.T) time.Time { return time.Unix(2*drawTime(rt).Unix()+1, 0) }
