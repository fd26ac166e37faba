//go:build linux

package e2e

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// TestSpooledBodies: with nothing set but a folder an upload of unknown length, larger than what is held
// in memory, reaches the pod whole. A proxy that is killed in the middle of one leaves nothing.
func TestSpooledBodies(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.start()
	upload := func() {
		t.Helper()
		r, err := s.do(http.MethodPut, "http://"+webHost+"/upload", xs(large))
		must(t, err)
		if r.Status != 200 || r.Pod.BodyBytes != large || r.Pod.BodySHA256 != sumOfXs(t, large) {
			t.Errorf("status %d, the pod got %d bytes, sum %s", r.Status, r.Pod.BodyBytes, r.Pod.BodySHA256)
		}
	}
	upload()
	if counts := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_request_bodies_buffered_total"); !strings.Contains(counts, `{outcome="spooled"} 1`) {
		t.Errorf("an upload was not spooled: %s", counts)
	}

	// Another waits for its end in a file when the proxy is killed.
	body, end := io.Pipe()
	done := make(chan bool)
	go func() {
		defer close(done)
		if r, err := s.do(http.MethodPut, "http://"+webHost+"/upload", body); err == nil {
			t.Errorf("an upload whose proxy was killed was answered with %d", r.Status)
		}
	}()
	_, err := io.CopyN(end, xs(large), 20<<20)
	must(t, err)
	must(t, lab.Until(20*time.Second, "a body in a file", func() error {
		if held := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_request_spool_bytes"); strings.HasSuffix(held, " 0\n") {
			return errors.New(held)
		}
		return nil
	}))
	s.spoolIsEmpty(t)
	pids, err := s.ProxyPIDs()
	must(t, err)
	for _, pid := range pids {
		p, err := os.FindProcess(pid)
		must(t, err)
		must(t, p.Kill())
	}
	end.CloseWithError(io.ErrUnexpectedEOF) // the client waits for its body, whatever has become of the connection
	<-done
	s.spoolIsEmpty(t)
	s.eventually("http://"+webHost+"/", "another proxy", func(r *reply) bool { return r.Status == 200 })
	upload()
}

func (s *site) spoolIsEmpty(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(s.Spool())
	must(t, err)
	if len(entries) > 0 {
		t.Errorf("the folder for request bodies holds %v", entries)
	}
}
