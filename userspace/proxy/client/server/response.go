package server

import (
	"strconv"
	"time"

	"github.com/kerngate/kerngate/userspace/proxy/exchange"
	"github.com/kerngate/kerngate/userspace/proxy/http1"
	"github.com/kerngate/kerngate/userspace/proxy/io/reactor"
	"github.com/kerngate/kerngate/userspace/proxy/message"
)

// response is the state of the response to one request.
type response struct {
	chunked   bool
	chunkOpen bool // a chunk's data was queued, its CRLF is due
	bare      bool // no body may follow: HEAD, 204, 304
	delimited bool // the head was sent, and says how to tell where the body ends
	endDue    bool // the end waits for a borrowed piece to be sent
	ending    []message.Field
}

func appendDate(dst []byte, t time.Time) []byte {
	dst = append(dst, "Date: "...)
	return append(message.AppendDate(dst, t), '\r', '\n')
}

// ReadBody implements exchange.Downstream, like the methods below.
func (s *session) ReadBody() ([]byte, error) { return s.body.next() }

// Trailers of the request.
func (s *session) Trailers() []message.Field {
	if s.body.mode == message.BodyChunked {
		return s.body.decoder.Trailers()
	}
	return nil
}

// RewindBody starts the body again if all of it that was read is still in the head's buffer.
func (s *session) RewindBody() bool {
	if s.body.buf != nil {
		return false
	}
	s.body.open(s)
	return true
}

// Inform queues an interim response.
func (s *session) Inform(r *message.Response) {
	dst := appendStatusLine(s.out.Tail(), r)
	dst = http1.AppendEndToEnd(dst, r.Fields, 0)
	s.out.Extend(append(dst, '\r', '\n'))
}

// Respond queues the pod's head with the framing that fits the client.
func (s *session) Respond(r *message.Response) {
	dst := appendStatusLine(s.out.Tail(), r)
	dst = http1.AppendEndToEnd(dst, r.Fields, 0)
	if !r.Present.Has(message.FieldDate) {
		dst = append(dst, s.server.dateField()...)
	}
	dst = http1.AppendAdded(dst, s.exchange.AnswerFields(r.Present))
	if r.Status == 101 {
		dst = append(dst, "Connection: Upgrade\r\n"...)
		dst = http1.AppendField(dst, "Upgrade", r.Upgrade)
		s.out.Extend(append(dst, '\r', '\n'))
		return
	}
	if !s.body.finished() || s.server.draining {
		s.closing = true
	}
	switch r.Body {
	case message.BodyNone:
		s.reply.bare = true
		// HEAD and 304 tell what GET would have brought.
		if r.ContentLength >= 0 {
			dst = http1.AppendFieldUint(dst, "Content-Length", uint64(r.ContentLength))
		} else if r.Chunked && s.request.Minor > 0 {
			dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		} else if s.request.MethodID != message.MethodHead && r.Status != 204 && r.Status != 304 {
			dst = append(dst, "Content-Length: 0\r\n"...) // HTTP/2 says it by the end of the stream
		}
	case message.BodyLength:
		s.reply.delimited = true
		dst = http1.AppendFieldUint(dst, "Content-Length", uint64(r.ContentLength))
	default:
		if s.request.Minor > 0 {
			s.reply.chunked, s.reply.delimited = true, true
			dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		} else {
			s.closing = true
		}
	}
	s.out.Extend(s.appendConnection(dst))
}

// appendConnection says whether the connection persists, and ends the head.
func (s *session) appendConnection(dst []byte) []byte {
	switch {
	case s.closing:
		dst = append(dst, "Connection: close\r\n"...)
	case s.request.Minor == 0:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, '\r', '\n')
}

func appendStatusLine(dst []byte, r *message.Response) []byte {
	if len(r.Reason) == 0 {
		return http1.AppendStatusLine(dst, r.Status)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendUint(dst, uint64(r.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, r.Reason...)
	return append(dst, '\r', '\n')
}

// WriteBody queues a piece of the body.
func (s *session) WriteBody(p []byte) {
	if s.reply.bare {
		return
	}
	if s.reply.chunked {
		dst := s.out.Tail()
		if s.reply.chunkOpen {
			dst = append(dst, '\r', '\n')
		}
		s.out.Extend(http1.AppendChunkHeader(dst, len(p)))
		s.reply.chunkOpen = true
	}
	s.out.Send(p)
}

// End queues the end of the body.
func (s *session) End(trailers []message.Field) {
	if !s.reply.chunked {
		return
	}
	if s.out.Blocked() {
		// The CRLF goes behind the borrowed piece, so this waits for it: see Flush.
		s.reply.ending = trailers
		s.reply.endDue = true
		return
	}
	s.queueEnd(trailers)
}

func (s *session) queueEnd(trailers []message.Field) {
	dst := s.out.Tail()
	if s.reply.chunkOpen {
		dst = append(dst, '\r', '\n')
	}
	s.out.Extend(http1.AppendLastChunk(dst, trailers))
}

// Flush sends what is queued.
func (s *session) Flush() error {
	err := s.out.Flush()
	if err == nil && s.reply.endDue {
		s.reply.endDue = false
		s.queueEnd(s.reply.ending)
		err = s.out.Flush()
	}
	return err
}

// Pending reports whether something queued is not sent.
func (s *session) Pending() bool { return s.out.Pending() || s.reply.endDue }

// Blocked reports whether a piece of body is not sent, or so much else that no other fits.
func (s *session) Blocked() bool { return s.out.Room() < minRoom }

// minRoom is what the framing around a piece of body needs at most, and some.
const minRoom = 256

// Abort makes the connection end after a response that was cut short, so that no client takes
// it for a whole one: in a reset where the framing does not tell.
func (s *session) Abort() { s.aborted = true }

// Source returns the client's socket while the rest of the body is all that comes from it.
func (s *session) Source() (*reactor.Conn, int64) {
	b := &s.body
	if b.mode != message.BodyLength || b.tunnel || b.done || b.r < b.w || s.conn.Layer() != nil {
		return nil, 0
	}
	return &s.conn.Conn, b.remaining
}

// Took counts body that was taken from Source.
func (s *session) Took(n int64) {
	s.body.remaining -= n
	s.body.received += n
	s.body.done = s.body.remaining == 0
	if n > 0 && s.body.buf == nil {
		s.body.buf = s.server.worker.Loop.Buffers.Small() // RewindBody: not all of it is at hand
	}
}

// Sink returns the client's socket if the body is sent as it is.
func (s *session) Sink() *reactor.Conn {
	if s.reply.chunked || s.reply.bare || s.conn.Layer() != nil {
		return nil
	}
	return &s.conn.Conn
}

// Sent counts body that was sent to Sink.
func (s *session) Sent(n int64) { s.spliced += n }

// Taken returns what the socket has taken of the response.
func (s *session) Taken() (bytes int64, among int) {
	return int64(s.out.Written()-s.sentAt) + s.spliced, 1
}

// Tunnel makes the connection a raw stream.
func (s *session) Tunnel() {
	s.closing = true
	s.reply.chunked = false
	s.body.tunnel, s.body.done = true, false
}

// CloseWrite ends our side of the stream.
func (s *session) CloseWrite() { s.conn.CloseWrite() }

// Want says what wakes the coroutine.
func (s *session) Want(i reactor.Interest) { s.conn.Want(i) }

// PeerEnded reports whether the client has ended its side of the connection.
func (s *session) PeerEnded() bool { return s.conn.PeerDone() }

// Broken reports whether the client's connection was reset.
func (s *session) Broken() bool { return s.conn.IsBroken() }

// Reply queues a response of the proxy's own: a line of plain text with the reason's token.
func (s *session) Reply(status int, reason exchange.Reason, detail string) {
	s.skipBody()
	if reason == exchange.Shed {
		s.closing = true // what it holds is needed
	}
	s.queueReply(status, exchange.LineOf(reason, detail), s.exchange.ReplyFields(reason))
}

// skipBody drops what has come of the request's body, so that a short one does not cost
// the client its connection.
func (s *session) skipBody() {
	for !s.body.finished() {
		if _, err := s.body.next(); err != nil {
			break
		}
	}
	if !s.body.finished() {
		s.closing = true
	}
}

func (s *session) queueReply(status int, line exchange.Line, added []message.Added) {
	if s.server.draining {
		s.closing = true
	}
	dst := http1.AppendStatusLine(s.out.Tail(), status)
	dst = append(dst, s.server.dateField()...)
	dst = http1.AppendAdded(dst, line.Fields(status))
	dst = http1.AppendAdded(dst, added)
	dst = http1.AppendFieldUint(dst, "Content-Length", uint64(line.Size()))
	dst = s.appendConnection(dst)
	if s.request.MethodID != message.MethodHead {
		dst = line.Append(dst)
	}
	s.out.Extend(dst)
}

// replyError answers a request that the parser refused. Nothing of its head is trusted.
func (s *session) replyError(e *message.Error) {
	s.refuse(exchange.BadRequest, e.Status, exchange.LineOfError(e))
}

// replyBeforeExchange answers where no request could be read.
func (s *session) replyBeforeExchange(reason exchange.Reason, detail string) {
	s.refuse(reason, reason.Status(), exchange.LineOf(reason, detail))
}

// refuse answers without an exchange. It sends the answer as far as the client takes it at
// once, which is enough for a connection that is about to be closed, then logs and counts it.
func (s *session) refuse(reason exchange.Reason, status int, line exchange.Line) {
	x := &s.exchange
	x.Refused(s.server.worker, s, &s.request.Request, &s.conn.about, reason, status, line.Detail)
	s.closing = true
	before := s.out.Written()
	s.queueReply(status, line, x.AnswerFields(0))
	s.out.Flush()
	x.Record(int64(s.out.Written() - before))
}

// abandoned logs and counts a request whose client went away within its head.
func (s *session) abandoned() { s.refused(exchange.ClientAborted) }

// refused logs and counts a request that did not come whole and gets no answer.
func (s *session) refused(reason exchange.Reason) {
	s.exchange.Refused(s.server.worker, s, &s.request.Request, &s.conn.about, reason, reason.Status(), "")
	s.exchange.Record(0)
}
