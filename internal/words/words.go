// Package words holds what people read in a chat, in each language that the bot speaks: a file for each language, with
// the same sentences under the same keys. What a model or the operator reads is not here. A sentence has places for
// values, such as {prefix}; how WhatsApp shows bold and italics is a part of it. The tests hold the languages together,
// and the sentences with the code that says them.
package words

import (
	"embed"
	"fmt"
	"path"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Key names a sentence.
type Key string

// Words are the sentences of one language.
type Words map[Key]string

//go:embed *.yaml
var files embed.FS

// Languages are all languages by their code, such as "en".
var Languages = sync.OnceValue(func() map[string]Words {
	all := map[string]Words{}
	names, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the files are a part of the program
	}
	for _, f := range names {
		text, err := files.ReadFile(f.Name())
		if err != nil {
			panic(err)
		}
		var w Words
		if err := yaml.Unmarshal(text, &w); err != nil {
			panic(fmt.Errorf("%s: %w", f.Name(), err))
		}
		for k, s := range w {
			w[k] = strings.TrimSpace(s)
		}
		all[strings.TrimSuffix(f.Name(), path.Ext(f.Name()))] = w
	}
	return all
})

// English are the words of the language that is always there.
func English() Words { return Languages()["en"] }

// Say returns the sentence, with values in their places: pairs of a place's name and its value.
func (w Words) Say(k Key, values ...string) string {
	var pairs []string
	for i := 0; i+1 < len(values); i += 2 {
		pairs = append(pairs, "{"+values[i]+"}", values[i+1])
	}
	return strings.NewReplacer(pairs...).Replace(w[k])
}
