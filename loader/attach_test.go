package loader

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/netnstest"
)

// veth makes a pair of interfaces in the namespace and returns the first.
func veth(t *testing.T, name string) netlink.Link {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"}); err != nil {
		t.Fatalf("add veth: %v", err)
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// attachedXDP returns the name of the XDP program on an interface, "" if there is none.
func attachedXDP(t *testing.T, name string) string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	x := l.Attrs().Xdp
	if x == nil || !x.Attached {
		return ""
	}
	program, _, err := attach.DescribeProgram(ebpf.ProgramID(x.ProgId))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestXDPAttach(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	veth(t, "up0")
	veth(t, "up1")
	on := func(mode attach.XDPMode, interfaces ...string) func(*Options) {
		return func(o *Options) { o.XDPMode, o.Interfaces = mode, interfaces }
	}
	for _, step := range []struct {
		name       string
		mode       attach.XDPMode
		interfaces []string
		want       []string // mode of each attachment behind kg_lookup
		off        []string // interfaces that must have nothing
	}{
		{"native", attach.XDPNative, []string{"up0", "up1"}, []string{"native", "native"}, nil},
		{"taken over", attach.XDPNative, []string{"up0", "up1"}, []string{"native", "native"}, nil},
		{"other mode", attach.XDPGeneric, []string{"up0"}, []string{"generic"}, []string{"up1"}},
		{"loopback has no native mode", attach.XDPAuto, []string{"lo"}, []string{"generic"}, []string{"up0"}},
		{"native only", attach.XDPNative, []string{"lo", "up0"}, []string{"", "native"}, []string{"lo"}},
		{"missing", attach.XDPNative, []string{"nosuch", "up0"}, []string{"", "native"}, nil},
		{"off", attach.XDPOff, []string{"up0"}, []string{""}, []string{"up0"}},
	} {
		// No subtests: their goroutines are not in the namespace.
		d := openTest(t, bpffs, on(step.mode, step.interfaces...))
		a := d.Attachments()
		if len(a) != 1+len(step.want) || a[0].Program != "kg_lookup" {
			t.Fatalf("%s: attachments %+v", step.name, a)
		}
		for i, want := range step.want {
			got := a[1+i]
			if got.Mode != want || got.Where != step.interfaces[i] || (want == "" && got.Reason == "") {
				t.Errorf("%s: attachment %+v, want mode %q", step.name, got, want)
			}
			if want != "" && attachedXDP(t, got.Where) != got.Program {
				t.Errorf("%s: %s has %q attached", step.name, got.Where, attachedXDP(t, got.Where))
			}
		}
		for _, name := range step.off {
			if p := attachedXDP(t, name); p != "" {
				t.Errorf("%s: %s still has %s", step.name, name, p)
			}
		}
		d.Close()
	}
}

// TestVirtualCables: by itself an agent has kg_ingress there instead of kg_xdp, as soon as an
// address is served, and takes off what one that was told to use XDP had put there; and back.
func TestVirtualCables(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	dev := veth(t, "up0")
	open := func(mode attach.XDPMode) *Datapath {
		return openTest(t, bpffs, func(o *Options) { o.XDPMode, o.Interfaces = mode, []string{"up0"} })
	}
	d := open(attach.XDPNative)
	mustApply(t, d, vips())
	if p := attachedXDP(t, "up0"); p != "kg_xdp_guard" || attach.HasIngress(d.net, dev) {
		t.Errorf("native: %q in XDP, kg_ingress: %v", p, attach.HasIngress(d.net, dev))
	}
	d.Close()

	d = open(attach.XDPAuto)
	if p := attachedXDP(t, "up0"); p != "kg_xdp_guard" {
		t.Errorf("before kg_ingress stands there is %q in XDP", p)
	}
	mustApply(t, d, vips())
	if p := attachedXDP(t, "up0"); p != "" || !attach.HasIngress(d.net, dev) {
		t.Errorf("auto: %q in XDP, kg_ingress: %v", p, attach.HasIngress(d.net, dev))
	}
	if a := d.Attachments(); a[1].Mode != "" || a[1].Reason != attach.LeftOnCable || a[2].Program != "kg_ingress" || a[2].Mode == "" {
		t.Errorf("auto: attachments %+v", a)
	}
	d.Close()

	d = open(attach.XDPNative)
	mustApply(t, d, vips())
	if p := attachedXDP(t, "up0"); p != "kg_xdp_guard" || attach.HasIngress(d.net, dev) {
		t.Errorf("native again: %q in XDP, kg_ingress: %v", p, attach.HasIngress(d.net, dev))
	}
}

// An interface that is made, or made again, while the agent runs.
func TestInterfaceComesLater(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.XDPMode, o.Interfaces = attach.XDPNative, []string{"up0"} })
	for round := range 2 {
		if a := d.Attachments()[1]; round == 0 && a.Mode != "" {
			t.Errorf("attachment %+v to an interface that does not exist", a)
		}
		dev := veth(t, "up0")
		if _, err := d.Reap(time.Now()); err != nil {
			t.Fatal(err)
		}
		if a := d.Attachments()[1]; a.Mode != "native" || attachedXDP(t, "up0") != "kg_xdp_guard" {
			t.Errorf("round %d: attachment %+v, %q on the interface", round, a, attachedXDP(t, "up0"))
		}
		if err := netlink.LinkDel(dev); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Reap(time.Now()); err != nil {
		t.Fatal(err)
	}
	if a := d.Attachments()[1]; a.Mode != "" || a.Reason == "" {
		t.Errorf("attachment %+v to an interface that is gone", a)
	}
}

func TestXDPOfSomebodyElseIsLeftAlone(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	dev := veth(t, "up0")
	veth(t, "up1")
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "theirs", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	theirs, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: dev.Attrs().Index})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()

	d := openTest(t, bpffs, func(o *Options) { o.XDPMode, o.Interfaces = attach.XDPNative, []string{"up0", "up1"} })
	a := d.Attachments()
	if a[1].Mode != "" || !strings.Contains(a[1].Reason, `"theirs"`) {
		t.Errorf("attachment %+v does not name the other program", a[1])
	}
	if a[2].Mode != "native" {
		t.Errorf("the other interface: %+v", a[2])
	}
	d.Close()
	if err := Uninstall(Options{BPFFS: filepath.Join(bpffs, "kerngate")}); err != nil {
		t.Fatal(err)
	}
	if attachedXDP(t, "up0") != "theirs" || attachedXDP(t, "up1") != "" {
		t.Errorf("after uninstall: %q and %q attached, want theirs and nothing", attachedXDP(t, "up0"), attachedXDP(t, "up1"))
	}
}

// The links' pins are lost while something else keeps the links: they are found and
// pinned again, not doubled.
func TestLostLinkPins(t *testing.T) {
	ns := netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	veth(t, "up0")
	with := func(o *Options) { o.XDPMode, o.Interfaces = attach.XDPNative, []string{"up0"} }
	d := openTest(t, bpffs, with)
	mustApply(t, d, vips())
	p := startProxy(t, d, 1)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	kept := keepLinks(t, d.Folder())
	defer closeLinks(kept)
	pins, _ := filepath.Glob(filepath.Join(d.Folder(), "link_*"))
	for _, pin := range pins {
		if err := os.Remove(pin); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()

	d = openTest(t, bpffs, with)
	if n := lookupsHere(t); n != 1 {
		t.Errorf("%d kg_lookup attached, want 1", n)
	}
	again, _ := filepath.Glob(filepath.Join(d.Folder(), "link_*"))
	if len(pins) != 2 || len(again) != 2 {
		t.Errorf("pins %v, before %v", again, pins)
	}
	if a := d.Attachments(); a[1].Mode != "native" {
		t.Errorf("attachment %+v", a[1])
	}
	if _, err := ask(ns, "tcp", addrPort(vip4, 80)); err != nil {
		t.Errorf("connect: %v", err)
	}
}

// The whole bpf file system is remounted empty. What is attached keeps serving the old
// proxy until a new one serves from the new maps.
func TestLostMaps(t *testing.T) {
	ns := netnstest.Enter(t)
	before := netnstest.BPFFS(t)
	d := openTest(t, before)
	mustApply(t, d, vips())
	p := startProxy(t, d, 1)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	d.Close()

	d = openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	if n := lookupsHere(t); n != 2 {
		t.Fatalf("%d kg_lookup attached, want the old and the new", n)
	}
	if name, err := ask(ns, "tcp", addrPort(vip4, 80)); err != nil || name != "1/0/0" {
		t.Errorf("before the new proxy serves: %q, %v; want the old one", name, err)
	}
	for range 2 { // the new set's numbers begin anew: make them differ
		if _, err := d.StartGeneration(1); err != nil {
			t.Fatal(err)
		}
	}
	p2 := startProxy(t, d, 1)
	if err := d.Serve(p2.number); err != nil {
		t.Fatal(err)
	}
	if n := lookupsHere(t); n != 1 {
		t.Errorf("%d kg_lookup attached after the change, want 1", n)
	}
	if name, err := ask(ns, "tcp", addrPort(vip4, 80)); err != nil || name != "3/0/0" {
		t.Errorf("after the change: %q, %v; want the new proxy", name, err)
	}
}

// Maps of another version stay, and serve, until a proxy serves from maps of this one.
func TestOtherABIStandsBeside(t *testing.T) {
	ns := netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	mustApply(t, d, vips())
	p := startProxy(t, d, 1)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	meta := d.meta()
	meta.ABI = 4711
	if err := d.tables.Write(metaWrites(meta)); err != nil {
		t.Fatal(err)
	}
	old := d.Folder()
	d.Close()

	d = openTest(t, bpffs)
	if d.Folder() == old {
		t.Fatalf("maps of another version were taken over")
	}
	mustApply(t, d, vips())
	if name, err := ask(ns, "tcp", addrPort(vip6, 80)); err != nil || name != "1/0/1" {
		t.Errorf("before the new proxy serves: %q, %v; want the old one", name, err)
	}
	d.Close()
	d = openTest(t, bpffs) // still beside
	p2 := startProxy(t, d, 1)
	if err := d.Serve(p2.number); err != nil {
		t.Fatal(err)
	}
	if n := lookupsHere(t); n != 1 {
		t.Errorf("%d kg_lookup attached after the change, want 1", n)
	}
	p.close()
	if _, err := ask(ns, "tcp", addrPort(vip6, 80)); err != nil {
		t.Errorf("after the change: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(old, "*")); len(left) > 0 {
		t.Errorf("maps of the other version are still pinned: %v", left)
	}
	folder := d.Folder()
	d.Close()
	if d = openTest(t, bpffs); d.Folder() != folder || d.Serving() != p2.number {
		t.Errorf("opened %s where %d serves, want %s and %d", d.Folder(), d.Serving(), folder, p2.number)
	}
	d.Close()
	if err := Uninstall(Options{BPFFS: old}); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(bpffs, "kerngate*")); len(left) > 0 {
		t.Errorf("left after uninstall: %v", left)
	}
}

// Nobody writes a sealed map but kg_publish: not by descriptor, not by memory.
func TestSealedMaps(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	for _, m := range d.Maps() {
		_, err := unix.Mmap(m.FD, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if m.Writable != (err == nil) {
			t.Errorf("%s: mapping it for writing: %v; writable %v", m.Name, err, m.Writable)
		}
		if m.Writable {
			continue
		}
		value := make([]byte, m.ValueSize)
		if err := d.maps.ByName(m.Name).Put(uint32(1), value); !errors.Is(err, unix.EPERM) {
			t.Errorf("%s: writing by descriptor: %v, want EPERM", m.Name, err)
		}
		mem, err := unix.Mmap(m.FD, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Errorf("%s: mapping it read-only: %v", m.Name, err)
			continue
		}
		if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err == nil {
			t.Errorf("%s: a read-only mapping could be made writable", m.Name)
		}
		unix.Munmap(mem)
	}
}

func TestVIPThatIsAnAddressOfTheNode(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.1/32", "2001:db8::1/128"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
	}
	d := openTest(t, bpffs)
	mustApply(t, d, vips())
	if got := ourRoutes(t); len(got) > 0 {
		t.Errorf("made routes to addresses of the node: %v", got)
	}
	d.Close()
	if err := Uninstall(Options{BPFFS: d.Folder()}); err != nil {
		t.Fatal(err)
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, r := range list {
			if r.Dst != nil && (r.Dst.IP.Equal(vip4.AsSlice()) || r.Dst.IP.Equal(vip6.AsSlice())) {
				found = true
			}
		}
		if !found {
			t.Errorf("the node's own route (family %d) is gone after uninstall", family)
		}
	}
}

func TestRoutesFollowAddresses(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	s := vips()
	mustApply(t, d, s)
	if got := ourRoutes(t); len(got) != 2 {
		t.Fatalf("routes to %v, want two", got)
	}
	// Somebody removes one: the next Apply brings it back.
	if err := (routeTable{mustRoutes(t)}).Delete(routeKey{vip4}); err != nil {
		t.Fatal(err)
	}
	mustApply(t, d, s)
	if got := ourRoutes(t); len(got) != 2 {
		t.Errorf("routes to %v after one was removed, want both again", got)
	}
	s.Addresses, s.Listeners = s.Addresses[:1], s.Listeners[:2]
	mustApply(t, d, s)
	if got := ourRoutes(t); len(got) != 1 || got[0] != vip4 {
		t.Errorf("routes to %v, want the one to %v", got, vip4)
	}
}
