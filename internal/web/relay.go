package web

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"
)

// relay passes requests on to one of the wabots behind a name: the one that drives the device, or else one that stands
// by. Who may see what is theirs to decide: the request reaches them as it came.
type relay struct {
	// addresses are those of the wabots there are at the moment.
	addresses func(context.Context) ([]string, error)
	asking    *http.Client
	log       *slog.Logger
	own       http.Handler // what is answered without them
}

// asked is how long a wabot may take to say how it is before it counts as gone.
const asked = 3 * time.Second

// NewRelay returns a site at addr, served by Run, that is the site of whichever wabot leads, of those that behind
// (host:port, where a host may have several addresses) stands for. Its /healthz tells only of itself.
func NewRelay(addr, behind string, log *slog.Logger) *Site {
	return newRelay(addr, func(ctx context.Context) ([]string, error) {
		host, port, err := net.SplitHostPort(behind)
		if err != nil {
			return nil, err
		}
		hosts, err := net.DefaultResolver.LookupHost(ctx, host)
		for i := range hosts {
			hosts[i] = net.JoinHostPort(hosts[i], port)
		}
		return hosts, err
	}, log)
}

func newRelay(addr string, addresses func(context.Context) ([]string, error), log *slog.Logger) *Site {
	s := &Site{Options: Options{Addr: addr, Log: log}, least: time.Second, most: time.Minute}
	r := &relay{
		addresses: addresses,
		// No proxy of the environment: they are next door.
		asking: &http.Client{Timeout: asked, Transport: &http.Transport{DisableKeepAlives: true}},
		log:    log,
	}
	own := http.NewServeMux()
	own.HandleFunc("GET /healthz", s.healthz)
	own.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusServiceUnavailable, readiness{Codes: []Code{NotRunning}, Reason: gone.Reason, Next: gone.Next})
	})
	own.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		v := gone
		v.Refresh, v.Now = int(refresh/time.Second), time.Now().Format("15:04:05 MST")
		s.write(w, http.StatusBadGateway, v)
	})
	r.own = headers(own)
	s.handler = r
	return s
}

// gone is what is shown while no wabot answers.
var gone = view{
	Heading: "No wabot answers", Tone: bad,
	Reason: "None runs at the moment, or it is just starting.",
	Next:   "If this stays so: docker-compose ps shows whether the service app runs, docker-compose logs app why not.",
}

func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path == "/healthz" {
		r.own.ServeHTTP(w, req)
		return
	}
	leader := r.leader(req.Context())
	if leader == "" {
		r.own.ServeHTTP(w, req)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: leader})
			p.Out.Host = p.In.Host // they refuse foreign names
		},
		Transport: r.asking.Transport,
		ErrorLog:  slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, req *http.Request, err error) {
			r.log.Debug("pass a request on", "err", err)
			r.own.ServeHTTP(w, req)
		},
	}
	proxy.ServeHTTP(w, req)
}

// leader finds the address of the wabot to ask, or "".
func (r *relay) leader(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, asked)
	defer cancel()
	all, err := r.addresses(ctx)
	if err != nil {
		// The name is known as long as there is somebody behind it.
		r.log.Debug("look for the wabots behind the page", "err", err)
		return ""
	}
	slices.Sort(all)
	ranks := make([]int, len(all))
	var answers sync.WaitGroup
	for i, address := range all {
		answers.Go(func() { ranks[i] = r.rank(ctx, address) })
	}
	answers.Wait()
	best, rank := "", 0
	for i, address := range all {
		if ranks[i] > rank {
			best, rank = address, ranks[i]
		}
	}
	return best
}

// rank is how much the wabot at an address has to say: one that drives the device most, one that does not answer nothing.
func (r *relay) rank(ctx context.Context, address string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return 0
	}
	resp, err := r.asking.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var is readiness
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&is); err != nil {
		return 0
	}
	switch is.State {
	case Opening:
		return 1
	case Standby:
		return 2
	default:
		return 3
	}
}
