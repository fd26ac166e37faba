package server

import (
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
)

// mayBeHTTP2 reports whether a clear-text client may go on in HTTP/2, which it does with
// prior knowledge and from the first byte (RFC 9113 section 3.3). Over TLS the handshake
// has settled what is spoken.
func (c *conn) mayBeHTTP2() bool {
	return !c.served && c.about.TLS == nil && !c.server.worker.Config.Load().Settings.DisableHTTP2
}

// serveHTTP2 hands the connection over to HTTP/2, with what was received already. No
// coroutine may own it.
func (c *conn) serveHTTP2(early []byte) {
	s := c.server
	c.about.Protocol = exchange.HTTP2
	c.finishHead()
	s.worker.Loop.Clear(&c.timer)
	h := s.http2.Open(&c.Conn, &c.about, (*http2Owner)(c))
	c.http2 = h
	if s.draining {
		h.Drain()
	}
	h.Start(early)
}

// drop closes the connection at once, whatever it speaks.
func (c *conn) drop() {
	if c.http2 != nil {
		c.http2.Reset()
		return
	}
	c.close()
}

// http2Owner is a connection as http2.Owner.
type http2Owner conn

// Busy is told when requests are under way, and when they have all ended.
func (o *http2Owner) Busy(busy bool) {
	o.active = busy
	if busy {
		o.server.stats.Active.Add(1)
	} else {
		o.server.stats.Active.Add(-1)
	}
}

// Ended is told when the connection is over.
func (o *http2Owner) Ended() { (*conn)(o).close() }
