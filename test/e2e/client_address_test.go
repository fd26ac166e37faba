//go:build linux

package e2e

import (
	"bufio"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
)

// balancerAddress is a second address of the client's host, which stands for a load balancer
// or proxy before Kerngate.
const balancerAddress = "192.0.2.150"

// dialAs connects from the second address.
func (s *site) dialAs(from string, port uint16) *wire {
	s.t.Helper()
	var conn net.Conn
	must(s.t, s.lab.Client.Do(func() (err error) {
		dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err = dialer.Dial("tcp", netip.AddrPortFrom(s.lab.VIP4, port).String())
		return err
	}))
	s.t.Cleanup(func() { conn.Close() })
	must(s.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return &wire{Conn: conn, t: s.t, in: bufio.NewReader(conn)}
}

// balancedSite is a site whose client's host has the second address.
func balancedSite(t *testing.T, args ...string) *site {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	eth0, err := s.lab.Client.Links().LinkByName("eth0")
	must(t, err)
	address, err := netlink.ParseAddr(balancerAddress + "/24")
	must(t, err)
	must(t, s.lab.Client.Links().AddrAdd(eth0, address))
	s.Args = append(s.Args, args...)
	s.start()
	return s
}

const oneRequest = "GET / HTTP/1.1\r\nHost: " + webHost + "\r\n"

// Connections of a configured load balancer must begin with a PROXY header, which names the
// client; nobody else's may.
func TestProxyProtocolFromLoadBalancer(t *testing.T) {
	s := balancedSite(t, "--proxy-protocol-from", balancerAddress, "--access-log=on")
	for version := uint8(1); version <= 2; version++ {
		header := string(proxyproto.Append(nil, proxyproto.Header{Version: version,
			Source: netip.MustParseAddrPort("198.51.100.7:4711"), Destination: netip.MustParseAddrPort("198.51.100.1:8080")}))
		w := s.dialAs(balancerAddress, 80)
		w.send(header + oneRequest + "X-Forwarded-For: 6.6.6.6\r\n\r\n")
		r := w.receive("GET")
		if r.Status != 200 || r.Pod.Headers.Get("X-Forwarded-For") != "198.51.100.7" || r.Pod.Headers.Get("X-Forwarded-Port") != "8080" {
			t.Errorf("version %d: status %d, the pod saw %v", version, r.Status, r.Pod.Headers)
		}
		w.send(oneRequest + "\r\n") // the same client still
		if r := w.receive("GET"); r.Pod.Headers.Get("X-Real-Ip") != "198.51.100.7" {
			t.Errorf("version %d, second request: %d, the pod saw %v", version, r.Status, r.Pod.Headers)
		}
		w = s.dial()
		w.send(header + oneRequest + "\r\n")
		if r := w.receive("GET"); r.Status != 400 {
			t.Errorf("version %d from anybody: status %d, want 400", version, r.Status)
		}
	}
	w := s.dialAs(balancerAddress, 80)
	w.send(oneRequest + "\r\n")
	w.wantClosed()
	if counts := s.metrics(lab.ProxyMetricsAddress, "kerngate_proxy_proxy_headers_refused_total"); !strings.Contains(counts, `{reason="missing"} 1`) {
		t.Errorf("the missing header is not counted:\n%s", counts)
	}
	must(t, lab.Until(5*time.Second, "the client in the access log", func() error {
		if !strings.Contains(s.Agent.Log(), `"client":"198.51.100.7:4711","peer":"`+balancerAddress+":") {
			return lab.ErrNotYet
		}
		return nil
	}))
}

// A trusted proxy is believed about its client; anybody else about nothing.
func TestTrustedProxies(t *testing.T) {
	s := balancedSite(t, "--trusted-proxy", balancerAddress+"/32", "--trusted-proxy", "10.0.0.0/8")
	for _, c := range []struct {
		name, from, fields        string
		client, list, proto, port string
	}{
		{"a trusted proxy", balancerAddress, "X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.1.1.1\r\nX-Forwarded-Proto: https\r\n",
			"198.51.100.7", "198.51.100.7, 10.1.1.1, " + balancerAddress, "https", "443"},
		{"a trusted proxy that writes Forwarded", balancerAddress, "Forwarded: for=\"198.51.100.7:99\";proto=https;host=shop.test\r\n",
			"198.51.100.7", "198.51.100.7, " + balancerAddress, "https", "443"},
		{"anybody", s.lab.Client.IPv4.String(), "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nForwarded: for=198.51.100.7\r\nX-Real-IP: 198.51.100.7\r\n",
			s.lab.Client.IPv4.String(), s.lab.Client.IPv4.String(), "http", "80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := s.dialAs(c.from, 80)
			w.send(oneRequest + c.fields + "\r\n")
			r := w.receive("GET")
			for name, want := range map[string]string{
				"X-Forwarded-For": c.list, "X-Real-Ip": c.client, "X-Forwarded-Proto": c.proto, "X-Forwarded-Port": c.port, "Forwarded": "",
			} {
				if got := strings.Join(r.Pod.Headers.Values(name), "; "); got != want {
					t.Errorf("status %d, the pod saw %s %q, want %q", r.Status, name, got, want)
				}
			}
		})
	}
}
