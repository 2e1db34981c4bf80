package config

import (
	"strings"
	"testing"
	"time"
)

// A budget of money needs prices for every model, be they 0.
func TestMoneyNeedsPrices(t *testing.T) {
	t.Parallel()
	const models = "models:\n  - {name: openai, prices: {prompt: 0.15, completion: 0.6}}\n  - {name: home, base: \"http://127.0.0.1/v1\", model: m, prefix: \"!home\", prices: {prompt: 0}}\n"
	const sound, speech = "transcription: {minute: 0.006}\n", "speech: {characters: 15}\n"
	c := read(t, "MODELS_FILE="+write(t, "models.yaml", models+sound+speech), "BUDGET_BOT_MONTH=2.5", "VOICE_REPLY=auto")
	if c.Spend.BotMonth != (Amount{Money: 2_500_000}) || c.Media.Transcribe.Price != 0.006 || c.Media.Speech.Price != 15 {
		t.Errorf("got %+v and %+v", c.Spend.BotMonth, c.Media)
	}
	for _, row := range []struct {
		file    string
		setting string
		without string // empty where the prices do
		voices  Switch
	}{
		{models + sound + speech, "VOICE_REPLY=off", "", SwitchOn},
		{models + sound, "VOICE_REPLY=off", "", SwitchOff}, // !voice would cost what nobody counts
		{models, "TRANSCRIBE_ENABLED=False", "", SwitchOff},
		{sound, "OPENAI_ENABLED=True", "openai", ""},
		{models, "OPENAI_ENABLED=True", "transcription", ""},
		{models + sound, "VOICE_REPLY=always", "speech", ""},
	} {
		c, err := Read(with("MODELS_FILE="+write(t, "models.yaml", row.file), "BUDGET_BOT_MONTH=2.5", row.setting).get)
		switch {
		case row.without == "" && (err != nil || c.Media.Speech.On != row.voices):
			t.Errorf("with %s and\n%s: voices are %s, %v", row.setting, row.file, c.Media.Speech.On, err)
		case row.without != "" && (err == nil || !strings.Contains(err.Error(), "BUDGET_BOT_MONTH: money can only be counted with prices, and there are none for "+row.without+";")):
			t.Errorf("with %s and\n%s: %v", row.setting, row.file, err)
		}
	}
}

// FuzzSpend: what the readers of budgets, rates and days let through is in form.
func FuzzSpend(f *testing.F) {
	for _, s := range []string{"100000 tokens", "2.50", "off", "20/m, 200/h", "90d", "15 days", "999999999.999999", "0", "1/s,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAmount(s)
		if a.Tokens < 0 || a.Money < 0 || a.Tokens > 0 && a.Money > 0 || err != nil && a != (Amount{}) {
			t.Errorf("%q is %+v, %v", s, a, err)
		}
		all, err := parseRates(s)
		for _, r := range all {
			if r.Count < 1 || r.Per < time.Second || r.Per > 24*time.Hour {
				t.Errorf("%q is %+v", s, all)
			}
		}
		if len(all) > mostRates || err != nil && all != nil {
			t.Errorf("%q is %+v, %v", s, all, err)
		}
		if n, err := parseDays(s); err == nil && (n < shortest || n > 99999) {
			t.Errorf("%q is %d days", s, n)
		}
	})
}
