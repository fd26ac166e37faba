package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// Of request bodies that are read before a pod is chosen, so that it gets their length.
var (
	descGathered = prometheus.NewDesc("kerngate_proxy_request_bodies_buffered_total",
		"Request bodies that were read before a pod was chosen, by outcome.", []string{"outcome"}, nil)
	descBodyMemory = prometheus.NewDesc("kerngate_proxy_request_buffer_bytes",
		"Memory that such bodies take at the moment.", nil, nil)
	descBodiesHeld = prometheus.NewDesc("kerngate_proxy_stream_bodies_bytes",
		"Memory that request bodies take at the moment that have come by HTTP/2 and HTTP/3 and that no pod has taken.", nil, nil)
	descSpoolBytes = prometheus.NewDesc("kerngate_proxy_request_spool_bytes",
		"Room on the disk that such bodies take at the moment, of --request-spool-total.", nil, nil)
	descTrailersDropped = prometheus.NewDesc("kerngate_proxy_request_trailers_dropped_total",
		"Requests whose trailers were dropped: the pod got the body with its length, the client did not say TE: trailers, or a rule owns the name.", nil, nil)
)

var bodyDescs = []*prometheus.Desc{descGathered, descBodyMemory, descBodiesHeld, descSpoolBytes, descTrailersDropped}

func (p *Proxy) collectBodies(counter func(d *prometheus.Desc, v uint64, labels ...string), gauge func(d *prometheus.Desc, v float64)) {
	for g := range exchange.GatheredOutcomes {
		counter(descGathered, p.sum(func(w *worker) uint64 { return w.metrics.Gathered[g].Load() }), g.String())
	}
	gauge(descBodyMemory, float64(p.sum(func(w *worker) uint64 { return uint64(w.metrics.BodyMemory.Load()) })))
	gauge(descBodiesHeld, float64(p.sum(func(w *worker) uint64 { return uint64(w.metrics.BodiesHeld.Bytes()) })))
	held := int64(0)
	if d := p.options.Spool; d != nil {
		held = d.Held()
	}
	gauge(descSpoolBytes, float64(held))
	counter(descTrailersDropped, p.sum(func(w *worker) uint64 { return w.metrics.TrailersDropped.Load() }))
}
