package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// Of TLS to clients.
var (
	descHandshakes = prometheus.NewDesc("kerngate_proxy_tls_handshakes_total",
		"TLS handshakes done, by version and whether a session was resumed.", []string{"version", "resumed"}, nil)
	descHandshakesFailed = prometheus.NewDesc("kerngate_proxy_tls_handshakes_failed_total",
		"Connections closed because no TLS handshake was done on them, by reason.", []string{"reason"}, nil)
	descHandshakesOpen = prometheus.NewDesc("kerngate_proxy_tls_handshakes_open",
		"TLS handshakes under way.", nil, nil)
	descHandshakesDelayed = prometheus.NewDesc("kerngate_proxy_tls_handshakes_delayed_total",
		"Steps of TLS handshakes that waited so that open connections could be served.", nil, nil)
	descPassthrough = prometheus.NewDesc("kerngate_proxy_tls_passthrough_connections_total",
		"Connections passed on to a pod still encrypted that have ended, by reason.", []string{"reason"}, nil)
	descPassthroughOpen = prometheus.NewDesc("kerngate_proxy_tls_passthrough_connections",
		"Connections passed on to a pod still encrypted that are open.", nil, nil)
)

var tlsDescs = []*prometheus.Desc{descHandshakes, descHandshakesFailed, descHandshakesOpen,
	descHandshakesDelayed, descPassthrough, descPassthroughOpen}

// collectTLS collects what is in tlsDescs.
func (p *Proxy) collectTLS(counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64)) {
	for v, version := range []string{"1.2", "1.3"} {
		for r, resumed := range []string{"no", "yes"} {
			counter(descHandshakes, p.sum(func(w *worker) uint64 { return w.stats.Handshakes.Done[v][r].Load() }), version, resumed)
		}
	}
	for i, reason := range server.HandshakeFaults {
		counter(descHandshakesFailed, p.sum(func(w *worker) uint64 { return w.stats.Handshakes.Failed[i].Load() }), reason)
	}
	counter(descHandshakesDelayed, p.sum(func(w *worker) uint64 { return w.stats.Handshakes.Delayed.Load() }))
	gauge(descHandshakesOpen, float64(p.sum(func(w *worker) uint64 { return uint64(w.stats.Handshakes.Open.Load()) })))
	for _, r := range []exchange.Reason{exchange.Forwarded, exchange.NoEndpoint, exchange.ConnectFailed,
		exchange.ConnectTimeout, exchange.ClientAborted, exchange.UpstreamTimeout, exchange.Crashed} {
		counter(descPassthrough, p.sum(func(w *worker) uint64 { return w.stats.Passthrough.Ended[r].Load() }), r.String())
	}
	gauge(descPassthroughOpen, float64(p.sum(func(w *worker) uint64 { return uint64(w.stats.Passthrough.Open.Load()) })))
}
