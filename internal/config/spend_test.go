package config

import (
	"testing"
	"time"
)

// A budget of money needs prices for every model, be they 0.
func TestMoneyNeedsPrices(t *testing.T) {
	t.Parallel()
	file := write(t, "models.yaml", "models:\n  - {name: openai, prices: {prompt: 0.15, completion: 0.6, minute: 0.006, characters: 15}}\n  - {name: home, base: \"http://127.0.0.1/v1\", model: m, prefix: \"!home\", prices: {prompt: 0}}\n")
	c := read(t, "MODELS_FILE="+file, "BUDGET_BOT_MONTH=2.5")
	if c.Spend.BotMonth != (Amount{Money: 2_500_000}) || c.Models[0].MinutePrice != 0.006 || c.Models[0].CharactersPrice != 15 {
		t.Errorf("got %+v and %+v", c.Spend.BotMonth, c.Models[0])
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
