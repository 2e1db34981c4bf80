package app

import (
	"wabot/internal/budget"
	"wabot/internal/chat"
	"wabot/internal/config"
	"wabot/internal/model"
)

// newLedger makes the ledger of the settings.
func newLedger(cfg config.Config, store Store, models *model.Catalog, site *site) *budget.Ledger {
	limits := map[budget.Budget]budget.Amount{}
	for b, a := range map[budget.Budget]config.Amount{
		{Scope: budget.Person, Period: budget.Day}:   cfg.Spend.PersonDay,
		{Scope: budget.Person, Period: budget.Month}: cfg.Spend.PersonMonth,
		{Scope: budget.Chat, Period: budget.Day}:     cfg.Spend.ChatDay,
		{Scope: budget.Chat, Period: budget.Month}:   cfg.Spend.ChatMonth,
		{Scope: budget.Bot, Period: budget.Day}:      cfg.Spend.BotDay,
		{Scope: budget.Bot, Period: budget.Month}:    cfg.Spend.BotMonth,
	} {
		limits[b] = budget.Amount(a)
	}
	return budget.New(budget.Options{
		Store: store, Limits: limits, Zone: cfg.Spend.Zone, Made: site.metrics.charged,
		Prices: func(name string) model.Prices {
			m, _ := models.Named(name)
			p := m.Prices
			// No model listens or speaks but those of these services.
			p.Minute, p.Characters = cfg.Media.Transcribe.Price, cfg.Media.Speech.Price
			return p
		},
	})
}

func ratesOf(all []config.Rate) (rates []budget.Rate) {
	for _, r := range all {
		rates = append(rates, budget.Rate(r))
	}
	return rates
}

// charged counts what a call has cost.
func (m *metrics) charged(c chat.Charge) {
	m.charges.WithLabelValues(c.Model).Inc()
	m.cost.WithLabelValues(c.Model).Add(float64(c.Cost) / 1e6)
	m.chargedTokens.WithLabelValues(c.Model).Add(float64(budget.Tokens(c)))
}
