package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// behind is a relay for sites, whose addresses it looks up in all at each request.
func behind(t *testing.T, all *[]string) *httptest.Server {
	t.Helper()
	r := httptest.NewServer(newRelay("", func(context.Context) ([]string, error) { return append([]string{}, *all...), nil }, slog.New(slog.DiscardHandler)))
	t.Cleanup(r.Close)
	return r
}

func address(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

func TestRelay(t *testing.T) {
	t.Parallel()
	opening, standby, leader := site(t, secret, Status{State: Opening}), site(t, secret, Status{State: Standby}), site(t, secret, Status{State: Online, Store: "files in ./here"})
	var all []string
	r := behind(t, &all)
	known := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }
	shows := func(what, heading string, code int) {
		t.Helper()
		if resp, body := get(t, r.Client(), r.URL, known); resp.StatusCode != code || !strings.Contains(body, heading+"</h1>") {
			t.Errorf("%s: %s, want %d and %q:\n%s", what, resp.Status, code, heading, body)
		}
	}

	shows("nobody there", "No wabot answers", 502)
	resp, body := get(t, r.Client(), r.URL+"/readyz", nil)
	if resp.StatusCode != 503 || !strings.HasPrefix(body, `{"ready":false,"codes":["not_running"],`) || strings.Contains(body, "0001") {
		t.Errorf("/readyz with nobody there: %s %s", resp.Status, body)
	}
	if resp, body := get(t, r.Client(), r.URL+"/metrics", known); resp.StatusCode != 502 {
		t.Errorf("/metrics with nobody there: %s %s", resp.Status, body)
	}
	if resp, _ := get(t, r.Client(), r.URL+"/healthz", nil); resp.StatusCode != 200 {
		t.Errorf("its own health: %s", resp.Status)
	}

	all = []string{address(standby)}
	shows("one that stands by", "Standing by", 200)
	for _, order := range [][]string{{address(leader), address(standby), address(opening)}, {address(opening), address(standby), address(leader)}} {
		all = order
		shows("one leads", "Online", 200)
	}
	if resp, body := get(t, r.Client(), r.URL+"/readyz", nil); resp.StatusCode != 200 || !strings.Contains(body, `"state":"online"`) {
		t.Errorf("/readyz: %s %s", resp.Status, body)
	}
	if resp, body := get(t, r.Client(), r.URL+"/metrics", known); resp.StatusCode != 200 || !strings.Contains(body, `wabot_state{state="online"} 1`) {
		t.Errorf("/metrics: %s %s", resp.Status, body)
	}

	leader.Close()
	shows("the leader has died", "Standing by", 200)
	standby.Close()
	opening.Close()
	shows("all have died", "No wabot answers", 502)
}

// A relay lets nobody in whom the wabot behind it would not.
func TestRelayKeepsTheGuard(t *testing.T) {
	t.Parallel()
	status := pairing()
	open, closed := site(t, "", status), site(t, secret, status)
	var all []string
	r := behind(t, &all)

	all = []string{address(open)}
	if resp, body := get(t, r.Client(), r.URL, func(r *http.Request) { r.Host = "evil.example" }); resp.StatusCode != 403 || strings.Contains(body, "<svg") {
		t.Errorf("under a foreign name: %s", resp.Status)
	}
	resp, body := get(t, r.Client(), r.URL, nil)
	if resp.StatusCode != 200 || !strings.Contains(body, "<svg") {
		t.Errorf("%s", resp.Status)
	}
	for _, name := range []string{"Content-Security-Policy", "Cache-Control", "X-Frame-Options"} {
		if got := resp.Header.Values(name); len(got) != 1 {
			t.Errorf("%s: %q", name, got)
		}
	}

	all = []string{address(closed)}
	if resp, body := get(t, r.Client(), r.URL, nil); resp.StatusCode != 401 || strings.Contains(body, "<svg") {
		t.Errorf("without the token: %s", resp.Status)
	}
	once := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if resp, _ := get(t, once, r.URL+"/?token="+secret, nil); resp.StatusCode != 303 || resp.Header.Get("Location") != "/" || len(resp.Cookies()) != 1 {
		t.Errorf("with the token: %s to %q with %d cookies", resp.Status, resp.Header.Get("Location"), len(resp.Cookies()))
	}
}
