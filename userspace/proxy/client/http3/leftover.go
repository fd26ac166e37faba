package http3

import (
	"errors"
	"os"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
)

// An answer may come before the request's body has ended. STOP_SENDING with H3_NO_ERROR would
// tell the client to send no more of it (RFC 9114 section 4.1), but a client may report the
// refusal of its body in place of the answer. So our side of the stream ends with the answer,
// what still comes is dropped, within the bounds of package linger, and STOP_SENDING follows
// only if the body has not ended by then.

// dropBody reads and drops what is left of an answered request's body, on the request's
// goroutine. On return the body has ended, or a bound is reached, or the client is gone. The
// end of the connection ends it, too, so that a shutdown does not wait for it.
func (p *stream) dropBody() {
	b := &p.body
	if b.done {
		return
	}
	w := p.server.worker
	total, pause := w.Lingering()
	last := time.Now().Add(total)
	until := time.Now().Add(pause)
	p.out.wire.SetReadDeadline(until)
	n, err := b.stopReading()
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	for {
		w.Metrics.Linger.Bytes.Add(uint64(n))
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			w.Metrics.Linger.Cut.Add(1)
			return
		default: // the end, or the client has taken its body back, or has broken the rules
			return
		}
		if n > 0 {
			if !p.conn.mayDrop(n) {
				// The client is not given any more room, and has a while to read the answer.
				p.conn.wait(min(linger.Short, time.Until(last)))
				w.Metrics.Linger.Cut.Add(1)
				return
			}
			if until = time.Now().Add(pause); until.After(last) {
				until = last
			}
			p.out.wire.SetReadDeadline(until)
		}
		n, err = b.request.Body.Read(buf[:])
	}
}

// stopReading waits until the goroutine that reads has returned, at the latest at the stream's
// deadline for reads. It returns how much of what that has read nobody used, and why it can
// read no more.
func (b *body) stopReading() (n int, err error) {
	if !b.begun {
		return 0, nil
	}
	<-b.left
	select {
	case p := <-b.arrived:
		n = p.n
		pieces.Put(p.buf)
	default:
	}
	return n + b.unused.n, b.unused.err
}

// mayDrop counts n bytes that were dropped, and reports whether more may be.
func (c *connection) mayDrop(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped.Take(n, int64(time.Since(c.began)))
}

// wait returns after d, or when the connection has ended.
func (c *connection) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.gone:
	}
}
