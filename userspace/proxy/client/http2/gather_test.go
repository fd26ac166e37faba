package http2_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

const testBound = 100_000 // bytes of a body that are gathered; more than a stream's first window

// gathering starts a proxy before a pod that knows a body's length from Content-Length alone.
func gathering(t *testing.T, policy *feedpb.Policy) *proxytest.Proxy {
	t.Helper()
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			fmt.Fprint(w, "0 bytes: no length")
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes, expect %q, %v", n, r.Header.Get("Expect"), err)
	})
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}, Policy: policy}},
		&feedpb.Settings{RequestBufferBytes: proto.Uint64(testBound), BodyTimeoutMs: 1000})
}

// awaitMemory waits until bodies take at least so many bytes; 0: none at all.
func awaitMemory(t *testing.T, p *proxytest.Proxy, n int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		held := p.Metrics.BodyMemory.Load()
		if n > 0 && held >= n || n == 0 && held == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of bodies are held, want %d", held, n)
		}
	}
}

// TestGathersBodies: a pod gets the length of a body up to the bound; windows are given back
// while it is gathered, and a larger body is refused.
func TestGathersBodies(t *testing.T) {
	p := gathering(t, nil)
	c := client(t)
	for _, size := range []int{1, 5000, 70_000, testBound, testBound + 1} {
		resp, err := c.Post("http://"+p.Address, "text/plain", struct{ io.Reader }{bytes.NewReader(make([]byte, size))})
		if err != nil {
			t.Fatal(size, err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := fmt.Sprintf(`%d bytes, expect "", <nil>`, size)
		if size > testBound {
			if resp.StatusCode != 411 || !bytes.HasPrefix(b, []byte("length_required: ")) {
				t.Errorf("%d: %d %q", size, resp.StatusCode, b)
			}
		} else if string(b) != want {
			t.Errorf("%d: %q", size, b)
		}
	}
	awaitMemory(t, p, 0)
	if n := p.Metrics.Gathered[exchange.GatheredWhole].Load(); n != 4 {
		t.Errorf("%d bodies were gathered", n)
	}
}

// TestExpectWhileGathering: 100 comes from the proxy, and the pod is not asked for it.
func TestExpectWhileGathering(t *testing.T) {
	c := connect(t, gathering(t, nil))
	c.request(1, false, "PUT", "/", "expect", "100-continue")
	var a answer
	for len(a.interim) == 0 {
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		c.note(&a, f)
	}
	if a.interim[0] != ":status: 100\n" {
		t.Errorf("%q", a.interim)
	}
	c.WriteData(1, true, []byte("hello"))
	if got := c.take(1)[1]; string(got.body) != `5 bytes, expect "", <nil>` || len(got.interim) > 0 {
		t.Errorf("%q %q", got.body, got.interim)
	}
}

// TestClientsThatGiveUpWhileGathering: one resets its stream, one is slow, one sends more than
// it may.
func TestClientsThatGiveUpWhileGathering(t *testing.T) {
	p := gathering(t, &feedpb.Policy{MaxBodyBytes: proto.Uint64(1000)})
	c := connect(t, p)
	c.request(1, false, "POST", "/")
	c.WriteData(1, false, []byte("hello"))
	awaitMemory(t, p, 1)
	c.WriteRSTStream(1, http2.ErrCodeCancel)
	awaitMemory(t, p, 0)

	c.request(3, false, "POST", "/")
	c.WriteData(3, false, []byte("hello"))
	if a := c.take(3)[3]; a.field(":status") != "408" {
		t.Errorf("slow: %+v", a)
	}
	c = connect(t, p)
	c.request(1, false, "POST", "/")
	c.WriteData(1, false, make([]byte, 1001))
	if a := c.take(1)[1]; a.field(":status") != "413" {
		t.Errorf("too much: %+v", a)
	}
	awaitMemory(t, p, 0)
	if n := p.Metrics.Gathered[exchange.GatheredFailed].Load(); n != 3 {
		t.Errorf("%d failures are counted", n)
	}
}

// TestHTTP2PodsGetStreams: they are known to take bodies without a length.
func TestHTTP2PodsGetStreams(t *testing.T) {
	got := make(chan string, 1)
	backend := h2cPod(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 5)
		io.ReadFull(r.Body, b)
		got <- fmt.Sprintf("%s %d", b, r.ContentLength)
	})
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: []string{backend}, Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2},
	}}, nil)
	c := connect(t, p)
	c.request(1, false, "POST", "/")
	c.WriteData(1, false, []byte("hello"))
	select { // before the body has ended
	case s := <-got:
		if s != "hello -1" {
			t.Errorf("the pod got %q", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("the pod got nothing")
	}
}

// h2cPod is like pod, and speaks HTTP/2 with prior knowledge.
func h2cPod(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}
