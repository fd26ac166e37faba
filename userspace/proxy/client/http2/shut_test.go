package http2_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// mostShut is how many requests of a connection a pod may get while the windows for their
// responses are shut.
const mostShut = 8

// countingPod answers with 100,000 bytes and counts requests.
func countingPod(t testing.TB) (address string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	return rawPod(t, func(c net.Conn, in *bufio.Reader, head string) {
		asked.Add(1)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100000))
	}), asked
}

// reaches waits until a number is reached, and looks for a while that it stays the same.
func reaches(t testing.TB, what string, n *atomic.Int64, want int64) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); n.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: %d, want %d", what, n.Load(), want)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if got := n.Load(); got != want {
		t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

// answers are what came on each stream of a connection.
type answers map[uint32]*answer

// collect notes what comes until streams have ended, and wants whole responses on these.
func (got answers) collect(c *raw, ids ...uint32) {
	c.t.Helper()
	of := func(id uint32) *answer {
		if got[id] == nil {
			got[id] = new(answer)
		}
		return got[id]
	}
	for _, id := range ids {
		for !of(id).ended {
			f, err := c.next()
			if err != nil {
				c.t.Fatalf("stream %d: %v", id, err)
			}
			c.note(of(f.Header().StreamID), f)
		}
		if n := len(of(id).body); n != 100000 {
			c.t.Errorf("stream %d: %d bytes", id, n)
		}
	}
}

// othersServed asks on a connection of its own.
func othersServed(t testing.TB, p *proxytest.Proxy) {
	t.Helper()
	c := connect(t, p)
	defer c.Close()
	c.WriteWindowUpdate(0, 1<<20)
	c.request(1, true, "GET", "/")
	c.WriteWindowUpdate(1, 1<<20)
	if a := c.take(1)[1]; !a.ended || len(a.body) != 100000 {
		t.Errorf("another client got %d bytes", len(a.body))
	}
}

// TestShutWindows: of the requests of a client that opens no window, pods get a few, and the next
// ones as it opens windows, for whichever it does. Those that it takes back end.
func TestShutWindows(t *testing.T) {
	pod, asked := countingPod(t)
	p := start(t, pod, nil)
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.WriteWindowUpdate(0, 1<<30)
	got := answers{}
	const all = 40
	for id := uint32(1); id < 2*all; id += 2 {
		c.request(id, true, "GET", "/")
	}
	reaches(t, "requests at the pod", asked, mostShut)
	othersServed(t, p)
	asked.Add(-1)

	c.WriteWindowUpdate(61, 100000) // one that waits
	got.collect(c, 61)
	reaches(t, "requests at the pod after one window", asked, mostShut+1)

	aborted := &p.Metrics.Ended[exchange.ClientAborted]
	c.WriteRSTStream(63, http2.ErrCodeCancel)
	for end := time.Now().Add(10 * time.Second); aborted.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a request that waits and is taken back does not end")
		}
	}

	c.WriteRSTStream(1, http2.ErrCodeCancel) // one that does not wait: another takes its place
	reaches(t, "requests at the pod after one was taken back", asked, mostShut+2)

	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	var rest []uint32
	for id := uint32(3); id < 2*all; id += 2 {
		if id != 61 && id != 63 {
			rest = append(rest, id)
		}
	}
	got.collect(c, rest...)
	reaches(t, "requests at the pod in the end", asked, all-1)
	c.Close()
	calm(t, p)
}

// TestShutConnectionWindow: the same where it is the connection's window that stays shut.
func TestShutConnectionWindow(t *testing.T) {
	pod, asked := countingPod(t)
	p := start(t, pod, nil)
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.request(1, true, "GET", "/")
	for got := 0; got < 1<<16-1; { // the window that the connection begins with
		f, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.(*http2.DataFrame); ok {
			got += len(d.Data())
		}
	}
	ids := []uint32{}
	for id := uint32(3); id < 63; id += 2 {
		ids = append(ids, id)
		c.request(id, true, "GET", "/")
	}
	reaches(t, "requests at the pod", asked, mostShut)
	othersServed(t, p)
	asked.Add(-1)
	c.WriteWindowUpdate(0, 1<<30)
	answers{}.collect(c, ids...)
	reaches(t, "requests at the pod in the end", asked, 31)
	c.Close()
	calm(t, p)
}

// TestShutAndGone: a client that leaves requests waiting and goes is counted for each of them.
func TestShutAndGone(t *testing.T) {
	pod, asked := countingPod(t)
	p := start(t, pod, nil)
	c := connect(t, p, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const all = 40
	for id := uint32(1); id < 2*all; id += 2 {
		c.request(id, true, "GET", "/")
	}
	reaches(t, "requests at the pod", asked, mostShut)
	c.Close()
	aborted := &p.Metrics.Ended[exchange.ClientAborted]
	for end := time.Now().Add(10 * time.Second); aborted.Load() != all; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests have ended, want %d", aborted.Load(), all)
		}
	}
	calm(t, p)
}
