package access

import "testing"

func TestParse(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"+49 151 2345678":                       "491512345678",
		"+49 (0)151 2345678":                    "491512345678",
		"0049-151-2345678":                      "491512345678",
		"491512345678":                          "491512345678",
		"+1 (202) 555.0143":                     "12025550143",
		"\u202a+49\u00a0151\u20112345678\u202c": "491512345678",
		"491512345678@s.whatsapp.net":           "491512345678",
		"491512345678:3@c.us":                   "491512345678",
		"120363041234567890@g.us":               "120363041234567890@g.us",
		"491512345678-1612345678@G.US":          "491512345678-1612345678@g.us",
		"203847561029384:7@lid":                 "203847561029384@lid",
		"*":                                     "*",
	} {
		if got, err := Parse(given); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", given, got, err, want)
		}
	}
	for _, given := range []string{"", "bob", "0151 2345678", "+49 1", "1@newsletter"} {
		if got, err := Parse(given); err == nil {
			t.Errorf("%q: got %q, want an error", given, got)
		}
	}
}

func TestHas(t *testing.T) {
	t.Parallel()
	l := List{"491512345678", "203847561029384@lid", "120363041234567890@g.us"}
	for jid, want := range map[string]bool{
		"491512345678@s.whatsapp.net": true, "49151234567@s.whatsapp.net": false, "203847561029384@lid": true, "491512345678@lid": false,
		"120363041234567890@g.us": true, "": false,
	} {
		if l.Has("", jid) != want {
			t.Errorf("%q is in the list: %v", jid, !want)
		}
	}
	if !(List{Everyone}).Has("anybody@lid") {
		t.Error("everyone has not anybody")
	}
}
