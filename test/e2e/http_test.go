//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

const webHost = "host.example.com"

// webSite has one service, web, at every path of host.example.com.
func webSite(t *testing.T, pods int) *site {
	t.Helper()
	return newSite(t, 1, []app{{"web", pods}}, lab.Path{Host: webHost, Service: "web"})
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// HTTP/1.1 (RFC 9110, 9112) between a client, the proxy and a pod.
func TestHTTP1(t *testing.T) {
	s := webSite(t, 1)
	run := func(name string, test func(t *testing.T, w *wire)) {
		t.Run(name, func(t *testing.T) {
			w := s.dial()
			w.t = t
			defer w.Close()
			test(t, w)
		})
	}

	run("chunked request", func(t *testing.T, w *wire) {
		w.send("POST /x HTTP/1.1\r\nHost: host.example.com\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
			"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n")
		r := w.receive("POST")
		if r.Pod.BodyBytes != 11 || r.Pod.BodySHA256 != sumOf("hello world") {
			t.Errorf("the pod got %d bytes: %+v", r.Pod.BodyBytes, r.Pod)
		}
		// The pod gets the body's length, behind which there is no place for trailers.
		if len(r.Pod.TransferEncoding) > 0 || len(r.Pod.Trailers) > 0 {
			t.Errorf("the pod got Transfer-Encoding %v and trailers %v", r.Pod.TransferEncoding, r.Pod.Trailers)
		}
	})
	run("request with Content-Length", func(t *testing.T, w *wire) {
		w.send("PUT /x HTTP/1.1\r\nHost: host.example.com\r\nContent-Length: 11\r\n\r\nhello world")
		if r := w.receive("PUT"); r.Pod.BodySHA256 != sumOf("hello world") || len(r.Pod.TransferEncoding) > 0 || r.Pod.Method != "PUT" {
			t.Errorf("the pod saw %+v", r.Pod)
		}
	})
	run("chunked response with trailers", func(t *testing.T, w *wire) {
		w.send("GET /?chunks=20&size=5000&trailers=1 HTTP/1.1\r\nHost: host.example.com\r\nTE: trailers\r\n\r\n")
		r := w.receive("GET")
		if len(r.Body) != 5000 || r.Whole.Trailer.Get("X-Body-Sha256") != sumOf(strings.Repeat("x", 5000)) {
			t.Errorf("%d bytes, trailers %v", len(r.Body), r.Whole.Trailer)
		}
	})
	run("chunks pass as they come", func(t *testing.T, w *wire) {
		w.send("GET /?chunks=3&size=30&interval=300ms HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		begin := time.Now()
		response, err := http.ReadResponse(w.in, nil)
		must(t, err)
		_, err = io.ReadFull(response.Body, make([]byte, 10))
		must(t, err)
		if first := time.Since(begin); first > 250*time.Millisecond {
			t.Errorf("the first chunk came after %s: it was held back until the second", first)
		}
		_, err = io.ReadAll(response.Body)
		must(t, err)
	})
	run("Expect: 100-continue", func(t *testing.T, w *wire) {
		w.send("POST /x HTTP/1.1\r\nHost: host.example.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		line, err := w.in.ReadString('\n')
		must(t, err)
		if !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("got %q, want 100 Continue before the body", line)
		}
		for line != "\r\n" {
			line, err = w.in.ReadString('\n')
			must(t, err)
		}
		w.send("hello")
		if r := w.receive("POST"); r.Status != 200 || r.Pod.BodyBytes != 5 {
			t.Errorf("status %d, the pod got %d bytes", r.Status, r.Pod.BodyBytes)
		}
		w.send("GET /again HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Pod.Path != "/again" {
			t.Errorf("next request on the connection: %d %s", r.Status, r.Body)
		}
	})
	run("HEAD", func(t *testing.T, w *wire) {
		w.send("HEAD /?size=100000 HTTP/1.1\r\nHost: host.example.com\r\n\r\nGET /next HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		r := w.receive("HEAD")
		if r.Header.Get("Content-Length") != "100000" || len(r.Body) != 0 {
			t.Errorf("Content-Length %q, %d bytes", r.Header.Get("Content-Length"), len(r.Body))
		}
		if r := w.receive("GET"); r.Pod.Path != "/next" {
			t.Errorf("after HEAD: %d %s", r.Status, r.Body)
		}
	})
	run("204 and 304 have no body", func(t *testing.T, w *wire) {
		for _, status := range []int{204, 304} {
			w.send(fmt.Sprintf("GET /?status=%d HTTP/1.1\r\nHost: host.example.com\r\n\r\n", status))
			if r := w.receive("GET"); r.Status != status || len(r.Body) > 0 || r.Header.Get("Transfer-Encoding") != "" {
				t.Errorf("want %d without a body, got %d with %q", status, r.Status, r.Body)
			}
		}
		w.send("GET /next HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Pod.Path != "/next" {
			t.Errorf("after 304: %d %s", r.Status, r.Body)
		}
	})
	run("103 Early Hints come before the answer", func(t *testing.T, w *wire) {
		w.send("GET /?hints=1 HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Status != 103 || r.Header.Get("Link") == "" {
			t.Errorf("first: %d %v, want 103 with Link", r.Status, r.Header)
		}
		if r := w.receive("GET"); r.Status != 200 || r.Pod.Pod != "web-1" {
			t.Errorf("second: %d %s", r.Status, r.Body)
		}
	})
	run("pipelined requests are answered in order", func(t *testing.T, w *wire) {
		var all strings.Builder
		for i := range 20 {
			if i%5 == 0 {
				fmt.Fprintf(&all, "POST /%d?delay=20ms HTTP/1.1\r\nHost: host.example.com\r\nContent-Length: 3\r\n\r\nabc", i)
			} else {
				fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: host.example.com\r\n\r\n", i)
			}
		}
		w.send(all.String())
		for i := range 20 {
			if r := w.receive("GET"); r.Pod.Path != fmt.Sprintf("/%d", i) {
				t.Fatalf("answer %d is for %q: %d %s", i, r.Pod.Path, r.Status, r.Body)
			}
		}
	})
	run("a request that arrives byte by byte", func(t *testing.T, w *wire) {
		for _, c := range "POST /slow HTTP/1.1\r\nHost: host.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
			w.send(string(c))
		}
		if r := w.receive("POST"); r.Pod.Path != "/slow" || r.Pod.BodyBytes != 3 {
			t.Errorf("%d %s", r.Status, r.Body)
		}
	})
	run("HTTP/1.0", func(t *testing.T, w *wire) {
		w.send("GET /old?chunks=3 HTTP/1.0\r\nHost: host.example.com\r\n\r\n")
		r := w.receive("GET")
		if r.Status != 200 || len(r.Body) != 30 || len(r.Whole.TransferEncoding) > 0 {
			t.Errorf("status %d, %d bytes, encoded as %v; want 30 bytes up to the close", r.Status, len(r.Body), r.Whole.TransferEncoding)
		}
		w.wantClosed()
	})
	run("HTTP/1.0 with keep-alive", func(t *testing.T, w *wire) {
		for range 2 {
			w.send("GET /old HTTP/1.0\r\nHost: host.example.com\r\nConnection: keep-alive\r\n\r\n")
			r := w.receive("GET")
			if r.Pod.Path != "/old" || !strings.EqualFold(r.Header.Get("Connection"), "keep-alive") {
				t.Fatalf("status %d, Connection %q", r.Status, r.Header.Get("Connection"))
			}
		}
	})
	run("Connection: close", func(t *testing.T, w *wire) {
		w.send("GET / HTTP/1.1\r\nHost: host.example.com\r\nConnection: close\r\n\r\n")
		if r := w.receive("GET"); r.Status != 200 || !r.Whole.Close {
			t.Errorf("status %d, closes: %t", r.Status, r.Whole.Close)
		}
		w.wantClosed()
	})
	run("a client that sends FIN after its request still gets the answer", func(t *testing.T, w *wire) {
		w.send("GET /?delay=100ms&size=300000 HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		must(t, w.Conn.(*net.TCPConn).CloseWrite())
		if r := w.receive("GET"); r.Status != 200 || len(r.Body) != 300000 {
			t.Errorf("status %d, %d bytes", r.Status, len(r.Body))
		}
		w.wantClosed()
	})
	run("absolute-form target", func(t *testing.T, w *wire) {
		w.send("GET http://host.example.com/abs?q=1 HTTP/1.1\r\nHost: other.test\r\n\r\n")
		if r := w.receive("GET"); r.Pod.URI != "/abs?q=1" || r.Pod.Host != "host.example.com" {
			t.Errorf("status %d, the pod saw %s of %s", r.Status, r.Pod.URI, r.Pod.Host)
		}
	})
	run("asterisk-form target", func(t *testing.T, w *wire) {
		w.send("OPTIONS * HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("OPTIONS"); r.Status >= 500 {
			t.Errorf("status %d %s", r.Status, r.Body)
		}
		w.send("GET /next HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Pod.Path != "/next" {
			t.Errorf("after OPTIONS *: %d %s", r.Status, r.Body)
		}
	})
	run("an answer before the request's body is whole", func(t *testing.T, w *wire) {
		w.send("POST /?early=1&status=403 HTTP/1.1\r\nHost: host.example.com\r\nContent-Length: 1000000\r\n\r\nonly the beginning")
		if r := w.receive("POST"); r.Status != 403 {
			t.Errorf("status %d %s, want the pod's 403 at once", r.Status, r.Body)
		}
	})
	run("answers without length end with the connection", func(t *testing.T, w *wire) {
		for _, raw := range []string{"http10", "no-length"} {
			w.send("GET /?raw=" + raw + " HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
			r := w.receive("GET")
			if r.Status != 200 || string(r.Body) != "until the end of the connection" {
				t.Errorf("%s: %d %q", raw, r.Status, r.Body)
			}
			if r.Whole.Close {
				return // allowed, but only after the first
			}
		}
	})
	run("odd but valid answers", func(t *testing.T, w *wire) {
		w.send("GET /?raw=no-reason HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Status != 200 || string(r.Body) != "ok" {
			t.Errorf("no reason phrase: %d %q", r.Status, r.Body)
		}
		w.send("GET /?raw=hop-headers HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Header.Get("X-Hop") != "" || r.Header.Get("Keep-Alive") != "" || string(r.Body) != "ok" {
			t.Errorf("hop-by-hop fields passed: %v", r.Header)
		}
		w.send("GET /?raw=many-interim HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		for range 3 {
			if r := w.receive("GET"); r.Status != 103 {
				t.Fatalf("want three 103, got %d", r.Status)
			}
		}
		if r := w.receive("GET"); r.Status != 200 {
			t.Errorf("after three 103: %d", r.Status)
		}
	})
	run("bytes after a pod's answer are never an answer", func(t *testing.T, w *wire) {
		w.send("GET /?raw=extra HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); string(r.Body) != "ok" {
			t.Errorf("%d %q", r.Status, r.Body)
		}
		w.send("GET /mine HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Pod.Path != "/mine" {
			t.Errorf("the next request was answered with %d %q", r.Status, r.Body)
		}
	})
}

// Connections to pods are kept and used again, and not shared at the same time.
func TestUpstreamKeepAlive(t *testing.T) {
	s := webSite(t, 1)
	connections := func() (n int) {
		t.Helper()
		_, err := fmt.Sscan(string(s.get("http://"+webHost+"/connections").Body), &n)
		must(t, err)
		return n
	}
	w := s.dial()
	before := connections()
	for range 50 {
		w.send("GET / HTTP/1.1\r\nHost: host.example.com\r\n\r\n")
		if r := w.receive("GET"); r.Status != 200 {
			t.Fatalf("%d %s", r.Status, r.Body)
		}
	}
	// Two workers may each open one.
	if after := connections(); after-before > 3 {
		t.Errorf("50 requests one after the other opened %d connections to the pod", after-before)
	}
}

// A client that sends one byte at a time and one that reads none at all do not disturb others.
func TestSlowClientsDisturbNobody(t *testing.T) {
	s := webSite(t, 1)
	for range 50 {
		s.dial().send("GET /?size=10000000 HTTP/1.1\r\nHost: host.example.com\r\n\r\n") // and read nothing
		s.dial().send("GET / HTTP/1.1\r\nHost: ")                                       // and stop
	}
	for range 20 {
		begin := time.Now()
		if r := s.get("http://" + webHost + "/quick"); r.Pod.Path != "/quick" {
			t.Errorf("%d %s", r.Status, r.Body)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("a request took %s beside slow clients", took)
		}
	}
}
