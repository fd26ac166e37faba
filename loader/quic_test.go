package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// quicPort is not 80, so that nothing but BindQUIC's sockets can have answered.
const quicPort = 443

func quicVIPs() state.State {
	s := state.State{Addresses: []netip.Addr{vip4, vip6}}
	for _, a := range s.Addresses {
		s.Listeners = append(s.Listeners, state.Listener{Address: netip.AddrPortFrom(a, quicPort), Protocol: state.UDP, Mode: state.L7})
	}
	return s
}

// startQUIC makes a generation of UDP sockets, bound as those of proxies are, each of which
// answers with its own name: "generation/worker/kind". It does not serve yet.
func startQUIC(t *testing.T, d *Datapath, workers int) *testProxy {
	t.Helper()
	number, err := d.StartGeneration(workers)
	if err != nil {
		t.Fatal(err)
	}
	p := &testProxy{number: number}
	t.Cleanup(p.close)
	for worker := range workers {
		for _, kind := range []int{abi.SocketUDP4, abi.SocketUDP6} {
			level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
			if kind == abi.SocketUDP6 {
				level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
			}
			fd, err := unix.Socket(socketDomains[kind].domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fd), "quic")
			p.files = append(p.files, f)
			if err := errors.Join(unix.SetsockoptInt(fd, level, option, 1), d.BindQUIC(fd, quicPort),
				d.PlaceSockets(number, worker, uint32(kind), fd)); err != nil {
				t.Fatal(err)
			}
			p.done.Go(func() { answer(f, kind, fmt.Sprintf("%d/%d/%d", number, worker, kind)) })
		}
	}
	return p
}

// sender is a client's UDP socket, connected, so that it takes answers from there alone.
func sender(t *testing.T, ns *netnstest.Namespace, a netip.Addr, port uint16) (c *net.UDPConn) {
	t.Helper()
	ns.Do(func() {
		var err error
		if c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port))); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends a datagram and returns the answer to it.
func exchange(c *net.UDPConn, payload []byte, patience time.Duration) (string, error) {
	if _, err := c.Write(payload); err != nil {
		return "", err
	}
	c.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// connectionID returns an id as a worker hands it out; see bpf/quic.bpf.c.
func connectionID(number uint32, worker int) []byte {
	id := make([]byte, 12)
	id[0] = byte(number%abi.Generations*abi.GenerationWorkers + uint32(worker))
	copy(id[1:9], "whatever")
	x := binary.LittleEndian.Uint64(id[1:]) ^ (uint64(id[0])+1)*0x9e3779b97f4a7c15
	x *= 0xff51afd7ed558ccd
	x >>= 40
	id[9], id[10], id[11] = byte(x>>16), byte(x>>8), byte(x)
	return id
}

// shortHeader and longHeader are the beginnings of packets (RFC 9000 section 17).
func shortHeader(id []byte) []byte { return append(append([]byte{0x40}, id...), "payload"...) }

func longHeader(id []byte) []byte {
	return append(append([]byte{0xe0, 0, 0, 0, 1, byte(len(id))}, id...), "payload"...)
}

func TestQUICSteering(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, quicVIPs())
	const patience = 2 * time.Second

	before := counters(t, d)
	if name, err := exchange(sender(t, ns, vip4, quicPort), []byte("?"), patience); err == nil {
		t.Errorf("answered by %q while nobody serves", name)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/no_proxy": 1})

	first := startQUIC(t, d, 3)
	if err := d.Serve(first.number); err != nil {
		t.Fatal(err)
	}
	// New connections: each client's packets come together, and not all to one worker.
	workers := map[string]bool{}
	for _, c := range []struct {
		vip  netip.Addr
		kind int
	}{{vip4, abi.SocketUDP4}, {vip6, abi.SocketUDP6}} {
		for range 20 {
			s := sender(t, ns, c.vip, quicPort)
			name, err := exchange(s, longHeader([]byte("chosen by client")), patience)
			if err != nil || !strings.HasPrefix(name, "1/") || !strings.HasSuffix(name, fmt.Sprint("/", c.kind)) {
				t.Fatalf("%v: answered by %q, %v; want 1/*/%d", c.vip, name, err, c.kind)
			}
			workers[name] = true
			if again, err := exchange(s, longHeader([]byte("another")), patience); err != nil || again != name {
				t.Errorf("%v: the same client is answered by %q, then %q, %v", c.vip, name, again, err)
			}
		}
	}
	if len(workers) != 6 {
		t.Errorf("workers that got new connections: %v, want all three of both families", workers)
	}

	// Known connections stay, wherever their client is now and whoever serves.
	known := func(p *testProxy, worker int) {
		t.Helper()
		id := connectionID(p.number, worker)
		for vip, kind := range map[netip.Addr]int{vip4: abi.SocketUDP4, vip6: abi.SocketUDP6} {
			want := fmt.Sprintf("%d/%d/%d", p.number, worker, kind)
			for _, packet := range [][]byte{shortHeader(id), longHeader(id)} {
				if name, err := exchange(sender(t, ns, vip, quicPort), packet, patience); err != nil || name != want {
					t.Errorf("%v: a packet of worker %s is answered by %q, %v", vip, want, name, err)
				}
			}
		}
	}
	for worker := range 3 {
		known(first, worker)
	}
	second := startQUIC(t, d, 1)
	if err := d.Serve(second.number); err != nil {
		t.Fatal(err)
	}
	for worker := range 3 {
		known(first, worker)
	}
	known(second, 0)
	if name, err := exchange(sender(t, ns, vip4, quicPort), longHeader([]byte("new")), patience); err != nil || name != "2/0/2" {
		t.Errorf("a new connection after the change: %q, %v; want 2/0/2", name, err)
	}

	// What the first had left, the second is asked for: it alone can tell the client.
	before = counters(t, d)
	first.close()
	if name, err := exchange(sender(t, ns, vip4, quicPort), shortHeader(connectionID(1, 1)), patience); err != nil || name != "2/0/2" {
		t.Errorf("a connection whose proxy is gone: %q, %v; want 2/0/2", name, err)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/steered": 1, "kg_quic/new": 1})
}

// Whatever is cut short or altered is a new connection's, never another worker's.
func TestQUICMalformed(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, quicVIPs())
	old, serving := startQUIC(t, d, 2), startQUIC(t, d, 1)
	if err := d.Serve(serving.number); err != nil {
		t.Fatal(err)
	}
	c := sender(t, ns, vip4, quicPort)
	const mine, others = "1/1/2", "2/0/2"
	expect := func(what string, packet []byte, want string) {
		t.Helper()
		if got, err := exchange(c, packet, 2*time.Second); err != nil || got != want {
			t.Errorf("%s: answered by %q, %v; want %q", what, got, err, want)
		}
	}
	id := connectionID(old.number, 1)
	for form, packet := range map[string][]byte{"short": shortHeader(id), "long": longHeader(id)} {
		start := len(packet) - len("payload") - len(id)
		for n := 1; n <= len(packet); n++ {
			want := others
			if n >= start+len(id) {
				want = mine
			}
			expect(fmt.Sprintf("%s header, %d bytes", form, n), packet[:n], want)
		}
		for i := range id {
			for _, bit := range []byte{1, 0x80} {
				altered := append([]byte(nil), packet...)
				altered[start+i] ^= bit
				expect(fmt.Sprintf("%s header, byte %d of the id altered", form, i), altered, others)
			}
		}
	}
	for _, length := range []byte{0, 11, 13, 20, 21, 255} {
		packet := longHeader(id)
		packet[5] = length
		expect(fmt.Sprintf("an id of %d bytes", length), packet, others)
	}
	// An id of a worker that never was.
	expect("no such generation", shortHeader(connectionID(3, 63)), others)
	// No payload at all: nobody answers, but it is steered like any other.
	before := counters(t, d)
	if _, err := c.Write(nil); err != nil {
		t.Fatal(err)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/steered": 1, "kg_quic/new": 1})
}

func TestQUICHungWorker(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, quicVIPs())
	p := startQUIC(t, d, 2)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	first := p.number % abi.Generations * abi.GenerationWorkers
	hang := func(worker uint32) {
		atomic.StoreUint64(&d.view.Workers[first+worker].BusySinceNS, datapath.Monotonic()-2*datapath.HungAfterNS)
	}
	hang(0)
	for range 20 {
		if name, err := exchange(sender(t, ns, vip4, quicPort), longHeader([]byte("new")), 2*time.Second); err != nil || name != "1/1/2" {
			t.Fatalf("answered by %q, %v; want the worker that does not hang", name, err)
		}
	}
	if counters(t, d)["kg_quic/worker_skipped"] == 0 {
		t.Error("no hung worker was counted as skipped")
	}
	if name, err := exchange(sender(t, ns, vip4, quicPort), shortHeader(connectionID(p.number, 0)), 2*time.Second); err != nil || name != "1/0/2" {
		t.Errorf("a connection of the hung worker: %q, %v; want it to wait there", name, err)
	}
	hang(1)
	if _, err := exchange(sender(t, ns, vip4, quicPort), longHeader([]byte("new")), 2*time.Second); err != nil {
		t.Errorf("while all hang: %v", err)
	}
}

// Others may serve the same UDP port on the node's own addresses.
func TestQUICLeavesOthersAlone(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, quicVIPs())
	p := startQUIC(t, d, 1)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	for _, address := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		if name, err := exchange(sender(t, ns, address, quicPort), longHeader([]byte("new")), time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%v: %q, %v; want refused by the kernel", address, name, err)
		}
		other := listenUDP(t, ns, address)
		payload := shortHeader(connectionID(p.number, 0))
		c := sender(t, ns, address, quicPort)
		if _, err := c.Write(payload); err != nil {
			t.Fatal(err)
		}
		other.SetReadDeadline(time.Now().Add(2 * time.Second))
		if n, err := other.Read(make([]byte, 64)); err != nil || n != len(payload) {
			t.Errorf("%v: another program got %d bytes, %v", address, n, err)
		}
	}
}

func listenUDP(t *testing.T, ns *netnstest.Namespace, address netip.Addr) (c *net.UDPConn) {
	t.Helper()
	var err error
	ns.Do(func() {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, quicPort)))
	})
	if err != nil {
		t.Fatalf("%v: another program cannot have the port: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
