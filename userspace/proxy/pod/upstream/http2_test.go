package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

var h2c = &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2}

// h2Pod serves HTTP/2 with prior knowledge, and nothing else.
func h2Pod(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &protocols}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// start runs a proxy whose one service has these pods, spoken to by HTTP/2.
func start(t testing.TB, settings *feedpb.Settings, pods ...string) *proxytest.Proxy {
	t.Helper()
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: pods, Upstream: h2c}}, settings)
}

// client returns a client of the proxy's that keeps its connections to itself.
func client(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 256}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func get(t *testing.T, c *http.Client, url string) (int, string, *http.Response) {
	t.Helper()
	q, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("TE", "trailers")
	r, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b), r
}

// TestMessages: heads, bodies and trailers pass both ways.
func TestMessages(t *testing.T) {
	pod := h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Uri", r.RequestURI)
		w.Header().Set("X-Said", r.Header.Get("X-Say")+r.Trailer.Get("X-Later"))
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength, len(body)))
		w.Header().Set("X-For", r.Header.Get("X-Forwarded-For"))
		w.Header().Set("X-Te", r.Header.Get("Te"))
		switch r.URL.Path {
		case "/trailers":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "body")
			w.(http.Flusher).Flush() // else its length is told, and HTTP/1.1 has no place for trailers
			w.Header().Set("X-Sum", "1234")
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/empty":
		case "/hints":
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "after hints")
		default:
			w.Write(body)
		}
	}))
	p := start(t, nil, pod)
	c := client(t)
	url := "http://" + p.Address

	status, _, r := get(t, c, url+"/none?a=b&c")
	if status != 204 || r.Header.Get("X-Proto") != "HTTP/2.0" || r.Header.Get("X-Uri") != "/none?a=b&c" || r.Header.Get("X-For") != "127.0.0.1" || r.Header.Get("X-Host") != p.Address {
		t.Errorf("%d %v", status, r.Header)
	}
	if status, body, r := get(t, c, url+"/empty"); status != 200 || body != "" || r.ContentLength != 0 {
		t.Errorf("%d %q %d", status, body, r.ContentLength)
	}
	if status, body, _ := get(t, c, url+"/hints"); status != 200 || body != "after hints" {
		t.Errorf("%d %q", status, body)
	}
	if _, body, r := get(t, c, url+"/trailers"); body != "body" || r.Trailer.Get("X-Sum") != "1234" {
		t.Errorf("%q %v", body, r.Trailer)
	}
	if r, err := c.Head(url + "/trailers"); err != nil || r.StatusCode != 200 {
		t.Errorf("HEAD: %v %v", r, err)
	}
	// A body that takes many windows, both ways.
	large := strings.Repeat("0123456789abcdef", 1<<18)
	for _, known := range []bool{true, false} {
		q, _ := http.NewRequest("POST", url+"/echo", strings.NewReader(large))
		if !known {
			q.ContentLength = -1
			q.Trailer = http.Header{"X-Later": {"later"}}
		}
		q.Header.Set("X-Say", "said")
		q.Header.Set("TE", "gzip, trailers")
		r, err := c.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || string(b) != large {
			t.Fatalf("%d bytes of %d came back, %v", len(b), len(large), err)
		}
		want, said := fmt.Sprint(len(large), len(large)), "said"
		if !known {
			want, said = fmt.Sprint(-1, len(large)), "saidlater"
		}
		if r.Header.Get("X-Length") != want || r.Header.Get("X-Said") != said || r.Header.Get("X-Te") != "trailers" {
			t.Errorf("known %t: %v", known, r.Header)
		}
	}
	proxytest.Counted(t, p.Metrics, exchange.Forwarded, 1)
}

// TestSharing: requests of many clients share a connection up to what the pod allows, take
// more connections beyond, and are spread over the pods one by one.
func TestSharing(t *testing.T) {
	var mu sync.Mutex
	served := map[string]int{}
	conns := map[string]bool{}
	pod := func(name string) string {
		return h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			served[name]++
			conns[name+r.RemoteAddr] = true
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			io.WriteString(w, name)
		}))
	}
	p := start(t, nil, pod("a"), pod("b"))
	c := client(t)
	const requests = 600
	var wg sync.WaitGroup
	slots := make(chan struct{}, 200)
	for range requests {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			r, err := c.Get("http://" + p.Address)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			if b, err := io.ReadAll(r.Body); err != nil || len(b) != 1 {
				t.Errorf("%q %v", b, err)
			}
		}()
	}
	wg.Wait()
	if served["a"]+served["b"] != requests || served["a"] < requests/4 || served["b"] < requests/4 {
		t.Errorf("not balanced: %v", served)
	}
	if n := len(conns); n > 6 {
		t.Errorf("%d connections for at most 200 requests at a time, of 128 streams", n)
	}
}

// TestFullDuplex: a response begins before its request has ended, and every piece passes
// as soon as it comes.
func TestFullDuplex(t *testing.T) {
	pod := h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				io.WriteString(w, "end\n")
				return
			}
			io.WriteString(w, "got "+line)
			w.(http.Flusher).Flush()
		}
	}))
	p := start(t, nil, pod)
	body, write := io.Pipe()
	q, _ := http.NewRequest("POST", "http://"+p.Address, body)
	r, err := client(t).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(r.Body)
	for i := range 50 {
		fmt.Fprintf(write, "line %d\n", i)
		if got, err := in.ReadString('\n'); err != nil || got != fmt.Sprintf("got line %d\n", i) {
			t.Fatalf("%q %v", got, err)
		}
	}
	write.Close()
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "end\n" {
		t.Errorf("%q %v", rest, err)
	}
}

// quiet takes what net/http logs of connections that are meant to fail.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
