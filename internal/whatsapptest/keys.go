package whatsapptest

import (
	"crypto/sha1"
	"encoding/binary"

	"go.mau.fi/libsignal/ecc"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// fewKeys is the number of one-time keys below which a device is asked for more.
const fewKeys = 5

// keyQuery answers an iq of encrypt; false if it is unknown. The caller holds s.mu.
func (s *Server) keyQuery(l *link, n waBinary.Node) bool {
	d, set := l.device, text(n, "type") == "set"
	if _, ok := n.GetOptionalChildByTag("count"); ok && !set {
		l.push(iqResult(n, keyCount(d)))
		return true
	}
	if ask, ok := n.GetOptionalChildByTag("key"); ok && !set {
		var users []waBinary.Node
		for _, user := range ask.GetChildrenByTag("user") {
			users = append(users, s.bundle(address(user, "jid")))
		}
		l.push(iqResult(n, waBinary.Node{Tag: "list", Content: users}))
		return true
	}
	if _, ok := n.GetOptionalChildByTag("digest"); ok && !set {
		l.push(iqResult(n, digest(d)))
		return true
	}
	if rotate, ok := n.GetOptionalChildByTag("rotate"); ok && set {
		return s.storeSigned(l, n, rotate)
	}
	if list, ok := n.GetOptionalChildByTag("list"); ok && set {
		for _, child := range list.GetChildrenByTag("key") {
			k, ok := readKey(child)
			if !ok {
				l.push(iqError(n, 400, "bad-request"))
				return true
			}
			d.preKeys = append(d.preKeys, k)
		}
		if reg := childBytes(n, "registration"); len(reg) == 4 {
			d.registrationID = binary.BigEndian.Uint32(reg)
		}
		return s.storeSigned(l, n, n)
	}
	return false
}

// storeSigned takes the signed pre-key of an upload.
func (s *Server) storeSigned(l *link, n, holder waBinary.Node) bool {
	k, ok := readKey(holder.GetChildByTag("skey"))
	if !ok || !k.signedBy(l.device.identity) {
		l.push(iqError(n, 400, "bad-request"))
		return true
	}
	l.device.signedPreKey = k
	l.push(iqResult(n))
	s.changed()
	return true
}

// PreKeys is how many one-time keys the server holds for the device.
func (s *Server) PreKeys(device types.JID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.deviceOf(device); d != nil {
		return len(d.preKeys)
	}
	return 0
}

// ExhaustPreKeys throws away all but the last n one-time keys of the device and tells it how
// few are left, as after many strangers wrote to it.
func (s *Server) ExhaustPreKeys(device types.JID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.deviceOf(device); d != nil && len(d.preKeys) > n {
		d.preKeys = d.preKeys[len(d.preKeys)-n:]
		s.notify(d, waBinary.Attrs{"from": types.ServerJID, "type": "encrypt"}, keyCount(d))
	}
}

func keyCount(d *device) waBinary.Node {
	return waBinary.Node{Tag: "count", Attrs: waBinary.Attrs{"value": len(d.preKeys)}}
}

// bundle is the keys to open a session with a device; one one-time key is spent.
func (s *Server) bundle(jid types.JID) waBinary.Node {
	user := waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": jid}}
	d := s.deviceOf(jid)
	if d == nil {
		user.Content = []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": 404, "text": "item-not-found"}}}
		return user
	}
	user.Attrs["t"] = unixNow()
	children := []waBinary.Node{
		{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, d.registrationID)},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: d.identity[:]},
	}
	if len(d.preKeys) > 0 {
		children = append(children, d.preKeys[0].node("key"))
		d.preKeys = d.preKeys[1:]
		if len(d.preKeys) == fewKeys-1 {
			s.notify(d, waBinary.Attrs{"from": types.ServerJID, "type": "encrypt"}, keyCount(d))
		}
	}
	children = append(children, d.signedPreKey.node("skey"))
	if d.advIdentity != nil {
		children = append(children, waBinary.Node{Tag: "device-identity", Content: d.advIdentity})
	}
	user.Content = children
	return user
}

// digest is what a client compares with its own keys.
func digest(d *device) waBinary.Node {
	var ids []waBinary.Node
	hash := sha1.New()
	hash.Write(d.identity[:])
	hash.Write(d.signedPreKey.public[:])
	hash.Write(d.signedPreKey.signature[:])
	for _, k := range d.preKeys {
		ids = append(ids, waBinary.Node{Tag: "id", Content: k.idBytes()})
		hash.Write(k.public[:])
	}
	return waBinary.Node{Tag: "digest", Content: []waBinary.Node{
		{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, d.registrationID)},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: d.identity[:]},
		d.signedPreKey.node("skey"),
		{Tag: "list", Content: ids},
		{Tag: "hash", Content: hash.Sum(nil)},
	}}
}

func (k publicPreKey) idBytes() []byte { return binary.BigEndian.AppendUint32(nil, k.id)[1:] }

// node is the key as it travels: tag is key, or skey with its signature.
func (k publicPreKey) node(tag string) waBinary.Node {
	children := []waBinary.Node{{Tag: "id", Content: k.idBytes()}, {Tag: "value", Content: k.public[:]}}
	if tag == "skey" {
		children = append(children, waBinary.Node{Tag: "signature", Content: k.signature[:]})
	}
	return waBinary.Node{Tag: tag, Content: children}
}

// readKey reads what node writes; false if it is none.
func readKey(n waBinary.Node) (publicPreKey, bool) {
	id, value, signature := childBytes(n, "id"), childBytes(n, "value"), childBytes(n, "signature")
	if len(id) != 3 || len(value) != 32 || n.Tag == "skey" && len(signature) != 64 {
		return publicPreKey{}, false
	}
	k := publicPreKey{id: binary.BigEndian.Uint32(append([]byte{0}, id...)), public: [32]byte(value)}
	copy(k.signature[:], signature)
	return k, true
}
