//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf/link"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Residue lists what there is of Kerngate on its node: pins, BPF links, an XDP program on
// the uplink, routes to the ingress addresses, tables of nf_tables, processes. It is empty after Uninstall.
func (k *Kerngate) Residue() ([]string, error) {
	var all []string
	var errs []error
	for _, find := range []func() ([]string, error){k.pins, k.links, k.uplinkProgram, k.localRoutes, k.tables, k.processes} {
		found, err := find()
		all = append(all, found...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// pins lists what is in the node's bpffs, apart from what the kernel itself puts into each.
func (k *Kerngate) pins() ([]string, error) {
	entries, err := os.ReadDir(k.Node.BPFFS)
	var pins []string
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".debug" { // maps.debug and progs.debug, of bpf_preload
			pins = append(pins, "pin "+filepath.Join(k.Node.BPFFS, entry.Name()))
		}
	}
	return pins, err
}

// links lists the BPF links to the node's network namespace. The machine may have others.
func (k *Kerngate) links() ([]string, error) {
	inode, err := namespaceInode(filepath.Join(namedNamespaces, k.Node.Namespace()))
	if err != nil {
		return nil, err
	}
	var links []string
	all := new(link.Iterator)
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if space := info.NetNs(); space != nil && uint64(space.NetnsInode) == inode {
			links = append(links, fmt.Sprintf("BPF link %d to the network namespace", info.ID))
		}
	}
	return links, all.Err()
}

func (k *Kerngate) uplinkProgram() ([]string, error) {
	eth0, err := k.Node.Links().LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	if xdp := eth0.Attrs().Xdp; xdp != nil && xdp.Attached {
		return []string{fmt.Sprintf("XDP program %d on eth0", xdp.ProgId)}, nil
	}
	return nil, nil
}

// localRoutes lists the routes that make the ingress addresses the node's own.
func (k *Kerngate) localRoutes() ([]string, error) {
	var found []string
	for _, vip := range []netip.Addr{k.Node.lab.VIP4, k.Node.lab.VIP6} {
		if !vip.IsValid() {
			continue
		}
		bits := vip.BitLen()
		wanted := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: &net.IPNet{IP: vip.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
		routes, err := k.Node.Links().RouteListFiltered(netlink.FAMILY_ALL, wanted, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil {
			return nil, err
		}
		for range routes {
			found = append(found, "local route to "+vip.String())
		}
	}
	return found, nil
}

// tables lists the node's tables of nf_tables, of which Kerngate alone makes any.
func (k *Kerngate) tables() ([]string, error) {
	namespace, err := os.Open(filepath.Join(namedNamespaces, k.Node.Namespace()))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	conn, err := nftables.New(nftables.WithNetNSFd(int(namespace.Fd())))
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables of nf_tables: %w", err)
	}
	var found []string
	for _, t := range tables {
		found = append(found, "table "+t.Name)
	}
	return found, nil
}

func (k *Kerngate) processes() ([]string, error) {
	var found []string
	for _, name := range []string{AgentBinary, ProxyBinary} {
		pids, err := k.Node.Processes(name)
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if state, err := processState(pid); err == nil && state != 'Z' {
				found = append(found, fmt.Sprintf("process %s %d", name, pid))
			}
		}
	}
	return found, nil
}
