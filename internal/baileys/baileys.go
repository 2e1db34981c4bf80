// Package baileys reads the session of a bot on Baileys, of version 6.7 or 7, and gives it as the rows of a
// store, so that wabot goes on with the linked device and nobody scans a QR code again.
//
// A Baileys session is a map: "creds" is the device, everything else has a name of its kind and an ID,
// such as session-49151234_1.0. It lies in a folder with a file for each name, or in a MongoDB collection with
// a document for each, in one of several layouts. Reading makes entries of it, convert makes rows of the entries and
// does no I/O, and Source hands the rows to a copy (see package transfer) and marks the session as moved
// after it, so that the bot on Baileys cannot start on it by accident.
//
// What cannot be converted for certain is left out and counted: a session that is missing heals by itself,
// as its owner's next message is asked for again, while a wrong one spoils messages without a word. So
// every private key must give its public one, every signature must verify, an app state must add up to its
// hash, and lengths and counters must be possible. The device itself is all or nothing.
package baileys

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/appstate/lthash"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"wabot/internal/transfer"
)

// entries are a session as it was stored, by name. What could not be read is nil.
type entries map[string]any

// credsName is the name of the entry that holds the device.
const credsName = "creds"

// Session is a converted session.
type Session struct {
	// Rows are in the order in which a store takes them.
	Rows []transfer.Row
	// Counts say what was found, in the order in which to show it.
	Counts []Count
}

// Count is how much there was of a kind of things.
type Count struct {
	What  string // one of them
	Taken int
	// Left are the reasons for which some were left out, and how many for each.
	Left map[string]int
}

// converter holds what one conversion works on.
type converter struct {
	in     entries
	names  []string // sorted
	device transfer.Device
	local  local
	people people
	out    Session
}

// convert makes rows of a session. It returns a transfer.Refusal where the device itself is incomplete or does not fit
// together, which names what.
func convert(in entries) (Session, error) {
	c := &converter{in: in, names: slices.Sorted(maps.Keys(in))}
	c.people = people{lids: map[string]string{}, isLID: map[string]bool{}}
	creds, ok := in[credsName].(object)
	if !ok {
		return Session{}, transfer.Refusal("the session's creds cannot be read, so there is no device in it")
	}
	if err := c.readDevice(creds); err != nil {
		return Session{}, err
	}
	lids := c.readPeople()
	c.out.Rows = append(c.out.Rows, c.device)
	sessions, identities := c.sessions()
	c.put("", identities)
	c.put("session", sessions)
	c.preKeys(creds)
	c.put("sender key", c.senderKeys())
	c.put("app state key", c.syncKeys())
	c.put("app state version", c.versions())
	c.put("privacy token", c.tokens())
	c.put("LID", lids)
	if n := c.unknown(); n > 0 {
		c.out.Counts = append(c.out.Counts, Count{What: "other thing", Left: map[string]int{"Baileys does not write it": n}})
	}
	return c.out, nil
}

// found is what was made of the things of one kind.
type found struct {
	rows  []transfer.Row
	taken int
	left  map[string]int
}

func (f *found) add(rows ...transfer.Row) {
	f.rows = append(f.rows, rows...)
	f.taken++
}

func (f *found) leave(why string) {
	if f.left == nil {
		f.left = map[string]int{}
	}
	f.left[why]++
}

// put adds the rows, and counts them as what unless that is empty.
func (c *converter) put(what string, f found) {
	c.out.Rows = append(c.out.Rows, f.rows...)
	if what != "" {
		c.out.Counts = append(c.out.Counts, Count{What: what, Taken: f.taken, Left: f.left})
	}
}

// each calls do for every entry of a kind, in order.
func (c *converter) each(kind string, do func(id string, value any)) {
	for _, name := range c.names {
		if k, id := split(name); k == kind {
			do(id, c.in[name])
		}
	}
}

func (c *converter) unknown() (n int) {
	for _, name := range c.names {
		if kind, _ := split(name); kind == "" && name != credsName {
			n++
		}
	}
	return n
}

// The prefixes of what an account and its device sign, for ordinary and for hosted accounts.
var (
	accountPrefixes = [][]byte{{6, 0}, {6, 5}}
	devicePrefixes  = [][]byte{{6, 1}, {6, 6}}
)

// readDevice reads the device, and our own addresses with it.
func (c *converter) readDevice(creds object) error {
	var missing, wrong []string
	need := func(name string, v any, length int) []byte {
		b, ok := toBytes(v)
		switch {
		case !ok || len(b) == 0:
			missing = append(missing, name)
		case len(b) != length && length != 0:
			wrong = append(wrong, fmt.Sprintf("%s has %d bytes, not %d", name, len(b), length))
		}
		return b
	}
	pair := func(name string, v object) (private, open []byte) {
		if v == nil {
			missing = append(missing, name)
			return nil, nil
		}
		private, open, err := keyPair(name, v.get("private"), v.get("public"))
		if err != nil {
			wrong = append(wrong, err.Error())
		}
		return private, open
	}
	number := func(name string, v any, most int64) int64 {
		n, ok := toInt(v)
		switch {
		case !ok:
			missing = append(missing, name)
		case n < 0 || n > most:
			wrong = append(wrong, name+" is out of range")
		}
		return n
	}
	d := &c.device
	signed, account, me := creds.object("signedPreKey"), creds.object("account"), creds.object("me")
	d.NoiseKey, _ = pair("noiseKey", creds.object("noiseKey"))
	var identity, signedKey []byte
	d.IdentityKey, identity = pair("signedIdentityKey", creds.object("signedIdentityKey"))
	d.SignedPreKey, signedKey = pair("signedPreKey.keyPair", signed.object("keyPair"))
	d.SignedPreKeyID = number("signedPreKey.keyId", signed.get("keyId"), maxPreKey)
	d.SignedPreKeySignature = need("signedPreKey.signature", signed.get("signature"), 64)
	d.RegistrationID = number("registrationId", creds.get("registrationId"), math.MaxUint32)
	d.AdvKey = need("advSecretKey", creds.get("advSecretKey"), 32)
	if account == nil {
		missing = append(missing, "account (it was never linked to a phone)")
	} else {
		d.AdvDetails = need("account.details", account.get("details"), 0)
		d.AccountSignatureKey = need("account.accountSignatureKey", account.get("accountSignatureKey"), 32)
		d.AccountSignature = need("account.accountSignature", account.get("accountSignature"), 64)
		d.DeviceSignature = need("account.deviceSignature", account.get("deviceSignature"), 64)
	}
	own, _ := toText(me.get("id"))
	jid, err := types.ParseJID(own)
	switch {
	case own == "":
		missing = append(missing, "me.id (it was never linked to a phone)")
	case err != nil || jid.Server != types.DefaultUserServer || !isDigits(jid.User) || jid.Device == 0:
		wrong = append(wrong, "me.id is not a linked device's address")
	}
	if len(missing)+len(wrong) > 0 {
		var all []string
		if len(missing) > 0 {
			all = append(all, "its creds lack "+strings.Join(missing, ", "))
		}
		return transfer.Refusal("the session is incomplete and cannot be taken over: " + strings.Join(append(all, wrong...), "; "))
	}
	c.people.ownPN, d.JID = jid, jid.String()
	hidden, _ := toText(me.get("lid"))
	if lid, err := types.ParseJID(hidden); err == nil && lid.Server == types.HiddenUserServer {
		lid.Device = jid.Device
		c.people.ownLID, d.LID = lid, lid.String()
	}
	if !signs(identity, typed(signedKey), d.SignedPreKeySignature) {
		wrong = append(wrong, "the signed pre-key is not signed by the identity key")
	}
	if !signsAny(accountPrefixes, d.AccountSignatureKey, d.AccountSignature, d.AdvDetails, identity) {
		wrong = append(wrong, "the account has not signed this identity key")
	}
	if !signsAny(devicePrefixes, identity, d.DeviceSignature, d.AdvDetails, identity, d.AccountSignatureKey) {
		wrong = append(wrong, "the identity key has not signed for this account")
	}
	if len(wrong) > 0 {
		return transfer.Refusal("the session does not fit together and cannot be taken over: " + strings.Join(wrong, "; "))
	}
	d.Platform, _ = toText(creds.get("platform"))
	d.PushName, _ = toText(me.get("name"))
	d.BusinessName, _ = toText(me.get("verifiedName"))
	c.local = local{identity: typed(identity), registration: uint32(d.RegistrationID)}
	return nil
}

func signs(key, message, signature []byte) bool {
	return ecc.VerifySignature(ecc.NewDjbECPublicKey([32]byte(key)), message, [64]byte(signature))
}

func signsAny(prefixes [][]byte, key, signature []byte, parts ...[]byte) bool {
	return slices.ContainsFunc(prefixes, func(prefix []byte) bool {
		return signs(key, bytes.Join(append([][]byte{prefix}, parts...), nil), signature)
	})
}

// readPeople gathers who is who before any address is read, and returns the pairs.
func (c *converter) readPeople() (f found) {
	p := &c.people
	p.know(c.device.JID)
	p.know(c.device.LID)
	c.each(kindSenderKeyMemory, func(_ string, v any) {
		for _, member := range asObject(v) {
			p.know(member.name)
		}
	})
	c.each(kindToken, func(id string, _ any) { p.know(id) })
	numbers := map[string]string{} // by LID
	pair := func(pn, lid string) {
		numbers[lid] = pn
		p.pair(pn, lid)
		f.add(transfer.LID{LID: lid, PN: pn})
	}
	if p.ownLID.User != "" {
		pair(p.ownPN.User, p.ownLID.User)
	}
	c.each(kindLIDMapping, func(pn string, v any) {
		if strings.HasSuffix(pn, "_reverse") {
			return // it says the same from the other side
		}
		lid, ok := toText(v)
		switch {
		case pn == p.ownPN.User:
		case !ok || !isDigits(lid) || !isDigits(pn):
			f.leave("it cannot be read")
		case numbers[lid] != "":
			f.leave("the LID belongs to two numbers")
		default:
			pair(pn, lid)
		}
	})
	return f
}

func asObject(v any) object {
	o, _ := v.(object)
	return o
}

// sessions converts the Signal sessions, and gives the identity of each device with them.
func (c *converter) sessions() (sessions, identities found) {
	// A person can have one session by number and one by LID. Baileys 7 uses the one by LID, and so do we.
	records := map[types.JID][]any{}
	c.each(kindSession, func(id string, v any) {
		user, device, _ := strings.Cut(id, ".")
		jid, ok := c.people.device(user, device)
		if !ok {
			sessions.leave("its address cannot be read")
			return
		}
		if signal := c.people.signal(jid); signal != jid {
			records[signal] = append(records[signal], v)
		} else {
			records[jid] = slices.Insert(records[jid], 0, v)
		}
	})
	account := c.people.ownLID.ToNonAD()
	if c.people.ownLID.User == "" {
		account = c.people.ownPN.ToNonAD()
	}
	identities.add(transfer.Identity{Address: account.SignalAddress().String(), Key: c.device.AccountSignatureKey})
	for _, jid := range slices.SortedFunc(maps.Keys(records), compareJIDs) {
		session, err := c.local.convertSession(records[jid]...)
		if err == nil && jid == account && !bytes.Equal(session.identity, c.device.AccountSignatureKey) {
			err = errors.New("it is with another phone than the one that is linked")
		}
		if err == nil {
			err = transfer.DecodeSession(session.record)
		}
		if err != nil {
			sessions.leave(err.Error())
			continue
		}
		address := jid.SignalAddress().String()
		sessions.add(transfer.Session{Address: address, Record: session.record})
		if jid != account {
			identities.add(transfer.Identity{Address: address, Key: session.identity})
		}
	}
	return sessions, identities
}

func compareJIDs(a, b types.JID) int { return strings.Compare(a.String(), b.String()) }

const (
	// maxPreKey is the highest number that a pre-key can have on the wire.
	maxPreKey = 1<<24 - 1
	// preKeyGap is how many numbers are passed over. Keys are uploaded before their numbers are saved, so a bot that was
	// killed in between has given out more than it knows of: two uploads of the largest kind.
	preKeyGap = 2 * 812
)

// preKeys converts the one-time keys. Numbers go on beyond all that were ever given out.
func (c *converter) preKeys(creds object) {
	var f found
	next, _ := toInt(creds.get("nextPreKeyId"))
	waiting, known := toInt(creds.get("firstUnuploadedPreKeyId"))
	if !known {
		waiting = math.MaxInt64
	}
	c.each(kindPreKey, func(id string, v any) {
		n, err := strconv.ParseInt(id, 10, 64)
		if err != nil || n <= 0 || n > maxPreKey {
			f.leave("its number cannot be read")
			return
		}
		next = max(next, n+1)
		private, _, err := keyPair("it", asObject(v).get("private"), asObject(v).get("public"))
		if err != nil {
			f.leave(err.Error())
			return
		}
		f.add(transfer.PreKey{ID: n, Private: private, Uploaded: n < waiting})
	})
	slices.SortFunc(f.rows, func(a, b transfer.Row) int { return cmp.Compare(a.(transfer.PreKey).ID, b.(transfer.PreKey).ID) })
	c.put("pre-key", f)
	c.out.Rows = append(c.out.Rows, transfer.PreKeyCount{Next: max(next, 1) + preKeyGap})
}

// senderKeys converts the keys of the members of groups.
func (c *converter) senderKeys() (f found) {
	type name struct {
		group  string
		sender types.JID
	}
	type key struct {
		value any
		own   bool
		moved bool // from the number to the LID
	}
	all := map[name]key{}
	var order []name
	c.each(kindSenderKey, func(id string, v any) {
		m := senderKeyName.FindStringSubmatch(id)
		if m == nil {
			f.leave("its address cannot be read")
			return
		}
		jid, ok := c.people.device(m[2], m[3])
		if !ok {
			f.leave("its address cannot be read")
			return
		}
		k := name{m[1], c.people.signal(jid)}
		before, twice := all[k]
		if !twice {
			order = append(order, k)
		}
		if !twice || before.moved {
			all[k] = key{value: v, own: c.people.own(jid), moved: k.sender != jid}
		}
		if twice {
			f.leave("there is one by LID and one by number")
		}
	})
	for _, k := range order {
		record, err := convertSenderKey(all[k].value, all[k].own)
		if err != nil {
			f.leave(err.Error())
			continue
		}
		f.add(transfer.SenderKey{Group: k.group, Sender: k.sender.SignalAddress().String(), Record: record})
	}
	return f
}

// syncKeys converts the keys of the app state.
func (c *converter) syncKeys() (f found) {
	c.each(kindSyncKey, func(id string, v any) {
		o := asObject(v)
		name, ok := fromBase64(strings.ReplaceAll(id, "__", "/")) // in a file's name a slash cannot be
		data, err := sized("it", o.get("keyData"), 32)
		at, dated := toInt(o.get("timestamp"))
		switch {
		case !ok || len(name) == 0:
			f.leave("its name cannot be read")
			return
		case err != nil:
			f.leave(err.Error())
			return
		case !dated:
			f.leave("it has no time")
			return
		}
		print := &waE2E.AppStateSyncKeyFingerprint{}
		written := o.object("fingerprint")
		if n, ok := toInt(written.get("rawId")); ok {
			print.RawID = proto.Uint32(uint32(n))
		}
		if n, ok := toInt(written.get("currentIndex")); ok {
			print.CurrentIndex = proto.Uint32(uint32(n))
		}
		indexes, _ := written.get("deviceIndexes").([]any)
		for _, i := range indexes {
			n, _ := toInt(i)
			print.DeviceIndexes = append(print.DeviceIndexes, uint32(n))
		}
		fingerprint, err := proto.Marshal(print)
		if err != nil {
			f.leave("its fingerprint cannot be read")
			return
		}
		f.add(transfer.SyncKey{ID: name, Data: data, Fingerprint: fingerprint, Timestamp: at})
	})
	return f
}

// versions converts the app state. A collection that is left out is fetched as a whole when it next changes.
func (c *converter) versions() (f found) {
	c.each(kindSyncVersion, func(name string, v any) {
		o := asObject(v)
		version, ok := toInt(o.get("version"))
		if ok && version == 0 {
			return // nothing was fetched yet
		}
		hash, err := sized("its hash", o.get("hash"), 128)
		switch {
		case !slices.Contains(appstate.AllPatchNames[:], appstate.WAPatchName(name)):
			f.leave("its name is not known")
			return
		case !ok || version < 0:
			f.leave("its version cannot be read")
			return
		case err != nil:
			f.leave(err.Error())
			return
		case name == string(appstate.WAPatchCriticalBlock) && c.device.PushName == "":
			// The account's name is told nowhere else, so it must be fetched.
			f.leave("the account's name is to be fetched with it")
			return
		}
		rows := []transfer.Row{transfer.Version{Name: name, Version: version, Hash: hash}}
		var values [][]byte
		for _, m := range o.object("indexValueMap") {
			index, ok := fromBase64(m.name)
			content, isObject := m.value.(object)
			value, err := sized("a MAC", content.get("valueMac"), 32)
			if !ok || !isObject || len(index) != 32 || err != nil {
				f.leave("a MAC of it cannot be read")
				return
			}
			values = append(values, value)
			rows = append(rows, transfer.MAC{Name: name, Version: version, Index: index, Value: value})
		}
		if !bytes.Equal(lthash.WAPatchIntegrity.SubtractThenAdd(make([]byte, 128), nil, values), hash) {
			f.leave("it does not add up to its hash")
			return
		}
		f.add(rows...)
	})
	return f
}

// tokens converts the privacy tokens.
func (c *converter) tokens() (f found) {
	seen := map[string]bool{}
	c.each(kindToken, func(id string, v any) {
		o, isObject := v.(object)
		if !isObject {
			f.leave("it cannot be read")
			return
		}
		token, _ := toBytes(o.get("token"))
		if len(token) == 0 {
			return // an index, or one that has run out
		}
		jid, err := types.ParseJID(id)
		at, ok := toInt(o.get("timestamp"))
		if err != nil || jid.User == "" || !ok || seen[jid.ToNonAD().String()] {
			f.leave("its address or time cannot be read")
			return
		}
		seen[jid.ToNonAD().String()] = true
		row := transfer.Token{JID: jid.ToNonAD().String(), Token: token, Time: at}
		if sent, ok := toInt(o.get("senderTimestamp")); ok {
			row.Sent = &sent
		}
		f.add(row)
	})
	return f
}
