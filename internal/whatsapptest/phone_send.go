package whatsapptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/groups"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/util/optional"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// Say sends a text and returns its ID once the server has taken it.
func (p *Phone) Say(ctx context.Context, to types.JID, text string) (types.MessageID, error) {
	return p.Send(ctx, to, Draft{Text: text})
}

// Send sends a message to a person, a group, or the phone's own account ("message yourself"),
// and returns its ID once the server has taken it. The phone shows it from before that on.
func (p *Phone) Send(ctx context.Context, to types.JID, d Draft) (types.MessageID, error) {
	msg, err := d.message(p.address)
	if err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	if media, kind := d.attachment(); media != nil {
		body, f, err := sealMedia(media.Data, kind)
		if err != nil {
			return "", fmt.Errorf("send: %w", err)
		}
		f.path, f.url = p.server.uploadMedia(kind.host, body)
		if media.Claim != 0 {
			f.length = media.Claim
		}
		f.attach(msg)
	}
	msg = d.wrap(msg)
	id := d.ID
	if id == "" {
		id = newMessageID()
	}
	if err := p.transmit(ctx, to, id, msg, ""); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	return id, nil
}

// Edit changes the text of a message of this account.
func (p *Phone) Edit(ctx context.Context, to types.JID, id types.MessageID, text string) error {
	key := p.messageKey(to, p.LID(), id)
	if err := p.transmit(ctx, to, newMessageID(), editMessage(key, text), editText); err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	return nil
}

// Revoke deletes a message of this account for everyone.
func (p *Phone) Revoke(ctx context.Context, to types.JID, id types.MessageID) error {
	key := p.messageKey(to, p.LID(), id)
	if err := p.transmit(ctx, to, newMessageID(), revokeMessage(key), editRevoke); err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return nil
}

// RevokeAsAdmin deletes somebody else's message in a group for everyone.
func (p *Phone) RevokeAsAdmin(ctx context.Context, group types.JID, msg Received) error {
	key := p.messageKey(group, msg.Sender, msg.ID)
	if err := p.transmit(ctx, group, newMessageID(), revokeMessage(key), editAdminRevoke); err != nil {
		return fmt.Errorf("revoke as admin: %w", err)
	}
	return nil
}

// React reacts to a message with an emoji; the empty one takes the reaction back.
func (p *Phone) React(ctx context.Context, to types.JID, msg Received, emoji string) error {
	edit := ""
	if emoji == "" {
		edit = editRevoke
	}
	key := p.messageKey(to, msg.Sender, msg.ID)
	if err := p.transmit(ctx, to, newMessageID(), reactionMessage(key, emoji), edit); err != nil {
		return fmt.Errorf("react: %w", err)
	}
	return nil
}

// messageKey names a message from this account's point of view.
func (p *Phone) messageKey(chat, author types.JID, id types.MessageID) *waCommon.MessageKey {
	key := &waCommon.MessageKey{
		RemoteJID: proto.String(p.address(chat).String()),
		FromMe:    proto.Bool(p.own(author)),
		ID:        &id,
	}
	if chat.Server == types.GroupServer {
		key.RemoteJID = proto.String(chat.String())
		if !p.own(author) {
			key.Participant = proto.String(p.address(author).String())
		}
	}
	return key
}

// Type shows in the chat that the person composes, or that they stopped.
func (p *Phone) Type(ctx context.Context, to types.JID, on bool) error {
	l, err := p.online()
	if err != nil {
		return fmt.Errorf("type: %w", err)
	}
	state := waBinary.Node{Tag: "paused"}
	if on {
		state.Tag = "composing"
	}
	l.submit(waBinary.Node{Tag: "chatstate", Attrs: waBinary.Attrs{"to": p.address(to)}, Content: []waBinary.Node{state}})
	return ctx.Err()
}

// Subscribe has the server tell when a person is online; see Present.
func (p *Phone) Subscribe(who types.JID) {
	p.submit(waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{"type": "subscribe", "to": p.address(who)}})
}

// Read sends read receipts for messages of the chat, as opening it does; without ids for all
// that others wrote there.
func (p *Phone) Read(ctx context.Context, chat types.JID, ids ...types.MessageID) error {
	l, err := p.online()
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	type source struct{ to, participant types.JID }
	read := map[source][]types.MessageID{}
	for _, m := range p.Messages(chat) {
		if m.FromMe || len(ids) > 0 && !slices.Contains(ids, m.ID) {
			continue
		}
		from := source{to: m.from.ToNonAD()}
		if m.Chat.Server == types.GroupServer {
			from = source{m.Chat, p.address(m.Sender)}
		}
		read[from] = append(read[from], m.ID)
	}
	if len(read) == 0 {
		return fmt.Errorf("read: nothing to read in %s", chat)
	}
	for from, ids := range read {
		n := waBinary.Node{Tag: "receipt", Attrs: waBinary.Attrs{
			"id": ids[0], "to": from.to, "type": "read", "t": unixNow(),
		}}
		if !from.participant.IsEmpty() {
			n.Attrs["participant"] = from.participant
		}
		if len(ids) > 1 {
			var items []waBinary.Node
			for _, id := range ids[1:] {
				items = append(items, waBinary.Node{Tag: "item", Attrs: waBinary.Attrs{"id": id}})
			}
			n.Content = []waBinary.Node{{Tag: "list", Content: items}}
		}
		l.submit(n)
	}
	return ctx.Err()
}

// transmit encrypts a message for all devices that are to have it, hands it in and waits for
// the server's ack.
func (p *Phone) transmit(ctx context.Context, to types.JID, id types.MessageID, msg *waE2E.Message, edit string) error {
	l, err := p.online()
	if err != nil {
		return err
	}
	group := to.Server == types.GroupServer
	kind, mediaType := stanzaType(msg)
	out := &outgoing{to: p.address(to), chat: p.canonical(to), msg: msg}
	out.attrs = waBinary.Attrs{"to": out.to, "id": id, "type": kind}
	if edit != "" {
		out.attrs["edit"] = edit
	}
	encAttrs := waBinary.Attrs{"v": "2"}
	if mediaType != "" {
		encAttrs["mediatype"] = mediaType
	}
	if edit != "" || kind == "reaction" {
		encAttrs["decrypt-fail"] = "hide"
	}

	p.wire.Lock()
	var content []waBinary.Node
	if group {
		out.attrs["addressing_mode"] = "lid"
		content, err = p.groupContent(ctx, l, out, encAttrs)
	} else {
		if out.to.Server == types.HiddenUserServer {
			if a := p.server.findAccount(out.to); a != nil {
				out.attrs["peer_recipient_pn"] = a.pn
			}
		}
		content, err = p.directContent(ctx, l, out, encAttrs)
	}
	if err != nil {
		p.wire.Unlock()
		return err
	}
	ack := make(chan waBinary.Node, 1)
	p.mu.Lock()
	p.sent[id] = out
	p.acks[id] = ack
	p.mu.Unlock()
	p.apply(incoming{
		id: id, chat: out.chat, sender: p.LID(), device: p.device.id, from: out.to,
		name: p.name, time: time.Now().Truncate(time.Second),
	}, msg)
	l.submit(waBinary.Node{Tag: "message", Attrs: out.attrs, Content: content})
	p.wire.Unlock()

	select {
	case answer := <-ack:
		if code, failed := answer.Attrs["error"]; failed {
			return fmt.Errorf("the server refused message %s with error %v", id, code)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the ack of %s: %w", id, ctx.Err())
	case <-l.context.Done():
		return fmt.Errorf("wait for the ack of %s: %w", id, errOffline)
	}
}

// directContent encrypts a message for the other person's devices and, as one that was sent
// elsewhere, for the account's own other devices. The caller holds p.wire.
func (p *Phone) directContent(ctx context.Context, l *link, out *outgoing, encAttrs waBinary.Attrs) ([]waBinary.Node, error) {
	devices, err := p.devices(ctx, l, out.to, p.address(p.LID()))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(devices, func(d types.JID) bool { return d.User == out.to.User }) && !p.own(out.to) {
		return nil, fmt.Errorf("%s is not on WhatsApp", out.to)
	}
	plain, own := encoded(out.msg), encoded(p.sentElsewhere(out))
	participants, withIdentity, err := p.encryptEach(ctx, l, devices, encAttrs, func(device types.JID) []byte {
		if p.own(device) {
			return own
		}
		return plain
	})
	if err != nil {
		return nil, err
	}
	return p.withIdentity([]waBinary.Node{{Tag: "participants", Content: participants}}, withIdentity), nil
}

// sentElsewhere wraps a message for the account's own devices.
func (p *Phone) sentElsewhere(out *outgoing) *waE2E.Message {
	return &waE2E.Message{
		DeviceSentMessage:  &waE2E.DeviceSentMessage{DestinationJID: proto.String(out.to.String()), Message: out.msg},
		MessageContextInfo: out.msg.MessageContextInfo,
	}
}

// groupContent encrypts a message with the phone's sender key of the group, and that key for
// the devices that do not have it yet. The caller holds p.wire.
func (p *Phone) groupContent(ctx context.Context, l *link, out *outgoing, encAttrs waBinary.Attrs) ([]waBinary.Node, error) {
	members, err := p.members(ctx, l, out.to)
	if err != nil {
		return nil, err
	}
	devices, err := p.devices(ctx, l, members...)
	if err != nil {
		return nil, err
	}
	name := protocol.NewSenderKeyName(out.to.String(), p.device.lidJID().SignalAddress())
	holders := p.keyed[out.to]
	for holder := range holders {
		if !slices.Contains(devices, holder) {
			// Whoever left must not read on.
			delete(p.signal.senderKeys, senderKeyIndex(name))
			holders = nil
			break
		}
	}
	builder := groups.NewGroupSessionBuilder(p.signal, serializer)
	distribution, err := builder.Create(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("make sender key: %w", err)
	}
	key := encoded(&waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{
		GroupID:                             proto.String(out.to.String()),
		AxolotlSenderKeyDistributionMessage: distribution.Serialize(),
	}})
	fresh := slices.DeleteFunc(slices.Clone(devices), func(d types.JID) bool { return holders[d] })
	participants, withIdentity, err := p.encryptEach(ctx, l, fresh, waBinary.Attrs{"v": "2"}, func(types.JID) []byte { return key })
	if err != nil {
		return nil, err
	}
	encrypted, err := groups.NewGroupCipher(builder, name, p.signal).Encrypt(ctx, pad(encoded(out.msg)))
	if err != nil {
		return nil, fmt.Errorf("encrypt for group: %w", err)
	}
	p.keyed[out.to] = map[types.JID]bool{}
	for _, d := range devices {
		p.keyed[out.to][d] = true
	}
	out.attrs["phash"] = participantHash(append(slices.Clone(devices), p.device.lidJID()))

	var content []waBinary.Node
	if len(participants) > 0 {
		content = append(content, waBinary.Node{Tag: "participants", Content: participants})
	}
	attrs := maps.Clone(encAttrs)
	attrs["type"] = "skmsg"
	content = append(content, waBinary.Node{Tag: "enc", Attrs: attrs, Content: encrypted.SignedSerialize()})
	return p.withIdentity(content, withIdentity), nil
}

// encryptEach makes a <to> for each device, and tells whether one needs to see who signed this
// device. A device that has no keys on the server any more is left out. The caller holds p.wire.
func (p *Phone) encryptEach(ctx context.Context, l *link, devices []types.JID, encAttrs waBinary.Attrs, plain func(types.JID) []byte) (nodes []waBinary.Node, withIdentity bool, err error) {
	var missing []types.JID
	for _, device := range devices {
		if ok, _ := p.signal.ContainsSession(ctx, p.signalJID(device).SignalAddress()); !ok {
			missing = append(missing, device)
		}
	}
	gone, err := p.startSessions(ctx, l, missing)
	if err != nil {
		return nil, false, err
	}
	for _, device := range devices {
		if slices.Contains(gone, device) {
			continue
		}
		enc, err := p.encrypt(ctx, device, plain(device), encAttrs)
		if err != nil {
			return nil, false, err
		}
		withIdentity = withIdentity || enc.Attrs["type"] == "pkmsg"
		nodes = append(nodes, waBinary.Node{Tag: "to", Attrs: waBinary.Attrs{"jid": device}, Content: []waBinary.Node{enc}})
	}
	return nodes, withIdentity, nil
}

// encrypt encrypts for one device. The caller holds p.wire.
func (p *Phone) encrypt(ctx context.Context, device types.JID, plain []byte, encAttrs waBinary.Attrs) (waBinary.Node, error) {
	address := p.signalJID(device).SignalAddress()
	cipher := session.NewCipher(session.NewBuilderFromSignal(p.signal, address, serializer), address)
	ciphertext, err := cipher.Encrypt(ctx, pad(plain))
	if err != nil {
		return waBinary.Node{}, fmt.Errorf("encrypt for %s: %w", device, err)
	}
	attrs := maps.Clone(encAttrs)
	attrs["type"] = "msg"
	if ciphertext.Type() == protocol.PREKEY_TYPE {
		attrs["type"] = "pkmsg"
	}
	return waBinary.Node{Tag: "enc", Attrs: attrs, Content: ciphertext.Serialize()}, nil
}

// withIdentity adds the account's signature of this device, if it is needed and there is one.
func (p *Phone) withIdentity(content []waBinary.Node, needed bool) []waBinary.Node {
	if !needed || p.device.advIdentity == nil {
		return content
	}
	return append(content, waBinary.Node{Tag: "device-identity", Content: p.device.advIdentity})
}

// startSessions fetches the devices' keys and starts sessions with them. It returns those that
// the server has no keys of. The caller holds p.wire.
func (p *Phone) startSessions(ctx context.Context, l *link, devices []types.JID) (gone []types.JID, err error) {
	if len(devices) == 0 {
		return nil, nil
	}
	var users []waBinary.Node
	for _, device := range devices {
		users = append(users, waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": device, "reason": "identity"}})
	}
	answer, err := p.ask(ctx, l, "encrypt", "get", types.ServerJID, waBinary.Node{Tag: "key", Content: users})
	if err != nil {
		return nil, fmt.Errorf("fetch keys: %w", err)
	}
	list := answer.GetChildByTag("list")
	for _, user := range list.GetChildren() {
		device, _ := user.Attrs["jid"].(types.JID)
		if _, failed := user.GetOptionalChildByTag("error"); failed {
			gone = append(gone, device)
			continue
		}
		if err := p.startSession(ctx, device, user, user); err != nil {
			return nil, err
		}
	}
	return gone, nil
}

// startSession starts a session from a bundle: registration is in the node around it. The
// caller holds p.wire.
func (p *Phone) startSession(ctx context.Context, device types.JID, around, keys waBinary.Node) error {
	bundle, err := readBundle(device, around, keys)
	if err != nil {
		return fmt.Errorf("read the keys of %s: %w", device, err)
	}
	if device.Device != 0 {
		if err := p.checkCompanion(device, bundle.IdentityKey(), keys); err != nil {
			p.fail("%v", err)
		}
	}
	address := p.signalJID(device).SignalAddress()
	if err := session.NewBuilderFromSignal(p.signal, address, serializer).ProcessBundle(ctx, bundle); err != nil {
		return fmt.Errorf("start session with %s: %w", device, err)
	}
	return nil
}

// readBundle reads a device's public keys as the server, or a retry receipt, gives them.
func readBundle(device types.JID, around, bundle waBinary.Node) (*prekey.Bundle, error) {
	registration, own := childBytes(around, "registration"), childBytes(bundle, "identity")
	if len(registration) != 4 || len(own) != 32 {
		return nil, errors.New("registration or identity missing")
	}
	signed, ok := readKey(bundle.GetChildByTag("skey"))
	if !ok {
		return nil, errors.New("no signed pre-key")
	}
	oneTimeID, oneTime := optional.NewEmptyUint32(), ecc.ECPublicKeyable(nil)
	if node, ok := bundle.GetOptionalChildByTag("key"); ok {
		key, ok := readKey(node)
		if !ok {
			return nil, errors.New("malformed one-time key")
		}
		oneTimeID, oneTime = optional.NewOptionalUint32(key.id), ecc.NewDjbECPublicKey(key.public)
	}
	return prekey.NewBundle(binary.BigEndian.Uint32(registration), uint32(device.Device),
		oneTimeID, signed.id, oneTime, ecc.NewDjbECPublicKey(signed.public), signed.signature,
		identity.NewKey(ecc.NewDjbECPublicKey([32]byte(own)))), nil
}

// devices asks for all devices of the users, without this one itself.
func (p *Phone) devices(ctx context.Context, l *link, users ...types.JID) ([]types.JID, error) {
	var list []waBinary.Node
	for _, user := range users {
		n := waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": user}}
		if !slices.ContainsFunc(list, func(o waBinary.Node) bool { return o.Attrs["jid"] == user }) {
			list = append(list, n)
		}
	}
	answer, err := p.ask(ctx, l, "usync", "get", types.ServerJID, waBinary.Node{
		Tag:   "usync",
		Attrs: waBinary.Attrs{"sid": newMessageID(), "index": "0", "last": "true", "mode": "query", "context": "message"},
		Content: []waBinary.Node{
			{Tag: "query", Content: []waBinary.Node{{Tag: "devices", Attrs: waBinary.Attrs{"version": "2"}}}},
			{Tag: "list", Content: list},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("look up devices: %w", err)
	}
	var devices []types.JID
	usync := answer.GetChildByTag("usync", "list")
	for _, user := range usync.GetChildren() {
		jid, _ := user.Attrs["jid"].(types.JID)
		deviceList := user.GetChildByTag("devices", "device-list")
		for _, d := range deviceList.GetChildren() {
			text, _ := d.Attrs["id"].(string)
			id, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("look up devices: %w", err)
			}
			jid.Device = uint16(id)
			if p.own(jid) && jid.Device == p.device.id {
				continue
			}
			devices = append(devices, jid)
		}
	}
	return devices, nil
}

// ask sends an iq and returns its answer; an answer of type error is an error.
func (p *Phone) ask(ctx context.Context, l *link, xmlns, kind string, to types.JID, content ...waBinary.Node) (*waBinary.Node, error) {
	answer, err := l.request(ctx, waBinary.Node{
		Tag:     "iq",
		Attrs:   waBinary.Attrs{"to": to, "type": kind, "xmlns": xmlns},
		Content: content,
	})
	if err != nil {
		return nil, err
	}
	if answer.Attrs["type"] == "error" {
		return nil, fmt.Errorf("the server answers %s", answer)
	}
	return answer, nil
}

// peer sends a message to another device of the account alone: keys, history and the like.
func (p *Phone) peer(ctx context.Context, to types.JID, msg *waE2E.ProtocolMessage) error {
	l, err := p.online()
	if err != nil {
		return err
	}
	p.wire.Lock()
	defer p.wire.Unlock()
	plain := encoded(&waE2E.Message{ProtocolMessage: msg})
	nodes, withIdentity, err := p.encryptEach(ctx, l, []types.JID{to}, waBinary.Attrs{"v": "2"}, func(types.JID) []byte { return plain })
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return fmt.Errorf("%s is not linked any more", to)
	}
	meta := waBinary.Node{Tag: "meta", Attrs: waBinary.Attrs{"appdata": "default"}}
	content := append([]waBinary.Node{meta}, nodes[0].GetChildren()...)
	id := newMessageID()
	out := &outgoing{to: to, chat: p.LID(), msg: &waE2E.Message{ProtocolMessage: msg}}
	out.attrs = waBinary.Attrs{"to": to, "id": id, "type": "text", "category": "peer", "push_priority": "high"}
	p.mu.Lock()
	p.sent[id] = out
	p.mu.Unlock()
	l.submit(waBinary.Node{Tag: "message", Attrs: out.attrs, Content: p.withIdentity(content, withIdentity)})
	return nil
}

// pad adds 1 to 15 bytes that each say how many there are.
func pad(plain []byte) []byte {
	var n [1]byte
	rand.Read(n[:])
	count := n[0] % 15
	count++
	return slices.Concat(plain, bytes.Repeat([]byte{count}, int(count)))
}

func unpad(padded []byte) ([]byte, error) {
	if len(padded) == 0 {
		return nil, errors.New("no padding")
	}
	n := int(padded[len(padded)-1])
	if n == 0 || n > 16 || n > len(padded) {
		return nil, fmt.Errorf("padding of %d bytes", n)
	}
	for _, b := range padded[len(padded)-n:] {
		if int(b) != n {
			return nil, errors.New("uneven padding")
		}
	}
	return padded[:len(padded)-n], nil
}

// encoded encodes a message that was made here, which does not fail.
func encoded(m proto.Message) []byte {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return raw
}
