//go:build linux

// Command standin is the entry point of a container image that stands in for mongo:7.0 where no image
// can be pulled: FerretDB with its SQLite backend and logins, behind a proxy on port 27017. As the real
// image does, it makes the root user and runs the scripts of /docker-entrypoint-initdb.d with
// mongosh when the data directory is new, and listens to others only after that.
//
// What it leaves out: roles (a user may do everything once it has logged in, which is why the proxy takes
// them out of createUser), arguments of mongod, and every setting of the image but the users and
// the database to begin with. FerretDB's updates are a read and then a write, so the proxy forwards
// one command at a time, which gives each the atomicity that MongoDB promises.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

const (
	data    = "/data/db"
	scripts = "/docker-entrypoint-initdb.d/*.js"
	// done is made once all scripts have run.
	done    = data + "/standin.done"
	backend = "127.0.0.1:27018"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil && ctx.Err() == nil {
		log.Fatal("stand-in for mongo: ", err)
	}
}

func run(ctx context.Context) error {
	user, password := os.Getenv("MONGO_INITDB_ROOT_USERNAME"), os.Getenv("MONGO_INITDB_ROOT_PASSWORD")
	// SIGKILL: FerretDB keeps what it has answered however it ends.
	ferret := exec.CommandContext(ctx, "/ferretdb", "--handler=sqlite", "--sqlite-url=file:"+data+"/", "--state-dir="+data,
		"--listen-addr="+backend, "--debug-addr=-", "--telemetry=disable", "--log-level=warn", "--test-enable-new-auth",
		"--setup-database=admin", "--setup-username="+user, "--setup-password="+password)
	ferret.Stdout, ferret.Stderr = os.Stdout, os.Stderr
	// It dies with this process, as the one of the container does.
	ferret.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := ferret.Start(); err != nil {
		return err
	}
	if err := listening(ctx); err != nil {
		return err
	}
	p := &proxy{}
	if _, err := os.Stat(done); errors.Is(err, os.ErrNotExist) {
		// The scripts talk to the port that others use, which is not open to them yet.
		local, err := net.Listen("tcp", "127.0.0.1:27017")
		if err != nil {
			return err
		}
		go p.accept(local)
		if err := initialize(ctx, user, password); err != nil {
			return err
		}
		if err := errors.Join(local.Close(), os.WriteFile(done, nil, 0o600)); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", ":27017")
	if err != nil {
		return err
	}
	go p.accept(l)
	fmt.Println("stand-in for mongo: Waiting for connections")
	return ferret.Wait()
}

// listening waits until FerretDB listens.
func listening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", backend)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// initialize runs the scripts, as root.
func initialize(ctx context.Context, user, password string) error {
	names, err := filepath.Glob(scripts)
	if err != nil {
		return err
	}
	for _, name := range names {
		fmt.Println("stand-in for mongo: running", name)
		sh := exec.CommandContext(ctx, "mongosh", "--quiet", "--host", "127.0.0.1", "--port", "27017",
			"-u", user, "-p", password, "--authenticationDatabase", "admin", os.Getenv("MONGO_INITDB_DATABASE"), name)
		sh.Stdout, sh.Stderr = os.Stdout, os.Stderr
		if err := sh.Run(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// proxy forwards one command at a time, of all connections.
type proxy struct{ turn sync.Mutex }

func (p *proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go p.serve(c)
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		answer, err := p.exchange(server, withoutRoles(request))
		if err != nil {
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

// withoutRoles takes the roles out of a createUser, and leaves everything else as it is.
func withoutRoles(message []byte) []byte {
	const opMsg, bodyAt = 2013, 16 + 4 + 1 // header, flags, kind of the section
	if len(message) < bodyAt || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return message
	}
	var body bson.D
	if err := bson.Unmarshal(message[bodyAt:], &body); err != nil || len(body) == 0 || body[0].Key != "createUser" {
		return message
	}
	for i := range body {
		if body[i].Key == "roles" {
			body[i].Value = bson.A{}
		}
	}
	raw, err := bson.Marshal(body)
	if err != nil {
		return message
	}
	out := append(message[:bodyAt:bodyAt], raw...)
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	return out
}
