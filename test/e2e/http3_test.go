//go:build linux

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/kerngate/kerngate/test/lab"
)

// udp opens a UDP socket on the client.
func (s *site) udp() *net.UDPConn {
	s.t.Helper()
	var c *net.UDPConn
	must(s.t, s.lab.Client.Do(func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{})
		return err
	}))
	s.t.Cleanup(func() { c.Close() })
	return c
}

// quicClient speaks HTTP/3 over one connection.
type quicClient struct {
	t    *testing.T
	conn *quic.Conn
	http *http3.ClientConn
}

func (s *secureSite) quic(vip netip.Addr) *quicClient {
	s.t.Helper()
	c, err := s.tryQUIC(vip)
	must(s.t, err)
	return c
}

func (s *secureSite) tryQUIC(vip netip.Addr) (*quicClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	transport := &quic.Transport{Conn: s.udp()}
	s.t.Cleanup(func() { transport.Close() })
	config := s.config(webHost)
	config.NextProtos = []string{http3.NextProtoH3}
	conn, err := transport.Dial(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(vip, 443)), config, &quic.Config{KeepAlivePeriod: time.Second})
	if err != nil {
		return nil, err
	}
	return &quicClient{t: s.t, conn: conn, http: (&http3.Transport{}).NewClientConn(conn)}, nil
}

func (c *quicClient) do(method, path string, body io.Reader) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "https://"+webHost+path, body)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

func (c *quicClient) mustGet(path string) *http.Response {
	c.t.Helper()
	resp, _, err := c.do("GET", path, nil)
	must(c.t, err)
	if resp.StatusCode != 200 || resp.ProtoMajor != 3 {
		c.t.Fatalf("GET %s: %s %s", path, resp.Proto, resp.Status)
	}
	return resp
}

// HTTP/3 is served on both families, from the ingress address, and HTTP/2 clients are told.
func TestHTTP3(t *testing.T) {
	s := newSecureSite(t, "--http3")
	for _, vip := range s.vips() {
		c := s.quic(vip)
		for range 5 {
			c.mustGet("/")
		}
		body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
		resp, _, err := c.do("POST", "/?size=1048576", bytes.NewReader(body))
		must(t, err)
		if resp.StatusCode != 200 {
			t.Errorf("%s: POST of 1 MiB: %s", vip, resp.Status)
		}
	}
	config := s.config(webHost)
	config.NextProtos = []string{"http/1.1"}
	if got := s.mustSecure(config).ask(webHost, "/").Header.Get("Alt-Svc"); !strings.Contains(got, `h3=":443"`) {
		t.Errorf("Alt-Svc: %q", got)
	}
}

// A client that moves to another address stays on its connection, and so on its worker.
func TestHTTP3Migration(t *testing.T) {
	s := newSecureSite(t, "--http3")
	// With two workers a connection that is steered by address would change its worker in
	// half of the cases.
	for range 6 {
		c := s.quic(s.lab.VIP4)
		c.mustGet("/")
		next := &quic.Transport{Conn: s.udp()}
		t.Cleanup(func() { next.Close() })
		path, err := c.conn.AddPath(next)
		must(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		must(t, path.Probe(ctx))
		cancel()
		must(t, path.Switch())
		c.mustGet("/")
	}
}

// Connections stay on the proxy that they began with when another takes over; new ones go
// to the new proxy.
func TestHTTP3Generations(t *testing.T) {
	s := newSecureSite(t, "--http3")
	old := s.quic(s.lab.VIP4)
	old.mustGet("/")
	before, err := s.ProxyPIDs()
	must(t, err)

	slow := make(chan error, 1)
	go func() {
		resp, _, err := old.do("GET", "/?delay=4s", nil)
		if err == nil && resp.StatusCode != 200 {
			err = io.ErrUnexpectedEOF
		}
		slow <- err
	}()
	time.Sleep(200 * time.Millisecond)
	must(t, s.Agent.Signal(syscall.SIGHUP))
	s.servesAlone(s.newProxy(before[0]))
	fresh := s.quic(s.lab.VIP4)
	fresh.mustGet("/")
	if err := <-slow; err != nil {
		t.Errorf("the request under way on the old proxy: %v", err)
	}
	fresh.mustGet("/")
}

// newProxy waits for a proxy beside the old one and returns its process id.
func (s *site) newProxy(old int) (pid int) {
	s.t.Helper()
	must(s.t, lab.Until(15*time.Second, "a new proxy", func() error {
		pids, err := s.ProxyPIDs()
		for _, p := range pids {
			if p != old {
				pid = p
				return nil
			}
		}
		return cmp.Or(err, errors.New("none yet"))
	}))
	return pid
}

// Without the flag nothing is served, and nobody is told that it were.
func TestHTTP3WithoutFlag(t *testing.T) {
	s := newSecureSite(t)
	if _, err := s.tryQUIC(s.lab.VIP4); err == nil {
		t.Error("a QUIC connection stands without --http3")
	}
	if got := s.mustSecure(&tls.Config{ServerName: webHost, RootCAs: s.authority.Pool(), NextProtos: []string{"http/1.1"}}).
		ask(webHost, "/").Header.Get("Alt-Svc"); got != "" {
		t.Errorf("Alt-Svc: %q", got)
	}
}
