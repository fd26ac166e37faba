package reactor

import "testing"

// TestGrow: buffers for large heads grow step by step, keep their content, and what they take
// beyond LargeBuffer is bounded for all of a loop and given back.
func TestGrow(t *testing.T) {
	var b Buffers
	p := b.Small()
	p[0], p[SmallBuffer-1] = 'a', 'z'
	for _, want := range []int{LargeBuffer, 4 * LargeBuffer, 1 << 20} {
		var ok bool
		if p, ok = b.Grow(p, 1<<20); !ok || len(p) != want || p[0] != 'a' || p[SmallBuffer-1] != 'z' {
			t.Fatalf("%v, %d bytes, want %d with the same beginning", ok, len(p), want)
		}
	}
	if q, ok := b.Grow(p, 1<<20); ok || &q[0] != &p[0] {
		t.Error("it grows beyond its limit")
	}
	if b.huge != 1<<20 {
		t.Errorf("%d bytes in use, want 1 MiB", b.huge)
	}
	b.Put(make([]byte, 100_000)) // not one of Grow's
	b.Put(p)
	if b.huge != 0 || len(b.grown) != 0 {
		t.Errorf("%d bytes in use after all were given back", b.huge)
	}
	held := 0
	for ; held < 1000; held++ {
		q, ok := b.Grow(b.Large(), 1<<20)
		for ok && len(q) < 1<<20 {
			q, ok = b.Grow(q, 1<<20)
		}
		if !ok {
			break
		}
	}
	if b.huge > maxHuge || held < 32 {
		t.Errorf("%d heads of 1 MiB hold %d bytes, at most %d may be held", held, b.huge, maxHuge)
	}
}
