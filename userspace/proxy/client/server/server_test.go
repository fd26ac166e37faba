package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

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

var rawPod = proxytest.RawPod

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

// talk sends a request as it stands and returns all that comes back until the connection
// ends or is silent for a while after want was seen.
func talk(t testing.TB, p *proxytest.Proxy, request string) string {
	t.Helper()
	c := p.Dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read: %v after %q", err, b)
	}
	return string(b)
}

func body(response string) string {
	_, b, _ := strings.Cut(response, "\r\n\r\n")
	return b
}

func TestForwardsAndRebuildsHeaders(t *testing.T) {
	var got *http.Request
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		w.Header().Set("X-Pod", "one")
		w.Header().Set("Keep-Alive", "timeout=5")
		io.WriteString(w, "hello")
	}))
	answer := talk(t, p, "GET /a/b?c=d HTTP/1.1\r\nHost: Example.com:8080\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"+
		"X-Real-IP: 6.6.6.6\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nX-Custom: yes\r\nX-Request-ID: my-id\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") || body(answer) != "hello" {
		t.Fatalf("answer %q", answer)
	}
	for _, want := range []string{"X-Pod: one\r\n", "Content-Length: 5\r\n", "Connection: close\r\n", "Date: "} {
		if !strings.Contains(answer, want) {
			t.Errorf("no %q in %q", want, answer)
		}
	}
	if strings.Contains(answer, "Keep-Alive") {
		t.Errorf("hop-by-hop field passed on: %q", answer)
	}
	if got.Host != "Example.com:8080" || got.RequestURI != "/a/b?c=d" {
		t.Errorf("pod saw host %q, target %q", got.Host, got.RequestURI)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "Example.com:8080",
		"X-Forwarded-Port": strings.Split(p.Address, ":")[1], "X-Request-Id": "my-id", "X-Custom": "yes",
		"Forwarded": "", "X-Real-Ip": "127.0.0.1", "X-Secret": "", "Connection": "",
	} {
		if v := strings.Join(got.Header.Values(name), ","); v != want {
			t.Errorf("pod saw %s %q, want %q", name, v, want)
		}
	}
}

func TestKeepAliveAndPipelining(t *testing.T) {
	var conns sync.Map
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, true)
		io.WriteString(w, r.URL.Path)
	}))
	var in strings.Builder
	for i := range 50 {
		fmt.Fprintf(&in, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
	}
	c := p.Dial(t)
	io.WriteString(c, in.String())
	r := bufio.NewReader(c)
	for i := range 50 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		b, _ := io.ReadAll(resp.Body)
		if string(b) != fmt.Sprintf("/%d", i) {
			t.Fatalf("response %d: %q", i, b)
		}
	}
	n := 0
	conns.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d connections to the pod for 50 requests, want 1", n)
	}
}

func TestPipelinedBodies(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.URL.Path, len(b))
	}))
	chunked := "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
	length := "POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n1234567"
	big := "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000)
	c := p.Dial(t)
	go io.WriteString(c, strings.Repeat(chunked+length+big+"GET /g HTTP/1.1\r\nHost: a\r\n\r\n", 20))
	r := bufio.NewReader(c)
	for i := range 20 {
		for _, want := range []string{"/c 5", "/l 7", "/b 100000", "/g 0"} {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(i, want, err)
			}
			b, _ := io.ReadAll(resp.Body)
			if string(b) != want {
				t.Fatalf("round %d: %q, want %q", i, b, want)
			}
		}
	}
}

func TestOwnAnswers(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	dead := l.Addr().String()
	l.Close()
	p := proxytest.Start(t, []proxytest.Service{
		{Name: "d/ok:80", Host: "a", Path: "/ok", Backends: []string{pod(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })}},
		{Name: "d/none:80", Host: "a", Path: "/none"},
		{Name: "d/dead:80", Host: "a", Path: "/dead", Backends: []string{dead, dead, dead}},
		{Name: "d/shut:80", Host: "a", Path: "/shut", Backends: []string{rawPod(t, func(c net.Conn) { io.ReadFull(c, make([]byte, 16)) })}},
		{Name: "d/junk:80", Host: "a", Path: "/junk", Backends: []string{rawPod(t, func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n\r\n") })}},
		{Name: "d/slow:80", Host: "a", Path: "/slow", Backends: []string{rawPod(t, func(c net.Conn) { io.Copy(io.Discard, c) })}},
	}, &feedpb.Settings{MaxBodyBytes: 1000, ResponseTimeoutMs: 300, HeadTimeoutMs: 300, BodyTimeoutMs: 300})
	for _, c := range []struct {
		request, status, token string
	}{
		{"GET /x HTTP/1.1\r\nHost: b\r\n\r\n", "404 ", "no_route: "},
		{"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "404 ", "no_route: "},
		{"GET /none HTTP/1.1\r\nHost: a\r\n\r\n", "503 ", "no_endpoint: "},
		{"GET /dead HTTP/1.1\r\nHost: a\r\n\r\n", "502 ", "connect_failed: "},
		{"GET /shut HTTP/1.1\r\nHost: a\r\n\r\n", "502 ", "upstream_closed: "},
		{"GET /junk HTTP/1.1\r\nHost: a\r\n\r\n", "502 ", "upstream_invalid: "},
		{"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "504 ", "upstream_timeout: "},
		{"GET /a/../../x HTTP/1.1\r\nHost: a\r\n\r\n", "400 ", "bad_path: "},
		{"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + strings.Repeat("x", 1001), "413 ", "body_too_large: "},
		{"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + strings.Repeat("x", 1001) + "\r\n0\r\n\r\n", "413 ", "body_too_large: "},
		{"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 ", "bad_request: "},
		{"GET / HTTP/1.1\r\n\r\n", "400 ", "bad_request: "},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 40000) + "\r\n\r\n", "431 ", "bad_request: "},
		{"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "", "bad_request: "},
	} {
		answer := talk(t, p, c.request)
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || !strings.HasPrefix(body(answer), c.token) {
			t.Errorf("%.60q: %q, want %s and %s", c.request, answer, c.status, c.token)
		}
	}
	// A client that stops within the head or the body is told so.
	for request, token := range map[string]string{
		"GET /ok HTTP/1.1\r\nHost: a\r\n":                             "client_timeout: ",
		"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx": "client_timeout: ",
	} {
		c := p.Dial(t)
		io.WriteString(c, request)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		answer, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.HasPrefix(body(string(answer)), token) {
			t.Errorf("%q: %q, want 408 %s", request, answer, token)
		}
	}
	for i := range p.View.Loads {
		if n := atomic.LoadUint32(&p.View.Loads[i].InFlight); n != 0 {
			t.Errorf("backend load %d: %d requests in flight at the end", i, n)
		}
	}
}

func TestRetries(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	dead := l.Addr().String()
	l.Close()
	alive := pod(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	p := one(t, dead, alive)
	for range 40 {
		answer := talk(t, p, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody")
		if body(answer) != "body" {
			t.Fatalf("answer %q", answer)
		}
	}
	if p.Metrics.Retries.Load() == 0 {
		t.Error("the dead pod was never tried")
	}
}

// TestStaleConnection: a pod that closes its idle connections must cost no request.
func TestStaleConnection(t *testing.T) {
	var n atomic.Int64
	p := one(t, rawPod(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		n.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		// Closes when the second request is already on its way.
		r.Peek(1)
	}))
	c := p.Dial(t)
	r := bufio.NewReader(c)
	for i := range 20 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "ok" || resp.StatusCode != 200 {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, b)
		}
	}
	// A POST must not be sent twice.
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 502 {
		t.Fatalf("POST on a stale connection: %v %v, want 502", resp, err)
	}
}

// TestAllStale: with every pooled connection gone stale, a request that may be repeated
// still finds a pod.
func TestAllStale(t *testing.T) {
	staler := func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		r.Peek(1) // closes when the second request is already on its way
	}
	var pods []string
	for range 8 {
		pods = append(pods, rawPod(t, staler))
	}
	p := one(t, pods...)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range 200 {
		resp, err := client.Get("http://" + p.Address)
		if err != nil {
			t.Fatal(i, err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(b) != "ok" {
			t.Fatalf("request %d: %d %q", i, resp.StatusCode, b)
		}
	}
	if p.Metrics.Retries.Load() < 100 {
		t.Errorf("%d retries: the connections were not stale", p.Metrics.Retries.Load())
	}
}

// TestLargeBodies moves bodies of many sizes both ways. Those that come in chunks are
// gathered up to 1 MiB, and go to the pod in chunks above.
func TestLargeBodies(t *testing.T) {
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Hash", hex.EncodeToString(h.Sum(nil)))
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(n))
		}
		pattern := bytes.Repeat([]byte("0123456789abcdef"), 4096)
		for left := n; left > 0; {
			k, err := w.Write(pattern[:min(left, int64(len(pattern)))])
			if err != nil {
				return
			}
			left -= int64(k)
		}
	})
	p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}}},
		&feedpb.Settings{RequestBufferBytes: proto.Uint64(1 << 20), LargeRequestsChunked: true})
	for _, size := range []int{0, 1, 2047, 2048, 16383, 16384, 16385, 65536, 1 << 20, 5<<20 + 3} {
		for _, path := range []string{"/length", "/chunked"} {
			for _, chunked := range []bool{false, true} {
				data := make([]byte, size)
				rand.Read(data)
				var in io.Reader = bytes.NewReader(data)
				if chunked {
					in = struct{ io.Reader }{in}
				}
				resp, err := http.Post("http://"+p.Address+path, "application/octet-stream", in)
				if err != nil {
					t.Fatal(size, path, chunked, err)
				}
				out, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || len(out) != size {
					t.Fatal(size, path, chunked, len(out), err)
				}
				if sum := sha256.Sum256(data); resp.Header.Get("X-Hash") != hex.EncodeToString(sum[:]) {
					t.Fatalf("size %d %s chunked %v: the pod got other bytes", size, path, chunked)
				}
				if want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]; size < 65536 && !bytes.Equal(out, want) {
					t.Fatalf("size %d %s chunked %v: the client got other bytes", size, path, chunked)
				}
			}
		}
	}
}

func TestTrailers(t *testing.T) {
	var got http.Header
	p := unbuffered(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got = r.Trailer.Clone()
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "data")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
	}))
	req, _ := http.NewRequest("POST", "http://"+p.Address, struct{ io.Reader }{strings.NewReader("body")})
	req.Trailer = http.Header{"X-Client": {"7"}}
	req.Header.Set("TE", "trailers")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	if got.Get("X-Client") != "7" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("pod got trailers %v, client %v", got, resp.Trailer)
	}
}

func TestContinueAndInterim(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(103)
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	}))
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	r := bufio.NewReader(c)
	seen := map[int]bool{}
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		seen[resp.StatusCode] = true
		if resp.StatusCode == 100 {
			io.WriteString(c, "data")
		}
		if resp.StatusCode == 200 {
			if b, _ := io.ReadAll(resp.Body); string(b) != "data" {
				t.Errorf("body %q", b)
			}
			break
		}
	}
	if !seen[100] || !seen[103] {
		t.Errorf("interim responses seen: %v", seen)
	}
}

func TestHeadAndEmptyStatuses(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "1000")
			if r.Method != "HEAD" {
				w.Write(make([]byte, 1000))
			}
		}
	}))
	c := p.Dial(t)
	io.WriteString(c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\nGET /304 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	r := bufio.NewReader(c)
	for i, m := range []string{"HEAD", "GET", "GET", "GET"} {
		resp, err := http.ReadResponse(r, &http.Request{Method: m})
		if err != nil {
			t.Fatal(i, err)
		}
		b, _ := io.ReadAll(resp.Body)
		if want := []int{200, 204, 304, 200}[i]; resp.StatusCode != want {
			t.Errorf("response %d: status %d, want %d", i, resp.StatusCode, want)
		}
		if want := []int{0, 0, 0, 1000}[i]; len(b) != want {
			t.Errorf("response %d: %d bytes of body, want %d", i, len(b), want)
		}
		if i == 0 && resp.ContentLength != 1000 {
			t.Errorf("HEAD: Content-Length %d, want 1000", resp.ContentLength)
		}
	}
}

func TestHTTP10(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part one,")
		w.(http.Flusher).Flush()
		io.WriteString(w, "part two")
	}))
	answer := talk(t, p, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if body(answer) != "part one,part two" || strings.Contains(answer, "chunked") || !strings.Contains(answer, "Connection: close") {
		t.Errorf("answer %q", answer)
	}
}

func TestUntilCloseResponse(t *testing.T) {
	p := one(t, rawPod(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nuntil the end")
	}))
	resp, err := http.Get("http://" + p.Address)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if string(b) != "until the end" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

// TestTruncatedResponse: a client gets all that came of a response that the pod breaks off,
// then the end of the connection and no reset, which could take away what it has not read;
// and it can tell that the response is not whole.
func TestTruncatedResponse(t *testing.T) {
	const size = 3 << 20 // more than the client's socket buffer takes unread
	for _, c := range []struct{ head, version string }{
		{"Content-Length: 100000000\r\n", "1.1"}, {"Content-Length: 100000000\r\n", "1.0"}, {"Transfer-Encoding: chunked\r\n", "1.1"},
	} {
		t.Run(c.version+" "+c.head, func(t *testing.T) {
			p := one(t, rawPod(t, func(pod net.Conn) {
				http.ReadRequest(bufio.NewReader(pod))
				io.WriteString(pod, "HTTP/1.1 200 OK\r\n"+c.head+"\r\n")
				if strings.HasPrefix(c.head, "T") {
					fmt.Fprintf(pod, "%x\r\n", 2*size)
				}
				pod.Write(make([]byte, size))
			}))
			conn := p.Dial(t)
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: a\r\n\r\n", c.version)
			time.Sleep(200 * time.Millisecond) // so that much waits for a client that is slow
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("after %d bytes: %v", len(got), err)
			}
			r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(got)), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r.Body); err != io.ErrUnexpectedEOF || len(b) != size {
				t.Errorf("%d bytes and %v, want %d and that the end is missing", len(b), err, size)
			}
		})
	}
	t.Run("no framing", func(t *testing.T) {
		p := one(t, rawPod(t, func(pod net.Conn) {
			http.ReadRequest(bufio.NewReader(pod))
			io.WriteString(pod, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello")
		}))
		conn := p.Dial(t)
		io.WriteString(conn, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")
		if b, err := io.ReadAll(conn); err == nil {
			t.Errorf("HTTP/1.0: the client took %q for the whole", b)
		}
	})
}

// TestBodylessFraming: what a pod says about a body that its response cannot have does not
// reach the client (RFC 9110 section 8.6, RFC 9112 section 6.1).
func TestBodylessFraming(t *testing.T) {
	for _, c := range []struct{ head, gone, kept string }{
		{"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding", ""},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n", "Content-Length", ""},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", "Content-Length", ""},
		{"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nHTTP/1.1 204 No Content\r\n", "Content-Length", "103 Early"},
		{"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding", ""},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n", "Transfer-Encoding", "Content-Length: 7\r\n"},
	} {
		p := one(t, rawPod(t, func(pod net.Conn) {
			http.ReadRequest(bufio.NewReader(pod))
			io.WriteString(pod, c.head+"\r\n")
		}))
		answer := talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		if strings.Contains(answer, c.gone) || !strings.Contains(answer, c.kept) {
			t.Errorf("%q became\n%s", c.head, answer)
		}
	}
}

// TestEarlyResponse: an answer that comes before the request's body is passed on at once,
// and the client can read it though it is still sending.
func TestEarlyResponse(t *testing.T) {
	p := one(t, rawPod(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
		io.Copy(io.Discard, c)
	}))
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
	go io.Copy(c, io.LimitReader(neverEnding('x'), 512<<10)) // and never the rest
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 401 || string(b) != "no" || !resp.Close {
		t.Errorf("%d %q, close %v; want 401 and the connection closed", resp.StatusCode, b, resp.Close)
	}
}

type neverEnding byte

func (b neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestUpgrade(t *testing.T) {
	p := one(t, rawPod(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil || req.Header.Get("Upgrade") != "websocket" {
			io.WriteString(c, "HTTP/1.1 400 no\r\nContent-Length: 0\r\n\r\n")
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi ")
		io.Copy(c, r)
		io.WriteString(c, "bye")
	}))
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatal(resp, err)
	}
	io.WriteString(c, "late ")
	c.CloseWrite()
	b, err := io.ReadAll(r)
	if string(b) != "hi early late bye" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	// h2c would let a client talk past the proxy.
	answer := talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
		t.Errorf("h2c upgrade: %q", answer)
	}
}

// TestHalfClose: a client that has sent its request and closed its side gets the answer.
func TestHalfClose(t *testing.T) {
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(100 * time.Millisecond)
		io.WriteString(w, "late")
	}))
	if answer := talk(t, p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); body(answer) != "late" {
		t.Errorf("%q", answer)
	}
}

// TestClientGone: a client that resets its connection frees the pod's.
func TestClientGone(t *testing.T) {
	started, gone := make(chan struct{}), make(chan struct{})
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(gone)
	}))
	c := p.Dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-started
	c.SetLinger(0)
	c.Close()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the pod was not told")
	}
}

// TestBackPressure: neither a slow client nor a slow pod makes the proxy hold more than
// its buffers, which shows in the other side being held up.
func TestBackPressure(t *testing.T) {
	var sent atomic.Int64
	release := make(chan struct{})
	p := one(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			<-release
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n)
			return
		}
		b := make([]byte, 64<<10)
		for range 1024 {
			n, err := w.Write(b)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
	}))
	c := p.Dial(t)
	c.SetReadBuffer(64 << 10)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	settled := waitSettled(&sent)
	if settled > 32<<20 {
		t.Errorf("the pod could send %d bytes to a client that reads nothing", settled)
	}
	if n, _ := io.Copy(io.Discard, c); n < 64<<20 {
		t.Errorf("got %d bytes in the end", n)
	}

	up := p.Dial(t)
	var written atomic.Int64
	go func() {
		io.WriteString(up, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 67108864\r\n\r\n")
		b := make([]byte, 64<<10)
		for range 1024 {
			n, err := up.Write(b)
			if err != nil {
				return
			}
			written.Add(int64(n))
		}
	}()
	if settled := waitSettled(&written); settled > 32<<20 {
		t.Errorf("the client could send %d bytes to a pod that reads nothing", settled)
	}
	close(release)
	b, _ := io.ReadAll(up)
	if body(string(b)) != "67108864" {
		t.Errorf("answer %.200q", b)
	}
}

func waitSettled(v *atomic.Int64) int64 {
	for last := int64(-1); ; {
		time.Sleep(200 * time.Millisecond)
		now := v.Load()
		if now == last {
			return now
		}
		last = now
	}
}

func TestConcurrentLoad(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	}
	p := one(t, pod(t, h), pod(t, h), pod(t, h))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for i := range 64 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range 50 {
				want := strings.Repeat(fmt.Sprintf("%d-%d,", i, j), j*40+1)
				resp, err := client.Post("http://"+p.Address, "text/plain", strings.NewReader(want))
				if err != nil {
					errs <- err
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(b) != want {
					errs <- errors.Join(err, fmt.Errorf("got %d bytes, want %d", len(b), len(want)))
					return
				}
			}
		}()
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	// The last are counted just after their clients have them.
	waitFor(t, func() bool { return p.Metrics.Ended[0].Load() == 3200 })
}
