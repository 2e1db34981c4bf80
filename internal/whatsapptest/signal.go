package whatsapptest

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.mau.fi/libsignal/ecc"
	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/logger"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/serialize"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/signalerror"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/state/store"
	"go.mau.fi/whatsmeow/util/keys"
)

var serializer = serialize.NewProtoBufSerializer()

// libsignal makes its default logger at the first line it logs, in whichever goroutine that
// is, and prints warnings to standard output. Phones decrypt in goroutines of their own and
// report what does not decrypt themselves.
func init() {
	var quiet logger.Loggable = silence{}
	logger.Setup(&quiet)
}

type silence struct{}

func (silence) Debug(_, _ string)   {}
func (silence) Info(_, _ string)    {}
func (silence) Warning(_, _ string) {}
func (silence) Error(_, _ string)   {}
func (silence) Configure(string)    {}

// signalStore is the Signal state of one phone's device, in memory. It is not safe for
// concurrent use: a phone holds its wire lock around every encryption and decryption.
type signalStore struct {
	identity       *keys.KeyPair
	registrationID uint32
	signedPreKeys  map[uint32]*keys.PreKey
	preKeys        map[uint32]*keys.PreKey
	lastPreKey     uint32
	identities     map[string][32]byte
	sessions       map[string][]byte
	senderKeys     map[string][]byte
}

var _ store.SignalProtocol = (*signalStore)(nil)

func newSignalStore(own *keys.KeyPair) *signalStore {
	signed := own.CreateSignedPreKey(1)
	var id [4]byte
	rand.Read(id[:])
	return &signalStore{
		identity: own,
		// Registration IDs have 14 bits, and are never 0.
		registrationID: binary.BigEndian.Uint32(id[:])&0x3fff | 1,
		signedPreKeys:  map[uint32]*keys.PreKey{signed.KeyID: signed},
		preKeys:        make(map[uint32]*keys.PreKey),
		identities:     make(map[string][32]byte),
		sessions:       make(map[string][]byte),
		senderKeys:     make(map[string][]byte),
	}
}

// newPreKeys adds n one-time keys with ids never used before.
func (s *signalStore) newPreKeys(n int) []*keys.PreKey {
	made := make([]*keys.PreKey, n)
	for i := range made {
		s.lastPreKey++
		made[i] = keys.NewPreKey(s.lastPreKey)
		s.preKeys[s.lastPreKey] = made[i]
	}
	return made
}

// signedPreKey is the one signed pre-key; phones here live too short to rotate it.
func (s *signalStore) signedPreKey() *keys.PreKey { return s.signedPreKeys[1] }

// forgetUser drops the sessions with all devices of a Signal user, and the sender keys they sent.
func (s *signalStore) forgetUser(user string) {
	maps.DeleteFunc(s.sessions, func(address string, _ []byte) bool { return strings.HasPrefix(address, user+":") })
	maps.DeleteFunc(s.senderKeys, func(key string, _ []byte) bool { return strings.Contains(key, "/"+user+":") })
}

func (s *signalStore) GetIdentityKeyPair() *identity.KeyPair {
	return identity.NewKeyPair(
		identity.NewKey(ecc.NewDjbECPublicKey(*s.identity.Pub)),
		ecc.NewDjbECPrivateKey(*s.identity.Priv),
	)
}

func (s *signalStore) GetLocalRegistrationID() uint32 { return s.registrationID }

func (s *signalStore) SaveIdentity(_ context.Context, address *protocol.SignalAddress, key *identity.Key) error {
	s.identities[address.String()] = key.PublicKey().PublicKey()
	return nil
}

// IsTrustedIdentity trusts whatever key comes: a person's phone shows "security code changed"
// and goes on. Companions are judged by the signatures of their account instead.
func (s *signalStore) IsTrustedIdentity(context.Context, *protocol.SignalAddress, *identity.Key) (bool, error) {
	return true, nil
}

func (s *signalStore) LoadPreKey(_ context.Context, id uint32) (*record.PreKey, error) {
	key, ok := s.preKeys[id]
	if !ok {
		return nil, nil
	}
	return record.NewPreKey(id, ecPair(&key.KeyPair), serializer.PreKeyRecord), nil
}

func (s *signalStore) StorePreKey(_ context.Context, id uint32, key *record.PreKey) error {
	s.preKeys[id] = preKeyOf(id, key.KeyPair())
	return nil
}

func (s *signalStore) ContainsPreKey(_ context.Context, id uint32) (bool, error) {
	_, ok := s.preKeys[id]
	return ok, nil
}

func (s *signalStore) RemovePreKey(_ context.Context, id uint32) error {
	delete(s.preKeys, id)
	return nil
}

func (s *signalStore) LoadSession(_ context.Context, address *protocol.SignalAddress) (*record.Session, error) {
	raw, ok := s.sessions[address.String()]
	if !ok {
		return record.NewSession(serializer.Session, serializer.State), nil
	}
	return record.NewSessionFromBytes(raw, serializer.Session, serializer.State)
}

func (s *signalStore) GetSubDeviceSessions(_ context.Context, name string) ([]uint32, error) {
	var devices []uint32
	for address := range s.sessions {
		var device uint32
		if n, _ := fmt.Sscanf(strings.TrimPrefix(address, name), ":%d", &device); n == 1 && device != 0 {
			devices = append(devices, device)
		}
	}
	slices.Sort(devices)
	return devices, nil
}

func (s *signalStore) StoreSession(_ context.Context, address *protocol.SignalAddress, known *record.Session) error {
	s.sessions[address.String()] = known.Serialize()
	return nil
}

func (s *signalStore) ContainsSession(_ context.Context, address *protocol.SignalAddress) (bool, error) {
	_, ok := s.sessions[address.String()]
	return ok, nil
}

func (s *signalStore) DeleteSession(_ context.Context, address *protocol.SignalAddress) error {
	delete(s.sessions, address.String())
	return nil
}

func (s *signalStore) DeleteAllSessions(context.Context) error {
	clear(s.sessions)
	return nil
}

func (s *signalStore) LoadSignedPreKey(_ context.Context, id uint32) (*record.SignedPreKey, error) {
	key, ok := s.signedPreKeys[id]
	if !ok {
		return nil, nil
	}
	return record.NewSignedPreKey(id, 0, ecPair(&key.KeyPair), *key.Signature, serializer.SignedPreKeyRecord), nil
}

func (s *signalStore) LoadSignedPreKeys(ctx context.Context) ([]*record.SignedPreKey, error) {
	var all []*record.SignedPreKey
	for _, id := range slices.Sorted(maps.Keys(s.signedPreKeys)) {
		key, err := s.LoadSignedPreKey(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	return all, nil
}

func (s *signalStore) StoreSignedPreKey(_ context.Context, id uint32, key *record.SignedPreKey) error {
	stored := preKeyOf(id, key.KeyPair())
	signature := key.Signature()
	stored.Signature = &signature
	s.signedPreKeys[id] = stored
	return nil
}

func (s *signalStore) ContainsSignedPreKey(_ context.Context, id uint32) (bool, error) {
	_, ok := s.signedPreKeys[id]
	return ok, nil
}

func (s *signalStore) RemoveSignedPreKey(_ context.Context, id uint32) error {
	delete(s.signedPreKeys, id)
	return nil
}

func (s *signalStore) StoreSenderKey(_ context.Context, name *protocol.SenderKeyName, key *grouprecord.SenderKey) error {
	s.senderKeys[senderKeyIndex(name)] = key.Serialize()
	return nil
}

func (s *signalStore) LoadSenderKey(_ context.Context, name *protocol.SenderKeyName) (*grouprecord.SenderKey, error) {
	raw, ok := s.senderKeys[senderKeyIndex(name)]
	if !ok {
		return grouprecord.NewSenderKey(serializer.SenderKeyRecord, serializer.SenderKeyState), nil
	}
	return grouprecord.NewSenderKeyFromBytes(raw, serializer.SenderKeyRecord, serializer.SenderKeyState)
}

// decryptMessage opens a message of an existing session.
func (s *signalStore) decryptMessage(ctx context.Context, from *protocol.SignalAddress, msg *protocol.SignalMessage) ([]byte, error) {
	known, err := s.LoadSession(ctx, from)
	if err != nil {
		return nil, err
	}
	if known.IsFresh() {
		return nil, signalerror.ErrNoSessionForUser
	}
	return s.tryStates(ctx, from, known, msg)
}

// decryptPreKeyMessage opens a message that brings the keys of its session.
func (s *signalStore) decryptPreKeyMessage(ctx context.Context, from *protocol.SignalAddress, msg *protocol.PreKeySignalMessage) ([]byte, error) {
	known, err := s.LoadSession(ctx, from)
	if err != nil {
		return nil, err
	}
	oneTime, err := session.NewBuilderFromSignal(s, from, serializer).Process(ctx, known, msg)
	if err != nil {
		return nil, err
	}
	plain, err := s.tryStates(ctx, from, known, msg.WhisperMessage())
	if err != nil {
		return nil, err
	}
	if !oneTime.IsEmpty {
		delete(s.preKeys, oneTime.Value)
	}
	return plain, nil
}

// tryStates opens a message with the session's current state or an earlier one, and makes
// that one current. Each state is tried on a copy of the session: a try that fails leaves
// libsignal's state a step further, which breaks the sessions of two who write to each other
// first at the same time.
func (s *signalStore) tryStates(ctx context.Context, from *protocol.SignalAddress, known *record.Session, msg *protocol.SignalMessage) ([]byte, error) {
	cipher := session.NewCipher(session.NewBuilderFromSignal(s, from, serializer), from)
	raw := known.Serialize()
	for i := range len(known.PreviousSessionStates()) + 1 {
		copied, err := record.NewSessionFromBytes(raw, serializer.Session, serializer.State)
		if err != nil {
			return nil, fmt.Errorf("copy session: %w", err)
		}
		state := copied.SessionState()
		if i > 0 {
			state = copied.PreviousSessionStates()[i-1]
		}
		plain, _, err := cipher.DecryptWithState(ctx, state, msg)
		if errors.Is(err, signalerror.ErrOldCounter) {
			return nil, err
		}
		if err != nil {
			continue
		}
		structure := copied.Structure()
		if i > 0 {
			current := structure.SessionState
			structure.SessionState = structure.PreviousStates[i-1]
			earlier := slices.Delete(structure.PreviousStates, i-1, i)
			structure.PreviousStates = slices.Insert(earlier, 0, current)
		}
		s.sessions[from.String()] = serializer.Session.Serialize(structure)
		return plain, nil
	}
	return nil, signalerror.ErrNoValidSessions
}

func senderKeyIndex(name *protocol.SenderKeyName) string {
	return name.GroupID() + "/" + name.Sender().String()
}

func ecPair(pair *keys.KeyPair) *ecc.ECKeyPair {
	return ecc.NewECKeyPair(ecc.NewDjbECPublicKey(*pair.Pub), ecc.NewDjbECPrivateKey(*pair.Priv))
}

func preKeyOf(id uint32, pair *ecc.ECKeyPair) *keys.PreKey {
	pub, priv := pair.PublicKey().PublicKey(), pair.PrivateKey().Serialize()
	return &keys.PreKey{KeyPair: keys.KeyPair{Pub: &pub, Priv: &priv}, KeyID: id}
}
