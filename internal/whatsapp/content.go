package whatsapp

import (
	"fmt"
	"math"
	"strings"

	"github.com/emersion/go-vcard"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"

	"wabot/internal/chat"
)

// longestName bounds a file's name and type, in bytes; a stranger chooses them.
const longestName = 200

// mediaOf is what an unwrapped message carries and does not contain, or nil.
func mediaOf(msg *waE2E.Message) *chat.Media {
	type media interface {
		whatsmeow.DownloadableMessage
		GetMimetype() string
		GetFileLength() uint64
	}
	of := func(m media, name string, seconds uint32) *chat.Media {
		return &chat.Media{
			MIME: short(m.GetMimetype(), longestName), Name: short(name, longestName), Size: m.GetFileLength(), Seconds: int(min(seconds, math.MaxInt32)),
			Path: m.GetDirectPath(), Key: m.GetMediaKey(), SHA256: m.GetFileSHA256(), EncSHA256: m.GetFileEncSHA256(),
		}
	}
	switch {
	case msg.ImageMessage != nil:
		return of(msg.ImageMessage, "", 0)
	case msg.StickerMessage != nil:
		return of(msg.StickerMessage, "", 0)
	case msg.AudioMessage != nil:
		return of(msg.AudioMessage, "", msg.AudioMessage.GetSeconds())
	case msg.VideoMessage != nil:
		return of(msg.VideoMessage, "", msg.VideoMessage.GetSeconds())
	case msg.PtvMessage != nil:
		return of(msg.PtvMessage, "", msg.PtvMessage.GetSeconds())
	case msg.DocumentMessage != nil:
		return of(msg.DocumentMessage, msg.DocumentMessage.GetFileName(), 0)
	}
	return nil
}

// short is the begin of a line of text, in valid UTF-8.
func short(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "")
	return strings.Join(strings.Fields(s), " ")
}

// place is a location as text: where it is, and what its sender has written to it.
func place(latitude, longitude float64, words ...string) string {
	text := fmt.Sprintf("%.5f, %.5f", latitude, longitude)
	for _, w := range words {
		if w = short(w, longestField); w != "" {
			text += ", " + w
		}
	}
	return text
}

const (
	// longestField bounds a field of a location or a card, in bytes, longestCard a card that is read.
	longestField = 300
	longestCard  = 64 << 10
	// mostCards and mostFields bound what is told of the cards in one message.
	mostCards  = 20
	mostFields = 20
)

// cards are contact cards as text, a line each.
func cards(all ...*waE2E.ContactMessage) string {
	var lines []string
	for i, c := range all {
		if i == mostCards {
			lines = append(lines, fmt.Sprintf("… and %d more", len(all)-mostCards))
			break
		}
		lines = append(lines, card(c.GetDisplayName(), c.GetVcard()))
	}
	return strings.Join(lines, "\n")
}

// told are the fields of a card that are worth telling, after the name.
var told = []string{vcard.FieldOrganization, vcard.FieldTitle, vcard.FieldTelephone, vcard.FieldEmail, vcard.FieldAddress, vcard.FieldURL, vcard.FieldBirthday, vcard.FieldNote}

// card is a contact card (vCard, RFC 6350 and the versions before) as a line of text. Of a card that cannot be read
// the name is left that WhatsApp shows.
func card(name, text string) string {
	name = short(name, longestField)
	// A card that was cut, as by a photograph in it, has an error and what stands before the cut.
	parsed, _ := vcard.NewDecoder(strings.NewReader(text[:min(len(text), longestCard)])).Decode()
	if full := short(parsed.PreferredValue(vcard.FieldFormattedName), longestField); full != "" {
		name = full
	}
	line := []string{name}
	for _, field := range told {
		for _, f := range parsed[field] {
			if len(line) > mostFields {
				break
			}
			// The parts of an address or an organisation are divided by semicolons, many of them empty.
			value := short(strings.Join(strings.FieldsFunc(f.Value, func(r rune) bool { return r == ';' }), ", "), longestField)
			if value != "" && value != name {
				line = append(line, value)
			}
		}
	}
	return strings.Join(line, ", ")
}
