package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
)

var (
	descUse = prometheus.NewDesc("kerngate_proxy_resource_use_ratio",
		"How much of what a proxy can run out of is used; 1: all of it.", []string{"resource"}, nil)
	descShedding = prometheus.NewDesc("kerngate_proxy_shed_ratio",
		"Share of requests that is being refused because a resource is nearly used up.", nil, nil)
	descLimit = prometheus.NewDesc("kerngate_proxy_client_connections_limit",
		"TCP connections of clients that may be open.", nil, nil)
	descFull = prometheus.NewDesc("kerngate_proxy_client_connections_refused_total",
		"Client connections closed at once because as many as may be were open.", nil, nil)
	descEvicted = prometheus.NewDesc("kerngate_proxy_client_connections_evicted_total",
		"Client connections closed in favour of others: unfinished (no whole request yet, of the source with most of these), idle (of the source with most connections), source_limit (its source has as many as it may have).", []string{"reason"}, nil)
)

var overloadDescs = []*prometheus.Desc{descUse, descShedding, descLimit, descFull, descEvicted}

func (p *Proxy) collectOverload(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for r := range overload.Resource(overload.Resources) {
		gauge(descUse, p.over.Use(r), r.String())
	}
	gauge(descShedding, p.over.Refused())
	gauge(descLimit, float64(p.over.Limit()))
	full := p.sum(func(w *worker) uint64 { return w.stats.Full.Load() })
	ch <- prometheus.MustNewConstMetric(descFull, prometheus.CounterValue, float64(full))
	for i, reason := range server.Evictions {
		n := p.sum(func(w *worker) uint64 { return w.stats.Evicted[i].Load() })
		ch <- prometheus.MustNewConstMetric(descEvicted, prometheus.CounterValue, float64(n), reason)
	}
}
