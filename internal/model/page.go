package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	// largestPage bounds instructions from the web, in bytes.
	largestPage = 256 << 10
	// fetching bounds one fetch, with its redirects.
	fetching = 10 * time.Second
	// mostRedirects bounds how often a page may be elsewhere.
	mostRedirects = 3
	// fresh is how long a page is used before it is asked for again, again how long after a failure.
	fresh = time.Hour
	again = time.Minute
)

// Page is instructions that stand on the web, as plain text or Markdown. It is fetched from public addresses only,
// without a proxy, and the last text that came is kept for as long as no newer one does.
type Page struct {
	url    string
	client *http.Client

	mu   sync.Mutex
	text string // empty until it was fetched
	etag string // of text
}

// NewPage makes a page of an http or https URL. It does not fetch it.
func NewPage(url string) *Page { return newPage(url, publicOnly) }

// newPage makes a page that may be at the addresses that allow lets through.
func newPage(url string, allow func(netip.Addr) error) *Page {
	dialer := &net.Dialer{Timeout: fetching, Control: func(_, address string, _ syscall.RawConn) error {
		// After the name was looked up, so that no name can stand for an address within.
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return allow(to.Addr().Unmap())
	}}
	return &Page{url: url, client: &http.Client{
		Timeout:   fetching,
		Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > mostRedirects {
				return errors.New("too many redirects")
			}
			if req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
				return errors.New("redirected away from https")
			}
			return nil
		},
	}}
}

// errPrivate is the error of an address that is not on the public internet.
var errPrivate = errors.New("the address is not a public one")

// reserved are networks that netip does not count as private and that lead to no public server, or to another address.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("fec0::/10"),
}

func publicOnly(a netip.Addr) error {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return errPrivate
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return errPrivate
		}
	}
	return nil
}

// Text is the page as it was last fetched, empty before.
func (p *Page) Text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text
}

// fetch gets the page. An error leaves the text as it was.
func (p *Page) fetch(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return errors.New("fetch instructions: the URL is none")
	}
	req.Header.Set("Accept", "text/plain, text/markdown;q=0.9, text/*;q=0.5")
	p.mu.Lock()
	if p.etag != "" {
		req.Header.Set("If-None-Match", p.etag)
	}
	p.mu.Unlock()
	resp, err := p.client.Do(req)
	var u *url.Error
	switch {
	case errors.As(err, &u):
		return fmt.Errorf("fetch instructions from %s: %w", req.URL.Host, u.Err) // without the URL, which may hold a token
	case err != nil:
		return fmt.Errorf("fetch instructions from %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "" {
		return nil
	}
	text, err := readPage(resp)
	if err != nil {
		return fmt.Errorf("fetch instructions from %s: %w", req.URL.Host, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.etag = text, resp.Header.Get("ETag")
	return nil
}

func readPage(resp *http.Response) (string, error) {
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "" && (!strings.HasPrefix(kind, "text/") || kind == "text/html") {
		return "", fmt.Errorf("it is %s and not plain text", kind)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, largestPage+1))
	switch {
	case err != nil:
		return "", errors.New("it broke off")
	case len(b) > largestPage:
		return "", fmt.Errorf("it is longer than %d KiB", largestPage>>10)
	case !utf8.Valid(b):
		return "", errors.New("it is not UTF-8")
	}
	text := strings.TrimSpace(string(b))
	if text == "" {
		return "", errors.New("it is empty")
	}
	return text, nil
}

// Run keeps the instructions that stand on the web fresh until ctx is done.
func (c *Catalog) Run(ctx context.Context) error {
	var pages sync.WaitGroup
	for i, m := range c.opts.Models {
		if m.Page != nil {
			pages.Go(func() { c.refresh(ctx, m, c.tried[i]) })
		}
	}
	pages.Wait()
	return nil
}

// refresh keeps one page fresh, and closes tried after the first try.
func (c *Catalog) refresh(ctx context.Context, m Model, tried chan struct{}) {
	first := sync.OnceFunc(func() { close(tried) })
	defer first()
	for {
		wait := fresh
		err := m.Page.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = again
			c.opts.Log.Warn("a model's instructions could not be fetched; what came last is used, and without any its fallback answers", "model", m.Name, "err", err)
		}
		first()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// Ready waits until Run has tried once to fetch each page.
func (c *Catalog) Ready(ctx context.Context) error {
	for i, m := range c.opts.Models {
		if m.Page == nil {
			continue
		}
		select {
		case <-c.tried[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
