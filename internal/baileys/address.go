package baileys

import (
	"regexp"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// people knows which addresses belong together.
type people struct {
	lids   map[string]string // LID by phone number
	isLID  map[string]bool   // users that are known to be one or the other
	ownPN  types.JID
	ownLID types.JID // empty where it is not known
}

// domains are the servers that follow a user in Baileys' Signal addresses, as in 123_1.0.
var domains = map[string]string{"1": types.HiddenUserServer, "128": types.HostedServer, "129": types.HostedLIDServer}

// longestNumber is how many digits a phone number has at most. The rule allows for two more; no country
// uses them, and a LID of so few digits has not been seen.
const longestNumber = 13

// know remembers what an address in the session says about its user.
func (p *people) know(address string) {
	jid, err := types.ParseJID(address)
	if err != nil || jid.User == "" {
		return
	}
	switch jid.Server {
	case types.HiddenUserServer:
		p.isLID[jid.User] = true
	case types.DefaultUserServer:
		p.isLID[jid.User] = false
	}
}

// pair remembers that a phone number and a LID are one person's.
func (p *people) pair(pn, lid string) {
	p.lids[pn], p.isLID[pn], p.isLID[lid] = lid, false, true
}

// device is the address that Baileys writes as user and device. Before version 7 it does not say whether
// the user is a phone number or a LID. Where nothing else in the session does, the number of digits decides: an
// address that nobody uses does no harm, its owner's next message is asked for again.
func (p *people) device(user, device string) (types.JID, bool) {
	n, err := strconv.ParseUint(device, 10, 16)
	user, domain, typed := strings.Cut(user, "_")
	if err != nil || !isDigits(user) {
		return types.EmptyJID, false
	}
	jid := types.JID{User: user, Device: uint16(n), Server: types.DefaultUserServer}
	lid, known := p.isLID[user]
	switch {
	case typed:
		jid.Server = domains[domain]
	case known && lid, !known && len(user) > longestNumber:
		jid.Server = types.HiddenUserServer
	}
	return jid, jid.Server != ""
}

// signal is the address that whatsmeow keeps a device under: by LID where it is known.
func (p *people) signal(jid types.JID) types.JID {
	if lid := p.lids[jid.User]; jid.Server == types.DefaultUserServer && lid != "" {
		jid.User, jid.Server = lid, types.HiddenUserServer
	}
	return jid
}

// own tells whether the address is this device's own.
func (p *people) own(jid types.JID) bool { return jid == p.ownPN || jid == p.ownLID }

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

var senderKeyName = regexp.MustCompile(`^(.+@[a-z.]+)(?:::|--)([0-9]+(?:_[0-9]+)?)(?:::|--)([0-9]+)$`)

// The kinds of entries, the longer names first.
const (
	kindSenderKeyMemory = "sender-key-memory"
	kindSenderKey       = "sender-key"
	kindSyncKey         = "app-state-sync-key"
	kindSyncVersion     = "app-state-sync-version"
	kindPreKey          = "pre-key"
	kindSession         = "session"
	kindLIDMapping      = "lid-mapping"
	kindToken           = "tctoken"
	kindIdentity        = "identity-key"
	kindDevices         = "device-list"
)

var kinds = []string{kindSenderKeyMemory, kindSenderKey, kindSyncKey, kindSyncVersion, kindPreKey, kindSession, kindLIDMapping, kindToken, kindIdentity, kindDevices}

// split takes the name of an entry apart. The kind is empty for what Baileys does not write.
func split(name string) (kind, id string) {
	for _, k := range kinds {
		if id, ok := strings.CutPrefix(name, k+"-"); ok {
			return k, id
		}
	}
	return "", name
}
