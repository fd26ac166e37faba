package proxy

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/client/http3"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// quicSide is the part of a worker that serves HTTP/3.
type quicSide struct {
	server  *http3.Server
	stats   http3.Stats
	shared  *exchange.Worker
	sockets []int // not served yet
}

// openUDP makes a UDP socket, not bound: that is the agent's to do.
func openUDP(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("make UDP socket: %w", err)
	}
	return fd, nil
}

// startHTTP3 serves HTTP/3 on the sockets that the agent has bound. It waits for the first
// configuration that wants it.
func (p *Proxy) startHTTP3() {
	for _, w := range p.workers {
		sockets := w.quic.sockets
		w.quic.sockets = nil
		for _, fd := range sockets {
			port, err := w.quic.listen(fd)
			if err != nil {
				p.log.Error().Err(err).Int("worker", w.index).Msg("cannot serve HTTP/3; HTTP/2 is served")
			}
			if port != 0 {
				w.loop.Submit(func() { w.quic.shared.AltSvc = fmt.Appendf(nil, `h3=":%d"; ma=86400`, port) })
			}
		}
	}
}

// listen serves one socket and returns its port, 0 if the agent has not bound it.
func (q *quicSide) listen(fd int) (port int, err error) {
	file := os.NewFile(uintptr(fd), "quic")
	defer file.Close() // of the duplicate that FilePacketConn makes the other stays
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("inspect UDP socket: %w", err)
	}
	if port = int(addrPortOf(sa)); port == 0 {
		return 0, nil
	}
	c, err := net.FilePacketConn(file)
	if err != nil {
		return 0, fmt.Errorf("use UDP socket: %w", err)
	}
	if err := q.server.Listen(anyAddress{c.(*net.UDPConn)}); err != nil {
		c.Close()
		return 0, fmt.Errorf("serve QUIC: %w", err)
	}
	return port, nil
}

func addrPortOf(sa unix.Sockaddr) (port uint16) {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

// anyAddress is a socket that gets packets for addresses other than its own. quic-go notes
// to which address a packet came, and answers from there, if the socket says that it has none.
type anyAddress struct{ *net.UDPConn }

// LocalAddr returns the port alone.
func (c anyAddress) LocalAddr() net.Addr {
	a := *c.UDPConn.LocalAddr().(*net.UDPAddr)
	if a.IP.To4() != nil {
		a.IP = net.IPv4zero
	} else {
		a.IP = net.IPv6unspecified
	}
	return &a
}

// drain tells HTTP/3 clients to go elsewhere, and ends what is left after the time-out.
func (q *quicSide) drain(timeout time.Duration) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		q.server.Drain(ctx)
	}()
}

// close ends all HTTP/3 connections.
func (q *quicSide) close() {
	q.server.Close()
	for _, fd := range q.sockets {
		unix.Close(fd)
	}
	q.sockets = nil
}
