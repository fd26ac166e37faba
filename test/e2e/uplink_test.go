//go:build linux

package e2e

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
	"github.com/kerngate/kerngate/userspace/look/status"
)

// TestUplinks: HTTP and L4 services by each kind of interface, with denied sources dropped
// there; which program does it is what the agent says, and the kernel's own counters.
//
// What kinds there are depends on the kernel. KERNGATE_TEST_UPLINKS names those that must
// not be missing: the virtual machines of scripts/vm-matrix have all.
func TestUplinks(t *testing.T) {
	needed := strings.Split(os.Getenv("KERNGATE_TEST_UPLINKS"), ",")
	for _, kind := range []struct {
		name string
		xdp  string // mode of kg_xdp without L4 services; "": left to kg_ingress
		on   string // the interface that the agent is told; "": the uplink
	}{
		{lab.UplinkVeth, "", ""},
		{lab.UplinkVLAN, "generic", ""}, // VLAN devices have no driver that could run it
		{lab.UplinkVLAN, "", "eth0"},    // which carries the tagged packets
		{lab.UplinkBond, "native", ""},  // as all that are bonded can
		{lab.UplinkVirtio, "native", ""},
	} {
		n := besideOthers(t)
		name, err := n.lab.AddUplink(n.Node, kind.name)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, os.ErrNotExist) {
			if slices.Contains(needed, kind.name) {
				t.Errorf("this machine must have it: %v", err)
			}
			// Not skipped: a kernel's kinds of interface are not to be installed.
			t.Logf("LEFT OUT: %v", err)
			continue
		}
		must(t, err)
		n.Uplink = cmp.Or(kind.on, name)
		if kind.on != "" {
			kind.name += "-parent"
		}
		must(t, n.Manifests.Remove("echo.yaml"))
		n.start()
		n.attached("kg_xdp", func(a status.Attachment) bool { return a.Mode == kind.xdp })
		first := "kg_xdp"
		if kind.xdp == "" {
			first = "kg_ingress"
			n.attached(first, func(a status.Attachment) bool { return a.Mode != "" })
		}
		passed := n.counted(first + "/passed")
		if r := n.get("http://" + webHost + "/"); r.Status != 200 {
			t.Errorf("%s: %d", kind.name, r.Status)
		}
		if n.counted(first+"/passed") == passed {
			t.Errorf("%s: %s saw no packet", kind.name, first)
		}

		n.publishEcho()
		n.attached("kg_egress", func(a status.Attachment) bool { return a.Mode != "" })
		replies := n.counted("kg_egress/l4_reply")
		n.traffic(kind.name)
		if n.counted("kg_egress/l4_reply") < replies+4 {
			t.Errorf("%s: kg_egress has not given replies their address", kind.name)
		}
		for _, program := range []string{"kg_xdp", "kg_ingress", "kg_egress"} {
			n.attached(program, func(a status.Attachment) bool {
				report(t, "%s: %s is %q %s", kind.name, program, a.Mode, a.Reason)
				return true
			})
		}
		if _, err := n.Uninstall(); err != nil {
			t.Errorf("%s: %v", kind.name, err)
		}
		n.close()
	}
}
