// Command server speaks MongoDB's wire protocol for tests: FerretDB with its SQLite
// backend, on a free loopback port. It prints its address on a line of its own once it
// listens, and stops when its standard input ends, so that it never outlives the process
// that started it, however that ends.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
	_ "modernc.org/sqlite"
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
		Listener:  ferretdb.ListenerConfig{TCP: "127.0.0.1:0"},
		Logger:    slog.New(slog.DiscardHandler),
		Handler:   "sqlite",
		SQLiteURL: (&url.URL{Scheme: "file", Opaque: dir + "/"}).String(),
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
	go func() {
		indexed := make(map[string]bool)
		for ctx.Err() == nil {
			// An index that cannot be made now is made later, or only missed.
			_ = indexIDs(dir, indexed)
			time.Sleep(250 * time.Millisecond)
		}
	}()
	return server.Run(ctx)
}

// indexIDs gives the tables in dir an index by _id, of which it notes the names. FerretDB makes
// one too, but over an expression that none of its queries has: each would read the whole table.
func indexIDs(dir string, indexed map[string]bool) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.sqlite"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := indexFile(file, indexed); err != nil {
			return err
		}
	}
	return nil
}

func indexFile(file string, indexed map[string]bool) error {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=rw&_pragma=busy_timeout(1000)")
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\_ferretdb%' ESCAPE '\'`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		if !indexed[file+name] {
			tables = append(tables, name)
		}
	}
	if err := rows.Close(); err != nil {
		return err
	}
	for _, name := range tables {
		if _, err := db.Exec(fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %q ON %q (_ferretdb_sjson->'$._id')`, name+"_by_id", name)); err != nil {
			return err
		}
		indexed[file+name] = true
	}
	return nil
}
