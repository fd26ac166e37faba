package http2

import (
	"net/http"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
)

// An answer may come before the request's body has ended. RST_STREAM with NO_ERROR would tell
// the client to stop sending (RFC 9113 section 8.1), but a client that reads it together
// with the answer may report the reset in place of the answer: curl up to 7.88 does, and a
// stream of Node's never closes. So the stream stays half-closed: what still comes is
// dropped, within the bounds of package linger, with windows given back, and the reset
// follows only if the body has not ended by then.
//
// Two more habits of curl are met here. After an answer that is no error it sends on without
// reading, so it gets the window for what is left together with the answer (advance). And
// it ends a body that it has given up by END_STREAM, but does not see that its stream is
// closed by that until something arrives: a PING does.

// leftover is such a stream.
type leftover struct {
	id      uint32
	allowed int32 // bytes that the client may send
	window  int32 // up to which allowed is raised again; 0: no more
	until   int64 // loop time at which the stream is reset
	last    int64 // loop time which until may not exceed
}

// leaveOver has the rest of an answered request's body dropped.
func (c *Conn) leaveOver(s *stream) {
	now := c.server.worker.Loop.Now()
	total, pause := c.server.worker.Lingering()
	l := leftover{id: s.id, allowed: s.allowed, window: s.target, until: now + int64(pause), last: now + int64(total)}
	if s.exchange.Outcome.Status < http.StatusMultipleChoices {
		c.advance(&l, s.missing)
	}
	c.widen(&l)
	c.leftovers = append(c.leftovers, l)
}

// maxLent bounds by how much a connection's window is raised beyond connWindow, in bytes:
// other streams could use it, whose bodies are kept.
const maxLent = 16 << 20

// advance lets the client send what is left of a body, missing bytes or an unknown number
// (-1), without reading any further WINDOW_UPDATE.
func (c *Conn) advance(l *leftover, missing int64) {
	if missing < 0 {
		missing = maxLent
	}
	n := int32(min(missing-int64(l.allowed), int64(maxLent-c.lent)))
	if n <= 0 {
		return
	}
	c.queueWindow(l.id, uint32(n))
	c.queueWindow(0, uint32(n))
	l.allowed += n
	c.window += n
	c.lent += n
}

// widen lets the client go on sending, as soon as that is worth a frame.
func (c *Conn) widen(l *leftover) {
	if n := l.window - l.allowed; n > 0 && n >= l.window/2 {
		c.queueWindow(l.id, uint32(n))
		l.allowed += n
	}
}

// leftoverAt returns where in c.leftovers the stream is, -1 if it is not.
func (c *Conn) leftoverAt(id uint32) int {
	for i := range c.leftovers {
		if c.leftovers[i].id == id {
			return i
		}
	}
	return -1
}

// drop takes in a DATA frame of size bytes for the leftover at i.
func (c *Conn) drop(i, size int, end bool) {
	l := &c.leftovers[i]
	w := c.server.worker
	now := w.Loop.Now()
	w.Metrics.Linger.Bytes.Add(uint64(size))
	switch {
	case size > int(l.allowed):
		id := l.id
		c.forget(i)
		c.streamError(id, xhttp2.ErrCodeFlowControl)
		return
	case end:
		c.forget(i)
		if c.state == open {
			c.queuePing(nudgePing)
		}
		return
	}
	l.allowed -= int32(size)
	switch {
	case l.window == 0:
	case c.lingering.Take(size, now):
		if size > 0 {
			l.until = min(now+int64(linger.Pause), l.last)
		}
		c.widen(l)
	default:
		l.window = 0
		l.until = min(now+int64(linger.Short), l.last)
	}
}

// nudgePing is the content of a PING that is sent for its arrival alone.
var nudgePing = [8]byte{'c', 'l', 'o', 's', 'e', 'd'}

// forget takes the leftover at i off the list: its stream is closed.
func (c *Conn) forget(i int) {
	last := len(c.leftovers) - 1
	c.leftovers[i] = c.leftovers[last]
	c.leftovers = c.leftovers[:last]
	if c.quiet() {
		c.drain.idleAt = c.server.worker.Loop.Now()
		c.endIfDrained()
	}
}

// quiet reports whether neither a request nor the rest of one is under way.
func (c *Conn) quiet() bool { return c.running == 0 && len(c.leftovers) == 0 }

// resetLeftovers resets the streams whose time is up. While something is on its way to the
// client they wait: the answer may be a part of it.
func (c *Conn) resetLeftovers(now int64) {
	for i := len(c.leftovers) - 1; i >= 0; i-- {
		l := &c.leftovers[i]
		switch {
		case now < l.until:
		case c.out.backlog() > 0:
			l.until = now + int64(time.Second)
		default:
			c.server.worker.Metrics.Linger.Cut.Add(1)
			c.resets.add(l.id)
			c.queueReset(l.id, xhttp2.ErrCodeNo)
			c.forget(i)
		}
	}
}
