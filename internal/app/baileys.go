package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"wabot/internal/baileys"
	"wabot/internal/mask"
	"wabot/internal/transfer"
)

// importBaileys makes the session of a bot on Baileys ours.
func (c sessions) importBaileys(ctx context.Context, flags *flag.FlagSet, args []string) (err error) {
	folder := flags.String("folder", "", "the folder that the bot keeps its session in")
	var o baileys.Options
	flags.StringVar(&o.URL, "mongo-url", "", "the MongoDB that the bot keeps its session in; MONGO_URL for the one in the settings")
	flags.StringVar(&o.Database, "database", "", "its database")
	flags.StringVar(&o.Collection, "collection", baileys.DefaultCollection, "its collection")
	flags.StringVar(&o.Session, "session", "", "which session, where the collection holds several")
	name := flags.String("store", c.chosen(), "the store to put it into")
	dry := flags.Bool("dry-run", false, "say what is found and would be done, and do nothing")
	undo := flags.Bool("undo", false, "give the session back, as long as wabot has not used it")
	if err := parse(flags, args); err != nil {
		return err
	}
	if (*folder == "") == (o.URL == "") || *dry && *undo {
		return &configError{errors.New("session import-baileys: say where the bot's session is, with --folder DIR or with --mongo-url URL")}
	}
	if o.URL == "MONGO_URL" { // a password has no place on a command line
		o.URL = c.cfg.MongoURL.Reveal()
	}
	source := baileys.Folder(*folder)
	if o.URL != "" {
		if source, err = baileys.Mongo(ctx, o); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	switch {
	case *undo:
		return c.giveBack(ctx, source, *name)
	case *dry:
		return c.wouldImport(ctx, source, *name)
	}
	session, err := source.Load(ctx)
	if err != nil {
		return err
	}
	target, ctx, give, err := c.take(ctx, *name, use{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	if _, err := transfer.Import(ctx, source, transfer.End{Name: *name, Store: target}); err != nil {
		return withLoss(ctx, err)
	}
	if err := c.found(source, session); err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, `
Taken over into %s: written, read back and compared. %s
In %s the session is marked as moved, and the bot on Baileys would show a QR code: do not scan it.
To go back to that bot instead, before wabot has run: the same command with --undo. After that the old session is out of date.
`, c.where(*name), startWith(*name), source.Name())
	return nil
}

// found prints what is in the session.
func (c sessions) found(source *baileys.Source, session baileys.Session) error {
	device := session.Rows[0].(transfer.Device)
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Session\t%s\nAccount\t%s\nLinked\t%s\n\n", source.Name(), mask.JID(device.JID), when(device.PairedAt()))
	if err := w.Flush(); err != nil {
		return err
	}
	w = tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	left := false
	for _, n := range session.Counts {
		fmt.Fprintf(w, "%d\t  %s\n", n.Taken, plural(n.What, n.Taken))
		for _, why := range slices.Sorted(maps.Keys(n.Left)) {
			left = true
			fmt.Fprintf(w, "\t    %d left out: %s\n", n.Left[why], why)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if left {
		fmt.Fprintf(c.Stdout, "\nWhat is left out heals by itself: WhatsApp is asked for it, or for a message again, when it is next needed.\n")
	}
	return nil
}

// wouldImport says what importBaileys would do.
func (c sessions) wouldImport(ctx context.Context, source *baileys.Source, name string) (err error) {
	session, err := source.Load(ctx)
	if err != nil {
		return err
	}
	if err := c.found(source, session); err != nil {
		return err
	}
	target, err := c.open(ctx, name, use{look: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if err := transfer.CanImport(ctx, source, transfer.End{Name: name, Store: target}); err != nil {
		return fmt.Errorf("nothing was changed; without --dry-run this would be refused: %w", err)
	}
	fmt.Fprintf(c.Stdout, "\nNothing was changed. Without --dry-run, this would be put into %s and then marked as moved in %s.\nStop the bot on Baileys first.\n", c.where(name), source.Name())
	return nil
}

// giveBack undoes importBaileys.
func (c sessions) giveBack(ctx context.Context, source *baileys.Source, name string) (err error) {
	target, ctx, give, err := c.take(ctx, name, use{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	if err := transfer.GiveBack(ctx, source, transfer.End{Name: name, Store: target}); err != nil {
		return err
	}
	fmt.Fprintf(c.Stdout, "Given back: the session is in %s as before, and %s is empty.\n", source.Name(), c.where(name))
	return nil
}
