//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// After --uninstall nothing of Kerngate is left on the node: no pins, links, routes or
// processes, no program on the interface.
func TestUninstall(t *testing.T) {
	s := prepareSite(t, 1, []app{{"web", 1}}, lab.Path{Host: webHost, Service: "web"})
	s.Args = append(s.Args, "--notrack", "--sk-msg", "--xdp-mode", "native")
	s.start()
	s.get("http://" + webHost + "/")
	has := func(kind string) bool {
		residue, err := s.Residue()
		must(t, err)
		return slices.ContainsFunc(residue, func(thing string) bool { return strings.HasPrefix(thing, kind) })
	}

	// 1. What is there before, so that the test cannot pass by looking in the wrong place.
	kept := []string{"pin", "BPF link", "XDP program", "local route", "table kerngate"}
	for _, kind := range append(kept, "process "+lab.AgentBinary, "process "+lab.ProxyBinary) {
		if !has(kind) {
			t.Errorf("no %s while the agent runs", kind)
		}
	}
	// 2. A plain stop leaves what the next agent takes over.
	must(t, s.Agent.Stop(15*time.Second))
	for _, kind := range kept {
		if !has(kind) {
			t.Errorf("no %s after a plain stop", kind)
		}
	}
	if has("process") {
		t.Error("a process is left after a plain stop")
	}
	// 3. Uninstalling removes all of it; doing so twice is no error, as scripts repeat it.
	for range 2 {
		if _, err := s.Uninstall(); err != nil {
			t.Fatal(err)
		}
		must(t, lab.Until(5*time.Second, "end of everything", func() error { // the kernel frees links a moment later
			residue, err := s.Residue()
			if err == nil && len(residue) > 0 {
				err = fmt.Errorf("%v", residue)
			}
			return err
		}))
	}
	// 4. A new start works.
	s.start()
	if r := s.get("http://" + webHost + "/"); r.Status != 200 {
		t.Errorf("after uninstall and start: %d %s", r.Status, r.Body)
	}
}
