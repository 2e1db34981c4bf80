package config

import "strings"

// nodeName is a name, or with an underscore at its end the beginning of names, that the Node bot's .env had and
// wabot's has not, and what became of it.
type nodeName struct{ name, became string }

// nodeNames are the Node bot's names that do nothing here. Its others are settings of wabot too.
var nodeNames = []nodeName{
	{"API_KEY_HF", imagesBecame},
	{"HF_", imagesBecame},
	{"DALLE_", imagesBecame},
	{"API_KEY_STABILITY", imagesBecame},
	{"STABILITY_", imagesBecame},
	{"PROCESSING", "wabot shows that it is typing, and sends no message that it is at work"},
	{"IGNORE_SELF_MESSAGES", "your own messages are answered in the chat with yourself, elsewhere only with the prefix; the bot never answers itself"},
}

const (
	imagesBecame = "wabot does not make images"
)

// became says what became of a name of the Node bot's, or is empty.
func became(name string) string {
	for _, n := range nodeNames {
		if name == n.name || strings.HasSuffix(n.name, "_") && strings.HasPrefix(name, n.name) {
			return n.became
		}
	}
	return ""
}
