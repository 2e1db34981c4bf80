package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed is what each package may import of ours. Arrows point at chat; only app, which wires
// them, imports a store, web or config.
var allowed = map[string]string{
	"cmd/wabot":                  "internal/app",
	"cmd/bench":                  "internal/llmtest internal/mongotest internal/whatsapptest",
	"cmd/bench/bare":             "",
	"cmd/demo":                   "internal/app internal/config internal/llmtest internal/whatsapp internal/whatsapptest",
	"internal/access":            "internal/mask",
	"internal/app":               "internal/access internal/backup internal/baileys internal/bot internal/budget internal/chat internal/config internal/device internal/inbox internal/llm internal/mask internal/media internal/model internal/mongostore internal/qr internal/retention internal/sqlitestore internal/trail internal/transfer internal/web internal/whatsapp internal/witness internal/words",
	"internal/backup":            "internal/transfer",
	"internal/baileys":           "internal/transfer",
	"internal/bot":               "internal/access internal/budget internal/chat internal/format internal/inbox internal/llm internal/mask internal/media internal/model internal/words",
	"internal/budget":            "internal/chat internal/llm internal/model",
	"internal/chat":              "",
	"internal/config":            "internal/access internal/mask internal/words",
	"internal/device":            "",
	"internal/format":            "",
	"internal/inbox":             "internal/chat internal/mask",
	"internal/llm":               "",
	"internal/llmtest":           "",
	"internal/mask":              "",
	"internal/model":             "internal/llm",
	"internal/media":             "",
	"internal/mongostore":        "internal/budget internal/chat internal/inbox internal/mask internal/retention internal/trail internal/transfer",
	"internal/mongotest":         "",
	"internal/mongotest/standin": "",
	"internal/qr":                "",
	"internal/qr/qrtest":         "",
	"internal/retention":         "internal/budget internal/chat",
	"internal/sqlitestore":       "internal/budget internal/chat internal/device internal/inbox internal/retention internal/trail internal/transfer",
	"internal/storetest":         "internal/budget internal/chat internal/inbox internal/retention internal/trail",
	"internal/trail":             "internal/chat internal/mask",
	"internal/transfer":          "internal/chat",
	"internal/web":               "",
	"internal/whatsapp":          "internal/chat internal/device internal/mask",
	"internal/whatsapptest":      "",
	"internal/witness":           "",
	"internal/words":             "",
}

// The packages hang together as the design says.
func TestPackages(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "wabot/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], "wabot/")
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the table", name)
		}
		for _, path := range fields[1:] {
			imported, ours := strings.CutPrefix(path, "wabot/")
			if ours && !slices.Contains(strings.Fields(may), imported) {
				t.Errorf("%s must not import %s", name, imported)
			}
		}
	}
}

// The program links nothing of the simulators, and no templates: for a template the linker keeps each exported method of each
// type, which makes the program a fifth larger.
func TestProgramLinks(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "wabot/cmd/wabot").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(path, "wabot/") && strings.HasSuffix(path, "test") || path == "testing" || path == "text/template" {
			t.Errorf("cmd/wabot links %s", path)
		}
	}
}
