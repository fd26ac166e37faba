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

// Every slot is taken, and equal backends have equal shares.
func TestConsistentIsEven(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 6, 20, 21, 81, 82, 300, 328, 1000} {
		backends, picks := maglevBackends(n)
		table := consistent(backends, picks)
		share := make([]int, n)
		for _, p := range table {
			share[p]++
		}
		if low, high := slices.Min(share), slices.Max(share); high-low > 1 {
			t.Errorf("%d backends in %d slots have %d to %d", n, len(table), low, high)
		}
		if n > 1 && len(table) < min(slotShare*n, mostSlots) {
			t.Errorf("%d backends have only %d slots", n, len(table))
		}
		if n == 1 && len(table) != 1 {
			t.Errorf("a backend alone has %d slots", len(table))
		}
	}
	if consistent(nil, nil) != nil {
		t.Error("no backend has a table")
	}
}

func TestConsistentWeights(t *testing.T) {
	backends, _ := maglevBackends(3)
	share := make([]int, 3)
	table := consistent(backends, []int{0, 1, 2, 1, 1})
	for _, p := range table {
		share[p]++
	}
	if share[1] < 3*share[0]-3 || share[1] > 3*share[0]+3 {
		t.Errorf("weights 1, 3, 1 have %v slots", share)
	}
}

// pickOf returns the backend of a hash, as choose_backend finds it.
func pickOf(table []int, hash uint32) int { return table[uint64(hash)*uint64(len(table))>>32] }

// movedBy returns which share of hashes has another backend in the second table, of those whose
// backend both tables have.
func movedBy(before, after []int, left func(pick int) bool) (moved float64) {
	const hashes = 1 << 16
	for i := range uint32(hashes) {
		if b := pickOf(before, i<<16); left(b) && b != pickOf(after, i<<16) {
			moved++
		}
	}
	return moved / hashes
}

// When a backend comes, clients move to it, and hardly any between the others, however long the
// table is; when it goes, the same.
func TestConsistentScaling(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 6, 9, 10, 19, 20, 21, 39, 40, 41, 80, 81, 82, 100, 163, 164, 200, 327, 328, 400} {
		backends, picks := maglevBackends(n + 1)
		few, more := consistent(backends, picks[:n]), consistent(backends, picks)
		share := 1 / float64(n+1)
		if moved := movedBy(few, more, func(int) bool { return true }); moved > share*1.1+0.06 {
			t.Errorf("%d -> %d backends (%d -> %d slots): %.1f %% of the clients move, the new one's share is %.1f %%", n, n+1, len(few), len(more), 100*moved, 100*share)
		}
		gone := n / 2
		left := slices.Delete(slices.Clone(picks), gone, gone+1)
		if moved := movedBy(more, consistent(backends, left), func(p int) bool { return p != gone }); moved > 0.06 {
			t.Errorf("%d -> %d backends: %.1f %% of the clients move although their pod stays", n+1, n, 100*moved)
		}
	}
}

// Nodes that know the same backends have the same table, in whatever order they were told of them.
func TestConsistentOrder(t *testing.T) {
	for _, n := range []int{2, 10, 100} {
		backends, picks := maglevBackends(n)
		other := slices.Clone(picks)
		slices.Reverse(other)
		if !slices.Equal(consistent(backends, picks), consistent(backends, other)) {
			t.Errorf("another order of %d backends gives another table", n)
		}
	}
}

func BenchmarkConsistent(b *testing.B) {
	for _, n := range []int{3, 100, 1000} {
		backends, picks := maglevBackends(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				consistent(backends, picks)
			}
		})
	}
}
