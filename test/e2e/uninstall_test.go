//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
)

// bpfLinks lists the ids of the machine's BPF links.
func bpfLinks(t *testing.T) map[link.ID]bool {
	t.Helper()
	ids := make(map[link.ID]bool)
	iterator := new(link.Iterator)
	defer iterator.Close()
	for iterator.Next() {
		ids[iterator.ID] = true
	}
	must(t, iterator.Err())
	return ids
}

// After --uninstall nothing of Kerngate is left in the kernel: no pins, links or routes, no
// program on the interface.
func TestUninstall(t *testing.T) {
	linksBefore := bpfLinks(t)
	s := webSite(t, 1)
	s.get("http://" + webHost + "/")
	node := s.Node

	// What is there before, so that the test cannot pass by looking in the wrong place.
	pins, err := os.ReadDir(s.Pins())
	must(t, err)
	if len(pins) == 0 {
		t.Fatal("nothing is pinned while the agent runs")
	}
	if !s.hasLocalRoute() {
		t.Error("no local route to the ingress address while the agent runs")
	}
	added := 0
	for id := range bpfLinks(t) {
		if !linksBefore[id] {
			added++
		}
	}
	if added == 0 {
		t.Error("no BPF link while the agent runs")
	}

	must(t, s.Agent.Stop(15*time.Second))
	if pins, err := os.ReadDir(s.Pins()); err != nil || len(pins) == 0 {
		t.Errorf("pins after a plain stop: %v, %v; want them kept", pins, err)
	}
	if _, err := s.Uninstall(); err != nil {
		t.Fatal(err)
	}

	left, err := s.PinsLeft()
	must(t, err)
	if len(left) > 0 {
		t.Errorf("in the bpffs after --uninstall: %v", left)
	}
	if s.hasLocalRoute() {
		t.Error("the local route to the ingress address is still there")
	}
	must(t, lab.Until(5*time.Second, "the links' end", func() error { // the kernel frees them a moment later
		for id := range bpfLinks(t) {
			if !linksBefore[id] {
				return fmt.Errorf("BPF link %d is left", id)
			}
		}
		return nil
	}))
	eth0, err := node.Links().LinkByName("eth0")
	must(t, err)
	if xdp := eth0.Attrs().Xdp; xdp != nil && xdp.Attached {
		t.Errorf("XDP program %d is left on eth0", xdp.ProgId)
	}
	// Uninstalling what is not there is no error: scripts repeat it.
	if _, err := s.Uninstall(); err != nil {
		t.Errorf("a second --uninstall: %v", err)
	}
	// And a new start works.
	s.start()
	if r := s.get("http://" + webHost + "/"); r.Status != 200 {
		t.Errorf("after uninstall and start: %d %s", r.Status, r.Body)
	}
}

// hasLocalRoute reports whether the node has a route of its own to an ingress address.
func (s *site) hasLocalRoute() bool {
	s.t.Helper()
	for _, vip := range s.vips() {
		routes, err := s.Node.Links().RouteListFiltered(netlink.FAMILY_ALL,
			&netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: host(net.IP(vip.AsSlice()))}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		must(s.t, err)
		if len(routes) > 0 {
			return true
		}
	}
	return false
}

func host(ip net.IP) *net.IPNet { return &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))} }
