// Package sieve computes the tables that spare packets the look into the lists of prefixes:
// kg_sieve_v4, kg_sieve_v6 and kg_sieve_hosts (bpf/sieve.h reads them). They never say what the lists would
// not; where they would have to, they say that the lists must be asked.
package sieve

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/kerngate/kerngate/loader/abi"
)

// Table is what the maps are to hold.
type Table struct {
	V4    []uint64          // abi.SieveWords
	V6    []abi.SieveSlot   // abi.SieveSlots and one more
	Hosts []abi.SieveBucket // abi.SieveBuckets
}

// v4Bits is the length of the IPv4 prefixes that have a code of their own.
const v4Bits = 24

// lengths of the IPv6 prefixes that have entries of their own.
var lengths = [...]int{16, 32, 48, 64}

// Make computes the tables. A prefix of IPv6 that holds ::ffff:0:0/96 holds all of IPv4, as it
// does in the lists.
func Make(deny, allow []netip.Prefix) *Table {
	t := &Table{
		V4:    make([]uint64, abi.SieveWords),
		V6:    make([]abi.SieveSlot, abi.SieveSlots+1),
		Hosts: make([]abi.SieveBucket, abi.SieveBuckets),
	}
	deny = slices.Clone(deny)
	slices.SortFunc(deny, netip.Prefix.Compare) // so that the same hosts find a place whoever asks
	six := make(map[netip.Prefix]uint64)        // by prefixes of the lengths above
	for _, p := range deny {
		if v4, ok := inIPv4(p); ok {
			t.denyV4(v4)
		}
		if !p.Addr().Is4() {
			t.denyV6(six, p)
		}
	}
	var allowSix []netip.Prefix
	for _, p := range allow {
		if v4, ok := inIPv4(p); ok {
			t.exceptV4(v4)
		}
		if !p.Addr().Is4() {
			allowSix = append(allowSix, p)
		}
	}
	exceptV6(six, allowSix)
	t.place(six)
	return t
}

// inIPv4 returns what a prefix holds of IPv4, if anything.
func inIPv4(p netip.Prefix) (netip.Prefix, bool) {
	if p.Addr().Is4() {
		return p, true
	}
	mapped := netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0), p.Bits() <= 96 && p.Contains(mapped.Addr())
}

// networks returns the first network of 24 bits that a prefix touches, and how many.
func networks(p netip.Prefix) (first, n uint32) {
	address := p.Masked().Addr().As4()
	return binary.BigEndian.Uint32(address[:]) >> 8, 1 << (v4Bits - min(p.Bits(), v4Bits))
}

// each calls f for the words of a number of networks, with a mask of the lower bits of their codes.
func (t *Table) each(first, n uint32, f func(word *uint64, low uint64)) {
	for at, end := first, first+n; at < end; {
		from, to := at%32, min(32, at%32+(end-at))
		f(&t.V4[at/32], 0x5555555555555555>>(2*(32-(to-from)))<<(2*from))
		at += to - from
	}
}

func (t *Table) denyV4(p netip.Prefix) {
	first, n := networks(p)
	t.each(first, n, func(word *uint64, low uint64) {
		switch {
		case p.Bits() <= v4Bits:
			*word |= abi.SievedDenied * low
		case p.Bits() == 32 && t.placeHost(p.Addr()):
			*word |= low &^ (*word >> 1) // SievedHosts, or what they are asked about already
		default:
			ask := low &^ (*word & (*word >> 1)) // all but SievedDenied
			*word = *word&^(3*ask) | abi.SievedAsk*ask
		}
	})
}

func (t *Table) exceptV4(p netip.Prefix) {
	first, n := networks(p)
	t.each(first, n, func(word *uint64, low uint64) {
		some := (*word | *word>>1) & low
		*word = *word&^(3*some) | abi.SievedAsk*some
	})
}

// standIns returns the first of the prefixes with entries of their own that stand for a
// prefix, how many they are, and whether they hold nothing else.
func standIns(p netip.Prefix) (first netip.Prefix, n int, exact bool) {
	if p.Bits() < lengths[0] {
		return netip.PrefixFrom(p.Masked().Addr(), lengths[0]), 1 << (lengths[0] - p.Bits()), true
	}
	at, exact := slices.BinarySearch(lengths[:], p.Bits())
	if !exact {
		at--
	}
	return netip.PrefixFrom(p.Addr(), lengths[at]).Masked(), 1, exact
}

// next returns the prefix of 16 bits behind one.
func next(p netip.Prefix) netip.Prefix {
	a := p.Addr().As16()
	binary.BigEndian.PutUint16(a[:], binary.BigEndian.Uint16(a[:])+1)
	return netip.PrefixFrom(netip.AddrFrom16(a), p.Bits())
}

func (t *Table) denyV6(six map[netip.Prefix]uint64, p netip.Prefix) {
	stand, n, exact := standIns(p)
	for range n {
		if exact {
			six[stand] = abi.SievedDenied
		} else if p.Bits() == 128 && t.placeHost(p.Addr()) {
			six[stand] = max(six[stand], abi.SievedHosts)
		} else {
			six[stand] = max(six[stand], abi.SievedAsk)
		}
		stand = next(stand)
	}
}

// exceptV6 has the lists asked about every entry that an exception touches: those around it are
// found by their lengths, and those within it only if there may be some.
func exceptV6(six map[netip.Prefix]uint64, allow []netip.Prefix) {
	except := func(p netip.Prefix) {
		if six[p] != abi.SievedPasses {
			six[p] = abi.SievedAsk
		}
	}
	for _, p := range allow {
		for _, n := range lengths {
			if n <= p.Bits() {
				except(netip.PrefixFrom(p.Addr(), n).Masked())
			}
		}
	}
	held := make(map[netip.Prefix]bool)
	var heldBits [129]bool
	for _, p := range allow {
		held[p.Masked()], heldBits[p.Bits()] = true, true
	}
	for p := range six {
		for n := range p.Bits() {
			if heldBits[n] && held[netip.PrefixFrom(p.Addr(), n).Masked()] {
				except(p)
				break
			}
		}
	}
}

// place writes the entries where sieve_slot of bpf/sieve.h looks for them.
func (t *Table) place(six map[netip.Prefix]uint64) {
	last := &t.V6[abi.SieveSlots]
	for p, sieved := range six {
		if sieved == abi.SievedPasses {
			continue
		}
		a := p.Addr().As16()
		half := binary.BigEndian.Uint64(a[:])
		last.Prefix |= 1 << (p.Bits()/16 - 1)
		slot := &t.V6[Slot(half, p.Bits())]
		if slot.State != 0 {
			*slot = abi.SieveSlot{State: abi.SievedAsk << 32} // several belong here
			continue
		}
		*slot = abi.SieveSlot{Prefix: half, State: uint64(p.Bits()) | sieved<<32}
	}
}

// placeHost has an address found in Hosts, and reports whether it can be.
func (t *Table) placeHost(a netip.Addr) bool {
	b := a.As16()
	h := abi.Host{First: binary.NativeEndian.Uint64(b[:8]), Second: binary.NativeEndian.Uint64(b[8:])}
	bucket := &t.Hosts[Bucket(h)]
	at := slices.IndexFunc(bucket.Hosts[:], func(in abi.Host) bool { return in.Second == 0 || in == h })
	if at < 0 || h.Second == 0 {
		return false
	}
	bucket.Hosts[at] = h
	return true
}

// Between returns a word of V4 that is true while the networks of which one word becomes
// another get other hosts.
func Between(from, to uint64) uint64 {
	const lower = 0x5555555555555555
	hosts := func(word uint64) uint64 { return word &^ (word >> 1) & lower } // SievedHosts is 1
	different := ((from ^ to) | (from^to)>>1) & lower
	ask := different & (hosts(from) | hosts(to))
	return to&^(3*ask) | abi.SievedAsk*ask
}

// golden is KG_GOLDEN of bpf/sieve.h.
const golden = 0x9e3779b97f4a7c15

// Slot is sieve_slot of bpf/sieve.h: where a prefix (its first 64 bits) belongs in kg_sieve_v6.
func Slot(prefix uint64, length int) uint32 {
	return uint32((prefix ^ uint64(length)) * golden >> (64 - bits.TrailingZeros(abi.SieveSlots)))
}

// Bucket is host_bucket of bpf/sieve.h: where an address belongs in kg_sieve_hosts.
func Bucket(h abi.Host) uint32 {
	return uint32((h.First*golden ^ h.Second) * golden >> (64 - bits.TrailingZeros(abi.SieveBuckets)))
}

// AddressSlot is address_slot of bpf/sieve.h: where an address belongs in kg_address_slots.
func AddressSlot(a abi.Address) uint32 {
	first, second := binary.LittleEndian.Uint64(a.Bytes[:]), binary.LittleEndian.Uint64(a.Bytes[8:])
	return uint32((first*golden ^ second) * golden >> (64 - bits.TrailingZeros(abi.AddressSlots)))
}
