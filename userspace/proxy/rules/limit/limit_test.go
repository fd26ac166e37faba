package limit

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"
)

var client = netip.MustParseAddr("192.0.2.1")

func perSecond(n, burst int64) Rate {
	return Rate{Interval: int64(time.Second) / n, Tolerance: int64(time.Second) / n * burst}
}

func TestAllow(t *testing.T) {
	l := New(16)
	s, rate := ScopeOf("a"), perSecond(10, 5)
	now := int64(time.Hour)
	allowed := 0
	for range 100 {
		if l.Allow(s, client, rate, now) {
			allowed++
		}
	}
	if allowed != 6 { // one at the rate, five of burst
		t.Errorf("%d at once", allowed)
	}
	if !l.Allow(s, netip.MustParseAddr("192.0.2.2"), rate, now) || !l.Allow(ScopeOf("b"), client, rate, now) {
		t.Error("another client, or another scope, is counted with it")
	}
	if !l.Allow(s, netip.MustParseAddr("::ffff:192.0.2.2"), rate, now) {
		t.Error("a mapped address has no allowance of its own left")
	}
	allowed = 0
	for range 1000 { // 10 s of one request every 10 ms
		now += int64(10 * time.Millisecond)
		if l.Allow(s, client, rate, now) {
			allowed++
		}
	}
	if allowed != 100 {
		t.Errorf("%d in 10 s at 10/s", allowed)
	}
	now += int64(time.Minute)
	for i := range 6 {
		if !l.Allow(s, client, rate, now) {
			t.Errorf("the burst is not whole again: %d", i)
		}
	}
}

func TestSameNetwork(t *testing.T) {
	l := New(16)
	rate := perSecond(1, 0)
	a, b, c := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1"), netip.MustParseAddr("2001:db8:0:1::1")
	if !l.Allow(1, a, rate, 1) || l.Allow(1, b, rate, 1) || !l.Allow(1, c, rate, 1) {
		t.Error("IPv6 clients do not count by /64")
	}
}

// TestFlood: very many clients take no more memory, and one that goes on is not forgotten
// as long as the rest have been idle for longer.
func TestFlood(t *testing.T) {
	l := New(4)
	rate := perSecond(1, 0)
	now := int64(time.Hour)
	for i := range uint32(100_000) {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i)
		l.Allow(1, netip.AddrFrom4(b), rate, now)
	}
	if n := len(*l.rows.Load()); n != 16 {
		t.Errorf("%d rows", n)
	}
}

func TestAtOnce(t *testing.T) {
	l := New(16)
	var mu sync.Mutex
	var wg sync.WaitGroup
	granted := 0
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if l.Begin(1, client, 3) {
					mu.Lock()
					granted++
					mu.Unlock()
					l.End(1, client)
				}
			}
		})
	}
	wg.Wait()
	if granted < 1000 {
		t.Errorf("%d granted", granted)
	}
	for i := range 5 {
		if got := l.Begin(1, client, 3); got != (i < 3) {
			t.Errorf("request %d at once: %t", i+1, got)
		}
	}
	for range 3 {
		l.End(1, client)
	}
	for i := range l.atOnce {
		if n := len(l.atOnce[i].n); n != 0 {
			t.Errorf("%d clients are left", n)
		}
	}
}

func TestConcurrentAllow(t *testing.T) {
	l := New(16)
	rate := perSecond(10, 99)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 8 {
		wg.Go(func() {
			n := 0
			for range 1000 {
				if l.Allow(1, client, rate, int64(time.Hour)) {
					n++
				}
			}
			mu.Lock()
			total += n
			mu.Unlock()
		})
	}
	wg.Wait()
	if total != 100 {
		t.Errorf("%d allowed at one moment, want 100", total)
	}
}

func BenchmarkAllow(b *testing.B) {
	l := New(Sets)
	rate := perSecond(1_000_000_000, 5)
	now := int64(1)
	b.ReportAllocs()
	for b.Loop() {
		now += 10
		l.Allow(7, client, rate, now)
	}
}
