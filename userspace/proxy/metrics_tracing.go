package proxy

import "github.com/prometheus/client_golang/prometheus"

var descSpans = prometheus.NewDesc("kerngate_proxy_trace_spans_total",
	"Spans, by whether the collector took them (exported, failed); dropped counts requests without any, as too many waited.", []string{"result"}, nil)

func (p *Proxy) collectTracing(counter func(d *prometheus.Desc, v uint64, labels ...string)) {
	counter(descSpans, p.tracer.Exported.Load(), "exported")
	counter(descSpans, p.tracer.Failed.Load(), "failed")
	counter(descSpans, p.tracer.Dropped.Load(), "dropped")
}
