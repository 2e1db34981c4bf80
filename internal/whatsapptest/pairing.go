package whatsapptest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"google.golang.org/protobuf/proto"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/types"
)

// pendingPair is a connected client that is not paired yet: it shows QR codes and may have
// asked for a pairing by code. Its keys and refs never change; the rest belongs to Server.mu.
type pendingPair struct {
	server *Server
	link   *link
	// refs are the pairing refs of its QR codes; every one is valid.
	refs []string
	// keys are the companion's registration id, identity and signed pre-key.
	keys deviceKeys
	// noise is the companion's static Noise key.
	noise [32]byte

	code *codePairing
	// answer gets the client's answer to pair-success.
	answer   chan waBinary.Node
	answerID string
}

// codePairing is one pairing by phone code, from the companion's hello on. Its fields never
// change, except for bundle and identity, which belong to Server.mu.
type codePairing struct {
	pending *pendingPair
	// wrappedEphemeral is the companion's wrapped ephemeral key: salt 32, iv 16, key 32.
	wrappedEphemeral []byte
	// ref is link_code_pairing_ref.
	ref []byte
	// noise is companion_server_auth_key_pub.
	noise []byte
	// number is the account's PN that the companion asked to be linked to.
	number types.JID

	bundle, identity []byte
}

// startPairing shows a new client its pairing refs. The caller holds s.mu.
func (s *Server) startPairing(l *link, p *waWa6.ClientPayload_DevicePairingRegistrationData, noise [32]byte) error {
	k, err := registrationKeys(p)
	if err != nil {
		return err
	}
	pending := &pendingPair{server: s, link: l, keys: k, noise: noise}
	for range 6 {
		pending.refs = append(pending.refs, "2@"+base64.StdEncoding.EncodeToString(randomBytes(32)))
	}
	l.pending = pending
	s.unpairedLinks = append(s.unpairedLinks, pending)
	var refs []waBinary.Node
	for _, ref := range pending.refs {
		refs = append(refs, waBinary.Node{Tag: "ref", Content: []byte(ref)})
	}
	l.push(waBinary.Node{
		Tag:     "iq",
		Attrs:   waBinary.Attrs{"from": types.ServerJID, "type": "set", "id": s.stanzaID(), "xmlns": "md"},
		Content: []waBinary.Node{{Tag: "pair-device", Content: refs}},
	})
	s.changed()
	return nil
}

func registrationKeys(p *waWa6.ClientPayload_DevicePairingRegistrationData) (deviceKeys, error) {
	if len(p.GetERegid()) != 4 || len(p.GetEIdent()) != 32 || len(p.GetESkeyID()) != 3 || len(p.GetESkeyVal()) != 32 || len(p.GetESkeySig()) != 64 {
		return deviceKeys{}, errors.New("register device: incomplete pairing data")
	}
	k := deviceKeys{
		registrationID: binary.BigEndian.Uint32(p.ERegid),
		identity:       [32]byte(p.EIdent),
		signedPreKey: publicPreKey{
			id:        binary.BigEndian.Uint32(append([]byte{0}, p.ESkeyID...)),
			public:    [32]byte(p.ESkeyVal),
			signature: [64]byte(p.ESkeySig),
		},
	}
	if !k.signedPreKey.signedBy(k.identity) {
		return deviceKeys{}, errors.New("register device: signed pre-key is not signed by the identity")
	}
	return k, nil
}

// unpaired finds the waiting client that showed this pairing ref in a QR code.
func (s *Server) unpaired(ref string) (*pendingPair, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.unpairedLinks {
		if slices.Contains(p.refs, ref) {
			return p, true
		}
	}
	return nil, false
}

// finish links the waiting client to the account as device deviceID (see freeDeviceID). box
// is the marshalled ADVSignedDeviceIdentityHMAC that the phone made. finish sends
// pair-success, waits for the client's own signature, registers the device, tells others the
// new device list and has the client reconnect (515). It returns the ADVSignedDeviceIdentity
// with all four fields, and the device, which has not logged in yet. It fails if the client
// refuses or leaves.
func (p *pendingPair) finish(ctx context.Context, a *account, deviceID uint16, box []byte) (signed []byte, d *device, err error) {
	s := p.server
	s.mu.Lock()
	if p.answer != nil {
		s.mu.Unlock()
		return nil, nil, errors.New("pair: another phone is pairing this client")
	}
	answered := make(chan waBinary.Node, 1)
	p.answer, p.answerID = answered, s.stanzaID()
	pn, lid := a.pn, a.lid
	pn.Device, lid.Device = deviceID, deviceID
	p.link.push(waBinary.Node{
		Tag:   "iq",
		Attrs: waBinary.Attrs{"from": types.ServerJID, "type": "set", "id": p.answerID, "t": unixNow(), "xmlns": "md"},
		Content: []waBinary.Node{{Tag: "pair-success", Content: []waBinary.Node{
			{Tag: "device-identity", Content: box},
			{Tag: "device", Attrs: waBinary.Attrs{"jid": pn, "lid": lid}},
			{Tag: "platform", Attrs: waBinary.Attrs{"name": "android"}},
		}}},
	})
	s.mu.Unlock()
	defer func() {
		if err != nil { // another try is possible
			s.mu.Lock()
			defer s.mu.Unlock()
			p.answer, p.answerID = nil, ""
		}
	}()

	var answer waBinary.Node
	select {
	case answer = <-answered:
	case <-p.link.context.Done():
		return nil, nil, errors.New("pair: the client left")
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("pair: %w", ctx.Err())
	}
	if refusal, ok := answer.GetOptionalChildByTag("error"); ok {
		return nil, nil, fmt.Errorf("pair: the client refused: %s", &refusal)
	}
	own, _ := answer.GetChildByTag("pair-device-sign", "device-identity").Content.([]byte)
	var identity waAdv.ADVSignedDeviceIdentity
	if err := proto.Unmarshal(own, &identity); err != nil {
		return nil, nil, fmt.Errorf("pair: read the client's signature: %w", err)
	}
	identity.AccountSignatureKey = a.identity.Pub[:]
	message := slices.Concat([]byte{6, 1}, identity.Details, p.keys.identity[:], a.identity.Pub[:])
	if !verify(p.keys.identity, message, identity.DeviceSignature) {
		return nil, nil, errors.New("pair: the client's signature of its device identity is wrong")
	}
	var details waAdv.ADVDeviceIdentity
	if err := proto.Unmarshal(identity.Details, &details); err != nil {
		return nil, nil, fmt.Errorf("pair: read device identity: %w", err)
	}
	if signed, err = proto.Marshal(&identity); err != nil {
		return nil, nil, fmt.Errorf("pair: %w", err)
	}
	k := p.keys
	k.advIdentity, k.keyIndex = signed, details.GetKeyIndex()
	s.mu.Lock()
	defer s.mu.Unlock()
	d = s.register(a, deviceID, k, p.noise)
	p.link.end(streamError("515"))
	return signed, d, nil
}

// linkCode waits until a client asks to be linked to the account by code, and gives its
// hello, the latest if there are several. Each hello is given once.
func (s *Server) linkCode(ctx context.Context, a *account) (*codePairing, error) {
	var found *codePairing
	err := s.wait(ctx, func() bool {
		for _, p := range s.unpairedLinks {
			if p.code != nil && s.accountOf(p.code.number) == a {
				found, p.code = p.code, nil
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("wait for a client to link by code: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[string(found.ref)] = found
	return found, nil
}

// hello sends the phone's primary_hello: its ephemeral key wrapped with the code it was told,
// 80 bytes, and its identity key.
func (c *codePairing) hello(wrappedPrimaryEphemeral, identityPub []byte) {
	s := c.pending.server
	s.mu.Lock()
	defer s.mu.Unlock()
	c.pending.link.push(waBinary.Node{
		Tag: "notification",
		Attrs: waBinary.Attrs{"from": types.ServerJID, "type": "link_code_companion_reg",
			"id": s.stanzaID(), "t": unixNow()},
		Content: []waBinary.Node{{
			Tag:   "link_code_companion_reg",
			Attrs: waBinary.Attrs{"stage": "primary_hello"},
			Content: []waBinary.Node{
				{Tag: "link_code_pairing_wrapped_primary_ephemeral_pub", Content: bytes.Clone(wrappedPrimaryEphemeral)},
				{Tag: "primary_identity_pub", Content: bytes.Clone(identityPub)},
				{Tag: "link_code_pairing_ref", Content: c.ref},
			},
		}},
	})
}

// finish waits for the client's companion_finish: its wrapped key bundle (salt 32, nonce 12,
// AES-256-GCM) and its identity key. Then the phone goes on with pending.finish.
func (c *codePairing) finish(ctx context.Context) (bundle, companionIdentity []byte, err error) {
	s := c.pending.server
	err = s.wait(ctx, func() bool { return c.bundle != nil || c.pending.link.gone })
	if err != nil {
		return nil, nil, fmt.Errorf("wait for the client's key bundle: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.bundle == nil {
		return nil, nil, errors.New("wait for the client's key bundle: the client left")
	}
	return c.bundle, c.identity, nil
}

// pairStanza handles an iq of a client that is not paired; false if it is none of pairing.
// The caller holds s.mu.
func (s *Server) pairStanza(l *link, n waBinary.Node) bool {
	p := l.pending
	id, _ := n.Attrs["id"].(string)
	kind, _ := n.Attrs["type"].(string)
	if kind == "result" || kind == "error" {
		if id == p.answerID && p.answer != nil {
			p.answer <- n
			p.answerID = ""
		}
		return true
	}
	reg, ok := n.GetOptionalChildByTag("link_code_companion_reg")
	if !ok {
		return false
	}
	switch stage, _ := reg.Attrs["stage"].(string); stage {
	case "companion_hello":
		number, _ := reg.Attrs["jid"].(types.JID)
		display := childBytes(reg, "companion_platform_display")
		if !displayName.Match(display) {
			l.push(iqError(n, 400, "bad-request"))
			return true
		}
		c := &codePairing{
			pending: p, number: number, ref: randomBytes(16),
			wrappedEphemeral: childBytes(reg, "link_code_pairing_wrapped_companion_ephemeral_pub"),
			noise:            childBytes(reg, "companion_server_auth_key_pub"),
		}
		p.code = c
		l.push(iqResult(n, waBinary.Node{Tag: "link_code_companion_reg", Content: []waBinary.Node{
			{Tag: "link_code_pairing_ref", Content: c.ref},
		}}))
	case "companion_finish":
		c := s.codes[string(childBytes(reg, "link_code_pairing_ref"))]
		if c == nil || c.pending != p {
			l.push(iqError(n, 404, "item-not-found"))
			return true
		}
		c.bundle = childBytes(reg, "link_code_pairing_wrapped_key_bundle")
		c.identity = childBytes(reg, "companion_identity_public")
		l.push(iqResult(n))
	default:
		return false
	}
	s.changed()
	return true
}

// forgetPending takes a client that left out of the waiting. The caller holds s.mu.
func (s *Server) forgetPending(p *pendingPair) {
	s.unpairedLinks = slices.DeleteFunc(s.unpairedLinks, func(o *pendingPair) bool { return o == p })
	for ref, c := range s.codes {
		if c.pending == p {
			delete(s.codes, ref)
		}
	}
}

// displayName is what the real server demands of a companion's name when pairing by code.
var displayName = regexp.MustCompile(`^[A-Za-z0-9 ]+ \([A-Za-z0-9 ]+\)$`)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
