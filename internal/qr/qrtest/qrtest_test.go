package qrtest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"wabot/internal/qr"
)

// Pairing texts of every look are read: they are random, and tests pair often.
func TestReadReadsAll(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{1})
	for n := range 3000 {
		raw := make([]byte, 165)
		random.Read(raw)
		text := "2@" + base64.StdEncoding.EncodeToString(raw)
		var b bytes.Buffer
		if err := qr.Write(&b, text, qr.Options{}); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(b.String()); err != nil || got != text {
			t.Errorf("code %d: Read = %q, %v", n, got, err)
		}
	}
}

func TestReadTakesTheLastWholeCode(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	b.WriteString("some log\n")
	for _, text := range []string{"first " + strings.Repeat("x", 200), "second " + strings.Repeat("y", 200)} {
		if err := qr.Write(&b, text, qr.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	screen := "app_1  | " + strings.ReplaceAll(b.String(), "\n", "\napp_1  | ")
	if got, err := Read(screen); err != nil || !strings.HasPrefix(got, "second") {
		t.Errorf("Read = %q, %v", got, err)
	}
	if got, err := Read(screen[:len(screen)-600]); !errors.Is(err, ErrNone) {
		t.Errorf("half a code: Read = %q, %v", got, err)
	}
	if _, err := Read(strings.Replace(screen, "▄", "█", 3000)); err == nil {
		t.Error("a broken code is read all the same")
	}
}

// What comes after a code of which a line is broken, as docker-compose 1.29 breaks one now and then, is read.
func TestReadGoesOnAfterABrokenLine(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, text := range []string{"first " + strings.Repeat("x", 200), "second " + strings.Repeat("y", 200)} {
		if err := qr.Write(&b, text, qr.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.SplitAfter(b.String(), "\n")
	lines[20] = strings.Replace(lines[20], "█", "\ufffd\ufffd\ufffd", 1)
	if got, err := Read(strings.Join(lines, "")); err != nil || !strings.HasPrefix(got, "second") {
		t.Errorf("Read = %q, %v", got, err)
	}
}
