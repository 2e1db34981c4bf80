package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What docker-compose.yml decides itself, or must not pass on to the bot.
var notPassedOn = []string{
	"MONGO_ENABLED", "MONGO_URL", "MONGO_PASSWORD", "MONGO_ROOT_PASSWORD", "SESSION_DIR", "BACKUP_PASSPHRASE", "HTTP_ADDR", "HTTP_PORT",
}

// docker-compose.yml passes each other option on by name, under whichever of its names it is set:
// the whole .env would hand the bot the password of the database's root.
func TestGeneratedCompose(t *testing.T) {
	const begin, end = "      # settings:begin, by go generate ./internal/config\n", "      # settings:end\n"
	path := filepath.Join(top, "docker-compose.yml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, opened := strings.Cut(string(text), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !opened || !closed {
		t.Fatalf("docker-compose.yml needs the lines %q and %q", begin, end)
	}
	var want strings.Builder
	for o := range all() {
		if o.tests || slices.Contains(notPassedOn, o.name) {
			continue
		}
		for _, name := range append([]string{o.name}, o.aliases...) {
			want.WriteString("      " + name + ":\n")
		}
	}
	same(t, path, got, want.String(), func(s string) string { return head + begin + s + end + tail })
}

// docker-compose 1.29 lets the last of two equal keys win; compose v2 refuses the whole file.
func TestComposeKeysDiffer(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(top, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Error(err)
	}
}

// The defaults of docker-compose.yml are the example's, so that the bot warns of them, and MongoDB's root gets the
// password of .env as long as it has the example's.
func TestComposePasswords(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	healthy, err := os.ReadFile(filepath.Join(top, "deploy", "mongodb", "healthy.js"))
	if err != nil {
		t.Fatal(err)
	}
	for o := range all() {
		if o.warn == nil {
			continue
		}
		if o.warn(o.example) == "" {
			t.Errorf("%s: no warning of the example's value", o.name)
		}
		if !strings.Contains(string(text), "${"+o.name+":-"+o.example+"}") {
			t.Errorf("%s is not %s by default in docker-compose.yml", o.name, o.example)
		}
		if o.name == "MONGO_ROOT_PASSWORD" && !strings.Contains(string(healthy), "'"+o.example+"'") {
			t.Errorf("deploy/mongodb/healthy.js does not know %s", o.example)
		}
	}
}

func TestMongoPassword(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"mongodb://wabot@mongodb:27017/db":        "mongodb://wabot:p%40%3A%2F%25%20+@mongodb:27017/db",
		"mongodb://wabot@a:1,b:2/?replicaSet=x@y": "mongodb://wabot:p%40%3A%2F%25%20+@a:1,b:2/?replicaSet=x@y",
		"mongodb://wabot:own@mongodb/db":          "mongodb://wabot:own@mongodb/db",
		"mongodb://localhost:27017":               "mongodb://localhost:27017",
	} {
		if got := read(t, "MONGO_URL="+given, "MONGO_PASSWORD=p@:/% +").Store.MongoURL.Reveal(); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}

func TestUnwise(t *testing.T) {
	t.Parallel()
	_, warnings, err := Load(with("MONGO_PASSWORD=change-this-password").get, write(t, ".env", "MONGO_ROOT_PASSWORD=change-this-root-password\n"))
	if err != nil || len(warnings) != 2 || !strings.HasPrefix(warnings[0], "MONGO_PASSWORD is the one of the example") || !strings.HasPrefix(warnings[1], "MONGO_ROOT_PASSWORD is") {
		t.Errorf("got %q, %v", warnings, err)
	}
	_, warnings, err = Load(with("MONGO_PASSWORD=own").get, write(t, ".env", ""))
	if err != nil || len(warnings) != 0 {
		t.Errorf("got %q, %v", warnings, err)
	}
}
