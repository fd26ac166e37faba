package affinity

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
)

var (
	web    = Service{1, "default/web:80"}
	canary = Service{2, "default/canary:80"}
	key    = bytes.Repeat([]byte{7}, 32)
	other  = bytes.Repeat([]byte{8}, 32)
)

// groups returns those of a view in which service 1 and 2 have the backends 1 to n.
func groups(n int) (*balance.Groups, *view.View) {
	const backends = 64
	v := &view.View{
		Services: make([]abi.Service, 4), Slots: make([]abi.Slot, 256), Backends: make([]abi.Backend, backends),
		Loads:   make([]abi.BackendLoad, abi.Generations*backends),
		Workers: make([]abi.Worker, abi.Workers), Generations: make([]abi.Generation, abi.Generations),
	}
	for i := 1; i < backends; i++ {
		v.Backends[i] = abi.Backend{
			Address: abi.AddressOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})), Port: abi.PortOf(80),
			Flags: abi.BackendInUse, Generation: 1,
		}
		v.Slots[i] = abi.Slot{Backend: uint32(i)}
	}
	v.Services[1].Block = uint64(abi.MakeBlock(1, uint16(n), 1))
	v.Services[2].Block = uint64(abi.MakeBlock(1, uint16(n), 1))
	return balance.NewGroups(v), v
}

func TestText(t *testing.T) {
	v := Value{1, 2, 3, 255}
	text := v.Append(nil)
	if got, ok := Parse(text); !ok || got != v || len(text) != 22 {
		t.Errorf("%q becomes %v, %v", text, got, ok)
	}
	for _, bad := range []string{"", "a", string(text) + "A", string(text[:21]) + "=", string(text[:21]) + "\n", "AAAAAAAAAAAAAAAAAAAAAB", string(text[:21]) + "+"} {
		if _, ok := Parse([]byte(bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestPods: a value leads to its pod at every proxy, to no other service's, with no other
// key, and to nothing once the pod is gone.
func TestPods(t *testing.T) {
	g, v := groups(5)
	var k, elsewhere Keeper
	seen := map[Value]bool{}
	for id := state.BackendID(1); id <= 5; id++ {
		value, ok := k.ForPod(key, web, g.Now(1), id)
		if !ok || seen[value] {
			t.Fatalf("backend %d: %v, %v", id, value, ok)
		}
		seen[value] = true
		if m, ok := elsewhere.Pod(key, web, g.Now(1), value); !ok || m.ID != id {
			t.Errorf("backend %d: another proxy reads %d, %v", id, m.ID, ok)
		}
		if _, ok := k.Pod(key, canary, g.Now(2), value); ok {
			t.Error("it is good for another service")
		}
		value[15] ^= 1
		if _, ok := k.Pod(key, web, g.Now(1), value); ok {
			t.Error("a forged value is taken")
		}
	}
	value, _ := k.ForPod(key, web, g.Now(1), 5)
	if _, ok := k.Pod(other, web, g.Now(1), value); ok {
		t.Error("another key is as good")
	}
	v.Services[1].Block = uint64(abi.MakeBlock(1, 4, 2))
	if _, ok := k.Pod(key, web, g.Now(1), value); ok {
		t.Error("it leads to a pod that is gone")
	}
	if _, ok := k.ForPod(key, web, g.Now(1), 5); ok {
		t.Error("a pod that is gone has a value")
	}
	v.Services[1].Block = uint64(abi.MakeBlock(1, 5, 3))
	v.Backends[5].Generation, v.Backends[5].Address = 2, abi.AddressOf(netip.MustParseAddr("10.0.0.99"))
	if _, ok := k.Pod(key, web, g.Now(1), value); ok {
		t.Error("it leads to the pod that has its backend id now")
	}
}

// TestSeats: a value names a seat at every proxy, and nobody can name one without the key.
func TestSeats(t *testing.T) {
	var k, elsewhere Keeper
	for _, seat := range []uint16{0, 1, 4095, 4096, 65535} {
		value := k.ForSeat(key, web, seat)
		if got, ok := elsewhere.Seat(key, web, value); !ok || got != seat {
			t.Errorf("seat %d is read as %d, %v", seat, got, ok)
		}
		if _, ok := elsewhere.Seat(key, canary, value); ok {
			t.Error("it is good for another service")
		}
		if _, ok := elsewhere.Seat(other, web, value); ok {
			t.Error("another key is as good")
		}
		value[1] ^= 1 // the neighbour's
		if _, ok := elsewhere.Seat(key, web, value); ok {
			t.Error("a value can be made of another")
		}
	}
}

// TestFindSeat: each pod has seats, and when a pod comes, about its share of them change.
func TestFindSeat(t *testing.T) {
	g, v := groups(5)
	before := g.Now(1)
	for id := state.BackendID(1); id <= 5; id++ {
		seat, ok := FindSeat(before, id, 65530)
		if !ok || before.Leads(SeatHash(seat)) != id {
			t.Errorf("backend %d: seat %d, %v", id, seat, ok)
		}
	}
	if _, ok := FindSeat(before, 6, 0); ok {
		t.Error("who is not of the service has a seat")
	}
	v.Services[1].Block = uint64(abi.MakeBlock(1, 6, 2))
	after, moved := g.Now(1), 0
	for seat := range 1 << 16 {
		if h := SeatHash(uint16(seat)); before.Leads(h) != after.Leads(h) {
			moved++
		}
	}
	if share := 100 * moved / (1 << 16); share < 13 || share > 21 {
		t.Errorf("%d %% of the seats moved when a sixth pod came", share)
	}
}

func TestAllocations(t *testing.T) {
	g, _ := groups(5)
	var k Keeper
	group := g.Now(1)
	pod, _ := k.ForPod(key, web, group, 3)
	seat := k.ForSeat(key, web, 300)
	text := pod.Append(nil)
	if n := testing.AllocsPerRun(100, func() {
		v, _ := Parse(text)
		if _, ok := k.Pod(key, web, group, v); !ok {
			t.Fatal("not known")
		}
		if _, ok := k.Seat(key, web, seat); !ok {
			t.Fatal("not known")
		}
	}); n != 0 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkPod(b *testing.B) {
	g, _ := groups(50)
	var k Keeper
	group := g.Now(1)
	v, _ := k.ForPod(key, web, group, 30)
	text := v.Append(nil)
	for b.Loop() {
		v, _ := Parse(text)
		k.Pod(key, web, group, v)
	}
}

// FuzzParse: no text leads to a pod but those that were given out.
func FuzzParse(f *testing.F) {
	g, _ := groups(5)
	var k Keeper
	group := g.Now(1)
	given := map[string]state.BackendID{}
	for id := state.BackendID(1); id <= 5; id++ {
		v, _ := k.ForPod(key, web, group, id)
		given[string(v.Append(nil))] = id
		f.Add(v.Append(nil))
	}
	seat := k.ForSeat(key, web, 77)
	f.Add(seat.Append(nil))
	f.Add([]byte("10.0.0.1:80"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, ok := Parse(text)
		if !ok {
			return
		}
		if again := v.Append(nil); !bytes.Equal(again, text) {
			t.Fatalf("%q is read like %q", text, again)
		}
		if m, ok := k.Pod(key, web, group, v); ok && given[string(text)] != m.ID {
			t.Fatalf("%q leads to backend %d", text, m.ID)
		}
		if s, ok := k.Seat(key, web, v); ok && k.ForSeat(key, web, s) != v {
			t.Fatalf("%q is taken for seat %d", text, s)
		}
	})
}
