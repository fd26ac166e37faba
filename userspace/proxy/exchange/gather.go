package exchange

import (
	"io"

	"github.com/kerngate/kerngate/userspace/proxy/config"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
	"github.com/kerngate/kerngate/userspace/proxy/rules/policy"
)

// Gathered is what became of a request body that was to be read before a pod is chosen.
type Gathered uint8

const (
	GatheredWhole       Gathered = iota // the pod gets it with its length
	GatheredChunked                     // too large to be held: the pod gets it in chunks
	GatheredTooLarge                    // too large to be held: refused
	GatheredFull                        // too many others are held: refused
	GatheredFailed                      // the client broke off, was too slow, or sent too much or no valid body
	GatheredSpooled                     // the pod gets it with its length, most of it from a file
	GatheredSpoolFull                   // too many others are in files: refused
	GatheredSpoolFailed                 // there is no file to be had, or to be written to: refused
	GatheredOutcomes
)

var gatheredTokens = [GatheredOutcomes]string{"whole", "chunked", "length_required", "buffers_full", "failed",
	"spooled", "spool_full", "spool_failed"}

// String returns the stable token that stands in the metric.
func (g Gathered) String() string { return gatheredTokens[g] }

// gathering is how a request's body is read before a pod is chosen.
type gathering struct {
	most   int64 // bytes that are held in memory
	wait   bool  // for what the client has not sent yet
	spool  bool  // what is larger goes to a file
	stream bool  // what is larger goes to the pod as it comes; else it is refused
}

// plan decides whether the request's body is read before a pod is chosen.
//
// A body of unknown length goes to an HTTP/1.1 pod in chunks, which applications that know
// only Content-Length (WSGI, PHP-FPM) take for an empty body, without an error. So they get
// a length, unless the route or the request says that the pod takes a stream: HTTP/2, an
// upgrade, or buffering that is off. Over HTTP/2 and HTTP/3 a request without a body may
// look like one with a body of unknown length, too, until its stream ends.
func (x *Exchange) plan() (g gathering, ok bool) {
	r, buffering := x.Request, policy.BufferAuto
	if p := x.rules.policy; p != nil {
		buffering = p.Buffering
	}
	if !r.Chunked && buffering != policy.BufferOn {
		return g, false
	}
	s := &x.conf.Settings
	g = gathering{most: s.RequestBuffer, wait: true, stream: s.Large == config.LargeChunked || !r.Chunked}
	if s.Large == config.LargeSpool {
		g.spool = x.worker.Spool != nil
	}
	if x.transport.HTTP2 || upgrades(x.Request) || !r.Chunked && (r.ContentLength <= 0 || !x.fits(g, r.ContentLength)) {
		return g, false
	}
	if buffering == policy.BufferOff || s.RequestBuffer == 0 {
		// Nothing is waited for, but a body that has already ended is not sent in chunks.
		// GET and HEAD have none as a rule, and who has none has not long to wait for its end.
		g.wait = r.MethodID == message.MethodGet || r.MethodID == message.MethodHead
		g.stream, g.spool = true, false
	}
	return g, true
}

// fits reports whether a body whose length is known can be held, at least while no others are.
func (x *Exchange) fits(g gathering, length int64) bool {
	return length <= g.most || g.spool && length <= x.worker.Spool.Total()
}

// gather reads the request's body, before a pod is chosen, as far as that is planned: so no
// pod is held by a client that sends slowly. It reports false if the client was answered or
// is gone.
func (x *Exchange) gather() bool {
	s := &x.body.store
	if s.open { // for another service before
		s.rewind()
		return true
	}
	g, ok := x.plan()
	if !ok {
		return true
	}
	s.open, s.total = true, &x.worker.Metrics.BodyMemory
	for {
		p, err := x.down.ReadBody()
		switch {
		case err == nil:
			s.add(p, &x.worker.Loop.Buffers)
			if x.bounds().tooLarge(s.size) {
				return x.gatherFailed(BodyTooLarge)
			}
			over, reason := s.overflows(g, x.conf.Settings.RequestBuffers)
			if over && g.spool {
				reason = x.spool()
				over = reason != Forwarded
			}
			if over {
				return x.endGather(g, reason)
			}
		case err == io.EOF:
			x.settleLength()
			return true
		case err != reactor.ErrWouldBlock:
			return x.gatherFailed(x.clientFault(err))
		case !g.wait:
			return true
		default:
			if reason, ok := x.awaitBody(); !ok {
				return x.gatherFailed(reason)
			}
		}
	}
}

// overflows reports whether no more of the body is held, and the reason to refuse it. room is how
// much memory all bodies may take.
//
// A request may hold as much as is left for others. So when memory runs short large bodies
// give way first, and there is always room for small ones.
func (s *bodyStore) overflows(g gathering, room int64) (bool, Reason) {
	switch {
	case !g.wait:
		return true, Forwarded
	case s.file != nil && s.memory >= spoolBatch:
		return true, Forwarded
	case s.file == nil && s.size > g.most:
		return true, LengthRequired
	case s.memory > room-s.total.Load():
		return true, BuffersFull
	}
	return false, Forwarded
}

// endGather goes on with a body of which no more is held, or refuses it.
func (x *Exchange) endGather(g gathering, reason Reason) bool {
	if reason == ClientAborted {
		return x.gatherFailed(reason)
	}
	count := &x.worker.Metrics.Gathered
	if g.stream {
		if g.wait && x.Request.Chunked {
			count[GatheredChunked].Add(1)
		}
		x.worker.Loop.Clear(&x.alarm.timer)
		return true
	}
	switch {
	case reason == LengthRequired:
		count[GatheredTooLarge].Add(1)
	case reason == BuffersFull && x.body.store.file != nil:
		count[GatheredSpoolFull].Add(1)
	case reason == BuffersFull:
		count[GatheredFull].Add(1)
	default:
		count[GatheredSpoolFailed].Add(1)
	}
	x.body.store.release(&x.worker.Loop.Buffers)
	x.finish(reason)
	return false
}

// gatherFailed ends a request whose body cannot be had.
func (x *Exchange) gatherFailed(reason Reason) bool {
	x.worker.Metrics.Gathered[GatheredFailed].Add(1)
	x.body.store.release(&x.worker.Loop.Buffers)
	x.finish(reason)
	return false
}

// settleLength makes the request one whose body has a length, now that it is known. Trailers
// have no place behind such a body (RFC 9110 section 6.5.1 lets a proxy drop them).
func (x *Exchange) settleLength() {
	s, r := &x.body.store, x.Request
	x.worker.Loop.Clear(&x.alarm.timer)
	s.whole, x.body.gathered = true, true
	switch {
	case s.file != nil:
		x.worker.Metrics.Gathered[GatheredSpooled].Add(1)
	case s.size > 0:
		x.worker.Metrics.Gathered[GatheredWhole].Add(1)
	}
	if len(x.down.Trailers()) > 0 {
		x.worker.Metrics.TrailersDropped.Add(1)
	}
	if r.Present.Has(message.FieldTrailer) {
		r.Drop("trailer")
	}
	if r.Present.Has(message.FieldExpect) {
		r.Drop("expect")
	}
	r.Chunked, r.ContentLength = false, s.size
	if s.size == 0 {
		switch r.MethodID {
		case message.MethodGet, message.MethodHead, message.MethodOptions, message.MethodTrace:
			r.ContentLength = -1 // they have no body as a rule, and nothing says so
		}
		x.sendCopies() // nothing will pass that they would wait for
	}
}

// awaitBody waits until more of the body has come. A client that waits for a word before it
// sends its body gets one (RFC 9110 section 10.1.1), as no pod has been asked yet.
func (x *Exchange) awaitBody() (Reason, bool) {
	r := x.Request
	if r.Expect100 && x.body.store.size == 0 && r.Passes("expect") {
		r.Drop("expect")
		x.down.Inform(&message.Response{Status: 100})
	}
	want := reactor.Readable
	if x.down.Pending() {
		if err := x.down.Flush(); err == reactor.ErrWouldBlock {
			want |= reactor.Writable
		} else if err != nil {
			return ClientAborted, false
		}
	}
	x.arm(x.bounds().patience(x.conf.Settings.BodyTimeout))
	x.down.Want(want)
	since := x.worker.Loop.Now()
	x.co.Park()
	switch {
	case x.co.Dying(), x.down.Broken():
		return ClientAborted, false
	case x.alarm.rang, x.waitedForBody(since, x.body.store.size):
		return ClientTimeout, false
	}
	return 0, true
}

// readBody returns the next piece of the request's body, like Downstream.ReadBody: first
// what is held here.
func (x *Exchange) readBody() ([]byte, error) {
	s := &x.body.store
	if !s.open {
		return x.down.ReadBody()
	}
	if s.file != nil {
		if p, err := x.readSpooled(); p != nil || err != nil {
			return p, err
		}
	}
	if p := s.read(); p != nil {
		return p, nil
	}
	if s.whole {
		return nil, io.EOF
	}
	p, err := x.down.ReadBody()
	switch {
	case err == io.EOF && !s.passed:
		s.whole = true
	case err != reactor.ErrWouldBlock && !s.passed:
		x.body.store.pass(&x.worker.Loop.Buffers)
	}
	return p, err
}

// rewindBody makes readBody start again. It reports false if the beginning is gone.
func (x *Exchange) rewindBody() bool {
	s := &x.body.store
	switch {
	case !s.open:
		return x.down.RewindBody()
	case s.passed:
		return false
	}
	s.rewind()
	return true
}

// bodySent is called when the pod has the request, or a response has come. It lets go of the
// body unless another pod may get it yet: the rest of the exchange may take long.
func (x *Exchange) bodySent() {
	if !x.body.store.open || !x.attempt.sent {
		return
	}
	r := x.choice.retry
	again := x.Request.MethodID.Idempotent() || r != nil && r.NonIdempotent
	if x.response.begun || !again {
		x.body.store.pass(&x.worker.Loop.Buffers)
	}
}
