package whatsapptest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/types"
)

// greetingTimeout is how long a client may take for the handshake.
const greetingTimeout = 20 * time.Second

// frames cuts the byte stream of a websocket into frames; the bounds of its messages mean
// nothing.
type frames struct {
	conn   *websocket.Conn
	buffer []byte
}

// errLeft says that the client is gone.
var errLeft = errors.New("the client left")

// take reads exactly n bytes.
func (f *frames) take(ctx context.Context, n int) ([]byte, error) {
	for len(f.buffer) < n {
		kind, data, err := f.conn.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("read from client: %w: %w", errLeft, err)
		}
		if kind != websocket.MessageBinary {
			return nil, errors.New("read from client: a text message")
		}
		f.buffer = append(f.buffer, data...)
	}
	taken := f.buffer[:n:n]
	f.buffer = f.buffer[n:]
	return taken, nil
}

// intro reads what a client sends before its first frame and returns the part of it that the
// handshake authenticates.
func (f *frames) intro(ctx context.Context) ([]byte, error) {
	start, err := f.take(ctx, 4)
	if err != nil {
		return nil, err
	}
	if string(start) == "ED\x00\x01" { // routing info, which this server never gave out
		if _, err := f.read(ctx); err != nil {
			return nil, err
		}
		if start, err = f.take(ctx, 4); err != nil {
			return nil, err
		}
	}
	if string(start) != string(socket.WAConnHeader) {
		return nil, fmt.Errorf("read from client: unknown intro %x", start)
	}
	return start, nil
}

func (f *frames) read(ctx context.Context) ([]byte, error) {
	length, err := f.take(ctx, socket.FrameLengthSize)
	if err != nil {
		return nil, err
	}
	return f.take(ctx, int(length[0])<<16|int(length[1])<<8|int(length[2]))
}

func (f *frames) write(ctx context.Context, payload []byte) error {
	n := len(payload)
	if n >= socket.FrameMaxSize {
		return fmt.Errorf("write to client: frame of %d bytes", n)
	}
	frame := append([]byte{byte(n >> 16), byte(n >> 8), byte(n)}, payload...)
	if err := f.conn.Write(ctx, websocket.MessageBinary, frame); err != nil {
		return fmt.Errorf("write to client: %w: %w", errLeft, err)
	}
	return nil
}

// wire carries stanzas over a socket.
type wire struct {
	context context.Context
	frames  *frames
	tcp     net.Conn
	out     *channel
}

func (w *wire) send(n waBinary.Node) error {
	payload, err := waBinary.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode <%s>: %w", n.Tag, err)
	}
	return w.frames.write(w.context, w.out.seal(payload))
}

// hangUp returns when the client has closed its side too, or does not within some seconds.
func (w *wire) hangUp() { w.frames.conn.Close(websocket.StatusNormalClosure, "") }

func (w *wire) cut() {
	// Without lingering, closing resets the connection: the client sees a broken network,
	// not an end.
	if tcp, ok := w.tcp.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	w.tcp.Close()
}

// serveSocket is one connection of a client, from the upgrade to its end.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if s.refused(w, &s.faults.upgrades) {
		return
	}
	tcp, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{"web.whatsapp.com"}})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(socket.FrameMaxSize)

	f := &frames{conn: conn}
	ctx, cancel := context.WithTimeout(s.context, greetingTimeout)
	defer cancel()
	prologue, err := f.intro(ctx)
	if err != nil {
		return
	}
	payload, client, in, out, err := respond(prologue, s.static,
		func() ([]byte, error) { return f.read(ctx) },
		func(b []byte) error { return f.write(ctx, b) })
	if err != nil {
		// A client may be killed within the handshake.
		if !errors.Is(err, errLeft) {
			s.recordUnknown(err.Error())
		}
		return
	}

	carrier := &wire{frames: f, tcp: tcp, out: out}
	l := s.newLink(carrier)
	carrier.context = l.context
	s.welcome(l, payload, client)
	l.run()
	s.listenTo(l, f, in)
}

// listenTo reads the client's stanzas until it leaves or breaks the protocol.
func (s *Server) listenTo(l *link, f *frames, in *channel) {
	defer func() {
		s.mu.Lock()
		l.left = true
		s.changed()
		s.mu.Unlock()
		l.inbox.seal()
		<-l.context.Done()
	}()
	for {
		sealed, err := f.read(l.context)
		if err != nil {
			return
		}
		payload, err := in.open(sealed)
		if err != nil {
			s.recordUnknown(err.Error())
			return
		}
		n, err := decode(payload)
		if err != nil {
			s.recordUnknown(err.Error())
			return
		}
		l.inbox.put(*n)
	}
}

// leaving is how long the word that a client has left may take, on a busy machine, behind its next login.
const leaving = time.Second

// welcome starts what the client has come for: a pairing, or its stanzas after a login.
func (s *Server) welcome(l *link, p *waWa6.ClientPayload, client [32]byte) {
	ctx, cancel := context.WithTimeout(l.context, leaving)
	defer cancel()
	// Whether it has left or not, it is let in.
	_ = s.wait(ctx, func() bool {
		d := s.deviceOf(payloadJID(p))
		return d == nil || d.link == nil || d.link.left
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[l] = struct{}{}
	if p.DevicePairingData != nil {
		if err := s.startPairing(l, p.DevicePairingData, client); err != nil {
			s.addUnknown(err.Error())
			l.end(failureNode(Failure{Reason: http.StatusBadRequest}))
		}
		return
	}
	jid := payloadJID(p)
	if f, ok := s.failure(jid); ok {
		l.end(failureNode(f))
		return
	}
	if revision := p.GetUserAgent().GetAppVersion().GetTertiary(); revision < s.MinRevision {
		l.end(failureNode(Failure{Reason: http.StatusMethodNotAllowed}))
		return
	}
	d := s.deviceOf(jid)
	if d == nil || d.noise != client {
		l.end(failureNode(Failure{Reason: http.StatusUnauthorized}))
		return
	}
	s.login(l, d)
	l.push(waBinary.Node{Tag: "success", Attrs: waBinary.Attrs{
		"t": unixNow(), "lid": d.lidJID(), "creation": unixNow(), "location": "lla", "props": "1",
		"display_name": d.account.name,
	}})
}

// payloadJID is who logs in.
func payloadJID(p *waWa6.ClientPayload) types.JID {
	jid := types.NewJID(strconv.FormatUint(p.GetUsername(), 10), types.DefaultUserServer)
	jid.Device = uint16(p.GetDevice())
	return jid
}

// login makes the link the device's connection; another one that it has is replaced. The
// caller holds s.mu.
func (s *Server) login(l *link, d *device) {
	s.links[l] = struct{}{}
	if d.removed {
		l.end()
		return
	}
	overlap := d.link != nil && !d.link.left
	if d.link != nil {
		d.link.end(replaced())
	}
	l.device, d.link = d, l
	if l.bySocket() {
		s.logins = append(s.logins, Login{Device: d.pnJID(), Overlap: overlap})
	}
	s.changed()
}

// activate sends the device what was kept for it, between the offline markers, and lets
// everything else through. The caller holds s.mu.
func (s *Server) activate(l *link) {
	if l.device == nil || l.gone || l.active {
		return
	}
	l.active = true
	queue := l.device.queue
	count := map[string]int{}
	for _, n := range queue {
		count[n.Tag]++
	}
	l.push(waBinary.Node{Tag: "ib", Attrs: waBinary.Attrs{"from": types.ServerJID}, Content: []waBinary.Node{{
		Tag: "offline_preview",
		Attrs: waBinary.Attrs{"count": len(queue), "message": count["message"], "receipt": count["receipt"],
			"notification": count["notification"], "appdata": 0, "call": 0},
	}}})
	for i, n := range queue {
		attrs := waBinary.Attrs{"offline": i}
		for k, v := range n.Attrs {
			attrs[k] = v
		}
		l.push(waBinary.Node{Tag: n.Tag, Attrs: attrs, Content: n.Content})
	}
	l.push(waBinary.Node{Tag: "ib", Attrs: waBinary.Attrs{"from": types.ServerJID}, Content: []waBinary.Node{{
		Tag: "offline", Attrs: waBinary.Attrs{"count": len(queue)},
	}}})
	s.changed()
}

// detach takes the link's part in everything away. The caller holds s.mu.
func (s *Server) detach(l *link) {
	if l.gone {
		return
	}
	l.gone, l.active = true, false
	delete(s.links, l)
	if d := l.device; d != nil {
		if d.link == l {
			d.link = nil
		}
		if d.account.present == l {
			s.setPresent(d.account, nil)
		}
	}
	if l.pending != nil {
		s.forgetPending(l.pending)
	}
	s.changed()
}

// bySocket tells a client's connection from one of a device of this process.
func (l *link) bySocket() bool {
	_, ok := l.carrier.(*wire)
	return ok
}

func failureNode(f Failure) waBinary.Node {
	attrs := waBinary.Attrs{"reason": f.Reason, "location": "lla"}
	if f.Code != 0 {
		attrs["code"] = f.Code
	}
	if f.Expire != 0 {
		attrs["expire"] = int64(f.Expire / time.Second)
	}
	return waBinary.Node{Tag: "failure", Attrs: attrs}
}

func streamError(code string, children ...waBinary.Node) waBinary.Node {
	n := waBinary.Node{Tag: "stream:error", Attrs: waBinary.Attrs{"code": code}}
	if len(children) > 0 {
		n.Content = children
	}
	return n
}

func replaced() waBinary.Node {
	return streamError("", waBinary.Node{Tag: "conflict", Attrs: waBinary.Attrs{"type": "replaced"}})
}
