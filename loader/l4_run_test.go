package loader

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

const tcPass, tcDrop = 0xffffffff, 2 // TC_ACT_UNSPEC, TC_ACT_SHOT

// hooks are the two programs that send packets to backends, with what they say to pass.
var hooks = map[string]uint32{"kg_xdp": xdpPass, "kg_ingress": tcPass}

// run runs a program on a packet and returns verdict and packet afterwards.
func run(t testing.TB, d *Datapath, program string, packet []byte) (uint32, []byte) {
	t.Helper()
	o := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+256)}
	verdict, err := d.programs.ByName(program).Run(&o)
	if err != nil {
		t.Fatalf("run %s on %d bytes: %v", program, len(packet), err)
	}
	return verdict, o.DataOut
}

var (
	client4   = netip.MustParseAddr("198.18.0.7")
	client6   = netip.MustParseAddr("2001:db8:c::7")
	backends4 = []string{"10.0.0.1:5432", "10.0.0.2:5432", "10.0.0.3:5432"}
	backends6 = []string{"[fd00::1]:5432", "[fd00::2]:5432", "[fd00::3]:5432"}
)

// l4State publishes a TCP and a UDP service per family on port 5000 of the ingress
// addresses, beside the L7 listeners on port 80.
func l4State(four, six []string, change ...func(*state.Service)) state.State {
	s := vips()
	for _, f := range []struct {
		address  netip.Addr
		backends []string
		name     string
	}{{vip4, four, "4"}, {vip6, six, "6"}} {
		for _, p := range []state.Protocol{state.TCP, state.UDP} {
			service := state.Service{Name: fmt.Sprintf("a/db:5432/%d/%s", p, f.name), Algorithm: state.Maglev}
			for _, b := range f.backends {
				service.Backends = append(service.Backends, state.Backend{Address: netip.MustParseAddrPort(b), Protocol: p})
			}
			for _, c := range change {
				c(&service)
			}
			s.Services = append(s.Services, service)
			s.Listeners = append(s.Listeners, state.Listener{
				Address: netip.AddrPortFrom(f.address, 5000), Protocol: p, Mode: state.L4, Service: service.Name,
			})
		}
	}
	slices.SortFunc(s.Services, func(a, b state.Service) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return s
}

func openL4(t testing.TB) *Datapath {
	t.Helper()
	netnstest.Enter(t)
	return openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxSlots = 16384 })
}

// packetTo returns the first packet of a client's flow to port 5000 of the ingress address.
func packetTo(client netip.Addr, port uint16, protocol uint8) flowPacket {
	vip := vip4
	if client.Is6() {
		vip = vip6
	}
	return flowPacket{
		from: netip.AddrPortFrom(client, port), to: netip.AddrPortFrom(vip, 5000),
		protocol: protocol, flags: syn, payload: []byte("odd"),
	}
}

// translated finds which of the backends a packet was sent to: the one for which the same
// packet, made anew with right checksums, is equal byte by byte.
func translated(t testing.TB, sent flowPacket, out []byte, backends []string) string {
	t.Helper()
	for _, b := range backends {
		to := sent
		to.to = netip.MustParseAddrPort(b)
		if bytes.Equal(to.bytes(), out) {
			return b
		}
	}
	t.Errorf("the packet went to none of %v, or is damaged:\nsent %x\n got %x", backends, sent.bytes(), out)
	return ""
}

func TestL4Forward(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	port := uint16(20000)
	for hook, pass := range hooks {
		for name, c := range map[string]struct {
			client   netip.Addr
			protocol uint8
			change   func(*flowPacket)
		}{
			"v4 tcp":         {client4, 6, nil},
			"v4 udp":         {client4, 17, nil},
			"v4 udp no sum":  {client4, 17, func(p *flowPacket) { p.noSum = true }},
			"v4 two tags":    {client4, 6, func(p *flowPacket) { p.tags = []uint16{0x88a8, 0x8100} }},
			"v4 options":     {client4, 6, func(p *flowPacket) { p.options = make([]byte, 40) }},
			"v6 tcp":         {client6, 6, nil},
			"v6 udp":         {client6, 17, nil},
			"v6 one tag":     {client6, 17, func(p *flowPacket) { p.tags = []uint16{0x8100} }},
			"v6 extensions":  {client6, 6, func(p *flowPacket) { p.before, p.first = [][]byte{extension(60, 0), extension(6, 2)}, 0 }},
			"v6 atomic frag": {client6, 17, func(p *flowPacket) { p.before, p.first = [][]byte{fragment6(17, 0)}, 44 }},
		} {
			port++
			backends := backends4
			if c.client.Is6() {
				backends = backends6
			}
			p := packetTo(c.client, port, c.protocol)
			if c.change != nil {
				c.change(&p)
			}
			t.Run(hook+" "+name, func(t *testing.T) {
				before := counters(t, d)
				verdict, out := run(t, d, hook, p.bytes())
				if verdict != pass {
					t.Errorf("verdict %d", verdict)
				}
				chosen := translated(t, p, out, backends)
				expectCounters(t, d, before, map[string]uint64{hook + "/l4_new": 1})

				// The reply gets the ingress address back.
				reply := flowPacket{from: netip.MustParseAddrPort(chosen), to: p.from, protocol: c.protocol, flags: syn | ack, payload: []byte("answer!")}
				before = counters(t, d)
				verdict, out = run(t, d, "kg_egress", reply.bytes())
				reply.from = p.to
				if verdict != tcPass || !bytes.Equal(out, reply.bytes()) {
					t.Errorf("reply: verdict %d,\n got %x\nwant %x", verdict, out, reply.bytes())
				}
				expectCounters(t, d, before, map[string]uint64{"kg_egress/l4_reply": 1})

				// What follows goes the same way.
				p.flags = ack
				for range 2 {
					before = counters(t, d)
					_, out = run(t, d, hook, p.bytes())
					if again := translated(t, p, out, backends); again != chosen {
						t.Errorf("first to %s, then to %s", chosen, again)
					}
					expectCounters(t, d, before, map[string]uint64{hook + "/l4_forwarded": 1})
				}
			})
		}
	}
}

// Open TCP connections stay with a backend that is not ready any more; SYNs and UDP do not.
func TestL4BackendChange(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	chosen := make(map[uint16]string)
	const flows = 60
	for port := uint16(1000); port < 1000+flows; port++ {
		p := packetTo(client4, port, 6)
		_, out := run(t, d, "kg_xdp", p.bytes())
		chosen[port] = translated(t, p, out, backends4)
		p.flags = ack
		run(t, d, "kg_xdp", p.bytes())
		u := packetTo(client4, port, 17)
		run(t, d, "kg_xdp", u.bytes())
	}
	used := make(map[string]int)
	for _, b := range chosen {
		used[b]++
	}
	if len(used) != 3 {
		t.Errorf("%d flows went to %v", flows, used)
	}

	left := []string{backends4[0], "10.0.0.9:5432"}
	mustApply(t, d, l4State(left, backends6))
	reap(t, d)
	for port, backend := range chosen {
		p := packetTo(client4, port, 6)
		p.flags = ack
		_, out := run(t, d, "kg_xdp", p.bytes())
		if now := translated(t, p, out, backends4); now != backend {
			t.Errorf("an open connection moved from %s to %s", backend, now)
		}
		u := packetTo(client4, port, 17)
		_, out = run(t, d, "kg_xdp", u.bytes())
		translated(t, u, out, left)

		// The client's next connection from this port.
		p.flags = rst
		run(t, d, "kg_xdp", p.bytes())
		p.flags = syn
		_, out = run(t, d, "kg_xdp", p.bytes())
		translated(t, p, out, left)
	}
}

// reap lets quarantines pass.
func reap(t testing.TB, d *Datapath) {
	t.Helper()
	for _, after := range []int{3, 20, 40} {
		if _, err := d.Reap(timeAfter(after)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestL4Choice(t *testing.T) {
	d := openL4(t)
	syns := func(client netip.Addr) map[string]int {
		used := make(map[string]int)
		for port := uint16(3000); port < 3300; port++ {
			p := packetTo(client, port, 6)
			verdict, out := run(t, d, "kg_xdp", p.bytes())
			if verdict != xdpPass {
				used["dropped"]++
			} else if bytes.Equal(out, p.bytes()) {
				used["unchanged"]++
			} else {
				used[translated(t, p, out, backends4)]++
			}
		}
		return used
	}
	mustApply(t, d, l4State(backends4, nil))
	if used := syns(client4); len(used) != 3 || used[backends4[0]] < 60 {
		t.Errorf("300 connections went to %v", used)
	}
	mustApply(t, d, l4State(backends4, nil, func(s *state.Service) { s.Affinity = true }))
	if used := syns(netip.MustParseAddr("198.18.0.8")); len(used) != 1 {
		t.Errorf("with affinity a client's connections went to %v", used)
	}
	restrict := func(prefixes ...string) func(*state.Service) {
		return func(s *state.Service) {
			s.Sources = []netip.Prefix{}
			for _, p := range prefixes {
				s.Sources = append(s.Sources, netip.MustParsePrefix(p))
			}
		}
	}
	mustApply(t, d, l4State(backends4, nil, restrict("198.18.1.0/24")))
	before := counters(t, d)
	if used := syns(netip.MustParseAddr("198.18.0.9")); used["dropped"] != 300 {
		t.Errorf("a source out of the ranges: %v", used)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_xdp/l4_source_refused": 300})
	if used := syns(netip.MustParseAddr("198.18.1.9")); len(used) != 3 {
		t.Errorf("a source in the ranges: %v", used)
	}
	mustApply(t, d, l4State(backends4, nil, restrict()))
	if used := syns(netip.MustParseAddr("198.18.1.10")); used["dropped"] != 300 {
		t.Errorf("no source is allowed: %v", used)
	}
	mustApply(t, d, l4State(nil, nil))
	before = counters(t, d)
	if used := syns(netip.MustParseAddr("198.18.1.11")); used["unchanged"] != 300 {
		t.Errorf("without backends: %v", used)
	}
	expectCounters(t, d, before, map[string]uint64{"kg_xdp/l4_no_backend": 300})
	if v, cookie := runLookup(t, d, netip.AddrPortFrom(vip4, 5000), 6); v != 0 || cookie != 0 {
		t.Errorf("kg_lookup says %d to an L4 listener, want drop", v)
	}
}

// A backend that the serving proxies find unusable gets no new flow, while another can have
// it; open connections stay with it. If none is usable, all get some.
func TestL4Health(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, nil))
	number, err := d.StartGeneration(1)
	if err == nil {
		err = d.Serve(number)
	}
	if err != nil {
		t.Fatal(err)
	}
	setHealth := func(address string, health, ofGeneration uint32) {
		t.Helper()
		id, ok := d.registry.BackendID(netip.MustParseAddrPort(address), state.TCP)
		if !ok {
			t.Fatalf("%s is not in the maps", address)
		}
		load := d.view.Load(number%abi.Generations, uint32(id))
		load.Generation, load.Health = d.view.Backends[id].Generation+ofGeneration, health
	}
	port := uint16(10000)
	spread := func() map[string]int {
		used := make(map[string]int)
		for range 300 {
			port++
			p := packetTo(client4, port, 6)
			_, out := run(t, d, "kg_xdp", p.bytes())
			used[translated(t, p, out, backends4)]++
		}
		return used
	}
	if used := spread(); len(used) != 3 {
		t.Errorf("all usable: %v", used)
	}
	first := port - 299
	p := packetTo(client4, first, 6)
	p.flags = ack
	_, out := run(t, d, "kg_xdp", p.bytes())
	sick := translated(t, p, out, backends4)
	setHealth(sick, 1, 0)
	if used := spread(); used[sick] > 10 { // slots whose followers are its own as well
		t.Errorf("%s is not usable, and new flows go to %v", sick, used)
	}
	if _, out := run(t, d, "kg_xdp", p.bytes()); translated(t, p, out, backends4) != sick {
		t.Error("an open connection left a backend that is not usable")
	}
	for _, b := range backends4 {
		setHealth(b, 1, 0)
	}
	if used := spread(); len(used) != 3 {
		t.Errorf("none usable: %v", used)
	}
	for _, b := range backends4 {
		setHealth(b, 1, 1) // said of who had the id before
	}
	setHealth(sick, 1, 0)
	if used := spread(); len(used) < 2 || used[sick] > 10 {
		t.Errorf("one usable by a stale verdict: %v", used)
	}
}

// One client port to two listeners with the same backends: the pods must be able to tell
// the connections apart.
func TestL4SharedBackend(t *testing.T) {
	d := openL4(t)
	s := l4State(backends4[:2], nil)
	s.Listeners = append(s.Listeners,
		state.Listener{Address: netip.AddrPortFrom(vip4, 5001), Protocol: state.TCP, Mode: state.L4, Service: "a/db:5432/6/4"},
		state.Listener{Address: netip.AddrPortFrom(vip4, 5002), Protocol: state.TCP, Mode: state.L4, Service: "a/db:5432/6/4"})
	mustApply(t, d, s)
	var dropped, same int
	for port := uint16(1000); port < 1100; port++ {
		p := packetTo(client4, port, 6)
		seen := make(map[string]bool)
		for _, listener := range []uint16{5000, 5001, 5002} {
			p.to = netip.AddrPortFrom(vip4, listener)
			verdict, out := run(t, d, "kg_xdp", p.bytes())
			if verdict == xdpDrop {
				dropped++
				continue
			}
			b := translated(t, p, out, backends4[:2])
			if seen[b] {
				same++
			}
			seen[b] = true
		}
	}
	if same != 0 {
		t.Errorf("%d backends got two connections that they cannot tell apart", same)
	}
	if dropped < 100 || dropped > 130 {
		t.Errorf("%d of 300 connections dropped; two backends have place for two of three", dropped)
	}
}

func TestL4ICMP(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	router4, router6 := netip.MustParseAddr("198.18.9.9"), netip.MustParseAddr("2001:db8:9::9")
	for hook, pass := range hooks {
		for _, c := range []struct {
			client, router netip.Addr
			backends       []string
			kind, code     byte
		}{
			{client4, router4, backends4, 3, 4}, // fragmentation needed
			{client4, router4, backends4, 11, 0},
			{client6, router6, backends6, 2, 0}, // packet too big
			{client6, router6, backends6, 1, 3},
		} {
			for _, protocol := range []uint8{6, 17} {
				p := packetTo(c.client, 30000+uint16(c.kind), protocol)
				_, out := run(t, d, hook, p.bytes())
				chosen := netip.MustParseAddrPort(translated(t, p, out, c.backends))

				// A router complains about a reply; the backend must understand.
				ipHeader := func(b []byte) []byte { return b[14:] }
				quote := func(from, to netip.AddrPort) []byte {
					q := flowPacket{from: from, to: to, protocol: protocol, flags: ack, payload: make([]byte, 40)}
					return ipHeader(q.bytes())[:68]
				}
				in := icmpError(c.router, p.to.Addr(), c.kind, c.code, 1280, quote(p.to, p.from))
				want := icmpError(c.router, chosen.Addr(), c.kind, c.code, 1280, quote(chosen, p.from))
				before := counters(t, d)
				verdict, got := run(t, d, hook, in)
				sameICMP(t, got, want, protocol)
				if verdict != pass {
					t.Errorf("verdict %d", verdict)
				}
				expectCounters(t, d, before, map[string]uint64{hook + "/l4_icmp": 1})

				// About somebody else's packet it is the kernel's.
				other := netip.AddrPortFrom(p.from.Addr(), 1)
				in = icmpError(c.router, p.to.Addr(), c.kind, c.code, 1280, quote(p.to, other))
				if _, got := run(t, d, hook, in); !bytes.Equal(in, got) {
					t.Error("an error about a packet of no flow was changed")
				}

				// The backend (or a router before it) complains about a request.
				for _, from := range []netip.Addr{chosen.Addr(), c.router} {
					in := icmpError(from, p.from.Addr(), c.kind, c.code, 1280, quote(p.from, chosen))
					shown := from
					if from == chosen.Addr() {
						shown = p.to.Addr()
					}
					want := icmpError(shown, p.from.Addr(), c.kind, c.code, 1280, quote(p.from, p.to))
					before := counters(t, d)
					_, got := run(t, d, "kg_egress", in)
					sameICMP(t, got, want, protocol)
					expectCounters(t, d, before, map[string]uint64{"kg_egress/l4_icmp": 1})
				}
			}
		}
	}
}

// sameICMP compares two ICMP packets but for the transport checksum in the quote, which is
// left as it was, and checks the message's own.
func sameICMP(t *testing.T, got, want []byte, protocol uint8) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bytes, want %d", len(got), len(want))
	}
	message, quoted := 14+20, 14+20+8+20
	if got[12] == 0x86 {
		message, quoted = 14+40, 14+40+8+40
		if got[message+8+6] == 44 { // the quote has a fragment header
			quoted += 8
		}
	}
	check := quoted + 16
	if protocol == 17 {
		check = quoted + 6
	}
	covered := [][]byte{got[message:]}
	if got[12] == 0x86 {
		from, _ := netip.AddrFromSlice(got[14+8 : 14+24])
		to, _ := netip.AddrFromSlice(got[14+24 : 14+40])
		covered = append([][]byte{pseudo(from, to, 58, len(got)-message)}, covered...)
	}
	if s := sum(covered...); s != 0xffff {
		t.Errorf("ICMP checksum is wrong: sum %x", s)
	}
	a, b := bytes.Clone(got), bytes.Clone(want)
	for _, p := range [][]byte{a, b} {
		clear(p[message+2 : message+4])
		if check+2 <= len(p) {
			clear(p[check : check+2])
		}
	}
	if !bytes.Equal(a, b) {
		t.Errorf("\n got %x\nwant %x", a, b)
	}
}

func TestL4Fragments(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	const more = 0x2000
	for hook, pass := range hooks {
		p := packetTo(client4, 7000, 17)
		p.fragment, p.id, p.payload = more, uint16(len(hook)), []byte("16 bytes of data")
		later := flowPacket{from: p.from, to: p.to, protocol: 17, fragment: 3, id: p.id}
		laterBytes := func(to netip.Addr) []byte {
			ip := ip4(later.from.Addr(), to, 17, nil, later.fragment)
			ip[5] = byte(later.id)
			c := ^sum(ip)
			ip[10], ip[11] = byte(c>>8), byte(c)
			return build(ether(0x0800), ip, []byte("some payload"))
		}
		// Before its first fragment nobody knows where a later one belongs.
		before := counters(t, d)
		if verdict, out := run(t, d, hook, laterBytes(vip4)); verdict != pass || !bytes.Equal(out, laterBytes(vip4)) {
			t.Errorf("%s: a later fragment without a first was changed or dropped", hook)
		}
		expectCounters(t, d, before, map[string]uint64{hook + "/l4_fragment_lost": 1})
		_, out := run(t, d, hook, p.bytes())
		chosen := netip.MustParseAddrPort(translated(t, p, out, backends4))
		before = counters(t, d)
		if _, out := run(t, d, hook, laterBytes(vip4)); !bytes.Equal(out, laterBytes(chosen.Addr())) {
			t.Errorf("%s: the later fragment did not follow the first: %x", hook, out)
		}
		expectCounters(t, d, before, map[string]uint64{hook + "/l4_fragment": 1})

		// IPv6, and back.
		p6 := packetTo(client6, 7000+uint16(len(hook)), 17)
		p6.before, p6.first = [][]byte{{17, 0, 0, 1, 0, 0, 0, byte(len(hook))}}, 44
		p6.payload = []byte("16 bytes of data")
		_, out = run(t, d, hook, p6.bytes())
		chosen = netip.MustParseAddrPort(translated(t, p6, out, backends6))
		later6 := func(from, to netip.Addr) []byte {
			h := fragment6(17, 5)
			h[7] = byte(len(hook))
			return build(ether(0x86dd), ip6(from, to, 44), h, []byte("some payload"))
		}
		if _, out := run(t, d, hook, later6(client6, vip6)); !bytes.Equal(out, later6(client6, chosen.Addr())) {
			t.Errorf("%s: the later IPv6 fragment did not follow the first", hook)
		}
		reply := flowPacket{from: chosen, to: p6.from, protocol: 17, before: p6.before, first: 44, payload: []byte("reply!")}
		_, out = run(t, d, "kg_egress", reply.bytes())
		reply.from = p6.to
		if !bytes.Equal(out, reply.bytes()) {
			t.Errorf("first fragment of the reply: %x", out)
		}
		before = counters(t, d)
		if _, out := run(t, d, "kg_egress", later6(chosen.Addr(), client6)); !bytes.Equal(out, later6(vip6, client6)) {
			t.Errorf("the later fragment of the reply did not follow the first")
		}
		expectCounters(t, d, before, map[string]uint64{"kg_egress/l4_fragment": 1})
	}
}

// No packet that is not ours changes, whichever program sees it, and nothing that is cut
// off after any byte does, unless what is left is whole as far as the ports.
func TestL4LeavesOthersAlone(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	mustServe(t, d)
	elsewhere4, elsewhere6 := netip.MustParseAddrPort("192.0.2.77:5000"), netip.MustParseAddrPort("[2001:db8::77]:5000")
	var packets [][]byte
	for _, c := range []struct {
		from netip.Addr
		to   []netip.AddrPort
	}{
		{client4, []netip.AddrPort{elsewhere4, netip.AddrPortFrom(vip4, 80), netip.AddrPortFrom(vip4, 22), netip.MustParseAddrPort(backends4[0])}},
		{client6, []netip.AddrPort{elsewhere6, netip.AddrPortFrom(vip6, 80), netip.AddrPortFrom(vip6, 22), netip.MustParseAddrPort(backends6[0])}},
	} {
		for _, to := range c.to {
			for _, protocol := range []uint8{6, 17} {
				p := flowPacket{from: netip.AddrPortFrom(c.from, 999), to: to, protocol: protocol, flags: syn}
				packets = append(packets, p.bytes())
				p.from, p.to = p.to, p.from // the other way, from an address of ours too
				packets = append(packets, p.bytes())
			}
			packets = append(packets,
				icmpError(c.from, to.Addr(), 8, 0, 1, []byte("ping")), // an echo request in IPv4
				icmpError(c.from, to.Addr(), 128, 0, 1, []byte("ping")))
		}
	}
	packets = append(packets, build(ether(0x0806), make([]byte, 28)),
		build(ether(0x0800), ip4(client4, vip4, 132, nil, 0), make([]byte, 12))) // SCTP
	// The kernel's test run takes no frame for tc that is shorter than the header of its type.
	shortest := func(program string, ethertype byte) int {
		switch {
		case program == "kg_xdp" || program == "kg_xdp_guard":
			return 14
		case ethertype == 0x08:
			return 14 + 20
		case ethertype == 0x86:
			return 14 + 40
		}
		return 15
	}
	for program, pass := range map[string]uint32{"kg_xdp": xdpPass, "kg_xdp_guard": xdpPass, "kg_ingress": tcPass, "kg_egress": tcPass} {
		for _, packet := range packets {
			if verdict, out := run(t, d, program, packet); verdict != pass || !bytes.Equal(out, packet) {
				t.Errorf("%s: verdict %d,\n got %x\nwant %x", program, verdict, out, packet)
			}
		}
		for _, p := range []flowPacket{
			{from: netip.AddrPortFrom(client4, 5), to: netip.AddrPortFrom(vip4, 5000), protocol: 6, flags: syn, tags: []uint16{0x8100}, options: make([]byte, 8)},
			{from: netip.AddrPortFrom(client6, 5), to: netip.AddrPortFrom(vip6, 5000), protocol: 17, before: [][]byte{extension(60, 0), extension(17, 1)}},
		} {
			whole := p.bytes()
			for n := shortest(program, whole[12]); n < len(whole); n++ {
				if verdict, out := run(t, d, program, whole[:n:n]); verdict != pass || !bytes.Equal(out, whole[:n]) {
					t.Errorf("%s: cut to %d of %d bytes: verdict %d, changed: %v", program, n, len(whole), verdict, !bytes.Equal(out, whole[:n]))
				}
			}
		}
		// Errors whose quote is cut off.
		p := packetTo(client4, 5, 6)
		if program == "kg_xdp" || program == "kg_ingress" {
			run(t, d, program, p.bytes())
		}
		quoted := flowPacket{from: p.to, to: p.from, protocol: 6}.bytes()[14:]
		e := icmpError(client4, vip4, 3, 4, 1280, quoted)
		for n := shortest(program, e[12]); n < 14+20+8+20+4; n++ {
			if _, out := run(t, d, program, e[:n:n]); !bytes.Equal(out, e[:n]) {
				t.Errorf("%s: an ICMP error cut to %d bytes was changed", program, n)
			}
		}
	}
}

// Expired flows leave the table; living ones stay.
func TestL4Sweep(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	for port := uint16(1); port <= 50; port++ {
		c := converse(t, d, "kg_xdp", client4, port, 6)
		c.open()
		if port%2 == 0 {
			c.send(rst)
		}
	}
	count := func() (n int) {
		var k abi.FlowKey
		var v abi.Flow
		entries := d.maps.Flows.Map().Iterate()
		for entries.Next(&k, &v) {
			n++
		}
		return n
	}
	if n := count(); n != 100 {
		t.Fatalf("%d entries for 50 connections", n)
	}
	for _, c := range []struct {
		after uint64 // seconds
		left  int
	}{{30, 100}, {90, 50}, {90_000, 0}} {
		for range 4 {
			if err := d.flows.sweep(datapath.Monotonic() + c.after*1e9); err != nil {
				t.Fatal(err)
			}
		}
		if n := count(); n != c.left || d.flows.total != c.left {
			t.Errorf("after %d s %d entries are left (%d counted), want %d", c.after, n, d.flows.total, c.left)
		}
	}
}

// A device may give the sum of a whole packet with it (CHECKSUM_COMPLETE). It has to be right after
// addresses have changed, or the stack drops the packet as damaged.
func TestL4SumOfThePacket(t *testing.T) {
	const complete = 1 << 2 // BPF_F_TEST_SKB_CHECKSUM_COMPLETE: the test run fails if the sum is wrong
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	untested := false
	through := func(program string, p flowPacket) []byte {
		t.Helper()
		o := ebpf.RunOptions{Data: p.bytes(), DataOut: make([]byte, len(p.bytes())+256), Flags: complete}
		_, err := d.programs.ByName(program).Run(&o)
		switch {
		case errors.Is(err, unix.EINVAL):
			untested = true
		case err != nil:
			t.Errorf("%s, packet %+v: %v", program, p, err)
		}
		return o.DataOut
	}
	for client, backends := range map[netip.Addr][]string{client4: backends4, client6: backends6} {
		for _, protocol := range []uint8{6, 17} {
			p := packetTo(client, 4711, protocol)
			forwarded := through("kg_ingress", p)
			if untested {
				t.Log("this kernel does not test sums (Linux >= 6.16 does)")
				return
			}
			backend := translated(t, p, forwarded, backends)
			if backend == "" {
				continue
			}
			reply := flowPacket{from: netip.MustParseAddrPort(backend), to: p.from, protocol: protocol, flags: syn | ack, payload: []byte("odd")}
			out := through("kg_egress", reply)
			reply.from = p.to
			if !bytes.Equal(out, reply.bytes()) {
				t.Errorf("the reply is not from the ingress address: %x", out)
			}
		}
	}
}
