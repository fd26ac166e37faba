package loader

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
)

// A flow that has been confirmed leaves kg_opening at once, both entries of it: what is confirmed
// must not push out what is not.
func TestConfirmedFlowsLeaveOpening(t *testing.T) {
	d := openL4(t)
	mustApply(t, d, l4State(backends4, backends6))
	for hook := range hooks {
		for _, client := range []netip.Addr{client4, client6} {
			for _, protocol := range []uint8{6, 17} {
				for port := uint16(2000); port < 2020; port++ {
					c := converse(t, d, hook, client, port, protocol)
					c.open()
					if _, table := c.flow(); table == "kg_opening" || table == "nowhere" {
						t.Errorf("%s: a confirmed flow of %v is in %s", hook, client, table)
					}
					c.answer(ack) // which kg_egress finds without that entry
					c.send(fin | ack)
				}
			}
		}
	}
	if n := entriesOf(t, d.maps.Opening.Map()); n != 0 {
		t.Errorf("kg_opening has %d entries, want none: all flows are confirmed", n)
	}
}

func entriesOf(t testing.TB, m *ebpf.Map) (n int) {
	t.Helper()
	var k abi.FlowKey
	var v abi.Flow
	entries := m.Iterate()
	for entries.Next(&k, &v) {
		n++
	}
	if err := entries.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
