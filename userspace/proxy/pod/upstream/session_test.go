package upstream_test

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

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// TestRetries: what the pod says it did nothing about is sent again, whatever the method.
func TestRetries(t *testing.T) {
	answer := func(w *wire, id uint32) {
		w.headers(id, false, ":status", "200")
		w.WriteData(id, true, []byte("second try"))
		w.drain()
	}
	for _, c := range []struct {
		name  string
		first func(w *wire, id uint32)
	}{
		{"REFUSED_STREAM", func(w *wire, id uint32) { w.WriteRSTStream(id, http2.ErrCodeRefusedStream); w.drain() }},
		{"GOAWAY", func(w *wire, id uint32) { w.WriteGoAway(0, http2.ErrCodeNo, nil); w.drain() }},
		{"GOAWAY, then the end", func(w *wire, id uint32) { w.WriteGoAway(0, http2.ErrCodeNo, nil) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var served atomic.Int64
			pod := wirePod(t, nil, func(w *wire) {
				for {
					id, err := w.request()
					if err != nil {
						return
					}
					if served.Add(1) == 1 {
						c.first(w, id)
						return
					}
					answer(w, id)
				}
			})
			p := start(t, nil, pod)
			if status, body, err := outcome(t, p, "POST"); status != 200 || body != "second try" || err != nil {
				t.Errorf("%d %q %v", status, body, err)
			}
			if n := p.Metrics.Retries.Load(); n != 1 {
				t.Errorf("%d retries", n)
			}
		})
	}
	t.Run("refused by all", func(t *testing.T) {
		pod := wirePod(t, nil, func(w *wire) {
			for {
				id, err := w.request()
				if err != nil {
					return
				}
				w.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			}
		})
		p := start(t, nil, pod)
		if status, body, err := outcome(t, p, "GET"); status != 503 || !strings.HasPrefix(body, "upstream_refused") {
			t.Errorf("%d %q %v", status, body, err)
		}
		if failures(p) != 0 {
			t.Error("a refusal counts as the pod's failure")
		}
	})
}

// TestGoAwayKeepsStreams: those that the pod still serves end as they should.
func TestGoAwayKeepsStreams(t *testing.T) {
	release := make(chan struct{})
	pod := wirePod(t, nil, func(w *wire) {
		id, err := w.request()
		if err != nil {
			return
		}
		if w.n > 1 {
			w.headers(id, true, ":status", "204")
			w.drain()
			return
		}
		w.headers(id, false, ":status", "200")
		w.WriteData(id, false, []byte("one "))
		w.WriteGoAway(id, http2.ErrCodeNo, nil)
		<-release
		w.WriteData(id, true, []byte("two"))
		w.drain()
	})
	p := start(t, nil, pod)
	r, err := client(t).Get("http://" + p.Address)
	if err != nil {
		t.Fatal(err)
	}
	// The next request needs a connection of its own.
	if status, _, err := outcome(t, p, "GET"); status != 204 || err != nil {
		t.Errorf("%d %v", status, err)
	}
	close(release)
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != "one two" {
		t.Errorf("%q %v", b, err)
	}
	eventually(t, "the old connection is closed", func() bool { return sessions(p) == 1 })
}

// sessions returns the number of HTTP/2 connections to pods.
func sessions(p *proxytest.Proxy) int {
	n := make(chan int)
	p.Loop.Submit(func() { n <- p.Pool.Stats.Sessions })
	return <-n
}

// TestCancel: when the client goes away, the pod is told at once.
func TestCancel(t *testing.T) {
	code := make(chan http2.ErrCode, 1)
	pod := wirePod(t, nil, func(w *wire) {
		id, err := w.request()
		if err != nil {
			return
		}
		w.headers(id, false, ":status", "200")
		for {
			f, err := w.ReadFrame()
			if err != nil {
				return
			}
			if f, ok := f.(*http2.RSTStreamFrame); ok {
				code <- f.ErrCode
			}
		}
	})
	p := start(t, nil, pod)
	c := p.Dial(t)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	c.SetLinger(0) // a client of HTTP/1.1 that only ends its side may still want the answer
	c.Close()
	select {
	case c := <-code:
		if c != http2.ErrCodeCancel {
			t.Errorf("RST_STREAM %v", c)
		}
	case <-time.After(5 * time.Second):
		t.Error("the pod was not told")
	}
	eventually(t, "counted", func() bool { return p.Metrics.Ended[exchange.ClientAborted].Load() == 1 })
}

// TestNotHTTP2: a pod that speaks something else gets no request, and is told apart.
func TestNotHTTP2(t *testing.T) {
	for name, answer := range map[string]string{
		"HTTP/1.1": "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"nothing":  "",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					c.Read(make([]byte, 1024))
					io.WriteString(c, answer)
					c.Close()
				}
			}()
			p := start(t, nil, l.Addr().String())
			if status, body, err := outcome(t, p, "GET"); status != 502 || !strings.HasPrefix(body, "upstream_protocol") {
				t.Errorf("%d %q %v", status, body, err)
			}
		})
	}
}

// TestSilence: a connection on which a request waits and nothing comes is asked for a sign
// of life, and given up without one.
func TestSilence(t *testing.T) {
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprint("answers: ", answers), func(t *testing.T) {
			var pings atomic.Int64
			pod := wirePod(t, nil, func(w *wire) {
				id, err := w.request()
				if err != nil {
					return
				}
				for {
					f, err := w.ReadFrame()
					if err != nil {
						return
					}
					if f, ok := f.(*http2.PingFrame); ok && !f.IsAck() {
						pings.Add(1)
						if answers {
							w.WritePing(true, f.Data)
							time.Sleep(400 * time.Millisecond)
							w.headers(id, true, ":status", "204")
						}
					}
				}
			})
			p := start(t, nil, pod)
			set := make(chan struct{})
			p.Loop.Submit(func() {
				p.Pool.Silence, p.Pool.PingWait = 200*time.Millisecond, 200*time.Millisecond
				close(set)
			})
			<-set
			want := 204
			if !answers {
				want = 504
			}
			if status, body, err := outcome(t, p, "GET"); status != want || err != nil {
				t.Errorf("%d %q %v", status, body, err)
			}
			if n := pings.Load(); n != 1 {
				t.Errorf("%d pings", n)
			}
		})
	}
}

// TestIdle: a connection that nobody uses is closed after a time, properly.
func TestIdle(t *testing.T) {
	code := make(chan http2.ErrCode, 1)
	pod := wirePod(t, nil, func(w *wire) {
		id, err := w.request()
		if err != nil {
			return
		}
		w.headers(id, true, ":status", "204")
		if c, said := w.drain(); said {
			code <- c
		}
	})
	p := start(t, nil, pod)
	p.Loop.Submit(func() { p.Pool.IdleTime = 300 * time.Millisecond })
	if status, _, err := outcome(t, p, "GET"); status != 204 || err != nil {
		t.Fatalf("%d %v", status, err)
	}
	select {
	case c := <-code:
		if c != http2.ErrCodeNo {
			t.Errorf("GOAWAY %v", c)
		}
	case <-time.After(5 * time.Second):
		t.Error("no GOAWAY")
	}
	eventually(t, "closed", func() bool { return sessions(p) == 0 })
}

// TestSlowClient: what a client does not take stays with the pod, beyond a window, and
// another's stream on the same connection is not held up.
func TestSlowClient(t *testing.T) {
	var sent atomic.Int64
	pod := h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x" {
			io.WriteString(w, "fast")
			return
		}
		b := make([]byte, 32<<10)
		for {
			n, err := w.Write(b)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}))
	p := start(t, nil, pod)
	slow := p.Dial(t)
	slow.SetReadBuffer(4 << 10)
	io.WriteString(slow, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
	last := int64(-1)
	eventually(t, "the pod is held up", func() bool {
		n := sent.Load()
		still := n == last && n > 0
		last = n
		time.Sleep(300 * time.Millisecond)
		return still
	})
	if status, body, err := outcome(t, p, "GET"); status != 200 || body != "fast" || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	if n := sessions(p); n != 1 {
		t.Errorf("%d connections", n)
	}
	slow.Close()
	eventually(t, "the stream has ended", func() bool { return p.Metrics.Ended[exchange.ClientAborted].Load() == 1 })
}

// TestClosedWindow: a pod that never opens its window holds up that request alone, and
// not longer than the time-out.
func TestClosedWindow(t *testing.T) {
	pod := wirePod(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, func(w *wire) {
		for {
			if _, err := w.request(); err != nil {
				return
			}
		}
	})
	p := start(t, &feedpb.Settings{ResponseTimeoutMs: 500}, pod)
	q, _ := http.NewRequest("POST", "http://"+p.Address, strings.NewReader("body"))
	r, err := client(t).Do(q)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 504 {
		t.Errorf("%d", r.StatusCode)
	}
}

// TestNoStreams: a pod that allows none is told apart from one that is slow.
func TestNoStreams(t *testing.T) {
	pod := wirePod(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, func(w *wire) { w.drain() })
	p := start(t, nil, pod)
	if status, body, err := outcome(t, p, "GET"); status != 502 || !strings.HasPrefix(body, "upstream_protocol") {
		t.Errorf("%d %q %v", status, body, err)
	}
}

// TestLimitOfStreams: more requests than a connection takes get further connections.
func TestLimitOfStreams(t *testing.T) {
	var most atomic.Int64
	pod := wirePod(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 2}}, func(w *wire) {
		var ids []uint32
		for {
			w.conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			id, err := w.request()
			if err != nil {
				break
			}
			ids = append(ids, id)
		}
		if n := int64(len(ids)); n > most.Load() {
			most.Store(n)
		}
		for _, id := range ids {
			w.headers(id, true, ":status", "204")
		}
		time.Sleep(100 * time.Millisecond)
	})
	p := start(t, nil, pod)
	results := make(chan int, 7)
	for range 7 {
		go func() {
			status, _, _ := outcome(t, p, "GET")
			results <- status
		}()
	}
	for range 7 {
		if status := <-results; status != 204 {
			t.Errorf("status %d", status)
		}
	}
	if n := most.Load(); n != 2 {
		t.Errorf("%d streams on a connection that allows 2", n)
	}
}

// TestClosedAsRequested: a request that meets the end of an idle connection goes to a new one,
// whatever its method: it was never sent.
func TestClosedAsRequested(t *testing.T) {
	first := make(chan *wire, 1)
	pod := wirePod(t, nil, func(w *wire) {
		for {
			id, err := w.request()
			if err != nil {
				return
			}
			w.headers(id, true, ":status", "204")
			if w.n == 1 {
				first <- w
			}
		}
	})
	p := start(t, nil, pod)
	c := p.Dial(t)
	in := bufio.NewReader(c)
	ask := func() {
		t.Helper()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	}
	answered := func() {
		t.Helper()
		if r, err := http.ReadResponse(in, nil); err != nil || r.StatusCode != 204 {
			t.Fatal(r, err)
		}
	}
	ask()
	answered()
	// The loop sees both in one turn.
	held, release := make(chan struct{}), make(chan struct{})
	p.Loop.Submit(func() { close(held); <-release })
	<-held
	ask()
	(<-first).conn.Close()
	time.Sleep(50 * time.Millisecond)
	close(release)
	answered()
}

// unread returns how many bytes wait at the pod.
func (w *wire) unread() (n int) {
	raw, err := w.conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// TestAnswerThenClose: what a pod has sent before it closed its connection reaches the client,
// also if the proxy learns of the end by a write that fails, before any event tells it to read.
func TestAnswerThenClose(t *testing.T) {
	const piece = 1000
	for _, c := range []struct {
		name   string
		answer func(w *wire, id uint32)
		status string
	}{
		{name: "whole", status: "413", answer: func(w *wire, id uint32) {
			w.headers(id, false, ":status", "413", "content-length", "5000")
			w.WriteData(id, true, make([]byte, 5000))
		}},
		{name: "whole, then a reset", status: "413", answer: func(w *wire, id uint32) {
			w.headers(id, false, ":status", "413", "content-length", "5000")
			w.WriteData(id, true, make([]byte, 5000))
			w.WriteRSTStream(id, http2.ErrCodeNo)
			w.WriteGoAway(id, http2.ErrCodeNo, nil)
		}},
		{name: "a part", status: "413", answer: func(w *wire, id uint32) {
			w.headers(id, false, ":status", "413", "content-length", "9000")
			w.WriteData(id, false, make([]byte, 5000))
		}},
		{name: "nothing", status: "502", answer: func(w *wire, id uint32) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, closes, closed := make(chan bool), make(chan bool), make(chan bool)
			pod := wirePod(t, nil, func(w *wire) {
				defer close(closed)
				id, err := w.request()
				if err != nil {
					return
				}
				for w.unread() < piece && t.Context().Err() == nil {
					time.Sleep(time.Millisecond)
				}
				asked <- true
				<-closes
				c.answer(w, id)
				w.conn.Close() // resets, as a piece of the body is unread
			})
			p := start(t, nil, pod)
			conn := p.Dial(t)
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", 3*piece)
			conn.Write(make([]byte, piece))
			<-asked
			// The loop has an event of the client's in hand when the pod answers and closes.
			held, release := make(chan bool), make(chan bool)
			p.Loop.Submit(func() { held <- true; <-release })
			<-held
			conn.Write(make([]byte, piece))
			p.Loop.Submit(func() {
				close(closes)
				<-closed
				time.Sleep(20 * time.Millisecond)
			})
			close(release)
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r.Body)
			if !strings.HasPrefix(r.Status, c.status) || c.status == "413" && len(b) != 5000 || (err != nil) != (c.name == "a part") {
				t.Errorf("%s and %d bytes, %v", r.Status, len(b), err)
			}
		})
	}
}
