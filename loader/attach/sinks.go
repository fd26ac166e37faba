package attach

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/loader/datapath"
)

// Sinks are listening sockets that drop every packet. kg_lookup gives them the SYNs that no proxy
// would take: it can refuse a connection or leave it to the kernel, but not drop its SYN. They
// are of the agent, so that they outlive every proxy.
type Sinks []int

// OpenSinks makes them and gives them to kg_lookup. Without IPv6 in the kernel there is the one of
// IPv4 alone.
func OpenSinks(table datapath.Map[uint32, uint64]) (_ Sinks, err error) {
	var s Sinks
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for kind, family := range map[uint32]int{abi.SocketTCP4: unix.AF_INET, abi.SocketTCP6: unix.AF_INET6} {
		fd, err := openSink(family)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) && family == unix.AF_INET6 {
			continue
		}
		if err != nil {
			return s, err
		}
		s = append(s, fd)
		if err := table.Put(kind, uint64(fd)); err != nil {
			return s, fmt.Errorf("place socket that drops: %w", err)
		}
	}
	return s, nil
}

// openSink returns a socket that listens on a loopback port which nobody needs to know, with a
// filter that takes no byte of any packet.
func openSink(family int) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make socket that drops: %w", err)
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(nothing)), Filter: &nothing[0]})
	var at unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if family == unix.AF_INET6 && err == nil {
		at = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("prepare socket that drops: %w", err)
	}
	return fd, nil
}

func (s Sinks) Close() error {
	var errs []error
	for _, fd := range s {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
