package limit

import "testing"

func TestShares(t *testing.T) {
	s := &Shares{Most: 100}
	take := func(who string) (n int) {
		for s.Take(who) {
			n++
		}
		return n
	}
	if n := take("greedy"); n != 50 {
		t.Errorf("one alone gets %d, want half", n)
	}
	if n := take("other"); n != 25 {
		t.Errorf("the next one gets %d, want half of what is left", n)
	}
	for range 25 {
		s.Return("other")
	}
	if n := take("third"); n != 25 {
		t.Errorf("what is given back: %d, want 25", n)
	}
	for range 50 {
		s.Return("greedy")
	}
	for range 25 {
		s.Return("third")
	}
	if s.total != 0 || len(s.held) != 0 {
		t.Errorf("%d are held by %v when all is given back", s.total, s.held)
	}
}
