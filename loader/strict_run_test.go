package loader

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// dropVerdicts are what the programs that judge packets say to drop one.
var dropVerdicts = map[string]uint32{"kg_xdp": xdpDrop, "kg_xdp_guard": xdpDrop, "kg_ingress": tcDrop}

// counterOf names the counter of a program: kg_xdp_guard counts as kg_xdp.
func counterOf(program, reason string) string {
	if program == "kg_xdp_guard" {
		program = "kg_xdp"
	}
	return program + "/" + reason
}

// strictCase is a packet and why it is dropped; "" if it is not.
type strictCase struct {
	name   string
	packet []byte
	reason string
}

// change returns a copy of a packet with some bytes replaced.
func change(packet []byte, at int, bytes ...byte) []byte {
	out := append([]byte(nil), packet...)
	copy(out[at:], bytes)
	return out
}

// Offsets of a packet without VLAN tags, options and extension headers.
const (
	atIP   = 14
	atL4v4 = atIP + 20
	atL4v6 = atIP + 40
)

// sourceCases are packets that are right but for their source.
func sourceCases() (cases []strictCase) {
	for source, reason := range map[string]string{
		"0.0.0.0": "spoofed_source", "0.1.2.3": "spoofed_source", "127.0.0.1": "spoofed_source", "127.255.255.254": "spoofed_source",
		"224.0.0.1": "spoofed_source", "239.255.255.255": "spoofed_source", "255.255.255.255": "spoofed_source",
		"240.0.0.1": "", "255.255.255.254": "", // reserved, and used by some: Linux takes them
		"192.0.2.1": "spoofed_source", "192.0.2.200": "spoofed_source", // ingress addresses: LAND, and another one
		"1.0.0.1": "", "126.0.0.1": "", "128.0.0.1": "", "223.255.255.255": "", "10.0.0.1": "", "169.254.0.1": "", "192.0.2.2": "",
		"::": "spoofed_source", "::1": "spoofed_source", "::192.0.2.7": "spoofed_source", "::ffff:198.18.0.7": "spoofed_source",
		"::ffff:192.0.2.1": "spoofed_source", "ff02::1": "spoofed_source", "2001:db8::1": "spoofed_source",
		"fe80::1": "", "fd00::1": "", "2001:db8::2": "", "64:ff9b::192.0.2.7": "", "0:0:0:1::": "", "::1:0:0": "", "fe00::1": "",
	} {
		from := netip.MustParseAddr(source)
		for _, protocol := range []uint8{6, 17, 132} {
			if from.Is4() {
				cases = append(cases, strictCase{source, build(ether(0x0800), ip4(from, vip4, protocol, nil, 0), transportOf(protocol)), reason})
			} else {
				cases = append(cases, strictCase{source, build(ether(0x86dd, 0x8100), ip6(from, vip6, protocol), transportOf(protocol)), reason})
			}
		}
	}
	return cases
}

func transportOf(protocol uint8) []byte {
	switch protocol {
	case 6:
		return tcp()
	case 17:
		return udp()
	}
	return make([]byte, 12)
}

// headerCases are packets from a good source, whose headers are right or wrong.
func headerCases() (cases []strictCase) {
	tcp4 := build(ether(0x0800), ip4(client4, vip4, 6, nil, 0), tcp(), []byte("data"))
	udp4 := build(ether(0x0800), ip4(client4, vip4, 17, nil, 0), udp())
	tcp6 := build(ether(0x86dd), ip6(client6, vip6, 6), tcp(), []byte("data"))
	udp6 := build(ether(0x86dd), ip6(client6, vip6, 17), udp())
	add := func(name string, packet []byte, reason string) {
		cases = append(cases, strictCase{name, packet, reason})
	}
	// All TCP flags. PSH, ECE and CWR change nothing.
	const urg = 32
	sound := map[int]bool{syn: true, syn | urg: true, syn | ack: true, rst: true, rst | ack: true, ack: true, fin | ack: true, ack | urg: true, fin | ack | urg: true}
	for flags := range 256 {
		reason := "bad_flags"
		if sound[flags&(fin|syn|rst|ack|urg)] {
			reason = ""
		}
		add("tcp4 flags", change(tcp4, atL4v4+13, byte(flags)), reason)
		add("tcp6 flags", change(tcp6, atL4v6+13, byte(flags)), reason)
	}
	for _, p := range []struct {
		packet []byte
		at     int
		tcp    bool
	}{{tcp4, atL4v4, true}, {tcp6, atL4v6, true}, {udp4, atL4v4, false}, {udp6, atL4v6, false}} {
		add("to port 0", change(p.packet, p.at+2, 0, 0), "bad_port")
		if p.tcp {
			add("from port 0", change(p.packet, p.at, 0, 0), "bad_port")
			for offset := range 16 {
				reason := "bad_length"
				if offset == 5 || offset == 6 { // what there is
					reason = ""
				}
				add("data offset", change(p.packet, p.at+12, byte(offset<<4)), reason)
			}
			continue
		}
		add("udp from port 0: who wants no answer", change(p.packet, p.at, 0, 0), "")
		for length, reason := range map[byte]string{0: "bad_length", 7: "bad_length", 8: "", 9: "bad_length", 255: "bad_length"} {
			add("udp length", change(p.packet, p.at+4, 0, length), reason)
		}
		longer := append(change(p.packet, p.at+4, 0, 8), make([]byte, 8)...)
		if p.at == atL4v4 {
			longer[atIP+3] += 8
		} else {
			longer[atIP+5] += 8
		}
		add("udp options (bytes behind the datagram)", longer, "")
	}
	add("v4 shorter than its header", change(tcp4, atIP+2, 0, 19), "bad_length")
	add("v4 without place for tcp", change(tcp4, atIP+2, 0, 39), "bad_length")
	add("v4 of no length", change(udp4, atIP+2, 0, 0), "bad_length")
	add("v6 without place for tcp", change(tcp6, atIP+4, 0, 19), "bad_length")
	add("v6 of no length", change(udp6, atIP+4, 0, 0), "bad_length")
	add("v4 segments put together, too long to be said", change(tcp4, atIP+2, 0, 0), "")
	add("v6 segments put together, too long to be said", change(tcp6, atIP+4, 0, 0), "")
	add("v4 cut off by its own length", build(ether(0x0800), ip4(client4, vip4, 6, nil, 0), tcp()[:19]), "cut_short")
	add("v6 cut off by its own length", build(ether(0x86dd), ip6(client6, vip6, 60), extension(17, 0), udp()[:7]), "cut_short")
	add("v6 extension beyond the packet", build(ether(0x86dd), ip6(client6, vip6, 60), extension(17, 3)[:16]), "cut_short")
	var many [][]byte
	for range 9 {
		many = append(many, extension(60, 0))
	}
	many = append(many, extension(6, 0), tcp())
	add("v6 too many extensions", build(append([][]byte{ether(0x86dd), ip6(client6, vip6, 60)}, many...)...), "cut_short")
	return cases
}

func fragmentCases() (cases []strictCase) {
	const more = 0x2000
	data := make([]byte, 16)
	v4 := func(protocol uint8, fragment uint16, payload []byte, reason string) {
		cases = append(cases, strictCase{"v4 fragment", build(ether(0x0800), ip4(client4, vip4, protocol, nil, fragment), payload), reason})
	}
	v6 := func(next uint8, offset uint16, more byte, payload []byte, reason string) {
		h := fragment6(next, offset)
		h[3] |= more
		cases = append(cases, strictCase{"v6 fragment", build(ether(0x86dd), ip6(client6, vip6, 44), h, payload), reason})
	}
	first := append(tcp(), data[:4]...)
	v4(6, more, first, "")
	v6(6, 0, 1, first, "")
	v4(6, more, tcp()[:16], "cut_short") // a header in two pieces
	v6(6, 0, 1, tcp()[:16], "cut_short")
	v4(6, 1, data, "bad_fragment") // over the flags
	v4(6, more|1, data, "bad_fragment")
	v6(6, 1, 0, data, "bad_fragment")
	v6(6, 1, 1, data, "bad_fragment")
	v4(17, 1, data, "")
	v6(17, 1, 0, data, "")
	v4(6, 2, data, "")
	v4(17, more|2, data[:12], "bad_fragment") // only the last may end anywhere
	v6(17, 2, 1, data[:12], "bad_fragment")
	v4(17, 2, data[:12], "")
	v6(17, 2, 0, data[:12], "")
	v4(17, 2, nil, "bad_fragment")
	v4(1, 8191, data[:7], "")
	v4(1, 8191, data[:8], "bad_fragment") // ping of death
	v6(58, 8191, 0, data, "bad_fragment")
	// A datagram is longer than its first fragment.
	long := append(udp(), data...)
	binary.BigEndian.PutUint16(long[4:], 4000)
	v4(17, more, long, "")
	v6(17, 0, 1, long, "")
	v6(17, 0, 0, long, "bad_length") // an atomic fragment is a whole packet (RFC 6946)
	return cases
}

// What no honest host sends is dropped for its reason by all programs; all else passes
// unchanged, and so does everything that is not to us.
func TestStrict(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	s := vips()
	s.Addresses = append(s.Addresses, netip.MustParseAddr("192.0.2.200"))
	mustApply(t, d, s)
	mustServe(t, d)
	cases := append(append(sourceCases(), headerCases()...), fragmentCases()...)
	for program, drop := range dropVerdicts {
		for _, c := range cases {
			before := counters(t, d)
			verdict, out := run(t, d, program, c.packet)
			if (verdict == drop) != (c.reason != "") || string(out) != string(c.packet) {
				t.Errorf("%s: %s: verdict %d, want a drop for %q: %x", program, c.name, verdict, c.reason, c.packet)
			}
			reason := c.reason
			if reason == "" {
				reason = "passed"
			}
			expectCounters(t, d, before, map[string]uint64{counterOf(program, reason): 1})

			elsewhere := change(c.packet, len(c.packet))
			ethertype := elsewhere[12]
			if ethertype == 0x08 {
				elsewhere[atIP+19] = 99
			} else if ethertype == 0x86 {
				elsewhere[atIP+39] = 99
			} else {
				elsewhere[atIP+4+39] = 99
			}
			if verdict, out := run(t, d, program, elsewhere); verdict == drop || string(out) != string(elsewhere) {
				t.Errorf("%s: %s, but not to us: verdict %d: %x", program, c.name, verdict, elsewhere)
			}
		}
	}
}

// Options.Lax leaves all of it to the kernel. What it still reads it reads within bounds.
func TestLax(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.Lax = true })
	mustApply(t, d, vips())
	mustServe(t, d)
	for program, drop := range dropVerdicts {
		for _, c := range append(append(sourceCases(), headerCases()...), fragmentCases()...) {
			if verdict, _ := run(t, d, program, c.packet); verdict == drop {
				t.Errorf("%s: %s was dropped", program, c.name)
			}
		}
	}
}

// Where loopback is an uplink its packets have the addresses of this host; elsewhere not.
func TestStrictLoopback(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.Interfaces = []string{"lo"} })
	mustApply(t, d, state.State{Addresses: []netip.Addr{vip4}})
	// A test run is on loopback.
	for source, dropped := range map[string]bool{"192.0.2.1": false, "127.0.0.1": false} {
		packet := build(ether(0x0800), ip4(netip.MustParseAddr(source), vip4, 17, nil, 0), udp())
		for program, drop := range dropVerdicts {
			if verdict, _ := run(t, d, program, packet); (verdict == drop) != dropped {
				t.Errorf("%s: from %s: verdict %d, want a drop: %v", program, source, verdict, dropped)
			}
		}
	}
}
