// Package whatsapptest is a WhatsApp server in the process, with phones, as httptest is a web
// server: an unmodified whatsmeow client (or another client of the multi-device protocol)
// pairs with it, logs in, and exchanges messages with people on simulated phones, end to end
// encrypted for real. Tests tell it to drop, stall, refuse, repeat and lose what a real
// network and a real server do.
//
// The server routes and keeps; it never decrypts. What a device has not acknowledged is kept
// and sent again at its next login. One mutex guards everything; a connection has two
// goroutines of its own, one that handles what comes and one that writes what goes, so nobody
// waits for anybody else. Waiting, in tests too, is for events: see WaitLogin, WaitSettled
// and OnStanza.
//
// What real WhatsApp has and this server leaves out: calls, channels, communities, status,
// passkeys, business profiles, payments, spam limits, rate limits, blocking (the list is kept,
// but nothing is held back), profile pictures, hosted accounts, and any clock of its own: pairing refs never
// run out, media expire by ForgetMedia alone. Privacy tokens are passed on but not demanded.
package whatsapptest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// TB is the part of testing.TB that New uses, so that programs other than tests can offer it.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
}

// Server is a WhatsApp server on loopback. Its zero value is ready to Start; the exported
// fields are knobs to set before that. Its methods are safe for concurrent use.
type Server struct {
	// Revision is the web client's revision as the start page gives it; 0 means the one that
	// whatsmeow was built with.
	Revision uint32
	// MinRevision makes logins of clients with an older revision fail with 405 (outdated).
	MinRevision uint32

	// tb is the test that New was given; nil for a server that was started otherwise.
	tb TB

	start    sync.Once
	startErr error
	close    sync.Once
	// tasks are the server's goroutines; none is started once closed is set.
	tasks   sync.WaitGroup
	context context.Context
	cancel  context.CancelFunc
	static  *keys.KeyPair // of Noise
	site    *http.Server
	proxy   *http.Server
	address string
	tunnel  string
	client  *http.Client

	observing sync.Mutex
	observers []func(Stanza)

	// The rest belongs to mu.

	mu       sync.Mutex
	closed   bool
	changes  chan struct{} // closed and made anew at each change
	accounts map[types.JID]*account
	// companions is the last companion id given, by account.
	companions    map[*account]uint16
	lids          uint64
	stanzas       uint64
	unpairedLinks []*pendingPair
	codes         map[string]*codePairing
	links         map[*link]struct{}
	logins        []Login
	unknown       []string
	groups        map[types.JID]*group
	media         map[string][]byte
	mediaGone     map[string]int // the status for what ForgetMedia has deleted
	faults        faults
	counterFaults []string
	phones        phonebook
}

// Stanza is one stanza as it passed through the server.
type Stanza struct {
	// Device is the client's address by phone number, with its device; empty before pairing.
	Device types.JID
	// ToClient is set for what the server sent.
	ToClient bool
	// Node must not be changed.
	Node waBinary.Node
}

// Login is one login of a device by socket.
type Login struct {
	// Device is the device's address by phone number.
	Device types.JID
	// Overlap is set where the device had another connection at that moment, which was then
	// replaced. One device driven by two processes shows here.
	Overlap bool
}

// New starts a server that is closed when the test ends.
func New(t TB) *Server {
	t.Helper()
	s := &Server{tb: t}
	if err := s.Start(); err != nil {
		t.Fatalf("start WhatsApp server: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start listens on loopback: TLS for WhatsApp's hosts, and a CONNECT proxy in front of it. It
// installs the process's Noise root key (see RootKey). Later calls do nothing.
func (s *Server) Start() error {
	s.start.Do(func() { s.startErr = s.listen() })
	return s.startErr
}

func (s *Server) listen() error {
	RootKey()
	s.context, s.cancel = context.WithCancel(context.Background())
	s.static = keys.NewKeyPair()
	s.Revision = cmp.Or(s.Revision, store.GetWAVersion()[2])
	s.changes = make(chan struct{})
	s.accounts = map[types.JID]*account{}
	s.companions = map[*account]uint16{}
	s.codes = map[string]*codePairing{}
	s.links = map[*link]struct{}{}
	s.groups = map[types.JID]*group{}
	s.media = map[string][]byte{}
	s.mediaGone = map[string]int{}
	s.client = &http.Client{Transport: &http.Transport{
		DialContext:     s.dial,
		TLSClientConfig: &tls.Config{RootCAs: authority().pool, MinVersion: tls.VersionTLS12},
	}}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	entrance, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(fmt.Errorf("listen for the proxy: %w", err), listener.Close())
	}
	s.address, s.tunnel = listener.Addr().String(), entrance.Addr().String()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws/chat", s.serveSocket)
	mux.HandleFunc("GET /{$}", s.servePage)
	mux.HandleFunc("POST /mms/{kind}/{token}", s.serveUpload)
	mux.HandleFunc("DELETE /mms/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v/", s.serveDownload)
	quiet := log.New(io.Discard, "", 0) // broken connections are what tests ask for
	s.site = &http.Server{
		Handler:   s.task(mux),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{authority().leaf}, MinVersion: tls.VersionTLS12},
		// No HTTP/2: a websocket needs HTTP/1.1.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c.(*tls.Conn).NetConn())
		},
		ErrorLog: quiet,
	}
	s.proxy = &http.Server{Handler: s.task(http.HandlerFunc(s.serveProxy)), ErrorLog: quiet}
	s.tasks.Go(func() { s.site.ServeTLS(listener, "", "") })
	s.tasks.Go(func() { s.proxy.Serve(entrance) })
	return nil
}

// connKey finds the TCP connection in a request's context.
type connKey struct{}

// task makes the server's Close wait for the handler, also after it took its connection over.
func (s *Server) task(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		s.tasks.Add(1)
		s.mu.Unlock()
		defer s.tasks.Done()
		h.ServeHTTP(w, r)
	})
}

// Close ends all connections and returns once everything has stopped. Later calls do nothing.
func (s *Server) Close() {
	s.close.Do(func() {
		if s.site == nil {
			return
		}
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cancel()
		s.site.Close()
		s.proxy.Close()
		s.client.CloseIdleConnections()
		s.tasks.Wait()
	})
}

// HTTPClient dials this server for WhatsApp's hosts and refuses every other. It is meant for
// whatsmeow's SetWebsocketHTTPClient, SetPreLoginHTTPClient and SetMediaHTTPClient, and for
// its version lookup.
func (s *Server) HTTPClient() *http.Client { return s.client }

// ProxyURL is a proxy on loopback for HTTPS_PROXY: CONNECT to WhatsApp's hosts reaches this
// server, everything else is refused with 403.
func (s *Server) ProxyURL() string {
	return (&url.URL{Scheme: "http", Host: s.tunnel}).String()
}

// CAFile writes the certificate authority of the server's TLS as PEM into dir, for
// SSL_CERT_FILE, and returns the file's path.
func (s *Server) CAFile(dir string) (string, error) {
	path := filepath.Join(dir, "whatsapptest-ca.pem")
	if err := os.WriteFile(path, authority().pem, 0o600); err != nil {
		return "", fmt.Errorf("write CA file: %w", err)
	}
	return path, nil
}

// Unknown lists what clients sent that the server does not know, each kind once, in the order
// of first appearance. Such requests were answered with an empty result.
func (s *Server) Unknown() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.unknown)
}

func (s *Server) recordUnknown(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addUnknown(what)
}

// addUnknown is recordUnknown for callers that hold s.mu.
func (s *Server) addUnknown(what string) {
	if !slices.Contains(s.unknown, what) {
		s.unknown = append(s.unknown, what)
	}
}

// OnStanza has f called with every stanza that passes from now on: one from a client before
// it is handled, one to a client before it is written. f is called from the connections'
// goroutines, for one direction of one connection in order; while it runs, that direction
// waits. It may use the server's methods.
func (s *Server) OnStanza(f func(Stanza)) {
	s.observing.Lock()
	defer s.observing.Unlock()
	s.observers = append(slices.Clone(s.observers), f)
}

func (s *Server) observe(st Stanza) {
	s.observing.Lock()
	observers := s.observers
	s.observing.Unlock()
	for _, f := range observers {
		f(st)
	}
}

// Logins is all logins by socket so far, in order.
func (s *Server) Logins() []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.logins)
}

// WaitLogin waits until the device with that address is connected and has asked for its
// stanzas; it returns at once if it is so now.
func (s *Server) WaitLogin(ctx context.Context, device types.JID) error {
	err := s.wait(ctx, func() bool {
		d := s.deviceOf(device)
		return d != nil && d.link != nil && d.link.active && !d.link.left
	})
	if err != nil {
		return fmt.Errorf("wait for login of %s: %w", device, err)
	}
	return nil
}

// WaitLogins waits until the device with that address has logged in n times by socket.
func (s *Server) WaitLogins(ctx context.Context, device types.JID, n int) error {
	err := s.wait(ctx, func() bool {
		d, count := s.deviceOf(device), 0
		for _, l := range s.logins {
			if d != nil && l.Device == d.pnJID() {
				count++
			}
		}
		return count >= n
	})
	if err != nil {
		return fmt.Errorf("wait for %d logins of %s: %w", n, device, err)
	}
	return nil
}

// WaitGone waits until the device with that address has no connection.
func (s *Server) WaitGone(ctx context.Context, device types.JID) error {
	err := s.wait(ctx, func() bool {
		d := s.deviceOf(device)
		return d == nil || d.link == nil
	})
	if err != nil {
		return fmt.Errorf("wait for the end of %s: %w", device, err)
	}
	return nil
}

// WaitSettled waits until the device with that address has acknowledged all it was sent.
func (s *Server) WaitSettled(ctx context.Context, device types.JID) error {
	err := s.wait(ctx, func() bool {
		d := s.deviceOf(device)
		return d == nil || len(d.queue) == 0
	})
	if err != nil {
		return fmt.Errorf("wait for acks of %s: %w", device, err)
	}
	return nil
}

// WaitAttentive waits until the device with that address is told of what a person types to it, or in a group: it shows as
// available, and has asked for the person's presence.
func (s *Server) WaitAttentive(ctx context.Context, device, person types.JID, group bool) error {
	err := s.wait(ctx, func() bool {
		d := s.deviceOf(device)
		if d == nil || d.link == nil || !d.link.available {
			return false
		}
		_, asked := d.link.subscriptions[s.accountOf(person)]
		return asked || group
	})
	if err != nil {
		return fmt.Errorf("wait until %s wants to know what %s types: %w", device, person, err)
	}
	return nil
}

// Backlog is the stanzas that the device with that address has not acknowledged, oldest first.
func (s *Server) Backlog(device types.JID) []waBinary.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.deviceOf(device); d != nil {
		return slices.Clone(d.queue)
	}
	return nil
}

// Linked lists the addresses of an account's companions, by phone number.
func (s *Server) Linked(account types.JID) []types.JID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var jids []types.JID
	if a := s.accountOf(account); a != nil {
		for _, d := range a.others(a.devices[0]) {
			jids = append(jids, d.pnJID())
		}
	}
	return jids
}

// changed wakes all waiting. The caller holds s.mu.
func (s *Server) changed() {
	close(s.changes)
	s.changes = make(chan struct{})
}

// wait returns nil once cond, called with s.mu held at each change, is true.
func (s *Server) wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		ok, changes := cond(), s.changes
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.context.Done():
			return errors.New("the server was closed")
		}
	}
}

// everyone is all accounts, each once. The caller holds s.mu.
func (s *Server) everyone() iter.Seq[*account] {
	return func(yield func(*account) bool) {
		for jid, a := range s.accounts {
			if jid == a.pn && !yield(a) {
				return
			}
		}
	}
}

// name is the device of a link, for observers.
func (s *Server) name(l *link) types.JID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.device == nil {
		return types.EmptyJID
	}
	return l.device.pnJID()
}

// stanzaID makes an id for a stanza of the server's own. The caller holds s.mu.
func (s *Server) stanzaID() string {
	s.stanzas++
	return fmt.Sprintf("%d.%d", s.lids+1000, s.stanzas)
}

// whatsAppHost tells whether a host is WhatsApp's.
func whatsAppHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, domain := range []string{"whatsapp.net", "whatsapp.com"} {
		if host == domain || strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}

// dial is the way of HTTPClient to this server.
func (s *Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	if !whatsAppHost(host) {
		return nil, fmt.Errorf("dial %s: not a host of WhatsApp", host)
	}
	if s.down() {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
}

// serveProxy is the CONNECT proxy.
func (s *Server) serveProxy(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil || !whatsAppHost(host) {
		http.Error(w, "only CONNECT to WhatsApp's hosts", http.StatusForbidden)
		return
	}
	if s.down() {
		http.Error(w, "server is down", http.StatusBadGateway)
		return
	}
	inner, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", s.address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer inner.Close()
	outer, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer outer.Close()
	shut := func() { inner.Close(); outer.Close() }
	defer context.AfterFunc(s.context, shut)()
	if _, err := io.WriteString(outer, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { io.Copy(inner, buffered); shut() })
	both.Go(func() { io.Copy(outer, inner); shut() })
	both.Wait()
}

// servePage is the start page, as far as the version lookup reads it.
func (s *Server) servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<!DOCTYPE html><title>WhatsApp Web</title><script>{"server_revision":%[1]d,"client_revision":%[1]d,"push_phase":"C3"}</script>`, s.Revision)
}
