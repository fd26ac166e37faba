package loader

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"testing"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// openCookies opens a data path with a proxy in a namespace whose listening sockets are
// always taken for full: with tcp_syncookies=2 the kernel sends nothing but cookies.
func openCookies(t *testing.T, change ...func(*Options)) *Datapath {
	t.Helper()
	netnstest.Enter(t)
	setSyncookies(t, "2")
	d := openTest(t, netnstest.BPFFS(t), append([]func(*Options){func(o *Options) { o.SynCookies = SynCookiesAlways }}, change...)...)
	mustApply(t, d, vips())
	mustServe(t, d)
	return d
}

func setSyncookies(t *testing.T, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte(value), 0o644); err != nil {
		t.Fatal(err)
	}
}

// synPacket is a SYN as Linux sends it: greatest segment, selective acknowledgement,
// timestamps, window scale.
func synPacket(from netip.Addr, to netip.AddrPort, options ...byte) flowPacket {
	return flowPacket{from: netip.AddrPortFrom(from, 4711), to: to, protocol: 6, flags: syn, tcpOptions: options}
}

var linuxOptions = []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}

// TestCookieAnswer: the answer to a SYN is right in every byte, whatever came with it.
func TestCookieAnswer(t *testing.T) {
	d := openCookies(t)
	from4, from6 := netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("2001:db8:900d::1")
	to4, to6 := netip.AddrPortFrom(vip4, 80), netip.AddrPortFrom(vip6, 80)
	with := func(p flowPacket, change func(*flowPacket)) flowPacket { change(&p); return p }
	for name, p := range map[string]flowPacket{
		"v4":                  synPacket(from4, to4, linuxOptions...),
		"v6":                  synPacket(from6, to6, linuxOptions...),
		"v4 no options":       synPacket(from4, to4),
		"v6 all options":      synPacket(from6, to6, append(bytes.Clone(linuxOptions), bytes.Repeat([]byte{1}, 20)...)...),
		"v4 two tags":         with(synPacket(from4, to4, linuxOptions...), func(p *flowPacket) { p.tags = []uint16{0x88a8, 0x8100} }),
		"v6 tag":              with(synPacket(from6, to6, linuxOptions...), func(p *flowPacket) { p.tags = []uint16{0x8100} }),
		"v4 wants ECN (0xc2)": with(synPacket(from4, to4, linuxOptions...), func(p *flowPacket) { p.flags = 0xc2 }),
	} {
		packet := p.bytes()
		for program, verdict := range map[string]uint32{"kg_xdp": xdpTX, "kg_ingress": tcRedirect} {
			// No subtest: those run on other threads, in another namespace.
			what := name + ", " + program
			before := counters(t, d)
			got, out := run(t, d, program, packet)
			if got != verdict {
				t.Fatalf("%s: verdict %d, want %d", what, got, verdict)
			}
			expectCounters(t, d, before, map[string]uint64{program + "/cookie_sent": 1, "kg_lookup/steered": 1})
			l2 := 14 + 4*len(p.tags)
			if !bytes.Equal(out[:6], packet[6:12]) || !bytes.Equal(out[6:12], packet[:6]) || !bytes.Equal(out[12:l2], packet[12:l2]) {
				t.Errorf("%s: Ethernet header % x of % x", what, out[:l2], packet[:l2])
			}
			var answer []byte
			mss := 1460
			if p.from.Addr().Is4() {
				ip := out[l2 : l2+20]
				answer = out[l2+20:]
				if sum(ip) != 0xffff || int(binary.BigEndian.Uint16(ip[2:])) != len(out)-l2 || ip[0] != 0x45 || ip[1] != 0 || ip[8] != 64 || ip[9] != 6 ||
					!bytes.Equal(ip[12:16], vip4.AsSlice()) || !bytes.Equal(ip[16:20], from4.AsSlice()) {
					t.Errorf("%s: IP header % x", what, ip)
				}
			} else {
				mss = 1440
				ip := out[l2 : l2+40]
				answer = out[l2+40:]
				if int(binary.BigEndian.Uint16(ip[4:])) != len(answer) || !bytes.Equal(ip[:4], []byte{0x60, 0, 0, 0}) || ip[6] != 6 || ip[7] != 64 ||
					!bytes.Equal(ip[8:24], vip6.AsSlice()) || !bytes.Equal(ip[24:40], from6.AsSlice()) {
					t.Errorf("%s: IP header % x", what, ip)
				}
			}
			if len(answer) != 24 || sum(pseudo(p.to.Addr(), p.from.Addr(), 6, len(answer)), answer) != 0xffff {
				t.Fatalf("%s: TCP header % x: its checksum or length is wrong", what, answer)
			}
			asked := packet[len(packet)-20-len(p.tcpOptions):]
			if !bytes.Equal(answer[:2], asked[2:4]) || !bytes.Equal(answer[2:4], asked[:2]) ||
				binary.BigEndian.Uint32(answer[8:]) != binary.BigEndian.Uint32(asked[4:])+1 || answer[12] != 6<<4 || answer[13] != syn|ack ||
				!bytes.Equal(answer[20:], []byte{2, 4, byte(mss >> 8), byte(mss & 0xff)}) {
				t.Errorf("%s: TCP header % x answers % x", what, answer, asked)
			}
		}
	}
}

// TestCookieNotFor: no other packet is answered or changed.
func TestCookieNotFor(t *testing.T) {
	d := openCookies(t)
	from4, from6 := netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("2001:db8:900d::1")
	to4, to6 := netip.AddrPortFrom(vip4, 80), netip.AddrPortFrom(vip6, 80)
	with := func(p flowPacket, change func(*flowPacket)) flowPacket { change(&p); return p }
	for name, p := range map[string]flowPacket{
		"no listener":     synPacket(from4, netip.AddrPortFrom(vip4, 81), linuxOptions...),
		"ack":             with(synPacket(from4, to4), func(p *flowPacket) { p.flags = ack }),
		"syn ack":         with(synPacket(from6, to6), func(p *flowPacket) { p.flags = syn | ack }),
		"rst":             with(synPacket(from6, to6), func(p *flowPacket) { p.flags = rst }),
		"data":            with(synPacket(from4, to4, linuxOptions...), func(p *flowPacket) { p.payload = []byte("early") }),
		"options of IPv4": with(synPacket(from4, to4), func(p *flowPacket) { p.options = []byte{1, 1, 1, 1} }),
		"extension":       with(synPacket(from6, to6), func(p *flowPacket) { p.first, p.before = 60, [][]byte{extension(6, 0)} }),
		"fragment":        with(synPacket(from4, to4), func(p *flowPacket) { p.fragment = 0x2000; p.payload = make([]byte, 4) }),
		"datagram":        {from: netip.AddrPortFrom(from4, 1), to: to4, protocol: 17, payload: []byte("quic")},
		"another address": synPacket(from4, netip.MustParseAddrPort("192.0.2.99:80"), linuxOptions...),
	} {
		for _, program := range []string{"kg_xdp", "kg_ingress"} {
			verdict, out := run(t, d, program, p.bytes())
			if verdict != hooks[program] {
				t.Errorf("%s, %s: verdict %d, want %d", name, program, verdict, hooks[program])
			}
			if !bytes.Equal(out, p.bytes()) {
				t.Errorf("%s, %s: changed", name, program)
			}
		}
	}
	// Nor is one that is cut off after any byte.
	for _, whole := range [][]byte{synPacket(from4, to4, linuxOptions...).bytes(), synPacket(from6, to6, linuxOptions...).bytes()} {
		for n := 14; n < len(whole); n++ {
			if verdict, out := run(t, d, "kg_xdp", whole[:n:n]); verdict == xdpTX || !bytes.Equal(out, whole[:n]) {
				t.Errorf("cut to %d bytes: verdict %d", n, verdict)
			}
		}
	}
}

// TestCookieWhen: nothing is answered while the queue has room, while SYNs are few, and with
// the option off.
func TestCookieWhen(t *testing.T) {
	packet := synPacket(netip.MustParseAddr("203.0.113.8"), netip.AddrPortFrom(vip4, 80), linuxOptions...).bytes()
	d := openCookies(t, func(o *Options) { o.SynCookies, o.SynRate = SynCookiesAuto, 500 })
	answered := func(n int) (times int) {
		for range n {
			if verdict, _ := run(t, d, "kg_xdp", packet); verdict == xdpTX {
				times++
			}
		}
		return times
	}
	// Fifty in a tenth of a second are not too many. (Slow machines need longer: fewer answers.)
	if n := answered(50); n != 0 {
		t.Errorf("%d of 50 answered", n)
	}
	if n := answered(1000); n < 500 {
		t.Errorf("%d of 1000 in a row answered", n)
	}
	setSyncookies(t, "1")
	if n := answered(100); n != 0 {
		t.Errorf("%d of 100 answered though the queue has room", n)
	}
	setSyncookies(t, "0")
	if n := answered(100); n != 0 {
		t.Errorf("%d of 100 answered though the kernel is told to send none", n)
	}
}
