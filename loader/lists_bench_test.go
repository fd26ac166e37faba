package loader

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/netnstest"
)

// manyPrefixes returns distinct prefixes of both families, of the lengths that lists of bad
// sources have.
func manyPrefixes(n int) (out []netip.Prefix) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := make(map[netip.Prefix]bool)
	for len(out) < n {
		var p netip.Prefix
		if r.IntN(4) > 0 {
			b := [4]byte{}
			binary.BigEndian.PutUint32(b[:], 1<<24+r.Uint32N(200<<24))
			p = netip.PrefixFrom(netip.AddrFrom4(b), []int{32, 32, 32, 24, 22}[r.IntN(5)]).Masked()
		} else {
			b := [16]byte{0x24}
			binary.BigEndian.PutUint64(b[1:], r.Uint64())
			p = netip.PrefixFrom(netip.AddrFrom16(b), []int{64, 64, 56, 48, 128}[r.IntN(5)]).Masked()
		}
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

// BenchmarkManyPrefixes measures what it takes to declare 100,000 prefixes, to change one of
// them, to start again with them, and to take them away.
func BenchmarkManyPrefixes(b *testing.B) {
	netnstest.Enter(b)
	bpffs := netnstest.BPFFS(b)
	d := openTest(b, bpffs, func(o *Options) { o.MaxPrefixes = 0 })
	s := vips()
	all := manyPrefixes(100_000)
	took := make(map[string]time.Duration)
	timed := func(name string, do func()) {
		start := time.Now()
		do()
		took[name] += time.Since(start)
	}
	for range b.N {
		s.Deny = all
		timed("add", func() { mustApply(b, d, s) })
		s.Deny = all[1:]
		timed("change", func() { mustApply(b, d, s) })
		d.Close()
		timed("restart", func() {
			d = openTest(b, bpffs, func(o *Options) { o.MaxPrefixes = 0 })
			mustApply(b, d, s)
		})
		s.Deny = nil
		timed("remove", func() { mustApply(b, d, s) })
	}
	b.ReportMetric(0, "ns/op")
	for name, t := range took {
		b.ReportMetric(float64(t.Milliseconds())/float64(b.N), name+"-ms")
	}
}
