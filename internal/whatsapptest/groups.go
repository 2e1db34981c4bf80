package whatsapptest

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// group is a group chat. It belongs to Server.mu.
type group struct {
	jid     types.JID
	subject string
	creator *account
	created int64
	// renamed and renamer are of the last change of the subject.
	renamed int64
	renamer *account
	members []*member

	description, descriptionID string
	describer                  *account
	announce, locked           bool
	invite                     string
	// version counts the changes of the participants.
	version int
}

// member is a participant of a group; role is "", "admin" or "superadmin".
type member struct {
	account *account
	role    string
}

func (m *member) admin() bool { return m.role != "" }

func (m *member) node() waBinary.Node {
	n := waBinary.Node{Tag: "participant", Attrs: waBinary.Attrs{"jid": m.account.lid, "phone_number": m.account.pn}}
	if m.role != "" {
		n.Attrs["type"] = m.role
	}
	return n
}

func (g *group) member(a *account) *member {
	i := slices.IndexFunc(g.members, func(m *member) bool { return m.account == a })
	if i < 0 {
		return nil
	}
	return g.members[i]
}

// addresses is the devices of all members.
func (g *group) addresses() []types.JID {
	var all []types.JID
	for _, m := range g.members {
		all = append(all, m.account.addresses(m.account.lid)...)
	}
	return all
}

// node is the group's metadata.
func (g *group) node() waBinary.Node {
	children := []waBinary.Node{{Tag: "member_add_mode", Content: []byte("all_member_add")}}
	for _, m := range g.members {
		children = append(children, m.node())
	}
	if g.description != "" {
		children = append(children, waBinary.Node{
			Tag:     "description",
			Attrs:   waBinary.Attrs{"id": g.descriptionID, "t": g.created, "participant": g.describer.lid},
			Content: []waBinary.Node{{Tag: "body", Content: []byte(g.description)}},
		})
	}
	if g.announce {
		children = append(children, waBinary.Node{Tag: "announcement"})
	}
	if g.locked {
		children = append(children, waBinary.Node{Tag: "locked"})
	}
	return waBinary.Node{Tag: "group", Attrs: waBinary.Attrs{
		"id": g.jid.User, "subject": g.subject, "creation": g.created, "creator": g.creator.lid, "creator_pn": g.creator.pn,
		"s_t": g.renamed, "s_o": g.renamer.lid, "s_o_pn": g.renamer.pn, "addressing_mode": "lid",
		"size": len(g.members), "p_v_id": strconv.Itoa(1000 + g.version), "a_v_id": strconv.Itoa(1000 + g.version),
	}, Content: children}
}

// groupQuery answers an iq of w:g2; false if it is unknown. The caller holds s.mu.
func (s *Server) groupQuery(l *link, n waBinary.Node) bool {
	to := address(n, "to")
	children := n.GetChildren()
	if len(children) != 1 {
		return false
	}
	ask := children[0]
	if to == types.GroupServerJID {
		return s.groupsQuery(l, n, ask)
	}
	g, me := s.groups[to], l.device.account
	if g == nil {
		l.push(iqError(n, 404, "item-not-found"))
		return true
	}
	if g.member(me) == nil {
		l.push(iqError(n, 403, "forbidden"))
		return true
	}
	if ask.Tag == "query" {
		l.push(iqResult(n, g.node()))
		return true
	}
	open := ask.Tag == "subject" || ask.Tag == "description" || ask.Tag == "add"
	if !g.member(me).admin() && (!open || g.locked) {
		l.push(iqError(n, 403, "forbidden"))
		return true
	}
	change := waBinary.Node{Tag: ask.Tag}
	answer := []waBinary.Node{}
	leaving := []*account{}
	switch ask.Tag {
	case "add", "remove", "promote", "demote":
		var results, changed []waBinary.Node
		for _, p := range ask.GetChildrenByTag("participant") {
			a := s.accountOf(address(p, "jid"))
			result := waBinary.Node{Tag: "participant", Attrs: waBinary.Attrs{"jid": p.Attrs["jid"]}}
			if code := g.change(ask.Tag, a); code != 0 {
				result.Attrs["error"] = code
			} else {
				result.Attrs["phone_number"] = a.pn
				changed = append(changed, waBinary.Node{Tag: "participant", Attrs: waBinary.Attrs{"jid": a.lid, "phone_number": a.pn}})
			}
			if ask.Tag == "remove" && a != nil {
				leaving = append(leaving, a)
			}
			results = append(results, result)
		}
		g.version++
		answer = []waBinary.Node{{Tag: ask.Tag, Content: results}}
		change.Attrs = waBinary.Attrs{"v_id": strconv.Itoa(1000 + g.version), "prev_v_id": strconv.Itoa(999 + g.version)}
		change.Content = changed
		if len(changed) == 0 {
			l.push(iqResult(n, answer...))
			return true
		}
	case "subject":
		subject, _ := ask.Content.([]byte)
		g.subject, g.renamed, g.renamer = string(subject), unixNow(), me
		change.Attrs = waBinary.Attrs{"subject": g.subject, "s_t": g.renamed, "s_o": me.lid, "s_o_pn": me.pn}
	case "description":
		g.description, g.descriptionID, g.describer = string(childBytes(ask, "body")), text(ask, "id"), me
		change.Attrs = waBinary.Attrs{"id": g.descriptionID}
		change.Content = []waBinary.Node{{Tag: "body", Content: []byte(g.description)}}
		if g.description == "" {
			change.Content = []waBinary.Node{{Tag: "delete"}}
		}
	case "announcement", "not_announcement":
		g.announce = ask.Tag == "announcement"
		change.Attrs = waBinary.Attrs{"v_id": strconv.Itoa(1000 + g.version)}
	case "locked", "unlocked":
		g.locked = ask.Tag == "locked"
	case "invite":
		if g.invite == "" || text(n, "type") == "set" {
			g.invite = base64.RawURLEncoding.EncodeToString(randomBytes(16))
		}
		l.push(iqResult(n, waBinary.Node{Tag: "invite", Attrs: waBinary.Attrs{"code": g.invite}}))
		return true
	default:
		return false
	}
	l.push(iqResult(n, answer...))
	s.tellGroup(g, l.device, change, leaving...)
	return true
}

// change adds, removes, promotes or demotes an account; the error code if it cannot be done.
func (g *group) change(what string, a *account) int {
	if a == nil {
		return 404
	}
	m := g.member(a)
	switch {
	case what == "add" && m != nil:
		return 409
	case what == "add":
		g.members = append(g.members, &member{account: a})
	case m == nil:
		return 404
	case what == "remove":
		g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	case what == "promote":
		m.role = "admin"
	case what == "demote":
		m.role = ""
	}
	return 0
}

// groupsQuery answers what is asked of groups at large.
func (s *Server) groupsQuery(l *link, n, ask waBinary.Node) bool {
	me := l.device.account
	switch ask.Tag {
	case "create":
		g := s.newGroup(me, text(ask, "subject"))
		for _, p := range ask.GetChildrenByTag("participant") {
			if a := s.accountOf(address(p, "jid")); a != nil && g.member(a) == nil {
				g.members = append(g.members, &member{account: a})
			}
		}
		_, g.announce = ask.GetOptionalChildByTag("announcement")
		_, g.locked = ask.GetOptionalChildByTag("locked")
		l.push(iqResult(n, g.node()))
		s.tellGroup(g, l.device, waBinary.Node{
			Tag: "create", Attrs: waBinary.Attrs{"type": "new", "key": g.jid.User}, Content: []waBinary.Node{g.node()},
		})
	case "participating":
		var groups []waBinary.Node
		for _, g := range s.groups {
			if g.member(me) != nil {
				groups = append(groups, g.node())
			}
		}
		l.push(iqResult(n, waBinary.Node{Tag: "groups", Content: groups}))
	case "leave":
		var left []waBinary.Node
		for _, child := range ask.GetChildrenByTag("group") {
			g := s.groups[address(child, "id")]
			if g == nil || g.change("remove", me) != 0 {
				left = append(left, waBinary.Node{Tag: "group", Attrs: waBinary.Attrs{"id": child.Attrs["id"], "error": 404}})
				continue
			}
			g.version++
			left = append(left, waBinary.Node{Tag: "group", Attrs: waBinary.Attrs{"id": g.jid}})
			s.tellGroup(g, l.device, waBinary.Node{
				Tag:     "remove",
				Attrs:   waBinary.Attrs{"v_id": strconv.Itoa(1000 + g.version), "prev_v_id": strconv.Itoa(999 + g.version)},
				Content: []waBinary.Node{{Tag: "participant", Attrs: waBinary.Attrs{"jid": me.lid, "phone_number": me.pn}}},
			}, me)
		}
		l.push(iqResult(n, waBinary.Node{Tag: "leave", Content: left}))
	case "invite":
		for _, g := range s.groups {
			if g.invite == "" || g.invite != text(ask, "code") {
				continue
			}
			if text(n, "type") == "get" {
				l.push(iqResult(n, g.node()))
				return true
			}
			if g.change("add", me) == 0 {
				g.version++
				s.tellGroup(g, l.device, waBinary.Node{
					Tag:     "add",
					Attrs:   waBinary.Attrs{"reason": "invite", "v_id": strconv.Itoa(1000 + g.version), "prev_v_id": strconv.Itoa(999 + g.version)},
					Content: []waBinary.Node{{Tag: "participant", Attrs: waBinary.Attrs{"jid": me.lid, "phone_number": me.pn}}},
				})
			}
			l.push(iqResult(n, waBinary.Node{Tag: "group", Attrs: waBinary.Attrs{"jid": g.jid}}))
			return true
		}
		l.push(iqError(n, 404, "item-not-found"))
	default:
		return false
	}
	return true
}

// newGroup opens a group of one. The caller holds s.mu.
func (s *Server) newGroup(creator *account, subject string) *group {
	now := unixNow()
	jid := types.NewJID(fmt.Sprintf("1203630%011d", len(s.groups)+1), types.GroupServer)
	g := &group{
		jid: jid, subject: subject, creator: creator, created: now, renamed: now, renamer: creator,
		members: []*member{{account: creator, role: "superadmin"}},
	}
	s.groups[jid] = g
	return g
}

// tellGroup tells everyone in the group, and those who have just left it, but not the device
// that did it, of a change.
func (s *Server) tellGroup(g *group, by *device, change waBinary.Node, left ...*account) {
	for _, m := range g.members {
		left = append(left, m.account)
	}
	for _, a := range left {
		for _, d := range a.others(by) {
			s.notify(d, waBinary.Attrs{
				"from": g.jid, "type": "w:gp2", "notify": by.account.name,
				"participant": by.account.lid, "participant_pn": by.account.pn, "addressing_mode": "lid",
			}, change)
		}
	}
}
