package loader

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/fabric"
	"github.com/kerngate/kerngate/loader/registry"
	"github.com/kerngate/kerngate/loader/state"
)

// departed is how long a node that is no member any more keeps its entry: L4 flows that
// lead to it go on, and what it hands over is taken. An agent that restarts is away from
// the list for a moment, while the programs of its node work on.
const departed = 10 * time.Minute

// constants returns what the programs are told at load.
func (o *Options) constants() datapath.Constants {
	v4, v6 := o.segmentSizes()
	return datapath.Constants{
		MSSV4: v4, MSSV6: v6,
		HungAfterNS:    datapath.HungAfterNS,
		TunnelPort:     bits.ReverseBytes16(o.TunnelPort),
		Self:           fabric.ID(o.Node),
		DSR:            o.DSR,
		Fabric:         o.Fabric,
		Secret:         secret(),
		Strict:         !o.Lax,
		SynCookies:     o.SynCookies != SynCookiesOff,
		SynDoubt:       o.synDoubt(),
		UplinkLoopback: slices.Contains(o.Interfaces, "lo"),
	}
}

// sizes returns how many entries the maps get.
func (o *Options) sizes() datapath.Sizes {
	return datapath.Sizes{
		Services: o.MaxServices, Backends: o.MaxBackends, Slots: o.MaxSlots,
		Prefixes: o.MaxPrefixes, Sources: o.MaxSources, Flows: o.MaxFlows,
	}
}

// nodes is what the maps hold of other nodes, and of this node's pods for them.
type nodes struct {
	table     *registry.Hash[uint32, abi.Node]
	addresses *registry.Hash[abi.Address, abi.NodeAddress]
	local     *registry.Hash[abi.ListenerKey, abi.LocalBackend]
	fabric    datapath.Map[uint32, abi.SlotOwners]

	known  bool                       // there has been an Apply
	want   []state.Node               // as the last Apply had them
	found  map[string]state.NodeState // what is known here of nodes that should be serving
	have   map[uint32]abi.Node        // as in table: those gone stay for a while
	names  map[uint32]string          // of members
	gone   map[uint32]time.Time
	shares fabric.Table               // what owners should be
	owners []abi.SlotOwners           // as in fabric; nil: not known
	pods   map[string][]state.Backend // this node's, by L4 service
}

func openNodes(maps *datapath.Maps) (n nodes, err error) {
	if n.have, err = datapath.ReadAll(maps.Nodes); err != nil {
		return n, err
	}
	n.table = registry.NewHash(maps.Nodes.Name(), datapath.Entries[uint32, abi.Node]{Map: maps.Nodes}, n.have)
	if n.addresses, err = datapath.Mirror(maps.NodeAddresses); err != nil {
		return n, err
	}
	if n.local, err = datapath.Mirror(maps.LocalBackends); err != nil {
		return n, err
	}
	n.fabric, n.gone, n.pods = maps.Fabric, make(map[uint32]time.Time), make(map[string][]state.Backend)
	return n, nil
}

// applyNodes makes the maps hold the nodes. They come before the services, whose backends
// may be on them, and go long after.
func (d *Datapath) applyNodes(want []state.Node, now time.Time) (added, removed int, err error) {
	if d.options.TunnelPort == 0 {
		want = nil
	}
	n := &d.nodes
	n.known, n.want = true, want
	want = n.judged()
	self := slices.IndexFunc(want, func(w state.Node) bool { return w.Name == d.options.Node })
	var errs []error
	if len(want) > 0 && self < 0 {
		errs = append(errs, fmt.Errorf("node %q (--node-name) is not among the nodes of the fabric, which would refuse its packets: it serves what comes to it", d.options.Node))
	}
	own := abi.Node{}
	if self >= 0 {
		own = addressesOf(want[self])
	}
	next := make(map[uint32]abi.Node)
	names := make(map[uint32]string)
	for _, w := range want {
		id := fabric.ID(w.Name)
		if other, twice := names[id]; twice {
			errs = append(errs, fmt.Errorf("node %q: its name has the same hash as %q, and it takes no part: rename one of them", w.Name, other))
			continue
		}
		names[id] = w.Name
		e := addressesOf(w)
		e.From4, e.From6, e.State = own.To4, own.To6, uint32(w.State)
		next[id] = e
		delete(n.gone, id)
	}
	for id, e := range n.have {
		if _, member := next[id]; member || d.options.TunnelPort == 0 {
			continue
		}
		if _, known := n.gone[id]; !known {
			n.gone[id] = now
		}
		e.State = abi.NodeGone
		next[id] = e
	}
	n.names = names
	added, removed, err = n.store(next, fabric.ID(d.options.Node))
	errs = append(errs, err, n.storeOwners(want, d.options.Fabric && self >= 0))
	return added, removed, errors.Join(errs...)
}

// judged returns the wanted nodes in the states that they are found in. What is found can
// only take away: a node that should not get new connections gets none.
func (n *nodes) judged() []state.Node {
	out := slices.Clone(n.want)
	for i := range out {
		out[i].State = max(out[i].State, n.found[out[i].Name])
	}
	return out
}

// Judge notes in which state nodes are found, those that are not as they should be:
// NodeDraining or NodeUnready. Connections go by it at once; it holds until the next call.
func (d *Datapath) Judge(found map[string]state.NodeState) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes.found = maps.Clone(found)
	if !d.nodes.known { // what an earlier agent wrote stays until it is known what should be
		return nil
	}
	_, _, err := d.applyNodes(d.nodes.want, time.Now())
	return err
}

// drainMark is the name behind the folder of pins by which an agent finds that its node drains.
// It is a folder, for on a bpf file system there are no files; so it lasts as long as pins do.
const drainMark = "_draining"

// Draining reports whether this node is to get no new connections, as SetDraining said
// to this agent or an earlier one.
func (d *Datapath) Draining() bool {
	_, err := os.Stat(d.bpffs + drainMark)
	return err == nil
}

// SetDraining remembers whether this node is to get no new connections. It is Judge that has
// them go elsewhere.
func (d *Datapath) SetDraining(on bool) error {
	var err error
	if on {
		err = os.Mkdir(d.bpffs+drainMark, 0o755)
	} else {
		err = os.Remove(d.bpffs + drainMark)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remember that the node drains: %w", err)
	}
	return nil
}

// addressesOf returns the entry of a node with the addresses alone.
func addressesOf(w state.Node) (e abi.Node) {
	for _, a := range w.Addresses {
		to := &e.To6
		if a = a.Unmap(); a.Is4() {
			to = &e.To4
		}
		if *to == (abi.Address{}) {
			*to = abi.AddressOf(a)
		}
	}
	return e
}

// store makes both maps of nodes hold these.
func (n *nodes) store(want map[uint32]abi.Node, self uint32) (added, removed int, err error) {
	addresses := make(map[abi.Address]abi.NodeAddress)
	for id, e := range want {
		entry := abi.NodeAddress{Node: id}
		if id == self {
			entry.Flags = abi.NodeSelf
		}
		for _, a := range []abi.Address{e.To4, e.To6} {
			// A member goes before one that had the address and is gone.
			if _, taken := addresses[a]; a != (abi.Address{}) && !(taken && e.State == abi.NodeGone) {
				addresses[a] = entry
			}
		}
	}
	describe := func(id uint32) string { return fmt.Sprintf("node %08x", id) }
	describeAddress := func(a abi.Address) string { return "node address " + a.Addr().String() }
	var counts [4]int
	var errs [4]error
	counts[0], errs[0] = n.table.Add(want, describe)
	counts[1], errs[1] = n.addresses.Add(addresses, describeAddress)
	counts[2], errs[2] = n.addresses.Prune(addresses, describeAddress)
	counts[3], errs[3] = n.table.Prune(want, describe)
	n.have = want
	return counts[0] + counts[1], counts[2] + counts[3], errors.Join(errs[:]...)
}

// storeOwners writes the slots of kg_fabric that change. Packets are judged meanwhile by
// some old and some new ones, as they are by nodes that learn of a change at other times.
func (n *nodes) storeOwners(want []state.Node, on bool) error {
	if !on {
		want = nil
	}
	next := n.shares.Update(want)
	if n.owners == nil {
		if !on { // nobody reads it
			return nil
		}
		n.owners = make([]abi.SlotOwners, abi.FabricSlots)
		for slot := range n.owners {
			var err error
			if n.owners[slot], err = n.fabric.Get(uint32(slot)); err != nil {
				n.owners = nil
				return err
			}
		}
	}
	for slot := range next {
		if next[slot] == n.owners[slot] {
			continue
		}
		if err := n.fabric.Put(uint32(slot), next[slot]); err != nil {
			return fmt.Errorf("slot %d: %w", slot, err)
		}
		n.owners[slot] = next[slot]
	}
	return nil
}

// reapNodes forgets nodes that have been gone for long.
func (d *Datapath) reapNodes(now time.Time) error {
	n := &d.nodes
	left := make(map[uint32]abi.Node, len(n.have))
	for id, e := range n.have {
		if since, gone := n.gone[id]; gone && now.Sub(since) >= departed {
			delete(n.gone, id)
			continue
		}
		left[id] = e
	}
	if len(left) == len(n.have) {
		return nil
	}
	_, _, err := n.store(left, fabric.ID(d.options.Node))
	return err
}

// notePods remembers which pods of this node are behind L4 services; all says that there
// are no others.
func (n *nodes) notePods(services []state.Service, all bool) {
	if all {
		clear(n.pods)
	}
	for _, s := range services {
		if s.Algorithm != state.Maglev {
			continue
		}
		delete(n.pods, s.Name)
		for _, b := range s.Backends {
			if b.Local {
				n.pods[s.Name] = append(n.pods[s.Name], b)
			}
		}
	}
}

// storePods makes kg_local_backends hold the pods that other nodes may name. It follows
// the services, which give them their ids.
func (d *Datapath) storePods() (added, removed int, err error) {
	want := make(map[abi.ListenerKey]abi.LocalBackend)
	if d.options.TunnelPort != 0 {
		for _, pods := range d.nodes.pods {
			for _, b := range pods {
				address := netip.AddrPortFrom(b.Address.Addr().Unmap(), b.Address.Port())
				if id, ok := d.registry.BackendID(address, b.Protocol); ok {
					want[abi.MakeListenerKey(address, uint8(b.Protocol))] = abi.LocalBackend{Backend: uint32(id)}
				}
			}
		}
	}
	describe := func(k abi.ListenerKey) string { return fmt.Sprintf("pod %v for other nodes", k.AddrPort()) }
	added, err = d.nodes.local.Add(want, describe)
	removed, pruneErr := d.nodes.local.Prune(want, describe)
	return added, removed, errors.Join(err, pruneErr)
}

// Self returns this node's name.
func (d *Datapath) Self() string { return d.options.Node }

// NodeInfo is a node as the maps have it.
type NodeInfo struct {
	Name      string // "" if it is no member any more
	ID        uint32
	Addresses []netip.Addr
	State     uint32          // abi.NodeServing, NodeDraining, NodeUnready, NodeGone
	Found     state.NodeState // in which it was found, if that is worse than was said; else 0
	Self      bool
	Slots     int // of abi.FabricSlots that it owns
}

// Nodes returns the nodes to which packets can be handed, this one among them, by name.
func (d *Datapath) Nodes() []NodeInfo {
	d.mu.Lock()
	defer d.mu.Unlock()
	shares := fabric.Shares(d.nodes.owners)
	var out []NodeInfo
	for id, e := range d.nodes.have {
		info := NodeInfo{Name: d.nodes.names[id], ID: id, State: e.State, Self: id == fabric.ID(d.options.Node), Slots: shares[id]}
		said := slices.IndexFunc(d.nodes.want, func(w state.Node) bool { return w.Name == info.Name })
		if found := d.nodes.found[info.Name]; said >= 0 && found > d.nodes.want[said].State {
			info.Found = found
		}
		for _, a := range []abi.Address{e.To4, e.To6} {
			if a != (abi.Address{}) {
				info.Addresses = append(info.Addresses, a.Addr())
			}
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b NodeInfo) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}
