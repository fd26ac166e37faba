package rule

import (
	"net/netip"
	"testing"
)

func TestDestination(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	allowed := []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("169.254.20.0/24")}
	for text, want := range map[string]bool{
		"10.0.0.1": true, "2001:db8::1": true, "fd00::1": true, "8.8.8.8": true, "127.0.0.2": true, "169.254.20.10": true, "::ffff:127.0.0.2": true,
		"127.0.0.1": false, "127.1.2.3": false, "::1": false, "::ffff:127.0.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false, "169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false,
		"224.0.0.1": false, "ff02::1": false, "255.255.255.255": false, "192.0.2.1": false, "::ffff:192.0.2.1": false, "fd00:ec2::254": false, "100.100.100.200": false,
	} {
		if err := Destination(netip.MustParseAddr(text), own, allowed); (err == nil) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
