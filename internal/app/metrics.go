package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wabot/internal/bot"
	"wabot/internal/chat"
	"wabot/internal/device"
	"wabot/internal/inbox"
	"wabot/internal/llm"
	"wabot/internal/whatsapp"
)

// metrics counts what the parts do. Every label comes from a fixed set and is there from the start, at 0.
type metrics struct {
	messages, turns, calls, tokens, sends, events, again, undecrypted, storeErrors, deviceErrors *prometheus.CounterVec
	waited, called, sent, delivered                                                              prometheus.Histogram
	store, device                                                                                *prometheus.HistogramVec
	charges, cost, chargedTokens                                                                 *prometheus.CounterVec // by model

	// broken counts the sessions that did not decode, where the open store says.
	broken atomic.Pointer[func() int64]
	// suspect is set when a call of the store fails, or a message is not stored; the site clears it once a write succeeds.
	suspect atomic.Bool
}

// What a message was that came once more.
const (
	handled = "handled"
	pending = "pending"
)

// What became of a message that came in.
const (
	stored  = "stored"
	ignored = "ignored"    // by the rules
	failed  = "not_stored" // so not acknowledged; it comes again
)

// newMetrics makes the metrics of a bot with the models of those names.
func newMetrics(models ...string) *metrics {
	seconds := func(name, help string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	calls := func(name, help string, calls []string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: []float64{.001, .005, .02, .1, .5, 2, 10}}, []string{"call"})
		for _, call := range calls {
			v.WithLabelValues(call)
		}
		return v
	}
	return &metrics{
		messages: counters("wabot_messages_total", "Messages that came in, by what became of them.", "result", stored, ignored, failed),
		turns: counters("wabot_turns_total", "Tries to answer a chat, by their outcome.", "outcome",
			inbox.Answered, inbox.Apologized, inbox.PutOff, inbox.GivenUp, inbox.Lost, inbox.CutOff),
		calls: counters("wabot_model_calls_total", "Answers asked of the model, retries not counted: ok, or the kind of error.", "result",
			"ok", llm.Auth, llm.Quota, llm.RateLimited, llm.Unavailable, llm.Timeout, llm.BadAnswer, llm.Filtered, llm.TooLong, llm.ModelUnknown, llm.BadRequest),
		tokens: counters("wabot_model_tokens_total", "Tokens that the model counted.", "kind", "prompt", "completion"),
		sends:  counters("wabot_sends_total", "Messages given to WhatsApp, by outcome; unknown ones are sent again.", "outcome", "sent", "offline", "refused", "unknown"),
		events: counters("wabot_whatsapp_events_total", "What happened on the link to WhatsApp.", "event",
			whatsapp.LoggedIn, whatsapp.Dropped, whatsapp.Undecryptable, whatsapp.Unavailable, whatsapp.NotStored, whatsapp.Panicked, whatsapp.SetAside,
			whatsapp.Conflicted, whatsapp.LeftOut, whatsapp.Vanished, whatsapp.Resent, whatsapp.Undelivered),
		again: counters("wabot_repeats_total", "Messages that WhatsApp gave once more: handled ones are dropped, pending ones had not been acknowledged.", "was", handled, pending),
		undecrypted: counters("wabot_undecrypted_total", "Messages that were not decrypted, by cause. Those with an old counter are repeats and dropped; for the others a retry receipt went out.", "cause",
			device.Causes...),
		storeErrors:   counters("wabot_store_errors_total", "Calls of the inbox's store that failed.", "call", storeCalls...),
		deviceErrors:  counters("wabot_device_store_errors_total", "Calls of the device's store that failed.", "call", device.Calls...),
		waited:        seconds("wabot_answer_seconds", "From the sending of a message to the sending of its answer.", 1, 2, 5, 10, 20, 60, 300, 3600),
		called:        seconds("wabot_model_seconds", "How long the model took to answer, retries included.", .5, 1, 2, 5, 10, 20, 60, 300),
		sent:          seconds("wabot_send_seconds", "How long WhatsApp took to take a message.", .05, .1, .2, .5, 1, 2, 5, 10, 30),
		delivered:     seconds("wabot_delivery_seconds", "From the first sending of a message until the first device of its receivers had it.", .1, .2, .5, 1, 2, 5, 10, 60, 600, 3600, 86400),
		store:         calls("wabot_store_seconds", "How long calls of the inbox's store took.", storeCalls),
		device:        calls("wabot_device_store_seconds", "How long calls of the device's store took, those that messages wait for.", device.Calls),
		charges:       counters("wabot_charges_total", "Calls of models that were charged for, by the model's name.", "model", models...),
		cost:          counters("wabot_cost_total", "What calls of models have cost, in the currency of the prices, by the model's name.", "model", models...),
		chargedTokens: counters("wabot_charged_tokens_total", "What calls of models count as in a budget of tokens, by the model's name.", "model", models...),
	}
}

// counters makes a counter for each of the label's values.
func counters[T ~string](name, help, label string, values ...T) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(string(value))
	}
	return v
}

func (m *metrics) collectors() []prometheus.Collector {
	broken := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "wabot_broken_sessions_total", Help: "Signal sessions that could not be decoded and were set aside; they heal by a new one.",
	}, func() float64 {
		if count := m.broken.Load(); count != nil {
			return float64((*count)())
		}
		return 0
	})
	return []prometheus.Collector{m.messages, m.turns, m.calls, m.tokens, m.sends, m.events, m.again, m.undecrypted, m.storeErrors, m.deviceErrors, m.charges, m.cost, m.chargedTokens,
		m.waited, m.called, m.sent, m.delivered, m.store, m.device, broken}
}

// turn counts the end of a try at a turn.
func (m *metrics) turn(o inbox.Outcome, waited time.Duration) {
	m.turns.WithLabelValues(string(o)).Inc()
	if o == inbox.Answered {
		m.waited.Observe(waited.Seconds())
	}
}

// watch measures what happens in the device's stores.
func (m *metrics) watch() device.Watch {
	return device.Watch{
		Again: func(was bool) {
			if was {
				m.again.WithLabelValues(handled).Inc()
			} else {
				m.again.WithLabelValues(pending).Inc()
			}
		},
		Undecrypted: func(c device.Cause) { m.undecrypted.WithLabelValues(string(c)).Inc() },
		Call: func(call string, took time.Duration, err error) {
			m.device.WithLabelValues(call).Observe(took.Seconds())
			if err != nil && !errors.Is(err, context.Canceled) {
				m.deviceErrors.WithLabelValues(call).Inc()
			}
		},
	}
}

func (m *metrics) event(e whatsapp.Event) {
	m.events.WithLabelValues(string(e)).Inc()
	if e == whatsapp.NotStored {
		m.suspect.Store(true)
	}
}

// message counts what became of a message.
func (m *metrics) message(result string) { m.messages.WithLabelValues(result).Inc() }

// watchedModel tells the site of each answer.
type watchedModel struct {
	bot.Model
	site *site
}

func (w watchedModel) Complete(ctx context.Context, p llm.Prompt) (llm.Completion, error) {
	begin := time.Now()
	c, err := w.Model.Complete(ctx, p)
	m := w.site.metrics
	m.tokens.WithLabelValues("prompt").Add(float64(max(0, c.PromptTokens)))
	m.tokens.WithLabelValues("completion").Add(float64(max(0, c.CompletionTokens)))
	w.site.called(ctx, begin, err)
	return c, err
}

// watchedPainter tells the site of each picture.
type watchedPainter struct {
	bot.Painter
	site *site
}

func (w watchedPainter) Image(ctx context.Context, model, description string) (llm.Media, string, error) {
	begin := time.Now()
	picture, by, err := w.Painter.Image(ctx, model, description)
	w.site.called(ctx, begin, err)
	return picture, by, err
}

// watchedEars tells the site of each transcription.
type watchedEars struct {
	bot.Ears
	site *site
}

func (w watchedEars) Transcribe(ctx context.Context, sound llm.Media, language string) (string, error) {
	begin := time.Now()
	text, err := w.Ears.Transcribe(ctx, sound, language)
	w.site.called(ctx, begin, err)
	return text, err
}

// watchedMouth tells the site of each text that is spoken.
type watchedMouth struct {
	bot.Mouth
	site *site
}

func (w watchedMouth) Speak(ctx context.Context, text, voice string) (llm.Media, error) {
	begin := time.Now()
	sound, err := w.Mouth.Speak(ctx, text, voice)
	w.site.called(ctx, begin, err)
	return sound, err
}

// called counts a call of a model, which ended with err.
func (s *site) called(ctx context.Context, begin time.Time, err error) {
	if err != nil && ctx.Err() != nil {
		return // cut off; it says nothing of the model
	}
	s.metrics.called.Observe(time.Since(begin).Seconds())
	result := "ok"
	if err != nil {
		kind := llm.Unavailable
		var e *llm.Error
		if errors.As(err, &e) {
			kind = e.Kind
		}
		result = string(kind)
	}
	s.metrics.calls.WithLabelValues(result).Inc()
	s.answered(err)
}

// watchedSender counts what is sent.
type watchedSender struct {
	bot.Messenger
	metrics *metrics
}

func (w watchedSender) Send(ctx context.Context, to string, p chat.Part, quote *chat.Message) error {
	begin := time.Now()
	err := w.Messenger.Send(ctx, to, p, quote)
	outcome := "unknown"
	var refused *whatsapp.RefusedError
	switch {
	case err == nil:
		outcome = "sent"
		w.metrics.sent.Observe(time.Since(begin).Seconds())
	case errors.Is(err, whatsapp.ErrOffline):
		outcome = "offline"
	case errors.As(err, &refused):
		outcome = "refused"
	}
	w.metrics.sends.WithLabelValues(outcome).Inc()
	return err
}

// storeCalls are the calls that watchedStore measures.
var storeCalls = []string{"put", "claim", "next", "history", "save_reply", "finish", "retry", "fail", "find", "amend", "extend", "heard", "set_heard"}

// watchedStore measures the inbox's calls of the store.
type watchedStore struct {
	inbox.Store
	metrics *metrics
}

func (w watchedStore) measure(call string, begin time.Time, err error) {
	w.metrics.store.WithLabelValues(call).Observe(time.Since(begin).Seconds())
	if err != nil && !errors.Is(err, inbox.ErrEmpty) && !errors.Is(err, inbox.ErrUnknown) && !errors.Is(err, inbox.ErrLeaseLost) && !errors.Is(err, context.Canceled) {
		w.metrics.storeErrors.WithLabelValues(call).Inc()
		w.metrics.suspect.Store(true)
	}
}

func (w watchedStore) Put(ctx context.Context, m chat.Message, now time.Time) (err error) {
	defer func(begin time.Time) { w.measure("put", begin, err) }(time.Now())
	return w.Store.Put(ctx, m, now)
}

func (w watchedStore) Claim(ctx context.Context, now, until time.Time) (t chat.Turn, err error) {
	defer func(begin time.Time) { w.measure("claim", begin, err) }(time.Now())
	return w.Store.Claim(ctx, now, until)
}

func (w watchedStore) Next(ctx context.Context) (t time.Time, err error) {
	defer func(begin time.Time) { w.measure("next", begin, err) }(time.Now())
	return w.Store.Next(ctx)
}

func (w watchedStore) History(ctx context.Context, chatJID string, n int) (all []chat.Exchange, err error) {
	defer func(begin time.Time) { w.measure("history", begin, err) }(time.Now())
	return w.Store.History(ctx, chatJID, n)
}

func (w watchedStore) SaveReply(ctx context.Context, t chat.Turn, r chat.Reply) (err error) {
	defer func(begin time.Time) { w.measure("save_reply", begin, err) }(time.Now())
	return w.Store.SaveReply(ctx, t, r)
}

func (w watchedStore) Finish(ctx context.Context, t chat.Turn, now time.Time) (err error) {
	defer func(begin time.Time) { w.measure("finish", begin, err) }(time.Now())
	return w.Store.Finish(ctx, t, now)
}

func (w watchedStore) Retry(ctx context.Context, t chat.Turn, at time.Time) (err error) {
	defer func(begin time.Time) { w.measure("retry", begin, err) }(time.Now())
	return w.Store.Retry(ctx, t, at)
}

func (w watchedStore) Fail(ctx context.Context, t chat.Turn, now time.Time, reason string) (err error) {
	defer func(begin time.Time) { w.measure("fail", begin, err) }(time.Now())
	return w.Store.Fail(ctx, t, now, reason)
}

func (w watchedStore) Find(ctx context.Context, like chat.Message) (x chat.Exchange, err error) {
	defer func(begin time.Time) { w.measure("find", begin, err) }(time.Now())
	return w.Store.Find(ctx, like)
}

func (w watchedStore) Amend(ctx context.Context, messages []chat.Message, r *chat.Reply) (err error) {
	defer func(begin time.Time) { w.measure("amend", begin, err) }(time.Now())
	return w.Store.Amend(ctx, messages, r)
}

func (w watchedStore) Extend(ctx context.Context, chatJID string, who []string, until time.Time) (done bool, err error) {
	defer func(begin time.Time) { w.measure("extend", begin, err) }(time.Now())
	return w.Store.Extend(ctx, chatJID, who, until)
}

func (w watchedStore) Heard(ctx context.Context, chatJID string) (all []chat.Message, err error) {
	defer func(begin time.Time) { w.measure("heard", begin, err) }(time.Now())
	return w.Store.Heard(ctx, chatJID)
}

func (w watchedStore) SetHeard(ctx context.Context, chatJID string, all []chat.Message) (err error) {
	defer func(begin time.Time) { w.measure("set_heard", begin, err) }(time.Now())
	return w.Store.SetHeard(ctx, chatJID, all)
}

var (
	descPreKeys = prometheus.NewDesc("wabot_pre_keys", "One-time pre-keys that WhatsApp has been given and nobody has used, as the store has it.", nil, nil)
	descEpoch   = prometheus.NewDesc("wabot_lease_epoch", "How often the lease on the device has changed hands; 0 while another process has it.", nil, nil)
)

// vitalsCollector shows a store's vitals of the moment; nothing while it does not tell.
type vitalsCollector struct{ measure func() (vitals, bool) }

func (c vitalsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descPreKeys
	ch <- descEpoch
}

func (c vitalsCollector) Collect(ch chan<- prometheus.Metric) {
	v, known := c.measure()
	if !known {
		return
	}
	ch <- prometheus.MustNewConstMetric(descPreKeys, prometheus.GaugeValue, float64(v.preKeys))
	if v.hasLeases {
		ch <- prometheus.MustNewConstMetric(descEpoch, prometheus.GaugeValue, float64(v.epoch))
	}
}
