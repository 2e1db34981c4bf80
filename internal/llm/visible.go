package llm

import "strings"

// hidden are the blocks that models write and people should not see: thoughts, and calls of
// tools. A block is known by its opening tag at the start of a line.
var hidden = []struct{ open, end string }{
	{"<think>", "</think>"},
	{"<thinking>", "</thinking>"},
	{"<thought>", "</thought>"},
	{"<reasoning>", "</reasoning>"},
	{"<tool_call>", "</tool_call>"},
	{"<function_call>", "</function_call>"},
	{"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"},
}

// marks are what a wrongly set up server leaves at the end of an answer.
var marks = []string{"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>"}

// visible is the part of a model's answer that is for people. It takes out what is hidden, to the end where a block is
// not closed, and leaves alone what an answer may speak of: tags within a line, in quotes of code, or in
// a code block.
func visible(text string) string {
	text = afterThoughts(text)
	var out strings.Builder
	fence := "" // the fence of the code block we are in
	for len(text) > 0 {
		_, rest, _ := strings.Cut(text, "\n")
		line := text[:len(text)-len(rest)]
		indent := len(line) - len(strings.TrimLeft(line, " "))
		bare := line[indent:]
		switch {
		case indent > 3: // indented code
		case fence != "":
			if closes(bare, fence) {
				fence = ""
			}
		default:
			fence = opensFence(bare)
			if after, ok := skipHidden(text[indent:]); ok {
				text = after
				continue
			}
		}
		out.WriteString(line)
		text = rest
	}
	shown := strings.TrimSpace(out.String())
	for again := fence == ""; again; {
		again = false
		for _, m := range marks {
			if cut, ok := strings.CutSuffix(shown, m); ok && !(m == "</s>" && strings.Contains(cut, "<s>")) {
				shown, again = strings.TrimSpace(cut), true
			}
		}
	}
	return shown
}

// afterThoughts cuts thoughts that were never opened, as servers send them whose prompt
// template ends with the opening tag: all before a closing tag that stands alone in its line, outside of code.
func afterThoughts(text string) string {
	const end = "</think>"
	before, after, ok := strings.Cut(text, "\n"+end)
	if !ok || strings.Contains(before, "<think>") || strings.Count(before, "```")%2 == 1 {
		return text
	}
	if line, _, _ := strings.Cut(after, "\n"); strings.TrimSpace(line) != "" {
		return text
	}
	return after
}

// skipHidden is the text after the hidden block that text begins with.
func skipHidden(text string) (after string, ok bool) {
	for _, h := range hidden {
		if inner, ok := strings.CutPrefix(text, h.open); ok {
			_, after, _ := strings.Cut(inner, h.end) // nothing is left where it is not closed
			return after, true
		}
	}
	return text, false
}

// opensFence is the fence that a line opens a code block with, or empty (CommonMark, section 4.5).
func opensFence(line string) string {
	for _, c := range []string{"`", "~"} {
		info := strings.TrimLeft(line, c)
		if n := len(line) - len(info); n >= 3 && !(c == "`" && strings.Contains(info, "`")) {
			return line[:n]
		}
	}
	return ""
}

// closes tells whether a line ends the code block that fence began.
func closes(line, fence string) bool {
	line = strings.TrimRight(line, " \t\r\n")
	return len(line) >= len(fence) && strings.Trim(line, fence[:1]) == ""
}

// longestTag bounds a tag or a mark, in bytes.
const longestTag = 40

// withoutHalfTag is a text that is still being written without the tag that it ends within: what that hides is not known yet.
func withoutHalfTag(text string) string {
	i := strings.LastIndexByte(text, '<')
	if i < 0 || len(text)-i > longestTag || strings.ContainsAny(text[i:], "> \n") {
		return text
	}
	return text[:i]
}
