package scrape

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// slow is a collector that answers when it may.
type slow struct{ begun, may chan struct{} }

func (s slow) Describe(chan<- *prometheus.Desc) {}

func (s slow) Collect(chan<- prometheus.Metric) {
	s.begun <- struct{}{}
	<-s.may
}

func scrape(h http.Handler) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w
}

// TestBound: while as many scrapes are under way as may be, a further one is refused and counted;
// afterwards all are answered again.
func TestBound(t *testing.T) {
	s := slow{make(chan struct{}, Most+1), make(chan struct{})}
	registry := prometheus.NewPedanticRegistry()
	h := Handler(registry)
	registry.MustRegister(s)
	done := make(chan int)
	for range Most {
		go func() { done <- scrape(h).Code }()
	}
	for range Most {
		<-s.begun
	}
	if w := scrape(h); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	close(s.may)
	for range Most {
		if code := <-done; code != http.StatusOK {
			t.Errorf("one that was under way: %d", code)
		}
	}
	w := scrape(h)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "kerngate_metrics_refused_total 1\n") {
		t.Errorf("afterwards: %d\n%s", w.Code, w.Body)
	}
}
