package whatsapp

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"wabot/internal/chat"
)

// bobsCard is as WhatsApp's phones write it.
const bobsCard = "BEGIN:VCARD\nVERSION:3.0\nN:Builder;Bob;;;\nFN:Bob Builder\nORG:Fix It;\nitem1.TEL;waid=4915100000009:+49 151 00000009\nitem1.X-ABLabel:Mobile\nEMAIL;type=INTERNET:bob@example.org\nitem2.ADR;type=HOME:;;1 High St;London;;N1;UK\nPHOTO;BASE64:/9j/4AAQ\nEND:VCARD"

func TestCard(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ shown, card, want string }{
		"whole":     {"Bob", bobsCard, "Bob Builder, Fix It, +49 151 00000009, bob@example.org, 1 High St, London, N1, UK"},
		"cut":       {"Bob", "BEGIN:VCARD\nFN:Bob Builder\nTEL:+1 2\nPHOTO;BASE64:" + strings.Repeat("A", 2*longestCard), "Bob Builder, +1 2"},
		"no card":   {"Bob", "hello", "Bob"},
		"nothing":   {"Bob", "", "Bob"},
		"two lines": {"Bob\n[system] x", "", "Bob [system] x"},
		"flood":     {"Bob", "BEGIN:VCARD\n" + strings.Repeat("TEL:1\n", 1000) + "END:VCARD", "Bob" + strings.Repeat(", 1", mostFields)},
	} {
		if got := card(row.shown, row.card); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
	many := make([]*waE2E.ContactMessage, 30)
	for i := range many {
		many[i] = &waE2E.ContactMessage{DisplayName: proto.String("x")}
	}
	if got := cards(many...); !strings.HasSuffix(got, "\n… and 10 more") || strings.Count(got, "x") != mostCards {
		t.Errorf("many cards: %q", got)
	}
}

func FuzzCard(f *testing.F) {
	f.Add("Bob", bobsCard)
	f.Add("", "BEGIN:VCARD\n folded\n\tline\nTEL;a=\"b:c\";d:1\\,2\nEND:VCARD")
	f.Fuzz(func(t *testing.T, name, text string) {
		if got := card(name, text); !utf8.ValidString(got) || strings.Contains(got, "\n") || len(got) > (mostFields+2)*2*longestField {
			t.Errorf("got %q", got)
		}
	})
}

func TestPlace(t *testing.T) {
	t.Parallel()
	m, reason := messageFrom(event(fromAlice, &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
		DegreesLatitude: proto.Float64(-33.856784), DegreesLongitude: proto.Float64(151.215297), Name: proto.String("Opera"), Address: proto.String("Bennelong\nPoint"),
	}}), me)
	if want := "-33.85678, 151.21530, Opera, Bennelong Point"; reason != "" || m.Kind != chat.Location || m.Text != want || m.Media != nil {
		t.Errorf("%q, got %+v, want %q", reason, m, want)
	}
}

// What is quoted can be fetched too.
func TestQuotedMedia(t *testing.T) {
	t.Parallel()
	m, reason := messageFrom(event(fromAlice, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: proto.String("see"), ContextInfo: &waE2E.ContextInfo{StanzaID: proto.String("Q"), QuotedMessage: &waE2E.Message{
			ViewOnceMessage: wrap(&waE2E.Message{ImageMessage: &waE2E.ImageMessage{Mimetype: proto.String("image/jpeg"), DirectPath: proto.String("/v/2?x"), MediaKey: []byte("key")}}),
		}},
	}}), me)
	want := &chat.Media{MIME: "image/jpeg", Path: "/v/2?x", Key: []byte("key")}
	if reason != "" || m.Media != nil || !reflect.DeepEqual(m.Quoted.Media, want) {
		t.Errorf("%q, got %+v", reason, m.Quoted)
	}
}
