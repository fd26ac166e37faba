//go:build linux

package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// loggedEventually waits until the agent's log, which has the proxy's, contains a text.
func (s *site) loggedEventually(text string) {
	s.t.Helper()
	must(s.t, lab.Until(10*time.Second, "a line with "+text, func() error {
		if log := s.Agent.Log(); !strings.Contains(log, text) {
			return fmt.Errorf("the log ends with\n%s", s.Agent.LogTail(5))
		}
		return nil
	}))
}

// A pod that fails its health checks gets no requests though Kubernetes calls it ready, and is
// asked again when it has come back.
func TestHealthChecks(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 2}}, lab.Path{Host: webHost, Service: "web"})
	service := lab.Service("web")
	for key, value := range map[string]string{"health-check": "http:/", "health-check-interval": "200ms", "health-check-timeout": "1s", "health-check-unhealthy": "2"} {
		lab.Annotate(service, "kerngate.dev/"+key, value)
	}
	ill := s.pods["web"][0]
	must(t, s.Manifests.Write("web.yaml", service, lab.EndpointSlice("web", ill.Endpoint(false), s.pods["web"][1].Endpoint(false))))
	s.start()
	checked := func(health string, n int) {
		t.Helper()
		must(t, lab.Until(10*time.Second, fmt.Sprintf("%d pods %s", n, health), func() error {
			out, err := s.Ctl("backends", "default/web:http")
			if err == nil && strings.Count(out, health) != n {
				err = fmt.Errorf("kerngatectl says\n%s", out)
			}
			return err
		}))
	}
	checked("check", 0)
	must(t, s.web[ill.Name].Stop(5*time.Second))
	checked("check", 1)
	for range 40 {
		if r := s.get("http://" + webHost + "/"); r.Status != http.StatusOK || r.Pod.Pod == ill.Name {
			t.Fatalf("%d from %q", r.Status, r.Pod.Pod)
		}
	}
	s.serve(ill, "web")
	checked("check", 0)
	s.eventually("http://"+webHost+"/", "answers from the pod that is back", func(r *reply) bool { return r.Pod.Pod == ill.Name })
}

// A rule for retries has another pod asked, and the log tells of it.
func TestRetries(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 2}})
	s.Args = append(s.Args, "--access-log=on", "--access-log-format={ingress} {method} {path} {status} tries={tries}")
	must(t, s.Manifests.Write("ingress.yaml", annotated("retried", webHost, "web", nginx+"proxy-next-upstream", "error http_503", nginx+"proxy-next-upstream-tries", "2")))
	s.start()
	s.eventually("http://"+webHost+"/", "answers", func(r *reply) bool { return r.Status == http.StatusOK })
	if r := s.get("http://" + webHost + "/?status=503"); r.Status != http.StatusServiceUnavailable || r.Pod.Pod == "" {
		t.Errorf("%d from %q", r.Status, r.Pod.Pod)
	}
	s.loggedEventually("default/retried GET / 503 tries=2\n")
	if r, err := s.do(http.MethodPost, "http://"+webHost+"/?status=503", strings.NewReader("x")); err != nil || r.Status != http.StatusServiceUnavailable {
		t.Errorf("%v, %v", r, err)
	}
	s.loggedEventually("default/retried POST / 503 tries=1\n")
}

// Responses are compressed by the agent's flags, and as an Ingress wants it.
func TestCompressedResponses(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--compression=gzip", "--compression-types=application/octet-stream,text/plain", "--access-log=on", "--access-log-format=combined")
	must(t, s.Manifests.Write("plain.yaml", annotated("plain", "plain.example.com", "web", "kerngate.dev/compression", "off")))
	s.start()
	s.eventually("http://plain.example.com/", "answers", func(r *reply) bool { return r.Status == http.StatusOK })
	whole := s.get("http://plain.example.com/?size=100000&header=Content-Type:text/plain", "Accept-Encoding: gzip")
	if len(whole.Body) != 100000 || whole.Header.Get("Content-Encoding") != "" {
		t.Fatalf("%d bytes, %v", len(whole.Body), whole.Header)
	}
	r := s.get("http://"+webHost+"/?size=100000&header=Content-Type:text/plain", "Accept-Encoding: gzip")
	if r.Header.Get("Content-Encoding") != "gzip" || r.Header.Get("Vary") != "Accept-Encoding" {
		t.Fatalf("%v", r.Header)
	}
	from, err := gzip.NewReader(bytes.NewReader(r.Body))
	must(t, err)
	body, err := io.ReadAll(from)
	if err != nil || !bytes.Equal(body, whole.Body) || len(r.Body) >= len(body) {
		t.Errorf("%d bytes became %d, %v", len(body), len(r.Body), err)
	}
	if counts := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_compressed_responses_total"); !strings.Contains(counts, `{coding="gzip"} 1`) {
		t.Errorf("metrics: %s", counts)
	}
	s.loggedEventually(`"GET /?size=100000&header=Content-Type:text/plain HTTP/1.1" 200 `)
}

// A pod gets no more requests at a time than its Service says; others wait their turn.
func TestBoundedPods(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	service := lab.Service("web")
	lab.Annotate(service, "kerngate.dev/max-connections", "2")
	lab.Annotate(service, "kerngate.dev/max-pending", "4")
	must(t, s.Manifests.Write("web.yaml", service, lab.EndpointSlice("web", s.pods["web"][0].Endpoint(false))))
	s.start()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	begin := time.Now()
	for range 10 {
		wg.Go(func() {
			r, err := s.do(http.MethodGet, "http://"+webHost+"/?delay=1s", nil)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				got[err.Error()]++
			case r.Status == http.StatusOK:
				got["served"]++
			default:
				got[r.reason()]++
			}
		})
	}
	wg.Wait()
	// One worker more than picks at the same moment may get through (docs/reference.md).
	if got["served"]+got["pods_busy"] != 10 || got["served"] < 6 || got["pods_busy"] < 2 {
		t.Errorf("%v, want about 6 served and 4 refused", got)
	}
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("all of it took %v: nobody has waited", took)
	}
}
