package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"pgregory.net/rapid"
)

// Compare makes random calls on the reference and on another device store, and compares what they
// answer: values, zero values, order, and whether there is an error.
func Compare(t *testing.T, other Container) {
	ref := Reference(t)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		number := fmt.Sprint(1000 + run) // each run has a device of its own
		p := &twins{T: rt, ctx: t.Context(), run: run, a: Pair(t, ref, number), b: Pair(t, other, number)}
		rt.Repeat(map[string]func(*rapid.T){
			"signal": func(rt *rapid.T) { p.both(rt, p.signal(rt)) },
			"decryption": func(rt *rapid.T) {
				fails := rapid.Bool().Draw(rt, "fails")
				calls := make([]call, rapid.IntRange(1, 5).Draw(rt, "calls"))
				for i := range calls {
					calls[i] = p.signal(rt)
				}
				p.both(rt, func(ctx context.Context, d *store.Device) string {
					var inside string
					err := d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
						for _, c := range calls {
							inside += c(ctx, d) + "; "
						}
						if fails {
							return errors.New("does not decrypt")
						}
						return nil
					})
					return outcome(inside, err)
				})
			},
			"people":    func(rt *rapid.T) { p.both(rt, p.people(rt)) },
			"app state": func(rt *rapid.T) { p.both(rt, p.appState(rt)) },
		})
	})
}

// call is a call on a device, with what came of it as text.
type call func(ctx context.Context, d *store.Device) string

type twins struct {
	*rapid.T
	ctx  context.Context
	run  int
	a, b *store.Device
}

func (p *twins) both(rt *rapid.T, c call) {
	want, got := c(p.ctx, p.a), c(p.ctx, p.b)
	if got != want {
		rt.Fatalf("got %s, want %s", got, want)
	}
}

func outcome(value any, err error) string {
	if err != nil {
		return "error"
	}
	return fmt.Sprintf("%+v", value)
}

// signal is a random call on what a decryption may touch.
func (p *twins) signal(rt *rapid.T) call {
	address := rapid.SampledFrom([]string{"1:0", "1:1", "11:0", "9_1:0", "9_1:1"}).Draw(rt, "address")
	n := rapid.ByteRange(1, 4).Draw(rt, "value")
	switch rapid.IntRange(0, 10).Draw(rt, "call") {
	case 0:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.Identities.PutIdentity(ctx, address, key(n)))
		}
	case 1:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.Identities.IsTrustedIdentity(ctx, address, key(n))
			return outcome(v, err)
		}
	case 2:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.Identities.DeleteIdentity(ctx, address))
		}
	case 3:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.Sessions.GetSession(ctx, address)
			return outcome(string(v), err)
		}
	case 4:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.Sessions.HasSession(ctx, address)
			return outcome(v, err)
		}
	case 5:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.Sessions.PutSession(ctx, address, Session(n)))
		}
	case 6:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.Sessions.DeleteSession(ctx, address))
		}
	case 7:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.Sessions.GetManySessions(ctx, []string{address, "1:0", "404:0"})
			return outcome(v, err)
		}
	case 8:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.SenderKeys.PutSenderKey(ctx, "g@g.us", address, []byte{n}))
		}
	case 9:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.SenderKeys.GetSenderKey(ctx, "g@g.us", address)
			return outcome(v, err)
		}
	default:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.EventBuffer.GetBufferedEvent(ctx, key(n))
			if err == nil && v == nil {
				err = d.EventBuffer.PutBufferedEvent(ctx, key(n), []byte{n}, time.Unix(int64(n), 0))
			}
			if v == nil {
				return outcome(nil, err)
			}
			return outcome([]any{v.Plaintext, v.ServerTime.Unix()}, err)
		}
	}
}

// people is a random call on contacts, settings, secrets, tokens and LIDs.
func (p *twins) people(rt *rapid.T) call {
	// The LID map is shared by all devices, so each run has people of its own.
	number := fmt.Sprint(p.run, rapid.IntRange(1, 3).Draw(rt, "who"))
	hidden := lid(fmt.Sprint(p.run, rapid.IntRange(1, 3).Draw(rt, "hidden")))
	who := pn(number)
	if rapid.Bool().Draw(rt, "by LID") {
		who = hidden
	}
	name := rapid.SampledFrom([]string{"", "Ann", "Bob"}).Draw(rt, "name")
	at := time.Unix(rapid.Int64Range(1, 5).Draw(rt, "time"), 0)
	switch rapid.IntRange(0, 11).Draw(rt, "call") {
	case 0:
		return func(ctx context.Context, d *store.Device) string {
			changed, old, err := d.Contacts.PutPushName(ctx, who, name)
			return outcome([]any{changed, old}, err)
		}
	case 1:
		return func(ctx context.Context, d *store.Device) string {
			changed, old, err := d.Contacts.PutBusinessName(ctx, who, name)
			return outcome([]any{changed, old}, err)
		}
	case 2:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.Contacts.PutContactName(ctx, who, name, name+"!"))
		}
	case 3:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.Contacts.PutAllContactNames(ctx, []store.ContactEntry{{JID: who, FirstName: name}, {JID: who, FullName: "x"}}))
		}
	case 4:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.Contacts.GetContact(ctx, who)
			return outcome(v, err)
		}
	case 5:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.Contacts.GetAllContacts(ctx)
			return outcome(v, err)
		}
	case 6:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, errors.Join(d.ChatSettings.PutMutedUntil(ctx, who, at), d.ChatSettings.PutArchived(ctx, who, name == "")))
		}
	case 7:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.ChatSettings.GetChatSettings(ctx, who)
			return outcome(v, err)
		}
	case 8:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.LIDs.PutLIDMapping(ctx, hidden, pn(number)))
		}
	case 9:
		return func(ctx context.Context, d *store.Device) string {
			l, err := d.LIDs.GetLIDForPN(ctx, pn(number))
			n, err2 := d.LIDs.GetPNForLID(ctx, hidden)
			many, err3 := d.LIDs.GetManyLIDsForPNs(ctx, []types.JID{pn(number), pn("404")})
			return outcome([]any{l, n, many}, errors.Join(err, err2, err3))
		}
	case 10:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.PrivacyTokens.PutPrivacyTokens(ctx, store.PrivacyToken{User: pn(number), Token: []byte(name + "t"), Timestamp: at}))
		}
	default:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.PrivacyTokens.GetPrivacyToken(ctx, pn(number))
			if v == nil {
				return outcome(nil, err)
			}
			return outcome(*v, err)
		}
	}
}

// appState is a random call on app state.
func (p *twins) appState(rt *rapid.T) call {
	version := rapid.Uint64Range(1, 3).Draw(rt, "version")
	index := key(rapid.ByteRange(1, 3).Draw(rt, "index"))
	switch rapid.IntRange(0, 5).Draw(rt, "call") {
	case 0:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.AppState.PutAppStateVersion(ctx, "n", version, [128]byte{byte(version)}))
		}
	case 1:
		return func(ctx context.Context, d *store.Device) string {
			v, hash, err := d.AppState.GetAppStateVersion(ctx, "n")
			return outcome([]any{v, hash}, err)
		}
	case 2:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.AppState.DeleteAppStateVersion(ctx, "n"))
		}
	case 3:
		return func(ctx context.Context, d *store.Device) string {
			v := key(byte(version))
			return outcome(nil, d.AppState.PutAppStateMutationMACs(ctx, "n", version, []store.AppStateMutationMAC{{IndexMAC: index[:], ValueMAC: v[:]}}))
		}
	case 4:
		return func(ctx context.Context, d *store.Device) string {
			return outcome(nil, d.AppState.DeleteAppStateMutationMACs(ctx, "n", [][]byte{index[:]}))
		}
	default:
		return func(ctx context.Context, d *store.Device) string {
			v, err := d.AppState.GetAppStateMutationMAC(ctx, "n", index[:])
			return outcome(v, err)
		}
	}
}
