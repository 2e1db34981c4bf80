package config

import "strings"

// nodeName is a name, or with an underscore at its end the beginning of names, that the Node bot's .env had and
// wabot's has not, and what became of it.
type nodeName struct{ name, became string }

// nodeNames are the Node bot's names that do nothing here. Its others are settings of wabot too.
var nodeNames = []nodeName{
	{"DALLE_USE_3", "DALLE_MODEL names the model; DALL-E 2 and 3 are no longer offered"},
	{"API_KEY_DREAMSTUDIO", "DreamStudio has become Stability: API_KEY_STABILITY"},
	{"IGNORE_SELF_MESSAGES", "your own messages are answered in the chat with yourself, elsewhere only with the prefix; the bot never answers itself"},
}

// became says what became of a name of the Node bot's, or is empty.
func became(name string) string {
	for _, n := range nodeNames {
		if name == n.name || strings.HasSuffix(n.name, "_") && strings.HasPrefix(name, n.name) {
			return n.became
		}
	}
	return ""
}
