package sqlitestore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// LockFile is the name of the lock in the store's directory. The lock is on the open file, not in its
// presence: a file left behind by a killed process locks nobody out.
const LockFile = "wabot.lock"

// LockedError says that another process has the store open.
type LockedError struct {
	// Path is the lock file's.
	Path string
	// Holder is what the other process wrote about itself (pid, host and start), on one
	// line. Empty where it had no time to.
	Holder string
}

func (e *LockedError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "unknown"
	}
	return fmt.Sprintf("another wabot has this session open (%s: %s); stop it, or give this one a directory of its own", e.Path, holder)
}

// lock takes the lock on dir for as long as the returned file is open.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unusable(dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for tries := 0; errors.Is(err, syscall.EWOULDBLOCK) && tries < 10; tries++ {
		// A process that is being started has it from the one that starts it, for a moment, also when that has closed it.
		time.Sleep(20 * time.Millisecond)
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		holder, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read who holds %s: %w", path, err)
		}
		return nil, &LockedError{Path: path, Holder: strings.Join(strings.Fields(string(holder)), " ")}
	}
	if err := sign(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), f.Close())
	}
	return f, nil
}

// holder names the process that has the lock on dir, or gives "" where none has.
func holder(dir string) (string, error) {
	path := filepath.Join(dir, LockFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", unusable(dir, err)
	}
	defer f.Close()
	// A shared lock, so that several may look, for a moment in which nobody else can take the lock.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read who holds %s: %w", path, err)
	}
	return cmp.Or(strings.Join(strings.Fields(string(text)), " "), "unknown"), nil
}

// sign writes into the lock file who holds it.
func sign(f *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "pid %d\nhost %s\nsince %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339)), 0)
	return err
}

// prepareDir makes dir for this user alone.
func prepareDir(dir string, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return unusable(dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the session directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if ours, err := isOurs(dir); err != nil || !ours {
		log.Warn("the session directory (SESSION_DIR) holds files that are not wabot's, so its mode is left as it is; better give wabot a directory of its own, with mode 700",
			"dir", dir, "mode", info.Mode().Perm().String())
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		// Its owner is another, as with a directory mounted into a container. The files in
		// it are ours and closed to others, so this is worth a warning, not a refusal.
		log.Warn("other users of this machine can list the session directory; make it private with chown and chmod 700",
			"dir", dir, "mode", info.Mode().Perm().String(), "err", err)
	}
	return nil
}

// isOurs reports whether dir holds nothing but wabot's files. Somebody's home is not.
func isOurs(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into the session directory: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return false, fmt.Errorf("look into the session directory: %w", err)
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !strings.HasPrefix(name, "wabot.") }), nil
}

// unusable says what is wrong with dir, or with a file in it, of which err tells, and what to do.
func unusable(dir string, err error) error {
	say := func(format string, args ...any) error {
		return fmt.Errorf("the session directory (SESSION_DIR) %s %s (%w)", dir, fmt.Sprintf(format, args...), err)
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		return say("is on a disk that is mounted read-only: mount it for writing, or set SESSION_DIR to a directory elsewhere")
	case errors.Is(err, fs.ErrPermission):
		return say("is closed to uid %d, or something in it is: chown it with all that is in it to that user, or set SESSION_DIR to a directory of that user", os.Getuid())
	case errors.Is(err, syscall.ENOTDIR):
		return say("is a file, or below one: set SESSION_DIR to a directory")
	case errors.Is(err, fs.ErrExist), leadsNowhere(dir): // MkdirAll says the former
		return say("is a link that leads nowhere, or below one: make the directory that it leads to, or set SESSION_DIR to another")
	}
	return say("cannot be used")
}

// ErrNone says that there is no store in the directory.
var ErrNone = errors.New("there is no session here yet")

// Find gives the path of the database in dir. It fails with ErrNone where there is none, and says what is in the way where that
// cannot be told.
func Find(dir string) (path string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("find the session directory: %w", err)
	}
	path = filepath.Join(dir, File)
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return "", fmt.Errorf("%s is a directory, where the database has its place: move it away, or set SESSION_DIR to another directory", path)
	case err == nil && info.Size() > 0:
		return path, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist), leadsNowhere(dir):
		return "", unusable(dir, err)
	case leadsNowhere(path):
		return "", fmt.Errorf("%s is a link that leads nowhere: put the database where it leads, or remove it to start with a new pairing", path)
	}
	return "", fmt.Errorf("%s: %w", dir, ErrNone)
}

// leadsNowhere reports whether path is a link to what is not there.
func leadsNowhere(path string) bool {
	_, err := os.Stat(path)
	_, here := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) && here == nil
}

// prepareFile makes an empty database file that nobody else can read, where there is none,
// and closes a looser one to others. SQLite gives the files beside it the same mode.
func prepareFile(path string) error {
	if _, err := Find(filepath.Dir(path)); err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// A log with something in it and no database is what is left of a state that someone
		// moved or deleted. SQLite would throw the log away and start afresh.
		if info, err := os.Stat(path + "-wal"); err == nil && info.Size() > 0 {
			return fmt.Errorf("%s is missing, but its log %s-wal is here: put the database back beside it, or move the log away as well to start with a new pairing", path, path)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return unusable(filepath.Dir(path), err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return fmt.Errorf("close the database to other users: %w", err)
		}
	}
	return nil
}
