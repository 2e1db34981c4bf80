package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/mask"
	"wabot/internal/transfer"
	"wabot/internal/whatsapp"
)

const logoutUsage = `wabot logout unlinks the device from WhatsApp and deletes its keys; it asks first. The chats and their history are kept for the
same account to be linked again. Stop wabot first.

  --yes    do not ask
`

// unlinking is how long logout tries to reach WhatsApp.
const unlinking = time.Minute

// logout unlinks the device at WhatsApp and deletes it from the store. The chats stay.
func logout(ctx context.Context, p Process, args []string) (err error) {
	flags := flag.NewFlagSet("wabot logout", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	yes := flags.Bool("yes", false, "do not ask")
	if err := parse(flags, args); err != nil {
		return err
	}
	cfg, err := storeSettings(p)
	if err != nil {
		return err
	}
	log := newLogger(p.Stderr, cfg.Log)
	c := sessions{p, cfg.Store, cfg.Backup, log}
	store, ctx, give, err := c.take(ctx, c.chosen(), use{there: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, give()) }()
	if err := transfer.Usable(ctx, store); errors.As(err, new(transfer.Refusal)) {
		return &configError{err}
	} else if err != nil {
		return err
	}
	devices, err := store.Devices().GetAllDevices(ctx)
	if err != nil {
		return err
	}
	if len(devices) == 0 {
		return &configError{fmt.Errorf("%s holds no linked device: there is nothing to log out", c.where(c.chosen()))}
	}
	account := mask.JID(devices[0].GetJID().String())
	if !*yes {
		fmt.Fprintf(p.Stdout, "This unlinks %s from WhatsApp; to use it again it has to be linked anew.\nType yes to log out: ", account)
		if c.answer() != "yes" {
			return &configError{errors.New("nothing was changed; answer yes, or give --yes")}
		}
	}
	fmt.Fprintln(p.Stdout, "Connecting to WhatsApp, for at most a minute …")
	err = unlink(ctx, p, cfg, store)
	var end *whatsapp.EndError
	switch {
	case errors.As(err, &end) && end.End == whatsapp.LoggedOut:
		fmt.Fprintf(p.Stdout, "%s was unlinked already; its keys are deleted.\n", account)
		err = nil
	case err != nil && ctx.Err() != nil:
		return withLoss(ctx, errors.New("interrupted, and the device may be unlinked or not; run wabot logout again, which ends it either way"))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, whatsapp.ErrOffline):
		return fmt.Errorf("WhatsApp could not be reached, and nothing was changed: try again, or log the device out on the phone (Linked devices) and then run wabot session delete (%w)", err)
	case err != nil:
		return err
	default:
		fmt.Fprintf(p.Stdout, "Logged out: %s is unlinked, and its keys are deleted.\n", account)
	}
	fmt.Fprintln(p.Stdout, "The chats and their history are kept for the same account to be linked again; wabot session delete deletes them too.")
	return nil
}

// unlink connects, logs out and disconnects.
func unlink(ctx context.Context, p Process, cfg config.Config, store Store) error {
	if key := cfg.WhatsApp.NoiseRootKey; key != nil {
		whatsapp.UseNoiseRootKey([32]byte(key))
	}
	wa := whatsapp.New(whatsapp.Options{
		Devices: store.Devices(),
		Notes:   store,
		// Nobody will answer it; unacknowledged, it stays with the server.
		Receive: func(context.Context, chat.Message) error { return errors.New("logging out") },
		Sync:    store.Sync,
		Show:    func(whatsapp.State) {},
		HTTP:    p.WhatsApp,
		Version: version(),
		Log:     newLogger(io.Discard, cfg.Log),
	})
	ctx, cancel := context.WithTimeout(ctx, unlinking)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	online, hangUp := context.WithCancel(ctx)
	g.Go(func() error { return wa.Run(online) })
	g.Go(func() error {
		defer hangUp()
		if err := wa.WaitOnline(ctx); err != nil {
			return err
		}
		err := wa.Logout(ctx)
		if err != nil && ctx.Err() == nil {
			// The server may have closed the connection before its answer; then Run knows better.
			select {
			case <-ctx.Done():
			case <-time.After(3 * time.Second):
			}
		}
		return err
	})
	return g.Wait()
}
