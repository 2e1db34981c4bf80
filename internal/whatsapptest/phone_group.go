package whatsapptest

import (
	"context"
	"fmt"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// Group creates a group and returns its JID. The phone's owner is its first admin.
func (p *Phone) Group(ctx context.Context, subject string, members ...types.JID) (types.JID, error) {
	l, err := p.online()
	if err != nil {
		return types.EmptyJID, fmt.Errorf("create group: %w", err)
	}
	answer, err := p.ask(ctx, l, "w:g2", "set", types.GroupServerJID, waBinary.Node{
		Tag:     "create",
		Attrs:   waBinary.Attrs{"subject": subject, "key": newMessageID()},
		Content: p.participants(members),
	})
	if err != nil {
		return types.EmptyJID, fmt.Errorf("create group: %w", err)
	}
	group := answer.GetChildByTag("group")
	id := text(group, "id")
	if id == "" {
		return types.EmptyJID, fmt.Errorf("create group: the server answers %s", answer)
	}
	return types.NewJID(id, types.GroupServer), nil
}

// AddMember adds people to a group.
func (p *Phone) AddMember(ctx context.Context, group types.JID, members ...types.JID) error {
	return p.changeGroup(ctx, group, "add", members)
}

// RemoveMember removes people from a group.
func (p *Phone) RemoveMember(ctx context.Context, group types.JID, members ...types.JID) error {
	return p.changeGroup(ctx, group, "remove", members)
}

// Promote makes members of a group its admins.
func (p *Phone) Promote(ctx context.Context, group types.JID, members ...types.JID) error {
	return p.changeGroup(ctx, group, "promote", members)
}

func (p *Phone) changeGroup(ctx context.Context, group types.JID, what string, members []types.JID) error {
	l, err := p.online()
	if err != nil {
		return fmt.Errorf("%s members: %w", what, err)
	}
	answer, err := p.ask(ctx, l, "w:g2", "set", group, waBinary.Node{Tag: what, Content: p.participants(members)})
	if err != nil {
		return fmt.Errorf("%s members: %w", what, err)
	}
	results := answer.GetChildByTag(what)
	for _, result := range results.GetChildren() {
		if code, failed := result.Attrs["error"]; failed {
			return fmt.Errorf("%s members: error %v for %v", what, code, result.Attrs["jid"])
		}
	}
	return nil
}

func (p *Phone) participants(members []types.JID) []waBinary.Node {
	var list []waBinary.Node
	for _, member := range members {
		n := waBinary.Node{Tag: "participant", Attrs: waBinary.Attrs{"jid": member.ToNonAD()}}
		if a := p.server.findAccount(member); a != nil {
			n.Attrs["jid"], n.Attrs["phone_number"] = a.lid, a.pn
		}
		list = append(list, n)
	}
	return list
}

// members asks for the members of a group.
func (p *Phone) members(ctx context.Context, l *link, group types.JID) ([]types.JID, error) {
	answer, err := p.ask(ctx, l, "w:g2", "get", group, waBinary.Node{Tag: "query", Attrs: waBinary.Attrs{"request": "interactive"}})
	if err != nil {
		return nil, fmt.Errorf("look up group: %w", err)
	}
	var members []types.JID
	found := answer.GetChildByTag("group")
	for _, participant := range found.GetChildrenByTag("participant") {
		members = append(members, address(participant, "jid"))
	}
	return members, nil
}
