package registry_test

import (
	"fmt"
	"testing"

	"github.com/kerngate/kerngate/loader/fake"
	"github.com/kerngate/kerngate/loader/registry"
	"github.com/kerngate/kerngate/loader/state"
)

// manyServices are L4 services of so many pods each.
func manyServices(services, pods int) (out []state.Service) {
	for i := range services {
		var numbers []int
		for p := range pods {
			numbers = append(numbers, (i*pods+p)%65000)
		}
		s := service(fmt.Sprintf("ns/s%d:5432", i), numbers...)
		s.Algorithm = state.Maglev
		out = append(out, s)
	}
	return out
}

// What stands already is not worked out again.
func TestUnchangedApply(t *testing.T) {
	tables := fake.New(1024, 1<<17, 1<<22, 1)
	r := take(tables, start)
	want := manyServices(200, 50)
	if _, err := r.Apply(want, start); err != nil {
		t.Fatal(err)
	}
	var changes registry.Changes
	allocations := testing.AllocsPerRun(3, func() {
		var err error
		if changes, err = r.Apply(want, start); err != nil {
			t.Error(err)
		}
	})
	if changes != (registry.Changes{}) {
		t.Errorf("an unchanged Apply reports %+v", changes)
	}
	if allocations > 100 { // a table of one service takes some, and there are 200
		t.Errorf("an unchanged Apply of 200 services makes %.0f allocations", allocations)
	}
	if got := read(t, tables); len(got) != len(want) {
		t.Errorf("%d services are left", len(got))
	}
}

// The caller may change what it has given.
func TestApplyKeepsNothingOfTheCallers(t *testing.T) {
	tables := fake.New(64, 64, 1<<12, 1)
	r := take(tables, start)
	want := []state.Service{service("ns/a:80", 1, 2, 3)}
	for round := range 3 {
		want[0].Backends[0] = backend(10 + round)
		if _, err := r.Apply(want, start); err != nil {
			t.Fatal(err)
		}
		expectRead(t, tables, want)
	}
}

// Of two services that disagree about a backend the last one counts, whichever of them is new.
func TestUnchangedServiceDisagrees(t *testing.T) {
	tables := fake.New(64, 64, 1<<12, 1)
	r := take(tables, start)
	a, b := manyServices(1, 1)[0], manyServices(1, 1)[0]
	a.Name, b.Name = "ns/a", "ns/b"
	weightOf := func() uint16 {
		for _, e := range tables.Backends {
			if e.Flags != 0 {
				return e.Weight
			}
		}
		return 0
	}
	for i, weight := range []uint16{1, 5, 1, 5, 5} {
		a.Backends = []state.Backend{a.Backends[0]}
		a.Backends[0].Weight = weight
		if _, err := r.Apply([]state.Service{a, b}, start); err != nil {
			t.Fatal(err)
		}
		if got := weightOf(); got != 1 {
			t.Errorf("%d: weight %d, want 1, that of the last service", i, got)
		}
		if _, err := r.Apply([]state.Service{b, a}, start); err != nil {
			t.Fatal(err)
		}
		if got := weightOf(); got != weight {
			t.Errorf("%d: weight %d, want %d, that of the last service", i, got, weight)
		}
	}
}

// 10,000 L4 services of one pod each fit maps of the default size, and so do they while all of them
// get other pods.
func TestManySmallServices(t *testing.T) {
	tables := fake.New(16384, 32768, 1<<19, 1)
	r := take(tables, start)
	const n = 10_000
	at := func(round int) (out []state.Service) {
		for i := range n {
			s := service(fmt.Sprintf("ns/s%d:5432", i), (i+round*n)%65536)
			s.Algorithm = state.Maglev
			out = append(out, s)
		}
		return out
	}
	for round := range 2 {
		want := at(round)
		if _, err := r.Apply(want, start); err != nil {
			t.Fatal(err)
		}
		expectRead(t, tables, want)
	}
}

func BenchmarkUnchangedApply(b *testing.B) {
	tables := fake.New(1024+1, 1<<17, 1<<24, 1)
	r := take(tables, start)
	want := manyServices(1000, 100)
	if _, err := r.Apply(want, start); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := r.Apply(want, start); err != nil {
			b.Fatal(err)
		}
	}
}
