package config

import (
	"iter"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
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

const openAI = "https://api.openai.com/v1"

// sections declares every option. What an operator must set comes first.
var sections = []section{
	{"The model", []option{
		{
			name: "OPENAI_API_KEY", aliases: []string{"API_KEY_OPENAI"}, secret: true,
			means: "The key of your model's API, from https://platform.openai.com/api-keys. Needed unless OPENAI_BASE_URL names a service that asks for none.",
			read:  apiKey(func(c *Config) *Secret { return &c.Model.APIKey }),
			needed: func(c Config) string {
				if u, err := url.Parse(c.Model.BaseURL); err != nil || u.Hostname() != "api.openai.com" {
					return ""
				}
				return "get a key at https://platform.openai.com/api-keys, or set OPENAI_BASE_URL to a service that needs none"
			},
		},
		{
			name: "OPENAI_BASE_URL", def: openAI,
			means: "Where the model's API is. Any service that speaks OpenAI's API will do, for example http://localhost:11434/v1 for Ollama.",
			read:  baseURL(func(c *Config) *string { return &c.Model.BaseURL }),
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
			name: "DEBOUNCE", def: "1s",
			means: "How long to wait after a message for more of the same chat, to answer them together: at most 5s in all. Commands, pictures and other media end the wait. 0s answers each message at once.",
			read:  pause(func(c *Config) *time.Duration { return &c.Chat.Debounce }, 5*time.Second),
		},
		{
			name: "BACKLOG_MAX_AGE", def: "24h",
			means: "After a time away, messages older than this are not answered; their chat is told so in one line.",
			read:  duration(func(c *Config) *time.Duration { return &c.Chat.BacklogMaxAge }),
		},
		{
			name: "ACK_REACTION", def: "off",
			means: "An emoji, such as 👀, with which the bot reacts to a question while it is at work; it is taken back with the answer. off for none.",
			read: func(c *Config, value string) error {
				if !strings.EqualFold(value, "off") {
					c.Chat.Ack = value
				}
				return nil
			},
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
	{"Who may talk to the bot", []option{
		{
			name: "ALLOW", example: "+1 202 555 0143, 120363041234567890@g.us",
			means: "Who gets answers besides your own chat with yourself, separated by commas: phone numbers with their country code, groups (...@g.us), hidden addresses (...@lid), or * for everyone. Everyone who is answered spends your money.",
			read:  allowed(func(c *Config) *[]string { return &c.Access.Allow }),
		},
	}},
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
	{"Where the bot keeps its state", []option{
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
			means: "The password of the user that MONGO_URL names without one. docker-compose.yml makes the user wabot with it when MongoDB starts for the first time; \"wabot init\" writes a random one.",
			read: func(c *Config, value string) error {
				c.Store.MongoURL = withPassword(c.Store.MongoURL, value)
				return nil
			},
			warn: exampleOf("change-this-password"),
		},
		{
			name: "MONGO_ROOT_PASSWORD", example: "change-this-root-password",
			means: "For docker-compose.yml alone, which makes MongoDB's root with it: for backups and repairs. wabot does not use it.",
			read:  func(*Config, string) error { return nil },
			warn:  exampleOf("change-this-root-password"),
		},
		{
			name: "MONGO_WAIT", def: "60s",
			means: "How long to wait for MongoDB at start before giving up.",
			read:  duration(func(c *Config) *time.Duration { return &c.Store.MongoWait }),
		},
		{
			name: "SESSION_DIR", def: "./session",
			means: "The directory of the file store. Whoever can read it can read your chats: keep it private and back it up.",
			read:  text(func(c *Config) *string { return &c.Store.SessionDir }),
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
			means: "For docker-compose.yml alone: the port of this machine at which the page is published, on 127.0.0.1. For docker-compose up --scale app=2, one for each: 3000-3001.",
			read:  func(*Config, string) error { return nil },
		},
	}},
	{"Logs", []option{
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
