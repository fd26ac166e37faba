package registry_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/fake"
	"github.com/kerngate/kerngate/loader/registry"
	"github.com/kerngate/kerngate/loader/state"
)

var start = time.Unix(1_000_000, 0)

func take(t *fake.Tables, now time.Time) *registry.Registry {
	return registry.New(t, registry.Contents{
		Services: t.Services, Names: t.Names, Slots: t.Slots, Backends: slices.Clone(t.Backends),
	}, now)
}

func backend(n int) state.Backend {
	return state.Backend{
		Address:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 8080),
		Protocol: state.TCP,
	}
}

func service(name string, backends ...int) state.Service {
	s := state.Service{Name: name}
	for _, n := range backends {
		s.Backends = append(s.Backends, backend(n))
	}
	return s
}

// read returns the backends of each published service, as a reader of the tables finds
// them, and fails if a word leads to anything that is not whole.
func read(t *testing.T, tables *fake.Tables) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	for id, s := range tables.Services {
		block := abi.Block(s.Block)
		if uint64(block.Offset())+uint64(block.Count()) > uint64(len(tables.Slots)) {
			t.Fatalf("service id %d has slots beyond the end", id)
		}
		if s.Flags&abi.ServiceInUse == 0 {
			if block.Count() > 0 {
				t.Fatalf("service id %d is free but has %d slots", id, block.Count())
			}
			continue
		}
		name := tables.Names[id].String()
		if name == "" {
			t.Fatalf("service id %d is published without a name", id)
		}
		list := []string{}
		for _, slot := range tables.Slots[block.Offset() : block.Offset()+uint32(block.Count())] {
			b := &tables.Backends[slot.Backend]
			if b.Flags&abi.BackendInUse == 0 || b.Generation != slot.Generation {
				t.Fatalf("service %s leads to backend id %d of generation %d, which is now %+v", name, slot.Backend, slot.Generation, *b)
			}
			list = append(list, b.AddrPort().String())
		}
		out[name] = list
	}
	return out
}

func wantRead(services []state.Service) map[string][]string {
	out := make(map[string][]string)
	for _, s := range services {
		list := []string{}
		for _, b := range s.Backends {
			list = append(list, b.Address.String())
		}
		out[s.Name] = list
	}
	return out
}

func expectRead(t *testing.T, tables *fake.Tables, want []state.Service) {
	t.Helper()
	got := read(t, tables)
	if w := wantRead(want); !maps.EqualFunc(got, w, slices.Equal) {
		t.Fatalf("tables hold\n%v\nwant\n%v", got, w)
	}
}

func TestIDsSurviveARestart(t *testing.T) {
	tables := fake.New(8, 16, 32, 1)
	r := take(tables, start)
	want := []state.Service{service("a", 1, 2), service("b", 2, 3), service("empty")}
	if _, err := r.Apply(want, start); err != nil {
		t.Fatal(err)
	}
	expectRead(t, tables, want)
	before := *tables
	before.Services, before.Slots, before.Backends = slices.Clone(tables.Services), slices.Clone(tables.Slots), slices.Clone(tables.Backends)

	again := take(tables, start.Add(time.Hour))
	changes, err := again.Apply(want, start.Add(time.Hour))
	if err != nil || changes != (registry.Changes{}) {
		t.Errorf("the same state after a restart: %+v, %v; want no change", changes, err)
	}
	for _, s := range want {
		old, _ := r.ID(s.Name)
		if id, ok := again.ID(s.Name); !ok || id != old {
			t.Errorf("service %s has id %d, had %d", s.Name, id, old)
		}
	}
	if !slices.Equal(before.Services, tables.Services) || !slices.Equal(before.Slots, tables.Slots) || !slices.Equal(before.Backends, tables.Backends) {
		t.Error("a restart alone changed the tables")
	}
}

func TestGoneServicesStayReadableForAWhile(t *testing.T) {
	tables := fake.New(8, 16, 32, 1)
	r := take(tables, start)
	if _, err := r.Apply([]state.Service{service("a", 1), service("b", 2)}, start); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Apply([]state.Service{service("b", 2)}, start); err != nil || c.Retired != 1 {
		t.Fatalf("changes %+v, %v", c, err)
	}
	if _, ok := r.ID("a"); ok {
		t.Error("a service that is gone still has an id to give out")
	}
	if _, err := r.Reap(start.Add(9 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, tables); len(got["a"]) != 1 {
		t.Errorf("9 s after it went, service a reads %v", got["a"])
	}
	if _, err := r.Reap(start.Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	expectRead(t, tables, []state.Service{service("b", 2)})
	if _, err := r.Reap(start.Add(13 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if services, backends, slots := r.Len(); services != 1 || backends != 1 || slots != 1 {
		t.Errorf("%d services, %d backends, %d slots in use; want one each", services, backends, slots)
	}
}

func TestAReturningServiceKeepsItsID(t *testing.T) {
	tables := fake.New(8, 16, 32, 1)
	r := take(tables, start)
	want := []state.Service{service("a", 1)}
	if _, err := r.Apply(want, start); err != nil {
		t.Fatal(err)
	}
	id, _ := r.ID("a")
	if _, err := r.Apply(nil, start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Apply(want, start.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if again, ok := r.ID("a"); !ok || again != id {
		t.Errorf("id %d, had %d", again, id)
	}
	if _, err := r.Reap(start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	expectRead(t, tables, want)
}

// A backend id that is given to another address has another generation.
func TestBackendIDsAreQuarantined(t *testing.T) {
	tables := fake.New(4, 3, 32, 1) // room for two backends
	r := take(tables, start)
	now := start
	apply := func(n ...int) error {
		_, err := r.Apply([]state.Service{service("a", n...)}, now)
		return err
	}
	if err := errors.Join(apply(1, 2), apply(2)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	r.Reap(now)
	var full *registry.FullError
	if err := apply(2, 3); !errors.As(err, &full) || full.Map != "kg_backends" || !strings.Contains(err.Error(), "--max-backends") || !strings.Contains(err.Error(), `"a"`) {
		t.Fatalf("within the quarantine: %v; want kg_backends full", err)
	}
	expectRead(t, tables, []state.Service{service("a", 2)})
	generation := tables.Backends[1].Generation
	now = now.Add(2 * time.Second)
	r.Reap(now)
	if err := apply(2, 3); err != nil {
		t.Fatal(err)
	}
	if got := tables.Backends[1]; got.AddrPort() != backend(3).Address || got.Generation == generation {
		t.Errorf("backend id 1 is %+v, want another address and generation than %d", got, generation)
	}
}

func TestFullMapsNameTheServiceAndTheFlag(t *testing.T) {
	tables := fake.New(3, 64, 4, 1)
	r := take(tables, start)
	_, err := r.Apply([]state.Service{service("a", 1, 2), service("big", 1, 2, 3, 4, 5), service("b", 3), service("c", 1)}, start)
	if err == nil {
		t.Fatal("everything fitted")
	}
	for _, want := range []string{`"big": map kg_slots`, "--max-slots", `"c": map kg_services`, "--max-services"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not contain %q", err, want)
		}
	}
	expectRead(t, tables, []state.Service{service("a", 1, 2), service("b", 3)})
}

func TestBadServicesKeepNobodyOut(t *testing.T) {
	tables := fake.New(8, 16, 32, 1)
	r := take(tables, start)
	broken := service("broken", 1)
	broken.Backends[0].Address = netip.AddrPort{}
	_, err := r.Apply([]state.Service{
		service("a", 1), service("a", 2), broken, service("", 1), service(strings.Repeat("n", 256), 1), service("zero\x00", 1),
	}, start)
	if err == nil || strings.Count(err.Error(), "service ") < 5 {
		t.Errorf("errors: %v", err)
	}
	expectRead(t, tables, []state.Service{service("a", 1)})
}

// Tables that contradict themselves, as no agent leaves them: it ends with what is wanted.
func TestDamagedTables(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		tables := fake.New(8, 16, 64, seed)
		for i := 1; i < len(tables.Services); i++ {
			tables.Services[i] = abi.Service{Block: random.Uint64() & 0xffff_00ff_8000_007f, Flags: uint32(random.IntN(4))}
			tables.Names[i], _ = abi.MakeServiceName([]string{"", "a", "b", "z"}[random.IntN(4)])
		}
		for i := range tables.Slots {
			tables.Slots[i] = abi.Slot{Backend: uint32(random.IntN(20)), Generation: uint32(random.IntN(2))}
		}
		for i := range tables.Backends {
			e := backend(random.IntN(6))
			tables.Backends[i] = abi.Backend{
				Address: abi.AddressOf(e.Address.Addr()), Port: abi.PortOf(8080), Protocol: 6,
				Flags: uint8(random.IntN(2)), Generation: uint32(random.IntN(2)),
			}
		}
		r := take(tables, start)
		want := []state.Service{service("a", 1, 2, 3), service("b", 3, 4)}
		now := start
		for range 8 { // ids that are in a damaged use come free by and by
			now = now.Add(11 * time.Second)
			r.Reap(now)
			r.Apply(want, now)
		}
		if _, err := r.Apply(want, now); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		now = now.Add(time.Minute)
		r.Reap(now)
		r.Reap(now.Add(time.Minute))
		expectRead(t, tables, want)
	}
}

// Random states, one operation of ten failing, agents that crash: a reader finds whole
// services at every single write, and in the end exactly what is wanted.
func TestConvergesWithFaults(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		tables := fake.New(12, 80, 400, seed)
		// What each service may lead to at this moment: what it did before, or will.
		allowed := make(map[string]map[string]bool)
		tables.OnWrite = func() {
			for name, list := range read(t, tables) {
				for _, b := range list {
					if !allowed[name][b] {
						t.Fatalf("seed %d: service %s leads to %s, which it never had", seed, name, b)
					}
				}
			}
		}
		now := start
		r := take(tables, now)
		for range 60 {
			now = now.Add(time.Duration(random.IntN(5000)) * time.Millisecond)
			if random.IntN(12) == 0 {
				r = take(tables, now) // crashed and started again
			}
			tables.Faults = 10
			want := randomServices(random)
			for name, list := range wantRead(want) {
				if allowed[name] == nil {
					allowed[name] = make(map[string]bool)
				}
				for _, b := range list {
					allowed[name][b] = true
				}
			}
			r.Reap(now)
			var err error
			if random.IntN(2) == 0 {
				_, err = r.Publish(want, now)
			} else {
				_, err = r.Apply(want, now)
			}
			if err != nil && !errors.Is(err, fake.ErrInjected) {
				var full *registry.FullError
				if !errors.As(err, &full) {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			read(t, tables)
		}

		tables.Faults = 0
		want := randomServices(random)
		for name, list := range wantRead(want) {
			if allowed[name] == nil {
				allowed[name] = make(map[string]bool)
			}
			for _, b := range list {
				allowed[name][b] = true
			}
		}
		for range 3 { // until what was in its grace time has made room
			now = now.Add(time.Minute)
			r.Reap(now)
			r.Apply(want, now)
		}
		now = now.Add(time.Minute)
		if _, err := r.Apply(want, now); err != nil {
			t.Fatalf("seed %d: without faults: %v", seed, err)
		}
		r.Reap(now)
		r.Reap(now.Add(time.Minute))
		expectRead(t, tables, want)
		distinct := make(map[string]bool)
		slots := 0
		for _, list := range wantRead(want) {
			slots += len(list)
			for _, b := range list {
				distinct[b] = true
			}
		}
		if s, b, n := r.Len(); s != len(want) || b != len(distinct) || n != slots {
			t.Errorf("seed %d: %d services, %d backends, %d slots in use; want %d, %d, %d: something leaked",
				seed, s, b, n, len(want), len(distinct), slots)
		}
	}
}

func randomServices(random *rand.Rand) (out []state.Service) {
	for i := range 8 {
		if random.IntN(4) == 0 {
			continue
		}
		set := make(map[int]bool)
		for range random.IntN(9) {
			set[1+random.IntN(30)] = true
		}
		out = append(out, service(fmt.Sprint("s", i), slices.Sorted(maps.Keys(set))...))
	}
	return out
}

func TestHashConvergesWithFaults(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 3))
	table := fake.NewEntries[int, int](5)
	h := registry.NewHash("numbers", table, nil)
	describe := func(k int) string { return fmt.Sprint("number ", k) }
	want := make(map[int]int)
	for range 300 {
		table.Faults = 10
		want = make(map[int]int)
		for range random.IntN(20) {
			want[random.IntN(40)] = random.IntN(3)
		}
		h.Add(want, describe)
		h.Prune(want, describe)
	}
	table.Faults = 0
	if _, err := h.Add(want, describe); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Prune(want, describe); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(table.Have, want) || h.Len() != len(want) {
		t.Errorf("table holds %v, want %v", table.Have, want)
	}

	// What finds no place is named, and keeps nobody out.
	table.Full = len(want) + 1
	_, err := h.Add(map[int]int{100: 1, 101: 1}, describe)
	if err == nil || strings.Count(err.Error(), "number 10") != 1 || len(table.Have) != len(want)+1 {
		t.Errorf("error %v, table %v; want one of two numbers left out", err, table.Have)
	}
}
