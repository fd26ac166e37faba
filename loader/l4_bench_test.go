package loader

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// BenchmarkKernel measures what the programs take for a packet, by the kernel's test run:
// the best of many rounds, net of a trivial program that is run in turns with them. A
// backend with the ingress address's own address and port leaves the packet as it is, so
// that each turn of a test run does the same work. 100,000 prefixes are denied all along.
//
// scripts/bench-l4 makes a table of it.
func BenchmarkKernel(b *testing.B) {
	netnstest.Enter(b)
	d := openTest(b, netnstest.BPFFS(b), func(o *Options) { o.MaxSlots, o.MaxFlows, o.MaxPrefixes = 16384, 1<<18, 1<<17 })
	s := l4State([]string{"192.0.2.1:5000"}, []string{"[2001:db8::1]:5000"})
	s.Deny = deny100000()
	mustApply(b, d, s)
	trivial, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "trivial", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer trivial.Close()
	trivialTC, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "trivial", Type: ebpf.SchedCLS, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer trivialTC.Close()
	l7 := func(client netip.Addr) flowPacket {
		p := packetTo(client, 4000, 6)
		p.flags, p.to = ack, netip.AddrPortFrom(p.to.Addr(), 80)
		return p
	}
	flow := func(client netip.Addr, protocol uint8) flowPacket {
		p := packetTo(client, 4001, protocol)
		p.flags, p.payload = ack, nil
		return p
	}
	elsewhere := func(p flowPacket, to string) flowPacket {
		p.to = netip.MustParseAddrPort(to)
		return p
	}
	reply := func(to netip.Addr) flowPacket {
		p := flow(to, 6)
		p.from, p.to = p.to, p.from
		return p
	}
	xdp, tc := d.programs["kg_xdp"], d.programs["kg_ingress"]
	from := func(client string) flowPacket { return flow(netip.MustParseAddr(client), 6) }
	many := func(next *ebpf.Program, flows int32) *ebpf.Program {
		return stepping(b, next, flows, next == xdp && d.features.Has("xdp_frags"))
	}
	const fewFlows, allPorts = 10_000, 65_535
	for _, c := range []struct {
		name    string
		program *ebpf.Program
		base    *ebpf.Program
		packet  flowPacket
		aim     float64 // nanoseconds; 0: none
	}{
		{"not ours v4", xdp, trivial, elsewhere(flow(client4, 6), "192.0.2.99:80"), 40},
		{"not ours v6", xdp, trivial, elsewhere(flow(client6, 6), "[2001:db8::99]:80"), 40},
		{"passed to the proxy v4", xdp, trivial, l7(client4), 0},
		{"passed to the proxy v6", xdp, trivial, l7(client6), 0},
		{"passed to the proxy v4 (kg_xdp_guard)", d.programs["kg_xdp_guard"], trivial, l7(client4), 0},
		{"denied v4 by a /24", xdp, trivial, from("198.51.100.7"), 30},
		{"denied v6 by a /48", xdp, trivial, from("2001:db8:6::7"), 30},
		{"denied v4 by a /32", xdp, trivial, from("203.0.113.7"), 30},
		{"denied v6 by a /128", xdp, trivial, from("2001:db8:7::7"), 30},
		{"dropped for its flags v4", xdp, trivial, func() flowPacket { p := flow(client4, 6); p.flags = syn | fin; return p }(), 30},
		{"L4 forward v4 TCP", xdp, trivial, flow(client4, 6), 100},
		{"L4 forward v4 UDP", xdp, trivial, flow(client4, 17), 100},
		{"L4 forward v6 TCP", xdp, trivial, flow(client6, 6), 100},
		{"L4 forward v6 UDP", xdp, trivial, flow(client6, 17), 100},
		{"L4 forward v4 TCP of 10000 flows in turn", many(xdp, fewFlows), many(trivial, fewFlows), flow(client4, 6), 100},
		{"L4 new flow v4 TCP", many(xdp, allPorts), many(trivial, allPorts), packetTo(client4, 1, 6), 500},
		{"L4 forward v4 TCP (kg_ingress)", tc, trivialTC, flow(client4, 6), 0},
		{"L4 forward v6 TCP (kg_ingress)", tc, trivialTC, flow(client6, 6), 0},
		{"L4 reply v4 TCP (kg_egress)", d.programs["kg_egress"], trivialTC, reply(client4), 0},
		{"L4 reply v6 TCP (kg_egress)", d.programs["kg_egress"], trivialTC, reply(client6), 0},
		{"going out of no flow v4 (kg_egress)", d.programs["kg_egress"], trivialTC, elsewhere(flow(client4, 6), "192.0.2.99:80"), 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			packet := c.packet.bytes()
			// Short rounds, of which some find the machine calm; as long as the flows are many.
			rounds, repeat := 200, 4000
			if c.base != trivial && c.base != trivialTC {
				rounds, repeat = 50, 2*fewFlows
			}
			round := func(p *ebpf.Program) time.Duration {
				_, took, err := p.Benchmark(packet, repeat, nil)
				if err != nil {
					b.Fatal(err)
				}
				return took
			}
			for range 3 {
				round(c.program) // flows are open, caches warm
			}
			best, base := time.Hour, time.Hour
			for range rounds {
				best, base = min(best, round(c.program)), min(base, round(c.base))
			}
			reportPacket(b, best, base, c.aim)
		})
	}
}

// reportPacket reports the time of a packet in a program and in a trivial one.
func reportPacket(b *testing.B, took, base time.Duration, aim float64) {
	for range b.N { // the figures are ours: there is nothing to scale
	}
	b.ReportMetric(float64(took-base), "net-ns/packet")
	b.ReportMetric(float64(base), "loop-ns/packet")
	b.ReportMetric(aim, "aim-ns/packet")
	b.ReportMetric(0, "ns/op")
}

// deny100000 denies so many prefixes of both families and all lengths that lists have, among
// them those that cases of the benchmarks are denied by.
func deny100000() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{"198.51.100.0/24", "203.0.113.7/32", "2001:db8:6::/48", "2001:db8:7::7/128"} {
		out = append(out, netip.MustParsePrefix(p))
	}
	for i := 0; len(out) < 100_000; i++ {
		v4 := [4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}
		v6 := [16]byte{0x2a, 0x01, byte(i >> 16), byte(i >> 8), byte(i), 15: 1}
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(v4), 32), netip.PrefixFrom(netip.AddrFrom16(v6), 128),
			netip.PrefixFrom(netip.AddrFrom4([4]byte{60 + byte(i>>16), byte(i >> 8), byte(i)}), 24).Masked(),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0x2a, 0x02, byte(i >> 16), byte(i >> 8), byte(i)}), 48))
	}
	return out
}

// stepping returns a program that gives each IPv4 TCP packet of a test run the next of so many
// source ports, from 1, and goes on with a program. The kernel runs the same packet again and
// again.
func stepping(b *testing.B, next *ebpf.Program, ports int32, frags bool) *ebpf.Program {
	b.Helper()
	table, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { table.Close() })
	const port = 14 + 20
	spec := &ebpf.ProgramSpec{Name: "stepping", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, port+4),
		asm.JGT.Reg(asm.R4, asm.R3, "end"),
		asm.LoadMem(asm.R5, asm.R2, port, asm.Half),
		asm.Mod.Imm(asm.R5, ports),
		asm.Add.Imm(asm.R5, 1),
		asm.StoreMem(asm.R2, port, asm.R5, asm.Half),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, table.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("end"),
		asm.Return(),
	}}
	if frags {
		spec.Flags |= xdpHasFrags
	}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	if err := table.Put(uint32(0), next); err != nil {
		b.Fatal(fmt.Errorf("chain programs: %w", err))
	}
	return p
}
