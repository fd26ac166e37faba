//go:build linux

// Command benchl4 measures what it costs to publish a TCP port: Kerngate's L4 services,
// nftables DNAT, IPVS, haproxy in TCP mode and nginx's stream module, and plain routing to the
// pod as the zero, all in one lab; and the same for a pod of another node. scripts/bench-l4
// runs it.
//
// What is measured is CPU time of everything that has part in it: this process, which is
// client and pod, and in whose name the kernel forwards on virtual cables, and the proxy.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/kerngate/kerngate/test/lab"
)

var (
	bin         = flag.String("bin", "", "folder with kerngate-agent, kerngate-proxy and the rest; empty: they are built")
	rounds      = flag.Int("rounds", 25, "rounds; in each every way is measured once")
	requests    = flag.Int("requests", 2000, "requests of a round, on one connection")
	connections = flag.Int("connections", 200, "connections of a round, with one request each")
	bulk        = flag.Int("bulk", 32, "MiB sent in a round on one connection")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchl4:", err)
		os.Exit(1)
	}
}

// Names of ways that others are compared with.
const (
	kerngate     = "Kerngate"
	plainRouting = "plain routing"
	nftables     = "nftables DNAT"
	haproxyTCP   = "haproxy, TCP mode"
)

// way is one way to reach the pod.
type way struct {
	name    string
	address netip.AddrPort
	proxy   *lab.Process // user space that has part in it
	on, off func() error // around each round, nil: nothing

	perRequest, perConnection, perMiB []float64 // CPU microseconds of each round
}

func run() (err error) {
	if *rounds < 1 || *requests < 1 || *connections < 1 || *bulk < 1 || *requests > 1e6 || *connections > 1e5 || *bulk > 1<<14 {
		return errors.New("-rounds, -requests, -connections and -bulk must be positive and bounded")
	}
	dir := *bin
	if dir == "" {
		if dir, err = lab.TempDir(); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if _, err = lab.BuildAll(dir); err != nil {
			return err
		}
	}
	l, err := lab.New(lab.Options{Nodes: 8, NoIPv6: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	ways, err := layOut(l, lab.Binaries(dir))
	if err != nil {
		return err
	}
	for range *rounds {
		for _, w := range ways {
			if err := l.Client.Do(w.measure); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	report(os.Stdout, ways)
	return nil
}

// layOut makes everything ready. Kerngate in XDP has nodes of its own: there a program at a
// virtual cable makes all that comes in dearer, whoever forwards it.
func layOut(l *lab.Lab, binaries lab.Binaries) ([]*way, error) {
	node, behindXDP, others := l.Nodes[0], l.Nodes[6], l.Nodes[7]
	pods := make(map[*lab.Node]*lab.Pod)
	for i, n := range []*lab.Node{node, behindXDP, others} {
		pod, err := n.AddPod(fmt.Sprintf("near-%d", i))
		if err != nil {
			return nil, err
		}
		if err := serve(pod); err != nil {
			return nil, err
		}
		pods[n] = pod
	}
	if err := startAgent(l, node, binaries, pods[node]); err != nil {
		return nil, err
	}
	if err := startAgent(l, behindXDP, binaries, pods[behindXDP], "--xdp-mode=native"); err != nil {
		return nil, err
	}
	// With a pod of its own: a connection to one by the same port as one of a moment ago by
	// another way would be taken for that.
	plain, err := others.AddPod("plain")
	if err != nil {
		return nil, err
	}
	if err := serve(plain); err != nil {
		return nil, err
	}
	vip := netip.AddrPortFrom(l.VIP4, podPort)
	ways := []*way{
		{name: plainRouting, address: netip.AddrPortFrom(plain.IPv4, podPort)},
		{name: kerngate, address: vip},
		{
			name: kerngate + ", --xdp-mode=native", address: vip,
			on:  func() error { return l.RouteVIPs(behindXDP) },
			off: func() error { return l.RouteVIPs(node) },
		},
	}
	peers, err := layOutPeers(l, others, netip.AddrPortFrom(pods[others].IPv4, podPort))
	if err != nil {
		return nil, err
	}
	remote, err := layOutRemote(l, binaries)
	return slices.Concat(ways, peers, remote), err
}
