package registry

import (
	"errors"
	"slices"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
)

// publication is a set of services on their way into the tables: everything that no
// reader can reach yet is written first, then one word per service.
type publication struct {
	registry *Registry
	entries  map[uint32]abi.Backend // to be written, by backend id
	slots    []abi.Write
	staged   []change
	named    map[string]bool // services that have been staged, or need not be
}

// change is what becomes of one service when its word is stored.
type change struct {
	service *service
	want    state.Service
	ids     []uint32 // parallel to want.Backends
	isNew   bool
	word    abi.Service
	slots   []abi.Slot
	refs    []uint32
	moved   bool // to a block of its own
}

// stage reserves all that a service needs. If something is missing it reserves nothing.
func (p *publication) stage(want *state.Service, now time.Time) (err error) {
	r := p.registry
	if p.named[want.Name] {
		return errors.New("named twice; the first counts")
	}
	c := change{service: r.services[want.Name]}
	if c.service != nil && p.stands(c.service, want) {
		p.named[want.Name] = true
		return nil
	}
	if c.service == nil {
		if c.service, err = r.create(want.Name); err != nil {
			return err
		}
		c.isNew = true
	}
	c.word = abi.Service{Flags: abi.ServiceInUse, Algorithm: uint16(want.Algorithm), Block: c.service.word.Block}
	c.word.Flags |= serviceFlags(want)
	defer func() {
		if err != nil {
			p.undo(c, now)
		}
	}()

	ids := make([]uint32, len(want.Backends))
	c.want, c.ids = cloneService(want), ids
	for i := range want.Backends {
		ids[i], err = r.backends.acquire(&want.Backends[i], p.entries)
		if err != nil {
			return err
		}
		// Held from now on, so that a later one cannot take the id away.
		if at, found := slices.BinarySearch(c.refs, ids[i]); !found {
			c.refs = slices.Insert(c.refs, at, ids[i])
			r.backends.hold(ids[i : i+1])
		}
	}
	c.slots = r.backends.layout(want, ids)
	if c.service.slots == nil || !slices.Equal(c.slots, c.service.slots) {
		if err := p.move(&c); err != nil {
			return err
		}
	}
	p.staged = append(p.staged, c)
	p.named[want.Name] = true
	return nil
}

// stands reports whether the tables hold a service as it is wanted, and its backends too.
func (p *publication) stands(s *service, want *state.Service) bool {
	if s.want == nil || !s.retiredAt.IsZero() || !equalServices(s.want, want) {
		return false
	}
	b := &p.registry.backends
	for i, id := range s.ids {
		// Another service that names the backend may have it written otherwise.
		at := &b.all[id]
		if makeEntry(&want.Backends[i], at.endpoint, at.next) != at.entry {
			return false
		}
	}
	for _, id := range s.ids {
		delete(p.entries, id) // as in acquire: of two services that disagree the last one counts
	}
	return true
}

func equalServices(a, b *state.Service) bool {
	return a.Name == b.Name && a.Algorithm == b.Algorithm && a.PreferLocal == b.PreferLocal && a.LocalOnly == b.LocalOnly &&
		a.Affinity == b.Affinity && (a.Sources == nil) == (b.Sources == nil) && slices.Equal(a.Backends, b.Backends)
}

// cloneService returns a copy that shares nothing with what the caller may change.
func cloneService(s *state.Service) state.Service {
	c := *s
	c.Backends = slices.Clone(s.Backends)
	return c
}

func serviceFlags(want *state.Service) (flags uint32) {
	for _, f := range []struct {
		set  bool
		flag uint32
	}{
		{want.PreferLocal, abi.ServicePreferLocal},
		{want.LocalOnly, abi.ServiceLocalOnly},
		{want.Affinity, abi.ServiceAffinity},
		{want.Sources != nil, abi.ServiceRestricted},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}

// move gives the service a block of its own for its slots.
func (p *publication) move(c *change) error {
	var offset uint32
	if n := len(c.slots); n > 0 {
		var ok bool
		if offset, ok = p.registry.blocks.alloc(uint32(n)); !ok {
			return &FullError{Map: "kg_slots", Flag: "--max-slots", Size: int(p.registry.blocks.size)}
		}
	}
	c.moved = true
	generation := abi.Block(c.word.Block).Generation() + 1
	c.word.Block = uint64(abi.MakeBlock(offset, uint16(len(c.slots)), generation))
	p.slots = append(p.slots, writeSlots(offset, c.slots)...)
	return nil
}

// undo gives back what stage reserved. No reader has seen it, so no quarantine is needed.
func (p *publication) undo(c change, now time.Time) {
	r := p.registry
	r.backends.drop(c.refs, now)
	if b := abi.Block(c.word.Block); c.moved && b.Count() > 0 {
		r.blocks.free(b.Offset(), uint32(b.Count()))
	}
	if c.isNew {
		r.discard(c.service)
	}
}

// commit writes what was staged and returns how many services changed. Services whose
// word did not reach the table keep what they had.
func (p *publication) commit(now time.Time) (published int, err error) {
	r := p.registry
	if err := r.write(append(r.backends.writes(p.entries), p.slots...)); err != nil {
		r.backends.doubt(p.entries)
		for _, c := range p.staged {
			p.undo(c, now)
		}
		return 0, err
	}
	r.backends.written(p.entries)

	var words []abi.Write
	for _, c := range p.staged {
		if c.word != c.service.word {
			words = append(words, writeService(c.service.id, c.word))
		}
	}
	err = r.write(words)
	for _, c := range p.staged {
		if c.word == c.service.word { // only who holds which backend has changed
			r.backends.drop(c.service.refs, now)
			c.service.refs, c.service.retiredAt = c.refs, time.Time{}
			c.service.want, c.service.ids = &c.want, c.ids
			continue
		}
		// After an error the table itself says who made it.
		if err != nil && r.tables.Service(c.service.id) != c.word {
			p.undo(c, now)
			continue
		}
		r.replace(c, now)
		published++
	}
	return published, err
}

// replace makes a stored change the service's state and retires what it had.
func (r *Registry) replace(c change, now time.Time) {
	s := c.service
	if c.moved {
		if s.owned {
			r.blocks.retire(abi.Block(s.word.Block), now)
		}
		s.owned = len(c.slots) > 0
		s.slots = c.slots
	}
	r.backends.drop(s.refs, now)
	s.word, s.refs, s.retiredAt = c.word, c.refs, time.Time{}
	s.want, s.ids = &c.want, c.ids
	s.want, s.ids = &c.want, c.ids
}

// create takes an id for a new service and stores its name.
func (r *Registry) create(name string) (*service, error) {
	stored, ok := abi.MakeServiceName(name)
	if !ok || name == "" {
		return nil, errors.New("the name is empty, or longer than 255 bytes, or contains a zero byte")
	}
	id, ok := r.freeIDs.pop()
	if !ok {
		return nil, &FullError{Map: "kg_services", Flag: "--max-services", Size: len(r.byID)}
	}
	if err := r.tables.SetName(id, stored); err != nil {
		r.freeIDs.unpop(id)
		return nil, err
	}
	s := &service{id: id, name: name, word: r.tables.Service(id)}
	r.byID[id], r.services[name] = s, s
	return s, nil
}

// discard gives back the id of a service that was never published. Its name may stay in
// the table; an id that is not in use has none.
func (r *Registry) discard(s *service) {
	delete(r.services, s.name)
	r.byID[s.id] = nil
	r.freeIDs.unpop(s.id)
	_ = r.tables.SetName(s.id, abi.ServiceName{})
}

func (r *Registry) write(writes []abi.Write) error {
	if len(writes) == 0 {
		return nil
	}
	return r.tables.Write(writes)
}
