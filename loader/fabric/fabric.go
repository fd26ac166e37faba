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
	table := make([]abi.SlotOwners, abi.FabricSlots)
	ranked := make([]candidate, len(nodes))
	for slot := range table {
		for i, n := range nodes {
			ranked[i] = candidate{id: ID(n.Name), state: n.State, weight: weight(n.Name, uint32(slot))}
		}
		table[slot] = owners(ranked)
	}
	return table
}

// candidate is a node in one slot.
type candidate struct {
	id     uint32
	state  state.NodeState
	weight uint64
}

// owners of one slot; it sorts the candidates.
func owners(ranked []candidate) (o abi.SlotOwners) {
	slices.SortFunc(ranked, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id))
	})
	owner := slices.IndexFunc(ranked, func(c candidate) bool { return c.state == state.NodeServing })
	if owner < 0 {
		return o
	}
	o.Nodes[0] = ranked[owner].id
	n := 1
	// Who may be dead is asked last: a packet that is handed there comes no further.
	for _, unready := range []bool{false, true} {
		for i, c := range ranked {
			if i != owner && n < len(o.Nodes) && unready == (c.state == state.NodeUnready) {
				o.Nodes[n] = c.id
				n++
			}
		}
	}
	return o
}

// weight ranks a node in a slot: a hash of both.
func weight(name string, slot uint32) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return mix(h.Sum64() ^ mix(uint64(slot)+0x9e3779b97f4a7c15))
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
