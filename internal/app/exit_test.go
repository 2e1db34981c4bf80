package app

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"wabot/internal/whatsapp"
)

func TestExitCodesAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), exitCodes) {
		t.Errorf("README.md does not have the exit codes as wabot help prints them:\n%s", exitCodes)
	}
	seen := map[int]bool{}
	for _, err := range []error{
		nil, errors.New("other"), &configError{errors.New("x")}, &storeError{errors.New("x")}, &lockedError{errors.New("x")},
		&whatsapp.EndError{End: whatsapp.LoggedOut}, &whatsapp.EndError{End: whatsapp.Banned}, &whatsapp.EndError{End: whatsapp.Outdated},
		&whatsapp.EndError{End: whatsapp.Replaced}, &whatsapp.EndError{End: whatsapp.Locked},
	} {
		if err != nil {
			err = fmt.Errorf("run: %w", err)
		}
		code := ExitCode(err)
		if seen[code] {
			t.Errorf("%v: code %d is another's too", err, code)
		}
		seen[code] = true
		if !strings.Contains(exitCodes, fmt.Sprintf("  %d  ", code)) {
			t.Errorf("%v: code %d is not documented", err, code)
		}
	}
}
