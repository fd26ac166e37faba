package balance

import (
	"net/netip"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// tables makes a view with one service (id 1) of n backends (ids 1 to n).
func tables(n int, algorithm uint16) *view.View {
	const backends = 32
	v := &view.View{
		Services:    make([]abi.Service, 4),
		Slots:       make([]abi.Slot, 64),
		Backends:    make([]abi.Backend, backends),
		Loads:       make([]abi.BackendLoad, abi.Generations*backends),
		Workers:     make([]abi.Worker, abi.Workers),
		Generations: make([]abi.Generation, abi.Generations),
	}
	for i := 1; i <= n; i++ {
		v.Backends[i] = abi.Backend{
			Address: abi.AddressOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})), Port: abi.PortOf(80),
			Flags: abi.BackendInUse, Generation: 7,
		}
		v.Slots[i] = abi.Slot{Backend: uint32(i)}
	}
	v.Services[1] = abi.Service{Block: uint64(abi.MakeBlock(1, uint16(n), 1)), Algorithm: algorithm}
	return v
}

func TestTwoChoicesEvensLoad(t *testing.T) {
	b := New(tables(10, abi.AlgorithmP2C), 1, 1)
	for range 1000 { // none of them ends
		p, ok := b.Pick(1, nil)
		if !ok {
			t.Fatal("no pick")
		}
		b.Start(p)
	}
	for id := 1; id <= 10; id++ {
		// Random choice alone would spread by 10 and more (one standard deviation).
		if n := b.loads[id].InFlight; n < 97 || n > 103 {
			t.Errorf("backend %d has %d in flight, want about 100", id, n)
		}
	}
}

// TestOtherGenerations: requests that the draining proxy has in flight count.
func TestOtherGenerations(t *testing.T) {
	v := tables(2, abi.AlgorithmP2C)
	b := New(v, 5, 1)
	v.Generations[0] = abi.Generation{Number: 4, State: 3}
	v.Load(4, 1).InFlight = 50
	for range 50 {
		p, _ := b.Pick(1, nil)
		if p.ID != 2 {
			t.Fatalf("picked backend %d, which the other proxy keeps busy", p.ID)
		}
		b.Start(p)
	}
	v.Generations[0] = abi.Generation{} // gone, its counts void
	seen := map[state.BackendID]bool{}
	for range 20 {
		p, _ := b.Pick(1, nil)
		seen[p.ID] = true
	}
	if !seen[1] {
		t.Error("counts of a generation that is gone still weigh")
	}
}

func TestRoundRobin(t *testing.T) {
	b := New(tables(5, abi.AlgorithmRoundRobin), 1, 3)
	counts := map[state.BackendID]int{}
	last := state.BackendID(0)
	for range 100 {
		p, _ := b.Pick(1, nil)
		if last != 0 && p.ID != last%5+1 {
			t.Fatalf("%d after %d", p.ID, last)
		}
		last = p.ID
		counts[p.ID]++
	}
	for id := state.BackendID(1); id <= 5; id++ {
		if counts[id] != 20 {
			t.Errorf("backend %d was picked %d times, want 20", id, counts[id])
		}
	}
}

func TestTried(t *testing.T) {
	for _, algorithm := range []uint16{abi.AlgorithmP2C, abi.AlgorithmRoundRobin} {
		b := New(tables(3, algorithm), 1, 1)
		for range 100 {
			var tried []state.BackendID
			for range 3 {
				p, ok := b.Pick(1, tried)
				if !ok {
					t.Fatalf("no pick with %v tried", tried)
				}
				for _, id := range tried {
					if id == p.ID {
						t.Fatalf("picked %d again after %v", p.ID, tried)
					}
				}
				tried = append(tried, p.ID)
			}
			if _, ok := b.Pick(1, tried); ok {
				t.Fatal("a fourth pick of three backends")
			}
		}
	}
}

func TestNothingToPick(t *testing.T) {
	v := tables(1, abi.AlgorithmP2C)
	b := New(v, 1, 1)
	for _, id := range []state.ServiceID{0, 2, 4, 1 << 30} {
		if p, ok := b.Pick(id, nil); ok {
			t.Errorf("service %d: picked %v", id, p)
		}
	}
	v.Services[1].Block = uint64(abi.MakeBlock(60, 100, 2)) // reaches beyond the table
	for range 100 {
		b.Pick(1, nil)
	}
}

func TestFinish(t *testing.T) {
	b := New(tables(1, abi.AlgorithmP2C), 1, 1)
	p, _ := b.Pick(1, nil)
	b.Start(p)
	b.Finish(p, true, 800*time.Microsecond)
	l := &b.loads[1]
	if l.InFlight != 0 || l.Requests != 1 || l.Failures != 1 || l.LatencyUS != 100 {
		t.Errorf("%+v", *l)
	}
	b.Finish(p, false, 0)
	if l.InFlight != 0 {
		t.Errorf("%d in flight after one finish too many", l.InFlight)
	}
	b.Start(p)
	l.Generation, l.InFlight = 8, 0 // the id was given to another pod
	b.Finish(p, false, 0)
	if l.InFlight != 0 || l.Requests != 2 {
		t.Errorf("a request to the pod before was counted: %+v", *l)
	}
}

func TestAllocations(t *testing.T) {
	b := New(tables(10, abi.AlgorithmP2C), 1, 1)
	if n := testing.AllocsPerRun(100, func() {
		p, _ := b.Pick(1, nil)
		b.Start(p)
		b.Finish(p, false, time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations per pick", n)
	}
}

func BenchmarkPick(b *testing.B) {
	bal := New(tables(10, abi.AlgorithmP2C), 1, 1)
	for b.Loop() {
		p, _ := bal.Pick(1, nil)
		bal.Start(p)
		bal.Finish(p, false, time.Millisecond)
	}
}
