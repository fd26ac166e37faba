package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/kerngate/kerngate/loader"
	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/control/kube"
	"github.com/kerngate/kerngate/userspace/look/status"
	"github.com/kerngate/kerngate/userspace/model"
)

// fabricFlags are about packets between nodes.
type fabricFlags struct {
	on      bool
	dsr     bool
	service string
	peers   []string
	port    uint16
	timeout time.Duration
}

func (f *fabricFlags) define(s *pflag.FlagSet) {
	s.BoolVar(&f.dsr, "l4-dsr", false, "let L4 services use pods of other nodes too: packets are forwarded to the pod's node, which replies to the client directly; requires --fabric-service or --fabric-peer")
	s.BoolVar(&f.on, "fabric", false, "keep connections open when the network redistributes the traffic to the ingress addresses among the nodes: a node forwards packets to the node that has the connection; requires --fabric-service or --fabric-peer")
	s.StringVar(&f.service, "fabric-service", "", "Service whose endpoints are the nodes that take part, as NAMESPACE/NAME")
	s.StringArrayVar(&f.peers, "fabric-peer", nil, "node that takes part, as NODE=ADDRESS[,ADDRESS] with an IPv4 and an IPv6 address; repeatable; list every node, this one too; excludes --fabric-service")
	s.Uint16Var(&f.port, "fabric-port", 6080, "UDP `port` to which nodes forward packets to each other; must be open between them")
	s.DurationVar(&f.timeout, "fabric-timeout", time.Second, "how long a node may leave probes unanswered before this node sends it no more new connections. Probes connect to TCP --fabric-port, where nothing needs to listen; 0: no probes, the state in Kubernetes alone decides")
}

// checkFabric checks what nodes may do for each other. It comes after the node's name and
// the ingress addresses.
func (o *options) checkFabric() error {
	f := o.flags.fabric
	o.loader.Node, o.loader.TunnelPort, o.loader.DSR, o.loader.Fabric = o.flags.nodeName, f.port, f.dsr, f.on
	o.node.L4DSR = f.dsr
	if !f.on && !f.dsr {
		return nil
	}
	switch {
	case f.dsr && o.flags.l4.remote:
		return errors.New("--l4-dsr and --l4-remote exclude each other")
	case len(f.peers) > 0 && f.service != "":
		return errors.New("--fabric-service and --fabric-peer exclude each other")
	case len(f.peers) == 0 && f.service == "":
		return errors.New("--fabric and --l4-dsr need to know the nodes: --fabric-service or --fabric-peer")
	case f.port == 0:
		return errors.New("--fabric-port must not be 0")
	case f.timeout != 0 && f.timeout < 100*time.Millisecond:
		return fmt.Errorf("--fabric-timeout %v: want 0, or 100ms or more", f.timeout)
	case o.flags.nodeName == "":
		return errors.New("--fabric and --l4-dsr need a --node-name")
	case len(o.flags.interfaces) == 0:
		return errors.New("--fabric and --l4-dsr need an --interface")
	}
	if f.service != "" {
		namespace, name, ok := strings.Cut(f.service, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("--fabric-service %q: want NAMESPACE/NAME", f.service)
		}
		o.kube.FabricService = f.service
		return nil
	}
	return o.readPeers()
}

func (o *options) readPeers() error {
	o.node.Members = []model.Member{}
	for _, text := range o.flags.fabric.peers {
		name, list, ok := strings.Cut(text, "=")
		if !ok || name == "" || list == "" {
			return fmt.Errorf("--fabric-peer %q: want NODE=ADDRESS[,ADDRESS]", text)
		}
		m := model.Member{Name: name, State: model.Serving}
		for _, part := range strings.Split(list, ",") {
			address, err := netip.ParseAddr(part)
			if address = address.Unmap(); err != nil || !kube.IsNodeAddress(address) {
				return fmt.Errorf("--fabric-peer %s: %q is not an address by which nodes reach each other", name, part)
			}
			if slices.ContainsFunc(m.Addresses, func(a netip.Addr) bool { return a.Is4() == address.Is4() }) {
				return fmt.Errorf("--fabric-peer %s: two addresses of one family", name)
			}
			m.Addresses = append(m.Addresses, address)
		}
		slices.SortFunc(m.Addresses, netip.Addr.Compare)
		if slices.ContainsFunc(o.node.Members, func(have model.Member) bool { return have.Name == name }) {
			return fmt.Errorf("--fabric-peer %s: named twice", name)
		}
		o.node.Members = append(o.node.Members, m)
	}
	slices.SortFunc(o.node.Members, func(a, b model.Member) int { return strings.Compare(a.Name, b.Name) })
	if !slices.ContainsFunc(o.node.Members, func(m model.Member) bool { return m.Name == o.flags.nodeName }) {
		return fmt.Errorf("--fabric-peer: this node, %s (--node-name), is not among them", o.flags.nodeName)
	}
	return nil
}

// nodeStates are the words for enum kg_node_state.
var nodeStates = map[uint32]string{
	abi.NodeServing: "serving", abi.NodeDraining: "draining", abi.NodeUnready: "not ready", abi.NodeGone: "gone",
}

func describeFabric(o *options, d *loader.Datapath) *status.Fabric {
	f := o.flags.fabric
	if !f.on && !f.dsr {
		return nil
	}
	out := &status.Fabric{Connections: f.on, DSR: f.dsr, Port: f.port, Slots: abi.FabricSlots, Nodes: []status.FabricNode{}}
	for _, n := range d.Nodes() {
		node := status.FabricNode{Name: n.Name, ID: fmt.Sprintf("%08x", n.ID), State: nodeStates[n.State], Self: n.Self,
			Slots: n.Slots, Addresses: []string{}}
		if n.Found == state.NodeUnready {
			node.State = "silent"
		}
		for _, a := range n.Addresses {
			node.Addresses = append(node.Addresses, a.String())
		}
		out.Nodes = append(out.Nodes, node)
	}
	return out
}
