package view

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/kerngate/kerngate/loader/abi"
)

// Backend is a consistent copy of a backend's entry.
type Backend struct {
	ID         uint32
	Generation uint32 // changes when the id is given to another address and port
	Address    netip.AddrPort
	Protocol   uint8
	Flags      uint8 // abi.BackendLocal, abi.BackendDraining
	Weight     uint16
}

// Block returns the block that a service has at this moment. An id out of range has none.
func (v *View) Block(service uint32) abi.Block {
	if uint64(service) >= uint64(len(v.Services)) {
		return 0
	}
	return abi.Block(atomic.LoadUint64(&v.Services[service].Block))
}

// Slot returns the backend id in slot i of a block; 0 if there is no such slot. It means
// something only if the service still has this block afterwards: see Current.
func (v *View) Slot(b abi.Block, i int) uint32 {
	index := uint64(b.Offset()) + uint64(i)
	if i < 0 || i >= int(b.Count()) || index >= uint64(len(v.Slots)) {
		return 0
	}
	return atomic.LoadUint32(&v.Slots[index].Backend)
}

// Current reports whether a service still has the block, so that what was read through it
// in between belongs together. If not, read the block again and start over.
func (v *View) Current(service uint32, b abi.Block) bool { return v.Block(service) == b }

// Entry returns a copy of a backend's entry. As with Slot, check Current afterwards.
func (v *View) Entry(backend uint32) (Backend, bool) {
	if backend == 0 || uint64(backend) >= uint64(len(v.Backends)) {
		return Backend{}, false
	}
	e := load(&v.Backends[backend])
	return Backend{
		ID:         backend,
		Generation: e.Generation,
		Address:    e.AddrPort(),
		Protocol:   e.Protocol,
		Flags:      e.Flags,
		Weight:     e.Weight,
	}, e.Flags&abi.BackendInUse != 0
}

// Backend returns the backend in slot i (modulo the number of slots) of a service. It
// reports false if the service has no endpoint. The result was published as a whole: it
// is never mixed from two updates, nor read from a block that was given up meanwhile.
func (v *View) Backend(service uint32, i uint32) (Backend, bool) {
	for {
		block := v.Block(service)
		if block.Count() == 0 {
			return Backend{}, false
		}
		b, ok := v.Entry(v.Slot(block, int(i%uint32(block.Count()))))
		if v.Current(service, block) {
			return b, ok
		}
		// Published anew while we read. The writer needs a second or more before it may
		// reuse what we looked at, so this does not go on.
	}
}

// Load returns the load of a backend as seen by one proxy generation.
func (v *View) Load(generation, backend uint32) *abi.BackendLoad {
	return &v.Loads[int(generation%abi.Generations)*len(v.Backends)+int(backend)]
}

// load copies an entry word by word with acquiring loads: plain ones might be delayed past
// the check of the block that follows (arm64).
func load(b *abi.Backend) (e abi.Backend) {
	const words = unsafe.Sizeof(e) / 8
	from := (*[words]uint64)(unsafe.Pointer(b))
	to := (*[words]uint64)(unsafe.Pointer(&e))
	for i := range from {
		to[i] = atomic.LoadUint64(&from[i])
	}
	return e
}
