package rule

import (
	"fmt"
	"net/netip"
	"strings"
)

// Prefix reads a prefix, or an address, which stands for itself alone. Bits behind the
// prefix's length do not count, and IPv4 that is written in IPv6 is IPv4.
func Prefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if !strings.Contains(text, "/") {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && a.Zone() == "" { // else p stays invalid
			p = netip.PrefixFrom(a, a.BitLen())
		}
	}
	if err != nil || !p.IsValid() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a prefix such as 192.0.2.0/24", Shorten(text))
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q holds IPv4-mapped and other addresses: write it like 192.0.2.0/24", text)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), nil
}
