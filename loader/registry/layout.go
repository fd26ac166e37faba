package registry

import (
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// maxWeighted is how many slots a service's weights may spread over; weights that need
// more are scaled down, to no less than one slot per backend.
const maxWeighted = 4096

// layout returns the slots of a service's block: which of its backends may get new
// requests, each as often as its weight says. ids are parallel to want.Backends.
//
// Backends that drain are used only where nothing else is ready. With PreferLocal only
// those of this node are, as long as there is one in the same state; with LocalOnly none
// but those.
func (b *backends) layout(want *state.Service, ids []uint32) []abi.Slot {
	chosen := choose(want)
	picks := spread(want.Backends, chosen)
	if want.Algorithm == state.Maglev {
		picks = consistent(want.Backends, picks)
	}
	slots := make([]abi.Slot, 0, len(picks))
	for _, pick := range picks {
		id := ids[pick]
		slots = append(slots, abi.Slot{Backend: id, Generation: b.generation(id)})
	}
	return slots
}

// choose returns the indices of the backends that may get new requests.
func choose(want *state.Service) []int {
	classes := []func(*state.Backend) bool{
		func(b *state.Backend) bool { return !b.Draining },
		func(b *state.Backend) bool { return b.Draining },
	}
	for _, class := range classes {
		var all, local []int
		for i := range want.Backends {
			if b := &want.Backends[i]; class(b) {
				all = append(all, i)
				if b.Local {
					local = append(local, i)
				}
			}
		}
		if want.LocalOnly {
			all = local
		}
		switch {
		case want.PreferLocal && len(local) > 0:
			return local
		case len(all) > 0:
			return all
		}
	}
	return nil
}

// spread repeats each chosen index as its backend's weight says, in rounds, so that a
// round robin over the result does not ask a heavy backend many times in a row first.
func spread(backends []state.Backend, chosen []int) []int {
	if len(chosen) > 1<<16-1 { // what a block can hold
		chosen = chosen[:1<<16-1]
	}
	weights := make([]int, len(chosen))
	divisor, total, highest := 0, 0, 0
	for i, c := range chosen {
		weights[i] = max(1, int(backends[c].Weight))
		divisor = gcd(divisor, weights[i])
	}
	for i := range weights {
		weights[i] /= divisor
		total += weights[i]
	}
	for i := range weights {
		if total > maxWeighted {
			weights[i] = max(1, weights[i]*maxWeighted/total)
		}
		highest = max(highest, weights[i])
	}
	var out []int
	for round := range highest {
		for i, c := range chosen {
			if weights[i] > round {
				out = append(out, c)
			}
		}
	}
	return out
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
