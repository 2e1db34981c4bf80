package mongotest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// proxy stands between clients and a server, and forwards one command at a time with its answer.
// That gives every command the atomicity that MongoDB promises for a document and that
// FerretDB's updates (a read, then a write) lack.
type proxy struct {
	listener net.Listener
	turn     sync.Mutex // held from a command until its answer

	mu      sync.Mutex
	backend string // empty: down
	conns   map[net.Conn]bool
	stalled bool
	delay   time.Duration
	fault   func(command string) Fault
	wake    chan struct{} // closed and replaced when stalled ends
}

func newProxy(backend string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, backend: backend, conns: make(map[net.Conn]bool), wake: make(chan struct{})}
	go p.accept()
	return p, nil
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

// track keeps conn to be cut, until the returned function.
func (p *proxy) track(conn net.Conn) func() {
	p.mu.Lock()
	p.conns[conn] = true
	p.mu.Unlock()
	return func() {
		conn.Close()
		p.mu.Lock()
		delete(p.conns, conn)
		p.mu.Unlock()
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) setBackend(address string) {
	p.mu.Lock()
	p.backend = address
	p.mu.Unlock()
}

func (p *proxy) setStalled(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = on
	if !on {
		close(p.wake)
		p.wake = make(chan struct{})
	}
}

// pass waits while the proxy is stalled and gives the fault for the command.
func (p *proxy) pass(command string) Fault {
	p.mu.Lock()
	for p.stalled {
		wake := p.wake
		p.mu.Unlock()
		<-wake
		p.mu.Lock()
	}
	delay, hook := p.delay, p.fault
	p.mu.Unlock()
	time.Sleep(delay)
	if hook == nil || command == "hello" || command == "isMaster" || command == "ismaster" {
		return None
	}
	return hook(command)
}

func (p *proxy) serve(client net.Conn) {
	defer p.track(client)()
	p.mu.Lock()
	backend := p.backend
	p.mu.Unlock()
	if backend == "" {
		return
	}
	server, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer p.track(server)()
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		fault := p.pass(commandName(request))
		if fault == CutBefore {
			return
		}
		if fault == Hang {
			io.Copy(io.Discard, client)
			return
		}
		answer, err := p.exchange(server, request)
		if err != nil || fault == CutAfter {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

func (p *proxy) exchange(server net.Conn, request []byte) ([]byte, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	return readMessage(server)
}

// readMessage reads one message of the wire protocol: its length in four bytes, then the rest.
func readMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n < 16 || n > 64<<20 {
		return nil, io.ErrUnexpectedEOF
	}
	message := make([]byte, n)
	copy(message, length[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

// commandName is the name of the first element of an OP_MSG's body, which names the command. The
// first message of a connection is an OP_QUERY, always a hello.
func commandName(message []byte) string {
	const opMsg, nameAt = 2013, 16 + 4 + 1 + 4 + 1 // header, flags, section kind, length, element type
	if len(message) < nameAt || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return "hello"
	}
	name := message[nameAt:]
	for i, b := range name {
		if b == 0 {
			return string(name[:i])
		}
	}
	return ""
}
