package fabric

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// plain works the owners of a slot out from all nodes, as the package comment says.
func plain(nodes []state.Node, slot int) (o abi.SlotOwners) {
	ranked := slices.Clone(nodes)
	slices.SortFunc(ranked, func(a, b state.Node) int {
		return cmp.Or(cmp.Compare(weight(hashOf(b.Name), uint32(slot)), weight(hashOf(a.Name), uint32(slot))), cmp.Compare(ID(a.Name), ID(b.Name)))
	})
	owner := slices.IndexFunc(ranked, func(n state.Node) bool { return n.State == state.NodeServing })
	if owner < 0 {
		return o
	}
	o.Nodes[0] = ID(ranked[owner].Name)
	n := 1
	for _, unready := range []bool{false, true} {
		for i, c := range ranked {
			if i != owner && n < len(o.Nodes) && unready == (c.State == state.NodeUnready) {
				o.Nodes[n] = ID(c.Name)
				n++
			}
		}
	}
	return o
}

// A table that has been through many changes is what it would be if it were made anew: nodes come and
// go, one or many at a time, in all states, the names of those that have gone come back.
func TestTableFollowsChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := members(60)
	var table Table
	var nodes []state.Node
	for step := range 150 {
		changes := 1
		if step%10 == 9 {
			changes = random.IntN(len(all))
		}
		for range changes {
			n := all[random.IntN(len(all))]
			n.State = []state.NodeState{state.NodeServing, state.NodeServing, state.NodeServing, state.NodeDraining, state.NodeUnready}[random.IntN(5)]
			at := slices.IndexFunc(nodes, func(have state.Node) bool { return have.Name == n.Name })
			switch {
			case at < 0:
				nodes = append(nodes, n)
			case random.IntN(2) == 0:
				nodes = slices.Delete(nodes, at, at+1)
			default:
				nodes[at].State = n.State
			}
		}
		if step == 75 { // almost nobody serves
			for i := range nodes {
				nodes[i].State = state.NodeDraining
			}
		}
		got := table.Update(nodes)
		for range 300 {
			if slot := random.IntN(abi.FabricSlots); got[slot] != plain(nodes, slot) {
				t.Fatalf("step %d, %d nodes, slot %d: owners %x, want %x", step, len(nodes), slot, got[slot].Nodes, plain(nodes, slot).Nodes)
			}
		}
	}
}

// A change of one of 1,000 nodes: it goes, comes back, drains, serves again.
func BenchmarkTable(b *testing.B) {
	for _, n := range []int{250, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			nodes := members(n)
			var table Table
			table.Update(nodes)
			for i := 0; b.Loop(); i++ {
				at := i / 4 * 7 % n
				changed := slices.Clone(nodes)
				switch i % 4 {
				case 0:
					changed = slices.Delete(changed, at, at+1)
				case 2:
					changed[at].State = state.NodeDraining
				}
				table.Update(changed)
			}
		})
	}
}
