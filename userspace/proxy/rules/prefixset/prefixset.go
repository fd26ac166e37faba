// Package prefixset answers whether an address is in a set of prefixes, in a time that
// hardly grows with their number: a list of ten thousand costs a search of fourteen steps.
package prefixset

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/kerngate/kerngate/userspace/text/rule"
)

// Set is a set of addresses. It is never changed. nil is the empty set.
type Set struct {
	v4 []span[uint32]
	v6 []span[[2]uint64]
}

// span is a run of addresses, both ends included.
type span[T any] struct{ first, last T }

// Parse reads prefixes and single addresses. Bits behind a prefix's length do not count.
func Parse(texts []string) (*Set, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	s := &Set{}
	for _, text := range texts {
		p, err := rule.Prefix(text)
		if err != nil {
			return nil, err
		}
		first, last := ends(p)
		if p.Addr().Is4() {
			s.v4 = append(s.v4, span[uint32]{uint32(first[1]), uint32(last[1])})
		} else {
			s.v6 = append(s.v6, span[[2]uint64]{first, last})
		}
	}
	s.v4 = merge(s.v4, cmp.Compare[uint32])
	s.v6 = merge(s.v6, compare128)
	return s, nil
}

// number returns an address as a 128-bit number, high word first; IPv4 in the low word.
func number(a netip.Addr) [2]uint64 {
	if a.Is4() {
		b := a.As4()
		return [2]uint64{0, uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])}
	}
	b := a.As16()
	var n [2]uint64
	for i, c := range b {
		n[i/8] = n[i/8]<<8 | uint64(c)
	}
	return n
}

func ends(p netip.Prefix) (first, last [2]uint64) {
	first = number(p.Addr())
	last = first
	host := p.Addr().BitLen() - p.Bits() // bits that vary
	if host >= 64 {
		last[1] = ^uint64(0)
		last[0] |= 1<<(host-64) - 1
	} else {
		last[1] |= 1<<host - 1
	}
	return first, last
}

func compare128(a, b [2]uint64) int {
	return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
}

// merge sorts spans and joins those that overlap.
func merge[T any](spans []span[T], compare func(a, b T) int) []span[T] {
	slices.SortFunc(spans, func(a, b span[T]) int { return compare(a.first, b.first) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && compare(s.first, out[n-1].last) <= 0 {
			if compare(s.last, out[n-1].last) > 0 {
				out[n-1].last = s.last
			}
			continue
		}
		out = append(out, s)
	}
	return slices.Clip(out)
}

// Contains reports whether the address is in the set. An IPv4-mapped address is the IPv4
// address that it stands for; a zone does not count.
func (s *Set) Contains(a netip.Addr) bool {
	if s == nil {
		return false
	}
	a = a.Unmap()
	n := number(a)
	if a.Is4() {
		return contains(s.v4, uint32(n[1]), cmp.Compare[uint32])
	}
	return a.IsValid() && contains(s.v6, n, compare128)
}

func contains[T any](spans []span[T], at T, compare func(a, b T) int) bool {
	low, high := 0, len(spans) // the first span that begins behind at
	for low < high {
		middle := int(uint(low+high) >> 1)
		if compare(spans[middle].first, at) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low > 0 && compare(at, spans[low-1].last) <= 0
}
