package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"wabot/internal/budget"
	"wabot/internal/config"
	"wabot/internal/mask"
	"wabot/internal/web"
	"wabot/internal/whatsapp"
)

// site is the page of the process: what it shows, kept as the parts tell of it. It is there from
// the opening of the store until the end.
type site struct {
	web     *web.Site // nil where the page is off
	log     *slog.Logger
	metrics *metrics
	fixed   web.Status // what does not change

	mu    sync.Mutex
	role  web.State // Opening, Standby, or Starting: then link tells the state
	since time.Time // of role
	other string    // who drives the device, as Standby
	link  whatsapp.State
	model web.Model
	// ledger knows what is spent, nil where that is not shown or this process does not know it.
	ledger *budget.Ledger

	// asking guards what follows: one question to the store at a time, however many ask us.
	asking sync.Mutex
	store  Store // nil while it is not open
	asked  time.Time
	depth  int
	oldest time.Time
	down   string
	wrote  time.Time // when a write was last seen to succeed
	// vitals are asked for more seldom.
	vitals   vitals
	vitalsAt time.Time
	trails   []web.Message // newest first
	trailsAt time.Time
}

const (
	// fresh is how long the store's last answer stands for the next.
	fresh = time.Second
	// answering is how long the store may take to be called up.
	answering = 2 * time.Second
	// freshVitals is how long vitals stand.
	freshVitals = 30 * time.Second
	// noteWrites is written to see whether the store takes writes again.
	noteWrites = "app.writes"
)

func newSite(cfg config.Config, log *slog.Logger) *site {
	kept := "files in " + cfg.Store.SessionDir
	if cfg.Store.Mongo {
		kept = "MongoDB"
	}
	var names []string
	for _, m := range cfg.Models {
		names = append(names, m.Name)
	}
	now := time.Now()
	s := &site{
		log:     log,
		metrics: newMetrics(names...),
		fixed:   web.Status{Store: kept, Started: now, Waiting: -1},
		role:    web.Opening,
		since:   now,
		model:   web.Model{Name: cfg.DefaultModel().Model},
	}
	if cfg.HTTP.Addr != "" {
		s.web = web.New(web.Options{
			Addr: cfg.HTTP.Addr, Token: cfg.HTTP.Token.Reveal(), Status: s.status, Messages: s.messages, Collectors: append(s.metrics.collectors(), vitalsCollector{s.measure}), Log: log,
		})
	}
	return s
}

// start serves the page until stop is called, which waits for its end: longer than ctx lasts, so
// that the page tells of the drain too.
func (s *site) start(ctx context.Context) (stop func()) {
	if s.web == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.web.Run(ctx); err != nil {
			s.log.Error("the page has ended", "err", err)
		}
	}()
	return func() { cancel(); <-done }
}

// opened tells that the store is open.
func (s *site) opened(store Store) {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.store = store
	if b, ok := store.(interface{ BrokenSessions() int64 }); ok {
		count := b.BrokenSessions
		s.metrics.broken.Store(&count)
	}
}

// become tells of another role.
func (s *site) become(role web.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if role == web.Starting {
		s.link = whatsapp.State{Phase: whatsapp.Starting, Since: time.Now()}
	}
	if role != s.role {
		s.role, s.since, s.ledger = role, time.Now(), nil
	}
}

// standby tells that another process drives the device; leader names it, or is empty where that is not known yet.
func (s *site) standby(leader string) {
	s.become(web.Standby)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.other = leader
}

// show takes a state of the link.
func (s *site) show(st whatsapp.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = st
}

// answered tells that the model answered, or failed with err.
func (s *site) answered(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.model.Answered = time.Now()
		return
	}
	s.model.Failed, s.model.Failure = time.Now(), mask.Text(err.Error())
}

// status is how the bot is now.
func (s *site) status(ctx context.Context) web.Status {
	st := s.fixed
	st.Waiting, st.Oldest, st.StoreDown = s.inbox(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	st.State, st.Since, st.Model = s.role, s.since, s.model
	st.Spent = spent(s.ledger)
	st.Versions = []web.Version{{Part: "wabot", Version: version()}}
	if s.role == web.Standby && s.other != "" {
		st.Reason, st.Next = "this device is driven by "+s.other, "this wabot takes over when that one stops"
	}
	if s.role != web.Starting {
		return st
	}
	l := s.link
	st.State, st.Reason, st.Next, st.Since = web.State(l.Phase), l.Reason, l.Next, l.Since
	st.QR, st.Code, st.Expires = l.QR, l.Code, l.Expires
	st.Account, st.PhoneSeen = mask.JID(l.Account), l.PhoneSeen
	if l.WebVersion != "" {
		st.Versions = append(st.Versions, web.Version{Part: "WhatsApp Web", Version: l.WebVersion, At: l.WebVersionAt})
	}
	return st
}

// inbox asks the store for the messages that wait, -1 where it does not say, and why not. A store that has failed has
// to take a write too.
func (s *site) inbox(ctx context.Context) (depth int, oldest time.Time, down string) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.store == nil {
		return -1, time.Time{}, ""
	}
	if time.Since(s.asked) < fresh {
		return s.depth, s.oldest, s.down
	}
	// Whoever asked may be gone before the answer; it is for the next one too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answering)
	defer cancel()
	n, err := s.store.Depth(ctx)
	if err == nil && n > 0 {
		oldest, err = s.store.Oldest(ctx)
	}
	if err == nil {
		err = s.write(ctx)
	}
	s.depth, s.oldest, s.down, s.asked = n, oldest, "", time.Now()
	if err != nil {
		s.depth, s.oldest, s.down = -1, time.Time{}, mask.Text(err.Error())
	}
	return s.depth, s.oldest, s.down
}

// write sees whether the store takes writes, as far as that is not known: a full disk can still be read. Only the process
// that leads may write; another knows whether it could write that it leads.
func (s *site) write(ctx context.Context) error {
	s.mu.Lock()
	leading := s.role == web.Starting
	s.mu.Unlock()
	if !leading {
		return s.store.Untaken()
	}
	if !s.metrics.suspect.Load() && time.Since(s.wrote) < freshVitals {
		return nil
	}
	if err := s.store.SetNote(ctx, noteWrites, []byte(time.Now().UTC().Format(time.RFC3339))); err != nil {
		s.metrics.suspect.Store(true)
		return err
	}
	s.metrics.suspect.Store(false)
	s.wrote = time.Now()
	return nil
}

// measure asks the store for its vitals; false where it does not say.
func (s *site) measure() (vitals, bool) {
	s.asking.Lock()
	defer s.asking.Unlock()
	if s.store == nil {
		return vitals{}, false
	}
	if time.Since(s.vitalsAt) < freshVitals {
		return s.vitals, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), answering)
	defer cancel()
	v, err := s.store.vitals(ctx)
	if err != nil {
		return vitals{}, false
	}
	s.vitals, s.vitalsAt = v, time.Now()
	return v, true
}
