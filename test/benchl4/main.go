//go:build linux

// Command benchl4 measures what it costs to publish a TCP port: Kerngate's L4 services,
// nftables DNAT, haproxy in TCP mode, and plain routing to the pod as the zero, all in one
// lab; and the same for a pod of another node. scripts/bench-l4 runs it.
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
	"os/exec"
	"slices"
	"strings"

	"github.com/kerngate/kerngate/test/lab"
)

var (
	bin         = flag.String("bin", "", "folder with kerngate-agent, kerngate-proxy and the rest; empty: they are built")
	rounds      = flag.Int("rounds", 7, "rounds; in each every way is measured once")
	requests    = flag.Int("requests", 20000, "requests of a round, on one connection")
	connections = flag.Int("connections", 2000, "connections of a round, with one request each")
	bulk        = flag.Int("bulk", 256, "MiB sent in a round on one connection")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "benchl4:", err)
		os.Exit(1)
	}
}

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
	l, err := lab.New(lab.Options{Nodes: 6, NoIPv6: true})
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
	report(ways)
	return nil
}

// layOut makes everything ready.
func layOut(l *lab.Lab, binaries lab.Binaries) ([]*way, error) {
	node := l.Nodes[0]
	pod, err := node.AddPod("pod")
	if err != nil {
		return nil, err
	}
	if err := serve(pod); err != nil {
		return nil, err
	}
	backend := netip.AddrPortFrom(pod.IPv4, podPort)
	// With a pod of its own: a connection to the same one by the same port as one of a moment
	// ago by Kerngate would be taken for that.
	plain, err := node.AddPod("plain")
	if err != nil {
		return nil, err
	}
	if err := serve(plain); err != nil {
		return nil, err
	}
	ways := []*way{{name: "plain routing", address: netip.AddrPortFrom(plain.IPv4, podPort)}}

	if err := startAgent(l, node, binaries, pod); err != nil {
		return nil, err
	}
	ways = append(ways, &way{name: "Kerngate", address: netip.AddrPortFrom(l.VIP4, podPort)})

	if nft, err := exec.LookPath("nft"); err == nil {
		const port = 6001
		rules := fmt.Sprintf("add table ip kgt; add chain ip kgt pre { type nat hook prerouting priority dstnat; }; add rule ip kgt pre tcp dport %d dnat to %s", port, backend)
		call := func(text string) func() error {
			return func() error {
				_, err := node.Run(lab.Command{Path: nft, Args: strings.Fields(text)})
				return err
			}
		}
		ways = append(ways, &way{name: "nftables DNAT", address: netip.AddrPortFrom(node.IPv4, port), on: call(rules), off: call("delete table ip kgt")})
	}
	if haproxy, err := exec.LookPath("haproxy"); err == nil {
		const port = 6002
		config := fmt.Sprintf("global\n nbthread 1\n maxconn 4096\ndefaults\n mode tcp\n timeout client 60s\n timeout server 60s\n timeout connect 5s\nlisten l\n bind :%d\n server s %s\n", port, backend)
		file := l.Dir + "/haproxy.cfg"
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return nil, err
		}
		process, err := node.Start(lab.Command{Path: haproxy, Args: []string{"-db", "-f", file}, Name: "haproxy"})
		if err != nil {
			return nil, err
		}
		w := &way{name: "haproxy, TCP mode", address: netip.AddrPortFrom(node.IPv4, port), proxy: process}
		if err := l.Client.WaitListening(w.address); err != nil {
			return nil, err
		}
		ways = append(ways, w)
	}
	remote, err := layOutRemote(l, binaries)
	return append(ways, remote...), err
}

// report prints medians, and what they are above plain routing.
func report(ways []*way) {
	fmt.Println("| way | CPU per request | added | CPU per connection | added | CPU per MiB | relative |")
	fmt.Println("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
	base := ways[0]
	for _, w := range ways {
		if strings.HasPrefix(w.name, "plain routing") {
			base = w // of those that follow
		}
		r, c, m := median(w.perRequest), median(w.perConnection), median(w.perMiB)
		fmt.Printf("| %s | %.1f us | %.1f us | %.0f us | %.0f us | %.0f us | %.2f |\n", w.name,
			r, r-median(base.perRequest), c, c-median(base.perConnection), m, m/median(base.perMiB))
	}
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
