//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// Verdicts of programs in tc: go on with the next one, or let the packet pass without.
const (
	tcNext = -1
	tcOK   = 0
	xdpOK  = 2
)

// neighbour is a lab where programs of somebody else are at the node's uplink.
type neighbour struct {
	*site
	echo  *lab.Pod
	index int // of eth0
}

func besideOthers(t *testing.T, args ...string) *neighbour {
	t.Helper()
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	pod, err := s.lab.Nodes[0].AddPod("echo-1")
	must(t, err)
	serveEcho(t, pod)
	s.Args = append(s.Args, args...)
	eth0, err := s.Node.Links().LinkByName("eth0")
	must(t, err)
	n := &neighbour{s, pod, eth0.Attrs().Index}
	n.publishEcho()
	return n
}

// publishEcho writes the L4 service.
func (n *neighbour) publishEcho() {
	n.t.Helper()
	must(n.t, n.Manifests.Write("echo.yaml", l4Objects(nil, n.echo)...))
}

func (n *neighbour) counter(name string, hook ebpf.ProgramType, verdict int32) *lab.Counter {
	n.t.Helper()
	c, err := lab.NewCounter(name, hook, verdict)
	must(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	return c
}

// tcx attaches a program on one side, before or behind all others.
func (n *neighbour) tcx(c *lab.Counter, side ebpf.AttachType, anchor link.Anchor) link.Link {
	n.t.Helper()
	var l link.Link
	must(n.t, n.Node.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: n.index, Program: c.Program, Attach: side, Anchor: anchor})
		return err
	}))
	n.t.Cleanup(func() { l.Close() })
	return l
}

// traffic asks the site, and the service that the kernel forwards, which takes both sides.
// Each of the counters must see packets meanwhile.
func (n *neighbour) traffic(when string, counters ...*lab.Counter) {
	n.t.Helper()
	before := make([]uint64, len(counters))
	for i, c := range counters {
		var err error
		before[i], err = c.Packets()
		must(n.t, err)
	}
	for _, vip := range n.vips() {
		r, err := n.doVia(vip, "GET", "http://"+webHost+"/", nil)
		if err != nil || r.Status != 200 {
			n.t.Errorf("%s: the site at %s: %v, %+v", when, vip, err, r)
		}
		for _, network := range []string{"tcp", "udp"} {
			e, err := n.dialEcho(network, vip)
			if err == nil {
				_, err = e.ask("hello")
				e.Close()
			}
			if err != nil {
				n.t.Errorf("%s: the L4 service at %s, %s: %v", when, vip, network, err)
			}
		}
	}
	for i, c := range counters {
		after, err := c.Packets()
		must(n.t, err)
		if after < before[i]+4 {
			n.t.Errorf("%s: program %d of somebody else saw %d packets", when, i, after-before[i])
		}
	}
}

// attached waits until the agent says of a program on the uplink what ok wants.
func (n *neighbour) attached(program string, ok func(a status.Attachment) bool) {
	n.t.Helper()
	must(n.t, lab.Until(10*time.Second, program+" as it should be", func() error {
		out, err := n.Ctl("status", "-o", "json")
		if err != nil {
			return err
		}
		var told struct{ Agent *status.Status }
		if err := json.Unmarshal([]byte(out), &told); err != nil || told.Agent == nil {
			return fmt.Errorf("kerngatectl status: %w, %s", err, out)
		}
		at := status.Attachment{}
		for _, a := range told.Agent.Attached {
			if a.Where == n.Uplink && strings.HasPrefix(a.Program, program) {
				at = a
			}
		}
		if !ok(at) {
			return fmt.Errorf("%+v", told.Agent.Attached)
		}
		return nil
	}))
}

func inMode(mode string) func(status.Attachment) bool {
	return func(a status.Attachment) bool { return a.Mode == mode && a.Reason == "" }
}

// again kills the agent, and while it is away all goes on; then it starts another.
func (n *neighbour) again(counters ...*lab.Counter) {
	n.t.Helper()
	n.Agent.Kill()
	n.traffic("without an agent", counters...)
	must(n.t, n.Kerngate.Start())
	n.attached("kg_egress", func(a status.Attachment) bool { return a.Mode != "" })
}

// hasTCX reports whether the kernel has tcx, by asking a program to be attached.
func (n *neighbour) hasTCX() bool {
	err := n.Node.Do(func() error {
		_, err := link.QueryPrograms(link.QueryOptions{Target: n.index, Attach: ebpf.AttachTCXIngress})
		return err
	})
	return !errors.Is(err, unix.EINVAL)
}

// TestForeignTCX: programs of somebody else in tcx see all packets and stay where they are,
// whether they came before ours or after, are replaced, leave and come again, and whatever
// happens to the agent; and ours work beside them.
func TestForeignTCX(t *testing.T) {
	n := besideOthers(t)
	if !n.hasTCX() {
		n.filters("filter") // what there is instead
		return
	}
	sides := map[string]ebpf.AttachType{"in": ebpf.AttachTCXIngress, "out": ebpf.AttachTCXEgress}
	links := map[string]link.Link{}
	var counters []*lab.Counter
	for name, side := range sides { // they end the chain
		c := n.counter("theirs_"+name, ebpf.SchedCLS, tcOK)
		links[name] = n.tcx(c, side, link.Head())
		counters = append(counters, c)
	}
	n.start()
	n.attached("kg_ingress", inMode("tcx"))
	n.attached("kg_egress", inMode("tcx"))
	n.traffic("they came first", counters...)
	n.again()
	n.traffic("the agent was killed", counters...)

	counters = nil
	for name, l := range links {
		c := n.counter("newer_"+name, ebpf.SchedCLS, tcOK)
		must(t, l.Update(c.Program))
		counters = append(counters, c)
	}
	n.traffic("they were replaced", counters...)
	n.again()
	n.attached("kg_ingress", inMode("tcx"))
	n.traffic("they were replaced, and the agent killed", counters...)

	for _, l := range links {
		must(t, l.Close()) // which detaches
	}
	n.traffic("they have left")
	n.filters("tcx")
	counters = nil
	for name, side := range sides {
		c := n.counter("behind_"+name, ebpf.SchedCLS, tcOK)
		links[name] = n.tcx(c, side, link.Tail())
		counters = append(counters, c)
		c = n.counter("first_"+name, ebpf.SchedCLS, tcNext)
		n.tcx(c, side, link.Head())
		counters = append(counters, c)
	}
	n.traffic("they came again, before and behind", counters...)
	n.attached("kg_ingress", func(a status.Attachment) bool { return a.Mode == "tcx" && strings.Contains(a.Reason, `"first_in"`) })
	n.attached("kg_egress", func(a status.Attachment) bool { return a.Mode == "tcx" && strings.Contains(a.Reason, `"first_out"`) })
	n.again()
	n.traffic("the same with another agent", counters...)

	_, err := n.Uninstall()
	must(t, err)
	before := map[*lab.Counter]uint64{}
	for _, c := range counters {
		before[c], err = c.Packets()
		must(t, err)
	}
	if _, err := n.dialEcho("tcp", n.lab.VIP4); err == nil {
		t.Error("the L4 service is still there after --uninstall")
	}
	for _, c := range counters {
		if after, err := c.Packets(); err != nil || after == before[c] {
			t.Errorf("after --uninstall a program of somebody else sees no packets (%v)", err)
		}
	}
}

// filters has filters of somebody else come before ours and after.
func (n *neighbour) filters(mode string) {
	n.t.Helper()
	before := n.counter("theirs", ebpf.SchedCLS, tcOK)
	detach, err := n.Node.AttachFilter(before, "eth0")
	must(n.t, err)
	if n.Agent == nil {
		n.start()
		n.attached("kg_ingress", inMode("clsact"))
	}
	n.traffic("beside their filter, in "+mode, before)
	n.again()
	n.traffic("beside their filter, in "+mode+", with another agent", before)
	must(n.t, detach())
	n.traffic("their filter has left, in " + mode)
	after := n.counter("later", ebpf.SchedCLS, tcNext)
	detach, err = n.Node.AttachFilter(after, "eth0")
	must(n.t, err)
	n.traffic("their filter came after ours, in "+mode, after)
	must(n.t, detach())
}

// TestForeignXDP: who has an XDP program on the interface keeps it; the agent says whose it
// is, and kg_ingress does the work. When it leaves, kg_xdp comes; then nobody else can.
func TestForeignXDP(t *testing.T) {
	n := besideOthers(t)
	must(t, n.Manifests.Remove("echo.yaml")) // kg_ingress is needed without L4 services, too
	denied := n.lab.Client.IPv6
	if !denied.IsValid() {
		skip(t, "this machine has no IPv6")
	}
	n.Args = append(n.Args, "--deny", denied.String(), "--xdp-mode", "native")
	theirs := n.counter("theirs", ebpf.XDP, xdpOK)
	attach := func(c *lab.Counter) (l link.Link, err error) {
		err = n.Node.Do(func() (err error) {
			l, err = link.AttachXDP(link.XDPOptions{Program: c.Program, Interface: n.index})
			return err
		})
		return l, err
	}
	l, err := attach(theirs)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	must(t, theirs.Program.Pin(filepath.Join(n.Node.BPFFS, "their_pin")))
	must(t, n.Kerngate.Start())
	must(t, lab.Until(20*time.Second, "answer", func() error {
		_, err := n.do("GET", "http://"+webHost+"/", nil)
		return err
	}))
	served := func(when, program string, counters ...*lab.Counter) {
		t.Helper()
		packets := func(c *lab.Counter) uint64 {
			p, err := c.Packets()
			must(t, err)
			return p
		}
		var before []uint64
		for _, c := range counters {
			before = append(before, packets(c))
		}
		dropped := n.counted(program + "/denied")
		if r, err := n.do("GET", "http://"+webHost+"/", nil); err != nil || r.Status != 200 {
			t.Errorf("%s: %v, %+v", when, err, r)
		}
		n.http[n.lab.VIP6].Timeout = 500 * time.Millisecond
		if r, err := n.doVia(n.lab.VIP6, "GET", "http://"+webHost+"/", nil); err == nil {
			t.Errorf("%s: a denied source got an answer: %+v", when, r)
		}
		if n.counted(program+"/denied") == dropped {
			t.Errorf("%s: %s dropped nothing", when, program)
		}
		for i, c := range counters {
			if packets(c) == before[i] {
				t.Errorf("%s: the program of somebody else saw no packets", when)
			}
		}
	}
	refused := func(name string, more ...string) {
		t.Helper()
		n.attached("kg_xdp", func(a status.Attachment) bool {
			for _, want := range append(more, `"`+name+`"`, "e2e", "kg_ingress does the work") {
				if !strings.Contains(a.Reason, want) {
					return false
				}
			}
			return a.Mode == ""
		})
		n.attached("kg_ingress", func(a status.Attachment) bool { return a.Mode != "" })
	}
	refused("theirs", filepath.Join(n.Node.BPFFS, "their_pin"))
	served("beside their XDP program", "kg_ingress", theirs)
	n.Agent.Kill()
	must(t, n.Kerngate.Start())
	refused("theirs")
	served("with another agent", "kg_ingress", theirs)

	newer := n.counter("newer", ebpf.XDP, xdpOK)
	must(t, l.Update(newer.Program))
	refused("newer")
	served("their program was replaced", "kg_ingress", newer)

	must(t, l.Close())
	n.attached("kg_xdp", inMode("native"))
	n.attached("kg_ingress", func(a status.Attachment) bool { return a.Program == "" })
	served("their program has left", "kg_xdp")
	if _, err := attach(theirs); err == nil {
		t.Error("another XDP program could be attached over ours")
	}
	served("another could not come", "kg_xdp")
}

// counted returns a counter of the kernel programs, by "program/reason".
func (s *site) counted(name string) int {
	s.t.Helper()
	out, err := s.Ctl("status", "-o", "json")
	must(s.t, err)
	var told struct {
		Kernel struct {
			Counters []struct {
				Program, Reason string
				Count           int
			}
		}
	}
	must(s.t, json.Unmarshal([]byte(out), &told))
	for _, c := range told.Kernel.Counters {
		if c.Program+"/"+c.Reason == name {
			return c.Count
		}
	}
	return 0
}
