package upstream_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kerngate/kerngate/userspace/control/cert/certtest"
	"github.com/kerngate/kerngate/userspace/feed/feedpb"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/proxytest"
)

// tlsPod serves HTTPS and says what it has seen of the connection.
func tlsPod(t *testing.T, h2 bool, change func(*tls.Config), chain, key []byte) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			peer = r.TLS.PeerCertificates[0].DNSNames[0]
		}
		fmt.Fprintf(w, "%s sni=%s from=%s resumed=%t", r.Proto, r.TLS.ServerName, peer, r.TLS.DidResume)
		if r.URL.Path == "/close" {
			w.Header().Set("Connection", "close")
		}
	}))
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	s.EnableHTTP2 = h2
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(s.TLS)
	}
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// with sends the configuration what stands beside routes.
func with(t *testing.T, p *proxytest.Proxy, c *feedpb.Config) {
	t.Helper()
	c.Version = p.Config.Load().Version + 1
	next, err := p.Config.Load().Apply(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Config.Store(next)
}

// TestTLS: pods are spoken to as the Ingress says, and trusted only then.
func TestTLS(t *testing.T) {
	trusted, other := certtest.NewAuthorityOf(certtest.ECDSA, "trusted"), certtest.NewAuthorityOf(certtest.ECDSA, "other")
	good, goodKey := trusted.Pair(certtest.ECDSA, "pod.example")
	strange, strangeKey := other.Pair(certtest.ECDSA, "pod.example")
	old, oldKey := trusted.Make(certtest.ECDSA, func(c *x509.Certificate) {
		c.DNSNames = []string{"pod.example"}
		c.NotAfter = time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)
	})
	mine, mineKey := trusted.Pair(certtest.ECDSA, "proxy.example")
	pool := x509.NewCertPool()
	pool.AddCert(trusted.Certificate)
	demands := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool }

	verified := func() *feedpb.UpstreamTLS {
		return &feedpb.UpstreamTLS{Verify: true, Authority: "d/ca", ServerName: "pod.example"}
	}
	for _, c := range []struct {
		name    string
		pod     string
		h2      bool
		tls     *feedpb.UpstreamTLS
		want    string // the beginning of the body
		detail  string
		refused exchange.Reason
	}{
		{"not verified", tlsPod(t, false, nil, strange, strangeKey), false, &feedpb.UpstreamTLS{}, "HTTP/1.1 sni=host.example from=nobody", "", 0},
		{"HTTP/2", tlsPod(t, true, nil, strange, strangeKey), true, &feedpb.UpstreamTLS{}, "HTTP/2.0 sni=host.example from=nobody", "", 0},
		{"verified", tlsPod(t, false, nil, good, goodKey), false, verified(), "HTTP/1.1 sni=pod.example", "", 0},
		{"verified, HTTP/2", tlsPod(t, true, nil, good, goodKey), true, verified(), "HTTP/2.0 sni=pod.example", "", 0},
		{"client certificate", tlsPod(t, true, demands, good, goodKey), true,
			&feedpb.UpstreamTLS{Certificate: "d/mine"}, "HTTP/2.0 sni=host.example from=proxy.example", "", 0},
		{"client certificate, HTTP/1.1", tlsPod(t, false, demands, good, goodKey), false,
			&feedpb.UpstreamTLS{Certificate: "d/mine"}, "HTTP/1.1 sni=host.example from=proxy.example", "", 0},
		{"no client certificate", tlsPod(t, true, demands, good, goodKey), true, &feedpb.UpstreamTLS{}, "", "alert_by_the_pod", exchange.UpstreamTLS},
		{"unknown authority", tlsPod(t, false, nil, strange, strangeKey), false, verified(), "", "certificate_of_unknown_authority", exchange.UpstreamUntrusted},
		{"expired", tlsPod(t, true, nil, old, oldKey), true, verified(), "", "certificate_expired", exchange.UpstreamUntrusted},
		{"another name", tlsPod(t, true, nil, good, goodKey), true,
			&feedpb.UpstreamTLS{Verify: true, Authority: "d/ca"}, "", "certificate_for_another_name", exchange.UpstreamUntrusted},
		{"missing authority", tlsPod(t, false, nil, good, goodKey), false,
			&feedpb.UpstreamTLS{Verify: true, Authority: "d/gone", ServerName: "pod.example"}, "", "secret_missing", exchange.UpstreamTLS},
		{"missing certificate", tlsPod(t, false, nil, good, goodKey), false, &feedpb.UpstreamTLS{Certificate: "d/gone"}, "", "secret_missing", exchange.UpstreamTLS},
		{"HTTP/2 where the pod has none", tlsPod(t, false, func(c *tls.Config) { c.NextProtos = nil }, good, goodKey), true, &feedpb.UpstreamTLS{}, "", "", exchange.UpstreamTLS},
		{"TLS where the pod has none", h2Pod(t, http.NotFoundHandler()), true, &feedpb.UpstreamTLS{}, "", "", exchange.UpstreamTLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &feedpb.Upstream{Tls: c.tls}
			if c.h2 {
				u.Protocol = feedpb.Upstream_HTTP2
			}
			p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{c.pod}, Upstream: u}}, &feedpb.Settings{AccessLogSample: 1})
			with(t, p, &feedpb.Config{
				Certificates: []*feedpb.Certificate{{Id: "d/mine", Chain: mine, Key: mineKey}},
				Authorities:  []*feedpb.Authority{{Id: "d/ca", Certificates: trusted.PEM()}},
			})
			q, _ := http.NewRequest("GET", "http://"+p.Address, nil)
			q.Host = "host.example"
			r, err := client(t).Do(q)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(r.Body)
			if c.refused == 0 {
				if r.StatusCode != 200 || !strings.HasPrefix(string(b), c.want) {
					t.Errorf("%d %q, want %q", r.StatusCode, b, c.want)
				}
				return
			}
			if r.StatusCode != 502 || !strings.HasPrefix(string(b), c.refused.String()) || !strings.Contains(string(b), c.detail) {
				t.Errorf("%d %q, want %s (%s)", r.StatusCode, b, c.refused, c.detail)
			}
		})
	}
}

// TestTLSSharing: connections are shared by those who trust alike, sessions are resumed, and
// a new authority means new connections.
func TestTLSSharing(t *testing.T) {
	trusted, other := certtest.NewAuthorityOf(certtest.ECDSA, "trusted"), certtest.NewAuthorityOf(certtest.ECDSA, "other")
	good, goodKey := trusted.Pair(certtest.ECDSA, "pod.example")
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2: ", h2), func(t *testing.T) {
			u := &feedpb.Upstream{Tls: &feedpb.UpstreamTLS{Verify: true, Authority: "d/ca", ServerName: "pod.example"}}
			if h2 {
				u.Protocol = feedpb.Upstream_HTTP2
			}
			p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{tlsPod(t, h2, nil, good, goodKey)}, Upstream: u}}, nil)
			authority := func(a *certtest.Authority) *feedpb.Config {
				return &feedpb.Config{Authorities: []*feedpb.Authority{{Id: "d/ca", Certificates: a.PEM()}}}
			}
			with(t, p, authority(trusted))
			ask := func() string {
				_, body, err := outcome(t, p, "GET")
				if err != nil {
					t.Fatal(err)
				}
				return body
			}
			dialed := func() uint64 {
				n := make(chan uint64)
				p.Loop.Submit(func() { n <- p.Pool.Stats.Dialed })
				return <-n
			}
			for range 5 {
				ask()
			}
			if n := dialed(); n != 1 {
				t.Errorf("%d connections for 5 requests", n)
			}
			p.Loop.Submit(func() { p.Pool.CloseIdle() })
			if body := ask(); !strings.HasSuffix(body, "resumed=true") {
				t.Errorf("%q, want a resumed session", body)
			}
			with(t, p, authority(other))
			if body := ask(); !strings.HasPrefix(body, "upstream_untrusted") {
				t.Errorf("%q behind a new authority", body)
			}
			with(t, p, authority(trusted))
			if body := ask(); !strings.HasPrefix(body, "HTTP/") {
				t.Errorf("%q", body)
			}
		})
	}
}

// TestProxyHeader: each connection begins by saying who its one client is.
func TestProxyHeader(t *testing.T) {
	for _, version := range []uint32{1, 2} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			var mu sync.Mutex
			var headers []string
			var conns atomic.Int64
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
					conns.Add(1)
					go func() {
						defer c.Close()
						in := bufio.NewReader(c)
						var header []byte
						if version == 1 {
							line, _ := in.ReadString('\n')
							header = []byte(line)
						} else {
							header = make([]byte, 28)
							io.ReadFull(in, header)
						}
						mu.Lock()
						headers = append(headers, string(header))
						mu.Unlock()
						for {
							r, err := http.ReadRequest(in)
							if err != nil {
								return
							}
							io.Copy(io.Discard, r.Body)
							io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
						}
					}()
				}
			}()
			p := proxytest.Start(t, []proxytest.Service{{Name: "default/a:80", Path: "/", Backends: []string{l.Addr().String()}, Upstream: &feedpb.Upstream{ProxyHeader: version}}}, nil)
			c := p.Dial(t)
			in := bufio.NewReader(c)
			for range 2 {
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				r, err := http.ReadResponse(in, nil)
				if err != nil || r.StatusCode != 200 {
					t.Fatal(r, err)
				}
				io.Copy(io.Discard, r.Body)
			}
			if n := conns.Load(); n != 2 {
				t.Errorf("%d connections for 2 requests", n)
			}
			us := c.LocalAddr().(*net.TCPAddr)
			for _, h := range headers {
				want := fmt.Sprintf("PROXY TCP4 127.0.0.1 127.0.0.1 %d %s\r\n", us.Port, p.Address[strings.LastIndexByte(p.Address, ':')+1:])
				if version == 2 {
					want = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01" + string([]byte{byte(us.Port >> 8), byte(us.Port)}) + h[26:]
				}
				if h != want {
					t.Errorf("%q, want %q", h, want)
				}
			}
		})
	}
}
