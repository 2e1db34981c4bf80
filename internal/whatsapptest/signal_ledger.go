package whatsapptest

import (
	"crypto/sha256"
	"fmt"
)

// ledger remembers every Signal counter that reached one device, by chain, so that it can
// tell a message that was carried twice (the same bytes) from a key that was used twice
// (other bytes under the same counter). libsignal alone cannot: to it both are an old counter.
type ledger struct {
	chains map[chainID]*chain
}

// chainID is one sending chain: a ratchet key of a session, or a sender key of a group.
type chainID struct {
	sender string // Signal address
	key    string
}

type chain struct {
	highest uint32
	used    map[uint32]*use
}

// use is what a counter was used for.
type use struct {
	hash      [sha256.Size]byte
	decrypted bool
}

// note enters a ciphertext and returns its use, and what is wrong with its counter or "".
//
// A counter lower than one seen before is wrong: the server carries messages in order, so the
// sender must have gone back. An answer to a retry receipt is exempt, as senders make it beside
// their other messages and may be overtaken.
func (l *ledger) note(id chainID, counter uint32, ciphertext []byte, retry bool) (*use, string) {
	c := l.chains[id]
	if c == nil {
		if l.chains == nil {
			l.chains = make(map[chainID]*chain)
		}
		c = &chain{used: make(map[uint32]*use)}
		l.chains[id] = c
	}
	hash := sha256.Sum256(ciphertext)
	if u := c.used[counter]; u != nil {
		if u.hash == hash {
			return u, ""
		}
		return &use{hash: hash}, fmt.Sprintf("%s used counter %d of chain %.8x twice", id.sender, counter, id.key)
	}
	u := &use{hash: hash}
	c.used[counter] = u
	switch {
	case retry:
	case counter < c.highest:
		return u, fmt.Sprintf("%s went back from counter %d to %d of chain %.8x", id.sender, c.highest, counter, id.key)
	default:
		c.highest = counter
	}
	return u, ""
}
