package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/loader/netnstest"
)

// testProxy is a generation of plain sockets, each of which answers with its own name:
// "generation/worker/kind".
type testProxy struct {
	number uint32
	files  []*os.File
	done   sync.WaitGroup
}

var socketDomains = [abi.WorkerSockets]struct{ domain, kind int }{
	abi.SocketTCP4: {unix.AF_INET, unix.SOCK_STREAM},
	abi.SocketTCP6: {unix.AF_INET6, unix.SOCK_STREAM},
	abi.SocketUDP4: {unix.AF_INET, unix.SOCK_DGRAM},
	abi.SocketUDP6: {unix.AF_INET6, unix.SOCK_DGRAM},
}

// startProxy makes a generation with all its sockets placed. It does not serve yet.
func startProxy(t testing.TB, d *Datapath, workers int) *testProxy {
	t.Helper()
	number, err := d.StartGeneration(workers)
	if err != nil {
		t.Fatal(err)
	}
	p := &testProxy{number: number}
	t.Cleanup(p.close)
	for worker := range workers {
		for kind := range socketDomains {
			fd := listenSocket(t, kind)
			if err := d.PlaceSockets(number, worker, uint32(kind), fd); err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "listener") // non-blocking: Close ends what waits on it
			p.files = append(p.files, f)
			name := fmt.Sprintf("%d/%d/%d", number, worker, kind)
			p.done.Go(func() { answer(f, kind, name) })
		}
	}
	return p
}

// mustServe has a proxy serve, so that SYNs to the proxies are not dropped.
func mustServe(t testing.TB, d *Datapath) {
	t.Helper()
	if err := d.Serve(startProxy(t, d, 2).number); err != nil {
		t.Fatal(err)
	}
}

// listenSocket returns a socket of a kind. It listens on the loopback address alone: what
// else it gets came by kg_lookup. A UDP socket needs the listener's port, because answers
// leave from there; for TCP any port does.
func listenSocket(t testing.TB, kind int) int {
	t.Helper()
	k := socketDomains[kind]
	fd, err := unix.Socket(k.domain, k.kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	port := 0
	if k.kind == unix.SOCK_DGRAM {
		port = 80
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			t.Fatal(err)
		}
	}
	var at unix.Sockaddr = &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
	if k.domain == unix.AF_INET6 {
		at = &unix.SockaddrInet6{Port: port, Addr: [16]byte{15: 1}}
	}
	if err := unix.Bind(fd, at); err != nil {
		t.Fatal(err)
	}
	if k.kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 256)
	} else if k.domain == unix.AF_INET {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	} else {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
			// The ingress address is on no interface; IPv6 answers from it only with this.
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// answer tells its name to everybody who connects, or sends a datagram, until f is closed.
func answer(f *os.File, kind int, name string) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	buf, oob := make([]byte, 64), make([]byte, 128)
	for {
		var conn, n, noob int
		var from unix.Sockaddr
		var callErr error
		err := raw.Read(func(fd uintptr) bool {
			if socketDomains[kind].kind == unix.SOCK_STREAM {
				conn, _, callErr = unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			} else {
				n, noob, _, from, callErr = unix.Recvmsg(int(fd), buf, oob, 0)
			}
			return !errors.Is(callErr, unix.EAGAIN)
		})
		switch {
		case err != nil:
			return
		case callErr != nil:
			continue
		case socketDomains[kind].kind == unix.SOCK_STREAM:
			unix.Write(conn, []byte(name))
			unix.Close(conn)
		case n > 0:
			// The received IP_PKTINFO is what makes the answer come from the VIP.
			raw.Write(func(fd uintptr) bool {
				unix.Sendmsg(int(fd), []byte(name), oob[:noob], from, 0)
				return true
			})
		}
	}
}

func (p *testProxy) close() {
	for _, f := range p.files {
		f.Close()
	}
	p.files = nil
	p.done.Wait()
}

// ask returns the name of who answers at an address, as seen from the namespace.
func ask(ns *netnstest.Namespace, network, address string) (name string, err error) {
	ns.Do(func() {
		d := net.Dialer{Timeout: 2 * time.Second}
		d.SetMultipathTCP(false)
		conn, e := d.DialContext(context.Background(), network, address)
		if e != nil {
			err = e
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if network == "udp" {
			if _, err = conn.Write([]byte("?")); err != nil {
				return
			}
			buf := make([]byte, 64)
			var n int
			n, err = conn.Read(buf)
			name = string(buf[:n])
			return
		}
		b, e := io.ReadAll(conn)
		name, err = string(b), e
	})
	return name, err
}

// counters returns kg_counters by "program/reason".
func counters(t testing.TB, d *Datapath) map[string]uint64 {
	t.Helper()
	list, err := inspect.ReadCounters(d.maps.Counters)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]uint64)
	for _, c := range list {
		out[c.Program+"/"+c.Reason] = c.Packets
	}
	return out
}

// expectCounters fails unless exactly these counters have grown since before.
func expectCounters(t testing.TB, d *Datapath, before map[string]uint64, grown map[string]uint64) {
	t.Helper()
	for name, n := range counters(t, d) {
		if n-before[name] != grown[name] {
			t.Errorf("counter %s grew by %d, want %d", name, n-before[name], grown[name])
		}
	}
}

func addrPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }
