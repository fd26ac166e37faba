package loader

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/fabric"
	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

const (
	xdpTX      = 3
	tcRedirect = 7
	uplinkMTU  = 1400
)

// The nodes of these tests; this one is the first.
var (
	own4, own6 = netip.MustParseAddr("198.19.0.1"), netip.MustParseAddr("2001:db8:19::1")
	peers4     = []netip.Addr{own4, netip.MustParseAddr("198.19.0.2"), netip.MustParseAddr("198.19.0.3")}
	peers6     = []netip.Addr{own6, netip.MustParseAddr("2001:db8:19::2"), netip.MustParseAddr("2001:db8:19::3")}
	macs       = []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"}
)

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// uplink is an interface by which the peers are reached.
type uplink struct {
	*Datapath
	ns    *netnstest.Namespace
	index int
	mac   net.HardwareAddr
}

// openNode opens a datapath for the first of three nodes, with an uplink on which the
// others are neighbours.
func openNode(t testing.TB, change ...func(*Options)) *uplink {
	t.Helper()
	ns := netnstest.Enter(t)
	for _, name := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0", MTU: uplinkMTU, HardwareAddr: mac(t, 0)}, PeerName: "up1"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"up0", "up1"} {
		end, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(end)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	up0, err := netlink.LinkByName("up0")
	if err != nil {
		t.Fatal(err)
	}
	link.Index = up0.Attrs().Index
	for _, prefix := range []netip.Prefix{netip.PrefixFrom(own4, 24), netip.PrefixFrom(own6, 64)} {
		address, err := netlink.ParseAddr(prefix.String())
		if err != nil {
			t.Fatal(err)
		}
		if prefix.Addr().Is6() {
			address.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, address); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i < 3; i++ {
		for _, peer := range []netip.Addr{peers4[i], peers6[i]} {
			err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link.Index, State: netlink.NUD_PERMANENT, IP: peer.AsSlice(), HardwareAddr: mac(t, i),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	d := openTest(t, netnstest.BPFFS(t), append([]func(*Options){func(o *Options) {
		o.MaxSlots = 16384
		o.Node, o.TunnelPort, o.DSR, o.Fabric = nodeName(0), tunnelPort, true, true
	}}, change...)...)
	return &uplink{d, ns, link.Index, mac(t, 0)}
}

func mac(t testing.TB, i int) net.HardwareAddr {
	t.Helper()
	a, err := net.ParseMAC(macs[i])
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs a program on a packet that came in on the uplink. The tests leave Ethernet addresses
// zero, which to tc would be another host's; so they are the uplink's meanwhile.
func (u *uplink) run(t testing.TB, program string, packet []byte) (uint32, []byte) {
	t.Helper()
	o := ebpf.RunOptions{Data: packet, DataOut: make([]byte, len(packet)+512)}
	if program == "kg_xdp" {
		c := make([]byte, 24) // struct xdp_md: data_end, ingress_ifindex
		binary.NativeEndian.PutUint32(c[4:], uint32(len(packet)))
		binary.NativeEndian.PutUint32(c[12:], uint32(u.index))
		o.Context = c
	} else {
		c := make([]byte, 44) // struct __sk_buff, as far as ifindex
		binary.NativeEndian.PutUint32(c[40:], uint32(u.index))
		o.Context = c
		o.Data = append(slices.Clone(u.mac), packet[len(u.mac):]...)
	}
	var verdict uint32
	var err error
	u.ns.Do(func() { verdict, err = u.programs.ByName(program).Run(&o) }) // subtests are on other threads
	if err != nil {
		t.Fatalf("run %s on %d bytes: %v", program, len(packet), err)
	}
	for at := 0; program != "kg_xdp" && at < 2*len(u.mac); at += len(u.mac) { // the source if it goes back
		if field := o.DataOut[at : at+len(u.mac)]; bytes.Equal(field, u.mac) {
			copy(field, packet)
		}
	}
	return verdict, o.DataOut
}

// nodes returns the three nodes, in these states.
func nodesIn(states ...state.NodeState) (out []state.Node) {
	for i, s := range states {
		if s != 0 {
			out = append(out, state.Node{Name: nodeName(i), Addresses: []netip.Addr{peers4[i], peers6[i]}, State: s})
		}
	}
	return out
}

// dsrState is l4State with each service's only backend on a node.
func dsrState(node int) state.State {
	s := l4State(backends4[:1], backends6[:1], func(s *state.Service) {
		for i := range s.Backends {
			s.Backends[i].Node, s.Backends[i].Local = nodeName(node), node == 0
		}
	})
	s.Nodes = nodesIn(state.NodeServing, state.NodeServing, state.NodeServing)
	return s
}

// handsOver are the hooks with what they say to a packet that they hand on.
var handsOver = map[string]uint32{"kg_xdp": xdpTX, "kg_ingress": tcRedirect}

// withoutFabric leaves packets where they come: for tests of DSR alone.
func withoutFabric(o *Options) { o.Fabric = false }

// linked puts the Ethernet header before a packet that kg_xdp would have written; kg_ingress
// leaves that to the kernel's neighbour.
func linked(t *testing.T, hook string, want []byte, to int) []byte {
	if hook == "kg_xdp" {
		copy(want, mac(t, to))
		copy(want[6:], mac(t, 0))
	}
	return want
}

func outerAddresses(client netip.Addr, from, to int) (netip.Addr, netip.Addr) {
	if client.Is6() {
		return peers6[from], peers6[to]
	}
	return peers4[from], peers4[to]
}

// A packet to a pod of another node goes to that node, unchanged behind the outer headers.
func TestNodeBackend(t *testing.T) {
	u := openNode(t, withoutFabric)
	mustApply(t, u.Datapath, dsrState(1))
	port := uint16(20000)
	for hook, handed := range handsOver {
		for name, c := range map[string]struct {
			client   netip.Addr
			protocol uint8
			change   func(*flowPacket)
		}{
			"v4 tcp":        {client4, 6, nil},
			"v4 udp":        {client4, 17, nil},
			"v4 udp no sum": {client4, 17, func(p *flowPacket) { p.noSum = true }},
			"v4 options":    {client4, 6, func(p *flowPacket) { p.options = make([]byte, 40) }},
			"v4 fragment":   {client4, 17, func(p *flowPacket) { p.fragment, p.id, p.payload = 0x2000, 9, make([]byte, 8) }},
			"v6 tcp":        {client6, 6, nil},
			"v6 udp":        {client6, 17, nil},
			"v6 extensions": {client6, 6, func(p *flowPacket) { p.before, p.first = [][]byte{extension(60, 0), extension(6, 2)}, 0 }},
		} {
			t.Run(hook+" "+name, func(t *testing.T) {
				port++
				p := packetTo(c.client, port, c.protocol)
				if c.change != nil {
					c.change(&p)
				}
				backend := backends4[0]
				if c.client.Is6() {
					backend = backends6[0]
				}
				from, to := outerAddresses(c.client, 0, 1)
				for range 3 { // a new flow, and then a known one
					before := counters(t, u.Datapath)
					verdict, out := u.run(t, hook, p.bytes())
					want := wrapped{from: from, to: to, kind: abi.TunnelBackend, hops: 1,
						backend: netip.MustParseAddrPort(backend), inner: inside(p.bytes())}.like(out)
					if want.source < 0xc000 {
						t.Errorf("outer source port %d", want.source)
					}
					if verdict != handed || !bytes.Equal(out, linked(t, hook, want.bytes(), 1)) {
						t.Fatalf("verdict %d,\n got %x\nwant %x", verdict, out, want.bytes())
					}
					expectCounters(t, u.Datapath, before, map[string]uint64{hook + "/node_backend": 1})
					p.flags = ack
				}
			})
		}
	}
}

// What else belongs to such a flow goes the same way: later fragments, and ICMP errors about
// its replies.
func TestNodeBackendFollowers(t *testing.T) {
	u := openNode(t, withoutFabric)
	mustApply(t, u.Datapath, dsrState(1))
	for hook, handed := range handsOver {
		p := packetTo(client4, 7000+uint16(len(hook)), 17)
		p.fragment, p.id, p.payload = 0x2000, uint16(len(hook)), make([]byte, 8)
		u.run(t, hook, p.bytes())
		ip := ip4(client4, vip4, 17, nil, 3)
		ip[5] = byte(p.id)
		binary.BigEndian.PutUint16(ip[2:], 20+12)
		binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
		later := build(ether(0x0800), ip, []byte("some payload"))
		verdict, out := u.run(t, hook, later)
		want := wrapped{from: own4, to: peers4[1], kind: abi.TunnelBackend, hops: 1, inner: inside(later)}.like(out)
		if verdict != handed || !bytes.Equal(out, linked(t, hook, want.bytes(), 1)) {
			t.Errorf("%s: later fragment: verdict %d,\n got %x\nwant %x", hook, verdict, out, want.bytes())
		}

		quote := flowPacket{from: p.to, to: p.from, protocol: 17, payload: make([]byte, 40)}
		problem := icmpError(netip.MustParseAddr("198.18.9.9"), vip4, 3, 4, 1280, inside(quote.bytes())[:60])
		verdict, out = u.run(t, hook, problem)
		want = wrapped{from: own4, to: peers4[1], kind: abi.TunnelBackend, hops: 1,
			backend: netip.MustParseAddrPort(backends4[0]), inner: inside(problem)}.like(out)
		if verdict != handed || !bytes.Equal(out, linked(t, hook, want.bytes(), 1)) {
			t.Errorf("%s: ICMP error: verdict %d,\n got %x\nwant %x", hook, verdict, out, want.bytes())
		}
	}
}

// What another node hands over reaches the pod that it names, and the reply has the ingress
// address.
func TestNodeArrival(t *testing.T) {
	u := openNode(t)
	mustApply(t, u.Datapath, dsrState(0))
	port := uint16(30000)
	for hook, pass := range hooks {
		for name, c := range map[string]struct {
			client   netip.Addr
			protocol uint8
			tags     []uint16
			change   func(*flowPacket)
		}{
			"v4 tcp":        {client4, 6, nil, nil},
			"v4 udp":        {client4, 17, nil, nil},
			"v4 one tag":    {client4, 6, []uint16{0x8100}, nil},
			"v4 two tags":   {client4, 17, []uint16{0x88a8, 0x8100}, nil},
			"v4 options":    {client4, 6, nil, func(p *flowPacket) { p.options = make([]byte, 40) }},
			"v6 tcp":        {client6, 6, nil, nil},
			"v6 udp":        {client6, 17, nil, nil},
			"v6 one tag":    {client6, 6, []uint16{0x8100}, nil},
			"v6 extensions": {client6, 17, nil, func(p *flowPacket) { p.before, p.first = [][]byte{extension(60, 0), extension(17, 2)}, 0 }},
		} {
			if hook == "kg_ingress" && c.tags != nil {
				continue // the kernel takes tags off before tc
			}
			t.Run(hook+" "+name, func(t *testing.T) {
				port++
				p := packetTo(c.client, port, c.protocol)
				if c.change != nil {
					c.change(&p)
				}
				backend := netip.MustParseAddrPort(backends4[0])
				if c.client.Is6() {
					backend = netip.MustParseAddrPort(backends6[0])
				}
				from, to := outerAddresses(c.client, 1, 0)
				for i := range 3 {
					in := wrapped{from: from, to: to, tags: c.tags, source: 50000, kind: abi.TunnelBackend, hops: 2, backend: backend, inner: inside(p.bytes())}
					before := counters(t, u.Datapath)
					verdict, out := u.run(t, hook, in.bytes())
					want := p
					want.to, want.tags = backend, c.tags
					if verdict != pass || !bytes.Equal(out, want.bytes()) {
						t.Fatalf("verdict %d,\n got %x\nwant %x", verdict, out, want.bytes())
					}
					end := "/l4_new"
					if i > 0 {
						end = "/l4_forwarded"
					}
					expectCounters(t, u.Datapath, before, map[string]uint64{hook + end: 1, hook + "/node_arrived": 1})
					p.flags = ack
				}
				reply := flowPacket{from: backend, to: p.from, protocol: c.protocol, flags: syn | ack, payload: []byte("answer!")}
				_, out := u.run(t, "kg_egress", reply.bytes())
				reply.from = p.to
				if !bytes.Equal(out, reply.bytes()) {
					t.Errorf("reply:\n got %x\nwant %x", out, reply.bytes())
				}
			})
		}
	}
}

// Nothing is taken but what one of our nodes has sent, in our words, to our address, about an
// ingress address.
func TestNodeRefusals(t *testing.T) {
	u := openNode(t)
	mustApply(t, u.Datapath, dsrState(0))
	pod := netip.MustParseAddrPort(backends4[0])
	p := packetTo(client4, 999, 6)
	good := wrapped{from: peers4[1], to: own4, source: 50000, kind: abi.TunnelBackend, hops: 1, backend: pod, inner: inside(p.bytes())}
	elsewhere, wrongPort := p, p
	elsewhere.to = netip.MustParseAddrPort("192.0.2.99:5000")
	wrongPort.to = netip.AddrPortFrom(vip4, 80)
	p6 := packetTo(client6, 999, 6)
	for hook, pass := range hooks {
		for name, c := range map[string]struct {
			change func(*wrapped)
			reason string // "": passed untouched
		}{
			"unknown sender":      {func(w *wrapped) { w.from = netip.MustParseAddr("198.19.0.9") }, "node_sender"},
			"from ourselves":      {func(w *wrapped) { w.from = own4 }, "node_sender"},
			"from the client":     {func(w *wrapped) { w.from = client4 }, "node_sender"},
			"to another node":     {func(w *wrapped) { w.to = peers4[2] }, ""},
			"to a stranger":       {func(w *wrapped) { w.to = netip.MustParseAddr("198.18.0.1") }, ""},
			"next version":        {func(w *wrapped) { w.version = 2 }, "node_header"},
			"GUE control":         {func(w *wrapped) { w.gue = []byte{0x26, 4, 0, 0} }, "node_header"},
			"GUE version 1":       {func(w *wrapped) { w.gue = []byte{0x46, 4, 0, 0} }, "node_header"},
			"GUE shorter":         {func(w *wrapped) { w.gue = []byte{5, 4, 0, 0} }, "node_header"},
			"GUE flags":           {func(w *wrapped) { w.gue = []byte{6, 4, 0x80, 0} }, "node_header"},
			"IPv6 in IPv4":        {func(w *wrapped) { w.gue, w.inner = []byte{6, 41, 0, 0}, inside(p6.bytes()) }, "node_header"},
			"not what it says":    {func(w *wrapped) { w.inner = inside(p6.bytes()) }, "node_header"},
			"no kind":             {func(w *wrapped) { w.kind = 0 }, "node_header"},
			"unknown kind":        {func(w *wrapped) { w.kind = 3 }, "node_header"},
			"no hop":              {func(w *wrapped) { w.hops = 0 }, "node_hops"},
			"too many hops":       {func(w *wrapped) { w.hops = 5 }, "node_hops"},
			"not to us inside":    {func(w *wrapped) { w.inner = inside(elsewhere.bytes()) }, "node_target"},
			"pod unknown":         {func(w *wrapped) { w.backend = netip.MustParseAddrPort("10.0.0.77:5432") }, "node_target"},
			"other port of a pod": {func(w *wrapped) { w.backend = netip.AddrPortFrom(pod.Addr(), 22) }, "node_target"},
			"ingress address":     {func(w *wrapped) { w.backend = netip.AddrPortFrom(vip4, 80) }, "node_target"},
			"no backend":          {func(w *wrapped) { w.backend = netip.AddrPort{} }, "node_target"},
		} {
			t.Run(hook+" "+name, func(t *testing.T) {
				w := good
				c.change(&w)
				before := counters(t, u.Datapath)
				verdict, out := u.run(t, hook, w.bytes())
				if c.reason == "" {
					if verdict != pass || !bytes.Equal(out, w.bytes()) {
						t.Errorf("verdict %d, changed %v", verdict, !bytes.Equal(out, w.bytes()))
					}
					expectCounters(t, u.Datapath, before, map[string]uint64{hook + "/not_ours": 1})
					return
				}
				if verdict == pass {
					t.Errorf("taken: %x", out)
				}
				expectCounters(t, u.Datapath, before, map[string]uint64{hook + "/" + c.reason: 1})
			})
		}

		// Cut off after any byte: dropped, or left as it is; whole as far as the ports inside, it
		// is good.
		whole := good.bytes()
		enough := 14 + 20 + 8 + 28 + 20 + 20
		for n := 14 + 20; n < enough; n++ {
			verdict, out := u.run(t, hook, whole[:n:n])
			if verdict == pass && !bytes.Equal(out, whole[:n]) && n < 14+20+8+28+20 {
				t.Errorf("%s: cut to %d bytes: passed and changed", hook, n)
			}
		}
	}
}

// Without DSR and fabric nobody speaks this language.
func TestNodeOff(t *testing.T) {
	u := openNode(t, func(o *Options) { o.DSR, o.Fabric = false, false })
	mustApply(t, u.Datapath, dsrState(0))
	p := packetTo(client4, 999, 6)
	w := wrapped{from: peers4[1], to: own4, source: 5, kind: 1, hops: 1, backend: netip.MustParseAddrPort(backends4[0]), inner: inside(p.bytes())}
	for hook, pass := range hooks {
		if verdict, out := u.run(t, hook, w.bytes()); verdict != pass || !bytes.Equal(out, w.bytes()) {
			t.Errorf("%s: verdict %d, changed %v", hook, verdict, !bytes.Equal(out, w.bytes()))
		}
	}
}

// A packet that is too big for the way to its node is answered in the name of the ingress
// address, by kg_ingress; kg_xdp leaves it to that.
func TestNodeTooBig(t *testing.T) {
	u := openNode(t, withoutFabric)
	mustApply(t, u.Datapath, dsrState(1))
	for _, c := range []struct {
		client         netip.Addr
		overhead, size int // size: of the payload
		answered       bool
	}{
		{client4, 56, uplinkMTU - 56 - 40, false},
		{client4, 56, uplinkMTU - 56 - 40 + 1, true},
		{client6, 76, uplinkMTU - 76 - 60, false},
		{client6, 76, uplinkMTU - 76 - 60 + 1, true},
	} {
		p := packetTo(c.client, 4000, 6)
		p.fragment, p.payload = 0x4000, bytes.Repeat([]byte{7}, c.size)
		before := counters(t, u.Datapath)
		verdict, out := u.run(t, "kg_ingress", p.bytes())
		if verdict != tcRedirect {
			t.Errorf("verdict %d", verdict)
		}
		if !c.answered {
			expectCounters(t, u.Datapath, before, map[string]uint64{"kg_ingress/node_backend": 1})
			continue
		}
		expectCounters(t, u.Datapath, before, map[string]uint64{"kg_ingress/node_too_big": 1})
		kind, code := byte(3), byte(4)
		if c.client.Is6() {
			kind, code = 2, 0
		}
		want := icmpError(p.to.Addr(), p.from.Addr(), kind, code, uint32(uplinkMTU-c.overhead), inside(p.bytes())[:256])
		if c.client.Is4() {
			want[15] = 0xc0
			want[24], want[25] = 0, 0
			binary.BigEndian.PutUint16(want[24:], ^sum(want[14:34]))
		}
		sameICMP(t, out, want, 6)

		before = counters(t, u.Datapath)
		if verdict, out := u.run(t, "kg_xdp", p.bytes()); verdict != xdpPass || !bytes.Equal(out, p.bytes()) {
			t.Errorf("kg_xdp: verdict %d, changed %v", verdict, !bytes.Equal(out, p.bytes()))
		}
		expectCounters(t, u.Datapath, before, map[string]uint64{"kg_xdp/node_left": 1})
	}
}

// A node that leaves keeps its entry for a while, so that its flows go on; then it is
// forgotten, and the maps are empty when nobody is left.
func TestNodeDeparture(t *testing.T) {
	u := openNode(t, withoutFabric)
	s := dsrState(1)
	mustApply(t, u.Datapath, s)
	p := packetTo(client4, 4000, 6)
	u.run(t, "kg_xdp", p.bytes())
	s.Nodes = nil
	mustApply(t, u.Datapath, s)
	p.flags = ack
	if verdict, _ := u.run(t, "kg_xdp", p.bytes()); verdict != xdpTX {
		t.Errorf("a node that has just gone: verdict %d", verdict)
	}
	if _, err := u.Reap(timeAfter(700)); err != nil {
		t.Fatal(err)
	}
	before := counters(t, u.Datapath)
	if verdict, _ := u.run(t, "kg_xdp", p.bytes()); verdict != xdpDrop {
		t.Errorf("a node that is forgotten: verdict %d", verdict)
	}
	expectCounters(t, u.Datapath, before, map[string]uint64{"kg_xdp/node_no_way": 1})
	for _, name := range []string{"kg_nodes", "kg_node_addresses", "kg_local_backends"} {
		var k, v []byte
		if u.maps.ByName(name).Iterate().Next(&k, &v) {
			t.Errorf("%s is not empty", name)
		}
	}
}

// portOwnedBy finds a client port whose connection to a port has these owners, the first ones first.
func (u *uplink) portOwnedBy(t testing.TB, client netip.Addr, to uint16, protocol uint8, order ...int) uint16 {
	t.Helper()
	for port := uint16(1000); port < 6000; port++ {
		p := packetTo(client, port, protocol)
		p.to = netip.AddrPortFrom(p.to.Addr(), to)
		o := u.nodes.owners[fabric.Slot(p.from, p.to, state.Protocol(protocol))]
		match := true
		for i, node := range order {
			match = match && o.Nodes[i] == fabric.ID(nodeName(node))
		}
		if match {
			return port
		}
	}
	t.Fatalf("no slot is owned in the order %v", order)
	return 0
}

// TestFabric: packets of connections that are not here go to their owner; the owner asks the
// others, each once; SYNs and datagrams stay with the owner.
func TestFabric(t *testing.T) {
	u := openNode(t)
	s := dsrState(0)
	mustApply(t, u.Datapath, s)
	mustServe(t, u.Datapath)
	for hook, handed := range handsOver {
		for _, c := range []struct {
			name     string
			port     uint16 // 80: the proxies'; 5000: an L4 service's
			protocol uint8
			flags    byte
			order    []int // the slot's owners
			in       *wrapped
			to       int // node that gets it; 0: stays
			tries    byte
			reason   string
		}{
			{"SYN of another", 80, 6, syn, []int{1}, nil, 1, 0, "node_owner"},
			{"ACK of another", 80, 6, ack, []int{2}, nil, 2, 0, "node_owner"},
			{"datagram of another", 80, 17, 0, []int{1}, nil, 1, 0, "node_owner"},
			{"own SYN", 80, 6, syn, []int{0}, nil, 0, 0, "passed"},
			{"own datagram", 80, 17, 0, []int{0}, nil, 0, 0, "passed"},
			{"own ACK", 80, 6, ack, []int{0, 2, 1}, nil, 2, 1, "node_second"},
			{"SYN for the owner", 80, 6, syn, []int{0}, &wrapped{}, 0, 0, "passed"},
			{"ACK for the owner", 80, 6, ack, []int{0, 1, 2}, &wrapped{}, 1, 1, "node_second"},
			{"ACK for the second", 80, 6, ack, []int{2, 0, 1}, &wrapped{tries: 1}, 1, 2, "node_second"},
			{"ACK for the last", 80, 6, ack, []int{2, 1, 0}, &wrapped{tries: 2}, 0, 0, "passed"},
			{"ACK beyond the last", 80, 6, ack, []int{2, 1, 0}, &wrapped{tries: 255}, 0, 0, "passed"},
			{"SYN for one who is not the owner", 80, 6, syn, []int{1}, &wrapped{}, 0, 0, "passed"},
			{"datagram for one who is not the owner", 80, 17, 0, []int{1}, &wrapped{}, 0, 0, "passed"},
			{"ACK at the end of its hops", 80, 6, ack, []int{0, 1, 2}, &wrapped{hops: 4}, 0, 0, "node_hops"},
			{"L4 SYN of another", 5000, 6, syn, []int{2}, nil, 2, 0, "node_owner"},
			{"L4 datagram of another", 5000, 17, 0, []int{1}, nil, 1, 0, "node_owner"},
			{"L4 ACK for the owner", 5000, 6, ack, []int{0, 2, 1}, &wrapped{}, 2, 1, "node_second"},
			{"not published", 22, 6, syn, []int{1}, nil, 0, 0, "passed"},
		} {
			for _, client := range []netip.Addr{client4, client6} {
				t.Run(fmt.Sprintf("%s %s %v", hook, c.name, client), func(t *testing.T) {
					p := packetTo(client, u.portOwnedBy(t, client, c.port, c.protocol, c.order...), c.protocol)
					p.to, p.flags = netip.AddrPortFrom(p.to.Addr(), c.port), c.flags
					packet, hops := p.bytes(), byte(1)
					grown := map[string]uint64{hook + "/" + c.reason: 1}
					if c.in != nil {
						w := *c.in
						w.from, w.to = outerAddresses(client, 1, 0)
						w.kind, w.hops, w.source, w.inner = abi.TunnelOwner, max(1, w.hops), 50000, inside(p.bytes())
						packet, hops = w.bytes(), w.hops+1
						switch {
						case hook == "kg_xdp" && c.port == 80: // all of it is left to kg_ingress
							if verdict, out := u.run(t, hook, packet); verdict != xdpPass || !bytes.Equal(out, packet) {
								t.Errorf("verdict %d, changed %v", verdict, !bytes.Equal(out, packet))
							}
							return
						case c.reason == "passed":
							grown[hook+"/node_arrived"] = 1
						}
					}
					before := counters(t, u.Datapath)
					verdict, out := u.run(t, hook, packet)
					for name, n := range counters(t, u.Datapath) { // kg_lookup is asked for sockets
						if name[:9] == "kg_lookup" {
							before[name] = n
						}
					}
					expectCounters(t, u.Datapath, before, grown)
					if c.reason == "node_hops" {
						if verdict != xdpDrop && verdict != tcDrop {
							t.Errorf("verdict %d", verdict)
						}
						return
					}
					if c.to == 0 {
						if verdict != hooks[hook] || !bytes.Equal(out, p.bytes()) {
							t.Errorf("verdict %d,\n got %x\nwant %x", verdict, out, p.bytes())
						}
						return
					}
					want := wrapped{kind: abi.TunnelOwner, hops: hops, tries: c.tries, inner: inside(p.bytes())}
					want.from, want.to = outerAddresses(client, 0, c.to)
					want = want.like(out)
					if verdict != handed || !bytes.Equal(out, linked(t, hook, want.bytes(), c.to)) {
						t.Errorf("verdict %d,\n got %x\nwant %x", verdict, out, want.bytes())
					}
				})
			}
		}
	}
}

// A connection that is here stays, whoever owns its slot.
func TestFabricOwnConnection(t *testing.T) {
	u := openNode(t, func(o *Options) { o.OpenAddresses = true }) // a socket of the test stands for the proxy
	s := dsrState(0)
	mustApply(t, u.Datapath, s)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", netip.AddrPortFrom(vip4, 80).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := u.portOwnedBy(t, client4, 80, 6, 1)
	address, err := netlink.ParseAddr(client4.String() + "/32")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, address); err != nil {
		t.Fatal(err)
	}
	p := packetTo(client4, port, 6)
	p.to, p.flags = netip.AddrPortFrom(vip4, 80), ack
	for _, open := range []bool{false, true} {
		if open {
			unpublished := s // no proxy serves here: while it is published, kg_lookup refuses
			unpublished.Listeners = nil
			mustApply(t, u.Datapath, unpublished)
			dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(p.from)}
			conn, err := dialer.DialContext(t.Context(), "tcp4", p.to.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			mustApply(t, u.Datapath, s)
		}
		quote := flowPacket{from: p.to, to: p.from, protocol: 6, payload: make([]byte, 20)}
		problem := icmpError(netip.MustParseAddr("198.18.9.9"), vip4, 3, 4, 1280, inside(quote.bytes()))
		for hook, handed := range handsOver {
			for what, packet := range map[string][]byte{"segment": p.bytes(), "ICMP error": problem} {
				want := handed
				if open || what == "ICMP error" && hook == "kg_xdp" { // that is kg_ingress's
					want = hooks[hook]
				}
				if verdict, _ := u.run(t, hook, packet); verdict != want {
					t.Errorf("%s, %s, connection open: %v: verdict %d, want %d", hook, what, open, verdict, want)
				}
			}
		}
	}
}
