package http2

import (
	"errors"

	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// errBroken is what a stream answers once the client has taken it back or is gone.
var errBroken = errors.New("stream is closed")

// stream is one request and its response: the task that runs on a coroutine, and the
// Downstream of its exchange.
type stream struct {
	server   *Server
	conn     *Conn
	co       *reactor.Coroutine
	id       uint32
	at       int // index in the connection's streams, -1: closed
	request  message.Request
	exchange exchange.Exchange
	refusal  *message.Error // the request is answered with it, in place of an exchange
	wants    reactor.Interest

	// The request's body.
	in       inbox
	trailers message.ComposedTrailers
	ended    bool           // the client has ended its side
	broken   bool           // the client has taken the request back or is gone
	fault    *message.Error // why this side has broken it off, if the client is to blame
	allowed  int32          // bytes that the client may send
	target   int32          // the window that it is kept at
	taken    int32          // bytes taken, not yet given back
	withheld int32          // bytes that the connection's window gets back when they are taken
	held     int            // bytes of buffers, as counted in the connection's sum
	evicted  bool           // there was no memory for it
	missing  int64          // bytes of Content-Length still to come, -1: unknown
	received int64

	// The response.
	window  int64           // bytes that the client takes
	piece   []byte          // borrowed body that is not in the connection's output yet
	tail    []message.Field // trailers
	headed  bool            // a final head was sent
	bare    bool            // no body may follow
	ending  bool            // the end is queued
	done    bool            // the end is in the connection's output
	aborted bool
	tunnel  bool
	waits   bool   // for its turn in the connection's output
	queued  bool   // in the connection's waiting: not started yet
	turn    int64  // loop time of the turn in which quantum counts
	quantum int    // bytes of body sent in it
	sent    int64  // bytes, frames included
	text    []byte // of a response of the proxy's own
	socket  webSocket
}

// begin prepares a stream for a new request.
func (s *stream) begin(c *Conn, id uint32) {
	s.conn, s.id, s.at = c, id, -1
	s.co, s.refusal, s.wants = nil, nil, 0
	s.ended, s.broken, s.fault = false, false, nil
	s.allowed, s.target, s.taken, s.received = streamWindow, streamWindow, 0, 0
	s.withheld, s.held, s.evicted = 0, 0, false
	s.trailers.Reset()
	s.window = c.out.initial
	s.piece, s.tail = nil, nil
	s.headed, s.bare, s.ending, s.done, s.aborted, s.tunnel, s.waits = false, false, false, false, false, false, false
	s.queued = false
	s.turn, s.quantum, s.sent = -1, 0, 0
	s.socket.refused = false
}

// admit acts on a complete request head.
func (s *stream) admit(end bool) {
	c := s.conn
	err := s.request.Finish(end)
	if s.fault != nil {
		err = s.fault
	}
	if err == nil && s.request.Protocol != nil {
		err = s.openSocket()
	}
	s.ended = end
	s.missing = s.request.ContentLength
	e, _ := err.(*message.Error)
	if e != nil && e.Malformed {
		s.noteRefused(e) // it gets no answer but RST_STREAM
		s.exchange.Record(s.sent)
		c.streamError(s.id, xhttp2.ErrCodeProtocol)
		s.server.put(s)
		return
	}
	s.refusal = e
	c.add(s)
	c.startOrWait(s)
	c.running++
	if c.running == 1 {
		c.drain.idleAt = 0
		c.owner.Busy(true)
	}
}

// Run carries the request out.
func (s *stream) Run(co *reactor.Coroutine) {
	s.co = co
	x := &s.exchange
	x.Init(s.server.worker, s, &s.request, s.conn.about)
	switch {
	case s.broken: // taken back before it was begun
		x.TakenBack()
	case s.refusal != nil:
		s.refuse(s.refusal)
	default:
		x.Serve(co)
	}
	s.co = nil
	o := &x.Outcome
	o.Received = s.received
	switch {
	case s.fault != nil:
		o.Detail = s.fault.Reason
		o.Blame(exchange.BadRequest, s.fault.Status, s.headed)
	case s.evicted:
		o.Blame(exchange.BuffersFull, exchange.BuffersFull.Status(), s.headed)
	case s.socket.refused:
		o.Detail = badAccept
		o.Blame(exchange.UpstreamInvalid, exchange.UpstreamInvalid.Status(), false)
	}
	stalled := (o.Reason == exchange.ClientAborted || o.Reason == exchange.ClientSlow) && !s.broken && len(s.piece) > 0 &&
		(s.window <= 0 || s.conn.out.window <= 0)
	s.finish()
	x.Record(s.sent)
	c := s.conn
	s.leave()
	s.server.put(s)
	if stalled {
		c.charge(LimitStalled)
	}
}

// Crashed ends the stream after a panic; what it held is left to the collector, since its
// state is unknown.
func (s *stream) Crashed(reason any, stack []byte) {
	w := s.server.worker
	w.Fault("request", s.conn.about.Client, reason, stack)
	s.exchange.Crashed(w, s.sent)
	s.aborted = true
	s.in = inbox{}
	s.account()
	s.finish()
	s.leave()
}

// refuse answers a request whose head was refused, as far as the client takes it at once.
func (s *stream) refuse(e *message.Error) {
	s.noteRefused(e)
	s.reply(e.Status, exchange.LineOfError(e), s.exchange.ReplyFields(exchange.BadRequest))
	s.emit()
}

// noteRefused makes the outcome of the exchange that of a request whose head was refused.
func (s *stream) noteRefused(e *message.Error) {
	s.exchange.Refused(s.server.worker, s, &s.request, s.conn.about, exchange.BadRequest, e.Status, e.Reason)
}

// finish closes the stream towards the client.
func (s *stream) finish() {
	c := s.conn
	if s.at < 0 || c.state != open {
		return
	}
	if s.headed && !s.done && !s.aborted {
		s.ending = true
		s.emit()
	}
	switch {
	case !s.done:
		c.resets.add(s.id)
		c.resetAfter(s.id, xhttp2.ErrCodeInternal)
	case !s.ended:
		c.leaveOver(s)
	}
}

// leave ends the stream's part in its connection.
func (s *stream) leave() {
	c := s.conn
	c.out.leave(s)
	c.remove(s)
	s.piece, s.tail = nil, nil
	s.in.release(s.server.buffers())
	s.account()
	c.grown -= s.target - streamWindow
	if c.state == closed {
		return
	}
	if !s.broken {
		c.credit.resets++
	}
	c.giveBack(int(s.withheld))
	s.withheld = 0
	c.startWaiting()
	if c.running--; c.running > 0 {
		if len(c.leftovers) > 0 {
			c.arm()
		}
		return
	}
	c.drain.idleAt = c.server.worker.Loop.Now()
	c.owner.Busy(false)
	c.endIfDrained()
	c.arm()
}

// breakOff gives the stream up: nothing more is read from it or sent to it.
func (s *stream) breakOff() {
	s.broken = true
	s.conn.out.leave(s)
	s.conn.remove(s)
	s.piece, s.ending = nil, false
	s.conn.waitNoLonger(s)
	if s.co != nil {
		s.co.Wake()
	}
}

// receive takes in a piece of the body.
func (s *stream) receive(data []byte, end bool) {
	if s.missing >= 0 && !s.tunnel {
		if s.missing -= int64(len(data)); s.missing < 0 || end && s.missing > 0 {
			s.fault = message.ErrLengthMismatch
			s.conn.giveBack(len(data))
			s.conn.streamError(s.id, xhttp2.ErrCodeProtocol)
			return
		}
	}
	c := s.conn
	switch {
	case len(data) == 0:
	case s.server.worker.Greedy(&c.held):
		c.giveBack(len(data))
		s.evict()
		return
	case s.server.worker.Crowded():
		s.withheld += int32(len(data))
	default:
		c.giveBack(len(data))
	}
	s.in.put(data, s.server.buffers())
	s.account()
	s.ended = end
	s.signal(reactor.Readable)
}

// giveBack notes that the pod has taken n bytes.
func (s *stream) giveBack(n int) {
	if back := min(int32(n), s.withheld); back > 0 {
		s.withheld -= back
		s.conn.giveBack(int(back))
	}
	s.widen(n)
}

// widen lets the client send n bytes more on this stream, as soon as it is worth a frame.
func (s *stream) widen(n int) {
	c := s.conn
	if s.taken += int32(n); s.ended || s.at < 0 || s.taken < s.target/2 {
		return
	}
	if s.in.size == 0 && s.target < maxStreamWindow && c.grown+s.target <= maxGrown && !s.server.worker.Crowded() {
		// The pod keeps up.
		s.taken += s.target
		c.grown += s.target
		s.target *= 2
	}
	s.conn.queueWindow(s.id, uint32(s.taken))
	s.allowed += s.taken
	s.taken = 0
}

// signal wakes the exchange if it waits for this.
func (s *stream) signal(i reactor.Interest) {
	if s.co != nil && s.wants&i != 0 {
		s.co.Wake()
	}
}

// crowded reports whether the connection has more requests than it may have at the moment.
func (s *stream) crowded() bool {
	c := s.conn
	return c.running > 1 && c.running > s.server.worker.Overload.Requests(c.maxStreams())
}
