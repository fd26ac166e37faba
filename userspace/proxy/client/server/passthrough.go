package server

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/kerngate/kerngate/loader/state"
	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/pod/balance"
	"github.com/kerngate/kerngate/userspace/proxy/pod/upstream"
)

// PassthroughStats count connections that were passed on encrypted.
type PassthroughStats struct {
	Ended [exchange.Reasons]atomic.Uint64
	Open  atomic.Int64
}

// tunnel is the task that moves the bytes of a connection between client and pod.
type tunnel struct {
	conn     *conn
	host     *config.VirtualHost
	co       *reactor.Coroutine
	pod      *upstream.Conn
	pick     balance.Pick
	counted  bool // by the balancer
	exchange exchange.Exchange
	toPod    direction
	toClient direction
}

func (c *conn) passOn(h *config.VirtualHost) {
	c.active, c.encrypted = true, false
	c.finishHead()
	c.server.stats.Passthrough.Open.Add(1)
	c.server.worker.Loop.Go(&tunnel{conn: c, host: h})
}

// Run connects to a pod and moves bytes until both sides have ended, or one has failed.
func (t *tunnel) Run(co *reactor.Coroutine) {
	c, w := t.conn, t.conn.server.worker
	t.co, c.opening = co, co
	c.Own(co)
	c.about.Protocol = exchange.Passthrough
	request := t.exchange.Nameless(w, &c.about, t.host.Name)
	o := &t.exchange.Outcome
	o.Service = t.host.Passthrough
	if o.Reason = t.connect(); o.Reason == exchange.Forwarded {
		o.Reason = t.move()
	}
	t.release(o.Reason)
	c.opening = nil
	o.Received = t.toPod.moved
	c.server.stats.Passthrough.Ended[o.Reason].Add(1)
	c.server.stats.Passthrough.Open.Add(-1)
	w.Access.Log(&t.exchange, w.Loop.Clock(), t.toClient.moved)
	if o.Reason != exchange.Forwarded {
		c.Reset()
	}
	c.close()
	request.Reset()
}

// Crashed ends both connections after a panic.
func (t *tunnel) Crashed(reason any, stack []byte) {
	s := t.conn.server
	s.stats.Passthrough.Open.Add(-1)
	s.stats.Passthrough.Ended[exchange.Crashed].Add(1)
	s.worker.Fault("connection", t.conn.about.Client, reason, stack)
	t.release(exchange.Crashed)
	t.conn.opening = nil
	t.conn.Reset()
	t.conn.close()
}

// connect finds a pod that takes the connection.
func (t *tunnel) connect() exchange.Reason {
	c, w := t.conn, t.conn.server.worker
	settings := &w.Config.Load().Settings
	var tried [balance.MaxTries]state.BackendID
	reason := exchange.NoEndpoint
	for n := range tried {
		pick, ok := w.Balancer.Pick(t.host.Passthrough.ID, tried[:n])
		if !ok {
			break
		}
		tried[n] = pick.ID
		o := &t.exchange.Outcome
		o.Upstream, o.Tries = pick.Address, n+1
		w.Balancer.Start(pick)
		t.pick, t.counted = pick, true
		limit := settings.ConnectTimeout
		if n+1 < len(tried) && w.Balancer.Another(t.host.Passthrough.ID, tried[:n+1]) {
			limit = min(limit, settings.FirstConnect)
		}
		c.arm(limit)
		pod, err := w.Pool.Dial(t.co, upstream.Target{
			ID: pick.ID, Generation: pick.Generation, Address: pick.Address, Transport: config.ClearText,
			Client: c.about.Client, Local: c.about.Local,
		}, c.deadline)
		if err == nil {
			t.pod = pod
			return exchange.Forwarded
		}
		if reason = exchange.ConnectFailed; err == upstream.ErrTimeout {
			reason = exchange.ConnectTimeout
		}
		t.release(reason)
		if t.co.Dying() || !c.IsOpen() || c.IsBroken() {
			return exchange.ClientAborted
		}
	}
	return reason
}

// release gives back what an attempt has taken.
func (t *tunnel) release(reason exchange.Reason) {
	t.toPod.close()
	t.toClient.close()
	if t.pod != nil {
		t.pod.Discard()
		t.pod = nil
	}
	if t.counted {
		t.counted = false
		t.conn.server.worker.Balancer.Finish(t.pick, reason.UpstreamFault(), 0)
	}
}

// arm sets the time at which the connection's coroutine is woken.
func (c *conn) arm(d time.Duration) {
	loop := c.server.worker.Loop
	c.deadline = loop.Now() + int64(d)
	loop.Set(&c.timer, d)
}

// move moves bytes both ways.
func (t *tunnel) move() exchange.Reason {
	c, pod := t.conn, &t.pod.Conn
	t.toPod.from, t.toPod.to = &c.Conn, pod
	t.toClient.from, t.toClient.to = pod, &c.Conn
	timeout := c.server.worker.Config.Load().Settings.TunnelTimeout
	goOn := func() {
		t.toPod.turn.Woken()
		t.toClient.turn.Woken()
		t.co.Wake()
	}
	for {
		up, upFault := t.toPod.move(goOn)
		down, downFault := t.toClient.move(goOn)
		if upFault || downFault {
			return exchange.ClientAborted // either side was reset; so is the other
		}
		if t.toPod.ended && t.toClient.ended {
			return exchange.Forwarded
		}
		if up || down {
			continue
		}
		c.arm(timeout)
		c.Want(t.toPod.wants() | t.toClient.blocks())
		pod.Want(t.toClient.wants() | t.toPod.blocks())
		t.co.Park()
		switch {
		case t.co.Dying(), !c.IsOpen(), c.IsBroken(), pod.IsBroken():
			return exchange.ClientAborted
		case c.server.worker.Loop.Now() >= c.deadline:
			return exchange.UpstreamTimeout
		}
	}
}

// direction moves the bytes of one direction: by splice, or by a buffer where there is no
// pipe to be had. It holds either only while there are bytes in it, so that a tunnel that
// waits costs no more than its connections.
type direction struct {
	from, to *reactor.Conn
	splice   reactor.Splice
	buf      []byte
	pending  []byte // of buf, still to be written
	moved    int64
	ended    bool // the source's end was passed on
	turn     reactor.Share
}

// move moves what it can in this turn of the loop, and reports whether that was anything, and
// whether a side failed. If more could be moved goOn is called in the next turn.
func (d *direction) move(goOn func()) (moved, fault bool) {
	loop := d.from.Loop()
	for !d.ended && !d.turn.Spent(loop, goOn) {
		var n int64
		var err error
		if d.splice.IsOpen() || d.buf == nil && d.openSplice() {
			n, err = d.spliceSome()
			d.turn.AddSpliced(loop, n)
		} else {
			n, err = d.copySome()
			d.turn.Add(loop, int(n))
		}
		d.moved += n
		moved = moved || n > 0
		switch {
		case err == io.EOF:
			d.ended, moved = true, true
			if d.to.CloseWrite() != nil {
				return moved, true
			}
		case err == reactor.ErrWouldBlock:
			return moved, false
		case err != nil:
			return moved, true
		}
	}
	return moved, false
}

func (d *direction) openSplice() bool {
	if d.from.Ready()&reactor.Readable == 0 || d.splice.Open(d.from, d.to, 1<<62) != nil {
		return false
	}
	d.splice.Stream = true
	return true
}

func (d *direction) spliceSome() (int64, error) {
	before := d.splice.Sent
	moved, err := d.splice.Move(reactor.Quantum)
	n := d.splice.Sent - before
	if _, blocked := d.splice.Wants(); blocked == 0 {
		d.splice.Close()
	}
	var e *reactor.SpliceError
	if errors.As(err, &e) {
		return n, e.Err
	}
	if !moved {
		return n, reactor.ErrWouldBlock
	}
	return n, nil
}

func (d *direction) copySome() (int64, error) {
	if len(d.pending) == 0 {
		if d.from.Ready()&reactor.Readable == 0 {
			return 0, reactor.ErrWouldBlock
		}
		d.buf = d.from.Loop().Buffers.Large()
		n, err := d.from.TryRead(d.buf)
		if err != nil {
			d.putBuffer()
			return 0, err
		}
		d.pending = d.buf[:n]
	}
	n, err := d.to.TryWrite(d.pending)
	if err != nil {
		return 0, err
	}
	if d.pending = d.pending[n:]; len(d.pending) == 0 {
		d.putBuffer()
	}
	return int64(n), nil
}

func (d *direction) putBuffer() {
	if d.buf != nil {
		d.from.Loop().Buffers.Put(d.buf)
	}
	d.buf, d.pending = nil, nil
}

// wants is what the source must become, blocks what the destination must.
func (d *direction) wants() reactor.Interest {
	if d.ended {
		return 0
	}
	return reactor.Readable
}

func (d *direction) blocks() reactor.Interest {
	if d.splice.IsOpen() || d.buf != nil {
		return reactor.Writable
	}
	return 0
}

func (d *direction) close() {
	d.splice.Close()
	d.putBuffer()
}
