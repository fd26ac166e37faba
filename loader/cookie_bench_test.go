package loader

import (
	"encoding/binary"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/netnstest"
)

// BenchmarkKernelCookie is BenchmarkKernel for SYNs that are answered: each turn begins with the
// same SYN again, for the program and for the trivial one.
func BenchmarkKernelCookie(b *testing.B) {
	netnstest.Enter(b)
	// The kernel is to send nothing but cookies, as if the queues were full.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0o644); err != nil {
		b.Fatal(err)
	}
	d := openTest(b, netnstest.BPFFS(b), func(o *Options) { o.SynCookies = SynCookiesAlways })
	mustApply(b, d, vips())
	if err := d.Serve(startProxy(b, d, 2).number); err != nil {
		b.Fatal(err)
	}
	trivial, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "trivial", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer trivial.Close()
	for name, p := range map[string]flowPacket{
		"SYN answered by a cookie v4": synPacket(netip.MustParseAddr("203.0.113.8"), netip.AddrPortFrom(vip4, 80), linuxOptions...),
		"SYN answered by a cookie v6": synPacket(netip.MustParseAddr("2001:db8:900d::1"), netip.AddrPortFrom(vip6, 80), linuxOptions...),
	} {
		frame := p.bytes()
		frame = append(frame, make([]byte, -len(frame)&3)...) // in whole words; what is behind the packet is padding
		full := restoring(b, d.programs.XDP, frame, d.features.Has("xdp_frags"))
		base := restoring(b, trivial, frame, false)
		const rounds, repeat = 25, 20000
		round := func(p *ebpf.Program) time.Duration {
			_, took, err := p.Benchmark(frame, repeat, nil)
			if err != nil {
				b.Fatal(err)
			}
			return took
		}
		before := counters(b, d)["kg_xdp/cookie_sent"]
		best, least := time.Hour, time.Hour
		for range rounds {
			best, least = min(best, round(full)), min(least, round(base))
		}
		if sent := counters(b, d)["kg_xdp/cookie_sent"] - before; sent != rounds*repeat {
			b.Fatalf("%s: %d cookies for %d SYNs", name, sent, rounds*repeat)
		}
		// Only the report is a benchmark of its own: those run on other threads, in another
		// namespace.
		b.Run(name, func(b *testing.B) {
			for range b.N {
			}
			reportPacket(b, best, least, 0)
		})
	}
}

// restoring returns a program that makes the packet of a test run what it was, and goes on
// with another program.
func restoring(b *testing.B, next *ebpf.Program, frame []byte, frags bool) *ebpf.Program {
	b.Helper()
	table, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { table.Close() })
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R4, asm.R1, 0, asm.Word), // data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // data_end
		asm.Sub.Reg(asm.R3, asm.R4),
		asm.Mov.Imm(asm.R2, int32(len(frame))),
		asm.Sub.Reg(asm.R2, asm.R3),
		asm.FnXdpAdjustTail.Call(),
		asm.LoadMem(asm.R2, asm.R6, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, int32(len(frame))),
		asm.JGT.Reg(asm.R4, asm.R3, "end"),
	}
	for i := 0; i < len(frame); i += 4 {
		code = append(code, asm.StoreImm(asm.R2, int16(i), int64(int32(binary.LittleEndian.Uint32(frame[i:]))), asm.Word))
	}
	code = append(code,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, table.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, xdpPass).WithSymbol("end"),
		asm.Return(),
	)
	spec := &ebpf.ProgramSpec{Name: "restoring", Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "Dual BSD/GPL", Instructions: code}
	if frags {
		spec.Flags |= datapath.XDPHasFrags
	}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.Close() })
	if err := table.Put(uint32(0), next); err != nil {
		b.Fatal(err)
	}
	return p
}
