//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SetMTU sets the largest packet that an interface of the host sends.
func (h *Host) SetMTU(name string, bytes int) error {
	dev, err := h.links.LinkByName(name)
	if err != nil {
		return err
	}
	return h.links.LinkSetMTU(dev, bytes)
}

// RouteHost makes the host send packets to one address by a gateway, or straight if there
// is none, on eth0; mtu is the size that the way takes, 0 for the interface's.
func (h *Host) RouteHost(address, gateway Address, mtu int) error {
	link, err := h.links.LinkByName("eth0")
	if err != nil {
		return err
	}
	bits := address.BitLen()
	return h.links.RouteReplace(&netlink.Route{
		Dst:       &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, bits)},
		Gw:        gateway.AsSlice(),
		LinkIndex: link.Attrs().Index,
		MTU:       mtu,
	})
}

// FinishChecksums makes the host finish the checksums of what it sends on an interface, as
// if a network card had done it. On a virtual cable they are usually left undone.
func (h *Host) FinishChecksums(name string) error {
	const setTransmitChecksums = 0x17 // ETHTOOL_STXCSUM
	return h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		value := struct{ command, on uint32 }{setTransmitChecksums, 0}
		var request struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}
		copy(request.name[:unix.IFNAMSIZ-1], name)
		request.data = unsafe.Pointer(&value)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return fmt.Errorf("switch off transmit checksumming of %s on %s: %w", name, h.Name, errno)
		}
		return nil
	})
}

// TakeFromXDP makes the switch that joins client and nodes take what XDP programs send back
// out of the interface that they are on (XDP_TX): a port of a virtual cable throws that away
// unless it polls, which it does while it has an XDP program itself. release takes those away.
func (l *Lab) TakeFromXDP() (release func() error, err error) {
	const pass = 2 // XDP_PASS
	counter, err := NewCounter("port", ebpf.XDP, pass)
	if err != nil {
		return nil, err
	}
	closers := []func() error{counter.Close}
	release = func() (err error) {
		for _, c := range closers {
			err = errors.Join(err, c())
		}
		return err
	}
	fabric := l.host("fabric")
	ports, err := fabric.links.LinkList()
	if err != nil {
		return release, err
	}
	return release, fabric.Do(func() error {
		for _, port := range ports {
			if port.Type() != "veth" {
				continue
			}
			at, err := link.AttachXDP(link.XDPOptions{Program: counter.Program, Interface: port.Attrs().Index, Flags: link.XDPDriverMode})
			if err != nil {
				return fmt.Errorf("program for port %s of the switch: %w", port.Attrs().Name, err)
			}
			closers = append(closers, at.Close)
		}
		return nil
	})
}
