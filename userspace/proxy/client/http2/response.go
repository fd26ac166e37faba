package http2

import (
	xhttp2 "golang.org/x/net/http2"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// turnQuantum is how much body a stream may send in one turn of the loop before it takes
// turns with the others, in bytes.
const turnQuantum = 64 << 10

// beginHead appends room for a frame header; endHead fills it in.
func (s *stream) beginHead() []byte {
	o := &s.conn.out
	b := append(o.tail(), make([]byte, frameHeader)...)
	if o.resize {
		o.resize = false
		b = append(b, 0x20) // dynamic table size update to 0 (RFC 7541 section 6.3)
	}
	return b
}

// endHead completes the header block that b ends with, which began at b[start].
func (s *stream) endHead(b []byte, start int, end bool) {
	flags := xhttp2.FlagHeadersEndHeaders
	if end {
		flags |= xhttp2.FlagHeadersEndStream
		s.done = true
	}
	kind := xhttp2.FrameHeaders
	at := start
	for len(b)-at-frameHeader > maxFrame {
		// The rest goes into a CONTINUATION, for whose header room is made.
		appendFrameHeader(b[:at], maxFrame, kind, flags&^xhttp2.FlagHeadersEndHeaders, s.id)
		next := at + frameHeader + maxFrame
		b = append(b, make([]byte, frameHeader)...)
		copy(b[next+frameHeader:], b[next:len(b)-frameHeader])
		kind, flags, at = xhttp2.FrameContinuation, xhttp2.FlagContinuationEndHeaders, next
	}
	appendFrameHeader(b[:at], len(b)-at-frameHeader, kind, flags, s.id)
	s.sent += int64(len(b) - start)
	s.conn.debts[LimitPings].Empty()
	s.conn.out.extend(b)
}

// closed reports whether nothing may be sent on the stream any more.
func (s *stream) closed() bool { return s.at < 0 || s.done || s.conn.state != open }

// Inform queues an interim response.
func (s *stream) Inform(r *message.Response) {
	if s.closed() {
		return
	}
	start := len(s.conn.out.tail())
	b := appendStatus(s.beginHead(), r.Status)
	b = appendEndToEnd(b, r.Fields, ownFraming)
	s.endHead(b, start, false)
}

// ownFraming are the fields that this side writes itself where they apply.
var ownFraming = message.Fields(message.FieldContentLength)

// Respond queues the pod's head.
func (s *stream) Respond(r *message.Response) {
	switch {
	case s.closed():
		return
	case r.Status == 101:
		s.respondSocket(r)
		return
	}
	start := len(s.conn.out.tail())
	b := appendStatus(s.beginHead(), r.Status)
	b = appendEndToEnd(b, r.Fields, ownFraming)
	if !r.Present.Has(message.FieldDate) {
		b = appendField(b, dateName, s.server.dateValue())
	}
	b = appendAdded(b, s.exchange.AnswerFields(r.Present))
	if r.ContentLength >= 0 && r.Status != 204 {
		b = appendLength(b, r.ContentLength)
	}
	s.headed = true
	s.bare = r.Body == message.BodyNone || r.Body == message.BodyLength && r.ContentLength == 0
	s.endHead(b, start, s.bare)
}

var dateName = []byte("date")

// Reply queues a response of the proxy's own: a line of plain text with the reason's token.
func (s *stream) Reply(status int, reason exchange.Reason, detail string) {
	s.reply(status, exchange.LineOf(reason, detail), s.exchange.ReplyFields(reason))
}

func (s *stream) reply(status int, line exchange.Line, more []message.Added) {
	if s.closed() {
		return
	}
	s.text = line.Append(s.text[:0])
	start := len(s.conn.out.tail())
	b := appendStatus(s.beginHead(), status)
	b = appendField(b, dateName, s.server.dateValue())
	b = appendAdded(b, line.Fields(status))
	b = appendAdded(b, more)
	b = appendLength(b, int64(len(s.text)))
	s.headed = true
	s.bare = s.request.MethodID == message.MethodHead
	s.endHead(b, start, s.bare)
	s.WriteBody(s.text)
	s.End(nil)
}

// WriteBody queues a piece of the body.
func (s *stream) WriteBody(p []byte) {
	if !s.bare && !s.closed() {
		s.piece = p
	}
}

// End queues the end of the body. It goes out with the last piece if that still waits.
func (s *stream) End(trailers []message.Field) {
	if !s.closed() {
		s.ending, s.tail = true, trailers
	}
}

// unsent reports whether something queued is not in the connection's output.
func (s *stream) unsent() bool { return len(s.piece) > 0 || s.ending && !s.done }

// Flush moves what is queued into the connection's output, from where nothing can take it
// back; it is sent at the end of the turn.
func (s *stream) Flush() error {
	if s.broken || s.conn.state != open {
		return errBroken
	}
	s.emit()
	switch {
	case s.broken, s.socket.refused:
		return errBroken
	case s.unsent():
		return reactor.ErrWouldBlock
	}
	return nil
}

// emit sends frames as far as windows, room and fairness let it. For what is left the
// stream waits its turn, or for its window.
func (s *stream) emit() {
	o := &s.conn.out
	for s.unsent() && s.at >= 0 {
		if len(s.piece) > 0 {
			if s.waits || s.window <= 0 {
				return
			}
			now := s.server.worker.Loop.Now()
			if s.turn != now {
				s.turn, s.quantum = now, 0
			}
			if s.quantum >= turnQuantum || len(o.waiting) > 0 || o.window <= 0 {
				o.wait(s)
				return
			}
			if o.room() <= minRoom {
				o.makeRoom()
				if o.room() <= minRoom {
					o.wait(s)
					return
				}
			}
		}
		s.emitFrame()
	}
}

// tinyFrame is below what a frame is hardly worth its header.
const tinyFrame = 64

// emitFrame sends one frame of body, and the end if that is what is left. The caller has
// seen to room and windows.
func (s *stream) emitFrame() {
	c := s.conn
	o := &c.out
	if len(s.piece) > 0 {
		limit := min(s.window, o.window, int64(o.maxFrame))
		n := int(min(int64(len(s.piece)), limit, int64(max(o.room()-frameHeader, 1))))
		var flags xhttp2.Flags
		if n == len(s.piece) && s.ending && len(s.tail) == 0 {
			flags = xhttp2.FlagDataEndStream
			s.done = true
		}
		b := appendFrameHeader(o.tail(), n, xhttp2.FrameData, flags, s.id)
		o.extend(append(b, s.piece[:n]...))
		tiny := int64(n) == limit && n < tinyFrame && n < len(s.piece)
		s.piece = s.piece[n:]
		s.window -= int64(n)
		o.window -= int64(n)
		s.quantum += n
		s.sent += int64(n + frameHeader)
		o.explained += int64(n)
		c.debts[LimitPings].Empty()
		if tiny && !c.charge(LimitTinyWindow) {
			return
		}
		if len(s.piece) > 0 {
			return
		}
		s.piece = nil
	}
	if !s.ending || s.done {
		return
	}
	c.debts[LimitStalled].Empty()
	if len(s.tail) > 0 {
		start := len(o.tail())
		s.endHead(appendEndToEnd(s.beginHead(), s.tail, ownFraming), start, true)
		s.tail = nil
		return
	}
	s.done = true
	s.sent += frameHeader
	o.extend(appendFrameHeader(o.tail(), 0, xhttp2.FrameData, xhttp2.FlagDataEndStream, s.id))
}

// resume has a stream whose window has grown go on.
func (s *stream) resume() {
	if len(s.piece) > 0 && s.window > 0 {
		s.conn.out.wait(s)
	}
}

// Pending reports whether something queued is not sent.
func (s *stream) Pending() bool { return s.unsent() }

// Blocked reports whether a piece of body is not sent.
func (s *stream) Blocked() bool { return len(s.piece) > 0 }

// Abort gives the response up: RST_STREAM tells the client that it is not whole.
func (s *stream) Abort() { s.aborted = true }

// Sink returns nil: bodies go in frames.
func (s *stream) Sink() *reactor.Conn { return nil }

// Sent is not called without a Sink.
func (s *stream) Sent(int64) {}

// Taken returns what the connection has taken of the response.
func (s *stream) Taken() (bytes int64, among int) { return s.sent, max(1, s.conn.running) }
