package config

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "redacted"

// Secret is a value that does not show itself: printed with any verb, logged or marshalled
// it is "redacted". Only Reveal gives it away. The zero Secret is unset.
type Secret struct {
	// A pointer, because fmt cannot call Format on an unexported field and prints what it holds:
	// then it prints an address.
	value *string
}

// newSecret returns a Secret that reveals value.
func newSecret(value string) Secret { return Secret{value: &value} }

// Reveal returns the value itself, empty for an unset Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// String implements fmt.Stringer for those who look for it beside fmt.
func (s Secret) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, and with it JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
