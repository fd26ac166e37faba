// Package balance picks the backend of a service from the maps that the kernel steers by.
//
// A pick costs loads from shared memory and no system call. The number of requests in
// flight is counted in the same memory by every worker of every proxy on the node, so
// that "least loaded" means the pod's load, not this worker's share of it.
package balance

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// Balancer picks for one worker. It is not safe for concurrent use; what it shares with
// other workers and processes is in the maps alone.
type Balancer struct {
	view  *view.View
	loads []abi.BackendLoad // of our own generation, by backend id
	slot  int
	turn  []uint32 // round robin: next slot, by service id
	rand  *rand.PCG

	// Of the pick under way.
	tried     []state.BackendID
	anyHealth bool // nothing that is healthy is left
}

// New makes a balancer for a worker of the given generation. seed makes workers start
// round robin at different slots.
func New(v *view.View, generation uint32, seed uint64) *Balancer {
	n := len(v.Backends)
	slot := int(generation % abi.Generations)
	return &Balancer{
		view:  v,
		loads: v.Loads[slot*n : (slot+1)*n],
		slot:  slot,
		turn:  make([]uint32, len(v.Services)),
		rand:  rand.NewPCG(seed, uint64(generation)),
	}
}

// Pick is a chosen backend.
type Pick struct {
	ID         state.BackendID // 0: none
	Generation uint32          // of the backend's entry: another pod gets another number
	Address    netip.AddrPort
	Local      bool
}

// MaxTries is how many backends one request may be offered to.
const MaxTries = 4

// Pick chooses a backend of the service that is not among tried. It reports false if there
// is none.
func (b *Balancer) Pick(service state.ServiceID, tried []state.BackendID) (Pick, bool) {
	if int(service) >= len(b.view.Services) {
		return Pick{}, false
	}
	// Again while the agent publishes, which it does far more slowly than this loop runs.
	for {
		block := b.view.Block(uint32(service))
		if block.Count() == 0 {
			return Pick{}, false
		}
		var id state.BackendID
		for _, anyHealth := range []bool{false, true} {
			b.tried, b.anyHealth = tried, anyHealth
			if b.view.Services[service].Algorithm == abi.AlgorithmRoundRobin {
				id = b.roundRobin(service, block)
			} else {
				id = b.twoChoices(block)
			}
			if id != 0 {
				break
			}
		}
		e, ok := b.view.Entry(uint32(id))
		if b.view.Current(uint32(service), block) {
			return Pick{id, e.Generation, e.Address, e.Flags&abi.BackendLocal != 0}, ok
		}
	}
}

func (b *Balancer) roundRobin(service state.ServiceID, block abi.Block) state.BackendID {
	n := uint32(block.Count())
	start := b.turn[service]
	if start == 0 {
		start = uint32(b.rand.Uint64())
	}
	for i := range n {
		at := (start + i) % n
		if id := b.backend(block, uint64(at)); b.usable(id) {
			b.turn[service] = at + 1
			return id
		}
	}
	return 0
}

// twoChoices is the power of two choices (Mitzenmacher 2001): of two at random, the one
// with fewer requests in flight.
func (b *Balancer) twoChoices(block abi.Block) state.BackendID {
	n := uint64(block.Count())
	r := b.rand.Uint64()
	i := (r & 0xffffffff) * n >> 32
	one := b.backend(block, i)
	if n == 1 {
		if b.usable(one) {
			return one
		}
		return 0
	}
	j := (r >> 32) * (n - 1) >> 32
	if j >= i {
		j++
	}
	two := b.backend(block, j)
	switch okOne, okTwo := b.usable(one), b.usable(two); {
	case okOne && okTwo:
		if b.inFlight(two) < b.inFlight(one) {
			return two
		}
		return one
	case okOne:
		return one
	case okTwo:
		return two
	}
	for k := range n {
		if id := b.backend(block, (i+k)%n); b.usable(id) {
			return id
		}
	}
	return 0
}

func (b *Balancer) backend(block abi.Block, i uint64) state.BackendID {
	return state.BackendID(b.view.Slot(block, int(i)))
}

func (b *Balancer) usable(id state.BackendID) bool {
	if id == 0 || !b.anyHealth && !b.healthy(id) {
		return false
	}
	return !slices.Contains(b.tried, id)
}

// inFlight sums what all generations have in flight to a backend.
func (b *Balancer) inFlight(id state.BackendID) (sum uint32) {
	n := len(b.view.Backends)
	if int(id) >= n {
		return 1 << 31
	}
	for slot := range b.view.Generations {
		if slot == b.slot || atomic.LoadUint32(&b.view.Generations[slot].Number) != 0 {
			sum += atomic.LoadUint32(&b.view.Loads[slot*n+int(id)].InFlight)
		}
	}
	return sum
}

// Start counts a request in flight to the backend. Each Start has one Finish.
func (b *Balancer) Start(p Pick) {
	l := &b.loads[p.ID]
	if atomic.LoadUint32(&l.Generation) != p.Generation {
		atomic.StoreUint32(&l.Generation, p.Generation)
	}
	atomic.AddUint32(&l.InFlight, 1)
}

// Finish takes the request back. latency is the time to the first byte of the response,
// 0 if there was none.
func (b *Balancer) Finish(p Pick, failed bool, latency time.Duration) {
	l := &b.loads[p.ID]
	if atomic.LoadUint32(&l.Generation) != p.Generation {
		return // the id means another pod by now; its counts began at zero
	}
	for {
		n := atomic.LoadUint32(&l.InFlight)
		if n == 0 || atomic.CompareAndSwapUint32(&l.InFlight, n, n-1) {
			break
		}
	}
	atomic.AddUint64(&l.Requests, 1)
	if failed {
		atomic.AddUint64(&l.Failures, 1)
	}
	if latency > 0 {
		// Moving average with weight 1/8; lost updates of other workers do not matter.
		us := uint32(min(latency.Microseconds(), 1<<30))
		old := atomic.LoadUint32(&l.LatencyUS)
		atomic.StoreUint32(&l.LatencyUS, old-old/8+us/8)
	}
}
