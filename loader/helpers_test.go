package loader

import (
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// ourRoutes returns the addresses to which the namespace has a route of ours.
func ourRoutes(t testing.TB) []netip.Addr {
	t.Helper()
	h, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r, err := newRoutes(h)
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.ours()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lookupsHere returns how many sk_lookup programs are attached to the namespace.
func lookupsHere(t testing.TB) int {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	q, err := link.QueryPrograms(link.QueryOptions{Target: int(ns.Fd()), Attach: ebpf.AttachSkLookup})
	if err != nil {
		t.Fatal(err)
	}
	return len(q.Programs)
}
