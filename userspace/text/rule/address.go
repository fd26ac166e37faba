package rule

import (
	"fmt"
	"net/netip"
	"slices"
)

// metadata are addresses outside of the link's at which clouds tell a machine its secrets.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("100.100.100.200"),
	netip.MustParseAddr("168.63.129.16"),
	netip.MustParseAddr("192.0.0.192"),
}

// Destination says why nothing may be sent to an address that a tenant has named: what listens
// on the node and its link trusts whoever can reach it. own are further addresses of the node, such
// as those of the ingress itself, allowed the prefixes that may be reached all the same.
func Destination(a netip.Addr, own []netip.Addr, allowed []netip.Prefix) error {
	a = a.WithZone("").Unmap()
	if slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(a) }) {
		return nil
	}
	switch {
	case !a.IsGlobalUnicast(), a.Is4() && a.As4()[0] == 0:
		return fmt.Errorf("%s is an address of the node or of its link, or of no host (loopback, link-local, multicast, unspecified), and nothing is sent there: name another address, or allow this one with --allow-destinations of the agent", a)
	case slices.Contains(metadata, a):
		return fmt.Errorf("%s is where a cloud keeps its machines' secrets, and nothing is sent there: name another address, or allow this one with --allow-destinations of the agent", a)
	case slices.Contains(own, a):
		return fmt.Errorf("%s is an address of this node or of the ingress, and nothing is sent there: name a Service, or allow the address with --allow-destinations of the agent", a)
	}
	return nil
}
