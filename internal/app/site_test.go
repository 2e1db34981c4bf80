package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"wabot/internal/bot"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/llm"
	"wabot/internal/web"
	"wabot/internal/whatsapp"
)

// depthStore is a store that counts how often it was asked for its depth.
type depthStore struct {
	Store
	asked   int
	err     error
	untaken error
}

func (d *depthStore) Untaken() error { return d.untaken }

func (d *depthStore) Depth(context.Context) (int, error) {
	d.asked++
	return 4, d.err
}

func (d *depthStore) Oldest(context.Context) (time.Time, error) { return longAgo, nil }

func (d *depthStore) vitals(context.Context) (vitals, error) { return vitals{preKeys: 800}, nil }

var longAgo = time.Now().Add(-time.Hour)

func (d *depthStore) SetNote(context.Context, string, []byte) error { return d.err }

func TestStatusFollowsTheLife(t *testing.T) {
	t.Parallel()
	s := newSite(config.Config{Store: config.Store{Mongo: true}}, slog.New(slog.DiscardHandler))
	is := func(state web.State, waiting int, codes ...web.Code) {
		t.Helper()
		st := s.status(t.Context())
		if st.State != state || st.Waiting != waiting || !slices.Equal(st.Codes(), codes) || st.Since.IsZero() || st.Store != "MongoDB" {
			t.Fatalf("got %+v with %v", st, st.Codes())
		}
	}
	is(web.Opening, -1, web.NotOpen)
	store := &depthStore{}
	s.opened(store)
	s.standby("host (process 7)")
	is(web.Standby, 4)
	if st := s.status(t.Context()); !st.Oldest.Equal(longAgo) {
		t.Errorf("the oldest is of %v", st.Oldest)
	}
	if st := s.status(t.Context()); st.Reason != "this device is driven by host (process 7)" {
		t.Errorf("the page gives as the reason for standing by: %q", st.Reason)
	}
	s.become(web.Starting)
	is(web.Starting, 4, web.NotStarted)
	for _, phase := range []whatsapp.Phase{whatsapp.Starting, whatsapp.Pairing, whatsapp.Connecting, whatsapp.Online, whatsapp.Waiting, whatsapp.Ended} {
		s.show(whatsapp.State{Phase: phase, Account: "4915112345678@s.whatsapp.net"})
		st := s.status(t.Context())
		if st.State != web.State(phase) || !slices.Contains(web.States, st.State) {
			t.Errorf("%s is shown as %s", phase, st.State)
		}
		if strings.Contains(st.Account, "12345") {
			t.Errorf("account %s", st.Account)
		}
	}
	if store.asked != 1 {
		t.Errorf("the store was asked %d times within a second", store.asked)
	}
	// Another tenure starts anew: what the last one showed is over.
	s.become(web.Standby)
	is(web.Standby, 4)
	s.become(web.Starting)
	is(web.Starting, 4, web.NotStarted)

	s = newSite(config.Config{Store: config.Store{Mongo: true}}, slog.New(slog.DiscardHandler))
	s.opened(&depthStore{err: errors.New("no server at 4915112345678")})
	s.become(web.Standby)
	is(web.Standby, -1, web.StoreDown)
	full := newSite(config.Config{Store: config.Store{Mongo: true}}, slog.New(slog.DiscardHandler))
	full.opened(&depthStore{untaken: errors.New("no space left")})
	full.become(web.Standby)
	if st := full.status(t.Context()); st.StoreDown != "no space left" {
		t.Errorf("with a lease that cannot be taken the page says %q of the store", st.StoreDown)
	}
	if down := s.status(t.Context()).StoreDown; down != "no server at 49•••78" {
		t.Errorf("down: %s", down)
	}
}

// fixedModel answers or fails.
type fixedModel struct {
	bot.Model
	err error
}

func (m fixedModel) Complete(context.Context, llm.Prompt) (llm.Completion, error) {
	return llm.Completion{PromptTokens: 3, CompletionTokens: 2}, m.err
}

func TestModelIsWatched(t *testing.T) {
	t.Parallel()
	s := newSite(config.Config{}, slog.New(slog.DiscardHandler))
	count := func(result string) float64 { return testutil.ToFloat64(s.metrics.calls.WithLabelValues(result)) }
	ask := func(ctx context.Context, err error) {
		_, _ = watchedModel{fixedModel{err: err}, s}.Complete(ctx, llm.Prompt{})
	}
	ask(t.Context(), nil)
	if m := s.status(t.Context()).Model; m.Answered.IsZero() || !m.Failed.IsZero() || count("ok") != 1 {
		t.Errorf("got %+v", m)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	ask(stopped, stopped.Err())
	if m := s.status(t.Context()).Model; !m.Failed.IsZero() {
		t.Errorf("a stop counts as a failure: %+v", m)
	}
	ask(t.Context(), &llm.Error{Kind: llm.Auth, Err: errors.New("refused")})
	if m := s.status(t.Context()).Model; m.Failed.IsZero() || !strings.Contains(m.Failure, "refused") || count("auth") != 1 {
		t.Errorf("got %+v", m)
	}
}

// The names and labels are as Prometheus wants them, and every series is there from the start.
func TestMetricsAreInShape(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(m.collectors()...)
	problems, err := testutil.GatherAndLint(r)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	before, err := testutil.GatherAndCount(r)
	if err != nil || before == 0 {
		t.Fatal(before, err)
	}
	m.turn("answered", 0)
	m.event(whatsapp.Undecryptable)
	m.message(stored)
	if after, err := testutil.GatherAndCount(r); err != nil || after != before {
		t.Errorf("%d series, then %d, %v", before, after, err)
	}
}

// The calls of the store that are measured are storeCalls, all of them and no other.
func TestStoreCallsAreMeasured(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	watched := reflect.ValueOf(watchedStore{metrics: m})
	for i := range watched.NumMethod() {
		method := watched.Method(i)
		call, args := method.Call, make([]reflect.Value, method.Type().NumIn())
		if method.Type().IsVariadic() {
			call = method.CallSlice
		}
		for n := range args {
			args[n] = reflect.Zero(method.Type().In(n))
		}
		func() {
			defer func() { recover() }() // there is no store
			call(args)
		}()
	}
	r := prometheus.NewRegistry()
	r.MustRegister(m.store)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var measured []string
	for _, series := range families[0].GetMetric() {
		if series.GetHistogram().GetSampleCount() > 0 {
			measured = append(measured, series.GetLabel()[0].GetValue())
		}
	}
	if want := slices.Sorted(slices.Values(storeCalls)); !slices.Equal(measured, want) {
		t.Errorf("measured are %q, and there from the start %q", measured, want)
	}
}

// The README names no metric that is not there.
func TestMetricsOfTheREADME(t *testing.T) {
	t.Parallel()
	s := newSite(config.Config{HTTP: config.HTTP{Addr: "127.0.0.1:0"}, Models: []config.Entry{{Name: "openai"}}}, slog.New(slog.DiscardHandler))
	s.opened(&depthStore{})
	s.become(web.Starting)
	s.show(whatsapp.State{Phase: whatsapp.Online, PhoneSeen: longAgo})
	answer := httptest.NewRecorder()
	s.web.ServeHTTP(answer, httptest.NewRequest("GET", "http://127.0.0.1/metrics", nil))
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bwabot_[a-z]+_[a-z_]+\b|\bwabot_ready\b`).FindAllString(string(text), -1)
	if len(names) < 5 {
		t.Errorf("the README names only %q", names)
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^` + name + `[{ ]`).MatchString(answer.Body.String()) {
			t.Errorf("there is no %s", name)
		}
	}
}

// brokenStore is a store that has set sessions aside.
type brokenStore struct{ Store }

func (brokenStore) BrokenSessions() int64 { return 3 }

func TestBrokenSessionsAreCounted(t *testing.T) {
	t.Parallel()
	s := newSite(config.Config{}, slog.New(slog.DiscardHandler))
	s.opened(brokenStore{})
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s.metrics.collectors()...)
	want := "# HELP wabot_broken_sessions_total Signal sessions that could not be decoded and were set aside; they heal by a new one.\n# TYPE wabot_broken_sessions_total counter\nwabot_broken_sessions_total 3\n"
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "wabot_broken_sessions_total"); err != nil {
		t.Error(err)
	}
}

func TestHealthcheckAsksThisMachine(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"127.0.0.1:3000": "127.0.0.1:3000", "0.0.0.0:3000": "127.0.0.1:3000", ":3000": "127.0.0.1:3000", "[::]:3000": "[::1]:3000", "localhost:80": "localhost:80",
		"": "", "127.0.0.1:0": "",
	} {
		if got, err := reachable(addr); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", addr, got, err)
		}
	}
}

// fullStore is a store that can be read and takes no writes while err is set.
type fullStore struct {
	Store
	err error
}

func (f *fullStore) Untaken() error { return nil }

func (f *fullStore) Depth(context.Context) (int, error)                 { return 0, nil }
func (f *fullStore) SetNote(context.Context, string, []byte) error      { return f.err }
func (f *fullStore) Put(context.Context, chat.Message, time.Time) error { return f.err }

// A store that takes no writes is not well, though it can be read; it is once it takes one.
func TestStoreWithoutRoom(t *testing.T) {
	t.Parallel()
	store := &fullStore{}
	for what, fails := range map[string]func(s *site){
		"a message of the inbox": func(s *site) { watchedStore{store, s.metrics}.Put(t.Context(), chat.Message{}, time.Now()) },
		"a step of a session":    func(s *site) { s.metrics.event(whatsapp.NotStored) },
	} {
		s := newSite(config.Config{}, slog.New(slog.DiscardHandler))
		s.opened(store)
		s.become(web.Starting)
		down := func() string {
			s.asked = time.Time{}
			return s.status(t.Context()).StoreDown
		}
		store.err = nil
		if got := down(); got != "" {
			t.Errorf("%s: down before anything has failed: %s", what, got)
		}
		store.err = errors.New("no space left on device")
		if got := down(); got != "" {
			t.Errorf("%s: a write was tried again at once: %s", what, got)
		}
		fails(s)
		if got := down(); got != "no space left on device" {
			t.Errorf("%s could not be stored: down %q", what, got)
		}
		store.err = nil
		if got := down(); got != "" {
			t.Errorf("%s: down after the store has taken a write: %s", what, got)
		}
		// What nobody has noticed yet is found out before it is needed, but not by one that stands by.
		store.err, s.wrote = errors.New("no space left on device"), time.Time{}
		s.become(web.Standby)
		if got := down(); got != "" {
			t.Errorf("%s: one that stands by has written: %s", what, got)
		}
		s.become(web.Starting)
		if got := down(); got == "" {
			t.Errorf("%s: a store without room is not noticed", what)
		}
	}
}
