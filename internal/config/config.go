// Package config reads the operator's settings from the environment, once, before anything
// opens. Each option is declared in one place, in options.go: its name, its default, how it is
// read and what it means; the values, .env.example and the README's table all come from
// there. Whatever is wrong is reported at once, one line each, in words that say what to
// write instead. A secret is never part of what is reported, nor is a phone number.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/joho/godotenv"

	"wabot/internal/access"
	"wabot/internal/words"
)

// Config is every setting, checked.
type Config struct {
	// Models are all that are on, those of MODELS_FILE too. Their names differ, and their prefixes.
	Models []Entry
	// The services beside OpenAI's chat; the last three draw.
	Gemini, Ollama, DALLE, Flux, Stability Provider

	Model    Model
	Chat     Chat
	Access   Access
	Media    Media
	Spend    Spend
	WhatsApp WhatsApp
	Store    Store
	// Backup is the passphrase of an exported session; it may be unset.
	Backup Secret
	HTTP   HTTP
	Log    Log
}

// Model is OpenAI's model, or one with its protocol, and what holds for all models.
type Model struct {
	Enabled bool
	// Icon stands before its answers; empty for none.
	Icon string
	// Default names the entry of Models that answers what begins with no prefix. File is MODELS_FILE.
	Default, File string
	// APIKey may be unset where BaseURL is not OpenAI's.
	APIKey Secret
	// BaseURL is an http or https URL without a slash at its end.
	BaseURL string
	Name    string
	// Prefix begins the messages meant for the bot. It holds only where PrefixEnabled is set;
	// else every message is meant for the bot.
	Prefix        string
	PrefixEnabled bool
	Instructions  string
	// History is how many past turns of a chat the model is given, 0 for none.
	History int
	// Timeout bounds one answer, IdleTimeout the silence within one. Both are positive.
	Timeout     time.Duration
	IdleTimeout time.Duration
}

// Provider is a service other than OpenAI that has settings of its own.
type Provider struct {
	Enabled bool
	Key     Secret
	// BaseURL is an http or https URL without a slash at its end.
	BaseURL            string
	Name, Prefix, Icon string
	// Size is that of pictures, such as 1024x1024, or empty; only DALLE's has one.
	Size string
}

// Chat is when and how a chat is answered.
type Chat struct {
	// HistoryTokens bounds the history that the model is given.
	HistoryTokens int
	// Summaries has what falls out of the history summarised.
	Summaries bool
	// Debounce is how long more messages of a chat are awaited, 0 for not at all.
	Debounce time.Duration
	// BacklogMaxAge is the age from which on a message is not answered.
	BacklogMaxAge time.Duration
	// Reply is how an answer that is being made shows, Processing the text of a placeholder.
	Reply      ReplyManner
	Processing string
	// Ack is the emoji reacted with until the answer is there, or empty.
	Ack string
	// Takeover is how long a chat is the owner's after they wrote there by hand, 0 for not at all.
	Takeover time.Duration
	// Words are what the bot says of its own, in the language chosen.
	Words words.Words
}

// ReplyManner is how an answer that is being made shows. The empty one is ReplyTyping.
type ReplyManner string

// The manners of replies.
const (
	ReplyTyping      ReplyManner = "typing"
	ReplyPlaceholder ReplyManner = "placeholder"
	ReplyStream      ReplyManner = "stream"
)

// Media is what is opened of what people send.
type Media struct {
	// ImageMB, AudioMB and DocumentMB are how large they may be, in megabytes; 0 opens none.
	ImageMB, AudioMB, DocumentMB int
	// Transcribe writes down recordings.
	Transcribe Speech
	// VoiceReply is when answers are spoken, by Speech in the voice of that name.
	VoiceReply VoiceReply
	Speech     Speech
	Voice      string
}

// VoiceReply is when an answer is spoken.
type VoiceReply string

// The times at which an answer is spoken.
const (
	VoiceOff    VoiceReply = "off"
	VoiceAuto   VoiceReply = "auto"
	VoiceAlways VoiceReply = "always"
)

// Speech is a service for recordings or for voices, with OpenAI's protocol.
type Speech struct {
	// On is whether it is used, or for voices whether it can be; a Config that was read has no SwitchAuto.
	On Switch
	// BaseURL is an http or https URL without a slash at its end.
	BaseURL string
	Key     Secret
	Model   string
	// Price is for a minute of sound that is written down, or for a million characters that are spoken, in the operator's
	// currency. Priced is set where it was given, be it 0.
	Price  float64
	Priced bool
}

// Switch is on, off, or left to the other settings.
type Switch string

// The positions of a Switch.
const (
	SwitchOn   Switch = "on"
	SwitchOff  Switch = "off"
	SwitchAuto Switch = "auto"
)

// Access is who may talk to the bot.
type Access struct {
	// Allow has no duplicates. The account's own chat is always allowed.
	Allow access.List
	// Block are never answered, Admins may command the bot. Neither has access.Everyone, Admins no group.
	Block, Admins access.List
	Groups        access.GroupPolicy
	// StrangerNotices tell the owner of people who may not ask the bot and do.
	StrangerNotices bool
}

// WhatsApp is how the bot links to the account.
type WhatsApp struct {
	// PairPhone is a phone number in digits with its country code, or empty to pair by QR code.
	PairPhone  string
	DeviceName string
	// NoiseRootKey is a public key of 32 bytes in the place of WhatsApp's own, or nil.
	NoiseRootKey []byte
}

// Store is where the bot keeps its state: in MongoDB where Mongo is set, else in SessionDir.
type Store struct {
	Mongo    bool
	MongoURL Secret
	// MongoWait is how long to wait for the database at start.
	MongoWait time.Duration
	// Key encrypts the device state in MongoDB, 32 bytes in hexadecimal, unset for none; OldKey is the one before it.
	Key, OldKey Secret
	SessionDir  string
	// Retention is how long messages, their trails and what they cost are kept, in whole days.
	Retention time.Duration
}

// HTTP is the page that tells how the bot is.
type HTTP struct {
	// Addr is where it listens, host:port, or empty where it is off.
	Addr string
	// Token is what a reader must know. It is set wherever Addr can be reached from other machines, but for
	// a container, whose port is published elsewhere.
	Token Secret
	// Container is set by the container image; Published is then the port at which this machine publishes the page, as compose has it.
	Container bool
	Published string
}

// Log is what is logged and how.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// LogFormat is the form of a log line.
type LogFormat string

// The forms of a log line. LogAuto is LogText on a terminal and LogJSON elsewhere.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
	LogAuto LogFormat = "auto"
)

// Load reads the settings from the environment and from the .env file at path. The environment
// wins: an option that it sets, under whichever of its names, is not looked up in the file. The
// file may be missing. The warnings, one sentence each, name what the file sets in vain and which
// values work but are unwise.
// The error joins every problem found, as Read's does.
func Load(getenv func(string) string, path string) (Config, []string, error) {
	file, err := readFile(path)
	if err != nil {
		return Config{}, nil, err
	}
	env := layered(getenv, file)
	c, keys, err := readAll(env)
	return c, slices.Concat(unknown(path, file, keys), unwise(env), c.idle(env)), err
}

// LoadPage reads where the page is and how to log, as Load does, for who only asks the page or passes it on: what
// is wrong with the other settings is not their concern.
func LoadPage(getenv func(string) string, path string) (HTTP, Log, error) {
	file, err := readFile(path)
	if err != nil {
		return HTTP{}, Log{}, err
	}
	c, _, problems := readOptions(layered(getenv, file), func(yield func(option) bool) {
		for o := range all() {
			if slices.Contains([]string{"HTTP_ADDR", "LOG_LEVEL", "LOG_FORMAT", "DEBUG"}, o.name) && !yield(o) {
				return
			}
		}
	})
	return c.HTTP, c.Log, errors.Join(problems...)
}

// LoadStore reads, as Load does, what commands on the store need: Store, Backup, Log and WhatsApp.NoiseRootKey. Models, their
// keys and whatever else the bot needs are not their concern.
func LoadStore(getenv func(string) string, path string) (Config, error) {
	file, err := readFile(path)
	if err != nil {
		return Config{}, err
	}
	c, _, problems := readOptions(layered(getenv, file), onStore)
	if len(problems) == 0 {
		return c, nil
	}
	// A name that is misspelt may be why another is not set. Names that are like no other may be the keys of models.
	var names []string
	for o := range onStore {
		names = append(names, o.sources()...)
	}
	for name := range maps.Keys(file) {
		if near := nearest(name, names); near != "" && near != name {
			problems = append(problems, fmt.Errorf("%s: %s is not a setting of wabot and does nothing; did you mean %s?", path, name, near))
		}
	}
	return Config{}, errors.Join(problems...)
}

// readFile reads the .env file at path, which may be missing.
func readFile(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	file, err := parseFile(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return file, nil
}

// unwise warns of values that work.
func unwise(getenv func(string) string) (warnings []string) {
	for o := range all() {
		if o.warn == nil {
			continue
		}
		// What cannot be looked up is Read's to report.
		if name, value, err := o.lookup(getenv); err == nil && value != "" {
			if w := o.warn(value); w != "" {
				warnings = append(warnings, name+" "+w)
			}
		}
	}
	return warnings
}

// layered looks an option up in the file only where getenv has none of its names. What is no option may be
// the key of a model in MODELS_FILE.
func layered(getenv func(string) string, file map[string]string) func(string) string {
	inFile := maps.Clone(file)
	for o := range all() {
		if slices.ContainsFunc(o.sources(), func(name string) bool { return trim(getenv(name)) != "" }) {
			for _, name := range o.sources() {
				delete(inFile, name)
			}
		}
	}
	return func(name string) string {
		if v := getenv(name); trim(v) != "" {
			return v
		}
		return inFile[name]
	}
}

// Read reads the settings from the environment that getenv looks up, and secrets from the
// files that NAME_FILE names. What is empty counts as unset. The error joins every problem
// found; its text has one line for each, which names the setting.
func Read(getenv func(string) string) (Config, error) {
	c, _, err := readAll(getenv)
	return c, err
}

// readAll is Read, and names the variables that models of MODELS_FILE have their keys in.
func readAll(getenv func(string) string) (Config, []string, error) {
	c, unread, problems := readOptions(getenv, all())
	keys, wrong := c.assemble(getenv, unread)
	if problems = append(problems, wrong...); len(problems) > 0 {
		return Config{}, keys, errors.Join(problems...)
	}
	c.Media.Transcribe, c.Media.Speech = c.speech(c.Media.Transcribe), c.voice()
	return c, keys, nil
}

// readOptions reads some of the options, and names those that have a value which cannot be read.
func readOptions(getenv func(string) string, some iter.Seq[option]) (_ Config, unread []string, problems []error) {
	c := Config{Spend: Spend{Zone: time.Local}}
	var unset []option
	for o := range some {
		name, value, err := o.lookup(getenv)
		switch {
		case err != nil:
			problems, unread = append(problems, err), append(unread, o.name)
			continue
		case value == "":
			unset = append(unset, o)
			value = o.def
		}
		if value == "" {
			continue
		}
		if err := o.read(&c, value); err != nil {
			problems, unread = append(problems, fmt.Errorf("%s: %w", name, err)), append(unread, o.name)
		}
	}
	for _, o := range unset {
		if o.needed == nil {
			continue
		}
		if why := o.needed(c); why != "" {
			problems = append(problems, fmt.Errorf("%s: not set; %s", o.name, why))
		}
	}
	return c, unread, problems
}

// lookup finds the option's value and the name it is set under.
func (o option) lookup(getenv func(string) string) (name, value string, err error) {
	name = o.name
	for _, source := range o.sources() {
		v := trim(getenv(source))
		if v == "" {
			continue
		}
		if value != "" {
			return "", "", fmt.Errorf("%s: %s is set as well; keep one of the two", source, name)
		}
		name, value = source, v
	}
	if o.secret && strings.HasSuffix(name, fileSuffix) {
		path := value
		content, err := os.ReadFile(path)
		if err != nil {
			return "", "", fmt.Errorf("%s: %w; name a file that this user may read", name, err)
		}
		if value = trim(string(content)); value == "" {
			return "", "", fmt.Errorf("%s: the file %s is empty; write the value into it", name, path)
		}
	}
	return name, value, nil
}

// trim removes what editors, shells and Docker leave around a value.
func trim(value string) string { return strings.TrimSpace(value) }

// parseFile parses the text of a .env file. Its error begins with the number of the line and
// never holds the line's text, which may be a secret.
func parseFile(text string) (map[string]string, error) {
	text = strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n")
	vars, err := parseLines(text)
	if err == nil {
		return vars, nil
	}
	return nil, fmt.Errorf("%d: this is not NAME=value; close quotes that you open, and begin comments with #", broken(strings.SplitAfter(text, "\n")))
}

// longest bounds a quoted value, in lines, where the broken one is looked for.
const longest = 100

// broken is the number of the first line of a statement that does not parse: godotenv does not say where it
// stopped.
func broken(lines []string) int {
	for begin := 0; begin < len(lines); {
		end := begin + 1
		for ; end <= min(begin+longest, len(lines)); end++ {
			if _, err := parseLines(strings.Join(lines[begin:end], "")); err == nil {
				break
			}
		}
		if end > min(begin+longest, len(lines)) {
			return begin + 1
		}
		begin = end
	}
	return len(lines)
}

// parseLines is godotenv's parser with the names checked, too: it takes a line without an equals
// sign for the value of an empty name.
func parseLines(text string) (map[string]string, error) {
	vars, err := godotenv.Unmarshal(text)
	if err != nil {
		return nil, err
	}
	for name := range vars {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, errors.New("not a name")
		}
	}
	return vars, nil
}

// unknown warns of the names in the file that no option has, and that are not among keys.
func unknown(path string, file map[string]string, keys []string) []string {
	names := slices.Clone(keys)
	for o := range all() {
		names = append(names, o.sources()...)
	}
	var warnings []string
	for name := range file {
		if slices.Contains(names, name) {
			continue
		}
		w := fmt.Sprintf("%s: %s is not a setting of wabot and does nothing", path, name)
		if b := became(name); b != "" {
			w += ": " + b
		} else if near := nearest(name, names); near != "" {
			w += fmt.Sprintf("; did you mean %s?", near)
		}
		warnings = append(warnings, w)
	}
	slices.Sort(warnings)
	return warnings
}

// nearest finds the name that a typo stands for, or "".
func nearest(typo string, names []string) string { return nearestOf(strings.ToUpper(typo), names) }

// nearestOf is nearest in the same case of letters.
func nearestOf(typo string, names []string) string {
	best, least := "", min(3, len(typo)/3+1)
	for _, name := range names {
		if d := distance(typo, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two names, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
