package model

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"wabot/internal/llm"
)

func anywhere(netip.Addr) error { return nil }

func TestPage(t *testing.T) {
	t.Parallel()
	body, asked, etags := "\n Be kind.\n", 0, 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("If-None-Match") == `"1"` {
			etags++
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Type", "text/markdown; charset=utf-8")
		w.Write([]byte(body))
	}))
	defer s.Close()
	p := newPage(s.URL+"/persona.md", anywhere)
	if p.Text() != "" {
		t.Error("there is text before it was fetched")
	}
	for range 2 {
		if err := p.fetch(t.Context()); err != nil || p.Text() != "Be kind." {
			t.Fatalf("%q, %v", p.Text(), err)
		}
	}
	if asked != 2 || etags != 1 {
		t.Errorf("asked %d times, %d of them with the tag", asked, etags)
	}
	s.Close()
	if err := p.fetch(t.Context()); err == nil || p.Text() != "Be kind." || strings.Contains(err.Error(), "persona") {
		t.Errorf("%q, %v", p.Text(), err)
	}
}

func TestPageRefused(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	serve := func(path, kind string, status int, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			w.Write([]byte(body))
		})
	}
	serve("/gone", "text/plain", 404, "no such page")
	serve("/html", "text/html; charset=utf-8", 200, "<html>")
	serve("/binary", "application/octet-stream", 200, "x")
	serve("/large", "text/plain", 200, strings.Repeat("x", largestPage+1))
	serve("/latin", "text/plain", 200, "\xe4")
	serve("/empty", "text/plain", 200, " \n")
	mux.HandleFunc("/around", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/around", http.StatusFound) })
	mux.HandleFunc("/plain", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("x")) })
	plain := httptest.NewServer(mux)
	defer plain.Close()
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/plain", http.StatusFound)
	})
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	for url, says := range map[string]string{
		plain.URL + "/gone": "HTTP 404", plain.URL + "/html": "text/html", plain.URL + "/binary": "octet-stream", plain.URL + "/large": "longer than 256 KiB",
		plain.URL + "/latin": "not UTF-8", plain.URL + "/empty": "empty", plain.URL + "/around": "too many redirects", secure.URL + "/down": "away from https",
	} {
		p := newPage(url, anywhere)
		p.client.Transport.(*http.Transport).TLSClientConfig = secure.Client().Transport.(*http.Transport).TLSClientConfig
		if err := p.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), says) || p.Text() != "" {
			t.Errorf("%s: %v, want %s", url, err, says)
		}
	}
	// What only this machine reaches is not fetched, under whatever name.
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]"} {
		p := NewPage("http://" + host + ":" + plain.URL[strings.LastIndex(plain.URL, ":")+1:] + "/plain")
		if err := p.fetch(t.Context()); err == nil || p.Text() != "" {
			t.Errorf("%s was fetched", host)
		}
	}
	if err := NewPage(plain.URL + "/plain").fetch(t.Context()); !errors.Is(err, errPrivate) {
		t.Error(err)
	}
	// Nor does a page that is let through lead there.
	mux.HandleFunc("/within", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(plain.URL, "127.0.0.1", "localhost", 1)+"/plain", http.StatusFound)
	})
	asked := 0
	once := newPage(plain.URL+"/within", func(netip.Addr) error {
		if asked++; asked > 1 {
			return errPrivate
		}
		return nil
	})
	if err := once.fetch(t.Context()); !errors.Is(err, errPrivate) || once.Text() != "" {
		t.Errorf("redirected to what only this machine reaches: %v, %q", err, once.Text())
	}
}

func TestPublicOnly(t *testing.T) {
	t.Parallel()
	for addr, public := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "198.18.0.1": false,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "ff02::1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "fec0::1": false,
	} {
		if err := publicOnly(netip.MustParseAddr(addr)); (err == nil) != public {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// A model has the instructions of its page from the first fetch on; without them it is out of order.
func TestInstructionsFromAPage(t *testing.T) {
	t.Parallel()
	up := make(chan bool, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !<-up {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("Be kind."))
	}))
	defer s.Close()
	var asked []string
	make := func() *Catalog {
		return New(Options{Default: "a", Timeout: time.Minute, Log: slog.New(slog.DiscardHandler), Models: []Model{
			{Name: "a", Prefix: "!a", Page: newPage(s.URL, anywhere), Chat: &fake{name: "a", asked: &asked}, Fallback: "b"},
			{Name: "b", Prefix: "!b", Chat: &fake{name: "b", asked: &asked}},
		}})
	}
	for _, works := range []bool{true, false} {
		c := make()
		ctx, cancel := context.WithCancel(t.Context())
		up <- works
		done := run(c, ctx)
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		m, _, _ := c.Pick("!a hi")
		got, err := c.Complete(ctx, llm.Prompt{Model: "a"})
		if err != nil || works != (m.Instructions == "Be kind.") || works != (got.By == "a") {
			t.Errorf("page there %v: instructions %q, answered by %q, %v", works, m.Instructions, got.By, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// Who waits for a page ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := make().Ready(ctx); err == nil {
		t.Error("ready before anything was fetched")
	}
}

func run(c *Catalog, ctx context.Context) chan error {
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return done
}

type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A page is asked for every hour, or every minute while it fails; then what came last is used.
func TestPageIsKeptFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // of the two
		text, asked := "one", 0
		p := NewPage("http://example.org/x")
		p.client.Transport = answers(func(*http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			if text == "" {
				return nil, errors.New("down")
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}, nil
		})
		c := New(Options{Default: "a", Log: slog.New(slog.DiscardHandler), Models: []Model{{Name: "a", Prefix: "!a", Page: p}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := run(c, ctx)
		if err := c.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		check := func(after time.Duration, now, want string, n int) {
			t.Helper()
			mu.Lock()
			text = now
			mu.Unlock()
			time.Sleep(after)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := p.Text(); got != want || asked != n {
				t.Errorf("has %q after %d fetches, want %q after %d", got, asked, want, n)
			}
		}
		check(0, "one", "one", 1)
		check(fresh, "two", "two", 2)
		check(fresh, "", "two", 3)
		check(again, "", "two", 4)
		check(again, "three", "three", 5)
		check(fresh-time.Second, "four", "three", 5)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
