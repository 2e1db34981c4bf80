package llm

import (
	"strings"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"":                   0,
		"hello world":        2,
		"tiktoken is great!": 6,
		"お誕生日おめでとう":          9,
		"\x7f":               1,
	} {
		if got := Tokens(text); got != want {
			t.Errorf("%q has %d tokens, want %d", text, got, want)
		}
	}
	prose := strings.Repeat("The quick brown fox jumps over the lazy dog. ", 200)
	if got := Tokens(prose); got < 2000 || got > 2100 {
		t.Errorf("200 sentences have %d tokens, want about 2,000", got)
	}
}

// What is counted again is remembered, as long as it is asked for, and nothing takes more and more memory.
func TestTokensAreRemembered(t *testing.T) {
	t.Parallel()
	var m memory
	for i := range uint64(5 * most) {
		m.Store(i, int(i))
		if n, ok := m.Load(0); !ok || n != 0 {
			t.Fatalf("what is asked for all the time is forgotten after %d others", i)
		}
	}
	if _, ok := m.Load(1); ok {
		t.Error("what was asked for long ago is still kept")
	}
	if n := len(m.young) + len(m.aged); n > 2*most {
		t.Errorf("%d counts are kept", n)
	}
	text := strings.Repeat("one and only ", 1000)
	if first, again := Tokens(text), Tokens(text); first != again || first != count(text) {
		t.Errorf("counted %d, then %d, of %d", first, again, count(text))
	}
}

// A word of any length is counted in bounded time, and so is what is no text.
func TestTokensOfWhatStrangersSend(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	for _, text := range []string{strings.Repeat("a", 65_536), strings.Repeat("\xff", 65_536), strings.Repeat("👩‍🚀", 5000)} {
		if n := Tokens(text); n == 0 || n > len(text) {
			t.Errorf("%d bytes have %d tokens", len(text), n)
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("hello")
	f.Add(strings.Repeat("\x80", 600))
	f.Fuzz(func(t *testing.T, text string) {
		if n := count(text); n > len(text) || n == 0 && text != "" {
			t.Errorf("%q has %d tokens", text, n)
		}
	})
}
