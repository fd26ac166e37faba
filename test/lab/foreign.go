//go:build linux

package lab

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Counter is a BPF program of somebody else: it counts the packets that it sees.
type Counter struct {
	Program *ebpf.Program
	packets *ebpf.Map
}

// NewCounter loads a program for a hook that ends with the verdict.
func NewCounter(name string, hook ebpf.ProgramType, verdict int32) (_ *Counter, err error) {
	c := &Counter{}
	c.packets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "packets", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("make the map of program %s: %w", name, err)
	}
	c.Program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: hook, License: "MIT",
		Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, c.packets.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "end"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, verdict).WithSymbol("end"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load program %s: %w", name, err), c.packets.Close())
	}
	return c, nil
}

// Packets returns how many it has seen.
func (c *Counter) Packets() (uint64, error) {
	var n uint64
	err := c.packets.Lookup(uint32(0), &n)
	return n, err
}

// Close gives up the program; it stays where it is attached.
func (c *Counter) Close() error { return errors.Join(c.Program.Close(), c.packets.Close()) }

// AttachFilter attaches a program to an interface of the host as filters of a clsact qdisc
// are, on both sides, and returns what takes it off again.
func (h *Host) AttachFilter(c *Counter, name string) (detach func() error, err error) {
	dev, err := h.links.LinkByName(name)
	if err != nil {
		return nil, err
	}
	err = h.links.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: dev.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("add clsact to %s of %s: %w", name, h.Name, err)
	}
	var added []*netlink.BpfFilter
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		f := &netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: dev.Attrs().Index, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
			Fd:          c.Program.FD(), Name: "theirs", DirectAction: true,
		}
		if err := h.links.FilterAdd(f); err != nil {
			return nil, fmt.Errorf("add a filter to %s of %s: %w", name, h.Name, err)
		}
		added = append(added, f)
	}
	return func() error {
		var errs []error
		for _, f := range added {
			errs = append(errs, h.links.FilterDel(f))
		}
		return errors.Join(errs...)
	}, nil
}
