package loader

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/state"
)

// BenchmarkKernelLive is BenchmarkKernel with packets that really go where a program sends
// them (BPF_F_TEST_XDP_LIVE_FRAMES, Linux >= 5.18): dropped, up the stack, which drops them
// because they are to nobody, or out of the interface to a program that drops them at its
// other end. A trivial program with the same verdict does the same with the same packet.
func BenchmarkKernelLive(b *testing.B) {
	u := openNode(b)
	s := l4State([]string{"10.0.0.1:5432"}, []string{"[fd00::1]:5432"}, func(s *state.Service) {
		s.Backends[0].Node = nodeName(1)
	})
	// Packets to a service whose pod has the ingress address come out as they went in.
	at := netip.MustParseAddrPort("192.0.2.1:5001")
	s.Services = append(s.Services, state.Service{Name: "b/here:1/6/4", Algorithm: state.Maglev,
		Backends: []state.Backend{{Address: at, Protocol: state.TCP, Node: nodeName(0), Local: true}}})
	s.Listeners = append(s.Listeners, state.Listener{Address: at, Protocol: state.TCP, Mode: state.L4, Service: "b/here:1/6/4"})
	s.Nodes = nodesIn(state.NodeServing, state.NodeServing, state.NodeServing)
	s.Deny = deny100000()[:4]
	mustApply(b, u.Datapath, s)
	frags := u.features.Has("xdp_frags")
	// A veth end takes what is sent to it in XDP only if it has a program too.
	var far netlink.Link
	var err error
	u.ns.Do(func() { far, err = netlink.LinkByName("up1") })
	if err != nil {
		b.Fatal(err)
	}
	u.ns.Do(func() {
		var l link.Link
		if l, err = link.AttachXDP(link.XDPOptions{Program: ending(b, xdpDrop, frags), Interface: far.Attrs().Index}); err == nil {
			b.Cleanup(func() { l.Close() })
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	to := func(client netip.Addr, port uint16) flowPacket {
		p := packetTo(client, u.portOwnedBy(b, client, port, 6, 0), 6)
		p.to, p.flags = netip.AddrPortFrom(p.to.Addr(), port), ack
		return p
	}
	remote, here := to(client4, 5000), to(client4, 5001)
	for _, p := range []flowPacket{remote, here} { // opens the flows
		p.flags = syn
		u.run(b, "kg_xdp", p.bytes())
	}
	notOurs := packetTo(client4, 4001, 6)
	notOurs.to = netip.MustParseAddrPort("192.0.2.99:80")
	const outer = 56
	ours := u.programs.XDP
	head := remote.bytes()
	for _, c := range []struct {
		name          string
		program, base *ebpf.Program
		packet        []byte
		counter       string
	}{
		{"not ours v4, passed", ours, ending(b, xdpPass, frags), notOurs.bytes(), "kg_xdp/not_ours"},
		{"L4 forward v4 TCP, passed", ours, ending(b, xdpPass, frags), here.bytes(), "kg_xdp/l4_forwarded"},
		{"denied v4, dropped", ours, ending(b, xdpDrop, frags), packetTo(netip.MustParseAddr("198.51.100.7"), 4001, 6).bytes(), "kg_xdp/denied"},
		// What the kernel sends again has the outer headers of before: both write the packet's
		// beginning anew.
		{"DSR v4 TCP, sent", before(b, ours, 0, head[:34], frags), before(b, resizing(b, -outer, xdpTX, frags), 0, head[:34], frags), head, "kg_xdp/node_backend"},
	} {
		b.Run(c.name, func(b *testing.B) {
			round := func(p *ebpf.Program) (took time.Duration) {
				var err error
				u.ns.Do(func() { _, took, err = testRun(p, c.packet, u.index, 1<<13, unix.BPF_F_TEST_XDP_LIVE_FRAMES) })
				if errors.Is(err, unix.EINVAL) {
					b.Skip("this kernel runs no live frames (Linux >= 5.18 does)")
				}
				if err != nil {
					b.Fatal(err)
				}
				return took
			}
			before := counters(b, u.Datapath)
			best, base := time.Hour, time.Hour
			for range 50 {
				best, base = min(best, round(c.program)), min(base, round(c.base))
			}
			expectOnly(b, u.Datapath, before, 50<<13, c.counter)
			reportPacket(b, best, base, 0)
			b.ReportMetric(1e3/float64(best), "Mpackets/s")
		})
	}
}

// ending is a program that ends with a verdict.
func ending(b *testing.B, verdict int32, frags bool) *ebpf.Program {
	return program(b, asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}, frags)
}
