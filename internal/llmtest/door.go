package llmtest

import (
	"net"
	"sync"
)

// door is a listener that can be shut, and keeps its port: another process might take it meanwhile. At a shut door a
// connection breaks as soon as it is made.
type door struct {
	net.Listener

	mu   sync.Mutex
	shut bool
	in   map[net.Conn]bool // those that have come in and not left
}

func newDoor() (*door, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	return &door{Listener: l, in: map[net.Conn]bool{}}, err
}

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g := (guest{c, d}); d.lets(g) {
			return g, nil
		}
		breakOff(c)
	}
}

func (d *door) lets(g guest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.shut {
		d.in[g] = true
	}
	return !d.shut
}

// set shuts the door, behind those too who are in, or opens it. It reports whether that changed anything.
func (d *door) set(shut bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := d.shut != shut
	d.shut = shut
	if shut {
		for c := range d.in {
			breakOff(c.(guest).Conn)
		}
	}
	return changed
}

// breakOff closes a connection without a word.
func breakOff(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// guest is a connection that the door knows to be in.
type guest struct {
	net.Conn
	door *door
}

func (g guest) Close() error {
	g.door.mu.Lock()
	delete(g.door.in, g)
	g.door.mu.Unlock()
	return g.Conn.Close()
}
