package whatsapptest

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/appstate"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// Scan links the client that shows the QR code with this text, and returns the address by
// phone number that its device got. After the client's first login the phone sends it what
// phones send: app state keys, history and its push name, as app state.
func (p *Phone) Scan(ctx context.Context, qr string) (types.JID, error) {
	if _, fragment, ok := strings.Cut(qr, "#"); ok {
		qr = fragment
	}
	parts := strings.Split(qr, ",")
	if len(parts) < 4 {
		return types.EmptyJID, fmt.Errorf("scan: a QR text of %d parts", len(parts))
	}
	pending, ok := p.server.unpaired(parts[0])
	if !ok {
		return types.EmptyJID, errors.New("scan: no client shows this code")
	}
	var decoded [3][]byte // noise, identity, adv secret
	for i, part := range parts[1:4] {
		raw, err := base64.StdEncoding.DecodeString(part)
		if err != nil || len(raw) != 32 {
			return types.EmptyJID, fmt.Errorf("scan: part %d of the QR text is no key", i+2)
		}
		decoded[i] = raw
	}
	if !bytes.Equal(decoded[0], pending.noise[:]) {
		return types.EmptyJID, errors.New("scan: the code's noise key is not the client's")
	}
	if !bytes.Equal(decoded[1], pending.keys.identity[:]) {
		return types.EmptyJID, errors.New("scan: the code's identity is not the client's")
	}
	jid, err := p.connect(ctx, pending, [32]byte(decoded[1]), decoded[2])
	if err != nil {
		return types.EmptyJID, fmt.Errorf("scan: %w", err)
	}
	return jid, nil
}

// EnterCode links the client that asked to be linked to this number and shows this code, with
// or without its dash. It waits for such a client.
func (p *Phone) EnterCode(ctx context.Context, code string) (types.JID, error) {
	pairing, err := p.server.linkCode(ctx, p.person.account)
	if err != nil {
		return types.EmptyJID, fmt.Errorf("enter code: %w", err)
	}
	code = strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(code), "-", ""))
	companionEphemeral, err := wrapWithCode(code, pairing.wrappedEphemeral)
	if err != nil {
		return types.EmptyJID, fmt.Errorf("enter code: %w", err)
	}
	own := keys.NewKeyPair()
	wrapped := slices.Concat(randomBytes(48), own.Pub[:])
	sealed, err := wrapWithCode(code, wrapped)
	if err != nil {
		return types.EmptyJID, fmt.Errorf("enter code: %w", err)
	}
	pairing.hello(slices.Concat(wrapped[:48], sealed), p.person.primary.Pub[:])
	bundle, companion, err := pairing.finish(ctx)
	if err != nil {
		return types.EmptyJID, fmt.Errorf("enter code: %w", err)
	}
	secret, err := p.advSecret(own, companionEphemeral, bundle, companion)
	if err != nil {
		return types.EmptyJID, fmt.Errorf("enter code: %w", err)
	}
	jid, err := p.connect(ctx, pairing.pending, [32]byte(companion), secret)
	if err != nil {
		return types.EmptyJID, fmt.Errorf("enter code: %w", err)
	}
	return jid, nil
}

// wrapWithCode encrypts or decrypts (it is one operation) the 32 bytes after the salt of 32
// and the vector of 16 under a pairing code.
func wrapWithCode(code string, wrapped []byte) ([]byte, error) {
	if len(wrapped) != 80 {
		return nil, fmt.Errorf("a wrapped key of %d bytes", len(wrapped))
	}
	key, err := pbkdf2.Key(sha256.New, code, wrapped[:32], 2<<16, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key from code: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key from code: %w", err)
	}
	out := make([]byte, 32)
	cipher.NewCTR(block, wrapped[32:48]).XORKeyStream(out, wrapped[48:])
	return out, nil
}

// advSecret opens the companion's key bundle and derives the secret that the pairing is
// authenticated with. A wrong code shows here.
func (p *Phone) advSecret(own *keys.KeyPair, companionEphemeral, bundle, companion []byte) ([]byte, error) {
	if len(bundle) < 44 || len(companion) != 32 {
		return nil, errors.New("malformed key bundle")
	}
	ephemeral, err := diffieHellman(own, companionEphemeral)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, ephemeral, bundle[:32], "link_code_pairing_key_bundle_encryption_key", 32)
	if err != nil {
		return nil, fmt.Errorf("derive bundle key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive bundle key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("derive bundle key: %w", err)
	}
	plain, err := gcm.Open(nil, bundle[32:44], bundle[44:], nil)
	if err != nil {
		return nil, errors.New("the code is wrong")
	}
	if len(plain) != 96 || !bytes.Equal(plain[:32], companion) || !bytes.Equal(plain[32:64], p.person.primary.Pub[:]) {
		return nil, errors.New("the key bundle is for other keys")
	}
	shared, err := diffieHellman(p.person.primary, companion)
	if err != nil {
		return nil, err
	}
	secret, err := hkdf.Key(sha256.New, slices.Concat(ephemeral, shared, plain[64:]), nil, "adv_secret", 32)
	if err != nil {
		return nil, fmt.Errorf("derive adv secret: %w", err)
	}
	return secret, nil
}

func diffieHellman(own *keys.KeyPair, theirs []byte) ([]byte, error) {
	private, err := ecdh.X25519().NewPrivateKey(own.Priv[:])
	if err != nil {
		return nil, fmt.Errorf("agree on key: %w", err)
	}
	public, err := ecdh.X25519().NewPublicKey(theirs)
	if err != nil {
		return nil, fmt.Errorf("agree on key: %w", err)
	}
	shared, err := private.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("agree on key: %w", err)
	}
	return shared, nil
}

// connect signs the waiting client's identity and has the server link it.
func (p *Phone) connect(ctx context.Context, pending *pendingPair, companion [32]byte, secret []byte) (types.JID, error) {
	if p.device.id != 0 {
		return types.EmptyJID, errors.New("only the phone itself links devices")
	}
	if err := p.publishName(ctx); err != nil {
		return types.EmptyJID, fmt.Errorf("publish push name: %w", err)
	}
	id := p.server.freeDeviceID(p.person.account)
	signed := encoded(p.person.accountSigned(companion, uint32(id)))
	mac := hmac.New(sha256.New, secret)
	mac.Write(signed)
	box := encoded(&waAdv.ADVSignedDeviceIdentityHMAC{Details: signed, HMAC: mac.Sum(nil)})
	_, d, err := pending.finish(ctx, p.person.account, id, box)
	if err != nil {
		return types.EmptyJID, err
	}
	p.server.spawn(func() { p.greet(d) })
	return d.pnJID(), nil
}

// spawn runs f as one of the server's tasks, unless the server is closed.
func (s *Server) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.tasks.Go(f)
	}
}

// Unlink removes a companion from the account, as "Log out" in the list of linked devices
// does. An address without such a device is left alone.
func (p *Phone) Unlink(jid types.JID) {
	if !p.own(jid) || jid.Device == 0 {
		return
	}
	p.server.Unlink(jid)
}

// HasDevice reports whether the phone's list of linked devices has a companion.
func (p *Phone) HasDevice(jid types.JID) bool {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	return p.own(jid) && p.server.deviceOf(jid) != nil
}

// accountSigned makes a companion's device identity, signed by the account.
func (who *person) accountSigned(companion [32]byte, keyIndex uint32) *waAdv.ADVSignedDeviceIdentity {
	details := encoded(&waAdv.ADVDeviceIdentity{
		RawID:       proto.Uint32(who.rawID()),
		Timestamp:   proto.Uint64(uint64(time.Now().Unix())),
		KeyIndex:    &keyIndex,
		AccountType: waAdv.ADVEncryptionType_E2EE.Enum(),
		DeviceType:  waAdv.ADVEncryptionType_E2EE.Enum(),
	})
	signature := sign(who.primary, slices.Concat([]byte{6, 0}, details, companion[:]))
	return &waAdv.ADVSignedDeviceIdentity{
		Details:             details,
		AccountSignatureKey: who.primary.Pub[:],
		AccountSignature:    signature,
	}
}

// signCompanion makes the device identity of a companion that lives in the process, with the
// companion's own signature.
func (who *person) signCompanion(companion *keys.KeyPair, keyIndex uint32) []byte {
	signed := who.accountSigned(*companion.Pub, keyIndex)
	signed.DeviceSignature = sign(companion, slices.Concat([]byte{6, 1}, signed.Details, companion.Pub[:], who.primary.Pub[:]))
	return encoded(signed)
}

// rawID names the account in device identities; it need only stay the same.
func (who *person) rawID() uint32 {
	n, _ := strconv.ParseUint(who.account.lid.User, 10, 64)
	return uint32(n)
}

func sign(by *keys.KeyPair, message []byte) []byte {
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*by.Priv), message)
	return signature[:]
}

// greet sends a new companion what it needs, once it has logged in.
func (p *Phone) greet(d *device) {
	ctx := p.server.context
	err := p.server.wait(ctx, func() bool { return d.removed || d.link != nil && d.link.active })
	if err != nil {
		return // the server is closed
	}
	err = p.Wait(ctx, func(p *Phone) bool {
		_, err := p.online()
		return err == nil
	})
	if err != nil {
		return
	}
	unlinked := func() bool {
		p.server.mu.Lock()
		defer p.server.mu.Unlock()
		return d.removed
	}
	if unlinked() {
		return
	}
	to := d.pnJID()
	messages := []*waE2E.ProtocolMessage{p.keyShare()}
	for i, history := range p.history() {
		messages = append(messages, historyMessage(uint32(i), history))
	}
	for _, msg := range messages {
		if err := p.peer(ctx, to, msg); err != nil {
			if ctx.Err() == nil && !errors.Is(err, errOffline) && !unlinked() {
				p.fail("greet new companion %s: %v", to, err)
			}
			return
		}
	}
}

// appState is the account's key for app state, made by its phone.
type appState struct {
	id, key []byte
	made    time.Time

	mu        sync.Mutex
	published bool
}

// newAppState makes a key; its ID is the phone's device number in 2 bytes and a count in 4.
func newAppState() *appState {
	state := &appState{id: []byte{0, 0, 0, 0, 0, 1}, key: make([]byte, 32), made: time.Now()}
	rand.Read(state.key)
	return state
}

// keyShare gives a companion the account's app state key.
func (p *Phone) keyShare() *waE2E.ProtocolMessage {
	state := p.person.state
	return &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_APP_STATE_SYNC_KEY_SHARE.Enum(),
		AppStateSyncKeyShare: &waE2E.AppStateSyncKeyShare{Keys: []*waE2E.AppStateSyncKey{{
			KeyID: &waE2E.AppStateSyncKeyId{KeyID: state.id},
			KeyData: &waE2E.AppStateSyncKeyData{
				KeyData: state.key,
				Fingerprint: &waE2E.AppStateSyncKeyFingerprint{
					RawID: proto.Uint32(p.person.rawID()), CurrentIndex: proto.Uint32(1), DeviceIndexes: []uint32{0, 1},
				},
				Timestamp: proto.Int64(state.made.UnixMilli()),
			},
		}}},
	}
}

// publishName writes the push name into the account's app state, once.
func (p *Phone) publishName(ctx context.Context) error {
	state := p.person.state
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.published {
		return nil
	}
	l, err := p.online()
	if err != nil {
		return err
	}
	holder := &store.Device{AppStateKeys: &keyOf{state: state}, AppState: &store.NoopStore{}}
	patch, err := appstate.NewProcessor(holder, waLog.Noop).EncodePatch(ctx, state.id, appstate.HashState{}, appstate.BuildSettingPushName(p.name))
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	answer, err := p.ask(ctx, l, "w:sync:app:state", "set", types.ServerJID, waBinary.Node{Tag: "sync", Content: []waBinary.Node{{
		Tag:     "collection",
		Attrs:   waBinary.Attrs{"name": string(appstate.WAPatchCriticalBlock), "version": "0", "return_snapshot": "false"},
		Content: []waBinary.Node{{Tag: "patch", Content: patch}},
	}}})
	if err != nil {
		return err
	}
	if result := answer.GetChildByTag("sync", "collection"); text(result, "type") == "error" {
		return fmt.Errorf("the server answers %s", answer)
	}
	state.published = true
	return nil
}

// keyOf is the key store of an encoder of app state; the account's one key is all it has.
type keyOf struct {
	store.NoopStore
	state *appState
}

func (k *keyOf) GetAppStateSyncKey(context.Context, []byte) (*store.AppStateSyncKey, error) {
	return &store.AppStateSyncKey{Data: k.state.key, Timestamp: k.state.made.UnixMilli()}, nil
}

// history is what the phone knows, in the three parts that phones send.
func (p *Phone) history() []*waHistorySync.HistorySync {
	me := p.person.account
	people := []*account{me}
	chats := map[types.JID]*waHistorySync.Conversation{}
	recent := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum(), Progress: proto.Uint32(100)}
	for _, m := range p.AllMessages() {
		for _, jid := range []types.JID{m.Chat, m.Sender} {
			if a := p.server.findAccount(jid); a != nil && !slices.Contains(people, a) {
				people = append(people, a)
			}
		}
		chat := chats[m.Chat]
		if chat == nil {
			chat = &waHistorySync.Conversation{ID: proto.String(m.Chat.String())}
			chats[m.Chat] = chat
			recent.Conversations = append(recent.Conversations, chat)
		}
		chat.ConversationTimestamp = proto.Uint64(uint64(m.Time.Unix()))
		chat.Messages = append(chat.Messages, &waHistorySync.HistorySyncMsg{Message: p.webMessage(m), MsgOrderID: proto.Uint64(uint64(m.Order))})
	}
	bootstrap := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_INITIAL_BOOTSTRAP.Enum(), Progress: proto.Uint32(100)}
	names := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_PUSH_NAME.Enum()}
	for _, a := range people {
		bootstrap.PhoneNumberToLidMappings = append(bootstrap.PhoneNumberToLidMappings, &waHistorySync.PhoneNumberToLIDMapping{
			PnJID: proto.String(a.pn.String()), LidJID: proto.String(a.lid.String()),
		})
		names.Pushnames = append(names.Pushnames, &waHistorySync.Pushname{ID: proto.String(a.lid.String()), Pushname: proto.String(a.name)})
	}
	return []*waHistorySync.HistorySync{bootstrap, names, recent}
}

// webMessage is a shown message as phones give it to companions.
func (p *Phone) webMessage(m Received) *waWeb.WebMessageInfo {
	info := &waWeb.WebMessageInfo{
		Key:              p.messageKey(m.Chat, m.Sender, m.ID),
		Message:          proto.CloneOf(m.content),
		MessageTimestamp: proto.Uint64(uint64(m.Time.Unix())),
	}
	if m.Name != "" {
		info.PushName = proto.String(m.Name)
	}
	return info
}

// historyMessage announces a part of the history and carries it.
func historyMessage(order uint32, history *waHistorySync.HistorySync) *waE2E.ProtocolMessage {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	w.Write(encoded(history)) // a bytes.Buffer takes everything
	w.Close()
	kind := map[waHistorySync.HistorySync_HistorySyncType]waE2E.HistorySyncType{
		waHistorySync.HistorySync_INITIAL_BOOTSTRAP: waE2E.HistorySyncType_INITIAL_BOOTSTRAP,
		waHistorySync.HistorySync_PUSH_NAME:         waE2E.HistorySyncType_PUSH_NAME,
		waHistorySync.HistorySync_RECENT:            waE2E.HistorySyncType_RECENT,
	}[history.GetSyncType()]
	return &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(),
		HistorySyncNotification: &waE2E.HistorySyncNotification{
			SyncType:                          kind.Enum(),
			ChunkOrder:                        &order,
			Progress:                          history.Progress,
			FileLength:                        proto.Uint64(uint64(packed.Len())),
			InitialHistBootstrapInlinePayload: packed.Bytes(),
		},
	}
}

// answerPeer answers what another device of the account asks this one: app state keys, and
// messages that it could not read. Anything else is not for this device to answer.
func (p *Phone) answerPeer(ctx context.Context, device types.JID, id types.MessageID, request *waE2E.ProtocolMessage) error {
	if request.AppStateSyncKeyRequest != nil {
		return p.peer(ctx, device, p.keyShare())
	}
	asked := request.PeerDataOperationRequestMessage
	if asked.GetPeerDataOperationRequestType() != waE2E.PeerDataOperationRequestType_PLACEHOLDER_MESSAGE_RESEND {
		return nil
	}
	answer := &waE2E.PeerDataOperationRequestResponseMessage{
		PeerDataOperationRequestType: asked.PeerDataOperationRequestType,
		StanzaID:                     &id,
	}
	for _, wanted := range asked.PlaceholderMessageResendRequest {
		result := &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{}
		key := wanted.GetMessageKey()
		for _, m := range p.AllMessages() {
			if m.ID == key.GetID() && m.FromMe == key.GetFromMe() {
				result.PlaceholderMessageResendResponse = &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult_PlaceholderMessageResendResponse{
					WebMessageInfoBytes: encoded(p.webMessage(m)),
				}
			}
		}
		if result.PlaceholderMessageResendResponse != nil {
			answer.PeerDataOperationResult = append(answer.PeerDataOperationResult, result)
		}
	}
	if len(answer.PeerDataOperationResult) == 0 {
		return nil
	}
	return p.peer(ctx, device, &waE2E.ProtocolMessage{
		Type:                                    waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE.Enum(),
		PeerDataOperationRequestResponseMessage: answer,
	})
}
