package proxy

import (
	"slices"

	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/client/http2"
	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// The proxy's metrics. Labels have values from fixed sets: reasons, status classes. What is
// counted per Ingress and Service is bounded (package usage); what is counted per pod is in
// the maps and comes from the agent.
var (
	descRequests = prometheus.NewDesc("kerngate_proxy_requests_total",
		"Exchanges that ended, by reason.", []string{"reason"}, nil)
	descStatus = prometheus.NewDesc("kerngate_proxy_responses_total",
		"Responses by class of status; none: the client went away before.", []string{"class"}, nil)
	descGRPC = prometheus.NewDesc("kerngate_proxy_grpc_responses_total",
		"Calls of gRPC that ended with a status, by its code.", []string{"code"}, nil)
	descMirrored = prometheus.NewDesc("kerngate_proxy_mirrored_requests_total",
		"Copies of requests for mirrors: sent, failed, or not sent, by reason.", []string{"result"}, nil)
	descRetriesRefused = prometheus.NewDesc("kerngate_proxy_retries_refused_total",
		"Requests that were not offered to another pod, though a rule wants it, because too many of the service's already were.", nil, nil)
	descRetries = prometheus.NewDesc("kerngate_proxy_retries_total",
		"Requests that were offered to a further pod.", nil, nil)
	descDuration = prometheus.NewDesc("kerngate_proxy_request_duration_seconds",
		"From a request's head to the end of its response.", nil, nil)
	descFirstByte = prometheus.NewDesc("kerngate_proxy_first_byte_seconds",
		"From a request's head to the pod's first byte.", nil, nil)
	descPending = prometheus.NewDesc("kerngate_proxy_pending_requests",
		"Requests that wait because every pod has as many as its Service allows.", nil, nil)
	descBytes = prometheus.NewDesc("kerngate_proxy_client_bytes_total",
		"Bytes of responses (sent) and of request bodies (received).", []string{"direction"}, nil)
	descLingerBytes = prometheus.NewDesc("kerngate_proxy_linger_bytes_total",
		"Bytes of request bodies that were read and dropped because the request was already answered.", nil, nil)
	descLingerCut = prometheus.NewDesc("kerngate_proxy_linger_cut_total",
		"Request bodies that had not ended, after their request was answered, when the proxy stopped reading them.", nil, nil)
	descConnections = prometheus.NewDesc("kerngate_proxy_client_connections",
		"Open client connections.", nil, nil)
	descActive = prometheus.NewDesc("kerngate_proxy_client_connections_active",
		"Client connections with a request under way.", nil, nil)
	descAccepted = prometheus.NewDesc("kerngate_proxy_client_connections_total",
		"Client connections accepted.", nil, nil)
	descAcceptErrors = prometheus.NewDesc("kerngate_proxy_accept_errors_total",
		"Connections that could not be accepted for want of descriptors or memory.", nil, nil)
	descPanics = prometheus.NewDesc("kerngate_proxy_panics_total",
		"Connections ended by a fault in the proxy.", nil, nil)
	descHeadersRefused = prometheus.NewDesc("kerngate_proxy_proxy_headers_refused_total",
		"Connections closed because they did not begin with a valid PROXY header, by reason.", []string{"reason"}, nil)
	descAgent = prometheus.NewDesc("kerngate_proxy_agent_connected",
		"1 while the agent is connected.", nil, nil)
	descServing = prometheus.NewDesc("kerngate_proxy_serving",
		"1 while new connections are steered to this proxy.", nil, nil)
	descGeneration = prometheus.NewDesc("kerngate_proxy_generation",
		"Number of this proxy's generation.", nil, nil)
	descConfigVersion = prometheus.NewDesc("kerngate_proxy_config_version",
		"Version of the configuration in force.", nil, nil)
	descConfigRefused = prometheus.NewDesc("kerngate_proxy_config_refused_total",
		"Configurations that could not be used.", nil, nil)
	descConfined = prometheus.NewDesc("kerngate_proxy_confined",
		"1 for each restriction that the proxy has put on itself, 0 for those that the kernel or the build lacks (see its log).", []string{"wall"}, nil)
	descLogDropped = prometheus.NewDesc("kerngate_proxy_access_log_dropped_total",
		"Access log lines dropped because the writer could not keep up.", nil, nil)
)

// Of HTTP/2 to clients.
var (
	descHTTP2Connections = prometheus.NewDesc("kerngate_proxy_http2_connections_total",
		"Client connections that spoke HTTP/2.", nil, nil)
	descHTTP2Streams = prometheus.NewDesc("kerngate_proxy_http2_streams_total",
		"Requests that came by HTTP/2.", nil, nil)
	descHTTP2Refused = prometheus.NewDesc("kerngate_proxy_http2_streams_refused_total",
		"Streams answered with REFUSED_STREAM, by reason: too_many on their connection, or the connection is draining.", []string{"reason"}, nil)
	descHTTP2Errors = prometheus.NewDesc("kerngate_proxy_http2_errors_total",
		"HTTP/2 connections ended because the client broke the protocol, by reason.", []string{"reason"}, nil)
	descHTTP2Cut = prometheus.NewDesc("kerngate_proxy_http2_cut_total",
		"HTTP/2 clients cut off because they did something without end, by what it was.", []string{"limit"}, nil)
)

// Of HTTP/3.
var (
	descHTTP3Connections = prometheus.NewDesc("kerngate_proxy_http3_connections_total",
		"QUIC connections whose handshake was done.", nil, nil)
	descHTTP3Open = prometheus.NewDesc("kerngate_proxy_http3_connections",
		"Open QUIC connections; they are among kerngate_proxy_client_connections.", nil, nil)
	descHTTP3Requests = prometheus.NewDesc("kerngate_proxy_http3_requests_total",
		"Requests that came by HTTP/3.", nil, nil)
	descHTTP3Refused = prometheus.NewDesc("kerngate_proxy_http3_refused_total",
		"QUIC connections refused because there were as many as there may be, of all clients or of their source.", nil, nil)
	descHTTP3Retried = prometheus.NewDesc("kerngate_proxy_http3_retries_total",
		"QUIC clients that had to prove their address first, because too many new ones came at once.", nil, nil)
	descHTTP3Handshakes = prometheus.NewDesc("kerngate_proxy_http3_handshakes_failed_total",
		"QUIC connections that ended before their handshake was done, by reason.", []string{"reason"}, nil)
	descHTTP3Errors = prometheus.NewDesc("kerngate_proxy_http3_errors_total",
		"QUIC connections closed because the client broke the protocol of HTTP/3 or QUIC, by reason.", []string{"reason"}, nil)
)

// classes of status, by hundreds.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRequests, descStatus, descGRPC, descMirrored, descPending, descRetries, descRetriesRefused, descDuration, descFirstByte,
		descBytes, descLingerBytes, descLingerCut, descConnections, descActive, descAccepted, descAcceptErrors, descPanics, descHeadersRefused, descAgent,
		descServing, descGeneration, descConfigVersion, descConfigRefused, descConfined, descLogDropped,
		descHTTP2Connections, descHTTP2Streams, descHTTP2Refused, descHTTP2Errors, descHTTP2Cut,
		descHTTP3Connections, descHTTP3Open, descHTTP3Requests, descHTTP3Refused, descHTTP3Retried,
		descHTTP3Handshakes, descHTTP3Errors} {
		ch <- d
	}
	for _, d := range tlsDescs {
		ch <- d
	}
	for _, d := range healthDescs {
		ch <- d
	}
	for _, d := range slices.Concat(usageDescs, bodyDescs, compressionDescs, overloadDescs, []*prometheus.Desc{descSpans}) {
		ch <- d
	}
	ch <- descLookups
	ch <- descStaleNames
}

// Collect implements prometheus.Collector: it sums what the workers count.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	flag := func(d *prometheus.Desc, v bool) {
		if v {
			gauge(d, 1)
		} else {
			gauge(d, 0)
		}
	}
	for r := range exchange.Reasons {
		counter(descRequests, p.sum(func(w *worker) uint64 { return w.metrics.Ended[r].Load() }), r.String())
	}
	for i, class := range classes {
		counter(descStatus, p.sum(func(w *worker) uint64 { return w.metrics.Status[i].Load() }), class)
	}
	for code := exchange.GRPCStatus(1); code < exchange.GRPCStatus(exchange.GRPCStatuses); code++ {
		counter(descGRPC, p.sum(func(w *worker) uint64 { return w.metrics.GRPC[code].Load() }), code.String())
	}
	for c := range exchange.Copies {
		counter(descMirrored, p.sum(func(w *worker) uint64 { return w.metrics.Mirrored[c].Load() }), c.String())
	}
	p.collectBodies(counter, gauge)
	p.collectCompression(counter)
	p.collectOverload(ch)
	p.collectTracing(counter)
	collectUsage(p.config.Load().Usage, p.options.Detail, ch)
	counter(descRetriesRefused, p.sum(func(w *worker) uint64 { return w.metrics.RetriesRefused.Load() }))
	counter(descRetries, p.sum(func(w *worker) uint64 { return w.metrics.Retries.Load() }))
	counter(descBytes, p.sum(func(w *worker) uint64 { return w.metrics.Sent.Load() }), "sent")
	counter(descBytes, p.sum(func(w *worker) uint64 { return w.metrics.Received.Load() }), "received")
	counter(descLingerBytes, p.sum(func(w *worker) uint64 { return w.metrics.Linger.Bytes.Load() }))
	counter(descLingerCut, p.sum(func(w *worker) uint64 { return w.metrics.Linger.Cut.Load() }))
	ch <- p.histogram(descDuration, func(w *worker) *exchange.Histogram { return &w.metrics.Durations })
	ch <- p.histogram(descFirstByte, func(w *worker) *exchange.Histogram { return &w.metrics.FirstByte })
	gauge(descPending, float64(p.queue.Waiting()))
	gauge(descConnections, float64(p.open()))
	gauge(descActive, float64(p.sum(func(w *worker) uint64 { return uint64(w.stats.Active.Load()) })))
	counter(descAccepted, p.sum(func(w *worker) uint64 { return w.stats.Accepted.Load() }))
	counter(descAcceptErrors, p.sum(func(w *worker) uint64 { return w.stats.AcceptErrors.Load() }))
	counter(descPanics, p.sum(func(w *worker) uint64 { return w.metrics.Panics.Load() }))
	for i, reason := range server.HeaderFaults {
		counter(descHeadersRefused, p.sum(func(w *worker) uint64 { return w.stats.HeadersRefused[i].Load() }), reason)
	}
	counter(descHTTP2Connections, p.sum(func(w *worker) uint64 { return w.stats.HTTP2.Connections.Load() }))
	counter(descHTTP2Streams, p.sum(func(w *worker) uint64 { return w.stats.HTTP2.Streams.Load() }))
	for r := range http2.Refusals {
		counter(descHTTP2Refused, p.sum(func(w *worker) uint64 { return w.stats.HTTP2.Refused[r].Load() }), r.String())
	}
	for f := range http2.Faults {
		counter(descHTTP2Errors, p.sum(func(w *worker) uint64 { return w.stats.HTTP2.Errors[f].Load() }), f.String())
	}
	for l := range http2.Limits {
		counter(descHTTP2Cut, p.sum(func(w *worker) uint64 { return w.stats.HTTP2.Cut[l].Load() }), l.String())
	}
	p.collectTLS(counter, gauge)
	p.collectHealth(ch)
	collectNames(counter)
	counter(descHTTP3Connections, p.sum(func(w *worker) uint64 { return w.quic.stats.Connections.Load() }))
	gauge(descHTTP3Open, float64(p.sum(func(w *worker) uint64 { return uint64(w.quic.stats.Open.Load()) })))
	counter(descHTTP3Requests, p.sum(func(w *worker) uint64 { return w.quic.stats.Requests.Load() }))
	counter(descHTTP3Refused, p.sum(func(w *worker) uint64 { return w.quic.stats.Refused.Load() }))
	counter(descHTTP3Retried, p.sum(func(w *worker) uint64 { return w.quic.stats.Retried.Load() }))
	for i, reason := range http3.HandshakeFaults {
		counter(descHTTP3Handshakes, p.sum(func(w *worker) uint64 { return w.quic.stats.HandshakesFailed[i].Load() }), reason)
	}
	for i, f := range http3.Faults {
		counter(descHTTP3Errors, p.sum(func(w *worker) uint64 { return w.quic.stats.Errors[i].Load() }), f.Token)
	}
	flag(descAgent, p.connected.Load())
	flag(descServing, p.serving.Load())
	gauge(descGeneration, float64(p.published.Load()))
	gauge(descConfigVersion, float64(p.config.Load().Version))
	counter(descConfigRefused, p.refused.Load())
	for _, w := range p.options.Walls {
		raised := 0.0
		if w.Err == nil {
			raised = 1
		}
		ch <- prometheus.MustNewConstMetric(descConfined, prometheus.GaugeValue, raised, w.Name)
	}
	counter(descLogDropped, p.options.Access.Dropped.Load())
}

func (p *Proxy) sum(of func(*worker) uint64) (sum uint64) {
	for _, w := range p.running() {
		sum += of(w)
	}
	return sum
}

func (p *Proxy) histogram(d *prometheus.Desc, of func(*worker) *exchange.Histogram) prometheus.Metric {
	var count, sum uint64
	buckets := make(map[float64]uint64, len(exchange.Bounds))
	workers := p.running()
	for i, bound := range exchange.Bounds {
		for _, w := range workers {
			count += of(w).Buckets[i].Load()
		}
		buckets[bound.Seconds()] = count
	}
	for _, w := range workers {
		count += of(w).Buckets[len(exchange.Bounds)].Load()
		sum += of(w).Sum.Load()
	}
	return prometheus.MustNewConstHistogram(d, count, time.Duration(sum).Seconds(), buckets)
}
