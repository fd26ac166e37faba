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

// skMsgPreamble says what was measured, on what, and how.
func (b *bench) skMsgPreamble(o options) string {
	return fmt.Sprintf(`# The short way to pods of the same node

Written by %[1]sscripts/bench -sk-msg -o docs/benchmark-skmsg.md%[1]s on %[2]s; do not edit.

- Machine: %[3]d CPUs, %[4]s, Linux %[5]s
- Kerngate with %[1]s--sk-msg%[1]s and without, each on a node (network namespace) with %[6]d pods of its own behind veth and a bridge, and with
  rules that track connections, as kube-proxy and network policies have them.
- The proxy has CPU %[7]d to itself; client (wrk, h2load) and pods have the rest. %[8]d rounds of %[9]s of each in turn; medians, with the
  range of the rounds in brackets. The machine is shared: differences below 10 %% mean nothing.
- "per proxy CPU-second" counts the proxy's user and system time, "per total CPU-second" all that the machine was busy. Work that
  the proxy's sends and receives no longer do shows in the first, what the pods save in the second.
`, "`", time.Now().UTC().Format("2 January 2006"), len(b.rest)+1, cpuModel(), kernelRelease(), o.pods, proxyCPU, o.rounds, o.duration)
}
