package server_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/client/server"
	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// announced runs a proxy whose clients on loopback must send PROXY headers.
func announced(t *testing.T, backend string) *proxytest.Proxy {
	return proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{backend}}},
		&feedpb.Settings{ProxyHeaderFrom: []string{"127.0.0.0/8"}, HeadTimeoutMs: 300})
}

// refused returns the counts that are not 0.
func refused(p *proxytest.Proxy) string {
	var counts []string
	for i, token := range server.HeaderFaults {
		if p.Stats.HeadersRefused[i].Load() > 0 {
			counts = append(counts, token)
		}
	}
	return strings.Join(counts, " ")
}

// TestProxyHeader: pods see the client that the header names, whatever protocol version and
// however slowly it comes; the request behind it is not touched.
func TestProxyHeader(t *testing.T) {
	seen := make(chan *http.Request, 10)
	backend := pod(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Clone(context.Background())
		io.WriteString(w, "hello")
	})
	client := proxyproto.Header{Source: netip.MustParseAddrPort("192.0.2.7:1234"), Destination: netip.MustParseAddrPort("203.0.113.1:8443")}
	header := func(version uint8, h proxyproto.Header) string {
		h.Version = version
		return string(proxyproto.Append(nil, h))
	}
	for name, c := range map[string]struct{ header, address, port string }{
		"version 1": {header(1, client), "192.0.2.7", "8443"},
		"version 2": {header(2, client), "192.0.2.7", "8443"},
		"nobody":    {header(2, proxyproto.Header{}), "127.0.0.1", ""},
		"unknown":   {header(1, proxyproto.Header{}), "127.0.0.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := announced(t, backend)
			_, own, _ := net.SplitHostPort(p.Address)
			check := func(answer string) {
				t.Helper()
				if !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") {
					t.Fatalf("answer %q", answer)
				}
				r := <-seen
				if port := r.Header.Get("X-Forwarded-Port"); r.Header.Get("X-Forwarded-For") != c.address || port != c.port && (c.port != "" || port != own) {
					t.Errorf("the pod saw %v", r.Header)
				}
			}
			const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			check(talk(t, p, c.header+request))
			// The header in pieces, the request behind it.
			conn := p.Dial(t)
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			for _, piece := range []string{c.header[:1], c.header[1:9], c.header[9:], request} {
				io.WriteString(conn, piece)
				time.Sleep(5 * time.Millisecond) // so that they come in pieces
			}
			answer, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			check(string(answer))
			// It names the client of all requests on the connection.
			conn = p.Dial(t)
			in := make([]byte, 4096)
			io.WriteString(conn, c.header)
			for range 3 {
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				n, err := conn.Read(in)
				if err != nil {
					t.Fatal(err)
				}
				check(string(in[:n]))
			}
			if got := refused(p); got != "" {
				t.Errorf("refused: %s", got)
			}
		})
	}
}

// TestProxyHeaderRefused: without a valid header the connection is closed unanswered, and
// counted by reason.
func TestProxyHeaderRefused(t *testing.T) {
	backend := pod(t, func(http.ResponseWriter, *http.Request) { t.Error("a request reached the pod") })
	for name, c := range map[string]struct{ first, reason string }{
		"a request":      {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "missing"},
		"not valid":      {"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "address"},
		"too slow":       {"PROXY TCP4 192.", "timeout"},
		"nothing at all": {"", "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			p := announced(t, backend)
			conn := p.Dial(t)
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			io.WriteString(conn, c.first)
			if answer, err := io.ReadAll(conn); len(answer) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%q, %v; want the connection closed", answer, err)
			}
			if got := refused(p); got != c.reason {
				t.Errorf("counted as %q, want %q", got, c.reason)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		p := announced(t, backend)
		conn := p.Dial(t)
		io.WriteString(conn, "PROXY TCP4 192.")
		conn.CloseWrite()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.ReadAll(conn)
		if got := refused(p); got != "closed" {
			t.Errorf("counted as %q", got)
		}
	})
}

// TestProxyHeaderOfAnybody: from a peer that is not configured a header is a bad request.
func TestProxyHeaderOfAnybody(t *testing.T) {
	backend := pod(t, func(http.ResponseWriter, *http.Request) { t.Error("a request reached the pod") })
	for version := uint8(1); version <= 2; version++ {
		h := proxyproto.Append(nil, proxyproto.Header{Version: version,
			Source: netip.MustParseAddrPort("192.0.2.7:1234"), Destination: netip.MustParseAddrPort("203.0.113.1:80")})
		if answer := talk(t, one(t, backend), string(h)+"GET / HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Errorf("version %d: %q, want 400", version, answer)
		}
	}
}
