package app

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/term"

	"wabot/internal/config"
)

// initialize writes the .env file: the example with random passwords and the model's key. It
// never touches one that is there, as the database's users have the passwords in it.
func initialize(ctx context.Context, p Process, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	if _, err := os.Lstat(p.Dotenv); err == nil {
		return &configError{fmt.Errorf("%s is there already and is left as it is; move it away to write a new one", p.Dotenv)}
	}
	if inContainer, _ := strconv.ParseBool(p.Getenv("WABOT_CONTAINER")); inContainer && syscall.Access(filepath.Dir(p.Dotenv), accessWrite) != nil {
		// As docker-compose run --rm app init.
		return &configError{errors.New("the service app cannot write .env, as it does not see your files; the service init can: docker-compose run --rm init")}
	}
	key, err := askKey(ctx, p)
	if err != nil {
		return err
	}
	text := config.Example()
	for name, value := range map[string]string{
		"OPENAI_API_KEY":      key,
		"MONGO_PASSWORD":      rand.Text(),
		"MONGO_ROOT_PASSWORD": rand.Text(),
	} {
		if text, err = set(text, name, value); err != nil {
			return err
		}
	}
	if err := writeNew(p.Dotenv, text); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return &configError{err}
		}
		return err
	}
	fmt.Fprintf(p.Stdout, "Wrote %s, readable by you alone.\n", p.Dotenv)
	if key == "" {
		fmt.Fprintf(p.Stdout, "Put the key of your model's API into it, as OPENAI_API_KEY, or set OPENAI_BASE_URL.\n")
	}
	fmt.Fprintln(p.Stdout, "Next: docker-compose up, or wabot without Docker.")
	return nil
}

// accessWrite is the mode of access(2) that asks whether something may be written.
const accessWrite = 2

// askKey asks for the model's key until it is one. At a terminal it is not shown; elsewhere it is a line
// of the input. It is empty where there is none yet.
func askKey(ctx context.Context, p Process) (string, error) {
	var in io.Reader = strings.NewReader("")
	if p.Stdin != nil {
		in = p.Stdin
	}
	terminal, ok := in.(*os.File)
	ok = ok && term.IsTerminal(int(terminal.Fd()))
	for {
		fmt.Fprint(p.Stdout, "The key of your model's API (https://platform.openai.com/api-keys), or nothing to write it into the file later: ")
		var line string
		var err error
		if ok {
			line, err = readHidden(ctx, int(terminal.Fd()))
			fmt.Fprintln(p.Stdout)
		} else if line, err = bufio.NewReader(in).ReadString('\n'); err != nil {
			fmt.Fprintln(p.Stdout)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the key: %w", err)
		}
		key := strings.TrimSpace(line)
		if key == "" {
			return "", nil
		}
		problem := checkKey(key)
		if problem == nil || !ok {
			return key, problem
		}
		fmt.Fprintln(p.Stdout, problem)
	}
}

// readHidden reads a line from a terminal that does not show it, and shows again what is typed however
// it ends.
func readHidden(ctx context.Context, terminal int) (string, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return "", err
	}
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := term.ReadPassword(terminal)
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return string(r.line), r.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(terminal, before))
	}
}

// checkKey says what is wrong with a key, in the words that it would be refused with at start.
func checkKey(key string) error {
	_, err := config.Read(func(name string) string {
		if name == "OPENAI_API_KEY" {
			return key
		}
		return ""
	})
	if err == nil && strings.ContainsAny(key, `'"\$#`) {
		err = errors.New("OPENAI_API_KEY: the value given (redacted) has quotes or signs that no key has; copy the key again")
	}
	if err != nil {
		return &configError{err}
	}
	return nil
}

// set gives a setting its value in the text of a .env file that has a line for it.
func set(text, name, value string) (string, error) {
	line := regexp.MustCompile(`(?m)^(# )?` + name + `=.*$`)
	if len(line.FindAllString(text, -1)) != 1 {
		return "", fmt.Errorf("write %s: the example has not one line for it", name)
	}
	return line.ReplaceAllLiteralString(text, name+"="+value), nil
}

// writeNew writes a file for its owner alone, where there is none. Written by root, as in a
// container, it belongs to whoever owns the directory: the operator has to read and edit it.
func writeNew(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	defer func() {
		if err = cmp.Or(err, f.Close()); err != nil {
			err = errors.Join(fmt.Errorf("write the settings: %w", err), os.Remove(path))
		}
	}()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return nil
	}
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	owner := dir.Sys().(*syscall.Stat_t)
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
