package loader

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// podsOn is the state of three nodes with these pods, all of them on one.
func podsOn(node int, numbers []int) state.State {
	s := l4State(pods(client4, numbers), pods(client6, numbers), func(s *state.Service) {
		for i := range s.Backends {
			s.Backends[i].Node, s.Backends[i].Local = nodeName(node), node == 0
		}
	})
	s.Nodes = nodesIn(state.NodeServing, state.NodeServing, state.NodeServing)
	return s
}

// named returns the pod that a packet to another node names.
func named(t testing.TB, client netip.Addr, out []byte) string {
	t.Helper()
	at := 14 + 20 + 8 + 8
	if client.Is6() {
		at += 20
	}
	if len(out) < at+18 {
		t.Fatalf("not handed to another node: %x", out)
	}
	a, _ := netip.AddrFromSlice(out[at : at+16])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(out[at+16:])).String()
}

// Where the pods' node answers clients itself, a client port that is used again gets a new flow
// too, and a forged SYN with the addresses of an open connection does not move that.
func TestNodePortReuse(t *testing.T) {
	u := openNode(t, withoutFabric)
	port := uint16(1000)
	for hook := range handsOver {
		for _, client := range []netip.Addr{client4, client6} {
			for name, last := range map[string]byte{"FIN": fin | ack, "RST": rst, "nothing": 0} {
				t.Run(fmt.Sprint(hook, " ", client, " ", name), func(t *testing.T) {
					mustApply(t, u.Datapath, podsOn(1, podSets[0]))
					reap(t, u.Datapath)
					port++
					c := converse(t, u.Datapath, hook, client, port, 6)
					send := func(flags byte, seq uint32) string {
						t.Helper()
						p := c.first
						p.flags, p.seq, p.ack = flags, seq, 77
						_, out := u.run(t, hook, p.bytes())
						c.backend = named(t, client, out)
						return c.backend
					}
					old := send(syn, 1000)
					if send(ack, 1001) != old {
						t.Error("the handshake was split")
					}
					if f, table := c.flow(); table != "kg_loose" || f.State != abi.FlowOpen {
						t.Errorf("a flow of which one direction is seen is in %s", table)
					}
					if last != 0 {
						send(last, 1001)
					}
					mustApply(t, u.Datapath, podsOn(1, podSets[1]))
					reap(t, u.Datapath)
					next := send(syn, 1<<20)
					if !slices.Contains(pods(client, podSets[1]), next) {
						t.Errorf("the SYN went to %s", next)
					}
					if last == 0 && send(ack, 1002) != old {
						t.Error("an open connection moved for a SYN with its addresses")
					}
					if send(ack, 1<<20+1) != next {
						t.Errorf("the SYN went to %s, the ACK to %s", next, c.backend)
					}
					c.age(61)
					mustApply(t, u.Datapath, podsOn(1, podSets[2]))
					reap(t, u.Datapath)
					if send(ack, 1<<20+2) != next {
						t.Errorf("the connection moved from %s to %s", next, c.backend)
					}
				})
			}
		}
	}
}

// The node of the pods follows the node that hands packets over: what names another pod than
// before is a new flow, which does not end the old one before it is confirmed.
func TestNodeArrivalReuse(t *testing.T) {
	u := openNode(t)
	mustApply(t, u.Datapath, podsOn(0, []int{1, 2}))
	port := uint16(1000)
	for hook := range hooks {
		for _, client := range []netip.Addr{client4, client6} {
			port++
			from, to := outerAddresses(client, 1, 0)
			pod := pods(client, []int{1, 2})
			c := converse(t, u.Datapath, hook, client, port, 6)
			send := func(i int, flags byte) {
				t.Helper()
				p := c.first
				p.flags, p.seq, p.ack = flags, c.client, c.server
				in := wrapped{from: from, to: to, source: 50000, kind: abi.TunnelBackend, hops: 1, backend: netip.MustParseAddrPort(pod[i]), inner: inside(p.bytes())}
				_, out := u.run(t, hook, in.bytes())
				if c.backend = translated(t, p, out, pod); c.backend != pod[i] {
					t.Errorf("a packet for %s went to %s", pod[i], c.backend)
				}
			}
			send(0, syn)
			c.answer(syn | ack)
			send(0, ack)
			before := counters(t, u.Datapath)
			send(1, syn)
			send(0, ack) // of the old connection
			send(1, syn)
			c.server += 1 << 24
			c.answer(syn | ack)
			send(1, ack)
			send(1, ack)
			c.answer(ack)
			expectCounters(t, u.Datapath, before, map[string]uint64{
				hook + "/l4_new": 1, hook + "/l4_forwarded": 4, hook + "/node_arrived": 5, "kg_egress/l4_reply": 2,
			})
			if f, table := c.flow(); table != "kg_flows" || f.State != abi.FlowOpen || f.Address.Addr() != netip.MustParseAddrPort(pod[1]).Addr() {
				t.Errorf("the flow in %s leads to %v", table, f.Address.Addr())
			}
		}
	}
}
