// Package inspect reads what programs and maps of a running node tell: for kerngatectl, with the agent
// or without it, and for the agent's metrics. It attaches nothing.
package inspect

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/lists"
	"github.com/kerngate/kerngate/loader/pins"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// Inspector reads the pinned maps of a running node. It changes nothing and needs no agent.
type Inspector struct {
	folder string
	maps   *datapath.Maps
	view   *view.View
}

// Open opens the maps pinned in bpffs.
func Open(bpffs string) (_ *Inspector, err error) {
	if bpffs == "" {
		bpffs = pins.DefaultBPFFS
	}
	folder, err := pins.Folder(bpffs)
	if err != nil {
		return nil, err
	}
	maps, err := datapath.OpenMaps(folder)
	if err != nil {
		return nil, err
	}
	i := &Inspector{folder: folder, maps: maps}
	var tables []view.Map
	for name, m := range i.maps.All() {
		tables = append(tables, view.Map{Name: name, FD: m.FD(), MaxEntries: m.MaxEntries(), ValueSize: m.ValueSize()})
	}
	if i.view, err = view.OpenReadOnly(tables); err != nil {
		return nil, errors.Join(err, maps.Close())
	}
	return i, nil
}

// Close releases the maps.
func (i *Inspector) Close() error {
	return errors.Join(i.view.Close(), i.maps.Close())
}

// Folder returns where the maps are pinned.
func (i *Inspector) Folder() string { return i.folder }

// Meta returns the entry of kg_meta.
func (i *Inspector) Meta() (abi.Meta, error) {
	return i.maps.Meta.Get(0)
}

// Listeners returns the published addresses, sorted.
func (i *Inspector) Listeners() ([]state.Listener, error) {
	entries, err := datapath.ReadAll(i.maps.Listeners)
	if err != nil {
		return nil, err
	}
	var out []state.Listener
	for k, v := range entries {
		l := state.Listener{Address: k.AddrPort(), Protocol: state.Protocol(k.Protocol), Mode: state.Mode(v.Mode)}
		if l.Mode == state.L4 {
			name, err := i.maps.ServiceNames.Get(v.Service)
			if err != nil {
				return nil, err
			}
			l.Service = name.String()
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b state.Listener) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out, nil
}

// Service is one service as the maps hold it.
type Service struct {
	ID          uint32
	Name        string
	Algorithm   uint16 // abi.AlgorithmP2C, AlgorithmRoundRobin, AlgorithmMaglev
	PreferLocal bool
	LocalOnly   bool
	Affinity    bool // L4: by the client's address alone
	Restricted  bool // L4: only sources in kg_sources
	Block       abi.Block
	Backends    []uint32 // backend ids in the order of the block's slots
}

// Services returns the services by id, those in their grace time included.
func (i *Inspector) Services() ([]Service, error) {
	var out []Service
	for id := range i.view.Services {
		entry := &i.view.Services[id]
		if entry.Flags&abi.ServiceInUse == 0 {
			continue
		}
		name, err := i.maps.ServiceNames.Get(uint32(id))
		if err != nil {
			return nil, err
		}
		s := Service{
			ID:          uint32(id),
			Name:        name.String(),
			Algorithm:   entry.Algorithm,
			PreferLocal: entry.Flags&abi.ServicePreferLocal != 0,
			LocalOnly:   entry.Flags&abi.ServiceLocalOnly != 0,
			Affinity:    entry.Flags&abi.ServiceAffinity != 0,
			Restricted:  entry.Flags&abi.ServiceRestricted != 0,
		}
		s.Block, s.Backends = i.slots(uint32(id))
		out = append(out, s)
	}
	return out, nil
}

// slots returns a service's block and what is in it, read in one piece.
func (i *Inspector) slots(service uint32) (abi.Block, []uint32) {
	for {
		block := i.view.Block(service)
		ids := make([]uint32, block.Count())
		for n := range ids {
			ids[n] = i.view.Slot(block, n)
		}
		if i.view.Current(service, block) {
			return block, ids
		}
	}
}

// Backend is one backend as the maps hold it, with its load over all proxies.
type Backend struct {
	ID         uint32
	Generation uint32
	Address    netip.AddrPort
	Protocol   state.Protocol
	Local      bool
	Draining   bool
	Weight     uint16
	InFlight   uint64
	Requests   uint64 // by the proxies that live
	Failures   uint64
	LatencyUS  uint32 // the highest of the proxies' moving averages
	Health     uint32 // abi.HealthEjected, HealthCheck: why the serving proxy passes it over, 0: usable
	Verdict    uint32 // what the serving proxy has found, even if it is set aside
	FoundNS    uint64 // CLOCK_MONOTONIC when the verdict changed last, 0: never
}

// Backends returns the backends by id.
func (i *Inspector) Backends() []Backend {
	var out []Backend
	for id := range i.view.Backends {
		e, ok := i.view.Entry(uint32(id))
		if !ok {
			continue
		}
		b := Backend{
			ID:         e.ID,
			Generation: e.Generation,
			Address:    e.Address,
			Protocol:   state.Protocol(e.Protocol),
			Local:      e.Flags&abi.BackendLocal != 0,
			Draining:   e.Flags&abi.BackendDraining != 0,
			Weight:     e.Weight,
		}
		for slot := range uint32(abi.Generations) {
			load := i.view.Load(slot, e.ID)
			if atomic.LoadUint32(&load.Generation) != e.Generation {
				continue // counted for who had the id before
			}
			b.InFlight += uint64(atomic.LoadUint32(&load.InFlight))
			b.Requests += atomic.LoadUint64(&load.Requests)
			b.Failures += atomic.LoadUint64(&load.Failures)
			b.LatencyUS = max(b.LatencyUS, atomic.LoadUint32(&load.LatencyUS))
			if i.view.Generations[slot].State == abi.GenerationServing {
				b.Health, b.Verdict = atomic.LoadUint32(&load.Health), atomic.LoadUint32(&load.Verdict)
				b.FoundNS = atomic.LoadUint64(&load.FoundNS)
			}
		}
		out = append(out, b)
	}
	return out
}

// FoundAgo returns how long the verdict has been as it is.
func (b *Backend) FoundAgo() time.Duration { return time.Duration(datapath.Monotonic() - b.FoundNS) }

// Generations returns the proxies that there are.
func (i *Inspector) Generations() []Generation {
	var out []Generation
	for _, g := range i.view.Generations {
		if g.State != abi.GenerationFree {
			out = append(out, Generation{
				Number:  g.Number,
				Workers: int(g.Workers),
				State:   g.State,
				Sockets: i.maps.OpenSockets(g.Number, int(g.Workers)),
			})
		}
	}
	slices.SortFunc(out, func(a, b Generation) int { return cmp.Compare(a.Number, b.Number) })
	return out
}

// Generation is one proxy as the kernel knows it.
type Generation struct {
	Number  uint32
	Workers int
	State   uint16 // abi.GenerationStarting, GenerationServing, GenerationDraining
	Sockets int    // in kg_sockets: those that are closed have left it
}

// Worker is one worker of a proxy.
type Worker struct {
	ID          uint32 // slot of the generation * abi.GenerationWorkers + index
	Connections uint32
	Pending     uint32
	Accepted    uint64
	BusyNS      uint64 // since it last waited for events; 0: waiting
	Hung        bool   // so long that kg_lookup passes it over
	Sockets     int    // open ones in kg_sockets
}

// Workers returns the workers of a generation.
func (i *Inspector) Workers(g Generation) []Worker {
	now := datapath.Monotonic()
	out := make([]Worker, g.Workers)
	for n := range out {
		id := g.Number%abi.Generations*abi.GenerationWorkers + uint32(n)
		w := &i.view.Workers[id]
		out[n] = Worker{
			ID:          id,
			Connections: atomic.LoadUint32(&w.Connections),
			Pending:     atomic.LoadUint32(&w.Pending),
			Accepted:    atomic.LoadUint64(&w.Accepted),
		}
		if since := atomic.LoadUint64(&w.BusySinceNS); since != 0 && since < now {
			out[n].BusyNS = now - since
			out[n].Hung = out[n].BusyNS > datapath.HungAfterNS
		}
		for kind := range uint32(abi.WorkerSockets) {
			if i.maps.Sockets.Has(abi.SocketIndex(g.Number, n, kind)) {
				out[n].Sockets++
			}
		}
	}
	return out
}

// Counters returns kg_counters.
func (i *Inspector) Counters() ([]Counter, error) {
	return ReadCounters(i.maps.Counters)
}

// Prefixes returns kg_deny and kg_allow, sorted.
func (i *Inspector) Prefixes() (deny, allow []lists.Prefix, err error) {
	if deny, err = lists.Read(i.maps.Deny); err != nil {
		return nil, nil, err
	}
	allow, err = lists.Read(i.maps.Allow)
	return deny, allow, err
}
