package loader

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

const (
	xdpDrop = 1
	xdpPass = 2
)

// runXDP runs kg_xdp on a packet and returns its verdict, and fails if it changed a byte.
func runXDP(t testing.TB, d *Datapath, packet []byte) uint32 {
	t.Helper()
	out := make([]byte, len(packet)+256)
	o := ebpf.RunOptions{Data: packet, DataOut: out}
	verdict, err := d.programs.XDP.Run(&o)
	if err != nil {
		t.Fatalf("run kg_xdp on %d bytes: %v", len(packet), err)
	}
	if !bytes.Equal(o.DataOut, packet) {
		t.Errorf("kg_xdp changed the packet")
	}
	return verdict
}

func TestXDP(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	s := vips()
	s.Deny = []netip.Prefix{
		netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.9/32"),
		netip.MustParsePrefix("2001:db8:bad::/48"),
	}
	s.Allow = []netip.Prefix{netip.MustParsePrefix("198.51.100.128/25"), netip.MustParsePrefix("2001:db8:bad:1::/64")}
	mustApply(t, d, s)

	var (
		good4    = netip.MustParseAddr("203.0.113.8")
		denied4  = netip.MustParseAddr("198.51.100.7")
		allowed4 = netip.MustParseAddr("198.51.100.200")
		other4   = netip.MustParseAddr("192.0.2.2")
		good6    = netip.MustParseAddr("2001:db8:900d::1")
		denied6  = netip.MustParseAddr("2001:db8:bad::1")
		allowed6 = netip.MustParseAddr("2001:db8:bad:1::1")
		other6   = netip.MustParseAddr("2001:db8::2")
		qinq     = []uint16{0x88a8, 0x8100}
	)
	const more = 0x2000 // IPv4: more fragments
	for _, c := range []struct {
		name    string
		packet  []byte
		verdict uint32
		reason  string
	}{
		{"arp", build(ether(0x0806), make([]byte, 28)), xdpPass, "not_ip"},
		{"three tags", build(ether(0x0800, 0x88a8, 0x8100, 0x8100), ip4(denied4, vip4, 6, nil, 0), tcp()), xdpPass, "not_ip"},
		{"v4 to another", build(ether(0x0800), ip4(denied4, other4, 6, nil, 0), tcp()), xdpPass, "not_ours"},
		{"v6 to another", build(ether(0x86dd), ip6(denied6, other6, 6), tcp()), xdpPass, "not_ours"},

		{"v4", build(ether(0x0800), ip4(good4, vip4, 6, nil, 0), tcp()), xdpPass, "passed"},
		{"v4 one tag", build(ether(0x0800, 0x8100), ip4(good4, vip4, 6, nil, 0), tcp()), xdpPass, "passed"},
		{"v4 two tags", build(ether(0x0800, qinq...), ip4(good4, vip4, 17, nil, 0), udp()), xdpPass, "passed"},
		{"v4 options", build(ether(0x0800), ip4(good4, vip4, 6, make([]byte, 40), 0), tcp()), xdpPass, "passed"},
		{"v4 icmp", build(ether(0x0800), ip4(good4, vip4, 1, nil, 0), []byte{8, 0}), xdpPass, "passed"},
		{"v4 first fragment", build(ether(0x0800), ip4(good4, vip4, 6, nil, more), tcp(), make([]byte, 4)), xdpPass, "passed"},
		{"v4 later fragment", build(ether(0x0800), ip4(good4, vip4, 6, nil, more|100), make([]byte, 8)), xdpPass, "passed"},

		{"v4 denied", build(ether(0x0800), ip4(denied4, vip4, 6, nil, 0), tcp()), xdpDrop, "denied"},
		{"v4 host denied", build(ether(0x0800), ip4(netip.MustParseAddr("203.0.113.9"), vip4, 17, nil, 0), udp()), xdpDrop, "denied"},
		{"v4 denied two tags", build(ether(0x0800, qinq...), ip4(denied4, vip4, 6, nil, 0), tcp()), xdpDrop, "denied"},
		{"v4 denied options", build(ether(0x0800), ip4(denied4, vip4, 6, make([]byte, 12), 0), tcp()), xdpDrop, "denied"},
		{"v4 denied later fragment", build(ether(0x0800), ip4(denied4, vip4, 6, nil, 100), []byte{1}), xdpDrop, "denied"},
		{"v4 denied cut short", build(ether(0x0800), ip4(denied4, vip4, 6, nil, 0), tcp()[:3]), xdpDrop, "denied"},
		{"v4 allowed", build(ether(0x0800), ip4(allowed4, vip4, 6, nil, 0), tcp()), xdpPass, "allowed"},

		{"v6", build(ether(0x86dd), ip6(good6, vip6, 6), tcp()), xdpPass, "passed"},
		{"v6 one tag", build(ether(0x86dd, 0x8100), ip6(good6, vip6, 17), udp()), xdpPass, "passed"},
		{"v6 extensions", build(ether(0x86dd), ip6(good6, vip6, 0), extension(43, 0), extension(60, 3), extension(51, 0), authentication(6, 4), tcp()), xdpPass, "passed"},
		{"v6 longest extension", build(ether(0x86dd), ip6(good6, vip6, 60), extension(6, 148), tcp()), xdpPass, "passed"},
		{"v6 first fragment", build(ether(0x86dd), ip6(good6, vip6, 44), fragment6(6, 0), tcp()), xdpPass, "passed"},
		{"v6 later fragment", build(ether(0x86dd), ip6(good6, vip6, 44), fragment6(6, 7), []byte{1}), xdpPass, "passed"},
		{"v6 too many extensions", build(ether(0x86dd), ip6(good6, vip6, 60), extension(60, 0), extension(60, 0), extension(60, 0), extension(60, 0),
			extension(60, 0), extension(60, 0), extension(60, 0), extension(60, 0), extension(6, 0), tcp()), xdpDrop, "cut_short"},
		{"v6 denied", build(ether(0x86dd), ip6(denied6, vip6, 6), tcp()), xdpDrop, "denied"},
		{"v6 denied behind extensions", build(ether(0x86dd), ip6(denied6, vip6, 0), extension(44, 2), fragment6(6, 9)), xdpDrop, "denied"},
		{"v6 allowed", build(ether(0x86dd), ip6(allowed6, vip6, 6), tcp()), xdpPass, "allowed"},

		{"v4 says 6", build(ether(0x0800), ip6(denied6, vip6, 6), tcp()), xdpPass, "malformed"},
		{"v6 says 4", build(ether(0x86dd), ip4(denied4, vip4, 6, make([]byte, 40), 0), tcp()), xdpPass, "malformed"},
		{"v4 header too short", build(ether(0x0800), []byte{0x44}, ip4(denied4, vip4, 6, nil, 0)[1:], tcp()), xdpPass, "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := counters(t, d)
			if got := runXDP(t, d, c.packet); got != c.verdict {
				t.Errorf("verdict %d, want %d", got, c.verdict)
			}
			expectCounters(t, d, before, map[string]uint64{"kg_xdp/" + c.reason: 1})
		})
	}
}

// Packets cut off after every single byte: whatever is missing, the kernel gets to judge.
func TestXDPTruncated(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	from4, from6 := netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("2001:db8:900d::1")
	for name, packet := range map[string][]byte{
		"plain v4": build(ether(0x0800), ip4(from4, vip4, 6, nil, 0), tcp()),
		"plain v6": build(ether(0x86dd), ip6(from6, vip6, 17), udp()),
		"v4":       build(ether(0x0800, 0x88a8, 0x8100), ip4(from4, vip4, 6, make([]byte, 8), 0), tcp()),
		"v6":       build(ether(0x86dd, 0x8100), ip6(from6, vip6, 0), extension(60, 1), extension(44, 0), fragment6(51, 0), authentication(17, 3), udp()),
	} {
		const least = 14 // shorter ones are no Ethernet frames; the kernel refuses to run on them
		for n := least; n <= len(packet); n++ {
			before := counters(t, d)
			if got := runXDP(t, d, packet[:n:n]); got != xdpPass {
				t.Errorf("%s cut to %d bytes: verdict %d, want pass", name, n, got)
			}
			want := "malformed"
			if n == len(packet) {
				want = "passed"
			}
			expectCounters(t, d, before, map[string]uint64{"kg_xdp/" + want: 1})
		}
	}
}

// lookupContext is the start of struct bpf_sk_lookup, as BPF_PROG_TEST_RUN takes it.
type lookupContext struct {
	Cookie         uint64
	Family         uint32
	Protocol       uint32
	RemoteIP4      [4]byte
	RemoteIP6      [16]byte
	RemotePort     uint16 // network byte order
	_              uint16
	LocalIP4       [4]byte
	LocalIP6       [16]byte
	LocalPort      uint32 // host byte order
	IngressIfindex uint32
	_              uint32
}

// runLookup runs kg_lookup on a connection attempt and returns what it chose.
func runLookup(t *testing.T, d *Datapath, local netip.AddrPort, protocol uint32) (verdict uint32, cookie uint64) {
	t.Helper()
	in := lookupContext{Family: unix.AF_INET, Protocol: protocol, LocalPort: uint32(local.Port())}
	if local.Addr().Is4() {
		in.LocalIP4 = local.Addr().As4()
	} else {
		in.Family, in.LocalIP6 = unix.AF_INET6, local.Addr().As16()
	}
	out := in
	verdict, err := d.programs.Lookup.Run(&ebpf.RunOptions{Context: in, ContextOut: &out})
	if err != nil {
		t.Fatalf("run kg_lookup: %v", err)
	}
	return verdict, out.Cookie
}

func TestLookupRun(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	mustApply(t, d, vips())
	const skDrop, skPass = 0, 1
	to := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

	before := counters(t, d)
	if v, cookie := runLookup(t, d, to(vip4, 80), unix.IPPROTO_TCP); v != skPass || cookie == 0 {
		t.Errorf("without a proxy: verdict %d, socket %d; want the one that drops", v, cookie)
	}
	if v, cookie := runLookup(t, d, to(vip4, 80), unix.IPPROTO_UDP); v != skDrop || cookie != 0 {
		t.Errorf("a datagram without a proxy: verdict %d, socket %d; want drop", v, cookie)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/no_proxy": 2})

	p := startProxy(t, d, 2)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		local    netip.AddrPort
		protocol uint32
		ours     bool
	}{
		{to(vip4, 80), unix.IPPROTO_TCP, true},
		{to(vip6, 80), unix.IPPROTO_TCP, true},
		// Not UDP: the kernel runs no test in which a reuseport group has the last word.
		{to(netip.MustParseAddr("192.0.2.2"), 80), unix.IPPROTO_TCP, false},
		{to(netip.MustParseAddr("2001:db8::2"), 80), unix.IPPROTO_TCP, false},
	} {
		before := counters(t, d)
		v, cookie := runLookup(t, d, c.local, c.protocol)
		if v != skPass || (cookie != 0) != c.ours {
			t.Errorf("%v protocol %d: verdict %d, socket %d; want pass, and a socket: %v", c.local, c.protocol, v, cookie, c.ours)
		}
		reason := "kg_lookup/steered"
		if !c.ours {
			reason = "kg_lookup/not_ours"
		}
		expectCounters(t, d, before, map[string]uint64{reason: 1})
	}
	before = counters(t, d)
	if v, cookie := runLookup(t, d, to(vip4, 81), unix.IPPROTO_TCP); v == skPass || cookie != 0 {
		t.Errorf("a port that is not published: verdict %d, socket %d; want drop", v, cookie)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_lookup/closed": 1})
}

// A SYN to the proxies is dropped on the uplink while none of them has a socket, so that it is not
// refused even without an agent. Everything else passes, and the SYN too once a proxy serves.
func TestSYNWithoutAProxy(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	s := vips()
	s.Listeners = append(s.Listeners, state.Listener{Address: netip.AddrPortFrom(vip4, 443), Protocol: state.TCP, Mode: state.L7})
	mustApply(t, d, s)
	segment := func(port uint16, flags byte) []byte {
		h := tcp()
		binary.BigEndian.PutUint16(h[2:], port)
		h[13] = flags
		return h
	}
	from4, from6 := netip.MustParseAddr("203.0.113.8"), netip.MustParseAddr("2001:db8:900d::1")
	v4 := func(port uint16, flags byte) []byte {
		return build(ether(0x0800), ip4(from4, vip4, 6, nil, 0), segment(port, flags))
	}
	v6 := func(port uint16, flags byte) []byte {
		return build(ether(0x86dd), ip6(from6, vip6, 6), segment(port, flags))
	}
	check := func(when string, dropped bool) {
		t.Helper()
		for _, c := range []struct {
			what    string
			packet  []byte
			dropped bool
		}{
			{"SYN v4", v4(80, syn), dropped},
			{"SYN v6", v6(80, syn), dropped},
			{"SYN v4 to another listener", v4(443, syn), dropped},
			{"SYN v6 to a port without a listener", v6(443, syn), false},
			{"SYN ACK", v4(80, syn|ack), false},
			{"ACK", v4(80, ack), false},
			{"datagram", build(ether(0x0800), ip4(from4, vip4, 17, nil, 0), udp()), false},
		} {
			for _, program := range []string{"kg_xdp", "kg_xdp_guard", "kg_ingress"} {
				before := counters(t, d)
				verdict, err := d.programs.ByName(program).Run(&ebpf.RunOptions{Data: c.packet})
				if err != nil {
					t.Fatal(err)
				}
				where, drop := "kg_xdp", verdict == xdpDrop
				if program == "kg_ingress" {
					where, drop = "kg_ingress", verdict == 2 // TC_ACT_SHOT
				}
				if drop != c.dropped {
					t.Errorf("%s, %s, %s: verdict %d, want it dropped: %v", when, program, c.what, verdict, c.dropped)
				}
				reason := "/passed"
				if c.dropped {
					reason = "/no_proxy"
				}
				expectCounters(t, d, before, map[string]uint64{where + reason: 1})
			}
		}
	}
	check("no proxy", true)
	p := startProxy(t, d, 3)
	check("a proxy that does not serve yet", true)
	if err := d.Serve(p.number); err != nil {
		t.Fatal(err)
	}
	check("a proxy serves", false)
	for _, kind := range []int{abi.SocketTCP4, abi.SocketTCP6} {
		p.files[kind].Close() // of its first worker
	}
	check("its first worker has no socket", false)
	p.close()
	check("it was killed", true)
}
