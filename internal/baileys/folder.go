package baileys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"wabot/internal/transfer"
)

// Files in the folder that useMultiFileAuthState keeps. Without creds.json Baileys starts with a new device and a QR code.
const (
	credsFile = "creds.json"
	movedFile = credsFile + ".moved-to-wabot"
	markFile  = "moved-to-wabot.json"
)

// folder is a session in a folder.
type folder string

// Folder is the session in a folder of Baileys' useMultiFileAuthState.
func Folder(dir string) *Source { return &Source{place: folder(dir)} }

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) name() string { return "the folder " + string(f) }

func (f folder) read(context.Context) (entries, error) {
	files, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, transfer.Refusal(fmt.Sprintf("there is no folder %s", string(f)))
	}
	if err != nil {
		return nil, fmt.Errorf("read the session's folder: %w", err)
	}
	in := entries{}
	for _, file := range files {
		name, ok := strings.CutSuffix(file.Name(), ".json")
		if !ok || file.IsDir() || file.Name() == markFile {
			continue
		}
		text, err := os.ReadFile(f.path(file.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the session: %w", err)
		}
		// A file that a crash has torn counts as one that cannot be read.
		in[name], _ = parse(text)
	}
	if _, ok := in[credsName]; ok {
		return in, nil
	}
	text, err := os.ReadFile(f.path(movedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, transfer.Refusal(fmt.Sprintf("the folder %s holds no Baileys session: it has no %s", string(f), credsFile))
	}
	in[credsName], _ = parse(text)
	return in, err
}

func (f folder) has(name string) bool {
	_, err := os.Stat(f.path(name))
	return err == nil
}

func (f folder) mark(context.Context) ([]byte, error) {
	if f.has(credsFile) {
		return nil, nil // it may be used, whatever was begun
	}
	mark, err := os.ReadFile(f.path(markFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return mark, err
	}
	if f.has(movedFile) {
		return nil, transfer.Refusal(fmt.Sprintf("the session in %s was taken over before, and %s, which said by what, is gone; if no wabot uses it, rename %s to %s",
			string(f), markFile, movedFile, credsFile))
	}
	return nil, nil
}

func (f folder) move(_ context.Context, mark []byte) error {
	if err := os.WriteFile(f.path(markFile), mark, 0o600); err != nil {
		return err
	}
	if !f.has(credsFile) {
		return nil // it was moved by a copy that this one repeats
	}
	return os.Rename(f.path(credsFile), f.path(movedFile))
}

func (f folder) restore(context.Context) error {
	if err := os.Rename(f.path(movedFile), f.path(credsFile)); err != nil {
		return err
	}
	return os.Remove(f.path(markFile))
}
