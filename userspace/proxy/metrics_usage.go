package proxy

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
)

// Of each Ingress and Service that was asked for something. Counts that are 0 are left out,
// but for those of whole requests.
var (
	usageLabels = []string{"route_kind", "ingress", "service"}

	descUsageRequests = prometheus.NewDesc("kerngate_proxy_ingress_requests_total",
		"Requests by Ingress, Service and class of status; none: the client went away before. An empty ingress: the default service; an empty service: one that does not exist.",
		[]string{"route_kind", "ingress", "service", "class"}, nil)
	descUsageEnded = prometheus.NewDesc("kerngate_proxy_ingress_unforwarded_requests_total",
		"Requests that did not end with a pod's whole response, by Ingress, Service and reason: refusals, redirects, failures.",
		[]string{"route_kind", "ingress", "service", "reason"}, nil)
	descUsageFaults = prometheus.NewDesc("kerngate_proxy_ingress_upstream_errors_total",
		"Attempts at pods that failed, also those that another pod made good, by Ingress, Service and reason.",
		[]string{"route_kind", "ingress", "service", "reason"}, nil)
	descUsageRetries = prometheus.NewDesc("kerngate_proxy_ingress_retries_total",
		"Requests that were offered to a further pod, by Ingress and Service.", usageLabels, nil)
	descUsageBytes = prometheus.NewDesc("kerngate_proxy_ingress_bytes_total",
		"Bytes of responses (sent) and of request bodies (received), by Ingress and Service.",
		[]string{"route_kind", "ingress", "service", "direction"}, nil)
	descUsageDuration = prometheus.NewDesc("kerngate_proxy_ingress_request_duration_seconds",
		"From a request's head to the end of its response, by Ingress and Service.", usageLabels, nil)
	descUsageFolded = prometheus.NewDesc("kerngate_proxy_ingress_folded_total",
		"Routes whose requests are counted as ingress and service \"other\", because there are more in use than --metrics-series.", nil, nil)
)

var usageDescs = []*prometheus.Desc{descUsageRequests, descUsageEnded, descUsageFaults, descUsageRetries,
	descUsageBytes, descUsageDuration, descUsageFolded}

// Detail says how much metrics tell of each Ingress and Service. A pair of them that was asked,
// with responses of one class of status, has 18 series in full.
type Detail uint8

const (
	Full  Detail = iota // everything
	Brief               // no buckets of durations, but their number and sum: 6 series
	None                // nothing
)

// Details are the names of the Details, as --metrics-detail takes them.
var Details = [...]string{Full: "full", Brief: "brief", None: "none"}

func collectUsage(b *usage.Book, detail Detail, ch chan<- prometheus.Metric) {
	if detail == None {
		return
	}
	ch <- prometheus.MustNewConstMetric(descUsageFolded, prometheus.CounterValue, float64(b.Folded()))
	for _, a := range b.Accounts() {
		counter := func(d *prometheus.Desc, of func(*usage.Cell) *atomic.Uint64, label ...string) {
			if n := a.Sum(of); n > 0 {
				ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append([]string{a.Object.Kind, a.Object.FullName(), a.Service}, label...)...)
			}
		}
		for i, class := range classes {
			counter(descUsageRequests, func(c *usage.Cell) *atomic.Uint64 { return &c.Status[i] }, class)
		}
		for r := exchange.Forwarded + 1; r < exchange.Reasons; r++ {
			counter(descUsageEnded, func(c *usage.Cell) *atomic.Uint64 { return &c.Ended[r] }, r.String())
			counter(descUsageFaults, func(c *usage.Cell) *atomic.Uint64 { return &c.Faults[r] }, r.String())
		}
		counter(descUsageRetries, func(c *usage.Cell) *atomic.Uint64 { return &c.Retries })
		counter(descUsageBytes, func(c *usage.Cell) *atomic.Uint64 { return &c.Sent }, "sent")
		counter(descUsageBytes, func(c *usage.Cell) *atomic.Uint64 { return &c.Received }, "received")

		var count uint64
		buckets := make(map[float64]uint64, len(usage.Bounds))
		for i, bound := range usage.Bounds {
			count += a.Sum(func(c *usage.Cell) *atomic.Uint64 { return &c.Buckets[i] })
			if detail == Full {
				buckets[bound.Seconds()] = count
			}
		}
		count += a.Sum(func(c *usage.Cell) *atomic.Uint64 { return &c.Buckets[len(usage.Bounds)] })
		sum := time.Duration(a.Sum(func(c *usage.Cell) *atomic.Uint64 { return &c.Sum }))
		ch <- prometheus.MustNewConstHistogram(descUsageDuration, count, sum.Seconds(), buckets, a.Object.Kind, a.Object.FullName(), a.Service)
	}
}
