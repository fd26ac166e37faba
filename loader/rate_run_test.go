package loader

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// rated is an L4 state with limits so slow that a test sees their burst alone.
func rated(packets, connections uint32) state.State {
	s := l4State(backends4, backends6)
	if packets > 0 {
		s.Defence.Packets = state.Limit{PerSecond: 1, Burst: packets}
	}
	if connections > 0 {
		s.Defence.Connections = state.Limit{PerSecond: 1, Burst: connections}
	}
	return s
}

// passes runs a program on packets and returns how many it let through.
func passes(t testing.TB, d *Datapath, program string, packets ...[]byte) (n int) {
	t.Helper()
	for _, p := range packets {
		if verdict, _ := run(t, d, program, p); verdict != dropVerdicts[program] {
			n++
		}
	}
	return n
}

// sent returns n packets of a client's connection to the proxy.
func sent(n int, from netip.Addr, flags byte) (packets [][]byte) {
	for range n {
		p := packetTo(from, 4000, 6)
		p.to, p.flags = netip.AddrPortFrom(p.to.Addr(), 80), flags
		packets = append(packets, p.bytes())
	}
	return packets
}

func addresses(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func TestPacketLimit(t *testing.T) {
	d := openL4(t)
	s := rated(10, 0)
	s.Defence.PrefixV4 = 24
	s.Allow = []netip.Prefix{netip.MustParsePrefix("198.51.100.128/25")}
	for i, program := range []string{"kg_xdp", "kg_xdp_guard", "kg_ingress"} {
		mustApply(t, d, s)
		a := addresses("198.18.1.7", "198.18.1.200", "198.18.2.7", "198.51.100.200")
		for j := range a {
			b := a[j].As4()
			b[1] += byte(i) // each program has sources of its own: all count in the same cells
			a[j] = netip.AddrFrom4(b)
		}
		before := counters(t, d)
		if n := passes(t, d, program, sent(30, a[0], ack)...); n != 10 {
			t.Errorf("%s: %d packets of 30 passed, want 10", program, n)
		}
		expectCounters(t, d, before, map[string]uint64{counterOf(program, "passed"): 10, counterOf(program, "rate_packets"): 20})
		if n := passes(t, d, program, sent(30, a[1], ack)...); n != 0 {
			t.Errorf("%s: %d packets from the same /24 passed", program, n)
		}
		if n := passes(t, d, program, sent(10, a[2], ack)...); n != 10 {
			t.Errorf("%s: of another /24 %d packets of 10 passed", program, n)
		}
		if i == 0 {
			if n := passes(t, d, program, sent(50, a[3], ack)...); n != 50 {
				t.Errorf("%s: of an allowed source %d packets of 50 passed", program, n)
			}
		}
		six := addresses("2001:db8:c:1::1", "2001:db8:c:1:ffff::2", "2001:db8:c:2::1")
		for j := range six {
			b := six[j].As16()
			b[4] += byte(i)
			six[j] = netip.AddrFrom16(b)
		}
		if n := passes(t, d, program, sent(30, six[0], ack)...); n != 10 {
			t.Errorf("%s: %d packets of 30 passed, want 10 (IPv6)", program, n)
		}
		if n := passes(t, d, program, sent(5, six[1], ack)...); n != 0 {
			t.Errorf("%s: %d packets from the same /64 passed", program, n)
		}
		if n := passes(t, d, program, sent(5, six[2], ack)...); n != 5 {
			t.Errorf("%s: of another /64 %d packets of 5 passed", program, n)
		}
		// What is not to us is not counted, and not dropped.
		p := packetTo(a[0], 4000, 6)
		p.to = netip.MustParseAddrPort("192.0.2.77:80")
		if n := passes(t, d, program, p.bytes()); n != 1 {
			t.Errorf("%s: a packet to another was dropped", program)
		}
		// Limits change without new programs, and what was counted by the old ones ends.
		s.Defence.Packets.PerSecond, s.Defence.Packets.Burst = 1_000_000, 0
		mustApply(t, d, s)
		if n := passes(t, d, program, sent(30, a[0], ack)...); n != 30 {
			t.Errorf("%s: with another limit %d packets of 30 passed", program, n)
		}
		s.Defence.Packets = state.Limit{PerSecond: 1, Burst: 10}
	}
	s.Defence = state.Defence{}
	mustApply(t, d, s)
	if n := passes(t, d, "kg_xdp", sent(100, netip.MustParseAddr("198.18.1.7"), ack)...); n != 100 {
		t.Errorf("without limits %d packets of 100 passed", n)
	}
}

func TestConnectionLimit(t *testing.T) {
	for program := range hooks {
		t.Run(program, func(t *testing.T) {
			d := openL4(t)
			mustApply(t, d, rated(0, 5))
			mustServe(t, d)
			// To the proxy: SYNs count, what belongs to connections does not.
			from := netip.MustParseAddr("198.18.1.1")
			before := counters(t, d)
			if n := passes(t, d, program, sent(20, from, syn)...); n != 5 {
				t.Errorf("%d SYNs of 20 passed, want 5", n)
			}
			expectCounters(t, d, before, map[string]uint64{program + "/passed": 5, program + "/rate_connections": 15})
			for _, flags := range []byte{ack, fin | ack, rst} {
				if n := passes(t, d, program, sent(20, from, flags)...); n != 20 {
					t.Errorf("%d packets of 20 with flags %d passed", n, flags)
				}
			}
			// To a TCP service: the same.
			from = netip.MustParseAddr("198.18.1.2")
			var packets [][]byte
			for port := range uint16(20) {
				packets = append(packets, packetTo(from, 3000+port, 6).bytes())
			}
			if n := passes(t, d, program, packets...); n != 5 {
				t.Errorf("%d SYNs of 20 to a service passed, want 5", n)
			}
			// To a UDP service: flows count, however long they are.
			from = netip.MustParseAddr("2001:db8:c::5")
			packets = nil
			for port := range uint16(20) {
				p := packetTo(from, 3000+port, 17).bytes()
				packets = append(packets, p, p, p)
			}
			if n := passes(t, d, program, packets...); n != 15 {
				t.Errorf("%d datagrams of 20 flows of 3 passed, want 15", n)
			}
			// QUIC: a client's first datagrams count, those of connections do not.
			from = netip.MustParseAddr("198.18.1.3")
			quic := func(first byte) []byte {
				p := packetTo(from, 6000, 17)
				p.to, p.payload = netip.AddrPortFrom(vip4, 443), append([]byte{first}, make([]byte, 1199)...)
				return p.bytes()
			}
			packets = nil
			for range 20 {
				packets = append(packets, quic(0xc3))
			}
			if n := passes(t, d, program, packets...); n != 5 {
				t.Errorf("%d QUIC Initials of 20 passed, want 5", n)
			}
			if n := passes(t, d, program, quic(0x43), quic(0xe3), quic(0x43)); n != 3 {
				t.Errorf("%d other QUIC packets of 3 passed", n)
			}
		})
	}
}

// kg_ingress does not count again what kg_xdp has counted on the same interface.
func TestLimitsCountOnce(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.Interfaces = []string{"lo"} })
	s := vips()
	s.Defence.Packets = state.Limit{PerSecond: 1, Burst: 10}
	mustApply(t, d, s)
	// A test run is on loopback.
	packets := sent(20, netip.MustParseAddr("198.18.1.1"), ack)
	if n := passes(t, d, "kg_ingress", packets...); n != 20 {
		t.Errorf("behind kg_xdp %d packets of 20 passed", n)
	}
	if n := passes(t, d, "kg_xdp", packets...); n != 10 {
		t.Errorf("in kg_xdp %d packets of 20 passed, want 10", n)
	}
}

// Cells are shared, and yet a source suffers from others only if both of its cells are: with
// 100 that send too much and 2048 cells in a half one in 400 does.
func TestLimitsOfOthers(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxSources = 4096 })
	s := vips()
	s.Defence.Packets = state.Limit{PerSecond: 1, Burst: 10}
	mustApply(t, d, s)
	host := func(net byte, i int) netip.Addr {
		b := [4]byte{net}
		binary.BigEndian.PutUint16(b[2:], uint16(i))
		return netip.AddrFrom4(b)
	}
	for i := range 100 {
		if n := passes(t, d, "kg_xdp", sent(15, host(100, i), ack)...); n > 10 {
			t.Fatalf("%d packets of one source passed, want 10", n)
		}
	}
	passed := 0
	for i := range 1000 {
		passed += passes(t, d, "kg_xdp", sent(1, host(101, i), ack)...)
	}
	if passed < 980 {
		t.Errorf("of 1000 sources that send one packet %d got through", passed)
	}
}

// The limits are there before the agent's first Apply, and as they were.
func TestLimitsSurviveTheAgent(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	s := vips()
	s.Defence.Packets = state.Limit{PerSecond: 1, Burst: 10}
	mustApply(t, d, s)
	d.Close()
	d = openTest(t, bpffs)
	if n := passes(t, d, "kg_xdp", sent(20, netip.MustParseAddr("198.18.1.1"), ack)...); n != 10 {
		t.Errorf("after a restart %d packets of 20 passed, want 10", n)
	}
}
