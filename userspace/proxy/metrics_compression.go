package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/text/compression"
)

var (
	descCompressed = prometheus.NewDesc("kerngate_proxy_compressed_responses_total",
		"Responses that were compressed, by content coding.", []string{"coding"}, nil)
	descUncompressed = prometheus.NewDesc("kerngate_proxy_uncompressed_responses_total",
		"Responses of routes with compression that went out as pods sent them, by reason.", []string{"reason"}, nil)
	descCompressedBytes = prometheus.NewDesc("kerngate_proxy_compression_bytes_total",
		"Bytes of compressed responses, as pods sent them (in) and as clients got them (out).", []string{"direction"}, nil)
)

var compressionDescs = []*prometheus.Desc{descCompressed, descUncompressed, descCompressedBytes}

func (p *Proxy) collectCompression(counter func(d *prometheus.Desc, v uint64, labels ...string)) {
	for e := compression.Gzip; e < compression.Encodings; e++ {
		counter(descCompressed, p.sum(func(w *worker) uint64 { return w.metrics.Compressed[e].Load() }), e.String())
	}
	for u := range exchange.Uncompressed(exchange.UncompressedReasons) {
		counter(descUncompressed, p.sum(func(w *worker) uint64 { return w.metrics.Uncompressed[u].Load() }), u.String())
	}
	counter(descCompressedBytes, p.sum(func(w *worker) uint64 { return w.metrics.PackedIn.Load() }), "in")
	counter(descCompressedBytes, p.sum(func(w *worker) uint64 { return w.metrics.PackedOut.Load() }), "out")
}
