package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wabot/internal/app"
	"wabot/internal/llmtest"
)

// TestMain makes the test's binary the program that the bot runs to read files.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == app.Read {
		os.Exit(read(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// screen is what the demo prints, and tells when there is more.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait waits until the screen shows text.
func (s *screen) wait(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !strings.Contains(s.String(), text) {
		select {
		case <-s.more:
		case <-deadline:
			t.Fatalf("no %q on the screen:\n%s", text, s)
		}
	}
}

func inOrder(t *testing.T, screen string, want ...string) {
	t.Helper()
	rest := screen
	for _, w := range want {
		i := strings.Index(rest, w)
		if i < 0 {
			t.Fatalf("no %q (in this order) on the screen:\n%s", w, screen)
		}
		rest = rest[i+len(w):]
	}
}

// These tests are not parallel: a bot sets what concerns its whole process (whatsapp.Name).
func TestPipe(t *testing.T) {
	s := &screen{more: make(chan struct{}, 1)}
	nothing := func(string) string { return "" }
	if err := run(t.Context(), self(), nothing, filepath.Join(t.TempDir(), ".env"), strings.NewReader("hello\n\n!help\n!status\n/send testdata/note.pdf\n/send nothing.pdf\n!pause\nstill there?\n!resume\n"), true, s, s); err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	inOrder(t, s.String(), "38;5;231", "The simulated phone scans it.", "Online as ", "you: hello", "bot: I am the demo's built-in model", "hello", "you: !help", "bot: I am an AI assistant.", "you: !status", "It keeps its state in: files. Messages that wait: 0.", "you: /send testdata/note.pdf", "bot: ", "The train leaves at 12:07", "not sent: open nothing.pdf: ", "you: still there?", "(no answer)", "you: !resume", "bot: I answer here again.")
	if strings.Contains(s.String(), "level=") {
		t.Errorf("log lines between the conversation:\n%s", s)
	}
}

// A model that is configured is used in place of the built-in one; a terminal shows what is typed by itself.
func TestTerminalWithAModel(t *testing.T) {
	model := llmtest.New(t)
	env := map[string]string{"OPENAI_BASE_URL": model.URL(), "OPENAI_MODEL": "mine"}
	s := &screen{more: make(chan struct{}, 1)}
	in, keyboard := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(t.Context(), self(), func(name string) string { return env[name] }, filepath.Join(t.TempDir(), ".env"), in, false, s, s)
	}()
	s.wait(t, "Ctrl-D ends")
	io.WriteString(keyboard, "one\n")
	s.wait(t, "bot: You said: one")
	io.WriteString(keyboard, "two\n")
	s.wait(t, "bot: You said: two")
	keyboard.Close()
	if err := <-done; err != nil {
		t.Fatalf("%v\n%s", err, s)
	}
	if strings.Contains(s.String(), "you: one") {
		t.Errorf("the line was repeated:\n%s", s)
	}
	if r := model.Requests()[0]; r.Model != "mine" {
		t.Errorf("the model asked was %q", r.Model)
	}
}

func TestBadSettingsAreSaid(t *testing.T) {
	env := map[string]string{"ALLOW": "nobody"}
	s := &screen{more: make(chan struct{}, 1)}
	err := run(t.Context(), self(), func(name string) string { return env[name] }, filepath.Join(t.TempDir(), ".env"), strings.NewReader("hello\n"), true, s, s)
	if err == nil || !strings.Contains(err.Error(), "ALLOW") {
		t.Errorf("got %v, want an error that names ALLOW", err)
	}
}
