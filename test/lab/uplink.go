//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
)

// The kinds of interface by which clients' packets can come to a node.
const (
	UplinkVeth   = "veth"
	UplinkVLAN   = "vlan"
	UplinkBond   = "bond"
	UplinkVirtio = "virtio" // two cards of the (virtual) machine that are joined outside of it
)

// uplinkNet joins client and node by an uplink, beside the network that all hosts share.
const (
	uplinkClient4, uplinkNode4 = "198.51.100.1/24", "198.51.100.2/24"
	uplinkClient6, uplinkNode6 = "2001:db8:0:3::1/64", "2001:db8:0:3::2/64"
)

// AddUplink gives the node a further interface of a kind, and has the client send packets for
// the ingress addresses there. It returns the interface's name, the same at both ends.
// The error wraps unix.EOPNOTSUPP if the kernel does not know the kind, and
// os.ErrNotExist if the machine lacks the cards.
func (l *Lab) AddUplink(node *Node, kind string) (name string, err error) {
	switch kind {
	case UplinkVeth:
		name, err = "up0", l.join(node, "up0")
	case UplinkVLAN:
		name, err = l.addVLAN(node)
	case UplinkBond:
		name, err = l.addBond(node)
	case UplinkVirtio:
		name, err = l.moveCards(node)
	default:
		err = fmt.Errorf("no kind of uplink")
	}
	if err != nil {
		return "", fmt.Errorf("uplink %s: %w", kind, err)
	}
	for _, end := range []struct {
		host      *Host
		addresses []string
	}{
		{l.Client, []string{uplinkClient4, uplinkClient6}},
		{node.Host, []string{uplinkNode4, uplinkNode6}},
	} {
		link, err := end.host.links.LinkByName(name)
		if err != nil {
			return "", err
		}
		if err := end.host.links.LinkSetUp(link); err != nil {
			return "", err
		}
		for i, address := range end.addresses {
			if i == 0 || l.VIP6.IsValid() {
				if err := end.host.addAddress(link, address); err != nil {
					return "", err
				}
			}
		}
	}
	err = l.Client.addRoute(vipNet4, netip.MustParsePrefix(uplinkNode4).Addr())
	if l.VIP6.IsValid() {
		err = errors.Join(err, l.Client.addRoute(vipNet6, netip.MustParsePrefix(uplinkNode6).Addr()))
	}
	return name, err
}

// join lays a cable of its own between client and node.
func (l *Lab) join(node *Node, name string) error {
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, Namespace: netlink.NsFd(l.Client.space)},
		PeerName:  name, PeerNamespace: netlink.NsFd(node.space),
	}
	if err := l.Client.links.LinkAdd(pair); err != nil {
		return err
	}
	for _, h := range []*Host{l.Client, node.Host} {
		link, err := h.links.LinkByName(name)
		if err != nil {
			return err
		}
		if err := h.links.LinkSetUp(link); err != nil {
			return err
		}
	}
	return nil
}

// addVLAN makes a VLAN on the network that all hosts share.
func (l *Lab) addVLAN(node *Node) (string, error) {
	for _, h := range []*Host{l.Client, node.Host} {
		parent, err := h.links.LinkByName("eth0")
		if err != nil {
			return "", err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = "eth0.100", parent.Attrs().Index
		if err := h.links.LinkAdd(&netlink.Vlan{LinkAttrs: attrs, VlanId: 100}); err != nil {
			return "", err
		}
	}
	return "eth0.100", nil
}

// addBond bonds two cables, one to back up the other.
func (l *Lab) addBond(node *Node) (string, error) {
	for _, h := range []*Host{l.Client, node.Host} {
		bond := netlink.NewLinkBond(netlink.NewLinkAttrs())
		bond.Name, bond.Mode, bond.Miimon = "bond0", netlink.BOND_MODE_ACTIVE_BACKUP, 100
		if err := h.links.LinkAdd(bond); err != nil {
			return "", err
		}
	}
	for _, cable := range []string{"slave0", "slave1"} {
		if err := l.join(node, cable); err != nil {
			return "", err
		}
		for _, h := range []*Host{l.Client, node.Host} {
			bond, err := h.links.LinkByName("bond0")
			if err != nil {
				return "", err
			}
			slave, err := h.links.LinkByName(cable)
			if err != nil {
				return "", err
			}
			if err := errors.Join(h.links.LinkSetDown(slave), h.links.LinkSetMaster(slave, bond), h.links.LinkSetUp(slave)); err != nil {
				return "", fmt.Errorf("bond %s: %w", cable, err)
			}
		}
	}
	return "bond0", nil
}

// moveCards takes two virtio cards of this machine that nobody uses. They come back to it when
// the lab's namespaces end.
func (l *Lab) moveCards(node *Node) (string, error) {
	drivers, err := filepath.Glob("/sys/class/net/*/device/driver")
	if err != nil {
		return "", err
	}
	var cards []netlink.Link
	for _, driver := range drivers {
		target, err := os.Readlink(driver)
		if err != nil || filepath.Base(target) != "virtio_net" {
			continue
		}
		link, err := netlink.LinkByName(filepath.Base(filepath.Dir(filepath.Dir(driver))))
		if err != nil || link.Attrs().Flags&net.FlagUp != 0 {
			continue
		}
		cards = append(cards, link)
	}
	if len(cards) < 2 {
		return "", fmt.Errorf("two virtio cards that are not in use: %w", os.ErrNotExist)
	}
	slices.SortFunc(cards, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	for i, h := range []*Host{l.Client, node.Host} {
		if err := errors.Join(netlink.LinkSetName(cards[i], "card0"), netlink.LinkSetNsFd(cards[i], int(h.space))); err != nil {
			return "", err
		}
	}
	return "card0", nil
}
