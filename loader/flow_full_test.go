package loader

import (
	"testing"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// When kg_flows becomes full, the connections that have just been confirmed stay: it is not they
// that are pushed out in favour of older ones, all of which were used since they came.
func TestNewestFlowsStay(t *testing.T) {
	netnstest.Enter(t)
	const most, atOnce = 1 << 16, 5000 // entries; connections, of two entries each
	d := openTest(t, netnstest.BPFFS(t), func(o *Options) { o.MaxFlows = most })
	mustApply(t, d, l4State(backends4, backends6))
	port := uint16(1)
	for range 12 { // full after the seventh
		var batch []*conversation
		for range atOnce {
			c := converse(t, d, "kg_xdp", client4, port, 6)
			c.open()
			batch = append(batch, c)
			port++
		}
		lost := 0
		for _, c := range batch {
			if _, table := c.flow(); table != "kg_flows" {
				lost++
			}
			c.send(ack)
			c.answer(ack)
		}
		if lost > 0 {
			t.Errorf("%d of the newest %d connections are not in kg_flows, which has room for %d", lost, atOnce, most/2)
		}
	}
}
