package loader

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/state"
)

// BenchmarkKernelNodes is BenchmarkKernel for packets between nodes. The kernel runs a
// program on one packet again and again; so that each turn finds it as the first did, a
// program before ours takes the outer headers off again, or writes them. What that takes is
// in the trivial program's time too, which changes the packet's size as ours does.
func BenchmarkKernelNodes(b *testing.B) {
	u := openNode(b)
	s := l4State([]string{"10.0.0.1:5432"}, []string{"[fd00::1]:5432"}, func(s *state.Service) {
		s.Backends[0].Node = nodeName(1)
	})
	// A service whose pod has the ingress address: packets to it come out as they went in.
	for _, c := range []struct{ name, backend string }{{"b/here:1/6/4", "192.0.2.1:5001"}, {"b/here:1/6/6", "[2001:db8::1]:5001"}} {
		at := netip.MustParseAddrPort(c.backend)
		s.Services = append(s.Services, state.Service{Name: c.name, Algorithm: state.Maglev,
			Backends: []state.Backend{{Address: at, Protocol: state.TCP, Node: nodeName(0), Local: true}}})
		s.Listeners = append(s.Listeners, state.Listener{Address: at, Protocol: state.TCP, Mode: state.L4, Service: c.name})
	}
	s.Nodes = nodesIn(state.NodeServing, state.NodeServing, state.NodeServing)
	mustApply(b, u.Datapath, s)
	frags := u.features.Has("xdp_frags")
	for _, client := range []netip.Addr{client4, client6} {
		family, outer := " v4", 56
		if client.Is6() {
			family, outer = " v6", 76
		}
		packet := func(port uint16, flags byte, owners ...int) flowPacket {
			p := packetTo(client, u.portOwnedBy(b, client, port, 6, owners...), 6)
			p.to, p.flags = netip.AddrPortFrom(p.to.Addr(), port), flags
			return p
		}
		remote, here, others := packet(5000, ack, 0), packet(5001, ack, 0), packet(80, ack, 1)
		for _, p := range []flowPacket{remote, here} { // opens the flows
			p.flags = syn
			u.run(b, "kg_xdp", p.bytes())
		}
		from, to := outerAddresses(client, 1, 0)
		arriving := wrapped{from: from, to: to, source: 50000, kind: abi.TunnelOwner, hops: 1, inner: inside(here.bytes())}.bytes()
		junk := make([]byte, outer)
		for _, c := range []struct {
			name  string
			data  []byte
			reset func(next *ebpf.Program) *ebpf.Program
			by    int32 // what the program does to the packet's beginning
			end   uint32
			grow  []string // counters
		}{
			{"DSR to another node", append(junk, remote.bytes()...), func(next *ebpf.Program) *ebpf.Program { return unwrapping(b, next, outer, remote.bytes()[:14], frags) }, -int32(outer), xdpTX, []string{"kg_xdp/node_backend"}},
			{"fabric to the owner", append(junk, others.bytes()...), func(next *ebpf.Program) *ebpf.Program { return unwrapping(b, next, outer, others.bytes()[:14], frags) }, -int32(outer), xdpTX, []string{"kg_xdp/node_owner", "kg_lookup/no_proxy"}},
			{"from another node", here.bytes(), func(next *ebpf.Program) *ebpf.Program { return wrapping(b, next, arriving[:14+outer], frags) }, int32(outer), xdpPass, []string{"kg_xdp/node_arrived", "kg_xdp/l4_forwarded"}},
		} {
			b.Run(c.name+family, func(b *testing.B) {
				ours, base := c.reset(u.programs.XDP), c.reset(resizing(b, c.by, c.end, frags))
				best, least := time.Hour, time.Hour
				before := counters(b, u.Datapath)
				const rounds = 25
				for range rounds {
					best = min(best, u.benchmark(b, ours, c.data, c.end))
					least = min(least, u.benchmark(b, base, c.data, c.end))
				}
				expectOnly(b, u.Datapath, before, rounds*nodeTurns, c.grow...)
				reportPacket(b, best, least, 0)
			})
		}
	}
}

// nodeTurns is how often a packet is run in one go.
const nodeTurns = 20000

// benchmark runs a program nodeTurns times on a packet that came in on the uplink, and returns
// the time of one run.
func (u *uplink) benchmark(b *testing.B, p *ebpf.Program, packet []byte, verdict uint32) (took time.Duration) {
	b.Helper()
	u.ns.Do(func() {
		got, ns, err := testRun(p, packet, u.index, nodeTurns, 0)
		if err != nil {
			b.Error(err)
		} else if got != verdict {
			b.Errorf("verdict %d, want %d", got, verdict)
		}
		took = ns
	})
	return took
}

// testRun has the kernel run a program on a packet that came in on an interface (0: any), and
// returns the last verdict and the time of one run. The library does it too, but not with both
// an interface and flags.
func testRun(p *ebpf.Program, packet []byte, index int, repeat, flags uint32) (verdict uint32, took time.Duration, err error) {
	meta := make([]byte, 24) // struct xdp_md
	binary.NativeEndian.PutUint32(meta[4:], uint32(len(packet)))
	binary.NativeEndian.PutUint32(meta[12:], uint32(index))
	attr := struct {
		fd, retval, sizeIn, sizeOut uint32
		in, out                     uint64
		repeat, duration            uint32
		ctxIn, ctxOut               uint32
		ctx, ctxOutAt               uint64
		flags, cpu, batch           uint32
		_                           uint32
	}{
		fd: uint32(p.FD()), sizeIn: uint32(len(packet)), in: uint64(uintptr(unsafe.Pointer(&packet[0]))), repeat: repeat,
		ctxIn: uint32(len(meta)), ctx: uint64(uintptr(unsafe.Pointer(&meta[0]))), flags: flags,
	}
	const progTestRun = 10
	errno := unix.EINTR
	for errno == unix.EINTR { // Go's own signals
		_, _, errno = unix.Syscall(unix.SYS_BPF, progTestRun, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	}
	runtime.KeepAlive(packet)
	runtime.KeepAlive(meta)
	if errno != 0 {
		return 0, 0, errno
	}
	return attr.retval, time.Duration(attr.duration), nil
}

// unwrapping is a program that takes outer headers off, writes the Ethernet header anew and
// goes on with a program.
func unwrapping(b *testing.B, next *ebpf.Program, outer int, ethernet []byte, frags bool) *ebpf.Program {
	return before(b, next, int32(outer), ethernet, frags)
}

// wrapping is a program that puts these headers before a packet, and goes on.
func wrapping(b *testing.B, next *ebpf.Program, headers []byte, frags bool) *ebpf.Program {
	return before(b, next, -int32(len(headers)-14), headers, frags)
}

// before is a program that moves a packet's beginning, writes bytes there and goes on with a
// program.
func before(b *testing.B, next *ebpf.Program, by int32, write []byte, frags bool) *ebpf.Program {
	b.Helper()
	table, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { table.Close() })
	if err := table.Put(uint32(0), next); err != nil {
		b.Fatal(err)
	}
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, by),
		asm.FnXdpAdjustHead.Call(),
		asm.JNE.Imm(asm.R0, 0, "end"),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(len(write))),
		asm.JGT.Reg(asm.R4, asm.R3, "end"),
	}
	for i := 0; i+2 <= len(write); i += 2 {
		code = append(code, asm.StoreImm(asm.R2, int16(i), int64(binary.NativeEndian.Uint16(write[i:])), asm.Half))
	}
	code = append(code,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, table.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"),
		asm.Return())
	return program(b, code, frags)
}

// resizing is a program that moves a packet's beginning and ends.
func resizing(b *testing.B, by int32, verdict uint32, frags bool) *ebpf.Program {
	return program(b, asm.Instructions{
		asm.Mov.Imm(asm.R2, by), asm.FnXdpAdjustHead.Call(),
		asm.Mov.Imm(asm.R0, int32(verdict)), asm.Return(),
	}, frags)
}

func program(b *testing.B, code asm.Instructions, frags bool) *ebpf.Program {
	b.Helper()
	spec := &ebpf.ProgramSpec{Name: "before", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Instructions: code}
	if frags {
		spec.Flags |= datapath.XDPHasFrags
	}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	return p
}
