package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/kerngate/kerngate/loader/state"
)

func maglevBackends(n int) (backends []state.Backend, picks []int) {
	for i := range n {
		backends = append(backends, state.Backend{Address: netip.MustParseAddrPort(fmt.Sprintf("10.0.%d.%d:5432", i/250, i%250+1)), Protocol: state.TCP})
		picks = append(picks, i)
	}
	return backends, picks
}

// Every slot is taken, and equal backends have about equal shares.
func TestMaglevIsEven(t *testing.T) {
	for _, n := range []int{1, 2, 3, 20, 21, 81, 300, 1000} {
		backends, picks := maglevBackends(n)
		table := maglev(backends, picks)
		share := make([]int, n)
		for _, p := range table {
			share[p]++
		}
		if low, high := slices.Min(share), slices.Max(share); high-low > 1 {
			t.Errorf("%d backends in %d slots have %d to %d", n, len(table), low, high)
		}
		if n > 1 && len(table) < maglevShare*n {
			t.Errorf("%d backends have only %d slots", n, len(table))
		}
	}
	if maglev(nil, nil) != nil {
		t.Error("no backend has a table")
	}
}

func TestMaglevWeights(t *testing.T) {
	backends, _ := maglevBackends(3)
	share := make([]int, 3)
	table := maglev(backends, []int{0, 1, 2, 1, 1})
	for _, p := range table {
		share[p]++
	}
	if share[1] < 3*share[0]-3 || share[1] > 3*share[0]+3 {
		t.Errorf("weights 1, 3, 1 have %v slots", share)
	}
}

// When one of ten goes, its slots change hands and few others do; the order in which the
// backends are named does not matter.
func TestMaglevDisruption(t *testing.T) {
	backends, picks := maglevBackends(10)
	before := maglev(backends, picks)
	after := maglev(backends, picks[:9])
	moved := 0
	for i := range before {
		if before[i] != 9 && before[i] != after[i] {
			moved++
		}
	}
	if moved*100 > 5*len(before) {
		t.Errorf("%d of %d slots of the nine that stayed changed hands", moved, len(before))
	}
	other := slices.Clone(picks)
	slices.Reverse(other)
	// Turns begin with another backend, so a few slots differ, at the places of conflict.
	differ := 0
	for i, p := range maglev(backends, other) {
		if p != before[i] {
			differ++
		}
	}
	if differ*100 > 10*len(before) {
		t.Errorf("another order changes %d of %d slots", differ, len(before))
	}
}
