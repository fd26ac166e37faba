package loader

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

var (
	vip4 = netip.MustParseAddr("192.0.2.1")
	vip6 = netip.MustParseAddr("2001:db8::1")
)

// vips is a state of two addresses with TCP and UDP listeners on port 80.
func vips() state.State {
	s := state.State{Addresses: []netip.Addr{vip4, vip6}}
	for _, a := range s.Addresses {
		for _, p := range []state.Protocol{state.TCP, state.UDP} {
			s.Listeners = append(s.Listeners, state.Listener{Address: netip.AddrPortFrom(a, 80), Protocol: p, Mode: state.L7})
		}
	}
	return s
}

func TestSteering(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())

	before := counters(t, d)
	for _, a := range []netip.Addr{vip4, vip6} {
		if name, err := ask(ns, "udp", addrPort(a, 80)); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("a datagram to %v without a proxy: answered by %q, error %v; want refused", a, name, err)
		}
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/no_proxy": 2})

	first := startProxy(t, d, 2)
	if _, err := ask(ns, "tcp", addrPort(vip4, 80)); !isTimeout(err) {
		t.Errorf("a proxy that does not serve yet: %v, want no answer", err)
	}
	if err := d.Serve(first.number); err != nil {
		t.Fatal(err)
	}
	before = counters(t, d)
	for _, c := range []struct {
		network string
		address netip.Addr
		kind    int
	}{
		{"tcp", vip4, abi.SocketTCP4}, {"tcp", vip6, abi.SocketTCP6},
		{"udp", vip4, abi.SocketUDP4}, {"udp", vip6, abi.SocketUDP6},
	} {
		name, err := ask(ns, c.network, addrPort(c.address, 80))
		if err != nil || !strings.HasPrefix(name, "1/") || !strings.HasSuffix(name, fmt.Sprint("/", c.kind)) {
			t.Errorf("%s %v: answered by %q, %v; want 1/*/%d", c.network, c.address, name, err, c.kind)
		}
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/steered": 4, "kg_lookup/not_ours": counters(t, d)["kg_lookup/not_ours"] - before["kg_lookup/not_ours"]})
	if _, err := ask(ns, "tcp", addrPort(vip4, 81)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a port without a listener: %v, want refused by the kernel", err)
	}

	// Another generation takes over; the first keeps its sockets until it has drained.
	second := startProxy(t, d, 1)
	if err := d.Serve(second.number); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if name, err := ask(ns, "tcp", addrPort(vip6, 80)); err != nil || name != "2/0/1" {
			t.Errorf("after the change of generation: %q, %v; want 2/0/1", name, err)
		}
	}
	g := d.Generations()
	if len(g) != 2 || g[0].State != abi.GenerationDraining || g[1].State != abi.GenerationServing || g[0].Sockets != 8 {
		t.Errorf("generations %+v", g)
	}
	if err := d.EndGeneration(first.number); err != nil {
		t.Fatal(err)
	}
	second.close()
	if _, err := ask(ns, "tcp", addrPort(vip4, 80)); !isTimeout(err) {
		t.Errorf("with all sockets closed: %v, want no answer", err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// A client that connects while no proxy serves, or after the proxy was killed and before the agent
// knows, is not refused: its SYN is dropped, it sends another, and the next proxy takes that.
func TestClientsWaitForAProxy(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	connect := func(reason string, then func()) {
		t.Helper()
		before := counters(t, d)["kg_lookup/"+reason]
		answers := make(chan error, 2)
		for _, a := range []netip.Addr{vip4, vip6} {
			go func() {
				var err error
				ns.Do(func() {
					dialer := net.Dialer{Timeout: time.Minute}
					dialer.SetMultipathTCP(false)
					var conn net.Conn
					if conn, err = dialer.Dial("tcp", addrPort(a, 80)); err == nil {
						conn.Close()
					}
				})
				answers <- err
			}()
		}
		for deadline := time.Now().Add(time.Minute); counters(t, d)["kg_lookup/"+reason] < before+2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no attempts were counted as %s", reason)
			}
		}
		then()
		for range 2 {
			if err := <-answers; err != nil {
				t.Errorf("connected while %s: %v, want the next proxy's answer", reason, err)
			}
		}
	}
	var serving *testProxy
	serve := func() {
		serving = startProxy(t, d, 2)
		if err := d.Serve(serving.number); err != nil {
			t.Fatal(err)
		}
	}
	connect("no_proxy", serve)
	serving.close()
	connect("no_worker", serve)
}

// The silence of a proxy is that of its liveliest worker; suspended, it keeps its state and can serve
// again.
func TestSilenceAndSuspend(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	p := startProxy(t, d, 2)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	first := p.number % abi.Generations * abi.GenerationWorkers
	seen := func(worker uint32, ago time.Duration) {
		atomic.StoreUint64(&d.view.Workers[first+worker].SeenNS, datapath.Monotonic()-uint64(ago))
	}
	if s := d.Silence(p.number); s != 0 {
		t.Errorf("silence of a proxy that does not tell: %v, want none", s)
	}
	// The clock begins when the machine does, which may be a minute ago.
	const long, short = 40 * time.Second, 5 * time.Second
	seen(0, long)
	if s := d.Silence(p.number); s < long {
		t.Errorf("silence %v, want %v at least", s, long)
	}
	seen(1, short)
	if s := d.Silence(p.number); s < short || s >= long {
		t.Errorf("silence %v, want %v at least, and not %v", s, short, long)
	}
	if s := d.Silence(p.number + 1); s != 0 {
		t.Errorf("silence of no proxy: %v", s)
	}
	for _, number := range []uint32{p.number + 1, p.number} {
		if err := d.Suspend(number); err != nil {
			t.Fatal(err)
		}
		if serves := d.Serving() == p.number; serves != (number != p.number) {
			t.Errorf("generation %d suspended: %d serves", number, d.Serving())
		}
	}
	if g := d.Generations(); len(g) != 1 || g[0].State != abi.GenerationServing {
		t.Errorf("generations %+v", g)
	}
	if err := d.Serve(p.number); err != nil || d.Serving() != p.number {
		t.Errorf("serving again: %v, generation %d", err, d.Serving())
	}
}

// Maps that came without a new KG_ABI are added to a set that an older agent has left; the rest
// of the set, and so its proxies, go on.
func TestAddedMaps(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	epoch := d.Epoch()
	for range 2 {
		d.Close()
		for _, name := range datapath.Added {
			if err := os.Remove(filepath.Join(d.Folder(), name)); err != nil {
				t.Fatal(err)
			}
		}
		if d = openTest(t, bpffs); d.Epoch() != epoch {
			t.Errorf("epoch %s, want %s: the maps were made anew", d.Epoch(), epoch)
		}
	}
}

func TestGenerationsRunOut(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	for want := uint32(1); want <= abi.Generations; want++ {
		if n, err := d.StartGeneration(1); err != nil || n != want {
			t.Fatalf("generation %d, %v; want %d", n, err, want)
		}
	}
	if _, err := d.StartGeneration(1); !errors.Is(err, ErrTooManyGenerations) {
		t.Errorf("a fifth generation: %v", err)
	}
	if err := d.EndGeneration(2); err != nil {
		t.Fatal(err)
	}
	if n, err := d.StartGeneration(1); err != nil || n != 6 {
		t.Errorf("generation %d, %v; want 6, the next in the slot of 2", n, err)
	}
	if err := d.EndGeneration(2); err == nil {
		t.Error("generation 2 ended twice")
	}
	if _, err := d.StartGeneration(abi.GenerationWorkers + 1); err == nil {
		t.Error("a generation with too many workers started")
	}
}

// workersAsked returns how many of n connections each worker of the generation got.
func workersAsked(t *testing.T, ns *netnstest.Namespace, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for range n {
		name, err := ask(ns, "tcp", addrPort(vip4, 80))
		if err != nil {
			t.Fatal(err)
		}
		got[name]++
	}
	return got
}

func TestWorkerChoice(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	p := startProxy(t, d, 3)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	slot := p.number % abi.Generations * abi.GenerationWorkers
	worker := func(i uint32) *abi.Worker { return &d.view.Workers[slot+i] }

	if got := workersAsked(t, ns, 60); len(got) != 3 {
		t.Errorf("equal workers: connections by worker %v, want all three to get some", got)
	}

	// Worker 2 has the most connections: it wins only against itself, once in nine draws.
	atomic.StoreUint32(&worker(2).Connections, 100)
	if got := workersAsked(t, ns, 60); got["1/2/0"] > 25 {
		t.Errorf("the busiest worker got %d of 60 connections, want about 7", got["1/2/0"])
	}

	// Worker 0 hangs: it gets nothing, and that is counted.
	before := counters(t, d)
	atomic.StoreUint64(&worker(0).BusySinceNS, datapath.Monotonic()-2*datapath.HungAfterNS)
	if got := workersAsked(t, ns, 60); got["1/0/0"] > 0 {
		t.Errorf("a hung worker got %d connections", got["1/0/0"])
	}
	if counters(t, d)["kg_lookup/worker_skipped"] == before["kg_lookup/worker_skipped"] {
		t.Error("no hung worker was counted as skipped")
	}
	// A short turn is not a hang.
	atomic.StoreUint64(&worker(0).BusySinceNS, datapath.Monotonic())
	atomic.StoreUint32(&worker(1).Connections, 100)
	if got := workersAsked(t, ns, 20); got["1/0/0"] == 0 {
		t.Error("a worker that is busy for a moment got nothing")
	}

	// All hang: better one of them than nobody.
	for i := range uint32(3) {
		atomic.StoreUint64(&worker(i).BusySinceNS, datapath.Monotonic()-2*datapath.HungAfterNS)
	}
	workersAsked(t, ns, 10)

	// A worker without a socket is passed over.
	for i := range uint32(3) {
		*worker(i) = abi.Worker{}
	}
	for _, w := range []int{0, 1} {
		p.files[w*abi.WorkerSockets+abi.SocketTCP4].Close()
	}
	if got := workersAsked(t, ns, 20); got["1/2/0"] != 20 {
		t.Errorf("connections by worker %v, want all at the only one with a socket", got)
	}
}

// Connections are dialled all the time while agents come and go, some of them without
// saying goodbye. None may fail.
func TestTakeoverWithoutGap(t *testing.T) {
	ns := netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	want := vips()
	want.Services = []state.Service{{Name: "a/b:80", Backends: []state.Backend{backend("10.0.0.1:80")}}}
	mustApply(t, d, want)
	p := startProxy(t, d, 2)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	id, _ := d.ServiceID("a/b:80")
	epoch := d.Epoch()

	stop := make(chan struct{})
	failed := make(chan error, 1)
	var dialled atomic.Int64
	go func() {
		for {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			if _, err := ask(ns, "tcp", addrPort(vip4, 80)); err != nil {
				failed <- err
				return
			}
			dialled.Add(1)
		}
	}()
	for range 5 {
		d.Close()
		d = openTest(t, bpffs)
		if got := d.Epoch(); got != epoch {
			t.Errorf("epoch %s after takeover, want %s", got, epoch)
		}
		if again, ok := d.ServiceID("a/b:80"); !ok || again != id {
			t.Errorf("service id %d after takeover, want %d", again, id)
		}
		if r := mustApply(t, d, want); r != (Report{}) {
			t.Errorf("the same state changed something after takeover: %+v", r)
		}
		if n := lookupsHere(t); n != 1 {
			t.Errorf("%d kg_lookup attached, want 1", n)
		}
		if d.Serving() != p.number || len(d.Generations()) != 1 {
			t.Errorf("generation %d serves of %+v", d.Serving(), d.Generations())
		}
		for seen := dialled.Load(); dialled.Load() < seen+20; {
			select {
			case err := <-failed:
				t.Fatalf("after %d connections: %v", dialled.Load(), err)
			case <-time.After(time.Millisecond):
			}
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Errorf("after %d connections: %v", dialled.Load(), err)
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	if _, err := Open(Options{BPFFS: d.Folder()}); !errors.Is(err, ErrLocked) {
		t.Errorf("second Open: %v, want ErrLocked", err)
	}
}

func TestExistingMapsKeepTheirSize(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	epoch := d.Epoch()
	d.Close()
	d = openTest(t, bpffs, func(o *Options) { o.MaxServices = 1000 })
	if d.Epoch() != epoch || len(d.view.Services) != 64 {
		t.Errorf("epoch %s with %d services, want %s with 64", d.Epoch(), len(d.view.Services), epoch)
	}
}

func TestMPTCPSocketIsRefusedWithAReason(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	n, err := d.StartGeneration(1)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := d.PlaceSockets(n, 0, abi.SocketTCP4, fd); err == nil {
		t.Error("a socket that does not listen was placed")
	}
	if err := d.PlaceSockets(n, 1, abi.SocketTCP4, fd); err == nil {
		t.Error("a socket was placed for a worker that does not exist")
	}
}
