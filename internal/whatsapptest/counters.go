package whatsapptest

import (
	"fmt"
	"slices"

	"go.mau.fi/libsignal/protocol"

	waBinary "go.mau.fi/whatsmeow/binary"
)

// CounterFaults lists what senders did wrong with their Signal counters, for each receiving
// device: a counter used for two ciphertexts, or one that went back. Such a message is lost at
// its receiver, mostly without a word, and means that the sender's state on disk went
// backwards or was overwritten. The server reads this from what it carries, so it also judges
// for devices that are not connected. A ciphertext that is carried twice is no fault.
func (s *Server) CounterFaults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.counterFaults)
}

// carry takes a message from d to the target. The caller holds s.mu.
func (s *Server) carry(d, target *device, n waBinary.Node) {
	if s.withheld(target, n) {
		n.Content = []waBinary.Node{{Tag: "unavailable"}}
	}
	for _, enc := range n.GetChildrenByTag("enc") {
		ciphertext, _ := enc.Content.([]byte)
		key, counter, err := chainOf(text(enc, "type"), ciphertext)
		if err != nil {
			s.addUnknown(err.Error())
			continue
		}
		if text(enc, "type") == "skmsg" {
			key += " of " + address(n, "from").User
		}
		id := chainID{sender: d.lidJID().String(), key: key}
		if _, wrong := target.ledger.note(id, counter, ciphertext, text(enc, "count") != ""); wrong != "" {
			s.counterFaults = append(s.counterFaults, fmt.Sprintf("%s, in message %s to %s", wrong, text(n, "id"), target.lidJID()))
		}
	}
	s.enqueue(target, n)
}

// chainOf is the chain and the counter of a ciphertext, which everybody can read.
func chainOf(kind string, ciphertext []byte) (key string, counter uint32, err error) {
	switch kind {
	case "pkmsg":
		msg, err := protocol.NewPreKeySignalMessageFromBytes(ciphertext, serializer.PreKeySignalMessage, serializer.SignalMessage)
		if err != nil {
			return "", 0, fmt.Errorf("read pre-key message: %w", err)
		}
		inner := msg.WhisperMessage()
		return string(inner.SenderRatchetKey().Serialize()), inner.Counter(), nil
	case "msg":
		msg, err := protocol.NewSignalMessageFromBytes(ciphertext, serializer.SignalMessage)
		if err != nil {
			return "", 0, fmt.Errorf("read message: %w", err)
		}
		return string(msg.SenderRatchetKey().Serialize()), msg.Counter(), nil
	case "skmsg":
		msg, err := protocol.NewSenderKeyMessageFromBytes(ciphertext, serializer.SenderKeyMessage)
		if err != nil {
			return "", 0, fmt.Errorf("read group message: %w", err)
		}
		return fmt.Sprintf("sender key %08x", msg.KeyID()), msg.Iteration(), nil
	default:
		return "", 0, fmt.Errorf("ciphertext of type %q", kind)
	}
}
