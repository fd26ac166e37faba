package http3_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/observe/overload"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// settings puts settings in force, with the pod that there is.
func (s *site) settings(t testing.TB, settings *feedpb.Settings) {
	t.Helper()
	s.Configure(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{s.backend}}}, settings)
}

// TestSilentPod takes 6 seconds, as QUIC libraries take no less than 5 as time-out from the other
// side: a connection whose answer is still to come is not idle, neither by --idle-timeout
// nor by the client's own time-out, though the client does not keep it alive itself.
func TestSilentPod(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) { time.Sleep(6 * time.Second) })
	s.settings(t, &feedpb.Settings{IdleTimeoutMs: 300})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := quic.DialAddr(ctx, strings.TrimPrefix(s.url, "https://"),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, &quic.Config{MaxIncomingUniStreams: 10, MaxIdleTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	x := (&wire{t, c}).ask("GET", "a.test", "/")
	x.Close()
	if m, err := x.read(); err != nil || m.status() != "200" {
		t.Errorf("%v, status %s", err, m.status())
	}
}

// TestIdleConnections: a connection without a request ends, before its first one by the head
// time-out, afterwards by the idle one.
func TestIdleConnections(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {})
	s.settings(t, &feedpb.Settings{HeadTimeoutMs: 400, IdleTimeoutMs: 1500})
	began := time.Now()
	w := s.dial(t)
	<-w.conn.Context().Done()
	if d := time.Since(began); d > 1400*time.Millisecond {
		t.Errorf("without a request it has lasted %v", d)
	}
	w = s.dial(t)
	x := w.ask("GET", "a.test", "/")
	x.Close()
	if m, err := x.read(); err != nil || m.status() != "200" {
		t.Errorf("%v, status %s", err, m.status())
	}
	began = time.Now()
	select {
	case <-w.conn.Context().Done():
		if d := time.Since(began); d < time.Second {
			t.Errorf("after a request it has lasted %v", d)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
}

// taken dials, and reports whether the proxy takes the connection.
func (s *site) taken(t testing.TB) (*quic.Conn, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := quic.DialAddr(ctx, strings.TrimPrefix(s.url, "https://"),
		&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, &quic.Config{MaxIncomingUniStreams: 10})
	if err == nil {
		t.Cleanup(func() { c.CloseWithError(0x100, "") })
	}
	return c, err == nil
}

// TestUnusedConnections: a source may have so many connections that it does not use.
func TestUnusedConnections(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {}, func(s *http3.Server) { s.MaxUnused = 5 })
	var last *quic.Conn
	for i := range 5 {
		c, ok := s.taken(t)
		if !ok {
			t.Fatalf("connection %d is refused", i)
		}
		last = c
	}
	if _, ok := s.taken(t); ok || s.stats.Refused.Load() == 0 {
		t.Fatalf("a sixth is taken; %d counted as refused", s.stats.Refused.Load())
	}
	x := (&wire{t, last}).ask("GET", "a.test", "/")
	x.Close()
	if _, err := x.read(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.taken(t); !ok {
		t.Error("one that was used takes up the place of another")
	}
	if _, ok := s.taken(t); ok {
		t.Error("one more is taken")
	}
}

// TestOverload: connections count among all that clients have, and those that idle make room.
func TestOverload(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {})
	s.Worker.Overload.SetConnections(20)
	for i := range 19 {
		c, ok := s.taken(t)
		if !ok {
			t.Fatalf("connection %d is refused", i)
		}
		x := (&wire{t, c}).ask("GET", "a.test", "/")
		x.Close()
		if _, err := x.read(); err != nil {
			t.Fatal(err)
		}
	}
	// From the 19th on those that idle are ended, if they are not quite new.
	time.Sleep(1100 * time.Millisecond)
	s.taken(t)
	for end := time.Now().Add(10 * time.Second); s.stats.Open.Load() > 5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are open", s.stats.Open.Load())
		}
	}
	// A connection that is not there any more does not count.
	s.Worker.Overload.SetConnections(1)
	if _, ok := s.taken(t); ok {
		t.Error("one more than there may be is taken")
	}
	s.server.Close()
	s.Worker.Overload.SetConnections(10)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		n := 0
		for s.Worker.Overload.Enter() != overload.Full {
			n++
		}
		for range n {
			s.Worker.Overload.Leave()
		}
		if n == 10 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("when all connections have ended there is room for %d of 10", n)
		}
	}
}

// TestRapidReset: a client that takes its requests back before they are answered is cut off, as
// over HTTP/2. One that ends responses which have begun is not.
func TestRapidReset(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	w := s.dial(t)
	for i := range 600 {
		x := w.ask("GET", "a.test", "/begun")
		x.Close()
		if _, err := x.Read(make([]byte, 1)); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		x.CancelRead(0x10c)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for n := 0; ; n++ {
		x, err := w.conn.OpenStreamSync(ctx)
		if err != nil {
			break
		}
		if _, err := x.Write(w.head("GET", "a.test", "/")); err != nil {
			break
		}
		x.Close()
		x.CancelRead(0x10c)
	}
	select {
	case <-w.conn.Context().Done():
	case <-time.After(10 * time.Second):
		t.Fatal("it is not cut off")
	}
	var e *quic.ApplicationError
	if err := context.Cause(w.conn.Context()); !errors.As(err, &e) || e.ErrorCode != 0x107 || e.ErrorMessage != "resets" {
		t.Errorf("the connection ends by %v", err)
	}
	for end := time.Now().Add(10 * time.Second); s.stats.Active.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d requests go on", s.stats.Active.Load())
		}
	}
}

// TestCrowd: a connection with many requests that pods do not answer does not take all connections
// to pods.
func TestCrowd(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	})
	s.Worker.Overload.SetPods(50)
	w := s.dial(t)
	shed := make(chan string, 100)
	for range cap(shed) {
		x := w.ask("GET", "a.test", "/hang")
		x.Close()
		go func() {
			m, err := x.read()
			if err == nil {
				shed <- m.status()
			}
		}()
	}
	for range 40 {
		select {
		case status := <-shed:
			if status != "503" {
				t.Fatalf("status %s", status)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("few requests are refused: %d", s.Metrics.Ended[exchange.Shed].Load())
		}
	}
	if n := s.Metrics.Ended[exchange.Overloaded].Load(); n > 0 {
		t.Errorf("%d requests had no connection to a pod", n)
	}
	for range 10 {
		if r, _ := s.do(t, "GET", "/", nil); r.StatusCode != 200 {
			t.Fatalf("another client gets %s", r.Status)
		}
	}
	w.conn.CloseWithError(0x100, "")
}
