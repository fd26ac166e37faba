//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// TestHandOverInXDP: with XDP in the driver packets for another node's pod go back out by the
// cable that they came on, behind their new headers, without the stack having seen them; the
// other node's XDP program takes them out again, and the pod answers the client.
func TestHandOverInXDP(t *testing.T) {
	s := newNodes(t, 2, "--l4-dsr", "--l4-hook", "xdp", "--xdp-mode", "native")
	must(t, s.lab.Client.FinishChecksums("eth0"))
	release, err := s.lab.TakeFromXDP()
	must(t, err)
	t.Cleanup(func() { must(t, release()) })
	for i := range s.agents {
		s.startNode(i)
	}
	s.setStates("serving", "serving")
	s.write("echo.yaml", l4Objects(nil, s.echo[1])...) // on the other node alone
	must(t, s.lab.RouteVIPs(s.lab.Nodes[0]))
	for _, vip := range s.vips() {
		for _, network := range []string{"tcp", "udp"} {
			ask := func(texts ...string) error {
				e, err := s.dialEcho(network, vip)
				if err != nil {
					return err
				}
				defer e.Close()
				for _, text := range texts {
					pod, err := e.ask(text)
					if err != nil {
						return err
					}
					if pod != s.echo[1].Name {
						return fmt.Errorf("%s answers", pod)
					}
				}
				return nil
			}
			// Until the nodes know each other's link addresses, the stack does it.
			must(t, lab.Until(5*time.Second, "answer of the other node's pod", func() error { return ask("hello") }))
			before0, before1 := s.counters(0), s.counters(1)
			for range 20 {
				must(t, ask("hello", strings.Repeat("x", 1200)))
			}
			grown := func(node int, before map[string]int, name string) int { return s.counters(node)[name] - before[name] }
			handed, left := grown(0, before0, "kg_xdp/node_backend"), grown(0, before0, "kg_ingress/node_backend")
			arrived := grown(1, before1, "kg_xdp/node_arrived")
			report(t, "%s to %s: %d packets handed over in XDP, %d by the stack; %d taken in XDP", network, vip, handed, left, arrived)
			if handed < 40 || left > 0 || arrived < handed {
				t.Errorf("%s to %s: want 40 or more handed over in XDP, none by the stack, and all taken in XDP", network, vip)
			}
		}
	}
	for i := range s.agents {
		out, err := s.agents[i].Ctl("status")
		must(t, err)
		if !strings.Contains(out, "kg_xdp ") || !strings.Contains(out, "native") {
			t.Errorf("kg_xdp is not in the driver of node %d:\n%s", i+1, out)
		}
	}
}
