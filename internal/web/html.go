package web

import (
	"bytes"
	"fmt"
	"html"
	"strconv"
)

// markup is HTML in the making. It is made without html/template, for which the linker would keep every exported method
// of every type there is: a fifth of the program.
type markup struct{ bytes.Buffer }

// add adds HTML in which each %s stands for something to show; that is escaped, for a text and for an attribute in quotes alike.
func (m *markup) add(format string, shown ...string) {
	escaped := make([]any, len(shown))
	for i, text := range shown {
		escaped[i] = html.EscapeString(text)
	}
	fmt.Fprintf(m, format, escaped...)
}

// some adds HTML with one %s, unless there is nothing to show.
func (m *markup) some(format, shown string) {
	if shown != "" {
		m.add(format, shown)
	}
}

// html is the whole page.
func (v view) html() []byte {
	var m markup
	m.add(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
`)
	if v.Refresh > 0 {
		m.add("<meta http-equiv=\"refresh\" content=\"%s\">\n", strconv.Itoa(v.Refresh))
	}
	m.add("<title>%s · wabot</title>\n<style>", v.Heading)
	m.WriteString(style)
	m.add("</style>\n</head>\n<body>\n<main>\n")
	m.add("<header><p>wabot</p><h1 class=\"%s\">%s</h1></header>\n", string(v.Tone), v.Heading)
	m.some("<p class=\"reason\">%s</p>\n", v.Reason)
	m.some("<p class=\"next\">%s</p>\n", v.Next)
	if v.QR != "" {
		m.add("<figure>")
		m.WriteString(v.QR)
		m.add("<figcaption>%s</figcaption></figure>\n", v.Expiry)
		m.add("<p class=\"hint\">Is this page open on the phone itself? Set PAIR_PHONE to its number and restart wabot: it then shows a code to type.</p>\n")
	}
	if v.Code != "" {
		m.add("<figure><p class=\"code\">%s</p><figcaption>%s</figcaption></figure>\n", v.Code, v.Expiry)
	}
	for _, n := range v.Notices {
		m.add("<section class=\"notice %s\"><p>%s</p><p>%s</p>", string(n.Tone), n.Text, n.Next)
		m.some("<p class=\"detail\">%s</p>", n.Detail)
		m.add("</section>\n")
	}
	if len(v.Rows) > 0 {
		m.add("<dl>\n")
		for _, r := range v.Rows {
			m.add("<div><dt>%s</dt><dd>", r.Name)
			m.time(r.Time, r.Value)
			m.add("</dd></div>\n")
		}
		m.add("</dl>\n")
	}
	if v.Asked {
		m.messages(v.Messages, v.Known)
	}
	m.add("<footer>")
	if v.Refresh > 0 {
		m.add("This page refreshes itself. ")
	}
	m.add("Made at %s.</footer>\n</main>\n</body>\n</html>\n", v.Now)
	return m.Bytes()
}

// time adds a text that tells of a time, or of none where that is empty.
func (m *markup) time(machine, text string) {
	if machine == "" {
		m.add("%s", text)
		return
	}
	m.add("<time datetime=\"%s\">%s</time>", machine, text)
}

// messages adds the list of what became of the last messages; known tells none from not known.
func (m *markup) messages(all []message, known bool) {
	m.add("<h2>Last messages</h2>\n")
	switch {
	case len(all) > 0:
		m.add("<ol>\n")
		for _, one := range all {
			m.add("<li><p class=\"head\"><span>%s", one.From)
			m.some(" in %s", one.In)
			m.add("</span> <b class=\"%s\">%s</b></p>\n<ul>", string(one.Tone), one.Outcome)
			for _, s := range one.Steps {
				m.add("<li><span>%s", s.What)
				if s.At != "" {
					m.add(" ")
					m.time(s.Time, s.At)
				}
				m.add("</span>")
				m.some(": %s", s.Why)
				m.add("</li>")
			}
			m.add("</ul>\n<p class=\"id\">%s</p></li>\n", one.ID)
		}
		m.add("</ol>\n<p class=\"hint\">The newest first. <code>wabot explain</code> and a message's ID tells more of it.</p>\n")
	case known:
		m.add("<p class=\"hint\">No message has reached the bot yet.</p>\n")
	default:
		m.add("<p class=\"hint\">The store does not say.</p>\n")
	}
}
