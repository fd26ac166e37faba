package loader

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/kerngate/kerngate/loader/netnstest"
	"github.com/kerngate/kerngate/loader/state"
)

// TestListsBySieve: while prefixes of all lengths come and go, a packet is dropped if and only
// if its source is in the one list and not in the other.
func TestListsBySieve(t *testing.T) {
	netnstest.Enter(t)
	bpffs := netnstest.BPFFS(t)
	d := openTest(t, bpffs)
	random := rand.New(rand.NewPCG(3, 4))
	address := func(six bool) netip.Addr {
		b := [16]byte{0x20, 0x01, byte(random.IntN(2)) << 7}
		for i := 3; i < 16; i++ {
			b[i] = byte(random.IntN(2)) * 0x81
		}
		if six {
			return netip.AddrFrom16(b)
		}
		return netip.AddrFrom4([4]byte{100, b[2], b[3], b[4]})
	}
	common := map[bool][]int{false: {8, 16, 24, 32}, true: {16, 32, 48, 64, 128}}
	hosts := true // and nothing else, in the first rounds
	prefix := func() netip.Prefix {
		six := random.IntN(2) == 0
		a := address(six)
		if hosts {
			return netip.PrefixFrom(a, a.BitLen())
		}
		n := 1 + random.IntN(a.BitLen())
		if random.IntN(2) == 0 {
			n = common[six][random.IntN(len(common[six]))]
		}
		return netip.PrefixFrom(a, n).Masked()
	}
	change := func(list []netip.Prefix) []netip.Prefix {
		for range random.IntN(4) {
			if n := len(list); n > 0 && random.IntN(2) == 0 {
				list = append(list[:random.IntN(n)], list[n:]...)
			} else {
				list = append(list, prefix())
			}
		}
		return list
	}
	holds := func(list []netip.Prefix, a netip.Addr) bool {
		for _, p := range list {
			if p.Contains(a) {
				return true
			}
		}
		return false
	}
	s := vips()
	dropped := 0
	for round := range 80 {
		hosts = round < 20
		s.Deny, s.Allow = change(s.Deny), change(s.Allow)
		mustApply(t, d, s)
		if round%20 == 19 { // the next agent takes the tables over
			d.Close()
			d = openTest(t, bpffs)
			mustApply(t, d, s)
		}
		for range 40 {
			source := address(random.IntN(2) == 0)
			if n := len(s.Deny); n > 0 && random.IntN(4) == 0 {
				source = s.Deny[random.IntN(n)].Addr()
			}
			packet := build(ether(0x0800), ip4(source, vip4, 6, nil, 0), tcp())
			if source.Is6() {
				packet = build(ether(0x86dd), ip6(source, vip6, 6), tcp())
			}
			want := uint32(xdpPass)
			if holds(s.Deny, source) && !holds(s.Allow, source) {
				want = xdpDrop
				dropped++
			}
			if got := runXDP(t, d, packet); got != want {
				t.Fatalf("%v: verdict %d, want %d\ndeny  %v\nallow %v", source, got, want, s.Deny, s.Allow)
			}
		}
	}
	if dropped < 100 {
		t.Errorf("%d packets dropped: the test hardly tests", dropped)
	}
}

// TestManyAddresses: with so many ingress addresses that several share a slot each is known,
// and no other address is.
func TestManyAddresses(t *testing.T) {
	netnstest.Enter(t)
	d := openTest(t, netnstest.BPFFS(t))
	deny := []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("2001:db8:bad::/48")}
	from4, from6 := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:bad::7")
	scattered := rand.New(rand.NewPCG(5, 6)).Perm(1 << 16)
	to := func(i int) (netip.Addr, []byte) {
		low := scattered[i]
		if i%2 == 0 {
			a := netip.AddrFrom4([4]byte{192, 0, byte(low >> 8), byte(low)})
			return a, build(ether(0x0800), ip4(from4, a, 6, nil, 0), tcp())
		}
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(low >> 8), 15: byte(low)})
		return a, build(ether(0x86dd), ip6(from6, a, 6), tcp())
	}
	for _, n := range []int{250, 100, 0} {
		s := state.State{Deny: deny}
		for i := range n {
			a, _ := to(i)
			s.Addresses = append(s.Addresses, a)
		}
		mustApply(t, d, s)
		shared := 0
		for _, slot := range placed(d.hashes.addresses.All()) {
			if slot.Place == 2 {
				shared++
			}
		}
		if n == 250 && shared == 0 {
			t.Error("no two addresses share a slot: the test does not test that")
		}
		for i := range 1000 {
			a, packet := to(i)
			want := uint32(xdpPass)
			if i < n {
				want = xdpDrop
			}
			if got := runXDP(t, d, packet); got != want {
				t.Fatalf("of %d addresses, %v: verdict %d, want %d", n, a, got, want)
			}
		}
	}
}
