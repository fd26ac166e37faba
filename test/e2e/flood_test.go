//go:build linux

package e2e

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/test/lab/flood"
)

// TestSYNFlood: while SYNs come from everywhere, clients are served all along, and many of
// their connections begin by a cookie that the stack has never seen sent.
func TestSYNFlood(t *testing.T) {
	s := prepareSite(t, 2, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	node, attacker := s.lab.Nodes[0], s.lab.Nodes[1]
	// The queue is as short as on a node that nobody has tuned, so that few are enough.
	must(t, node.SetSysctl("core/somaxconn", "128"))
	must(t, node.SetSysctl("ipv4/tcp_syncookies", "1"))
	s.Args = append(s.Args, "--syn-rate", "200")
	s.start()
	f, err := flood.Start(attacker.Host, flood.Target{Node: node, Address: netip.AddrPortFrom(s.lab.VIP4, 80)}, 3000)
	must(t, err)
	const sent = `kerngate_kernel_packets_total{program="kg_ingress",reason="cookie_sent"}`
	cookies := func() int { return (&coming{site: s}).metrics(lab.MetricsAddress, sent)[sent] }
	must(t, lab.Until(20*time.Second, "cookies", func() error {
		if cookies() == 0 {
			return lab.ErrNotYet
		}
		return nil
	}))
	before := netstat(t, node.Host, "SyncookiesRecv")
	slow := 0
	for i := range 60 {
		time.Sleep(50 * time.Millisecond)
		for _, client := range s.http {
			client.CloseIdleConnections() // a new connection for each
		}
		began := time.Now()
		if r := s.get("http://" + webHost + "/"); r.Status != 200 {
			t.Errorf("request %d during the flood: status %d", i, r.Status)
		}
		if took := time.Since(began); took > 900*time.Millisecond { // a SYN that is lost comes again after a second
			slow++
		}
	}
	if slow > 6 {
		t.Errorf("%d of 60 requests waited for a SYN to be sent again", slow)
	}
	by := netstat(t, node.Host, "SyncookiesRecv") - before
	n, err := f.Stop()
	must(t, err)
	report(t, "%d SYNs, %d answered by cookies; %d of 60 requests came by one", n, cookies(), by)
	if by < 10 {
		t.Errorf("%d connections of 60 began by a cookie: was the queue full?", by)
	}
	if n < 1000 || cookies() < n/4 {
		t.Errorf("%d cookies for %d SYNs", cookies(), n)
	}
}

// netstat returns a counter of the host's stack (TcpExt of /proc/net/netstat).
func netstat(t *testing.T, h *lab.Host, name string) (value int) {
	t.Helper()
	must(t, h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/netstat")
		lines := strings.Split(string(text), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for at, n := range names {
				if n == name && names[0] == "TcpExt:" {
					value, err = strconv.Atoi(values[at])
				}
			}
		}
		return err
	}))
	return value
}
