//go:build linux

package e2e

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// A request that no pod can answer is answered by the proxy, which says why. The statuses
// and tokens are what operators alert on.
func TestUpstreamFaults(t *testing.T) {
	s := newSite(t, 1, []app{{"web", 1}, {"empty", 0}, {"refusing", 1}},
		lab.Path{Host: webHost, Path: "/", Service: "web"},
		lab.Path{Host: webHost, Path: "/empty", Service: "empty"},
		lab.Path{Host: webHost, Path: "/refusing", Service: "refusing"},
		lab.Path{Host: webHost, Path: "/no-service", Service: "unheard-of"},
		lab.Path{Host: webHost, Path: "/no-port", Service: "web", Port: "unheard-of"},
	)
	s.web["refusing-1"].Kill()
	for _, tc := range []struct {
		path   string
		status int
		reason string
	}{
		{"/empty", 503, "no_endpoint"},
		{"/no-service", 503, "no_service"},
		{"/no-port", 503, "no_service"},
		{"/refusing", 502, "connect_failed"},
		{"/?raw=close", 502, "upstream_closed"},
		{"/?raw=cut-head", 502, "upstream_aborted"},
		{"/?raw=garbage", 502, "upstream_invalid"},
		{"/?raw=bad-length", 502, "upstream_invalid"},
		{"/?raw=length-and-chunked", 502, "upstream_invalid"},
		{"/?raw=huge-head", 502, "upstream_invalid"},
	} {
		r := s.get("http://" + webHost + tc.path)
		if r.Status != tc.status || r.reason() != tc.reason {
			t.Errorf("GET %s: status %d, reason %q, want %d %s; %.100q", tc.path, r.Status, r.reason(), tc.status, tc.reason, r.Body)
		}
	}
	// Broken off within the body: the client must not take it for whole.
	for _, raw := range []string{"cut-body", "cut-chunk", "bad-chunk"} {
		if r, err := s.do(http.MethodGet, "http://"+webHost+"/?raw="+raw, nil); err == nil && r.Status == http.StatusOK {
			t.Errorf("raw=%s: status 200 with a whole body %q", raw, r.Body)
		}
	}
	if r := s.get("http://" + webHost + "/fine"); r.Pod.Path != "/fine" {
		t.Errorf("after all faults: %d %s", r.Status, r.Body)
	}
}

// A pod that refuses connections costs no request while another accepts them.
func TestRetryOnAnotherPod(t *testing.T) {
	s := webSite(t, 3)
	s.web["web-2"].Kill()
	for range 60 {
		r, err := s.do(http.MethodPost, "http://"+webHost+"/", strings.NewReader("a body that must not be lost"))
		must(t, err)
		if r.Status != http.StatusOK || r.Pod.BodySHA256 != sumOf("a body that must not be lost") {
			t.Fatalf("status %d %s", r.Status, r.Body)
		}
		if r.Pod.Pod == "web-2" {
			t.Fatal("a dead pod answered")
		}
	}
}

// A kept connection to a pod that the pod closed meanwhile costs no request, if the request
// may be repeated.
func TestPodClosesKeptConnections(t *testing.T) {
	s := webSite(t, 1)
	pod := s.pods["web"][0]
	s.web[pod.Name].Kill()
	process, err := pod.Serve(s.Binaries.Path("pod"), "web", "-idle", "30ms")
	must(t, err)
	s.web[pod.Name] = process
	for i := range 60 {
		if r := s.get("http://" + webHost + "/"); r.Status != http.StatusOK {
			t.Fatalf("request %d: status %d %s", i, r.Status, r.Body)
		}
		// Around the pod's own time-out, so that closes meet requests on their way.
		time.Sleep(time.Duration(25+i%10) * time.Millisecond)
	}
}

// A pod that does not answer packets at all: the connect times out, another pod is tried.
func TestSilentPod(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a connect time-out of seconds")
	}
	s := webSite(t, 1)
	silent := lab.Endpoint{Address: netip.MustParseAddr("10.244.1.250"), Node: "node-1", Pod: "silent"}
	// A route to nowhere: packets to it vanish.
	node := s.Node
	must(t, node.Blackhole(silent.Address))
	must(t, s.Manifests.Write("web.yaml", lab.Service("web"), lab.EndpointSlice("web", s.pods["web"][0].Endpoint(false), silent)))
	for range 4 {
		begin := time.Now()
		r := s.get("http://" + webHost + "/")
		if r.Status != http.StatusOK {
			t.Errorf("status %d %s after %s", r.Status, r.Body, time.Since(begin).Round(time.Millisecond))
		}
	}
}
