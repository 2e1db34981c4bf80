package baileys

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"

	groupratchet "go.mau.fi/libsignal/groups/ratchet"
	grouprecord "go.mau.fi/libsignal/groups/state/record"
	"go.mau.fi/libsignal/kdf"
	"go.mau.fi/libsignal/keys/chain"
	"go.mau.fi/libsignal/keys/message"
	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/libsignal/util/optional"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/util/keys"
)

// What libsignal-node writes, by its src/session_record.js:
//
//	_sessions: by their base key in base64, each
//	  registrationId    the other device's
//	  currentRatchet    ephemeralKeyPair {pubKey, privKey}, lastRemoteEphemeralKey, previousCounter, rootKey
//	  indexInfo         baseKey, baseKeyType, closed (-1 while it is open), used, created, remoteIdentityKey
//	  _chains           by their ratchet key in base64: chainType, chainKey {counter, key}, messageKeys {counter: seed}
//	  pendingPreKey     signedKeyId, baseKey, preKeyId: until the other device has answered
//
// Its counter of a chain is the last that was used, from -1; libsignal's index is the next to be used.
// The key of a chain that has ended is taken away. It keeps the seed of a skipped message's keys, libsignal the keys.

const (
	sending   = 1
	receiving = 2

	// What libsignal keeps at most.
	maxChains      = 5
	maxArchived    = 40
	maxMessageKeys = 2000
	maxGroupStates = 5

	signalVersion = 3
)

// local is what a Signal record holds of our own device.
type local struct {
	identity     []byte // public, 33 bytes
	registration uint32
}

// converted is a Signal session in whatsmeow's form.
type converted struct {
	record   []byte
	identity []byte // the other device's, 32 bytes
}

// convertSession makes one libsignal record of one or more of libsignal-node's, the first of which with an
// open session has the one to go on with.
func (l local) convertSession(records ...any) (converted, error) {
	var current object
	var archived []object
	for _, r := range records {
		record, _ := r.(object)
		for _, s := range record.object("_sessions") {
			entry, _ := s.value.(object)
			closed, ok := toInt(entry.object("indexInfo").get("closed"))
			if ok && closed == -1 && current == nil {
				current = entry
			} else {
				archived = append(archived, entry)
			}
		}
	}
	if current == nil {
		return converted{}, errors.New("no session is open")
	}
	state, err := l.state(current)
	if err != nil {
		return converted{}, err
	}
	lastUsed := func(entry object) int64 {
		used, _ := toInt(entry.object("indexInfo").get("used"))
		return used
	}
	slices.SortStableFunc(archived, func(a, b object) int { return cmp.Compare(lastUsed(b), lastUsed(a)) })
	all := &record.SessionStructure{SessionState: state}
	for _, entry := range archived {
		// An old session only serves messages that are late. With a device that got a new identity since, none is read.
		old, err := l.state(entry)
		if err == nil && bytes.Equal(old.RemoteIdentityPublic, state.RemoteIdentityPublic) && len(all.PreviousStates) < maxArchived {
			all.PreviousStates = append(all.PreviousStates, old)
		}
	}
	serializer := store.SignalProtobufSerializer
	session, err := record.NewSessionFromStructure(all, serializer.Session, serializer.State)
	if err != nil {
		return converted{}, errors.New("a key of it cannot be read")
	}
	return converted{record: session.Serialize(), identity: state.RemoteIdentityPublic[1:]}, nil
}

// state converts one session.
func (l local) state(entry object) (*record.StateStructure, error) {
	ratchet, index := entry.object("currentRatchet"), entry.object("indexInfo")
	pair := ratchet.object("ephemeralKeyPair")
	private, ours, err := keyPair("the ratchet key", pair.get("privKey"), pair.get("pubKey"))
	if err != nil {
		return nil, err
	}
	last, err1 := public("the other side's ratchet key", ratchet.get("lastRemoteEphemeralKey"))
	identity, err2 := public("the other side's identity", index.get("remoteIdentityKey"))
	base, err3 := public("the base key", index.get("baseKey"))
	root, err4 := sized("the root key", ratchet.get("rootKey"), 32)
	previous, err5 := counter("the previous chain's counter", ratchet.get("previousCounter"))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, err
	}
	remote, ok := toInt(entry.get("registrationId"))
	if !ok || remote < 0 || remote > math.MaxUint32 {
		return nil, errors.New("the other side's registration is missing")
	}
	s := &record.StateStructure{
		LocalIdentityPublic: l.identity, LocalRegistrationID: l.registration,
		RemoteIdentityPublic: typed(identity), RemoteRegistrationID: uint32(remote),
		PreviousCounter: uint32(max(previous, 0)), RootKey: root, SenderBaseKey: typed(base), SessionVersion: signalVersion,
	}
	var newest *record.ChainStructure // the one that the other side sends on
	for _, f := range entry.object("_chains") {
		content, _ := f.value.(object)
		key, err := public("a chain's key", f.name)
		if err != nil {
			return nil, err
		}
		kind, _ := toInt(content.get("chainType"))
		c, err := convertChain(key, content, kind, private)
		switch {
		case err != nil:
			return nil, err
		case kind == sending && bytes.Equal(key, ours) && s.SenderChain == nil:
			c.SenderRatchetKeyPrivate = private
			s.SenderChain = c
		case kind != receiving:
			return nil, errors.New("a chain for sending has a key that is not in use")
		case bytes.Equal(key, last):
			if content.object("chainKey").get("key") == nil {
				return nil, errors.New("the chain that the other side sends on has no key")
			}
			newest = c
		default:
			s.ReceiverChains = append(s.ReceiverChains, c)
		}
	}
	if s.SenderChain == nil {
		return nil, errors.New("the chain for sending is missing")
	}
	if newest != nil {
		s.ReceiverChains = append(s.ReceiverChains, newest)
	}
	s.ReceiverChains = s.ReceiverChains[max(0, len(s.ReceiverChains)-maxChains):]
	if pending, ok := entry.get("pendingPreKey").(object); ok {
		if s.PendingPreKey, err = convertPending(pending, base); err != nil {
			return nil, err
		}
	} else if newest == nil {
		return nil, errors.New("the other side has answered, and the chain for that is missing")
	}
	return s, nil
}

func convertPending(p object, base []byte) (*record.PendingPreKeyStructure, error) {
	key, err := public("the pre-key message's base key", p.get("baseKey"))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(key, base) {
		return nil, errors.New("the pre-key message is another session's")
	}
	signed, err := counter("the signed pre-key's number", p.get("signedKeyId"))
	if err != nil || signed < 0 {
		return nil, errors.New("the signed pre-key's number is missing")
	}
	pending := &record.PendingPreKeyStructure{PreKeyID: optional.NewEmptyUint32(), SignedPreKeyID: uint32(signed), BaseKey: typed(key)}
	if once := p.get("preKeyId"); once != nil {
		id, err := counter("the pre-key's number", once)
		if err != nil || id < 0 {
			return nil, errors.New("the pre-key's number cannot be read")
		}
		pending.PreKeyID = optional.NewOptionalUint32(uint32(id))
	}
	return pending, nil
}

// convertChain converts a chain. What the secret gives is known to nobody else.
func convertChain(key []byte, c object, kind int64, secret []byte) (*record.ChainStructure, error) {
	state := c.object("chainKey")
	used, err := counter("a chain's counter", state.get("counter"))
	if err != nil {
		return nil, err
	}
	result := &record.ChainStructure{SenderRatchetKeyPublic: typed(key), ChainKey: &chain.KeyStructure{Index: uint32(used + 1)}}
	if state.get("key") == nil && kind == receiving {
		// The chain has ended: what is not among its message keys is never to be read, so its key is one that nobody knows.
		nobodys := hmac.New(sha256.New, secret)
		nobodys.Write(key)
		result.ChainKey.Key = nobodys.Sum(nil)
	} else if result.ChainKey.Key, err = sized("a chain's key", state.get("key"), 32); err != nil {
		return nil, err
	}
	if kind == sending {
		return result, nil
	}
	for _, f := range c.object("messageKeys") {
		n, err := counter("a message key's counter", f.name)
		if err != nil || n < 0 || n > used {
			return nil, errors.New("a message key is from beyond its chain")
		}
		seed, err := sized("a message key", f.value, 32)
		if err != nil {
			return nil, err
		}
		derived, err := kdf.DeriveSecrets(seed, nil, []byte(message.KdfSalt), message.DerivedSecretsSize)
		if err != nil {
			return nil, fmt.Errorf("derive a message's keys: %w", err)
		}
		result.MessageKeys = append(result.MessageKeys, &message.KeysStructure{
			CipherKey: derived[:32], MacKey: derived[32:64], IV: derived[64:], Index: uint32(n),
		})
	}
	result.MessageKeys = result.MessageKeys[max(0, len(result.MessageKeys)-maxMessageKeys):]
	return result, nil
}

// convertSenderKey converts the key of a sender in a group: Baileys' list of states, the newest last. Our own must be complete.
func convertSenderKey(v any, own bool) ([]byte, error) {
	if text, ok := toBytes(v); ok {
		parsed, err := parse(text)
		if err != nil {
			return nil, errors.New("it is not JSON")
		}
		v = parsed
	}
	states, ok := v.([]any)
	if o, is := v.(object); is {
		states, ok = o.list()
	}
	if !ok || len(states) == 0 {
		return nil, errors.New("it is empty")
	}
	all := &grouprecord.SenderKeyStructure{}
	for _, v := range slices.Backward(states) {
		o, _ := v.(object)
		state, err := convertGroupState(o, own)
		if err != nil {
			return nil, err
		}
		if len(all.SenderKeyStates) < maxGroupStates {
			all.SenderKeyStates = append(all.SenderKeyStates, state)
		}
	}
	serializer := store.SignalProtobufSerializer
	key, err := grouprecord.NewSenderKeyFromStruct(all, serializer.SenderKeyRecord, serializer.SenderKeyState)
	if err != nil {
		return nil, errors.New("a key of it cannot be read")
	}
	return key.Serialize(), nil
}

func convertGroupState(o object, own bool) (*grouprecord.SenderKeyStateStructure, error) {
	id, ok := toInt(o.get("senderKeyId"))
	if !ok || id < 0 || id > math.MaxUint32 {
		return nil, errors.New("the key's number is missing")
	}
	chain, signing := o.object("senderChainKey"), o.object("senderSigningKey")
	iteration, err1 := counter("the chain's counter", chain.get("iteration"))
	seed, err2 := sized("the chain's key", chain.get("seed"), 32)
	verifying, err3 := public("the signing key", signing.get("public"))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	if iteration < 0 {
		return nil, errors.New("the chain's counter is negative")
	}
	s := &grouprecord.SenderKeyStateStructure{
		KeyID: uint32(id), SigningKeyPublic: typed(verifying),
		SenderChainKey: &groupratchet.SenderChainKeyStructure{Iteration: uint32(iteration), ChainKey: seed},
	}
	if own {
		var err error
		if s.SigningKeyPrivate, _, err = keyPair("the signing key", signing.get("private"), signing.get("public")); err != nil {
			return nil, err
		}
		return s, nil // it reads nothing, so old messages' keys are of no use
	}
	skipped, _ := o.get("senderMessageKeys").([]any)
	for _, v := range skipped {
		k, _ := v.(object)
		n, err1 := counter("a message key's counter", k.get("iteration"))
		seed, err2 := sized("a message key", k.get("seed"), 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if n < 0 || n >= iteration {
			return nil, errors.New("a message key is from beyond its chain")
		}
		key, err := groupratchet.NewSenderMessageKey(uint32(n), seed)
		if err != nil {
			return nil, fmt.Errorf("derive a message's keys: %w", err)
		}
		s.Keys = append(s.Keys, groupratchet.NewStructFromSenderMessageKey(key))
	}
	return s, nil
}

// typed is a public key with the byte that gives its kind.
func typed(public []byte) []byte { return append([]byte{5}, public...) }

// keyPair reads a key pair of Curve25519 and checks that it is one. The public key is without its kind.
func keyPair(what string, private, pub any) (secret, open []byte, err error) {
	secret, err = sized(what, private, 32)
	if err != nil {
		return nil, nil, err
	}
	open, err = public(what, pub)
	if err != nil {
		return nil, nil, err
	}
	if pair := keys.NewKeyPairFromPrivateKey([32]byte(secret)); !bytes.Equal(pair.Pub[:], open) {
		return nil, nil, fmt.Errorf("%s has a public half that is not its own", what)
	}
	return secret, open, nil
}
