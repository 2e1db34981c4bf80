package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"wabot/internal/mask"
)

// The kinds of values. Each makes an option's read from the place of its value in the Config.

func text(at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		*at(c) = value
		return nil
	}
}

func boolean(at func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, value string) error {
		v, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither yes nor no; write True or False", value)
		}
		*at(c) = v
		return nil
	}
}

func count(at func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		v, err := strconv.Atoi(value)
		if err != nil || v < 0 {
			return fmt.Errorf("%q is not a count; write a whole number such as 20, or 0 for none", value)
		}
		*at(c) = v
		return nil
	}
}

func duration(at func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		v, err := time.ParseDuration(value)
		if err != nil || v <= 0 {
			return fmt.Errorf("%q is not a length of time; write a number with its unit, such as 90s or 5m", value)
		}
		*at(c) = v
		return nil
	}
}

// pause takes a length of time up to most, or none.
func pause(at func(*Config) *time.Duration, most time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		v, err := time.ParseDuration(value)
		if err != nil || v < 0 || v > most {
			return fmt.Errorf("%q is not a length of time up to %v; write a number with its unit, such as 1s or 500ms, or 0s for none", value, most)
		}
		*at(c) = v
		return nil
	}
}

func choice[T any](at func(*Config) *T, choices map[string]T) func(*Config, string) error {
	return func(c *Config, value string) error {
		v, ok := choices[strings.ToLower(value)]
		if !ok {
			return fmt.Errorf("%q is not a choice; write one of %s", value, strings.Join(slices.Sorted(maps.Keys(choices)), ", "))
		}
		*at(c) = v
		return nil
	}
}

// apiKey takes what can stand in an HTTP header.
func apiKey(at func(*Config) *Secret) func(*Config, string) error {
	return func(c *Config, value string) error {
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("the value given (redacted) has spaces or characters that no key has; copy the key again, on one line")
		}
		*at(c) = NewSecret(value)
		return nil
	}
}

// baseURL takes the address of an API such as like.
func baseURL(like string, at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		u, err := url.Parse(value)
		// A URL can carry a password, in more places than can be told apart in a broken one.
		shown := strconv.Quote(value)
		if strings.ContainsAny(value, "@?") {
			shown = "the value given (redacted)"
		}
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
			return fmt.Errorf("%s is not an http or https URL; write it like %s", shown, like)
		case u.User != nil, u.RawQuery != "", u.Fragment != "":
			return fmt.Errorf("%s has more than host and path; write it like %s, and the key into its own setting", shown, like)
		case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/completions"):
			return fmt.Errorf("%s is the address of one call; leave out what follows /v1, like %s", shown, like)
		}
		*at(c) = strings.TrimRight(value, "/")
		return nil
	}
}

var widthByHeight = regexp.MustCompile(`^[1-9][0-9]{1,3}x[1-9][0-9]{1,3}$`)

func pictureSize(at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if value = strings.ToLower(value); !widthByHeight.MatchString(value) {
			return fmt.Errorf("%q is not the size of a picture; write it like 1024x1024", value)
		}
		*at(c) = value
		return nil
	}
}

func mongoURL(at func(*Config) *Secret) func(*Config, string) error {
	return func(c *Config, value string) error {
		rest, ok := strings.CutPrefix(value, "mongodb://")
		if !ok {
			rest, ok = strings.CutPrefix(value, "mongodb+srv://")
		}
		if !ok || rest == "" {
			return errors.New("the value given (redacted) is not the address of a MongoDB; write it like mongodb://localhost:27017 or mongodb+srv://user:password@cluster.example.net")
		}
		*at(c) = NewSecret(value)
		return nil
	}
}

// listen takes an address to listen on, or off.
func listen(at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		if strings.EqualFold(value, "off") {
			*at(c) = ""
			return nil
		}
		host, port, err := net.SplitHostPort(value)
		if err == nil && host != "" && host != "localhost" {
			_, err = netip.ParseAddr(host)
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return fmt.Errorf("%q is not an address with a port; write it like 127.0.0.1:3000, 0.0.0.0:3000 or [::1]:3000, or write off", value)
		}
		*at(c) = value
		return nil
	}
}

// loopback reports whether only this machine reaches host.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// shortestToken is the shortest text that nobody finds by trying.
const shortestToken = 16

func token(at func(*Config) *Secret) func(*Config, string) error {
	return func(c *Config, value string) error {
		if len(value) < shortestToken || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("the value given (redacted) is too easily found; write at least %d random letters and digits", shortestToken)
		}
		*at(c) = NewSecret(value)
		return nil
	}
}

// sessionKey takes a key of 32 bytes, and keeps it in hexadecimal.
func sessionKey(at func(*Config) *Secret) func(*Config, string) error {
	return func(c *Config, value string) error {
		key, err := hex.DecodeString(value)
		if err != nil || len(key) != 32 {
			return errors.New("the value given (redacted) is not a key; write 64 hexadecimal digits, as openssl rand -hex 32 prints them")
		}
		*at(c) = NewSecret(value)
		return nil
	}
}

// ShortestPassphrase is the shortest passphrase of a backup, in bytes.
const ShortestPassphrase = 12

func passphrase(at func(*Config) *Secret) func(*Config, string) error {
	return func(c *Config, value string) error {
		if len(value) < ShortestPassphrase {
			return fmt.Errorf("the value given (redacted) is too easily found; write at least %d characters", ShortestPassphrase)
		}
		*at(c) = NewSecret(value)
		return nil
	}
}

// withPassword gives a password to the user of a MongoDB URL who has none.
func withPassword(mongoURL Secret, password string) Secret {
	scheme, rest, _ := strings.Cut(mongoURL.Reveal(), "://")
	// By hand, as several hosts with ports are no URL to net/url.
	authority := len(rest)
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = i
	}
	at := strings.LastIndexByte(rest[:authority], '@')
	if at <= 0 || strings.Contains(rest[:at], ":") {
		return mongoURL
	}
	// UserPassword escapes what url.QueryEscape would write as a plus sign.
	escaped := strings.TrimPrefix(url.UserPassword("", password).String(), ":")
	return NewSecret(scheme + "://" + rest[:at] + ":" + escaped + rest[at:])
}

// exampleOf warns of a password that stands in .env.example.
func exampleOf(example string) func(string) string {
	return func(value string) string {
		if value != example {
			return ""
		}
		return "is the one of the example, which everybody knows; choose one of your own, see the README on changing the database's passwords"
	}
}

func key32(at func(*Config) *[]byte) func(*Config, string) error {
	return func(c *Config, value string) error {
		key, err := hex.DecodeString(value)
		if err != nil || len(key) != 32 {
			return errors.New("the value given is not a key of 32 bytes; write 64 hexadecimal digits")
		}
		*at(c) = key
		return nil
	}
}

func phone(at func(*Config) *string) func(*Config, string) error {
	return func(c *Config, value string) error {
		number, err := PhoneNumber(value)
		*at(c) = number
		return err
	}
}

// PhoneNumber is a phone number, as people write it with its country code, in digits.
func PhoneNumber(value string) (string, error) {
	number, err := phoneNumber(value)
	if err != nil {
		return "", fmt.Errorf("%w; write it with its country code, like +4915112345678", err)
	}
	return number, nil
}

func allowed(at func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, value string) error {
		var list []string
		var bad []error
		for entry := range strings.SplitSeq(value, ",") {
			if entry = trim(entry); entry == "" {
				continue
			}
			who, err := address(entry)
			if err != nil {
				bad = append(bad, err)
			} else if !slices.Contains(list, who) {
				list = append(list, who)
			}
		}
		if len(bad) > 0 {
			var words []string
			for _, err := range bad {
				words = append(words, err.Error())
			}
			return fmt.Errorf("%s; write phone numbers with their country code (+49 151 2345678), groups (120363041234567890@g.us), hidden addresses (203847561029384@lid) or * for everyone, separated by commas",
				strings.Join(words, ", "))
		}
		*at(c) = list
		return nil
	}
}

var (
	groupJID = regexp.MustCompile(`^[0-9]{5,20}(-[0-9]{5,20})?@g\.us$`)
	lidJID   = regexp.MustCompile(`^([0-9]{5,20})(:[0-9]+)?@lid$`)
	phoneJID = regexp.MustCompile(`^([0-9]+)(:[0-9]+)?@(s\.whatsapp\.net|c\.us)$`)
)

// address brings an entry of ALLOW into the form that Access.Allow has.
func address(entry string) (string, error) {
	jid := strings.ToLower(entry)
	switch {
	case jid == "*", groupJID.MatchString(jid):
		return jid, nil
	case lidJID.MatchString(jid):
		return lidJID.FindStringSubmatch(jid)[1] + "@lid", nil
	case phoneJID.MatchString(jid):
		return phoneNumber(phoneJID.FindStringSubmatch(jid)[1])
	case strings.Contains(jid, "@"):
		return "", fmt.Errorf("%q is no address of a person or a group", mask.JID(entry))
	}
	return phoneNumber(entry)
}

// phoneNumber brings a number as people write it into digits that begin with the country
// code: "+49 (0)151 23-45678" is "491512345678". 7 to 15 digits, as E.164 has them.
func phoneNumber(s string) (string, error) {
	// Numbers copied from an address book carry invisible marks of writing direction.
	number := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.In(r, unicode.Cf, unicode.Pd) || r == '.' || r == '/' {
			return -1
		}
		return r
	}, s)
	shown := strconv.Quote(mask.JID(number))
	international := strings.HasPrefix(number, "+") || strings.HasPrefix(number, "00")
	number = strings.TrimPrefix(strings.TrimPrefix(number, "+"), "00")
	if international {
		// The zero that is dialled within the country only.
		number = strings.Replace(number, "(0)", "", 1)
	}
	number = strings.NewReplacer("(", "", ")", "").Replace(number)
	switch {
	case number == "", strings.Trim(number, "0123456789") != "":
		return "", fmt.Errorf("%s is not a phone number", shown)
	case number[0] == '0':
		return "", fmt.Errorf("%s has no country code", shown)
	case len(number) < 7 || len(number) > 15:
		return "", fmt.Errorf("%s has %d digits, and phone numbers have 7 to 15 with their country code", shown, len(number))
	}
	return number, nil
}
