package app

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"wabot/internal/config"
	"wabot/internal/qr/qrtest"
	"wabot/internal/whatsapp"
)

// pieces is a terminal that shows what is written as it comes.
type pieces struct {
	mu  sync.Mutex
	all []string
	on  func() // called after each
}

func (p *pieces) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.all = append(p.all, string(b))
	p.mu.Unlock()
	if p.on != nil {
		p.on()
	}
	return len(b), nil
}

// A code is written line by line, and no line of the log comes between.
func TestCodeIsWrittenInLines(t *testing.T) {
	t.Parallel()
	const text = "2@abc,def"
	var codes sync.Mutex
	var out pieces
	log := newLoggerTo(held{&out, &codes}, false, config.Log{Level: slog.LevelInfo})
	var logging sync.WaitGroup
	screen := pieces{on: func() {
		logging.Go(func() { log.Info("something else") })
		time.Sleep(time.Millisecond) // in which it comes between, where it can
	}}
	screen.on()
	logging.Wait()
	shown := newScreen(writers{&screen, &out}, &codes, log, "!ai", "127.0.0.1:3000")
	shown.show(whatsapp.State{Phase: whatsapp.Pairing, QR: text, Expires: time.Now()})
	logging.Wait()
	all := strings.Join(out.all, "")
	if got, err := qrtest.Read(all); err != nil || got != text {
		t.Errorf("read %q (%v) off\n%s", got, err, all)
	}
	for _, piece := range screen.all {
		if strings.Count(piece, "\n") != 1 || !strings.HasSuffix(piece, "\n") {
			t.Errorf("a piece is %q, want one line", piece)
		}
	}
	if want := "Does it not fit, or not scan? http://127.0.0.1:3000 shows it as a picture; or set PAIR_PHONE, "; !strings.Contains(all, want) {
		t.Errorf("no %q below\n%s", want, all)
	}
	last := strings.LastIndex(all, "\x1b[0m\n")
	if first := strings.Index(all, "\x1b["); strings.Contains(all[first:last], "something") {
		t.Errorf("the log comes between:\n%s", all)
	}
	if !strings.Contains(all[last:], "something") {
		t.Error("nothing was logged meanwhile")
	}
}

// writers writes to both, the second first.
type writers struct{ a, b *pieces }

func (w writers) Write(p []byte) (int, error) {
	if n, err := w.b.Write(p); err != nil {
		return n, err
	}
	return w.a.Write(p)
}
