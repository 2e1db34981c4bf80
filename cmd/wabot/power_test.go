package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"wabot/internal/sqlitestore"
)

// forgetful builds a wabot with a disk that keeps only what it was waited for.
var forgetful = sync.OnceValues(func() (string, error) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "wabot/internal/sqlitestore").Output()
	if err != nil {
		return "", err
	}
	flush := filepath.Join(strings.TrimSpace(string(dir)), "flush_linux.go")
	if _, err := os.Stat(flush); err != nil {
		return "", err // nothing would be replaced
	}
	text, err := os.ReadFile(filepath.Join("testdata", "disk", "flush.go.txt"))
	if err != nil {
		return "", err
	}
	return overlaid("forgetful", map[string]string{flush: string(text)})
})

// powerless lets wabot run on a disk that forgets at each kill what it was not waited for.
func (w *mongoWorld) powerless() {
	binary, err := forgetful()
	w.do(err)
	w.binary, w.disk = binary, w.t.TempDir()
	w.env = append(w.env, "DISK="+w.disk)
}

// cut leaves of the files of a killed wabot what the disk has kept.
func (w *mongoWorld) cut() error {
	session := filepath.Join(w.dir, "session")
	for _, ending := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(session, sqlitestore.File+ending)); err != nil {
			return err
		}
	}
	last, err := filepath.EvalSymlinks(filepath.Join(w.disk, "last"))
	if err != nil {
		return err
	}
	return os.CopyFS(session, os.DirFS(last))
}

// While people write in three chats the power fails, again and again: what was not on the disk is gone, and nothing is lost,
// answered twice or encrypted with a counter that was used.
func TestPowerCutCampaign(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the disk is a part of the file store for Linux")
	}
	cuts := *campaign
	if cuts == 0 {
		if !long {
			t.Skip("it builds a wabot of its own; -campaign or WABOT_LONG runs it")
		}
		cuts = brief
	}
	var sum tally
	for n := *campaignFrom; n*battle < cuts; n++ {
		sum.add(fight(t, "files", *campaignSeed, n, min(battle, cuts-n*battle), (*mongoWorld).powerless))
		t.Logf("after battle %d: %v", n, sum)
		if t.Failed() {
			t.Fatalf("to see it again: -run TestPowerCutCampaign -campaign %d -campaign-seed %d -campaign-from %d", cuts, *campaignSeed, n)
		}
	}
}
