package loader

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/pins"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// versionOf returns the n-th version of a service: a few backends that all have the same
// port, which no other version near it has.
func versionOf(service, n int) state.Service {
	s := state.Service{Name: fmt.Sprintf("a/s%d:80", service)}
	for i := range 1 + n%5 {
		a := netip.AddrFrom4([4]byte{10, byte(service), 0, byte(1 + i)})
		s.Backends = append(s.Backends, state.Backend{Address: netip.AddrPortFrom(a, uint16(1000+n%60000)), Protocol: state.TCP})
	}
	return s
}

// A writer publishes as fast as it can and gives blocks and ids away again at once, with
// no quarantine to help; readers must never find parts of two versions together.
func TestReadersSeeWholeServices(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxBackends, o.MaxSlots = 40, 48 })
	v, err := view.Open(d.Maps())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()

	const services = 2
	var ids [services]uint32
	for s := range services {
		mustApply(t, d, state.State{Services: []state.Service{versionOf(0, 0), versionOf(1, 0)}})
		id, ok := d.ServiceID(versionOf(s, 0).Name)
		if !ok {
			t.Fatal("service has no id")
		}
		ids[s] = uint32(id)
	}
	var stop atomic.Bool
	var whole, again atomic.Int64
	var readers sync.WaitGroup
	for r := range 2 {
		readers.Go(func() {
			for n := r; !stop.Load(); n++ {
				service := n % services
				seen, ok, err := readWhole(v, ids[service], byte(service))
				switch {
				case err != nil:
					t.Error(err)
					return
				case ok:
					whole.Add(int64(min(seen, 1)))
				default:
					again.Add(1)
				}
				if b, ok := v.Backend(ids[service], uint32(n)); !ok || b.Address.Addr().As4()[1] != byte(service) {
					t.Errorf("service %d leads to %v, %v", service, b.Address, ok)
					return
				}
			}
		})
	}
	now := time.Now()
	end := now.Add(1500 * time.Millisecond)
	published := 0
	for ; time.Now().Before(end) && !t.Failed(); published++ {
		now = now.Add(time.Minute) // the registry's clock: quarantines are over at once
		d.mu.Lock()
		_, err := d.registry.Publish([]state.Service{versionOf(published%services, published)}, now)
		if err == nil {
			_, err = d.registry.Reap(now.Add(30 * time.Second))
		}
		d.mu.Unlock()
		if err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	readers.Wait()
	t.Logf("%d publications, %d whole reads, %d begun again", published, whole.Load(), again.Load())
	if published < 100 || whole.Load() < 100 {
		t.Errorf("%d publications and %d reads prove nothing", published, whole.Load())
	}
}

// readWhole reads all backends of a service. ok is false if it was published anew in
// between, so that what was read does not count.
func readWhole(v *view.View, service uint32, second byte) (n int, ok bool, err error) {
	block := v.Block(service)
	var port uint16
	for i := range int(block.Count()) {
		b, inUse := v.Entry(v.Slot(block, i))
		if !v.Current(service, block) {
			return 0, false, nil
		}
		if !inUse || b.Address.Addr().As4()[1] != second || (port != 0 && b.Address.Port() != port) {
			return 0, false, fmt.Errorf("slot %d of block %x: backend %+v, others have port %d", i, block, b, port)
		}
		port = b.Address.Port()
	}
	return int(block.Count()), true, nil
}

func TestApplyServicesLeavesOthersAlone(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	all := []state.Service{versionOf(0, 4), versionOf(1, 4), versionOf(2, 4)}
	mustApply(t, d, state.State{Services: all})
	if r, err := d.ApplyServices([]state.Service{versionOf(1, 5)}); err != nil || r.Published != 1 || r.Retired != 0 {
		t.Fatalf("report %+v, %v", r, err)
	}
	for s, want := range []int{5, 1, 5} {
		id, _ := d.ServiceID(versionOf(s, 0).Name)
		if n := int(d.view.Block(uint32(id)).Count()); n != want {
			t.Errorf("service %d has %d backends, want %d", s, n, want)
		}
	}
}

// What was counted for one holder of a backend id does not count for the next.
func TestLoadsStartAnew(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxBackends = 2 })
	with := func(address string) state.State {
		return state.State{Services: []state.Service{{Name: "a", Backends: []state.Backend{backend(address)}}}}
	}
	number, err := d.StartGeneration(1)
	if err != nil {
		t.Fatal(err)
	}
	mustApply(t, d, with("10.0.0.1:80"))
	load := d.view.Load(number, 1)
	load.Requests, load.InFlight = 7, 3
	mustApply(t, d, state.State{Services: []state.Service{{Name: "a"}}})
	if _, err := d.Reap(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	mustApply(t, d, with("10.0.0.2:80"))
	if load.Requests != 0 || load.InFlight != 0 || load.Generation != d.view.Backends[1].Generation {
		t.Errorf("load %+v of backend %+v", *load, d.view.Backends[1])
	}

	// What a dead proxy had in flight is taken back.
	load.InFlight = 5
	if err := d.EndGeneration(number); err != nil {
		t.Fatal(err)
	}
	if load.InFlight != 0 {
		t.Errorf("%d in flight of a proxy that is gone", load.InFlight)
	}
}

func TestOperatorsPrefixesStay(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	theirs := abi.MakePrefix(netip.MustParsePrefix("198.51.100.0/24"))
	if err := d.maps.Deny.Put(theirs, abi.PrefixInfo{Source: abi.PrefixOperator}); err != nil {
		t.Fatal(err)
	}
	mustApply(t, d, state.State{Deny: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}})
	d.Close()
	d = openTest(t, bpffs)
	mustApply(t, d, state.State{})
	have, err := datapath.ReadAll(d.maps.Deny)
	if err != nil || len(have) != 1 || have[theirs].Source != abi.PrefixOperator {
		t.Errorf("kg_deny holds %v, %v; want the operator's prefix alone", have, err)
	}
}

func TestFullListenersAreNamed(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxServices = 600 })
	const most = 2 * 600
	var s state.State
	for i := range most + 1 {
		s.Listeners = append(s.Listeners, state.Listener{
			Address: netip.AddrPortFrom(vip4, uint16(1+i)), Protocol: state.TCP, Mode: state.L7,
		})
	}
	r, err := d.Apply(s)
	if err == nil || !strings.Contains(err.Error(), "listener 192.0.2.1:") || !strings.Contains(err.Error(), "kg_listeners is full") || !strings.Contains(err.Error(), "--max-services") {
		t.Errorf("error %v", err)
	}
	if r.Added != most {
		t.Errorf("%d listeners added, want %d", r.Added, most)
	}
}

func TestNothingLeaks(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	veth(t, "up0")
	round := func() {
		d := openTest(t, bpffs, func(o *Options) { o.Interfaces = []string{"up0"} })
		mustApply(t, d, vips())
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := Uninstall(Options{BPFFS: d.Folder()}); err != nil {
			t.Fatal(err)
		}
	}
	round() // what is made once and kept, as by feature probes
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	for range 3 {
		round()
	}
	if n := openFiles(t); n != files {
		t.Errorf("%d files open, %d before", n, files)
	}
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	runtime.GC() // finalisers close what was forgotten; nothing may rely on it
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestFailedOpenLeavesNothing(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	folder := filepath.Join(bpffs, "kerngate")
	if err := os.MkdirAll(filepath.Join(folder, pins.Lookup), 0o755); err != nil { // in the way of the pin
		t.Fatal(err)
	}
	if d, err := Open(Options{BPFFS: folder}); err == nil {
		d.Close()
		t.Fatal("opened although the pin's place is taken")
	}
	if left, _ := filepath.Glob(filepath.Join(folder, "kg_*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if n := lookupsHere(t); n != 0 {
		t.Errorf("left %d kg_lookup attached", n)
	}
}

func TestMetrics(t *testing.T) {
	ns := netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	ask(ns, "udp", addrPort(vip4, 80)) // once: a SYN would come again
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(d.Collector())
	families, err := registry.Gather() // pedantic: also checks names, labels and doubles
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += "," + l.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"kerngate_kernel_packets_total,kg_lookup,no_proxy": 1,
		"kerngate_kernel_packets_total,kg_xdp,denied":      0,
		"kerngate_kernel_map_entries,kg_addresses":         2,
		"kerngate_kernel_map_entries,kg_listeners":         4,
		"kerngate_kernel_map_max_entries,kg_services":      64,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, %v; want %v", name, got, ok, want)
		}
	}
	if values["kerngate_kernel_map_bytes,kg_backend_load"] < 64*256*abi.Generations {
		t.Errorf("kg_backend_load takes %v bytes", values["kerngate_kernel_map_bytes,kg_backend_load"])
	}
}
