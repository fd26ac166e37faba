package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kerngate/kerngate/userspace/feed/feedpb"
)

// TestListeners: a listener is found by address and port, and what has none goes by its port.
func TestListeners(t *testing.T) {
	address := func(text string) []byte { return netip.MustParseAddr(text).AsSlice() }
	s := apply(t, Empty(), &feedpb.Config{Version: 1, Snapshot: true, Settings: &feedpb.Settings{HttpsPorts: []uint32{443}, Listeners: []*feedpb.Listener{
		{Name: "https", Address: address("192.0.2.1"), Port: 443, Tls: true},
		{Name: "https", Address: address("2001:db8::1"), Port: 8443, Tls: true},
		{Name: "plain", Address: address("192.0.2.2"), Port: 443},
	}}}).Settings
	for local, want := range map[string]bool{
		"192.0.2.1:443": true, "192.0.2.1:80": false, "[2001:db8::1]:8443": true, "192.0.2.1:8443": false,
		"192.0.2.2:443": false, // though the port is one of HTTPS elsewhere
		"192.0.2.3:443": true,
	} {
		if got := s.IsTLS(netip.MustParseAddrPort(local)); got != want {
			t.Errorf("%s: %t", local, got)
		}
	}
	for _, bad := range []*feedpb.Listener{{Name: "bad", Address: []byte{1, 2}, Port: 80}, {Name: "bad", Address: address("192.0.2.1"), Port: 70000}} {
		if _, err := Empty().Apply(&feedpb.Config{Version: 1, Settings: &feedpb.Settings{Listeners: []*feedpb.Listener{bad}}}); err == nil || !strings.Contains(err.Error(), "listener bad") {
			t.Errorf("%v: error %v", bad, err)
		}
	}
}
