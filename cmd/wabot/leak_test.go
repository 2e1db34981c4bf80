package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wabot/internal/llmtest"
	"wabot/internal/mongotest"
)

// Of what people say, who they are and what opens the account and its services, nothing is logged at any level, shown on
// the page or in the metrics, printed by a command or readable in an export: in good days, and when the model, the network, the
// decryption and the settings fail. The stories check the same at their ends.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	for name, env := range map[string][]string{
		"file": nil,
		// What a value prints as differs between the two forms of the log.
		"mongo, json": {"MONGO_ENABLED=True", "MONGO_URL=" + mongotest.New(t), "LOG_FORMAT=json", "SCRYPT=10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
			t.Cleanup(cancel)
			w, do := newStory(t)
			const token = "token-of-the-page-0123456789"
			// Names that no log line has by chance.
			w.secrets = []string{"Zerbinette", "Quasimodo", "Oberon der Elfenkoenig", "Stammtisch Sommernacht", "Traumdeutung", "vermouth and verbena"}
			w.env = append([]string{
				"ALLOW=*", "OPENAI_API_KEY=sk-this-opens-the-purse-of-the-operator", "HTTP_TOKEN=" + token, "BACKUP_PASSPHRASE=correct horse battery staple",
				"INSTRUCTIONS=You like vermouth and verbena.", "DEBUG=True",
			}, env...)
			owner := "Oberon der Elfenkoenig"
			look := func() {
				t.Helper()
				for _, path := range []string{"/", "/metrics", "/readyz", "/healthz"} {
					_, _, err := w.ask(ctx, path, token)
					do(err)
				}
			}
			says := func(who, text, hears string) {
				t.Helper()
				_, err := w.phone(who).Say(ctx, w.owner.LID(), "!ai "+text)
				do(err)
				do(w.hear(ctx, who, w.owner.LID(), hears))
			}
			do(w.start())
			do(w.says(ctx, `Linked devices > Link a device`))
			look()
			do(w.scan(ctx, owner))
			do(w.online(ctx))
			group, err := w.owner.Group(ctx, "Stammtisch Sommernacht", w.phone("Zerbinette").LID())
			do(err)
			says("Zerbinette", "my doctor speaks of Traumdeutung again", "You said: my doctor speaks of Traumdeutung again")
			_, err = w.phone("Zerbinette").Say(ctx, group, "!ai the whole group dreams of Traumdeutung")
			do(err)
			do(w.hear(ctx, "Zerbinette", group, "You said: Zerbinette: the whole group dreams of Traumdeutung"))
			look()

			// Failures name their causes, and no more.
			says("Quasimodo", "the bells of Notre-Dame ring at seven", "You said: the bells of Notre-Dame ring at seven")
			w.phone("Quasimodo").LoseSession(w.owner.LID())
			says("Quasimodo", "can you still read of my bells", "You said: can you still read of my bells")
			w.model.Fail(llmtest.Fault{Kind: llmtest.BadKey, Times: 1})
			_, err = w.phone("Quasimodo").Say(ctx, w.owner.LID(), "!ai a question about bells that is not answered")
			do(err)
			do(w.says(ctx, "auth"))
			w.model.Fail(llmtest.Fault{Kind: llmtest.HTML, Times: 1})
			_, err = w.phone("Quasimodo").Say(ctx, w.owner.LID(), "!ai another question about bells that is not answered")
			do(err)
			do(w.says(ctx, "bad_answer"))
			w.whatsapp.SetDown(true)
			do(w.says(ctx, `"WhatsApp cannot be reached"`))
			look()
			w.whatsapp.SetDown(false)
			do(w.says(ctx, `online again`))
			says("Zerbinette", "what is left of the Traumdeutung now", "You said: what is left of the Traumdeutung now")
			if _, code := w.wabot(ctx, "", "doctor"); code != 0 && code != 1 {
				t.Errorf("doctor: exit code %d", code)
			}
			do(w.stop())

			backup := filepath.Join(w.dir, "backup.age")
			for _, command := range []string{"session list", "session show", "session verify", "session export " + backup, "doctor", "help", "session help", "session make-safe", "healthcheck"} {
				w.wabot(ctx, "", strings.Fields(command)...)
			}
			raw, err := os.ReadFile(backup)
			do(err)
			w.shows(string(raw))
			env := w.env
			for _, mistake := range []string{
				"BACKUP_PASSPHRASE=short", "HTTP_TOKEN=tooshort7", "OPENAI_API_KEY=sk two keys", "MONGO_URL=mongodb//me:forgotten-slashes@host", "ALLOW=+4917755501234x",
				"PAIR_PHONE=0151123456789", "MONGO_ENABLED=True",
			} {
				w.env = append(env[:len(env):len(env)], mistake)
				w.wabot(ctx, "", "doctor")
			}
			w.secrets = append(w.secrets, "forgotten-slashes", "two keys", "tooshort7", "4917755501234", "151123456789")
			w.wabot(ctx, "", "session", "delete", "--yes")
			w.env = env
			w.wabot(ctx, "", "session", "import", backup)
			do(w.start())
			do(w.online(ctx))
			says("Zerbinette", "after the restore the Traumdeutung goes on", "You said: after the restore the Traumdeutung goes on")
			w.wabot(ctx, "yes\n", "logout")
			do(w.stop())
			w.wabot(ctx, "yes\n", "logout")
			w.sound(t)
		})
	}
}
