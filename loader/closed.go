package loader

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/kerngate/kerngate/loader/abi"
)

// markClosed marks the ingress addresses at which only published ports answer: those that are
// on no interface of this node. Where one is, the node's own services are meant to be
// reachable at it. If the interfaces' addresses cannot be read, no address is marked.
func (d *Datapath) markClosed(addresses map[abi.Address]abi.AddressInfo) error {
	var onInterfaces map[netip.Addr]bool
	if !d.options.OpenAddresses {
		list, err := d.net.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("read the addresses of interfaces, so ports of ingress addresses that are not published are not refused: %w", err)
		}
		onInterfaces = make(map[netip.Addr]bool)
		for _, a := range list {
			if address, ok := netip.AddrFromSlice(a.IP); ok {
				onInterfaces[address.Unmap()] = true
			}
		}
	}
	for address, info := range addresses {
		info.Flags &^= abi.AddressClosed
		if onInterfaces != nil && !onInterfaces[address.Addr()] {
			info.Flags |= abi.AddressClosed
		}
		addresses[address] = info
	}
	return nil
}

// closeAgain follows addresses that have come to an interface or left it.
func (d *Datapath) closeAgain() error {
	addresses := maps.Clone(d.hashes.addresses.All())
	if err := d.markClosed(addresses); err != nil {
		return err
	}
	if n, err := d.hashes.addresses.Add(addresses, describeAddress); n == 0 || err != nil {
		return err
	}
	return d.slots.update(d.hashes.addresses.All())
}
