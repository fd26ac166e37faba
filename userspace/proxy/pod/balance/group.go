package balance

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// Groups are the Group of each service, as far as somebody has asked for it. The workers
// of a proxy share one.
type Groups struct {
	view    *view.View
	mu      sync.Mutex // held to replace a Group
	current []atomic.Pointer[Group]
	peaks   atomic.Pointer[latencies] // nil until an algorithm needs them
	now     func() int64              // nanoseconds that only grow
}

// NewGroups returns the groups of a view.
func NewGroups(v *view.View) *Groups {
	begun := time.Now()
	return &Groups{view: v, current: make([]atomic.Pointer[Group], len(v.Services)), now: func() int64 { return int64(time.Since(begun)) }}
}

// Member is a backend of a group.
type Member struct {
	ID         state.BackendID
	Generation uint32
	Address    netip.AddrPort
	turns      int   // how many slots name it
	since      int64 // when it came; 0: it was there when we looked first
}

// Group is what is derived from one published block of a service. It is not changed.
type Group struct {
	Members []Member // in the order of the block, each once
	block   abi.Block
	places  map[state.BackendID]int // of Members
	newest  int64                   // the last since
	table   func() []uint16
}

// Of returns the group of a service that has this block. The result may be stale: callers must
// check again that the block is still current.
func (s *Groups) Of(service state.ServiceID, block abi.Block) *Group {
	if g := s.current[service].Load(); g != nil && g.block == block {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.current[service].Load()
	if before != nil && before.block == block {
		return before
	}
	g := s.make(block, before)
	if s.view.Current(uint32(service), block) {
		s.current[service].Store(g)
	}
	return g
}

// Now returns the group of a service at this moment, nil if it has no backend.
func (s *Groups) Now(service state.ServiceID) *Group {
	if int(service) >= len(s.current) {
		return nil
	}
	for {
		block := s.view.Block(uint32(service))
		if block.Count() == 0 {
			return nil
		}
		if g := s.Of(service, block); s.view.Current(uint32(service), block) {
			return g
		}
	}
}

func (s *Groups) make(block abi.Block, before *Group) *Group {
	g := &Group{block: block, places: map[state.BackendID]int{}}
	for i := range int(block.Count()) {
		id := state.BackendID(s.view.Slot(block, i))
		if at, known := g.places[id]; known {
			g.Members[at].turns++
			continue
		}
		e, ok := s.view.Entry(uint32(id))
		if !ok {
			continue
		}
		m := Member{ID: id, Generation: e.Generation, Address: e.Address, turns: 1}
		if before != nil {
			if at, known := before.places[id]; known && before.Members[at].Generation == m.Generation {
				m.since = before.Members[at].since
			} else {
				m.since = max(1, s.now())
			}
			g.newest = max(g.newest, m.since)
		}
		g.places[id] = len(g.Members)
		g.Members = append(g.Members, m)
	}
	g.table = sync.OnceValue(func() []uint16 { return maglev(g.Members) })
	return g
}

// Member returns a backend of the group.
func (g *Group) Member(id state.BackendID) (Member, bool) {
	at, ok := g.places[id]
	if !ok {
		return Member{}, false
	}
	return g.Members[at], true
}

// Place returns the index of a backend in Members.
func (g *Group) Place(id state.BackendID) (int, bool) {
	at, ok := g.places[id]
	return at, ok
}

// latencies returns the peaks, which are kept from the first call on.
func (s *Groups) latencies() latencies {
	if p := s.peaks.Load(); p != nil {
		return *p
	}
	fresh := make(latencies, len(s.view.Backends))
	s.peaks.CompareAndSwap(nil, &fresh)
	return *s.peaks.Load()
}

func (s *Groups) observe(id state.BackendID, failed bool, latency time.Duration) {
	p := s.peaks.Load()
	if p == nil || int(id) >= len(*p) {
		return
	}
	if failed {
		latency = max(latency, failureLatency)
	}
	if latency > 0 {
		p.observe(id, s.now(), latency)
	}
}

// forget drops what is known of a backend whose id means another pod from now on.
func (s *Groups) forget(id state.BackendID) {
	if p := s.peaks.Load(); p != nil && int(id) < len(*p) {
		(*p)[id].Store(0)
	}
}
