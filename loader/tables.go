package loader

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/registry"
	"github.com/kerngate/kerngate/loader/view"
)

// kernelTables is registry.Tables over the real maps.
type kernelTables struct {
	publish *ebpf.Program // kg_publish
	names   *ebpf.Map
	view    *view.View
	list    []abi.Write // what one run of kg_publish reads; on the heap, so that it stays put
}

// Write implements registry.Tables.
func (t *kernelTables) Write(writes []abi.Write) error {
	for len(writes) > 0 {
		n := copy(t.list, writes)
		if err := t.run(n); err != nil {
			return err
		}
		writes = writes[n:]
	}
	return nil
}

// run has kg_publish do the first n writes of the list.
func (t *kernelTables) run(n int) error {
	args := abi.WriteList{List: uint64(uintptr(unsafe.Pointer(&t.list[0]))), Count: uint32(n)}
	code, err := t.publish.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	runtime.KeepAlive(t.list)
	if err != nil {
		return fmt.Errorf("run kg_publish: %w", err)
	}
	if code != 0 {
		w := t.list[min(int(args.Count), n-1)]
		return fmt.Errorf("kg_publish stopped at write %d of %d (table %d, index %d)", args.Count, n, w.Table, w.Index)
	}
	return nil
}

// Service implements registry.Tables.
func (t *kernelTables) Service(id uint32) abi.Service {
	s := t.view.Services[id]
	s.Block = atomic.LoadUint64(&t.view.Services[id].Block)
	return s
}

// SetName implements registry.Tables.
func (t *kernelTables) SetName(id uint32, name abi.ServiceName) error {
	if err := t.names.Put(id, &name); err != nil {
		return fmt.Errorf("write kg_service_names: %w", err)
	}
	return nil
}

// ResetLoad implements registry.Tables. Proxies that still count for the generation
// before notice that it is over by the entry's own generation.
func (t *kernelTables) ResetLoad(backend, generation uint32) {
	for slot := range uint32(abi.Generations) {
		clearLoad(t.view.Load(slot, backend), generation)
	}
}

// hashTable is registry.Entries over a hash or LPM map.
type hashTable[K, V comparable] struct {
	name string
	m    *ebpf.Map
}

// Put implements registry.Entries.
func (t hashTable[K, V]) Put(k K, v V) error {
	err := t.m.Put(&k, &v)
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return &registry.FullError{Map: t.name, Flag: sizeFlags[t.name], Size: int(t.m.MaxEntries())}
	}
	return err
}

// Delete implements registry.Entries.
func (t hashTable[K, V]) Delete(k K) error {
	if err := t.m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// openHash reads a hash or LPM map and returns its mirror.
func openHash[K, V comparable](m *ebpf.Map, name string) (*registry.Hash[K, V], error) {
	have, err := readHash[K, V](m)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return registry.NewHash(name, hashTable[K, V]{name, m}, have), nil
}

// readHash returns all of a hash or LPM map, which nobody must change meanwhile.
func readHash[K, V comparable](m *ebpf.Map) (map[K]V, error) {
	have := make(map[K]V)
	if m.Type() == ebpf.LPMTrie {
		return have, readBatches(m, have)
	}
	var k K
	var v V
	entries := m.Iterate()
	for entries.Next(&k, &v) {
		have[k] = v
	}
	return have, entries.Err()
}

// readBatches reads an LPM map a thousand entries at a time: with 100,000 that takes a
// fraction of the time of two system calls for each.
func readBatches[K, V comparable](m *ebpf.Map, have map[K]V) error {
	const batch = 1024
	keys, values := make([]K, batch), make([]V, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			have[keys[i]] = values[i]
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // that was all
		}
		if err != nil {
			return err
		}
	}
}
