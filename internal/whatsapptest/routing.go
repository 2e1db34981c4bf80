package whatsapptest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// sentMemory is how many messages a device's memory for Duplicate holds.
const sentMemory = 256

// take handles one stanza from a client.
func (s *Server) take(l *link, n waBinary.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.gone {
		return
	}
	switch {
	case n.Tag == "ib", n.Tag == "xmlstreamend": // session marks and goodbyes: nothing to answer
		return
	case l.device == nil && n.Tag == "ack": // of primary_hello, which is not kept
		return
	case l.device == nil:
		if n.Tag != "iq" || !s.pairStanza(l, n) && !s.commonQuery(l, n) {
			s.addUnknown(describe(n) + " before pairing")
			if n.Tag == "iq" {
				l.push(iqResult(n))
			}
		}
		return
	}
	switch n.Tag {
	case "iq":
		s.query(l, n)
	case "message":
		s.message(l, n)
	case "receipt":
		s.receipt(l, n)
	case "ack":
		s.settle(l.device, text(n, "class"), text(n, "id"), n)
	case "presence":
		s.presence(l, n)
	case "chatstate":
		s.chatState(l, n)
	default:
		s.addUnknown(describe(n))
	}
}

// enqueue keeps a stanza for the device until it is acknowledged, and sends it if the device
// is connected. The caller holds s.mu, and n is never changed afterwards.
func (s *Server) enqueue(d *device, n waBinary.Node) {
	if d.removed {
		return
	}
	d.queue = append(d.queue, n)
	if n.Tag == "message" {
		d.sent = append(d.sent[max(0, len(d.sent)-sentMemory+1):], n)
	}
	if d.link != nil && d.link.active {
		d.link.push(n)
	}
	s.changed()
}

// notify enqueues a notification with an id and a time of its own. The caller holds s.mu.
func (s *Server) notify(d *device, attrs waBinary.Attrs, children ...waBinary.Node) {
	all := waBinary.Attrs{"id": s.stanzaID(), "t": unixNow()}
	for k, v := range attrs {
		all[k] = v
	}
	s.enqueue(d, waBinary.Node{Tag: "notification", Attrs: all, Content: children})
}

// settle takes out of the device's queue what it acknowledges by n: stanzas of the tag and
// id, from whom n goes to. The caller holds s.mu.
func (s *Server) settle(d *device, tag, id string, n waBinary.Node) {
	before := len(d.queue)
	d.queue = slices.DeleteFunc(d.queue, func(k waBinary.Node) bool {
		return k.Tag == tag && k.Attrs["id"] == id &&
			s.samePerson(address(k, "from"), address(n, "to")) &&
			(address(n, "participant").IsEmpty() || s.samePerson(address(k, "participant"), address(n, "participant"))) &&
			(tag == "message" || text(k, "type") == text(n, "type"))
	})
	if len(d.queue) != before {
		s.changed()
	}
}

// samePerson compares two addresses, whichever of an account's they are, without devices.
func (s *Server) samePerson(x, y types.JID) bool {
	if a := s.accountOf(x); a != nil {
		return a == s.accountOf(y)
	}
	return x.ToNonAD() == y.ToNonAD()
}

// message routes a message and acknowledges it, as far as its fate allows.
func (s *Server) message(l *link, n waBinary.Node) {
	fate := Deliver
	if text(n, "category") != "peer" {
		fate = s.fate(l)
	}
	ack := waBinary.Attrs{"class": "message", "id": n.Attrs["id"], "from": n.Attrs["to"], "t": unixNow()}
	if p := address(n, "participant"); !p.IsEmpty() {
		ack["participant"] = p
	}
	switch fate {
	case DropBefore:
		l.sever()
		return
	case Reject:
		ack["error"] = 479
	case Limit:
		ack["error"] = 463
	default:
		phash, code := s.route(l.device, n)
		if phash != "" {
			ack["phash"] = phash
		}
		if code != 0 {
			ack["error"] = code
		}
	}
	node := waBinary.Node{Tag: "ack", Attrs: ack}
	switch fate {
	case LoseAck:
	case HoldAck:
		s.faults.held = append(s.faults.held, heldAck{l, node})
		s.changed()
	case DropAfter:
		l.sever()
	default:
		l.push(node)
	}
}

// route gives the message to everyone it is for. It returns the right participant hash if the
// sender's list of devices was wrong, and an error code if it may not be sent.
func (s *Server) route(d *device, n waBinary.Node) (phash string, code int) {
	to := address(n, "to")
	switch to.Server {
	case types.DefaultUserServer, types.HiddenUserServer:
		return s.routeDirect(d, to, n)
	case types.GroupServer:
		return s.routeGroup(d, to, n)
	default:
		s.addUnknown("message to " + to.Server)
		return "", 0
	}
}

func (s *Server) routeDirect(d *device, to types.JID, n waBinary.Node) (phash string, code int) {
	a := s.accountOf(to)
	if a == nil {
		return "", 404
	}
	list, fanned := n.GetOptionalChildByTag("participants")
	if !fanned {
		// For one device: a peer message, or the answer to a retry receipt. A device that
		// was removed meanwhile is nobody's mistake.
		if target := a.devices[to.Device]; target != nil {
			s.carry(d, target, s.directCopy(d, target, to, address(n, "recipient"), n, n.GetChildrenByTag("enc")))
		}
		return "", 0
	}
	missing := map[*device]bool{}
	for _, other := range slices.Concat(a.others(d), d.account.others(d)) {
		missing[other] = true
	}
	wrong := false
	for _, p := range list.GetChildren() {
		target := s.deviceOf(address(p, "jid"))
		if target == nil || !missing[target] {
			wrong = true
			continue
		}
		delete(missing, target)
		s.carry(d, target, s.directCopy(d, target, to, to.ToNonAD(), n, p.GetChildren()))
	}
	if !wrong && len(missing) == 0 {
		return "", 0
	}
	all := a.addresses(to)
	if a != d.account {
		all = append(all, d.account.addresses(to)...)
	}
	return participantHash(all), 0
}

// directCopy is what the target gets of a message in a direct chat, which another device of
// the sender's account sees as one to chat.
func (s *Server) directCopy(d, target *device, to, chat types.JID, n waBinary.Node, payload []waBinary.Node) waBinary.Node {
	attrs := s.envelope(d, n)
	attrs["from"] = d.address(to)
	lid := to.Server == types.HiddenUserServer
	if lid {
		attrs["addressing_mode"] = "lid"
	}
	switch {
	case target.account != d.account && lid:
		attrs["sender_pn"] = d.account.pn
	case target.account != d.account:
		attrs["sender_lid"] = d.account.lid
	case text(n, "category") != "peer" && !chat.IsEmpty():
		attrs["recipient"] = chat
		if other := s.accountOf(chat); other != nil && chat.Server == types.HiddenUserServer {
			attrs["peer_recipient_pn"] = other.pn
		} else if other != nil {
			attrs["peer_recipient_lid"] = other.lid
		}
	}
	return waBinary.Node{Tag: "message", Attrs: attrs, Content: contents(n, payload)}
}

// envelope is the attributes that every copy of a message has.
func (s *Server) envelope(d *device, n waBinary.Node) waBinary.Attrs {
	attrs := waBinary.Attrs{"id": n.Attrs["id"], "t": unixNow(), "notify": d.account.name}
	for _, name := range []string{"type", "edit", "category", "push_priority"} {
		if v, ok := n.Attrs[name]; ok {
			attrs[name] = v
		}
	}
	return attrs
}

// contents is the children of a message's copy: the ciphertexts for that device, and what of
// the original travels on.
func contents(n waBinary.Node, payload []waBinary.Node) []waBinary.Node {
	children := slices.Clone(payload)
	first := slices.ContainsFunc(payload, func(enc waBinary.Node) bool { return text(enc, "type") == "pkmsg" })
	for _, child := range n.GetChildren() {
		switch child.Tag {
		case "enc", "participants", "tctoken", "cstoken", "reporting":
		case "device-identity":
			if first {
				children = append(children, child)
			}
		default:
			children = append(children, child)
		}
	}
	return children
}

func (s *Server) routeGroup(d *device, to types.JID, n waBinary.Node) (phash string, code int) {
	g := s.groups[to]
	if g == nil {
		return "", 404
	}
	me := g.member(d.account)
	if me == nil || g.announce && !me.admin() {
		return "", 403
	}
	groupCopy := func(payload []waBinary.Node) waBinary.Node {
		attrs := s.envelope(d, n)
		attrs["from"], attrs["participant"], attrs["participant_pn"] = to, d.lidJID(), d.account.pn
		attrs["addressing_mode"] = "lid"
		return waBinary.Node{Tag: "message", Attrs: attrs, Content: contents(n, payload)}
	}
	if one := address(n, "participant"); !one.IsEmpty() {
		if target := s.deviceOf(one); target != nil {
			s.carry(d, target, groupCopy(n.GetChildrenByTag("enc")))
		}
		return "", 0
	}
	keys := map[*device][]waBinary.Node{}
	list := n.GetChildByTag("participants")
	for _, p := range list.GetChildren() {
		if target := s.deviceOf(address(p, "jid")); target != nil {
			keys[target] = p.GetChildren()
		}
	}
	all := g.addresses()
	for _, m := range g.members {
		for _, target := range m.account.others(d) {
			s.carry(d, target, groupCopy(slices.Concat(keys[target], n.GetChildrenByTag("enc"))))
		}
	}
	if right := participantHash(all); text(n, "phash") != "" && text(n, "phash") != right {
		return right, 0
	}
	return "", 0
}

// receipt takes a receipt: it is an ack for the messages it names, is acknowledged itself,
// and goes on to those who should see it.
func (s *Server) receipt(l *link, n waBinary.Node) {
	d, to, kind := l.device, address(n, "to"), text(n, "type")
	if kind != "retry" && kind != "server-error" {
		s.settle(d, "message", text(n, "id"), n)
		list := n.GetChildByTag("list")
		for _, item := range list.GetChildren() {
			s.settle(d, "message", text(item, "id"), n)
		}
	}
	ack := waBinary.Attrs{"class": "receipt", "id": n.Attrs["id"], "from": to}
	for _, name := range []string{"type", "participant"} {
		if v, ok := n.Attrs[name]; ok {
			ack[name] = v
		}
	}
	l.push(waBinary.Node{Tag: "ack", Attrs: ack})

	forward := func(target *device, extra waBinary.Attrs) {
		attrs := waBinary.Attrs{"id": n.Attrs["id"], "t": unixNow()}
		if kind != "" {
			attrs["type"] = kind
		}
		for k, v := range extra {
			attrs[k] = v
		}
		s.enqueue(target, waBinary.Node{Tag: "receipt", Attrs: attrs, Content: n.Content})
	}
	inGroup := to.Server == types.GroupServer
	author := to
	if inGroup {
		author = address(n, "participant")
	}
	a := s.accountOf(author)
	if a == nil {
		return
	}
	// from is how a receipt of d shows where it comes from.
	from := func(reader types.JID) waBinary.Attrs {
		if inGroup {
			return waBinary.Attrs{"from": to, "participant": reader}
		}
		return waBinary.Attrs{"from": reader}
	}
	if kind == "retry" || a == d.account && !inGroup {
		target := a.devices[author.Device]
		if target == nil || target == d {
			return
		}
		extra := from(d.address(author))
		if recipient := address(n, "recipient"); !recipient.IsEmpty() {
			extra["recipient"] = recipient
		}
		forward(target, extra)
		return
	}
	read := false
	switch kind {
	case "", "inactive":
		for _, target := range a.others(d) {
			forward(target, from(d.address(author)))
		}
	case "read", "played":
		read = true
		for _, target := range a.others(d) {
			forward(target, from(d.account.address(author)))
		}
	case "read-self":
		read = true
	case "sender", "peer_msg", "hist_sync": // only an own device is told
	default:
		s.addUnknown("receipt of type " + kind)
	}
	if !read {
		return
	}
	for _, target := range d.account.others(d) {
		extra := waBinary.Attrs{"from": d.address(author), "recipient": to}
		if inGroup {
			extra["participant"] = author
		}
		forward(target, extra)
	}
}

// presence takes the client's own presence, or its wish to see another's.
func (s *Server) presence(l *link, n waBinary.Node) {
	a := l.device.account
	switch kind := text(n, "type"); kind {
	case "", "available":
		l.available = true
		s.setPresent(a, l)
	case "unavailable":
		l.available = false
		s.changed()
		if a.present == l {
			s.setPresent(a, nil)
		}
	case "subscribe":
		to := address(n, "to")
		if other := s.accountOf(to); other != nil {
			l.subscriptions[other] = to.ToNonAD()
			l.push(presenceOf(other, to))
			s.changed()
		}
	case "unsubscribe":
		delete(l.subscriptions, s.accountOf(address(n, "to")))
	default:
		s.addUnknown("presence of type " + kind)
	}
}

// setPresent notes by which connection the account is present, nil for none, and tells those
// who want to know.
func (s *Server) setPresent(a *account, l *link) {
	a.present, a.seen = l, unixNow()
	for other := range s.links {
		if as, ok := other.subscriptions[a]; ok {
			other.push(presenceOf(a, as))
		}
	}
	s.changed()
}

func presenceOf(a *account, as types.JID) waBinary.Node {
	attrs := waBinary.Attrs{"from": as.ToNonAD()}
	if a.present == nil {
		attrs["type"] = "unavailable"
		if a.seen != 0 {
			attrs["last"] = a.seen
		}
	}
	return waBinary.Node{Tag: "presence", Attrs: attrs}
}

// chatState passes typing on to those who are connected now. A client must show as available, and have asked for the presence of
// who writes to it; a phone has its app open and asks by itself. In the chat with oneself they are the
// account's other devices. That much is an assumption.
func (s *Server) chatState(l *link, n waBinary.Node) {
	a, to := l.device.account, address(n, "to")
	push := func(other *account, attrs waBinary.Attrs) {
		for _, d := range other.sorted() {
			if d.link == nil || !d.link.active || d == l.device {
				continue
			}
			_, asked := d.link.subscriptions[a]
			if d.noise == [32]byte{} || d.link.available && (asked || s.groups[to] != nil) {
				d.link.push(waBinary.Node{Tag: "chatstate", Attrs: attrs, Content: n.Content})
			}
		}
	}
	if g := s.groups[to]; g != nil {
		for _, m := range g.members {
			if m.account != a {
				push(m.account, waBinary.Attrs{"from": to, "participant": a.lid})
			}
		}
	} else if other := s.accountOf(to); other != nil {
		push(other, waBinary.Attrs{"from": a.address(to)})
	}
}

// participantHash is the hash by which clients and server compare lists of devices.
func participantHash(jids []types.JID) string {
	names := make([]string, len(jids))
	for i, jid := range jids {
		names[i] = jid.ADString()
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(names, "")))
	return "2:" + base64.RawStdEncoding.EncodeToString(sum[:6])
}

// text is an attribute that is a string, "" if it is not.
func text(n waBinary.Node, name string) string {
	v, _ := n.Attrs[name].(string)
	return v
}

// address is an attribute that is a JID, the empty one if it is not.
func address(n waBinary.Node, name string) types.JID {
	v, _ := n.Attrs[name].(types.JID)
	return v
}

// childBytes is the content of the child with that tag; nil if there is none.
func childBytes(n waBinary.Node, tag string) []byte {
	child := n.GetChildByTag(tag)
	b, _ := child.Content.([]byte)
	return b
}

// describe names the kind of a stanza, without what is special to this one.
func describe(n waBinary.Node) string {
	name := "<" + n.Tag + ">"
	if n.Tag == "iq" {
		name = fmt.Sprintf("iq %s %s", text(n, "type"), text(n, "xmlns"))
	}
	for _, child := range n.GetChildren() {
		name += " <" + child.Tag + ">"
	}
	return name
}
