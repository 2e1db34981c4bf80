package whatsapptest

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waServerSync"
	"go.mau.fi/whatsmeow/types"
)

// query answers an iq of a device that is logged in. The caller holds s.mu.
func (s *Server) query(l *link, n waBinary.Node) {
	if kind := text(n, "type"); kind == "result" || kind == "error" {
		return // the answer to a ping of ours
	}
	if fault := s.queryFault(l, text(n, "xmlns")); fault != nil {
		if fault.code != 0 {
			l.push(iqError(n, fault.code, "internal-server-error"))
		}
		return
	}
	known := false
	switch text(n, "xmlns") {
	case "encrypt":
		known = s.keyQuery(l, n)
	case "usync":
		known = s.userQuery(l, n)
	case "w:g2":
		known = s.groupQuery(l, n)
	case "w:sync:app:state":
		known = s.stateQuery(l, n)
	case "privacy":
		known = s.privacyQuery(l, n)
	case "blocklist":
		known = s.blockQuery(l, n)
	case "md":
		known = s.deviceQuery(l, n)
	default:
		known = s.commonQuery(l, n)
	}
	if !known {
		s.addUnknown(describe(n))
		l.push(iqResult(n))
	}
}

// commonQuery answers the small ones; false if it is unknown.
func (s *Server) commonQuery(l *link, n waBinary.Node) bool {
	switch text(n, "xmlns") {
	case "w:p", "urn:xmpp:ping":
		l.push(iqResult(n))
	case "passive":
		l.push(iqResult(n))
		if _, ok := n.GetOptionalChildByTag("active"); ok {
			s.activate(l)
		} else {
			l.active = false
		}
	case "w:m":
		l.push(iqResult(n, waBinary.Node{
			Tag:   "media_conn",
			Attrs: waBinary.Attrs{"auth": "whatsapptest", "auth_ttl": 21600, "ttl": 300, "max_buckets": 12},
			Content: []waBinary.Node{{
				Tag: "host", Attrs: waBinary.Attrs{"hostname": mediaHost},
				Content: []waBinary.Node{{Tag: "upload"}, {Tag: "download"}},
			}},
		}))
	case "abt":
		l.push(iqResult(n, waBinary.Node{Tag: "props", Attrs: waBinary.Attrs{"protocol": "1", "hash": "whatsapptest"}}))
	case "w:profile:picture":
		l.push(iqError(n, 404, "item-not-found"))
	case "w:mex":
		l.push(iqResult(n, waBinary.Node{Tag: "result", Content: []byte(`{"data":{}}`)}))
	case "status":
		if about, ok := n.GetOptionalChildByTag("status"); ok && l.device != nil {
			b, _ := about.Content.([]byte)
			l.device.account.about = string(b)
		}
		l.push(iqResult(n))
	case "urn:xmpp:whatsapp:dirty", "w:stats", "disappearing_mode", "tos", "urn:xmpp:whatsapp:push":
		l.push(iqResult(n))
	default:
		return false
	}
	return true
}

// privacySettings is what an account has not changed.
var privacySettings = []struct{ name, value string }{
	{"readreceipts", "all"}, {"profile", "all"}, {"status", "all"}, {"online", "all"},
	{"last", "all"}, {"groupadd", "all"}, {"calladd", "all"},
}

func (s *Server) privacyQuery(l *link, n waBinary.Node) bool {
	a := l.device.account
	if tokens, ok := n.GetOptionalChildByTag("tokens"); ok {
		for _, token := range tokens.GetChildrenByTag("token") {
			other := s.accountOf(address(token, "jid"))
			if other == nil {
				continue
			}
			for _, d := range other.sorted() {
				s.notify(d, waBinary.Attrs{"from": a.pn, "sender_lid": a.lid, "type": "privacy_token"},
					waBinary.Node{Tag: "tokens", Content: []waBinary.Node{{
						Tag:     "token",
						Attrs:   waBinary.Attrs{"type": text(token, "type"), "t": text(token, "t")},
						Content: randomBytes(16),
					}}})
			}
		}
		l.push(iqResult(n))
		return true
	}
	privacy, ok := n.GetOptionalChildByTag("privacy")
	if !ok {
		return false
	}
	for _, c := range privacy.GetChildrenByTag("category") {
		a.privacy[text(c, "name")] = text(c, "value")
	}
	var categories []waBinary.Node
	for _, p := range privacySettings {
		value := p.value
		if changed := a.privacy[p.name]; changed != "" {
			value = changed
		}
		categories = append(categories, waBinary.Node{Tag: "category", Attrs: waBinary.Attrs{"name": p.name, "value": value}})
	}
	l.push(iqResult(n, waBinary.Node{Tag: "privacy", Content: categories}))
	return true
}

func (s *Server) blockQuery(l *link, n waBinary.Node) bool {
	a := l.device.account
	if item, ok := n.GetOptionalChildByTag("item"); ok {
		jid := address(item, "jid")
		a.blocked = slices.DeleteFunc(a.blocked, func(b types.JID) bool { return b == jid })
		if text(item, "action") == "block" {
			a.blocked = append(a.blocked, jid)
		}
	}
	var items []waBinary.Node
	for _, jid := range a.blocked {
		items = append(items, waBinary.Node{Tag: "item", Attrs: waBinary.Attrs{"jid": jid}})
	}
	l.push(iqResult(n, waBinary.Node{Tag: "list", Attrs: waBinary.Attrs{"dhash": participantHash(a.blocked)}, Content: items}))
	return true
}

// deviceQuery is the companion's own logout.
func (s *Server) deviceQuery(l *link, n waBinary.Node) bool {
	remove, ok := n.GetOptionalChildByTag("remove-companion-device")
	if !ok {
		return false
	}
	d := s.deviceOf(address(remove, "jid"))
	if d == nil || d.account != l.device.account || d.id == 0 {
		l.push(iqError(n, 404, "item-not-found"))
		return true
	}
	if d == l.device {
		l.end(iqResult(n)) // it knows, and deletes its state by itself
	} else {
		l.push(iqResult(n))
	}
	s.remove(d)
	return true
}

// stateQuery takes and gives app state, which the server cannot read. The caller holds s.mu.
func (s *Server) stateQuery(l *link, n waBinary.Node) bool {
	sync, ok := n.GetOptionalChildByTag("sync")
	if !ok {
		return false
	}
	a := l.device.account
	var answers []waBinary.Node
	for _, ask := range sync.GetChildrenByTag("collection") {
		name := text(ask, "name")
		c := a.collections[name]
		if c == nil {
			c = &collection{}
			a.collections[name] = c
		}
		since, _ := strconv.Atoi(text(ask, "version"))
		upload := childBytes(ask, "patch")
		if upload == nil {
			answers = append(answers, c.since(name, since))
			continue
		}
		answer := c.since(name, since)
		if since == len(c.patches) {
			if err := c.add(upload); err != nil {
				s.addUnknown(err.Error())
				l.push(iqError(n, 400, "bad-request"))
				return true
			}
			answer = waBinary.Node{Tag: "collection", Attrs: waBinary.Attrs{"name": name, "version": len(c.patches)}}
			for _, d := range a.others(l.device) {
				s.notify(d, waBinary.Attrs{"from": a.pn, "type": "server_sync"},
					waBinary.Node{Tag: "collection", Attrs: waBinary.Attrs{"name": name, "version": len(c.patches)}})
			}
		} else {
			answer.Attrs["type"] = "error"
			answer.Content = append([]waBinary.Node{
				{Tag: "error", Attrs: waBinary.Attrs{"code": 409, "text": "conflict"}},
			}, answer.GetChildren()...)
		}
		answers = append(answers, answer)
	}
	l.push(iqResult(n, waBinary.Node{Tag: "sync", Content: answers}))
	s.changed()
	return true
}

// add stores a patch as the next version.
func (c *collection) add(patch []byte) error {
	var p waServerSync.SyncdPatch
	if err := proto.Unmarshal(patch, &p); err != nil {
		return fmt.Errorf("read app-state patch: %w", err)
	}
	version := uint64(len(c.patches) + 1)
	p.Version = &waServerSync.SyncdVersion{Version: &version}
	numbered, err := proto.Marshal(&p)
	if err != nil {
		return fmt.Errorf("number app-state patch: %w", err)
	}
	c.patches = append(c.patches, numbered)
	return nil
}

// since is the collection's patches after a version.
func (c *collection) since(name string, version int) waBinary.Node {
	n := waBinary.Node{Tag: "collection", Attrs: waBinary.Attrs{"name": name, "version": len(c.patches)}}
	var patches []waBinary.Node
	for _, p := range c.patches[min(max(version, 0), len(c.patches)):] {
		patches = append(patches, waBinary.Node{Tag: "patch", Content: p})
	}
	if len(patches) > 0 {
		n.Content = []waBinary.Node{{Tag: "patches", Content: patches}}
	}
	return n
}

// iqResult answers an iq.
func iqResult(n waBinary.Node, children ...waBinary.Node) waBinary.Node {
	return iqAnswer(n, "result", children)
}

// iqError refuses an iq.
func iqError(n waBinary.Node, code int, text string) waBinary.Node {
	return iqAnswer(n, "error", []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": code, "text": text}}})
}

func iqAnswer(n waBinary.Node, kind string, children []waBinary.Node) waBinary.Node {
	from := address(n, "to")
	if from.Server == "" {
		from = types.ServerJID
	}
	answer := waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{"from": from, "type": kind, "id": n.Attrs["id"]}}
	if len(children) > 0 {
		answer.Content = children
	}
	return answer
}
