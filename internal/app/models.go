package app

import (
	"cmp"
	"log/slog"

	"wabot/internal/config"
	"wabot/internal/llm"
	"wabot/internal/model"
)

// newCatalog makes the models of the settings.
func newCatalog(cfg config.Config, log *slog.Logger) *model.Catalog {
	var models []model.Model
	for _, e := range cfg.Models {
		retries := 0 // the client's own
		if e.Fallback != "" {
			retries = 1 // another model is the better try
		}
		models = append(models, model.Model{
			Name: e.Name, Prefix: e.Prefix, Icon: e.Icon, Instructions: e.Instructions, Temperature: e.Temperature, MaxTokens: e.MaxTokens,
			Timeout: e.Timeout, Fallback: e.Fallback, Prices: model.Prices{Prompt: e.PromptPrice, Completion: e.CompletionPrice},
			Chat: llm.New(llm.Options{
				BaseURL: e.BaseURL, Key: e.Key.Reveal(), Model: e.Model, MaxRetries: retries,
				Total: cmp.Or(e.Timeout, cfg.Model.Timeout), Idle: cfg.Model.IdleTimeout, Log: log,
			}),
		})
	}
	return model.New(model.Options{Models: models, Default: cfg.Model.Default, Timeout: cfg.Model.Timeout, Log: log})
}
