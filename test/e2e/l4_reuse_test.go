//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
)

// dialEchoFrom is dialEcho with a client port of the test's choice.
func (s *site) dialEchoFrom(port uint16, vip netip.Addr) (e *echoes, err error) {
	d := net.Dialer{
		Timeout:   5 * time.Second,
		LocalAddr: &net.TCPAddr{Port: int(port)},
		Control: func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			})
		},
	}
	err = s.lab.Client.Do(func() error {
		conn, err := d.DialContext(context.Background(), "tcp", netip.AddrPortFrom(vip, l4Port).String())
		if err == nil {
			e = &echoes{Conn: conn, lines: newLines(conn)}
		}
		return err
	})
	return e, err
}

// TestL4PortReuse: clients whose ports come round again while pods come and go always get
// a connection, whichever way the one before it ended.
func TestL4PortReuse(t *testing.T) {
	s, pods := newL4Site(t, 5)
	must(t, s.lab.Client.SetSysctl("ipv4/tcp_tw_reuse", "1"))
	sets := [][]*lab.Pod{pods[:2], pods[2:4], pods[1:], pods[:1], pods[3:]}
	const ports = 100 // for each address
	failed := 0
	for round := range 6 {
		set := sets[round%len(sets)]
		must(t, s.Manifests.Write("echo.yaml", l4Objects(nil, set...)...))
		ready := map[string]bool{}
		for _, p := range set {
			ready[p.Name] = true
		}
		for _, vip := range s.vips() {
			must(t, lab.Until(10*time.Second, "change of pods", func() error {
				for range 8 {
					e, err := s.dialEcho("tcp", vip)
					if err != nil {
						return err
					}
					pod, err := e.ask("new")
					e.Close()
					if err != nil {
						return err
					}
					if !ready[pod] {
						return fmt.Errorf("%s gets new connections", pod)
					}
				}
				return nil
			}))
		}
		var mu sync.Mutex
		var wait sync.WaitGroup
		slots := make(chan struct{}, 20)
		for i := range ports * len(s.vips()) {
			vip := s.vips()[i%len(s.vips())]
			port := uint16(20000 + i/len(s.vips()))
			wait.Add(1)
			slots <- struct{}{}
			go func() {
				defer func() { <-slots; wait.Done() }()
				err := s.oneReuse(port, vip, ready, i%3)
				if err != nil {
					mu.Lock()
					failed++
					if failed <= 10 {
						t.Errorf("round %d, from port %d to %s: %v", round+1, port, vip, err)
					}
					mu.Unlock()
				}
			}()
		}
		wait.Wait()
	}
	if failed > 0 {
		t.Errorf("%d of %d connections failed", failed, 6*ports*len(s.vips()))
	}
}

// oneReuse makes a connection, and ends it: 0 the client first, 1 by a reset, 2 the pod first.
func (s *site) oneReuse(port uint16, vip netip.Addr, ready map[string]bool, end int) error {
	e, err := s.dialEchoFrom(port, vip)
	if err != nil {
		return err
	}
	defer e.Close()
	for _, text := range []string{"one", "two"} {
		pod, err := e.ask(text)
		if err != nil {
			return err
		}
		if !ready[pod] {
			return fmt.Errorf("answered by %s, which is not ready", pod)
		}
	}
	switch end {
	case 1:
		return e.Conn.(*net.TCPConn).SetLinger(0)
	case 2:
		if _, err := fmt.Fprintln(e, "bye"); err != nil {
			return err
		}
		_, err = e.lines.ReadString(0) // until its end
		if err.Error() == "EOF" {
			return nil
		}
		return err
	}
	return nil
}
