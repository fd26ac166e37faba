package upstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// wire is a pod's end of a connection, to do things to it that no server does.
type wire struct {
	*http2.Framer
	conn net.Conn
	buf  bytes.Buffer
	enc  *hpack.Encoder
	n    int64 // of the connection, from 1
}

// headers writes a head of name, value pairs.
func (w *wire) headers(id uint32, end bool, fields ...string) error {
	w.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.buf.Bytes(), EndStream: end, EndHeaders: true})
}

// request reads frames up to the next request's head and returns its stream.
func (w *wire) request() (uint32, error) {
	for {
		f, err := w.ReadFrame()
		if err != nil {
			return 0, err
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			return f.StreamID, nil
		case *http2.GoAwayFrame:
			return 0, fmt.Errorf("GOAWAY %v", f.ErrCode)
		}
	}
}

// wirePod runs a script on each connection behind the exchange of SETTINGS.
func wirePod(t testing.TB, settings []http2.Setting, script func(w *wire)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				w := &wire{conn: c, Framer: http2.NewFramer(c, c), n: n.Add(1)}
				w.AllowIllegalWrites = true
				w.enc = hpack.NewEncoder(&w.buf)
				preface := make([]byte, len(http2.ClientPreface))
				if _, err := io.ReadFull(c, preface); err != nil {
					return
				}
				w.WriteSettings(settings...)
				script(w)
			}()
		}
	}()
	return l.Addr().String()
}

// drain reads until the connection ends, and returns the last GOAWAY's code.
func (w *wire) drain() (code http2.ErrCode, said bool) {
	for {
		f, err := w.ReadFrame()
		if err != nil {
			return code, said
		}
		if f, ok := f.(*http2.GoAwayFrame); ok {
			code, said = f.ErrCode, true
		}
	}
}

// outcome sends a request and returns what the client got: the body, or an error.
func outcome(t *testing.T, p *proxytest.Proxy, method string) (status int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	q, _ := http.NewRequestWithContext(ctx, method, "http://"+p.Address+"/x", nil)
	r, err := client(t).Do(q)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// TestFaults: what a pod does wrong is told by its reason, ends that request, and costs
// neither memory nor other pods' requests anything.
func TestFaults(t *testing.T) {
	ok := func(w *wire, id uint32) { w.headers(id, false, ":status", "200") }
	for _, c := range []struct {
		name   string
		script func(w *wire, id uint32)
		reason exchange.Reason
		detail string
		late   bool // the response has begun
	}{
		{"closes without a word", func(w *wire, id uint32) { w.conn.Close() }, exchange.UpstreamClosed, "", false},
		{"resets the stream", func(w *wire, id uint32) { w.WriteRSTStream(id, http2.ErrCodeInternal) }, exchange.UpstreamReset, "internal_error", false},
		{"resets within the body", func(w *wire, id uint32) {
			ok(w, id)
			w.WriteData(id, false, []byte("part"))
			w.WriteRSTStream(id, http2.ErrCodeCancel)
		}, exchange.UpstreamAborted, "cancel", true},
		{"closes within the body", func(w *wire, id uint32) {
			ok(w, id)
			w.WriteData(id, false, []byte("part"))
			w.conn.Close()
		}, exchange.UpstreamAborted, "", true},
		{"upper-case name", func(w *wire, id uint32) { w.headers(id, true, ":status", "200", "X-Upper", "1") }, exchange.UpstreamInvalid, "", false},
		{"line break in a value", func(w *wire, id uint32) { w.headers(id, true, ":status", "200", "x", "a\r\nb: c") }, exchange.UpstreamInvalid, "", false},
		{"connection field", func(w *wire, id uint32) { w.headers(id, true, ":status", "200", "transfer-encoding", "chunked") }, exchange.UpstreamInvalid, "", false},
		{"no status", func(w *wire, id uint32) { w.headers(id, true, "x", "y") }, exchange.UpstreamInvalid, "", false},
		{"status 101", func(w *wire, id uint32) { w.headers(id, false, ":status", "101") }, exchange.UpstreamInvalid, "", false},
		{"two lengths", func(w *wire, id uint32) {
			w.headers(id, false, ":status", "200", "content-length", "1", "content-length", "2")
		}, exchange.UpstreamInvalid, "", false},
		{"body before the head", func(w *wire, id uint32) { w.WriteData(id, true, []byte("x")) }, exchange.UpstreamInvalid, "body_before_the_head", false},
		{"longer than it says", func(w *wire, id uint32) {
			w.headers(id, false, ":status", "200", "content-length", "3")
			w.WriteData(id, true, []byte("longer"))
		}, exchange.UpstreamInvalid, "body_too_long", true},
		{"shorter than it says", func(w *wire, id uint32) {
			w.headers(id, false, ":status", "200", "content-length", "9")
			w.WriteData(id, true, []byte("short"))
		}, exchange.UpstreamAborted, "body_too_short", true},
		{"pseudo-header field in trailers", func(w *wire, id uint32) {
			ok(w, id)
			w.headers(id, true, ":status", "200")
		}, exchange.UpstreamInvalid, "", true},
		{"a second head", func(w *wire, id uint32) {
			ok(w, id)
			w.headers(id, false, "x", "y")
		}, exchange.UpstreamInvalid, "head_after_the_head", true},
		{"head beyond the limit", func(w *wire, id uint32) {
			fields := []string{":status", "200"}
			for i := range 30 {
				fields = append(fields, fmt.Sprint("x-", i), strings.Repeat("v", 1500))
			}
			w.buf.Reset()
			for i := 0; i < len(fields); i += 2 {
				w.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			b := w.buf.Bytes()
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:16000], EndStream: true})
			w.WriteContinuation(id, true, b[16000:])
		}, exchange.UpstreamInvalid, "", false},
		{"HPACK bomb", func(w *wire, id uint32) {
			// One entry of 4000 bytes, then 12,000 references to it of one byte each.
			w.buf.Reset()
			w.enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			w.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("v", 4000)})
			block := append(bytes.Clone(w.buf.Bytes()), bytes.Repeat([]byte{0x80 | 62}, 12000)...)
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true})
		}, exchange.UpstreamInvalid, "", false},
		{"bad HPACK", func(w *wire, id uint32) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, exchange.UpstreamInvalid, "compression_error", false},
		{"CONTINUATION flood", func(w *wire, id uint32) {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}})
			for w.WriteContinuation(id, false, nil) == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", false},
		{"SETTINGS flood", func(w *wire, id uint32) {
			for w.WriteSettings() == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", false},
		{"PING flood", func(w *wire, id uint32) {
			for w.WritePing(false, [8]byte{}) == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", false},
		{"empty DATA flood", func(w *wire, id uint32) {
			ok(w, id)
			for w.WriteData(id, false, nil) == nil {
			}
		}, exchange.UpstreamInvalid, "frame_flood", true},
		{"1xx storm", func(w *wire, id uint32) {
			for w.headers(id, false, ":status", "103", "link", strings.Repeat("l", 5000)) == nil {
			}
		}, exchange.UpstreamInvalid, "too_many_interim_responses", false},
		{"1xx that ends the stream", func(w *wire, id uint32) { w.headers(id, true, ":status", "103") }, exchange.UpstreamInvalid, "", false},
		{"more than the window", func(w *wire, id uint32) {
			ok(w, id)
			for w.WriteData(id, false, make([]byte, 16<<10)) == nil {
			}
		}, exchange.UpstreamInvalid, "flow_control_error", true},
		{"frame too large", func(w *wire, id uint32) {
			w.WriteRawFrame(http2.FrameData, 0, id, make([]byte, 1<<15))
		}, exchange.UpstreamInvalid, "frame_size_error", false},
		{"pushes", func(w *wire, id uint32) {
			w.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, BlockFragment: []byte{0x82}, EndHeaders: true})
		}, exchange.UpstreamInvalid, "protocol_error", false},
		{"a stream that nobody opened", func(w *wire, id uint32) { w.headers(id+2, true, ":status", "200") }, exchange.UpstreamInvalid, "protocol_error", false},
		{"window overflow", func(w *wire, id uint32) { w.WriteWindowUpdate(0, 1<<31-1) }, exchange.UpstreamInvalid, "flow_control_error", false},
		{"window overflow of the stream", func(w *wire, id uint32) { w.WriteWindowUpdate(id, 1<<31-1) }, exchange.UpstreamInvalid, "flow_control_error", false},
		{"says nothing", func(w *wire, id uint32) { time.Sleep(2 * time.Second) }, exchange.UpstreamTimeout, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := wirePod(t, nil, func(w *wire) {
				if id, err := w.request(); err == nil {
					go io.Copy(io.Discard, w.conn)
					c.script(w, id)
					time.Sleep(200 * time.Millisecond)
				}
			})
			good := h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fine") }))
			settings := &feedpb.Settings{ResponseTimeoutMs: 700, AccessLogSample: 1}
			p := proxytest.Start(t, []proxytest.Service{
				{Name: "default/bad:80", Host: "bad", Path: "/", Backends: []string{bad}, Upstream: h2c},
				{Name: "default/good:80", Path: "/", Backends: []string{good}, Upstream: h2c},
			}, settings)
			before := heap()
			q, _ := http.NewRequest("GET", "http://"+p.Address+"/x", nil)
			q.Host = "bad"
			r, err := client(t).Do(q)
			switch {
			case c.late && err == nil:
				if _, err := io.ReadAll(r.Body); err == nil {
					t.Error("the client took half a response for a whole one")
				}
			case c.late:
			case err != nil:
				t.Fatal(err)
			default:
				if b, _ := io.ReadAll(r.Body); r.StatusCode != c.reason.Status() || !strings.HasPrefix(string(b), c.reason.String()) {
					t.Errorf("%d %q, want %s", r.StatusCode, b, c.reason)
				}
			}
			eventually(t, "counted as "+c.reason.String(), func() bool { return p.Metrics.Ended[c.reason].Load() == 1 })
			if p.View.Loads[256+1].Failures != 1 {
				t.Error("the pod's failure is not counted")
			}
			if status, body, err := outcome(t, p, "GET"); status != 200 || body != "fine" || err != nil {
				t.Errorf("another pod: %d %q %v", status, body, err)
			}
			eventually(t, "logged", func() bool { return strings.Contains(p.Log.String(), c.reason.String()) })
			if c.detail != "" && !strings.Contains(p.Log.String(), `"detail":"`+c.detail+`"`) {
				t.Errorf("detail is not %s: %s", c.detail, p.Log)
			}
			if grown := int64(heap()) - int64(before); grown > 8<<20 {
				t.Errorf("%d bytes of memory more than before", grown)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

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
		if p.View.Loads[256+1].Failures != 0 {
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
