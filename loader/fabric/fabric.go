// Package fabric decides which node has which connections, where several nodes announce
// one address. Each node computes the same from the same list of nodes, so that they agree
// without talking.
//
// It is rendezvous hashing over slots: every node has a rank in every slot, by a hash of
// its name, and the first that serves owns the slot. A node that comes takes slots from
// everybody and nobody else's change hands; one that goes leaves its own to those that
// rank next. (Maglev's tables are more even, by a few percent, but move some slots between
// nodes that have nothing to do with a change: connections would break there.)
package fabric

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// ID returns kg_node_id of a node's name: FNV-1a, 0 for the empty name.
func ID(name string) uint32 {
	if name == "" {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

// Owners returns, for each slot, its owner and the nodes that may have older connections
// of it, the likeliest first. Without a node that serves nobody owns anything.
func Owners(nodes []state.Node) []abi.SlotOwners {
	var t Table
	return t.Update(nodes)
}

// Table is what Owners returns, kept up to date: a change of one node is worked out for that node, not
// for all of them again. The zero value is a table of no nodes.
type Table struct {
	members map[string]member
	owners  []abi.SlotOwners
	// The first nodes of each slot, in the order of compare: enough to tell the owners.
	front [][]candidate
	whole []bool      // front has all nodes of the slot
	best  []candidate // of those that serve; without a name if none does
}

// member is a node.
type member struct {
	id    uint32
	state state.NodeState
	hash  uint64 // of its name
}

// candidate is a node in one slot.
type candidate struct {
	member
	weight uint64
}

// frontLength is how many candidates of a slot are kept: more than can be asked, so that some may go
// before the others must be ranked again.
const frontLength = 4 * abi.Owners

// Update makes the table that of these nodes, and returns the owners of all slots. The caller must
// not change them; the next call does.
func (t *Table) Update(nodes []state.Node) []abi.SlotOwners {
	if t.owners == nil {
		t.owners = make([]abi.SlotOwners, abi.FabricSlots)
		t.front, t.whole, t.best = make([][]candidate, abi.FabricSlots), make([]bool, abi.FabricSlots), make([]candidate, abi.FabricSlots)
		for slot := range t.whole {
			t.whole[slot] = true
		}
	}
	next := make(map[string]member, len(nodes))
	for _, n := range nodes {
		next[n.Name] = member{ID(n.Name), n.State, hashOf(n.Name)}
	}
	var come, gone []member
	for name, m := range next {
		if t.members[name] != m {
			come = append(come, m)
		}
	}
	for name, m := range t.members {
		if next[name] != m {
			gone = append(gone, m)
		}
	}
	t.members = next
	if len(come)+len(gone) == 0 {
		return t.owners
	}
	anew := len(come)+len(gone) > len(next)/2
	var all []member
	for _, m := range next {
		all = append(all, m)
	}
	for slot := range t.owners {
		if !t.change(slot, come, gone, anew) {
			t.rank(slot, all)
		}
		t.owners[slot] = owners(t.best[slot], t.front[slot])
	}
	return t.owners
}

// change takes nodes out of a slot's front and puts others in. It reports whether the front still
// tells the owners.
func (t *Table) change(slot int, come, gone []member, anew bool) bool {
	if anew {
		return false
	}
	front := t.front[slot]
	for _, m := range gone {
		if i := slices.IndexFunc(front, func(c candidate) bool { return c.member == m }); i >= 0 {
			front = slices.Delete(front, i, i+1)
		}
		if t.best[slot].member == m {
			t.best[slot] = candidate{}
		}
	}
	for _, m := range come {
		c := candidate{m, weight(m.hash, uint32(slot))}
		if t.best[slot].id != 0 && c.serves() && compare(c, t.best[slot]) < 0 {
			t.best[slot] = c
		}
		at, _ := slices.BinarySearchFunc(front, c, compare)
		// Behind the last of a front that is not whole there may be others before it.
		if at == len(front) && !t.whole[slot] {
			continue
		}
		front = slices.Insert(front, at, c)
		if len(front) > 2*frontLength {
			front, t.whole[slot] = front[:frontLength], false
		}
	}
	t.front[slot] = front
	if t.best[slot].id == 0 { // if one of those in front serves, it is the best of all
		if i := slices.IndexFunc(front, candidate.serves); i >= 0 {
			t.best[slot] = front[i]
		}
	}
	return t.whole[slot] || t.best[slot].id != 0 && len(front) >= abi.Owners
}

// rank fills a slot's front from all nodes.
func (t *Table) rank(slot int, all []member) {
	front := t.front[slot][:0]
	t.whole[slot], t.best[slot] = true, candidate{}
	for _, m := range all {
		c := candidate{m, weight(m.hash, uint32(slot))}
		if c.serves() && (t.best[slot].id == 0 || compare(c, t.best[slot]) < 0) {
			t.best[slot] = c
		}
		if len(front) == frontLength && compare(c, front[frontLength-1]) > 0 {
			t.whole[slot] = false
			continue
		}
		at, _ := slices.BinarySearchFunc(front, c, compare)
		front = slices.Insert(front, at, c)
		if len(front) > frontLength {
			front, t.whole[slot] = front[:frontLength], false
		}
	}
	t.front[slot] = front
}

func (c candidate) serves() bool { return c.state == state.NodeServing }

// compare puts the nodes of a slot in order: those that are not ready last, since a packet that is
// handed to one that is dead comes no further.
func compare(a, b candidate) int {
	unready := func(c candidate) int {
		if c.state == state.NodeUnready {
			return 1
		}
		return 0
	}
	return cmp.Or(unready(a)-unready(b), cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id))
}

// owners returns those of a slot: the best that serves, and the first others.
func owners(best candidate, front []candidate) (o abi.SlotOwners) {
	if best.id == 0 {
		return o
	}
	o.Nodes[0] = best.id
	n := 1
	for _, c := range front {
		if c.member != best.member && n < len(o.Nodes) {
			o.Nodes[n] = c.id
			n++
		}
	}
	return o
}

// weight ranks a node in a slot: a hash of both.
func weight(name uint64, slot uint32) uint64 {
	return mix(name ^ mix(uint64(slot)+0x9e3779b97f4a7c15))
}

func hashOf(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// mix is the finaliser of MurmurHash3.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return bits.RotateLeft64(x, 31) ^ x>>33
}

// Slot returns the slot of a connection, as the programs compute it (hash_flow of
// bpf/balance.h).
func Slot(client, listener netip.AddrPort, protocol state.Protocol) uint32 {
	var hash uint32
	source := client.Addr().As16()
	for i := range 4 {
		hash = add(hash, binary.LittleEndian.Uint32(source[4*i:]))
	}
	hash = add(hash, uint32(abi.PortOf(client.Port()))<<16|uint32(abi.PortOf(listener.Port())))
	hash = add(hash, uint32(protocol))
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	return (hash ^ hash>>16) / (1 << 32 / abi.FabricSlots)
}

// add is a round of MurmurHash3.
func add(hash, word uint32) uint32 {
	hash ^= bits.RotateLeft32(word*0xcc9e2d51, 15) * 0x1b873593
	return bits.RotateLeft32(hash, 13)*5 + 0xe6546b64
}

// Shares returns how many slots each node owns.
func Shares(table []abi.SlotOwners) map[uint32]int {
	shares := make(map[uint32]int)
	for _, o := range table {
		if o.Nodes[0] != 0 {
			shares[o.Nodes[0]]++
		}
	}
	return shares
}
