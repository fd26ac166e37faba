package attach

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/datapath"
	"github.com/kerngate/kerngate/loader/pins"
)

// Uninstall takes away what stands in this network namespace and under bpffs: attached programs,
// maps, pins, local routes. Nothing to take away is no error. It refuses while an agent runs.
//
// others are taken away between the routes and the programs.
func Uninstall(bpffs string, others ...func() error) error {
	if err := pins.CheckBPFFS(bpffs); err != nil {
		return err
	}
	folders, err := filepath.Glob(bpffs + "_abi*")
	if err != nil {
		return err
	}
	// Locked before anything is touched: an agent that runs would go on without its routes.
	locked := map[string]*os.File{}
	defer func() {
		for _, lock := range locked {
			lock.Close()
		}
	}()
	for _, folder := range append(folders, bpffs) {
		if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
			continue
		}
		lock, err := pins.Lock(folder)
		if err != nil {
			return err
		}
		locked[folder] = lock
	}
	// Routes first: without them nothing reaches the listeners, so nobody else's process
	// gets our connections in between.
	errs := []error{removeRoutes()}
	for _, remove := range others {
		errs = append(errs, remove())
	}
	for _, folder := range slices.Sorted(maps.Keys(locked)) {
		errs = append(errs, removeFolder(folder))
	}
	return errors.Join(append(errs, detachStray())...)
}

func removeRoutes() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	r, err := NewRoutes(h)
	if err != nil {
		return err
	}
	addresses, err := r.Ours()
	errs := []error{err}
	for _, a := range addresses {
		if err := r.Remove(a); err != nil {
			errs = append(errs, fmt.Errorf("remove route to %v: %w", a, err))
		}
	}
	return errors.Join(errs...)
}

// removeFolder detaches and unpins everything in a folder of pins, and removes it.
// The caller has locked it.
func removeFolder(folder string) error {
	var errs []error
	entries, err := os.ReadDir(folder)
	errs = append(errs, err)
	for _, e := range entries { // whatever version made them
		pin := filepath.Join(folder, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "link_"):
			errs = append(errs, removeLink(pin))
		case strings.HasPrefix(e.Name(), "kg_"):
			errs = append(errs, pins.Remove(pin))
		}
	}
	// A mount point, or a folder with pins of others, stays.
	err = os.Remove(folder)
	if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
		errs = append(errs, fmt.Errorf("remove folder of pins: %w", err))
	}
	return errors.Join(errs...)
}

// Forget unpins the maps of another version, which nobody uses any more. Links are
// unpinned, not detached: kg_xdp's may have been taken over.
func Forget(folder string) error {
	lock, err := pins.Lock(folder)
	if err != nil {
		return err
	}
	defer lock.Close()
	entries, err := os.ReadDir(folder)
	errs := []error{err}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "link_") || strings.HasPrefix(e.Name(), "kg_") {
			errs = append(errs, pins.Remove(filepath.Join(folder, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// detachStray detaches programs of ours whose pins are lost.
func detachStray() error {
	here, err := netnsInode()
	if err != nil {
		return err
	}
	found, err := findLinks(link.NetNsType, "kg_lookup")
	errs := []error{err}
	for _, f := range found {
		if f.netns == here {
			errs = append(errs, detach(f.Link))
		}
		f.Close()
	}

	// An XDP link names an interface by an index that other namespaces have too: it is
	// one of here if the interface says that it runs the link's program.
	running := make(map[int]uint32)
	devices, err := netlink.LinkList()
	errs = append(errs, err)
	for _, dev := range devices {
		if x := dev.Attrs().Xdp; x != nil && x.Attached {
			running[dev.Attrs().Index] = x.ProgId
		}
	}
	found, err = findLinks(link.XDPType, datapath.XDPPrograms...)
	errs = append(errs, err)
	for _, f := range found {
		if id, ok := running[int(f.ifindex)]; ok && id == uint32(f.program) {
			errs = append(errs, detach(f.Link))
		}
		f.Close()
	}
	return errors.Join(append(errs, removeTCEverywhere(devices))...)
}

// removeTCEverywhere takes kg_ingress and kg_egress off all interfaces.
func removeTCEverywhere(devices []netlink.Link) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer h.Close()
	t := &TC{tcx: ProbeTCX() == nil, net: h}
	var errs []error
	for _, dev := range devices {
		for _, s := range t.sides(dev) {
			errs = append(errs, removeTC(h, dev, s.attach, s.parent, t.tcx))
		}
	}
	return errors.Join(errs...)
}

// netnsInode returns the inode of this thread's network namespace, which names it in links.
func netnsInode() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("look at network namespace: %w", err)
	}
	return uint32(st.Ino), nil
}
