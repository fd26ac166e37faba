package model

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDistribute computes the share that each service gets of a route's requests, by the rule that
// the first split that wants a request gets it, and compares it with the weights.
func TestDistribute(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 2000 {
		services := make([]Weighted, 1+r.IntN(6))
		sum := 0.0
		for j := range services {
			services[j] = Weighted{Service: ServiceKey{Name: string(rune('a' + j))}, Weight: r.Uint32N(1 + []uint32{1, 4, 1000, math.MaxUint32 - 1}[i%4])}
			sum += float64(services[j].Weight)
		}
		main, splits, ok := Distribute(services, ObjectRef{})
		if ok != (sum > 0) {
			t.Fatalf("%v: ok is %t", services, ok)
		}
		if !ok {
			continue
		}
		got, left := map[string]float64{}, 1.0
		for _, s := range splits {
			share := left * float64(s.Weight) / float64(s.Total)
			got[s.Service.Name] += share
			left -= share
		}
		got[main.Service.Name] += left
		for _, s := range services {
			if want := float64(s.Weight) / sum; math.Abs(got[s.Service.Name]-want) > 1e-6 {
				t.Fatalf("%v: %s gets %v, want %v (main %v, splits %v)", services, s.Service.Name, got[s.Service.Name], want, main, splits)
			}
		}
	}
}
