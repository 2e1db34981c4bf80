package llm

import (
	"hash/maphash"
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
	if text == "" {
		return 0
	}
	key := maphash.String(seed, text)
	if n, ok := counted.Load(key); ok {
		return n
	}
	n := count(text)
	counted.Store(key, n)
	return n
}

// counted are texts that were counted before: a chat's history is counted anew at each of its turns.
var counted memory

var seed = maphash.MakeSeed()

// memory keeps counts of texts by their hashes, and no text. What it was not asked for lately it forgets.
type memory struct {
	mu          sync.Mutex
	young, aged map[uint64]int
}

// most is how many counts the young and the aged may have each; the two take about 1 MB.
const most = 1 << 14

// Load returns the count under key.
func (m *memory) Load(key uint64) (n int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok = m.young[key]; ok {
		return n, true
	}
	if n, ok = m.aged[key]; ok {
		m.store(key, n)
	}
	return n, ok
}

// Store keeps n under key.
func (m *memory) Store(key uint64, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.store(key, n)
}

func (m *memory) store(key uint64, n int) {
	if m.young == nil || len(m.young) >= most {
		m.young, m.aged = map[uint64]int{}, m.young
	}
	m.young[key] = n
}

// count counts the tokens of text.
func count(text string) int {
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
