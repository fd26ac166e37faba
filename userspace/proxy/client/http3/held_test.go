package http3_test

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// reads puts proxytest.ReadsPod behind the proxy.
func (s *site) reads(t testing.TB, settings *feedpb.Settings) {
	t.Helper()
	s.Configure(t, []proxytest.Service{{
		Name: "default/a:80", Path: "/", Backends: []string{proxytest.ReadsPod(t)},
		Upstream: &feedpb.Upstream{Protocol: feedpb.Upstream_HTTP2},
	}}, settings)
}

// stall sends bodies of size bytes, of which the pod reads the first ones, and returns when nobody
// has taken more for a while.
func (w *wire) stall(streams, first, size int) {
	w.t.Helper()
	var sent, done atomic.Int64
	for range streams {
		x := w.ask("POST", "a.test", fmt.Sprintf("/?read=%d", first))
		go func() {
			defer done.Add(1)
			block := make([]byte, 16<<10)
			for range size / len(block) {
				if x.body(block) != nil {
					return
				}
				sent.Add(int64(len(block)))
			}
		}()
	}
	for last, since := int64(-1), time.Now(); time.Since(since) < 300*time.Millisecond && done.Load() < int64(streams); time.Sleep(10 * time.Millisecond) {
		if n := sent.Load(); n != last {
			last, since = n, time.Now()
		}
	}
}

// TestStalledUploads: pods that do not read the bodies of some requests stop no other request of
// the connection, whether they have never read or have read for long, so that the windows of
// these streams have grown.
func TestStalledUploads(t *testing.T) {
	for _, c := range []struct {
		name           string
		streams, first int
	}{
		{"from the beginning", 120, 0},
		{"after a while", 12, 2 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.reads(t, nil)
			w := s.dial(t)
			w.stall(c.streams, c.first, c.first+4<<20)
			for range 3 {
				x := w.ask("POST", "a.test", "/")
				if err := x.body(make([]byte, 300_000)); err != nil {
					t.Fatal("while others are stalled: ", err)
				}
				x.Close()
				if m, err := x.read(); err != nil || m.status() != "200" || string(m.body) != "300000" {
					t.Fatalf("while others are stalled: %v, status %s, %q", err, m.status(), m.body)
				}
			}
			if held := s.Metrics.BodiesHeld.Bytes(); held == 0 || held > int64(c.streams)*(512<<10) {
				t.Errorf("%d bytes are held", held)
			}
			w.conn.CloseWithError(0x100, "")
			for end := time.Now().Add(10 * time.Second); s.Metrics.BodiesHeld.Bytes() != 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d bytes are held for nobody", s.Metrics.BodiesHeld.Bytes())
				}
			}
		})
	}
}

// TestBodiesHeld: what is held of all bodies is bounded. A connection that holds the most of it
// loses streams; others go on.
func TestBodiesHeld(t *testing.T) {
	const bound = 1 << 20
	s := newSite(t, nil)
	s.reads(t, &feedpb.Settings{RequestBufferTotal: bound})
	honest := s.dial(t)
	honest.stall(1, 0, 1<<20)
	for range 3 {
		s.dial(t).stall(60, 0, 1<<20)
	}
	for end := time.Now().Add(10 * time.Second); s.Metrics.Ended[exchange.BuffersFull].Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no stream was given up while %d bytes are held", s.Metrics.BodiesHeld.Bytes())
		}
	}
	if held := s.Metrics.BodiesHeld.Bytes(); held > 6*bound { // those below the average may come up to it
		t.Errorf("%d KiB are held, with a bound of %d", held>>10, bound>>10)
	}
	for range 5 {
		x := honest.ask("POST", "a.test", "/")
		if _, err := io.Copy(writerOf(x.body), bytes.NewReader(make([]byte, 200_000))); err != nil {
			t.Fatal("of one who holds little: ", err)
		}
		x.Close()
		if m, err := x.read(); err != nil || m.status() != "200" {
			t.Fatalf("of one who holds little: %v, status %s", err, m.status())
		}
	}
}

type writerOf func([]byte) error

func (f writerOf) Write(p []byte) (int, error) { return len(p), f(p) }
