package attach

import (
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Addresses that are nobody's: IPv4's dummy address (RFC 7600) and one of IPv6's discard
// prefix (RFC 6666).
var (
	nowhere4 = [4]byte{192, 0, 0, 8}
	nowhere6 = [16]byte{0: 1, 15: 1}
)

// BindQUIC makes a proxy's UDP socket a member of the group that kg_quic chooses from. The
// socket must be of the ingress port, because answers leave with the port that they are
// sent from. It is bound to an address that no packet can carry, so it receives only what kg_lookup
// steers to it, and does not conflict with UDP servers on the node's own addresses.
// The proxy has no right to a port below 1024, so the agent binds for it.
func BindQUIC(fd int, port uint16, program *ebpf.Program) error {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("inspect UDP socket: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_DGRAM {
		return fmt.Errorf("not a UDP socket (type %d): %w", kind, err)
	}
	// FREEBIND lets the socket have that address and, for IPv6, answer from ingress addresses,
	// which are on no interface.
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	var address unix.Sockaddr = &unix.SockaddrInet4{Port: int(port), Addr: nowhere4}
	if family == unix.AF_INET6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		address = &unix.SockaddrInet6{Port: int(port), Addr: nowhere6}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("keep UDP socket to IPv6: %w", err)
		}
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return fmt.Errorf("let UDP socket answer from ingress addresses: %w", err)
	}
	// A group has one owner: whoever made the first socket. Another process cannot join it.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("let UDP socket share its port: %w", err)
	}
	if err := unix.Bind(fd, address); err != nil {
		return fmt.Errorf("bind UDP port %d (is another program there on all addresses? ss -ulpn): %w", port, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, program.FD()); err != nil {
		return fmt.Errorf("attach kg_quic: %w", err)
	}
	return nil
}
