package balance

import (
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/kerngate/kerngate/loader/state"
)

// Sizes of a table: primes, so that every backend's walk visits every place. The larger
// one is for services whose backends would have fewer than ten places in the other; the one
// time that a service grows past that most values change hands.
const (
	tableSize  = 4093
	tableLarge = 65521
	tableShare = 10
)

// maglev returns a consistent-hash table of indices into members (Eisenbud et al., "Maglev:
// A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4): each walks
// the places in an order that its address and port alone decide, and in turns each takes the
// first free one on its way, as often per round as its weight says. When a backend comes or
// goes, few other places change hands, and every proxy of the cluster has the same table.
func maglev(members []Member) []uint16 {
	if len(members) == 0 {
		return nil
	}
	size, turns := tableSize, 0
	for i := range members {
		turns += members[i].turns
	}
	if turns*tableShare > size {
		size = tableLarge
	}
	type walk struct{ at, skip int }
	walks := make([]walk, len(members))
	for i := range members {
		h := endpointHash(&members[i])
		walks[i] = walk{at: int(h % uint64(size)), skip: int(h>>32%uint64(size-1)) + 1}
	}
	const free = 1<<16 - 1 // a block has no more than that many slots
	table := make([]uint16, size)
	for i := range table {
		table[i] = free
	}
	for filled := 0; ; {
		for i := range members {
			w := &walks[i]
			for range members[i].turns {
				for table[w.at] != free {
					w.at = (w.at + w.skip) % size
				}
				table[w.at] = uint16(i)
				if filled++; filled == size {
					return table
				}
			}
		}
	}
}

func endpointHash(m *Member) uint64 {
	h := fnv.New64a()
	address := m.Address.Addr().As16()
	h.Write(address[:])
	h.Write(binary.BigEndian.AppendUint16(nil, m.Address.Port()))
	return mix(h.Sum64())
}

// Hash returns the hash of a value that chooses a backend. It is the same in every proxy of
// the cluster (FNV-1a). Whoever knows it can choose values of one backend: it spreads those
// of clients that mean well.
func Hash(value []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range value {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

// mix makes every bit of x depend on all (the finalizer of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// place returns the member that a hash leads to, and with further steps where it leads next.
func (g *Group) place(table []uint16, hash uint64, step int) *Member {
	if step > 0 {
		hash = mix(hash + uint64(step)*0x9e3779b97f4a7c15)
	}
	return &g.Members[table[hash%uint64(len(table))]]
}

// Leads returns the backend that a hash leads to while it is well.
func (g *Group) Leads(hash uint64) state.BackendID {
	table := g.table()
	if len(table) == 0 {
		return 0
	}
	return g.place(table, hash, 0).ID
}

// walkSteps is how far a hash's way through the table goes, for each backend that is
// wanted; then every backend is looked at in turn.
const walkSteps = 16

// walk returns the first usable backend on a hash's way. So the values of one that is ill
// spread over all others, and come back to it.
func (g *Group) walk(hash uint64, b *Balancer) state.BackendID {
	table := g.table()
	if len(table) == 0 {
		return 0
	}
	for step := range walkSteps {
		if id := g.place(table, hash, step).ID; b.usable(id) {
			return id
		}
	}
	start := int(hash % uint64(len(g.Members)))
	for i := range g.Members {
		if id := g.Members[(start+i)%len(g.Members)].ID; b.usable(id) {
			return id
		}
	}
	return 0
}

// maxSubset bounds the backends that one value may stick to.
const maxSubset = 64

// subset appends the first n different backends on a hash's way, whether they are well or
// not: which they are does not depend on that.
func (g *Group) subset(dst []state.BackendID, hash uint64, n int) []state.BackendID {
	table := g.table()
	if len(table) == 0 {
		return dst
	}
	n = min(n, len(g.Members), maxSubset)
	for step := 0; step < walkSteps*n && len(dst) < n; step++ {
		if id := g.place(table, hash, step).ID; !slices.Contains(dst, id) {
			dst = append(dst, id)
		}
	}
	for i := 0; len(dst) < n; i++ {
		if id := g.Members[(int(hash%uint64(len(g.Members)))+i)%len(g.Members)].ID; !slices.Contains(dst, id) {
			dst = append(dst, id)
		}
	}
	return dst
}
