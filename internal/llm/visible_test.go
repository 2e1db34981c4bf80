package llm

import (
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, text, want string }{
		{"plain", " Hello \n", "Hello"},
		{"thoughts", "<think>\nHmm.\n</think>\n\nHello", "Hello"},
		{"thoughts with code", "<think>```\n</think>Hello", "Hello"},
		{"thoughts in the middle", "Hello\n  <thinking>Hm</thinking> you", "Hello\n you"},
		{"unclosed", "Hello\n<think>and then", "Hello"},
		{"only thoughts", "<think>and then", ""},
		{"never opened", "Hmm.\nWell.\n</think>\n\nHello", "Hello"},
		{"tool call", "Let me look.\n<tool_call>{\"name\":\"x\"}</tool_call>", "Let me look."},
		{"two", "<think>a</think><tool_call>b</tool_call>c", "c"},
		{"within a line", "The tag <think> opens it, </think> ends it.", "The tag <think> opens it, </think> ends it."},
		{"as code", "`<think>` is a tag.", "`<think>` is a tag."},
		{"in a block", "```xml\n<think>\nx\n</think>\n```\nThat is it.", "```xml\n<think>\nx\n</think>\n```\nThat is it."},
		{"in a tilde block", "~~~\n```\n<think>\n~~~", "~~~\n```\n<think>\n~~~"},
		{"in an open block", "```\n<think>\nx", "```\n<think>\nx"},
		{"in indented code", "So:\n\n    <think>\n", "So:\n\n    <think>"},
		{"marks at the end", "Hello<|im_end|>\n<|endoftext|>", "Hello"},
		{"a mark that is markup", "<s>old</s>", "<s>old</s>"},
		{"marks of strikethrough", "<s>old</s> new", "<s>old</s> new"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if got := visible(row.text); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// Of a tag that is still being written nothing shows.
func TestHalfTag(t *testing.T) {
	t.Parallel()
	for _, whole := range []string{"<think>so</think>\nyes", "yes\n<tool_call>{}</tool_call>", "yes<|im_end|>", "yes"} {
		for i := range len(whole) + 1 {
			if got := visible(withoutHalfTag(whole[:i])); !strings.HasPrefix("yes", got) {
				t.Errorf("of %q shows %q", whole[:i], got)
			}
		}
	}
	for _, text := range []string{"a < b", "a <b> c", "if a <" + strings.Repeat("b", 50)} {
		if got := withoutHalfTag(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}
