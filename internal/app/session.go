package app

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"wabot/internal/config"
	"wabot/internal/mask"
	"wabot/internal/mongostore"
	"wabot/internal/sqlitestore"
	"wabot/internal/transfer"
	"wabot/internal/whatsapp"
)

const sessionUsage = `wabot session works on what the stores keep: the linked device with its keys, the chats and their history.

  wabot session copy --from file --to mongo    move it to the other store, without a new QR code; also the other way round
  wabot session list                           the linked device
  wabot session show                           and how much there is of what
  wabot session verify                         and whether it can all be read
  wabot session delete                         delete it all; asks first
  wabot session export FILE                    write it all into one encrypted file; - writes to the standard output
  wabot session import FILE                    put it from such a file into a store without a device; - reads the standard input
  wabot session make-safe                      after a restore that wabot could not notice: forget the Signal sessions
  wabot session import-baileys --folder DIR    take over the session of a bot on Baileys, without a new QR code

Stores: file (SESSION_DIR) and mongo (MONGO_URL). Flags:

  --store file|mongo    for all but copy: which store; by default the one that MONGO_ENABLED chooses
  --replace             for copy: delete the device that the target holds
  --yes                 for delete: do not ask
  --recipient age1…     for export: encrypt to this public key (of age-keygen; may be repeated) instead of with a passphrase
  --identity FILE       for import: the file with the private key
                        The passphrase is asked for at a terminal, or comes from BACKUP_PASSPHRASE or BACKUP_PASSPHRASE_FILE.
  --folder DIR          for import-baileys: the folder with the bot's creds.json, or
  --mongo-url URL       the MongoDB that it keeps its session in (MONGO_URL: the one in the settings), with --database,
                        --collection (authState) and --session where they are other than usual
  --dry-run             for import-baileys: only say what is there and what would be done
  --undo                for import-baileys: give the session back, as long as wabot has not used it

Stop wabot first: copy, export, import, make-safe and delete refuse while a process uses a store, and so does everything else on the file store.
`

// session is the command on what the stores keep.
func session(ctx context.Context, p Process, args []string) error {
	sub := ""
	if len(args) > 0 {
		sub, args = args[0], args[1:]
	}
	run := map[string]func(sessions, context.Context, *flag.FlagSet, []string) error{
		"copy":   sessions.copy,
		"list":   sessions.list,
		"show":   sessions.show,
		"verify": sessions.verify,
		"delete": sessions.delete,
		"export": sessions.export,
		"import": sessions.restore,

		"make-safe": sessions.makeSafe,

		"import-baileys": sessions.importBaileys,
	}[sub]
	switch {
	case sub == "help":
		fmt.Fprint(p.Stdout, sessionUsage)
		return noArguments(args)
	case sub == "":
		return &configError{errors.New("session needs to know what to do, such as list or verify; wabot session help lists the commands")}
	case run == nil:
		return &configError{fmt.Errorf("session %s: there is no such command; wabot session help lists them", sub)}
	}
	cfg, err := storeSettings(p)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("session "+sub, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	err = run(sessions{p, cfg.Store, cfg.Backup, newLogger(p.Stderr, cfg.Log)}, ctx, flags, args)
	if errors.As(err, new(transfer.Refusal)) {
		return &configError{err}
	}
	return err
}

// sessions are the stores of this process's settings.
type sessions struct {
	Process
	cfg config.Store
	// passphrase is of a backup; it may be unset.
	passphrase config.Secret
	log        *slog.Logger
}

// parse reads the flags and refuses what is left.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return &configError{fmt.Errorf("%s: %w; wabot session help lists the flags", flags.Name(), err)}
	}
	return noArguments(flags.Args())
}

// chosen is the name of the store that the settings choose.
func (c sessions) chosen() string {
	if c.cfg.Mongo {
		return transfer.Mongo
	}
	return transfer.File
}

// where names a store for people.
func (c sessions) where(name string) string {
	if name == transfer.Mongo {
		return "the mongo store (MONGO_URL)"
	}
	return fmt.Sprintf("the file store (%s)", c.cfg.SessionDir)
}

// startWith says how to go on with the session that is now in the store with the name.
func startWith(name string) string {
	enabled := map[string]string{transfer.File: "False", transfer.Mongo: "True"}[name]
	return "Start wabot with MONGO_ENABLED=" + enabled + "; no QR code is needed."
}

// settings are those that choose the store with the name.
func (c sessions) settings(name string) (config.Store, error) {
	cfg := c.cfg
	switch name {
	case transfer.File:
		cfg.Mongo = false
	case transfer.Mongo:
		if cfg.Mongo = true; cfg.MongoURL.Reveal() == "" {
			return cfg, &configError{errors.New("MONGO_URL is not set: write the database's address like mongodb://localhost:27017")}
		}
	default:
		return cfg, &configError{fmt.Errorf("%q is not a store; write file or mongo", name)}
	}
	return cfg, nil
}

// open opens the store with the name.
func (c sessions) open(ctx context.Context, name string, how use) (*witnessed, error) {
	cfg, err := c.settings(name)
	if err != nil {
		return nil, err
	}
	how.lease = c.Lease
	return openStore(ctx, cfg, how, c.log)
}

// take opens a store for this process alone. The context returned ends when that is no longer so, and
// give gives the store back.
func (c sessions) take(ctx context.Context, name string, how use) (_ *witnessed, _ context.Context, give func() error, err error) {
	store, err := c.open(ctx, name, how)
	if err != nil {
		return nil, nil, nil, err
	}
	// Whoever leads renews its lease all the time; who does not come to lead within its life was refused.
	waiting, cancel := context.WithTimeout(ctx, cmp.Or(c.Lease, mongostore.DefaultLease)*3/2)
	defer cancel()
	leader := ""
	err = store.Store.Lead(waiting, func(l string) {
		leader = l
		fmt.Fprintf(c.Stderr, "%s has used the mongo store; waiting a few seconds to see whether it still does.\n", l)
	})
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			err = &lockedError{fmt.Errorf("another wabot drives the device in the mongo store (%s); stop it, and all that stand by for it, and try again", cmp.Or(leader, "unknown"))}
		}
		return nil, nil, nil, errors.Join(err, store.Close())
	}
	held, lose := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lose(store.Hold(held))
	}()
	give = func() error {
		lose(nil)
		<-done
		return store.Close()
	}
	if err := store.settle(held); err != nil {
		return nil, nil, nil, errors.Join(err, give())
	}
	return store, held, give, nil
}

// withLoss adds to an error of what was done with the context of take why the store was not this process's any more.
func withLoss(ctx context.Context, err error) error {
	if lost := context.Cause(ctx); lost != nil && !errors.Is(err, lost) {
		return fmt.Errorf("%w (%w)", err, lost)
	}
	return err
}

func (c sessions) copy(ctx context.Context, flags *flag.FlagSet, args []string) (err error) {
	from := flags.String("from", "", "the store to take the session from")
	to := flags.String("to", "", "the store to put it into")
	replace := flags.Bool("replace", false, "delete the device that the target holds")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *from == "" || *to == "" || *from == *to {
		return &configError{errors.New("session copy: say between which stores, like --from file --to mongo")}
	}
	for _, name := range []string{*from, *to} {
		if _, err := c.settings(name); err != nil {
			return err
		}
	}
	source, ctx, give, err := c.take(ctx, *from, use{there: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	target, ctx, giveTarget, err := c.take(ctx, *to, use{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, giveTarget()) }()
	copied, err := transfer.Copy(ctx, transfer.End{Name: *from, Store: source}, transfer.End{Name: *to, Store: target}, *replace)
	if err != nil {
		return withLoss(ctx, err)
	}
	rows := 0
	for _, t := range copied {
		rows += t.Count
	}
	fmt.Fprintf(c.Stdout, "The session is in %s now: %d rows, written, read back and compared. %s\nWhat is left in %s is marked as moved and refuses to start.\n",
		c.where(*to), rows, startWith(*to), c.where(*from))
	return nil
}

// look opens the chosen store and shows what is in it, as far as detail says.
func (c sessions) look(ctx context.Context, flags *flag.FlagSet, args []string, detail func(Store, transfer.Report) error) (err error) {
	name := flags.String("store", c.chosen(), "file or mongo")
	if err := parse(flags, args); err != nil {
		return err
	}
	store, err := c.open(ctx, *name, use{look: true, there: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	report, err := transfer.Check(ctx, store)
	if err != nil && !errors.As(err, new(transfer.Refusal)) {
		return &storeError{fmt.Errorf("read %s: %w", c.where(*name), err)}
	}
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Store\t%s\n", c.where(*name))
	if d := report.Device; d != nil {
		online, err := whatsapp.LastOnline(ctx, store)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "Account\t%s\nHidden number\t%s\nLinked\t%s\nLast online\t%s\n", mask.JID(d.JID), cmp.Or(mask.JID(d.LID), "unknown"), when(d.PairedAt()), when(online))
	} else {
		fmt.Fprintf(w, "Account\tnone is linked\n")
	}
	state := "can be used"
	var refusal transfer.Refusal
	if err := transfer.Usable(ctx, store); errors.As(err, &refusal) {
		state = string(refusal)
	} else if err != nil {
		return err
	} else if old, err := store.older(ctx); err != nil {
		return err
	} else if old != "" {
		state = "an older state of itself (" + old + "); the next start makes it safe"
	}
	fmt.Fprintf(w, "State\t%s\n", state)
	if err := w.Flush(); err != nil {
		return err
	}
	return detail(store, report)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.Local().Format(time.DateTime)
}

func (c sessions) list(ctx context.Context, flags *flag.FlagSet, args []string) error {
	return c.look(ctx, flags, args, func(Store, transfer.Report) error { return nil })
}

func (c sessions) show(ctx context.Context, flags *flag.FlagSet, args []string) error {
	return c.look(ctx, flags, args, func(_ Store, r transfer.Report) error { return c.counts(r) })
}

// counts prints how much there is of what.
func (c sessions) counts(r transfer.Report) error {
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w)
	for _, k := range transfer.Kinds {
		if k != transfer.KindPreKeyCount {
			fmt.Fprintf(w, "%d\t  %s\n", r.Rows[k].Count, plural(string(k), r.Rows[k].Count))
		}
	}
	return w.Flush()
}

func plural(noun string, n int) string {
	if n == 1 {
		return noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok && !strings.HasSuffix(stem, "e") {
		return stem + "ies"
	}
	return noun + "s"
}

func (c sessions) verify(ctx context.Context, flags *flag.FlagSet, args []string) error {
	return c.look(ctx, flags, args, func(s Store, r transfer.Report) error {
		if err := c.counts(r); err != nil {
			return err
		}
		wrong, err := s.Problems(ctx)
		if err != nil {
			return err
		}
		wrong = append(r.Wrong, wrong...)
		if len(wrong) == 0 {
			fmt.Fprintln(c.Stdout, "\nEverything can be read, and nothing is missing that something else needs.")
			return nil
		}
		fmt.Fprintf(c.Stdout, "\nWrong:\n  %s\n", strings.Join(wrong, "\n  "))
		return &storeError{fmt.Errorf("%d %s wrong with the store", len(wrong), map[bool]string{true: "thing is", false: "things are"}[len(wrong) == 1])}
	})
}

func (c sessions) delete(ctx context.Context, flags *flag.FlagSet, args []string) (err error) {
	name := flags.String("store", c.chosen(), "file or mongo")
	yes := flags.Bool("yes", false, "do not ask")
	if err := parse(flags, args); err != nil {
		return err
	}
	store, ctx, give, err := c.take(ctx, *name, use{there: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	if !*yes {
		report, err := transfer.Check(ctx, store)
		if err != nil {
			return fmt.Errorf("look at what is to be deleted (--yes deletes it unseen): %w", err)
		}
		what := "no device"
		if report.Device != nil {
			what = "the device " + mask.JID(report.Device.JID)
		}
		fmt.Fprintf(c.Stdout, "This deletes %s and the history of all chats (%d %s) from %s, for good.\nType yes to delete: ",
			what, report.Rows[transfer.KindTurn].Count, plural("turn", report.Rows[transfer.KindTurn].Count), c.where(*name))
		if answer := c.answer(); answer != "yes" {
			return &configError{errors.New("nothing was deleted; answer yes, or give --yes")}
		}
	}
	if err := transfer.Forget(ctx, store); err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, "Deleted. If the phone still shows the device under Linked devices and it lives in no other store, log it out there.\n")
	return nil
}

// answer is a line from whoever is asked.
func (c sessions) answer() string {
	if c.Stdin == nil {
		return ""
	}
	line, err := bufio.NewReader(c.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return strings.TrimSpace(line)
}

// ownSession refuses a store whose session lives elsewhere now. Where the store is empty and the one
// that the settings do not choose holds a device, it says so, and how to bring it over.
func ownSession(ctx context.Context, p Process, cfg config.Store, store Store, log *slog.Logger) error {
	if err := transfer.Usable(ctx, store); errors.As(err, new(transfer.Refusal)) {
		return &configError{err}
	} else if err != nil {
		return err
	}
	if devices, err := store.Devices().GetAllDevices(ctx); err != nil || len(devices) > 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	here, there := transfer.File, transfer.Mongo
	var has bool
	var moved []byte
	var err error
	switch {
	case cfg.Mongo:
		here, there = there, here
		has, moved, err = sqlitestore.Peek(ctx, cfg.SessionDir, transfer.MarkMoved)
	case cfg.MongoURL.Reveal() != "":
		has, moved, err = mongostore.Peek(ctx, mongostore.Options{URL: cfg.MongoURL.Reveal(), Timeout: closing}, transfer.MarkMoved)
	}
	if err != nil {
		log.Debug("the store that is not in use cannot be looked into", "store", there, "err", err)
	}
	setting := map[string]string{transfer.File: "SESSION_DIR", transfer.Mongo: "MONGO_URL"}[here]
	switch {
	case has && moved != nil:
		fmt.Fprintf(p.Stdout, "No device is linked in the %s store. The %s store's was moved to a %s store: if it was not unlinked or deleted since, check that %s still names that one before you link anew.\n",
			here, there, here, setting)
	case has:
		fmt.Fprintf(p.Stdout, "No device is linked in the %s store, but the %s store, which MONGO_ENABLED does not choose, holds one. To go on with it without a new QR code, stop wabot and run\n  wabot session copy --from %s --to %s\n",
			here, there, there, here)
	}
	return nil
}
