//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// Inventory counts what a node has, by what it is: "pin kg_flows", "entries of
// kg_listeners", "route ...". Two of them differ by what was left behind.
type Inventory map[string]int

// Differences tells in sorted lines what has become more or less since before. Fewer
// descriptors are none: idle connections end, and a process has more of those that it started.
func (now Inventory) Differences(before Inventory) (lines []string) {
	for thing, n := range now {
		if n > before[thing] {
			lines = append(lines, fmt.Sprintf("%s: %d, before %d", thing, n, before[thing]))
		}
	}
	for thing, n := range before {
		if now[thing] < n && !strings.HasPrefix(thing, descriptor) {
			lines = append(lines, fmt.Sprintf("%s: %d, before %d", thing, now[thing], n))
		}
	}
	slices.Sort(lines)
	return lines
}

// Inventory takes stock of everything that Kerngate makes on its node or could: pins and
// what their maps hold, loaded programs, links, queueing disciplines and filters,
// interfaces, addresses, routes, rules and netfilter tables.
func (k *Kerngate) Inventory() (Inventory, error) {
	found := make(Inventory)
	var errs []error
	for _, count := range []func(Inventory) error{k.countPins, k.countLinks, k.countNetwork, k.countNetfilter} {
		errs = append(errs, count(found))
	}
	return found, errors.Join(errs...)
}

// countPins counts pins, entries of the maps behind them, and programs that use those.
// Tables with an entry for every index, and those that forget by themselves (LRU), tell
// nothing by their number of entries.
func (k *Kerngate) countPins(found Inventory) error {
	entries, err := os.ReadDir(k.Pins())
	if err != nil {
		return err
	}
	ours := make(map[ebpf.MapID]bool)
	for _, e := range entries {
		found["pin "+e.Name()]++
		if !strings.HasPrefix(e.Name(), "kg_") || e.IsDir() { // a folder is a lock
			continue
		}
		m, err := ebpf.LoadPinnedMap(filepath.Join(k.Pins(), e.Name()), &ebpf.LoadPinOptions{ReadOnly: true})
		if err != nil {
			return fmt.Errorf("open pin %s: %w", e.Name(), err)
		}
		err = countEntries(found, e.Name(), m)
		if info, infoErr := m.Info(); infoErr == nil {
			id, _ := info.ID()
			ours[id] = true
		}
		if err = errors.Join(err, m.Close()); err != nil {
			return err
		}
	}
	return countPrograms(found, ours)
}

func countEntries(found Inventory, name string, m *ebpf.Map) error {
	if m.Type() != ebpf.Hash && m.Type() != ebpf.LPMTrie {
		return nil
	}
	var key, value []byte
	all := m.Iterate()
	for all.Next(&key, &value) {
		found["entries of "+name]++
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("list %s: %w", name, err)
	}
	return nil
}

// countPrograms counts the loaded programs that use one of the maps.
func countPrograms(found Inventory, maps map[ebpf.MapID]bool) error {
	var id ebpf.ProgramID
	for {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, os.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("list BPF programs: %w", err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := p.Info(); err == nil {
			uses, _ := info.MapIDs()
			if slices.ContainsFunc(uses, func(m ebpf.MapID) bool { return maps[m] }) {
				found["program "+info.Name]++
			}
		}
		p.Close()
	}
}

// countLinks counts links to the namespace and what hangs at its interfaces.
func (k *Kerngate) countLinks(found Inventory) error {
	links, err := k.links()
	found["link to the network namespace"] = len(links)
	return errors.Join(err, k.Node.Do(func() error {
		devices, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, dev := range devices {
			a := dev.Attrs()
			if a.Xdp != nil && a.Xdp.Attached {
				found["XDP program on "+a.Name]++
			}
			for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
				// A kernel before 6.6 has none.
				if q, err := link.QueryPrograms(link.QueryOptions{Target: a.Index, Attach: side}); err == nil {
					found[fmt.Sprintf("%v on %s", side, a.Name)] += len(q.Programs)
				}
			}
			for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
				if filters, err := netlink.FilterList(dev, parent); err == nil {
					found["filter on "+a.Name] += len(filters)
				}
			}
		}
		return nil
	}))
}

// countNetwork counts interfaces, addresses, queueing disciplines, routes and rules.
func (k *Kerngate) countNetwork(found Inventory) error {
	h := k.Node.Links()
	devices, err := h.LinkList()
	if err != nil {
		return err
	}
	for _, dev := range devices {
		found["interface "+dev.Attrs().Name]++
		addresses, err := h.AddrList(dev, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			found["address "+a.IPNet.String()]++
		}
		disciplines, err := h.QdiscList(dev)
		if err != nil {
			return err
		}
		for _, q := range disciplines {
			found["queueing discipline "+q.Type()+" on "+dev.Attrs().Name]++
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		// A table must be named, or the kernel lists the main one alone.
		routes, err := h.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Type != 0 && r.Flags&int(netlinkCloned) == 0 {
				found[fmt.Sprintf("route to %v in table %d", r.Dst, r.Table)]++
			}
		}
		rules, err := h.RuleList(family)
		if err != nil {
			return err
		}
		found[fmt.Sprintf("rules of family %d", family)] = len(rules)
	}
	return nil
}

// netlinkCloned marks what the kernel has learnt of a path (RTM_F_CLONED); no route of
// anybody's.
const netlinkCloned = 0x200

// countNetfilter counts lines of nftables' rules, which iptables' are among.
func (k *Kerngate) countNetfilter(found Inventory) error {
	out, err := k.Node.Run(Command{Path: "/usr/sbin/nft", Args: []string{"list", "ruleset"}})
	for line := range strings.Lines(out) {
		found["netfilter "+strings.TrimSpace(line)]++
	}
	return err
}

const descriptor = "descriptor of "

// CountDescriptors counts the open descriptors of a process by its executable and their
// kind.
func CountDescriptors(found Inventory, pid int) error {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return err
	}
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	found["process "+filepath.Base(exe)]++
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil {
			if strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "pipe:") {
				target, _, _ = strings.Cut(target, ":") // what follows is its number
			}
			// The kernel spells a link in two ways: as it was made, or opened.
			target = strings.ReplaceAll(target, "bpf-link", "bpf_link")
			found[descriptor+filepath.Base(exe)+": "+target]++
		}
	}
	return nil
}
