//go:build linux

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Options says what a lab consists of.
type Options struct {
	Nodes  int // at least 1
	NoIPv6 bool
}

// The addresses of every lab. They are the same in each, as labs cannot see each other, and
// come from ranges set aside for documentation, so that nothing real is ever meant.
//
//	client, nodes   192.0.2.0/24       2001:db8:0:1::/64    the network between them
//	VIPs            203.0.113.10       2001:db8:0:2::10     routed by the client to a node
//	pods of node n  10.244.n.0/24      fd00:244:0:n::/64    a bridge in the node
const (
	fabricPrefix4, fabricPrefix6 = "192.0.2.", "2001:db8:0:1::"
	vip4, vip6                   = "203.0.113.10", "2001:db8:0:2::10"
	vipNet4, vipNet6             = "203.0.113.0/24", "2001:db8:0:2::/64"
)

// Node is a host with a bridge full of pods, and a bpffs of its own.
type Node struct {
	*Host
	BPFFS string // mount point of a bpffs
	Pods  []*Pod

	number int
	bridge netlink.Link
}

// Pod is a host behind a node's bridge.
type Pod struct {
	*Host
	Node *Node
}

func (l *Lab) build(o Options) error {
	if o.Nodes < 1 || o.Nodes > 50 {
		return fmt.Errorf("%d nodes asked for: must be 1 to 50", o.Nodes)
	}
	six := !o.NoIPv6
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		six = false
	}
	l.VIP4 = netip.MustParseAddr(vip4)
	if six {
		l.VIP6 = netip.MustParseAddr(vip6)
	}

	// 1. A switch that joins client and nodes, in a namespace of its own.
	fabric, err := l.addHost("fabric")
	if err != nil {
		return err
	}
	bridge, err := fabric.addBridge("br0")
	if err != nil {
		return err
	}
	// A switch has no netfilter; where there is br_netfilter, a bridge has unless told not to.
	for _, name := range []string{"iptables", "ip6tables", "arptables"} {
		if err := fabric.SetSysctl("bridge/bridge-nf-call-"+name, "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if l.Client, err = l.addHost("client"); err != nil {
		return err
	}
	if err := l.plug(fabric, bridge, l.Client, fabricPrefix4+"100/24", fabricPrefix6+"100/64"); err != nil {
		return err
	}

	// 2. Nodes.
	for n := 1; n <= o.Nodes; n++ {
		node, err := l.addNode(n, fabric, bridge)
		if err != nil {
			return fmt.Errorf("node %d: %w", n, err)
		}
		l.Nodes = append(l.Nodes, node)
	}

	// 3. Each node, and the client, reaches the pods of a node through it.
	for _, node := range l.Nodes {
		for _, from := range append([]*Host{l.Client}, hostsOf(l.Nodes)...) {
			if from == node.Host {
				continue
			}
			if err := from.addRoute(node.podNet4(0, 24), node.IPv4); err != nil {
				return err
			}
			if six {
				if err := from.addRoute(node.podNet6(0, 64), node.IPv6); err != nil {
					return err
				}
			}
		}
	}
	return l.RouteVIPs(l.Nodes[0])
}

func hostsOf(nodes []*Node) []*Host {
	hosts := make([]*Host, len(nodes))
	for i, node := range nodes {
		hosts[i] = node.Host
	}
	return hosts
}

// RouteVIPs makes the client send packets for the ingress addresses to this node.
func (l *Lab) RouteVIPs(to *Node) error {
	if err := l.Client.addRoute(vipNet4, to.IPv4); err != nil {
		return err
	}
	if !l.VIP6.IsValid() {
		return nil
	}
	return l.Client.addRoute(vipNet6, to.IPv6)
}

// AddClient adds a host beside Client, from where the ingress addresses are reached through the
// first node. It has more addresses of IPv4, wherever they are from.
func (l *Lab) AddClient(name string, more ...Address) (*Host, error) {
	fabric := l.host("fabric")
	bridge, err := fabric.links.LinkByName("br0")
	if err != nil {
		return nil, err
	}
	host, err := l.addHost(name)
	if err != nil {
		return nil, err
	}
	l.clients++
	number := 100 + l.clients
	if err := l.plug(fabric, bridge, host, fmt.Sprintf("%s%d/24", fabricPrefix4, number), fmt.Sprintf("%s%d/64", fabricPrefix6, number)); err != nil {
		return nil, err
	}
	if err := host.addRoute(vipNet4, l.Nodes[0].IPv4); err != nil {
		return nil, err
	}
	if l.VIP6.IsValid() {
		if err := host.addRoute(vipNet6, l.Nodes[0].IPv6); err != nil {
			return nil, err
		}
	}
	eth0, err := host.links.LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	for _, address := range more {
		only := netip.PrefixFrom(address, 32).String()
		if err := errors.Join(host.addAddress(eth0, only), l.Nodes[0].addRoute(only, host.IPv4)); err != nil {
			return nil, err
		}
	}
	return host, nil
}

func (l *Lab) addNode(n int, fabric *Host, fabricBridge netlink.Link) (*Node, error) {
	host, err := l.addHost(fmt.Sprintf("node-%d", n))
	if err != nil {
		return nil, err
	}
	node := &Node{Host: host, number: n, BPFFS: filepath.Join(l.Dir, host.Name, "bpf")}
	if err := l.plug(fabric, fabricBridge, host,
		fmt.Sprintf("%s%d/24", fabricPrefix4, 10+n), fmt.Sprintf("%s%d/64", fabricPrefix6, 10+n)); err != nil {
		return nil, err
	}
	if node.bridge, err = host.addBridge("cni0"); err != nil {
		return nil, err
	}
	if err := host.addAddress(node.bridge, node.podNet4(1, 24)); err != nil {
		return nil, err
	}
	if err := host.SetSysctl("ipv4/ip_forward", "1"); err != nil {
		return nil, err
	}
	if l.VIP6.IsValid() {
		if err := host.addAddress(node.bridge, node.podNet6(1, 64)); err != nil {
			return nil, err
		}
		if err := host.SetSysctl("ipv6/conf/all/forwarding", "1"); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(node.BPFFS, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("bpf", node.BPFFS, "bpf", 0, ""); err != nil {
		return nil, fmt.Errorf("mount a bpffs on %s: %w", node.BPFFS, err)
	}
	return node, nil
}

// podNet4 returns the address of a pod of the node, as a prefix of that length.
func (n *Node) podNet4(host, bits int) string {
	return fmt.Sprintf("10.244.%d.%d/%d", n.number, host, bits)
}

func (n *Node) podNet6(host, bits int) string {
	return fmt.Sprintf("fd00:244:0:%x::%x/%d", n.number, host, bits)
}

// AddPod makes a pod on the node. The first has the address .11, the next .12, and so on.
func (n *Node) AddPod(name string) (*Pod, error) {
	host, err := n.lab.addHost(name)
	if err != nil {
		return nil, err
	}
	number := 11 + len(n.Pods)
	if err := n.lab.plug(n.Host, n.bridge, host, n.podNet4(number, 24), n.podNet6(number, 64)); err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	gateway := netip.MustParsePrefix(n.podNet4(1, 24)).Addr()
	if err := host.addRoute("0.0.0.0/0", gateway); err != nil {
		return nil, err
	}
	if host.IPv6.IsValid() {
		gateway = netip.MustParsePrefix(n.podNet6(1, 64)).Addr()
		if err := host.addRoute("::/0", gateway); err != nil {
			return nil, err
		}
	}
	pod := &Pod{Host: host, Node: n}
	n.Pods = append(n.Pods, pod)
	return pod, nil
}

// plug joins a host to a bridge of another by a veth pair, and gives its end, eth0, the
// addresses.
func (l *Lab) plug(owner *Host, bridge netlink.Link, host *Host, address4, address6 string) error {
	port := "v" + fmt.Sprint(len(l.hosts)) // names of interfaces are short: 15 bytes
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "eth0", Namespace: netlink.NsFd(host.space)},
		PeerName:      port,
		PeerNamespace: netlink.NsFd(owner.space),
	}
	if err := host.links.LinkAdd(pair); err != nil {
		return fmt.Errorf("add a veth pair from %s to %s: %w", host.Name, owner.Name, err)
	}
	peer, err := owner.links.LinkByName(port)
	if err != nil {
		return err
	}
	if err := errors.Join(owner.links.LinkSetMaster(peer, bridge), owner.links.LinkSetUp(peer)); err != nil {
		return err
	}
	eth0, err := host.links.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := host.links.LinkSetUp(eth0); err != nil {
		return err
	}
	host.IPv4 = netip.MustParsePrefix(address4).Addr()
	if err := host.addAddress(eth0, address4); err != nil || !l.VIP6.IsValid() {
		return err
	}
	host.IPv6 = netip.MustParsePrefix(address6).Addr()
	return host.addAddress(eth0, address6)
}

func (h *Host) addBridge(name string) (netlink.Link, error) {
	if err := h.links.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return nil, fmt.Errorf("add bridge %s to %s: %w", name, h.Name, err)
	}
	bridge, err := h.links.LinkByName(name)
	if err != nil {
		return nil, err
	}
	return bridge, h.links.LinkSetUp(bridge)
}

func (h *Host) addAddress(link netlink.Link, prefix string) error {
	address, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	if address.IP.To4() == nil {
		address.Flags = unix.IFA_F_NODAD // usable at once: nobody else can have it
	}
	if err := h.links.AddrAdd(link, address); err != nil {
		return fmt.Errorf("add address %s to %s of %s: %w", prefix, link.Attrs().Name, h.Name, err)
	}
	return nil
}

// addRoute adds a route, or replaces the one to the same destination.
func (h *Host) addRoute(destination string, gateway Address) error {
	_, network, err := net.ParseCIDR(destination)
	if err != nil {
		return err
	}
	if err := h.links.RouteReplace(&netlink.Route{Dst: network, Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("route %s via %s on %s: %w", destination, gateway, h.Name, err)
	}
	return nil
}

// Blackhole makes packets from the host to the address vanish without an answer, as to a
// machine that lost its power. It answers for the address on the link layer, so that not
// even ARP tells.
func (n *Node) Blackhole(address Address) error {
	err := n.links.NeighSet(&netlink.Neigh{
		LinkIndex:    n.bridge.Attrs().Index,
		State:        netlink.NUD_PERMANENT,
		IP:           address.AsSlice(),
		HardwareAddr: net.HardwareAddr{0x02, 0, 0, 0, 0, 1},
	})
	if err != nil {
		return fmt.Errorf("blackhole %s on %s: %w", address, n.Name, err)
	}
	return nil
}

// SpreadVIPs makes the client send packets for the ingress addresses to these nodes, by the
// hash of addresses and ports, as a router does with equal paths. The more nodes, the more
// connections go elsewhere than before.
func (l *Lab) SpreadVIPs(over ...*Node) error {
	for _, way := range []struct {
		sysctl, network string
		address         func(*Node) Address
	}{
		{"ipv4/fib_multipath_hash_policy", vipNet4, func(n *Node) Address { return n.IPv4 }},
		{"ipv6/fib_multipath_hash_policy", vipNet6, func(n *Node) Address { return n.IPv6 }},
	} {
		if !way.address(over[0]).IsValid() {
			continue
		}
		if err := l.Client.SetSysctl(way.sysctl, "1"); err != nil { // ports count too
			return err
		}
		_, network, err := net.ParseCIDR(way.network)
		if err != nil {
			return err
		}
		eth0, err := l.Client.links.LinkByName("eth0")
		if err != nil {
			return err
		}
		route := &netlink.Route{Dst: network}
		for _, node := range over {
			route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: eth0.Attrs().Index, Gw: way.address(node).AsSlice()})
		}
		if err := l.Client.links.RouteReplace(route); err != nil {
			return fmt.Errorf("spread %s over %d nodes: %w", way.network, len(over), err)
		}
	}
	return nil
}

// Cut takes a host's cable out.
func (h *Host) Cut() error {
	eth0, err := h.links.LinkByName("eth0")
	if err != nil {
		return err
	}
	return h.links.LinkSetDown(eth0)
}
