package loader

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/rs/zerolog"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/lists"
	"github.com/kerngate/kerngate/loader/notrack"
	"github.com/kerngate/kerngate/loader/pins"
	"github.com/kerngate/kerngate/loader/registry"
	"github.com/kerngate/kerngate/loader/skmsg"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/loader/view"
)

// Datapath is the handle of the one agent that may change what the kernel does for us. It
// belongs to the network namespace of the thread that opened it. Its methods may be called
// from any goroutine.
//
// Close and the end of the process leave all in force: maps, links and routes.
type Datapath struct {
	log      zerolog.Logger
	bpffs    string // as asked for
	folder   string // of the pins
	lock     *os.File
	epoch    string
	features attach.Features
	options  Options

	objects  *datapath.Objects
	maps     *datapath.Maps     // of objects
	programs *datapath.Programs // of objects
	view     *view.View
	net      *netlink.Handle
	lookup   *attach.Lookup
	xdp      *attach.XDP
	tc       *attach.TC
	sinks    attach.Sinks
	joins    *skmsg.Programs // nil: connections to pods are plain
	untrack  *notrack.Table  // nil: Options.Notrack is off

	mu          sync.Mutex // guards what follows, and all writing to the maps
	attachments []attach.Attachment
	hasL4       bool // as of the last Apply
	defence     state.Defence
	limits      abi.Defence // what kg_defence holds
	nodes       nodes
	flows       *flows
	loose       *flows
	tables      *kernelTables
	registry    *registry.Registry
	lists       *lists.Lists
	hashes      hashes
	slots       *addressSlots
	flood       *flood
	flooded     bool // as of the last Reap: kg_ingress is wanted where kg_xdp does not answer
	routes      *registry.Hash[routeKey, struct{}]
}

// Open loads the programs and attaches them to this thread's network namespace. Maps and
// links that an earlier agent left are taken over: connections are accepted without a gap,
// and proxies keep working on the same memory. On error nothing is left that was not there
// before.
//
// An interface that cannot get kg_xdp is no error; see Attachments.
func Open(o Options) (_ *Datapath, err error) {
	if o, err = o.complete(); err != nil {
		return nil, err
	}
	d := &Datapath{log: o.Log, bpffs: o.BPFFS, options: o}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.folder, err = pins.Folder(o.BPFFS); err != nil {
		return nil, err
	}
	if d.folder != o.BPFFS {
		d.log.Warn().Str("bpffs", d.folder).Msg("maps of another version are pinned at --bpffs; using a folder beside it")
	}
	if d.lock, err = pins.Lock(d.folder); err != nil {
		return nil, err
	}
	if d.features, err = probe(); err != nil {
		return nil, err
	}
	if d.untrack, err = openNotrack(o.Notrack, d.log); err != nil {
		return nil, err
	}
	fresh, err := d.load(&o)
	if err != nil {
		return nil, err
	}
	if err = d.readState(); err == nil {
		err = d.attach(&o)
	}
	if err != nil {
		if fresh {
			err = errors.Join(err, d.unpin())
		}
		return nil, err
	}
	d.openJoins(o.SkMsg)
	d.logStart(fresh)
	return d, nil
}

// probe asks the kernel what it can do, and returns an error if that is too little, or this process
// may not do it.
func probe() (attach.Features, error) {
	// Kernels before 5.11 count map memory against the limit of locked memory. Without CAP_BPF it
	// cannot be told which kernel this is, so that the capability is complained about first.
	memlock := rlimit.RemoveMemlock()
	found := attach.Probe()
	if err := found.Refusal(); err != nil {
		return nil, err
	}
	if memlock != nil {
		return nil, fmt.Errorf("lift the limit of locked memory: %w", memlock)
	}
	return found, nil
}

// load loads the programs on the maps pinned in the folder, or on new ones, and reports
// which.
func (d *Datapath) load(o *Options) (fresh bool, err error) {
	d.objects, err = datapath.Load(d.folder, o.constants(), o.sizes(), d.features.Has("xdp_frags"))
	if err != nil {
		return false, err
	}
	d.maps, d.programs = &d.objects.Maps, &d.objects.Programs
	for _, kept := range d.objects.Kept {
		d.log.Warn().Str("map", kept.Map).Uint32("entries", kept.Entries).
			Msgf("the map exists and keeps its size: for another %s run `kerngate-agent --uninstall` first", kept.Flag)
	}
	if err := d.mapTables(); err != nil || !d.objects.Fresh {
		return d.objects.Fresh, err
	}
	if err := d.tables.Write([]abi.Write{writeMeta(abi.Meta{ABI: abi.ABI})}); err != nil {
		return true, err
	}
	return true, d.maps.Seal(d.folder)
}

// mapTables maps the tables into memory, and makes ready to write them.
func (d *Datapath) mapTables() (err error) {
	if d.view, err = view.Open(d.Maps()); err != nil {
		return err
	}
	d.tables = &kernelTables{
		publish: d.programs.Publish,
		names:   d.maps.ServiceNames,
		view:    d.view,
		list:    make([]abi.Write, abi.Writes),
	}
	meta, err := datapath.ID(d.maps.Meta.Map())
	if err != nil {
		return err
	}
	services, err := datapath.ID(d.maps.Services.Map())
	if err != nil {
		return err
	}
	d.epoch = fmt.Sprintf("%d-%d-%d", abi.ABI, meta, services)
	return nil
}

// readState reads back what the maps hold.
func (d *Datapath) readState() error {
	names := make([]abi.ServiceName, len(d.view.Services))
	for id := range names {
		if d.view.Services[id].Flags&abi.ServiceInUse == 0 {
			continue
		}
		var err error
		if names[id], err = d.maps.ServiceNames.Get(uint32(id)); err != nil {
			return err
		}
	}
	d.registry = registry.New(d.tables, registry.Contents{
		Services: d.view.Services,
		Names:    names,
		Slots:    d.view.Slots,
		Backends: d.view.Backends,
	}, time.Now())
	var err error
	if d.net, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	if d.routes, err = openRoutes(d.net); err != nil {
		return err
	}
	d.flows, d.loose = newFlows(d.maps.Flows), newFlows(d.maps.Loose)
	if d.nodes, err = openNodes(d.maps); err != nil {
		return err
	}
	if d.limits, err = d.maps.Defence.Get(0); err != nil {
		return err
	}
	if d.lists, err = lists.New(d.folder, &d.maps.Lists, abi.PrefixConfig, lists.AgentWait); err != nil {
		return err
	}
	if d.hashes, err = openHashes(d.maps, d.lists); err != nil {
		return err
	}
	if d.slots, err = openAddressSlots(d.maps.AddressSlots); err != nil {
		return err
	}
	d.flooded = d.options.SynCookies == SynCookiesAlways
	d.flood = &flood{table: d.maps.Syns, counters: d.maps.Counters, log: d.log}
	if d.flood.sent, err = d.flood.cookies(); err != nil {
		return err
	}
	return d.slots.update(d.hashes.addresses.All())
}

// attach attaches the programs. Only kg_lookup is needed to serve.
func (d *Datapath) attach(o *Options) error {
	meta, err := datapath.ID(d.maps.Meta.Map())
	if err != nil {
		return err
	}
	if d.lookup, err = attach.OpenLookup(d.folder, d.programs.Lookup, meta, d.log); err != nil {
		return err
	}
	if d.sinks, err = attach.OpenSinks(d.maps.Sinks); err != nil {
		return err
	}
	d.xdp = attach.NewXDP(d.folder, o.XDPMode, o.L4Hook, d.programs, d.net, d.log)
	d.tc = attach.NewTC(d.folder, o.Interfaces, d.features.Has("tcx"), d.programs, d.net, d.log)
	d.attachments = append([]attach.Attachment{{Program: "kg_lookup", Where: "netns"}}, d.xdp.Attach(o.Interfaces)...)
	return nil
}

func (d *Datapath) logStart(fresh bool) {
	var absent []string
	for _, f := range d.features {
		if !f.Present {
			absent = append(absent, f.Name+" (instead: "+f.ReplacedBy+")")
		}
	}
	services, backends, slots := d.registry.Len()
	d.log.Info().Str("bpffs", d.folder).Bool("taken_over", !fresh).Str("epoch", d.epoch).
		Int("services", services).Int("backends", backends).Int("slots", slots).
		Str("absent", strings.Join(absent, ", ")).Msg("kernel programs attached")
}

// Close gives up the handle: descriptors, memory and the lock. What is pinned stays in
// force, and another Open takes it over.
func (d *Datapath) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	if d.xdp != nil {
		d.xdp.Close()
	}
	if d.tc != nil {
		d.tc.Close()
	}
	if d.lookup != nil {
		d.lookup.Close()
	}
	if d.net != nil {
		d.net.Close()
	}
	errs = append(errs, d.sinks.Close())
	if d.joins != nil {
		errs = append(errs, d.joins.Close())
	}
	if d.untrack != nil {
		errs = append(errs, d.untrack.Close())
	}
	if d.view != nil {
		errs = append(errs, d.view.Close())
	}
	if d.lists != nil {
		errs = append(errs, d.lists.Close())
	}
	if d.objects != nil {
		errs = append(errs, d.objects.Close())
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Close())
	}
	d.xdp, d.tc, d.lookup, d.net, d.sinks, d.joins, d.untrack, d.view, d.objects, d.lock = nil, nil, nil, nil, nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// unpin removes the pins of the maps, of a set that was just made and never used.
func (d *Datapath) unpin() error {
	var errs []error
	for _, m := range d.maps.All() {
		errs = append(errs, m.Unpin())
	}
	for _, lock := range []string{pins.ListsLock, pins.WatchLock} {
		errs = append(errs, pins.Remove(filepath.Join(d.folder, lock)))
	}
	return errors.Join(errs...)
}

// Maps returns the tables that a proxy maps into its memory. The descriptors belong to
// the Datapath. Those that are not writable are sealed: the kernel lets nobody write them
// by descriptor or memory, whoever holds them.
func (d *Datapath) Maps() []view.Map {
	var out []view.Map
	add := func(name string, m *ebpf.Map, writable bool) {
		out = append(out, view.Map{Name: name, FD: m.FD(), MaxEntries: m.MaxEntries(), ValueSize: m.ValueSize(), Writable: writable})
	}
	add(d.maps.Services.Name(), d.maps.Services.Map(), false)
	add(d.maps.Slots.Name(), d.maps.Slots.Map(), false)
	add(d.maps.Backends.Name(), d.maps.Backends.Map(), false)
	add(d.maps.Generations.Name(), d.maps.Generations.Map(), false)
	add(d.maps.BackendLoad.Name(), d.maps.BackendLoad.Map(), true)
	add(d.maps.Workers.Name(), d.maps.Workers.Map(), true)
	return out
}

// Epoch names this set of maps. A proxy that maps another set must start anew.
func (d *Datapath) Epoch() string { return d.epoch }

// Features returns what the kernel was found to have.
func (d *Datapath) Features() attach.Features { return d.features }

// Attachments returns where the programs are attached, and where not and why.
func (d *Datapath) Attachments() []attach.Attachment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Concat(d.attachments, d.tc.Attachments())
}

// Folder returns the folder of the pins: Options.BPFFS, or one beside it while that holds
// maps of another version.
func (d *Datapath) Folder() string { return d.folder }
