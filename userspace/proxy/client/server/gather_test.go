package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// lengthPod is like an application under WSGI or PHP-FPM: it knows the body's length from
// Content-Length alone, and takes a body in chunks for an empty one. It answers with what
// it has read, and with the names of fields that it should not have got.
func lengthPod(t testing.TB) string {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			fmt.Fprintf(w, "0 bytes: %v", r.TransferEncoding)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s %d bytes, length %q, trailer %v, expect %q, %v", r.Method, n, r.Header.Get("Content-Length"),
			r.Trailer, r.Header.Get("Expect"), err)
	})
}

const testBound = 100_000 // bytes of a body that are gathered

// gathering starts a proxy that gathers bodies of up to testBound bytes.
func gathering(t testing.TB, backend string, policy *feedpb.Policy, change ...func(*feedpb.Settings)) *proxytest.Proxy {
	t.Helper()
	s := &feedpb.Settings{RequestBufferBytes: proto.Uint64(testBound), AccessLogSample: 1}
	for _, f := range change {
		f(s)
	}
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}, Policy: policy}}, s)
}

// chunks encodes a body in chunks of 10,000 bytes at most.
func chunks(size int) string {
	var b strings.Builder
	for size > 0 {
		n := min(size, 10_000)
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, strings.Repeat("x", n))
		size -= n
	}
	return b.String() + "0\r\n\r\n"
}

func chunkedRequest(method string, size int) string {
	return method + " / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(size)
}

// awaitMemory waits until bodies take so many bytes.
func awaitMemory(t *testing.T, p *proxytest.Proxy, n int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); p.Metrics.BodyMemory.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of bodies are held, want %d", p.Metrics.BodyMemory.Load(), n)
		}
	}
}

func expectNoMemory(t *testing.T, p *proxytest.Proxy) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); p.Metrics.BodyMemory.Load() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of bodies are still held", p.Metrics.BodyMemory.Load())
		}
	}
}

func expectGathered(t *testing.T, p *proxytest.Proxy, outcome exchange.Gathered, n uint64) {
	t.Helper()
	if got := p.Metrics.Gathered[outcome].Load(); got != n {
		t.Errorf("%d bodies with outcome %s, want %d", got, outcome, n)
	}
}

// TestGathersBodies: a pod gets the length of a body that the client sends in chunks.
func TestGathersBodies(t *testing.T) {
	p := gathering(t, lengthPod(t), nil)
	for _, c := range []struct {
		method string
		size   int
		want   string
	}{
		{"POST", 1, `POST 1 bytes, length "1"`},
		{"POST", 5000, `POST 5000 bytes, length "5000"`},
		{"PUT", 16384, `PUT 16384 bytes, length "16384"`},
		{"GET", 70_000, `GET 70000 bytes, length "70000"`},
		{"POST", testBound, `POST 100000 bytes, length "100000"`},
		{"POST", 0, `POST 0 bytes, length "0"`},
		{"DELETE", 0, `DELETE 0 bytes, length "0"`},
		{"GET", 0, `GET 0 bytes, length ""`},
		{"OPTIONS", 0, `OPTIONS 0 bytes, length ""`},
	} {
		if got := body(talk(t, p, chunkedRequest(c.method, c.size))); got != c.want+`, trailer map[], expect "", <nil>` {
			t.Errorf("%s of %d: %q", c.method, c.size, got)
		}
	}
	expectGathered(t, p, exchange.GatheredWhole, 5)
	expectNoMemory(t, p)
}

// TestGathersPipelined: what follows a body that was gathered is the next request.
func TestGathersPipelined(t *testing.T) {
	p := gathering(t, lengthPod(t), nil)
	one := strings.Replace(chunkedRequest("POST", 20_000), "Connection: close\r\n", "", 1)
	got := talk(t, p, one+one+chunkedRequest("POST", 3))
	if strings.Count(got, "POST 20000 bytes") != 2 || strings.Count(got, "POST 3 bytes") != 1 {
		t.Errorf("%q", got)
	}
}

// TestGathersTrailers: behind a body with a length there is no place for them.
func TestGathersTrailers(t *testing.T) {
	p := gathering(t, lengthPod(t), nil)
	got := body(talk(t, p, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"))
	if got != `POST 3 bytes, length "3", trailer map[], expect "", <nil>` {
		t.Errorf("%q", got)
	}
	if n := p.Metrics.TrailersDropped.Load(); n != 1 {
		t.Errorf("%d dropped trailers counted", n)
	}
}

// TestLargerThanGathered: no pod ever takes a body for an empty one unless that was allowed.
func TestLargerThanGathered(t *testing.T) {
	p := gathering(t, lengthPod(t), nil)
	got := talk(t, p, chunkedRequest("POST", testBound+1))
	if !strings.HasPrefix(got, "HTTP/1.1 411 ") || !strings.HasPrefix(body(got), "length_required: ") {
		t.Errorf("%q", got)
	}
	expectGathered(t, p, exchange.GatheredTooLarge, 1)
	if p.Metrics.Ended[exchange.LengthRequired].Load() != 1 {
		t.Error("the reason is not counted")
	}
	expectNoMemory(t, p)

	p = gathering(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes, %v, trailer %s, %v", n, r.TransferEncoding, r.Trailer.Get("X-Sum"), err)
	}), nil, func(s *feedpb.Settings) { s.LargeRequestsChunked = true })
	request := strings.TrimSuffix(chunkedRequest("POST", testBound+250_000), "\r\n") + "X-Sum: 7\r\n\r\n"
	request = strings.Replace(request, "\r\n", "\r\nTE: trailers\r\n", 1)
	if got := body(talk(t, p, request)); got != "350000 bytes, [chunked], trailer 7, <nil>" {
		t.Errorf("%q", got)
	}
	expectGathered(t, p, exchange.GatheredChunked, 1)
	expectNoMemory(t, p)
}

// TestBodyLimitWhileGathering: proxy-body-size answers 413 at once.
func TestBodyLimitWhileGathering(t *testing.T) {
	p := gathering(t, lengthPod(t), &feedpb.Policy{MaxBodyBytes: proto.Uint64(1000)})
	c := p.Dial(t)
	// The body does not end, and the answer comes all the same.
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"+strings.Repeat("x", 1001))
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 413 {
		t.Errorf("%+v %v", r, err)
	}
	expectGathered(t, p, exchange.GatheredFailed, 1)
	expectNoMemory(t, p)
}

// TestGatheringHoldsNoPod: a pod is asked only when the body is there.
func TestGatheringHoldsNoPod(t *testing.T) {
	var ended atomic.Bool
	early := make(chan bool, 1)
	p := gathering(t, rawPod(t, func(c net.Conn) {
		early <- !ended.Load()
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
		}
	}), nil)
	c := p.Dial(t)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	awaitMemory(t, p, 1)
	ended.Store(true)
	io.WriteString(c, "3\r\ndef\r\n0\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r.Body); string(b) != "abcdef" {
		t.Errorf("%q", b)
	}
	if <-early {
		t.Error("the pod was connected to before the body had ended")
	}
	expectNoMemory(t, p)
}

// TestClientsThatGiveUpWhileGathering: one is too slow, one goes away, one sends nonsense.
func TestClientsThatGiveUpWhileGathering(t *testing.T) {
	p := gathering(t, lengthPod(t), nil, func(s *feedpb.Settings) { s.BodyTimeoutMs = 200 })
	begin := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
	c := p.Dial(t)
	io.WriteString(c, begin)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 408 {
		t.Errorf("slow: %+v %v", r, err)
	}
	c = p.Dial(t)
	io.WriteString(c, begin)
	awaitMemory(t, p, 1)
	c.SetLinger(0)
	c.Close()
	expectNoMemory(t, p)
	if got := talk(t, p, begin+"x\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("nonsense: %q", got)
	}
	expectNoMemory(t, p)
	expectGathered(t, p, exchange.GatheredFailed, 3)
	for reason, n := range map[exchange.Reason]uint64{exchange.ClientTimeout: 1, exchange.ClientAborted: 1, exchange.BadRequest: 1} {
		if got := p.Metrics.Ended[reason].Load(); got != n {
			t.Errorf("%d exchanges ended with %s, want %d", got, reason, n)
		}
	}
}

// TestExpectWhileGathering: the client gets its 100 (Continue) without a pod, once, and the
// pod is not asked for another.
func TestExpectWhileGathering(t *testing.T) {
	p := gathering(t, lengthPod(t), nil)
	c := p.Dial(t)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" || err != nil {
		t.Fatalf("%q %v", line, err)
	}
	in.ReadString('\n')
	io.WriteString(c, chunks(30_000))
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r.Body); string(b) != `POST 30000 bytes, length "30000", trailer map[], expect "", <nil>` {
		t.Errorf("%d %q", r.StatusCode, b)
	}
	// Who sends the body without waiting does not get one.
	request := strings.Replace(chunkedRequest("POST", 10), "Host: a", "Host: a\r\nExpect: 100-continue", 1)
	if got := talk(t, p, request); !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, `expect ""`) {
		t.Errorf("%q", got)
	}
}

// TestRulesBeforeGathering: a client that is not let in is not asked for its body.
func TestRulesBeforeGathering(t *testing.T) {
	p := gathering(t, lengthPod(t), &feedpb.Policy{Access: &feedpb.Access{Deny: []string{"127.0.0.0/8"}}})
	c := p.Dial(t)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 403 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestBufferingOff: bodies are passed on as they come, with the pod's own 100 (Continue).
func TestBufferingOff(t *testing.T) {
	p := unbuffered(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // sends 100 if asked to
		fmt.Fprintf(w, "%s %v", b, r.TransferEncoding)
	}))
	c := p.Dial(t)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" || err != nil {
		t.Fatalf("%q %v", line, err)
	}
	in.ReadString('\n')
	io.WriteString(c, "3\r\nabc\r\n0\r\n\r\n")
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(r.Body); string(b) != "abc [chunked]" {
		t.Errorf("%q", b)
	}
	if got := body(talk(t, p, chunkedRequest("GET", 0))); got != " []" {
		t.Errorf("GET in chunks without any: %q", got)
	}
	expectGathered(t, p, exchange.GatheredWhole, 0)
	expectNoMemory(t, p)
}

// TestBufferingOn: a body with a length is gathered, too, if it fits, and streams if not.
func TestBufferingOn(t *testing.T) {
	p := gathering(t, lengthPod(t), &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_ON})
	for i, size := range []int{1, testBound, testBound + 1} {
		got := body(talk(t, p, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))))
		if got != fmt.Sprintf(`POST %d bytes, length "%d", trailer map[], expect "", <nil>`, size, size) {
			t.Errorf("%d: %q", size, got)
		}
		expectGathered(t, p, exchange.GatheredWhole, uint64(min(i+1, 2)))
	}
	expectNoMemory(t, p)
}

// TestGatheringOff: with a bound of 0 nothing is gathered anywhere.
func TestGatheringOff(t *testing.T) {
	p := gathering(t, lengthPod(t), nil, func(s *feedpb.Settings) { s.RequestBufferBytes = proto.Uint64(0) })
	if got := body(talk(t, p, chunkedRequest("POST", 10))); got != "0 bytes: [chunked]" {
		t.Errorf("%q", got)
	}
}

// TestBuffersFull: when memory runs short large bodies are refused, and small ones are not.
func TestBuffersFull(t *testing.T) {
	p := gathering(t, lengthPod(t), nil, func(s *feedpb.Settings) { s.RequestBufferTotal = 200_000 })
	c := p.Dial(t)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n13880\r\n"+strings.Repeat("x", 80_000)+"\r\n")
	awaitMemory(t, p, 80_000)
	got := talk(t, p, chunkedRequest("POST", 90_000))
	if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.HasPrefix(body(got), "request_buffers_full: ") || !strings.Contains(got, "Retry-After: ") {
		t.Errorf("%q", got)
	}
	expectGathered(t, p, exchange.GatheredFull, 1)
	if got := body(talk(t, p, chunkedRequest("POST", 10_000))); !strings.HasPrefix(got, "POST 10000 bytes") {
		t.Errorf("%q", got)
	}
	io.WriteString(c, "0\r\n\r\n")
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
		t.Errorf("%+v %v", r, err)
	}
	expectNoMemory(t, p)
}

// TestGatheredIsRepeated: another pod gets the same body.
func TestGatheredIsRepeated(t *testing.T) {
	broken := rawPod(t, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.Copy(io.Discard, r.Body)
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		}
	})
	p := proxytest.Start(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: []string{broken, lengthPod(t)},
		Policy: &feedpb.Policy{Retry: &feedpb.Retry{On: 0xffff, NonIdempotent: true, Tries: 2}},
	}}, nil)
	for range 20 {
		if got := body(talk(t, p, chunkedRequest("POST", 70_000))); !strings.HasPrefix(got, "POST 70000 bytes") {
			t.Fatalf("%q", got)
		}
	}
	if p.Metrics.Retries.Load() == 0 {
		t.Error("the broken pod was never asked")
	}
	expectNoMemory(t, p)
}

// TestGatheredIsLetGo: while a pod answers, nothing is held that no other pod can get.
func TestGatheredIsLetGo(t *testing.T) {
	read, release := make(chan struct{}), make(chan struct{})
	p := gathering(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(read)
		<-release
	}), nil)
	c := p.Dial(t)
	io.WriteString(c, chunkedRequest("POST", 50_000))
	<-read
	expectNoMemory(t, p)
	close(release)
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestGatheredIsMirrored: the copy has the whole body and its length, also if that is 0.
func TestGatheredIsMirrored(t *testing.T) {
	copies := make(chan string, 1)
	mirror := pod(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		copies <- fmt.Sprintf("%d bytes, length %s, %v", len(b), r.Header.Get("Content-Length"), r.TransferEncoding)
	})
	p := gathering(t, lengthPod(t), &feedpb.Policy{Mirrors: []*feedpb.Mirror{{To: &feedpb.Destination{Service: 9, Authority: "a", Path: "/"}, Body: true}}})
	p.Backend(t, 9, mirror)
	for _, size := range []int{20_000, 0} {
		talk(t, p, chunkedRequest("POST", size))
		select {
		case got := <-copies:
			if got != fmt.Sprintf("%d bytes, length %d, []", size, size) {
				t.Errorf("%d: the mirror got %s", size, got)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%d: the mirror got nothing; of copies %d were sent, %d failed", size,
				p.Metrics.Mirrored[exchange.CopySent].Load(), p.Metrics.Mirrored[exchange.CopyFailed].Load())
		}
	}
}
