package loader

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// conversation is a connection to port 5000 of an ingress address, or a UDP flow, of which a
// test sends single packets through the programs.
type conversation struct {
	t       testing.TB
	d       *Datapath
	hook    string // that client packets come by
	first   flowPacket
	backend string // that the last client packet went to
	client  uint32 // sequence number of the client's next byte
	server  uint32 // of the backend's
}

func converse(t testing.TB, d *Datapath, hook string, client netip.Addr, port uint16, protocol uint8) *conversation {
	c := &conversation{t: t, d: d, hook: hook, first: packetTo(client, port, protocol)}
	c.first.payload = nil
	c.client, c.server = uint32(port)<<16, ^uint32(port)<<8
	return c
}

// send sends a packet of the client and returns the backend that it went to.
func (c *conversation) send(flags byte) string {
	c.t.Helper()
	p := c.first
	p.flags, p.seq = flags, c.client
	if flags&ack != 0 {
		p.ack = c.server
	}
	c.backend = c.sendPacket(p)
	if flags&(syn|fin) != 0 {
		c.client++
	}
	return c.backend
}

// sendPacket returns the backend that a packet went to; it must be one of the tests' backends.
func (c *conversation) sendPacket(p flowPacket) string {
	c.t.Helper()
	_, out := run(c.t, c.d, c.hook, p.bytes())
	return translated(c.t, p, out, allBackends(c.first.from.Addr()))
}

// answer sends a packet of the backend that the last client packet went to, and checks that
// the client gets it from the ingress address.
func (c *conversation) answer(flags byte) {
	c.t.Helper()
	p := flowPacket{from: netip.MustParseAddrPort(c.backend), to: c.first.from, protocol: c.first.protocol, flags: flags, seq: c.server, ack: c.client}
	_, out := run(c.t, c.d, "kg_egress", p.bytes())
	p.from = c.first.to
	if !bytes.Equal(out, p.bytes()) {
		c.t.Errorf("%v: a reply of %s is not from the ingress address: %x", c.first.from, c.backend, out)
	}
	if flags&(syn|fin) != 0 {
		c.server++
	}
}

// open makes the handshake, or of UDP a request, its reply and another request. It reports
// whether all of the client's packets went to the same backend.
func (c *conversation) open() bool {
	c.t.Helper()
	first := c.send(syn)
	c.answer(syn | ack)
	return c.send(ack) == first
}

// flow returns what the tables say about the conversation, and in which of them it is.
func (c *conversation) flow() (abi.Flow, string) {
	c.t.Helper()
	key := c.key()
	for _, table := range []string{"kg_flows", "kg_loose", "kg_opening"} {
		var f abi.Flow
		if c.d.maps.ByName(table).Lookup(&key, &f) == nil {
			return f, table
		}
	}
	return abi.Flow{}, "nowhere"
}

func (c *conversation) key() abi.FlowKey {
	return abi.FlowKey{
		Source: abi.AddressOf(c.first.from.Addr()), SourcePort: abi.PortOf(c.first.from.Port()),
		Destination: abi.AddressOf(c.first.to.Addr()), DestinationPort: abi.PortOf(c.first.to.Port()),
		Protocol: c.first.protocol, Direction: abi.ToBackend,
	}
}

// age makes the conversation silent for some seconds.
func (c *conversation) age(seconds uint64) {
	c.t.Helper()
	f, table := c.flow()
	f.Seen -= uint32(seconds * 1e9 >> abi.FlowTick)
	key := c.key()
	if err := c.d.maps.ByName(table).Put(&key, &f); err != nil {
		c.t.Fatal(err)
	}
}

// Three sets of pods, of which two have none in common.
var podSets = [][]int{{1, 2, 3}, {4, 5, 6}, {4, 5, 6, 7, 8}}

func pods(client netip.Addr, numbers []int) (out []string) {
	for _, n := range numbers {
		if client.Is4() {
			out = append(out, fmt.Sprintf("10.0.0.%d:5432", n))
		} else {
			out = append(out, fmt.Sprintf("[fd00::%d]:5432", n))
		}
	}
	return out
}

func allBackends(client netip.Addr) []string { return pods(client, []int{1, 2, 3, 4, 5, 6, 7, 8, 9}) }

// setPods makes these the pods behind the services.
func setPods(t testing.TB, d *Datapath, numbers []int) {
	t.Helper()
	mustApply(t, d, l4State(pods(client4, numbers), pods(client6, numbers)))
	reap(t, d)
}

// A client port that is used again gets a new flow, whatever the connection before it left in
// the tables and whatever became of the pods meanwhile.
func TestL4PortReuse(t *testing.T) {
	d := openL4(t)
	ends := map[string]func(*conversation){
		"closed by the client": func(c *conversation) {
			c.send(fin | ack)
			c.answer(fin | ack)
			c.send(ack)
		},
		"closed by the backend": func(c *conversation) {
			c.answer(fin | ack)
			c.send(fin | ack)
			c.answer(ack)
		},
		"reset by the client":       func(c *conversation) { c.send(rst) },
		"reset by the backend":      func(c *conversation) { c.answer(rst) },
		"closed by the client only": func(c *conversation) { c.send(fin | ack) },
		"not closed":                func(*conversation) {},
	}
	const each = 20
	port := uint16(2000)
	for hook := range hooks {
		for _, client := range []netip.Addr{client4, client6} {
			for name, end := range ends {
				t.Run(fmt.Sprint(hook, " ", client, " ", name), func(t *testing.T) {
					setPods(t, d, podSets[0])
					var all []*conversation
					for range each {
						port++
						c := converse(t, d, hook, client, port, 6)
						c.open()
						end(c)
						all = append(all, c)
					}
					setPods(t, d, podSets[1])
					var split, moved, unsettled int
					for _, c := range all {
						c.client, c.server = c.client+1<<20, c.server+1<<24
						if !c.open() {
							split++
						}
						c.send(ack)
						c.answer(ack)
						if f, table := c.flow(); f.State != abi.FlowOpen || table != "kg_flows" {
							unsettled++
						}
						c.age(61)
					}
					setPods(t, d, podSets[2])
					for _, c := range all {
						if before := c.backend; c.send(ack) != before {
							moved++
						}
						c.answer(ack)
					}
					if split+moved+unsettled > 0 {
						t.Errorf("of %d connections %d had their handshake split between two pods, %d are not open in kg_flows, %d moved after 61 s of silence when there were more pods",
							each, split, unsettled, moved)
					}
				})
			}
		}
	}
}

// A SYN sent twice goes to the same pod both times, also when the pods change in between and
// when an older connection had its addresses.
func TestL4SynAgain(t *testing.T) {
	d := openL4(t)
	setPods(t, d, podSets[0])
	var all []*conversation
	for port := uint16(100); port < 140; port++ {
		c := converse(t, d, "kg_xdp", client4, port, 6)
		if port%2 == 0 {
			c.open()
			c.send(fin | ack)
		}
		all = append(all, c)
	}
	setPods(t, d, podSets[1])
	for _, c := range all {
		c.send(syn)
		c.client--
		c.age(50)
	}
	setPods(t, d, podSets[2])
	for _, c := range all {
		if first := c.backend; c.send(syn) != first {
			t.Errorf("%v: the first SYN went to %s, the second to %s", c.first.from, first, c.backend)
		}
		c.age(15)
		c.answer(syn | ack)
		if first := c.backend; c.send(ack) != first {
			t.Errorf("%v: the SYN went to %s, the ACK to %s", c.first.from, first, c.backend)
		}
	}
}

// UDP whose pod is gone, or that was silent for long, opens a new flow once and not with each
// datagram.
func TestL4UDPAfterChange(t *testing.T) {
	d := openL4(t)
	for hook := range hooks {
		for _, client := range []netip.Addr{client4, client6} {
			setPods(t, d, podSets[0])
			gone, silent := converse(t, d, hook, client, 700, 17), converse(t, d, hook, client, 701, 17)
			gone.open()
			silent.open()
			if _, table := silent.flow(); table != "kg_loose" {
				t.Errorf("a UDP flow with a reply is in %s", table)
			}
			silent.age(181)
			setPods(t, d, podSets[1])
			before := counters(t, d)
			for range 3 {
				for _, c := range []*conversation{gone, silent} {
					c.send(0)
					c.answer(0)
				}
			}
			expectCounters(t, d, before, map[string]uint64{hook + "/l4_new": 2, hook + "/l4_forwarded": 4, "kg_egress/l4_reply": 6})
		}
	}
}

// A client port may be used for another listener of the same pod when both sides have closed
// the connection before.
func TestL4SharedBackendClosed(t *testing.T) {
	d := openL4(t)
	s := l4State(pods(client4, []int{1}), nil)
	s.Listeners = append(s.Listeners, state.Listener{Address: netip.AddrPortFrom(vip4, 5001), Protocol: state.TCP, Mode: state.L4, Service: "a/db:5432/6/4"})
	mustApply(t, d, s)
	for port := uint16(1); port <= 20; port++ {
		one, other := converse(t, d, "kg_xdp", client4, port, 6), converse(t, d, "kg_xdp", client4, port, 6)
		other.first.to = netip.AddrPortFrom(vip4, 5001)
		one.open()
		p := other.first
		p.flags = syn
		if verdict, _ := run(t, d, "kg_xdp", p.bytes()); verdict != xdpDrop {
			t.Fatal("two open connections that their pod cannot tell apart")
		}
		if port%2 == 0 {
			one.send(fin | ack)
			one.answer(fin | ack)
		} else {
			one.answer(fin | ack)
			one.send(fin | ack)
		}
		if !other.open() { // replies are checked too
			t.Error("a handshake was split")
		}
		one.send(ack) // late
		other.send(ack)
		other.age(3)
		other.send(ack)
		other.answer(ack)
	}
}

// Packets with forged sources push out no connection: those are in kg_flows, where only a
// client comes that has seen what the backend sent to it.
func TestL4ForgedFlood(t *testing.T) {
	d := openL4(t) // kg_flows has 4096 entries
	setPods(t, d, podSets[0])
	clients := []netip.Addr{client4, client6}
	var idle []*conversation
	for port := uint16(1); port <= 500; port++ {
		for _, client := range clients {
			c := converse(t, d, "kg_xdp", client, port, 6)
			c.open()
			idle = append(idle, c)
		}
	}
	for i := range 8000 {
		var a netip.Addr
		if i%2 == 0 {
			a = netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)})
		} else {
			a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0xff, 14: byte(i >> 8), 15: byte(i)})
		}
		c := converse(t, d, "kg_xdp", a, 1024+uint16(i), 6)
		switch i / 2 % 4 {
		case 0: // a SYN, and a guess at what the pod answered
			c.send(syn)
			c.answer(syn | ack)
			c.server += 1 << 28
			c.send(ack)
		case 1: // the pod answers a packet that does not fit the SYN
			c.send(syn)
			c.client += 1 << 28
			c.send(ack)
			c.answer(ack)
			c.server += 1 << 28
			c.send(ack)
		case 2: // no SYN at all
			c.send(ack)
			c.answer(rst)
			c.send(ack)
		case 3:
			c.first.protocol = 17
			c.open()
			c.send(0)
		}
	}
	setPods(t, d, podSets[1])
	before := counters(t, d)
	moved := 0
	for _, c := range idle {
		if backend := c.backend; c.send(ack) != backend {
			moved++
		}
	}
	if moved > 0 {
		t.Errorf("%d of %d connections left their pod", moved, len(idle))
	}
	expectCounters(t, d, before, map[string]uint64{"kg_xdp/l4_forwarded": uint64(len(idle))})
}

// Forged packets with the very addresses and ports of an open connection do not end it.
func TestL4ForgedSuccessor(t *testing.T) {
	d := openL4(t)
	setPods(t, d, podSets[0])
	var all []*conversation
	for port := uint16(1); port <= 30; port++ {
		c := converse(t, d, "kg_xdp", client4, port, 6)
		c.open()
		all = append(all, c)
	}
	setPods(t, d, podSets[1])
	for i, c := range all {
		own := c.backend
		forged := *c
		if i%2 == 0 {
			forged.send(rst)
		}
		forged.client += 1 << 28
		forged.send(syn)
		forged.server += 1 << 28
		forged.answer(syn | ack)
		forged.server += 1 << 28
		forged.send(ack)
		for range 2 {
			if c.send(ack) != own {
				t.Fatalf("%v moved from %s to %s", c.first.from, own, c.backend)
			}
			c.answer(ack)
		}
	}
}

// What was forgotten of a connection is confirmed by its further packets, and stands as before.
func TestL4Forgotten(t *testing.T) {
	d := openL4(t)
	setPods(t, d, podSets[0])
	for name, lost := range map[string][]string{"all": {"kg_flows", "kg_opening"}} {
		for _, ahead := range []uint32{0, 1 << 20} {
			c := converse(t, d, "kg_xdp", client6, 900+uint16(ahead>>20), 6)
			c.open()
			for _, table := range lost {
				clearMap(t, d, table)
			}
			c.send(ack)
			c.answer(ack)
			c.server += ahead // bulk: the next packet acknowledges much more
			c.send(ack)
			c.answer(ack)
			c.send(ack)
			if f, table := c.flow(); table != "kg_flows" || f.State != abi.FlowOpen {
				t.Errorf("%s forgotten, %d bytes ahead: the flow is in %s", name, ahead, table)
			}
		}
	}
}

func clearMap(t testing.TB, d *Datapath, name string) {
	t.Helper()
	var keys []abi.FlowKey
	var k abi.FlowKey
	var v abi.Flow
	for entries := d.maps.ByName(name).Iterate(); entries.Next(&k, &v); {
		keys = append(keys, k)
	}
	for i := range keys {
		if err := d.maps.ByName(name).Delete(&keys[i]); err != nil {
			t.Fatal(err)
		}
	}
}
