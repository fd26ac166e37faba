package server

import (
	"errors"
	"io"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/linger"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// session serves a connection for as long as it has something to say: it is the task that
// runs on a coroutine, and the Downstream of its exchanges.
type session struct {
	server *Server
	conn   *conn
	co     *reactor.Coroutine

	head     []byte // head[:have] is received; requests are parsed from its beginning
	have     int
	headLen  int
	request  http1.Request
	exchange exchange.Exchange
	out      reactor.Output
	sentAt   uint64 // out.Written at the start of the response
	spliced  int64  // body of the response that went past out

	timer    reactor.Timer // for what is outside of an exchange
	timedOut bool

	body  body
	reply response

	handOver bool // the client speaks HTTP/2

	closing bool // no further request on this connection
	aborted bool // the response is not whole
}

// Run serves requests until the connection is idle or closed.
func (s *session) Run(co *reactor.Coroutine) {
	s.co = co
	c, loop := s.conn, s.server.worker.Loop
	c.Own(co)
	s.head, s.have = loop.Buffers.Small(), 0
	s.out.Open(&c.Conn)
	s.closing, s.aborted = false, false
	s.request.Reset()

	keep := s.serveRequests()

	s.body.release(loop)
	s.out.Release()
	if s.handOver {
		s.handOver, c.active = false, false
		s.server.stats.Active.Add(-1)
		c.Own(nil)
		c.serveHTTP2(s.head[:s.have])
		loop.Buffers.Put(s.head)
		s.head = nil
		s.server.put(s)
		return
	}
	loop.Buffers.Put(s.head)
	s.head = nil
	s.server.stats.Active.Add(-1)
	c.active = false
	if keep {
		c.Own(nil)
		loop.Set(&c.timer, s.server.worker.Config.Load().Settings.IdleTimeout)
		s.server.put(s)
		return
	}
	if s.aborted {
		c.Reset()
	}
	c.close()
	s.server.put(s)
}

// Crashed ends the connection after a panic; what the session held is left to the
// collector, since its state is unknown.
func (s *session) Crashed(reason any, stack []byte) {
	w := s.server.worker
	s.server.stats.Active.Add(-1)
	w.Fault("connection", s.conn.about.Client, reason, stack)
	s.exchange.Crashed(w, int64(s.out.Written()-s.sentAt))
	s.conn.Reset()
	s.conn.close()
}

func (s *session) expire() {
	s.timedOut = true
	if s.co != nil {
		s.co.Wake()
	}
}

// serveRequests reports whether the connection stays open, to wait for another request.
func (s *session) serveRequests() (keep bool) {
	for {
		switch s.readHead() {
		case headIdle:
			return true
		case headHTTP2:
			s.handOver = true
			return true
		case headClosed:
			return false
		case headRefused:
			s.linger()
			return false
		}
		s.serveRequest()
		if s.aborted {
			if s.reply.delimited && !s.out.Pending() {
				s.aborted = false // the client sees by the framing that the end is missing
				s.linger()
			}
			return false
		}
		if s.closing {
			if !s.body.finished() || len(s.body.rest()) > 0 || s.conn.Ready()&reactor.Readable != 0 {
				s.linger()
			}
			return false
		}
		s.nextRequest()
	}
}

type headResult uint8

const (
	headRead    headResult = iota
	headIdle               // nothing there
	headClosed             // the client is gone
	headRefused            // answered with an error
	headHTTP2              // it is HTTP/2's preface
)

// readHead reads until a request head is complete.
func (s *session) readHead() headResult {
	settings := &s.server.worker.Config.Load().Settings
	limits := settings.RequestLimits()
	s.timedOut = false
	armed := false
	for {
		if s.have > 0 {
			n, err := s.request.Parse(s.head[:s.have], limits)
			if err != nil {
				return s.refuseHead(err)
			}
			if n > 0 {
				s.headLen = n
				s.server.worker.Loop.Clear(&s.timer)
				s.conn.finishHead()
				return headRead
			}
		}
		if s.have == len(s.head) && !s.growHead(limits.Head) {
			return s.refuseHead(message.ErrHeadLimit)
		}
		n, err := s.conn.TryRead(s.head[s.have:])
		switch {
		case err == nil:
			s.have += n
			continue
		case err != reactor.ErrWouldBlock:
			if s.have > 0 {
				s.abandoned()
			}
			return headClosed
		case s.have == 0:
			return headIdle
		}
		if !armed {
			s.server.worker.Loop.Set(&s.timer, settings.HeadTimeout)
			armed = true
			s.conn.beginHead()
		}
		s.conn.Want(reactor.Readable)
		s.conn.reader = s
		s.co.Park()
		s.conn.reader = nil
		switch {
		case s.conn.evicted:
			s.refused(exchange.Shed)
			return headClosed
		case s.co.Dying(), s.conn.IsBroken():
			s.abandoned()
			return headClosed
		case s.timedOut:
			s.replyBeforeExchange(exchange.ClientTimeout, "")
			return headRefused
		}
	}
}

// growHead makes room for a head of up to most bytes. It reports false if there is none.
func (s *session) growHead(most int) (ok bool) {
	s.head, ok = s.server.worker.Loop.Buffers.Grow(s.head, most)
	s.request.Reset() // what it has read lies in the old buffer
	return ok
}

// shrinkHead gives a buffer back that was needed for a large head.
func (s *session) shrinkHead() {
	if bufs := &s.server.worker.Loop.Buffers; len(s.head) > reactor.SmallBuffer && s.have <= reactor.SmallBuffer {
		small := bufs.Small()
		copy(small, s.head[:s.have])
		bufs.Put(s.head)
		s.head = small
	}
}

// refuseHead answers a head that is not valid.
func (s *session) refuseHead(err error) headResult {
	s.conn.finishHead()
	var e *message.Error
	if !errors.As(err, &e) {
		return headClosed
	}
	if e == message.ErrHTTP2Preface && s.conn.mayBeHTTP2() {
		return headHTTP2
	}
	s.replyError(e)
	return headRefused
}

// serveRequest carries out the request whose head was read.
func (s *session) serveRequest() {
	w, c := s.server.worker, s.conn
	c.served = true
	s.closing = !s.request.KeepAlive
	s.body.open(s)
	s.reply = response{}
	s.sentAt, s.spliced = s.out.Written(), 0
	x := &s.exchange
	x.Init(w, s, &s.request.Request, &c.about)
	x.Serve(s.co)
	x.Outcome.Received = s.body.received
	x.Record(int64(s.out.Written()-s.sentAt) + s.spliced)
	if !s.body.finished() {
		s.closing = true
	}
}

// nextRequest moves what was received behind this request to the beginning.
func (s *session) nextRequest() {
	s.have = copy(s.head, s.body.rest())
	s.body.release(s.server.worker.Loop)
	s.request.Reset()
	s.shrinkHead()
}

// lingerReads is how often linger reads before the worker's other connections have a turn.
const lingerReads = 8

// linger ends our side of the connection and reads on until the client ends its own, or
// reaches a bound of package linger: a close while its bytes are still coming in would be a
// reset, which may destroy the response before the client has read it (RFC 9112 section 9.6).
func (s *session) linger() {
	c, w := s.conn, s.server.worker
	if c.IsBroken() || c.CloseWrite() != nil {
		return
	}
	total, pause := w.Lingering()
	end := w.Loop.Now() + int64(total)
	var budget linger.Budget
	again := s.co.Wake
	for reads := 1; ; reads++ {
		n, err := c.TryRead(s.head)
		now := w.Loop.Now()
		switch {
		case err == nil:
			w.Metrics.Linger.Bytes.Add(uint64(n))
			if !budget.Take(n, now) {
				w.Metrics.Linger.Cut.Add(1)
				return
			}
			if now < end && reads%lingerReads != 0 {
				continue
			}
			w.Loop.Submit(again)
		case err != reactor.ErrWouldBlock:
			return
		}
		s.timedOut = false
		w.Loop.Set(&s.timer, min(pause, time.Duration(max(end-now, 0))))
		c.Want(reactor.Readable)
		s.co.Park()
		if s.co.Dying() || s.timedOut && err != nil || w.Loop.Now() >= end {
			w.Metrics.Linger.Cut.Add(1)
			return
		}
	}
}

// body is the request's body as it is read.
type body struct {
	s         *session
	mode      message.Body
	tunnel    bool
	remaining int64
	decoder   http1.Chunked
	buf       []byte // where bytes after the head's buffer go, nil at first
	in        []byte // what is being used: the head's buffer, then buf
	r, w      int    // in[r:w] is received and not used
	done      bool
	received  int64
}

func (b *body) open(s *session) {
	b.s, b.tunnel, b.received, b.done = s, false, 0, false
	b.in, b.r, b.w = s.head, s.headLen, s.have
	b.rewind()
}

func (b *body) rewind() {
	q := &b.s.request.Request
	switch {
	case q.Chunked:
		b.mode = message.BodyChunked
		b.decoder.Reset()
		b.decoder.Limits = b.s.server.worker.Config.Load().Settings.RequestLimits()
	case q.ContentLength > 0:
		b.mode, b.remaining = message.BodyLength, q.ContentLength
	default:
		b.mode, b.done = message.BodyNone, true
	}
}

func (b *body) finished() bool { return b.done }

// rest returns what was received behind the request.
func (b *body) rest() []byte { return b.in[b.r:b.w] }

func (b *body) release(l *reactor.Loop) {
	if b.buf != nil {
		l.Buffers.Put(b.buf)
		b.buf = nil
	}
	b.in, b.r, b.w = nil, 0, 0
}

// next returns the next piece, see exchange.Downstream.
func (b *body) next() ([]byte, error) {
	for {
		if b.done {
			return nil, io.EOF
		}
		if b.r == b.w {
			if err := b.fill(); err != nil {
				return nil, err
			}
		}
		have := b.in[b.r:b.w]
		switch {
		case b.tunnel:
			b.r = b.w
			b.received += int64(len(have))
			return have, nil
		case b.mode == message.BodyLength:
			p := have[:min(int64(len(have)), b.remaining)]
			b.r += len(p)
			b.remaining -= int64(len(p))
			b.received += int64(len(p))
			b.done = b.remaining == 0
			return p, nil
		default:
			p, n, done, err := b.decoder.Decode(have)
			if err != nil {
				return nil, err
			}
			b.r += n
			b.done = done
			b.received += int64(len(p))
			if len(p) > 0 {
				return p, nil
			}
		}
	}
}

// fill reads more from the client. What follows the request's head in its buffer has been
// used; the head itself stays as it is until the exchange has ended.
func (b *body) fill() error {
	if b.buf == nil {
		bufs := &b.s.server.worker.Loop.Buffers
		if b.tunnel || b.mode == message.BodyChunked || b.remaining <= reactor.SmallBuffer {
			// No larger than the head's buffer: the beginning of the next request may
			// come with the end of a chunked body, and moves there.
			b.buf = bufs.Small()
		} else {
			b.buf = bufs.Large()
		}
	}
	room := b.buf
	if b.mode == message.BodyLength && !b.tunnel && b.remaining < int64(len(room)) {
		room = room[:b.remaining]
	}
	n, err := b.s.conn.TryRead(room)
	switch {
	case err == nil:
		b.in, b.r, b.w = b.buf, 0, n
		return nil
	case err == io.EOF && b.tunnel:
		b.done = true
		return io.EOF
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	default:
		return err
	}
}
