package whatsapp

import (
	"context"
	"fmt"
)

// Logout unlinks the device at WhatsApp, so that it goes from the phone's list, and deletes it from the store. Run must be
// running, and online: else the error is ErrOffline, and nothing has changed. Run does not end by it.
func (c *Client) Logout(ctx context.Context) error {
	wm, _ := c.client()
	if wm == nil || !wm.IsLoggedIn() {
		return ErrOffline
	}
	if err := wm.Logout(ctx); err != nil {
		return fmt.Errorf("unlink the device: %w", err)
	}
	// whatsmeow has deleted the device; this says so if it has not.
	return c.forget(ctx)
}
