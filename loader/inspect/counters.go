package inspect

import (
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
)

// Counter is one entry of kg_counters, summed over the CPUs.
type Counter struct {
	Program string
	Reason  string
	Packets uint64
}

// ReadCounters reads kg_counters.
func ReadCounters(m datapath.PerCPU[uint64]) ([]Counter, error) {
	out := make([]Counter, abi.Reasons)
	for reason := range out {
		perCPU, err := m.Get(uint32(reason))
		if err != nil {
			return nil, err
		}
		c := &out[reason]
		c.Program, c.Reason = abi.ReasonNames(reason)
		for _, n := range perCPU {
			c.Packets += n
		}
	}
	return out, nil
}
