package http2_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// pod starts an HTTP server and returns its address.
func pod(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// echo answers with the request's body.
func echo(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }

// one starts a proxy with one service of these pods.
func one(t testing.TB, backends ...string) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: backends}}, nil)
}

// unbuffered is like one, with proxy-request-buffering: "off".
func unbuffered(t testing.TB, backends ...string) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: backends,
		Policy: &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_OFF},
	}}, nil)
}

// client is net/http's, speaking HTTP/2 with prior knowledge.
func client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// dialTo makes connections to whatever address to holds, whatever is asked for.
func dialTo(to *atomic.Pointer[string]) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, *to.Load())
	}
}

func TestGoClient(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Pod", "one")
		w.Header().Add("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s %s %d", r.Method, r.Host, r.RequestURI, len(b))
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "done")
	}))
	c := client(t)
	for _, size := range []int{0, 1, 5000, 70000, 3 << 20} {
		req, _ := http.NewRequest("POST", "http://"+p.Address+"/a/b?c=d", strings.NewReader(strings.Repeat("x", size)))
		req.Header.Set("TE", "trailers")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(size, err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != 200 {
			t.Fatalf("%d: %v %s %s", size, err, resp.Proto, resp.Status)
		}
		if want := fmt.Sprintf("POST %s /a/b?c=d %d", p.Address, size); string(b) != want {
			t.Fatalf("%q, want %q", b, want)
		}
		if resp.Header.Get("X-Pod") != "one" || resp.Trailer.Get("X-Sum") != "done" {
			t.Errorf("header %v, trailer %v", resp.Header, resp.Trailer)
		}
	}
}

// TestLargeResponses: many at once, larger than any window.
func TestLargeResponses(t *testing.T) {
	block := strings.Repeat("0123456789abcdef", 4096)
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		for range 64 {
			io.WriteString(w, block)
		}
	}))
	c := client(t)
	done := make(chan error)
	for range 20 {
		go func() {
			resp, err := c.Get("http://" + p.Address + "/")
			if err == nil {
				var n int64
				n, err = io.Copy(io.Discard, resp.Body)
				if err == nil && n != 64*int64(len(block)) {
					err = fmt.Errorf("%d bytes", n)
				}
			}
			done <- err
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
