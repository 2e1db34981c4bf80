package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"wabot/internal/llmtest"
	"wabot/internal/mongotest"
)

// checkup runs wabot doctor and checks its exit code and lines that match, and that no line is an error but those that do.
func (w *world) checkup(t *testing.T, ctx context.Context, code int, lines ...string) {
	t.Helper()
	output, got := w.wabot(ctx, "", "doctor")
	if got != code {
		t.Errorf("exit code %d, want %d:\n%s", got, code, output)
	}
	for _, line := range lines {
		if !regexp.MustCompile("(?m)^" + line).MatchString(output) {
			t.Errorf("no line like %q:\n%s", line, output)
		}
	}
	for line := range strings.Lines(output) {
		known := false
		for _, want := range lines {
			known = known || regexp.MustCompile("^"+want).MatchString(line)
		}
		if strings.HasPrefix(line, "error") && !known {
			t.Errorf("unexpected: %s", line)
		}
	}
	if w.owner != nil && strings.Contains(output, w.owner.Number()) {
		t.Errorf("the owner's number is shown:\n%s", output)
	}
}

func doctorWorld(t *testing.T, env ...string) (*world, context.Context) {
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.env = env
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	t.Cleanup(cancel)
	return w, ctx
}

func TestDoctorOnFiles(t *testing.T) {
	t.Parallel()
	w, ctx := doctorWorld(t, "HTTP_ADDR=off")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	session := filepath.Join(w.dir, "session")
	w.checkup(t, ctx, 0, "ok +settings", "ok +files +.*is not there yet", "ok +disk", "ok +store +no session yet", "ok +model +openai .test. answers", "ok +whatsapp +it can be reached",
		"ok +whatsapp +its web client has version 2", "ok +clock", "skipped +running")
	if _, err := os.Stat(session); err == nil {
		t.Error("doctor has made the session directory")
	}
	do(w.pair(ctx))
	w.checkup(t, ctx, 0, "ok +files", "ok +store +the database file is whole", "skipped +store +what is in it: a running wabot uses it \\(pid")
	do(w.stop())
	w.checkup(t, ctx, 0, "ok +session +.* is linked, and was last online 20")

	do(os.WriteFile(filepath.Join(w.dir, ".env"), []byte("HISTORY=3\nOPENAI_KEY=x\n"), 0o644))
	do(os.Chmod(session, 0o755))
	do(os.Chmod(filepath.Join(session, "wabot.db"), 0o644))
	w.checkup(t, ctx, 0, "warning +settings +.env: OPENAI_KEY is not a setting", "warning +settings +other users .* can open .env", "warning +files +.*/session \\(", "warning +files +.*wabot.db")
	do(os.Chmod(session, 0o700))
	do(os.Remove(filepath.Join(w.dir, ".env")))

	for _, fault := range []struct {
		kind llmtest.Kind
		says string
	}{
		{llmtest.BadKey, "error +model +.*auth"}, {llmtest.NoQuota, "error +model +.*quota"}, {llmtest.HTML, "error +model"}, {llmtest.Internal, "error +model +.*unavailable"},
	} {
		w.model.Fail(llmtest.Fault{Kind: fault.kind})
		w.checkup(t, ctx, 1, fault.says)
	}
	// A model that thinks says nothing within one token.
	w.model.Fail(llmtest.Fault{Kind: llmtest.Empty, Times: 1})
	w.checkup(t, ctx, 0, "ok +model")

	env := w.env
	w.env = append(env[:len(env):len(env)], "VOICE_REPLY=auto", "SPEECH_BASE_URL="+w.model.URL(), "SPEECH_MODEL=mouth")
	w.checkup(t, ctx, 0, "warning +voice +VOICE_REPLY=auto is for voice messages, and none is listened to", "ok +voice +answers are spoken by mouth")
	w.env = append(w.env, "TRANSCRIBE_ENABLED=True", "TRANSCRIBE_BASE_URL="+w.model.URL(), "TRANSCRIBE_MODEL=ears")
	w.checkup(t, ctx, 0, "ok +voice +recordings are written down by ears", "ok +voice +answers are spoken by mouth")
	w.model.Fail(llmtest.Fault{Kind: llmtest.BadKey, Model: "ears"})
	w.checkup(t, ctx, 0, "warning +voice +recordings cannot be written down: .*auth.*\\n.*TRANSCRIBE_", "ok +voice +answers")
	w.model.Fail(llmtest.Fault{Kind: llmtest.HTML, Model: "mouth"})
	w.checkup(t, ctx, 0, "ok +voice +recordings", "warning +voice +answers cannot be spoken .*\\n.*SPEECH_")
	w.model.Fail(llmtest.Fault{})

	w.env = append(env[:len(env):len(env)], "HTTPS_PROXY=http://127.0.0.1:1")
	w.checkup(t, ctx, 1, "error +whatsapp +it cannot be reached", "skipped +clock")
	w.env = append(env[:len(env):len(env)], "HISTORY=many", "PREFIX_ENABLED=perhaps")
	w.checkup(t, ctx, 2, "error +settings +HISTORY", "error +settings +PREFIX_ENABLED")
	w.env = append(env[:len(env):len(env)], "SESSION_DIR=/dev/null/x")
	w.checkup(t, ctx, 1, "error +files", "error +store .*SESSION_DIR. /dev/null/x is a file, or below one: set SESSION_DIR to a directory ")
	do(os.Symlink("nowhere", filepath.Join(w.dir, "link")))
	w.env = append(env[:len(env):len(env)], "SESSION_DIR=link")
	w.checkup(t, ctx, 1, "error +files +.*link that leads nowhere", "error +store .*link that leads nowhere")
	w.env = env

	db := filepath.Join(session, "wabot.db")
	whole, err := os.ReadFile(db)
	do(err)
	moved := append([]byte{}, whole...)
	do(os.Remove(db))
	do(os.WriteFile(db, moved, 0o600))
	do(os.Remove(filepath.Join(session, "wabot.seen")))
	w.checkup(t, ctx, 0, "warning +session +it is an older state")
	for i := len(moved) / 2; i < len(moved)/2+8192; i++ {
		moved[i] ^= 0x55
	}
	do(os.WriteFile(db, moved, 0o600))
	w.checkup(t, ctx, 1, "error +store .*is damaged .*; stop wabot, move it away ")
	do(os.WriteFile(db, []byte("no database, but long enough to be looked at: "+strings.Repeat("x", 5000)), 0o600))
	w.checkup(t, ctx, 1, "error +store .*is damaged .*; stop wabot, move it away ")
}

func TestDoctorOnMongo(t *testing.T) {
	t.Parallel()
	url := mongotest.New(t)
	w, ctx := doctorWorld(t, "MONGO_ENABLED=True", "MONGO_URL="+url, "HTTP_ADDR=off")
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w.checkup(t, ctx, 0, "ok +database +wabot_test_.* on MongoDB", "ok +database +it is empty")
	do(w.pair(ctx))
	// The rows of an app state are looked at one after the other, while wabot may write them.
	for _, name := range []string{"critical_block", "critical_unblock_low", "regular_low", "regular_high", "regular"} {
		do(w.says(ctx, "app state "+name+" completed"))
	}
	w.checkup(t, ctx, 0, "ok +database +all indexes", "ok +database +the device is driven by", "ok +session")
	do(w.stop())
	w.checkup(t, ctx, 0, "ok +session +.* is linked")

	do(withDatabase(ctx, url, func(db *mongo.Database) error {
		all, err := db.Collection("lids").Indexes().ListSpecifications(ctx)
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Name != "_id_" {
				err = db.Collection("lids").Indexes().DropOne(ctx, i.Name)
			}
		}
		return err
	}))
	w.checkup(t, ctx, 0, "warning +database +indexes are missing: lids by pn")
	do(withDatabase(ctx, url, func(db *mongo.Database) error {
		_, err := db.Collection("sessions").UpdateMany(ctx, bson.D{{Key: "kind", Value: "identity"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "data", Value: []byte("short")}}}})
		return err
	}))
	w.checkup(t, ctx, 1, "error +store +identity 1")
	do(withDatabase(ctx, url, func(db *mongo.Database) error {
		_, err := db.Collection("meta").UpdateOne(ctx, bson.D{{Key: "_id", Value: "schema"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "number", Value: 99}}}})
		return err
	}))
	w.checkup(t, ctx, 1, "error +database +the database was written by a newer version")
	w.env[1] = "MONGO_URL=mongodb://127.0.0.1:1/x"
	w.checkup(t, ctx, 1, "error +database +the database cannot be reached")
	w.env[1] = "MONGO_URL=mongodb://a b@@"
	w.checkup(t, ctx, 1, "error +database +MONGO_URL is not")
}
