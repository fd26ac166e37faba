//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/kerngate/kerngate/test/lab"
)

// skMsgScenarios are those of -sk-msg: what pods of the same node answer, small and large.
var skMsgScenarios = []scenario{
	{name: "HTTP/1.1, 128 B, 64 connections", load: wrk{size: 128, connections: 64}},
	{name: "HTTP/1.1, 4 KiB, 64 connections", load: wrk{size: 4 << 10, connections: 64}},
	{name: "HTTP/1.1, 16 KiB, 64 connections", load: wrk{size: 16 << 10, connections: 64}},
	{name: "HTTP/1.1, 64 KiB, 64 connections", load: wrk{size: 64 << 10, connections: 64}},
	{name: "HTTP/1.1, 256 KiB, 16 connections", load: wrk{size: 256 << 10, connections: 16}},
	{name: "HTTP/1.1, 1 MiB, 16 connections", load: wrk{size: 1 << 20, connections: 16}},
	{name: "HTTP/2 clients, 128 B, 16 connections of 16 streams", load: h2load{size: 128, connections: 16, streams: 16}},
	{name: "HTTP/2 clients, 16 KiB, 16 connections of 16 streams", load: h2load{size: 16 << 10, connections: 16, streams: 16}},
	{name: "HTTP/2 clients and pods (gRPC unary), 16 connections of 8 streams", load: h2load{connections: 16, streams: 8, grpc: true}},
}

// newSkMsgBench runs Kerngate with --sk-msg and without, each on a node of its own with pods of
// its own; the client's packets go to the one that is measured.
func newSkMsgBench(l *lab.Lab, o options) (*bench, error) {
	b := emptyBench(l, o)
	if err := b.makeCertificates(); err != nil {
		return nil, err
	}
	for i, way := range []struct {
		name string
		args []string
	}{{"--sk-msg", []string{"--sk-msg"}}, {"without", nil}} {
		b.node = l.Nodes[i]
		if err := l.RouteVIPs(b.node); err != nil {
			return nil, err
		}
		if err := trackConnections(b.node); err != nil {
			return nil, fmt.Errorf("have node %d track connections: %w", i+1, err)
		}
		web, err := b.addPods("backend", fmt.Sprintf("bench-n%d", i+1), o.pods)
		if err != nil {
			return nil, err
		}
		grpc, err := b.addPods("grpcpod", fmt.Sprintf("grpc-n%d", i+1), o.pods)
		if err != nil {
			return nil, err
		}
		if err := b.addKerngate(web, grpc, way.args...); err != nil {
			return nil, err
		}
		p, node := b.proxies[i], b.node
		p.name = way.name
		p.enter = func() error { return l.RouteVIPs(node) }
	}
	return b, nil
}

// trackConnections gives a node the hooks that kube-proxy and network policies put there: each
// packet of a connection is looked up in the table of connections, and passes NAT's hooks.
func trackConnections(node *lab.Node) error {
	space, err := os.Open(filepath.Join("/run/netns", node.Namespace()))
	if err != nil {
		return err
	}
	defer space.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(space.Fd())))
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "node", Family: nftables.TableFamilyINet})
	for _, hook := range []struct {
		name     string
		kind     nftables.ChainType
		hook     *nftables.ChainHook
		priority *nftables.ChainPriority
	}{
		{"nat-prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest},
		{"nat-output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest},
		{"nat-postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource},
		{"input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter},
		{"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter},
		{"output", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter},
	} {
		chain := c.AddChain(&nftables.Chain{Table: table, Name: hook.name, Type: hook.kind, Hooknum: hook.hook, Priority: hook.priority})
		if hook.kind == nftables.ChainTypeNAT {
			continue
		}
		// ct state established,related accept
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
				Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	}
	return c.Flush()
}

// measureSkMsg returns the scenario's row. The two are compared round by round, because what else
// the machine does changes from one round to the next.
func (b *bench) measureSkMsg(s scenario, o options) (string, error) {
	var samples [2][]sample
	var proxy, total []float64
	for range o.rounds {
		for i, p := range b.proxies {
			got, err := b.measure(p, s.load, o.duration)
			if err != nil {
				return "", fmt.Errorf("%s: %w", p.name, err)
			}
			samples[i] = append(samples[i], got)
		}
		with, without := samples[0][len(samples[0])-1], samples[1][len(samples[1])-1]
		proxy = append(proxy, with.perProxy/without.perProxy)
		total = append(total, with.perTotal/without.perTotal)
	}
	ratio := func(values []float64) string {
		middle, low, high := median(values)
		return fmt.Sprintf("**%.2f** (%.2f-%.2f)", middle, low, high)
	}
	with, without := summarise("", samples[0]), summarise("", samples[1])
	return fmt.Sprintf("| %s | %.0f | %.0f | %s | %s | %s | %s |\n", s.name, with.perProxy[0], without.perProxy[0], ratio(proxy), ratio(total),
		latency(with.p50), latency(without.p50)), nil
}

// skMsgPreamble says what was measured, on what, and how.
func (b *bench) skMsgPreamble(o options) string {
	return fmt.Sprintf(`# The short way to pods of the same node

Written by %[1]sscripts/bench -sk-msg -o docs/benchmark-skmsg.md%[1]s on %[2]s; do not edit.

- Machine: %[3]d CPUs, %[4]s, Linux %[5]s
- Kerngate with %[1]s--sk-msg%[1]s and without, each on a node (network namespace) with %[6]d pods of its own behind veth and a bridge, and with
  rules that track connections, as kube-proxy and network policies have them.
- The proxy has CPU %[7]d to itself; client (wrk, h2load) and pods have the rest. %[8]d rounds of %[9]s of each in turn; medians. Ratios are those of
  neighbouring rounds, with their range in brackets. The machine is shared: differences below 10 %% mean nothing.
- "requests per proxy CPU-second" counts the proxy's user and system time; the ratio of the whole machine's takes in client and
  pods, and whatever else ran.

| answers | requests per proxy CPU-second, %[1]s--sk-msg%[1]s | without | ratio | ratio, whole machine | p50 | p50 without |
| --- | ---: | ---: | --- | --- | ---: | ---: |
`, "`", time.Now().UTC().Format("2 January 2006"), len(b.rest)+1, cpuModel(), kernelRelease(), o.pods, proxyCPU, o.rounds, o.duration)
}
