//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// Each time-out of the agent's flags ends what it is about, and nothing else.
func TestTimeouts(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--head-timeout=400ms", "--idle-timeout=700ms", "--response-timeout=600ms", "--body-timeout=400ms")
	s.start()
	took := func(limit time.Duration, f func()) {
		t.Helper()
		begin := time.Now()
		f()
		if d := time.Since(begin); d > limit {
			t.Errorf("it took %s, want less than %s", d, limit)
		}
	}
	t.Run("a pod that does not answer", func(t *testing.T) {
		took(4*time.Second, func() {
			if r := s.get("http://" + webHost + "/?delay=10s"); r.Status != 504 || r.reason() != "upstream_timeout" {
				t.Errorf("%d %s, want 504 upstream_timeout", r.Status, r.Body)
			}
		})
	})
	t.Run("a pod that is slow, but not too slow between its bytes", func(t *testing.T) {
		if r := s.get("http://" + webHost + "/?chunks=6&interval=300ms"); r.Status != 200 || len(r.Body) != 60 {
			t.Errorf("%d, %d bytes", r.Status, len(r.Body))
		}
	})
	t.Run("a pod that stops within its answer", func(t *testing.T) {
		took(4*time.Second, func() {
			if r, err := s.do("GET", "http://"+webHost+"/?chunks=2&interval=10s", nil); err == nil {
				t.Errorf("%d with a whole body %q", r.Status, r.Body)
			}
		})
	})
	t.Run("a client that does not finish its head", func(t *testing.T) {
		w := s.dial()
		w.send("GET / HTTP/1.1\r\nHost: host")
		took(4*time.Second, func() {
			if r, err := w.tryReceive("GET"); err != nil || r.Status != 408 {
				t.Errorf("%v, %v, want 408", r, err)
			}
			w.wantClosed()
		})
	})
	t.Run("a client that does not finish its body", func(t *testing.T) {
		w := s.dial()
		w.send("POST / HTTP/1.1\r\nHost: host.example.com\r\nContent-Length: 100\r\n\r\nhalf")
		took(4*time.Second, func() {
			if r, err := w.tryReceive("POST"); err != nil || r.Status != 408 || r.reason() != "client_timeout" {
				t.Errorf("%v, %v, want 408 client_timeout", r, err)
			}
			w.wantClosed()
		})
	})
	t.Run("a client that sends nothing more", func(t *testing.T) {
		w := s.dial()
		w.send("GET / HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		w.receive("GET")
		took(4*time.Second, w.wantClosed)
	})
	t.Run("a WebSocket may be silent", func(t *testing.T) {
		ws, err := s.openWebSocket()
		must(t, err)
		select { // longer than every time-out above
		case <-time.After(1500 * time.Millisecond):
		case <-s.Agent.Done():
		}
		if err := ws.Echo([]byte("still there"), 5*time.Second); err != nil {
			t.Errorf("the silent WebSocket was cut: %v", err)
		}
	})
}

// The limits of the agent's flags, at and above.
func TestLimits(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--max-body=1000", "--max-head=4096")
	s.start()
	post := func(n int, chunked bool) *reply {
		t.Helper()
		var body io.Reader = strings.NewReader(strings.Repeat("x", n))
		if chunked {
			body = io.MultiReader(body) // of unknown length
		}
		r, err := s.do(http.MethodPost, "http://"+webHost+"/", body)
		must(t, err)
		return r
	}
	for _, chunked := range []bool{false, true} {
		if r := post(1000, chunked); r.Status != 200 || r.Pod.BodyBytes != 1000 {
			t.Errorf("a body of the largest size, chunked %t: %d %s", chunked, r.Status, r.Body)
		}
		if r := post(1001, chunked); r.Status != 413 || r.reason() != "body_too_large" {
			t.Errorf("a body one byte too large, chunked %t: %d %s", chunked, r.Status, r.Body)
		}
	}
	if r := s.get("http://"+webHost+"/", "X-Long: "+strings.Repeat("a", 3000)); r.Status != 200 {
		t.Errorf("a head of 3 KiB: %d", r.Status)
	}
	if r := s.get("http://"+webHost+"/", "X-Long: "+strings.Repeat("a", 5000)); r.Status != 431 {
		t.Errorf("a head of 5 KiB: %d, want 431", r.Status)
	}
}

// Packets of a denied source never reach the proxy; an exception from the prefix does, and
// other traffic of the node is left alone.
func TestDeniedSources(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.start()
	restart := func(args ...string) {
		t.Helper()
		must(t, s.Agent.Stop(15*time.Second))
		s.Args = args
		must(t, s.Kerngate.Start())
	}
	client := s.lab.Client
	dial := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		conn, err := client.Dial(ctx, "tcp", netip.AddrPortFrom(s.lab.VIP4, 80).String())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	must(t, dial())
	restart("--deny", "192.0.2.0/24")
	must(t, lab.Until(10*time.Second, "silence for a denied client", func() error {
		var timeout net.Error
		if err := dial(); errors.As(err, &timeout) && timeout.Timeout() {
			return nil
		} else {
			return fmt.Errorf("connect: %v", err)
		}
	}))
	// The node's own address, and IPv6, are not meant.
	listener, err := s.Node.Listen("tcp", ":9999")
	must(t, err)
	defer listener.Close()
	must(t, client.WaitListening(netip.AddrPortFrom(s.Node.IPv4, 9999)))
	restart("--deny", "192.0.2.0/24", "--allow", client.IPv4.String()+"/32")
	must(t, lab.Until(10*time.Second, "answer for an allowed client", dial))
}

// What Prometheus and the kubelet ask.
func TestMetricsAndHealth(t *testing.T) {
	s := webSite(t, 2)
	for range 25 {
		s.get("http://" + webHost + "/")
	}
	s.get("http://unknown.test/")
	for process, address := range map[string]string{"agent": lab.MetricsAddress, "proxy": lab.ProxyMetricsAddress} {
		client := s.Node.HTTPClient(netip.MustParseAddrPort(address))
		defer client.CloseIdleConnections()
		get := func(path string) (int, string) {
			t.Helper()
			response, err := client.Get("http://" + address + path)
			must(t, err)
			r, err := readReply(response)
			must(t, err)
			return r.Status, string(r.Body)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if status, body := get(path); status != 200 {
				t.Errorf("%s%s: %d %s", process, path, status, body)
			}
		}
		if status, body := get("/metrics"); status != 200 || !strings.Contains(body, "kerngate_"+process+"_") {
			t.Errorf("%s/metrics: %d, without kerngate_%s_", process, status, process)
		}
	}
	out := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_requests_total")
	if !strings.Contains(out, "forwarded") || !strings.Contains(out, "no_route") {
		t.Errorf("kerngate_proxy_requests_total does not tell forwarded and no_route apart:\n%s", out)
	}
	if out := s.metrics(lab.MetricsAddress, "kerngate_kernel_packets_total"); !strings.Contains(out, `{program="kg_lookup",reason="steered"}`) {
		t.Errorf("kerngate_kernel_packets_total does not count what kg_lookup steered:\n%s", out)
	}
}

// metrics returns the lines of one metric.
func (s *site) metrics(address, name string) string {
	s.t.Helper()
	client := s.Node.HTTPClient(netip.MustParseAddrPort(address))
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + address + "/metrics")
	must(s.t, err)
	r, err := readReply(response)
	must(s.t, err)
	var lines strings.Builder
	for line := range strings.Lines(string(r.Body)) {
		if strings.HasPrefix(line, name) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// The access log has a line of JSON for each request when it is on.
func TestAccessLog(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--access-log=on")
	s.start()
	for i := range 20 {
		s.get(fmt.Sprintf("http://%s/logged/%d", webHost, i))
	}
	s.get("http://unknown.test/not-routed")
	must(t, lab.Until(5*time.Second, "20 lines in the access log", func() error {
		log := s.Agent.Log()
		if n := strings.Count(log, "/logged/"); n != 20 {
			return fmt.Errorf("%d lines", n)
		}
		if !strings.Contains(log, "no_route") {
			return errors.New("no line with no_route")
		}
		return nil
	}))
}
