package app

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/joho/godotenv"

	"wabot/internal/config"
)

func noEnvironment(string) string { return "" }

func initIn(t *testing.T, dir, input string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Run(t.Context(), Process{
		Args: []string{"init"}, Getenv: noEnvironment, Dotenv: filepath.Join(dir, ".env"),
		Stdin: strings.NewReader(input), Stdout: &out, Stderr: &out,
	})
	return out.String(), err
}

// In the container of the bot itself there is nothing to write to.
func TestInitBesideTheBot(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := Run(t.Context(), Process{
		Args: []string{"init"}, Getenv: func(name string) string { return map[string]string{"WABOT_CONTAINER": "True"}[name] },
		Dotenv: filepath.Join(t.TempDir(), "closed", ".env"), Stdin: strings.NewReader("sk-secret\n"), Stdout: &out, Stderr: &out,
	})
	if ExitCode(err) != 2 || !strings.Contains(err.Error(), "docker-compose run --rm init") {
		t.Errorf("got %v", err)
	}
}

func TestInit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := initIn(t, dir, "sk-secret\n")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".env")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if strings.Contains(out, "sk-secret") {
		t.Errorf("the key is shown: %s", out)
	}
	cfg, warnings, err := config.Load(noEnvironment, path)
	if err != nil || len(warnings) > 0 || cfg.Model.APIKey.Reveal() != "sk-secret" {
		t.Errorf("the file reads as %+v, %q, %v", cfg, warnings, err)
	}
	vars, err := godotenv.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := vars["MONGO_PASSWORD"], vars["MONGO_ROOT_PASSWORD"]; len(a) < 20 || len(b) < 20 || a == b {
		t.Errorf("passwords %q and %q", a, b)
	}

	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := initIn(t, dir, "sk-other\n"); ExitCode(err) != 2 {
		t.Errorf("over a file that is there: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file that was there has changed (%v)", err)
	}
}

func TestInitWithoutKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := initIn(t, dir, ""); err != nil || !strings.Contains(out, "OPENAI_API_KEY") {
		t.Errorf("%s, %v", out, err)
	}
	dir = t.TempDir()
	if _, err := initIn(t, dir, "sk with spaces\n"); ExitCode(err) != 2 || strings.Contains(err.Error(), "spaces\n") {
		t.Errorf("a bad key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".env")); err == nil {
		t.Error("a bad key was written")
	}
}
