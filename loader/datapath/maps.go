// Package datapath is what runs in the kernel, as Go sees it: the compiled programs, and their maps
// with the types of their keys and values.
package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"reflect"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
)

// Maps are all maps; see bpf/maps.h. A map that an earlier agent did not have is not open where the
// pins are its: see Added.
type Maps struct {
	Listeners     Map[abi.ListenerKey, abi.Listener]     `ebpf:"kg_listeners"`
	Addresses     Map[abi.Address, abi.AddressInfo]      `ebpf:"kg_addresses"`
	AddressSlots  Map[uint32, abi.AddressSlot]           `ebpf:"kg_address_slots"`
	Sockets       Map[uint32, uint64]                    `ebpf:"kg_sockets"`
	Sinks         Map[uint32, uint64]                    `ebpf:"kg_sinks"`
	Workers       Map[uint32, abi.Worker]                `ebpf:"kg_workers"`
	Services      Map[uint32, abi.Service]               `ebpf:"kg_services"`
	ServiceNames  Map[uint32, abi.ServiceName]           `ebpf:"kg_service_names"`
	Slots         Map[uint32, abi.Slot]                  `ebpf:"kg_slots"`
	Backends      Map[uint32, abi.Backend]               `ebpf:"kg_backends"`
	BackendLoad   Map[uint32, abi.BackendLoad]           `ebpf:"kg_backend_load"`
	Generations   Map[uint32, abi.Generation]            `ebpf:"kg_generations"`
	Meta          Map[uint32, abi.Meta]                  `ebpf:"kg_meta"`
	Lists                                                // kg_deny, kg_allow and the sieve
	Defence       Map[uint32, abi.Defence]               `ebpf:"kg_defence"`
	Rate          Map[uint32, abi.Rate]                  `ebpf:"kg_rate"`
	Syns          PerCPU[abi.Syns]                       `ebpf:"kg_syns"`
	Sources       Map[abi.Source, abi.PrefixInfo]        `ebpf:"kg_sources"`
	Flows         Map[abi.FlowKey, abi.Flow]             `ebpf:"kg_flows"`
	Loose         Map[abi.FlowKey, abi.Flow]             `ebpf:"kg_loose"`
	Opening       Map[abi.FlowKey, abi.Flow]             `ebpf:"kg_opening"`
	Fragments     Map[abi.FragmentKey, abi.Fragment]     `ebpf:"kg_fragments"`
	Nodes         Map[uint32, abi.Node]                  `ebpf:"kg_nodes"`
	NodeAddresses Map[abi.Address, abi.NodeAddress]      `ebpf:"kg_node_addresses"`
	Fabric        Map[uint32, abi.SlotOwners]            `ebpf:"kg_fabric"`
	LocalBackends Map[abi.ListenerKey, abi.LocalBackend] `ebpf:"kg_local_backends"`
	Clock         PerCPU[[2]uint64]                      `ebpf:"kg_clock"`
	Events        Map[struct{}, struct{}]                `ebpf:"kg_events"`
	Watch         Map[uint32, abi.Watch]                 `ebpf:"kg_watch"`
	EventBudgets  PerCPU[abi.EventBudget]                `ebpf:"kg_event_budgets"`
	Counters      PerCPU[uint64]                         `ebpf:"kg_counters"`
}

// Lists are the maps of the prefix lists, for those who need no others.
type Lists struct {
	Deny       Map[abi.Prefix, abi.PrefixInfo] `ebpf:"kg_deny"`
	Allow      Map[abi.Prefix, abi.PrefixInfo] `ebpf:"kg_allow"`
	SieveV4    Map[uint32, uint64]             `ebpf:"kg_sieve_v4"`
	SieveV6    Map[uint32, abi.SieveSlot]      `ebpf:"kg_sieve_v6"`
	SieveHosts Map[uint32, abi.SieveBucket]    `ebpf:"kg_sieve_hosts"`
}

// Events are the maps of those who watch packets.
type Events struct {
	Events       Map[struct{}, struct{}]            `ebpf:"kg_events"`
	Watch        Map[uint32, abi.Watch]             `ebpf:"kg_watch"`
	Listeners    Map[abi.ListenerKey, abi.Listener] `ebpf:"kg_listeners"`
	ServiceNames Map[uint32, abi.ServiceName]       `ebpf:"kg_service_names"`
	Opening      Map[abi.FlowKey, abi.Flow]         `ebpf:"kg_opening"`
	Flows        Map[abi.FlowKey, abi.Flow]         `ebpf:"kg_flows"`
	Loose        Map[abi.FlowKey, abi.Flow]         `ebpf:"kg_loose"`
}

// Map is a map of the kernel, with the types of its keys and values.
type Map[K, V any] struct{ table }

// PerCPU is a map with a value for each CPU; keys count from 0.
type PerCPU[V any] struct{ table }

// table is what all maps have.
type table struct {
	name string
	m    *ebpf.Map
}

// Name returns the map's name, "kg_" and what it holds.
func (t table) Name() string { return t.name }

// Map returns the map without its types, for what takes any. It is nil if the map is not open.
func (t table) Map() *ebpf.Map { return t.m }

// Len returns how many entries the map can have.
func (t table) Len() int { return int(t.m.MaxEntries()) }

// Get returns the value of a key.
func (m Map[K, V]) Get(k K) (v V, err error) {
	if err := m.m.Lookup(&k, &v); err != nil {
		return v, fmt.Errorf("read %s: %w", m.name, err)
	}
	return v, nil
}

// Has reports whether there is an entry of the key.
func (m Map[K, V]) Has(k K) bool {
	_, err := m.Get(k)
	return err == nil
}

// Put gives a key a value. The error wraps the kernel's, as those of the other methods do.
func (m Map[K, V]) Put(k K, v V) error {
	if err := m.m.Put(&k, &v); err != nil {
		return fmt.Errorf("write %s: %w", m.name, err)
	}
	return nil
}

// Delete removes a key; one that is not there is no error.
func (m Map[K, V]) Delete(k K) error {
	if err := m.m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete from %s: %w", m.name, err)
	}
	return nil
}

// Batch fills keys and values with entries from the cursor on, and returns how many there were.
// The error wraps ebpf.ErrKeyNotExist when these were the last.
func (m Map[K, V]) Batch(cursor *ebpf.MapBatchCursor, keys []K, values []V) (int, error) {
	n, err := m.m.BatchLookup(cursor, keys, values, nil)
	if err != nil {
		err = fmt.Errorf("read %s: %w", m.name, err)
	}
	return n, err
}

// Get returns the values of a key by CPU.
func (m PerCPU[V]) Get(k uint32) (values []V, err error) {
	if err := m.m.Lookup(&k, &values); err != nil {
		return nil, fmt.Errorf("read %s: %w", m.name, err)
	}
	return values, nil
}

// ReadAll returns all of a hash or LPM map, which nobody must change meanwhile.
func ReadAll[K comparable, V any](m Map[K, V]) (map[K]V, error) {
	have := make(map[K]V)
	if m.m.Type() == ebpf.LPMTrie {
		return have, readBatches(m, have)
	}
	var k K
	var v V
	entries := m.m.Iterate()
	for entries.Next(&k, &v) {
		have[k] = v
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", m.name, err)
	}
	return have, nil
}

// readBatches reads an LPM map a thousand entries at a time: with 100,000 that takes a
// fraction of the time of two system calls for each.
func readBatches[K comparable, V any](m Map[K, V], have map[K]V) error {
	const batch = 1024
	keys, values := make([]K, batch), make([]V, batch)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.Batch(&cursor, keys, values)
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

// bind makes the map one of these types.
func (m *Map[K, V]) bind(name string, raw *ebpf.Map) error {
	var k K
	var v V
	m.table = table{name, raw}
	return m.check(unsafe.Sizeof(k), unsafe.Sizeof(v))
}

func (m *PerCPU[V]) bind(name string, raw *ebpf.Map) error {
	var v V
	m.table = table{name, raw}
	return m.check(4, unsafe.Sizeof(v))
}

// check compares sizes of key and value with those of the map in the kernel.
func (t table) check(key, value uintptr) error {
	if k, v := uintptr(t.m.KeySize()), uintptr(t.m.ValueSize()); k != key || v != value {
		return fmt.Errorf("%s has keys of %d and values of %d bytes, not of %d and %d: run `kerngate-agent --uninstall` once", t.name, k, v, key, value)
	}
	return nil
}

// bound is a field of Maps and its like.
type bound interface {
	bind(name string, raw *ebpf.Map) error
	Map() *ebpf.Map
}

// fields returns the maps of a struct such as Maps, by name.
func fields(of any) iter.Seq2[string, bound] {
	return func(yield func(string, bound) bool) { each(reflect.ValueOf(of).Elem(), yield) }
}

func each(v reflect.Value, yield func(string, bound) bool) bool {
	for i := range v.NumField() {
		name, one := v.Type().Field(i).Tag.Lookup("ebpf")
		field := v.Field(i)
		if one && !yield(name, field.Addr().Interface().(bound)) || !one && !each(field, yield) {
			return false
		}
	}
	return true
}

// Bind makes maps the fields of a struct such as Maps.
func Bind(to any, maps map[string]*ebpf.Map) error {
	for name, field := range fields(to) {
		if maps[name] == nil {
			return fmt.Errorf("the programs have no map %s", name)
		}
		if err := field.bind(name, maps[name]); err != nil {
			return err
		}
	}
	return nil
}

// All returns the maps that are open, by name, in the order of the fields.
func (m *Maps) All() iter.Seq2[string, *ebpf.Map] { return Opened(m) }

// Opened returns the maps of a struct such as Maps that are open, by name.
func Opened(of any) iter.Seq2[string, *ebpf.Map] {
	return func(yield func(string, *ebpf.Map) bool) {
		for name, field := range fields(of) {
			if raw := field.Map(); raw != nil && !yield(name, raw) {
				return
			}
		}
	}
}

// ByName returns a map by its name, nil if there is none.
func (m *Maps) ByName(name string) *ebpf.Map {
	for at, raw := range m.All() {
		if at == name {
			return raw
		}
	}
	return nil
}

// Close closes the maps.
func (m *Maps) Close() error { return CloseAll(m) }

// Close closes the maps.
func (l *Lists) Close() error { return CloseAll(l) }

// Close closes the maps.
func (e *Events) Close() error { return CloseAll(e) }

// CloseAll closes the maps of a struct such as Maps.
func CloseAll(of any) error {
	var errs []error
	for _, raw := range Opened(of) {
		errs = append(errs, raw.Close())
	}
	reflect.ValueOf(of).Elem().SetZero()
	return errors.Join(errs...)
}

// OpenMaps opens the pinned maps of a running node.
func OpenMaps(folder string) (*Maps, error) { return openRunning[Maps](folder) }

// OpenLists opens the maps of its prefix lists.
func OpenLists(folder string) (*Lists, error) { return openRunning[Lists](folder) }

// OpenEvents opens the maps of those who watch it.
func OpenEvents(folder string) (*Events, error) { return openRunning[Events](folder) }

func openRunning[T any](folder string) (*T, error) {
	maps := new(T)
	for name, field := range fields(maps) {
		raw, err := ebpf.LoadPinnedMap(filepath.Join(folder, name), nil)
		switch {
		case errors.Is(err, fs.ErrNotExist) && isAdded(name):
			continue
		case errors.Is(err, fs.ErrNotExist):
			err = fmt.Errorf("no maps in %s: is kerngate-agent running on this node, with this --bpffs?", folder)
		case errors.Is(err, fs.ErrPermission):
			err = fmt.Errorf("open %s: run as root (CAP_BPF needed): %w", filepath.Join(folder, name), err)
		case err != nil:
			err = fmt.Errorf("open %s: %w", filepath.Join(folder, name), err)
		default:
			err = field.bind(name, raw)
		}
		if err != nil {
			return nil, errors.Join(err, CloseAll(maps))
		}
	}
	return maps, nil
}

// OpenSockets returns how many sockets of a proxy generation are open.
func (m *Maps) OpenSockets(number uint32, workers int) (n int) {
	for worker := range workers {
		for kind := range uint32(abi.WorkerSockets) {
			if m.Sockets.Has(abi.SocketIndex(number, worker, kind)) {
				n++
			}
		}
	}
	return n
}

// Monotonic returns CLOCK_MONOTONIC in nanoseconds, the clock of the programs.
func Monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot happen: the clock always exists
	}
	return uint64(ts.Nano())
}

// ID returns the id of a map.
func ID(m *ebpf.Map) (ebpf.MapID, error) {
	info, err := m.Info()
	if err != nil {
		return 0, err
	}
	id, ok := info.ID()
	if !ok {
		return 0, fmt.Errorf("the kernel gives maps no ids (>= 4.13 needed)")
	}
	return id, nil
}
