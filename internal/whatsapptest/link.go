package whatsapptest

import (
	"context"
	"fmt"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// link is one connection of a client: a socket, or a device of this process. What comes from
// the client waits in inbox and is handled one at a time; what goes to it waits in outbox and
// is written one at a time, so that neither side ever makes the server wait.
type link struct {
	server  *Server
	carrier carrier
	inbox   *mailbox[waBinary.Node]
	outbox  *mailbox[parcel]
	// context ends with the connection.
	context context.Context
	cancel  context.CancelFunc

	// The rest belongs to Server.mu.

	// device is who is logged in; nil on a connection that registers.
	device *device
	// pending is the pairing that waits on a connection that registers.
	pending *pendingPair
	// active is set once the client asked for its stanzas.
	active bool
	// left is set as soon as the client has closed its side.
	left bool
	// gone is set once the device has no part in the connection any more.
	gone bool
	// available is set while the client shows as available on this connection.
	available bool
	// subscriptions are the accounts whose presence the client asked for, with the address
	// it asked by.
	subscriptions map[*account]types.JID
	// waiters are the requests of a device of this process that wait for their answer.
	waiters map[string]chan *waBinary.Node
	// requests counts the ids given to requests.
	requests int
}

// carrier brings stanzas to a client.
type carrier interface {
	// send brings one stanza; it may block.
	send(n waBinary.Node) error
	// hangUp ends the connection in order, after what was sent.
	hangUp()
	// cut breaks the connection at once and never blocks; safe at any time and more than
	// once.
	cut()
}

// parcel is an entry of an outbox: a stanza, or the end of the connection.
type parcel struct {
	node waBinary.Node
	end  bool
	// parting is how long the client is given to leave by itself at the end.
	parting time.Duration
}

// parting is the time between the last words to a client and the end of its connection. A
// real server closes a moment later too, and whatsmeow drops what it has read but not handled
// when the connection closes: without this it would miss the reason of the end.
const parting = 500 * time.Millisecond

func (s *Server) newLink(c carrier) *link {
	l := &link{
		server: s, carrier: c,
		inbox: newMailbox[waBinary.Node](), outbox: newMailbox[parcel](),
		subscriptions: map[*account]types.JID{}, waiters: map[string]chan *waBinary.Node{},
	}
	l.context, l.cancel = context.WithCancel(s.context)
	return l
}

// run starts the link's two goroutines.
func (l *link) run() {
	l.server.tasks.Go(l.write)
	l.server.tasks.Go(l.handle)
}

// write brings the outbox to the client until the connection ends.
func (l *link) write() {
	defer l.drop()
	for {
		p, ok := l.outbox.next(l.context)
		if !ok {
			return
		}
		if p.end {
			l.part(p.parting)
			l.carrier.hangUp()
			return
		}
		if !l.server.flow(l) {
			return
		}
		l.server.observe(Stanza{Device: l.server.name(l), ToClient: true, Node: p.node})
		if err := l.carrier.send(p.node); err != nil {
			return
		}
	}
}

// part waits until the client has left, at most so long.
func (l *link) part(most time.Duration) {
	ctx, cancel := context.WithTimeout(l.context, most)
	defer cancel()
	// Whether it has left or not, the connection ends now.
	_ = l.server.wait(ctx, func() bool { return l.left })
}

// handle works through what the client sent until the connection ends. What it sent before it
// left is handled still, unless the connection is stalled.
func (l *link) handle() {
	defer l.drop()
	for {
		n, ok := l.inbox.next(l.context)
		if !ok {
			return
		}
		if !l.server.gate(l) {
			return
		}
		l.server.observe(Stanza{Device: l.server.name(l), Node: n})
		l.server.take(l, n)
	}
}

// push queues a stanza for the client. The caller holds Server.mu.
func (l *link) push(n waBinary.Node) {
	if n.Tag == "iq" {
		id, _ := n.Attrs["id"].(string)
		if waiter, ok := l.waiters[id]; ok {
			delete(l.waiters, id)
			if answer, err := transcribe(n); err == nil {
				waiter <- answer
			}
			return
		}
	}
	l.outbox.put(parcel{node: n})
}

// end queues last words, if any, and then the end of the connection. From here on the device
// has no connection. The caller holds Server.mu.
func (l *link) end(last ...waBinary.Node) {
	if l.gone {
		return
	}
	end := parcel{end: true}
	for _, n := range last {
		l.push(n)
		end.parting = parting
	}
	l.outbox.put(end)
	l.server.detach(l)
}

// drop ends the connection at once, from any side; what was not written is not written.
func (l *link) drop() {
	l.server.mu.Lock()
	defer l.server.mu.Unlock()
	l.sever()
}

// sever is drop for callers that hold Server.mu.
func (l *link) sever() {
	l.cancel()
	l.carrier.cut()
	l.server.detach(l)
}

// attach logs the device in without a socket and asks for its stanzas at once: deliver gets
// what was kept for it first, between the offline markers, then everything else. deliver is
// called with one node at a time, in order, from one goroutine; the node is the device's own
// copy, as decoded from a socket: attributes are strings or JIDs, content is bytes or nodes.
// What must be acknowledged (message, receipt, notification) comes again at the next attach
// until it is. deliver may submit and may request. An earlier connection of the device is
// replaced. A link of a removed device delivers nothing.
func (s *Server) attach(d *device, deliver func(n waBinary.Node)) *link {
	l := s.newLink(&inProcess{deliver: deliver})
	s.mu.Lock()
	s.login(l, d)
	s.activate(l)
	s.mu.Unlock()
	l.run()
	return l
}

// submit hands in one stanza from the device, handled exactly as if read from its socket, in
// order. It never blocks; after close it does nothing. The node may be reused.
func (l *link) submit(n waBinary.Node) {
	copied, err := transcribe(n)
	if err != nil {
		l.server.recordUnknown(fmt.Sprintf("unencodable <%s>: %v", n.Tag, err))
		return
	}
	l.inbox.put(*copied)
}

// request submits an iq, giving it an id if it has none, and waits for its answer, which does
// not go to deliver. An answer of type error is returned like any other.
func (l *link) request(ctx context.Context, n waBinary.Node) (*waBinary.Node, error) {
	l.server.mu.Lock()
	l.requests++
	attrs := waBinary.Attrs{"id": fmt.Sprintf("request-%d", l.requests)}
	for k, v := range n.Attrs {
		attrs[k] = v
	}
	n.Attrs = attrs
	answer := make(chan *waBinary.Node, 1)
	l.waiters[attrs["id"].(string)] = answer
	l.server.mu.Unlock()
	l.submit(n)
	select {
	case n := <-answer:
		return n, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("request %s: %w", n.Tag, ctx.Err())
	case <-l.context.Done():
		return nil, fmt.Errorf("request %s: connection ended", n.Tag)
	}
}

// close takes the device offline: what comes for it is kept.
func (l *link) close() { l.drop() }

// inProcess carries stanzas to a device of this process.
type inProcess struct{ deliver func(waBinary.Node) }

func (c *inProcess) send(n waBinary.Node) error {
	copied, err := transcribe(n)
	if err != nil {
		return err
	}
	c.deliver(*copied)
	return nil
}

func (c *inProcess) hangUp() {}
func (c *inProcess) cut()    {}

// transcribe encodes and decodes a node, which makes it what a client reads from a socket and
// shares nothing with the original.
func transcribe(n waBinary.Node) (*waBinary.Node, error) {
	payload, err := waBinary.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encode <%s>: %w", n.Tag, err)
	}
	return decode(payload)
}

func decode(payload []byte) (*waBinary.Node, error) {
	data, err := waBinary.Unpack(payload)
	if err != nil {
		return nil, fmt.Errorf("unpack stanza: %w", err)
	}
	n, err := waBinary.Unmarshal(data)
	if err != nil {
		return nil, fmt.Errorf("decode stanza: %w", err)
	}
	return n, nil
}

// mailbox is an unbounded queue: put never blocks.
type mailbox[T any] struct {
	mu      sync.Mutex
	entries []T
	shut    bool
	// wake holds a token while there may be something new to see.
	wake chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{wake: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(v T) {
	m.mu.Lock()
	m.entries = append(m.entries, v)
	m.mu.Unlock()
	m.ring()
}

// seal says that nothing will be put any more: next returns false after the last entry.
func (m *mailbox[T]) seal() {
	m.mu.Lock()
	m.shut = true
	m.mu.Unlock()
	m.ring()
}

func (m *mailbox[T]) ring() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// next waits for the oldest entry; false once the mailbox is sealed and empty or ctx is done.
// Only one goroutine may call it.
func (m *mailbox[T]) next(ctx context.Context) (T, bool) {
	var zero T
	for {
		if ctx.Err() != nil {
			return zero, false
		}
		m.mu.Lock()
		if len(m.entries) > 0 {
			v := m.entries[0]
			m.entries = m.entries[1:]
			m.mu.Unlock()
			return v, true
		}
		shut := m.shut
		m.mu.Unlock()
		if shut {
			return zero, false
		}
		select {
		case <-m.wake:
		case <-ctx.Done():
			return zero, false
		}
	}
}

// unixNow is the time as attributes carry it.
func unixNow() int64 { return time.Now().Unix() }
