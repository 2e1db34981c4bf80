package bot

import (
	"regexp"
	"slices"
	"strings"

	"wabot/internal/chat"
)

// mostMentions bounds whom one message mentions: each of them is called to the chat.
const mostMentions = 5

// mention makes the names and numbers after an "@" in a text into mentions, of those who have written what the model was
// given. A name that two of them go by is nobody's.
func mention(text string, known []chat.Message) (string, []string) {
	people := map[string]string{} // by what they may be called: the address, or empty
	for _, m := range known {
		if m.FromMe || !m.Group {
			continue
		}
		for _, called := range []string{author(m), user(m.Sender), user(m.SenderAlt)} {
			called = strings.ToLower(called)
			if jid, ok := people[called]; ok && jid != m.Sender {
				people[called] = ""
			} else if called != "" {
				people[called] = m.Sender
			}
		}
	}
	var mentions []string
	var names []string
	for called, jid := range people {
		if jid != "" {
			names = append(names, called)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	for i, n := range names {
		names[i] = regexp.QuoteMeta(n)
	}
	if len(names) == 0 {
		return text, nil
	}
	at := regexp.MustCompile(`(?i)(^|[\s(,*_])@(` + strings.Join(names, "|") + `)([^\pL\pN_]|$)`)
	text = at.ReplaceAllStringFunc(text, func(found string) string {
		parts := at.FindStringSubmatch(found)
		jid := people[strings.ToLower(parts[2])]
		if !slices.Contains(mentions, jid) {
			if jid == "" || len(mentions) == mostMentions {
				return found
			}
			mentions = append(mentions, jid)
		}
		return parts[1] + "@" + user(jid) + parts[3]
	})
	return text, mentions
}

// user is the user part of an address.
func user(jid string) string {
	name, _, _ := strings.Cut(jid, "@")
	return name
}
