package app

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"golang.org/x/term"

	"wabot/internal/backup"
	"wabot/internal/config"
	"wabot/internal/mask"
	"wabot/internal/transfer"
)

// parseFile reads the flags and the name of one file, before or after them.
func parseFile(flags *flag.FlagSet, args []string) (string, error) {
	if len(args) > 0 && (args[0] == "-" || !strings.HasPrefix(args[0], "-")) {
		return args[0], parse(flags, args[1:])
	}
	if err := flags.Parse(args); err != nil {
		return "", parse(flags, args)
	}
	if flags.NArg() == 0 {
		return "", &configError{fmt.Errorf("%s: name the file, or - for the standard output or input", flags.Name())}
	}
	return flags.Arg(0), noArguments(flags.Args()[1:])
}

func (c sessions) export(ctx context.Context, flags *flag.FlagSet, args []string) (err error) {
	name := flags.String("store", c.chosen(), "file or mongo")
	var to []age.Recipient
	flags.Func("recipient", "the public key to encrypt to", func(key string) error {
		r, err := age.ParseRecipients(strings.NewReader(key))
		to = append(to, r...)
		return err
	})
	path, err := parseFile(flags, args)
	if err != nil {
		return err
	}
	if path != "-" {
		if _, err := os.Lstat(path); err == nil {
			return &configError{fmt.Errorf("%s is there already and is left as it is; name a file that is not", path)}
		}
	} else if isTerminal(c.Stdout) {
		return &configError{errors.New("a backup is not for a terminal; send it into a file or a program")}
	}
	store, ctx, give, err := c.take(ctx, *name, use{there: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	if err := transfer.Usable(ctx, store); err != nil {
		return err
	}
	if err := linked(ctx, store, *name, "export"); err != nil {
		return err
	}
	if to == nil {
		words, err := c.askPassphrase(ctx, true)
		if err != nil {
			return err
		}
		r, err := age.NewScryptRecipient(words)
		if err != nil {
			return fmt.Errorf("encrypt the backup: %w", err)
		}
		if c.Scrypt > 0 {
			r.SetWorkFactor(c.Scrypt)
		}
		to = []age.Recipient{r}
	}
	rows := 0
	write := func(w io.Writer) (err error) {
		rows, err = backup.Write(ctx, w, store, version(), time.Now(), to...)
		return err
	}
	if path == "-" {
		err = write(c.Stdout)
	} else {
		err = writeWhole(path, write)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Stderr, "Exported %d rows of %s, encrypted. Whoever opens the file has the account and its chats: keep it, and apart from it what opens it.\nThe session here stays in use. When the file is imported one day, no other copy of the session may be used any more.\n", rows, c.where(*name))
	return nil
}

// linked refuses a store without a linked device.
func linked(ctx context.Context, store transfer.Origin, name, doing string) error {
	has, err := transfer.HasDevice(ctx, store)
	if err == nil && !has {
		err = transfer.Refusal(fmt.Sprintf("the %s store holds no linked device: there is nothing to %s", name, doing))
	}
	return err
}

// restore is the command import.
func (c sessions) restore(ctx context.Context, flags *flag.FlagSet, args []string) (err error) {
	name := flags.String("store", c.chosen(), "file or mongo")
	identity := flags.String("identity", "", "the file with the private key")
	path, err := parseFile(flags, args)
	if err != nil {
		return err
	}
	file := c.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return &configError{fmt.Errorf("open the backup: %w", err)}
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return &configError{fmt.Errorf("%s is a directory; name the backup in it", path)}
		}
		file = bufio.NewReader(f)
	}
	if file == nil {
		return &configError{errors.New("there is no standard input")}
	}
	with, err := c.identities(ctx, *identity)
	if err != nil {
		return err
	}
	session, err := backup.Read(file, with...)
	if err != nil {
		return &configError{err}
	}
	target, ctx, give, err := c.take(ctx, *name, use{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	sum, err := transfer.Restore(ctx, session, transfer.End{Name: *name, Store: target})
	if err != nil {
		return err
	}
	given, err := target.makeSafe(ctx, "it was restored from a backup of "+when(session.Made))
	if err != nil {
		return err
	}
	rows := 0
	for _, t := range sum {
		rows += t.Count
	}
	report, err := transfer.Check(ctx, target)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, `Restored into %s: the device %s with its chats, as of %s (%d rows, read back and compared).
Its Signal sessions were forgotten, as they may be older than what was sent since: each contact's first message takes a little longer.
`, c.where(*name), mask.JID(report.Device.JID), when(session.Made), rows)
	if given > 0 {
		fmt.Fprintf(c.Stdout, "%d %s that waited for an answer in the backup get none, as they may have got one since.\n", given, plural("chat", given))
	}
	fmt.Fprintf(c.Stdout, "%s No other copy of this session may be used any more: the two would replace each other.\n", startWith(*name))
	return nil
}

// identities are what opens a backup.
func (c sessions) identities(ctx context.Context, path string) ([]age.Identity, error) {
	if path == "" {
		words, err := c.askPassphrase(ctx, false)
		if err != nil {
			return nil, err
		}
		i, err := age.NewScryptIdentity(words)
		if err != nil {
			return nil, fmt.Errorf("open the backup: %w", err)
		}
		return []age.Identity{i}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &configError{fmt.Errorf("read the private key: %w", err)}
	}
	defer f.Close()
	with, err := age.ParseIdentities(f)
	if err != nil {
		// Its text quotes the file.
		return nil, &configError{fmt.Errorf("%s has no private key of age (a line that begins with AGE-SECRET-KEY-)", path)}
	}
	return with, nil
}

// makeSafe is the command make-safe.
func (c sessions) makeSafe(ctx context.Context, flags *flag.FlagSet, args []string) (err error) {
	name := flags.String("store", c.chosen(), "file or mongo")
	if err := parse(flags, args); err != nil {
		return err
	}
	store, ctx, give, err := c.take(ctx, *name, use{there: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	if err := linked(ctx, store, *name, "make safe"); err != nil {
		return err
	}
	if _, err := store.makeSafe(ctx, "asked for by hand"); err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, "The session in %s can be used: its Signal sessions are forgotten and made anew with each contact's next message.\n", c.where(*name))
	return nil
}

// askPassphrase gives the passphrase of a backup, from the settings or from the terminal; twice where it is a new one.
func (c sessions) askPassphrase(ctx context.Context, twice bool) (string, error) {
	if words := c.passphrase.Reveal(); words != "" {
		return words, nil
	}
	terminal, ok := c.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", &configError{errors.New("there is no terminal to ask for the passphrase at: set BACKUP_PASSPHRASE or BACKUP_PASSPHRASE_FILE, or use --recipient and --identity")}
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(c.Stderr, what)
		words, err := readHidden(ctx, int(terminal.Fd()))
		fmt.Fprintln(c.Stderr)
		if err != nil {
			return "", fmt.Errorf("read the passphrase: %w", err)
		}
		return strings.TrimSpace(words), nil
	}
	words, err := ask("The passphrase of the backup: ")
	if err != nil || !twice {
		return words, err
	}
	if len(words) < config.ShortestPassphrase {
		return "", &configError{fmt.Errorf("the passphrase is too easily found; use at least %d characters", config.ShortestPassphrase)}
	}
	again, err := ask("The same again: ")
	if err == nil && again != words {
		err = &configError{errors.New("the two are not the same; nothing was written")}
	}
	return words, err
}

// writeWhole writes a file for its owner alone, which is there under its name when it is complete, and on the disk.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return &configError{fmt.Errorf("write %s: %w", path, err)}
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
