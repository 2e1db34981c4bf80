// Package web is the page on which an operator sees how the bot is, and the endpoints that tell
// machines the same: /healthz (the process lives), /readyz (it can answer, or stands by for
// one that does) and /metrics (Prometheus).
//
// The page asks for a Status each time and keeps none. Whoever sees it sees the pairing code,
// so it is served to those who know the token; where there is no token the address it listens on keeps
// others out, and a request under a foreign host name (DNS rebinding) is refused. /healthz and /readyz are
// open to all and hold nothing that is private. The page works without scripts and loads nothing from
// anywhere; nothing it serves is kept by a cache.
//
// Where several wabots share a device a relay serves the page of the one that leads.
//
// The page is a convenience to the bot: an address that cannot be listened on is an error line and
// tried again, and never ends the process.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are what a Site needs. Token and Collectors may be unset.
type Options struct {
	// Addr is where to listen, host:port.
	Addr string
	// Token is what a reader must know, empty for a site that its address protects.
	Token string
	// Status tells how the bot is. It is called for each request and must be quick.
	Status func(ctx context.Context) Status
	// Messages, if set, are the newest that reached the bot, newest first; false where that is not known. They are asked for
	// by the page alone.
	Messages func(ctx context.Context) ([]Message, bool)
	// Collectors are shown on /metrics beside those of the process and of the Status.
	Collectors []prometheus.Collector
	Log        *slog.Logger
}

// Site is the page and the endpoints.
type Site struct {
	Options
	handler http.Handler
	// backoff bounds the time between two tries to listen.
	least, most time.Duration
}

// New returns a site that is served by Run.
func New(o Options) *Site {
	s := &Site{Options: o, least: time.Second, most: time.Minute}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), statusCollector{s.Status})
	metrics.MustRegister(o.Collectors...)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /{$}", s.guard(http.HandlerFunc(s.page)))
	mux.Handle("GET /metrics", s.guard(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn)})))
	s.handler = headers(mux)
	return s
}

// ServeHTTP serves the site, for whoever has a listener of their own.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Run listens and serves until ctx is done, and then returns nil. An address that cannot be
// listened on is tried again.
func (s *Site) Run(ctx context.Context) error {
	wait, failed := s.least, false
	for ctx.Err() == nil {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Addr)
		if err == nil {
			wait, failed = s.least, false
			s.Log.Info("the page is up", "url", "http://"+l.Addr().String()+"/", "token", s.Token != "")
			err = s.serve(ctx, l)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !failed {
			failed = true
			s.Log.Error("the page cannot be shown; the bot goes on without it and tries again: stop what uses the address, or set HTTP_ADDR to another", "addr", s.Addr, "err", err)
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, s.most)
	}
	return nil
}

// serve serves on l until ctx is done.
func (s *Site) serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // what browsers do wrong is not ours to mend
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// A page on its way is soon delivered; a connection that stays open is closed.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	return err
}

// headers sets what holds for every answer.
func headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// local reports whether a request was made to this machine's address and not to a name that
// somebody else may have pointed at it. Names without a dot are nobody's on the internet.
func local(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return net.ParseIP(host) != nil || !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost")
}

func (s *Site) healthz(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

// readiness is the answer of /readyz.
type readiness struct {
	Ready bool  `json:"ready"`
	State State `json:"state,omitempty"`
	// Codes say why it is not ready, from a fixed set.
	Codes  []Code    `json:"codes"`
	Reason string    `json:"reason,omitempty"`
	Next   string    `json:"next,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

func (s *Site) readyz(w http.ResponseWriter, r *http.Request) {
	st := s.Status(r.Context())
	codes := st.Codes()
	code := http.StatusOK
	if len(codes) > 0 {
		code = http.StatusServiceUnavailable
	}
	if st.StoreDown != "" { // why is on the page alone: it may name addresses
		st.Reason, st.Next = both(st.Reason, storeReason), both(st.Next, storeNext)
	}
	reply(w, code, readiness{Ready: len(codes) == 0, State: st.State, Codes: codes, Reason: st.Reason, Next: st.Next, Since: st.Since.UTC().Truncate(time.Second)})
}

func both(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error here is a reader who has gone.
	_ = json.NewEncoder(w).Encode(v)
}
