package app

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
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

// A stop that is asked for while the store is still looked through is no error.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	env := map[string]string{"OPENAI_API_KEY": "sk-test", "SESSION_DIR": filepath.Join(dir, "session"), "HTTP_ADDR": "off", "LOG_FORMAT": "text"}
	var stdout, stderr bytes.Buffer
	err := Run(ctx, Process{
		Getenv: func(name string) string { return env[name] }, Dotenv: filepath.Join(dir, ".env"), Stdout: &stdout, Stderr: &stderr,
		Around: func(s Store) Store { return stopping{s, cancel} },
	})
	if err != nil || !strings.Contains(stderr.String(), "stopped as asked") {
		t.Errorf("got %v\n%s%s", err, &stdout, &stderr)
	}
}
