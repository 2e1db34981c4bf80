// Package mask hides phone numbers and WhatsApp addresses before they reach a log. What is
// left (two digits at each end) is enough to tell two chats apart while reading, and not
// enough to call anyone. Short codes, device numbers and servers stay as they are.
package mask

import (
	"regexp"
	"strings"
	"unicode"
)

const (
	// longDigits is the shortest run of digits that Text hides wherever it stands.
	longDigits = 7
	// userDigits is the shortest run of digits that is hidden within an address.
	userDigits = 5
	// bothEnds is the fewest digits of a number that keeps its first two beside its last two.
	bothEnds = 9
	dots     = "•••"
)

var (
	// address is a user part of digits (groups of old have two runs, devices follow a colon) up to
	// the @. It may begin in the middle of a word: nothing before it can make it less private.
	address = regexp.MustCompile(`\p{Nd}{5,}(?:[-._:]\p{Nd}+)*@`)
	// international is a phone number as people write it, led by a plus.
	international = regexp.MustCompile(`\+\p{Nd}(?:[ \x{a0}().\-/]*\p{Nd}){5,}`)
	digits        = regexp.MustCompile(`\p{Nd}+`)
)

// JID masks an address: "4915112345678@s.whatsapp.net" is "49•••78@s.whatsapp.net". Groups
// and LIDs are masked alike. A text that is no address is masked as well: no run of 5 digits
// or more comes through.
func JID(jid string) string { return runs(jid, userDigits) }

// Text masks the addresses and phone numbers within a line that was written elsewhere, for
// example by whatsmeow: every address, every number led by a plus, and any run of 7 digits
// or more. Times, counts and durations shorter than that stay readable.
func Text(s string) string {
	s = address.ReplaceAllStringFunc(s, func(user string) string { return runs(user, userDigits) })
	s = international.ReplaceAllStringFunc(s, func(number string) string {
		return "+" + ends(strings.Map(onlyDigits, number))
	})
	return runs(s, longDigits)
}

// runs masks each run of at least so many digits.
func runs(s string, least int) string {
	return digits.ReplaceAllStringFunc(s, func(run string) string {
		if len([]rune(run)) < least {
			return run
		}
		return ends(run)
	})
}

// ends leaves a number's last two digits, and its first two where enough lie between.
func ends(run string) string {
	r := []rune(run)
	tail := string(r[len(r)-2:])
	if len(r) < bothEnds {
		return dots + tail
	}
	return string(r[:2]) + dots + tail
}

func onlyDigits(r rune) rune {
	if unicode.IsDigit(r) {
		return r
	}
	return -1
}
