package view

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
)

// memory returns tables in anonymous files, which map as the kernel's do.
func memory(t testing.TB, services, slots, backends uint32) []Map {
	t.Helper()
	maps := []Map{
		{Name: "kg_services", MaxEntries: services, ValueSize: uint32(unsafe.Sizeof(abi.Service{}))},
		{Name: "kg_slots", MaxEntries: slots, ValueSize: uint32(unsafe.Sizeof(abi.Slot{}))},
		{Name: "kg_backends", MaxEntries: backends, ValueSize: uint32(unsafe.Sizeof(abi.Backend{}))},
		{Name: "kg_backend_load", MaxEntries: backends * abi.Generations, ValueSize: uint32(unsafe.Sizeof(abi.BackendLoad{})), Writable: true},
		{Name: "kg_workers", MaxEntries: abi.Workers, ValueSize: uint32(unsafe.Sizeof(abi.Worker{})), Writable: true},
		{Name: "kg_generations", MaxEntries: abi.Generations, ValueSize: uint32(unsafe.Sizeof(abi.Generation{}))},
	}
	for i := range maps {
		fd, err := unix.MemfdCreate(maps[i].Name, unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.Ftruncate(fd, int64(maps[i].MaxEntries*maps[i].ValueSize+4095)&^4095); err != nil {
			t.Fatal(err)
		}
		maps[i].FD = fd
	}
	return maps
}

// writable maps one of the tables as its writer would.
func writable[E any](t testing.TB, m Map) []E {
	t.Helper()
	mem, err := unix.Mmap(m.FD, 0, int(m.MaxEntries*m.ValueSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(mem))), m.MaxEntries)
}

func mustOpen(t testing.TB, maps []Map) *View {
	t.Helper()
	v, err := Open(maps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func TestOpenRefusesOtherLayouts(t *testing.T) {
	for name, spoil := range map[string]func([]Map){
		"kg_slots has entries of 4 bytes":       func(m []Map) { m[1].ValueSize = 4 },
		"kg_services has no entries":            func(m []Map) { m[0].MaxEntries = 0 },
		"kg_workers was given read-only":        func(m []Map) { m[4].Writable = false },
		"kg_backend_load has 63 entries":        func(m []Map) { m[3].MaxEntries = 63 },
		"kg_generations was not given":          func(m []Map) { m[5].Name = "kg_other" },
		"kg_services into memory":               func(m []Map) { m[0].FD = -1 },
		"kg_workers and kg_generations have 16": func(m []Map) { m[4].MaxEntries = 16 },
	} {
		maps := memory(t, 4, 8, 16)
		spoil(maps)
		if v, err := Open(maps); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
			if err == nil {
				v.Close()
			}
		}
	}
}

// What damaged tables say never leads outside of them.
func TestIndicesOutOfRange(t *testing.T) {
	maps := memory(t, 4, 8, 16)
	services := writable[abi.Service](t, maps[0])
	slots := writable[abi.Slot](t, maps[1])
	v := mustOpen(t, maps)
	services[1].Block = uint64(abi.MakeBlock(0xffff_fff0, 0xffff, 1))
	services[2].Block = uint64(abi.MakeBlock(0, 2, 1))
	slots[0].Backend, slots[1].Backend = 0xffff_ffff, 3
	for _, service := range []uint32{0, 1, 2, 3, 4, 0xffff_ffff} {
		for i := range uint32(3) {
			if b, ok := v.Backend(service, i); ok {
				t.Errorf("service %d leads to %+v", service, b)
			}
		}
	}
	if v.Slot(abi.MakeBlock(0, 2, 1), -1) != 0 || v.Slot(abi.MakeBlock(0, 2, 1), 2) != 0 {
		t.Error("a slot outside of the block has a backend")
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	maps := memory(t, 4, 8, 16)
	writable[abi.Backend](t, maps[2])[3] = entry(1000)
	writable[abi.Slot](t, maps[1])[0].Backend = 3
	writable[abi.Service](t, maps[0])[1].Block = uint64(abi.MakeBlock(0, 1, 1))
	v := mustOpen(t, maps)
	want := netip.MustParseAddrPort("10.0.0.1:1000")
	if n := testing.AllocsPerRun(1000, func() {
		if b, ok := v.Backend(1, 7); !ok || b.Address != want || b.ID != 3 {
			t.Fatalf("backend %+v, %v; want %v", b, ok, want)
		}
		v.Load(6, 3).InFlight++
	}); n != 0 {
		t.Errorf("%v allocations per read", n)
	}
	if v.Loads[2*16+3].InFlight == 0 {
		t.Error("Load of generation 6 is not in slot 2")
	}
}

func entry(port uint16) abi.Backend {
	return abi.Backend{
		Address: abi.AddressOf(netip.MustParseAddr("10.0.0.1")), Port: abi.PortOf(port),
		Protocol: 6, Flags: abi.BackendInUse, Generation: uint32(port), Weight: 1, Node: uint32(port),
	}
}

// The reading protocol against a writer that follows its side of it, both in Go, so that
// the race detector has a say: a backend's fields always belong together.
func TestReadersNeverMixVersions(t *testing.T) {
	maps := memory(t, 2, 64, 64)
	services := writable[abi.Service](t, maps[0])
	slots := writable[abi.Slot](t, maps[1])
	backends := writable[abi.Backend](t, maps[2])
	v := mustOpen(t, maps)
	publish := func(n uint16) {
		at := uint32(1 + n%32) // reused long after it was given up, and while nothing leads there
		words := entry(1000 + n)
		store(&backends[at], &words)
		atomic.StoreUint32(&slots[at].Backend, at)
		atomic.StoreUint64(&services[1].Block, uint64(abi.MakeBlock(at, 1, n)))
	}
	publish(0)
	var stop atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() {
		for !stop.Load() {
			b, ok := v.Backend(1, 0)
			if !ok || b.Generation != uint32(b.Address.Port()) {
				t.Errorf("backend %+v, %v: parts of two versions", b, ok)
				return
			}
		}
	})
	for n := range 40000 {
		publish(uint16(n))
	}
	stop.Store(true)
	reader.Wait()
}

// store writes an entry word by word, as kg_publish does.
func store(to, from *abi.Backend) {
	const words = unsafe.Sizeof(*to) / 8
	dst, src := (*[words]uint64)(unsafe.Pointer(to)), (*[words]uint64)(unsafe.Pointer(from))
	for i := range src {
		atomic.StoreUint64(&dst[i], src[i])
	}
}
