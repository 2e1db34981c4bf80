package whatsapptest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/groups"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/protocol"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// maxRetries is how often a phone asks for a message again.
const maxRetries = 4

// incoming is where a message comes from.
type incoming struct {
	id types.MessageID
	// chat and sender are named as the phone does: by LID, without device.
	chat, sender types.JID
	device       uint16
	// from is the address on the stanza.
	from    types.JID
	name    string
	time    time.Time
	retried bool
}

func (in incoming) ref() messageRef { return messageRef{in.chat, in.sender, in.id} }

// deliver takes what the server sends, one stanza at a time.
func (p *Phone) deliver(l *link, n waBinary.Node) {
	switch n.Tag {
	case "message":
		p.onMessage(l, n)
	case "receipt":
		p.onReceipt(l, n)
	case "notification":
		p.onNotification(l, n)
	case "ack":
		p.onAck(n)
	case "chatstate":
		p.onChatState(n)
	case "presence":
		who := p.canonical(address(n, "from"))
		p.mu.Lock()
		p.present[who] = text(n, "type") != "unavailable"
		p.happened(Change{Kind: "presence", Chat: who, By: who})
		p.mu.Unlock()
	}
}

func (p *Phone) onAck(n waBinary.Node) {
	if text(n, "class") != "message" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := text(n, "id")
	if waiting := p.acks[id]; waiting != nil {
		delete(p.acks, id)
		waiting <- n
	}
}

func (p *Phone) onChatState(n waBinary.Node) {
	from := address(n, "from")
	by := from
	if from.Server == types.GroupServer {
		by = address(n, "participant")
	}
	_, composing := n.GetOptionalChildByTag("composing")
	chat, by := p.canonical(from), p.canonical(by)
	p.mu.Lock()
	defer p.mu.Unlock()
	if composing && !p.typing[chat] {
		p.typed[chat]++
	}
	p.typing[chat] = composing
	p.happened(Change{Kind: "typing", Chat: chat, By: by, Typing: composing})
}

func (p *Phone) onNotification(l *link, n waBinary.Node) {
	switch text(n, "type") {
	case "encrypt":
		if _, ok := n.GetOptionalChildByTag("count"); ok {
			if err := p.uploadKeys(l); err != nil {
				p.fail("upload keys: %v", err)
			}
		}
	case "w:gp2":
		p.mu.Lock()
		p.happened(Change{Kind: "group", Chat: address(n, "from"), By: address(n, "participant")})
		p.mu.Unlock()
	}
	l.submit(reply("ack", n, waBinary.Attrs{"class": "notification", "type": text(n, "type")}))
}

// uploadKeys gives the server fresh one-time keys.
func (p *Phone) uploadKeys(l *link) error {
	p.wire.Lock()
	var list []waBinary.Node
	for _, key := range p.signal.newPreKeys(preKeysAtOnce) {
		list = append(list, publicPreKey{id: key.KeyID, public: *key.Pub}.node("key"))
	}
	signed := p.signal.signedPreKey()
	skey := publicPreKey{id: signed.KeyID, public: *signed.Pub, signature: *signed.Signature}.node("skey")
	p.wire.Unlock()
	_, err := p.ask(l.context, l, "encrypt", "set", types.ServerJID,
		waBinary.Node{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, p.signal.registrationID)},
		waBinary.Node{Tag: "type", Content: []byte{ecc.DjbType}},
		waBinary.Node{Tag: "identity", Content: p.signal.identity.Pub[:]},
		waBinary.Node{Tag: "list", Content: list},
		skey,
	)
	return err
}

// reply makes a receipt or an ack for n, to where n came from.
func reply(tag string, n waBinary.Node, attrs waBinary.Attrs) waBinary.Node {
	attrs["id"], attrs["to"] = n.Attrs["id"], n.Attrs["from"]
	for _, name := range []string{"participant", "recipient"} {
		if v, ok := n.Attrs[name]; ok {
			attrs[name] = v
		}
	}
	return waBinary.Node{Tag: tag, Attrs: attrs}
}

// onMessage decrypts a message, shows it and sends the receipt that fits.
func (p *Phone) onMessage(l *link, n waBinary.Node) {
	device := address(n, "from")
	in := incoming{id: text(n, "id"), from: device, name: text(n, "notify"), chat: p.canonical(device)}
	if device.Server == types.GroupServer {
		device = address(n, "participant")
	} else if recipient := address(n, "recipient"); !recipient.IsEmpty() {
		if !p.own(device) {
			p.fail("message %s from %s names a recipient", in.id, device)
		}
		in.chat = p.canonical(recipient)
	}
	in.sender, in.device = p.canonical(device), device.Device
	seconds, err := strconv.ParseInt(text(n, "t"), 10, 64)
	if err != nil || in.id == "" || device.IsEmpty() {
		p.fail("malformed message stanza %s", n.String())
		return
	}
	in.time = time.Unix(seconds, 0)

	messages, repeated, err := p.open(l.context, n, &in, device)
	if err != nil {
		p.askAgain(l, n, in, device, err)
		return
	}
	if repeated {
		p.repeat(in)
	}
	var requests []*waE2E.ProtocolMessage
	for _, msg := range messages {
		if request := p.receive(in, msg); request != nil {
			requests = append(requests, request)
		}
	}
	attrs := waBinary.Attrs{}
	switch {
	case text(n, "category") == "peer":
		attrs["type"] = "peer_msg"
	case p.own(device):
		attrs["type"] = "sender"
	}
	l.submit(reply("receipt", n, attrs))
	for _, request := range requests {
		if err := p.answerPeer(l.context, device, in.id, request); err != nil {
			p.fail("answer peer message %s: %v", in.id, err)
		}
	}
}

// open decrypts what is new in a message. repeated is set where all of it has been decrypted
// before.
func (p *Phone) open(ctx context.Context, n waBinary.Node, in *incoming, device types.JID) (messages []*waE2E.Message, repeated bool, err error) {
	p.wire.Lock()
	defer p.wire.Unlock()
	// All counters are noted before anything is decrypted, as one that does not decrypt ends it.
	var envelopes []envelope
	for _, enc := range n.GetChildrenByTag("enc") {
		e, err := p.read(ctx, n, enc, device)
		if err != nil {
			return nil, false, err
		}
		in.retried = in.retried || text(enc, "count") != ""
		envelopes = append(envelopes, e)
	}
	if len(envelopes) == 0 {
		return nil, false, errors.New("no ciphertext for this device")
	}
	repeats := 0
	for _, e := range envelopes {
		if e.spent.decrypted {
			repeats++
			continue
		}
		padded, err := e.decrypt()
		if err != nil {
			return nil, false, err
		}
		e.spent.decrypted = true
		plain, err := unpad(padded)
		if err != nil {
			return nil, false, err
		}
		msg := &waE2E.Message{}
		if err := proto.Unmarshal(plain, msg); err != nil {
			return nil, false, fmt.Errorf("read plaintext: %w", err)
		}
		if err := p.takeSenderKey(ctx, in, device, msg); err != nil {
			return nil, false, err
		}
		messages = append(messages, msg)
	}
	return messages, repeats == len(envelopes), nil
}

// envelope is a ciphertext that was read and whose counter was noted.
type envelope struct {
	spent   *use
	decrypt func() (padded []byte, err error)
}

// read reads one ciphertext and notes its counter. The caller holds p.wire.
func (p *Phone) read(ctx context.Context, n, enc waBinary.Node, device types.JID) (envelope, error) {
	if v := text(enc, "v"); v != "2" {
		return envelope{}, fmt.Errorf("version %q of ciphertext", v)
	}
	ciphertext, _ := enc.Content.([]byte)
	remote := p.signalJID(device).SignalAddress()
	note := func(key []byte, counter uint32) *use {
		spent, wrong := p.ledger.note(chainID{remote.String(), string(key)}, counter, ciphertext, text(enc, "count") != "")
		if wrong != "" {
			p.fail("%s, in message %s", wrong, text(n, "id"))
		}
		return spent
	}
	switch kind := text(enc, "type"); kind {
	case "pkmsg":
		msg, err := protocol.NewPreKeySignalMessageFromBytes(ciphertext, serializer.PreKeySignalMessage, serializer.SignalMessage)
		if err != nil {
			return envelope{}, fmt.Errorf("read pre-key message: %w", err)
		}
		inner := msg.WhisperMessage()
		return envelope{note(inner.SenderRatchetKey().Serialize(), inner.Counter()), func() ([]byte, error) {
			if err := p.checkCompanion(device, msg.IdentityKey(), n); err != nil {
				p.fail("%v, in message %s", err, text(n, "id"))
			}
			padded, err := p.signal.decryptPreKeyMessage(ctx, remote, msg)
			if err != nil {
				return nil, fmt.Errorf("decrypt pre-key message: %w", err)
			}
			return padded, nil
		}}, nil
	case "msg":
		msg, err := protocol.NewSignalMessageFromBytes(ciphertext, serializer.SignalMessage)
		if err != nil {
			return envelope{}, fmt.Errorf("read message: %w", err)
		}
		return envelope{note(msg.SenderRatchetKey().Serialize(), msg.Counter()), func() ([]byte, error) {
			padded, err := p.signal.decryptMessage(ctx, remote, msg)
			if err != nil {
				return nil, fmt.Errorf("decrypt message: %w", err)
			}
			return padded, nil
		}}, nil
	case "skmsg":
		msg, err := protocol.NewSenderKeyMessageFromBytes(ciphertext, serializer.SenderKeyMessage)
		if err != nil {
			return envelope{}, fmt.Errorf("read group message: %w", err)
		}
		name := protocol.NewSenderKeyName(address(n, "from").String(), remote)
		key := fmt.Appendf(nil, "%08x in %s", msg.KeyID(), name.GroupID())
		return envelope{note(key, msg.Iteration()), func() ([]byte, error) {
			group := groups.NewGroupCipher(groups.NewGroupSessionBuilder(p.signal, serializer), name, p.signal)
			padded, err := group.Decrypt(ctx, msg)
			if err != nil {
				return nil, fmt.Errorf("decrypt group message: %w", err)
			}
			return padded, nil
		}}, nil
	default:
		return envelope{}, fmt.Errorf("unknown ciphertext type %q", kind)
	}
}

// checkCompanion demands that a companion's identity is signed by its account, and signs the
// account's in turn. holder is the node with the device identity.
func (p *Phone) checkCompanion(device types.JID, own *identity.Key, holder waBinary.Node) error {
	if device.Device == 0 {
		return nil
	}
	a := p.server.findAccount(device)
	if a == nil {
		return fmt.Errorf("device %s of no account", device)
	}
	var signed waAdv.ADVSignedDeviceIdentity
	if err := proto.Unmarshal(childBytes(holder, "device-identity"), &signed); err != nil {
		return fmt.Errorf("read device identity of %s: %w", device, err)
	}
	companion := own.PublicKey().PublicKey()
	byAccount := slices.Concat([]byte{6, 0}, signed.Details, companion[:])
	byDevice := slices.Concat([]byte{6, 1}, signed.Details, companion[:], a.identity.Pub[:])
	switch key := signed.AccountSignatureKey; {
	case key != nil && !slices.Equal(key, a.identity.Pub[:]):
		return fmt.Errorf("device identity of %s is of another account", device)
	case !verify(*a.identity.Pub, byAccount, signed.AccountSignature):
		return fmt.Errorf("device identity of %s is not signed by its account", device)
	case !verify(companion, byDevice, signed.DeviceSignature):
		return fmt.Errorf("device identity of %s is not signed by the device", device)
	}
	return nil
}

// takeSenderKey keeps the sender key that a message distributes. The caller holds p.wire.
func (p *Phone) takeSenderKey(ctx context.Context, in *incoming, device types.JID, msg *waE2E.Message) error {
	given := msg.GetSenderKeyDistributionMessage()
	if given == nil {
		return nil
	}
	if given.GetGroupID() != in.chat.String() {
		return fmt.Errorf("sender key for %s in %s", given.GetGroupID(), in.chat)
	}
	key, err := protocol.NewSenderKeyDistributionMessageFromBytes(given.GetAxolotlSenderKeyDistributionMessage(), serializer.SenderKeyDistributionMessage)
	if err != nil {
		return fmt.Errorf("read sender key: %w", err)
	}
	name := protocol.NewSenderKeyName(in.chat.String(), p.signalJID(device).SignalAddress())
	if err := groups.NewGroupSessionBuilder(p.signal, serializer).Process(ctx, name, key); err != nil {
		return fmt.Errorf("take sender key: %w", err)
	}
	return nil
}

// askAgain sends a retry receipt for a message that could not be read.
func (p *Phone) askAgain(l *link, n waBinary.Node, in incoming, device types.JID, cause error) {
	user := in.sender.SignalAddressUser()
	p.mu.Lock()
	expected := p.lost[user]
	p.retries[in.ref()]++
	count := p.retries[in.ref()]
	p.mu.Unlock()
	if !expected {
		p.fail("message %s from %s cannot be read: %v", in.id, device, cause)
	}
	if count <= maxRetries {
		receipt := reply("receipt", n, waBinary.Attrs{"type": "retry"})
		if text(n, "category") == "peer" {
			receipt.Attrs["category"] = "peer"
		}
		content := []waBinary.Node{
			{Tag: "retry", Attrs: waBinary.Attrs{"count": count, "id": in.id, "t": text(n, "t"), "v": 1}},
			{Tag: "registration", Content: binary.BigEndian.AppendUint32(nil, p.signal.registrationID)},
		}
		if count > 1 {
			content = append(content, p.retryKeys())
		}
		receipt.Content = content
		l.submit(receipt)
	}
	l.submit(reply("ack", n, waBinary.Attrs{"class": "message"}))
}

// retryKeys is the bundle that goes with a second retry receipt.
func (p *Phone) retryKeys() waBinary.Node {
	p.wire.Lock()
	defer p.wire.Unlock()
	key, signed := p.signal.newPreKeys(1)[0], p.signal.signedPreKey()
	children := []waBinary.Node{
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: p.signal.identity.Pub[:]},
		publicPreKey{id: key.KeyID, public: *key.Pub}.node("key"),
		publicPreKey{id: signed.KeyID, public: *signed.Pub, signature: *signed.Signature}.node("skey"),
	}
	return waBinary.Node{Tag: "keys", Content: p.withIdentity(children, true)}
}

// receive takes in a decrypted message. It returns a request to this device by another of the
// account, if it is one.
func (p *Phone) receive(in incoming, msg *waE2E.Message) *waE2E.ProtocolMessage {
	if dsm := msg.GetDeviceSentMessage(); dsm.GetMessage() != nil {
		destination, err := types.ParseJID(dsm.GetDestinationJID())
		switch {
		case !p.own(in.sender):
			p.fail("message %s from %s claims to be of this account", in.id, in.sender)
			return nil
		case err != nil || p.canonical(destination) != in.chat:
			p.fail("message %s was sent to %q and came for %s", in.id, dsm.GetDestinationJID(), in.chat)
			return nil
		}
		msg = dsm.Message
	} else if p.own(in.sender) && in.chat.Server != types.GroupServer && msg.GetProtocolMessage() == nil {
		p.fail("message %s of an own device does not say where it was sent", in.id)
		return nil
	}
	if m := msg.GetProtocolMessage(); m != nil && m.Key == nil {
		if p.own(in.sender) {
			return m
		}
		return nil
	}
	p.apply(in, msg)
	return nil
}

// apply shows a message, or does to a shown one what it says. It is used for what the phone
// itself sends too.
func (p *Phone) apply(in incoming, msg *waE2E.Message) {
	inner, ephemeral, viewOnce := unwrap(msg)
	if m := inner.ProtocolMessage; m.GetKey() != nil {
		switch m.GetType() {
		case waE2E.ProtocolMessage_MESSAGE_EDIT:
			edited, _, _ := unwrap(m.GetEditedMessage())
			shown, _ := show(edited)
			p.change(in, "edit", m.Key, func(r *Received) {
				r.Text = shown.Text
				r.Edits = append(r.Edits, shown.Text)
			})
		case waE2E.ProtocolMessage_REVOKE:
			p.change(in, "revoke", m.Key, func(r *Received) {
				r.Revoked = true
				r.Text, r.Media = "", nil
			})
		}
		return
	}
	if m := inner.ReactionMessage; m != nil {
		p.change(in, "reaction", m.GetKey(), func(r *Received) {
			if m.GetText() == "" {
				delete(r.Reactions, in.sender)
				return
			}
			if r.Reactions == nil {
				r.Reactions = map[types.JID]string{}
			}
			r.Reactions[in.sender] = m.GetText()
		})
		return
	}
	shown, ok := show(inner)
	if !ok {
		if inner.SenderKeyDistributionMessage != nil {
			return
		}
		shown = Received{Kind: "other", content: inner}
	}
	if f, kind, ok := fileOf(inner); ok {
		body, err := p.server.downloadMedia(f.path)
		if err == nil {
			shown.Media, err = openMedia(body, f, kind)
		}
		if err != nil {
			p.fail("media of message %s from %s: %v", in.id, in.sender, err)
		}
	}
	shown.Chat, shown.Sender, shown.Device, shown.ID = in.chat, in.sender, in.device, in.id
	shown.Name, shown.Time, shown.from, shown.Retried = in.name, in.time, in.from, in.retried
	shown.FromMe = p.own(in.sender)
	shown.Ephemeral, shown.ViewOnce = ephemeral, viewOnce
	shown.Count = 1

	p.mu.Lock()
	if old := p.index[in.ref()]; old != nil {
		same := len(old.Edits) > 0 || old.Revoked || old.Text == shown.Text
		p.again(old, in)
		p.mu.Unlock()
		if !same {
			p.fail("message %s came again with another text: %q, then %q", in.id, old.Text, shown.Text)
		}
		return
	}
	defer p.mu.Unlock()
	shown.Order = len(p.messages) + 1
	p.messages = append(p.messages, &shown)
	p.index[in.ref()] = &shown
	if !shown.FromMe {
		p.typing[in.chat] = false
	}
	p.happened(Change{Kind: "message", Chat: in.chat, Message: shown.copy(), By: in.sender})
}

// again counts a shown message that came again. The caller holds p.mu.
func (p *Phone) again(r *Received, in incoming) {
	r.Count++
	p.happened(Change{Kind: "repeat", Chat: in.chat, Message: r.copy(), By: in.sender})
}

// repeat takes in a stanza whose ciphertexts were all opened before.
func (p *Phone) repeat(in incoming) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.index[in.ref()]; r != nil {
		p.again(r, in)
	}
}

// change does something to a shown message, once for each stanza that says so.
func (p *Phone) change(in incoming, kind string, key *waCommon.MessageKey, do func(*Received)) {
	author := in.sender
	if !key.GetFromMe() {
		switch {
		case key.GetParticipant() != "":
			jid, err := types.ParseJID(key.GetParticipant())
			if err != nil {
				p.fail("%s %s of a message by %q", kind, in.id, key.GetParticipant())
				return
			}
			author = p.canonical(jid)
		case p.own(in.sender):
			author = in.chat
		default:
			author = p.LID()
		}
	}
	p.mu.Lock()
	p.applied[in.ref()]++
	first := p.applied[in.ref()] == 1
	r := p.index[messageRef{in.chat, author, key.GetID()}]
	wrong := ""
	switch {
	case kind == "edit" && author != in.sender:
		wrong = "is not of its author"
	case kind == "revoke" && author != in.sender && in.chat.Server != types.GroupServer:
		wrong = "is not of its author"
	case r == nil && p.device.id == 0:
		wrong = "is of a message that the phone does not show"
	case r != nil && first:
		do(r)
		p.happened(Change{Kind: kind, Chat: in.chat, Message: r.copy(), By: in.sender})
	}
	p.mu.Unlock()
	if wrong != "" {
		p.fail("%s %s by %s of message %s in %s %s", kind, in.id, in.sender, key.GetID(), in.chat, wrong)
	}
}

// onReceipt notes what became of messages of this account, and answers a retry receipt.
func (p *Phone) onReceipt(l *link, n waBinary.Node) {
	from := address(n, "from")
	by := from
	if from.Server == types.GroupServer {
		by = address(n, "participant")
	}
	kind := text(n, "type")
	if kind == "server-error" {
		if err := p.uploadAgain(n, by); err != nil {
			p.fail("upload again what %s could not download: %v", by, err)
		}
		l.submit(reply("ack", n, waBinary.Attrs{"class": "receipt", "type": kind}))
		return
	}
	ids := []types.MessageID{text(n, "id")}
	list := n.GetChildByTag("list")
	for _, item := range list.GetChildren() {
		ids = append(ids, text(item, "id"))
	}
	reader := p.signalJID(by)
	p.mu.Lock()
	for _, id := range ids {
		i := slices.IndexFunc(p.receipts[id], func(r Receipt) bool { return r.By == reader && r.Type == kind })
		if i < 0 {
			i = len(p.receipts[id])
			p.receipts[id] = append(p.receipts[id], Receipt{By: reader, Type: kind})
		}
		p.receipts[id][i].Count++
		change := Change{Kind: "receipt", Chat: reader.ToNonAD(), By: reader}
		if from.Server == types.GroupServer {
			change.Chat = from
		}
		if r := p.index[messageRef{change.Chat, p.LID(), id}]; r != nil {
			change.Message = r.copy()
		}
		p.happened(change)
	}
	p.mu.Unlock()
	if kind == "retry" {
		if err := p.sendAgain(l, n, by); err != nil {
			p.fail("answer retry receipt of %s for %s: %v", by, ids[0], err)
		}
	}
	attrs := waBinary.Attrs{"class": "receipt"}
	if kind != "" {
		attrs["type"] = kind
	}
	l.submit(reply("ack", n, attrs))
}

// sendAgain answers a retry receipt: the message once more, for that device alone.
func (p *Phone) sendAgain(l *link, n waBinary.Node, device types.JID) error {
	ctx := l.context
	p.mu.Lock()
	out := p.sent[text(n, "id")]
	p.mu.Unlock()
	if out == nil {
		return errors.New("no such message was sent")
	}
	p.wire.Lock()
	defer p.wire.Unlock()
	target := p.signalJID(device).SignalAddress()
	if keys, ok := n.GetOptionalChildByTag("keys"); ok {
		if err := p.startSession(ctx, device, n, keys); err != nil {
			return err
		}
	} else {
		known, err := p.signal.LoadSession(ctx, target)
		if err != nil {
			return fmt.Errorf("load session: %w", err)
		}
		registration := childBytes(n, "registration")
		renewed := len(registration) == 4 && known.SessionState().RemoteRegistrationID() != binary.BigEndian.Uint32(registration)
		if known.IsFresh() || renewed {
			if _, err := p.startSessions(ctx, l, []types.JID{device}); err != nil {
				return err
			}
		}
	}

	msg := out.msg
	attrs := waBinary.Attrs{"to": device, "id": text(n, "id"), "type": out.attrs["type"], "t": unixNow()}
	switch {
	case out.to.Server == types.GroupServer:
		attrs["to"], attrs["participant"] = out.to, device
		name := protocol.NewSenderKeyName(out.to.String(), p.device.lidJID().SignalAddress())
		key, err := groups.NewGroupSessionBuilder(p.signal, serializer).Create(ctx, name)
		if err != nil {
			return fmt.Errorf("make sender key: %w", err)
		}
		msg = proto.CloneOf(msg)
		msg.SenderKeyDistributionMessage = &waE2E.SenderKeyDistributionMessage{
			GroupID: proto.String(out.to.String()), AxolotlSenderKeyDistributionMessage: key.Serialize(),
		}
	case out.attrs["category"] == "peer":
		attrs["category"] = "peer"
	case p.own(device):
		msg = p.sentElsewhere(out)
		fallthrough
	default:
		attrs["device_fanout"] = "false"
	}
	if recipient := address(n, "recipient"); !recipient.IsEmpty() {
		attrs["recipient"] = recipient
	}
	if edit, ok := out.attrs["edit"]; ok {
		attrs["edit"] = edit
	}
	retry := n.GetChildByTag("retry")
	enc, err := p.encrypt(ctx, device, encoded(msg), waBinary.Attrs{"v": "2", "count": text(retry, "count")})
	if err != nil {
		return err
	}
	content := p.withIdentity([]waBinary.Node{enc}, text(enc, "type") == "pkmsg")
	l.submit(waBinary.Node{Tag: "message", Attrs: attrs, Content: content})
	return nil
}
