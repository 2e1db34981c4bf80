package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the image has no time zones of its own
)

// Spend is how much the bot may spend, and how fast it may be asked.
type Spend struct {
	// The budgets, each for a day and a month.
	PersonDay, PersonMonth, ChatDay, ChatMonth, BotDay, BotMonth Amount
	// PersonRate and ChatRate hold together; none is no limit.
	PersonRate, ChatRate []Rate
	// Zone is where days and months begin.
	Zone *time.Location
}

// Amount is a number of tokens or money in millionths; zero for no limit.
type Amount struct{ Tokens, Money int64 }

// Rate is so many messages in a time.
type Rate struct {
	Count int
	Per   time.Duration
}

// budgets are the settings of budgets.
var budgets = []struct {
	name string
	at   func(*Config) *Amount
}{
	{"BUDGET_PERSON_DAY", func(c *Config) *Amount { return &c.Spend.PersonDay }},
	{"BUDGET_PERSON_MONTH", func(c *Config) *Amount { return &c.Spend.PersonMonth }},
	{"BUDGET_CHAT_DAY", func(c *Config) *Amount { return &c.Spend.ChatDay }},
	{"BUDGET_CHAT_MONTH", func(c *Config) *Amount { return &c.Spend.ChatMonth }},
	{"BUDGET_BOT_DAY", func(c *Config) *Amount { return &c.Spend.BotDay }},
	{"BUDGET_BOT_MONTH", func(c *Config) *Amount { return &c.Spend.BotMonth }},
}

// budgetOptions declares them.
func budgetOptions() (all []option) {
	means := map[string]string{
		"PERSON": "What one person may use up", "CHAT": "What one chat may use up", "BOT": "What the bot may use up in all, your own chat included",
		"DAY": "in a day", "MONTH": "in a month",
	}
	for _, b := range budgets {
		parts := strings.Split(b.name, "_")
		o := option{name: b.name, def: "off", read: amount(b.at), means: means[parts[1]] + " " + means[parts[2]] + ", likewise."}
		if b.name == "BUDGET_PERSON_DAY" {
			o.means = "What one person may use up in a day: tokens, written as 100000 tokens, or money in the currency of the prices in MODELS_FILE, written as 2.50. " +
				"A picture counts as 1000 tokens, a minute of sound as 600. off for no limit. Your own chat with yourself is not limited by this."
		}
		all = append(all, o)
	}
	return all
}

var (
	tokensForm = regexp.MustCompile(`^([0-9]{1,15}) *tokens?$`)
	moneyForm  = regexp.MustCompile(`^([0-9]{1,9})(?:\.([0-9]{1,6}))?$`)
)

// amount takes a budget.
func amount(at func(*Config) *Amount) func(*Config, string) error {
	return func(c *Config, value string) error {
		a, err := parseAmount(value)
		*at(c) = a
		return err
	}
}

func parseAmount(value string) (a Amount, err error) {
	text := strings.ToLower(value)
	if text == "off" {
		return a, nil
	}
	if m := tokensForm.FindStringSubmatch(text); m != nil {
		a.Tokens, err = strconv.ParseInt(m[1], 10, 64)
	} else if m := moneyForm.FindStringSubmatch(text); m != nil {
		a.Money, err = strconv.ParseInt(m[1]+(m[2] + "000000")[:6], 10, 64)
	}
	if err != nil || a == (Amount{}) {
		return Amount{}, fmt.Errorf("%q is not a budget; write tokens, such as 100000 tokens, or money, such as 2.50, or off", value)
	}
	return a, nil
}

// times are what a rate is per.
var times = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

var rateForm = regexp.MustCompile(`^([0-9]{1,6}) */ *([smhd])$`)

// mostRates bounds how many rates one setting has.
const mostRates = 4

// rates takes rates, separated by commas.
func rates(at func(*Config) *[]Rate) func(*Config, string) error {
	return func(c *Config, value string) error {
		all, err := parseRates(value)
		*at(c) = all
		return err
	}
}

func parseRates(value string) (all []Rate, err error) {
	if strings.EqualFold(value, "off") {
		return nil, nil
	}
	wrong := fmt.Errorf("%q is not a rate; write how many messages in a second, minute, hour or day, such as 20/m or 20/m, 200/h, or off", value)
	for part := range strings.SplitSeq(strings.ToLower(value), ",") {
		m := rateForm.FindStringSubmatch(trim(part))
		if m == nil || len(all) == mostRates {
			return nil, wrong
		}
		n, _ := strconv.Atoi(m[1])
		r := Rate{n, times[m[2]]}
		if n == 0 || slices.ContainsFunc(all, func(o Rate) bool { return o.Per == r.Per }) {
			return nil, wrong
		}
		all = append(all, r)
	}
	return all, nil
}

// zone takes a time zone. What the C library reads in other ways is left to Go.
func zone(c *Config, value string) error {
	name := strings.TrimPrefix(value, ":")
	if strings.HasPrefix(name, "/") {
		return nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return fmt.Errorf("%q is not a time zone; write it like Europe/Berlin, or UTC", value)
	}
	c.Spend.Zone = loc
	return nil
}

// shortest is the least that RETENTION may be: WhatsApp delivers again for 14 days.
const shortest = 15

var daysForm = regexp.MustCompile(`^([0-9]{1,5}) *(d|days?)$`)

// days takes a length of time in whole days.
func days(at func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := parseDays(value)
		*at(c) = time.Duration(n) * 24 * time.Hour
		return err
	}
}

func parseDays(value string) (int, error) {
	m := daysForm.FindStringSubmatch(strings.ToLower(value))
	if m == nil {
		return 0, fmt.Errorf("%q is not a number of days; write it like 90d", value)
	}
	n, _ := strconv.Atoi(m[1])
	if n < shortest {
		return 0, fmt.Errorf("%q is too short: WhatsApp delivers messages again for 14 days, and what is not known any more would be answered twice; write at least %dd", value, shortest)
	}
	return n, nil
}

// unpriced finds the budgets of money that cannot be counted, for want of prices.
func (a *assembly) unpriced() {
	var without []string
	for _, d := range a.models {
		if !d.Priced {
			without = append(without, d.Name)
		}
	}
	if t := a.config.speech(a.config.Media.Transcribe); t.On == SwitchOn && !t.Priced {
		without = append(without, "transcription")
	}
	if a.config.Media.VoiceReply != VoiceOff && !a.config.Media.Speech.Priced {
		without = append(without, "speech")
	}
	if len(without) == 0 {
		return
	}
	for _, b := range budgets {
		if b.at(a.config).Money > 0 {
			a.problem(b.name, "money can only be counted with prices, and there are none for %s; write prices for each in MODELS_FILE, as the README shows (0 where it costs nothing), or a budget of tokens, such as 100000 tokens",
				strings.Join(without, ", "))
		}
	}
}

// moneyed reports whether there is a budget of money.
func (c *Config) moneyed() bool {
	for _, b := range budgets {
		if b.at(c).Money > 0 {
			return true
		}
	}
	return false
}
