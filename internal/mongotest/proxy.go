package mongotest

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// backend is a server as its proxies see it.
type backend struct {
	mu      sync.Mutex
	address string                 // empty: down
	turns   map[string]*sync.Mutex // by database and collection
}

func newBackend(address string) *backend {
	return &backend{address: address, turns: make(map[string]*sync.Mutex)}
}

func (b *backend) at() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.address
}

func (b *backend) move(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.address = address
}

// turn is held in a collection from a command until its answer.
func (b *backend) turn(collection string) *sync.Mutex {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.turns[collection] == nil {
		b.turns[collection] = new(sync.Mutex)
	}
	return b.turns[collection]
}

// proxy stands between clients and a server, and forwards one command of a collection at a time,
// with its answer. That gives every command the atomicity that MongoDB promises for a
// document and that FerretDB's updates (a read, then a write) lack.
type proxy struct {
	listener net.Listener
	backend  *backend

	mu      sync.Mutex
	broken  bool
	conns   map[net.Conn]bool // of clients
	stalled bool
	delay   time.Duration
	fault   func(command string) Fault
	wake    chan struct{} // closed and replaced when stalled ends
}

func newProxy(b *backend) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, backend: b, conns: make(map[net.Conn]bool), wake: make(chan struct{})}
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

// track keeps a client's connection to be cut, until the returned function.
func (p *proxy) track(conn net.Conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		conn.Close()
	}
	p.conns[conn] = true
	return func() {
		conn.Close()
		p.mu.Lock()
		delete(p.conns, conn)
		p.mu.Unlock()
	}
}

// cut ends the clients' connections. Those to the server end once it has done what it was asked: it
// must not be at work when the next command comes.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) setBroken(on bool) {
	p.mu.Lock()
	p.broken = on
	p.mu.Unlock()
	if on {
		p.cut()
	}
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
	if hook == nil || isHello(command) {
		return None
	}
	return hook(command)
}

func (p *proxy) serve(client net.Conn) {
	defer p.track(client)()
	address := p.backend.at()
	if address == "" {
		return
	}
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := readMessage(client)
		if err != nil || p.backend.at() != address {
			return
		}
		command, collection := commandOf(request)
		fault := p.pass(command)
		if fault == CutBefore {
			return
		}
		if fault == Hang {
			io.Copy(io.Discard, client)
			return
		}
		var answer []byte
		switch {
		case fault == NotPrimary:
			answer = refusal(request, 10107, "NotWritablePrimary", "not primary")
		case fault == Full && isWrite(command):
			answer = refusal(request, 14031, "OutOfDiskSpace", "no space left on device")
		default:
			answer, err = p.exchange(server, request, command, collection)
		}
		if err != nil || fault == CutAfter {
			return
		}
		if fault == Unconfirmed {
			answer = unconfirmed(request, command, answer)
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

func (p *proxy) exchange(server net.Conn, request []byte, command, collection string) ([]byte, error) {
	// A heartbeat waits for nobody.
	if !isHello(command) {
		turn := p.backend.turn(collection)
		turn.Lock()
		defer turn.Unlock()
	}
	// One that is never answered must not close the collection to all others.
	if err := server.SetDeadline(time.Now().Add(unanswered)); err != nil {
		return nil, err
	}
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	return readMessage(server)
}

// unanswered is how long a command may take before its connection is cut.
const unanswered = 20 * time.Second

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

// commandOf is the name of the command in an OP_MSG, which is that of its body's first element, and
// the database and collection that it is for. The first message of a connection is an OP_QUERY, always a hello.
func commandOf(message []byte) (name, collection string) {
	if len(message) < bodyAt || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return "hello", ""
	}
	first, err := bson.Raw(message[bodyAt:]).IndexErr(0)
	if err != nil {
		return "", ""
	}
	database, _ := bson.Raw(message[bodyAt:]).Lookup("$db").StringValueOK()
	collection, _ = first.Value().StringValueOK()
	return first.Key(), database + "." + collection
}

// opMsg is the number of the kind of message that all commands are.
const opMsg = 2013

// bodyAt is where the document begins in an OP_MSG: after the header, the flags and the kind of its section.
const bodyAt = 16 + 4 + 1

// answerTo makes the OP_MSG with a document that answers a request.
func answerTo(request []byte, document bson.D) []byte {
	body, err := bson.Marshal(document)
	if err != nil {
		panic(err)
	}
	message := binary.LittleEndian.AppendUint32(nil, uint32(bodyAt+len(body)))
	message = append(message, 0, 0, 0, 0)
	message = append(message, request[4:8]...)
	message = binary.LittleEndian.AppendUint32(message, opMsg)
	message = append(message, 0, 0, 0, 0, 0)
	return append(message, body...)
}

// unconfirmed is the answer to a write with the error that its write concern could not be satisfied.
func unconfirmed(request []byte, command string, answer []byte) []byte {
	var document bson.D
	if !isWrite(command) || bson.Unmarshal(answer[bodyAt:], &document) != nil {
		return answer
	}
	return answerTo(request, append(document, bson.E{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: int32(189)}, {Key: "codeName", Value: "PrimarySteppedDown"}, {Key: "errmsg", Value: "primary stepped down while waiting for replication"},
	}}))
}

// refusal is the answer to a command that is not carried out.
func refusal(request []byte, code int32, name, why string) []byte {
	return answerTo(request, bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: why}, {Key: "code", Value: code}, {Key: "codeName", Value: name}})
}

func isWrite(command string) bool {
	return slices.Contains([]string{"insert", "update", "delete", "findAndModify"}, command)
}

func isHello(command string) bool {
	return command == "hello" || command == "isMaster" || command == "ismaster"
}
