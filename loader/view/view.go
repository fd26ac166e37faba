// Package view maps the kernel's tables into memory and reads them without system calls.
// The proxy uses it on descriptors that the agent gives it; it needs no rights of its own.
package view

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
)

// Map is a descriptor of one kernel map, as the agent hands it out.
type Map struct {
	Name       string
	FD         int
	MaxEntries uint32
	ValueSize  uint32
	Writable   bool // the holder may map it for writing; the kernel refuses it for the others
}

// View is the tables as slices over shared memory; entry 0 of those with ids is unused.
// Read what others write with the methods or with package sync/atomic.
type View struct {
	Services    []abi.Service     // by service id
	Slots       []abi.Slot        // blocks, see abi.Block
	Backends    []abi.Backend     // by backend id
	Loads       []abi.BackendLoad // writable; by generation slot * len(Backends) + backend id
	Workers     []abi.Worker      // writable; by worker id
	Generations []abi.Generation  // by number % abi.Generations

	mappings [][]byte
}

// Open maps all tables. It refuses maps of another layout than this build's. The
// descriptors are not needed afterwards; they stay the caller's to close.
func Open(maps []Map) (*View, error) { return open(maps, true) }

// OpenReadOnly is Open for onlookers: nothing of the View may be written.
func OpenReadOnly(maps []Map) (*View, error) { return open(maps, false) }

func open(maps []Map, write bool) (_ *View, err error) {
	v := new(View)
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
		}
	}()
	byName := make(map[string]Map, len(maps))
	for _, m := range maps {
		byName[m.Name] = m
	}
	for _, e := range []error{
		mapTable(v, byName, "kg_services", false, &v.Services),
		mapTable(v, byName, "kg_slots", false, &v.Slots),
		mapTable(v, byName, "kg_backends", false, &v.Backends),
		mapTable(v, byName, "kg_backend_load", write, &v.Loads),
		mapTable(v, byName, "kg_workers", write, &v.Workers),
		mapTable(v, byName, "kg_generations", false, &v.Generations),
	} {
		if e != nil {
			return nil, e
		}
	}
	// Indices are computed from these relations without further checks.
	if len(v.Loads) != abi.Generations*len(v.Backends) {
		return nil, fmt.Errorf("map kg_backend_load has %d entries, want %d times the %d of kg_backends",
			len(v.Loads), abi.Generations, len(v.Backends))
	}
	if len(v.Workers) != abi.Workers || len(v.Generations) != abi.Generations {
		return nil, fmt.Errorf("maps kg_workers and kg_generations have %d and %d entries, want %d and %d: agent and proxy are of different versions",
			len(v.Workers), len(v.Generations), abi.Workers, abi.Generations)
	}
	return v, nil
}

// mapTable maps the named map and points table at its entries.
func mapTable[T any](v *View, maps map[string]Map, name string, write bool, table *[]T) error {
	m, ok := maps[name]
	if !ok {
		return fmt.Errorf("map %s was not given", name)
	}
	var entry T
	if size := uint32(unsafe.Sizeof(entry)); m.ValueSize != size {
		return fmt.Errorf("map %s has entries of %d bytes, want %d: agent and proxy are of different versions", name, m.ValueSize, size)
	}
	if m.MaxEntries == 0 {
		return fmt.Errorf("map %s has no entries", name)
	}
	prot := unix.PROT_READ
	if write {
		if !m.Writable {
			return fmt.Errorf("map %s was given read-only, but proxies write it", name)
		}
		prot |= unix.PROT_WRITE
	}
	page := os.Getpagesize()
	length := (int(m.MaxEntries)*int(m.ValueSize) + page - 1) &^ (page - 1)
	mem, err := unix.Mmap(m.FD, 0, length, prot, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map %s into memory: %w", name, err)
	}
	v.mappings = append(v.mappings, mem)
	*table = unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), m.MaxEntries)
	return nil
}

// Close unmaps the tables. Nothing of the View may be in use any more: a later access
// faults.
func (v *View) Close() error {
	var errs []error
	for _, mem := range v.mappings {
		errs = append(errs, unix.Munmap(mem))
	}
	*v = View{}
	return errors.Join(errs...)
}
