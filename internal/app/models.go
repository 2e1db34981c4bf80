package app

import (
	"cmp"
	"log/slog"
	"time"

	"wabot/internal/config"
	"wabot/internal/llm"
	"wabot/internal/model"
)

// protocols are how the models draw.
var protocols = map[config.Protocol]llm.API{
	config.DrawsAsOpenAI: llm.OpenAI, config.DrawsAsStability: llm.Stability, config.DrawsAsHuggingFace: llm.HuggingFace,
}

// newCatalog makes the models of the settings.
func newCatalog(cfg config.Config, log *slog.Logger) *model.Catalog {
	var models []model.Model
	for _, e := range cfg.Models {
		retries := 0 // the client's own
		if e.Fallback != "" {
			retries = 1 // another model is the better try
		}
		client := newClient(e, llm.Options{MaxRetries: retries, Total: cmp.Or(e.Timeout, cfg.Model.Timeout), Idle: cfg.Model.IdleTimeout, Log: log})
		m := model.Model{
			Name: e.Name, Prefix: e.Prefix, Icon: e.Icon, Instructions: e.Instructions, Temperature: e.Temperature, MaxTokens: e.MaxTokens, ContextTokens: e.ContextTokens,
			Timeout: e.Timeout, Fallback: e.Fallback, Size: e.Size, Sees: e.Sees,
			Prices: model.Prices{Prompt: e.PromptPrice, Completion: e.CompletionPrice, Image: e.ImagePrice},
		}
		if e.InstructionsURL != "" {
			m.Page = model.NewPage(e.InstructionsURL)
		}
		if e.Draws == "" {
			m.Chat = client
		} else {
			m.Painter = client
		}
		models = append(models, m)
	}
	return model.New(model.Options{Models: models, Default: cfg.Model.Default, Timeout: cfg.Model.Timeout, Log: log})
}

// newClient adds what an entry says to the options.
func newClient(e config.Entry, o llm.Options) *llm.Client {
	o.BaseURL, o.Key, o.Model, o.API = e.BaseURL, e.Key.Reveal(), e.Model, protocols[e.Draws]
	return llm.New(o)
}

// newSpeech makes the client of a service for recordings or voices. Such a call is made before or after that of the model, so it has
// less time.
func newSpeech(cfg config.Config, s config.Speech, log *slog.Logger) *llm.Client {
	return llm.New(llm.Options{BaseURL: s.BaseURL, Key: s.Key.Reveal(), Model: s.Model, Total: min(cfg.Model.Timeout, speaking), Log: log})
}

// speaking bounds one call of a service for recordings or voices.
const speaking = 2 * time.Minute
