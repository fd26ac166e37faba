package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Prefixes is a set of addresses, given by a few prefixes.
type Prefixes []netip.Prefix

// Contain reports whether the address is in the set. It takes some nanoseconds per prefix.
func (p Prefixes) Contain(a netip.Addr) bool {
	if len(p) == 0 {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, prefix := range p {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// parsePrefixes reads prefixes and single addresses.
func parsePrefixes(setting string, list []string) (Prefixes, error) {
	var all Prefixes
	for _, s := range list {
		prefix, err := netip.ParsePrefix(s)
		if !strings.Contains(s, "/") {
			var a netip.Addr
			a, err = netip.ParseAddr(s)
			if a.Zone() == "" { // else prefix stays invalid
				prefix = netip.PrefixFrom(a, a.BitLen())
			}
		}
		if err != nil || !prefix.IsValid() {
			return nil, fmt.Errorf("%s: %q is neither an address nor a prefix; write it like 192.0.2.0/24", setting, s)
		}
		if a := prefix.Addr(); a.Is4In6() {
			if prefix.Bits() < 96 {
				return nil, fmt.Errorf("%s: %q holds IPv4-mapped and other addresses; write it like 192.0.2.0/24", setting, s)
			}
			prefix = netip.PrefixFrom(a.Unmap(), prefix.Bits()-96)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}
