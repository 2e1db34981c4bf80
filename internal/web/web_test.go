package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const secret = "a-token-of-the-tests"

// site is a Site that shows st, for tests.
func site(t *testing.T, token string, st Status) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(New(Options{Token: token, Status: func(context.Context) Status { return st }, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(s.Close)
	return s
}

// get asks for a page, with changes to the request.
func get(t *testing.T, c *http.Client, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func pairing() Status {
	return Status{
		State: Pairing, Reason: "not linked to an account yet", Next: "on the phone: scan it", Waiting: -1,
		QR: "2@canary-of-the-code,abc,def", Expires: time.Now().Add(20 * time.Second), Since: time.Now(), Started: time.Now(),
	}
}

func TestPageShowsTheCode(t *testing.T) {
	t.Parallel()
	s := site(t, "", pairing())
	resp, body := get(t, s.Client(), s.URL, nil)
	for _, want := range []string{"<svg ", "Link the phone", "Not linked to an account yet.", "On the phone: scan it.", `http-equiv="refresh" content="5"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page:\n%s", want, body)
		}
	}
	if strings.Contains(body, "canary") {
		t.Error("the text of the code is in the page")
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
		"Content-Type": "text/html; charset=utf-8",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if p := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; style-src 'sha256-") || strings.Contains(p, "unsafe") {
		t.Errorf("policy %q", p)
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "style=") {
		t.Error("the page has what its policy forbids")
	}
}

func TestPageShowsTheCodeToType(t *testing.T) {
	t.Parallel()
	st := pairing()
	st.QR, st.Code = "", "ABCD-1234"
	s := site(t, "", st)
	if _, body := get(t, s.Client(), s.URL, nil); !strings.Contains(body, `<p class="code">ABCD-1234</p>`) || strings.Contains(body, "<svg") {
		t.Error(body)
	}
}

func TestPageShowsNoCodeThatIsOver(t *testing.T) {
	t.Parallel()
	st := pairing()
	st.Expires = time.Now().Add(-time.Second)
	s := site(t, "", st)
	if _, body := get(t, s.Client(), s.URL, nil); strings.Contains(body, "<svg") {
		t.Error(body)
	}
}

func TestPageOnline(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := site(t, "", Status{
		State: Online, Since: now.Add(-time.Hour), Started: now.Add(-49 * time.Hour), Account: "49•••78@s.whatsapp.net <b>", PhoneSeen: now.Add(-11 * 24 * time.Hour),
		Store: "files in ./session", Waiting: 3, Model: Model{Name: "gpt", Answered: now.Add(-time.Minute), Failed: now, Failure: "auth: check the API key"},
		Versions: []Version{{Part: "wabot", Version: "v1.2.3"}},
	})
	_, body := get(t, s.Client(), s.URL, nil)
	for _, want := range []string{
		"<h1 class=\"wait\">Online</h1>", "49•••78@s.whatsapp.net &lt;b&gt;", "last seen 11 days ago", "unlinked after 14 days", "files in ./session", "<dd>3</dd>",
		"Auth: check the API key.", "v1.2.3", "leader", ">2 days ago<", ">1 minute ago<",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the page:\n%s", want, body)
		}
	}
	if !strings.Contains(body, `http-equiv="refresh" content="30"`) {
		t.Error("a page that is left open tells for ever that all is well")
	}
}

// Every state has words of its own, and a code unless it is ready.
func TestStates(t *testing.T) {
	t.Parallel()
	codes := map[State]Code{Opening: NotOpen, Starting: NotStarted, Pairing: NotPaired, Connecting: NotOnline, Waiting: NotOnline, Ended: LinkEnded}
	for _, state := range States {
		s := site(t, "", Status{State: state, Reason: "why", Next: "what", Since: time.Unix(1e9, 0)})
		_, body := get(t, s.Client(), s.URL, nil)
		if h := regexp.MustCompile(`<h1 class="\w+">(.+)</h1>`).FindStringSubmatch(body); h == nil {
			t.Errorf("%s: no heading", state)
		}
		resp, body := get(t, s.Client(), s.URL+"/readyz", nil)
		var got readiness
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		want := readiness{Ready: true, State: state, Codes: []Code{}, Reason: "why", Next: "what", Since: time.Unix(1e9, 0).UTC()}
		if c := codes[state]; c != "" {
			want.Ready, want.Codes = false, []Code{c}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || (resp.StatusCode == http.StatusOK) != want.Ready {
			t.Errorf("%s: %d %+v, want %+v", state, resp.StatusCode, got, want)
		}
	}
}

func TestNotReadyWithoutStore(t *testing.T) {
	t.Parallel()
	s := site(t, "", Status{State: Online, StoreDown: "connection refused"})
	resp, body := get(t, s.Client(), s.URL+"/readyz", nil)
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, `"codes":["store_unavailable"],"reason":"the store does not answer","next":"check the database or the disk; `) || strings.Contains(body, "refused") {
		t.Error(resp.StatusCode, body)
	}
	s = site(t, "", Status{State: Connecting, Reason: "no network", Next: "mend it", StoreDown: "connection refused"})
	if _, body := get(t, s.Client(), s.URL+"/readyz", nil); !strings.Contains(body, `"reason":"no network; the store does not answer","next":"mend it; check`) {
		t.Error(body)
	}
	if resp, body := get(t, s.Client(), s.URL+"/healthz", nil); resp.StatusCode != http.StatusOK || body != "{\"status\":\"ok\"}\n" {
		t.Error(resp.StatusCode, body)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	s := site(t, secret, pairing())
	refused := func(path string, change func(*http.Request)) {
		t.Helper()
		resp, body := get(t, s.Client(), s.URL+path, change)
		if resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "<svg") || strings.Contains(body, "wabot_") || strings.Contains(body, secret) {
			t.Errorf("%s: %d\n%s", path, resp.StatusCode, body)
		}
		if len(resp.Cookies()) > 0 {
			t.Errorf("%s: a cookie", path)
		}
	}
	for _, path := range []string{"/", "/metrics"} {
		refused(path, nil)
		refused(path+"?token=", nil)
		refused(path+"?token="+secret+"x", nil)
		refused(path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") })
		refused(path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret[1:]) })
		refused(path, func(r *http.Request) { r.Header.Set("Authorization", "Basic "+secret) })
		refused(path, func(r *http.Request) { r.Header.Set("Cookie", "wabot="+secret) })
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if resp, body := get(t, s.Client(), s.URL+path, nil); resp.StatusCode == http.StatusUnauthorized || strings.Contains(body, "canary") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/", "/metrics"} {
		resp, _ := get(t, s.Client(), s.URL+path, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) })
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s with the token: %d", path, resp.StatusCode)
		}
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var cookie string
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		cookie = r.Response.Header.Get("Set-Cookie")
		return nil
	}}
	resp, body := get(t, browser, s.URL+"/?token="+secret, nil)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "<svg") || resp.Request.URL.RawQuery != "" {
		t.Errorf("%d at %s", resp.StatusCode, resp.Request.URL)
	}
	if !strings.Contains(cookie, "HttpOnly") || !strings.Contains(cookie, "SameSite=Strict") || strings.Contains(cookie, secret) {
		t.Errorf("cookie %q", cookie)
	}
	if resp, _ := get(t, browser, s.URL, nil); resp.StatusCode != http.StatusOK {
		t.Errorf("the second visit: %d", resp.StatusCode)
	}
}

// Without a token, a name that somebody pointed at our address does not open the page.
func TestForeignNames(t *testing.T) {
	t.Parallel()
	s := site(t, "", pairing())
	for host, want := range map[string]int{
		"127.0.0.1:3000": 200, "[::1]:3000": 200, "[::1]": 200, "localhost:3000": 200, "app:3000": 200, "wabot.localhost": 200,
		"evil.example": 403, "evil.example:3000": 403, "127.0.0.1.evil.example": 403,
	} {
		resp, body := get(t, s.Client(), s.URL, func(r *http.Request) { r.Host = host })
		if resp.StatusCode != want || strings.Contains(body, "<svg") != (want == 200) {
			t.Errorf("%s: %d, want %d", host, resp.StatusCode, want)
		}
	}
	if resp, _ := get(t, s.Client(), s.URL+"/healthz", func(r *http.Request) { r.Host = "evil.example" }); resp.StatusCode != 200 {
		t.Errorf("healthz: %d", resp.StatusCode)
	}
}

func TestNothingElseIsThere(t *testing.T) {
	t.Parallel()
	s := site(t, "", pairing())
	if resp, _ := get(t, s.Client(), s.URL+"/debug/pprof/", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", resp.StatusCode)
	}
	resp, err := s.Client().Post(s.URL, "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	st := Status{
		State: Online, Since: time.Unix(1e9, 0), PhoneSeen: time.Unix(2e9, 5e8), Waiting: 7, Oldest: time.Unix(4e9, 0), StoreDown: "no answer",
		Model: Model{Answered: time.Unix(3e9, 0)}, Versions: []Version{{Part: "wabot", Version: "v1"}, {"WhatsApp Web", "2.3", time.Unix(5e9, 0)}},
	}
	c := statusCollector{func(context.Context) Status { return st }}
	want := `
# HELP wabot_build_info The versions of the parts; always 1.
# TYPE wabot_build_info gauge
wabot_build_info{part="WhatsApp Web",version="2.3"} 1
wabot_build_info{part="wabot",version="v1"} 1
# HELP wabot_inbox_depth Messages that are not answered yet.
# TYPE wabot_inbox_depth gauge
wabot_inbox_depth 7
# HELP wabot_inbox_oldest_timestamp_seconds When the message that waits longest for its answer came in; absent while none waits.
# TYPE wabot_inbox_oldest_timestamp_seconds gauge
wabot_inbox_oldest_timestamp_seconds 4e+09
# HELP wabot_not_ready Why the bot is not ready: 1 for each reason that holds.
# TYPE wabot_not_ready gauge
wabot_not_ready{reason="link_ended"} 0
wabot_not_ready{reason="not_connected"} 0
wabot_not_ready{reason="not_paired"} 0
wabot_not_ready{reason="starting"} 0
wabot_not_ready{reason="store_not_open"} 0
wabot_not_ready{reason="store_unavailable"} 1
# HELP wabot_phone_seen_timestamp_seconds When the account's phone last gave a sign.
# TYPE wabot_phone_seen_timestamp_seconds gauge
wabot_phone_seen_timestamp_seconds 2.0000000005e+09
# HELP wabot_ready Whether the bot is ready, as /readyz has it.
# TYPE wabot_ready gauge
wabot_ready 0
# HELP wabot_version_checked_timestamp_seconds When the newest version of a part was last looked up.
# TYPE wabot_version_checked_timestamp_seconds gauge
wabot_version_checked_timestamp_seconds{part="WhatsApp Web"} 5e+09
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), "wabot_build_info", "wabot_inbox_depth", "wabot_inbox_oldest_timestamp_seconds", "wabot_not_ready", "wabot_phone_seen_timestamp_seconds", "wabot_ready", "wabot_version_checked_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}

	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "wabot_own_total", Help: "One of the caller's."})
	s := httptest.NewServer(New(Options{Status: func(context.Context) Status { return st }, Collectors: []prometheus.Collector{own}, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(s.Close)
	_, body := get(t, s.Client(), s.URL+"/metrics", nil)
	for _, line := range []string{"wabot_own_total 0\n", `wabot_state{state="online"} 1` + "\n", `wabot_state{state="pairing"} 0` + "\n", "go_goroutines "} {
		if !strings.Contains(body, line) {
			t.Errorf("no %q in the metrics", line)
		}
	}
}

// lines is a log that says when a line with a text was written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.text.Write(b)
}

// wait returns the log once it matches.
func (l *lines) wait(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	for {
		l.mu.Lock()
		found, more := re.FindStringSubmatch(l.text.String()), l.more
		l.mu.Unlock()
		if found != nil {
			return found, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, fmt.Errorf("no %s in the log", re)
		}
	}
}

// A port in use is said and tried again, until it is free; the end is orderly.
func TestRunWaitsForItsAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	out := &lines{more: make(chan struct{})}
	s := New(Options{Addr: taken.Addr().String(), Status: func(context.Context) Status { return pairing() }, Log: slog.New(slog.NewTextHandler(out, nil))})
	s.least, s.most = time.Millisecond, 10*time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if _, err := out.wait(t.Context(), regexp.MustCompile(`level=ERROR msg="the page cannot be shown.*address already in use`)); err != nil {
		t.Fatal(err)
	}
	taken.Close()
	url, err := out.wait(t.Context(), regexp.MustCompile(`msg="the page is up" url=(\S+) token=false`))
	if err != nil {
		t.Fatal(err)
	}
	if resp, _ := get(t, http.DefaultClient, url[1]+"healthz", nil); resp.StatusCode != 200 {
		t.Error(resp.StatusCode)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.text.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times that the port is taken", n)
	}
	if _, err := net.DialTimeout("tcp", taken.Addr().String(), time.Second); err == nil {
		t.Error("still listening")
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "a moment", time.Second: "a moment", 2 * time.Second: "2 seconds", time.Minute: "1 minute", 119 * time.Minute: "1 hour", 49 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestEveryStateHasWords(t *testing.T) {
	t.Parallel()
	for state := range words {
		if !slices.Contains(States, state) {
			t.Errorf("%s is not a state", state)
		}
	}
	if len(words) != len(States) {
		t.Errorf("%d states, %d with words", len(States), len(words))
	}
}

// What became of the newest messages is asked for by the page alone, and only while it helps.
func TestPageShowsMessages(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := now.Add(-72 * time.Hour)
	st := Status{State: Online, Waiting: 1, Spent: []Spent{{Name: "Spent today", Text: "2 of 1, for 9 tokens", UsedUp: "BUDGET_BOT_DAY", Until: now}}}
	var all []Message
	known, asked := true, 0
	s := httptest.NewServer(New(Options{
		Status: func(context.Context) Status { return st }, Log: slog.New(slog.DiscardHandler),
		Messages: func(context.Context) ([]Message, bool) { asked++; return all, known },
	}))
	t.Cleanup(s.Close)
	shows := func(path string, want ...string) {
		t.Helper()
		_, body := get(t, s.Client(), s.URL+path, nil)
		for _, w := range want {
			if not, ok := strings.CutPrefix(w, "!"); ok && strings.Contains(body, not) {
				t.Errorf("%q in the page:\n%s", not, body)
			} else if !ok && !strings.Contains(body, w) {
				t.Errorf("no %q in the page:\n%s", w, body)
			}
		}
	}
	shows("/", "No message has reached the bot yet.", "<dt>Spent today</dt><dd>2 of 1, for 9 tokens</dd>", "BUDGET_BOT_DAY is used up.", "No question is answered until "+now.Format("2006-01-02"))
	known = false
	shows("/", "The store does not say.")
	known = true
	all = []Message{{ID: "3EB0<b>", From: "49•••78", In: "12•••01@g.us", Outcome: "given up", Fate: Unanswered, Steps: []Step{{What: "received", Time: now}, {What: "given up", Time: old, Why: "refused & gone"}}}}
	shows("/", `<span>49•••78 in 12•••01@g.us</span> <b class="bad">given up</b>`, "3EB0&lt;b&gt;", now.Format(time.TimeOnly),
		fmt.Sprintf(`given up <time datetime="%s">%s</time></span>: refused &amp; gone`, old.UTC().Format(time.RFC3339), old.Format("2 Jan 15:04:05")), "!style=")
	asked = 0
	shows("/readyz")
	shows("/metrics")
	st.StoreDown = "no server"
	shows("/", "!Last messages")
	st = pairing()
	shows("/", "!Last messages")
	if asked > 0 {
		t.Errorf("the messages were asked for %d times in vain", asked)
	}
}
