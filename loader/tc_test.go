package loader

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/pins"
)

// attachedTC returns the names of the tcx programs, or else of the filters, on one side of
// an interface, first to run first.
func attachedTC(t *testing.T, name string, ingress bool) (names []string) {
	t.Helper()
	dev, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	side, parent := ebpf.AttachTCXEgress, uint32(netlink.HANDLE_MIN_EGRESS)
	if ingress {
		side, parent = ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS
	}
	if attach.ProbeTCX() == nil {
		q, err := link.QueryPrograms(link.QueryOptions{Target: dev.Attrs().Index, Attach: side})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range q.Programs {
			program, _, err := attach.DescribeProgram(p.ID)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, program)
		}
	}
	filters, err := netlink.FilterList(dev, parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range filters {
		if f, ok := f.(*netlink.BpfFilter); ok {
			names = append(names, f.Name)
		}
	}
	return names
}

func expectTC(t *testing.T, when, name string, ingress bool, want ...string) {
	t.Helper()
	got := attachedTC(t, name, ingress)
	if len(got) != len(want) {
		t.Errorf("%s: %s (ingress: %v) has %v, want %v", when, name, ingress, got, want)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%s: %s (ingress: %v) has %v, want %v", when, name, ingress, got, want)
		}
	}
}

// TestTCAttach: the programs come with the first L4 listener and go with the last, survive
// the agent, are taken over and not doubled, and leave others alone; by tcx and by filters.
func TestTCAttach(t *testing.T) {
	netnstest.Enter(t)
	for _, tcx := range []bool{true, false} {
		if tcx && attach.ProbeTCX() != nil {
			continue // this kernel has filters alone
		}
		name, bpffs := "up0", netnstest.BPFFS(t)
		dev := veth(t, name)
		open := func(hook attach.L4Hook) *Datapath {
			d := openTest(t, bpffs, func(o *Options) {
				o.XDPMode, o.Interfaces, o.L4Hook, o.MaxSlots = attach.XDPNative, []string{name}, hook, 16384
			})
			if !tcx {
				d.tc.WithoutTCX()
			}
			return d
		}
		d := open(attach.L4Auto)
		mustApply(t, d, vips())
		expectTC(t, "without L4", name, true)
		mustApply(t, d, l4State(backends4, backends6))
		expectTC(t, "with L4", name, true, "kg_ingress")
		expectTC(t, "with L4", name, false, "kg_egress")
		if a := d.Attachments(); len(a) != 4 || a[1].Program != "kg_xdp_guard" || a[2].Mode == "" || a[3].Mode == "" {
			t.Errorf("attachments %+v", a)
		}
		d.Close()
		expectTC(t, "after the agent", name, true, "kg_ingress")

		d = open(attach.L4Auto)
		mustApply(t, d, l4State(backends4, backends6))
		expectTC(t, "after the next one", name, true, "kg_ingress")
		expectTC(t, "after the next one", name, false, "kg_egress")
		d.Close()
		expectTC(t, "without the next one", name, true, "kg_ingress")
		expectTC(t, "without the next one", name, false, "kg_egress")

		// Pins are lost.
		links, _ := filepath.Glob(filepath.Join(d.folder, "link_tcx_*"))
		kept := keepLinks(t, d.folder)
		for _, pin := range links {
			if err := pins.Remove(pin); err != nil {
				t.Fatal(err)
			}
		}
		d = open(attach.L4XDP) // and now XDP is told to forward
		closeLinks(kept)
		mustApply(t, d, l4State(backends4, backends6))
		expectTC(t, "with XDP forwarding", name, true)
		expectTC(t, "with XDP forwarding", name, false, "kg_egress")

		// The interface comes again under another index.
		if err := netlink.LinkDel(dev); err != nil {
			t.Fatal(err)
		}
		dev = veth(t, name)
		if _, err := d.Reap(time.Now()); err != nil {
			t.Fatal(err)
		}
		expectTC(t, "on the new interface", name, false, "kg_egress")

		theirs := foreignTC(t, dev, tcx)
		mustApply(t, d, vips())
		expectTC(t, "L4 gone", name, false, theirs)
		mustApply(t, d, l4State(backends4, backends6))
		expectTC(t, "beside another's", name, false, "kg_egress", theirs)
		d.Close()
		if err := Uninstall(Options{BPFFS: filepath.Join(bpffs, "kerngate")}); err != nil {
			t.Fatal(err)
		}
		expectTC(t, "uninstalled", name, false, theirs)
		expectTC(t, "uninstalled", name, true)
		if err := netlink.LinkDel(dev); err != nil {
			t.Fatal(err)
		}
	}
}

// foreignTC attaches a program of somebody else to the egress side.
func foreignTC(t *testing.T, dev netlink.Link, tcx bool) string {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "theirs", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if tcx {
		l, err := link.AttachTCX(link.TCXOptions{Interface: dev.Attrs().Index, Program: p, Attach: ebpf.AttachTCXEgress})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return "theirs"
	}
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: dev.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && err != unix.EEXIST {
		t.Fatal(err)
	}
	attrs := attach.FilterOn(dev, netlink.HANDLE_MIN_EGRESS, 1)
	attrs.Handle = 1
	if err := netlink.FilterReplace(&netlink.BpfFilter{FilterAttrs: attrs, Fd: p.FD(), Name: "theirs", DirectAction: true}); err != nil {
		t.Fatal(err)
	}
	return "theirs"
}
