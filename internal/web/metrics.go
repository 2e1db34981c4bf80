package web

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descState     = prometheus.NewDesc("wabot_state", "What the bot is doing: 1 for the state it is in.", []string{"state"}, nil)
	descReady     = prometheus.NewDesc("wabot_ready", "Whether the bot is ready, as /readyz has it.", nil, nil)
	descReason    = prometheus.NewDesc("wabot_not_ready", "Why the bot is not ready: 1 for each reason that holds.", []string{"reason"}, nil)
	descSince     = prometheus.NewDesc("wabot_state_since_timestamp_seconds", "When the bot came into its state.", nil, nil)
	descStore     = prometheus.NewDesc("wabot_store_up", "Whether the store answers.", nil, nil)
	descWaiting   = prometheus.NewDesc("wabot_inbox_depth", "Messages that are not answered yet.", nil, nil)
	descOldest    = prometheus.NewDesc("wabot_inbox_oldest_timestamp_seconds", "When the message that waits longest for its answer came in; absent while none waits.", nil, nil)
	descPhone     = prometheus.NewDesc("wabot_phone_seen_timestamp_seconds", "When the account's phone last gave a sign.", nil, nil)
	descAnswered  = prometheus.NewDesc("wabot_model_answered_timestamp_seconds", "When the model last answered.", nil, nil)
	descFailed    = prometheus.NewDesc("wabot_model_failed_timestamp_seconds", "When the model last failed to answer.", nil, nil)
	descLookup    = prometheus.NewDesc("wabot_version_checked_timestamp_seconds", "When the newest version of a part was last looked up.", []string{"part"}, nil)
	descVersions  = prometheus.NewDesc("wabot_build_info", "The versions of the parts; always 1.", []string{"part", "version"}, nil)
	descsOfStatus = []*prometheus.Desc{
		descState, descReady, descReason, descSince, descStore, descWaiting, descOldest, descPhone, descAnswered, descFailed, descLookup, descVersions,
	}
)

// statusCollector shows the status of the moment as metrics. What is not known is left out.
type statusCollector struct {
	status func(context.Context) Status
}

func (c statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descsOfStatus {
		ch <- d
	}
}

func (c statusCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.status(context.Background())
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	at := func(d *prometheus.Desc, t time.Time, labels ...string) {
		if !t.IsZero() {
			gauge(d, float64(t.UnixMilli())/1000, labels...)
		}
	}
	for _, s := range States {
		gauge(descState, one(s == st.State), string(s))
	}
	codes := st.Codes()
	gauge(descReady, one(len(codes) == 0))
	for _, c := range Reasons {
		gauge(descReason, one(slices.Contains(codes, c)), string(c))
	}
	gauge(descStore, one(st.StoreDown == "" && st.State != Opening))
	if st.Waiting >= 0 {
		gauge(descWaiting, float64(st.Waiting))
	}
	at(descSince, st.Since)
	at(descOldest, st.Oldest)
	at(descPhone, st.PhoneSeen)
	at(descAnswered, st.Model.Answered)
	at(descFailed, st.Model.Failed)
	for _, v := range st.Versions {
		gauge(descVersions, 1, v.Part, v.Version)
		at(descLookup, v.At, v.Part)
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
