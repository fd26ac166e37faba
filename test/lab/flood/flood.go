//go:build linux

// Package flood sends SYNs from many sources that answer nothing, in namespaces of a lab: at a
// rate, and never more than so many.
package flood

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/test/lab"
)

// Sources are those that SYNs come from: addresses for benchmarks (RFC 2544, RFC 5735).
var Sources = netip.MustParsePrefix("198.18.0.0/15")

// most frames that one flood may send.
const most = 2_000_000

const (
	ethernet = 14
	ipv4     = 20
	tcp      = 24
	experts  = 0x88b5 // local experimental EtherType (IEEE 802): nobody knows what it is
)

// Flood is on its way until Stop.
type Flood struct {
	stop chan struct{}
	done chan struct{}
	sent int
	err  error
}

// Target is where a flood goes.
type Target struct {
	Node    *lab.Node
	Address netip.AddrPort // IPv4
	// Noise makes it frames of the same number and length that no program knows: what a flood
	// costs those who send and carry it.
	Noise bool
}

// routerMAC is where frames say they come from, and where answers go.
var routerMAC = net.HardwareAddr{2, 0, 0, 0, 0xf1, 0x0d}

// Start sends so many SYNs a second from a host to a target, for a minute at most. Answers come
// back to that host, as if it were a cable, and end there.
func Start(from *lab.Host, to Target, perSecond int) (*Flood, error) {
	here, err := from.Links().LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	there, err := to.Node.Links().LinkByName("eth0")
	if err != nil {
		return nil, err
	}
	addresses, err := from.Links().AddrList(here, unix.AF_INET)
	if err != nil || len(addresses) == 0 {
		return nil, fmt.Errorf("%s has no IPv4 address (%w)", from.Name, err)
	}
	// Without a way back the node would drop them for that alone. It leads to a router behind
	// the host's cable, which the host itself has no part in.
	router := net.IP(slices.Clone(addresses[0].IP.To4()))
	router[3] += 100
	neighbor := &netlink.Neigh{LinkIndex: there.Attrs().Index, State: netlink.NUD_PERMANENT, IP: router, HardwareAddr: routerMAC}
	if err := to.Node.Links().NeighSet(neighbor); err != nil {
		return nil, fmt.Errorf("neighbour of %s: %w", to.Node.Name, err)
	}
	back := &netlink.Route{
		Dst:       &net.IPNet{IP: Sources.Addr().AsSlice(), Mask: net.CIDRMask(Sources.Bits(), 32)},
		Gw:        router,
		LinkIndex: there.Attrs().Index,
	}
	if err := to.Node.Links().RouteReplace(back); err != nil {
		return nil, fmt.Errorf("route back from %s: %w", to.Node.Name, err)
	}
	var fd int
	if err := from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	f := &Flood{stop: make(chan struct{}), done: make(chan struct{})}
	frame := frameTo(routerMAC, there.Attrs().HardwareAddr, to)
	go func() {
		defer close(f.done)
		defer unix.Close(fd)
		f.run(fd, frame, here.Attrs().Index, perSecond)
	}()
	return f, nil
}

// Stop ends the flood and returns how many it has sent.
func (f *Flood) Stop() (sent int, err error) {
	close(f.stop)
	<-f.done
	return f.sent, f.err
}

func (f *Flood) run(fd int, frame []byte, device, perSecond int) {
	to := &unix.SockaddrLinklayer{Ifindex: device, Halen: 6}
	const step = 5 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for began := time.Now(); f.sent < most && time.Since(began) < time.Minute; {
		// What was due and did not go out is not made up for by more than a few at once.
		due := min(int(time.Since(began).Seconds()*float64(perSecond))-f.sent, perSecond/50)
		for range due {
			renew(frame)
			if err := unix.Sendto(fd, frame, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
				f.err = err
				return
			}
			f.sent++
		}
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
	}
}

// frameTo is a SYN but for what renew writes.
func frameTo(from, at net.HardwareAddr, to Target) []byte {
	f := make([]byte, ethernet+ipv4+tcp)
	copy(f, at)
	copy(f[6:], from)
	kind := uint16(unix.ETH_P_IP)
	if to.Noise {
		kind = experts
	}
	binary.BigEndian.PutUint16(f[12:], kind)
	ip := f[ethernet:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], ipv4+tcp)
	copy(ip[16:], to.Address.Addr().AsSlice())
	segment := ip[ipv4:]
	binary.BigEndian.PutUint16(segment[2:], to.Address.Port())
	segment[12], segment[13] = tcp/4<<4, 2 // SYN
	binary.BigEndian.PutUint16(segment[14:], 64240)
	copy(segment[20:], []byte{2, 4, 5, 0xb4}) // greatest segment
	return f
}

// renew gives a SYN another source and sequence number, and the checksums for it.
func renew(frame []byte) {
	ip := frame[ethernet:]
	segment := ip[ipv4:]
	n := rand.Uint64()
	binary.BigEndian.PutUint32(ip[12:], binary.BigEndian.Uint32(Sources.Addr().AsSlice())|uint32(n)>>Sources.Bits())
	binary.BigEndian.PutUint16(segment, uint16(n>>32)|1024)
	binary.BigEndian.PutUint32(segment[4:], uint32(n>>16))
	ip[10], ip[11], segment[16], segment[17] = 0, 0, 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipv4]))
	// The pseudo header: addresses, protocol, length.
	binary.BigEndian.PutUint16(segment[16:], ^sum(unix.IPPROTO_TCP+tcp, ip[12:ipv4+tcp]))
}

func sum(s uint32, b []byte) uint16 {
	for i := 0; i < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	s = s&0xffff + s>>16
	return uint16(s + s>>16)
}
