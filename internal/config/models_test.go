package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// modelsAt are settings with a MODELS_FILE of that text.
func modelsAt(t *testing.T, text string, settings ...string) []string {
	t.Helper()
	return append(settings, "MODELS_FILE="+write(t, "models.yaml", text))
}

// The Node bot's names for its models that chat.
func TestNodeBotsModels(t *testing.T) {
	t.Parallel()
	c, err := Read(environment{
		"API_KEY_OPENAI": "sk-1", "OPENAI_MODEL": "gpt-3.5-turbo", "OPENAI_PREFIX": "!chatgpt", "OPENAI_ENABLED": "True", "OPENAI_ICON_PREFIX": "🔮",
		"API_KEY_GEMINI": "g-1", "GEMINI_PREFIX": "!gem", "GEMINI_ENABLED": "True", "GEMINI_ICON_PREFIX": "✨",
		"OLLAMA_PREFIX": "!llama", "OLLAMA_ENABLED": "True",
	}.get)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Name: "openai", Prefix: "!chatgpt", BaseURL: openAI, Key: c.Model.APIKey, Model: "gpt-3.5-turbo", Icon: "🔮"},
		{Name: "gemini", Prefix: "!gem", BaseURL: gemini, Key: c.Gemini.Key, Model: "gemini-flash-latest", Icon: "✨", Sees: true},
		{Name: "ollama", Prefix: "!llama", BaseURL: ollama, Model: "deepseek-r1:1.5b"},
	}
	if !reflect.DeepEqual(c.Models, want) || c.Model.Default != "openai" || c.Gemini.Key.Reveal() != "g-1" || c.DefaultModel().Name != "openai" {
		t.Errorf("got  %+v\nwant %+v, default %q", c.Models, want, c.Model.Default)
	}
}

// The Node bot's names for its models that draw.
func TestNodeBotsPainters(t *testing.T) {
	t.Parallel()
	c, err := Read(environment{
		"API_KEY_OPENAI": "sk-1", "DALLE_PREFIX": "!draw", "DALLE_ENABLED": "True", "DALLE_ICON_PREFIX": "🎨", "DALLE_SIZE": "512x512",
		"API_KEY_HF": "hf-1", "HF_PREFIX": "!flux", "HF_ENABLED": "True", "HF_ICON_PREFIX": "🤗",
		"API_KEY_STABILITY": "st-1", "STABILITY_PREFIX": "!st", "STABILITY_ENABLED": "True", "STABILITY_ICON_PREFIX": "✨", "STABILITY_MODEL": "ultra",
	}.get)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Name: "dalle", Prefix: "!draw", BaseURL: openAI, Key: c.Model.APIKey, Model: "gpt-image-1", Icon: "🎨", Draws: DrawsAsOpenAI, Size: "512x512"},
		{Name: "flux", Prefix: "!flux", BaseURL: c.Flux.BaseURL, Key: c.Flux.Key, Model: "black-forest-labs/FLUX.1-schnell", Icon: "🤗", Draws: DrawsAsHuggingFace},
		{Name: "stability", Prefix: "!st", BaseURL: "https://api.stability.ai", Key: c.Stability.Key, Model: "ultra", Icon: "✨", Draws: DrawsAsStability},
	}
	if !reflect.DeepEqual(c.Models[1:], want) || c.Flux.Key.Reveal() != "hf-1" || c.Stability.Key.Reveal() != "st-1" {
		t.Errorf("got  %+v\nwant %+v", c.Models[1:], want)
	}
	// A key of its own, and none for another server.
	c = read(t, "DALLE_ENABLED=True", "API_KEY_OPENAI_DALLE=sk-2")
	if got := c.Models[1].Key.Reveal(); got != "sk-2" {
		t.Errorf("the key is %q", got)
	}
	c = read(t, "DALLE_ENABLED=True", "DALLE_BASE_URL=http://localhost/v1")
	if got := c.Models[1].Key.Reveal(); got != "" {
		t.Errorf("the key of OpenAI goes to another server")
	}
}

func TestDefaultModel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings []string
		want     string
	}{
		{[]string{"OPENAI_ENABLED=False", "OPENAI_API_KEY=", "OLLAMA_ENABLED=True"}, "ollama"},
		{[]string{"OLLAMA_ENABLED=True", "DEFAULT_MODEL=Ollama"}, "ollama"},
		{[]string{"OLLAMA_ENABLED=True", "DEFAULT_MODEL=ChatGPT"}, "openai"},
		{modelsAt(t, "models: [{name: wa, like: openai, prefix: '!wa'}]", "DEFAULT_MODEL=wa"), "wa"},
		{modelsAt(t, "models: [{name: chatgpt, like: openai, prefix: '!wa'}]", "DEFAULT_MODEL=ChatGPT"), "chatgpt"},
	} {
		if got := read(t, test.settings...).DefaultModel().Name; got != test.want {
			t.Errorf("%q: got %s, want %s", test.settings, got, test.want)
		}
	}
}

func TestKeysOfModelsThatAreOff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings []string
		want     string
	}{
		{[]string{"API_KEY_GEMINI=g-1"}, "gemini has a key and is off; to let it answer what begins with !gemini, set GEMINI_ENABLED=True, else False"},
		{[]string{"API_KEY_HF=hf-1"}, "flux has a key and is off; to let it answer what begins with !flux, set HF_ENABLED=True, else False"},
		{[]string{"API_KEY_GEMINI=g-1", "GEMINI_ENABLED=False"}, ""},
		{[]string{"API_KEY_GEMINI=g-1", "GEMINI_ENABLED=True"}, ""},
		{modelsAt(t, "models: [{name: wa, like: gemini, prefix: '!wa'}]", "API_KEY_GEMINI=g-1"), ""},
		{nil, ""},
	} {
		_, warnings, err := Load(with(test.settings...).get, write(t, ".env", ""))
		if err != nil || strings.Join(warnings, "\n") != test.want {
			t.Errorf("%q: got %q, %v, want %q", test.settings, warnings, err, test.want)
		}
	}
}

func TestHalfConfiguredModels(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings []string
		says     string
	}{
		{[]string{"GEMINI_ENABLED=True"}, "API_KEY_GEMINI: not set; GEMINI_ENABLED is True: get a key at https://aistudio.google.com/apikey"},
		{[]string{"GEMINI_ENABLED=yes!"}, "GEMINI_ENABLED: \"yes!\" is neither"},
		{[]string{"DALLE_ENABLED=True", "OPENAI_BASE_URL=http://localhost/v1"}, "API_KEY_OPENAI_DALLE: not set; DALLE_ENABLED is True: set OPENAI_API_KEY"},
		{[]string{"HF_ENABLED=True"}, "API_KEY_HF: not set; HF_ENABLED is True: get a token"},
		{[]string{"STABILITY_ENABLED=True"}, "API_KEY_STABILITY: not set; STABILITY_ENABLED is True: get a key"},
		{[]string{"DALLE_SIZE=large"}, "DALLE_SIZE: \"large\" is not the size of a picture; write it like 1024x1024"},
		{[]string{"DALLE_ENABLED=True", "DEFAULT_MODEL=dalle"}, "DEFAULT_MODEL: dalle draws; name one that answers with text, such as openai"},
		{[]string{"DALLE_ENABLED=True", "OPENAI_ENABLED=False"}, "OPENAI_ENABLED: no"},
		{modelsAt(t, "models: [{name: dalle, fallback: openai}]", "DALLE_ENABLED=True"), "MODELS_FILE: "},
		{[]string{"OPENAI_ENABLED=False"}, "OPENAI_ENABLED: no model is left to answer"},
		{[]string{"OLLAMA_ENABLED=True", "OLLAMA_PREFIX=!AI"}, "OLLAMA_PREFIX: \"!AI\" is the prefix of openai as well"},
		{[]string{"OLLAMA_BASE_URL=localhost:11434"}, "OLLAMA_BASE_URL: \"localhost:11434\" is not an http or https URL; write it like http://localhost:11434/v1"},
		{[]string{"DEFAULT_MODEL=gemini"}, "DEFAULT_MODEL: gemini is off; set GEMINI_ENABLED=True"},
		{[]string{"DEFAULT_MODEL=claude"}, `DEFAULT_MODEL: no model is called "claude"; write one of openai`},
	} {
		_, err := Read(with(test.settings...).get)
		if err == nil || !strings.HasPrefix(err.Error(), test.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want %s", test.settings, err, test.says)
		}
	}
}

func TestModelsFile(t *testing.T) {
	t.Parallel()
	path := write(t, "models.yaml", `# Three more, and what the environment leaves out of openai.
models:
  - name: Claude
    base: https://openrouter.ai/api/v1/
    model: anthropic/claude
    key_env: ROUTER_KEY
    prefix: "!claude"
    icon: 🟣
    instructions: |
      You are terse.
    temperature: 0.5
    max_tokens: 800
    context_tokens: 32000
    timeout: 90s
    fallback: openai
    prices: {prompt: 3, completion: 15.5}
  - name: wa
    like: gemini
    prefix: "!wa"
    instructions_file: wa.md
  - name: web
    like: openai
    prefix: "!web"
    instructions_url: https://example.org/persona.md?v=1
  - &local
    name: local
    base: http://127.0.0.1:8080/v1
    model: any
    prefix: "!local"
    key_file: local.key
  - name: openai
    temperature: 1
    fallback: local
`)
	for name, text := range map[string]string{"wa.md": "# Who you are\nA WhatsApp bot.\n", "local.key": "l-1\n"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dotenv := write(t, ".env", "ROUTER_KEY=r-1\nAPI_KEY_GEMINI=g-1\nROUTER_KEI=x\n")
	c, warnings, err := Load(with("MODELS_FILE="+path).get, dotenv)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Name: "openai", Prefix: "!ai", BaseURL: openAI, Model: "gpt-4o-mini", Sees: true, Temperature: 1, Fallback: "local"},
		{
			Name: "claude", Prefix: "!claude", BaseURL: "https://openrouter.ai/api/v1", Model: "anthropic/claude", Icon: "🟣", Instructions: "You are terse.", Sees: true,
			Temperature: .5, MaxTokens: 800, ContextTokens: 32000, Timeout: 90 * time.Second, Fallback: "openai", PromptPrice: 3, CompletionPrice: 15.5, Priced: true,
		},
		{Name: "wa", Prefix: "!wa", BaseURL: gemini, Model: "gemini-flash-latest", Sees: true, Instructions: "# Who you are\nA WhatsApp bot."},
		{Name: "web", Prefix: "!web", BaseURL: openAI, Model: "gpt-4o-mini", Sees: true, InstructionsURL: "https://example.org/persona.md?v=1"},
		{Name: "local", Prefix: "!local", BaseURL: "http://127.0.0.1:8080/v1", Model: "any"},
	}
	keys := []string{"sk-1", "r-1", "g-1", "sk-1", "l-1"}
	for i := range c.Models {
		if got := c.Models[i].Key.Reveal(); got != keys[i] {
			t.Errorf("%s has the key %q, want %q", c.Models[i].Name, got, keys[i])
		}
		c.Models[i].Key = Secret{}
	}
	if !reflect.DeepEqual(c.Models, want) {
		t.Errorf("got  %+v\nwant %+v", c.Models, want)
	}
	// The variable of a key is known, its misspelling is not.
	if len(warnings) != 1 || !strings.Contains(warnings[0], "ROUTER_KEI is not a setting") || !strings.Contains(warnings[0], "did you mean ROUTER_KEY?") {
		t.Errorf("warnings %q", warnings)
	}
}

// Each mistake is said with its line, without the values, which may be keys that went astray.
func TestModelsFileProblems(t *testing.T) {
	t.Parallel()
	const whole = "models:\n- name: a\n  base: http://h/v1\n  model: m\n  prefix: '!a'\n"
	for text, says := range map[string]string{
		"":                                        " is empty; write a list under models:",
		"models":                                  ":1: write a list under models:",
		"models:":                                 ":1: no models; write a list",
		"models: []":                              ":1: no models; write a list",
		"model: []":                               `:1: unknown key "model"`,
		"models:\n- canary":                       ":2: write a list under models:",
		"models:\n- name: a\n   base: b":          ":3: this is not YAML",
		"models:\n- key: *canary":                 ": this is not YAML",
		"models:\n- name: 'no way'":               ":2: name: write what the model is called",
		"models:\n- prefix: '!a'":                 ":2: name: write what the model is called",
		"models:\n- name: a\n  prefix:":           ":3: prefix: write one value",
		"models:\n- name: a\n  prefix: [b]":       ":3: prefix: write one value",
		"models:\n- name: a\n  like: claude":      ":3: like: write openai, gemini or ollama",
		"models:\n- name: openai\n  like: openai": ":3: like: openai is what the environment says",
		"models:\n- name: gemini":                 ":2: gemini is off; set GEMINI_ENABLED=True",
		"models:\n- name: a\n  like: openai":      ":2: a has no prefix",
		"models:\n- name: a\n  prefix: '!a'\n  base: http://h/v1":        ":2: a has no model",
		"models:\n- name: a\n  prefix: '!a'\n  model: m":                 ":2: a has no base",
		"models:\n- name: a\n  prefix: '!a'\n  like: gemini":             ":2: a has no key, which its service asks for",
		whole + "  prefixes: canary":                                     `:6: unknown key "prefixes"; did you mean prefix?`,
		whole + "  prefix: canary":                                       `:6: "prefix" stands twice`,
		whole + "  temperature: canary":                                  ":6: temperature: write a number from 0 to 2",
		whole + "  temperature: NaN":                                     ":6: temperature: write a number from 0 to 2",
		whole + "  temperature: 2.5":                                     ":6: temperature: write a number from 0 to 2",
		whole + "  max_tokens: 0":                                        ":6: max_tokens: write how many",
		whole + "  context_tokens: 5":                                    ":6: context_tokens: write how many",
		whole + "  timeout: 10m":                                         ":6: timeout: 10m is more than MODEL_TIMEOUT, which is 5m0s",
		whole + "  timeout: 10":                                          `:6: timeout: "10" is not a length of time`,
		whole + "  key: canary\n  key_env: K":                            ":7: key_env: key is there as well",
		whole + "  key: can ary":                                         ":6: key: the value given (redacted) has spaces",
		whole + "  key_env: NOWHERE":                                     `:6: key_env: the variable "NOWHERE" is not set`,
		whole + "  key_file: nowhere":                                    ":6: key_file: stat ",
		whole + "  instructions: x\n  instructions_file: y":              ":7: instructions_file: instructions is there as well",
		whole + "  instructions_file: nowhere":                           ":6: instructions_file: stat ",
		whole + "  instructions_file: .":                                 ":6: instructions_file: ",
		whole + "  instructions_url: ftp://canary/x":                     ":6: instructions_url: write the http or https URL",
		whole + "  instructions_url: https://me:canary@h/x":              ":6: instructions_url: write the http or https URL",
		whole + "  prices: 3":                                            ":6: prices: write prompt and completion",
		whole + "  prices: {prompt: cheap}":                              ":6: prompt: write a price",
		whole + "transcription: 1":                                       ":6: transcription: write minute under it",
		whole + "speech: {minute: 1}":                                    `:6: unknown key "minute"`,
		whole + "speech: {characters: x}":                                ":6: characters: write a price",
		whole + "  prices: {image: x}":                                   ":6: image: write a price",
		whole + "  like: dalle":                                          ":6: like: write openai, gemini or ollama",
		whole + "  prices: {prompt: -1}":                                 ":6: prompt: write a price",
		whole + "  prices: {promt: 1}":                                   `:6: unknown key "promt"; did you mean prompt?`,
		whole + "  fallback: b":                                          `:6: no model is called "b"; write one of openai, a`,
		whole + "  fallback: ollama":                                     ":6: ollama is off; set OLLAMA_ENABLED=True",
		whole + "  fallback: a":                                          ":6: the fallbacks go in a circle: a, a",
		whole + "  fallback: openai\n- name: openai\n  fallback: a":      ":8: the fallbacks go in a circle: openai, a, openai",
		whole + "- name: b\n  like: openai\n  prefix: '!A'":              `:8: "!A" is the prefix of a as well`,
		whole + "- name: A\n  like: openai\n  prefix: '!b'":              ":6: another model is called a as well",
		whole + "- name: openai\n  base: https://api.openai.com/v1/x":    ":6: openai has no key",
		whole + "- name: c\n  like: openai\n  base: h\n  prefix: '!c'\n": `:8: base: "h" is not an http or https URL`,
	} {
		path := write(t, "models.yaml", text)
		_, err := Read(with("MODELS_FILE=" + path).get)
		if err == nil {
			t.Errorf("%q: no error, want %s", text, says)
			continue
		}
		first, _, _ := strings.Cut(err.Error(), "\n")
		if !strings.HasPrefix(first, "MODELS_FILE: "+path) || !strings.Contains(strings.TrimPrefix(first, "MODELS_FILE: "+path), says) {
			t.Errorf("%q: got %v, want %s", text, err, says)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error tells too much: %v", text, err)
		}
	}
	if _, err := Read(with("MODELS_FILE=/nowhere").get); err == nil || !strings.HasPrefix(err.Error(), "MODELS_FILE: stat /nowhere") {
		t.Error(err)
	}
	big := write(t, "models.yaml", strings.Repeat("#", largestFile+1))
	if _, err := Read(with("MODELS_FILE=" + big).get); err == nil || !strings.Contains(err.Error(), "at most 256 KiB") {
		t.Error(err)
	}
}

// All the mistakes of a file are said, and of each entry, but those that follow from others.
func TestModelsFileProblemsAtOnce(t *testing.T) {
	t.Parallel()
	path := write(t, "models.yaml", `models:
- name: one
  like: nix
  prefix: "!ai"
  temperature: hot
  timeout: 90
  prices: {prompt: cheap}
- name: two
  base: nothing
  key:
  prefix: "!two"
  fallback: one
- name: One
  like: openai
  prefix: "!TWO"
  fallback: three
`)
	_, err := Read(with("MODELS_FILE="+path, "DEFAULT_MODEL=one").get)
	if err == nil {
		t.Fatal("no error")
	}
	var got []string
	for line := range strings.Lines(err.Error()) {
		got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "MODELS_FILE: "+path+":"))
	}
	for i, want := range []string{
		"3: like: ", "5: temperature: ", "6: timeout: ", "7: prompt: ", "10: key: write one value", "9: base: ", "8: two has no model", `4: "!ai" is the prefix of openai`,
		"13: another model is called one", `15: "!TWO" is the prefix of two`, `16: no model is called "three"`,
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("line %d is not %q:\n%v", i+1, want, err)
		}
	}
	if len(got) > 11 {
		t.Errorf("more than that is said:\n%v", err)
	}
}

// A circle of fallbacks that does not come back to its first model ends the check.
func TestCircleBehindTheFirst(t *testing.T) {
	t.Parallel()
	text := "models:\n- {name: a, like: openai, prefix: '!a', fallback: b}\n- {name: b, like: openai, prefix: '!b', fallback: c}\n- {name: c, like: openai, prefix: '!c', fallback: b}\n"
	_, err := Read(with(modelsAt(t, text)...).get)
	if err == nil || strings.Count(err.Error(), "circle") != 2 {
		t.Error(err)
	}
}

// FuzzModelsFile: no text makes the reading panic, what it lets through is in form, and what it says has a place.
func FuzzModelsFile(f *testing.F) {
	f.Add("models:\n- name: a\n  base: http://h/v1\n  model: m\n  prefix: '!a'\n  prices: {prompt: 1}\n  fallback: openai\n")
	f.Add("models:\n- &a {name: a, like: openai, prefix: '!a'}\n- *a\n")
	f.Add("a: &a [*a]")
	path := filepath.Join(f.TempDir(), "models.yaml")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "_file") {
			t.Skip()
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Read(with("MODELS_FILE=" + path).get)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				if !strings.HasPrefix(line, "MODELS_FILE: ") {
					t.Errorf("%q does not say where", line)
				}
			}
			return
		}
		seen := map[string]bool{}
		for _, e := range c.Models {
			if seen[e.Name] || e.Prefix == "" || e.Model == "" || !strings.HasPrefix(e.BaseURL, "http") || !nameForm.MatchString(e.Name) {
				t.Errorf("got %+v", e)
			}
			seen[e.Name] = true
		}
	})
}

func TestSees(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		base, model string
		want        bool
	}{
		"OpenAI": {openAI, "gpt-4o-mini", true}, "OpenAI's next": {openAI, "gpt-9", true}, "OpenAI's old": {openAI, "gpt-3.5-turbo", false}, "OpenAI's first": {openAI, "gpt-4", false},
		"Gemini": {gemini, "gemini-flash-latest", true}, "Ollama": {ollama, "deepseek-r1:1.5b", false}, "Ollama's eyes": {ollama, "qwen2.5vl:7b", true},
		"by another's server": {"https://openrouter.ai/api/v1", "anthropic/claude-sonnet-4.5", true}, "unknown": {"http://localhost:8080/v1", "any", false},
	} {
		if got := sees(row.base, row.model); got != row.want {
			t.Errorf("%s: sees %v", name, got)
		}
	}
}
