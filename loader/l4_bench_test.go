package loader

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/netnstest"
)

// BenchmarkKernel measures what the programs take for a packet, by the kernel's test run:
// the best of many rounds, net of a trivial program that is run in turns with them. A
// backend with the ingress address's own address and port leaves the packet as it is, so
// that each turn of a test run does the same work. 100,000 prefixes are denied all along.
//
// Each row names the counter that grows with each of its packets, and no other may grow: a row that
// measures something else than it says fails.
//
// scripts/bench-l4 makes a table of it.
func BenchmarkKernel(b *testing.B) {
	d := openBench(b, benchFlows)
	s := l4State([]string{"192.0.2.1:5000"}, []string{"[2001:db8::1]:5000"})
	s.Deny = deny100000()
	mustApply(b, d, s)
	mustServe(b, d)
	trivial, trivialTC := trivialPrograms(b)
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
	xdp, tc, egress := d.programs.XDP, d.programs.Ingress, d.programs.Egress
	from := func(client string) flowPacket { return flow(netip.MustParseAddr(client), 6) }
	for _, client := range []netip.Addr{client4, client6} {
		for _, protocol := range []uint8{6, 17} {
			openSettled(b, d, flow(client, protocol))
		}
	}
	for _, c := range []struct {
		name    string
		program *ebpf.Program
		base    *ebpf.Program
		packet  flowPacket
		counter string  // that each packet makes grow
		aim     float64 // nanoseconds; 0: none
	}{
		{"not ours v4", xdp, trivial, elsewhere(flow(client4, 6), "192.0.2.99:80"), "kg_xdp/not_ours", 40},
		{"not ours v6", xdp, trivial, elsewhere(flow(client6, 6), "[2001:db8::99]:80"), "kg_xdp/not_ours", 40},
		{"passed to the proxy v4", xdp, trivial, l7(client4), "kg_xdp/passed", 0},
		{"passed to the proxy v6", xdp, trivial, l7(client6), "kg_xdp/passed", 0},
		{"passed to the proxy v4 (kg_xdp_guard)", d.programs.Guard, trivial, l7(client4), "kg_xdp/passed", 0},
		{"denied v4 by a /24", xdp, trivial, from("198.51.100.7"), "kg_xdp/denied", 30},
		{"denied v6 by a /48", xdp, trivial, from("2001:db8:6::7"), "kg_xdp/denied", 30},
		{"denied v4 by a /32", xdp, trivial, from("203.0.113.7"), "kg_xdp/denied", 30},
		{"denied v6 by a /128", xdp, trivial, from("2001:db8:7::7"), "kg_xdp/denied", 30},
		{"dropped for its flags v4", xdp, trivial, func() flowPacket { p := flow(client4, 6); p.flags = syn | fin; return p }(), "kg_xdp/bad_flags", 30},
		{"L4 forward v4 TCP", xdp, trivial, flow(client4, 6), "kg_xdp/l4_forwarded", 100},
		{"L4 forward v4 UDP", xdp, trivial, flow(client4, 17), "kg_xdp/l4_forwarded", 100},
		{"L4 forward v6 TCP", xdp, trivial, flow(client6, 6), "kg_xdp/l4_forwarded", 100},
		{"L4 forward v6 UDP", xdp, trivial, flow(client6, 17), "kg_xdp/l4_forwarded", 100},
		{"L4 forward v4 TCP (kg_ingress)", tc, trivialTC, flow(client4, 6), "kg_ingress/l4_forwarded", 0},
		{"L4 forward v6 TCP (kg_ingress)", tc, trivialTC, flow(client6, 6), "kg_ingress/l4_forwarded", 0},
		{"L4 reply v4 TCP (kg_egress)", egress, trivialTC, reply(client4), "kg_egress/l4_reply", 0},
		{"L4 reply v6 TCP (kg_egress)", egress, trivialTC, reply(client6), "kg_egress/l4_reply", 0},
		{"going out of no flow v4 (kg_egress)", egress, trivialTC, elsewhere(flow(client4, 6), "192.0.2.99:80"), "kg_egress/not_ours", 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			packet := c.packet.bytes()
			const rounds, repeat = 200, 4000 // short rounds, of which some find the machine calm
			for range 3 {
				turns(b, c.program, packet, repeat) // caches warm
			}
			before := counters(b, d)
			best, base := time.Hour, time.Hour
			for range rounds {
				best, base = min(best, turns(b, c.program, packet, repeat)), min(base, turns(b, c.base, packet, repeat))
			}
			expectOnly(b, d, before, rounds*repeat, c.counter)
			reportPacket(b, best, base, c.aim)
		})
	}
}

// BenchmarkKernelFlows is BenchmarkKernel for flows that come and go: in each turn of a test run
// the packet is another connection's. Connections that nobody has seen are opened, answered and
// confirmed, 2,500 at a time, with tables that are full, and each of these steps is measured by
// itself; then the last 10,000 are gone through in turn.
func BenchmarkKernelFlows(b *testing.B) {
	d := openBench(b, benchFlows)
	mustApply(b, d, l4State([]string{"192.0.2.1:5000"}, []string{"[2001:db8::1]:5000"}))
	trivial, trivialTC := trivialPrograms(b)
	for _, client := range []netip.Addr{client4, client6} {
		family := " v4 TCP"
		if client.Is6() {
			family = " v6 TCP"
		}
		first := packetTo(client, 1024, 6)
		first.payload, first.seq = nil, 1000
		answer := flowPacket{from: first.to, to: first.from, protocol: 6, flags: syn | ack, seq: 5000, ack: 1001}
		confirm := first
		confirm.flags, confirm.seq, confirm.ack = ack, 1001, 5001
		xdp := newStepper(b, d.programs.XDP, trivial, client, false, d.features.Has("xdp_frags"))
		tc := newStepper(b, d.programs.Egress, trivialTC, client, true, false)
		steps := []*struct {
			name    string
			stepper *stepper
			packet  []byte
			counter string
			aim     float64
			best    time.Duration
			base    time.Duration
		}{
			{name: "L4 new flow", stepper: xdp, packet: first.bytes(), counter: "kg_xdp/l4_new", aim: 500},
			{name: "L4 first reply (kg_egress)", stepper: tc, packet: answer.bytes(), counter: "kg_egress/l4_reply"},
			{name: "L4 first ACK", stepper: xdp, packet: confirm.bytes(), counter: "kg_xdp/l4_forwarded", aim: 200},
			{name: "L4 forward of 10000 flows in turn", stepper: xdp, packet: confirm.bytes(), counter: "kg_xdp/l4_forwarded", aim: 140},
			{name: "L4 reply of 10000 flows in turn (kg_egress)", stepper: tc, packet: confirmReply(answer).bytes(), counter: "kg_egress/l4_reply"},
		}
		for _, s := range steps {
			s.best, s.base = time.Hour, time.Hour
		}
		// kg_flows is full after benchFlows / (2 * flowsInTurn) rounds; then it is measured.
		const rounds, measured = benchFlows/(2*flowsInTurn) + 50, 30
	rounds:
		for round := range uint64(rounds) {
			start := round * flowsInTurn
			do := func(i int, start uint64, flows int) bool {
				s := steps[i]
				before := counters(b, d)
				took, whole := s.stepper.run(b, start, s.packet, flows, true)
				if !whole {
					return false
				}
				expectOnly(b, d, before, uint64(flows), s.counter)
				if round >= rounds-measured {
					s.best = min(s.best, took)
					took, _ = s.stepper.run(b, start, s.packet, flows, false)
					s.base = min(s.base, took)
				}
				return !b.Failed()
			}
			for at := start; at < start+flowsInTurn; at += flowsAtOnce {
				if !do(0, at, flowsAtOnce) || !do(1, at, flowsAtOnce) || !do(2, at, flowsAtOnce) {
					continue rounds
				}
			}
			if n := settledFlows(b, d, first, start); n != flowsInTurn {
				b.Errorf("%d of %d flows are in kg_flows after their first ACK", n, flowsInTurn)
			}
			for range 2 { // the first time warms the caches
				if !do(3, start, flowsInTurn) || !do(4, start, flowsInTurn) {
					continue rounds
				}
			}
		}
		if b.Failed() {
			return
		}
		for _, s := range steps {
			name, hook, _ := strings.Cut(s.name, " (")
			if hook != "" {
				hook = " (" + hook
			}
			b.Run(name+family+hook, func(b *testing.B) { reportPacket(b, s.best, s.base, s.aim) })
		}
	}
}

// benchFlows is the size of kg_flows in benchmarks, the default one; flowsAtOnce how many
// connections are opened in one go, fewer than kg_opening forgets again at once.
const benchFlows, flowsAtOnce, flowsInTurn = 1 << 18, 2500, 10_000

func openBench(b *testing.B, flows int) *Datapath {
	b.Helper()
	netnstest.Enter(b)
	return openTest(b, netnstest.BPFFS(b), func(o *Options) { o.MaxSlots, o.MaxFlows, o.MaxPrefixes = 16384, flows, 1<<17 })
}

// trivialPrograms returns programs that pass everything, in XDP and in tc.
func trivialPrograms(b *testing.B) (xdp, tc *ebpf.Program) {
	b.Helper()
	for _, p := range []struct {
		into *(*ebpf.Program)
		kind ebpf.ProgramType
		at   ebpf.AttachType
		code int32
	}{{&xdp, ebpf.XDP, ebpf.AttachXDP, xdpPass}, {&tc, ebpf.SchedCLS, ebpf.AttachNone, -1}} {
		program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "trivial", Type: p.kind, AttachType: p.at, License: "MIT",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, p.code), asm.Return()},
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { program.Close() })
		*p.into = program
	}
	return xdp, tc
}

// expectOnly fails unless these counters have grown by so many since before, or a few more where the
// kernel began a test run again, and no other has.
func expectOnly(b *testing.B, d *Datapath, before map[string]uint64, packets uint64, names ...string) {
	b.Helper()
	for name, n := range counters(b, d) {
		grown, wanted := n-before[name], slices.Contains(names, name)
		if wanted && (grown < packets || grown > packets+packets/20) || !wanted && grown != 0 {
			b.Errorf("counter %s grew by %d in %d packets that are to make %v grow", name, grown, packets, names)
		}
	}
}

// turns has the kernel run a program so often on a packet, and returns the time of one run.
func turns(b *testing.B, p *ebpf.Program, packet []byte, repeat int) time.Duration {
	b.Helper()
	_, took, err := p.Benchmark(packet, repeat, nil)
	if err != nil {
		b.Fatal(err)
	}
	return took
}

// confirmReply is a packet of a backend after its SYN and ACK.
func confirmReply(answer flowPacket) flowPacket {
	answer.flags, answer.seq = ack, answer.seq+1
	return answer
}

// openSettled opens a flow and has it confirmed by both sides, whose backend has the ingress
// address.
func openSettled(b *testing.B, d *Datapath, p flowPacket) {
	b.Helper()
	p.flags, p.seq = syn, 1000
	run(b, d, "kg_xdp", p.bytes())
	answer := flowPacket{from: p.to, to: p.from, protocol: p.protocol, flags: syn | ack, seq: 5000, ack: 1001}
	run(b, d, "kg_egress", answer.bytes())
	p.flags, p.seq, p.ack = ack, 1001, 5001
	run(b, d, "kg_xdp", p.bytes())
}

// settledFlows returns how many of the flows from start on are in kg_flows.
func settledFlows(b *testing.B, d *Datapath, p flowPacket, start uint64) (n int) {
	b.Helper()
	key := abi.FlowKey{
		Source: abi.AddressOf(p.from.Addr()), Destination: abi.AddressOf(p.to.Addr()),
		DestinationPort: abi.PortOf(p.to.Port()), Protocol: p.protocol, Direction: abi.ToBackend,
	}
	for i := range uint64(flowsInTurn) {
		high, port := clientOf(start + i)
		binary.NativeEndian.PutUint16(key.Source.Bytes[14:], high)
		key.SourcePort = port
		var f abi.Flow
		if err := d.maps.Flows.Map().Lookup(&key, &f); err == nil {
			n++
		} else if !errors.Is(err, ebpf.ErrKeyNotExist) {
			b.Fatal(err)
		}
	}
	return n
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

// stepper runs a program on packets of which each has another client: the kernel runs the same
// packet again and again, so a program before ours writes the next client's port and the last two
// bytes of its address.
type stepper struct {
	next    *ebpf.Map     // one entry: the number of the next client
	ours    *ebpf.Program // and the trivial one, each behind a program that steps
	trivial *ebpf.Program
}

// clientOf returns what a stepper writes for a number: the last two bytes of the client's address
// and its port, as they lie in the packet's memory.
func clientOf(number uint64) (address, port uint16) {
	return uint16(number >> 15), uint16(number&0x7fff) + 1
}

// newStepper returns a stepper for packets from a client, or, answers, for those to it, in tc.
func newStepper(b *testing.B, ours, trivial *ebpf.Program, client netip.Addr, answers, frags bool) *stepper {
	b.Helper()
	s := &stepper{}
	var err error
	if s.next, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.next.Close() })
	address, port := int16(14+12+2), int16(14+20) // the source's
	if client.Is6() {
		address, port = 14+8+14, 14+40
	}
	if answers {
		port += 2
		address += 4
		if client.Is6() {
			address += 12
		}
	}
	s.ours = s.before(b, ours, address, port, answers, frags)
	s.trivial = s.before(b, trivial, address, port, answers, false)
	return s
}

func (s *stepper) before(b *testing.B, next *ebpf.Program, address, port int16, tc, frags bool) *ebpf.Program {
	b.Helper()
	table, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { table.Close() })
	spec := &ebpf.ProgramSpec{Name: "stepping", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL"}
	data, end, pass := int16(0), int16(4), int32(xdpPass) // in struct xdp_md
	if tc {
		spec.Type, spec.AttachType = ebpf.SchedCLS, ebpf.AttachNone
		data, end, pass = 76, 80, -1 // in struct __sk_buff
	}
	spec.Instructions = asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.R10, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, s.next.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R4, asm.R0, 0, asm.DWord),
		asm.Mov.Reg(asm.R5, asm.R4),
		asm.Add.Imm(asm.R5, 1),
		asm.StoreMem(asm.R0, 0, asm.R5, asm.DWord),
		asm.Mov.Reg(asm.R5, asm.R4), // see clientOf
		asm.And.Imm(asm.R5, 0x7fff),
		asm.Add.Imm(asm.R5, 1),
		asm.RSh.Imm(asm.R4, 15),
		asm.LoadMem(asm.R2, asm.R6, data, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, end, asm.Word),
		asm.Mov.Reg(asm.R7, asm.R2),
		asm.Add.Imm(asm.R7, int32(port)+2),
		asm.JGT.Reg(asm.R7, asm.R3, "end"),
		asm.StoreMem(asm.R2, address, asm.R4, asm.Half),
		asm.StoreMem(asm.R2, port, asm.R5, asm.Half),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, table.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, pass).WithSymbol("end"),
		asm.Return(),
	}
	if frags {
		spec.Flags |= datapath.XDPHasFrags
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

// run runs a program once for each of so many clients from a number on, and returns the time
// of one. whole: no signal interrupted it, which makes the kernel begin again.
func (s *stepper) run(b *testing.B, start uint64, packet []byte, flows int, ours bool) (took time.Duration, whole bool) {
	b.Helper()
	if err := s.next.Put(uint32(0), start); err != nil {
		b.Fatal(err)
	}
	program := s.trivial
	if ours {
		program = s.ours
	}
	whole = true
	_, took, err := program.Benchmark(packet, flows, func() { whole = false })
	if err != nil {
		b.Fatal(err)
	}
	return took, whole
}
