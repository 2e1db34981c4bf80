package web

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"rsc.io/qr"
)

var (
	//go:embed page.css
	style string

	// policy lets a page do nothing but show itself, in our style alone.
	policy = func() string {
		sum := sha256.Sum256([]byte(style))
		return fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", base64.StdEncoding.EncodeToString(sum[:]))
	}()
)

// tone is how good something is, as the class of its element.
type tone string

const (
	good tone = "good"
	wait tone = "wait"
	bad  tone = "bad"
)

// view is what the page shows.
type view struct {
	Heading      string
	Tone         tone
	Reason, Next string
	// Refresh is in how many seconds the page asks again, 0 for never.
	Refresh int
	// QR is a picture, as HTML; the rest is text.
	QR      string
	Code    string
	Expiry  string
	Notices []notice
	Rows    []row
	// Messages are shown where Asked is set; Known tells none from not known.
	Messages     []message
	Asked, Known bool
	Now          string
}

// notice is something to look after, what to do about it, and the words of what failed.
type notice struct {
	Tone               tone
	Text, Next, Detail string
}

// row is one line of facts. Time, if set, is what Value tells of.
type row struct{ Name, Value, Time string }

// message is what became of one.
type message struct {
	ID, From, In, Outcome string
	Tone                  tone
	Steps                 []step
}

// step is a Step; At is its time for people, Time for machines.
type step struct{ What, At, Time, Why string }

// words say what each state is.
var words = map[State]struct {
	heading, reason string
	tone            tone
}{
	Opening:    {"Opening the store", "wabot waits for the database or the files that it keeps its state in.", wait},
	Standby:    {"Standing by", "Another wabot drives this device. This one takes over when that one stops.", good},
	Starting:   {"Starting", "", wait},
	Pairing:    {"Link the phone", "", wait},
	Connecting: {"Connecting to WhatsApp", "", wait},
	Online:     {"Online", "Linked, connected and answering.", good},
	Waiting:    {"Waiting to connect", "", wait},
	Ended:      {"The link has ended", "", bad},
}

// refresh is how often a page asks again that shows what will change soon, settled how often any other does: one that is
// left open must not tell for long of what is over.
const (
	refresh = 5 * time.Second
	settled = 30 * time.Second
)

// unlinked is how long WhatsApp keeps the devices of a phone that is away, and away when to warn of it.
const (
	unlinked = 14 * 24 * time.Hour
	away     = 10 * 24 * time.Hour
)

func viewOf(st Status, now time.Time) view {
	w := words[st.State]
	v := view{
		Heading: w.heading, Tone: w.tone, Reason: w.reason, Next: sentence(st.Next),
		Now: now.Format("15:04:05 MST, 2 January 2006"),
	}
	if st.Reason != "" {
		v.Reason = sentence(st.Reason)
	}
	v.Refresh = int(settled / time.Second)
	if !st.settled() {
		v.Refresh = int(refresh / time.Second)
	}
	if left := st.Expires.Sub(now); left > 0 {
		v.QR, v.Code = picture(st.QR), st.Code
		v.Expiry = fmt.Sprintf("Works for another %s; then the next one is shown here.", span(left))
		v.Refresh = max(1, min(v.Refresh, int(left/time.Second)+1))
	}
	if st.StoreDown != "" {
		v.Tone = bad
		if st.State == Online {
			v.Heading, v.Reason = "Online, but without its store", "Linked and connected; nothing can be answered at the moment."
		}
		v.Notices = append(v.Notices, notice{bad, sentence(storeReason), sentence(storeNext), sentence(st.StoreDown)})
	}
	if gone := now.Sub(st.PhoneSeen); !st.PhoneSeen.IsZero() && gone >= away {
		v.Notices = append(v.Notices, notice{bad, fmt.Sprintf("The account's phone was last seen %s ago.", span(gone)),
			fmt.Sprintf("Open WhatsApp on the phone: its linked devices are unlinked after %d days without it.", int(unlinked/(24*time.Hour))), ""})
	}
	if st.Model.failing() {
		if v.Tone == good {
			v.Tone = wait
			if st.Reason == "" {
				v.Reason = "Linked and connected; the model failed last."
			}
		}
		v.Notices = append(v.Notices, notice{bad, fmt.Sprintf("The model failed %s ago.", span(now.Sub(st.Model.Failed))), sentence(st.Model.Failure), ""})
	}
	for _, s := range st.Spent {
		if s.UsedUp != "" {
			v.Notices = append(v.Notices, notice{wait, s.UsedUp + " is used up.",
				fmt.Sprintf("No question is answered until %s, or until the setting is raised.", s.Until.Format(untilForm)), ""})
		}
	}

	text := func(name, value string) {
		if value != "" {
			v.Rows = append(v.Rows, row{Name: name, Value: value})
		}
	}
	ago := func(name string, t time.Time) {
		if !t.IsZero() {
			v.Rows = append(v.Rows, row{name, span(now.Sub(t)) + " ago", t.UTC().Format(time.RFC3339)})
		}
	}
	text("Account", st.Account)
	ago("Phone last seen", st.PhoneSeen)
	if st.Waiting >= 0 {
		text("Messages waiting", fmt.Sprint(st.Waiting))
	}
	ago("The oldest came in", st.Oldest)
	text("Model", st.Model.Name)
	ago("Model last answered", st.Model.Answered)
	ago("Model last failed", st.Model.Failed)
	for _, s := range st.Spent {
		text(s.Name, s.Text)
	}
	text("Store", st.Store)
	if st.State == Standby {
		text("Role", "standby")
	} else if st.State != Opening {
		text("Role", "leader")
	}
	ago("State changed", st.Since)
	ago("Process started", st.Started)
	for _, ver := range st.Versions {
		text(ver.Part, ver.Version)
	}
	return v
}

// untilForm is how a time that is some way off is written.
const untilForm = "2006-01-02 15:04 MST"

// messagesOf are the messages as the page shows them.
func messagesOf(all []Message, now time.Time) (views []message) {
	for _, m := range all {
		v := message{ID: m.ID, From: m.From, In: m.In, Outcome: m.Outcome, Tone: tone(m.Fate)}
		for _, s := range m.Steps {
			x := step{What: s.What, Why: s.Why}
			if !s.Time.IsZero() {
				x.At, x.Time = clock(s.Time, now), s.Time.UTC().Format(time.RFC3339)
			}
			v.Steps = append(v.Steps, x)
		}
		views = append(views, v)
	}
	return views
}

// clock is the time of day, with the day where that is not today.
func clock(t, now time.Time) string {
	t = t.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("2 Jan " + time.TimeOnly)
}

func (s *Site) page(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	st := s.Status(r.Context())
	v := viewOf(st, now)
	// A store that does not answer is not asked once more. While the phone is not linked the code is all that matters.
	if s.Messages != nil && st.StoreDown == "" && st.State != Pairing {
		all, known := s.Messages(r.Context())
		v.Messages, v.Asked, v.Known = messagesOf(all, now), true, known
	}
	s.write(w, http.StatusOK, v)
}

// refuse shows why there is nothing to see.
func (s *Site) refuse(w http.ResponseWriter, code int, heading, reason, next string) {
	s.write(w, code, view{Heading: heading, Tone: bad, Reason: reason, Next: next, Now: time.Now().Format("15:04:05 MST")})
}

func (s *Site) write(w http.ResponseWriter, code int, v view) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	// An error here is a reader who has gone.
	_, _ = w.Write(v.html())
}

// picture draws a QR code, or nothing for a text that is empty or too long for one. It is black on
// white in dark mode too: not every phone reads the inverse.
func picture(text string) string {
	if text == "" {
		return ""
	}
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return ""
	}
	const border = 4 // modules, as the standard asks for
	var path strings.Builder
	for y := range code.Size {
		for x := range code.Size {
			if code.Black(x, y) {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+border, y+border)
			}
		}
	}
	size := code.Size + 2*border
	return fmt.Sprintf(
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="The QR code to link the phone" shape-rendering="crispEdges"><rect width="%d" height="%d" fill="#fff"/><path d="%s" fill="#000"/></svg>`,
		size, size, 5*size, 5*size, size, size, path.String())
}

// sentence makes a whole sentence of a clause.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	if !strings.HasPrefix(s, "wabot") {
		s = string(unicode.ToUpper(r)) + s[n:]
	}
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}

// span says how long a time is, in its largest unit.
func span(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := d / u.unit; {
		case n == 1:
			return "1 " + u.name
		case n > 1:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	if n := int(d / time.Second); n > 1 {
		return fmt.Sprintf("%d seconds", n)
	}
	return "a moment"
}
