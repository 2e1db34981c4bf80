package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write .env.example and the README's table anew")

const (
	top   = "../.."
	begin = "<!-- config:begin -->"
	end   = "<!-- config:end -->"
)

// same compares a generated text with what the file at path has, or writes it with -update.
func same(t *testing.T, path, got, want string, whole func(string) string) {
	t.Helper()
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the options say; run go generate ./internal/config", filepath.Base(path))
	}
	if err := os.WriteFile(path, []byte(whole(want)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGeneratedExample(t *testing.T) {
	path := filepath.Join(top, ".env.example")
	got, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	same(t, path, string(got), Example(), func(s string) string { return s })
}

func TestGeneratedTable(t *testing.T) {
	path := filepath.Join(top, "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, opened := strings.Cut(string(text), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !opened || !closed {
		t.Fatalf("README.md needs both %s and %s", begin, end)
	}
	same(t, path, got, "\n"+table(), func(s string) string { return head + begin + s + end + tail })
}

// table is the table of every option in Markdown, for the README.
func table() string {
	var b strings.Builder
	b.WriteString("| Setting | Default | Meaning |\n| --- | --- | --- |\n")
	for o := range all() {
		def := ""
		if o.def != "" {
			def = "`" + cell(o.def) + "`"
		}
		means := o.means
		if o.secret {
			means += " " + o.fromFile()
		}
		for _, alias := range o.aliases {
			means += fmt.Sprintf(" Also read from %s.", alias)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", o.name, def, cell(means))
	}
	return b.String()
}

// cell keeps text within one cell of a Markdown table.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "*", `\*`).Replace(text) }

// What .env.example says is the default is the default: the file with its comments removed reads
// like the empty one.
func TestExampleReadsBack(t *testing.T) {
	t.Parallel()
	text := Example()
	text = strings.Replace(text, "\nOPENAI_API_KEY=\n", "\nOPENAI_API_KEY=sk-1\n", 1)
	text = strings.ReplaceAll(text, "64-hexadecimal-digits", strings.Repeat("0f", 32))
	text = regexp.MustCompile(`(?m)^# ([A-Z_]+=)`).ReplaceAllString(text, "$1")
	text = strings.Replace(text, "\nMODELS_FILE=models.yaml\n", "\n", 1) // there is none
	got, warnings, err := Load(empty, write(t, ".env", text))
	// Of the passwords of the example it warns.
	if err != nil || len(warnings) != 2 {
		t.Fatal(err, warnings)
	}
	want, err := Read(environment{"OPENAI_API_KEY": "sk-1"}.get)
	if err != nil {
		t.Fatal(err)
	}
	got.Model.Icon, got.Models[0].Icon = "", ""
	for _, p := range []*Provider{&got.Gemini, &got.Ollama, &got.DALLE, &got.Flux, &got.Stability} {
		p.Icon, p.Key, p.Size = "", Secret{}, ""
	}
	// These have an example in the place of a default.
	got.Access.Allow, got.Access.Block, got.Access.Admins, got.WhatsApp.PairPhone, got.Store.MongoURL, got.Backup, got.HTTP.Token = nil, nil, nil, "", Secret{}, Secret{}, Secret{}
	got.Store.Key, got.Store.OldKey, got.Spend.Zone = Secret{}, Secret{}, want.Spend.Zone
	got.Media.Transcribe.Key, got.Media.Speech.Key = want.Media.Transcribe.Key, want.Media.Speech.Key
	got.Chat.Reply, got.Chat.Processing = "", ""
	if !reflect.DeepEqual(got, want) {
		t.Errorf("uncommented: %+v\nempty: %+v", got, want)
	}
}

func TestExampleAsItIsAsksForTheKeyOnly(t *testing.T) {
	t.Parallel()
	_, warnings, err := Load(empty, write(t, ".env", Example()))
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.HasPrefix(err.Error(), "OPENAI_API_KEY: not set") {
		t.Errorf("got %v", err)
	}
	if len(warnings) > 0 {
		t.Error(warnings)
	}
}

func TestTextsHaveEveryOptionInShape(t *testing.T) {
	t.Parallel()
	example, table := Example(), table()
	for o := range all() {
		if strings.Count(table, "\n| `"+o.name+"` |") != 1 {
			t.Errorf("%s has no line in the table", o.name)
		}
		if got := regexp.MustCompile(`(?m)^(# )?` + o.name + `=`).MatchString(example); got == o.tests {
			t.Errorf("%s in .env.example: %v", o.name, got)
		}
		if !strings.HasSuffix(o.means, ".") || strings.ContainsAny(o.means, "\n`") {
			t.Errorf("%s: its meaning is not plain sentences", o.name)
		}
	}
	for line := range strings.Lines(example) {
		if len(line) > lineWidth+1 && strings.HasPrefix(line, "# ") && !strings.Contains(line, "=") {
			t.Errorf("too wide: %s", line)
		}
	}
	for line := range strings.Lines(table) {
		if strings.Count(line, "|")-strings.Count(line, `\|`) != 4 {
			t.Errorf("not three cells: %s", line)
		}
	}
}

// Who comes from the Node bot finds in the README what became of each setting.
func TestReadmeNamesTheNodeBotsSettings(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodeNames {
		name := n.name
		if strings.HasSuffix(name, "_") {
			name += "…"
		}
		if !strings.Contains(string(readme), "`"+name+"`") || !strings.Contains(string(readme), n.became) {
			t.Errorf("README.md does not say what became of %s: %s", n.name, n.became)
		}
	}
}
