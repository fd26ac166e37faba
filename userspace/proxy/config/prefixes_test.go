package config

import (
	"net/netip"
	"testing"
)

func TestPrefixes(t *testing.T) {
	p, err := parsePrefixes("trusted_proxies", []string{"192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:203.0.113.0/120"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"192.0.2.255": true, "192.0.3.0": false, "::ffff:192.0.2.1": true,
		"198.51.100.7": true, "198.51.100.8": false,
		"2001:db8:ffff::1": true, "2001:db9::1": false, "2001:db8::1%eth0": true,
		"203.0.113.9": true, "203.0.114.9": false, "::ffff:203.0.113.9": true,
	} {
		if got := p.Contain(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is in the set: %t, want %t", address, got, want)
		}
	}
	if Prefixes(nil).Contain(netip.MustParseAddr("::1")) {
		t.Error("the empty set contains an address")
	}
	for _, bad := range []string{"", "192.0.2.0/33", "192.0.2/24", "example.com", "fe80::1%eth0", "::ffff:0:0/95", "192.0.2.1/"} {
		if p, err := parsePrefixes("trusted_proxies", []string{bad}); err == nil {
			t.Errorf("%q is taken as %v", bad, p)
		}
	}
	if n := testing.AllocsPerRun(100, func() { p.Contain(netip.MustParseAddr("10.0.0.1")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
