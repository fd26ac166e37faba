package http3_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

const (
	noError       = 0x100 // H3_NO_ERROR
	internalError = 0x102 // H3_INTERNAL_ERROR
)

// rawPod is a pod that reads a request's head, and then does with the connection what f does.
func rawPod(t testing.TB, f func(c net.Conn, head string)) string {
	t.Helper()
	return proxytest.RawPod(t, func(c net.Conn) {
		if head, err := proxytest.ReadHead(bufio.NewReader(c)); err == nil {
			f(c, head)
		}
	})
}

// early is a request that is answered before its body has ended.
type early struct {
	host, path, status string
}

// answersEarly has the site's routes answer without reading the request's body, and lists a
// request for each of them.
func (s *site) answersEarly(t testing.TB) []early {
	t.Helper()
	// A pod that answers and closes while the body is still coming in: its side is reset.
	quits := rawPod(t, func(c net.Conn, head string) {
		status := "200 OK"
		if strings.Contains(head, "/denies") {
			status = "403 Forbidden"
		}
		fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 6\r\nConnection: close\r\n\r\nearly\n", status)
	})
	// A pod that answers at once, and reads nothing for as long as the connection lasts.
	stays := rawPod(t, func(c net.Conn, head string) {
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nearly\n\r\n0\r\nX-Sum: 7\r\n\r\n")
		<-t.Context().Done()
	})
	reads := rawPod(t, func(c net.Conn, head string) { io.Copy(io.Discard, c) })
	rule := func(path string, p *feedpb.Policy, pods ...string) proxytest.Service {
		if p == nil {
			p = &feedpb.Policy{}
		}
		p.RequestBuffering = feedpb.RequestBuffering_BUFFER_OFF // pods see requests before their bodies end
		return proxytest.Service{Name: "default" + path + ":80", Host: "a.test", Path: path, Policy: p, Backends: pods}
	}
	s.Configure(t, []proxytest.Service{
		rule("/outside", &feedpb.Policy{Access: &feedpb.Access{Allow: []string{"192.0.2.0/24"}}}, quits),
		rule("/basic", &feedpb.Policy{Access: &feedpb.Access{Basic: &feedpb.BasicAuth{Realm: "staff", Users: []byte("ann:$apr1$c2B59x0e$9jxHMc4MeeQKPC2nF6PKC1")}}}, quits),
		rule("/small", &feedpb.Policy{MaxBodyBytes: new(uint64(1000))}, reads),
		rule("/moved", &feedpb.Policy{Redirects: []*feedpb.Redirect{{Path: "/moved", Status: 307, Target: "/elsewhere"}}}, quits),
		rule("/limited", &feedpb.Policy{Limits: &feedpb.Limits{Rates: []*feedpb.Rate{{Requests: 1, PeriodMs: 3_600_000}}, Status: 429, Scope: "a"}}, quits),
		rule("/nobody", nil),
		rule("/quits", nil, quits),
		rule("/denies", nil, quits),
		rule("/stays", nil, stays),
	}, &feedpb.Settings{})
	return []early{
		{"a.test", "/outside", "403"}, {"a.test", "/basic", "401"}, {"a.test", "/small", "413"}, {"a.test", "/moved", "307"},
		{"a.test", "/limited", "429"}, {"a.test", "/nobody", "503"}, {"b.test", "/", "404"}, {"a.test", "/..", "400"},
		{"a.test", "/quits", "200"}, {"a.test", "/denies", "403"}, {"a.test", "/stays", "413"},
	}
}

// TestEarlyAnswers: whoever answers early, the client sees all of the answer and its end before
// it has ended its body, and may send that whole, more than any window. It is never told to
// stop.
func TestEarlyAnswers(t *testing.T) {
	s := newSite(t, nil)
	requests := s.answersEarly(t)
	const size, piece = 3 << 20, 16 << 10
	x := s.dial(t).ask("GET", "a.test", "/limited")
	x.Close()
	x.read() // takes what the limit allows
	for _, length := range []string{fmt.Sprint(size), ""} {
		for _, r := range requests {
			t.Run(r.host+r.path+" "+length, func(t *testing.T) {
				before := s.Metrics.Linger.Bytes.Load()
				fields := []string{"te", "trailers"}
				if length != "" {
					fields = append(fields, "content-length", length)
				}
				w := s.dial(t)
				x := w.ask("POST", r.host, r.path, fields...)
				sent := 0
				send := func(n int) {
					t.Helper()
					for ; n > 0; n -= piece {
						if err := x.body(make([]byte, piece)); err != nil {
							t.Fatalf("after %d bytes of the body: %v", sent, err)
						}
						sent += piece
					}
				}
				send(piece) // over what /small allows
				m, err := x.read()
				if err != nil || m.status() != r.status || m.field(0, "content-length") != fmt.Sprint(len(m.body)) && r.path != "/stays" {
					t.Fatalf("%s %q, %v; want %s", m.status(), m.body, err, r.status)
				}
				if r.path == "/stays" && m.field(1, "x-sum") != "7" {
					t.Errorf("trailers: %v", m.heads)
				}
				send(size - piece)
				if err := x.Close(); err != nil {
					t.Error(err)
				}
				dropped := func() uint64 { return s.Metrics.Linger.Bytes.Load() - before }
				for deadline := time.Now().Add(20 * time.Second); dropped() < size-2*piece; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%d bytes are counted of %d", dropped(), size-piece)
					}
				}
				if n := dropped(); n > size+2*piece { // the end of the one before may be counted late
					t.Errorf("%d bytes are counted of %d", n, size)
				}
				if m, err := w.ask("GET", "b.test", "/").read(); err != nil || m.status() != "404" {
					t.Errorf("the next request on this connection: %s, %v", m.status(), err)
				}
			})
		}
	}
	if n := s.Metrics.Linger.Cut.Load(); n != 0 {
		t.Errorf("%d bodies are counted as cut", n)
	}
}

// TestLeftover: a client that is silent after the answer is told to stop after a while, and
// not as a failure.
func TestLeftover(t *testing.T) {
	s := newSite(t, nil)
	s.answersEarly(t)
	w := s.dial(t)
	began := time.Now()
	x := w.ask("POST", "b.test", "/", "content-length", "100000")
	if m, err := x.read(); err != nil || m.status() != "404" {
		t.Fatalf("%s, %v", m.status(), err)
	}
	if x.Context().Err() != nil {
		t.Errorf("told to stop at once, after %s: %v", time.Since(began), context.Cause(x.Context()))
	}
	<-x.Context().Done()
	if code := resetBy(context.Cause(x.Context())); code != noError {
		t.Errorf("%v, want STOP_SENDING with H3_NO_ERROR", context.Cause(x.Context()))
	}
	if waited := time.Since(began); waited < linger.Pause-100*time.Millisecond {
		t.Errorf("stopped after %s", waited)
	}
	if n := s.Metrics.Linger.Cut.Load(); n != 1 {
		t.Errorf("%d bodies are counted as cut", n)
	}
	if m, err := w.ask("GET", "b.test", "/").read(); err != nil || m.status() != "404" {
		t.Errorf("the next request on this connection: %s, %v", m.status(), err)
	}
}

// TestLeftoverTakenBack: a client may take its body back when it has read the answer.
func TestLeftoverTakenBack(t *testing.T) {
	s := newSite(t, nil)
	s.answersEarly(t)
	w := s.dial(t)
	for range 300 { // more than a connection may have at once
		x := w.ask("POST", "b.test", "/")
		if m, err := x.read(); err != nil || m.status() != "404" {
			t.Fatalf("%s, %v", m.status(), err)
		}
		x.CancelWrite(quic.StreamErrorCode(0x10c)) // H3_REQUEST_CANCELLED
	}
	if n := s.Metrics.Linger.Cut.Load(); n != 0 {
		t.Errorf("%d bodies are counted as cut", n)
	}
}

// TestLeftoverBudget: a connection that has used up what it may send after answers is told to
// stop a little later, and gets no more room meanwhile.
func TestLeftoverBudget(t *testing.T) {
	s := newSite(t, nil)
	s.answersEarly(t)
	w := s.dial(t)
	x := w.ask("POST", "b.test", "/")
	x.SetDeadline(time.Now().Add(2 * time.Minute))
	began := time.Now()
	if m, err := x.read(); err != nil || m.status() != "404" {
		t.Fatalf("%s, %v", m.status(), err)
	}
	piece := make([]byte, 64<<10)
	sent := 0
	var err error
	for err == nil && sent < linger.Burst+linger.PerSecond*60 {
		if err = x.body(piece); err == nil {
			sent += len(piece)
		}
	}
	if code := resetBy(err); code != noError {
		t.Fatalf("after %d bytes: %v, want STOP_SENDING with H3_NO_ERROR", sent, err)
	}
	// A slow machine may take longer than linger.Total for the burst, which is a bound, too.
	if n, took := s.Metrics.Linger.Bytes.Load(), time.Since(began); n < linger.Burst && took < linger.Total-time.Second {
		t.Errorf("only %d bytes were taken in %s", n, took)
	}
	if n := s.Metrics.Linger.Cut.Load(); n != 1 {
		t.Errorf("%d bodies are counted as cut", n)
	}
}

// TestLeftoverShutdown: a drain waits for a body that goes on after the answer, within its own
// time, and a server that closes does not wait for it at all.
func TestLeftoverShutdown(t *testing.T) {
	s := newSite(t, nil)
	s.answersEarly(t)
	w := s.dial(t)
	x := w.ask("POST", "b.test", "/")
	if m, err := x.read(); err != nil || m.status() != "404" {
		t.Fatalf("%s, %v", m.status(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() { s.server.Drain(ctx); close(drained) }()
	for range 20 {
		if err := x.body(make([]byte, 1000)); err != nil {
			t.Fatalf("while the server drains: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	select {
	case <-drained:
		t.Error("the drain did not wait")
	default:
	}
	cancel()
	began := time.Now()
	<-drained
	if waited := time.Since(began); waited > linger.Pause-time.Second {
		t.Errorf("the end of the drain took %s", waited)
	}
	<-w.conn.Context().Done()
	if !errors.As(context.Cause(w.conn.Context()), new(*quic.ApplicationError)) {
		t.Errorf("the connection ended by %v", context.Cause(w.conn.Context()))
	}
}
