package fabric

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

func members(n int) (out []state.Node) {
	for i := range n {
		out = append(out, state.Node{Name: fmt.Sprintf("worker-%d.example.com", i), State: state.NodeServing})
	}
	return out
}

// TestShares: no node has a tenth more than its share.
func TestShares(t *testing.T) {
	for _, n := range []int{1, 2, 3, 10, 25} {
		nodes := members(n)
		shares := Shares(Owners(nodes))
		for _, node := range nodes {
			fair := float64(abi.FabricSlots) / float64(n)
			if got := float64(shares[ID(node.Name)]); got < fair*0.9 || got > fair*1.1 {
				t.Errorf("%d nodes: %s owns %.0f slots, its share is %.0f", n, node.Name, got, fair)
			}
		}
	}
}

// TestChanges: a change of one node moves the slots that it owns, or comes to own, and no
// other; and whoever owned a slot before is among those asked for its connections.
func TestChanges(t *testing.T) {
	all := members(8)
	in := func(change func(n *state.Node)) []state.Node {
		nodes := slices.Clone(all)
		change(&nodes[3])
		return nodes
	}
	without := slices.Delete(slices.Clone(all), 3, 4)
	changed := ID(all[3].Name)
	for _, c := range []struct {
		name          string
		before, after []state.Node
		mayHave       bool // the former owner still has its connections
	}{
		{"comes", without, all, true},
		{"drains", all, in(func(n *state.Node) { n.State = state.NodeDraining }), true},
		{"is not ready", all, in(func(n *state.Node) { n.State = state.NodeUnready }), false},
		{"goes", all, without, false},
		{"comes back", in(func(n *state.Node) { n.State = state.NodeDraining }), all, true},
	} {
		before, after := Owners(c.before), Owners(c.after)
		moved := 0
		for slot := range before {
			from, to := before[slot].Nodes[0], after[slot].Nodes[0]
			if from == to {
				continue
			}
			moved++
			if from != changed && to != changed {
				t.Fatalf("%s: slot %d moves from %x to %x", c.name, slot, from, to)
			}
			if c.mayHave && !slices.Contains(after[slot].Nodes[1:], from) {
				t.Fatalf("%s: slot %d: %x is not asked for what it had", c.name, slot, from)
			}
		}
		if share := abi.FabricSlots / 8; moved < share*9/10 || moved > share*11/10 {
			t.Errorf("%s: %d slots moved, want about %d", c.name, moved, share)
		}
	}
}

// TestLastResort: who may be dead is asked after all others; without a node that serves
// nobody owns anything.
func TestLastResort(t *testing.T) {
	nodes := members(3)
	nodes[1].State = state.NodeUnready
	for slot, o := range Owners(nodes) {
		if o.Nodes[2] != ID(nodes[1].Name) {
			t.Fatalf("slot %d: %x", slot, o.Nodes)
		}
	}
	for i := range nodes {
		nodes[i].State = state.NodeDraining
	}
	for slot, o := range Owners(nodes) {
		if o != (abi.SlotOwners{}) {
			t.Fatalf("slot %d: %x", slot, o.Nodes)
		}
	}
	one := members(1)
	if o := Owners(one)[7]; o.Nodes != [abi.Owners]uint32{ID(one[0].Name)} {
		t.Errorf("a node alone: %x", o.Nodes)
	}
}
