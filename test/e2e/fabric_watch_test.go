//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// seen returns in which state a node's agent sees the nodes.
func (s *nodes) seen(by int) (map[string]string, error) {
	out, err := s.agents[by].Ctl("nodes", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Nodes []struct{ Name, State string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	states := map[string]string{}
	for _, n := range list.Nodes {
		states[n.Name] = n.State
	}
	return states, nil
}

// untilSeen waits until these nodes see another in a state.
func (s *nodes) untilSeen(other int, state string, by ...int) {
	s.t.Helper()
	for _, i := range by {
		must(s.t, lab.Until(10*time.Second, fmt.Sprintf("%s as node %d sees node %d", state, i+1, other+1), func() error {
			states, err := s.seen(i)
			if have := states[s.lab.Nodes[other].Name]; err == nil && have != state {
				err = fmt.Errorf("it is %q", have)
			}
			return err
		}))
	}
}

// threeNodes is a fabric of three whose endpoints are never changed, with connections spread
// over all.
func threeNodes(t *testing.T, open int) (*nodes, []*held) {
	t.Helper()
	s := newNodes(t, 3, "--fabric", "--l4-dsr", "--idle-timeout", "10m")
	for i := range s.agents { // each serves what comes to it until it knows the others
		s.startNode(i)
	}
	s.setStates("serving", "serving", "serving")
	must(t, s.lab.SpreadVIPs(s.lab.Nodes...))
	var connections []*held
	for i := range open {
		h, err := s.hold(i)
		must(t, err)
		t.Cleanup(h.close)
		connections = append(connections, h)
	}
	return s, connections
}

// newOnes opens connections, to HTTP and to the L4 service, and returns where HTTP's end.
func (s *nodes) newOnes(when string, n int) (at [3]int) {
	s.t.Helper()
	for i := range n {
		h, err := s.hold(i)
		if err != nil {
			s.t.Errorf("%s: a new connection: %v", when, err)
			continue
		}
		if !h.l4 {
			at[h.node]++
		}
		h.close()
	}
	return at
}

// TestFabricNodeDies: nobody says that a node is dead; the others leave it within a second or
// two. An agent that is killed is no dead node.
func TestFabricNodeDies(t *testing.T) {
	s, connections := threeNodes(t, 60)
	s.newOnes("at first", 12)

	s.agents[2].Agent.Kill()
	until := time.Now().Add(2500 * time.Millisecond)
	for time.Now().Before(until) {
		states, err := s.seen(0)
		must(t, err)
		if got := states[s.lab.Nodes[2].Name]; got != "serving" {
			t.Fatalf("a node whose agent is away is %q", got)
		}
		time.Sleep(100 * time.Millisecond)
	}
	at := s.newOnes("an agent is away", 60)
	if at[2] == 0 {
		t.Errorf("the node whose agent is away gets no connections: %v", at)
	}
	must(t, s.agents[2].Start())
	s.untilSeen(0, "serving", 2)
	time.Sleep(1500 * time.Millisecond) // it must have heard of the others to miss them

	must(t, s.lab.Nodes[1].Cut())
	died := time.Now()
	s.agents[1].Agent.Kill()
	must(t, s.lab.SpreadVIPs(s.lab.Nodes[0], s.lab.Nodes[2]))
	s.untilSeen(1, "silent", 0, 2)
	report(t, "both others have left the dead node %s after its death", time.Since(died).Round(10*time.Millisecond))
	if took := time.Since(died); took > 4*time.Second {
		t.Errorf("that took %s", took)
	}
	s.write("echo.yaml", l4Objects(nil, s.echo[0], s.echo[2])...) // pods are Kubernetes' to say
	must(t, lab.Until(10*time.Second, "change of pods", func() error {
		for i := range 10 {
			h, err := s.hold(2 * i)
			if err != nil {
				return err
			}
			h.close()
		}
		return nil
	}))
	if at := s.newOnes("a node is dead", 60); at[1] != 0 {
		t.Errorf("new connections end at the dead node: %v", at)
	}
	for i, h := range connections {
		if h.l4 || h.node == 1 {
			continue // of L4 those break whose way the dead node alone knew: see TestFabric
		}
		if node, err := s.ask(h, "a node is dead"); err != nil || node != h.node {
			t.Errorf("connection %d of node %d: %d, %v", i, h.node+1, node+1, err)
		}
	}
}

// TestFabricDrain: kerngatectl drain has a node get no new connections, though the router still
// sends it packets and the endpoints say that it serves; the open ones go on. It outlives the
// agent. After undrain it has its share again.
func TestFabricDrain(t *testing.T) {
	s, connections := threeNodes(t, 90)
	all := func(when string) {
		t.Helper()
		for i, h := range connections {
			if node, err := s.ask(h, when); err != nil || node != h.node {
				t.Errorf("%s: connection %d (L4 %v), which ends at node %d: %d, %v", when, i, h.l4, h.node+1, node+1, err)
			}
		}
	}
	out, err := s.agents[0].Ctl("drain")
	must(t, err)
	report(t, "%s", out)
	s.untilSeen(0, "draining", 0, 1, 2)
	all("a node drains")
	if at := s.newOnes("a node drains", 60); at[0] != 0 || at[1] == 0 || at[2] == 0 {
		t.Errorf("a node drains, and new connections end at %v", at)
	}

	s.agents[0].Agent.Kill()
	all("its agent was killed")
	if at := s.newOnes("its agent was killed", 40); at[0] != 0 {
		t.Errorf("its agent was killed, and new connections end at %v", at)
	}
	must(t, s.agents[0].Start())
	s.untilSeen(0, "draining", 0, 1, 2)
	if at := s.newOnes("another agent", 40); at[0] != 0 {
		t.Errorf("another agent runs, and new connections end at %v", at)
	}

	_, err = s.agents[0].Ctl("undrain")
	must(t, err)
	s.untilSeen(0, "serving", 0, 1, 2)
	all("it drains no more")
	if at := s.newOnes("it drains no more", 60); at[0] == 0 {
		t.Errorf("it drains no more, and new connections end at %v", at)
	}
}
