// Package scrape answers requests for metrics, a few at a time. A scrape costs as much as it has
// series, and whoever reaches the address may ask: without a bound it takes the processors of the
// requests that are to be served.
package scrape

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Most is how many scrapes are answered at once: two servers of Prometheus, and somebody who looks.
const Most = 4

// retryAfter, in seconds, is longer than a scrape takes.
const retryAfter = "5"

// Handler answers with the registry's metrics, and registers the count of those that it refused.
func Handler(registry *prometheus.Registry) http.Handler {
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kerngate_metrics_refused_total",
		Help: "Requests for metrics that were answered with 503, because as many as are answered at once were under way.",
	})
	registry.MustRegister(refused)
	return bounded(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), refused)
}

func bounded(next http.Handler, refused prometheus.Counter) http.Handler {
	slots := make(chan struct{}, Most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		default:
			refused.Inc()
			w.Header().Set("Retry-After", retryAfter)
			http.Error(w, "too many scrapes are under way", http.StatusServiceUnavailable)
		}
	})
}
