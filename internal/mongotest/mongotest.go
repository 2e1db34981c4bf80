// Package mongotest gives tests a server that speaks MongoDB's wire protocol, as httptest
// does for HTTP: FerretDB with its SQLite backend, built once and run in a process of its own,
// or the server named by MONGO_TEST_URL where that is set. Every test has a database of its own.
//
// All traffic goes through a proxy in the test's process, which forwards one command of a collection at a time.
// FerretDB writes what it read before, unlike MongoDB, whose writes of one document are atomic;
// the proxy makes it keep that promise. FerretDB has no transactions, TTL indexes, partial indexes or
// logins, it reads a whole collection for every filter that names no _id, and it forgets
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

// TB is the part of testing.TB that a database needs, so that programs can have one.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Fault is what happens to a command.
type Fault int

// The faults: none, the connection cut before the server got the command, cut after the server has
// carried it out (done, but said it failed), and no answer ever, the command not carried out. Then two of a replica set whose
// primary steps down: a server that refuses the command as it is not the primary any more, and one that has carried it out, but
// could not have a majority confirm it, as far as the command is a write. Last a server without room, which refuses writes alone.
const (
	None Fault = iota
	CutBefore
	CutAfter
	Hang
	NotPrimary
	Unconfirmed
	Full
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
		return newProxy(newBackend(u.Host))
	}
	p, err := launch("")
	if err != nil {
		return nil, err
	}
	sharedProcess = p
	return newProxy(newBackend(p.address))
})

// New gives the URL of a new, empty database on the server that all tests of this process share,
// and drops it when t ends.
func New(t TB) string {
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
func databaseURL(t TB, p *proxy) string {
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

func dropAfter(t TB, address string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// Line is a way to a database, which may be made to fail without harm to others on other
// lines. Tests give each process that shares a database a line of its own.
type Line struct {
	// URL names the database.
	URL string

	t     TB
	proxy *proxy
}

// NewLine gives a line to a new, empty database on the server that all tests of this process share.
func NewLine(t TB) *Line {
	t.Helper()
	p, err := shared()
	if err != nil {
		t.Fatalf("mongotest: %v", err)
	}
	return lineTo(t, p.backend, New(t))
}

// Another gives a second line to the same database.
func (l *Line) Another() *Line {
	l.t.Helper()
	return lineTo(l.t, l.proxy.backend, l.URL)
}

// lineTo makes a line to the database with the address.
func lineTo(t TB, b *backend, address string) *Line {
	t.Helper()
	p, err := newProxy(b)
	if err != nil {
		t.Fatalf("mongotest: %v", err)
	}
	t.Cleanup(func() {
		p.setStalled(false)
		p.listener.Close()
	})
	l := &Line{t: t, proxy: p}
	if address == "" {
		l.URL = databaseURL(t, p)
		return l
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatalf("mongotest: %v", err)
	}
	u.Host = p.listener.Addr().String()
	l.URL = u.String()
	return l
}

// Stall makes the database accept and never answer, until Resume. What it was asked
// meanwhile it then carries out, late, as a machine does that was frozen.
func (l *Line) Stall() { l.proxy.setStalled(true) }

// Resume ends Stall.
func (l *Line) Resume() { l.proxy.setStalled(false) }

// Break cuts every connection and makes the database unreachable until Mend.
func (l *Line) Break() { l.proxy.setBroken(true) }

// Mend ends Break.
func (l *Line) Mend() { l.proxy.setBroken(false) }

// Cut breaks every connection once; new ones work.
func (l *Line) Cut() { l.proxy.cut() }

// Delay makes every command take that much longer.
func (l *Line) Delay(d time.Duration) {
	l.proxy.mu.Lock()
	l.proxy.delay = d
	l.proxy.mu.Unlock()
}

// OnCommand asks fault what to do with each command from now on, by the command's name; nil
// ends it. It is not asked about the handshakes and heartbeats of connections, and may be called by several
// connections at once.
func (l *Line) OnCommand(fault func(command string) Fault) {
	l.proxy.mu.Lock()
	l.proxy.fault = fault
	l.proxy.mu.Unlock()
}

// Server is a server of one test, with a line to a new, empty database. With MONGO_TEST_URL it is that server, and
// killing it just makes it unreachable.
type Server struct {
	*Line

	dir     string
	mu      sync.Mutex
	process *process // nil when killed, or with MONGO_TEST_URL
}

// Start starts a server, and stops it when t ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir()}
	address := ""
	if external == "" {
		p, err := launch(s.dir)
		if err != nil {
			t.Fatalf("mongotest: %v", err)
		}
		s.process, address = p, p.address
	} else {
		u, err := url.Parse(external)
		if err != nil {
			t.Fatalf("mongotest: read MONGO_TEST_URL: %v", err)
		}
		address = u.Host
	}
	s.Line = lineTo(t, newBackend(address), "")
	t.Cleanup(s.Kill)
	if external != "" {
		behind, err := url.Parse(s.URL)
		if err != nil {
			t.Fatalf("mongotest: %v", err)
		}
		behind.Host = address
		dropAfter(t, behind.String())
	}
	return s
}

// Kill ends the server at once, as kill -9 does, and cuts the connections of its line.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxy.backend.move("")
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
	s.proxy.cut()
}

// Restart starts a killed server again, with its data. Its lines lead there.
func (s *Server) Restart() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if external != "" {
		u, err := url.Parse(external)
		if err != nil {
			s.t.Fatalf("mongotest: read MONGO_TEST_URL: %v", err)
		}
		s.proxy.backend.move(u.Host)
		return
	}
	p, err := launch(s.dir)
	if err != nil {
		s.t.Fatalf("mongotest: restart: %v", err)
	}
	s.process = p
	s.proxy.backend.move(p.address)
}
