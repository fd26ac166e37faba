package loader

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/attach"
	"github.com/kerngate/kerngate/loader/state"
)

// l4 is what the keyed maps must hold for L4 services: entries that name a service by its
// id, and so can be made only when it has one.
func (d *Datapath) l4(want *state.State, w *wanted) error {
	var errs []error
	for _, s := range want.Services {
		id, ok := d.registry.ID(s.Name)
		if !ok {
			continue // no room; its listeners say so
		}
		for _, p := range s.Sources {
			if !p.IsValid() {
				errs = append(errs, fmt.Errorf("service %q: source range %v is not valid", s.Name, p))
				continue
			}
			w.sources[abi.MakeSource(uint32(id), p)] = abi.PrefixInfo{Source: abi.PrefixConfig}
		}
	}
	for _, l := range want.Listeners {
		if l.Mode != state.L4 {
			continue
		}
		id, ok := d.registry.ID(l.Service)
		if !ok {
			errs = append(errs, fmt.Errorf("listener %v: its service %q is not in the maps", l.Address, l.Service))
			continue
		}
		key := abi.MakeListenerKey(l.Address, uint8(l.Protocol))
		w.listeners[key] = abi.Listener{Mode: abi.ModeL4, Service: uint32(id)}
		if info, ours := w.addresses[key.Address]; ours {
			info.Flags |= abi.AddressL4
			info.L4Ports |= abi.L4PortBit(l.Address.Port())
			w.addresses[key.Address] = info
		}
	}
	return errors.Join(errs...)
}

// hasL4 reports whether a state has L4 listeners.
func hasL4(want *state.State) bool {
	return slices.ContainsFunc(want.Listeners, func(l state.Listener) bool { return l.Mode == state.L4 })
}

// translates reports whether there is something that kg_egress undoes on the way out.
func (d *Datapath) translates() bool { return d.hasL4 || d.options.TunnelPort != 0 }

// needsTC reports whether the programs in tc have something to do: L4 services, packets
// between nodes, the work of kg_xdp on an interface that cannot have that, or to answer SYNs
// by cookies where kg_xdp cannot.
func (d *Datapath) needsTC() bool { return d.translates() || d.flooded || d.xdp.Lacks() }

// ensureTC makes the programs in tc stand, and nothing in their way.
func (d *Datapath) ensureTC() {
	if d.translates() || d.flooded {
		d.xdp.Leave(d.attachments, d.forwardsInXDP)
	}
	d.tc.Ensure(func(program, name string) bool {
		if program == "kg_egress" {
			return d.translates()
		}
		return d.xdp.IsLacking(name) || (d.translates() || d.flooded) && !d.forwardsInXDP(name)
	})
	d.xdp.ClearCables()
}

// forwardsInXDP reports whether kg_xdp sends all L4 packets on, on this interface. Between
// nodes it leaves some of them to kg_ingress.
func (d *Datapath) forwardsInXDP(name string) bool {
	return d.options.TunnelPort == 0 && slices.ContainsFunc(d.attachments, func(a attach.Attachment) bool {
		return a.Where == name && a.Program == "kg_xdp" && a.Mode != ""
	})
}

func describeSource(s abi.Source) string {
	return fmt.Sprintf("source range %v of service %d", s.Prefix(), s.Service)
}
