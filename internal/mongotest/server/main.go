// Command server speaks MongoDB's wire protocol for tests: FerretDB with its SQLite
// backend, on a free loopback port. It prints its address on a line of its own once it
// listens, and stops when its standard input ends, so that it never outlives the process
// that started it, however that ends.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	dir := flag.String("dir", "", "directory of the data; a temporary one when empty")
	flag.Parse()
	if err := run(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "mongotest server:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "mongotest-"); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Logger:   slog.New(slog.DiscardHandler),
		Handler:  "sqlite",
		// Killed, the server forgets nothing so; only the machine's own end could take something.
		SQLiteURL: (&url.URL{Scheme: "file", Opaque: dir + "/", RawQuery: "_pragma=synchronous(off)"}).String(),
	})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	go func() {
		address, err := url.Parse(server.MongoDBURI())
		if err == nil {
			fmt.Println(address.Host)
		}
	}()
	return server.Run(ctx)
}
