package whatsapp

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"wabot/internal/mask"
)

const (
	// firstCode and nextCode are how long WhatsApp's own client shows the first pairing QR code of a
	// connection and the ones after it.
	firstCode = 60 * time.Second
	nextCode  = 20 * time.Second
	// codeLife is how long a pairing code works: as long as the connection that it was asked on.
	codeLife = 160 * time.Second
	// rounds of codes are shown one after the other; then the pauses between them grow.
	rounds = 3
	// join is how often a paired link looks whether the server has closed the connection of the pairing, joined
	// how long that may take.
	join   = time.Second
	joined = 30 * time.Second
	// watch is how often the link is looked at, deaf how long it may be down or silent before it is set up anew.
	watch = 10 * time.Second
	deaf  = 60 * time.Second
	// againMost is the longest pause before the next try to connect.
	againMost = 30 * time.Minute
	// The pause between a message that was not taken and the reconnect that brings it again doubles from
	// regain to regainMost, while none is stored in between.
	regain     = 2 * time.Second
	regainMost = 5 * time.Minute
	// probe is how often a store is tried that failed, before the reconnect.
	probe = 5 * time.Second
	// WhatsApp unlinks the devices of a phone that is away for 14 days; after absent the log says so.
	absent = 12 * 24 * time.Hour
	// limitedFor is how long WhatsApp limits an account where it does not say until when.
	limitedFor = 24 * time.Hour
)

// Run pairs if the store has no device, connects, and keeps the link until ctx is done; then it
// disconnects, waits for the handlers under way and returns nil. A link that does not come back
// by itself is an *EndError.
func (c *Client) Run(ctx context.Context) error {
	var end *EndError
	var wait time.Duration
	err := c.outlast(ctx, func() (err error) {
		end, wait, err = c.ended(ctx, time.Now())
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	case end != nil:
		c.set(func(s *State) { s.Phase, s.Reason, s.Next = Ended, end.Reason, end.Next() })
		return end
	case wait > 0:
		c.set(func(s *State) {
			s.Phase, s.Reason = Waiting, "another copy of this session has replaced us repeatedly"
			s.Next = fmt.Sprintf("stop the other copy; wabot connects again at %s", time.Now().Add(wait).Format(time.TimeOnly))
		})
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
	err = c.outlast(ctx, func() error { return c.remember(ctx) })
	if err != nil {
		return unlessDone(ctx, err)
	}
	err = c.outlast(ctx, func() error { return c.recall(ctx) })
	if err != nil {
		return unlessDone(ctx, err)
	}
	c.removeLeftovers()
	c.refreshVersion(ctx, 24*time.Hour)
	for round := 1; ; round++ {
		var d *store.Device
		err := c.outlast(ctx, func() (err error) {
			d, err = c.device(ctx)
			return err
		})
		if err != nil {
			return unlessDone(ctx, err)
		}
		select {
		case <-c.replaced: // of a link before
		default:
		}
		linked, hangUp := context.WithCancel(ctx)
		l := &link{Client: c, wm: c.use(linked, d), events: make(chan any, 16), round: round, paired: d.ID != nil}
		l.set(func(s *State) { s.linked = l.paired })
		l.wm.AddEventHandlerWithSuccessStatus(func(evt any) bool { return l.take(linked, evt) })
		l.wm.PrePairCallback = func(types.JID, string, string) bool {
			// A device that is saved but never got online is told apart by this at its first logout.
			l.setNote(ctx, noteConnected, time.Time{})
			return true
		}
		var asking sync.WaitGroup
		asking.Go(func() { l.askAgain(linked) })
		err = l.run(linked)
		l.wm.Disconnect()
		hangUp()
		asking.Wait()
		l.handling.Lock() // for good: whatsmeow may still have events
		if !errors.Is(err, errPairAgain) {
			return err
		}
		if sleep(ctx, time.Second) != nil {
			return nil
		}
	}
}

// link is the life of one whatsmeow client: from the first connect of a device to its end.
type link struct {
	*Client
	wm *whatsmeow.Client
	// events carries the events that change the link to run, which reads them until the link's context is done.
	events chan any
	// handling is read-locked by each event handler under way, and locked once no more may begin.
	handling sync.RWMutex

	paired   bool        // the device has an account
	joining  bool        // it was paired on this connection, which the server now ends
	codes    []string    // pairing QR codes not shown yet
	first    bool        // the next code is the first of its connection
	show     *time.Timer // when the next code is due
	redial   *time.Timer // when to connect again by ourselves
	regain   *time.Timer // when to fetch again what was not taken
	regains  int         // how often that was done in a row
	failing  bool        // the store failed when it was tried last
	fetching bool        // regain runs
	warned   time.Time   // when the log said last that the phone is away
	doubted  time.Time   // when it said last that messages do not arrive
	tries    int         // connects by ourselves in a row
	round    int         // rounds of pairing codes
	down     time.Time   // since when we are not logged in, zero while we are
	silent   bool        // the last ping was not answered
	outdated bool        // the version was refused once and looked up anew

	expects map[types.JID]bool // the chats in which more is expected; nil where none is
	quietAt time.Time          // until when
	quiet   *time.Timer        // when nothing is expected any more
}

// run connects and follows the events until the link ends.
func (l *link) run(ctx context.Context) error {
	l.show, l.redial, l.regain, l.quiet = stopped(), stopped(), stopped(), stopped()
	defer l.expectNothing(context.WithoutCancel(ctx))
	defer l.quiet.Stop()
	defer l.show.Stop()
	defer l.redial.Stop()
	defer l.regain.Stop()
	tick := time.NewTicker(watch)
	defer tick.Stop()

	l.down = time.Now()
	l.connect(ctx)
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case evt := <-l.events:
			err = l.follow(ctx, evt)
		case <-l.show.C:
			l.showCode()
		case <-l.redial.C:
			// whatsmeow drops the server's request to log in (515) if the connection ends too soon after it.
			if l.joining && l.wm.IsLoggedIn() {
				// The request to log in came before the word that the pairing is done.
				l.joining = false
				continue
			}
			if l.joining && l.wm.IsConnected() && time.Since(l.down) < joined {
				l.redial.Reset(join)
				continue
			}
			l.connect(ctx)
		case <-l.refused:
			if !l.fetching {
				l.fetching = true
				wait := min(regainMost, regain<<min(l.regains, 16))
				l.regain.Reset(wait + mathrand.N(wait/4+1))
				l.regains++
			}
		case <-l.stored:
			l.regains = 0
			l.heard(ctx)
		case <-l.regain.C:
			l.fetch(ctx)
		case e := <-l.expected:
			l.expect(ctx, e)
		case <-l.quiet.C:
			l.expectNothing(ctx)
		case <-l.replaced:
			err = l.follow(ctx, &events.StreamReplaced{})
		case <-tick.C:
			l.vanished(ctx, time.Now())
			l.unconfirmed(time.Now())
			l.look(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// fetch connects anew, because the server gives a message that was not taken again on the next connection
// only. While the store fails that would be in vain, and is put off.
func (l *link) fetch(ctx context.Context) {
	if err := l.storeWorks(ctx); err != nil {
		if !l.failing {
			l.Log.Warn("the store does not work yet; WhatsApp keeps what was not taken", "err", err)
		}
		l.failing = true
		l.regain.Reset(probe)
		return
	}
	if l.failing {
		l.Log.Info("the store works again; fetching what was not taken")
		l.failing, l.regains = false, 0
	}
	l.fetching = false
	l.wm.ResetConnection()
}

// storeWorks tries the store with a small write.
func (c *Client) storeWorks(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probe)
	defer cancel()
	return c.Notes.SetNote(ctx, noteProbe, []byte(time.Now().UTC().Format(time.RFC3339)))
}

// outlast calls do until it fails through no outage of the store, or ctx ends. An outage is told apart by
// being like a canceled context, as it has to be for whatsmeow.
func (c *Client) outlast(ctx context.Context, do func() error) error {
	for pause := regain; ; pause = min(2*pause, 30*time.Second) {
		err := do()
		if ctx.Err() != nil || !errors.Is(err, context.Canceled) {
			return err
		}
		c.Log.Warn("the store does not answer; trying again", "err", err)
		if sleep(ctx, pause) != nil {
			return err
		}
	}
}

// unlessDone is err, or nil where ctx is done: then it is what a stop looks like.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// connect opens the connection. What fails is tried again: by whatsmeow for a paired device that cannot
// reach the server, by us otherwise.
func (l *link) connect(ctx context.Context) {
	l.redial.Stop()
	if l.joining {
		l.joining = false
		l.wm.Disconnect()
	}
	if l.paired {
		l.set(func(s *State) { s.Phase, s.Reason, s.Next, s.refused = Connecting, "", "", false })
	}
	l.first = true
	err := l.wm.ConnectContext(ctx)
	if err == nil || errors.Is(err, whatsmeow.ErrAlreadyConnected) || ctx.Err() != nil {
		return
	}
	l.Log.Warn("connect to WhatsApp", "err", mask.Text(err.Error()))
	l.again()
}

// again connects later, the wait doubling from two seconds up to againMost.
func (l *link) again() {
	wait := min(againMost, 2*time.Second<<min(l.tries, 16))
	wait += mathrand.N(wait/4 + 1)
	l.tries++
	l.redial.Reset(wait)
	l.set(func(s *State) {
		s.Phase, s.Reason = Waiting, "WhatsApp cannot be reached or did not let us in"
		s.Next = fmt.Sprintf("wabot tries again at %s", time.Now().Add(wait).Format(time.TimeOnly))
	})
}

// look mends a link that is down without anyone working on it, or up and deaf.
func (l *link) look(ctx context.Context) {
	phase := l.State().Phase
	if !l.paired || phase == Waiting { // redial is set
		return
	}
	if seen := l.State().PhoneSeen; !seen.IsZero() && time.Since(seen) > absent && time.Since(l.warned) > 24*time.Hour {
		l.warned = time.Now()
		l.Log.Error("the phone has not been seen for long; WhatsApp unlinks its devices after 14 days: open WhatsApp on the phone", "last", seen.Format(time.RFC3339))
	}
	if l.wm.IsLoggedIn() && l.wm.IsConnected() {
		l.down = time.Time{}
		l.set(func(s *State) {
			if phase == Connecting && !l.silent {
				// The word that an earlier connection broke came after the login of this one.
				s.Phase = Online
			}
			s.refresh(time.Now())
		})
		return
	}
	if l.down.IsZero() {
		l.down = time.Now()
	}
	patience := deaf
	if phase == Online && l.wm.IsConnected() {
		// The word that an earlier connection ends came after the login of this one: nobody works on it.
		patience = watch / 2
	}
	if time.Since(l.down) < patience {
		return
	}
	l.Log.Warn("not logged in for too long; connecting anew", "since", l.down.Format(time.RFC3339))
	l.down = time.Now()
	l.wm.Disconnect()
	l.connect(ctx)
}

// heard ends the silence of a connection. A message that comes in may tell of that half a minute before the next ping does.
func (l *link) heard(ctx context.Context) {
	if !l.silent {
		return
	}
	l.Log.Info("WhatsApp is heard again")
	l.silent = false
	l.look(ctx)
}

// follow acts on an event that changes the link.
func (l *link) follow(ctx context.Context, evt any) error {
	switch evt := evt.(type) {
	case *events.QR:
		l.codes = evt.Codes
		if l.PairPhone != "" {
			l.pairByCode(ctx)
		} else {
			l.showCode()
		}
	case *events.PairSuccess:
		l.show.Stop()
		l.codes, l.paired, l.joining = nil, true, true
		l.identify(l.wm.Store)
		l.Log.Info("paired; connecting as the new device", "account", mask.JID(evt.ID.String()))
		l.set(func(s *State) {
			s.Phase, s.Reason, s.Next, s.QR, s.Code, s.Expires, s.Limited = Connecting, "", "", "", "", time.Time{}, time.Time{}
		})
		l.setNote(ctx, noteLimited, time.Time{}) // of an earlier account
		l.down = time.Now()
		l.redial.Reset(join)
	case *events.ManualLoginReconnect:
		l.joining = true
		l.connect(ctx)
	case *events.PairError:
		l.Log.Error("pairing failed; starting over with a new code", "err", mask.Text(evt.Error.Error()))
		return errPairAgain
	case *events.PairPasskeyRequest:
		l.set(func(s *State) {
			s.Reason = "this account asks for a passkey, which only a browser can give"
			s.Next = "turn the passkey off in WhatsApp's settings on the phone (Account, Passkeys), then scan a new code"
		})
	case *events.PairPasskeyConfirmation:
		// It follows an answer to the request, which wabot cannot give.
		l.Log.Warn("WhatsApp asks to confirm a passkey that wabot did not send")
	case *events.PairPasskeyError:
		l.Log.Warn("passkey step of the pairing failed", "err", evt.Error)
	case *events.QRScannedWithoutMultidevice:
		l.set(func(s *State) {
			s.Reason = "the phone that scanned has linked devices turned off"
			s.Next = "update WhatsApp on the phone and scan again"
		})
	case *events.Connected:
		l.learnTime()
		l.connected(ctx)
	case *events.Disconnected:
		l.count(Dropped)
		l.down = time.Now()
		if !l.paired {
			l.pause()
			return nil
		}
		l.set(func(s *State) {
			if s.Phase == Waiting {
				return // it says when and why
			}
			s.Phase, s.Reason, s.Next = Connecting, "the connection to WhatsApp broke", "wabot connects again by itself"
		})
	case *events.KeepAliveTimeout:
		l.silent = true
		l.set(func(s *State) {
			if s.Phase == Online {
				s.Phase, s.Reason, s.Next = Connecting, "WhatsApp does not answer pings", "wabot connects anew if that lasts"
			}
		})
		if time.Since(evt.LastSuccess) > deaf {
			l.Log.Warn("no answer to pings; connecting anew", "since", evt.LastSuccess.Format(time.RFC3339))
			l.wm.ResetConnection()
		}
	case *events.KeepAliveRestored:
		l.heard(ctx)
	case *events.StreamError:
		l.Log.Warn("WhatsApp closed the stream with an unknown code", "code", evt.Code)
		l.down = time.Now()
	case *events.ClientOutdated:
		if !l.outdated {
			l.outdated = true
			l.Log.Warn("WhatsApp refuses our version; looking up the newest")
			l.refreshVersion(ctx, 0)
			l.wm.Disconnect()
			l.connect(ctx)
			return nil
		}
		return l.end(ctx, EndError{End: Outdated, Reason: "WhatsApp refuses this version of wabot", At: time.Now()})
	case *events.StreamReplaced:
		return l.end(ctx, EndError{End: Replaced, Reason: "another process connected with a copy of this session", At: time.Now()})
	case *events.TemporaryBan:
		now := time.Now()
		expire := evt.Expire
		if expire <= 0 {
			expire = 24 * time.Hour
		}
		return l.end(ctx, EndError{End: Banned, Reason: "WhatsApp has banned this account for a time (" + evt.Code.String() + ")", At: now, Until: now.Add(expire + time.Minute)})
	case *events.LoggedOut:
		return l.loggedOut(ctx, evt)
	case *events.ConnectFailure:
		l.Log.Error("WhatsApp refuses the connection for a reason that is not known; trying again slowly", "reason", evt.Reason.String())
		l.again()
		l.set(func(s *State) { s.refused = true })
	}
	return nil
}

// loggedOut ends the link. A device that never was online had only half finished its pairing: it is
// paired again.
func (l *link) loggedOut(ctx context.Context, evt *events.LoggedOut) error {
	if err := l.outlast(ctx, func() error { return l.forget(context.WithoutCancel(ctx)) }); err != nil {
		return unlessDone(ctx, err)
	}
	var connected time.Time
	if ok, err := l.note(ctx, noteConnected, &connected); err == nil && ok && connected.IsZero() {
		l.Log.Warn("WhatsApp does not know the device whose pairing was cut off; pairing anew")
		return errPairAgain
	}
	e := EndError{End: LoggedOut, Reason: "this device was unlinked, on the phone or by WhatsApp", At: time.Now()}
	if evt.OnConnect && evt.Reason != events.ConnectFailureLoggedOut {
		e.End, e.Reason = Locked, "WhatsApp has locked the account or unlinked all its devices ("+evt.Reason.String()+")"
	}
	return l.end(ctx, e)
}

// connected takes note of a login that went through.
func (l *link) connected(ctx context.Context) {
	l.count(LoggedIn)
	l.tries, l.outdated, l.silent, l.down = 0, false, false, time.Time{}
	l.identify(l.wm.Store)
	if l.State().Phase != Online {
		l.setNote(ctx, noteConnected, time.Now())
	}
	l.clearEnd(ctx)
	l.mu.Lock()
	busy := l.busy > 0
	clear(l.unreachable)
	l.mu.Unlock()
	l.present(ctx, busy)
	l.set(func(s *State) {
		s.Phase, s.linked, s.refused = Online, true, false
		s.refresh(time.Now())
	})
}

// showCode shows the next pairing QR code, or ends the round when there is none left.
func (l *link) showCode() {
	if len(l.codes) == 0 {
		l.wm.Disconnect()
		l.pause()
		return
	}
	life := nextCode
	if l.first {
		life, l.first = firstCode, false
	}
	code := l.codes[0]
	l.codes = l.codes[1:]
	l.show.Reset(life)
	l.set(func(s *State) {
		s.Phase, s.Reason = Pairing, "not linked to an account yet"
		s.Next = "on the phone: WhatsApp, Settings, Linked devices, Link a device; then point it at the code"
		s.QR, s.Code, s.Expires = code, "", time.Now().Add(life)
	})
}

// pairByCode asks for a pairing code and shows it.
func (l *link) pairByCode(ctx context.Context) {
	code, err := l.wm.PairPhone(ctx, l.PairPhone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		l.Log.Error("ask WhatsApp for a pairing code: is PAIR_PHONE the account's number, with its country code?", "err", mask.Text(err.Error()))
		l.wm.Disconnect()
		l.again()
		return
	}
	l.codes = nil
	l.show.Reset(codeLife)
	l.set(func(s *State) {
		s.Phase, s.Reason = Pairing, "not linked to an account yet"
		s.Next = "on the phone: WhatsApp, Settings, Linked devices, Link a device, Link with phone number instead; then type the code"
		s.QR, s.Code, s.Expires = "", code, time.Now().Add(codeLife)
	})
}

// pause ends a round of codes that nobody used. The first rounds follow at once, the later ones after
// growing pauses, so that a log is not flooded.
func (l *link) pause() {
	l.show.Stop()
	l.codes = nil
	if l.State().Phase != Pairing {
		l.again()
		return
	}
	var wait time.Duration
	if l.round >= rounds {
		wait = min(time.Hour, time.Minute<<min(l.round-rounds, 10))
	}
	l.round++
	l.redial.Reset(wait)
	l.set(func(s *State) {
		s.QR, s.Code, s.Expires = "", "", time.Time{}
		if wait > 0 {
			s.Phase, s.Reason = Pairing, "nobody has scanned the code"
			s.Next = fmt.Sprintf("the next code is shown at %s; restart wabot to have one at once", time.Now().Add(wait).Format(time.TimeOnly))
		}
	})
}
