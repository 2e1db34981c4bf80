package whatsapp

import (
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

// WhatsApp's time is that of its login, however wrong this machine's clock is.
func TestUnifiedTime(t *testing.T) {
	theirs := time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC)
	id := "293400000" // as whatsmeow makes it: three days on, the milliseconds of a week
	for _, off := range []time.Duration{0, time.Minute, -time.Minute, 5 * time.Hour, -5 * time.Hour, 3 * 24 * time.Hour, -3 * 24 * time.Hour} {
		if got, ok := unifiedTime(id, theirs.Add(off)); !ok || !got.Equal(theirs) {
			t.Errorf("with a clock off by %v it is %v (%v), want %v", off, got, ok, theirs)
		}
	}
	for _, id := range []string{"", "x", "-5"} {
		if got, ok := unifiedTime(id, theirs); ok {
			t.Errorf("%q is %v", id, got)
		}
	}
	// A client that was told nothing reckons with this machine's clock; that is what whatsmeow's form is known from.
	wm := whatsmeow.NewClient(&store.Device{}, nil)
	now := time.Now()
	//lint:ignore SA1019 it is what is tested
	got, ok := unifiedTime(wm.DangerousInternals().GetUnifiedSessionID(), now)
	if off := got.Sub(now.Round(0)).Abs(); !ok || off > time.Second {
		t.Errorf("whatsmeow's ID is read as %v (%v) at %v", got, ok, now)
	}
}
