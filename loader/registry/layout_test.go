package registry

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/kerngate/kerngate/loader/state"
)

func TestLayout(t *testing.T) {
	const ready, draining = false, true
	b := func(last byte, local, drains bool, weight uint16) state.Backend {
		return state.Backend{
			Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 80),
			Protocol: state.TCP, Local: local, Draining: drains, Weight: weight,
		}
	}
	for _, c := range []struct {
		name        string
		preferLocal bool
		backends    []state.Backend
		want        []int // indices of backends
	}{
		{"none", false, nil, nil},
		{"equal", false, []state.Backend{b(1, true, ready, 0), b(2, false, ready, 1)}, []int{0, 1}},
		{"draining are left out", false, []state.Backend{b(1, true, draining, 1), b(2, false, ready, 1)}, []int{1}},
		{"draining are better than none", false, []state.Backend{b(1, true, draining, 1), b(2, false, draining, 1)}, []int{0, 1}},
		{"local preferred", true, []state.Backend{b(1, false, ready, 1), b(2, true, ready, 1)}, []int{1}},
		{"none local", true, []state.Backend{b(1, false, ready, 1), b(2, false, ready, 1)}, []int{0, 1}},
		{"a ready one elsewhere before a draining one here", true, []state.Backend{b(1, false, ready, 1), b(2, true, draining, 1)}, []int{0}},
		{"draining and local", true, []state.Backend{b(1, false, draining, 1), b(2, true, draining, 1)}, []int{1}},
		{"weights in rounds", false, []state.Backend{b(1, false, ready, 3), b(2, false, ready, 1)}, []int{0, 1, 0, 0}},
		{"weights with a common divisor", false, []state.Backend{b(1, false, ready, 200), b(2, false, ready, 100)}, []int{0, 1, 0}},
	} {
		s := &state.Service{PreferLocal: c.preferLocal, Backends: c.backends}
		if got := spread(c.backends, choose(s)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWeightsAreScaledDown(t *testing.T) {
	backends := []state.Backend{{Weight: 65535}, {Weight: 1}, {Weight: 32768}}
	var count [3]int
	for _, i := range spread(backends, []int{0, 1, 2}) {
		count[i]++
	}
	if total := count[0] + count[1] + count[2]; total > maxWeighted+len(backends) || count[1] < 1 {
		t.Errorf("slots by backend %v", count)
	}
	if ratio := float64(count[0]) / float64(count[2]); ratio < 1.99 || ratio > 2.01 {
		t.Errorf("weights 2:1 became %d:%d", count[0], count[2])
	}
}
