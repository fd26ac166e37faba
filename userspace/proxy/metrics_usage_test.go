package proxy

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kerngate/kerngate/userspace/model"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/observe/usage"
)

// page collects what a book comes to.
type page struct {
	*usage.Book
	Detail
}

func (p page) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range usageDescs {
		ch <- d
	}
}
func (p page) Collect(ch chan<- prometheus.Metric) { collectUsage(p.Book, p.Detail, ch) }

// scraped returns the series of a book as Prometheus reads them.
func scraped(t *testing.T, b *usage.Book) map[string]float64 {
	t.Helper()
	return scrapeAs(t, b, Full)
}

func scrapeAs(t *testing.T, b *usage.Book, d Detail) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(page{b, d})
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("/metrics: %d %s", w.Code, w.Body)
	}
	series := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		n, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		series[line[:at]] = n
	}
	return series
}

// TestSeriesBound: a scrape of 10,000 Ingresses in use is no longer than --metrics-series
// allows, and adds up to all requests.
func TestSeriesBound(t *testing.T) {
	const most, ingresses = 50, 10_000
	book := usage.NewBook(most, 2)
	var lines []*usage.Line
	metrics := []*exchange.Metrics{{Worker: 0}, {Worker: 1}}
	for i := range ingresses {
		l := book.Line(ingress(fmt.Sprintf("shop/i%d", i)), "shop/s:80")
		lines = append(lines, l)
		metrics[i%2].Record(&exchange.Outcome{Status: 200, Usage: l, Tries: 1}, 1, 100)
	}
	series := scraped(t, book)
	// Of each: requests, bytes, and of durations the buckets, +Inf, sum and count.
	if want := (most+1)*(2+len(usage.Bounds)+3) + 1; len(series) != want {
		t.Errorf("%d series, want %d", len(series), want)
	}
	var requests, durations float64
	for name, n := range series {
		switch {
		case strings.HasPrefix(name, "kerngate_proxy_ingress_requests_total{"):
			requests += n
		case strings.HasPrefix(name, "kerngate_proxy_ingress_request_duration_seconds_count{"):
			durations += n
		}
	}
	if requests != ingresses || durations != ingresses {
		t.Errorf("%v requests and %v durations, want %d", requests, durations, ingresses)
	}
	if n := series["kerngate_proxy_ingress_folded_total"]; n != ingresses-most {
		t.Errorf("%v routes folded, want %d", n, ingresses-most)
	}
	runtime.KeepAlive(lines) // they hold the accounts
}

// TestUsageMetrics: what an Ingress was asked, by what became of it.
func TestUsageMetrics(t *testing.T) {
	book := usage.NewBook(10, 1)
	l := book.Line(ingress("shop/web"), "shop/s:80")
	m := &exchange.Metrics{}
	m.Record(&exchange.Outcome{Status: 200, Usage: l, Tries: 3, Received: 5}, 2_000_000, 100)
	m.Record(&exchange.Outcome{Reason: exchange.RateLimited, Status: 429, Usage: l}, 1000, 50)
	m.Record(&exchange.Outcome{Reason: exchange.NoRoute, Status: 404}, 1000, 50) // nobody's
	m.Record(&exchange.Outcome{Reason: exchange.Crashed, Usage: l}, 1000, 0)
	series := scraped(t, book)
	of := `ingress="shop/web",route_kind="Ingress",service="shop/s:80"`
	for name, want := range map[string]float64{
		`requests_total{class="2xx",` + of + `}`:                                                                        1,
		`requests_total{class="4xx",` + of + `}`:                                                                        1,
		`requests_total{class="none",` + of + `}`:                                                                       1,
		`bytes_total{direction="received",` + of + `}`:                                                                  5,
		`bytes_total{direction="sent",` + of + `}`:                                                                      150,
		`retries_total{` + of + `}`:                                                                                     2,
		`request_duration_seconds_bucket{` + of + `,le="0.001"}`:                                                        2,
		`request_duration_seconds_bucket{` + of + `,le="0.005"}`:                                                        3,
		`request_duration_seconds_sum{` + of + `}`:                                                                      0.002002,
		`unforwarded_requests_total{ingress="shop/web",reason="crashed",route_kind="Ingress",service="shop/s:80"}`:      1,
		`unforwarded_requests_total{ingress="shop/web",reason="rate_limited",route_kind="Ingress",service="shop/s:80"}`: 1,
		`folded_total`: 0,
	} {
		if n, ok := series["kerngate_proxy_ingress_"+name]; !ok || n != want {
			t.Errorf("%s: %v, want %v", name, n, want)
		}
	}
	runtime.KeepAlive(l)
}

// TestDetail: how many series an Ingress and a Service have is as the flag's help says.
func TestDetail(t *testing.T) {
	book := usage.NewBook(10, 1)
	l := book.Line(ingress("shop/web"), "shop/s:80")
	m := &exchange.Metrics{}
	m.Record(&exchange.Outcome{Status: 200, Usage: l, Tries: 1, Received: 5}, 2_000_000, 100)
	for detail, want := range map[Detail]int{Full: 18, Brief: 6, None: 0} {
		n := 0
		for name := range scrapeAs(t, book, detail) {
			if strings.Contains(name, `ingress="shop/web"`) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %d series, want %d", Details[detail], n, want)
		}
	}
	runtime.KeepAlive(l)
}

// ingress names an Ingress by "namespace/name".
func ingress(name string) model.ObjectRef {
	namespace, name, _ := strings.Cut(name, "/")
	return model.ObjectRef{Kind: "Ingress", Namespace: namespace, Name: name}
}
