// Package access says whom an operator or an admin means: a person by phone number or by the hidden address (LID) that
// WhatsApp uses for the same person, a group, or everyone. It keeps the form in which they are compared, and brings
// what people write into it.
package access

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"wabot/internal/mask"
)

// Everyone is the entry that everyone is in.
const Everyone = "*"

// GroupPolicy says who is answered in groups: those who are allowed and everyone in the groups that are, everyone, or
// nobody but the account's owner.
type GroupPolicy string

// The policies.
const (
	GroupsAllowed GroupPolicy = "allowed"
	GroupsAny     GroupPolicy = "any"
	GroupsOff     GroupPolicy = "off"
)

// List is people and groups: phone numbers in digits with their country code, LIDs (…@lid), groups (…@g.us), or Everyone.
type List []string

// Has reports whether one of the addresses of a person or a group, of which some may be empty, is in the list.
func (l List) Has(jids ...string) bool {
	return slices.ContainsFunc(l, func(entry string) bool { return Is(entry, jids...) })
}

// Is reports whether an entry means who has these addresses, of which some may be empty.
func Is(entry string, jids ...string) bool {
	return entry == Everyone || slices.ContainsFunc(jids, func(jid string) bool { return jid != "" && entry == Entry(jid) })
}

// Entry is an address, without a device, as an entry of a List.
func Entry(jid string) string { return strings.TrimSuffix(jid, "@s.whatsapp.net") }

var (
	groupJID = regexp.MustCompile(`^[0-9]{5,20}(-[0-9]{5,20})?@g\.us$`)
	lidJID   = regexp.MustCompile(`^([0-9]{5,20})(:[0-9]+)?@lid$`)
	phoneJID = regexp.MustCompile(`^([0-9]+)(:[0-9]+)?@(s\.whatsapp\.net|c\.us)$`)
)

// Parse brings what a person writes for one entry into the form that a List has.
func Parse(entry string) (string, error) {
	jid := strings.ToLower(entry)
	switch {
	case jid == "*", groupJID.MatchString(jid):
		return jid, nil
	case lidJID.MatchString(jid):
		return lidJID.FindStringSubmatch(jid)[1] + "@lid", nil
	case phoneJID.MatchString(jid):
		return Number(phoneJID.FindStringSubmatch(jid)[1])
	case strings.Contains(jid, "@"):
		return "", fmt.Errorf("%q is no address of a person or a group", mask.JID(entry))
	}
	return Number(entry)
}

// Number brings a number as people write it into digits that begin with the country
// code: "+49 (0)151 23-45678" is "491512345678". 7 to 15 digits, as E.164 has them.
func Number(s string) (string, error) {
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
