package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/spool"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

const large = 20_000_000 // bytes of a body

// spooling starts a proxy that keeps bodies above testBound bytes in files.
func spooling(t *testing.T, backend string, policy *feedpb.Policy, total int64, change ...func(*feedpb.Settings)) (*proxytest.Proxy, *spool.Dir) {
	t.Helper()
	p := gathering(t, backend, policy, change...)
	return p, p.Spool(t, total)
}

// upload sends a body without a length, and returns the answer.
func upload(t testing.TB, p *proxytest.Proxy, method string, b io.Reader) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+p.Address, struct{ io.Reader }{b})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func expectUpload(t testing.TB, p *proxytest.Proxy, method string, size int64) {
	t.Helper()
	if status, got := upload(t, p, method, proxytest.NewBody(size)); status != 200 || got != proxytest.SumOf(size) {
		t.Errorf("%s of %d bytes: %d %q", method, size, status, got)
	}
}

// start begins a chunked request on a connection of its own.
func start(t *testing.T, p *proxytest.Proxy, chunk int) *net.TCPConn {
	t.Helper()
	c := p.Dial(t)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", chunk, strings.Repeat("x", chunk))
	return c
}

func expectAnswer(t *testing.T, c net.Conn, status int, begin string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return
	}
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != status || !strings.HasPrefix(string(b), begin) {
		t.Errorf("%d %q %v, want %d %q", r.StatusCode, b, err, status, begin)
	}
}

// awaitFiles waits until so many files hold bodies.
func awaitFiles(t *testing.T, d *spool.Dir, n int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); d.Files() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d files, want %d", d.Files(), n)
		}
	}
}

// memoryMost is what a body may take of memory while it is spooled and sent to the pod: what is
// gathered before, a piece on its way to the file or from it, and the last of each size of buffer.
const memoryMost = testBound + 256<<10 + 256<<10 + 64<<10 + 16<<10

// TestSpools: a body of unknown length that is too large for memory reaches the pod whole, with
// its length. Meanwhile the proxy's memory is bounded, and the file has no name.
func TestSpools(t *testing.T) {
	var most atomic.Int64
	var p *proxytest.Proxy
	note := func() { most.Store(max(most.Load(), p.Metrics.BodyMemory.Load())) }
	p, d := spooling(t, pod(t, func(w http.ResponseWriter, r *http.Request) {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, writer(func(b []byte) { note() })), r.Body}
		proxytest.SumPod(w, r)
	}), nil, 64<<20)
	for i, method := range []string{"POST", "PUT"} {
		files := int64(0)
		b := proxytest.NewBody(large)
		b.Before = func(int64) {
			note()
			files = max(files, d.Files())
		}
		if status, got := upload(t, p, method, b); status != 200 || got != proxytest.SumOf(large) {
			t.Errorf("%s: %d %q", method, status, got)
		}
		if files != 1 {
			t.Errorf("%d files", files)
		}
		p.NothingHeld(t)
		expectGathered(t, p, exchange.GatheredSpooled, uint64(i+1))
	}
	if n := most.Load(); n < testBound || n > memoryMost {
		t.Errorf("a body took %d bytes of memory, want %d to %d", n, testBound, memoryMost)
	}
	// What fits into memory needs no file, and the first byte beyond it does.
	for _, size := range []int64{1, testBound, testBound + 1, testBound + 300_000} {
		expectUpload(t, p, "POST", size)
	}
	expectGathered(t, p, exchange.GatheredWhole, 2)
	expectGathered(t, p, exchange.GatheredSpooled, 4)
}

type writer func(b []byte)

func (f writer) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// TestSpoolsPipelined: what follows a body that was spooled is the next request.
func TestSpoolsPipelined(t *testing.T) {
	p, _ := spooling(t, lengthPod(t), nil, 64<<20)
	one := strings.Replace(chunkedRequest("POST", 700_000), "Connection: close\r\n", "", 1)
	got := talk(t, p, one+one+chunkedRequest("POST", 3))
	if strings.Count(got, "POST 700000 bytes") != 2 || strings.Count(got, "POST 3 bytes") != 1 {
		t.Errorf("%q", got)
	}
}

// TestSpoolsWhenMemoryIsShort: a body that would get 503 for want of memory goes to a file.
func TestSpoolsWhenMemoryIsShort(t *testing.T) {
	p, d := spooling(t, lengthPod(t), nil, 64<<20, func(s *feedpb.Settings) { s.RequestBufferTotal = 200_000 })
	c := start(t, p, 80_000)
	awaitMemory(t, p, 80_000)
	if got := body(talk(t, p, chunkedRequest("POST", 90_000))); !strings.HasPrefix(got, "POST 90000 bytes") {
		t.Errorf("%q", got)
	}
	expectGathered(t, p, exchange.GatheredSpooled, 1)
	io.WriteString(c, "0\r\n\r\n")
	expectAnswer(t, c, 200, "POST 80000 bytes")
	if d.Held() != 0 {
		t.Error("held")
	}
}

// TestSpoolTotal: the files of all requests are bounded together. One that finds no room gets
// 503; one that can never find any gets 411, as it would get by with a length.
func TestSpoolTotal(t *testing.T) {
	p, d := spooling(t, lengthPod(t), nil, 2<<20)
	c := start(t, p, 1<<20+500_000)
	awaitFiles(t, d, 1)
	for deadline := time.Now().Add(10 * time.Second); d.Held() < 2<<20 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	got := talk(t, p, chunkedRequest("POST", 200_000))
	if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.HasPrefix(body(got), "request_buffers_full: ") || !strings.Contains(got, "Retry-After: ") {
		t.Errorf("%q", got)
	}
	expectGathered(t, p, exchange.GatheredSpoolFull, 1)
	if got := body(talk(t, p, chunkedRequest("POST", 50_000))); !strings.HasPrefix(got, "POST 50000 bytes") {
		t.Errorf("a small one: %q", got)
	}
	io.WriteString(c, "0\r\n\r\n")
	expectAnswer(t, c, 200, "POST 1548576 bytes")
	if got := body(talk(t, p, chunkedRequest("POST", 200_000))); !strings.HasPrefix(got, "POST 200000 bytes") {
		t.Errorf("when there is room again: %q", got)
	}
	if status, got := upload(t, p, "POST", proxytest.NewBody(3<<20)); status != 411 || !strings.HasPrefix(got, "length_required: ") {
		t.Errorf("%d %q", status, got)
	}
	expectGathered(t, p, exchange.GatheredTooLarge, 1)
}

// TestSpoolFails: a disk without space is a 507 with its own reason for the request that needs
// it. Everything else is served, and so is the next when there is space again.
func TestSpoolFails(t *testing.T) {
	p, d := spooling(t, pod(t, proxytest.SumPod), nil, 64<<20)

	calls := 0
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		if calls++; calls > 2 { // one write fits
			return 0, unix.ENOSPC
		}
		return unix.Pwritev(fd, pieces[:1], offset)
	})
	if status, got := upload(t, p, "POST", proxytest.NewBody(large)); status != 507 || !strings.HasPrefix(got, "request_spool_failed") || !strings.Contains(got, "enospc") {
		t.Errorf("%d %q", status, got)
	}
	proxytest.Counted(t, p.Metrics, exchange.SpoolFailed, 1)
	expectGathered(t, p, exchange.GatheredSpoolFailed, 1)
	if said := p.Said.String(); !strings.Contains(said, "no space left on device") || !strings.Contains(said, "--request-spool-dir") {
		t.Errorf("logged: %s", said)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.Log.String(), `"status":507,"reason":"request_spool_failed"`); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("access log: %s", p.Log.String())
		}
	}
	p.NothingHeld(t)
	expectUpload(t, p, "POST", 50_000)
	expectLength(t, p, large)
	d.SetWrite(unix.Pwritev)
	expectUpload(t, p, "POST", large)
}

// expectLength uploads a body with a length.
func expectLength(t *testing.T, p *proxytest.Proxy, size int64) {
	t.Helper()
	r, err := http.NewRequest("POST", "http://"+p.Address, proxytest.NewBody(size))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = size
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != proxytest.SumOf(size) {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
}

// TestSlowDisk: while the disk does not answer the worker's other clients are served, also those
// that send small bodies without a length. A client that leaves meanwhile leaves nothing behind.
func TestSlowDisk(t *testing.T) {
	p, d := spooling(t, pod(t, proxytest.SumPod), nil, 64<<20)
	stuck, goOn := make(chan bool, 2), make(chan bool)
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		stuck <- true
		<-goOn
		return unix.Pwritev(fd, pieces, offset)
	})
	c, gone := start(t, p, 200_000), start(t, p, 200_000)
	<-stuck
	<-stuck
	expectUpload(t, p, "POST", 50_000)
	expectLength(t, p, large)
	gone.SetLinger(0)
	gone.Close()
	expectUpload(t, p, "POST", 1) // and the worker has heard of it
	close(goOn)
	awaitFiles(t, d, 1)
	io.WriteString(c, "0\r\n\r\n")
	expectAnswer(t, c, 200, "length 200000, 200000 bytes")
	proxytest.Counted(t, p.Metrics, exchange.ClientAborted, 1)
	p.NothingHeld(t)
}

// TestSpooledIsRepeated: another pod gets the same body, from its beginning.
func TestSpooledIsRepeated(t *testing.T) {
	for name, broken := range map[string]string{
		"answers 503": rawPod(t, func(c net.Conn) {
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.Copy(io.Discard, r.Body)
				io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			}
		}),
		"breaks off in the middle": rawPod(t, func(c net.Conn) {
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.CopyN(io.Discard, r.Body, large/2)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			p := proxytest.Start(t, []proxytest.Service{{
				Name: "default/a:80", Path: "/", Backends: []string{broken, pod(t, proxytest.SumPod)},
				Policy: &feedpb.Policy{Retry: &feedpb.Retry{On: 0xffff, NonIdempotent: true, Tries: 2}},
			}}, &feedpb.Settings{RequestBufferBytes: proto.Uint64(testBound)})
			p.Spool(t, 64<<20)
			for range 4 { // of two pods one is the first
				expectUpload(t, p, "POST", large)
			}
			if p.Metrics.Retries.Load() == 0 {
				t.Error("nothing was repeated")
			}
		})
	}
}

// TestLargeRequests: what is set takes precedence over the folder.
func TestLargeRequests(t *testing.T) {
	for name, c := range map[string]struct {
		policy *feedpb.Policy
		change func(*feedpb.Settings)
		want   string
	}{
		"refuse":                      {nil, func(s *feedpb.Settings) { s.LargeRequestsRefused = true }, "length_required: "},
		"chunked":                     {nil, func(s *feedpb.Settings) { s.LargeRequestsChunked = true }, "0 bytes: [chunked]"},
		"proxy-request-buffering off": {&feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_OFF}, func(*feedpb.Settings) {}, "0 bytes: [chunked]"},
	} {
		p, d := spooling(t, lengthPod(t), c.policy, 64<<20, c.change)
		d.SetWrite(func(int, [][]byte, int64) (int, error) {
			t.Errorf("%s: a file was written", name)
			return 0, unix.EIO
		})
		if status, got := upload(t, p, "POST", proxytest.NewBody(200_000)); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %d %q", name, status, got)
		}
	}
}

// TestBodyLimitWhileSpooling: proxy-body-size answers 413 as soon as it is exceeded.
func TestBodyLimitWhileSpooling(t *testing.T) {
	p, d := spooling(t, lengthPod(t), &feedpb.Policy{MaxBodyBytes: proto.Uint64(1_000_000)}, 64<<20)
	c := start(t, p, 900_000)
	awaitFiles(t, d, 1)
	fmt.Fprintf(c, "%x\r\n%s\r\n", 100_001, strings.Repeat("x", 100_001)) // it does not end
	expectAnswer(t, c, 413, "body_too_large: ")
	p.NothingHeld(t)
	expectGathered(t, p, exchange.GatheredFailed, 1)
}

// TestBufferingOnSpools: a body with a length is spooled where an Ingress wants it read first.
// Where that is impossible it goes to the pod as it comes, first what was read.
func TestBufferingOnSpools(t *testing.T) {
	p, d := spooling(t, pod(t, proxytest.SumPod), &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_ON}, 32<<20)
	expectLength(t, p, large)
	expectGathered(t, p, exchange.GatheredSpooled, 1)
	expectLength(t, p, 40_000_000) // larger than all files may be
	expectGathered(t, p, exchange.GatheredSpooled, 1)

	for fits := range 4 {
		calls := 0
		d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
			if calls++; calls > fits {
				return 0, unix.EDQUOT
			}
			return unix.Pwritev(fd, pieces, offset)
		})
		expectLength(t, p, large)
	}
	p.NothingHeld(t)
	expectGathered(t, p, exchange.GatheredSpooled, 1)
	expectGathered(t, p, exchange.GatheredSpoolFailed, 0)
}

// TestBufferingOnWithoutRoom: the same where there is no folder, and others take the memory.
func TestBufferingOnWithoutRoom(t *testing.T) {
	p := gathering(t, pod(t, proxytest.SumPod), &feedpb.Policy{RequestBuffering: feedpb.RequestBuffering_BUFFER_ON}, func(s *feedpb.Settings) {
		s.RequestBufferBytes, s.RequestBufferTotal = proto.Uint64(4<<20), 300_000
	})
	expectLength(t, p, 4_000_000)
	expectNoMemory(t, p)
}

// TestPodAnswersEarly: a pod need not take a body that was spooled to be heard.
func TestPodAnswersEarly(t *testing.T) {
	p, _ := spooling(t, rawPod(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
			time.Sleep(100 * time.Millisecond) // so that no reset comes before it
		}
	}), nil, 64<<20)
	if status, got := upload(t, p, "POST", proxytest.NewBody(large)); status != 401 || got != "no" {
		t.Errorf("%d %q", status, got)
	}
	p.NothingHeld(t)
}

// TestSpoolCannotBeRead: the pod never takes a part of the body for all of it, and is not to blame.
func TestSpoolCannotBeRead(t *testing.T) {
	whole := make(chan bool, 1)
	p, d := spooling(t, rawPod(t, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, err := io.Copy(io.Discard, r.Body)
			whole <- err == nil
		}
	}), nil, 64<<20)
	var written atomic.Int64
	d.SetWrite(func(fd int, pieces [][]byte, offset int64) (int, error) {
		n, err := unix.Pwritev(fd, pieces, offset)
		written.Add(int64(n))
		return n, err
	})
	c := start(t, p, 1_000_000)
	const stays = (16 + 3*64) << 10 // in memory at most; the next buffer would make it a piece for the file
	for deadline := time.Now().Add(10 * time.Second); written.Load() < 1_000_000-stays; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are written", written.Load())
		}
	}
	truncateSpooled(t) // what is left of the body does not go there
	io.WriteString(c, "0\r\n\r\n")
	expectAnswer(t, c, 507, "request_spool_failed")
	if <-whole {
		t.Error("the pod took what it got for a whole body")
	}
	p.NothingHeld(t)
	if p.Metrics.Ended[exchange.SpoolFailed].Load() != 1 {
		t.Error("it is not counted")
	}
}

// truncateSpooled empties the file that holds a body, as no disk should.
func truncateSpooled(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := "/proc/self/fd/" + e.Name()
		if to, _ := os.Readlink(path); strings.HasPrefix(to, os.TempDir()) && strings.HasSuffix(to, " (deleted)") {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("there is no file")
}

// TestDrainWhileGathering: a proxy that is replaced waits for bodies that it gathers, in memory
// and in files.
func TestDrainWhileGathering(t *testing.T) {
	p, d := spooling(t, lengthPod(t), nil, 64<<20)
	inMemory, inFile := start(t, p, 50_000), start(t, p, 500_000)
	awaitMemory(t, p, 50_000)
	awaitFiles(t, d, 1)
	done := make(chan bool)
	p.Loop.Submit(func() {
		p.Server.Drain()
		p.Server.StopListening()
		p.Server.CloseIdle()
		close(done)
	})
	<-done
	for _, c := range []net.Conn{inMemory, inFile} {
		fmt.Fprintf(c, "%x\r\n%s\r\n", 400_000, strings.Repeat("x", 400_000))
	}
	awaitFiles(t, d, 2)
	for _, c := range []net.Conn{inMemory, inFile} {
		io.WriteString(c, "0\r\n\r\n")
	}
	expectAnswer(t, inMemory, 200, "POST 450000 bytes")
	expectAnswer(t, inFile, 200, "POST 900000 bytes")
}

// TestPagesWhileGathering: the service for error pages answers in place of 411, 413 and 507
// while the body is still coming.
func TestPagesWhileGathering(t *testing.T) {
	pages := pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "page for %s", r.Header.Get("X-Code"))
	})
	policy := &feedpb.Policy{ErrorPages: &feedpb.ErrorPages{Status: []uint32{411, 413, 507}, Service: 60}}
	for status, set := range map[int]func(*testing.T) *proxytest.Proxy{
		411: func(t *testing.T) *proxytest.Proxy { return gathering(t, lengthPod(t), policy) },
		413: func(t *testing.T) *proxytest.Proxy {
			return gathering(t, lengthPod(t), policy, func(s *feedpb.Settings) { s.MaxBodyBytes = 100_000 })
		},
		507: func(t *testing.T) *proxytest.Proxy {
			p, d := spooling(t, lengthPod(t), policy, 64<<20)
			d.SetWrite(func(int, [][]byte, int64) (int, error) { return 0, unix.EIO })
			return p
		},
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			p := set(t)
			p.Backend(t, 60, pages)
			c := start(t, p, 200_000)
			expectAnswer(t, c, http.StatusTeapot, fmt.Sprintf("page for %d", status))
			// A client that sends all of its body before it listens gets the same.
			if got, text := upload(t, p, "POST", proxytest.NewBody(2_000_000)); got != http.StatusTeapot || text != fmt.Sprintf("page for %d", status) {
				t.Errorf("%d %q", got, text)
			}
			p.NothingHeld(t)
		})
	}
}
