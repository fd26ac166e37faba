package upstream

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/loader/abi"
	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
)

// establish opens a connection to the target and makes it ready for HTTP, parking co until
// it is. On an error c is closed. After the deadline (loop time), at which somebody must wake
// co, it is ErrTimeout.
func (p *Pool) establish(co *reactor.Coroutine, c *reactor.Conn, h reactor.Handler, t *Target, deadline int64) error {
	err := p.connect(co, c, h, t, deadline)
	t.accepted = err == nil
	if err == nil && t.Transport.ProxyHeader != 0 {
		err = announce(c, t)
	}
	if err == nil && t.Transport.TLS {
		err = p.encrypt(co, c, t, deadline)
	}
	if err != nil {
		p.Stats.Failed++
		if c.IsOpen() {
			c.Close()
			p.closed()
		}
	}
	return err
}

func (p *Pool) connect(co *reactor.Coroutine, c *reactor.Conn, h reactor.Handler, t *Target, deadline int64) error {
	if !p.opening() {
		return unix.EMFILE
	}
	fd, err := open(t.Address, t.Join)
	if err != nil {
		p.closed()
		return err
	}
	if err := p.loop.Add(c, fd, h); err != nil {
		p.closed()
		unix.Close(fd)
		return fmt.Errorf("watch connection: %w", err)
	}
	if t.Join {
		c.SetJoined() // it may be, nobody tells
	}
	p.Stats.Dialed++
	c.Own(co)
	c.Want(reactor.Writable)
	for c.Ready()&(reactor.Writable|reactor.Broken) == 0 {
		co.Park()
		if co.Dying() || t.late(p.loop.Now(), deadline) {
			return ErrTimeout
		}
	}
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return err
	case e != 0:
		return unix.Errno(e)
	}
	return nil
}

// open starts a TCP connection. The socket is made with socket(2): Go's own dialer would
// make an MPTCP socket, which cannot enter a SOCKMAP.
func open(a netip.AddrPort, join bool) (int, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(nil)
	if ip := a.Addr().Unmap(); ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	} else {
		sa = &unix.SockaddrInet6{Port: int(a.Port()), Addr: ip.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if join {
		// If that fails the connection stays plain.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, abi.JoinPriority)
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

var errShortWrite = errors.New("the PROXY header did not fit the socket's buffer")

// announce tells the pod who the client is. It is the first thing on a new connection, whose
// send buffer has room for it.
func announce(c *reactor.Conn, t *Target) error {
	var buf [proxyproto.MaxWritten]byte
	b := proxyproto.Append(buf[:0], proxyproto.Header{Version: t.Transport.ProxyHeader, Source: t.Client, Destination: t.Local})
	n, err := c.TryWrite(b)
	if err == nil && n < len(b) {
		err = errShortWrite
	}
	return err
}
