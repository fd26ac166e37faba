package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// largePod is a pod whose response no socket holds.
func largePod(t testing.TB, size int) string {
	return pod(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		piece := make([]byte, 64<<10)
		for sent := 0; sent < size; sent += len(piece) {
			if _, err := w.Write(piece[:min(len(piece), size-sent)]); err != nil {
				return
			}
		}
	})
}

// TestSlowReaders: a response that its client takes more slowly than it may is broken off, though
// none of the client's pauses is too long; one whose client takes enough is not.
func TestSlowReaders(t *testing.T) {
	const size = 16 << 20
	for _, c := range []struct {
		name string
		rate uint32 // that clients must reach
		slow bool
	}{
		{"too slow", 64 << 20, true},
		{"slow", 64 << 10, false},
		{"no minimum", 0, false},
	} {
		t.Run("HTTP 1, "+c.name, func(t *testing.T) {
			p := proxytest.Start(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{largePod(t, size)}}},
				&feedpb.Settings{ResponseTimeoutMs: 2000, MinResponseRate: c.rate})
			conn := p.Dial(t)
			// Sockets that hold most of the response would leave the proxy nothing to wait for.
			conn.SetReadBuffer(64 << 10)
			conn.SetDeadline(time.Now().Add(60 * time.Second))
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			got, buf := 0, make([]byte, 128<<10)
			var err error
			for err == nil && got < size {
				var n int
				n, err = conn.Read(buf)
				got += n
				time.Sleep(25 * time.Millisecond) // 5 MB a second at most
			}
			if (err != nil) != c.slow {
				t.Errorf("%d bytes of %d came, then %v", got, size, err)
			}
			counted(t, p, c.slow)
		})
	}
	t.Run("HTTP 2", func(t *testing.T) {
		p := proxytest.Start(t, []proxytest.Service{{Name: "d/a:80", Path: "/", Backends: []string{largePod(t, size)}}},
			&feedpb.Settings{ResponseTimeoutMs: 3000, MinResponseRate: 4 << 20})
		conn := p.Dial(t)
		conn.SetDeadline(time.Now().Add(60 * time.Second))
		io.WriteString(conn, xhttp2.ClientPreface)
		f := xhttp2.NewFramer(conn, conn)
		f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 8 << 10})
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}} {
			e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		got := 0
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatalf("%d bytes came, then %v", got, err)
			}
			switch frame := frame.(type) {
			case *xhttp2.DataFrame:
				got += len(frame.Data())
				time.Sleep(50 * time.Millisecond) // 160 KB a second at most
				f.WriteWindowUpdate(0, uint32(len(frame.Data())))
				f.WriteWindowUpdate(1, uint32(len(frame.Data())))
			case *xhttp2.RSTStreamFrame:
				counted(t, p, true)
				return
			}
		}
	})
}

// counted waits until the request has ended by the reason that it should.
func counted(t *testing.T, p *proxytest.Proxy, slow bool) {
	t.Helper()
	reason, other := exchange.Forwarded, exchange.ClientSlow
	if slow {
		reason, other = other, reason
	}
	proxytest.Counted(t, p.Metrics, reason, 1)
	if n := p.Metrics.Ended[other].Load(); n != 0 {
		t.Errorf("%d requests ended by %s", n, other)
	}
}

// TestSlowHTTP3Reader is the same for HTTP/3.
func TestSlowHTTP3Reader(t *testing.T) {
	s := startRefusing(t, []proxytest.Service{{Name: "d/x:80", Path: "/x", Backends: []string{largePod(t, 12<<20)}}},
		&feedpb.Settings{ResponseTimeoutMs: 3000, MinResponseRate: 1 << 20}, nil)
	transport := &http3.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		QUICConfig: &quic.Config{InitialStreamReceiveWindow: 16 << 10, MaxStreamReceiveWindow: 16 << 10,
			InitialConnectionReceiveWindow: 16 << 10, MaxConnectionReceiveWindow: 16 << 10},
		Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, s.quic, c, q)
		},
	}
	defer transport.Close()
	request, err := http.NewRequest(http.MethodGet, "https://app.test/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	buf := make([]byte, 4<<10)
	for began := time.Now(); time.Since(began) < 60*time.Second; time.Sleep(20 * time.Millisecond) {
		if _, err := response.Body.Read(buf); err != nil {
			break
		}
	}
	proxytest.Counted(t, s.Proxy.Metrics, exchange.ClientSlow, 1)
}
