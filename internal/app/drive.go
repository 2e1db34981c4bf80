package app

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"wabot/internal/bot"
	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/inbox"
	"wabot/internal/media"
	"wabot/internal/model"
	"wabot/internal/retention"
	"wabot/internal/trail"
	"wabot/internal/whatsapp"
)

// driver drives the device and answers messages, while this process leads.
type driver struct {
	Process
	cfg    config.Config
	store  Store
	screen *screen
	site   *site
	begun  func() // is told that the link to WhatsApp is seen to do something
	log    *slog.Logger
	online atomic.Bool // at some time of this tenure

	// The parts call each other. run makes them all before the first runs.
	models   *model.Catalog
	ledger   *budget.Ledger
	recorder *trail.Recorder
	tenant   *tenant
	box      *inbox.Inbox
	wa       *whatsapp.Client
	bot      *bot.Bot
}

func (d *driver) run(ctx context.Context) error {
	d.models = newCatalog(d.cfg, d.log)
	d.ledger = newLedger(d.cfg, d.store, d.models, d.site)
	d.site.counts(d.cfg, d.ledger)
	d.recorder = trail.NewRecorder(d.store, d.log)
	d.tenant = &tenant{notes: d.store, log: d.log, forget: d.forget}
	o := botOptions(d.cfg, d.models, d.store, d.log)
	d.box = d.newInbox(o.Rules)
	d.wa = d.newClient()
	d.bot = d.newBot(o)
	sweeper := retention.New(retention.Options{Store: d.store, Heard: d.box.ForgetHeard, Age: d.cfg.Store.Retention, Zone: d.cfg.Spend.Zone, Log: d.log})
	for _, name := range o.Rules.Shadowed() {
		d.log.Warn("a command in chat cannot be used, because a model has it as its prefix", "command", name)
	}

	// Sending outlives answering, and leading outlives sending: whoever is used last stops last.
	g, ctx := errgroup.WithContext(ctx)
	online, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	leading, resign := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer resign()
		err := d.wa.Run(online)
		if err != nil && !errors.As(err, new(*whatsapp.EndError)) {
			err = &storeError{err}
		}
		return err
	})
	g.Go(func() error { defer hangUp(); return d.box.Run(ctx, d.bot.Answer) })
	g.Go(func() error { return d.models.Run(ctx) })
	g.Go(func() error { return d.bot.Run(ctx) })
	g.Go(func() error { return d.bot.Warn(ctx, d.wa) })
	g.Go(func() error { return sweeper.Run(ctx) })
	g.Go(func() error { return d.recorder.Run(leading) })
	g.Go(func() error { rest(ctx, d.wa); return nil })
	g.Go(func() error { return d.giveWay(ctx) })
	g.Go(func() error {
		err := d.store.Hold(leading)
		if err != nil {
			hangUp() // at once: another may connect
			d.site.standby("")
		}
		return err
	})
	return g.Wait()
}

// errCut says that another process should drive the device, as this one cannot.
var errCut = errors.New("WhatsApp cannot be reached from here, and another process waits")

const (
	// cut is for how long WhatsApp cannot be reached before this process looks whether another waits: turns in flight still have time to
	// end, and the other to log in, within the 15 seconds of a takeover.
	cut = 6 * time.Second
	// The pause in which others go first doubles up to mostPause, while WhatsApp stays out of reach: two that are both cut off would hand
	// the device to and fro without it. At first it has ended by the time that the other could have found itself cut off too.
	leastPause = cut
	mostPause  = time.Minute
)

// nextPause follows last, zero where there was none, after a tenure in which the link was up at some time or never.
func nextPause(last time.Duration, online bool) time.Duration {
	if online || last == 0 {
		return leastPause
	}
	return min(2*last, mostPause)
}

// giveWay returns errCut when WhatsApp cannot be reached and another process waits to drive the device, and nil when ctx is done.
func (d *driver) giveWay(ctx context.Context) error {
	for d.wa.WaitCut(ctx, cut) == nil {
		if d.store.Awaited(ctx) && !d.wa.State().Cut.IsZero() {
			return errCut
		}
	}
	return nil
}

func (d *driver) newInbox(rules bot.Rules) *inbox.Inbox {
	return inbox.New(watchedStore{d.store, d.site.metrics}, inbox.Options{
		Ended:    d.ended,
		Ready:    d.ready,
		GiveUp:   func(ctx context.Context, t chat.Turn, cause error) error { return d.bot.GiveUp(ctx, t, cause) },
		Debounce: d.cfg.Chat.Debounce,
		Closes:   rules.Closes,
		Holds:    func(chatJID string, lasts time.Duration) { d.wa.Expect(chatJID, lasts) },
		Said:     d.now,
		Lease:    turnTime(d.cfg),
		History:  d.cfg.Model.History,
	}, d.log)
}

func (d *driver) ended(o inbox.Outcome, waited time.Duration) {
	d.site.metrics.turn(o, waited)
	if d.Ended != nil && (o == inbox.Answered || o == inbox.Apologized || o == inbox.GivenUp) {
		d.Ended()
	}
}

func (d *driver) newClient() *whatsapp.Client {
	return whatsapp.New(whatsapp.Options{
		Devices:   d.store.Devices(),
		Notes:     d.store,
		Receive:   d.receive,
		Sync:      d.store.Sync,
		Marks:     func(all []chat.Mark) { d.recorder.Add(all...) },
		Composes:  d.box.Typing,
		Show:      d.show,
		PairPhone: d.cfg.WhatsApp.PairPhone,
		HTTP:      d.WhatsApp,
		TempDir:   tempDir(d.cfg.Store.SessionDir),
		Count:     d.site.metrics.event,
		Delivered: func(after time.Duration) { d.site.metrics.delivered.Observe(after.Seconds()) },
		Watch:     d.site.metrics.watch(),
		Version:   version(),
		Log:       d.log,
	})
}

func (d *driver) newBot(o bot.Options) *bot.Bot {
	meter := budget.Meter{Ledger: d.ledger, Log: d.log}
	o.Now, o.Status = d.now, d.status
	o.Model = budget.Texts{Of: watchedModel{d.models, d.site}.Complete, Meter: meter}
	o.Painter, o.Uploader = budget.Pictures{Of: watchedPainter{d.models, d.site}.Image, Meter: meter}, d.wa
	o.Turns, o.WA = d.box, watchedSender{d.wa, d.site.metrics}
	o.Fetcher, o.Opener = d.wa, d.reader()
	if t := d.cfg.Media.Transcribe; t.On == config.SwitchOn {
		o.Ears = budget.Ears{Of: watchedEars{newSpeech(d.cfg, t, d.log), d.site}.Transcribe, Model: t.Model, Lasts: media.Duration, Meter: meter}
	}
	if s := d.cfg.Media.Speech; s.On == config.SwitchOn {
		o.Mouth = budget.Mouth{Of: watchedMouth{newSpeech(d.cfg, s, d.log), d.site}.Speak, Model: s.Model, Meter: meter}
		o.VoiceReply, o.VoiceUploader, o.Voice = bot.VoiceReply(d.cfg.Media.VoiceReply), d.wa, d.cfg.Media.Voice
	}
	o.Ledger, o.Rates = d.ledger, budget.NewPace(ratesOf(d.cfg.Spend.PersonRate), ratesOf(d.cfg.Spend.ChatRate), nil)
	o.Gated = func(m chat.Mark) { d.recorder.Add(m) }
	return bot.New(o)
}

func (d *driver) now() time.Time { return d.wa.Now() }

// ready returns when a turn can be answered.
func (d *driver) ready(ctx context.Context) error {
	if err := d.wa.WaitOnline(ctx); err != nil {
		return err
	}
	if err := d.models.Ready(ctx); err != nil {
		return err
	}
	if err := d.tenant.settle(ctx, d.wa.State().Account); err != nil {
		return err
	}
	if !d.ledger.Loaded() {
		d.ledger.Rouse() // so that what is spent is known before the first question
	}
	return nil
}

// forget removes what is there of an account, for the next one.
func (d *driver) forget(ctx context.Context) error {
	err := d.box.Forget(ctx)
	if err == nil {
		d.ledger.Forget()
	}
	return err
}

// show shows a state of the link.
func (d *driver) show(s whatsapp.State) {
	if s.Phase != whatsapp.Starting {
		d.begun()
	}
	if s.Phase == whatsapp.Online {
		d.online.Store(true)
	}
	d.site.show(s)
	d.screen.show(s)
	if d.Watch != nil {
		d.Watch(s)
	}
}

// status is what the command in chat tells.
func (d *driver) status(ctx context.Context) bot.Status {
	s := d.site.status(ctx)
	waiting := s.Waiting
	if waiting > 0 {
		waiting-- // the command itself
	}
	database := ""
	if d.cfg.Store.Mongo {
		database = s.Store
	}
	return bot.Status{Version: version(), Online: s.Since, Database: database, Waiting: waiting}
}

// receive takes a message that came in, and counts it.
func (d *driver) receive(ctx context.Context, m chat.Message) error {
	became, err := take(ctx, m, d.bot, d.box, func() error { return d.tenant.moveIn(ctx, d.wa.State().Account) })
	if err != nil {
		became = failed
	}
	d.site.metrics.message(became)
	return err
}

// take stores a message that came in, to be answered or as what its group's next turn should know of, and tells what became of it. moveIn
// makes the inbox that of the account. An error means: the message is to come again.
func take(ctx context.Context, m chat.Message, b *bot.Bot, box *inbox.Inbox, moveIn func() error) (became string, err error) {
	if err := moveIn(); err != nil {
		return "", err
	}
	known, err := b.Known(ctx, m)
	if err != nil {
		return "", err
	}
	said := m
	admitted := known
	if !known {
		m = bot.Edited(m)
		if admitted, err = b.Admit(ctx, m); err != nil {
			return "", err
		}
	}
	if admitted && !known && !b.Welcome(m) {
		return ignored, nil
	}
	if admitted && !known && said.Change != nil {
		// What was heard has become a question, and is told as that alone.
		gone := *said.Change
		gone.Revoke, said.Change = true, &gone
		if err := box.Hear(ctx, said); err != nil {
			return "", err
		}
	}
	if admitted {
		err := box.Put(ctx, m)
		if err == nil {
			b.Stored(m)
		}
		return stored, err
	}
	if err := b.Notice(ctx, said); err != nil {
		return ignored, err
	}
	if hears, err := b.Hears(ctx, said); err != nil || !hears {
		return ignored, err
	}
	return ignored, box.Hear(ctx, said)
}

// rest gives the memory back that the start needed and that a bot which mostly waits does not, a moment after the link is up.
func rest(ctx context.Context, wa *whatsapp.Client) {
	if wa.WaitOnline(ctx) != nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
		debug.FreeOSMemory()
	}
}
