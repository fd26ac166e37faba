package sieve

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
)

// says is what the programs of bpf/sieve.h make of the tables.
func (t *Table) says(a netip.Addr) uint64 {
	says := t.network(a)
	if says != abi.SievedHosts {
		return says
	}
	b := a.As16()
	h := abi.Host{First: binary.NativeEndian.Uint64(b[:8]), Second: binary.NativeEndian.Uint64(b[8:])}
	if h.Second != 0 && slices.Contains(t.Hosts[Bucket(h)].Hosts[:], h) {
		return abi.SievedDenied
	}
	return abi.SievedPasses
}

// network is what they say before hosts are looked at.
func (t *Table) network(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		network := binary.BigEndian.Uint32(b[:]) >> 8
		return t.V4[network/32] >> (network % 32 * 2) & 3
	}
	b := a.As16()
	half := binary.BigEndian.Uint64(b[:])
	if half == 0 {
		return abi.SievedAsk
	}
	says := uint64(abi.SievedPasses)
	for i, n := range lengths {
		if t.V6[abi.SieveSlots].Prefix>>i&1 == 0 {
			continue
		}
		prefix := half >> (64 - n) << (64 - n)
		switch slot := t.V6[Slot(prefix, n)]; {
		case uint32(slot.State) == 0:
			says = max(says, slot.State>>32)
		case uint32(slot.State) == uint32(n) && slot.Prefix == prefix:
			if slot.State>>32 == abi.SievedDenied {
				return abi.SievedDenied
			}
			says = max(says, slot.State>>32)
		}
	}
	return says
}

func holds(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) || a.Is4() && !p.Addr().Is4() && p.Contains(netip.AddrFrom16(a.As16())) {
			return true
		}
		// A prefix of IPv6 contains no address that is spelt ::ffff:a.b.c.d to package netip.
		if whole, ok := inIPv4(p); ok && a.Is4() && whole.Contains(a) {
			return true
		}
	}
	return false
}

// TestNeverWrong: whatever the lists hold, the tables say what they would, or that they must
// be asked; and about prefixes of the common lengths they do know.
func TestNeverWrong(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	address := func(six bool) netip.Addr {
		// Few different values, so that prefixes and addresses meet.
		b := [16]byte{0x20, byte(random.IntN(2)), byte(random.IntN(2)) << 7, byte(random.IntN(3))}
		for i := 4; i < 16; i++ {
			b[i] = byte(random.IntN(2)) * 0x81
		}
		if six {
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	list := func() (all []netip.Prefix) {
		hosts := random.IntN(2) == 0
		for range random.IntN(12) {
			a := address(random.IntN(2) == 0)
			n := random.IntN(a.BitLen() + 1)
			if hosts {
				n = a.BitLen()
			} else if random.IntN(3) > 0 {
				n = []int{8, 16, 23, 24, 25, 32}[random.IntN(6)]
				if a.Is6() {
					n = []int{15, 16, 31, 32, 33, 47, 48, 49, 64, 65, 128}[random.IntN(11)]
				}
			}
			all = append(all, netip.PrefixFrom(a, n).Masked())
		}
		return all
	}
	told, hosts := map[uint64]int{}, 0
	for range 60 {
		deny, allow := list(), list()
		table := Make(deny, allow)
		for range 400 {
			a := address(random.IntN(2) == 0)
			says, denied := table.says(a), holds(deny, a) && !holds(allow, a)
			told[says]++
			if table.network(a) == abi.SievedHosts {
				hosts++
			}
			if says == abi.SievedDenied && !denied || says == abi.SievedPasses && holds(deny, a) {
				t.Fatalf("%v: the sieve says %d; denied %t\ndeny  %v\nallow %v", a, says, denied, deny, allow)
			}
		}
	}
	if hosts < 500 {
		t.Errorf("of %d addresses it depends on the host: too few", hosts)
	}
	for _, says := range []uint64{abi.SievedPasses, abi.SievedAsk, abi.SievedDenied} {
		if told[says] < 500 {
			t.Errorf("the tables say %d for %d of the addresses alone: %v", says, told[says], told)
		}
	}
}

func TestKnows(t *testing.T) {
	prefixes := func(all ...string) (p []netip.Prefix) {
		for _, s := range all {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	table := Make(prefixes("192.0.2.0/24", "198.51.100.7/32", "10.0.0.0/8", "2001:db8::/32", "2a00:1:2::/48", "2a00:9::1/128",
		"203.0.113.1/32", "192.0.7.1/32", "192.0.7.64/26", "2a00:a::/128"), prefixes("203.0.113.1/32", "10.1.2.3/32", "2a00:1:2:3::/64"))
	for a, want := range map[string]uint64{
		"192.0.2.9": abi.SievedDenied, "192.0.3.0": abi.SievedPasses, "192.0.1.255": abi.SievedPasses,
		"198.51.100.7": abi.SievedDenied, "198.51.100.8": abi.SievedPasses, "198.51.101.7": abi.SievedPasses,
		"10.1.2.3": abi.SievedAsk, "10.1.2.4": abi.SievedAsk, "10.1.3.0": abi.SievedDenied, "10.255.255.255": abi.SievedDenied, "11.0.0.0": abi.SievedPasses,
		"2001:db8:ffff::1": abi.SievedDenied, "2001:db9::1": abi.SievedPasses, "2a00:1:2:3::1": abi.SievedAsk, "2a00:1:3::": abi.SievedPasses,
		"203.0.113.1": abi.SievedAsk, "203.0.113.2": abi.SievedAsk,
		"192.0.7.1": abi.SievedAsk, "192.0.7.99": abi.SievedAsk,
		"2a00:9::1": abi.SievedDenied, "2a00:9::2": abi.SievedPasses, "2a00:a::": abi.SievedAsk, "2a00:9:0:1::1": abi.SievedPasses,
	} {
		if got := table.says(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %d, want %d", a, got, want)
		}
	}
	for a, want := range map[string]uint64{"0.0.0.0": abi.SievedDenied, "255.255.255.255": abi.SievedDenied, "fe80::1": abi.SievedDenied} {
		if got := Make(prefixes("::/0"), nil).says(netip.MustParseAddr(a)); got != want {
			t.Errorf("::/0, %s: %d, want %d", a, got, want)
		}
	}
}

// TestFullBucket: hosts that find no place have the lists asked about their networks.
func TestFullBucket(t *testing.T) {
	buckets := make(map[uint32][]netip.Prefix)
	var deny []netip.Prefix
	for i := uint32(0); len(deny) == 0; i++ {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], i<<8|7) // each of its own network
		p := netip.PrefixFrom(netip.AddrFrom4(a), 32)
		b := p.Addr().As16()
		at := Bucket(abi.Host{First: binary.NativeEndian.Uint64(b[:8]), Second: binary.NativeEndian.Uint64(b[8:])})
		if buckets[at] = append(buckets[at], p); len(buckets[at]) == abi.SieveHosts+2 {
			deny = buckets[at]
		}
	}
	table, told := Make(deny, nil), map[uint64]int{}
	for _, p := range deny {
		told[table.says(p.Addr())]++
	}
	if told[abi.SievedDenied] != abi.SieveHosts || told[abi.SievedAsk] != 2 {
		t.Errorf("of %d hosts of one bucket the tables say %v", len(deny), told)
	}
	slices.Reverse(deny)
	if !slices.Equal(Make(deny, nil).V4, table.V4) {
		t.Error("who finds a place depends on the order in which they are given")
	}
}

func TestBetween(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		from, to := random.Uint64(), random.Uint64()
		if random.IntN(2) == 0 {
			to = from ^ 3<<(2*random.IntN(32))
		}
		between := Between(from, to)
		for i := range 32 {
			f, to, got := from>>(2*i)&3, to>>(2*i)&3, between>>(2*i)&3
			want := to
			if f != to && (f == abi.SievedHosts || to == abi.SievedHosts) {
				want = abi.SievedAsk
			}
			if got != want {
				t.Fatalf("between %d and %d it says %d, want %d", f, to, got, want)
			}
		}
	}
}

// 100,000 prefixes of each family, as feeds of bad addresses have them.
func BenchmarkMake(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	var deny []netip.Prefix
	for range 100_000 {
		var a [16]byte
		binary.BigEndian.PutUint64(a[:], random.Uint64())
		deny = append(deny, netip.PrefixFrom(netip.AddrFrom4([4]byte(a[4:8])), 24+random.IntN(9)).Masked(),
			netip.PrefixFrom(netip.AddrFrom16(a), 32+16*random.IntN(3)).Masked())
	}
	for b.Loop() {
		Make(deny, nil)
	}
}
