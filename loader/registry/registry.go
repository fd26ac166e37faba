// Package registry decides which service has which id and block of slots, and which
// backend has which id, and writes that down in the kernel's tables so that a reader
// never sees half of a change.
//
// It knows tables only through small interfaces: package loader gives it the kernel's,
// tests give it those of package fake, which can be told to fail.
package registry

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

const (
	// serviceGrace is how long a service that is no longer wanted stays readable: proxies
	// learn of its end through the feed, later than the maps do.
	serviceGrace = 10 * time.Second
	// quarantine is how long a block or a backend id that nothing leads to any more is
	// left alone. Readers notice a changed block by themselves (bpf/types.h); this keeps
	// an id from meaning something else while a request that chose it is being set up.
	quarantine = 2 * time.Second
)

// Tables is what the registry writes to.
type Tables interface {
	// Write stores entries of sealed tables. Readers see those of one call before those
	// of the next. After an error any of them may have been stored.
	Write([]abi.Write) error
	// Service returns the entry that readers see now.
	Service(id uint32) abi.Service
	// SetName stores a service's name; the empty name clears it.
	SetName(id uint32, name abi.ServiceName) error
	// ResetLoad zeroes what is counted for a backend id, and says for which generation
	// of the id is counted from now on.
	ResetLoad(backend, generation uint32)
}

// Contents is what the tables hold when a registry takes them over. Index 0 is unused.
type Contents struct {
	Services []abi.Service
	Names    []abi.ServiceName // as long as Services
	Slots    []abi.Slot
	Backends []abi.Backend
}

// Registry mirrors the tables. Not safe for concurrent use.
type Registry struct {
	tables   Tables
	services map[string]*service
	byID     []*service // index: service id; nil: free
	freeIDs  queue      // service ids, longest unused first
	backends backends
	blocks   blocks
}

// service is one entry of kg_services.
type service struct {
	id        uint32
	name      string
	word      abi.Service    // as stored
	slots     []abi.Slot     // what the block holds; nil if it must be written anew
	owned     bool           // the block is registered in blocks
	refs      []uint32       // backend ids that this service holds, sorted
	want      *state.Service // as it was published last; nil: it must be published again
	ids       []uint32       // of its backends
	retiredAt time.Time      // zero: wanted
}

// Changes counts what a call did.
type Changes struct {
	Published int // services that got another block, algorithm or flag
	Retired   int // services that are no longer wanted
	Freed     int // service ids, blocks and backend ids that may be given away again
}

// New returns a registry over tables that hold contents. Entries that contradict each
// other are dropped here and written anew by the first Apply.
func New(tables Tables, c Contents, now time.Time) *Registry {
	r := &Registry{
		tables:   tables,
		services: make(map[string]*service),
		byID:     make([]*service, len(c.Services)),
		backends: newBackends(c.Backends),
		blocks:   newBlocks(uint32(len(c.Slots))),
	}
	for id := 1; id < len(c.Services); id++ {
		s := r.restore(uint32(id), c)
		if s == nil {
			r.freeIDs.push(uint32(id))
			continue
		}
		r.byID[id] = s
		if _, taken := r.services[s.name]; taken || s.name == "" {
			s.retiredAt = now // cannot be found by its name: ends by itself
			continue
		}
		r.services[s.name] = s
	}
	r.backends.retireUnused(now)
	return r
}

// restore reads one service back, or returns nil if the id is free.
func (r *Registry) restore(id uint32, c Contents) *service {
	word := c.Services[id]
	block := abi.Block(word.Block)
	if word.Flags&abi.ServiceInUse == 0 {
		if block.Count() == 0 {
			return nil
		}
		return &service{id: id, word: word} // damaged: without a name it ends by itself
	}
	s := &service{id: id, name: c.Names[id].String(), word: word}
	from, to := uint64(block.Offset()), uint64(block.Offset())+uint64(block.Count())
	if to > uint64(len(c.Slots)) {
		return s
	}
	for _, slot := range c.Slots[from:to] {
		if !r.backends.has(slot) {
			return s
		}
	}
	if block.Count() > 0 {
		if !r.blocks.take(block.Offset(), uint32(block.Count())) {
			return s
		}
		s.owned = true
	}
	s.slots = slices.Clone(c.Slots[from:to:to])
	if s.slots == nil {
		s.slots = []abi.Slot{}
	}
	for _, slot := range s.slots {
		s.refs = append(s.refs, slot.Backend)
	}
	slices.Sort(s.refs)
	s.refs = slices.Compact(s.refs)
	r.backends.hold(s.refs)
	return s
}

// ID returns the id of a service that is wanted and stored.
func (r *Registry) ID(name string) (state.ServiceID, bool) {
	s, ok := r.services[name]
	if !ok || !s.retiredAt.IsZero() {
		return 0, false
	}
	return state.ServiceID(s.id), true
}

// Len returns how many service ids, backend ids and slots are taken, those in their
// grace time included.
func (r *Registry) Len() (services, backends, slots int) {
	return len(r.byID) - 1 - r.freeIDs.len(), r.backends.len(), r.blocks.used()
}

// Apply makes the wanted services the only ones. The error joins one error per service
// that could not be stored; all others are. Services that are gone stay readable for a
// while; Reap ends them.
func (r *Registry) Apply(want []state.Service, now time.Time) (Changes, error) {
	changes, err := r.Publish(want, now)
	wanted := make(map[string]bool, len(want))
	for i := range want {
		wanted[want[i].Name] = true
	}
	for name, s := range r.services {
		if !wanted[name] && s.retiredAt.IsZero() {
			s.retiredAt = now
			changes.Retired++
		}
	}
	return changes, err
}

// Publish stores these services and leaves all others as they are.
func (r *Registry) Publish(want []state.Service, now time.Time) (Changes, error) {
	r.release(now)
	var errs []error
	p := publication{registry: r, entries: make(map[uint32]abi.Backend), named: make(map[string]bool, len(want))}
	for i := range want {
		if err := p.stage(&want[i], now); err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", want[i].Name, err))
		}
	}
	n, err := p.commit(now)
	if err != nil {
		errs = append(errs, err)
	}
	return Changes{Published: n}, errors.Join(errs...)
}

// Reap ends services whose grace time is over and frees what has been in quarantine for
// long enough.
func (r *Registry) Reap(now time.Time) (Changes, error) {
	var changes Changes
	var errs []error
	for id, s := range r.byID {
		if s == nil || s.retiredAt.IsZero() || now.Sub(s.retiredAt) < serviceGrace {
			continue
		}
		if err := r.end(s, now); err != nil {
			errs = append(errs, fmt.Errorf("end service %q (id %d): %w", s.name, id, err))
		}
		if r.byID[id] == nil {
			changes.Freed++
		}
	}
	changes.Freed += r.release(now)
	n, err := r.backends.free(r.tables, now)
	if err != nil {
		errs = append(errs, err)
	}
	changes.Freed += n
	return changes, errors.Join(errs...)
}

// release makes blocks whose quarantine is over available again.
func (r *Registry) release(now time.Time) int { return r.blocks.release(now.Add(-quarantine)) }

// end takes a retired service out of the tables.
func (r *Registry) end(s *service, now time.Time) error {
	last := abi.Block(s.word.Block)
	empty := abi.Service{Block: uint64(abi.MakeBlock(0, 0, last.Generation()+1))}
	// After an error the table itself says whether it was stored.
	if err := r.tables.Write([]abi.Write{writeService(s.id, empty)}); err != nil && r.tables.Service(s.id) != empty {
		return err
	}
	if s.owned {
		r.blocks.retire(last, now)
	}
	r.backends.drop(s.refs, now)
	if r.services[s.name] == s {
		delete(r.services, s.name)
	}
	r.byID[s.id] = nil
	r.freeIDs.push(s.id)
	// A name that stays is untidy, no more: nobody asks for the name of an id not in use.
	return r.tables.SetName(s.id, abi.ServiceName{})
}
