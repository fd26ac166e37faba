package prefixset

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestAgainstNetip compares with asking each prefix.
func TestAgainstNetip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{byte(r.IntN(3)), byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))})
		}
		var b [16]byte
		b[0], b[7], b[8], b[15] = byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(3)), byte(r.IntN(256))
		return netip.AddrFrom16(b)
	}
	for range 200 {
		var texts []string
		var prefixes []netip.Prefix
		for range r.IntN(12) {
			a := address()
			if a.Is4In6() {
				continue
			}
			p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1))
			texts, prefixes = append(texts, p.String()), append(prefixes, p)
		}
		s, err := Parse(texts)
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			a, want := address(), false
			for _, p := range prefixes {
				want = want || p.Contains(a)
			}
			if got := s.Contains(a); got != want && !a.Is4In6() {
				t.Fatalf("%s in %v: %t", a, texts, got)
			}
		}
	}
}

func TestParse(t *testing.T) {
	s, err := Parse([]string{"192.0.2.7", "10.1.2.3/8", "2001:db8::/32", "::ffff:198.51.100.0/120"})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"192.0.2.7": true, "192.0.2.8": false, "10.255.0.1": true, "::ffff:10.0.0.1": true, "198.51.100.9": true,
		"2001:db8::1": true, "2001:db9::1": false, "2001:db8::1%eth0": true, "::": false,
	} {
		if s.Contains(netip.MustParseAddr(text)) != want {
			t.Errorf("%s: %t", text, !want)
		}
	}
	if s.Contains(netip.Addr{}) {
		t.Error("the set contains no address at all")
	}
	for _, text := range []string{"", "x", "10.0.0.0/33", "10.0.0.256", "fe80::1%eth0", "::ffff:0:0/90", "10.0.0.0/-1"} {
		if _, err := Parse([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if s, err := Parse(nil); err != nil || s.Contains(netip.MustParseAddr("10.0.0.1")) {
		t.Error("the empty set contains something")
	}
}

func BenchmarkContains10000(b *testing.B) {
	var texts []string
	for i := range 10_000 {
		texts = append(texts, netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), 1}).String())
	}
	s, err := Parse(texts)
	if err != nil {
		b.Fatal(err)
	}
	a := netip.MustParseAddr("10.33.44.1")
	b.ReportAllocs()
	for b.Loop() {
		s.Contains(a)
	}
}
