package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.mau.fi/whatsmeow/types"

	"wabot/internal/whatsapptest"
)

// peer is a program under measurement, with an account and a directory of its own. It is paired once and
// started for each round.
type peer struct {
	name   string
	binary string
	env    []string
	dir    string
	readyz bool // it tells at /readyz whether it is ready
	// prepare, if set, is called once, after the pairing and before the first round.
	prepare func(dir string) error

	owner  *whatsapptest.Phone
	device types.JID
	logins int // of the device, so far
}

// process is one run of a peer.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	mu     sync.Mutex
	output strings.Builder
	code   chan string
	page   chan string
	url    string // of its page
}

var (
	codePattern = regexp.MustCompile(`\b[1-9A-HJ-NP-TV-Z]{4}-[1-9A-HJ-NP-TV-Z]{4}\b`)
	pagePattern = regexp.MustCompile(`url=(http://127\.0\.0\.1:\d+/)`)
)

// start starts the peer in the world.
func (p *peer) start(w *world) (*process, error) {
	root := whatsapptest.RootKey()
	cmd := exec.Command(p.binary)
	cmd.Dir = p.dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "SESSION_DIR=" + filepath.Join(p.dir, "session"),
		"HTTPS_PROXY=" + w.whatsapp.ProxyURL(), "SSL_CERT_FILE=" + w.ca, "WHATSAPP_NOISE_ROOT_KEY=" + hex.EncodeToString(root[:]),
		"PAIR_PHONE=" + p.owner.Number(),
	}, p.env...)
	run := &process{cmd: cmd, exited: make(chan struct{}), code: make(chan string, 1), page: make(chan string, 1)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(run.exited)
		run.read(bufio.NewScanner(out))
		cmd.Wait()
	}()
	return run, nil
}

// read follows the output to its end.
func (r *process) read(lines *bufio.Scanner) {
	offer := func(to chan string, text string) {
		select {
		case to <- text:
		default: // it has been told
		}
	}
	for lines.Scan() {
		line := lines.Text()
		r.mu.Lock()
		fmt.Fprintln(&r.output, line)
		r.mu.Unlock()
		if code := codePattern.FindString(line); code != "" {
			offer(r.code, code)
		}
		if found := pagePattern.FindStringSubmatch(line); found != nil {
			offer(r.page, found[1])
		}
	}
}

// await is the next text of a channel, unless the process ends before.
func (r *process) await(ctx context.Context, from chan string, what string) (string, error) {
	select {
	case text := <-from:
		return text, nil
	case <-r.exited:
		return "", fmt.Errorf("it ended before %s; it said:\n%s", what, r.output.String())
	case <-ctx.Done():
		return "", fmt.Errorf("wait for %s: %w", what, ctx.Err())
	}
}

// pair links the peer to its account.
func (p *peer) pair(ctx context.Context, w *world) error {
	if err := os.MkdirAll(filepath.Join(p.dir, "session"), 0o700); err != nil {
		return err
	}
	r, err := p.start(w)
	if err != nil {
		return err
	}
	defer r.kill()
	code, err := r.await(ctx, r.code, "it showed a pairing code")
	if err != nil {
		return err
	}
	if p.device, err = p.owner.EnterCode(ctx, code); err != nil {
		return err
	}
	if err := w.whatsapp.WaitLogins(ctx, p.device, 1); err != nil {
		return err
	}
	if err := w.whatsapp.WaitSettled(ctx, p.device); err != nil {
		return err
	}
	// A first message, so that the stores hold what any further ones need.
	if err := newTalker(w, "first", p).exchange(ctx, 1, nil); err != nil {
		return fmt.Errorf("%w; it said:\n%s", err, r.output.String())
	}
	if err := r.stop(); err != nil {
		return err
	}
	p.logins = w.loginsOf(p.device)
	if p.prepare != nil {
		return p.prepare(p.dir)
	}
	return nil
}

func (r *process) kill() {
	r.cmd.Process.Kill()
	<-r.exited
}

// stop asks the process to end, and waits.
func (r *process) stop() error {
	r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(30 * time.Second):
		r.kill()
		return errors.New("it does not stop when asked")
	}
	return nil
}

// vitals are what the operating system and the runtime tell of a process.
type vitals struct {
	cpu    time.Duration // used, user and system
	memory float64       // resident, in bytes
	allocs float64       // objects allocated so far
}

// get asks for a part of the page of the process.
func (r *process) get(ctx context.Context, path string) (*http.Response, error) {
	if r.url == "" {
		var err error
		if r.url, err = r.await(ctx, r.page, "it told where its page is"); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read its %s: %w", path, err)
	}
	return res, nil
}

// ready waits until the process says that it is ready.
func (r *process) ready(ctx context.Context) error {
	for {
		res, err := r.get(ctx, "readyz")
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// vitals reads the vitals from the process's own metrics.
func (r *process) vitals(ctx context.Context) (v vitals, err error) {
	res, err := r.get(ctx, "metrics")
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	found := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "process_cpu_seconds_total":
			v.cpu = time.Duration(number * float64(time.Second))
		case "process_resident_memory_bytes":
			v.memory = number
		case "go_memstats_mallocs_total":
			v.allocs = number
		default:
			continue
		}
		found++
	}
	if found != 3 {
		return v, fmt.Errorf("its metrics at %smetrics lack some of what is measured (status %s)", r.url, res.Status)
	}
	return v, nil
}
