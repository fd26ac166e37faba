// Package fake holds the kernel's tables in memory, for tests of what is written to them.
// They can be told to fail, which the kernel's cannot.
package fake

import (
	"errors"
	"math/rand/v2"
	"unsafe"

	"github.com/kerngate/kerngate/loader/abi"
)

// ErrInjected is the error of an operation that was made to fail.
var ErrInjected = errors.New("injected fault")

// Tables implements registry.Tables.
type Tables struct {
	Services []abi.Service
	Names    []abi.ServiceName
	Slots    []abi.Slot
	Backends []abi.Backend

	// Faults is the chance of each operation to fail, in percent. A Write that fails has
	// done an arbitrary part of its list.
	Faults int
	// OnWrite, if set, is called after each single write, as a reader would be that runs
	// at this moment.
	OnWrite func()

	random *rand.Rand
}

// New returns empty tables; seed makes the faults repeatable.
func New(services, backends, slots int, seed uint64) *Tables {
	return &Tables{
		Services: make([]abi.Service, services),
		Names:    make([]abi.ServiceName, services),
		Slots:    make([]abi.Slot, slots),
		Backends: make([]abi.Backend, backends),
		random:   rand.New(rand.NewPCG(seed, seed)),
	}
}

func (t *Tables) fails() bool { return t.random.IntN(100) < t.Faults }

// Write implements registry.Tables.
func (t *Tables) Write(writes []abi.Write) error {
	if !t.fails() {
		t.store(writes)
		return nil
	}
	t.store(writes[:t.random.IntN(len(writes)+1)])
	return ErrInjected
}

func (t *Tables) store(writes []abi.Write) {
	for i := range writes {
		w := &writes[i]
		switch w.Table {
		case abi.TableServices:
			t.Services[w.Index] = *(*abi.Service)(unsafe.Pointer(&w.Words))
		case abi.TableBackends:
			t.Backends[w.Index] = *(*abi.Backend)(unsafe.Pointer(&w.Words))
		case abi.TableSlots:
			slots := (*[abi.WriteWords]abi.Slot)(unsafe.Pointer(&w.Words))
			copy(t.Slots[w.Index:], slots[:w.Count])
		default:
			panic("write to a table that the registry has no business with")
		}
		if t.OnWrite != nil {
			t.OnWrite()
		}
	}
}

// Service implements registry.Tables.
func (t *Tables) Service(id uint32) abi.Service { return t.Services[id] }

// SetName implements registry.Tables.
func (t *Tables) SetName(id uint32, name abi.ServiceName) error {
	if t.fails() {
		return ErrInjected
	}
	t.Names[id] = name
	return nil
}

// ResetLoad implements registry.Tables. Loads are not kept here.
func (t *Tables) ResetLoad(backend, generation uint32) {}

// Entries implements registry.Entries over a map.
type Entries[K, V comparable] struct {
	Have   map[K]V
	Full   int // number of entries that fit, 0: any
	Faults int // as in Tables
	random *rand.Rand
}

// NewEntries returns an empty table.
func NewEntries[K, V comparable](seed uint64) *Entries[K, V] {
	return &Entries[K, V]{Have: make(map[K]V), random: rand.New(rand.NewPCG(seed, seed))}
}

// Put implements registry.Entries. One that fails may have stored the value.
func (e *Entries[K, V]) Put(k K, v V) error {
	failed := e.random.IntN(100) < e.Faults
	if _, ok := e.Have[k]; e.Full > 0 && !ok && len(e.Have) >= e.Full {
		return errors.New("full")
	}
	if !failed || e.random.IntN(2) == 0 {
		e.Have[k] = v
	}
	if failed {
		return ErrInjected
	}
	return nil
}

// Delete implements registry.Entries. One that fails may have deleted the entry.
func (e *Entries[K, V]) Delete(k K) error {
	failed := e.random.IntN(100) < e.Faults
	if !failed || e.random.IntN(2) == 0 {
		delete(e.Have, k)
	}
	if failed {
		return ErrInjected
	}
	return nil
}
