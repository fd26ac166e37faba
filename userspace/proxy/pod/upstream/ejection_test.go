package upstream_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http2"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/pod/health"
)

// TestWhatEjects: what a pod does to single requests does not eject it, since a client can make it
// do that as often as it likes; what it does to its connections does.
func TestWhatEjects(t *testing.T) {
	for _, c := range []struct {
		name   string
		ejects bool
		do     func(w *wire, id uint32) bool // reports whether the connection goes on
	}{
		{"resets the stream", false, func(w *wire, id uint32) bool { w.WriteRSTStream(id, http2.ErrCodeCancel); return true }},
		{"resets it by an error", false, func(w *wire, id uint32) bool { w.WriteRSTStream(id, http2.ErrCodeInternal); return true }},
		{"resets it behind the head", false, func(w *wire, id uint32) bool {
			w.headers(id, false, ":status", "200")
			w.WriteRSTStream(id, http2.ErrCodeInternal)
			return true
		}},
		{"answers with fields that are not valid", false, func(w *wire, id uint32) bool {
			w.headers(id, true, ":status", "200", "x-word", "a\x01b")
			return true
		}},
		{"answers with trailers that are not valid", false, func(w *wire, id uint32) bool {
			w.headers(id, false, ":status", "200")
			w.headers(id, true, "grpc-message", "a\x01b")
			return true
		}},
		{"closes the connection", true, func(w *wire, id uint32) bool { return false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int64
			bad := wirePod(t, nil, func(w *wire) {
				for {
					id, err := w.request()
					if err != nil {
						return
					}
					if asked.Add(1); !c.do(w, id) {
						return
					}
				}
			})
			good := h2Pod(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
			p := start(t, nil, bad, good)
			next, err := p.Config.Load().Apply(&feedpb.Config{Version: 2, Services: []*feedpb.Service{
				{Id: 1, Name: "default/a:80", Outlier: &feedpb.Outlier{Consecutive: 5, EjectionMs: 60_000}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			p.Config.Store(next)
			for id := range uint32(3) {
				p.View.Load(1, id).Generation = 1
			}
			m := health.New(p.View, 1, p.Config, func() bool { return true }, zerolog.Nop())
			p.OnLoop(func() { p.Worker.Health = m })
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); m.Run(ctx) }()
			defer func() { cancel(); <-done }()
			load := p.View.Load(1, 1)
			h := client(t)
			for end := time.Now().Add(15 * time.Second); asked.Load() < 30 && time.Now().Before(end); {
				if r, err := h.Post("http://"+p.Address+"/", "text/plain", strings.NewReader("x")); err == nil {
					io.Copy(io.Discard, r.Body)
					r.Body.Close()
				}
				if atomic.LoadUint32(&load.Health) == abi.HealthEjected {
					break
				}
			}
			if got := atomic.LoadUint32(&load.Health) == abi.HealthEjected; got != c.ejects {
				t.Errorf("ejected after %d requests: %v, want %v", asked.Load(), got, c.ejects)
			}
		})
	}
}

// TestLargeHeads: a head that is larger than the pod says it takes is not sent to it: some pods
// would end the connection, with the requests of others.
func TestLargeHeads(t *testing.T) {
	var heads atomic.Int64
	p := start(t, nil, wirePod(t, []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 8192}}, func(w *wire) {
		for {
			id, err := w.request()
			if err != nil {
				return
			}
			heads.Add(1)
			w.headers(id, true, ":status", "204")
		}
	}))
	for size, want := range map[int]int{100: 204, 7000: 204, 9000: 431, 20000: 431} {
		q, _ := http.NewRequest("POST", "http://"+p.Address+"/", strings.NewReader("body"))
		q.Header.Set("X-Large", strings.Repeat("x", size))
		r, err := client(t).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		if r.Body.Close(); r.StatusCode != want {
			t.Errorf("%d bytes: %s, want %d", size, r.Status, want)
		}
	}
	if n := heads.Load(); n != 2 {
		t.Errorf("the pod has got %d requests", n)
	}
}

// TestShutConnection: a pod that does not read one body, and gives back no window of the
// connection, holds up no request that comes later.
func TestShutConnection(t *testing.T) {
	var stalled atomic.Int64
	p := start(t, nil, wirePod(t, nil, func(w *wire) {
		taken := 0
		for {
			f, err := w.ReadFrame()
			if err != nil {
				return
			}
			d, ok := f.(*http2.DataFrame)
			switch {
			case !ok:
			case d.StreamEnded():
				w.headers(d.StreamID, true, ":status", "204")
			default:
				if taken += len(d.Data()); taken == 65535 {
					stalled.Add(1)
				}
			}
		}
	}))
	conn := p.Dial(t)
	io.WriteString(conn, "POST /stall HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n")
	go conn.Write(make([]byte, 99_999))
	for end := time.Now().Add(20 * time.Second); stalled.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the upload does not come")
		}
	}
	for range 3 {
		r, err := client(t).Post("http://"+p.Address+"/", "text/plain", strings.NewReader("word"))
		if err != nil {
			t.Fatal(err)
		}
		if r.Body.Close(); r.StatusCode != 204 {
			t.Fatal(r.Status)
		}
	}
}
