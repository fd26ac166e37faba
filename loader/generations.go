package loader

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/inspect"
)

// ErrTooManyGenerations says that as many proxies exist as there can be.
var ErrTooManyGenerations = fmt.Errorf("%d proxies serve or drain already: wait until one has drained", abi.Generations)

// Generation is a proxy, as the maps know it.
type Generation = inspect.Generation

// StartGeneration makes room for a proxy and returns its number. Nothing is sent to it
// before Serve.
func (d *Datapath) StartGeneration(workers int) (number uint32, err error) {
	if workers < 1 || workers > abi.GenerationWorkers {
		return 0, fmt.Errorf("a proxy has 1 to %d workers, not %d", abi.GenerationWorkers, workers)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.view.Generations {
		number = max(number, g.Number)
	}
	// The next number whose slot is free: slots are numbers modulo abi.Generations.
	for range abi.Generations {
		number++
		if number == 0 { // 0 means none
			number = abi.Generations
		}
		if d.view.Generations[number%abi.Generations].State != abi.GenerationFree {
			continue
		}
		if err := d.clearSockets(number); err != nil {
			return 0, err
		}
		d.clearCounts(number)
		g := abi.Generation{Number: number, Workers: uint16(workers), State: abi.GenerationStarting}
		return number, d.tables.Write([]abi.Write{writeGeneration(g)})
	}
	return 0, ErrTooManyGenerations
}

// PlaceSockets gives kg_lookup a worker's socket of one kind: kind is abi.SocketTCP4 and so on.
// The map does not keep the socket open; fd stays the caller's.
func (d *Datapath) PlaceSockets(number uint32, worker int, kind uint32, fd int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, err := d.generation(number)
	if err != nil {
		return err
	}
	if worker < 0 || worker >= int(g.Workers) || kind >= abi.WorkerSockets {
		return fmt.Errorf("generation %d has no worker %d or a worker no socket kind %d", number, worker, kind)
	}
	err = d.maps.Sockets.Put(abi.SocketIndex(number, worker, kind), uint64(fd))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("place socket: neither a listening TCP nor an unconnected UDP socket, or an MPTCP one (Go's net.Listen makes those): %w", err)
	case err != nil:
		return fmt.Errorf("place socket: %w", err)
	}
	return nil
}

// Serve sends new connections to this generation, from the next one on, and marks the one
// that had them as draining.
func (d *Datapath) Serve(number uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, err := d.generation(number)
	if err != nil {
		return err
	}
	g.State = abi.GenerationServing
	if err := d.tables.Write([]abi.Write{writeGeneration(g)}); err != nil {
		return err
	}
	if err := d.setServing(number); err != nil {
		return err
	}
	d.endPredecessors()
	var writes []abi.Write
	for _, other := range d.view.Generations {
		if other.State == abi.GenerationServing && other.Number != number {
			other.State = abi.GenerationDraining
			writes = append(writes, writeGeneration(other))
		}
	}
	if len(writes) == 0 {
		return nil
	}
	return d.tables.Write(writes)
}

// endPredecessors ends what stood in for us until a proxy served from these maps.
func (d *Datapath) endPredecessors() {
	d.lookup.EndPredecessors(d.folder, d.log)
	if d.folder == d.bpffs {
		return
	}
	if err := attach.Forget(d.bpffs); err != nil {
		d.log.Warn().Err(err).Msg("cannot unpin the maps of another version")
	}
}

// DrainGeneration sends no new connections to this generation any more. If it was the one
// that got them, their SYNs are dropped until another serves.
func (d *Datapath) DrainGeneration(number uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, err := d.generation(number)
	if err != nil {
		return err
	}
	if d.meta().Serving == number {
		if err := d.setServing(0); err != nil {
			return err
		}
	}
	g.State = abi.GenerationDraining
	return d.tables.Write([]abi.Write{writeGeneration(g)})
}

// Suspend has the SYNs of new connections dropped until a generation serves: this one again, or
// another. Nothing else changes; one that does not serve is left alone.
func (d *Datapath) Suspend(number uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.meta().Serving != number {
		return nil
	}
	return d.setServing(0)
}

// Silence returns for how long no worker of a generation has come back to its event loop; 0 if
// its proxy does not tell.
func (d *Datapath) Silence(number uint32) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, err := d.generation(number)
	if err != nil {
		return 0
	}
	var last uint64
	first := number % abi.Generations * abi.GenerationWorkers
	for i := range uint32(g.Workers) {
		last = max(last, atomic.LoadUint64(&d.view.Workers[first+i].SeenNS))
	}
	if now := datapath.Monotonic(); last != 0 && now > last {
		return time.Duration(now - last)
	}
	return 0
}

// EndGeneration forgets a generation whose proxy is gone: its sockets, and what it had in
// flight.
func (d *Datapath) EndGeneration(number uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, err := d.generation(number)
	if err != nil {
		return err
	}
	if d.meta().Serving == number {
		if err := d.setServing(0); err != nil {
			return err
		}
	}
	if err := d.clearSockets(number); err != nil {
		return err
	}
	g.Workers, g.State = 0, abi.GenerationFree // the number stays, so that the next is greater
	if err := d.tables.Write([]abi.Write{writeGeneration(g)}); err != nil {
		return err
	}
	d.clearCounts(number)
	return nil
}

// Generations returns the proxies that there are, the serving one included.
func (d *Datapath) Generations() []Generation {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Generation
	for _, g := range d.view.Generations {
		if g.State != abi.GenerationFree {
			out = append(out, Generation{
				Number:  g.Number,
				Workers: int(g.Workers),
				State:   g.State,
				Sockets: d.maps.OpenSockets(g.Number, int(g.Workers)),
			})
		}
	}
	return out
}

// Serving returns the number of the generation that gets new connections, 0 if none.
func (d *Datapath) Serving() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.meta().Serving
}

func (d *Datapath) generation(number uint32) (abi.Generation, error) {
	g := d.view.Generations[number%abi.Generations]
	if g.Number != number || g.State == abi.GenerationFree {
		return g, fmt.Errorf("there is no proxy generation %d", number)
	}
	return g, nil
}

// meta returns the entry of kg_meta. This agent is the only one who writes it.
func (d *Datapath) meta() abi.Meta {
	meta, err := d.maps.Meta.Get(0)
	if err != nil {
		d.log.Error().Err(err).Msg("cannot see which generation serves")
	}
	return meta
}

// setServing stores kg_meta: the generation is one word, and so changes at once.
func (d *Datapath) setServing(number uint32) error {
	return d.tables.Write([]abi.Write{writeMeta(abi.Meta{ABI: abi.ABI, Serving: number, AgentSeenNS: datapath.Monotonic()})})
}

// clearSockets removes all sockets of a generation.
func (d *Datapath) clearSockets(number uint32) error {
	for worker := range abi.GenerationWorkers {
		for kind := range uint32(abi.WorkerSockets) {
			// An empty place is EINVAL in a sockmap.
			if err := d.maps.Sockets.Delete(abi.SocketIndex(number, worker, kind)); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("remove socket: %w", err)
			}
		}
	}
	return nil
}

// clearCounts zeroes what a generation counted, and with it what it had in flight. Of a
// proxy that is gone, or not yet told its number: nobody else writes there.
func (d *Datapath) clearCounts(number uint32) {
	slot := number % abi.Generations
	n := uint32(len(d.view.Backends))
	loads := d.view.Loads[slot*n : (slot+1)*n]
	for id := range loads {
		clearLoad(&loads[id], d.view.Backends[id].Generation)
	}
	clear(d.view.Workers[slot*abi.GenerationWorkers : (slot+1)*abi.GenerationWorkers])
}

// clearLoad zeroes an entry with atomic stores, because proxies of other generations read
// all of them.
func clearLoad(l *abi.BackendLoad, generation uint32) {
	atomic.StoreUint32(&l.Generation, generation)
	atomic.StoreUint64(&l.Requests, 0)
	atomic.StoreUint64(&l.Failures, 0)
	atomic.StoreUint32(&l.InFlight, 0)
	atomic.StoreUint32(&l.LatencyUS, 0)
	atomic.StoreUint32(&l.Health, 0)
	atomic.StoreUint32(&l.Verdict, 0)
	atomic.StoreUint32(&l.Ejections, 0)
	atomic.StoreUint64(&l.FoundNS, 0)
}

func writeGeneration(g abi.Generation) abi.Write {
	w := abi.Write{Table: abi.TableGenerations, Index: g.Number % abi.Generations}
	*(*abi.Generation)(unsafe.Pointer(&w.Words)) = g
	return w
}

func writeMeta(m abi.Meta) abi.Write {
	w := abi.Write{Table: abi.TableMeta}
	*(*abi.Meta)(unsafe.Pointer(&w.Words)) = m
	return w
}

// BindQUIC makes a proxy's UDP socket a member of the group that kg_quic chooses from; see
// attach.BindQUIC.
func (d *Datapath) BindQUIC(fd int, port uint16) error {
	return attach.BindQUIC(fd, port, d.programs.QUIC)
}
