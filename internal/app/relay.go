package app

import (
	"context"
	"net"

	"wabot/internal/config"
	"wabot/internal/web"
)

// relay is one page for several wabots behind one name, as the containers of one service are. It needs no
// settings but HTTP_ADDR and those of the log, and knows none of their secrets.
func relay(ctx context.Context, p Process, args []string) error {
	if len(args) != 1 {
		return usageError("relay needs to know whose page: wabot relay HOST:PORT")
	}
	if _, _, err := net.SplitHostPort(args[0]); err != nil {
		return usageError("%s is not HOST:PORT", args[0])
	}
	page, log, err := config.LoadPage(p.Getenv, p.Dotenv)
	if err != nil {
		return &configError{err}
	}
	if page.Addr == "" {
		return usageError("HTTP_ADDR is off: there is nothing to serve")
	}
	return web.NewRelay(page.Addr, args[0], newLogger(p.Stderr, log)).Run(ctx)
}
