package registry

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/kerngate/kerngate/loader/state"
)

const (
	// stretches is the length of the smallest table, and mostSlots that of the greatest; all lengths
	// are powers of two. A block counts its slots in 16 bits.
	stretches, mostSlots = 256, 1 << 15
	// slotShare is how many slots a table has for each share at least, which keeps the shares of
	// equal backends within two percent of each other.
	slotShare = 50
)

// consistent returns a consistent-hash table over picks: when a backend comes or goes, few clients
// move but those that must, and every node that knows the same backends has the same table,
// in whatever order it was told of them. A backend that is picked several times, for its weight,
// has as many shares.
//
// Many backends need a long table, and of few a long one would waste kg_slots. The length must not
// matter to clients, or almost all of them would move at the one backend more that takes a longer
// table. A hash falls on a slot by its upper bits. So the table is made of stretches, which
// are the same 256 parts of all hashes however many slots each of them has:
//
//   - Each stretch prefers the backends in an order of its own, by a hash of both (rendezvous
//     hashing: a backend that comes takes what prefers it, and nothing else changes hands).
//   - A backend that so has more than its share keeps the stretches that it ranks first by the same
//     hash, and of the last of them the beginning.
//   - What is given up goes to those that lack something, in the order that the stretch prefers.
//
// Maglev's own way to fill a table (Eisenbud et al., NSDI 2016, section 3.4), which this is after, is as
// even, but moves 5 to 15 percent of the clients between backends that stay, and has no tables of
// several lengths that agree.
//
// A backend alone has one slot: it has all hashes.
func consistent(backends []state.Backend, picks []int) []int {
	takers := takersOf(backends, picks)
	switch len(takers) {
	case 0:
		return nil
	case 1:
		return picks[:1]
	}
	size := stretches
	for size < mostSlots && size < slotShare*len(picks) {
		size *= 2
	}
	share(takers, size, len(picks))
	long := size / stretches // slots of a stretch
	for s := range stretches {
		best := &takers[prefer(takers, s, func(*taker) bool { return true })]
		best.stretches = append(best.stretches, s)
	}
	var free [stretches]int // slots at the end of each stretch that are given up
	for i := range takers {
		t := &takers[i]
		slices.SortFunc(t.stretches, func(a, b int) int { return cmp.Compare(t.rank(b), t.rank(a)) })
		for _, s := range t.stretches {
			keeps := min(t.lacks, long)
			t.lacks -= keeps
			free[s] = long - keeps
		}
	}
	table := make([]int, size)
	for i := range takers {
		for _, s := range takers[i].stretches {
			for at := range long - free[s] {
				table[s*long+at] = takers[i].pick
			}
		}
	}
	for s := range stretches {
		for free[s] > 0 {
			t := &takers[prefer(takers, s, func(t *taker) bool { return t.lacks > 0 })]
			for t.lacks > 0 && free[s] > 0 {
				table[(s+1)*long-free[s]] = t.pick
				t.lacks, free[s] = t.lacks-1, free[s]-1
			}
		}
	}
	return table
}

// taker is a backend that takes slots.
type taker struct {
	pick      int // its index
	shares    int
	hash      uint64
	lacks     int   // slots that it has to get yet
	stretches []int // that prefer it
}

// rank is how much a stretch and a backend prefer each other.
func (t *taker) rank(stretch int) uint64 {
	return scramble(t.hash ^ uint64(stretch+1)*0x9e3779b97f4a7c15)
}

// takersOf returns each backend that is picked once, in an order that does not depend on that in
// which they are named.
func takersOf(backends []state.Backend, picks []int) []taker {
	index := make(map[int]int, len(picks))
	var out []taker
	for _, p := range picks {
		i, ok := index[p]
		if !ok {
			i = len(out)
			index[p] = i
			out = append(out, taker{pick: p, hash: endpointHash(&backends[p])})
		}
		out[i].shares++
	}
	slices.SortFunc(out, func(a, b taker) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.pick, b.pick))
	})
	return out
}

// share says how many of a table's slots each taker gets.
func share(takers []taker, size, shares int) {
	rest := size
	for i := range takers {
		takers[i].lacks = size * takers[i].shares / shares
		rest -= takers[i].lacks
	}
	// What is left over goes to the first ones, so that it stays where it is when one comes or goes.
	for i := 0; rest > 0; i, rest = (i+1)%len(takers), rest-1 {
		takers[i].lacks++
	}
}

// prefer returns the index of the taker that a stretch prefers among some.
func prefer(takers []taker, stretch int, among func(*taker) bool) int {
	best, most := -1, uint64(0)
	for i := range takers {
		if t := &takers[i]; among(t) {
			if r := t.rank(stretch); best < 0 || r > most {
				best, most = i, r
			}
		}
	}
	return best
}

// endpointHash is a hash of what makes a backend: protocol, address and port (FNV-1a, and
// a finalizer, because both halves are used as numbers of their own).
func endpointHash(b *state.Backend) uint64 {
	h := fnv.New64a()
	address := b.Address.Addr().As16()
	h.Write(address[:])
	h.Write(binary.BigEndian.AppendUint16([]byte{byte(b.Protocol)}, b.Address.Port()))
	return scramble(h.Sum64())
}

func scramble(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
