package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wabot/internal/access"
	"wabot/internal/bot"
	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/storetest"
)

// stopping is a store whose process is asked to stop in the first reading of a note.
type stopping struct {
	Store
	stop context.CancelFunc
}

func (s stopping) Note(ctx context.Context, _ string) ([]byte, error) {
	s.stop()
	<-ctx.Done()
	return nil, ctx.Err()
}

// led is a store whose process is asked to stop in the moment in which it comes to lead.
type led struct {
	Store
	stop context.CancelFunc
}

func (s led) Lead(ctx context.Context, standby func(string)) error {
	defer s.stop()
	return s.Store.Lead(ctx, standby)
}

// A stop that is asked for while the store is still looked through, or just has been, is no error.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	for name, around := range map[string]func(Store, context.CancelFunc) Store{
		"looking": func(s Store, stop context.CancelFunc) Store { return stopping{s, stop} },
		"leading": func(s Store, stop context.CancelFunc) Store { return led{s, stop} },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		env := map[string]string{"OPENAI_API_KEY": "sk-test", "SESSION_DIR": filepath.Join(dir, "session"), "HTTP_ADDR": "off", "LOG_FORMAT": "text"}
		var stdout, stderr bytes.Buffer
		err := Run(ctx, Process{
			Getenv: func(name string) string { return env[name] }, Dotenv: filepath.Join(dir, ".env"), Stdout: &stdout, Stderr: &stderr,
			Around: func(s Store) Store { return around(s, cancel) },
		})
		if err != nil || !strings.Contains(stderr.String(), "stopped as asked") {
			t.Errorf("%s: got %v\n%s%s", name, err, &stdout, &stderr)
		}
	}
}

// What looks at the store or unlinks the device works without a model, its key or anything else that only answers need.
func TestCommandsOnTheStoreNeedNoModel(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := openBare(t.Context(), config.Store{SessionDir: filepath.Join(dir, "session")}, use{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"session", "list"}, 0, ""},
		{[]string{"session", "verify"}, 0, ""},
		{[]string{"session", "copy", "--from", "file", "--to", "mongo"}, 2, "MONGO_URL"},
		{[]string{"explain"}, 0, ""},
		{[]string{"session", "make-safe"}, 2, "there is nothing to make safe"},
		{[]string{"logout", "--yes"}, 2, "there is nothing to log out"},
		{[]string{"healthcheck"}, 1, "HTTP_ADDR is off"},
	} {
		var out bytes.Buffer
		err := Run(t.Context(), Process{Args: row.args, Stdout: &out, Stderr: io.Discard, Getenv: func(name string) string {
			return map[string]string{"SESSION_DIR": filepath.Join(dir, "session"), "HTTP_ADDR": "off", "HISTORY": "many", "MODELS_FILE": filepath.Join(dir, "none.yaml")}[name]
		}})
		if code := ExitCode(err); code != row.code || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("wabot %s: %v (exit code %d)\n%s", strings.Join(row.args, " "), err, code, out.String())
		}
	}
}

// blank is a store of notes that has none.
type blank struct{}

func (blank) Note(context.Context, string) ([]byte, error)  { return nil, nil }
func (blank) SetNote(context.Context, string, []byte) error { return nil }

// Messages that are delivered again and again, because they could not be stored or that could not be told, become no flood by
// that; what is one is not stored however often it is delivered.
func TestDeliveredAgain(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ fails, done bool }{
		"not stored":                      {fails: true},
		"stored, but said that it is not": {fails: true, done: true},
		"stored, but not acknowledged":    {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failing := row.fails
			store := &storetest.Memory{Fault: func(method, _ string, done bool) error {
				if method == "Put" && failing && done == row.done {
					return errors.New("no space left")
				}
				return nil
			}}
			now := time.Now()
			log := slog.New(slog.DiscardHandler)
			box := inbox.New(store, inbox.Options{}, log)
			b := bot.New(bot.Options{
				Rules: bot.Rules{Allow: access.List{access.Everyone}, Prefix: "!ai"}, Turns: box, Notes: blank{}, Log: log,
				Rates: budget.NewPace([]budget.Rate{{Count: 5, Per: time.Minute}}, nil, func() time.Time { return now }),
			})
			deliver := func(from, to int) (refused int) {
				for i := from; i < to; i++ {
					m := chat.Message{Chat: "a@lid", Sender: "a@lid", ID: fmt.Sprint(i), Text: "!ai hi", Kind: chat.Text, Time: now}
					if _, err := take(t.Context(), m, b, box, func() error { return nil }); err != nil {
						refused++
					}
				}
				return refused
			}
			holds := func(want int) {
				t.Helper()
				if n, err := box.Depth(t.Context()); n != want || err != nil {
					t.Fatalf("%d messages are stored, want %d: %v", n, want, err)
				}
			}
			for range 5 {
				if refused := deliver(0, 10); row.fails != (refused == 10) {
					t.Fatalf("%d of 10 messages are refused", refused)
				}
			}
			failing = false
			deliver(0, 10)
			holds(10)
			deliver(10, 30_000) // three times the rate may come at once
			holds(15)
			deliver(0, 30_000)
			holds(15)
		})
	}
}

// The pause in which others go first grows while WhatsApp is never reached.
func TestNextPause(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		last   time.Duration
		online bool
		want   time.Duration
	}{
		{0, true, leastPause},
		{0, false, leastPause},
		{leastPause, false, 2 * leastPause},
		{mostPause - 1, false, mostPause},
		{mostPause, false, mostPause},
		{mostPause, true, leastPause},
	} {
		if got := nextPause(row.last, row.online); got != row.want {
			t.Errorf("after %v, online %t: %v, want %v", row.last, row.online, got, row.want)
		}
	}
}
