package overload

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func TestSource(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::"} {
		if got := Source(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}

// TestSharesAgainstModel compares with lists that are searched.
func TestSharesAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type held struct {
		*Claim
		from netip.Addr
	}
	var s Shares
	var all []held
	count := func(from netip.Addr) (n int) {
		for _, h := range all {
			if h.from == from {
				n++
			}
		}
		return n
	}
	addresses := []netip.Addr{{}}
	for i := range byte(7) {
		addresses = append(addresses, netip.AddrFrom4([4]byte{192, 0, 2, i}))
	}
	for range 20000 {
		switch n := random.IntN(10); {
		case n < 5 || len(all) == 0:
			h := held{new(Claim), addresses[random.IntN(len(addresses))]}
			s.Take(h.Claim, h.from)
			all = append(all, h)
		case n < 6:
			i := random.IntN(len(all))
			h := all[i]
			s.Renew(h.Claim)
			all = append(slices.Delete(all, i, i+1), h)
		default:
			i := random.IntN(len(all))
			s.Drop(all[i].Claim)
			s.Drop(all[i].Claim)
			if all[i].Held() {
				t.Fatal("held after it was dropped")
			}
			all = slices.Delete(all, i, i+1)
		}
		most := 0
		for _, a := range addresses[1:] {
			n := count(a)
			if got := s.Of(a); got != n {
				t.Fatalf("%s holds %d, want %d", a, got, n)
			}
			i := slices.IndexFunc(all, func(h held) bool { return h.from == a })
			if got := s.Oldest(a); i < 0 && got != nil || i >= 0 && got != all[i].Claim {
				t.Fatalf("%s: the oldest is not the first", a)
			}
			most = max(most, n)
		}
		worst, n := s.Worst()
		switch i := slices.IndexFunc(all, func(h held) bool { return h.Claim == worst }); {
		case len(all) == 0 && worst != nil:
			t.Fatal("of none there is a worst")
		case len(all) == 0:
		case most == 0 && (n != 1 || all[i].from.IsValid()):
			t.Fatalf("of the exempt alone: %d", n)
		case most > 0 && (n != most || count(all[i].from) != most || s.Oldest(all[i].from) != worst):
			t.Fatalf("the worst holds %d, want %d", n, most)
		}
	}
	for _, h := range all {
		s.Drop(h.Claim)
	}
	if c, n := s.Worst(); c != nil || n != 0 || len(s.sources) != 0 {
		t.Errorf("%v %d and %d sources are left", c, n, len(s.sources))
	}
}

// TestSharesAllocate: a source that comes back costs nothing.
func TestSharesAllocate(t *testing.T) {
	var s Shares
	var c Claim
	from := netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() {
		s.Take(&c, from)
		s.Drop(&c)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
