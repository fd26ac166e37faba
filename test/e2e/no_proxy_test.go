//go:build linux

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
)

// newcomers are clients that make new connections at a steady rate and send a request on each.
type newcomers struct {
	dialled  atomic.Int64
	refused  atomic.Int64
	reset    atomic.Int64 // in the middle of the handshake
	failed   atomic.Int64 // to connect, for another reason
	answered atomic.Int64
	stop     chan struct{}
	wait     sync.WaitGroup
	mu       sync.Mutex
	first    error // of those that failed
}

// newcomers starts clients of the ingress addresses in turn. However long a proxy takes to come back,
// each of them keeps trying to connect.
func (s *site) newcomers(perSecond int) *newcomers {
	n := &newcomers{stop: make(chan struct{})}
	s.t.Cleanup(n.end)
	n.wait.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-n.stop:
				return
			case <-tick.C:
			}
			n.dialled.Add(1)
			vip := s.vips()[i%len(s.vips())]
			n.wait.Go(func() { n.one(s.lab.Client, vip) })
		}
	})
	return n
}

func (n *newcomers) one(from *lab.Host, vip netip.Addr) {
	var conn net.Conn
	err := from.Do(func() (err error) {
		d := net.Dialer{Timeout: 2 * time.Minute}
		d.SetMultipathTCP(false)
		conn, err = d.Dial("tcp", netip.AddrPortFrom(vip, 80).String())
		return err
	})
	if err != nil {
		switch {
		case errors.Is(err, unix.ECONNREFUSED):
			n.refused.Add(1)
		case errors.Is(err, unix.ECONNRESET):
			n.reset.Add(1)
			return
		default:
			n.failed.Add(1)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.first == nil {
			n.first = err
		}
		return
	}
	defer conn.Close()
	// A proxy may end before it has read this.
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", webHost)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && line == "HTTP/1.1 200 OK\r\n" {
		n.answered.Add(1)
	}
}

// end stops new ones and waits for those under way.
func (n *newcomers) end() {
	select {
	case <-n.stop:
	default:
		close(n.stop)
	}
	n.wait.Wait()
}

// wantAllConnected ends the clients and fails if one of them did not get a connection. One
// that a proxy had just accepted when it was killed is reset, and a client that is late to notice
// that it was made takes it for a failure of the handshake. A few of those may be for each proxy.
func (n *newcomers) wantAllConnected(t *testing.T, what string, killed int64) {
	t.Helper()
	n.end()
	dialled, answered, reset := n.dialled.Load(), n.answered.Load(), n.reset.Load()
	report(t, "%s: %d connections, %d refused, %d reset in the handshake, %d failed otherwise, %d answered", what, dialled, n.refused.Load(), reset, n.failed.Load(), answered)
	if reset > 5*killed {
		t.Errorf("%s: %d connections of %d were reset in the handshake by the end of %d proxies", what, reset, dialled, killed)
	}
	if n.refused.Load()+n.failed.Load() > 0 {
		t.Errorf("%s: %d connections of %d refused, %d failed otherwise; the first: %v", what, n.refused.Load(), dialled, n.failed.Load(), n.first)
	}
	if answered == 0 {
		t.Errorf("%s: none of %d was answered", what, dialled)
	}
}

// dropped returns how many SYNs came while no proxy served, wherever they were dropped.
func (s *site) dropped() (n int) {
	for _, reason := range []string{
		`{program="kg_ingress",reason="no_proxy"}`, `{program="kg_xdp",reason="no_proxy"}`,
		`{program="kg_lookup",reason="no_proxy"}`, `{program="kg_lookup",reason="no_worker"}`,
	} {
		name := "kerngate_kernel_packets_total" + reason
		n += (&coming{site: s}).metrics(lab.MetricsAddress, name)[name]
	}
	return n
}

// TestNobodyIsRefused: proxies are killed twenty times under 200 new connections a second, or as often
// as a slow machine can in 40 s. Who connects while none serves waits in the listening sockets
// that the agent has kept, for the next one.
func TestNobodyIsRefused(t *testing.T) {
	s := webSite(t, 1)
	before := s.dropped()
	n := s.newcomers(200)
	killed := int64(0)
	var gaps []time.Duration
	// Clients give up after a minute or two without luck: SYNs come again ever later.
	for began := time.Now(); killed < 20 && time.Since(began) < 40*time.Second; killed++ {
		pids, err := s.ProxyPIDs()
		must(t, err)
		for _, pid := range pids {
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		}
		answered, died := n.answered.Load(), time.Now()
		for n.answered.Load() < answered+10 && time.Since(died) < time.Minute { // some were on their way
			time.Sleep(time.Millisecond)
		}
		gaps = append(gaps, time.Since(died).Round(time.Millisecond))
		must(t, lab.Until(time.Minute, "answers of the next proxy", func() error {
			now, err := s.ProxyPIDs()
			if err == nil && (len(now) != 1 || slices.Contains(pids, now[0]) || n.answered.Load() < answered+100) {
				err = lab.ErrNotYet
			}
			return err
		}))
	}
	n.wantAllConnected(t, fmt.Sprintf("proxies killed %d times", killed), killed)
	slices.Sort(gaps)
	report(t, "ten more answers %s after a proxy was killed (median; longest %s)", gaps[len(gaps)/2], gaps[len(gaps)-1])
	// SYNs are dropped, and come again a second later, only where the agent has kept no sockets.
	if got := s.dropped() - before; int64(got) > 5*killed {
		t.Errorf("%d SYNs were dropped while %d proxies were killed: want them to wait for the next proxy", got, killed)
	}
}

// TestProxyStopped: a proxy that is stopped gets no new connections any more, another one takes
// them, and the stopped one is killed in the end.
func TestProxyStopped(t *testing.T) {
	s := webSite(t, 1)
	before, err := s.ProxyPIDs()
	must(t, err)
	n := s.newcomers(50)
	must(t, syscall.Kill(before[0], syscall.SIGSTOP))
	t.Cleanup(func() { syscall.Kill(before[0], syscall.SIGKILL) })
	began := time.Now()
	must(t, lab.Until(time.Minute, "another proxy", func() error {
		pids, err := s.ProxyPIDs()
		if err == nil && !slices.ContainsFunc(pids, func(pid int) bool { return pid != before[0] }) {
			err = lab.ErrNotYet
		}
		return err
	}))
	report(t, "another proxy was started %s after the first was stopped", time.Since(began).Round(time.Millisecond))
	answered := n.answered.Load()
	must(t, lab.Until(time.Minute, "answers", func() error {
		if n.answered.Load() < answered+50 {
			return lab.ErrNotYet
		}
		return nil
	}))
	report(t, "50 more answers %s after that", time.Since(began).Round(time.Millisecond))
	must(t, lab.Until(time.Minute, "end of the stopped proxy", func() error {
		pids, err := s.ProxyPIDs()
		if err == nil && (len(pids) != 1 || pids[0] == before[0]) {
			err = fmt.Errorf("proxies %v, %d was stopped", pids, before[0])
		}
		return err
	}))
	n.wantAllConnected(t, "proxy stopped", 1)
}
