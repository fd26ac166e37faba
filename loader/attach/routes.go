package attach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks the local routes that Kerngate made (`ip route show table local
// proto 75`), so that it removes no other.
const routeProtocol netlink.RouteProtocol = 75

// Routes makes packets to ingress addresses be delivered on this node: sk_lookup is asked
// for local packets only. The routes are "local ADDRESS dev lo" in table local.
type Routes struct {
	net *netlink.Handle
	lo  int // index
}

func NewRoutes(h *netlink.Handle) (*Routes, error) {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find interface lo: %w", err)
	}
	return &Routes{net: h, lo: lo.Attrs().Index}, nil
}

// Add makes address local, unless it is already: then the route is somebody else's (the
// kernel's, for an address of an interface) and stays theirs.
func (r *Routes) Add(address netip.Addr) error {
	if r.local(address) {
		return nil
	}
	err := r.net.RouteAdd(r.route(address))
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("add local route: interface lo is down: `ip link set lo up`: %w", err)
	case err != nil:
		return fmt.Errorf("add local route (CAP_NET_ADMIN needed): %w", err)
	}
	return nil
}

// Remove takes our route to address away; others stay.
func (r *Routes) Remove(address netip.Addr) error {
	err := r.net.RouteDel(r.route(address))
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Ours returns the addresses to which there is a route of ours.
func (r *Routes) Ours() ([]netip.Addr, error) {
	var out []netip.Addr
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: routeProtocol}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := r.net.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list local routes: %w", err)
		}
		for _, route := range list {
			if route.Dst == nil {
				continue
			}
			if a, ok := netip.AddrFromSlice(route.Dst.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out, nil
}

// local reports whether packets to address are delivered on this node already.
func (r *Routes) local(address netip.Addr) bool {
	list, err := r.net.RouteGetWithOptions(address.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	return err == nil && len(list) > 0 && list[0].Type == unix.RTN_LOCAL
}

func (r *Routes) route(address netip.Addr) *netlink.Route {
	bits := address.BitLen()
	return &netlink.Route{
		Dst:       &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		LinkIndex: r.lo,
		Table:     unix.RT_TABLE_LOCAL,
		Type:      unix.RTN_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Protocol:  routeProtocol,
	}
}
