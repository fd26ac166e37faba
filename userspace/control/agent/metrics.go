package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/model"
)

// Metrics of the agent. No label is taken from an object, so that their number does not
// grow with what is published; but for the end of each certificate, which is what one
// wants an alert on.
type Metrics struct {
	updates    *prometheus.CounterVec   // what: routes, endpoints
	applySecs  *prometheus.HistogramVec // what: all, services
	applyFails *prometheus.CounterVec   // what
	published  *prometheus.GaugeVec     // kind: hosts, routes, services, backends
	problems   *prometheus.GaugeVec     // severity
	generation *prometheus.GaugeVec     // state
	refusals   prometheus.Counter
	version    prometheus.Gauge
	ready      prometheus.Gauge
	expiry     *prometheus.GaugeVec // certificate
}

// NewMetrics registers the agent's metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		updates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kerngate_agent_updates_total",
			Help: "Changes of the desired state by what changed: routes, or endpoints alone.",
		}, []string{"what"}),
		applySecs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kerngate_agent_apply_seconds",
			Help:    "Time to bring the kernel maps up to date, by what was compared: all, or the services whose endpoints changed.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 9), // 50 us to 3.3 s
		}, []string{"what"}),
		applyFails: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kerngate_agent_apply_failures_total",
			Help: "Applies that could not store everything; they are tried again.",
		}, []string{"what"}),
		published: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kerngate_agent_published",
			Help: "Hosts, routes, services and backends in the desired state.",
		}, []string{"kind"}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kerngate_agent_problems",
			Help: "Problems of objects by severity: Warning (served all the same) and Refused (that part is not served).",
		}, []string{"severity"}),
		generation: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "kerngate_agent_proxy_generations",
			Help: "Proxies by state: starting, serving, draining.",
		}, []string{"state"}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kerngate_agent_config_refusals_total",
			Help: "Configurations that a proxy refused.",
		}),
		version: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kerngate_agent_config_version",
			Help: "Version of the configuration that proxies are sent; rises with each change and over restarts.",
		}),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kerngate_agent_ready",
			Help: "1 if objects are in force and a proxy serves, as /readyz.",
		}),
	}
	m.expiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "kerngate_agent_certificate_expiry_timestamp_seconds",
		Help: "When each certificate in use expires, as a Unix time.",
	}, []string{"certificate"})
	registry.MustRegister(m.expiry, m.updates, m.applySecs, m.applyFails, m.published, m.problems, m.generation, m.refusals, m.version, m.ready)
	return m
}

func (m *Metrics) applied(what string, took time.Duration, err error) {
	m.applySecs.WithLabelValues(what).Observe(took.Seconds())
	if err != nil {
		m.applyFails.WithLabelValues(what).Inc()
	}
}

func (m *Metrics) state(s *model.Model, problems []model.Problem) {
	counts := countsOf(s, problems)
	m.published.WithLabelValues("hosts").Set(float64(counts.Hosts))
	m.published.WithLabelValues("routes").Set(float64(counts.Routes))
	m.published.WithLabelValues("services").Set(float64(counts.Services))
	m.published.WithLabelValues("backends").Set(float64(counts.Backends))
	m.problems.WithLabelValues(model.Warning.String()).Set(float64(counts.Warnings))
	m.problems.WithLabelValues(model.Refused.String()).Set(float64(counts.Refused))
}

func (m *Metrics) certificates(all map[string]known) {
	m.expiry.Reset()
	for id, k := range all {
		m.expiry.WithLabelValues(id).Set(float64(k.leaf.NotAfter.Unix()))
	}
}

func (m *Metrics) proxies(all map[uint32]*proxy) {
	counts := map[proxyState]int{starting: 0, serving: 0, draining: 0}
	for _, p := range all {
		counts[p.state]++
	}
	for state, n := range counts {
		m.generation.WithLabelValues(string(state)).Set(float64(n))
	}
}
