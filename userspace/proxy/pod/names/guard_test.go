package names

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestGuard: an address of an interface of the node is not connected to, also by a name.
func TestGuard(t *testing.T) {
	if all := new(interfaces).addresses(); !slices.Contains(all, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("the addresses of this node are %v", all)
	}
	own := netip.MustParseAddr("198.51.100.7")
	node.Lock()
	node.known, node.at = []netip.Addr{own}, time.Now().Add(time.Hour)
	node.Unlock()
	defer func() {
		node.Lock()
		node.at = time.Time{}
		node.Unlock()
	}()
	d, c, _ := serve(t)
	d.set(own.String())
	for _, address := range []string{"198.51.100.7:9", "auth.test.:9", "[::ffff:198.51.100.7]:9"} {
		if _, err := c.Dial((*Guard)(nil).With(t.Context()), "tcp", address); err == nil || !strings.Contains(err.Error(), "198.51.100.7 is an address of this node") {
			t.Errorf("%s: %v", address, err)
		}
	}
	ingress := &Guard{Own: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Allowed: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}
	if err := judge(ingress.With(t.Context()), own); err != nil {
		t.Errorf("an allowed address: %v", err)
	}
	if err := judge(ingress.With(t.Context()), ingress.Own[0]); err == nil {
		t.Error("the ingress is reached")
	}
	if err := judge(t.Context(), own); err != nil {
		t.Errorf("the address of a pod: %v", err)
	}
}
