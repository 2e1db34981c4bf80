package sqlitestore

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"modernc.org/sqlite"

	"wabot/internal/chat"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func says(jid, id string) chat.Message {
	return chat.Message{Chat: jid, ID: id, Sender: jid, Time: noon, Text: "text", Kind: chat.Text}
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreTheUsersOwn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "session")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir)
	defer closeStore(t, s)
	if err := s.Put(t.Context(), says("1@lid", "a"), noon); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, File: 0o600, File + "-wal": 0o600, File + "-shm": 0o600, LockFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %v, want %v", name, got, want)
		}
	}
}

func TestCloseLeavesOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	if err := s.Put(t.Context(), says("1@lid", "a"), noon); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	for _, name := range []string{File + "-wal", File + "-shm"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

// What cannot be a session directory is said with its setting and what to do, by all who look at it.
func TestDirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	write := func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) }
	link := func(path string) error { return os.Symlink(path+" elsewhere", path) }
	for _, tt := range []struct {
		name    string
		prepare func(dir string) error
		below   string // of dir, SESSION_DIR
		says    string
		root    bool // whether root can use it
		writes  bool // whether only who writes is disturbed
	}{
		{"a file", write, "", "(SESSION_DIR) %s is a file, or below one: set SESSION_DIR", false, false},
		{"below a file", write, "a", "(SESSION_DIR) %s is a file, or below one: set SESSION_DIR", false, false},
		{"a link that leads nowhere", link, "", "(SESSION_DIR) %s is a link that leads nowhere, or below one: ", false, false},
		{"below such a link", link, "a", "(SESSION_DIR) %s is a link that leads nowhere, or below one: ", false, true},
		{"a database that is a directory", func(dir string) error { return os.MkdirAll(filepath.Join(dir, File), 0o700) }, "", "%s/wabot.db is a directory", false, false},
		{"a database that leads nowhere", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o700), link(filepath.Join(dir, File))) }, "", "%s/wabot.db is a link that leads nowhere", false, false},
		{"closed", func(dir string) error { return os.Mkdir(dir, 0) }, "", "(SESSION_DIR) %s is closed to uid", true, false},
		{"closed to writers", func(dir string) error { return os.Mkdir(dir, 0o500) }, "", "(SESSION_DIR) %s is closed to uid", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.root && os.Getuid() == 0 {
				t.Skip("root may write everywhere")
			}
			dir := filepath.Join(t.TempDir(), "session")
			if err := tt.prepare(dir); err != nil {
				t.Fatal(err)
			}
			dir = filepath.Join(dir, tt.below)
			says := fmt.Sprintf(tt.says, dir)
			if _, err := Open(t.Context(), dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("open: %v, want %q", err, says)
			}
			if tt.writes {
				return
			}
			if _, err := OpenReader(t.Context(), dir); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("open for reading: %v, want %q", err, says)
			}
			if _, err := Examine(t.Context(), dir); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("examine: %v, want %q", err, says)
			}
		})
	}
}

// TestSettings checks that the settings hold on every connection of both pools, and that a
// connection on which one does not is refused.
func TestSettings(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	for name, pool := range map[string]*sql.DB{"writer": s.db, "reader": s.reader} {
		var conns []*sql.Conn
		for range pool.Stats().MaxOpenConnections {
			conn, err := pool.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			for _, p := range settings {
				var got string
				if err := conn.QueryRowContext(t.Context(), "PRAGMA "+p.name).Scan(&got); err != nil || got != p.want {
					t.Errorf("%s has %s = %s (%v), want %s", name, p.name, got, err, p.want)
				}
			}
			if _, err := conn.ExecContext(t.Context(), "INSERT INTO notes VALUES (?, x'00')", fmt.Sprint(name, len(conns))); (err == nil) != (name == "writer") {
				t.Errorf("%s writes: %v", name, err)
			}
		}
		for _, conn := range conns {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSettingThatDoesNotHold(t *testing.T) {
	t.Parallel()
	inner, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), File) + "?_pragma=page_sise(4096)&_pragma=synchronous(0)")
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]setting{
		"page_sise = nothing": {"page_sise", "4096"}, // misspelt
		"synchronous = 0":     {"synchronous", "1"},
	} {
		db := sql.OpenDB(connector{inner, []setting{s}, nil})
		if err := db.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("connect: %v, want %q", err, want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTransactionsAreImmediate: another writer is shut out from the transaction's begin.
func TestTransactionsAreImmediate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	defer closeStore(t, s)
	tx, err := s.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	other, err := sql.Open("sqlite", filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.ExecContext(t.Context(), "DELETE FROM notes"); err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY") {
		t.Errorf("another writes during a transaction: %v", err)
	}
}

func TestSecondProcessIsToldWhoIsFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	_, err := Open(t.Context(), dir, slog.New(slog.DiscardHandler))
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("second open: %v, want a LockedError", err)
	}
	for _, want := range []string{fmt.Sprint("pid ", os.Getpid(), " host "), " since 2"} {
		if !strings.Contains(locked.Holder, want) {
			t.Errorf("holder %q lacks %q", locked.Holder, want)
		}
	}
	closeStore(t, s)
	closeStore(t, openStore(t, dir))
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"inbox":  "PRAGMA user_version = 99",
		"device": "UPDATE whatsmeow_version SET version = 999, compat = 999",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := openStore(t, dir)
			if _, err := s.db.ExecContext(t.Context(), change); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s)
			_, err := Open(t.Context(), dir, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), "newer version") {
				t.Errorf("open: %v", err)
			}
		})
	}
}

// TestDamageIsSaid breaks the database in several ways; each is said, and nothing is replaced.
func TestDamageIsSaid(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(path string, content []byte) error{
		"another file": func(path string, _ []byte) error {
			return os.WriteFile(path, bytes.Repeat([]byte("no database "), 1000), 0o600)
		},
		"cut in half": func(path string, content []byte) error { return os.WriteFile(path, content[:len(content)/2], 0o600) },
		"a lost page": func(path string, content []byte) error {
			middle := len(content) / 2 / 4096 * 4096
			copy(content[middle:], bytes.Repeat([]byte{0xaa}, 4096))
			return os.WriteFile(path, content, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, File)
			s := openStore(t, dir)
			for i := range 200 {
				if err := s.Put(t.Context(), says("1@lid", fmt.Sprint(i)), noon); err != nil {
					t.Fatal(err)
				}
			}
			closeStore(t, s)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := breakIt(path, content); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), dir, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), "is damaged and was left as it is") {
				t.Errorf("open: %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, File+"-wal"), []byte("log"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "is missing") {
			t.Errorf("open: %v", err)
		}
	})
}

// TestPlans asks SQLite how it runs each query: none may walk through a table.
func TestPlans(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	for _, q := range append(append([]string(nil), writes...), reads...) {
		rows, err := s.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+q, 1, 2, 3, 4, 5, 6)
		if err != nil {
			rows, err = s.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+q)
		}
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			if detail == "SCAN CONSTANT ROW" || q == forgetMessages || q == forgetTurns || q == forgetChats || q == forgetHeard || q == forgetCharges || q == forgetMarks {
				continue
			}
			// Sorted are the few turns of a chat that are open, and the messages of one turn.
			if strings.HasPrefix(detail, "SCAN") || strings.Contains(detail, "TEMP B-TREE") && q != selectOpen && q != selectHistory {
				t.Errorf("%s\n\t%s", q, detail)
			}
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
	}
}

func TestNotes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir)
	want := func(key, value string, there bool) {
		t.Helper()
		got, err := s.Note(t.Context(), key)
		if err != nil || string(got) != value || (got != nil) != there {
			t.Errorf("note %s is %q (%v), want %q", key, got, err, value)
		}
	}
	set := func(key string, value []byte) {
		t.Helper()
		if err := s.SetNote(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	want("a", "", false)
	set("a", []byte("1"))
	set("a", []byte("2"))
	set("b", []byte{})
	set("c", []byte("3"))
	set("c", nil)
	set("c", nil)
	closeStore(t, s)
	s = openStore(t, dir)
	defer func() { closeStore(t, s) }()
	want("a", "2", true)
	want("b", "", true)
	want("c", "", false)
}

// TestInboxAndDeviceShareTheFile has whatsmeow's store and the inbox write at once, with decryptions
// that hold their transaction while the inbox wants to write: all wait, none fails.
func TestInboxAndDeviceShareTheFile(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	device := pairedDevice(t, s)
	var wg sync.WaitGroup
	for w := range 4 {
		address := fmt.Sprintf("%d:0", w)
		wg.Go(func() {
			for i := range 30 {
				err := device.EventBuffer.DoDecryptionTxn(t.Context(), func(ctx context.Context) error {
					if _, err := device.Sessions.GetSession(ctx, address); err != nil {
						return err
					}
					if err := device.Sessions.PutSession(ctx, address, []byte{byte(i)}); err != nil {
						return err
					}
					return device.EventBuffer.PutBufferedEvent(ctx, [32]byte{byte(w), byte(i)}, []byte("x"), noon)
				})
				if err != nil {
					t.Errorf("decrypt: %v", err)
				}
			}
		})
		wg.Go(func() {
			for i := range 30 {
				if err := device.Contacts.PutContactName(t.Context(), types.NewJID(fmt.Sprint(w), types.DefaultUserServer), "a", fmt.Sprint(i)); err != nil {
					t.Errorf("contact: %v", err)
				}
			}
		})
		wg.Go(func() {
			for i := range 30 {
				if err := s.Put(t.Context(), says(fmt.Sprint(w, "@lid"), fmt.Sprint(i)), noon.Add(time.Duration(i))); err != nil {
					t.Errorf("put: %v", err)
				}
				if _, err := s.Depth(t.Context()); err != nil {
					t.Errorf("depth: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := s.Depth(t.Context()); err != nil || n != 120 {
		t.Errorf("depth %d (%v), want 120", n, err)
	}
}

// TestWaitingForTheWriterEnds: a call that waits for a long decryption ends with its context.
func TestWaitingForTheWriterEnds(t *testing.T) {
	t.Parallel()
	s := openStore(t, t.TempDir())
	defer closeStore(t, s)
	device := pairedDevice(t, s)
	err := device.EventBuffer.DoDecryptionTxn(t.Context(), func(context.Context) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := s.Put(ctx, says("1@lid", "a"), noon); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put: %v, want a deadline exceeded", err)
		}
		if _, err := s.Depth(t.Context()); err != nil {
			t.Errorf("reading waits for the writer: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKilledProcess kills a process that stores messages; what it said was stored is there.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("SQLITESTORE_TEST_PUTS"); dir != "" {
		s := openStore(t, dir)
		for i := 0; ; i++ {
			if err := s.Put(context.Background(), says(fmt.Sprint(i%7, "@lid"), strconv.Itoa(i)), noon.Add(time.Duration(i))); err != nil {
				t.Fatal(err)
			}
			fmt.Println("stored", i)
		}
	}
	dir := t.TempDir()
	stored := -1
	for life := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledProcess$")
		cmd.Env = append(os.Environ(), "SQLITESTORE_TEST_PUTS="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last := -1
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n, found := strings.CutPrefix(lines.Text(), "stored ")
			if !found {
				t.Errorf("the child says %q", lines.Text())
				continue
			}
			if last, err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
			if last == stored+100+life*37 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		stored = max(stored, last)

		s := openStore(t, dir) // the dead process holds no lock
		seen := map[string]bool{}
		for {
			turn, err := s.Claim(t.Context(), noon.Add(time.Hour), noon.Add(2*time.Hour))
			if err != nil {
				break
			}
			for _, m := range turn.Messages {
				seen[m.ID] = true
			}
		}
		for i := range stored + 1 {
			if !seen[strconv.Itoa(i)] {
				t.Errorf("life %d: message %d was stored and is not there", life, i)
			}
		}
		if err := s.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
}

// pairedDevice is a device as pairing leaves it.
func pairedDevice(t *testing.T, s *Store) *store.Device {
	t.Helper()
	d := s.Devices().NewDevice()
	jid := types.NewADJID("4911", 0, 1)
	d.ID = &jid
	d.Account = &waAdv.ADVSignedDeviceIdentity{
		Details: []byte("details"), AccountSignature: make([]byte, 64), AccountSignatureKey: make([]byte, 32), DeviceSignature: make([]byte, 64),
	}
	if err := s.Devices().PutDevice(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// A directory that is somebody else's is not closed to them: SESSION_DIR may name a home by mistake.
func TestForeignDirectoryKeepsItsMode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file string
		want os.FileMode
	}{
		"empty":   {"", 0o700},
		"ours":    {LockFile, 0o700},
		"foreign": {"letters.txt", 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if test.file != "" {
				if err := os.WriteFile(filepath.Join(dir, test.file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // our own files make no difference
				closeStore(t, openStore(t, dir))
			}
			info, err := os.Stat(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != test.want {
				t.Errorf("mode %v, want %v", got, test.want)
			}
		})
	}
}

// A process that is being started holds the lock for a moment with the one that starts it; that is no other wabot.
func TestLockWhileProcessesStart(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	for range 2 {
		starting.Go(func() {
			for ctx.Err() == nil {
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	defer starting.Wait()
	defer stop()
	dir := t.TempDir()
	for range 50 {
		closeStore(t, openStore(t, dir))
	}
}
