package loader

import (
	"errors"
	"time"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/state"
)

// sweepBatch is how many entries of a table a call of sweep looks at: a full table of the
// default size is gone through in a minute, and one call takes a few milliseconds.
const sweepBatch = 4096

// flows removes what has expired from kg_flows or kg_loose, so that the table is not full of the dead.
// The programs do not need it: they do not follow an expired entry.
type flows struct {
	table  datapath.Map[abi.FlowKey, abi.Flow]
	cursor ebpf.MapBatchCursor
	keys   []abi.FlowKey
	values []abi.Flow
	seen   int // entries of the pass under way
	total  int // entries left by the last whole pass
}

func newFlows(table datapath.Map[abi.FlowKey, abi.Flow]) *flows {
	return &flows{table: table, keys: make([]abi.FlowKey, sweepBatch), values: make([]abi.Flow, sweepBatch)}
}

// sweep looks at some entries, going on where the last call ended. now is CLOCK_MONOTONIC.
func (f *flows) sweep(now uint64) error {
	n, err := f.table.Batch(&f.cursor, f.keys, f.values)
	end := errors.Is(err, ebpf.ErrKeyNotExist)
	if err != nil && !end {
		f.cursor, f.seen = ebpf.MapBatchCursor{}, 0
		return err
	}
	var dead []abi.FlowKey
	for i := range n {
		if f.expired(&f.keys[i], &f.values[i], now) {
			dead = append(dead, f.keys[i])
		}
	}
	for i := range dead {
		if err := f.table.Delete(dead[i]); err != nil {
			return err
		}
	}
	f.seen += n - len(dead)
	if end {
		f.total, f.seen, f.cursor = f.seen, 0, ebpf.MapBatchCursor{}
	}
	return nil
}

// expired reports whether an entry serves nobody any more: the flow has been silent for longer
// than its state allows (bpf/flow.h), or the entry leads to the client of a flow that is gone or
// has another backend now.
func (f *flows) expired(k *abi.FlowKey, v *abi.Flow, now uint64) bool {
	if k.Direction == abi.ToBackend {
		ticks := uint32(now >> abi.FlowTick)
		return ticks > v.Seen && time.Duration(ticks-v.Seen)<<abi.FlowTick > lifetime(v.State, k.Protocol)
	}
	forward := abi.FlowKey{
		Source: k.Destination, SourcePort: k.DestinationPort,
		Destination: v.Address, DestinationPort: v.Port,
		Protocol: k.Protocol, Direction: abi.ToBackend,
	}
	flow, err := f.table.Get(forward)
	return errors.Is(err, ebpf.ErrKeyNotExist) || err == nil && (flow.Address != k.Source || flow.Port != k.SourcePort)
}

// lifetime is that of bpf/flow.h.
func lifetime(flow, protocol uint8) time.Duration {
	switch {
	case flow == abi.FlowOpen && protocol == uint8(state.UDP):
		return 180 * time.Second
	case flow == abi.FlowOpen:
		return 24 * time.Hour
	case flow == abi.FlowHalfClosed:
		return time.Hour
	}
	return time.Minute
}
