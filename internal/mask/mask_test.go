package mask

import (
	"regexp"
	"testing"
	"unicode/utf8"
)

func TestJID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"4915112345678@s.whatsapp.net":    "49•••78@s.whatsapp.net",
		"4915112345678:12@s.whatsapp.net": "49•••78:12@s.whatsapp.net",
		"120363041234567890@g.us":         "12•••90@g.us",
		"4915112345678-1612345678@g.us":   "49•••78-16•••78@g.us",
		"203847561029384@lid":             "20•••84@lid",
		"12345@s.whatsapp.net":            "•••45@s.whatsapp.net",
		"4915112345678":                   "49•••78",
		"0@s.whatsapp.net":                "0@s.whatsapp.net",
		"status@broadcast":                "status@broadcast",
		"":                                "",
	} {
		if got := JID(in); got != want {
			t.Errorf("JID(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"failed to decrypt message 3EB0 from 4915112345678:3@s.whatsapp.net in 120363041234567890@g.us": "failed to decrypt message 3EB0 from 49•••78:3@s.whatsapp.net in 12•••90@g.us",
		"session with 203847561029384_1:7 not found":                                                    "session with 20•••84_1:7 not found",
		"user 12345@lid, 12345 of 99999 keys":                                                           "user •••45@lid, 12345 of 99999 keys",
		"call +49 151 234-5678 or +1 (202) 555-0143":                                                    "call +49•••78 or +12•••43",
		"4915112345678-12345@g.us":                                                                      "49•••78-•••45@g.us",
		"took 1204 ms at 2026-08-21 14:18:05":                                                           "took 1204 ms at 2026-08-21 14:18:05",
		"٤٩١٥١١٢٣٤٥٦٧٨@s.whatsapp.net":                                                                  "٤٩•••٧٨@s.whatsapp.net",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q)\n got %q\nwant %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("from 4915112345678:3@s.whatsapp.net")
	f.Add("12345-1234567@g.us +49 151 2345678")
	f.Add("+1234•••56@lid\xff1234567")
	long := regexp.MustCompile(`\p{Nd}{7,}`)
	user := regexp.MustCompile(`\p{Nd}{5,}@`)
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if long.MatchString(got) || user.MatchString(got) {
			t.Errorf("Text(%q) = %q leaves a number", s, got)
		}
		if again := Text(got); utf8.ValidString(s) && again != got {
			t.Errorf("Text is not stable: %q, then %q", got, again)
		}
		if !digits.MatchString(s) && got != s {
			t.Errorf("Text(%q) = %q changes a text without digits", s, got)
		}
	})
}

func FuzzJID(f *testing.F) {
	f.Add("4915112345678:12@s.whatsapp.net")
	f.Add("120363041234567890@g.us")
	long := regexp.MustCompile(`\p{Nd}{5,}`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := JID(s); long.MatchString(got) {
			t.Errorf("JID(%q) = %q leaves a number", s, got)
		}
	})
}
