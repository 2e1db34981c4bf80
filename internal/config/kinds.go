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

	"wabot/internal/access"
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
		*at(c) = newSecret(value)
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
		*at(c) = newSecret(value)
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
		*at(c) = newSecret(value)
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
		*at(c) = newSecret(value)
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
		*at(c) = newSecret(value)
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
	return newSecret(scheme + "://" + rest[:at] + ":" + escaped + rest[at:])
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
	number, err := access.Number(value)
	if err != nil {
		return "", fmt.Errorf("%w; write it with its country code, like +4915112345678", err)
	}
	return number, nil
}

// people takes entries of a list, separated by commas; everyone is the entry for everyone, or empty where that must not be.
func people(at func(*Config) *access.List, everyone string) func(*Config, string) error {
	return func(c *Config, value string) error {
		var list access.List
		var bad []string
		for entry := range strings.SplitSeq(value, ",") {
			if entry = trim(entry); entry == "" {
				continue
			}
			who, err := access.Parse(entry)
			switch {
			case err != nil:
				bad = append(bad, err.Error())
			case who == access.Everyone && everyone == "":
				bad = append(bad, "* for everyone is not possible here")
			case !slices.Contains(list, who):
				list = append(list, who)
			}
		}
		if len(bad) > 0 {
			or := " or hidden addresses (203847561029384@lid)"
			if everyone != "" {
				or = ", hidden addresses (203847561029384@lid) or * for everyone"
			}
			return fmt.Errorf("%s; write phone numbers with their country code (+49 151 2345678), groups (120363041234567890@g.us)%s, separated by commas",
				strings.Join(bad, ", "), or)
		}
		*at(c) = list
		return nil
	}
}
