package skmsg

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/netnstest"
)

// open attaches the programs until the test ends. It reports false on a kernel that is refused.
func open(t *testing.T, o Options) (*Programs, bool) {
	t.Helper()
	if err := knownBad(); err != nil {
		t.Logf("not joined here: %v", err)
		return nil, false
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, true
}

func (p *Programs) mustCount(t *testing.T) Counters {
	t.Helper()
	c, err := p.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ends connects on an address; from is the connecting end's, "" any.
func ends(t *testing.T, on, from string, priority int) (proxy, pod end) {
	t.Helper()
	l, err := listen(t.Context(), on, false)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, priority) })
	}}
	d.SetMultipathTCP(false)
	if from != "" {
		if d.LocalAddr, err = net.ResolveTCPAddr("tcp", from); err != nil {
			t.Fatal(err)
		}
	}
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	proxy, pod = end{c.(*net.TCPConn)}, end{accepted}
	t.Cleanup(func() { proxy.Close(); pod.Close() })
	return proxy, pod
}

func talk(t *testing.T, proxy, pod end, text string) {
	t.Helper()
	for _, way := range [][2]end{{proxy, pod}, {pod, proxy}} {
		if err := pass(way[0], way[1], []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// Joined are sockets of the user and network namespace that ask for it, and no others; not those
// of another namespace that have the same addresses and ports.
func TestWhoIsJoined(t *testing.T) {
	netnstest.Enter(t)
	p, ok := open(t, Options{UID: uint32(os.Getuid())})
	if !ok {
		return
	}
	proxy, pod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
	talk(t, proxy, pod, "of the proxy's")
	if c := p.mustCount(t); c.Asked != 1 || c.Joined != 1 || c.PastTCP != 2 {
		t.Errorf("a socket that asks: %+v", c)
	}
	plainProxy, plainPod := ends(t, "127.0.0.1:0", "", 0)
	talk(t, plainProxy, plainPod, "of others'")
	if c := p.mustCount(t); c.Asked != 1 || c.PastTCP != 2 {
		t.Errorf("a socket that does not ask: %+v", c)
	}

	t.Run("of another namespace", func(t *testing.T) {
		netnstest.Enter(t)
		twin, twinPod := ends(t, pod.conn.LocalAddr().String(), proxy.conn.LocalAddr().String(), abi.JoinPriority)
		talk(t, twin, twinPod, "of the other namespace")
		if c := p.mustCount(t); c.Asked != 1 || c.Joined != 1 || c.PastTCP != 2 {
			t.Errorf("with the same addresses and ports: %+v", c)
		}
	})
	talk(t, proxy, pod, "still of the proxy's")
	if c := p.mustCount(t); c.PastTCP != 4 || c.ByTCP != 0 {
		t.Errorf("afterwards: %+v", c)
	}
}

func TestAnotherUser(t *testing.T) {
	netnstest.Enter(t)
	p, ok := open(t, Options{UID: 65532})
	if !ok {
		return
	}
	proxy, pod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
	talk(t, proxy, pod, "of root")
	if c := p.mustCount(t); c != (Counters{}) {
		t.Errorf("a socket of another user: %+v", c)
	}
}

// Connections that are closed leave nothing in the maps, whichever end is first.
func TestNothingStays(t *testing.T) {
	netnstest.Enter(t)
	p, ok := open(t, Options{UID: uint32(os.Getuid())})
	if !ok {
		return
	}
	for i := range 100 {
		proxy, pod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
		talk(t, proxy, pod, "hello")
		if i%2 == 0 {
			proxy, pod = pod, proxy
		}
		proxy.Close()
		pod.Close()
	}
	left := func() error {
		for _, m := range []*ebpf.Map{p.objects.maps.Pairs.Map(), p.objects.maps.Sockets.Map()} {
			var key joinKey
			n := 0
			for err := m.NextKey(nil, &key); err == nil && n < 1000; n++ {
				err = m.NextKey(key, &key)
			}
			if n > 0 {
				return fmt.Errorf("%v holds %d entries", m, n)
			}
		}
		return nil
	}
	err := left()
	for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); err = left() {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
	if c := p.mustCount(t); c.Joined != 100 || c.Full != 0 {
		t.Errorf("%+v", c)
	}
}

// An agent's programs take the place of an earlier one's in the same link; what the earlier one
// joined goes on; Remove ends it for those that come.
func TestTakeOver(t *testing.T) {
	netnstest.Enter(t)
	o := Options{UID: uint32(os.Getuid()), Folder: netnstest.BPFFS(t)}
	first, ok := open(t, o)
	if !ok {
		return
	}
	old, oldPod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
	talk(t, old, oldPod, "joined by the first")
	first.Close()
	between, betweenPod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
	talk(t, between, betweenPod, "joined without an agent")
	second, _ := open(t, o)
	proxy, pod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
	talk(t, proxy, pod, "joined by the second")
	if c := second.mustCount(t); c.Asked != 1 || c.Joined != 1 || c.PastTCP != 2 {
		t.Errorf("the second: %+v", c)
	}
	if err := Remove(o.Folder); err != nil {
		t.Fatal(err)
	}
	if err := Remove(o.Folder); err != nil {
		t.Errorf("a second time: %v", err)
	}
	plain, plainPod := ends(t, "127.0.0.1:0", "", abi.JoinPriority)
	talk(t, plain, plainPod, "not joined")
	if c := second.mustCount(t); c.Asked != 1 {
		t.Errorf("after Remove: %+v", c)
	}
	for _, c := range [][2]end{{old, oldPod}, {between, betweenPod}, {proxy, pod}} {
		talk(t, c[0], c[1], "goes on")
	}
}
