package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"wabot/internal/config"
)

// healthcheck asks the page of the running wabot whether it lives, for containers without a
// shell. It reads the same HTTP_ADDR. The error says that it does not.
func healthcheck(ctx context.Context, p Process, args []string) error {
	if err := noArguments(args); err != nil {
		return err
	}
	page, _, err := config.LoadPage(p.Getenv, p.Dotenv)
	if err != nil {
		return &configError{err}
	}
	addr, err := reachable(page.Addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("ask wabot how it is: %w", err)
	}
	// No proxy of the environment: it is this machine that is asked.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		var failed *url.Error // its text has the address again
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return fmt.Errorf("no wabot answers at HTTP_ADDR (%s): %w", addr, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("wabot is not healthy: HTTP %d", resp.StatusCode)
	}
	_, err = io.Copy(p.Stdout, io.LimitReader(resp.Body, 4096))
	return err
}

// reachable is where to reach on this machine what listens on addr.
func reachable(addr string) (string, error) {
	if addr == "" {
		return "", errors.New("HTTP_ADDR is off: there is nothing to ask")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("read HTTP_ADDR: %w", err)
	}
	if port == "0" {
		return "", errors.New("HTTP_ADDR leaves the port to the system: nobody knows where to ask; give it a number")
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "", err == nil && ip.Is4() && ip.IsUnspecified():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}
