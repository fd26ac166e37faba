//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kerngate/kerngate/loader/fabric"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/test/lab"
)

// nodes is a lab with an agent on each of several nodes, all of which serve one web site
// and one echo service, with a pod of each on every node.
type nodes struct {
	*site
	agents []*lab.Kerngate
	web    []*lab.Pod // by node
	echo   []*lab.Pod
	states []string // by node, as the endpoints say: see setStates
}

// memberService is whose endpoints the nodes are.
const memberService = "kerngate-system/kerngate"

func newNodes(t *testing.T, n int, args ...string) *nodes {
	t.Helper()
	s := &nodes{site: prepareSite(t, n, []app{{"intro", n}}, lab.Path{Host: "host.example.com", Service: "intro"})}
	s.web, s.states = s.pods["intro"], make([]string, n)
	s.agents = append(s.agents, s.Kerngate)
	for i, node := range s.lab.Nodes {
		if i > 0 {
			k, err := node.NewKerngate(s.Binaries)
			must(t, err)
			s.agents = append(s.agents, k)
		}
		pod, err := node.AddPod(fmt.Sprintf("echo-%d", i+1))
		must(t, err)
		serveEcho(t, pod)
		s.echo = append(s.echo, pod)
		s.agents[i].Args = append([]string{"--fabric-service", memberService, "--prefer-local"}, args...)
	}
	var endpoints []lab.Endpoint
	for _, pod := range s.web {
		endpoints = append(endpoints, pod.Endpoint(false))
	}
	s.write("class.yaml", lab.IngressClass())
	s.write("ingress.yaml", lab.Ingress("site", lab.Path{Host: "host.example.com", Service: "intro"}))
	s.write("intro.yaml", lab.Service("intro"), lab.EndpointSlice("intro", endpoints...))
	s.write("echo.yaml", l4Objects(nil, s.echo...)...)
	return s
}

// write writes a file of manifests on every node.
func (s *nodes) write(file string, objects ...lab.Object) {
	s.t.Helper()
	for _, k := range s.agents {
		must(s.t, k.Manifests.Write(file, objects...))
	}
}

// setStates tells all nodes what each is: "serving", "draining", "not ready", or "" for no
// member, and waits until those that run know.
func (s *nodes) setStates(states ...string) {
	s.t.Helper()
	copy(s.states, states)
	conditions := map[string]lab.Object{
		"serving":   {"ready": true},
		"draining":  {"ready": false, "serving": true, "terminating": true},
		"not ready": {"ready": false},
	}
	var objects []lab.Object
	for _, six := range []bool{false, true} {
		var endpoints []lab.Endpoint
		for i, node := range s.lab.Nodes {
			if states[i] == "" || six && !node.IPv6.IsValid() {
				continue
			}
			e := lab.Endpoint{Address: node.IPv4, Node: node.Name, Conditions: conditions[states[i]]}
			if six {
				e.Address = node.IPv6
			}
			endpoints = append(endpoints, e)
		}
		slice := lab.EndpointSlice("kerngate", endpoints...)
		slice["metadata"].(lab.Object)["namespace"] = "kerngate-system"
		objects = append(objects, slice)
	}
	s.write("members.yaml", objects...)
	for _, k := range s.agents {
		if k.Agent == nil || ended(k.Agent) {
			continue
		}
		must(s.t, lab.Until(10*time.Second, "view of the members", func() error {
			out, err := k.Ctl("nodes", "-o", "json")
			if err != nil {
				return err
			}
			var list struct {
				Nodes []struct{ Name, State string }
			}
			if err := json.Unmarshal([]byte(out), &list); err != nil {
				return err
			}
			seen := map[string]string{}
			for _, n := range list.Nodes {
				seen[n.Name] = n.State
			}
			for i, node := range s.lab.Nodes {
				if seen[node.Name] != states[i] {
					return fmt.Errorf("%s sees %s as %q, want %q", k.Node.Name, node.Name, seen[node.Name], states[i])
				}
			}
			return nil
		}))
	}
}

func ended(p *lab.Process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// startNode starts a node's agent and waits until it serves.
func (s *nodes) startNode(i int) {
	s.t.Helper()
	must(s.t, s.lab.RouteVIPs(s.lab.Nodes[i]))
	must(s.t, s.agents[i].Start())
	if err := s.agents[i].WaitServing(s.lab.Client, 20*time.Second); err != nil {
		s.t.Fatalf("node %d: %v", i+1, err)
	}
}

// counters returns the packets that a node counted, by "program/reason".
func (s *nodes) counters(i int) map[string]int {
	s.t.Helper()
	out, err := s.agents[i].Ctl("status", "-o", "json")
	must(s.t, err)
	var status struct {
		Kernel struct {
			Counters []struct {
				Program, Reason string
				Count           int
			}
		}
	}
	must(s.t, json.Unmarshal([]byte(out), &status))
	found := map[string]int{}
	for _, c := range status.Kernel.Counters {
		if c.Count > 0 {
			found[c.Program+"/"+c.Reason] = c.Count
		}
	}
	return found
}

// TestDSR: pods of another node answer the client by themselves: what comes in by the first
// node goes out by the pod's, with the ingress address, and the pod sees the client. What is
// too big for the way between the nodes is told the client; fragments find their way.
func TestDSR(t *testing.T) {
	s := newNodes(t, 2, "--l4-dsr")
	for i := range s.agents {
		s.startNode(i)
	}
	s.setStates("serving", "serving")
	s.write("echo.yaml", l4Objects(nil, s.echo[1])...) // on the other node alone
	must(t, s.lab.RouteVIPs(s.lab.Nodes[0]))
	for _, vip := range s.vips() {
		for _, network := range []string{"tcp", "udp"} {
			must(t, lab.Until(5*time.Second, "answer of the other node's pod", func() error {
				e, err := s.dialEcho(network, vip)
				if err != nil {
					return err
				}
				defer e.Close()
				pod, err := e.ask("hello")
				if err == nil && pod != s.echo[1].Name {
					err = fmt.Errorf("%s answers", pod)
				}
				return err
			}))
			before0, before1 := s.counters(0), s.counters(1)
			for range 10 {
				e, err := s.dialEcho(network, vip)
				must(t, err)
				texts := []string{"hello", strings.Repeat("x", 1200)}
				if network == "tcp" {
					texts = append(texts, strings.Repeat("large", 20000))
				}
				for _, text := range texts {
					if pod, err := e.ask(text); err != nil || pod != s.echo[1].Name {
						t.Fatalf("%s to %s, %d bytes: answered by %q, %v", network, vip, len(text), pod, err)
					}
				}
				e.Close()
			}
			after0, after1 := s.counters(0), s.counters(1)
			grown := func(after, before map[string]int, reason string) (n int) {
				for _, program := range []string{"kg_xdp", "kg_ingress", "kg_egress"} {
					n += after[program+"/"+reason] - before[program+"/"+reason]
				}
				return n
			}
			handed, arrived := grown(after0, before0, "node_backend"), grown(after1, before1, "node_arrived")
			replies := grown(after1, before1, "l4_reply")
			if handed < 20 || arrived != handed || replies < 20 {
				t.Errorf("%s to %s: %d packets handed over, %d arrived, %d replies", network, vip, handed, arrived, replies)
			}
			if n := grown(after0, before0, "l4_reply"); n != 0 {
				t.Errorf("%s to %s: %d replies passed the first node", network, vip, n)
			}
		}
		// A datagram of the path's size before it was encapsulated: the first is lost, the
		// client learns by it, and fragments what follows.
		e, err := s.dialEcho("udp", vip)
		must(t, err)
		must(t, lab.Until(10*time.Second, "answer to a large datagram", func() error {
			_, err := e.ask(strings.Repeat("d", 1440))
			return err
		}))
		if pod, err := e.ask(strings.Repeat("fragments", 600)); err != nil || pod != s.echo[1].Name {
			t.Errorf("fragments to %s: answered by %q, %v", vip, pod, err)
		}
		e.Close()
	}
	if n := s.counters(0)["kg_ingress/node_too_big"]; n == 0 {
		t.Error("no packet was too big for the way between the nodes: the test proves less than it says")
	}
	out, err := s.agents[0].Ctl("nodes")
	must(t, err)
	for _, want := range []string{"node-1 (this)", "node-2", "serving", "node_backend"} {
		if !strings.Contains(out, want) {
			t.Errorf("kerngatectl nodes does not show %q:\n%s", want, out)
		}
	}
}

// held is an open connection of TestFabric.
type held struct {
	l4    bool
	vip   netip.Addr
	echo  *echoes
	http  *http.Client
	conn  *onceDialled
	node  int // whose proxy, or pod, it ends at
	owner int // of its slot when it was opened
}

// onceDialled lets an HTTP client have one connection only.
type onceDialled struct {
	mu    sync.Mutex
	dials int
	local netip.AddrPort
}

// ask uses a connection once and returns the node at which it ends.
func (s *nodes) ask(h *held, text string) (node int, err error) {
	if h.l4 {
		pod, err := h.echo.ask(text)
		return s.nodeOf(pod), err
	}
	response, err := h.http.Get("http://host.example.com/")
	if err != nil {
		return -1, err
	}
	r, err := readReply(response)
	if err != nil || r.Status != 200 {
		return -1, fmt.Errorf("status %d, %v", r.Status, err)
	}
	return s.nodeOf(r.Header.Get("X-Pod")), nil
}

func (s *nodes) nodeOf(pod string) int {
	for i := range s.lab.Nodes {
		if s.web[i].Name == pod || s.echo[i].Name == pod {
			return i
		}
	}
	return -1
}

var errSecondDial = errors.New("the connection has ended")

// hold opens a connection: every other one to the echo service.
func (s *nodes) hold(i int) (*held, error) {
	vips := s.vips()
	h := &held{l4: i%2 == 0, vip: vips[i/2%len(vips)]}
	var err error
	if h.l4 {
		h.echo, err = s.dialEcho("tcp", h.vip)
	} else {
		h.http, h.conn = s.keepAlive(h.vip)
	}
	if err == nil {
		h.node, err = s.ask(h, "first")
	}
	return h, err
}

func (s *nodes) client(h *held) (client, listener netip.AddrPort) {
	if h.l4 {
		return netip.MustParseAddrPort(h.echo.LocalAddr().String()), netip.AddrPortFrom(h.vip, l4Port)
	}
	return h.conn.local, netip.AddrPortFrom(h.vip, 80)
}

func (h *held) close() {
	if h.l4 {
		h.echo.Close()
		return
	}
	h.http.CloseIdleConnections()
}

// TestFabric: a router spreads connections over the nodes anew each time one comes or goes.
// Of many open ones none breaks when a node is added or drained; when one is killed, those
// that ended there do, and no other.
func TestFabric(t *testing.T) {
	s := newNodes(t, 3, "--fabric", "--l4-dsr", "--idle-timeout", "10m")
	all := s.lab.Nodes
	s.setStates("serving", "serving", "")
	s.startNode(0)
	s.startNode(1)
	must(t, s.lab.SpreadVIPs(all[0], all[1]))

	const open = 1000
	connections := make([]*held, open)
	members := func(names ...int) (out []state.Node) {
		for _, i := range names {
			out = append(out, state.Node{Name: all[i].Name, State: state.NodeServing})
		}
		return out
	}
	owners := func(names ...int) func(h *held) int {
		table := fabric.Owners(members(names...))
		return func(h *held) int {
			client, listener := s.client(h)
			id := table[fabric.Slot(client, listener, state.TCP)].Nodes[0]
			for i := range all {
				if fabric.ID(all[i].Name) == id {
					return i
				}
			}
			return -1
		}
	}
	for i := range connections {
		h, err := s.hold(i)
		if err != nil {
			t.Fatalf("open connection %d: %v; packets at the nodes: %v, %v", i, err, s.counters(0), s.counters(1))
		}
		t.Cleanup(h.close)
		connections[i] = h
	}
	ownerOf := owners(0, 1)
	ended := [3]int{}
	for i, h := range connections {
		h.owner = ownerOf(h)
		ended[h.node]++
		if !h.l4 && h.owner != h.node {
			t.Errorf("connection %d is of %s, but its owner is %s", i, all[h.node].Name, all[h.owner].Name)
		}
	}
	report(t, "%d connections: %v end at the nodes", open, ended)

	// try asks on all connections and returns those that broke.
	try := func(when string, timeout time.Duration) (broken map[int]error) {
		broken = map[int]error{}
		var mu sync.Mutex
		var work sync.WaitGroup
		places := make(chan struct{}, 100)
		for i, h := range connections {
			if h == nil {
				continue
			}
			work.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				if h.http != nil {
					h.http.Timeout = timeout
				}
				node, err := s.ask(h, when)
				if err == nil && node != h.node {
					err = fmt.Errorf("it ended at %s, and now at %d", all[h.node].Name, node+1)
				}
				if err != nil {
					mu.Lock()
					broken[i] = err
					mu.Unlock()
				}
			})
		}
		work.Wait()
		return broken
	}
	none := func(when string) {
		t.Helper()
		broken := try(when, 5*time.Second)
		for i, err := range broken {
			t.Logf("%s: connection %d (L4 %v, node %d, owner %d): %v", when, i, connections[i].l4, connections[i].node+1, connections[i].owner+1, err)
		}
		if len(broken) > 0 {
			t.Errorf("%s: %d of %d connections broke", when, len(broken), open)
		}
		for i := range broken {
			connections[i].close()
			connections[i] = nil
		}
	}
	none("at first")

	// A node is added: the router uses it at once.
	s.setStates("serving", "serving", "not ready")
	must(t, s.lab.RouteVIPs(all[2]))
	s.startNode(2)
	s.setStates("serving", "serving", "serving")
	must(t, s.lab.SpreadVIPs(all...))
	none("a node is added")

	// A node drains: it gets no new connections, and the router leaves it out.
	s.setStates("draining", "serving", "serving")
	none("a node drains")
	must(t, s.lab.SpreadVIPs(all[1], all[2]))
	none("a node drains, without a route to it")
	for i := range 30 {
		h, err := s.hold(2*i + 1)
		must(t, err)
		if h.node == 0 {
			t.Errorf("a new connection ended at the node that drains")
		}
		h.close()
	}
	out, err := s.agents[2].Ctl("nodes")
	must(t, err)
	report(t, "%s", out)

	// A node is killed: the router learns of it, and the others hear that it is not ready.
	must(t, all[1].Cut())
	s.agents[1].Agent.Kill()
	must(t, s.lab.SpreadVIPs(all[2]))
	s.setStates("draining", "not ready", "serving")
	s.write("echo.yaml", l4Objects(nil, s.echo[0], s.echo[2])...)
	broken := try("a node is killed", 5*time.Second)
	expected, byOwner := 0, 0
	for i, h := range connections {
		if h == nil {
			continue
		}
		_, is := broken[i]
		if h.node == 1 {
			expected++
			if !is {
				t.Errorf("connection %d ended at the node that was killed, and goes on", i)
			}
			continue
		}
		if is && h.l4 && h.owner == 1 {
			byOwner++ // its way was known there alone, and the pods have changed since
			continue
		}
		if is {
			t.Errorf("connection %d (L4 %v) broke, which ended at %s: %v", i, h.l4, all[h.node].Name, broken[i])
		}
	}
	report(t, "killed: %d connections broke: %d ended there, %d of L4 had their owner there and lost their pod by the change of pods", len(broken), expected, byOwner)
	if byOwner > open/50 {
		t.Errorf("%d connections to pods of living nodes broke", byOwner)
	}
}

// keepAlive returns an HTTP client that opens one connection and no other.
func (s *nodes) keepAlive(vip netip.Addr) (*http.Client, *onceDialled) {
	o := &onceDialled{}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.dials++; o.dials > 1 {
			return nil, errSecondDial
		}
		conn, err := s.lab.Client.Dial(ctx, network, netip.AddrPortFrom(vip, 80).String())
		if err == nil {
			o.local = netip.MustParseAddrPort(conn.LocalAddr().String())
		}
		return conn, err
	}
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dial}}, o
}
