package config

import (
	"cmp"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"wabot/internal/access"
	"wabot/internal/mask"
	"wabot/internal/words"
)

// option is one setting.
type option struct {
	name    string
	aliases []string // names that other bots give it
	def     string   // read like a given value; empty: none
	example string   // shown in .env.example where there is no default
	secret  bool     // never shown; may be read from the file that NAME_FILE names
	tests   bool     // for tests and the image: not in .env.example
	means   string   // in the operator's words, whole sentences

	// read puts a value, trimmed and not empty, into c. Its error says what was given and
	// what to write instead.
	read func(c *Config, value string) error
	// needed says, after all else was read, why the option must be set and how, or "".
	needed func(c Config) string
	// warn says what is unwise about a value that works, or "".
	warn func(value string) string
}

const fileSuffix = "_FILE"

// sources are the names that the option may be set under.
func (o option) sources() []string {
	names := append([]string{o.name}, o.aliases...)
	if o.secret {
		for _, name := range names {
			names = append(names, name+fileSuffix)
		}
	}
	return names
}

type section struct {
	title   string
	options []option
}

// The titles of the sections that commands on the store need.
const (
	storeTitle  = "Where the bot keeps its state"
	backupTitle = "Backups"
	logTitle    = "Logs"
)

// onStore are the options that commands on the store need.
func onStore(yield func(option) bool) {
	for _, s := range sections {
		for _, o := range s.options {
			needed := s.title == storeTitle || s.title == backupTitle || s.title == logTitle || o.name == "WHATSAPP_NOISE_ROOT_KEY"
			if needed && !yield(o) {
				return
			}
		}
	}
}

func all() iter.Seq[option] {
	return func(yield func(option) bool) {
		for _, s := range sections {
			for _, o := range s.options {
				if !yield(o) {
					return
				}
			}
		}
	}
}

const (
	openAI = "https://api.openai.com/v1"
	gemini = "https://generativelanguage.googleapis.com/v1beta/openai"
	ollama = "http://localhost:11434/v1"
)

// provider is what the settings of a service are declared from.
type provider struct {
	name  string   // in sentences
	begin string   // of its settings' names
	keys  []string // the names of its key
	// The defaults.
	base, model, prefix string
	api                 string // what is at the base
	getKey              string // how to get a key; empty where it needs none
	at                  func(*Config) *Provider
}

// options are the settings of a service.
func (p provider) options() []option {
	at, means := p.at, "The key of "+p.name+"'s API."
	switch {
	case p.begin == "DALLE":
		means = "The key of OpenAI's API for pictures. Without it OPENAI_API_KEY is used, where DALLE_BASE_URL is the same as OPENAI_BASE_URL."
	case p.getKey == "":
		means += " Needed only where a server asks for one."
	}
	return []option{
		{
			name: p.begin + "_ENABLED", def: "False",
			means: "True answers by " + p.name + " what begins with " + p.begin + "_PREFIX.",
			read:  boolean(func(c *Config) *bool { return &at(c).Enabled }),
		},
		{
			name: p.keys[0], aliases: p.keys[1:], secret: true, example: "the-key",
			means: means,
			read:  apiKey(func(c *Config) *Secret { return &at(c).Key }),
			needed: func(c Config) string {
				own := *at(&c)
				if !own.Enabled || !needsKey(own.BaseURL) || p.begin == "DALLE" && c.pictureKey().Reveal() != "" {
					return ""
				}
				return fmt.Sprintf("%s_ENABLED is True: %s, or set %s_ENABLED=False", p.begin, p.getKey, p.begin)
			},
		},
		{
			name: p.begin + "_BASE_URL", def: p.base,
			means: "Where " + p.name + "'s " + p.api + " is.",
			read:  baseURL(p.base, func(c *Config) *string { return &at(c).BaseURL }),
		},
		{
			name: p.begin + "_MODEL", def: p.model,
			means: "The model's name, as its service calls it.",
			read:  text(func(c *Config) *string { return &at(c).Name }),
		},
		{
			name: p.begin + "_PREFIX", def: p.prefix,
			means: "What a message to it begins with.",
			read:  text(func(c *Config) *string { return &at(c).Prefix }),
		},
		{
			name: p.begin + "_ICON_PREFIX", example: "✨",
			means: "What stands before each of its answers.",
			read:  text(func(c *Config) *string { return &at(c).Icon }),
		},
	}
}

// pictureKey is the key for OpenAI's pictures.
func (c *Config) pictureKey() Secret {
	if c.DALLE.Key.Reveal() == "" && c.DALLE.BaseURL == c.Model.BaseURL {
		return c.Model.APIKey
	}
	return c.DALLE.Key
}

// speech is s with the key that it has, and on or off.
func (c *Config) speech(s Speech) Speech {
	if s.Key.Reveal() == "" && s.BaseURL == c.Model.BaseURL {
		s.Key = c.Model.APIKey
	}
	if s.On == SwitchAuto {
		if s.On = SwitchOff; s.Key.Reveal() != "" {
			s.On = SwitchOn
		}
	}
	return s
}

// voice is the service for voices, on where it can be used: !voice may ask for it in a chat where VOICE_REPLY does not. That
// is not worth an error where its price is missing, but a budget of money has to be kept.
func (c *Config) voice() Speech {
	s := c.speech(c.Media.Speech)
	s.On = SwitchOff
	usable := s.Key.Reveal() != "" || !needsKey(s.BaseURL)
	if c.Media.VoiceReply != VoiceOff || usable && (s.Priced || !c.moneyed()) {
		s.On = SwitchOn
	}
	return s
}

// needsKey reports whether an API is one that answers nobody without a key.
func needsKey(baseURL string) bool {
	u, err := url.Parse(baseURL)
	return err == nil && slices.Contains([]string{
		"api.openai.com", "generativelanguage.googleapis.com", "router.huggingface.co", "api.stability.ai",
	}, u.Hostname())
}

// sections declares every option. What an operator must set comes first.
var sections = []section{
	{"The model", []option{
		{
			name: "OPENAI_API_KEY", aliases: []string{"API_KEY_OPENAI"}, secret: true,
			means: "The key of your model's API, from https://platform.openai.com/api-keys. Needed unless OPENAI_BASE_URL names a service that asks for none.",
			read:  apiKey(func(c *Config) *Secret { return &c.Model.APIKey }),
			needed: func(c Config) string {
				if !c.Model.Enabled || !needsKey(c.Model.BaseURL) {
					return ""
				}
				return "get a key at https://platform.openai.com/api-keys, or set OPENAI_BASE_URL to a service that needs none, or OPENAI_ENABLED=False where another model answers"
			},
		},
		{
			name: "OPENAI_BASE_URL", def: openAI,
			means: "Where the model's API is. Any service that speaks OpenAI's API will do, for example http://localhost:11434/v1 for Ollama.",
			read:  baseURL(openAI, func(c *Config) *string { return &c.Model.BaseURL }),
		},
		{
			name: "OPENAI_MODEL", def: "gpt-4o-mini",
			means: "The model's name, as its service calls it.",
			read:  text(func(c *Config) *string { return &c.Model.Name }),
		},
		{
			name: "OPENAI_PREFIX", def: "!ai",
			means: "What a message begins with to be answered: \"!ai what is a quasar?\".",
			read:  text(func(c *Config) *string { return &c.Model.Prefix }),
		},
		{
			name: "OPENAI_ENABLED", def: "True",
			means: "False leaves answering to the other models.",
			read:  boolean(func(c *Config) *bool { return &c.Model.Enabled }),
		},
		{
			name: "OPENAI_ICON_PREFIX", example: "🔮",
			means: "What stands before each answer of this model.",
			read:  text(func(c *Config) *string { return &c.Model.Icon }),
		},
		{
			name: "PREFIX_ENABLED", def: "True",
			means: "False answers every message of the chats in ALLOW, prefix or not.",
			read:  boolean(func(c *Config) *bool { return &c.Model.PrefixEnabled }),
		},
		{
			name:  "INSTRUCTIONS",
			def:   "You are a friendly and helpful assistant in a WhatsApp chat. Answer in the language you are written to, briefly and in plain words, and say so when you do not know.",
			means: "What the model is told before every chat: who it is and how it should answer.",
			read:  text(func(c *Config) *string { return &c.Model.Instructions }),
		},
		{
			name: "HISTORY", def: "20",
			means: "How many past questions and answers of a chat the model is given with a new one. 0 gives it none; more cost more.",
			read:  count(func(c *Config) *int { return &c.Model.History }),
		},
		{
			name: "HISTORY_TOKENS", def: "8000",
			means: "How many tokens these may have together; the oldest are left out. Lower it for a model with a small window, raise it for long memories, which cost more.",
			read:  count(func(c *Config) *int { return &c.Chat.HistoryTokens }),
		},
		{
			name: "SUMMARIES", def: "True",
			means: "What no longer fits into the history is told to the model in short: now and then the chat's model is asked for a summary, after an answer. False forgets it.",
			read:  boolean(func(c *Config) *bool { return &c.Chat.Summaries }),
		},
		{
			name: "DEBOUNCE", def: "1s",
			means: "How long to wait after a message for more of the same chat, to answer them together: at most 5s in all. Who goes on typing is waited for that long: the bot shows as online meanwhile. Commands, pictures and other media end the wait. 0s answers each message at once.",
			read:  pause(func(c *Config) *time.Duration { return &c.Chat.Debounce }, 5*time.Second),
		},
		{
			name: "BACKLOG_MAX_AGE", def: "24h",
			means: "After a time away, messages older than this are not answered; their chat is told so in one line.",
			read:  duration(func(c *Config) *time.Duration { return &c.Chat.BacklogMaxAge }),
		},
		{
			name: "TAKEOVER", def: "30m",
			means: "When you write in a chat by hand, the bot leaves what others ask there unanswered for this long, so that you can talk; what you ask it yourself is answered. 0s to answer all the same.",
			read:  pause(func(c *Config) *time.Duration { return &c.Chat.Takeover }, 24*time.Hour),
		},
		{
			name: "REPLY", example: "stream",
			means: "How an answer comes. typing: the chat shows that the bot is typing until the answer is there. placeholder: a message that quotes the question is sent at once and then edited into the answer. stream: the answer shows as it grows, by edits. Without it typing, or placeholder where PROCESSING is set.",
			read: choice(func(c *Config) *ReplyManner { return &c.Chat.Reply }, map[string]ReplyManner{
				"typing": ReplyTyping, "placeholder": ReplyPlaceholder, "stream": ReplyStream,
			}),
		},
		{
			// After REPLY, which it is a default of.
			name: "PROCESSING", example: "Thinking...",
			means: "The text of the placeholder.",
			read: func(c *Config, value string) error {
				c.Chat.Processing = value
				c.Chat.Reply = cmp.Or(c.Chat.Reply, ReplyPlaceholder)
				return nil
			},
		},
		{
			name: "ACK_REACTION", def: "off",
			means: "An emoji, such as 👀, with which the bot reacts to a question while it is at work; it is taken back with the answer, or replaced by ⚠️ where there is none. off for none.",
			read: func(c *Config, value string) error {
				if strings.EqualFold(value, "off") {
					return nil
				}
				// One sign on the screen, be it of several characters, and no letter or digit.
				if uniseg.GraphemeClusterCount(value) != 1 || value[0] < utf8.RuneSelf {
					return fmt.Errorf("%q is not an emoji; write one, such as 👀, or off for none", value)
				}
				c.Chat.Ack = value
				return nil
			},
		},
		{
			name: "LANG_BOT", def: "en",
			means: "The language of what the bot says of its own, such as its help: " + strings.Join(slices.Sorted(maps.Keys(words.Languages())), ", ") + ". Models answer in the language they are asked in.",
			read:  choice(func(c *Config) *words.Words { return &c.Chat.Words }, words.Languages()),
		},
		{
			name: "MODEL_TIMEOUT", def: "5m",
			means: "How long one answer of the model may take.",
			read:  duration(func(c *Config) *time.Duration { return &c.Model.Timeout }),
		},
		{
			name: "MODEL_IDLE_TIMEOUT", def: "60s",
			means: "How long the model may stay silent within an answer before the bot tries again.",
			read:  duration(func(c *Config) *time.Duration { return &c.Model.IdleTimeout }),
		},
	}},
	{"More models, each with a prefix of its own", slices.Concat([]option{
		{
			name: "DEFAULT_MODEL", example: "openai",
			means: "The model that answers what begins with no prefix: openai, gemini, ollama, or a name from MODELS_FILE. Without it, the first of them that is on.",
			read:  text(func(c *Config) *string { return &c.Model.Default }),
		},
		{
			name: "MODELS_FILE", example: "models.yaml",
			means: "A YAML file with any number of further models; the README describes it.",
			read:  text(func(c *Config) *string { return &c.Model.File }),
		},
	}, provider{
		name: "Gemini", begin: "GEMINI", keys: []string{"API_KEY_GEMINI", "GEMINI_API_KEY"}, base: gemini, api: "OpenAI-compatible API", model: "gemini-flash-latest",
		prefix: "!gemini", getKey: "get a key at https://aistudio.google.com/apikey", at: func(c *Config) *Provider { return &c.Gemini },
	}.options(), provider{
		name: "Ollama", begin: "OLLAMA", keys: []string{"OLLAMA_API_KEY"}, base: ollama, api: "OpenAI-compatible API", model: "deepseek-r1:1.5b",
		prefix: "!ollama", at: func(c *Config) *Provider { return &c.Ollama },
	}.options())},
	{"Pictures: models that draw what follows their prefix", slices.Concat(provider{
		name: "OpenAI", begin: "DALLE", keys: []string{"API_KEY_OPENAI_DALLE"}, base: openAI, api: "API", model: "gpt-image-1",
		prefix: "!dalle", getKey: "set OPENAI_API_KEY, or API_KEY_OPENAI_DALLE where pictures have a key of their own", at: func(c *Config) *Provider { return &c.DALLE },
	}.options(), []option{{
		name: "DALLE_SIZE", example: "1024x1024",
		means: "How large OpenAI's pictures are, width x height, as far as the model has that size.",
		read:  pictureSize(func(c *Config) *string { return &c.DALLE.Size }),
	}}, provider{
		name: "FLUX at Hugging Face", begin: "HF", keys: []string{"API_KEY_HF", "HF_TOKEN"}, base: "https://router.huggingface.co/hf-inference", api: "inference API",
		model: "black-forest-labs/FLUX.1-schnell", prefix: "!flux", getKey: "get a token at https://huggingface.co/settings/tokens", at: func(c *Config) *Provider { return &c.Flux },
	}.options(), provider{
		name: "Stability", begin: "STABILITY", keys: []string{"API_KEY_STABILITY", "STABILITY_API_KEY"}, base: "https://api.stability.ai", api: "API", model: "core",
		prefix: "!stability", getKey: "get a key at https://platform.stability.ai/account/keys", at: func(c *Config) *Provider { return &c.Stability },
	}.options())},
	{"What people send besides texts", []option{
		{
			name: "IMAGE_MAX_MB", def: "10",
			means: "How large a picture or sticker may be that is shown to a model which sees, in megabytes. 0 shows none.",
			read:  count(func(c *Config) *int { return &c.Media.ImageMB }),
		},
		{
			name: "AUDIO_MAX_MB", def: "25",
			means: "How large a voice message or another recording may be that is written down, in megabytes.",
			read:  count(func(c *Config) *int { return &c.Media.AudioMB }),
		},
		{
			name: "DOCUMENT_MAX_MB", def: "20",
			means: "How large a document may be that is read (PDF, Word, or a text), in megabytes. 0 reads none.",
			read:  count(func(c *Config) *int { return &c.Media.DocumentMB }),
		},
		{
			name: "TRANSCRIBE_ENABLED", def: "auto",
			means: "True has voice messages and recordings written down, so that they are answered; False does not listen; auto listens where there is a key for it.",
			read: choice(func(c *Config) *Switch { return &c.Media.Transcribe.On }, map[string]Switch{
				"true": SwitchOn, "false": SwitchOff, "auto": SwitchAuto,
			}),
		},
		{
			name: "TRANSCRIBE_BASE_URL", def: openAI,
			means: "Where the transcription's API is: OpenAI's, or any that speaks its protocol.",
			read:  baseURL(openAI, func(c *Config) *string { return &c.Media.Transcribe.BaseURL }),
		},
		{
			name: "TRANSCRIBE_API_KEY", secret: true, example: "the-key",
			means: "The key of that API. Without it OPENAI_API_KEY is used, where TRANSCRIBE_BASE_URL is the same as OPENAI_BASE_URL.",
			read:  apiKey(func(c *Config) *Secret { return &c.Media.Transcribe.Key }),
			needed: func(c Config) string {
				if t := c.speech(c.Media.Transcribe); c.Media.Transcribe.On != SwitchOn || t.Key.Reveal() != "" || !needsKey(t.BaseURL) {
					return ""
				}
				return "TRANSCRIBE_ENABLED is True: write the key of OpenAI's API, or set TRANSCRIBE_BASE_URL to a service that needs none, or TRANSCRIBE_ENABLED=auto"
			},
		},
		{
			name: "TRANSCRIBE_MODEL", def: "gpt-4o-mini-transcribe",
			means: "The model's name, as its service calls it; whisper-1 is another.",
			read:  text(func(c *Config) *string { return &c.Media.Transcribe.Model }),
		},
		{
			name: "VOICE_REPLY", def: "off",
			means: "auto answers voice messages by voice messages, always answers everything so, off nothing; !voice chooses for a chat. Long answers, code and links stay texts.",
			read: choice(func(c *Config) *VoiceReply { return &c.Media.VoiceReply }, map[string]VoiceReply{
				"off": VoiceOff, "auto": VoiceAuto, "always": VoiceAlways,
			}),
		},
		{
			name: "SPEECH_BASE_URL", def: openAI,
			means: "Where the API is that speaks: OpenAI's, or any with its protocol that sends Opus in Ogg.",
			read:  baseURL(openAI, func(c *Config) *string { return &c.Media.Speech.BaseURL }),
		},
		{
			name: "SPEECH_API_KEY", secret: true, example: "the-key",
			means: "The key of that API. Without it OPENAI_API_KEY is used, where SPEECH_BASE_URL is the same as OPENAI_BASE_URL.",
			read:  apiKey(func(c *Config) *Secret { return &c.Media.Speech.Key }),
			needed: func(c Config) string {
				if s := c.speech(c.Media.Speech); c.Media.VoiceReply == VoiceOff || s.Key.Reveal() != "" || !needsKey(s.BaseURL) {
					return ""
				}
				return "VOICE_REPLY is on: write the key of OpenAI's API, or set SPEECH_BASE_URL to a service that needs none, or VOICE_REPLY=off"
			},
		},
		{
			name: "SPEECH_MODEL", def: "gpt-4o-mini-tts",
			means: "The model's name, as its service calls it.",
			read:  text(func(c *Config) *string { return &c.Media.Speech.Model }),
		},
		{
			name: "SPEECH_VOICE", def: "alloy",
			means: "The voice, as the service calls it.",
			read:  text(func(c *Config) *string { return &c.Media.Voice }),
		},
	}},
	{"Who may talk to the bot", []option{
		{
			name: "ALLOW", example: "+1 202 555 0143, 120363041234567890@g.us",
			means: "Who gets answers besides your own chat with yourself, separated by commas: phone numbers with their country code, groups (...@g.us), hidden addresses (...@lid), or * for everyone. Everyone who is answered spends your money.",
			read:  people(func(c *Config) *access.List { return &c.Access.Allow }, access.Everyone),
		},
		{
			name: "BLOCK", example: "+1 202 555 0199",
			means: "Who never gets answers, whatever else is set or said: numbers, groups and hidden addresses like those of ALLOW.",
			read:  people(func(c *Config) *access.List { return &c.Access.Block }, ""),
		},
		{
			name: "ADMINS", example: "+1 202 555 0143",
			means: "Who may use the commands for admins besides you, such as !allow, and gets answers wherever they are: phone numbers and hidden addresses.",
			read: func(c *Config, value string) error {
				if err := people(func(c *Config) *access.List { return &c.Access.Admins }, "")(c, value); err != nil {
					return err
				}
				for _, who := range c.Access.Admins {
					if strings.HasSuffix(who, "@g.us") {
						return fmt.Errorf("%q is a group; write the numbers of the people in it", mask.JID(who))
					}
				}
				return nil
			},
		},
		{
			name: "GROUP_POLICY", def: "allowed",
			means: "Who gets answers in groups: allowed for those in ALLOW and for everyone in a group that is in ALLOW, any for everyone in every group, off for nobody but you.",
			read: choice(func(c *Config) *access.GroupPolicy { return &c.Access.Groups }, map[string]access.GroupPolicy{
				"allowed": access.GroupsAllowed, "any": access.GroupsAny, "off": access.GroupsOff,
			}),
		},
		{
			name: "STRANGER_NOTICES", def: "True",
			means: "When someone who may not asks the bot, you are told in your own chat, at most once a day for each person, with the command that lets them in. False to leave that to the log.",
			read:  boolean(func(c *Config) *bool { return &c.Access.StrangerNotices }),
		},
	}},
	{"What it may spend", slices.Concat(budgetOptions(), []option{
		{
			name: "RATE_PERSON", def: "20/m, 200/h",
			means: "How many messages of one person are answered: in a second, minute, hour or day, such as 20/m; all that are given, separated by commas, hold. Messages above it wait and are answered together; of a flood a part is left out. off for no limit. Your own chat with yourself is not limited.",
			read:  rates(func(c *Config) *[]Rate { return &c.Spend.PersonRate }),
		},
		{
			name: "RATE_CHAT", def: "30/m, 300/h",
			means: "How many messages of one chat are answered, likewise.",
			read:  rates(func(c *Config) *[]Rate { return &c.Spend.ChatRate }),
		},
		{
			name: "TZ", example: "Europe/Berlin",
			means: "The time zone in which days and months begin. Without it, this machine's; in the container that is UTC.",
			read:  zone,
		},
	})},
	{"WhatsApp", []option{
		{
			name: "PAIR_PHONE", example: "+12025550143",
			means: "The phone number of the bot's account, to link it with a code typed on the phone instead of a QR code.",
			read:  phone(func(c *Config) *string { return &c.WhatsApp.PairPhone }),
		},
		{
			name: "DEVICE_NAME", def: "wabot",
			means: "The name under which the phone lists the bot among its linked devices. Set it before linking.",
			read:  text(func(c *Config) *string { return &c.WhatsApp.DeviceName }),
		},
		{
			name: "WHATSAPP_NOISE_ROOT_KEY", tests: true,
			means: "For tests only: the root key of a simulated WhatsApp, as 64 hexadecimal digits. With it, the real WhatsApp cannot be reached.",
			read:  key32(func(c *Config) *[]byte { return &c.WhatsApp.NoiseRootKey }),
		},
	}},
	{storeTitle, []option{
		{
			name: "MONGO_ENABLED", def: "False",
			means: "True keeps everything in MongoDB, False in files under SESSION_DIR.",
			read:  boolean(func(c *Config) *bool { return &c.Store.Mongo }),
		},
		{
			name: "MONGO_URL", secret: true, example: "mongodb://user:password@localhost:27017/whatsapp_sessions",
			means: "The MongoDB to use, with its name and password. Needed where MONGO_ENABLED is True. The path names the database; without one it is whatsapp_sessions.",
			read:  mongoURL(func(c *Config) *Secret { return &c.Store.MongoURL }),
			needed: func(c Config) string {
				if !c.Store.Mongo {
					return ""
				}
				return "MONGO_ENABLED is True: write the database's address like mongodb://localhost:27017, or set MONGO_ENABLED=False"
			},
		},
		{
			// After MONGO_URL, into which it goes.
			name: "MONGO_PASSWORD", secret: true, example: "change-this-password",
			means: "The password of the user that MONGO_URL names without one. docker-compose.yml gives it to the user wabot of its MongoDB; \"wabot init\" writes a random one.",
			read: func(c *Config, value string) error {
				c.Store.MongoURL = withPassword(c.Store.MongoURL, value)
				return nil
			},
			warn: exampleOf("change-this-password"),
		},
		{
			name: "MONGO_ROOT_PASSWORD", example: "change-this-root-password",
			means: "For docker-compose.yml alone: the password of its MongoDB's root, for backups and repairs; wabot does not use it. Once it is your own, changing it takes a command: see the README.",
			read:  func(*Config, string) error { return nil },
			warn:  exampleOf("change-this-root-password"),
		},
		{
			name: "MONGO_WAIT", def: "60s",
			means: "How long to wait for MongoDB at start before giving up.",
			read:  duration(func(c *Config) *time.Duration { return &c.Store.MongoWait }),
		},
		{
			name: "SESSION_KEY", secret: true, example: "64-hexadecimal-digits",
			means: "Encrypts the device's keys in MongoDB: 32 random bytes as 64 hexadecimal digits, from \"openssl rand -hex 32\". Whoever reads the database without it cannot be the account. Set it, and the next start encrypts what is there; if it is lost, the device has to be linked anew.",
			read:  sessionKey(func(c *Config) *Secret { return &c.Store.Key }),
		},
		{
			name: "SESSION_KEY_OLD", secret: true, example: "64-hexadecimal-digits",
			means: "The SESSION_KEY before, for one start: to change the key, or to turn encryption off with SESSION_KEY unset.",
			read:  sessionKey(func(c *Config) *Secret { return &c.Store.OldKey }),
		},
		{
			name: "SESSION_DIR", def: "./session",
			means: "The directory of the file store. Whoever can read it can read your chats: keep it private and back it up.",
			read:  text(func(c *Config) *string { return &c.Store.SessionDir }),
		},
		{
			name: "RETENTION", def: "90d",
			means: "After how many days messages, answers, their trails, and the means to read edits and reactions to them are deleted; of what they cost, daily totals stay. At least 15d.",
			read:  days(func(c *Config) *time.Duration { return &c.Store.Retention }),
		},
	}},
	{backupTitle, []option{
		{
			name: "BACKUP_PASSPHRASE", secret: true, example: "four-or-five-words-of-your-own",
			means: "For \"wabot session export\" and \"import\" where no terminal is there to ask for it: what encrypts the file. At least 12 characters. Keep it elsewhere than the file.",
			read:  passphrase(func(c *Config) *Secret { return &c.Backup }),
		},
	}},
	{"The page that tells how the bot is", []option{
		{
			name: "HTTP_ADDR", def: "127.0.0.1:3000",
			means: "Where the bot shows its state and the QR code, and answers /healthz, /readyz and /metrics: address and port, or off.",
			read:  listen(func(c *Config) *string { return &c.HTTP.Addr }),
		},
		{
			name: "HTTP_TOKEN", secret: true, example: "a-long-random-text",
			means: "What to know to see the page and the metrics: open the page once with ?token= and this text after it, or send it as a bearer token. Needed where HTTP_ADDR can be reached from other machines. At least 16 characters.",
			read:  token(func(c *Config) *Secret { return &c.HTTP.Token }),
			needed: func(c Config) string {
				host, _, _ := net.SplitHostPort(c.HTTP.Addr)
				if c.HTTP.Addr == "" || c.HTTP.Container || loopback(host) {
					return ""
				}
				return "HTTP_ADDR lets other machines in: write a long random text, or set HTTP_ADDR=127.0.0.1:3000"
			},
		},
		{
			name: "WABOT_CONTAINER", def: "False", tests: true,
			means: "Set by the container image, in which the page listens on every address and the published port decides who reaches it: HTTP_TOKEN is then not needed.",
			read:  boolean(func(c *Config) *bool { return &c.HTTP.Container }),
		},
		{
			name: "HTTP_PORT", def: "3000",
			means: "For docker-compose.yml alone: the port of this machine at which the page is published, on 127.0.0.1.",
			read: func(c *Config, port string) error {
				c.HTTP.Published = port
				return nil
			},
		},
	}},
	{logTitle, []option{
		{
			name: "LOG_LEVEL", def: "info",
			means: "How much is logged: debug, info, warn or error. Texts, keys and phone numbers are never logged.",
			read: choice(func(c *Config) *slog.Level { return &c.Log.Level }, map[string]slog.Level{
				"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
			}),
		},
		{
			name: "LOG_FORMAT", def: "auto",
			means: "text for people, json for machines, auto for text on a terminal and json elsewhere.",
			read: choice(func(c *Config) *LogFormat { return &c.Log.Format }, map[string]LogFormat{
				"text": LogText, "json": LogJSON, "auto": LogAuto,
			}),
		},
		{
			// After LOG_LEVEL, which it overrides.
			name: "DEBUG", def: "False",
			means: "True is the same as LOG_LEVEL=debug.",
			read: func(c *Config, value string) error {
				var debug bool
				err := boolean(func(*Config) *bool { return &debug })(c, value)
				if debug {
					c.Log.Level = slog.LevelDebug
				}
				return err
			},
		},
	}},
}
