package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	_ "image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"wabot/internal/llmtest"
)

var pageURL = regexp.MustCompile(`"the page is up"(?: url=|,"url":")([^\s"]+)`)

// page returns the address of wabot's page.
func (w *world) page(ctx context.Context) (string, error) {
	return w.bot.wait(ctx, "the page's address", func(output string) (string, bool) {
		if found := pageURL.FindStringSubmatch(output); found != nil {
			return found[1], true
		}
		return "", false
	})
}

// ask asks wabot's page for a path, with a bearer token if that is not empty.
func (w *world) ask(ctx context.Context, path, token string) (code int, body string, err error) {
	base, err := w.page(ctx)
	if err != nil {
		return 0, "", err
	}
	r, err := http.NewRequestWithContext(ctx, "GET", strings.TrimSuffix(base, "/")+path, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	w.shows(string(raw))
	return resp.StatusCode, string(raw), err
}

// newStory is a world for a test, in which do fails the test with wabot's output.
func newStory(t *testing.T) (w *world, do func(error)) {
	t.Helper()
	binary, err := exec.LookPath("wabot")
	if err != nil {
		t.Fatal(err)
	}
	w, err = newWorld(binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w, func(err error) {
		t.Helper()
		if err != nil {
			output := ""
			if w.bot != nil {
				output = w.bot.output.String()
			}
			t.Fatalf("%v\nwabot's output:\n%s", err, output)
		}
	}
}

// /readyz says what the link is doing and why, in codes and in words, at each turn of its life.
func TestReadiness(t *testing.T) {
	t.Parallel()
	ctx := withPatience(t)
	w, do := newStory(t)
	// ready waits until /readyz says so.
	ready := func(code int, state, reason string, codes ...string) {
		t.Helper()
		for {
			got, body, err := w.ask(ctx, "/readyz", "")
			do(err)
			var r struct {
				Ready         bool
				State, Reason string
				Codes         []string
			}
			do(json.Unmarshal([]byte(body), &r))
			if got == code && r.Ready == (code == 200) && r.State == state && strings.Contains(r.Reason, reason) && (r.Reason == "") == (reason == "") && slices.Equal(r.Codes, codes) {
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("/readyz: %d %s, want %d %s %q", got, body, code, state, reason)
			}
		}
	}
	do(w.start())
	do(w.says(ctx, `Linked devices > Link a device`))
	ready(503, "pairing", "not linked", "not_paired")
	do(w.scan(ctx, "owner"))
	do(w.online(ctx))
	ready(200, "online", "")

	w.whatsapp.SetDown(true)
	do(w.says(ctx, `msg="WhatsApp cannot be reached"`))
	ready(503, "connecting", "WhatsApp cannot be reached", "not_connected")
	if code, _, err := w.ask(ctx, "/healthz", ""); err != nil || code != 200 {
		t.Errorf("healthz while WhatsApp is away: %d, %v", code, err)
	}
	w.whatsapp.SetDown(false)
	do(w.says(ctx, `online again`))
	ready(200, "online", "")

	w.whatsapp.LimitReach(w.device, time.Now().Add(time.Hour))
	ready(200, "online", "WhatsApp does not let this account start new chats before ")
	w.whatsapp.LimitReach(w.device, time.Time{})
	ready(200, "online", "")
	if n := strings.Count(w.bot.output.String(), "online again"); n != 1 {
		t.Errorf("online again %d times, want once", n)
	}

	// When the second answer is there, the first turn has been counted.
	for _, text := range []string{"hello", "hello again"} {
		_, err := w.owner.Say(ctx, w.owner.LID(), text)
		do(err)
		do(w.hear(ctx, "owner", w.owner.LID(), "You said: "+text))
	}
	code, body, err := w.ask(ctx, "/metrics", "")
	do(err)
	for _, line := range []string{
		`wabot_turns_total{outcome="answered"} [12]`, `wabot_messages_total{result="stored"} 2`, `wabot_model_calls_total{result="ok"} 2`,
		`wabot_sends_total{outcome="sent"} [12]`, `wabot_whatsapp_events_total{event="logged_in"} 2`, `wabot_ready 1`, `wabot_store_up 1`,
		`wabot_not_ready{reason="not_connected"} 0`, `wabot_delivery_seconds_count [12]`, `wabot_device_store_seconds_count{call="decrypt"} [1-9][0-9]*`,
		`wabot_device_store_seconds_count{call="put_sessions"} [1-9][0-9]*`, `wabot_device_store_errors_total{call="decrypt"} 0`,
		`wabot_version_checked_timestamp_seconds{part="WhatsApp Web"} [0-9.e+]+`,
	} {
		if code != 200 || !regexp.MustCompile(`(?m)^`+line+`$`).MatchString(body) {
			t.Errorf("no %s in the metrics (HTTP %d)", line, code)
		}
	}
	for _, private := range []string{w.owner.Number(), w.owner.LID().User, "hello", w.dir} {
		_, page, err := w.ask(ctx, "/", "")
		do(err)
		if strings.Contains(body, private) || private != w.dir && strings.Contains(page, private) {
			t.Errorf("the page or the metrics tell %q", private)
		}
	}

	w.owner.Unlink(w.device)
	do(w.exits(3))
	do(w.start())
	do(w.says(ctx, `Linked devices > Link a device`))
	ready(503, "pairing", "not linked", "not_paired")
	do(w.stop())
}

// The page of a bot with a token shows nothing without it, and the log never has it.
func TestPageWithToken(t *testing.T) {
	t.Parallel()
	ctx := withPatience(t)
	w, do := newStory(t)
	const token = "canary-of-the-token"
	do(w.start("HTTP_TOKEN=" + token))
	do(w.says(ctx, `Linked devices > Link a device`))
	for path, want := range map[string]int{"/": 401, "/metrics": 401, "/healthz": 200, "/readyz": 503} {
		code, body, err := w.ask(ctx, path, "")
		do(err)
		if code != want || strings.Contains(body, "<svg") {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, body, err := w.ask(ctx, "/", token); err != nil || code != 200 || !strings.Contains(body, "<svg") {
		t.Errorf("with the token: %d, %v", code, err)
	}
	do(w.stop())
	if strings.Contains(w.bot.output.String(), "canary") {
		t.Error("the token is in the log")
	}
}

// A page that cannot be shown is said, and the bot answers without it.
func TestPageOnPortInUse(t *testing.T) {
	t.Parallel()
	ctx := withPatience(t)
	other, do := newStory(t)
	do(other.start())
	url, err := other.page(ctx)
	do(err)
	addr := strings.Trim(strings.TrimPrefix(url, "http://"), "/")
	w, do := newStory(t)
	do(w.pair(ctx, "HTTP_ADDR="+addr))
	do(w.says(ctx, `level=ERROR msg="the page cannot be shown; the bot goes on without it.*`+addr))
	_, err = w.owner.Say(ctx, w.owner.LID(), "hello")
	do(err)
	do(w.hear(ctx, "owner", w.owner.LID(), "You said: hello"))
	do(w.stop())
}

// wabot relay shows the page of the wabot behind it, with no settings but HTTP_ADDR and those of the log, and outlives it.
func TestRelay(t *testing.T) {
	t.Parallel()
	ctx := withPatience(t)
	w, do := newStory(t)
	do(w.start())
	url, err := w.page(ctx)
	do(err)
	do(w.says(ctx, `Linked devices > Link a device`))
	bot := w.bot
	relay := &process{cmd: exec.Command(w.binary, "relay", strings.Trim(strings.TrimPrefix(url, "http://"), "/")), output: transcript{more: make(chan struct{})}, exited: make(chan struct{})}
	relay.cmd.Dir, relay.cmd.Env = w.dir, []string{"HTTP_ADDR=127.0.0.1:0", "LOG_FORMAT=text", "HTTP_PROXY=http://127.0.0.1:1"}
	relay.cmd.Stdout, relay.cmd.Stderr = &relay.output, &relay.output
	do(relay.cmd.Start())
	go func() {
		defer close(relay.exited)
		relay.cmd.Wait()
	}()
	w.bot, w.bots = relay, append(w.bots, relay)
	shows := func(path string, code int, text string) {
		t.Helper()
		if got, body, err := w.ask(ctx, path, ""); err != nil || got != code || !strings.Contains(body, text) {
			t.Errorf("%s: %d %v, want %d and %q:\n%s", path, got, err, code, text, body)
		}
	}
	shows("/", 200, "<svg")
	shows("/readyz", 503, `"not_paired"`)
	do(bot.stop())
	shows("/", 502, "No wabot answers")
	shows("/healthz", 200, "ok")
	do(w.stop())
	if out, code := w.wabot(ctx, "", "relay"); code != 2 || !strings.Contains(out, "wabot relay HOST:PORT") {
		t.Errorf("without an address: %d %s", code, out)
	}
	if out, code := w.wabot(ctx, "", "relay", "app"); code != 2 || !strings.Contains(out, "app is not HOST:PORT") {
		t.Errorf("without a port: %d %s", code, out)
	}
}

// wabot healthcheck succeeds while wabot runs at HTTP_ADDR, and fails where it does not; no other setting concerns it.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	ctx := withPatience(t)
	w, do := newStory(t)
	do(w.start())
	url, err := w.page(ctx)
	do(err)
	check := func(addr string) (string, int) {
		cmd := exec.CommandContext(ctx, w.binary, "healthcheck")
		cmd.Env = []string{"HISTORY=many", "HTTP_ADDR=" + addr, "HTTP_PROXY=http://127.0.0.1:1"}
		cmd.Dir = w.dir
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	addr := strings.Trim(strings.TrimPrefix(url, "http://"), "/")
	if out, code := check(addr); code != 0 || !strings.Contains(out, "ok") {
		t.Errorf("while it runs: %d %s", code, out)
	}
	do(w.stop())
	// Nobody listens at port 1, as somebody else may by now where wabot did.
	for addr, says := range map[string]string{"127.0.0.1:1": "connection refused", "off": "HTTP_ADDR is off", "127.0.0.1:0": "give it a number"} {
		if out, code := check(addr); code != 1 || !strings.Contains(out, says) {
			t.Errorf("%s: %d %s", addr, code, out)
		}
	}
}

// The code on the page, in a real browser, links the bot: light, dark and on a phone's screen. SCREENSHOTS names a
// directory to keep the pictures in.
func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("NOT TESTED: the page in a real browser, because there is no chromium; on Debian: apt-get install chromium")
	}
	ctx := withPatience(t)
	w, do := newStory(t)
	const token = "a-token-of-the-tests"
	do(w.start("HTTP_TOKEN="+token, "ALLOW=*", "BUDGET_BOT_DAY=100000 tokens"))
	do(w.says(ctx, `Linked devices > Link a device`))
	base, err := w.page(ctx)
	do(err)

	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(browser), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(patience))
	ctx, endBrowser := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(endBrowser)
	ctx, endTab := chromedp.NewContext(ctx)
	t.Cleanup(endTab)
	// shoot looks at the page in a scheme of colours, at a width.
	shoot := func(name, scheme string, width int64) []byte {
		t.Helper()
		var shot []byte
		var wide bool
		do(chromedp.Run(ctx,
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
			chromedp.EmulateViewport(width, 800),
			chromedp.Navigate(base),
			chromedp.Evaluate(`document.documentElement.scrollWidth > window.innerWidth`, &wide),
			chromedp.FullScreenshot(&shot, 100),
		))
		if wide {
			t.Errorf("%s: the page is wider than the screen", name)
		}
		if dir := os.Getenv("SCREENSHOTS"); dir != "" {
			do(os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o600))
		}
		return shot
	}
	var heading, colour string
	do(chromedp.Run(ctx, chromedp.Navigate(base), chromedp.Text("h1", &heading)))
	if heading != "Token needed" {
		t.Errorf("without the token: %q", heading)
	}
	shoot("refused", "light", 390)
	do(chromedp.Run(ctx, chromedp.Navigate(base+"?token="+token), chromedp.Text("h1", &heading),
		chromedp.Evaluate(`getComputedStyle(document.querySelector("h1")).color`, &colour)))
	if heading != "Link the phone" || colour == "rgb(0, 0, 0)" {
		t.Errorf("with the token: %q in %s (the policy may have refused the style)", heading, colour)
	}
	var code string
	for _, look := range []struct {
		name, scheme string
		width        int64
	}{{"pairing-light", "light", 1000}, {"pairing-dark", "dark", 1000}, {"pairing-phone", "dark", 390}} {
		text, err := read(shoot(look.name, look.scheme, look.width))
		if err != nil {
			t.Fatalf("%s: %v", look.name, err)
		}
		code = text
	}
	w.owner = w.phone("owner")
	w.device, err = w.owner.Scan(ctx, code)
	do(err)
	// The page has to come to say so by itself.
	do(chromedp.Run(ctx, chromedp.WaitVisible("h1.good")))
	do(chromedp.Run(ctx, chromedp.Text("h1", &heading)))
	if heading != "Online" {
		t.Errorf("after the scan: %q", heading)
	}
	_, err = w.owner.Say(ctx, w.owner.LID(), "hello")
	do(err)
	do(w.hear(ctx, "owner", w.owner.LID(), "You said: hello"))
	alice := w.phone("alice")
	for _, text := range []string{"nothing for the bot", "!ai what is a quasar?"} {
		_, err = alice.Say(ctx, w.owner.LID(), text)
		do(err)
	}
	do(w.hear(ctx, "alice", w.owner.LID(), "You said: what is a quasar?"))
	w.model.Fail(llmtest.Fault{Kind: llmtest.BadKey})
	_, err = alice.Say(ctx, w.owner.LID(), "!ai and a pulsar?")
	do(err)
	do(w.hearLike(ctx, "alice", w.owner.LID(), regexp.MustCompile(`^Sorry, I am not set up correctly`)))
	w.model.Fail(llmtest.Fault{})
	_, err = alice.Say(ctx, w.owner.LID(), "!ai and a comet?")
	do(err)
	do(w.hear(ctx, "alice", w.owner.LID(), "You said: and a comet?")) // so the one before has ended
	var outcomes string
	for strings.Count(outcomes, "delivered") < 3 {
		do(chromedp.Run(ctx, chromedp.Navigate(base), chromedp.Text("main", &outcomes)))
	}
	for _, want := range []string{"apologised", "answered", "not answered", "You, in your own chat"} {
		if !strings.Contains(outcomes, want) {
			t.Errorf("the messages are shown without %q:\n%s", want, outcomes)
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		shoot("online-"+scheme, scheme, 1000)
		shoot("online-phone-"+scheme, scheme, 390)
	}
	do(w.stop())
	w.sound(t)
}

// read finds the QR code in a picture.
func read(png []byte) (string, error) {
	img, _, err := image.Decode(bytes.NewReader(png))
	if err != nil {
		return "", err
	}
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		return "", err
	}
	found, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		return "", fmt.Errorf("read the QR code: %w", err)
	}
	return found.GetText(), nil
}
