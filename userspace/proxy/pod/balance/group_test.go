package balance

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// publish gives service 1 of tables these backends, each as often as it is named.
func publish(v *view.View, ids ...uint32) {
	old := v.Block(1)
	offset := uint32(1)
	if old.Offset() == 1 {
		offset = uint32(len(v.Slots) / 2)
	}
	for i, id := range ids {
		v.Slots[offset+uint32(i)] = abi.Slot{Backend: id}
	}
	v.Services[1].Block = uint64(abi.MakeBlock(offset, uint16(len(ids)), 1+old.Generation()))
}

func ids(from, to uint32) (out []uint32) {
	for id := from; id <= to; id++ {
		out = append(out, id)
	}
	return out
}

func value(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// chosen returns where each of n values leads.
func chosen(t *testing.T, b *Balancer, n int, w Wish) []state.BackendID {
	t.Helper()
	out := make([]state.BackendID, n)
	for i := range out {
		w.Hash, w.Hashed = Hash(value(i)), true
		p, ok := b.Choose(1, w, nil)
		if !ok {
			t.Fatal("no pick")
		}
		out[i] = p.ID
	}
	return out
}

func moved(a, b []state.BackendID) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// TestHash: values spread evenly, workers and proxies agree, and a backend that comes or
// goes moves about its own share of them.
func TestHash(t *testing.T) {
	const values, n = 20000, 10
	v := tables(n+1, abi.AlgorithmP2C)
	publish(v, ids(1, n)...)
	b := New(v, 1, 1)
	before := chosen(t, b, values, Wish{})
	count := map[state.BackendID]int{}
	for _, id := range before {
		count[id]++
	}
	for id, c := range count {
		if c < values/n*85/100 || c > values/n*115/100 {
			t.Errorf("backend %d has %d of %d values, want about %d", id, c, values, values/n)
		}
	}
	if other := chosen(t, New(v, 2, 99), values, Wish{}); moved(before, other) != 0 {
		t.Error("another proxy chooses otherwise")
	}

	publish(v, slices.DeleteFunc(ids(1, n), func(id uint32) bool { return id == 4 })...)
	gone := chosen(t, b, values, Wish{})
	if m := moved(before, gone); m < count[4] || m > count[4]+values*3/100 {
		t.Errorf("%d values moved when a backend with %d went", m, count[4])
	}
	publish(v, ids(1, n+1)...)
	if m := moved(before, chosen(t, b, values, Wish{})); m < values/(n+1)*80/100 || m > values/(n+1)+values*4/100 {
		t.Errorf("%d values moved when an eleventh backend came, want about %d", m, values/(n+1))
	}
	publish(v, ids(1, n)...)
	if m := moved(before, chosen(t, b, values, Wish{})); m != 0 {
		t.Errorf("%d values did not come back", m)
	}
}

// TestHashIll: the values of a backend that is ill, and no others, go elsewhere, and not
// all to the same.
func TestHashIll(t *testing.T) {
	const values = 5000
	v := tables(8, abi.AlgorithmP2C)
	b := New(v, 1, 1)
	before := chosen(t, b, values, Wish{})
	v.Load(1, 3).Health = 1
	during := chosen(t, b, values, Wish{})
	to := map[state.BackendID]int{}
	for i := range before {
		switch {
		case before[i] != 3 && during[i] != before[i]:
			t.Fatalf("value %d moved from %d to %d", i, before[i], during[i])
		case before[i] == 3:
			to[during[i]]++
		}
	}
	if to[3] != 0 || len(to) != 7 {
		t.Errorf("the values of backend 3 went to %v", to)
	}
	v.Load(1, 3).Health = 0
	if moved(before, chosen(t, b, values, Wish{})) != 0 {
		t.Error("values did not come back")
	}
	for id := uint32(1); id <= 8; id++ {
		v.Load(1, id).Health = 1
	}
	if moved(before, chosen(t, b, values, Wish{})) != 0 {
		t.Error("where all are ill, values are not where they belong")
	}
}

// TestSubset: each value uses as many backends as are wanted, always the same, and the less
// loaded of them; without those, others.
func TestSubset(t *testing.T) {
	v := tables(10, abi.AlgorithmP2C)
	b := New(v, 1, 1)
	used := map[state.BackendID]bool{}
	for i := range 50 {
		w := Wish{Hash: Hash(value(i)), Hashed: true, Subset: 3}
		seen := map[state.BackendID]bool{}
		for range 60 {
			p, _ := b.Choose(1, w, nil)
			seen[p.ID], used[p.ID] = true, true
			b.Start(p)
			b.Finish(p, false, 0)
		}
		if len(seen) != 3 {
			t.Fatalf("value %d uses %d backends, want 3", i, len(seen))
		}
		var tried []state.BackendID
		for id := range seen {
			tried = append(tried, id)
		}
		if p, ok := b.Choose(1, w, tried); !ok || seen[p.ID] {
			t.Fatalf("with its three tried: %v %v", p, ok)
		}
	}
	if len(used) != 10 {
		t.Errorf("all values together use %d of 10 backends", len(used))
	}
	publish(v, 1, 2)
	if p, ok := b.Choose(1, Wish{Hash: 1, Hashed: true, Subset: 5}, []state.BackendID{1}); !ok || p.ID != 2 {
		t.Errorf("of two backends: %v %v", p, ok)
	}
}

// TestWeights: by any algorithm a backend of weight 3 gets three times as much.
func TestWeights(t *testing.T) {
	for _, a := range []Algorithm{P2C, RoundRobin, EWMA} {
		v := tables(2, abi.AlgorithmP2C)
		v.Backends[2].Weight = 3
		publish(v, 1, 2, 2, 2)
		b := New(v, 1, 1)
		for range 400 {
			p, _ := b.Choose(1, Wish{Algorithm: a}, nil)
			b.Start(p)
		}
		if n := b.loads[2].InFlight; n < 290 || n > 310 {
			t.Errorf("algorithm %d: %d of 400 requests in flight, want about 300", a, n)
		}
	}
	v := tables(2, abi.AlgorithmP2C)
	publish(v, 1, 2, 2, 2)
	heavy := 0
	for _, id := range chosen(t, New(v, 1, 1), 10000, Wish{}) {
		if id == 2 {
			heavy++
		}
	}
	if heavy < 7000 || heavy > 8000 {
		t.Errorf("by hash: %d of 10000 values, want about 7500", heavy)
	}
}

// TestLatency: a slow backend gets less, one that fails at once is not taken for a fast
// one, and one that was slow is tried again after a while.
func TestLatency(t *testing.T) {
	v := tables(3, abi.AlgorithmP2C)
	v.Services[1].Algorithm = uint16(state.EWMA)
	b := New(v, 1, 1)
	var now int64
	b.groups.now = func() int64 { return now }
	count := map[state.BackendID]int{}
	run := func(n int) {
		clear(count)
		for range n {
			p, _ := b.Pick(1, nil)
			count[p.ID]++
			b.Start(p)
			now += 1e6
			switch p.ID {
			case 1:
				b.Finish(p, false, 100*time.Millisecond)
			case 2:
				b.Finish(p, true, 0)
			default:
				b.Finish(p, false, time.Millisecond)
			}
		}
	}
	run(100)
	if count[3] < 60 {
		t.Errorf("of 100 requests: %v", count)
	}
	run(1000) // of each pair it is the faster one, except where both are not backend 3
	if count[3] < 600 || count[1] > 340 || count[2] > 60 {
		t.Errorf("of 1000 requests: %v", count)
	}
	now += int64(10 * time.Minute)
	run(20)
	if count[2] == 0 {
		t.Errorf("after ten minutes: %v", count)
	}
	v.Backends[2].Generation++ // another pod
	p := Pick{ID: 2, Generation: v.Backends[2].Generation}
	b.Start(p)
	if b.groups.latencies().at(2, now) != 0 {
		t.Error("a new pod inherits the latency of the one before")
	}
}

// TestSlowStart: the share of a new backend grows, those that were there at first have
// theirs, and nobody is refused because all are new.
func TestSlowStart(t *testing.T) {
	for _, a := range []Algorithm{P2C, RoundRobin, EWMA} {
		v := tables(4, abi.AlgorithmP2C)
		publish(v, 1, 2, 3)
		b := New(v, 1, 1)
		now := int64(1)
		b.groups.now = func() int64 { return now }
		w := Wish{Algorithm: a, SlowStart: 10 * time.Second}
		share := func() (n int) {
			for range 4000 {
				p, ok := b.Choose(1, w, nil)
				if !ok {
					t.Fatal("no pick")
				}
				b.Start(p)
				b.Finish(p, false, 0)
				if p.ID == 4 {
					n++
				}
			}
			return n
		}
		share()
		publish(v, 1, 2, 3, 4)
		first := share()
		now += int64(5 * time.Second)
		half := share()
		now += int64(5 * time.Second)
		full := share()
		if first < 50 || first > 250 || half < first*2 || half > 800 || full < 900 || full > 1100 {
			t.Errorf("algorithm %d: %d, %d, then %d of 4000 requests", a, first, half, full)
		}
		publish(v, 5) // nobody else is there
		v.Backends[5] = v.Backends[4]
		v.Backends[5].Address = abi.AddressOf(netip.MustParseAddr("10.0.0.5"))
		if p, ok := b.Choose(1, w, nil); !ok || p.ID != 5 {
			t.Errorf("algorithm %d: the only backend is new: %v %v", a, p, ok)
		}
	}
}

func TestStick(t *testing.T) {
	v := tables(3, abi.AlgorithmP2C)
	b := New(v, 1, 1)
	m, ok := b.Groups().Now(1).Member(2)
	if !ok {
		t.Fatal("backend 2 is not in the group")
	}
	if p, ok := b.Stick(m, 0, nil); !ok || p.ID != 2 || p.Address != m.Address {
		t.Errorf("%v %v", p, ok)
	}
	if _, ok := b.Stick(m, 0, []state.BackendID{2}); ok {
		t.Error("it was tried")
	}
	v.Load(1, 2).Health = 1
	if _, ok := b.Stick(m, 0, nil); ok {
		t.Error("it is ill")
	}
	v.Load(1, 2).Health = 0
	v.Backends[2].Generation++
	if _, ok := b.Stick(m, 0, nil); ok {
		t.Error("it is another pod")
	}
}

// TestGroupsTogether: workers pick while the agent publishes.
func TestGroupsTogether(t *testing.T) {
	v := tables(8, abi.AlgorithmP2C)
	groups := NewGroups(v)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		wg.Go(func() {
			b := New(v, 1, uint64(w)).Sharing(groups)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if p, ok := b.Choose(1, Wish{Hash: Hash(value(i)), Hashed: true, Subset: i % 3}, nil); !ok || p.ID == 0 {
					t.Errorf("%v %v", p, ok)
					return
				}
			}
		})
	}
	for range 50 {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
}

func TestAllocationsOfChoices(t *testing.T) {
	for name, c := range choices {
		b := New(tables(10, abi.AlgorithmP2C), 1, 1)
		if n := testing.AllocsPerRun(100, func() {
			p, _ := b.Choose(1, c, nil)
			b.Start(p)
			b.Finish(p, false, time.Millisecond)
		}); n != 0 {
			t.Errorf("%s: %v allocations per choice", name, n)
		}
	}
}

var choices = map[string]Wish{
	"p2c":         {Algorithm: P2C},
	"round-robin": {Algorithm: RoundRobin},
	"ewma":        {Algorithm: EWMA},
	"hash":        {Hash: 12345, Hashed: true},
	"subset":      {Hash: 12345, Hashed: true, Subset: 3},
	"slow-start":  {SlowStart: time.Minute},
}

func BenchmarkChoose(b *testing.B) {
	for _, name := range []string{"p2c", "round-robin", "ewma", "hash", "subset", "slow-start"} {
		b.Run(name, func(b *testing.B) {
			bal := New(tables(10, abi.AlgorithmP2C), 1, 1)
			for b.Loop() {
				p, _ := bal.Choose(1, choices[name], nil)
				bal.Start(p)
				bal.Finish(p, false, time.Millisecond)
			}
		})
	}
}
