package whatsapptest

import (
	"strings"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// userQuery answers an iq of usync; false if it is unknown. The caller holds s.mu.
func (s *Server) userQuery(l *link, n waBinary.Node) bool {
	ask, ok := n.GetOptionalChildByTag("usync")
	if !ok {
		return false
	}
	protocols := ask.GetChildByTag("query")
	list := ask.GetChildByTag("list")
	var users []waBinary.Node
	for _, user := range list.GetChildrenByTag("user") {
		users = append(users, s.userAnswer(user, protocols.GetChildren()))
	}
	attrs := waBinary.Attrs{}
	for _, name := range []string{"sid", "index", "last", "mode", "context"} {
		attrs[name] = ask.Attrs[name]
	}
	l.push(iqResult(n, waBinary.Node{Tag: "usync", Attrs: attrs, Content: []waBinary.Node{
		{Tag: "result"},
		{Tag: "list", Content: users},
	}}))
	return true
}

// userAnswer is what is asked of one user, who is named by a JID or by a contact's number.
// Protocols that this server does not have are left out of the answer.
func (s *Server) userAnswer(user waBinary.Node, protocols []waBinary.Node) waBinary.Node {
	jid := address(user, "jid")
	contact := childBytes(user, "contact")
	if jid.IsEmpty() {
		number, _, _ := strings.Cut(strings.TrimPrefix(string(contact), "+"), "@")
		jid = types.NewJID(number, types.DefaultUserServer)
	}
	a := s.accountOf(jid)
	answer := waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": jid}}
	var results []waBinary.Node
	for _, p := range protocols {
		switch p.Tag {
		case "contact":
			in := waBinary.Node{Tag: "contact", Attrs: waBinary.Attrs{"type": "out"}, Content: contact}
			if a != nil {
				in.Attrs["type"] = "in"
				if text(p, "addressing_mode") == "lid" {
					answer.Attrs["jid"], answer.Attrs["pn_jid"] = a.lid, a.pn
				}
			}
			results = append(results, in)
		case "devices":
			if a != nil {
				results = append(results, devicesNode(a))
			}
		case "lid":
			if a != nil {
				results = append(results, waBinary.Node{Tag: "lid", Attrs: waBinary.Attrs{"val": a.lid}})
			}
		case "status":
			if a != nil {
				results = append(results, waBinary.Node{Tag: "status", Attrs: waBinary.Attrs{"t": unixNow()}, Content: []byte(a.about)})
			}
		case "picture", "business", "disappearing_mode", "sidelist", "bot", "username", "text_status": // nobody has any
		default:
			s.addUnknown("usync <" + p.Tag + ">")
		}
	}
	answer.Content = results
	return answer
}

func devicesNode(a *account) waBinary.Node {
	var list []waBinary.Node
	for _, d := range a.sorted() {
		n := waBinary.Node{Tag: "device", Attrs: waBinary.Attrs{"id": int(d.id)}}
		if d.id != 0 {
			n.Attrs["key-index"] = d.keyIndex
		}
		list = append(list, n)
	}
	return waBinary.Node{Tag: "devices", Content: []waBinary.Node{
		{Tag: "device-list", Attrs: waBinary.Attrs{"hash": participantHash(a.addresses(a.pn))}, Content: list},
		{Tag: "key-index-list", Attrs: waBinary.Attrs{"ts": unixNow()}},
	}}
}
