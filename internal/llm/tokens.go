package llm

import (
	"sync"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer/codec"
)

// vocabulary is cl100k_base, OpenAI's of before gpt-4o: half as large in the binary as the present one, and its
// count of other languages than English is the higher, so the safe one. Other makers' models cut text into
// about as many tokens.
var vocabulary = sync.OnceValue(codec.NewCl100kBase)

// longestPiece bounds what is cut into tokens at once, in bytes: the work grows with the square of the length of
// a word, and strangers choose the words.
const longestPiece = 256

// Tokens is about how many tokens a model makes of text.
func Tokens(text string) int {
	n := 0
	for text != "" {
		piece := cut(text)
		text = text[len(piece):]
		ids, _, err := vocabulary().Encode(piece)
		if err != nil {
			n += len(piece) // no token is shorter than a byte
			continue
		}
		n += max(1, len(ids)) // the vocabulary passes over some control characters
	}
	return n
}

// cut is the beginning of text to be counted at once: up to a space, where there is one.
func cut(text string) string {
	if len(text) <= longestPiece {
		return text
	}
	for i := longestPiece; i > longestPiece/2; i-- {
		if text[i] == ' ' {
			return text[:i]
		}
	}
	end := longestPiece
	for end > longestPiece-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
