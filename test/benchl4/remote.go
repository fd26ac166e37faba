//go:build linux

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/kerngate/kerngate/test/lab"
)

// layOutRemote makes ready the ways to a pod that is on another node than the one to which the
// network brings its packets: plain routing, DSR, and plain routing with translation on the
// way in and back, each by an entry node, and with a pod, of its own.
func layOutRemote(l *lab.Lab, binaries lab.Binaries) ([]*way, error) {
	dsrEntry, dsrHome, routedEntry, home, plainEntry := l.Nodes[1], l.Nodes[2], l.Nodes[3], l.Nodes[4], l.Nodes[5]
	var pods []*lab.Pod
	for _, n := range []*lab.Node{dsrHome, home, home} {
		pod, err := n.AddPod(fmt.Sprintf("pod-%d", len(pods)+2))
		if err != nil {
			return nil, err
		}
		if err := serve(pod); err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	dsr := []string{"--l4-dsr"}
	for _, n := range []*lab.Node{dsrEntry, dsrHome} {
		dsr = append(dsr, "--fabric-peer", n.Name+"="+n.IPv4.String())
	}
	for _, a := range []struct {
		node *lab.Node
		pod  *lab.Pod
		args []string
	}{{dsrEntry, pods[0], dsr}, {dsrHome, pods[0], dsr}, {routedEntry, pods[1], []string{"--l4-remote"}}} {
		if err := startAgent(l, a.node, binaries, a.pod, a.args...); err != nil {
			return nil, fmt.Errorf("%s: %w", a.node.Name, err)
		}
	}
	plain := pods[2]
	vip := netip.AddrPortFrom(l.VIP4, podPort)
	back := func(by lab.Address) error { return home.RouteHost(l.Client.IPv4, by, 0) }
	straight := func() error { return back(lab.Address{}) }
	return []*way{
		{
			name: plainRouting + " by another node", address: netip.AddrPortFrom(plain.IPv4, podPort),
			on:  func() error { return l.Client.RouteHost(plain.IPv4, plainEntry.IPv4, 0) },
			off: func() error { return l.Client.RouteHost(plain.IPv4, home.IPv4, 0) },
		},
		{
			name: "Kerngate, pod of another node, --l4-dsr", address: vip,
			on:  func() error { return l.RouteVIPs(dsrEntry) },
			off: func() error { return l.RouteVIPs(l.Nodes[0]) },
		},
		{
			// Replies must pass the entry, which gives them the ingress address.
			name: "Kerngate, pod of another node, --l4-remote", address: vip,
			on:  func() error { return errors.Join(l.RouteVIPs(routedEntry), back(routedEntry.IPv4)) },
			off: func() error { return errors.Join(l.RouteVIPs(l.Nodes[0]), straight()) },
		},
	}, nil
}

// startAgent starts an agent that publishes the pod, and waits until it serves.
func startAgent(l *lab.Lab, node *lab.Node, binaries lab.Binaries, pod *lab.Pod, args ...string) error {
	k, err := node.NewKerngate(binaries)
	if err != nil {
		return err
	}
	k.Args = args
	service := lab.Object{
		"apiVersion": "v1", "kind": "Service", "metadata": lab.Object{"name": "db", "namespace": "default"},
		"spec": lab.Object{
			"type": "LoadBalancer", "loadBalancerClass": "kerngate.dev/kerngate",
			"ports": []lab.Object{{"name": "http", "port": podPort}},
		},
	}
	slice := lab.EndpointSlice("db", pod.Endpoint(false))
	slice["ports"] = []lab.Object{{"name": "http", "port": podPort, "protocol": "TCP"}}
	if err := k.Manifests.Write("db.yaml", service, slice); err != nil {
		return err
	}
	if err := errors.Join(l.RouteVIPs(node), k.Start()); err != nil {
		return err
	}
	return errors.Join(k.WaitServing(l.Client, 20*time.Second), l.RouteVIPs(l.Nodes[0]))
}
