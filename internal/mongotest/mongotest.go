// Package mongotest gives tests a server that speaks MongoDB's wire protocol, as httptest
// does for HTTP: FerretDB with its SQLite backend, built once and run in a process of its own,
// or the server named by MONGO_TEST_URL where that is set. Every test has a database of its own.
//
// All traffic goes through a proxy in the test's process, which forwards one command at a time.
// FerretDB writes what it read before, unlike MongoDB, whose writes of one document are atomic;
// the proxy makes it keep that promise. FerretDB has no transactions, TTL indexes, partial indexes or
// logins, it reads a whole collection for every filter but a lone _id, and it forgets
// nothing that it has answered when it is killed, but may when the machine is.
package mongotest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Fault is what happens to a command.
type Fault int

// The faults: none, the connection cut before the server got the command, cut after the server has
// carried it out (done, but said it failed), and no answer ever, the command not carried out.
const (
	None Fault = iota
	CutBefore
	CutAfter
	Hang
)

// external is the server to use instead of our own, or empty.
var external = os.Getenv("MONGO_TEST_URL")

// sharedProcess is the server of this test process. It is kept, as it ends when its input is
// closed, which is also what happens to a pipe that nobody refers to.
//
//lint:ignore U1000 only kept
var sharedProcess *process

// shared is the proxy before the one server of this test process.
var shared = sync.OnceValues(func() (*proxy, error) {
	if external != "" {
		u, err := url.Parse(external)
		if err != nil {
			return nil, fmt.Errorf("read MONGO_TEST_URL: %w", err)
		}
		return newProxy(u.Host)
	}
	p, err := launch("")
	if err != nil {
		return nil, err
	}
	sharedProcess = p
	return newProxy(p.address)
})

// New gives the URL of a new, empty database on the server that all tests of this process share,
// and drops it when t ends.
func New(t testing.TB) string {
	t.Helper()
	p, err := shared()
	if err != nil {
		t.Fatalf("mongotest: %v", err)
	}
	u := databaseURL(t, p)
	dropAfter(t, u)
	return u
}

// databaseURL names a new database behind p.
func databaseURL(t testing.TB, p *proxy) string {
	t.Helper()
	u := &url.URL{Scheme: "mongodb"}
	if external != "" {
		var err error
		if u, err = url.Parse(external); err != nil {
			t.Fatalf("mongotest: read MONGO_TEST_URL: %v", err)
		}
	}
	u.Host = p.listener.Addr().String()
	u.Path = "/wabot_test_" + strings.ToLower(rand.Text()[:12])
	q := u.Query()
	q.Set("directConnection", "true")
	if u.User != nil && q.Get("authSource") == "" {
		q.Set("authSource", "admin")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func dropAfter(t testing.TB, address string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		client, err := mongo.Connect(options.Client().ApplyURI(address))
		if err != nil {
			t.Errorf("mongotest: connect to drop the database: %v", err)
			return
		}
		defer client.Disconnect(ctx)
		u, err := url.Parse(address)
		if err == nil {
			err = client.Database(strings.TrimPrefix(u.Path, "/")).Drop(ctx)
		}
		if err != nil {
			t.Errorf("mongotest: drop the database: %v", err)
		}
	})
}

// Server is a server of one test, which may be made to fail. With MONGO_TEST_URL it is that server
// behind a proxy of the test's own, so that killing it just makes it unreachable.
type Server struct {
	// URL names a new, empty database.
	URL string

	t     testing.TB
	proxy *proxy
	dir   string

	mu      sync.Mutex
	process *process // nil when killed, or with MONGO_TEST_URL
	address string
}

// Start starts a server, and stops it when t ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir()}
	if external == "" {
		p, err := launch(s.dir)
		if err != nil {
			t.Fatalf("mongotest: %v", err)
		}
		s.process, s.address = p, p.address
	} else {
		u, err := url.Parse(external)
		if err != nil {
			t.Fatalf("mongotest: read MONGO_TEST_URL: %v", err)
		}
		s.address = u.Host
	}
	p, err := newProxy(s.address)
	if err != nil {
		t.Fatalf("mongotest: %v", err)
	}
	s.proxy = p
	s.URL = databaseURL(t, p)
	t.Cleanup(func() {
		s.Kill()
		s.proxy.setStalled(false)
		s.proxy.listener.Close()
	})
	if external != "" {
		behind, err := url.Parse(s.URL)
		if err != nil {
			t.Fatalf("mongotest: %v", err)
		}
		behind.Host = s.address
		dropAfter(t, behind.String())
	}
	return s
}

// Kill ends the server at once, as kill -9 does, and cuts its connections.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy.setBackend("")
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
	s.proxy.cut()
}

// Restart starts a killed server again, with its data and at its address.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if external == "" {
		p, err := launch(s.dir)
		if err != nil {
			s.t.Fatalf("mongotest: restart: %v", err)
		}
		s.process, s.address = p, p.address
	}
	s.proxy.setBackend(s.address)
}

// Stall makes the server accept and never answer, until Resume. What it was asked
// meanwhile it then carries out, late, as a machine does that was frozen.
func (s *Server) Stall() { s.proxy.setStalled(true) }

// Resume ends Stall.
func (s *Server) Resume() { s.proxy.setStalled(false) }

// Cut breaks every connection once; new ones work.
func (s *Server) Cut() { s.proxy.cut() }

// Delay makes every command take that much longer.
func (s *Server) Delay(d time.Duration) {
	s.proxy.mu.Lock()
	s.proxy.delay = d
	s.proxy.mu.Unlock()
}

// OnCommand asks fault what to do with each command from now on, by the command's name; nil
// ends it. It is not asked about the handshakes and heartbeats of connections, and may be called by several
// connections at once.
func (s *Server) OnCommand(fault func(command string) Fault) {
	s.proxy.mu.Lock()
	s.proxy.fault = fault
	s.proxy.mu.Unlock()
}
