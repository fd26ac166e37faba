package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/lists"
	"github.com/kerngate/kerngate/loader/registry"
	"github.com/kerngate/kerngate/loader/state"
)

// Report counts what an Apply changed.
type Report struct {
	registry.Changes
	Added   int // listeners, addresses, prefixes and routes
	Removed int
}

// FullError says which object found no place in which map; see registry.
type FullError = registry.FullError

// hashes are the keyed maps.
type hashes struct {
	listeners *registry.Hash[abi.ListenerKey, abi.Listener]
	addresses *registry.Hash[abi.Address, abi.AddressInfo]
	deny      *registry.Hash[abi.Prefix, abi.PrefixInfo]
	allow     *registry.Hash[abi.Prefix, abi.PrefixInfo]
	sources   *registry.Hash[abi.Source, abi.PrefixInfo]
}

func openHashes(maps *datapath.Maps, prefixes *lists.Lists) (h hashes, err error) {
	if h.listeners, err = datapath.Mirror(maps.Listeners); err != nil {
		return h, err
	}
	if h.addresses, err = datapath.Mirror(maps.Addresses); err != nil {
		return h, err
	}
	err = prefixes.Hold(func() error {
		if h.deny, err = prefixes.Table(lists.Deny).Mirror(); err != nil {
			return err
		}
		if h.allow, err = prefixes.Table(lists.Allow).Mirror(); err != nil {
			return err
		}
		// Who was killed may have changed the lists alone.
		return prefixes.Sift()
	})
	if err != nil {
		return h, err
	}
	h.sources, err = datapath.Mirror(maps.Sources)
	return h, err
}

// routeKey is an address with a local route of ours.
type routeKey struct{ netip.Addr }

// routeTable is registry.Entries over the routing table.
type routeTable struct{ *attach.Routes }

func (t routeTable) Put(k routeKey, _ struct{}) error { return t.Add(k.Addr) }
func (t routeTable) Delete(k routeKey) error          { return t.Remove(k.Addr) }

// openRoutes mirrors the routes that an earlier agent made.
func openRoutes(h *netlink.Handle) (*registry.Hash[routeKey, struct{}], error) {
	r, err := attach.NewRoutes(h)
	if err != nil {
		return nil, err
	}
	addresses, err := r.Ours()
	if err != nil {
		return nil, err
	}
	have := make(map[routeKey]struct{})
	for _, a := range addresses {
		have[routeKey{a}] = struct{}{}
	}
	return registry.NewHash("routes", routeTable{r}, have), nil
}

// Apply makes the kernel do what want says: it compares, and changes what differs. What
// cannot be stored is reported by the error, object by object; everything else is in
// force. Calling it again with the same state tries again what failed.
//
// The order keeps traffic right at every step. Deny lists come before anything that lets
// packets in, and exceptions before the rule. Services come before listeners, and so do the
// sources that a restricted one takes, and the programs that forward to it. A listener
// comes before the route that makes its address local, and goes after it: with the route
// alone, connections would reach whatever process listens on all addresses.
func (d *Datapath) Apply(want state.State) (Report, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var report Report
	var errs []error
	note := func(n int, err error) func(*int) {
		errs = append(errs, err)
		return func(total *int) { *total += n }
	}
	w, err := d.translate(want)
	errs = append(errs, err)
	added, removed, err := d.applyNodes(want.Nodes, time.Now())
	report.Added, report.Removed, errs = added, removed, append(errs, err)
	_ = d.l4(&want, &w) // what services have an id for already; the rest follows below
	note(d.hashes.sources.Add(w.sources, describeSource))(&report.Added)

	added, removed, err = d.applyLists(w.deny, w.allow)
	report.Added, report.Removed, errs = report.Added+added, report.Removed+removed, append(errs, err)
	d.defence = want.Defence
	errs = append(errs, d.storeDefence())

	report.Changes, err = d.registry.Apply(want.Services, time.Now())
	errs = append(errs, err, d.l4(&want, &w))
	d.nodes.notePods(want.Services, true)
	added, removed, err = d.storePods()
	report.Added, report.Removed, errs = report.Added+added, report.Removed+removed, append(errs, err)
	note(d.hashes.sources.Add(w.sources, describeSource))(&report.Added)
	if d.hasL4 = hasL4(&want); d.needsTC() {
		d.ensureTC()
	}

	// Before connections come, so that none is tracked in its first packets alone.
	added, removed, err = d.applyNotrack(want.Listeners)
	report.Added, report.Removed, errs = report.Added+added, report.Removed+removed, append(errs, err)
	note(d.hashes.addresses.Add(w.addresses, describeAddress))(&report.Added)
	errs = append(errs, d.slots.update(d.hashes.addresses.All()))
	note(d.hashes.listeners.Add(w.listeners, describeListener))(&report.Added)
	d.routes.Doubt() // a network manager may have removed them
	note(d.routes.Add(w.routes, describeRoute))(&report.Added)
	note(d.routes.Prune(w.routes, describeRoute))(&report.Removed)
	note(d.hashes.listeners.Prune(w.listeners, describeListener))(&report.Removed)
	note(d.hashes.addresses.Prune(w.addresses, describeAddress))(&report.Removed)
	errs = append(errs, d.slots.update(d.hashes.addresses.All()))
	note(d.hashes.sources.Prune(w.sources, describeSource))(&report.Removed)
	if !d.translates() && !d.flooded {
		d.xdp.TakeBack()
	}
	if !d.needsTC() {
		d.tc.End()
	}
	return report, errors.Join(errs...)
}

// applyLists stores the prefixes that configuration declares. It waits for an operator who is
// changing the lists, but only when there is something to change.
func (d *Datapath) applyLists(deny, allow map[abi.Prefix]abi.PrefixInfo) (added, removed int, err error) {
	if d.hashes.deny.Holds(deny) && d.hashes.allow.Holds(allow) {
		return 0, 0, nil
	}
	var errs []error
	note := func(total *int, n int, err error) {
		*total += n
		errs = append(errs, err)
	}
	err = d.lists.Hold(func() error {
		n, err := d.hashes.allow.Add(allow, describePrefix)
		note(&added, n, err)
		n, err = d.hashes.deny.Add(deny, describePrefix)
		note(&added, n, err)
		n, err = d.hashes.deny.Prune(deny, describePrefix)
		note(&removed, n, err)
		n, err = d.hashes.allow.Prune(allow, describePrefix)
		note(&removed, n, err)
		return errors.Join(errs...)
	})
	return added, removed, err
}

// ApplyServices stores these services and leaves everything else as it is.
func (d *Datapath) ApplyServices(want []state.Service) (Report, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	changes, err := d.registry.Publish(want, time.Now())
	d.nodes.notePods(want, false)
	added, removed, podErr := d.storePods()
	return Report{Changes: changes, Added: added, Removed: removed}, errors.Join(err, podErr)
}

// ServiceID returns the id of a service that is in the maps and wanted.
func (d *Datapath) ServiceID(name string) (state.ServiceID, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.registry.ID(name)
}

// Reap ends services that have been gone for their grace time, frees blocks and backend
// ids that nobody reads any more, removes expired L4 flows, attaches the programs to
// interfaces that appear (again), and notes in kg_meta that the agent lives. Call it every few
// seconds.
func (d *Datapath) Reap(now time.Time) (Report, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.xdp.Refresh(d.attachments)
	var sweepErr error
	if flooded, err := d.flood.look(now, datapath.Monotonic()); d.options.SynCookies == SynCookiesAuto {
		d.flooded, sweepErr = flooded, err
	}
	if d.needsTC() {
		d.ensureTC()
	} else if len(d.tc.Attachments()) > 0 { // each interface can have kg_xdp after all
		d.tc.End()
		d.xdp.TakeBack()
		d.xdp.Refresh(d.attachments)
	}
	if d.translates() {
		sweepErr = errors.Join(sweepErr, d.flows.sweep(datapath.Monotonic()), d.loose.sweep(datapath.Monotonic()))
	}
	sweepErr = errors.Join(sweepErr, d.reapNodes(now), d.restoreNotrack(), d.storeDefence(), d.endWatch(), d.closeAgain())
	changes, err := d.registry.Reap(now)
	return Report{Changes: changes}, errors.Join(err, sweepErr, d.setServing(d.meta().Serving))
}

// wanted is a state in terms of the maps.
type wanted struct {
	listeners   map[abi.ListenerKey]abi.Listener
	addresses   map[abi.Address]abi.AddressInfo
	routes      map[routeKey]struct{}
	deny, allow map[abi.Prefix]abi.PrefixInfo
	sources     map[abi.Source]abi.PrefixInfo
}

// translate returns what the keyed maps must hold. What cannot be is left out and told.
func (d *Datapath) translate(want state.State) (wanted, error) {
	w := wanted{
		listeners: make(map[abi.ListenerKey]abi.Listener),
		addresses: make(map[abi.Address]abi.AddressInfo),
		routes:    make(map[routeKey]struct{}),
		deny:      make(map[abi.Prefix]abi.PrefixInfo),
		allow:     make(map[abi.Prefix]abi.PrefixInfo),
		sources:   make(map[abi.Source]abi.PrefixInfo),
	}
	var errs []error
	var all uint32
	for _, a := range want.Addresses {
		if a = a.Unmap(); !a.IsValid() || a.IsUnspecified() || a.Zone() != "" {
			errs = append(errs, fmt.Errorf("ingress address %q: not the address of one host", a))
			continue
		}
		w.addresses[abi.AddressOf(a)] = abi.AddressInfo{}
		w.routes[routeKey{a}] = struct{}{}
		all |= abi.AddressBit(abi.AddressOf(a))
	}
	for a := range w.addresses {
		w.addresses[a] = abi.AddressInfo{Others: all}
	}
	for _, l := range want.Listeners {
		if !l.Address.IsValid() || l.Address.Port() == 0 || l.Mode != state.L7 && l.Mode != state.L4 {
			errs = append(errs, fmt.Errorf("listener %v: needs an address, a port and mode L7 or L4", l.Address))
			continue
		}
		if l.Mode == state.L4 {
			continue // needs its service's id: see l4
		}
		w.listeners[abi.MakeListenerKey(l.Address, uint8(l.Protocol))] = abi.Listener{Mode: uint32(l.Mode)}
	}
	for _, list := range []struct {
		prefixes []netip.Prefix
		into     map[abi.Prefix]abi.PrefixInfo
	}{{want.Deny, w.deny}, {want.Allow, w.allow}} {
		for _, p := range list.prefixes {
			if !p.IsValid() {
				errs = append(errs, fmt.Errorf("prefix %v: not valid", p))
				continue
			}
			list.into[abi.MakePrefix(p)] = abi.PrefixInfo{Source: abi.PrefixConfig}
		}
	}
	errs = append(errs, d.markClosed(w.addresses))
	return w, errors.Join(errs...)
}

func describePrefix(p abi.Prefix) string   { return "prefix " + p.Prefix().String() }
func describeAddress(a abi.Address) string { return "ingress address " + a.Addr().String() }
func describeRoute(k routeKey) string      { return "route to " + k.String() }
func describeListener(k abi.ListenerKey) string {
	return fmt.Sprintf("listener %v (protocol %d)", k.AddrPort(), k.Protocol)
}
