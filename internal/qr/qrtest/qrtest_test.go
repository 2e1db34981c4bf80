package qrtest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"wabot/internal/qr"
)

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
