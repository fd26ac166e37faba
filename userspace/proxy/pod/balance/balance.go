// Package balance picks the backend of a service from the maps that the kernel steers by.
//
// A pick costs loads from shared memory and no system call. The number of requests in
// flight is counted in the same memory by every worker of every proxy on the node, so
// that "least loaded" means the pod's load, not this worker's share of it.
//
// A block names each backend as often as its weight says, so that a choice of slots is one
// by weight. What a hash, a cookie or a slow start needs beyond that is a Group, which is
// made of a block when it is first asked for and shared by the workers.
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
// other workers and processes is in the maps and in Groups.
type Balancer struct {
	view   *view.View
	loads  []abi.BackendLoad // of our own generation, by backend id
	slot   int
	turn   []uint32 // round robin: next slot, by service id
	rand   *rand.PCG
	groups *Groups

	// Of the pick under way.
	tried     []state.BackendID
	anyHealth bool // nothing that is healthy is left
	anyAge    bool // nothing that has warmed up is left
	ramp      ramp
	subset    []state.BackendID // room for those of a hash
	most      uint32            // requests in flight to one backend, 0: no bound
	full      bool              // a backend was passed over for that
}

// New makes a balancer for a worker of the given generation. seed makes workers start
// round robin at different slots.
func New(v *view.View, generation uint32, seed uint64) *Balancer {
	n := len(v.Backends)
	slot := int(generation % abi.Generations)
	return &Balancer{
		view:   v,
		loads:  v.Loads[slot*n : (slot+1)*n],
		slot:   slot,
		turn:   make([]uint32, len(v.Services)),
		rand:   rand.NewPCG(seed, uint64(generation)),
		groups: NewGroups(v),
	}
}

// Sharing makes b one of those that share groups, and returns it.
func (b *Balancer) Sharing(g *Groups) *Balancer {
	b.groups = g
	return b
}

// Groups returns what b shares with others.
func (b *Balancer) Groups() *Groups { return b.groups }

// Pick is a chosen backend.
type Pick struct {
	ID         state.BackendID // 0: none
	Generation uint32          // of the backend's entry: another pod gets another number
	Address    netip.AddrPort
	Local      bool
}

// MaxTries is how many backends one request may be offered to, where no rule says otherwise.
const MaxTries = 4

// Wish is how a request wants its backend to be chosen. The zero value is as the service
// says.
type Wish struct {
	Algorithm Algorithm
	// Hash chooses the backend, if Hashed, or with Subset more than 1 as many among which
	// the algorithm chooses.
	Hash   uint64
	Hashed bool
	Subset int
	// SlowStart is the time in which the share of a new backend grows to its own. It does
	// not matter to a choice by hash: a value that moved twice would lose what it came for.
	SlowStart time.Duration
	// Most bounds the requests in flight to one backend, 0: no bound. Workers that pick in the
	// same moment may exceed it by one each.
	Most uint32
}

// Algorithm is how a backend is chosen.
type Algorithm uint8

const (
	ByService  Algorithm = iota // as the maps say
	P2C                         // of two at random the one with fewer requests in flight
	RoundRobin                  // in turns
	EWMA                        // of two at random the one that is expected to answer sooner
)

// Pick chooses a backend of the service that is not among tried. It reports false if there
// is none.
func (b *Balancer) Pick(service state.ServiceID, tried []state.BackendID) (Pick, bool) {
	return b.Choose(service, Wish{}, tried)
}

// Choose is Pick with a wish.
func (b *Balancer) Choose(service state.ServiceID, w Wish, tried []state.BackendID) (Pick, bool) {
	if int(service) >= len(b.view.Services) {
		return Pick{}, false
	}
	b.tried, b.most, b.full = tried, w.Most, false
	// Again while the agent publishes, which it does far more slowly than this loop runs.
	for {
		block := b.view.Block(uint32(service))
		if block.Count() == 0 {
			return Pick{}, false
		}
		id := b.choose(service, block, &w)
		e, ok := b.view.Entry(uint32(id))
		if b.view.Current(uint32(service), block) {
			return Pick{id, e.Generation, e.Address, e.Flags&abi.BackendLocal != 0}, ok
		}
	}
}

// Another reports whether a healthy backend of the service is not among tried.
func (b *Balancer) Another(service state.ServiceID, tried []state.BackendID) bool {
	if int(service) >= len(b.view.Services) {
		return false
	}
	from := candidates{b.view, b.view.Block(uint32(service)), nil}
	for i := range from.len() {
		if id := from.at(uint64(i)); id != 0 && b.healthy(id) && !slices.Contains(tried, id) {
			return true
		}
	}
	return false
}

// choose relaxes what is asked of a backend until there is one.
func (b *Balancer) choose(service state.ServiceID, block abi.Block, w *Wish) state.BackendID {
	b.ramp, b.anyHealth, b.anyAge = ramp{}, false, true
	if w.SlowStart > 0 && !w.Hashed {
		b.ramp = b.groups.Of(service, block).ramp(b.groups.now(), w.SlowStart)
		b.anyAge = b.ramp.group == nil
	}
	for {
		if id := b.among(service, block, w); id != 0 {
			return id
		}
		switch {
		case !b.anyAge:
			b.anyAge = true
		case b.full:
			return 0 // better to wait for one of them than to ask one that is ill
		case !b.anyHealth:
			b.anyHealth = true
		default:
			return 0
		}
	}
}

// among chooses of what is asked for at this moment.
func (b *Balancer) among(service state.ServiceID, block abi.Block, w *Wish) state.BackendID {
	from := candidates{b.view, block, nil}
	if w.Hashed {
		g := b.groups.Of(service, block)
		if w.Subset <= 1 {
			return g.walk(w.Hash, b)
		}
		b.subset = g.subset(b.subset[:0], w.Hash, w.Subset)
		if from.ids = b.subset; len(b.subset) > 0 {
			if id := b.of(service, from, w); id != 0 {
				return id
			}
		}
		return g.walk(w.Hash, b) // none of them can be had
	}
	return b.of(service, from, w)
}

// of chooses by the algorithm alone.
func (b *Balancer) of(service state.ServiceID, from candidates, w *Wish) state.BackendID {
	switch b.algorithm(service, w.Algorithm) {
	case RoundRobin:
		return b.roundRobin(service, from)
	case EWMA:
		return b.twoChoices(from, true)
	default:
		return b.twoChoices(from, false)
	}
}

// Stick picks the backend that a client is kept at. It reports false if that may not be
// picked, has most requests in flight (0: no bound), or is not what it was.
func (b *Balancer) Stick(m Member, most uint32, tried []state.BackendID) (Pick, bool) {
	b.tried, b.ramp, b.anyHealth, b.anyAge = tried, ramp{}, false, true
	b.most, b.full = most, false
	e, ok := b.view.Entry(uint32(m.ID))
	if !ok || e.Generation != m.Generation || !b.usable(m.ID) {
		return Pick{}, false
	}
	return Pick{m.ID, e.Generation, e.Address, e.Flags&abi.BackendLocal != 0}, true
}

func (b *Balancer) algorithm(service state.ServiceID, wanted Algorithm) Algorithm {
	if wanted != ByService {
		return wanted
	}
	switch state.Algorithm(b.view.Services[service].Algorithm) {
	case state.RoundRobin:
		return RoundRobin
	case state.EWMA:
		return EWMA
	}
	return P2C
}

// candidates are the slots of a block, or the backends that a hash has chosen of it.
type candidates struct {
	view  *view.View
	block abi.Block
	ids   []state.BackendID
}

func (c *candidates) len() int {
	if c.ids != nil {
		return len(c.ids)
	}
	return int(c.block.Count())
}

func (c *candidates) at(i uint64) state.BackendID {
	if c.ids != nil {
		return c.ids[i]
	}
	return state.BackendID(c.view.Slot(c.block, int(i)))
}

func (b *Balancer) roundRobin(service state.ServiceID, from candidates) state.BackendID {
	n := uint32(from.len())
	start := b.turn[service]
	if start == 0 {
		start = uint32(b.rand.Uint64())
	}
	for i := range n {
		at := (start + i) % n
		if id := from.at(uint64(at)); b.usable(id) {
			b.turn[service] = at + 1
			return id
		}
	}
	return 0
}

// twoChoices is the power of two choices (Mitzenmacher 2001): of two at random, the one
// with fewer requests in flight, or that costs less.
func (b *Balancer) twoChoices(from candidates, latency bool) state.BackendID {
	n := uint64(from.len())
	r := b.rand.Uint64()
	i := (r & 0xffffffff) * n >> 32
	one := from.at(i)
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
	two := from.at(j)
	switch okOne, okTwo := b.usable(one), b.usable(two); {
	case okOne && okTwo:
		if one != two && b.prefers(two, one, latency) {
			return two
		}
		return one
	case okOne:
		return one
	case okTwo:
		return two
	}
	for k := range n {
		if id := from.at((i + k) % n); b.usable(id) {
			return id
		}
	}
	return 0
}

// prefers reports whether a has less to do than the other, each by its weight. Without
// requests in flight weights do not matter: they have had their say in what was drawn.
func (b *Balancer) prefers(a, other state.BackendID, latency bool) bool {
	loadA, loadB := uint64(b.inFlight(a)), uint64(b.inFlight(other))
	weightA, weightB := b.weight(a), b.weight(other)
	if !latency {
		return loadA*weightB < loadB*weightA
	}
	// The request that is to come counts, or all that idle would cost the same.
	costA, costB := b.groups.latencies().costs(a, other, b.groups.now())
	return costA*(1+float64(loadA<<weightBits)/float64(weightA)) < costB*(1+float64(loadB<<weightBits)/float64(weightB))
}

// weightBits is how many bits of a weight are behind the point.
const weightBits = 8

// weight returns a backend's weight, less while it starts slowly.
func (b *Balancer) weight(id state.BackendID) uint64 {
	if int(id) >= len(b.view.Backends) {
		return 1
	}
	w := uint64(max(1, b.view.Backends[id].Weight))
	if b.ramp.group != nil {
		return max(1, w*uint64(b.ramp.share(id))>>(rampBits-weightBits))
	}
	return w << weightBits
}

// usable reports whether the backend may be picked.
func (b *Balancer) usable(id state.BackendID) bool {
	if id == 0 || !b.anyHealth && !b.healthy(id) || slices.Contains(b.tried, id) {
		return false
	}
	if b.most > 0 && b.inFlight(id) >= b.most {
		b.full = true
		return false
	}
	// One that starts slowly declines in proportion to what it lacks.
	return b.anyAge || uint32(b.rand.Uint64()>>(64-rampBits)) < b.ramp.share(id)
}

// Full reports whether the last pick passed over a backend that could be had, had it fewer
// requests in flight.
func (b *Balancer) Full() bool { return b.full }

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
		b.groups.forget(p.ID)
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
	b.groups.observe(p.ID, failed, latency)
}
