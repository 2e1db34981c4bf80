package whatsapp

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/store"

	"wabot/internal/mask"
)

// Reached is what Reach has found.
type Reached struct {
	// Latest is the newest version of WhatsApp's web client, BuiltIn the one that this program was built with. Latest is empty
	// where VersionErr says why it could not be looked up.
	Latest, BuiltIn string
	VersionErr      error
	// Date is what the server's clock said at the time At of ours; zero where it did not.
	Date, At time.Time
}

// Reach asks whether WhatsApp can be reached from here, without an account: its start page for the version, and the websocket, which
// is opened and closed. dial is as Options.HTTP.
func Reach(ctx context.Context, dial *http.Client) (r Reached, err error) {
	if dial == nil {
		dial = http.DefaultClient
	}
	client := *dial
	client.Transport = dated{transport(dial), func(date time.Time) {
		if r.Date.IsZero() {
			r.Date, r.At = date, time.Now()
		}
	}}
	r.BuiltIn = store.GetWAVersion().String()
	latest, err := whatsmeow.GetLatestVersion(ctx, &client)
	if err == nil {
		r.Latest = latest.String()
	} else {
		// The page may have changed; what counts is the socket.
		r.VersionErr = fmt.Errorf("look up the newest version: %s", mask.Text(err.Error()))
	}
	conn, _, err := websocket.Dial(ctx, socket.URL, &websocket.DialOptions{HTTPClient: &client, HTTPHeader: http.Header{"Origin": {socket.Origin}}})
	if err != nil {
		return r, fmt.Errorf("open the socket: %s", mask.Text(err.Error()))
	}
	return r, conn.CloseNow()
}

func transport(c *http.Client) http.RoundTripper {
	if c.Transport != nil {
		return c.Transport
	}
	return http.DefaultTransport
}

// dated tells of the date of each answer.
type dated struct {
	http.RoundTripper
	tell func(time.Time)
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(r)
	if err == nil {
		if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			d.tell(at)
		}
	}
	return resp, err
}
