package loader

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/view"
)

// kernelTables is registry.Tables over the real maps.
type kernelTables struct {
	publish *ebpf.Program // kg_publish
	names   datapath.Map[uint32, abi.ServiceName]
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
	return t.names.Put(id, name)
}

// ResetLoad implements registry.Tables. Proxies that still count for the generation
// before notice that it is over by the entry's own generation.
func (t *kernelTables) ResetLoad(backend, generation uint32) {
	for slot := range uint32(abi.Generations) {
		clearLoad(t.view.Load(slot, backend), generation)
	}
}
