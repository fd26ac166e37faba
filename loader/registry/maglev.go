package registry

import (
	"encoding/binary"
	"hash/fnv"

	"github.com/kerngate/kerngate/loader/state"
)

// maglevSizes are the lengths that a table can have: primes, so that every backend's walk
// visits every slot. A table has at least maglevShare slots per turn, which keeps the
// shares of equal backends within about a percent of each other.
var maglevSizes = [...]int{1021, 4093, 16381, 65521}

const maglevShare = 50

// maglev returns a consistent-hash table over picks (Eisenbud et al., "Maglev: A Fast and
// Reliable Software Network Load Balancer", NSDI 2016, section 3.4): each backend walks the
// slots in an order that its address and port alone decide, and in turns each takes the
// first free one on its way. When a backend comes or goes, few other slots change hands,
// and every node that knows the same backends has the same table.
//
// A backend that is picked several times, for its weight, has as many turns.
func maglev(backends []state.Backend, picks []int) []int {
	if len(picks) == 0 {
		return nil
	}
	size := maglevSizes[len(maglevSizes)-1]
	for i := len(maglevSizes) - 1; i >= 0; i-- {
		if maglevSizes[i] >= maglevShare*len(picks) {
			size = maglevSizes[i]
		}
	}
	type walk struct{ at, skip int }
	walks := make(map[int]*walk, len(picks))
	for _, p := range picks {
		if walks[p] == nil {
			h := endpointHash(&backends[p])
			walks[p] = &walk{at: int(h % uint64(size)), skip: int(h>>32%uint64(size-1)) + 1}
		}
	}
	table := make([]int, size)
	for i := range table {
		table[i] = -1
	}
	for filled := 0; ; {
		for _, p := range picks {
			w := walks[p]
			for table[w.at] >= 0 {
				w.at = (w.at + w.skip) % size
			}
			table[w.at] = p
			if filled++; filled == size {
				return table
			}
		}
	}
}

// endpointHash is a hash of what makes a backend: protocol, address and port (FNV-1a, and
// a finalizer, because both halves are used as numbers of their own).
func endpointHash(b *state.Backend) uint64 {
	h := fnv.New64a()
	address := b.Address.Addr().As16()
	h.Write(address[:])
	h.Write(binary.BigEndian.AppendUint16([]byte{byte(b.Protocol)}, b.Address.Port()))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
