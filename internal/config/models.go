package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Entry is one model that answers, complete.
type Entry struct {
	// Name is in lower case and unlike any other's; so is Prefix, in any case of letters.
	Name, Prefix string
	// BaseURL is an http or https URL without a slash at its end. Key may be unset.
	BaseURL string
	Key     Secret
	// Model is the model's name as its service calls it.
	Model string
	Icon  string
	// Draws is the protocol of a model that answers with pictures; empty for one that answers with text. Size is
	// that of the pictures, or empty.
	Draws Protocol
	Size  string
	// Sees tells that the model takes pictures.
	Sees bool
	// Instructions are empty for the common ones. InstructionsURL is where to fetch them instead, or empty.
	Instructions    string
	InstructionsURL string
	// Temperature is from 0 to 2, MaxTokens bounds an answer; 0 leaves them to the service.
	Temperature float32
	MaxTokens   int
	// ContextTokens is how many tokens question and answer may have together; 0 where that is not said.
	ContextTokens int
	// Timeout bounds one answer; it is no longer than Model.Timeout, and 0 for the same.
	Timeout time.Duration
	// Fallback is the name of the entry that answers while this one is out of order, or empty. Nothing falls
	// back to itself.
	Fallback string
	// PromptPrice and CompletionPrice are for a million tokens, in the operator's currency.
	PromptPrice, CompletionPrice float64
	// ImagePrice is for one picture.
	ImagePrice float64
	// Priced is set where any price was given, be it 0.
	Priced bool
}

// Protocol is how a model draws.
type Protocol string

// The protocols of models that draw.
const (
	DrawsAsOpenAI      Protocol = "openai"
	DrawsAsStability   Protocol = "stability"
	DrawsAsHuggingFace Protocol = "huggingface"
)

// DefaultModel is the entry that answers what begins with no prefix; zero in a Config that was not read.
func (c Config) DefaultModel() Entry {
	for _, e := range c.Models {
		if e.Name == c.Model.Default {
			return e
		}
	}
	return Entry{}
}

// draft is an entry that is being put together.
type draft struct {
	Entry
	// said names the setting that a field was given by.
	said func(field string) string
}

// builtin is a model with settings of its own in the environment.
type builtin struct {
	draft
	enabled bool
	begin   string // of its settings' names
}

func (c *Config) builtins() []builtin {
	of := func(name, begin string, p Provider, draws Protocol) builtin {
		e := Entry{Name: name, Prefix: p.Prefix, BaseURL: p.BaseURL, Key: p.Key, Model: p.Name, Icon: p.Icon, Draws: draws, Size: p.Size, Sees: draws == "" && sees(p.BaseURL, p.Name)}
		return builtin{draft{e, func(field string) string { return begin + "_" + strings.ToUpper(field) }}, p.Enabled, begin}
	}
	m, dalle := c.Model, c.DALLE
	dalle.Key = c.pictureKey()
	return []builtin{
		of("openai", "OPENAI", Provider{m.Enabled, m.APIKey, m.BaseURL, m.Name, m.Prefix, m.Icon, ""}, ""),
		of("gemini", "GEMINI", c.Gemini, ""),
		of("ollama", "OLLAMA", c.Ollama, ""),
		of("dalle", "DALLE", dalle, DrawsAsOpenAI),
		of("flux", "HF", c.Flux, DrawsAsHuggingFace),
		of("stability", "STABILITY", c.Stability, DrawsAsStability),
	}
}

// sighted are parts of the names of models that see, blind of those at OpenAI that do not.
var (
	sighted = []string{
		"gpt-4o", "gpt-4.1", "gpt-5", "o4-", "chatgpt-4o", "gemini", "claude", "vision", "llava", "-vl", "vl:", "2.5vl", "pixtral", "gemma3", "gemma-3", "llama4",
		"llama-4", "minicpm-v", "moondream", "mistral-small3", "mistral-small-3", "grok-4",
	}
	blind = []string{"gpt-3.5", "o1-mini", "o3-mini", "instruct", "-audio"}
)

// sees guesses from its name whether a model takes pictures. OpenAI's and Gemini's nearly all do.
func sees(base, name string) bool {
	has := func(parts []string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(strings.ToLower(name), part) })
	}
	if has(blind) {
		return false
	}
	u, err := url.Parse(base)
	return has(sighted) || err == nil && (u.Hostname() == "api.openai.com" && name != "gpt-4" || u.Hostname() == "generativelanguage.googleapis.com")
}

// idle warns of services that have a key and no word on whether they are on, where no model uses them.
func (c *Config) idle(getenv func(string) string) (warnings []string) {
	if len(c.Models) == 0 {
		return nil // not read
	}
	for _, b := range c.builtins() {
		if b.enabled || b.Key.Reveal() == "" || b.Key == c.Model.APIKey || trim(getenv(b.begin+"_ENABLED")) != "" ||
			slices.ContainsFunc(c.Models, func(e Entry) bool { return e.BaseURL == b.BaseURL }) {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s has a key and is off; to let it answer what begins with %s, set %s_ENABLED=True, else False", b.Name, b.Prefix, b.begin))
	}
	return warnings
}

// assemble fills c.Models and c.Model.Default from the settings and the file that they name, and returns the names of
// the variables that the file has keys in. It checks what it can without the settings that could not be read.
func (c *Config) assemble(getenv func(string) string, unread []string) (keys []string, problems []error) {
	a := assembly{path: c.Model.File, config: c, builtins: c.builtins(), getenv: getenv}
	a.hidden = slices.Contains(unread, "MODELS_FILE")
	for _, b := range a.builtins {
		a.hidden = a.hidden || slices.Contains(unread, b.begin+"_ENABLED")
		if b.enabled {
			a.models = append(a.models, b.draft)
		}
	}
	if a.path != "" {
		a.readFile()
	}
	whole := len(unread) == 0 && len(a.problems) == 0
	first := slices.IndexFunc(a.models, func(d draft) bool { return d.Draws == "" })
	if first < 0 && !a.hidden {
		a.problem("OPENAI_ENABLED", "no model is left to answer with text; set it to True, or switch on another one, such as GEMINI_ENABLED=True")
	}
	if first < 0 {
		return a.keys, a.problems
	}
	a.same()
	a.fallbacks()
	if whole {
		a.unpriced()
	}
	name := strings.ToLower(cmp.Or(c.Model.Default, a.models[first].Name))
	if name == "chatgpt" && !a.has(name) {
		name = "openai" // the Node bot called it so
	}
	if i := a.find(name); i < 0 {
		a.missed("DEFAULT_MODEL", name)
	} else if a.models[i].Draws != "" {
		a.problem("DEFAULT_MODEL", "%s draws; name one that answers with text, such as %s", name, a.models[first].Name)
	}
	c.Model.Default = name
	for _, d := range a.models {
		c.Models = append(c.Models, d.Entry)
	}
	return a.keys, a.problems
}

// assembly puts the models together, those of the environment first. It goes through MODELS_FILE by itself
// instead of having it decoded, for messages with lines that never show a value that may be a key.
type assembly struct {
	path     string
	config   *Config
	builtins []builtin
	getenv   func(string) string

	models   []draft
	hidden   bool     // there may be more, whose names could not be read
	keys     []string // variables that hold keys
	problems []error
}

func (a *assembly) problem(setting, format string, args ...any) {
	a.problems = append(a.problems, fmt.Errorf("%s: %w", setting, fmt.Errorf(format, args...)))
}

func (a *assembly) find(name string) int {
	return slices.IndexFunc(a.models, func(d draft) bool { return d.Name == name })
}

func (a *assembly) has(name string) bool { return a.find(name) >= 0 }

// missing says that there is no model of a name, and what to write.
func (a *assembly) missing(name string) string {
	for _, b := range a.builtins {
		if b.Name == name {
			return fmt.Sprintf("%s is off; set %s_ENABLED=True", name, b.begin)
		}
	}
	var names []string
	for _, d := range a.models {
		names = append(names, d.Name)
	}
	return fmt.Sprintf("no model is called %q; write one of %s", name, strings.Join(names, ", "))
}

// missed is the problem of a setting with the name of a model that is not there.
func (a *assembly) missed(setting, name string) {
	if !a.hidden {
		a.problem(setting, "%s", a.missing(name))
	}
}

// same finds names and prefixes that two models have.
func (a *assembly) same() {
	for i, d := range a.models {
		for _, other := range a.models[:i] {
			if d.Name == other.Name {
				a.problem(d.said("name"), "another model is called %s as well; give each its own name", d.Name)
			}
			if d.Prefix != "" && strings.EqualFold(d.Prefix, other.Prefix) {
				a.problem(d.said("prefix"), "%q is the prefix of %s as well; give each model its own", d.Prefix, other.Name)
			}
		}
	}
}

// fallbacks finds fallbacks that are not there, or lead back.
func (a *assembly) fallbacks() {
	for _, d := range a.models {
		chain := []string{d.Name}
		for next := d.Fallback; next != ""; {
			i := a.find(next)
			if i < 0 && len(chain) == 1 {
				a.missed(d.said("fallback"), next)
			}
			if i >= 0 && len(chain) == 1 && (a.models[i].Draws == "") != (d.Draws == "") {
				a.problem(d.said("fallback"), "one of %s and %s draws and the other does not", d.Name, next)
			}
			if next == d.Name {
				a.problem(d.said("fallback"), "the fallbacks go in a circle: %s, %s", strings.Join(chain, ", "), next)
			}
			if i < 0 || slices.Contains(chain, next) {
				break
			}
			chain = append(chain, next)
			next = a.models[i].Fallback
		}
	}
}

func (a *assembly) wrong(line int, format string, args ...any) {
	a.problem("MODELS_FILE", "%s:%d: %w", a.path, line, fmt.Errorf(format, args...))
}

// largestFile bounds MODELS_FILE and the files that it names, in bytes.
const largestFile = 256 << 10

func readText(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%w; name a file that this user may read", err)
	}
	if !info.Mode().IsRegular() || info.Size() > largestFile {
		return "", fmt.Errorf("%s is not a file of at most %d KiB", path, largestFile>>10)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w; name a file that this user may read", err)
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%s is not a text in UTF-8", path)
	}
	return string(b), nil
}

var yamlLine = regexp.MustCompile(`line ([0-9]+)`)

const shape = "write a list under models:, each entry with name, prefix and what else it needs"

// readFile adds the models of the file, as far as they can be read.
func (a *assembly) readFile() {
	hidden := a.hidden
	a.hidden = true
	content, err := readText(a.path)
	if err != nil {
		a.problem("MODELS_FILE", "%w", err)
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(content), &doc); err != nil {
		line := 1
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1]) // digits
		}
		a.wrong(line, "this is not YAML; look at the indentation, at quotes and at colons")
		return
	}
	if len(doc.Content) == 0 {
		a.problem("MODELS_FILE", "%s is empty; %s", a.path, shape)
		return
	}
	var list *yaml.Node
	a.fields(doc.Content[0], shape, func(key string, value *yaml.Node) bool {
		switch key {
		case "models":
			list = value
		case "transcription":
			a.priceOf(&a.config.Media.Transcribe, value, "minute", "transcription: write minute under it, the price of a minute of sound")
		case "speech":
			a.priceOf(&a.config.Media.Speech, value, "characters", "speech: write characters under it, the price of a million characters that are spoken")
		default:
			return false
		}
		return true
	})
	switch {
	case list == nil && len(a.problems) > 0:
	case list == nil && (a.config.Media.Transcribe.Priced || a.config.Media.Speech.Priced):
		a.hidden = hidden
	case list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		a.wrong(doc.Content[0].Line, "no models; %s", shape)
	default:
		a.hidden = hidden
		for _, n := range list.Content {
			a.entry(resolve(n))
		}
	}
}

// resolve follows an alias.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fields goes through a mapping; take returns false for a key that it does not know.
func (a *assembly) fields(n *yaml.Node, shape string, take func(key string, value *yaml.Node) bool) {
	if n.Kind != yaml.MappingNode {
		a.wrong(n.Line, "%s", shape)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if seen[key] {
			a.wrong(n.Content[i].Line, "%q stands twice", key)
			continue
		}
		seen[key] = true
		if !take(key, resolve(n.Content[i+1])) {
			hint := ""
			if near := nearestOf(key, slices.Concat(entryFields, otherFields)); near != "" {
				hint = fmt.Sprintf("; did you mean %s?", near)
			}
			a.wrong(n.Content[i].Line, "unknown key %q%s", key, hint)
		}
	}
}

// entryFields are the keys of an entry, otherFields those of its prices and those beside the entries.
var (
	entryFields = []string{
		"name", "like", "base", "model", "key", "key_env", "key_file", "prefix", "icon", "instructions", "instructions_file", "instructions_url",
		"temperature", "max_tokens", "context_tokens", "timeout", "fallback", "vision", "prices",
	}
	otherFields = []string{"prompt", "completion", "image", "models", "transcription", "minute", "speech", "characters"}
)

// nameForm is what a model may be called: what can be typed in a chat and read in a log.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)

// entry reads one model. One with mistakes is there for those that name it.
func (a *assembly) entry(n *yaml.Node) {
	it := a.item(n)
	if n.Kind != yaml.MappingNode {
		a.hidden = true
		return
	}
	before := len(a.problems)
	d, at := it.origin()
	known := len(a.problems) == before
	it.complete(&d.Entry)
	if known {
		it.needs(d.Entry)
	}
	switch {
	case at >= 0:
		a.models[at] = d
	case d.Name != "":
		a.models = append(a.models, d)
	}
}

// item is a model as the file has it.
type item struct {
	*assembly
	node   *yaml.Node
	values map[string]*yaml.Node
}

// item reads the values of a model.
func (a *assembly) item(n *yaml.Node) item {
	it := item{a, n, map[string]*yaml.Node{}}
	a.fields(n, shape, func(key string, value *yaml.Node) bool {
		switch {
		case !slices.Contains(entryFields, key):
			return false
		case key != "prices" && (value.Kind != yaml.ScalarNode || value.Tag == "!!null" || trim(value.Value) == ""):
			a.wrong(value.Line, "%s: write one value, or leave the line out", key)
			it.values[key] = &yaml.Node{Line: value.Line}
		default:
			it.values[key] = value
		}
		return true
	})
	return it
}

func (it item) get(key string) string {
	if v := it.values[key]; v != nil {
		return trim(v.Value)
	}
	return ""
}

func (it item) line(key string) int {
	if v := it.values[key]; v != nil {
		return v.Line
	}
	return it.node.Line
}

func (it item) said(field string) string {
	return fmt.Sprintf("MODELS_FILE: %s:%d", it.path, it.line(field))
}

func (it item) check(key string, err error) {
	if err != nil {
		it.wrong(it.line(key), "%s: %w", key, err)
	}
}

// origin is what the model is before it is completed, and its place among the models; -1 for a new one, which has no name where
// it cannot have that.
func (it item) origin() (d draft, at int) {
	name, like := strings.ToLower(it.get("name")), strings.ToLower(it.get("like"))
	d, at = draft{Entry{Name: name}, it.said}, -1
	own := slices.ContainsFunc(it.builtins, func(b builtin) bool { return b.Name == name })
	switch {
	case !nameForm.MatchString(name):
		d.Name, it.hidden = "", true
		it.wrong(it.line("name"), "name: write what the model is called: letters, digits, dots and dashes, at most 40")
	case own && like != "":
		d.Name = ""
		it.wrong(it.line("like"), "like: %s is what the environment says; choose another name", name)
	case own:
		// What the environment begins, the file may complete.
		if at = it.find(name); at < 0 {
			d.Name = ""
			it.wrong(it.node.Line, "%s", it.missing(name))
			break
		}
		begun := it.models[at]
		d.Entry = begun.Entry
		d.said = func(field string) string {
			if it.values[field] == nil {
				return begun.said(field)
			}
			return it.said(field)
		}
	case like != "":
		i := slices.IndexFunc(it.builtins, func(b builtin) bool { return b.Name == like && b.Draws == "" })
		if i < 0 {
			it.wrong(it.line("like"), "like: write openai, gemini or ollama, whose base, key and model this one then has")
			break
		}
		b := it.builtins[i]
		d.BaseURL, d.Key, d.Model = b.BaseURL, b.Key, b.Model
	}
	return d, at
}

// complete sets what the file says of the model.
func (it item) complete(e *Entry) {
	inherited := e.BaseURL
	for _, s := range []struct {
		key string
		to  *string
	}{{"model", &e.Model}, {"prefix", &e.Prefix}, {"icon", &e.Icon}} {
		if v := it.get(s.key); v != "" {
			*s.to = v
		}
	}
	e.Fallback = cmp.Or(strings.ToLower(it.get("fallback")), e.Fallback)
	if v := it.get("base"); v != "" {
		it.check("base", baseURL(openAI, func(*Config) *string { return &e.BaseURL })(it.config, v))
	}
	if e.BaseURL != inherited {
		e.Key = Secret{} // it is another service's
	}
	it.key(e)
	it.instructions(e)
	if v := it.get("temperature"); v != "" {
		t, err := strconv.ParseFloat(v, 32)
		if err != nil || !(t >= 0 && t <= 2) {
			it.check("temperature", errors.New("write a number from 0 to 2"))
		}
		e.Temperature = float32(t)
	}
	if v := it.get("max_tokens"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			it.check("max_tokens", errors.New("write how many tokens an answer may have, such as 1000"))
		}
		e.MaxTokens = n
	}
	if v := it.get("context_tokens"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1000 {
			it.check("context_tokens", errors.New("write how many tokens the model takes, question and answer together, such as 128000"))
		}
		e.ContextTokens = n
	}
	if v := it.get("timeout"); v != "" {
		err := duration(func(*Config) *time.Duration { return &e.Timeout })(it.config, v)
		if most := it.config.Model.Timeout; err == nil && most > 0 && e.Timeout > most {
			err = fmt.Errorf("%s is more than MODEL_TIMEOUT, which is %s", v, most)
		}
		it.check("timeout", err)
	}
	it.prices(e, it.values["prices"])
	e.Sees = e.Draws == "" && sees(e.BaseURL, e.Model)
	if v := it.get("vision"); v != "" {
		it.check("vision", boolean(func(*Config) *bool { return &e.Sees })(it.config, v))
		if e.Draws != "" {
			it.check("vision", fmt.Errorf("%s draws", e.Name))
		}
	}
}

// needs finds what the model cannot do without.
func (it item) needs(e Entry) {
	for _, need := range []struct{ key, value string }{{"prefix", e.Prefix}, {"base", e.BaseURL}, {"model", e.Model}} {
		if need.value == "" && it.values[need.key] == nil {
			it.wrong(it.node.Line, "%s has no %s; write one, or let it be like openai, gemini or ollama", e.Name, need.key)
		}
	}
	if needsKey(e.BaseURL) && e.Key.Reveal() == "" && it.values["key"] == nil && it.values["key_env"] == nil && it.values["key_file"] == nil {
		it.wrong(it.node.Line, "%s has no key, which its service asks for; write key, key_env or key_file", e.Name)
	}
}

// instructions finds what the model is told: as it is, in a file, or on the web.
func (it item) instructions(e *Entry) {
	switch key, v := it.oneOf("instructions", "instructions_file", "instructions_url"); key {
	case "instructions":
		e.Instructions = v
	case "instructions_file":
		text, err := readText(it.beside(v))
		it.check(key, err)
		e.Instructions = trim(text)
	case "instructions_url":
		u, err := url.Parse(v)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			it.check(key, errors.New("write the http or https URL of a plain text, without a name and password"))
		}
		e.InstructionsURL = v
	}
}

// oneOf finds which of the keys is there, and its value. Two of them are a mistake, and then none is.
func (it item) oneOf(keys ...string) (key, value string) {
	for _, k := range keys {
		v := it.get(k)
		switch {
		case v == "":
		case key != "":
			it.check(k, fmt.Errorf("%s is there as well; keep one of the two", key))
			return "", ""
		default:
			key, value = k, v
		}
	}
	return key, value
}

// beside is a path as MODELS_FILE means it: from the directory of the file.
func (a *assembly) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(a.path), path)
}

// key finds the entry's key: as it is, in a variable, or in a file.
func (it item) key(e *Entry) {
	key, v := it.oneOf("key", "key_env", "key_file")
	switch key {
	case "":
		return
	case "key_env":
		it.keys = append(it.keys, v)
		name := v
		if v = trim(it.getenv(name)); v == "" {
			it.check(key, fmt.Errorf("the variable %q is not set; write its name here, and the key into the environment or .env", name))
			return
		}
	case "key_file":
		text, err := readText(it.beside(v))
		if v = trim(text); err == nil && v == "" {
			err = errors.New("the file is empty; write the key into it")
		}
		if err != nil {
			it.check(key, err)
			return
		}
	}
	it.check(key, apiKey(func(*Config) *Secret { return &e.Key })(it.config, v))
}

// prices reads what tokens cost.
func (a *assembly) prices(e *Entry, n *yaml.Node) {
	if n == nil {
		return
	}
	const shape = "prices: write prompt and completion under it, each the price of a million tokens, or image, the price of a picture"
	a.fields(n, shape, func(key string, value *yaml.Node) bool {
		to := map[string]*float64{"prompt": &e.PromptPrice, "completion": &e.CompletionPrice, "image": &e.ImagePrice}[key]
		if to == nil {
			return false
		}
		a.price(to, key, value)
		e.Priced = true
		return true
	})
}

// priceOf reads what a service for recordings or voices costs: one price, under a key.
func (a *assembly) priceOf(s *Speech, n *yaml.Node, key, shape string) {
	a.fields(n, shape, func(k string, value *yaml.Node) bool {
		if k != key {
			return false
		}
		a.price(&s.Price, key, value)
		s.Priced = true
		return true
	})
}

// price reads one.
func (a *assembly) price(to *float64, key string, value *yaml.Node) {
	price, err := strconv.ParseFloat(value.Value, 64)
	if err != nil || !(price >= 0 && price < 1e6) {
		a.wrong(value.Line, "%s: write a price, such as 0.15", key)
	}
	*to = price
}
