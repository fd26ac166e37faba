package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/fabric"
	"github.com/kerngate/kerngate/loader/state"
)

// endpoint is what makes a backend: all services that name the same one share its id.
type endpoint struct {
	address  netip.AddrPort
	protocol state.Protocol
}

// backends mirrors kg_backends.
type backends struct {
	all     []backend // index: backend id
	ids     map[endpoint]uint32
	freeIDs queue // longest unused first
	leaving []leaver
}

type backend struct {
	entry     abi.Backend // as stored; a free id keeps its last generation
	next      uint32      // generation, while the id is taken but not yet stored
	endpoint  endpoint
	refs      int // services that hold it
	taken     bool
	retiredAt time.Time // since when refs is 0
}

type leaver struct {
	id uint32
	at time.Time
}

func newBackends(entries []abi.Backend) backends {
	b := backends{all: make([]backend, len(entries)), ids: make(map[endpoint]uint32)}
	for id := 1; id < len(entries); id++ {
		e := &entries[id]
		at := &b.all[id]
		at.entry = *e
		key := endpoint{e.AddrPort(), state.Protocol(e.Protocol)}
		if _, twice := b.ids[key]; e.Flags&abi.BackendInUse == 0 || twice {
			b.freeIDs.push(uint32(id))
			continue
		}
		at.endpoint, at.taken, at.next = key, true, e.Generation
		b.ids[key] = uint32(id)
	}
	return b
}

// has reports whether a slot names a backend as it is now.
func (b *backends) has(s abi.Slot) bool {
	return s.Backend > 0 && uint64(s.Backend) < uint64(len(b.all)) && b.all[s.Backend].taken &&
		b.all[s.Backend].entry.Generation == s.Generation
}

func (b *backends) generation(id uint32) uint32 { return b.all[id].next }

func (b *backends) len() int { return len(b.ids) }

// acquire returns the id of a backend, a new one if need be, and notes in entries what
// must be written before anybody is led to it. The caller must hold the id.
func (b *backends) acquire(want *state.Backend, entries map[uint32]abi.Backend) (uint32, error) {
	key := endpoint{
		netip.AddrPortFrom(want.Address.Addr().Unmap().WithZone(""), want.Address.Port()),
		want.Protocol,
	}
	if !key.address.IsValid() || key.address.Port() == 0 {
		return 0, fmt.Errorf("backend address %v is not one", want.Address)
	}
	id, ok := b.ids[key]
	if !ok {
		if id, ok = b.freeIDs.pop(); !ok {
			return 0, &FullError{Map: "kg_backends", Flag: "--max-backends", Size: len(b.all)}
		}
		at := &b.all[id]
		at.endpoint, at.taken, at.refs = key, true, 0
		at.next = at.entry.Generation + 1
		b.ids[key] = id
	}
	entry := makeEntry(want, key, b.all[id].next)
	if entry != b.all[id].entry {
		entries[id] = entry
	} else {
		delete(entries, id) // of two services that disagree the last one counts
	}
	return id, nil
}

func makeEntry(want *state.Backend, key endpoint, generation uint32) abi.Backend {
	e := abi.Backend{
		Address:    abi.AddressOf(key.address.Addr()),
		Port:       abi.PortOf(key.address.Port()),
		Protocol:   uint8(key.protocol),
		Flags:      abi.BackendInUse,
		Generation: generation,
		Weight:     max(1, want.Weight),
		Node:       fabric.ID(want.Node),
	}
	if want.Local {
		e.Flags |= abi.BackendLocal
	}
	if want.Draining {
		e.Flags |= abi.BackendDraining
	}
	return e
}

// BackendID returns the id of a backend that is in the tables.
func (r *Registry) BackendID(address netip.AddrPort, protocol state.Protocol) (state.BackendID, bool) {
	id, ok := r.backends.ids[endpoint{address, protocol}]
	return state.BackendID(id), ok
}

func (b *backends) hold(ids []uint32) {
	for _, id := range ids {
		b.all[id].refs++
	}
}

// drop takes references back. Who has none left leaves after the quarantine.
func (b *backends) drop(ids []uint32, now time.Time) {
	for _, id := range ids {
		if b.all[id].refs--; b.all[id].refs == 0 {
			b.retire(id, now)
		}
	}
}

func (b *backends) retire(id uint32, now time.Time) {
	b.all[id].retiredAt = now
	b.leaving = append(b.leaving, leaver{id, now})
}

// retireUnused lets go of what was restored but is in no block, unless the first Apply
// asks for it again: backends that drain, and those of an update cut short by a crash.
func (b *backends) retireUnused(now time.Time) {
	for id := range b.all {
		if b.all[id].taken && b.all[id].refs == 0 {
			b.retire(uint32(id), now)
		}
	}
}

// writes returns the entries as writes.
func (b *backends) writes(entries map[uint32]abi.Backend) []abi.Write {
	out := make([]abi.Write, 0, len(entries))
	for id, e := range entries {
		if b.all[id].taken {
			out = append(out, writeBackend(id, e))
		}
	}
	return out
}

// written notes that the entries are in the table.
func (b *backends) written(entries map[uint32]abi.Backend) {
	for id, e := range entries {
		b.all[id].entry = e
	}
}

// doubt notes that the entries may be in the table or not, so that they are written anew
// whatever is wanted next.
func (b *backends) doubt(entries map[uint32]abi.Backend) {
	for id := range entries {
		b.all[id].entry = abi.Backend{Generation: b.all[id].entry.Generation}
	}
}

// free clears the entries whose quarantine is over and returns how many.
func (b *backends) free(tables Tables, now time.Time) (freed int, err error) {
	var errs []error
	kept := b.leaving[:0]
	for _, l := range b.leaving {
		at := &b.all[l.id]
		if !at.taken || at.refs > 0 || !at.retiredAt.Equal(l.at) {
			continue // in use again, or listed again later
		}
		if now.Sub(l.at) < quarantine {
			kept = append(kept, l)
			continue
		}
		// The generation stays, so that the next holder's is another.
		empty := abi.Backend{Generation: at.next}
		if err := tables.Write([]abi.Write{writeBackend(l.id, empty)}); err != nil {
			errs = append(errs, fmt.Errorf("free backend %v (id %d): %w", at.endpoint.address, l.id, err))
			at.entry = empty // it may be: who wants it again must write it again
			kept = append(kept, l)
			continue
		}
		tables.ResetLoad(l.id, at.next+1)
		delete(b.ids, at.endpoint)
		*at = backend{entry: empty}
		b.freeIDs.push(l.id)
		freed++
	}
	b.leaving = kept
	return freed, errors.Join(errs...)
}
