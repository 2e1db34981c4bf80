package whatsapptest

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// The faults below name a device by either of its addresses, with the device part. The empty
// JID means every connection by socket, paired or not; phones, which live in the process, are
// then left alone.

// Fate is what becomes of one message stanza that a client sends.
type Fate int

const (
	// LoseAck routes the message and never acknowledges it.
	LoseAck Fate = iota + 1
	// HoldAck routes the message and keeps its ack until ReleaseAcks.
	HoldAck
	// DropAfter routes the message and breaks the connection in place of the ack.
	DropAfter
	// DropBefore breaks the connection and routes nothing.
	DropBefore
	// Reject routes nothing and acknowledges with error 479, as the real server answers a
	// message that it does not accept.
	Reject
	// Limit routes nothing and acknowledges with error 463, as the real server answers an account that may not start new
	// chats (the reach-out limit).
	Limit
	// Deliver does what a server does without faults. It fills places in a list of fates.
	Deliver
)

// Failure is a login that the server refuses.
type Failure struct {
	// Reason is what clients act on: 401, 403, 406 logged out; 402 banned for a time; 405
	// client outdated; 500, 503 try again; every other is unknown to whatsmeow.
	Reason int
	// Code and Expire go with 402: why, and for how long.
	Code   int
	Expire time.Duration
}

// faults is what is set to go wrong. It belongs to Server.mu.
type faults struct {
	down      bool
	upgrades  countdown
	uploads   countdown
	downloads countdown
	stalled   map[types.JID]bool
	fates     map[types.JID][]Fate
	always    map[types.JID]Fate
	held      []heldAck
	failures  map[types.JID][]Failure
	failing   map[types.JID]Failure
	queries   []*queryFault
	latency   time.Duration
	untold    bool
	withheld  map[types.JID]int
}

// queryFault is an error code, or silence, for the next so many iqs of one kind.
type queryFault struct {
	device types.JID
	xmlns  string
	code   int
	left   int
}

// heldAck is an ack that waits for ReleaseAcks.
type heldAck struct {
	link *link
	ack  waBinary.Node
}

// countdown is an HTTP status for the next so many requests.
type countdown struct{ status, left int }

// next is the status for this request, 0 for none.
func (c *countdown) next() int {
	if c.left == 0 {
		return 0
	}
	c.left--
	return c.status
}

// SetDown takes the whole server off the network: connections by socket break, new ones are
// refused before TLS, for HTTP too. SetDown(false) brings it back; what it keeps is kept.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	s.faults.down = down
	s.mu.Unlock()
	if down {
		s.Drop(types.EmptyJID)
	}
}

func (s *Server) down() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults.down
}

// RefuseUpgrades answers the next n websocket requests with an HTTP status.
func (s *Server) RefuseUpgrades(status, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.upgrades = countdown{status, n}
}

// FailUploads answers the next n media uploads with an HTTP status.
func (s *Server) FailUploads(status, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.uploads = countdown{status, n}
}

// FailDownloads answers the next n media downloads with an HTTP status.
func (s *Server) FailDownloads(status, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.downloads = countdown{status, n}
}

// refused answers the request if it is set to fail.
func (s *Server) refused(w http.ResponseWriter, c *countdown) bool {
	s.mu.Lock()
	status := c.next()
	s.mu.Unlock()
	if status == 0 {
		return false
	}
	http.Error(w, http.StatusText(status), status)
	return true
}

// Drop breaks the device's connection without a word (TCP reset); what it was sent and has
// not acknowledged is kept. It reports how many connections that were.
func (s *Server) Drop(device types.JID) int {
	links := s.linksOf(device)
	for _, l := range links {
		l.drop()
	}
	return len(links)
}

// HangUp ends the device's connection in order, with a websocket close and no reason.
func (s *Server) HangUp(device types.JID) { s.endLinks(device) }

// StreamError ends the device's connection with <stream:error code>: 503 and 515 are known to
// clients, everything else is not.
func (s *Server) StreamError(device types.JID, code int) {
	s.endLinks(device, streamError(fmt.Sprint(code)))
}

// StaleStreamError sends <stream:error code> and leaves the connection as it is: so it looks to a client that takes the word
// that a connection ends only when it has another already.
func (s *Server) StaleStreamError(device types.JID, code int) {
	links := s.linksOf(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range links {
		l.push(streamError(fmt.Sprint(code)))
	}
}

// Replace ends the device's connection as if the device had logged in elsewhere.
func (s *Server) Replace(device types.JID) { s.endLinks(device, replaced()) }

// LimitReach tells the device that its account may not start new chats until a time; zero tells it that it may again.
func (s *Server) LimitReach(device types.JID, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.deviceOf(device)
	if d == nil {
		return
	}
	lock := `{"is_active":false}`
	if !until.IsZero() {
		lock = fmt.Sprintf(`{"is_active":true,"time_enforcement_ends":"%d"}`, until.Unix())
	}
	update := []byte(`{"data":{"xwa2_notify_account_reachout_timelock":` + lock + `}}`)
	s.notify(d, waBinary.Attrs{"from": types.ServerJID, "type": "mex"}, waBinary.Node{Tag: "update", Content: update})
}

// ExpirePairings ends the connections of all clients that are not paired, as the real server
// does when their pairing refs have run out.
func (s *Server) ExpirePairings() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Clone(s.unpairedLinks) {
		p.link.end()
	}
}

// Unlink removes the companion, as its phone would: its connection ends with 401
// device_removed, and its logins fail with 401 from now on.
func (s *Server) Unlink(device types.JID) {
	s.mu.Lock()
	d := s.deviceOf(device)
	s.mu.Unlock()
	if d != nil {
		s.unlink(d)
	}
}

func (s *Server) endLinks(device types.JID, last ...waBinary.Node) {
	links := s.linksOf(device)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range links {
		l.end(last...)
	}
}

// Stall leaves the device's connection open and lets nothing through in either direction,
// until Unstall. Later connections of the device stall too.
func (s *Server) Stall(device types.JID) { s.setStalled(device, true) }

// Unstall lets everything move again that Stall, with the same argument, has stopped.
func (s *Server) Unstall(device types.JID) { s.setStalled(device, false) }

func (s *Server) setStalled(device types.JID, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.stalled == nil {
		s.faults.stalled = map[types.JID]bool{}
	}
	s.faults.stalled[s.target(device)] = on
	s.changed()
}

// gate waits while the link is stalled; false if it ends meanwhile.
func (s *Server) gate(l *link) bool {
	open := false
	err := s.wait(l.context, func() bool {
		open = !s.faults.stalled[s.key(l)] && !(l.bySocket() && s.faults.stalled[types.EmptyJID])
		return open || l.left
	})
	return err == nil && open
}

// flow is gate for stanzas to the client, which have the server's latency too.
func (s *Server) flow(l *link) bool {
	s.mu.Lock()
	latency := s.faults.latency
	s.mu.Unlock()
	if latency > 0 && l.bySocket() {
		timer := time.NewTimer(latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.context.Done():
			return false
		}
	}
	return s.gate(l)
}

// SetLatency holds each stanza to a socket back for so long before it is written, from now on. Stanzas do not overtake each
// other, so it limits the rate too.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.latency = d
}

// FailLogins refuses the device's next logins, one for each failure, in order.
func (s *Server) FailLogins(device types.JID, failures ...Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.failures == nil {
		s.faults.failures = map[types.JID][]Failure{}
	}
	s.faults.failures[s.target(device)] = failures
}

// FailEveryLogin refuses all logins of the device; a Failure without a reason ends that.
func (s *Server) FailEveryLogin(device types.JID, f Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.failing == nil {
		s.faults.failing = map[types.JID]Failure{}
	}
	s.faults.failing[s.target(device)] = f
}

// failure is what the device's login is refused with; false if it is not. The caller holds
// s.mu.
func (s *Server) failure(device types.JID) (Failure, bool) {
	for _, key := range []types.JID{device, types.EmptyJID} {
		if waiting := s.faults.failures[key]; len(waiting) > 0 {
			s.faults.failures[key] = waiting[1:]
			return waiting[0], true
		}
		if f := s.faults.failing[key]; f.Reason != 0 {
			return f, true
		}
	}
	return Failure{}, false
}

// SetDevicesUntold leaves clients without word of the devices that accounts link and unlink from now on. They learn of them by asking, or
// when a message misses one.
func (s *Server) SetDevicesUntold(untold bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.untold = untold
}

// FailQueries answers the device's next n iqs of a namespace (usync, encrypt, w:m, ...) with
// an error code and does nothing else for them; code 0 leaves them without an answer.
func (s *Server) FailQueries(device types.JID, xmlns string, code, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.queries = append(s.faults.queries, &queryFault{s.target(device), xmlns, code, n})
}

// queryFault takes what is set to go wrong with the iq that the link brings; nil if nothing
// is. The caller holds s.mu.
func (s *Server) queryFault(l *link, xmlns string) *queryFault {
	for _, f := range s.faults.queries {
		mine := f.device == s.key(l) || f.device.IsEmpty() && l.bySocket()
		if mine && f.xmlns == xmlns && f.left > 0 {
			f.left--
			return f
		}
	}
	return nil
}

// FateOfNext decides the fates of the next messages that the device sends, in order. Peer
// messages, which a device sends to its own account's others by itself, do not count.
func (s *Server) FateOfNext(device types.JID, fates ...Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.fates == nil {
		s.faults.fates = map[types.JID][]Fate{}
	}
	s.faults.fates[s.target(device)] = fates
}

// FateOfAll decides the fate of all messages that the device sends, for which FateOfNext has
// decided nothing; Deliver ends that.
func (s *Server) FateOfAll(device types.JID, fate Fate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.always == nil {
		s.faults.always = map[types.JID]Fate{}
	}
	s.faults.always[s.target(device)] = fate
}

// fate takes the fate of the message that the link brings. The caller holds s.mu.
func (s *Server) fate(l *link) Fate {
	targets := []types.JID{s.key(l)}
	if l.bySocket() {
		targets = append(targets, types.EmptyJID)
	}
	for _, target := range targets {
		if waiting := s.faults.fates[target]; len(waiting) > 0 {
			s.faults.fates[target] = waiting[1:]
			return waiting[0]
		}
		if f := s.faults.always[target]; f != 0 {
			return f
		}
	}
	return Deliver
}

// Withhold sends the device the next n messages without their text, as the real server does where the sender has encrypted none for that
// device: it has to ask its account's phone. Peer messages do not count.
func (s *Server) Withhold(device types.JID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.withheld == nil {
		s.faults.withheld = map[types.JID]int{}
	}
	s.faults.withheld[s.target(device)] = n
}

// withheld reports whether d is to get the message without its text. The caller holds s.mu.
func (s *Server) withheld(d *device, n waBinary.Node) bool {
	if text(n, "category") == "peer" || s.faults.withheld[d.pnJID()] == 0 {
		return false
	}
	s.faults.withheld[d.pnJID()]--
	return true
}

// ReleaseAcks sends the acks that HoldAck has kept, in the order of their messages, to those
// connections that still stand. It reports how many it had.
func (s *Server) ReleaseAcks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.faults.held
	s.faults.held = nil
	for _, h := range held {
		h.link.push(h.ack)
	}
	return len(held)
}

// Redeliver sends the device, if it is connected, everything again that it has not
// acknowledged, as a server does that believes it was lost.
func (s *Server) Redeliver(device types.JID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.deviceOf(device); d != nil && d.link != nil && d.link.active {
		for _, n := range d.queue {
			d.link.push(n)
		}
	}
}

// Duplicate sends the device the message with this id again, byte for byte, whether it was
// acknowledged or not; at its next login if it is not connected. It reports whether the device
// was ever sent such a message.
func (s *Server) Duplicate(device types.JID, id types.MessageID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.deviceOf(device)
	if d == nil {
		return false
	}
	for _, n := range slices.Backward(d.sent) {
		if n.Attrs["id"] == id {
			s.enqueue(d, n)
			return true
		}
	}
	return false
}

// target is the form of a device's address that faults are kept under. The caller holds s.mu.
func (s *Server) target(device types.JID) types.JID {
	if a := s.accountOf(device); a != nil {
		pn := a.pn
		pn.Device = device.Device
		return pn
	}
	return device
}

// key is the link's target: its device's, or a JID that nothing is kept under. The caller
// holds s.mu.
func (s *Server) key(l *link) types.JID {
	if l.device == nil {
		return types.JID{Server: "unpaired"}
	}
	return l.device.pnJID()
}

// linksOf is the connections that a fault's device means.
func (s *Server) linksOf(device types.JID) []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if device.IsEmpty() {
		var all []*link
		for l := range s.links {
			if l.bySocket() {
				all = append(all, l)
			}
		}
		return all
	}
	if d := s.deviceOf(device); d != nil && d.link != nil {
		return []*link{d.link}
	}
	return nil
}
