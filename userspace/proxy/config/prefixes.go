package config

import (
	"fmt"
	"net/netip"

	"github.com/kerngate/kerngate/userspace/text/rule"
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
		prefix, err := rule.Prefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		all = append(all, prefix)
	}
	return all, nil
}
