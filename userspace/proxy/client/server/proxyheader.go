package server

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kerngate/kerngate/userspace/proxy/io/proxyproto"
)

// Connections of a load balancer that announces its clients (Settings.ProxyHeaderFrom) must
// begin with a PROXY header. One that does not is closed, for there is no telling who asks:
// to serve it as the load balancer's own would get past every rule about addresses. From
// anybody else a PROXY header is what it looks like, a request that is not valid.

// HeaderFaults are the reasons for which a PROXY header is refused: those of proxyproto, then
// that it did not come whole.
var HeaderFaults = func() (tokens []string) {
	for _, e := range proxyproto.Errors {
		tokens = append(tokens, e.Token)
	}
	return append(tokens, "timeout", "closed")
}()

// HeaderStats counts refused PROXY headers, in the order of HeaderFaults.
type HeaderStats [len(proxyproto.Errors) + 2]atomic.Uint64

const (
	headerTimeout = len(proxyproto.Errors)
	headerClosed  = headerTimeout + 1
)

// readProxyHeader takes the header off the connection and notes who the client is. It
// reports whether the connection goes on: until the header is whole it does not, and after
// a fault it is closed.
//
// Bytes are looked at, and taken only when it is known where the header ends, so that none
// of what follows has to be carried over into TLS or HTTP.
func (c *conn) readProxyHeader() bool {
	buffers := &c.server.worker.Loop.Buffers
	buf := buffers.Small()
	defer buffers.Put(buf)
	n, _, err := unix.Recvfrom(c.FD(), buf[:proxyproto.MaxSize], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false
	case err != nil || n == 0:
		c.refuseHeader(headerClosed)
		return false
	}
	h, n, err := proxyproto.Parse(buf[:n])
	if err != nil {
		var fault *proxyproto.Error
		errors.As(err, &fault)
		c.refuseHeader(fault.Index())
		return false
	}
	if n == 0 {
		if c.PeerDone() {
			c.refuseHeader(headerClosed)
		}
		return false
	}
	if taken, err := c.ReadSocket(buf[:n]); err != nil || taken != n {
		c.refuseHeader(headerClosed)
		return false
	}
	c.unannounced = false
	if h.Named() {
		c.about.Client, c.about.Local, c.about.Announced = h.Source, h.Destination, true
		return c.countSource()
	}
	return true
}

func (c *conn) refuseHeader(fault int) {
	c.server.stats.HeadersRefused[fault].Add(1)
	c.server.log.Debug().Stringer("peer", c.about.Peer).Str("reason", HeaderFaults[fault]).
		Msg("closed a connection that must begin with a PROXY header")
	c.Reset()
	c.close()
}
