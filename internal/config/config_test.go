package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wabot/internal/access"
	"wabot/internal/words"
)

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func empty(string) string { return "" }

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// with is an environment that is complete without more, with these settings.
func with(settings ...string) environment {
	e := environment{"OPENAI_API_KEY": "sk-1"}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		e[name] = value
	}
	return e
}

func read(t *testing.T, settings ...string) Config {
	t.Helper()
	c, err := Read(with(settings...).get)
	if err != nil {
		t.Fatalf("%q: %v", settings, err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := read(t)
	if c.Model.APIKey.Reveal() != "sk-1" || c.Model.Instructions == "" {
		t.Errorf("got %+v", c.Model)
	}
	key := c.Model.APIKey
	c.Model.APIKey, c.Model.Instructions = Secret{}, ""
	want := Config{
		Model: Model{
			Enabled: true, Default: "openai",
			BaseURL: "https://api.openai.com/v1", Name: "gpt-4o-mini", Prefix: "!ai", PrefixEnabled: true,
			History: 20, Timeout: 5 * time.Minute, IdleTimeout: time.Minute,
		},
		Gemini:    Provider{BaseURL: "https://generativelanguage.googleapis.com/v1beta/openai", Name: "gemini-flash-latest", Prefix: "!gemini"},
		Ollama:    Provider{BaseURL: "http://localhost:11434/v1", Name: "deepseek-r1:1.5b", Prefix: "!ollama"},
		DALLE:     Provider{BaseURL: "https://api.openai.com/v1", Name: "gpt-image-1", Prefix: "!dalle"},
		Flux:      Provider{BaseURL: "https://router.huggingface.co/hf-inference", Name: "black-forest-labs/FLUX.1-schnell", Prefix: "!flux"},
		Stability: Provider{BaseURL: "https://api.stability.ai", Name: "core", Prefix: "!stability"},
		Models:    []Entry{{Name: "openai", Prefix: "!ai", BaseURL: "https://api.openai.com/v1", Key: key, Model: "gpt-4o-mini", Sees: true}},
		Chat:      Chat{HistoryTokens: 8000, Summaries: true, Debounce: time.Second, BacklogMaxAge: 24 * time.Hour, Takeover: 30 * time.Minute, Words: words.English()},
		Access:    Access{Groups: access.GroupsAllowed, StrangerNotices: true},
		Media: Media{
			ImageMB: 10, AudioMB: 25, DocumentMB: 20, Transcribe: Speech{On: SwitchOn, BaseURL: openAI, Key: key, Model: "gpt-4o-mini-transcribe"},
			VoiceReply: VoiceOff, Speech: Speech{On: SwitchOn, BaseURL: openAI, Key: key, Model: "gpt-4o-mini-tts"}, Voice: "alloy",
		},
		WhatsApp: WhatsApp{DeviceName: "wabot"},
		Store:    Store{MongoWait: time.Minute, SessionDir: "./session", Retention: 90 * 24 * time.Hour},
		Spend: Spend{
			PersonRate: []Rate{{20, time.Minute}, {200, time.Hour}}, ChatRate: []Rate{{30, time.Minute}, {300, time.Hour}}, Zone: time.Local,
		},
		HTTP: HTTP{Addr: "127.0.0.1:3000", Published: "3000"},
		Log:  Log{Level: slog.LevelInfo, Format: LogAuto},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		setting string
		got     func(Config) any
		wanted  any
	}{
		{"OPENAI_BASE_URL=http://localhost:11434/v1/", func(c Config) any { return c.Model.BaseURL }, "http://localhost:11434/v1"},
		{"PREFIX_ENABLED=False", func(c Config) any { return c.Model.PrefixEnabled }, false},
		{"SUMMARIES=False", func(c Config) any { return c.Chat.Summaries }, false},
		{"REPLY=Stream", func(c Config) any { return c.Chat.Reply }, ReplyStream},
		{"PROCESSING=Wait...", func(c Config) any { return c.Chat.Reply }, ReplyPlaceholder},
		{"PROCESSING=Wait...", func(c Config) any { return c.Chat.Processing }, "Wait..."},
		{"ACK_REACTION=👀", func(c Config) any { return c.Chat.Ack }, "👀"},
		{"ACK_REACTION=👍🏽", func(c Config) any { return c.Chat.Ack }, "👍🏽"},
		{"ACK_REACTION=Off", func(c Config) any { return c.Chat.Ack }, ""},
		{"BUDGET_PERSON_DAY=100000 tokens", func(c Config) any { return c.Spend.PersonDay }, Amount{Tokens: 100000}},
		{"BUDGET_CHAT_MONTH=5000Tokens", func(c Config) any { return c.Spend.ChatMonth }, Amount{Tokens: 5000}},
		{"BUDGET_BOT_DAY=OFF", func(c Config) any { return c.Spend.BotDay }, Amount{}},
		{"RATE_PERSON=5/s, 7 / h", func(c Config) any { return fmt.Sprint(c.Spend.PersonRate) }, "[{5 1s} {7 1h0m0s}]"},
		{"RATE_CHAT=off", func(c Config) any { return len(c.Spend.ChatRate) }, 0},
		{"TZ=Asia/Kolkata", func(c Config) any { return c.Spend.Zone.String() }, "Asia/Kolkata"},
		{"TZ=:/etc/localtime", func(c Config) any { return c.Spend.Zone }, time.Local},
		{"RETENTION=30 days", func(c Config) any { return c.Store.Retention }, 30 * 24 * time.Hour},
		{"DEBOUNCE=0s", func(c Config) any { return c.Chat.Debounce }, time.Duration(0)},
		{"DEBOUNCE=1500ms", func(c Config) any { return c.Chat.Debounce }, 1500 * time.Millisecond},
		{"BACKLOG_MAX_AGE=90m", func(c Config) any { return c.Chat.BacklogMaxAge }, 90 * time.Minute},
		{"PREFIX_ENABLED=0", func(c Config) any { return c.Model.PrefixEnabled }, false},
		{"HISTORY=0", func(c Config) any { return c.Model.History }, 0},
		{"HISTORY=  ", func(c Config) any { return c.Model.History }, 20},
		{"MODEL_TIMEOUT=90s", func(c Config) any { return c.Model.Timeout }, 90 * time.Second},
		{"PAIR_PHONE=+49 151 123-456 78", func(c Config) any { return c.WhatsApp.PairPhone }, "4915112345678"},
		{"WHATSAPP_NOISE_ROOT_KEY=" + strings.Repeat("0a", 32), func(c Config) any { return len(c.WhatsApp.NoiseRootKey) }, 32},
		{"LOG_LEVEL=WARN", func(c Config) any { return c.Log.Level }, slog.LevelWarn},
		{"LOG_FORMAT=json", func(c Config) any { return c.Log.Format }, LogJSON},
		{"HTTP_ADDR=Off", func(c Config) any { return c.HTTP.Addr }, ""},
		{"HTTP_ADDR=[::1]:0", func(c Config) any { return c.HTTP.Addr }, "[::1]:0"},
		{"HTTP_ADDR=localhost:80", func(c Config) any { return c.HTTP.Addr }, "localhost:80"},
		{"HTTP_TOKEN=0123456789abcdef", func(c Config) any { return c.HTTP.Token.Reveal() }, "0123456789abcdef"},
		{"DEBUG=True", func(c Config) any { return c.Log.Level }, slog.LevelDebug},
	} {
		if got := tt.got(read(t, tt.setting)); !reflect.DeepEqual(got, tt.wanted) {
			t.Errorf("%s: got %v, want %v", tt.setting, got, tt.wanted)
		}
	}
	if got := read(t, "PROCESSING=Wait...", "REPLY=stream").Chat.Reply; got != ReplyStream {
		t.Errorf("with PROCESSING, REPLY=stream is %v", got)
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	c := read(t, "ALLOW= , +49 151 2345678,, * ,491512345678, ", "BLOCK=203847561029384:7@lid", "ADMINS=+1 (202) 555.0143", "GROUP_POLICY=any", "STRANGER_NOTICES=False")
	want := Access{Allow: access.List{"491512345678", "*"}, Block: access.List{"203847561029384@lid"}, Admins: access.List{"12025550143"}, Groups: access.GroupsAny}
	if !reflect.DeepEqual(c.Access, want) {
		t.Errorf("got %+v, want %+v", c.Access, want)
	}
}

// Each line names the setting, says what is wrong and what to write, and shows neither a
// secret nor a phone number.
func TestProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ setting, says string }{
		{"OPENAI_API_KEY=", "OPENAI_API_KEY: not set; get a key"},
		{"OPENAI_API_KEY=canary with spaces", "OPENAI_API_KEY: the value given (redacted) has spaces"},
		{"API_KEY_OPENAI=canary", "API_KEY_OPENAI: OPENAI_API_KEY is set as well"},
		{"OPENAI_API_KEY_FILE=/nowhere", "OPENAI_API_KEY_FILE: OPENAI_API_KEY is set as well"},
		{"MONGO_URL_FILE=/nowhere/mongo", "MONGO_URL_FILE: open /nowhere/mongo: no such file"},
		{"OPENAI_BASE_URL=localhost:8080", `OPENAI_BASE_URL: "localhost:8080" is not an http or https URL`},
		{"OPENAI_BASE_URL=https://canary@host/v1", "OPENAI_BASE_URL: the value given (redacted) has more than host and path"},
		{"OPENAI_BASE_URL=https://host/v1?key=canary", "OPENAI_BASE_URL: the value given (redacted) has more"},
		{"OPENAI_BASE_URL=https://host/v1/chat/completions", "is the address of one call"},
		{"PREFIX_ENABLED=jein", `PREFIX_ENABLED: "jein" is neither yes nor no; write True or False`},
		{"REPLY=fast", `REPLY: "fast" is not a choice; write one of placeholder, stream, typing`},
		{"ACK_REACTION=eyes", `ACK_REACTION: "eyes" is not an emoji; write one, such as 👀, or off`},
		{"ACK_REACTION=x", `ACK_REACTION: "x" is not an emoji`},
		{"ACK_REACTION=👀👀", `ACK_REACTION: "👀👀" is not an emoji`},
		{"TAKEOVER=forever", `TAKEOVER: "forever" is not a length of time up to 24h0m0s`},
		{"BUDGET_PERSON_DAY=a lot", `BUDGET_PERSON_DAY: "a lot" is not a budget; write tokens, such as 100000 tokens, or money, such as 2.50, or off`},
		{"BUDGET_CHAT_DAY=0 tokens", `BUDGET_CHAT_DAY: "0 tokens" is not a budget`},
		{"BUDGET_BOT_MONTH=2,50", `BUDGET_BOT_MONTH: "2,50" is not a budget`},
		{"BUDGET_BOT_MONTH=2.50", "BUDGET_BOT_MONTH: money can only be counted with prices, and there are none for openai, transcription; write prices"},
		{"RATE_PERSON=20", `RATE_PERSON: "20" is not a rate; write how many messages`},
		{"RATE_CHAT=0/m", `RATE_CHAT: "0/m" is not a rate`},
		{"RATE_CHAT=1/m, 2/m", `RATE_CHAT: "1/m, 2/m" is not a rate`},
		{"TZ=Mars/Olympus", `TZ: "Mars/Olympus" is not a time zone; write it like Europe/Berlin`},
		{"RETENTION=2160h", `RETENTION: "2160h" is not a number of days; write it like 90d`},
		{"RETENTION=14d", `RETENTION: "14d" is too short: WhatsApp delivers messages again for 14 days`},
		{"DEBOUNCE=6s", `DEBOUNCE: "6s" is not a length of time up to 5s`},
		{"HISTORY=-1", `HISTORY: "-1" is not a count`},
		{"HISTORY=lots", `HISTORY: "lots" is not a count`},
		{"MODEL_TIMEOUT=300", `MODEL_TIMEOUT: "300" is not a length of time; write a number with its unit`},
		{"MODEL_IDLE_TIMEOUT=0s", `MODEL_IDLE_TIMEOUT: "0s"`},
		{"ALLOW=0151-9876543", `ALLOW: "01•••43" has no country code; write phone numbers`},
		{"ALLOW=+49 1", "has 3 digits"},
		{"ALLOW=+49151987654390123", "has 17 digits"},
		{"ALLOW=alice", `ALLOW: "alice" is not a phone number`},
		{"ALLOW=alice, 491519876543@newsletter", `ALLOW: "alice" is not a phone number, "49•••43@newsletter" is no address`},
		{"BLOCK=*", `BLOCK: * for everyone is not possible here; write phone numbers`},
		{"ADMINS=*", `ADMINS: * for everyone is not possible here; write phone numbers`},
		{"ADMINS=491512345678-1612345678@g.us", `ADMINS: "49•••78-16•••78@g.us" is a group; write the numbers`},
		{"GROUP_POLICY=all", `GROUP_POLICY: "all" is not a choice; write one of allowed, any, off`},
		{"PAIR_PHONE=(0)151 9876543", `PAIR_PHONE: "(0)15•••43" has no country code; write it with`},
		{"WHATSAPP_NOISE_ROOT_KEY=0a", "WHATSAPP_NOISE_ROOT_KEY: the value given is not a key of 32 bytes"},
		{"MONGO_ENABLED=True", "MONGO_URL: not set; MONGO_ENABLED is True"},
		{"MONGO_URL=http://user:canary@host", "MONGO_URL: the value given (redacted) is not the address"},
		{"MONGO_URL=mongodb://", "MONGO_URL: the value given"},
		{"HTTP_ADDR=3000", `HTTP_ADDR: "3000" is not an address with a port`},
		{"HTTP_ADDR=example.org:3000", `HTTP_ADDR: "example.org:3000" is not an address with a port`},
		{"HTTP_ADDR=127.0.0.1:http", "HTTP_ADDR:"},
		{"HTTP_ADDR=0.0.0.0:3000", "HTTP_TOKEN: not set; HTTP_ADDR lets other machines in"},
		{"HTTP_ADDR=:3000", "HTTP_TOKEN: not set"},
		{"HTTP_TOKEN=canary", "HTTP_TOKEN: the value given (redacted) is too easily found"},
		{"LOG_LEVEL=loud", `LOG_LEVEL: "loud" is not a choice; write one of debug, error, info, warn`},
		{"LANG_BOT=de", `LANG_BOT: "de" is not a choice; write one of en, es, hi, id, pt`},
		{"LOG_FORMAT=xml", "LOG_FORMAT:"},
		{"DEBUG=app:*", "DEBUG:"},
	} {
		c, err := Read(with(tt.setting).get)
		if err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %s", tt.setting, err, tt.says)
			continue
		}
		if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "9876543") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error tells too much: %v", tt.setting, err)
		}
		if !reflect.DeepEqual(c, Config{}) {
			t.Errorf("%s: a Config came with the error", tt.setting)
		}
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  environment
		want []string
	}{
		{environment{"HISTORY": "x", "MONGO_ENABLED": "True", "ALLOW": "bob"}, []string{"HISTORY", "ALLOW", "OPENAI_API_KEY", "MONGO_URL"}},
		{with("HISTORY=abc", "DEFAULT_MODEL=nope", "OLLAMA_ENABLED=True", "OLLAMA_PREFIX=!ai"), []string{"HISTORY", "OLLAMA_PREFIX", "DEFAULT_MODEL"}},
		{environment{"DEFAULT_MODEL": "nope"}, []string{"OPENAI_API_KEY", "DEFAULT_MODEL"}},
		// What follows from another mistake is none.
		{with("OLLAMA_ENABLED=perhaps", "DEFAULT_MODEL=ollama"), []string{"OLLAMA_ENABLED"}},
		{with(modelsAt(t, "models:\n- {name: a, like: openai}\n- {name: b, like: openai}\n")...), []string{"MODELS_FILE", "MODELS_FILE"}},
		{with("MODELS_FILE=/nowhere", "DEFAULT_MODEL=nope"), []string{"MODELS_FILE"}},
		{with("BUDGET_BOT_DAY=1.00", "HISTORY=abc"), []string{"HISTORY"}},
		{with(modelsAt(t, "models:\n- {name: a b, like: openai, prefix: '!a'}\n", "DEFAULT_MODEL=ab")...), []string{"MODELS_FILE"}},
		{with(modelsAt(t, "models:\n- {name: a, like: openai, prefix: '!a', temperature: hot}\n", "DEFAULT_MODEL=a", "MODEL_TIMEOUT=soon")...), []string{"MODEL_TIMEOUT", "MODELS_FILE"}},
		{with(modelsAt(t, "models:\n- {name: a, like: openai, prefix: '!a', timeout: 1m}\n", "DEFAULT_MODEL=b", "MODEL_TIMEOUT=soon")...), []string{"MODEL_TIMEOUT", "DEFAULT_MODEL"}},
	} {
		_, err := Read(tt.env.get)
		if err == nil {
			t.Errorf("%q: no error", tt.env)
			continue
		}
		var names []string
		for line := range strings.Lines(err.Error()) {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
		if !slices.Equal(names, tt.want) {
			t.Errorf("%q: got %q, want %q:\n%v", tt.env, names, tt.want, err)
		}
	}
}

// A page that other machines reach needs a token, but in the container, whose port is published elsewhere.
func TestTokenIsNotNeededInTheContainer(t *testing.T) {
	t.Parallel()
	c := read(t, "HTTP_ADDR=0.0.0.0:3000", "WABOT_CONTAINER=1")
	if c.HTTP.Addr != "0.0.0.0:3000" || c.HTTP.Token.Reveal() != "" {
		t.Errorf("got %+v", c.HTTP)
	}
	if c := read(t, "HTTP_ADDR=0.0.0.0:3000", "HTTP_TOKEN=0123456789abcdef"); c.HTTP.Addr != "0.0.0.0:3000" {
		t.Errorf("got %+v", c.HTTP)
	}
}

func TestKeyIsNotNeededElsewhere(t *testing.T) {
	t.Parallel()
	c, err := Read(environment{"OPENAI_BASE_URL": "http://localhost:11434/v1"}.get)
	if err != nil || c.Model.APIKey.Reveal() != "" {
		t.Error(c, err)
	}
}

func TestSecretSources(t *testing.T) {
	t.Parallel()
	path := write(t, "key", "sk-file\r\n")
	for _, e := range []environment{
		{"OPENAI_API_KEY": "sk-file"},
		{"API_KEY_OPENAI": "sk-file"},
		{"OPENAI_API_KEY_FILE": path},
		{"API_KEY_OPENAI_FILE": path},
	} {
		c, err := Read(e.get)
		if err != nil || c.Model.APIKey.Reveal() != "sk-file" {
			t.Errorf("%v: %v", e, err)
		}
	}
	blank := write(t, "key", "\n")
	_, err := Read(environment{"OPENAI_API_KEY_FILE": blank}.get)
	if err == nil || !strings.Contains(err.Error(), "OPENAI_API_KEY_FILE: the file "+blank+" is empty") {
		t.Errorf("empty file: %v", err)
	}
}

func TestEnvironmentWinsOverFile(t *testing.T) {
	t.Parallel()
	path := write(t, ".env", "\ufeffOPENAI_API_KEY=sk-file\r\nexport HISTORY = \"3\" # few\r\nOPENAI_MODEL='m#1'\r\nLOG_LEVEL=warn\r\n")
	c, warnings, err := Load(environment{"API_KEY_OPENAI": "sk-env", "LOG_LEVEL": "error", "HISTORY": ""}.get, path)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.Model.APIKey.Reveal() != "sk-env" || c.Model.History != 3 || c.Model.Name != "m#1" || c.Log.Level != slog.LevelError {
		t.Errorf("got %+v, key %q", c, c.Model.APIKey.Reveal())
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	if _, _, err := Load(with().get, filepath.Join(t.TempDir(), ".env")); err != nil {
		t.Error(err)
	}
	if _, _, err := Load(with().get, t.TempDir()); err == nil {
		t.Error("a directory was taken for a file")
	}
}

func TestBrokenLine(t *testing.T) {
	t.Parallel()
	for text, line := range map[string]string{
		"A=1\nB=2\ncanary\n": "3",
		"canary":             "1",
		"canary-canary=1":    "1",
		"A=\"one\ntwo\"\n\n# c\nB='canary\nC=1\n":   "5",
		"A=1\nmy canary=2\nB=3":                     "2",
		"=canary":                                   "1",
		"A=1\r\n\r\n!canary=1\r\nB=1":               "3",
		"A=1\nB=\"canary\nC=\"2\"\nD=4\n#\nE==\"\n": "2",
	} {
		path := write(t, ".env", text)
		_, _, err := Load(with().get, path)
		if err == nil || !strings.HasPrefix(err.Error(), path+":"+line+": ") {
			t.Errorf("%q: got %v, want line %s", text, err, line)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error tells too much: %v", text, err)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	t.Parallel()
	path := write(t, ".env", "OPENAI_MODLE=x\nDALLE_USE_3=True\nmongo_url=mongodb://canary\nALOW=*\nHISTORY=1\nMONGO_URL_FILE=\n")
	_, warnings, err := Load(with().get, path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		path + ": ALOW is not a setting of wabot and does nothing; did you mean ALLOW?",
		path + ": DALLE_USE_3 is not a setting of wabot and does nothing: DALLE_MODEL names the model; DALL-E 2 and 3 are no longer offered",
		path + ": OPENAI_MODLE is not a setting of wabot and does nothing; did you mean OPENAI_MODEL?",
		path + ": mongo_url is not a setting of wabot and does nothing; did you mean MONGO_URL?",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("got %q", warnings)
	}
}

func TestSecretNeverShows(t *testing.T) {
	t.Parallel()
	s := newSecret("canary")
	c := Config{Model: Model{APIKey: s}, Store: Store{MongoURL: s}}
	unexported := struct{ s Secret }{s}
	var printed strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%t"} {
		fmt.Fprintf(&printed, verb+verb+verb+verb+verb+"\n", s, &s, c, unexported, []Secret{s})
		if got := fmt.Sprintf(verb, s); verb != "%T" && got != "redacted" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	for _, v := range []any{s, &s, c, map[string]Secret{"k": s}} {
		b, err := json.Marshal(v)
		if err != nil || !strings.Contains(string(b), `"redacted"`) {
			t.Errorf("JSON: %s, %v", b, err)
		}
		printed.Write(b)
		for _, h := range []slog.Handler{slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil)} {
			slog.New(h).Info("x", "v", v)
		}
	}
	printed.WriteString(s.String())
	for _, hidden := range []string{"canary", fmt.Sprintf("%x", "canary"), fmt.Sprintf("%X", "canary")} {
		if strings.Contains(printed.String(), hidden) {
			t.Errorf("%s shows:\n%s", hidden, printed.String())
		}
	}
	if s.Reveal() != "canary" || (Secret{}).Reveal() != "" {
		t.Error("Reveal does not")
	}
}

// FuzzLoad: no text of a .env file makes Load panic, and what it lets through is in form.
func FuzzLoad(f *testing.F) {
	f.Add(Example())
	f.Add("ALLOW=+49 151 2345678,120363041234567890@g.us,203847561029384@lid\nPAIR_PHONE=+12025550143")
	f.Add("A='x\nB=\"${A}\\n\"\nexport C: 1 # c")
	f.Add("MONGO_ENABLED=True\nMONGO_URL=mongodb://x\nOPENAI_BASE_URL=http://[::1]:80/v1//")
	entry := regexp.MustCompile(`^(\*|[1-9][0-9]{6,14}|[0-9]{5,20}(-[0-9]{5,20})?@g\.us|[0-9]{5,20}@lid)$`)
	number := regexp.MustCompile(`^([1-9][0-9]{6,14})?$`)
	place := regexp.MustCompile(`^[^:]+:[0-9]+: `)
	path := filepath.Join(f.TempDir(), ".env")
	getenv := func(name string) string {
		// Files that the fuzzer names are not for it to read.
		if strings.HasSuffix(name, fileSuffix) {
			return ""
		}
		return environment{"OPENAI_API_KEY": "sk-1"}[name]
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, fileSuffix) {
			t.Skip()
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := Load(getenv, path)
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				name, _, ok := strings.Cut(line, ": ")
				known := ok && slices.ContainsFunc(slices.Collect(all()), func(o option) bool { return slices.Contains(o.sources(), name) })
				if !known && !place.MatchString(line) {
					t.Errorf("%q does not say where", line)
				}
			}
			return
		}
		for _, who := range c.Access.Allow {
			if !entry.MatchString(who) {
				t.Errorf("allowed %q", who)
			}
		}
		if !number.MatchString(c.WhatsApp.PairPhone) {
			t.Errorf("pairs with %q", c.WhatsApp.PairPhone)
		}
		if c.Model.History < 0 || c.Model.Timeout <= 0 || c.Model.IdleTimeout <= 0 || c.Store.MongoWait <= 0 {
			t.Errorf("got %+v", c)
		}
		if c.Model.Name == "" || c.Model.Prefix == "" || c.Store.SessionDir == "" || strings.HasSuffix(c.Model.BaseURL, "/") || !strings.HasPrefix(c.Model.BaseURL, "http") {
			t.Errorf("got %+v", c)
		}
		if c.Store.Mongo && c.Store.MongoURL.Reveal() == "" {
			t.Error("MongoDB without an address")
		}
	})
}

// A large file that breaks at its end names the line, and soon: the search was quadratic.
func TestBrokenLineOfALargeFile(t *testing.T) {
	t.Parallel()
	lines := strings.Repeat("# a comment\nINSTRUCTIONS=\"two\nlines\"\n", 5000)
	if _, err := parseFile(lines + "HISTORY=\"open\n"); err == nil || !strings.HasPrefix(err.Error(), "15001:") {
		t.Errorf("got %v, want line 15001", err)
	}
}

// Who asks the page is told what is wrong with its address, and of nothing else.
func TestLoadPage(t *testing.T) {
	t.Parallel()
	page, log, err := LoadPage(with("HISTORY=many", "LOG_FORMAT=text").get, write(t, ".env", "HTTP_ADDR=127.0.0.1:3456\nLOG_FORMAT=json\nDEBUG=True\n"))
	if err != nil || page.Addr != "127.0.0.1:3456" || log.Format != LogText || log.Level != slog.LevelDebug {
		t.Errorf("got %+v %+v, %v", page, log, err)
	}
	if page, _, err := LoadPage(with().get, filepath.Join(t.TempDir(), ".env")); err != nil || page.Addr != "127.0.0.1:3000" {
		t.Errorf("by default: %+v, %v", page, err)
	}
	if _, _, err := LoadPage(with("HTTP_ADDR=here").get, filepath.Join(t.TempDir(), ".env")); err == nil || !strings.HasPrefix(err.Error(), "HTTP_ADDR: ") {
		t.Errorf("got %v", err)
	}
}

// Commands on the store get its settings as the bot does, and need no others.
func TestLoadStore(t *testing.T) {
	t.Parallel()
	set := []string{
		"MONGO_ENABLED=True", "MONGO_URL=mongodb://wabot@db", "MONGO_PASSWORD=p4ss", "MONGO_WAIT=7s", "SESSION_KEY=" + strings.Repeat("ab", 32), "SESSION_KEY_OLD=" + strings.Repeat("cd", 32),
		"SESSION_DIR=/x", "RETENTION=20d", "BACKUP_PASSPHRASE=correct horse battery", "LOG_LEVEL=warn", "LOG_FORMAT=json", "WHATSAPP_NOISE_ROOT_KEY=" + strings.Repeat("ef", 32),
	}
	path := filepath.Join(t.TempDir(), ".env")
	all, _, err := Load(with(set...).get, path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := LoadStore(with(append(set, "OPENAI_API_KEY=", "HISTORY=many", "MODELS_FILE=/not/there", "HTTP_ADDR=0.0.0.0:80")...).get, path)
	if err != nil || !reflect.DeepEqual(store.Store, all.Store) || store.Backup.Reveal() != all.Backup.Reveal() || store.Log != all.Log || !slices.Equal(store.WhatsApp.NoiseRootKey, all.WhatsApp.NoiseRootKey) {
		t.Errorf("got %+v, %v", store, err)
	}
	if c, err := LoadStore(empty, path); err != nil || c.Store.SessionDir != "./session" {
		t.Errorf("with nothing set: %+v, %v", c.Store, err)
	}
	_, err = LoadStore(empty, write(t, ".env", "MONGO_ENABLED=True\nMONGO_ULR=mongodb://x\nOPENROUTER_API_KEY=x\n"))
	if err == nil || !strings.Contains(err.Error(), "MONGO_URL: not set") || !strings.Contains(err.Error(), "did you mean MONGO_URL?") || strings.Contains(err.Error(), "OPENROUTER") {
		t.Error(err)
	}
}

// Recordings are written down where there is a key for it, or where the operator says so.
func TestTranscribe(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		settings []string
		on       Switch
		key      string
	}{
		"by default":          {nil, SwitchOn, "sk-1"},
		"another chat model":  {[]string{"OPENAI_BASE_URL=http://localhost:11434/v1"}, SwitchOff, ""},
		"with a key":          {[]string{"OPENAI_BASE_URL=http://localhost:11434/v1", "TRANSCRIBE_API_KEY=t-1"}, SwitchOn, "t-1"},
		"off":                 {[]string{"TRANSCRIBE_ENABLED=False"}, SwitchOff, "sk-1"},
		"a server of its own": {[]string{"TRANSCRIBE_ENABLED=True", "TRANSCRIBE_BASE_URL=http://localhost:8000/v1"}, SwitchOn, ""},
	} {
		if got := read(t, row.settings...).Media.Transcribe; got.On != row.on || got.Key.Reveal() != row.key {
			t.Errorf("%s: %s with the key %q", name, got.On, got.Key.Reveal())
		}
	}
	_, err := Read(with("TRANSCRIBE_ENABLED=True", "OPENAI_BASE_URL=http://localhost:11434/v1").get)
	if err == nil || !strings.HasPrefix(err.Error(), "TRANSCRIBE_API_KEY: not set; TRANSCRIBE_ENABLED is True") {
		t.Error(err)
	}
}
