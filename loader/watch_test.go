package loader

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/inspect"
	"github.com/kerngate/kerngate/loader/netnstest"
	"golang.org/x/sys/unix"
)

func watch(t testing.TB, d *Datapath, perSecond uint32, reasons ...inspect.Reason) *inspect.Watch {
	t.Helper()
	w, err := inspect.OpenWatch(d.Folder(), inspect.WatchOptions{Reasons: reasons, PerSecond: perSecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// events returns what there is to read.
func events(t testing.TB, w *inspect.Watch) (out []inspect.Event) {
	t.Helper()
	for {
		e, err := w.Read(time.Now().Add(50 * time.Millisecond))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
}

// TestWatch: a packet whose end is watched makes an event that says what it was, in either
// hook, and others make none.
func TestWatch(t *testing.T) {
	d := openL4(t)
	s := l4State(backends4, backends6)
	s.Deny = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:bad::/48")}
	mustApply(t, d, s)
	w := watch(t, d, 100, inspect.Reason{Program: "kg_xdp", Name: "denied"}, inspect.Reason{Program: "kg_ingress", Name: "denied"}, inspect.Reason{Program: "kg_xdp", Name: "l4_new"},
		inspect.Reason{Program: "kg_ingress", Name: "l4_new"}, inspect.Reason{Program: "kg_xdp", Name: "bad_port"}, inspect.Reason{Program: "kg_ingress", Name: "bad_port"})
	denied4, denied6 := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:bad::7")
	port := uint16(30000)
	for hook := range hooks {
		for _, c := range []struct {
			name, reason string
			client       netip.Addr
			change       func(*flowPacket)
		}{
			{"denied v4", "denied", denied4, func(*flowPacket) {}},
			{"denied v6", "denied", denied6, func(*flowPacket) {}},
			{"denied behind a tag", "denied", denied4, func(p *flowPacket) { p.tags = []uint16{0x8100} }},
			{"denied with options", "denied", denied4, func(p *flowPacket) { p.options = make([]byte, 8) }},
			{"new flow v4", "l4_new", client4, func(*flowPacket) {}},
			{"new flow v6", "l4_new", client6, func(p *flowPacket) { p.protocol = 17 }},
			{"bad port", "bad_port", client4, func(p *flowPacket) { p.from = netip.AddrPortFrom(client4, 0) }},
			{"not asked for", "", client4, func(p *flowPacket) { p.to = netip.MustParseAddrPort("192.0.2.99:80") }},
		} {
			t.Run(hook+" "+c.name, func(t *testing.T) {
				port++
				p := packetTo(c.client, port, 6)
				c.change(&p)
				began := time.Now()
				run(t, d, hook, p.bytes())
				got := events(t, w)
				if c.reason == "" {
					if len(got) != 0 {
						t.Fatalf("events %+v, want none", got)
					}
					return
				}
				if len(got) != 1 {
					t.Fatalf("%d events, want 1: %+v", len(got), got)
				}
				e := got[0]
				if e.Reason != (inspect.Reason{Program: hook, Name: c.reason}) || e.Source != p.from || e.Destination != p.to || e.Protocol != p.protocol ||
					e.Skipped != 0 || e.Interface == 0 || int(e.Length) != len(p.bytes()) {
					t.Errorf("event %+v of packet %+v (%d bytes)", e, p, len(p.bytes()))
				}
				if e.Time.Before(began.Add(-20*time.Millisecond)) || e.Time.After(time.Now()) {
					t.Errorf("time %v, want one after %v", e.Time, began)
				}
				backends := backends4
				if c.client.Is6() {
					backends = backends6
				}
				if isNew := c.reason == "l4_new"; isNew != slices.Contains(backends, e.Backend.String()) {
					t.Errorf("backend %v", e.Backend)
				}
				if c.reason != "bad_port" && e.Service == "" {
					t.Error("the service is not named")
				}
			})
		}
	}
}

// TestWatchSamples: no more events than asked for, and those that are left out are counted.
func TestWatchSamples(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	s := vips()
	s.Deny = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	mustApply(t, d, s)
	packet := build(ether(0x0800), ip4(netip.MustParseAddr("198.51.100.7"), vip4, 6, nil, 0), tcp())
	onOneCPU(t) // each CPU counts what it leaves out, and says so with its own next event
	flood := func(n uint32) {
		t.Helper()
		if _, _, err := d.programs.XDP.Benchmark(packet, int(n), nil); err != nil {
			t.Fatal(err)
		}
	}
	flood(100)
	const most = 20
	w := watch(t, d, most, inspect.Reason{Program: "kg_xdp", Name: "denied"})
	if got := events(t, w); len(got) != 0 {
		t.Fatalf("%d events from before anybody watched", len(got))
	}
	if _, err := inspect.OpenWatch(d.Folder(), inspect.WatchOptions{}); !errors.Is(err, inspect.ErrWatched) {
		t.Errorf("a second watcher: %v, want ErrWatched", err)
	}
	flood(5000)
	got := events(t, w)
	if len(got) < most || len(got) > 2*most { // a second may have begun meanwhile
		t.Errorf("%d events, want %d", len(got), most)
	}

	// When the next second has come, an event tells how many were left out. It may have come
	// within the flood.
	told := 0
	for _, e := range got {
		told += int(e.Skipped)
	}
	for range 20 {
		if told > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		flood(1)
		for _, e := range events(t, w) {
			told += int(e.Skipped)
		}
	}
	if told < 5000-2*most {
		t.Errorf("%d packets are told to have been left out, want at least %d", told, 5000-2*most)
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	flood(100)
	again := watch(t, d, most, inspect.Reason{Program: "kg_xdp", Name: "denied"})
	if got := events(t, again); len(got) != 0 {
		t.Errorf("%d events from while nobody watched", len(got))
	}
}

// onOneCPU keeps the test's thread, which netnstest.Enter locked, on one CPU until the test
// ends.
func onOneCPU(t *testing.T) {
	t.Helper()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	for cpu := range len(before) * 64 {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	})
}

// TestWatcherDies: events end some seconds after who asked for them last said so, and the
// agent clears what is left.
func TestWatcherDies(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	s := vips()
	s.Deny = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	mustApply(t, d, s)
	packet := build(ether(0x0800), ip4(netip.MustParseAddr("198.51.100.7"), vip4, 6, nil, 0), tcp())
	reasons := []inspect.Reason{{Program: "kg_xdp", Name: "denied"}}
	dead, err := inspect.OpenWatch(d.Folder(), inspect.WatchOptions{Reasons: reasons, PerSecond: 100})
	if err != nil {
		t.Fatal(err)
	}
	left := func() (w abi.Watch) {
		t.Helper()
		if err := d.maps.Watch.Map().Lookup(uint32(0), &w); err != nil {
			t.Fatal(err)
		}
		return w
	}
	// It dies: nothing is said any more, and the kernel closes its files.
	release := dead.Abandon()
	if _, err := d.Reap(time.Now()); err != nil {
		t.Fatal(err)
	}
	if left().UntilNS == 0 {
		t.Error("the agent ended a watch that was not over")
	}
	for datapath.Monotonic() < left().UntilNS {
		time.Sleep(10 * time.Millisecond)
	}
	runXDP(t, d, packet)
	if got := events(t, dead); len(got) != 0 {
		t.Errorf("%d events after the deadline", len(got))
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if left().UntilNS == 0 {
		t.Fatal("something else ended the watch")
	}
	if _, err := d.Reap(time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != (abi.Watch{}) {
		t.Errorf("the agent left %+v", got)
	}
	w := watch(t, d, 100, reasons...)
	runXDP(t, d, packet)
	if got := events(t, w); len(got) != 1 {
		t.Errorf("%d events for the next watcher, want 1", len(got))
	}
}
