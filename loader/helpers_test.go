package loader

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/attach"
)

// mustRoutes returns the routes of the namespace.
func mustRoutes(t testing.TB) *attach.Routes {
	t.Helper()
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	r, err := attach.NewRoutes(h)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ourRoutes returns the addresses to which the namespace has a route of ours.
func ourRoutes(t testing.TB) []netip.Addr {
	t.Helper()
	out, err := mustRoutes(t).Ours()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// keepLinks opens all links pinned in a folder, so that they outlive their pins.
func keepLinks(t testing.TB, folder string) (kept []link.Link) {
	t.Helper()
	pins, err := filepath.Glob(filepath.Join(folder, "link_*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pin := range pins {
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, l)
	}
	return kept
}

func closeLinks(links []link.Link) {
	for _, l := range links {
		l.Close()
	}
}

func metaWrites(m abi.Meta) []abi.Write { return []abi.Write{writeMeta(m)} }

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

// timeAfter is some seconds from now.
func timeAfter(seconds int) time.Time { return time.Now().Add(time.Duration(seconds) * time.Second) }
