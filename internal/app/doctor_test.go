package app

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestDoctorsMeasures(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		look func(*doctor)
		says string
		bad  int
	}{
		{func(d *doctor) { d.clock(noon.Add(-20*time.Second), noon) }, "ok       clock", 0},
		{func(d *doctor) { d.clock(noon.Add(-2*time.Minute), noon) }, "warning  clock     this machine's clock is off by -2m0s", 0},
		{func(d *doctor) { d.clock(noon.Add(3*time.Hour), noon) }, "error    clock     this machine's clock is off by 3h0m0s", 1},
		{func(d *doctor) { d.clock(noon, time.Time{}) }, "skipped  clock", 0},
		{func(d *doctor) { d.room("/x", 5<<30) }, "ok       disk      5120 MB", 0},
		{func(d *doctor) { d.room("/x", 200<<20) }, "warning  disk", 0},
		{func(d *doctor) { d.room("/x", 1<<20) }, "error    disk", 1},
	} {
		var out bytes.Buffer
		d := &doctor{Process: Process{Stdout: &out}}
		row.look(d)
		if !strings.HasPrefix(out.String(), row.says) || d.wrong != row.bad {
			t.Errorf("got %q and %d errors, want %q and %d", out.String(), d.wrong, row.says, row.bad)
		}
	}
}
